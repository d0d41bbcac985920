// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Table {@code incident}: what went wrong with the store, until an operator says that he knows. Thread-safe. */
final class Incidents {
    private static final Logger LOG = LoggerFactory.getLogger(Incidents.class);

    private final Database database;
    private volatile List<Incident> open = List.of();

    /**
     * One row.
     *
     * @param kind           corrupt_file or corrupt_rows
     * @param file           the damaged file in quarantine, or null
     * @param acknowledgedAtMs 0: not yet
     */
    record Incident(long id, String kind, long atMs, String file, long salvagedRows, long lostRows, String detail, long acknowledgedAtMs,
            String acknowledgedBy) {
        @Override
        public String toString() {
            return "incident " + id + " (" + kind + ") at " + Instant.ofEpochMilli(atMs) + ": " + detail + (file == null ? "" : "; kept as " + file);
        }
    }

    Incidents(Database database) {
        this.database = database;
    }

    /** On opening a store. */
    void read(Connection connection) throws SQLException {
        open = list(connection, false);
    }

    /** @return why readiness is red, with advice; empty: every incident is acknowledged. Cheap */
    String message() {
        List<Incident> now = open;
        if (now.isEmpty()) {
            return "";
        }
        return now.get(now.size() - 1) + (now.size() > 1 ? "; and " + (now.size() - 1) + " more" : "")
                + ". The gateway works on. Look at it with wal:verify, check the disk, then wal:acknowledge";
    }

    /** @return number of incidents that nobody has acknowledged */
    int unacknowledged() {
        return open.size();
    }

    /** @param all false: only those not acknowledged. Oldest first */
    List<Incident> list(boolean all) throws SQLException {
        try (Connection connection = database.reader().getConnection()) {
            return list(connection, all);
        }
    }

    private static List<Incident> list(Connection connection, boolean all) throws SQLException {
        List<Incident> found = new ArrayList<>();
        try (PreparedStatement query = connection.prepareStatement("SELECT id, kind, at_ms, file, salvaged_rows, lost_rows, detail,"
                        + " acknowledged_at_ms, acknowledged_by FROM incident WHERE ? OR acknowledged_at_ms IS NULL ORDER BY id")) {
            query.setBoolean(1, all);
            try (ResultSet r = query.executeQuery()) {
                while (r.next()) {
                    found.add(new Incident(r.getLong(1), r.getString(2), r.getLong(3), r.getString(4), r.getLong(5), r.getLong(6), r.getString(7),
                            r.getLong(8), r.getString(9)));
                }
            }
        }
        return List.copyOf(found);
    }

    /**
     * Writes one down; readiness is red from now on.
     *
     * @param file   where the damaged file is kept, or null
     * @param detail what happened, one line
     */
    void report(String kind, String file, long salvagedRows, long lostRows, String detail) throws SQLException {
        try (Connection connection = database.writer().getConnection();
                PreparedStatement insert = connection.prepareStatement("INSERT INTO incident (kind, at_ms, file, salvaged_rows, lost_rows, detail)"
                        + " VALUES (?, ?, ?, ?, ?, ?)")) {
            insert.setString(1, kind);
            insert.setLong(2, System.currentTimeMillis());
            insert.setString(3, file);
            insert.setLong(4, salvagedRows);
            insert.setLong(5, lostRows);
            insert.setString(6, detail);
            insert.executeUpdate();
            read(connection);
        }
    }

    /**
     * For wal:acknowledge: all that are open.
     *
     * @param by who says so
     * @return how many were open
     */
    int acknowledge(String by) throws SQLException {
        int done;
        try (Connection connection = database.writer().getConnection();
                PreparedStatement update = connection.prepareStatement(
                        "UPDATE incident SET acknowledged_at_ms = ?, acknowledged_by = ? WHERE acknowledged_at_ms IS NULL")) {
            update.setLong(1, System.currentTimeMillis());
            update.setString(2, by);
            done = update.executeUpdate();
            read(connection);
        }
        LOG.info("{} incidents of the store acknowledged by {}", done, by);
        return done;
    }
}
