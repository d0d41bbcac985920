// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Record;
import io.caravan.wal.Rejection;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;

/**
 * Writes one group inside a transaction that is open already; the SQL of the log.
 *
 * <p>A row is inserted only when it is certain to be new, and then with fifteen others in one statement: INSERT ... ON
 * CONFLICT DO NOTHING would be simpler, but a row it skips still uses up a number of AUTOINCREMENT, and the ledger
 * (appended = highest seq) needs the log to be dense. A numbered message above the highest number of its boot is new
 * without a look at the disk; anything else is looked up in the unique index, which also has the last word.
 *
 * <p>Not thread-safe. After a rollback call {@link #forget}: the next group reads the disk again.
 */
final class LogWriter {
    private static final int ROWS = 16;
    private static final int COLUMN_COUNT = 17;
    private static final String COLUMNS = "INSERT INTO wal (seq, message_key, correlation_id, device_id, kind, lane, boot_id, device_seq,"
            + " observed_at_ms, received_at_ms, mono_ms, schema_version, content_type, trace_context, body, crc, row_crc) VALUES ";
    private static final String ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    private static final int REMEMBERED_BOOTS = 20_000;
    private static final int NUMBER_DIGITS = 16;

    private final boolean dedupe;
    private final LinkedHashMap<Progress.Key, Progress> boots = new LinkedHashMap<>(256, 0.75f, /* accessOrder= */ true);
    private final List<Progress> touched = new ArrayList<>();
    private final Record[] unwritten = new Record[ROWS];
    private final RowCheck check = new RowCheck();
    private int unwrittenRows;
    /** Highest sequence given: rows say their own, so that the row's checksum can include it. */
    private long seq;
    private boolean memoryUsed;
    private boolean careful;

    private Connection connection;
    private PreparedStatement insertMany;
    private PreparedStatement insertOne;
    private PreparedStatement insertRejected;
    private PreparedStatement sameInLog;
    private PreparedStatement inMemory;
    private PreparedStatement memoryUsedAtAll;
    private PreparedStatement progressOf;
    private PreparedStatement forgottenOf;
    private PreparedStatement saveProgress;
    private PreparedStatement numbersAbove;
    private PreparedStatement lastSeq;

    LogWriter(boolean dedupe) {
        this.dedupe = dedupe;
    }

