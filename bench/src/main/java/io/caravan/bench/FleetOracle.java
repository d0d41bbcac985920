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

/** Compares what light gateways were acked with what the cloud's store has of them, window by window. */
final class FleetOracle {
    private static final String SQLITE = "jdbc:sqlite:";
    private static final long PAUSE_NS = 500_000_000;

    /** What a gateway made: rows 1 to {@code backlog}, and live ones behind them. */
    record Made(String id, long backlog, LightGateway.Progress progress) {
        long acked() {
            return progress.backlogAcked() + progress.liveAcked();
        }

        /** The first of the backlog and the first behind it. */
        boolean acked(long seq) {
            return seq <= progress.backlogAcked() || seq > backlog && seq <= backlog + progress.liveAcked();
        }

        boolean has(long seq) {
            return seq >= 1 && seq <= backlog + progress.produced();
        }
    }

    private record Found(long stored, long lost, long extra, long altered) { }

    private FleetOracle() { }

    /**
     * @param prefix of the gateways' ids
     * @param windows of all of them
     * @param atMost how long to wait for the store to apply what is committed
     * @return {@code lost}: acked, not stored; {@code extra}: stored and never made; {@code altered}: stored otherwise than made. That a window is stored
     *     once is the table's key. {@code applied} is what the store says that it applied, of all gateways and ever: it is not judged, a bus may deliver twice
     */
    static ObjectNode compare(String jdbc, String prefix, FleetRows windows, List<Made> fleet, Duration atMost) throws SQLException {
        long begun = System.nanoTime();
        // Of others there may be rows too.
        String mine = " FROM rollup_window WHERE gateway_id LIKE '" + prefix.replace("'", "''") + "%'";
        try (Connection store = jdbc.startsWith(SQLITE) ? Databases.readOnly(Path.of(jdbc.substring(SQLITE.length()))) : DriverManager.getConnection(jdbc)) {
            // PostgreSQL's driver fetches bit by bit only within a transaction.
            store.setAutoCommit(false);
            while (behind(store, mine, fleet) && System.nanoTime() - begun < atMost.toNanos()) {
                LockSupport.parkNanos(PAUSE_NS);
            }
            Found found = found(store, mine, windows, fleet);
            // Their number was right before: rows that are stored and were never acked stood for acked ones that are still on their way.
            while (found.lost > 0 && System.nanoTime() - begun < atMost.toNanos()) {
                LockSupport.parkNanos(PAUSE_NS);
                found = found(store, mine, windows, fleet);
            }
            double seconds = Math.round((System.nanoTime() - begun) / 1e8) / 10.0;
            return new ObjectMapper().createObjectNode().put("acked", fleet.stream().mapToLong(Made::acked).sum()).put("stored", found.stored)
                    .put("lost", found.lost).put("extra", found.extra).put("altered", found.altered).put("applied", applied(store)).put("seconds", seconds);
        }
    }

    private static boolean behind(Connection store, String mine, List<Made> fleet) throws SQLException {
        Map<String, Long> stored = new HashMap<>();
        try (Statement s = store.createStatement(); ResultSet r = s.executeQuery("SELECT gateway_id, count(*)" + mine + " GROUP BY gateway_id")) {
            while (r.next()) {
                stored.put(r.getString(1), r.getLong(2));
            }
        }
        store.rollback();
        return fleet.stream().anyMatch(g -> stored.getOrDefault(g.id, 0L) < g.acked());
    }

    private static Found found(Connection store, String mine, FleetRows windows, List<Made> fleet) throws SQLException {
        Map<String, Made> made = new HashMap<>();
        fleet.forEach(g -> made.put(g.id, g));
        long stored = 0;
        long there = 0;
        long extra = 0;
        long altered = 0;
        try (Statement s = store.createStatement()) {
            s.setFetchSize(10_000);
            try (ResultSet r = s.executeQuery("SELECT gateway_id, device_id, metric, start_ms, width_ms, part, revision, count, min, max, sum, mean, last, last_observed_ms" + mine)) {
                while (r.next()) {
                    stored++;
                    Made gateway = made.get(r.getString(1));
                    long seq = r.getLong(5) == FleetRows.WIDTH_MS && r.getLong(6) == 0 ? windows.seq(r.getString(2), r.getString(3), r.getLong(4)) : -1;
                    if (gateway == null || !gateway.has(seq)) {
                        extra++;
                        continue;
                    }
                    there += gateway.acked(seq) ? 1 : 0;
                    altered += asMade(r, seq) ? 0 : 1;
                }
            }
        }
        store.rollback();
        return new Found(stored, fleet.stream().mapToLong(Made::acked).sum() - there, extra, altered);
    }

    /** Not by the code that made it: an oracle that made the same mistake would find nothing. */
    private static boolean asMade(ResultSet r, long seq) throws SQLException {
        return r.getLong(7) == 1 && r.getLong(8) == 10 && r.getDouble(9) == seq - 0.5 && r.getDouble(10) == seq + 0.5 && r.getDouble(11) == seq * 10.0
                && r.getDouble(12) == seq && r.getDouble(13) == seq && r.getLong(14) == r.getLong(4) + FleetRows.WIDTH_MS - 1;
    }

    private static long applied(Connection store) throws SQLException {
        try (Statement s = store.createStatement(); ResultSet r = s.executeQuery("SELECT delivered + dead FROM sink WHERE name = 'store'")) {
            return r.next() ? r.getLong(1) : 0;
        }
    }
}
