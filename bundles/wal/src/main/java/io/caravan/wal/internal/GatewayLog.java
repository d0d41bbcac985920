// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Config;
import io.caravan.wal.Row;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import javax.sql.DataSource;

/** A gateway's log, table wal: one process, sequences without holes, a checksum with each row. */
final class GatewayLog implements SinkLog {
    private final Database database;
    private final Config config;
    private final ThreadLocal<RowCheck> check = ThreadLocal.withInitial(RowCheck::new);

    GatewayLog(Database database, Config config) {
        this.database = database;
        this.config = config;
    }

    @Override
    public DataSource reader() {
        return database.reader();
    }

    @Override
    public DataSource writer() {
        return database.writer();
    }

    @Override
    public AutoCloseable onReopened(Runnable action) {
        return database.onReopened(action);
    }

    @Override
    public boolean mine(String sink) {
        return true;
    }

    @Override
    public void release() {
        // nobody else could have it
    }

    @Override
    public long newest(Connection reader) throws SQLException {
        return Sql.number(reader, "SELECT seq FROM sqlite_sequence WHERE name = 'wal'");
    }

    @Override
    public long waitingSince(Connection reader, String sink) throws SQLException {
        return Sql.number(reader, "SELECT w.received_at_ms FROM wal w WHERE w.seq > (SELECT r.acked_seq FROM sink_range r WHERE r.sink = ?"
                + " AND r.last_seq IS NULL ORDER BY r.first_seq LIMIT 1) ORDER BY w.seq LIMIT 1", sink);
    }

    @Override
    public void register(Connection writer, String sink, boolean now) throws SQLException {
        try (PreparedStatement insert = writer.prepareStatement("INSERT INTO sink (name, log, start_seq) SELECT ?1, 'wal', iif(?2,"
                        + " coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'wal'), 0) + 1,"
                        + " (SELECT retained_from_seq FROM meta))"
                        + " WHERE NOT EXISTS (SELECT 1 FROM sink WHERE name = ?1)");
                PreparedStatement range = writer.prepareStatement("INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq)"
                        + " SELECT name, start_seq, start_seq - 1, start_seq - 1 FROM sink WHERE name = ?1"
                        + " AND NOT EXISTS (SELECT 1 FROM sink_range WHERE sink = ?1 AND last_seq IS NULL)")) {
            insert.setString(1, sink);
            insert.setBoolean(2, now);
            insert.executeUpdate();
            range.setString(1, sink);
            range.executeUpdate();
        }
    }

    @Override
    public String rows() {
        return "SELECT seq, message_key, correlation_id, device_id, kind, lane,"
                + " boot_id, device_seq, observed_at_ms, received_at_ms, mono_ms, schema_version, content_type, trace_context,"
                + " body, crc, row_crc FROM wal WHERE seq > ? AND seq <= ? ORDER BY seq";
    }

    @Override
    public Found row(ResultSet r, boolean historical) throws SQLException {
        long seq = r.getLong(1);
        String lane = r.getString(6);
        byte[] body = r.getBytes(15);
        Row row = new Row(seq, config.get("gateway.id"), r.getString(2), r.getString(3), r.getString(4), r.getString(5),
                historical ? "historical" : lane, r.getString(7), r.getLong(8), r.getLong(9), r.getLong(10),
                r.getInt(12), r.getString(13), r.getString(14), body);
        long rowCrc = r.getLong(17);
        Long rest = r.wasNull() ? null : rowCrc; // asked at once: it is about the column that was read last
        return new Found(row, check.get().fault(seq, body, r.getLong(16), rest, row.messageKey(),
                row.correlationId(), row.deviceId(), row.kind(), lane, row.bootId(),
                row.deviceSeq() > 0 ? row.deviceSeq() : null, row.observedAtMs(), row.receivedAtMs(), r.getLong(11),
                row.schemaVersion(), row.contentType(), row.traceContext()));
    }

    @Override
    public boolean dense() {
        return true;
    }

    @Override
    public String place() {
        return "gateway=" + config.get("gateway.id") + "/";
    }

    @Override
    public String report() {
        return "SELECT s.name, s.state, s.reason, s.last_error, s.attempts, l.backlog, l.dead,"
                + " iif(l.backlog > 0 AND s.log = 'wal', (SELECT w.received_at_ms FROM wal w WHERE w.seq >"
                + " (SELECT min(r.acked_seq) FROM sink_range r WHERE r.sink = s.name"
                + " AND r.acked_seq < coalesce(r.last_seq, (SELECT seq FROM sqlite_sequence WHERE name = 'wal')))"
                + " ORDER BY w.seq LIMIT 1), iif(l.backlog > 0 AND s.log = 'outbox', (SELECT o.created_at_ms FROM outbox o WHERE o.seq >"
                + " (SELECT min(r.acked_seq) FROM sink_range r WHERE r.sink = s.name"
                + " AND r.acked_seq < coalesce(r.last_seq, (SELECT seq FROM sqlite_sequence WHERE name = 'outbox')))"
                + " ORDER BY o.seq LIMIT 1), 0))"
                + " FROM sink s JOIN ledger l ON l.sink = s.name ORDER BY s.name";
    }
}
