// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Row;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.HashSet;
import java.util.Set;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The cloud's log, table inbox, in SQLite or PostgreSQL: sequences have holes, and several processes may read it. In
 * PostgreSQL a sink belongs to the process that holds its advisory lock on a connection it keeps for that; the lock ends
 * with the connection, so with the process.
 */
final class InboxLog implements SinkLog {
    /** Commands and twins are the business of route command, and of nobody outside. */
    static final String OURS = "kind NOT IN ('command', 'twin')";

    private static final Logger LOG = LoggerFactory.getLogger(InboxLog.class);
    private static final String LOCK = "SELECT pg_try_advisory_lock(hashtextextended('caravan.sink.' || current_schema() || '.' || ?, 0))";
    private static final int ALIVE_S = 5;

    private final DataSource reader;
    private final DataSource writer;
    private final boolean shared;
    private final Set<String> held = new HashSet<>();  // guarded by this, as the next
    private Connection holder;

    InboxLog(DataSource reader, DataSource writer) throws SQLException {
        this.reader = reader;
        this.writer = writer;
        try (Connection connection = reader.getConnection()) {
            shared = connection.getMetaData().getDatabaseProductName().equals("PostgreSQL");
        }
    }

    @Override
    public DataSource reader() {
        return reader;
    }

    @Override
    public DataSource writer() {
        return writer;
    }

    @Override
    public AutoCloseable onReopened(Runnable action) {
        return () -> { };
    }

    @Override
    public synchronized boolean mine(String sink) throws SQLException {
        if (!shared) {
            return true;
        }
        try {
            if (holder == null || !holder.isValid(ALIVE_S)) {
                release();
                holder = writer.getConnection();
            }
            if (held.contains(sink)) {
                return true;
            }
            try (PreparedStatement lock = holder.prepareStatement(LOCK)) {
                lock.setString(1, sink);
                try (ResultSet row = lock.executeQuery()) {
                    row.next();
                    if (row.getBoolean(1)) {
                        held.add(sink);
                        LOG.info("sink [{}] is delivered to by this replica", sink);
                        return true;
                    }
                    return false;
                }
            }
        } catch (SQLException e) {
            release();
            throw e;
        }
    }

    @Override
    public synchronized void release() {
        held.clear();
        Connection closing = holder;
        holder = null;
        if (closing != null) {
            // To a pool it goes back as it is: the locks are the session's.
            try (closing; PreparedStatement all = closing.prepareStatement("SELECT pg_advisory_unlock_all()")) {
                all.execute();
            } catch (SQLException e) {
                LOG.debug("the connection that held the sinks is gone: {}", e.toString());
            }
        }
    }

    @Override
    public long newest(Connection connection) throws SQLException {
        return Sql.number(connection, "SELECT coalesce(max(seq), 0) FROM inbox");
    }

    @Override
    public long waitingSince(Connection connection, String sink) throws SQLException {
        return Sql.number(connection, "SELECT i.received_at_ms FROM inbox i WHERE i.seq > (SELECT r.acked_seq FROM sink_range r WHERE r.sink = ?"
                + " AND r.last_seq IS NULL ORDER BY r.first_seq LIMIT 1) ORDER BY i.seq LIMIT 1", sink);
    }

    @Override
    public void register(Connection connection, String sink, boolean now) throws SQLException {
        long start = now ? newest(connection) + 1 : Sql.number(connection, "SELECT coalesce(min(seq), 1) FROM inbox");
        Sql.update(connection, "INSERT INTO sink (name, log, start_seq) VALUES (?, 'inbox', ?) ON CONFLICT (name) DO NOTHING", sink, start);
        Sql.update(connection, "INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq) SELECT name, start_seq, start_seq - 1, start_seq - 1"
                + " FROM sink WHERE name = ? AND NOT EXISTS (SELECT 1 FROM sink_range r WHERE r.sink = sink.name AND r.last_seq IS NULL)", sink);
    }

    @Override
    public String rows() {
        return "SELECT seq, gateway_id, message_key, device_id, kind, observed_at_ms, received_at_ms, trace_context, CAST(body AS TEXT)"
                + " FROM inbox WHERE seq > ? AND seq <= ? AND " + OURS + " ORDER BY seq";
    }

    @Override
    public Found row(ResultSet r, boolean historical) throws SQLException {
        return new Found(read(r, historical), null);
    }

    /** A row of a query with the columns of {@link #rows}. */
    static Row read(ResultSet r, boolean historical) throws SQLException {
        return new Row(r.getLong(1), r.getString(2), r.getString(3), null, r.getString(4), r.getString(5), historical ? "historical" : "live",
                null, 0, r.getLong(6), r.getLong(7), 0, "application/json", r.getString(8), r.getString(9).getBytes(StandardCharsets.UTF_8));
    }

    @Override
    public boolean dense() {
        return false;
    }

    @Override
    public String place() {
        return "";
    }

    @Override
    public String report() {
        String newest = "(SELECT coalesce(max(m.seq), 0) FROM inbox m)";
        String backlog = "(SELECT coalesce(sum(CASE WHEN coalesce(r.last_seq, " + newest + ") > r.acked_seq THEN coalesce(r.last_seq, " + newest
                + ") - r.acked_seq ELSE 0 END), 0) FROM sink_range r WHERE r.sink = s.name)";
        return "SELECT s.name, s.state, s.reason, s.last_error, s.attempts, " + backlog + ", s.dead,"
                + " coalesce((SELECT i.received_at_ms FROM inbox i WHERE i.seq > (SELECT min(r.acked_seq) FROM sink_range r WHERE r.sink = s.name)"
                + " ORDER BY i.seq LIMIT 1), 0) FROM sink s ORDER BY s.name";
    }
}
