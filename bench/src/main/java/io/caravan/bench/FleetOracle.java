// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.locks.LockSupport;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;

/** Compares what light gateways were acked with what the cloud's store has of them. */
final class FleetOracle {
    private static final String SQLITE = "jdbc:sqlite:";

    private record Stored(long rows, double sum) { }

    private FleetOracle() { }

    /**
     * @param prefix of the gateways' ids
     * @param atMost how long to wait for the store to apply what is committed
     * @return {@code lost}: acked, not stored; {@code doubled}: applied more than once, or stored and never made; {@code altered}: gateways whose
     *     rows add up to something else
     */
    static ObjectNode compare(String jdbc, String prefix, List<LightGateway> fleet, Duration atMost) throws SQLException {
        long acked = fleet.stream().mapToLong(g -> g.progress().backlogAcked() + g.progress().liveAcked()).sum();
        long begun = System.nanoTime();
        // Of others there may be rows too.
        String mine = " WHERE gateway_id LIKE '" + prefix.replace("'", "''") + "%'";
        try (Connection store = jdbc.startsWith(SQLITE) ? Databases.readOnly(Path.of(jdbc.substring(SQLITE.length()))) : DriverManager.getConnection(jdbc)) {
            Map<String, Stored> stored = stored(store, mine);
            // Not their number: rows that are stored and were never acked would stand for acked ones that are still on their way.
            while (fleet.stream().anyMatch(g -> rows(stored, g) < done(g)) && System.nanoTime() - begun < atMost.toNanos()) {
                LockSupport.parkNanos(500_000_000);
                stored.putAll(stored(store, mine));
            }
            double seconds = Math.round((System.nanoTime() - begun) / 1e8) / 10.0;
            long lost = 0;
            long extra = 0;
            long altered = 0;
            long rows = 0;
            for (LightGateway gateway : fleet) {
                LightGateway.Progress progress = gateway.progress();
                Stored there = stored.getOrDefault(gateway.id(), new Stored(0, 0));
                long done = done(gateway);
                rows += there.rows;
                lost += Math.max(0, done - there.rows);
                extra += Math.max(0, there.rows - progress.backlogAcked() - progress.produced());
                // What is acked are the first of the backlog and the first behind it: their sum says whether it is those.
                if (there.rows == done && there.sum != sum(0, progress.backlogAcked()) + sum(gateway.backlog(), progress.liveAcked())) {
                    altered++;
                }
            }
            // The store counts what it applied: more than there is was applied twice. A bus that delivers at least once may do that.
            long applied = number(store, "SELECT delivered + dead FROM sink WHERE name = 'store'");
            return new ObjectMapper().createObjectNode().put("acked", acked).put("stored", rows).put("lost", lost).put("doubled", extra).put("altered", altered)
                    .put("applied", applied).put("seconds", seconds);
        }
    }

    private static Map<String, Stored> stored(Connection store, String mine) throws SQLException {
        Map<String, Stored> stored = new HashMap<>();
        try (Statement s = store.createStatement();
                ResultSet r = s.executeQuery("SELECT gateway_id, count(*), sum(last) FROM rollup_window" + mine + " GROUP BY gateway_id")) {
            while (r.next()) {
                stored.put(r.getString(1), new Stored(r.getLong(2), r.getDouble(3)));
            }
        }
        return stored;
    }

    private static long rows(Map<String, Stored> stored, LightGateway gateway) {
        Stored there = stored.get(gateway.id());
        return there == null ? 0 : there.rows;
    }

    private static long done(LightGateway gateway) {
        return gateway.progress().backlogAcked() + gateway.progress().liveAcked();
    }

    /** What rows {@code after + 1} to {@code after + n} add up to. */
    private static double sum(long after, long n) {
        return (double) n * after + n * (n + 1) / 2.0;
    }

    private static long number(Connection store, String sql) throws SQLException {
        try (Statement s = store.createStatement(); ResultSet r = s.executeQuery(sql)) {
            return r.next() ? r.getLong(1) : 0;
        }
    }
}
