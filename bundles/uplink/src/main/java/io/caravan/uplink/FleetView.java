// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import io.caravan.runtime.Config;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Clock;
import java.util.ArrayList;
import java.util.Collection;
import java.util.EnumMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.sql.DataSource;

/**
 * {@link Fleet} on table {@code gateway_health} and the registry. Java, because API, shell and metrics must say the same of a gateway,
 * and SQL cannot compare versions. Its metrics are as of {@link #measure}, the same at every replica.
 */
final class FleetView implements Fleet, AutoCloseable {

    private static final Pattern VERSION = Pattern.compile("v?(\\d{1,6})(?:\\.(\\d{1,6}))?(?:\\.(\\d{1,6}))?(.*)");

    private final DataSource reader;
    private final Gateways gateways;
    private final Config config;
    private final Clock clock;
    private final String version;
    private final MeterRegistry meters;
    private final List<Gauge> gauges = new ArrayList<>();
    private final Map<State, Integer> counts = new EnumMap<>(State.class);
    private int well;
    private double lagSeconds;
    private double backlogRows;
    private volatile int replicas;

    FleetView(DataSource reader, Gateways gateways, Config config, Clock clock, String version, MeterRegistry meters) {
        this.reader = reader;
        this.gateways = gateways;
        this.config = config;
        this.clock = clock;
        this.version = version;
        this.meters = meters;
        for (State state : State.values()) {
            gauges.add(Gauge.builder("caravan.fleet.gateways", this, f -> f.count(state)).tag("state", name(state)).description("Gateways in each state").register(meters));
        }
        gauges.add(Gauge.builder("caravan.fleet.gateways", this, f -> f.count(null)).tag("state", "ok").description("Gateways in each state").register(meters));
        gauges.add(Gauge.builder("caravan.fleet.replicas", this, f -> f.replicas).description("Replicas whose lease holds").register(meters));
        gauges.add(Gauge.builder("caravan.fleet.lag.seconds", this, f -> f.lagSeconds).description("Largest lag of a connected gateway").register(meters));
        gauges.add(Gauge.builder("caravan.fleet.backlog.rows", this, f -> f.backlogRows).description("Rows all connected gateways have yet to send").register(meters));
    }

    static String name(State state) {
        return state.name().toLowerCase(Locale.ROOT);
    }

    private synchronized double count(State state) {
        return state == null ? well : counts.getOrDefault(state, 0);
    }

    /** Step of route {@code fleet}: counts the gateways of each state for the metrics. */
    public void measure() throws SQLException {
        List<Member> all = list(null);
        replicas = countReplicas();
        synchronized (this) {
            counts.clear();
            well = 0;
            lagSeconds = 0;
            backlogRows = 0;
            for (Member m : all) {
                m.states().forEach(s -> counts.merge(s, 1, Integer::sum));
                well += m.states().isEmpty() ? 1 : 0;
                if (m.connected()) {
                    lagSeconds = Math.max(lagSeconds, m.lagMs() == null ? 0 : m.lagMs() / 1000.0);
                    backlogRows += m.backlogRows() == null ? 0 : m.backlogRows();
                }
            }
        }
    }

    private int countReplicas() throws SQLException {
        try (Connection connection = reader.getConnection();
                PreparedStatement select = connection.prepareStatement("SELECT count(*) FROM replica WHERE until_ms > ?")) {
            select.setLong(1, clock.millis());
            try (ResultSet row = select.executeQuery()) {
                row.next();
                return row.getInt(1);
            }
        }
    }

    @Override
    public List<Member> list(Collection<String> sites) throws SQLException {
        long now = clock.millis();
        Map<String, Gateways.Gateway> registered = new TreeMap<>();
        gateways.list().forEach(g -> registered.put(g.id(), g));
        Map<String, Member> all = new TreeMap<>();
        try (Connection connection = reader.getConnection()) {
            Set<String> visible = sites == null ? null : visible(connection, sites);
            try (PreparedStatement select = connection.prepareStatement("SELECT gateway_id, seen_at_ms, connected_at_ms, address, version, stats_at_ms, backlog_rows,"
                    + " lag_ms, clock_offset_ms, round_trip_ms, store_state, store_bytes, store_limit_bytes, ready FROM gateway_health ORDER BY gateway_id");
                    ResultSet row = select.executeQuery()) {
                while (row.next()) {
                    Member member = member(row, registered.get(row.getString(1)), now);
                    all.put(member.id(), member);
                }
            }
            registered.forEach((id, g) -> all.computeIfAbsent(id, k -> unseen(g)));
            if (visible != null) {
                all.keySet().retainAll(visible);
            }
        }
        return List.copyOf(all.values());
    }