    /** Statements live as long as the physical connection, which outlives many borrowings of it. */
    private void prepare(Connection on) throws SQLException {
        if (connection == on) {
            return;
        }
        connection = null;
        insertMany = on.prepareStatement(COLUMNS + ROW + (", " + ROW).repeat(ROWS - 1));
        insertOne = on.prepareStatement(COLUMNS + ROW);
        insertRejected = on.prepareStatement("INSERT INTO rejected (received_at_ms, correlation_id, source, topic, device_id,"
                + " content_type, reason, field, error, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
        sameInLog = on.prepareStatement("SELECT crc = ?2 AND body = ?3 FROM wal WHERE message_key = ?1");
        inMemory = on.prepareStatement("SELECT 1 FROM key_memory WHERE message_key = ?");
        memoryUsedAtAll = on.prepareStatement("SELECT EXISTS (SELECT 1 FROM key_memory)");
        progressOf = on.prepareStatement("SELECT contiguous_seq, highest_seq, signed_seq FROM device_progress WHERE device_id = ? AND boot_id = ?");
        forgottenOf = on.prepareStatement("SELECT forgotten_seq FROM device_progress WHERE device_id = ? AND boot_id = ?");
        saveProgress = on.prepareStatement("INSERT INTO device_progress (device_id, boot_id, contiguous_seq, highest_seq, signed_seq, updated_at_ms)"
                + " VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (device_id, boot_id) DO UPDATE SET contiguous_seq = ?3, highest_seq = ?4,"
                + " signed_seq = ?5, updated_at_ms = ?6");
        numbersAbove = on.prepareStatement("SELECT message_key FROM wal WHERE message_key > ? AND message_key <= ?"
                + " AND device_seq IS NOT NULL ORDER BY message_key");
        lastSeq = on.prepareStatement("SELECT seq FROM sqlite_sequence WHERE name = 'wal'");
        connection = on;
    }

    /**
     * @param on      physical connection with an open transaction
     * @param careful look each key up, whatever memory says
     * @return highest sequence number of the log after this group
     */
    long write(Connection on, List<Pending> group, boolean careful) throws SQLException {
        prepare(on);
        this.careful = careful;
        unwrittenRows = 0;
        memoryUsed = number(memoryUsedAtAll) != 0;
        seq = number(lastSeq);
        for (int i = 0; i < group.size(); i++) {
            Pending pending = group.get(i);
            if (pending.isRejection()) {
                insert(pending.rejection());
            } else if (!dedupe) {
                add(pending, pending.record);
            } else if (pending.record.numbered()) {
                numbered(pending, pending.record);
            } else if (isNew(pending, pending.record)) {
                add(pending, pending.record);
            }
        }
        flush();
        long now = System.currentTimeMillis();
        for (Progress progress : touched) {
            if (progress.changed) {
                save(progress, now);
            }
        }
        return number(lastSeq);
    }

    /** The transaction is committed: what was reckoned is true now. Give the boots whose device may want a receipt. */
    List<Progress> committed() {
        if (boots.size() > REMEMBERED_BOOTS) {
            Iterator<Progress> eldest = boots.values().iterator();
            for (int excess = boots.size() - REMEMBERED_BOOTS; excess > 0; excess--) {
                eldest.next();
                eldest.remove();
            }
        }
        return touched;
    }

    /** Ends a group, committed or not. */
    void reset() {
        for (Progress progress : touched) {
            progress.touched = false;
            progress.changed = false;
            progress.asked = false;
            progress.told = progress.contiguous;
        }
        touched.clear();
    }

    /** The transaction was rolled back: believe the disk only. */
    void forget() {
        boots.clear();
        touched.clear();
        connection = null;
    }

    private void numbered(Pending pending, Record record) throws SQLException {
        Progress progress = progress(record);
        long number = record.deviceSeq();
        if (record.signed() && progress.signed > 0 && number <= progress.signed - record.replayWindow()) {
            replayed(pending, progress);
            return;
        }
        if (number > progress.highest && !careful) {
            add(pending, record);
        } else if (number <= progress.contiguous) {
            repeated(pending, record);
            progress.asked = true;
            touch(progress);
            return;
        } else if (!isNew(pending, record)) {
            return;
        } else if (record.signed() && number <= forgotten(record)) {
            replayed(pending, progress);
            return;
        } else {
            add(pending, record);
        }
        touch(progress);
        progress.changed = true;
        if (record.signed()) {
            progress.signed = Math.max(progress.signed, number);
        }
        long before = progress.highest;
        progress.highest = Math.max(before, number);
        if (number == progress.contiguous + 1) {
            progress.contiguous = number;
            if (before > number) {
                flush();
                closeGap(progress, record.messageKey());
            }
        }
    }

    private void replayed(Pending pending, Progress progress) throws SQLException {
        pending.replayed(progress.signed);
        insert(pending.rejection());
        progress.asked = true;
        touch(progress);
    }

    /** Up to which number of its boot the retention gave up single keys. Not remembered here: it changes without us, and is seldom asked for. */
    private long forgotten(Record record) throws SQLException {
        forgottenOf.setString(1, record.deviceId());
        forgottenOf.setString(2, record.bootId());
        return number(forgottenOf);
    }

    /** At or below contiguous: it was in the log once. Gone by retention or the same: a duplicate. */
    private void repeated(Pending pending, Record record) throws SQLException {
        if (sameStored(record) == Stored.OTHER_BODY) {
            turnDown(pending);
        } else {
            pending.duplicate();
        }
    }

    private boolean isNew(Pending pending, Record record) throws SQLException {
        switch (sameStored(record)) {
            case SAME:
                pending.duplicate();
                return false;
            case OTHER_BODY:
                turnDown(pending);
                return false;
            default:
                if (memoryUsed && remembered(record.messageKey())) {
                    pending.duplicate();
                    return false;
                }
                return true;
        }
    }

    private enum Stored { NO, SAME, OTHER_BODY }

    private Stored sameStored(Record record) throws SQLException {
        for (int i = 0; i < unwrittenRows; i++) {
            if (unwritten[i].messageKey().equals(record.messageKey())) {
                return Arrays.equals(unwritten[i].body(), record.body()) ? Stored.SAME : Stored.OTHER_BODY;
            }
        }
        sameInLog.setString(1, record.messageKey());
        sameInLog.setLong(2, RowCheck.of(record.body()));
        sameInLog.setBytes(3, record.body());
        try (ResultSet row = sameInLog.executeQuery()) {
            if (!row.next()) {
                return Stored.NO;
            }
            return row.getInt(1) == 1 ? Stored.SAME : Stored.OTHER_BODY;
        }
    }

    private boolean remembered(String key) throws SQLException {
        inMemory.setString(1, key);
        try (ResultSet row = inMemory.executeQuery()) {
            return row.next();
        }
    }

    private void turnDown(Pending pending) throws SQLException {
        pending.conflict();
        insert(pending.rejection());
    }

    /** The number that was missing came: go up to the next one that is. Each number is passed once in the boot's life. */
    private void closeGap(Progress progress, String key) throws SQLException {
        String prefix = key.substring(0, key.length() - NUMBER_DIGITS);
        numbersAbove.setString(1, key);
        numbersAbove.setString(2, prefix + digits(progress.highest));
        try (ResultSet rows = numbersAbove.executeQuery()) {
            while (rows.next()) {
                String found = rows.getString(1);
                long number = Long.parseLong(found, prefix.length(), found.length(), 10);
                rememberedUpTo(progress, prefix, number - 1);
                if (number != progress.contiguous + 1) {
                    return;
                }
                progress.contiguous = number;
            }
        }
        rememberedUpTo(progress, prefix, progress.highest);
    }

    /** Retention took rows above a gap: their keys are in key_memory. */
    private void rememberedUpTo(Progress progress, String prefix, long last) throws SQLException {
        while (memoryUsed && progress.contiguous < last && remembered(prefix + digits(progress.contiguous + 1))) {
            progress.contiguous++;
        }
    }

    private static String digits(long number) {
        String text = Long.toString(number);
        return "0".repeat(Math.max(0, NUMBER_DIGITS - text.length())) + text;
    }

    private Progress progress(Record record) throws SQLException {
        Progress.Key key = new Progress.Key(record.deviceId(), record.bootId());
        Progress progress = boots.get(key);
        if (progress == null) {
            progressOf.setString(1, record.deviceId());
            progressOf.setString(2, record.bootId());
            try (ResultSet row = progressOf.executeQuery()) {
                progress = row.next()
                        ? new Progress(record.deviceId(), record.bootId(), row.getLong(1), row.getLong(2), row.getLong(3))
                        : new Progress(record.deviceId(), record.bootId(), 0, 0, 0);
            }
            boots.put(key, progress);
        }
        return progress;
    }

    private void touch(Progress progress) {
        if (!progress.touched) {
            progress.touched = true;
            touched.add(progress);
        }
    }

    private void save(Progress progress, long now) throws SQLException {
        saveProgress.setString(1, progress.deviceId);
        saveProgress.setString(2, progress.bootId);
        saveProgress.setLong(3, progress.contiguous);
        saveProgress.setLong(4, progress.highest);
        saveProgress.setLong(5, progress.signed);
        saveProgress.setLong(6, now);
        saveProgress.executeUpdate();
    }

    private void add(Pending pending, Record record) throws SQLException {
        pending.durable();
        unwritten[unwrittenRows++] = record;
        if (unwrittenRows == ROWS) {
            for (int i = 0; i < ROWS; i++) {
                bind(insertMany, i * COLUMN_COUNT, unwritten[i]);
            }
            unwrittenRows = 0;
            insertMany.executeUpdate();
        }
    }

    private void flush() throws SQLException {
        int rows = unwrittenRows;
        unwrittenRows = 0;
        for (int i = 0; i < rows; i++) {
            bind(insertOne, 0, unwritten[i]);
            insertOne.executeUpdate();
        }
    }

    private void bind(PreparedStatement insert, int at, Record record) throws SQLException {
        insert.setLong(at + 1, ++seq);
        insert.setString(at + 2, record.messageKey());
        insert.setString(at + 3, record.correlationId());
        insert.setString(at + 4, record.deviceId());
        insert.setString(at + 5, record.kind());
        insert.setString(at + 6, record.lane());
        insert.setString(at + 7, record.bootId());
        insert.setObject(at + 8, record.deviceSeq() > 0 ? record.deviceSeq() : null);
        insert.setLong(at + 9, record.observedAtMs());
        insert.setLong(at + 10, record.receivedAtMs());
        insert.setLong(at + 11, record.monoMs());
        insert.setInt(at + 12, record.schemaVersion());
        insert.setString(at + 13, record.contentType());
        insert.setString(at + 14, record.traceContext());
        insert.setBytes(at + 15, record.body());
        insert.setLong(at + 16, RowCheck.of(record.body()));
        insert.setLong(at + 17, check.of(seq, record));
    }

    private void insert(Rejection rejection) throws SQLException {
        insertRejected.setLong(1, rejection.receivedAtMs());
        insertRejected.setString(2, rejection.correlationId());
        insertRejected.setString(3, rejection.source());
        insertRejected.setString(4, rejection.topic());
        insertRejected.setString(5, rejection.deviceId());
        insertRejected.setString(6, rejection.contentType());
        insertRejected.setString(7, rejection.reason());
        insertRejected.setString(8, rejection.field());
        insertRejected.setString(9, rejection.error());
        insertRejected.setBytes(10, rejection.body());
        insertRejected.executeUpdate();
    }

    private static long number(PreparedStatement query) throws SQLException {
        try (ResultSet row = query.executeQuery()) {
            return row.next() ? row.getLong(1) : 0;
        }
    }
}
