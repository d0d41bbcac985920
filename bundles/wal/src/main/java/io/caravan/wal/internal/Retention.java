// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Config;
import io.caravan.runtime.Task;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Timer;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongSupplier;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Deletes what nobody needs any more, and gives the space back. Of the log only rows that every sink of table
 * {@code sink} has acked, oldest first, by age and by bytes, and earlier when space is short
 * (but no row that has just come: a gateway without other sinks has it nowhere else); never a row in any sink's
 * pending range or with a dead letter that is not settled. What a deleted row's key was stays known ({@code key_memory}),
 * in the same transaction. Everything is done in small transactions that give the turn to write up in between. Needs Java
 * because of that, and because a route's timer has no clock that survives a step of the wall clock. Thread-safe.
 */
public final class Retention implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Retention.class);
    private static final long LOOK_MS = 1_000;
    private static final long TIDY_MS = 60_000;
    private static final long RESCAN_MS = 600_000;
    private static final long AFTER_FAILURE_MS = 5_000;
    private static final long TURN_TIMEOUT_MS = 30_000;
    private static final int CHECKPOINT_TRIES = 40;
    private static final long CHECKPOINT_PAUSE_MS = 50;
    /** A transaction is made larger or smaller until it holds the turn to write about so long. */
    private static final long HOLD_NANOS = TimeUnit.MILLISECONDS.toNanos(15);
    private static final int CHUNK_MIN = 50;
    private static final int CHUNK_MAX = 5_000;
    private static final int SCAN_ROWS = 5_000;
    private static final int SCANS_PER_PASS = 10;
    private static final int PROBES = 64;
    /** A row beside its body and key: the other columns, its part of the pages, the key's index. */
    private static final int ROW_BYTES = 180;
    private static final long KEEP_FREE_PAGES = 256;

    private static final String PENDING = "SELECT min(r.acked_seq) FROM sink s JOIN sink_range r ON r.sink = s.name"
            + " WHERE s.log = 'wal' AND (r.last_seq IS NULL OR r.acked_seq < r.last_seq)";
    /** Only of sinks that exist; two small look-ups per sink, by the primary key. */
    private static final String UNSETTLED = "(SELECT d.seq FROM sink s CROSS JOIN dead_letter d ON d.sink = s.name AND d.seq > ?1 AND d.seq <= ?2"
            + " WHERE s.log = 'wal' AND d.state = 'dead')";
    /** Device, boot and number; keys of messages without a number have an empty boot. */
    private static final Pattern NUMBERED_KEY = Pattern.compile("([^/]+)/([^/]+)/(\\d{16})");
    private static final String LAST_SEQ = "SELECT seq FROM sqlite_sequence WHERE name = 'wal'";

    /**
     * What {@link #compact} did.
     *
     * @param rowsDeleted rows of the log
     * @param bytesBefore size of the store and its -wal file before
     * @param bytesAfter  and after
     */
    public record Result(long rowsDeleted, long bytesBefore, long bytesAfter) { }

    private interface Work {
        /** @return rows touched, in the open transaction */
        int run(Connection writer, int rows) throws SQLException;
    }

    private final Database database;
    private final Config config;
    private final Space space;
    private final Checkpointer checkpointer;
    private final WalMetrics metrics;
    private final Map<String, Counter> deleted = new HashMap<>();
    private final Counter failures;
    private final Counter vacuumed;
    /** Of who holds {@link #pass}. */
    private Task compaction = Task.NONE;
    private long compacted;
    private final Timer held;
    private final Thread thread = new Thread(this::run, "caravan-wal-retention");
    private final Object lock = new Object();
    private boolean stopping;
    private volatile String failure = "";

    /** One pass at a time; all below is its. */
    private final ReentrantLock pass = new ReentrantLock();
    private final Ages.Clock clock;
    private final Ages log;
    private final Ages fresh;
    private final Ages rejections;
    private final Map<String, Integer> chunks = new HashMap<>();
    private final Map<String, Object[]> scans = new HashMap<>();
    private long cursor;
    private long rescanned;
    private long agedAt = Long.MIN_VALUE / 2;
    private long tidiedAt;
    private final boolean[] overBytes = new boolean[2];
    private volatile long keptBytes;

    Retention(Database database, Config config, Space space, Checkpointer checkpointer, WalMetrics metrics) throws SQLException {
        this(database, config, space, checkpointer, metrics, System::nanoTime, System::currentTimeMillis);
    }

    /**
     * @param nanos monotonic clock
     * @param wall  wall clock in milliseconds
     */
    Retention(Database database, Config config, Space space, Checkpointer checkpointer, WalMetrics metrics, LongSupplier nanos,
            LongSupplier wall) throws SQLException {
        this.database = database;
        this.config = config;
        this.space = space;
        this.checkpointer = checkpointer;
        this.metrics = metrics;
        clock = new Ages.Clock(nanos, wall);
        try (Connection reader = database.reader().getConnection()) {
            log = new Ages(clock, Sql.number(reader, LAST_SEQ));
            fresh = new Ages(clock, log.lastAtStart());
            rejections = new Ages(clock, Sql.number(reader, "SELECT seq FROM sqlite_sequence WHERE name = 'rejected'"));
        }
        for (String table : List.of("wal", "rejected", "key_memory", "rollup_window", "dead_letter", "device_progress")) {
            deleted.put(table, metrics.counter("caravan.wal.retention.deleted.rows", "Rows deleted because nobody needs them any more", "table", table));
        }
        failures = metrics.counter("caravan.wal.retention.failures", "Passes of the retention that failed");
        vacuumed = metrics.counter("caravan.wal.retention.vacuumed.pages", "Free pages taken out of the store's file");
        held = metrics.timer("caravan.wal.retention.turn", "How long a transaction of the retention held the turn to write");
        metrics.gauge("caravan.wal.retention.kept.bytes", "Acked rows that are kept for replay, estimated", this, r -> r.keptBytes);
        space.watch(() -> failure);
        thread.setDaemon(true);
    }

    void start() {
        thread.start();
    }

    /** Empty while it succeeds. */
    String failure() {
        return failure;
    }

    /**
     * Does at once what is done bit by bit otherwise: deletes what is due, gives all free pages back to the disk and folds
     * the -wal file into the store. Nothing goes before its time.
     *
     * @throws SQLException if the store refuses; what was done until then stays done
     */
    public Result compact() throws SQLException {
        return compact(Task.NONE);
    }

    /**
     * As above.
     *
     * @param task told of rows deleted and pages moved; may end it after any transaction
     */
    Result compact(Task task) throws SQLException {
        pass.lock();
        try {
            compaction = task;
            compacted = 0;
            long before = fileBytes();
            cursor = 0;
            scans.clear();
            long rows = rows(/* all= */ true);
            tidy(/* all= */ true);
            task.total(compacted + read("SELECT freelist_count FROM pragma_freelist_count"));
            vacuum(0);
            for (int i = 0; i < CHECKPOINT_TRIES && !checkpoint() && pause(CHECKPOINT_PAUSE_MS); i++) {
                LOG.debug("somebody reads, or the checkpointer is at it");
            }
            space.sample();
            return new Result(rows, before, fileBytes());
        } catch (SQLException e) {
            database.noticed(e);
            space.writeFailed(e);
            throw e;
        } finally {
            compaction = Task.NONE;
            pass.unlock();
        }
    }

    private long fileBytes() {
        return Database.size(database.file()) + Database.size(database.walFile());
    }

    // ---- the thread

    private void run() {
        long wait = LOOK_MS;
        while (true) {
            if (!pause(wait)) {
                return;
            }
            wait = LOOK_MS;
            pass.lock();
            try {
                pass();
                failure = "";
            } catch (Stopped e) {
                return;
            } catch (SQLException | RuntimeException e) {
                failures.increment();
                database.noticed(e);
                space.writeFailed(e);
                String why = "retention: " + StorageError.describe(e, database.file());
                if (failure.isEmpty()) {
                    LOG.warn("retention failed, the store grows until it succeeds: {}", why, e instanceof RuntimeException ? e : null);
                }
                failure = why;
                wait = AFTER_FAILURE_MS;
            } finally {
                pass.unlock();
            }
        }
    }

    private void pass() throws SQLException {
        clock.look();
        rows(/* all= */ false);
        if (clock.elapsedMs() - tidiedAt >= TIDY_MS) {
            tidiedAt = clock.elapsedMs();
            tidy(/* all= */ false);
        }
        // Some are kept for the next messages; only a file that is much too large is worth moving pages about.
        long keep = Math.max(KEEP_FREE_PAGES, space.livePages() / 10);
        if (space.freePages() > 2 * keep) {
            vacuum(keep);
        }
    }

    /** @return false: it stops */
    private boolean pause(long ms) {
        synchronized (lock) {
            try {
                if (!stopping && ms > 0) {
                    lock.wait(ms);
                }
            } catch (InterruptedException e) {
                return false;
            }
            return !stopping;
        }
    }

    /**
     * One small transaction.
     *
     * @param what remembers how many rows fit
     * @return what the work returned
     */
    private int chunk(String what, Work work) throws SQLException {
        int rows = chunks.getOrDefault(what, CHUNK_MIN * 4);
        long begun;
        int touched;
        try (Connection writer = database.writer().getConnection()) {
            begun = System.nanoTime();
            writer.setAutoCommit(false); // BEGIN IMMEDIATE
            try {
                touched = work.run(writer, rows);
            } catch (SQLException | RuntimeException e) {
                try {
                    writer.rollback();
                } catch (SQLException rolledBackAlready) {
                    e.addSuppressed(rolledBackAlready);
                }
                throw e;
            }
            writer.setAutoCommit(true); // COMMIT
        }
        long nanos = System.nanoTime() - begun;
        held.record(nanos, TimeUnit.NANOSECONDS);
        if (nanos > 2 * HOLD_NANOS) {
            chunks.put(what, Math.max(CHUNK_MIN, rows / 2));
        } else if (nanos < HOLD_NANOS && touched >= rows) {
            chunks.put(what, Math.min(CHUNK_MAX, rows + rows / 2));
        }
        // Half of the time is everybody else's; all of it but a moment, as long as nothing is appended anyway.
        long rest = space.refusal() != null ? 1 : Math.min(1_000, 1 + TimeUnit.NANOSECONDS.toMillis(nanos));
        if (!pause(rest)) {
            throw new Stopped();
        }
        compacted += touched;
        compaction.progress(compacted);
        return touched;
    }

    // ---- rows of the log

    private long rows(boolean all) throws SQLException {
        long age = config.getLong("wal.retention.ms");
        long newest = read(LAST_SEQ);
        log.note(newest, age);
        long least = config.getLong("wal.retention.min.ms");
        fresh.note(newest, least);
        if (clock.elapsedMs() - rescanned >= RESCAN_MS) {
            rescanned = clock.elapsedMs();
            cursor = 0; // for rows whose dead letters were settled meanwhile
        }
        long total = 0;
        boolean aged = all || clock.elapsedMs() - agedAt >= Math.min(60_000, age / 100);
        if (aged) {
            agedAt = clock.elapsedMs();
            total += delete(aged(log, age), Long.MAX_VALUE);
        }
        total += delete(newest, tooMany(0, config.getLong("wal.retention.bytes")));
        // Not more than half of the quota: what is kept for replay must not stop the messages that come.
        total += delete(aged(fresh, least), tooMany(1, space.limit() / 2));
        // Space is short: the oldest acked rows go, until it is not.
        while (space.isTight()) {
            if (space.isDiskTight() && space.freePages() > KEEP_FREE_PAGES) {
                vacuum(0); // a free page is no free space on the disk
                checkpoint();
                space.sample();
                continue;
            }
            long done = delete(aged(fresh, least), 10L * chunks.getOrDefault("wal", CHUNK_MIN * 4));
            if (done == 0) {
                break;
            }
            total += done;
            space.sample();
        }
        return total;
    }

    /** Last row that is old enough; the first that is too young ends it. */
    private long aged(Ages ages, long age) throws SQLException {
        long ofThisRun = ages.olderThan(age);
        if (ofThisRun > ages.lastAtStart()) {
            return ofThisRun;
        }
        long last = cursor;
        long until;
        try (Connection reader = database.reader().getConnection()) {
            until = Math.min(ages.lastAtStart(), releasable(reader)); // a sink that is far behind is no reason to look at all of its rows
        }
        while (last < until) {
            long[] found = new long[2]; // last old one, whether a younger one followed
            long after = last;
            try (Connection reader = database.reader().getConnection()) {
                List<long[]> rows = Sql.rows(reader, "SELECT seq, received_at_ms FROM wal WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT " + SCAN_ROWS,
                        row -> new long[] {row.getLong(1), row.getLong(2)}, after, until);
                for (long[] row : rows) {
                    if (!ages.isOlder(row[1], age)) {
                        found[1] = 1;
                        break;
                    }
                    found[0] = row[0];
                }
                if (rows.size() < SCAN_ROWS) {
                    found[1] = 1;
                }
            }
            last = Math.max(last, found[0]);
            if (found[1] == 1) {
                break;
            }
        }
        return last;
    }

    /**
     * How many of the oldest acked rows are above a limit, by the size of a few of them.
     *
     * @param which limit, each remembers whether it was passed
     */
    private long tooMany(int which, long most) throws SQLException {
        try (Connection reader = database.reader().getConnection()) {
            long first = Sql.number(reader, "SELECT seq FROM wal WHERE seq > ? ORDER BY seq LIMIT 1", cursor);
            long last = releasable(reader);
            if (first == 0 || last < first) {
                keptBytes = 0;
                return 0;
            }
            double each = averageBytes(reader, "SELECT length(body) + 2 * length(message_key) FROM wal WHERE seq >= ? ORDER BY seq LIMIT 1", first, last);
            keptBytes = (long) (each * (last - first + 1));
            overBytes[which] = keptBytes > (overBytes[which] ? most - most / 20 : most);
            return overBytes[which] ? (long) Math.ceil((keptBytes - (most - most / 20)) / each) : 0;
        }
    }

    private static double averageBytes(Connection reader, String sql, long first, long last) throws SQLException {
        double sum = 0;
        int probes = (int) Math.min(PROBES, last - first + 1);
        for (int i = 0; i < probes; i++) {
            sum += ROW_BYTES + Sql.number(reader, sql, first + (last - first) * i / Math.max(1, probes - 1));
        }
        return sum / probes;
    }

    /** Every sink has acked all up to here. */
    private static long releasable(Connection connection) throws SQLException {
        return Sql.number(connection, "SELECT coalesce((" + PENDING + "), (" + LAST_SEQ + "), 0)");
    }

    /**
     * Deletes released rows behind the cursor, in order.
     *
     * @param last highest seq
     * @param most how many, about
     * @return rows deleted
     */
    private long delete(long last, long most) throws SQLException {
        long total = 0;
        while (total < most && cursor < last) {
            long from = cursor;
            long left = most - total;
            long[] reached = new long[1];
            int[] found = new int[1];
            int gone = chunk("wal", (writer, rows) -> {
                // Inside: a replay that was begun a moment ago counts.
                long until = Math.min(last, releasable(writer));
                long to = Sql.number(writer, "SELECT max(seq) FROM (SELECT seq FROM wal WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?)",
                        from, until, Math.min(rows, left));
                found[0] = to == 0 ? 0 : 1;
                reached[0] = to == 0 ? Math.max(from, until) : to;
                if (to == 0) {
                    return 0;
                }
                remember(writer, from, to);
                int rowsGone = Sql.update(writer, "DELETE FROM wal WHERE seq > ?1 AND seq <= ?2 AND seq NOT IN " + UNSETTLED, from, to);
                Sql.update(writer, "UPDATE meta SET retained_from_seq = max(retained_from_seq, ?)", to + 1);
                return rowsGone;
            });
            cursor = reached[0];
            if (found[0] == 0) {
                break;
            }
            deleted.get("wal").increment(gone);
            total += gone;
        }
        return total;
    }

    /**
     * Numbered messages up to their boot's contiguous number are known by that number; all others by their key, unless it is a hash of
     * their content that no message can have again: its window of the monotonic clock is over, or of another start of the machine.
     */
    private void remember(Connection writer, long from, long to) throws SQLException {
        Sql.update(writer, "INSERT INTO key_memory (message_key, seen_at_ms) SELECT w.message_key, ?3 FROM wal w"
                + " LEFT JOIN device_progress p ON w.device_seq IS NOT NULL AND p.device_id = w.device_id AND p.boot_id = w.boot_id"
                + " WHERE w.seq > ?1 AND w.seq <= ?2 AND w.seq NOT IN " + UNSETTLED
                + " AND (p.contiguous_seq IS NULL OR w.device_seq > p.contiguous_seq)"
                + " AND NOT (w.device_seq IS NULL AND substr(w.message_key, length(w.device_id) + 1, 4) = '//h/' AND abs(w.mono_ms - ?4) > 2 * ?5)"
                + " ON CONFLICT (message_key) DO UPDATE SET seen_at_ms = excluded.seen_at_ms", from, to, clock.now(), clock.monoMs(),
                config.getLong("ingest.dedupe.window.ms"));
    }

    // ---- what else grows

    private void tidy(boolean all) throws SQLException {
        rejected();
        long now = clock.now();
        scan("key_memory", "message_key", "seen_at_ms < ?", all, now - config.getLong("wal.dedupe.ms"), this::forget);
        // The others' times are the wall clock's of when they were written, so it is asked, not the clock of this run.
        long wall = clock.believed();
        if (wall == 0) {
            return;
        }
        // The memory of numbered keys, so with care: only a boot that a later one of its device followed, and none of whose rows is left;
        // and never one with signatures: its messages could be replayed. Not what was written a while ago by a clock that was wrong, either.
        long progress = config.getLong("wal.progress.retention.ms");
        scan("device_progress", "device_id, boot_id", "updated_at_ms < ? AND t.signed_seq = 0 AND EXISTS (SELECT 1 FROM device_progress n"
                + " WHERE n.device_id = t.device_id AND n.updated_at_ms > t.updated_at_ms) AND NOT EXISTS (SELECT 1 FROM wal w"
                + " WHERE w.message_key > t.device_id || '/' || t.boot_id || '/' AND w.message_key < t.device_id || '/' || t.boot_id || '0')"
                + " AND NOT " + clock.maybeYoung("t.updated_at_ms", progress), all, wall - progress);
        // Settled, and its row is gone: nobody can ask for it any more.
        scan("dead_letter", "sink, seq", "state <> 'dead' AND dead_at_ms < ? AND NOT EXISTS (SELECT 1 FROM wal w WHERE w.seq = t.seq)",
                all, wall - config.getLong("dead.retention.ms"));
        windows(all, wall - config.getLong("rollup.retention.ms"));
    }

    /** A number whose key goes is not new when it comes again: where messages are signed, nobody may profit from that. */
    private void forget(Connection writer, List<Object[]> rows) throws SQLException {
        for (Object[] row : rows) {
            Matcher numbered = NUMBERED_KEY.matcher((String) row[0]);
            if (numbered.matches()) {
                Sql.update(writer, "UPDATE device_progress SET forgotten_seq = ?3 WHERE device_id = ?1 AND boot_id = ?2 AND signed_seq > 0"
                        + " AND forgotten_seq < ?3", numbered.group(1), numbered.group(2), Long.parseLong(numbered.group(3)));
            }
        }
    }

    private void rejected() throws SQLException {
        long age = config.getLong("rejected.retention.ms");
        long most = config.getLong("rejected.retention.bytes");
        long last = read("SELECT seq FROM sqlite_sequence WHERE name = 'rejected'");
        rejections.note(last, age);
        long ofThisRun = rejections.olderThan(age);
        while (true) {
            long[] due = {0};
            try (Connection reader = database.reader().getConnection()) {
                List<long[]> rows = Sql.rows(reader, "SELECT id, received_at_ms FROM rejected ORDER BY id LIMIT " + CHUNK_MAX,
                        row -> new long[] {row.getLong(1), row.getLong(2)});
                if (rows.isEmpty()) {
                    return;
                }
                long first = rows.get(0)[0];
                double each = averageBytes(reader, "SELECT length(body) + length(error) FROM rejected WHERE id >= ? ORDER BY id LIMIT 1", first, last);
                long excess = (long) Math.ceil((each * (last - first + 1) - most) / each);
                for (long[] row : rows) {
                    if (row[0] <= ofThisRun || row[0] <= rejections.lastAtStart() && rejections.isOlder(row[1], age) || row[0] < first + excess) {
                        due[0] = row[0];
                    } else {
                        break;
                    }
                }
            }
            if (due[0] == 0) {
                return;
            }
            while (true) {
                int gone = chunk("rejected", (writer, rows) ->
                        Sql.update(writer, "DELETE FROM rejected WHERE id IN (SELECT id FROM rejected WHERE id <= ? ORDER BY id LIMIT ?)", due[0], rows));
                deleted.get("rejected").increment(gone);
                if (gone == 0) {
                    break;
                }
            }
        }
    }

    /**
     * Goes through a table along its key, a bounded number of rows per pass, and deletes what meets the condition.
     *
     * @param all once around
     */
    private void scan(String table, String key, String condition, boolean all, long cutoff) throws SQLException {
        scan(table, key, condition, all, cutoff, (writer, rows) -> { });
    }

    private interface Before {
        void delete(Connection writer, List<Object[]> rows) throws SQLException;
    }

    /** @param before in the transaction that deletes the rows */
    private void scan(String table, String key, String condition, boolean all, long cutoff, Before before) throws SQLException {
        int columns = key.split(",").length;
        String place = "(?" + ", ?".repeat(columns - 1) + ")";
        for (int i = 0; all || i < SCANS_PER_PASS; i++) {
            Object[] after = scans.get(table);
            List<Object[]> rows;
            String due = "SELECT " + key + ", " + condition + " FROM " + table + " t";
            try (Connection reader = database.reader().getConnection()) {
                Sql.Reader<Object[]> take = row -> {
                    Object[] values = new Object[columns + 1];
                    for (int c = 0; c <= columns; c++) {
                        values[c] = row.getObject(c + 1);
                    }
                    return values;
                };
                String order = " ORDER BY " + key + " LIMIT " + SCAN_ROWS;
                rows = after == null ? Sql.rows(reader, due + order, take, cutoff)
                        : Sql.rows(reader, due + " WHERE (" + key + ") > " + place + order, take, with(cutoff, after));
            }
            List<Object[]> candidates = rows.stream().filter(row -> ((Number) row[columns]).intValue() == 1).toList();
            for (int at = 0; at < candidates.size(); ) {
                int begin = at;
                int[] taken = new int[1];
                int[] gone = new int[1];
                chunk(table, (writer, most) -> {
                    taken[0] = Math.min(most, candidates.size() - begin);
                    before.delete(writer, candidates.subList(begin, begin + taken[0]));
                    for (Object[] row : candidates.subList(begin, begin + taken[0])) {
                        // Asked again: it may have changed since it was read.
                        Object[] arguments = new Object[columns + 1];
                        System.arraycopy(row, 0, arguments, 0, columns);
                        arguments[columns] = cutoff;
                        gone[0] += Sql.update(writer, "DELETE FROM " + table + " AS t WHERE (" + key + ") = " + place + " AND " + condition, arguments);
                    }
                    return taken[0];
                });
                deleted.get(table).increment(gone[0]);
                at += taken[0];
            }
            if (rows.size() < SCAN_ROWS) {
                scans.remove(table);
                return;
            }
            scans.put(table, Arrays.copyOf(rows.get(rows.size() - 1), columns));
        }
    }

    private static Object[] with(Object first, Object[] others) {
        Object[] joined = new Object[others.length + 1];
        joined[0] = first;
        System.arraycopy(others, 0, joined, 1, others.length);
        return joined;
    }

    /**
     * Windows that were emitted, are over and have not changed for long (the second keeps windows of a clock that runs
     * ahead). From then on route rollup gives a window before {@code meta.rollup_pruned_before_ms} that is not there any
     * more a part number of its own, and the parts add up.
     */
    private void windows(boolean all, long cutoff) throws SQLException {
        scan("rollup_window", "device_id, metric, start_ms, width_ms, part", "dirty = 0 AND max(updated_at_ms, start_ms + width_ms) < ?", all, cutoff,
                (writer, rows) -> {
                    long newest = rows.stream().mapToLong(row -> ((Number) row[2]).longValue()).max().orElse(0);
                    Sql.update(writer, "UPDATE meta SET rollup_pruned_before_ms = max(rollup_pruned_before_ms, ?)", newest + 1);
                });
    }

    // ---- the file

    /** Moves pages from the end of the file into free ones, until so many free ones are left. */
    private void vacuum(long keep) throws SQLException {
        long before = Long.MAX_VALUE;
        for (long free; (free = read("SELECT freelist_count FROM pragma_freelist_count")) > keep && free < before; before = free) {
            vacuumed.increment(vacuumStep(Math.min(free - keep, chunks.getOrDefault("vacuum", CHUNK_MIN * 4))));
        }
        checkpointer.wake(); // the file is cut when the change is folded in
        space.sample();
    }

    private long vacuumStep(long pages) throws SQLException {
        chunk("vacuum", (writer, rows) -> {
            try (Statement statement = writer.createStatement()) {
                // executeUpdate runs it to its end; execute would stop after the first page.
                statement.executeUpdate("PRAGMA incremental_vacuum(" + pages + ")");
            }
            return (int) pages;
        });
        return pages;
    }

    /** @return whether all of it is in the store's file */
    private boolean checkpoint() throws SQLException {
        try (Connection connection = database.checkpointConnection(); Statement statement = connection.createStatement()) {
            database.gate().enter(TURN_TIMEOUT_MS);
            try (ResultSet result = statement.executeQuery("PRAGMA wal_checkpoint(TRUNCATE)")) {
                boolean done = result.next() && result.getInt(1) == 0;
                if (!done) {
                    checkpointer.wake(); // a reader is in the way, or the checkpointer itself
                }
                return done;
            } finally {
                database.gate().leave();
            }
        }
    }

    private long read(String sql) throws SQLException {
        try (Connection reader = database.reader().getConnection()) {
            return Sql.number(reader, sql);
        }
    }

    /** After this nothing more is deleted. */
    @Override
    public void close() {
        synchronized (lock) {
            stopping = true;
            lock.notifyAll();
        }
        try {
            thread.join(10_000);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private static final class Stopped extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Stopped() {
            super("the store is closing", null, false, false);
        }
    }
}