    /** A gateway without a site of its own is in site default. */
    private static Set<String> visible(Connection connection, Collection<String> sites) throws SQLException {
        Set<String> placed = new HashSet<>();
        Set<String> visible = new HashSet<>();
        try (PreparedStatement select = connection.prepareStatement("SELECT gateway_id, site_id FROM gateway_site ORDER BY gateway_id");
                ResultSet row = select.executeQuery()) {
            while (row.next()) {
                placed.add(row.getString(1));
                if (sites.contains(row.getString(2))) {
                    visible.add(row.getString(1));
                }
            }
        }
        return sites.contains("default") ? new Unplaced(placed, visible) : visible;
    }

    /** The visible ones, and all that have no site. */
    private static final class Unplaced extends HashSet<String> {
        private static final long serialVersionUID = 1L;
        private final transient Set<String> placed;

        Unplaced(Set<String> placed, Set<String> visible) {
            super(visible);
            this.placed = placed;
        }

        @Override
        public boolean contains(Object id) {
            return super.contains(id) || !placed.contains(id);
        }
    }

    private Member unseen(Gateways.Gateway g) {
        return new Member(g.id(), List.of(g.status() == Gateways.Status.ACTIVE ? State.NEW : State.REVOKED), false, null, null, null, null, null, null, null,
            null, null, null, null, null, null, g.note());
    }

    private Member member(ResultSet row, Gateways.Gateway registered, long now) throws SQLException {
        long seen = row.getLong(2);
        Long since = number(row, 3);
        boolean late = now - seen > config.getLong("fleet.late.ms");
        boolean connected = since != null && now - seen <= 3 * config.getLong("fleet.tick.ms") + 1_000;
        String software = row.getString(5);
        Long lag = number(row, 8);
        Long offset = number(row, 9);
        Long trip = number(row, 10);
        String store = row.getString(11);
        Long ready = number(row, 14);
        List<State> states = new ArrayList<>();
        if (registered == null || registered.status() != Gateways.Status.ACTIVE) {
            states.add(State.REVOKED);
        } else if (late) {
            states.add(State.LATE);
        }
        if (lag != null && lag > config.getLong("fleet.behind.ms")) {
            states.add(State.BEHIND);
        }
        // Half the round trip is what the measurement may be wrong by.
        if (offset != null && trip != null && Math.abs(offset) - (trip + 1) / 2 > config.getLong("fleet.clock.ms")) {
            states.add(State.CLOCK);
        }
        String least = config.get("fleet.version.min").isBlank() ? version : config.get("fleet.version.min");
        if (software != null && compare(software, least) < 0) {
            states.add(State.OLD_VERSION);
        }
        if (store != null && !store.equals("DURABLE") || ready != null && ready == 0) {
            states.add(State.STORE);
        }
        return new Member(row.getString(1), List.copyOf(states), connected, seen, connected ? since : null, row.getString(4), software, number(row, 6),
            number(row, 7), lag, offset, trip, store, number(row, 12), number(row, 13), ready == null ? null : ready == 1,
            registered == null ? null : registered.note());
    }

    private static Long number(ResultSet row, int column) throws SQLException {
        long value = row.getLong(column);
        return row.wasNull() ? null : value;
    }

    /** As semantic versions: numbers as numbers, 1.2.0-rc1 and 1.2.0-SNAPSHOT before 1.2.0. What is no version is older than any. */
    static int compare(String a, String b) {
        Matcher x = VERSION.matcher(a);
        Matcher y = VERSION.matcher(b);
        if (!x.matches() || !y.matches()) {
            return Boolean.compare(x.matches(), y.matches());
        }
        for (int part = 1; part <= 3; part++) {
            int difference = Integer.compare(x.group(part) == null ? 0 : Integer.parseInt(x.group(part)), y.group(part) == null ? 0 : Integer.parseInt(y.group(part)));
            if (difference != 0) {
                return difference;
            }
        }
        boolean early = x.group(4).startsWith("-");
        boolean other = y.group(4).startsWith("-");
        return early && other ? x.group(4).compareTo(y.group(4)) : Boolean.compare(other, early);
    }

    @Override
    public void close() {
        gauges.forEach(meters::remove);
    }
}
