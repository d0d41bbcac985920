// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Task;
import io.caravan.runtime.Tasks;
import io.caravan.wal.Recovery;
import io.caravan.wal.Wal;
import io.caravan.wal.WalState;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.FileStore;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Bean {@code recovery}. In Java because a replay, a requeue and a reset are one transaction over ranges, dead letters and
 * counts whose shape depends on what is found, and because they are asked for by people and not by messages.
 */
public final class RecoveryTools implements Recovery {
    private static final Logger LOG = LoggerFactory.getLogger(RecoveryTools.class);
    private static final int NOTE_CHARS = 500;
    private static final String REPLAYED = "nothing was changed; run it again, it starts anew";
    private static final String BY_REASON =
            "(SELECT group_concat(d.reason || '=' || d.row_count, ', ' ORDER BY d.reason) FROM discarded d WHERE d.sink = l.sink)";

    /** What other parts of the store do for an operator. */
    interface Parts {
        Set<String> installed();

        void wake(String sink);

        Verification verify(boolean whole, Task task) throws Exception;

        String compact(Task task) throws Exception;

        /** @return how many incidents were not acknowledged yet */
        int acknowledge(String by) throws Exception;
    }

    interface Work<T> {
        T on(Connection connection) throws SQLException;
    }

    /** Short read transactions. */
    interface Reads {
        <T> T read(Work<T> work);
    }

    private record Known(boolean internal, String log, String state) { }

    private final DataSource writer;
    private final DataSource reader;
    private final Path file;
    private final Supplier<String> gatewayId;
    private final Wal wal;
    private final Parts parts;
    private final Tasks tasks;
    private final LogSearch search = new LogSearch(this::read);

    RecoveryTools(Database database, Supplier<String> gatewayId, Wal wal, Parts parts, Tasks tasks) {
        this.tasks = tasks;
        this.writer = database.writer();
        this.reader = database.reader();
        this.file = database.file();
        this.gatewayId = gatewayId;
        this.wal = wal;
        this.parts = parts;
    }

    private <T> T read(Work<T> work) {
        try (Connection connection = reader.getConnection()) {
            return work.on(connection);
        } catch (SQLException e) {
            throw new IllegalStateException(StorageError.describe(e, file), e);
        }
    }

    private <T> T write(boolean keep, Work<T> work) {
        try (Connection connection = writer.getConnection()) {
            connection.setAutoCommit(false);
            try {
                T result = work.on(connection);
                if (keep) {
                    connection.commit();
                } else {
                    connection.rollback();
                }
                return result;
            } catch (SQLException | RuntimeException e) {
                connection.rollback();
                throw e;
            } finally {
                connection.setAutoCommit(true);
            }
        } catch (SQLException e) {
            throw new IllegalStateException(StorageError.describe(e, file), e);
        }
    }

    // ---- sinks

    @Override
    public List<SinkStatus> sinks() {
        Set<String> installed = parts.installed();
        long now = System.currentTimeMillis();
        return read(connection -> Sql.rows(connection, "SELECT s.name, s.internal, s.state, s.reason, s.attempts, s.next_attempt_at_ms,"
                + " s.last_error, s.failing_since_ms, s.last_success_at_ms, l.backlog, l.inflight, l.acked, l.dead, " + BY_REASON + ","
                + " iif(l.backlog = 0, NULL, CASE s.log WHEN 'wal' THEN (SELECT w.received_at_ms FROM wal w WHERE w.seq > p.after ORDER BY w.seq LIMIT 1)"
                + "   ELSE (SELECT o.created_at_ms FROM outbox o WHERE o.seq > p.after ORDER BY o.seq LIMIT 1) END)"
                + " FROM sink s JOIN ledger l ON l.sink = s.name LEFT JOIN (SELECT r.sink, min(r.acked_seq) AS after FROM sink_range r"
                + "   WHERE r.last_seq IS NULL OR r.acked_seq < r.last_seq GROUP BY r.sink) p ON p.sink = s.name ORDER BY s.name",
                row -> new SinkStatus(row.getString(1), row.getInt(2) == 1, row.getInt(2) == 1 || installed.contains(row.getString(1)),
                        row.getString(3), row.getString(4), row.getLong(5), row.getLong(6), row.getString(7), row.getLong(8), row.getLong(9),
                        row.getLong(10), row.getLong(11), row.getLong(12), row.getLong(13), text(row.getString(14)),
                        row.getLong(15) == 0 ? 0 : Math.max(1, now - row.getLong(15)))));
    }

    @Override
    public void pause(String sink) {
        write(true, connection -> {
            known(connection, sink);
            return Sql.update(connection, "UPDATE sink SET state = 'paused', reason = 'operator', next_attempt_at_ms = NULL WHERE name = ?", sink);
        });
        LOG.info("sink [{}] is paused by an operator", sink);
    }

    @Override
    public void resume(String sink) {
        write(true, connection -> {
            known(connection, sink);
            return Sql.update(connection, "UPDATE sink SET state = 'running', reason = NULL, attempts = 0, next_attempt_at_ms = NULL WHERE name = ?", sink);
        });
        LOG.info("sink [{}] is resumed by an operator", sink);
        parts.wake(sink);
    }

    @Override
    public Change reset(String sink, String to, boolean dryRun) {
        refuseInternal(sink, "reset");
        long newest = read(connection -> Replay.newest(connection, "wal"));
        boolean now = to.equals("now");
        boolean oldest = to.equals("oldest");
        long seq = now ? Long.MAX_VALUE : oldest ? Math.max(1L, read(connection -> Sql.number(connection, "SELECT min(seq) FROM wal"))) : number(to, "to", "oldest, now or a sequence of the log (wal:status shows its ends)");
        if (!now && seq > newest + 1) {
            throw new IllegalArgumentException("to [" + to + "] is behind the end of the log, which is at " + newest + ": use now");
        }
        return again(sink, seq, now ? 0 : newest, dryRun, oldest ? 1 : seq);
    }

    @Override
    public Change remove(String sink, boolean dryRun) {
        refuseInternal(sink, "removed");
        if (parts.installed().contains(sink)) {
            throw new IllegalStateException("sink [" + sink + "] has a route that is installed and would come back at once: "
                    + "first feature:uninstall caravan-sink-" + sink + " or take its file out of deploy/");
        }
        Change change = write(!dryRun, connection -> {
            long[] counts = Sql.rows(connection, "SELECT backlog, dead FROM ledger WHERE sink = ?", row -> new long[] {row.getLong(1), row.getLong(2)}, sink).get(0);
            for (String table : new String[] {"sink_range", "dead_letter", "discarded", "discarded_range"}) {
                Sql.update(connection, "DELETE FROM " + table + " WHERE sink = ?", sink);
            }
            Sql.update(connection, "DELETE FROM sink WHERE name = ?", sink);
            return new Change(sink, 0, 0, counts[0], 0, 0, false,
                    "its backlog of " + counts[0] + " rows and " + counts[1] + " dead letters are forgotten");
        });
        done(dryRun, "sink [{}] is removed by an operator: {}", sink, change.note());
        if (!dryRun) {
            parts.wake(sink);
        }
        return change;
    }

    @Override
    public Change replay(String sink, long firstSeq, long lastSeq, boolean dryRun) {
        refuseInternal(sink, "replayed to");
        long newest = read(connection -> Replay.newest(connection, "wal"));
        if (firstSeq < 1 || firstSeq > lastSeq) {
            throw new IllegalArgumentException("range [" + firstSeq + "-" + lastSeq + "] must be two sequences, the first at least 1 and not above the last");
        }
        if (firstSeq > newest) {
            throw new IllegalArgumentException("range [" + firstSeq + "-" + lastSeq + "] begins behind the end of the log, which is at " + newest
                    + ": wal:status shows what is there");
        }
        return again(sink, firstSeq, lastSeq, dryRun, 0);
    }

    @Override
    public Change replayTime(String sink, long fromMs, long toMs, boolean dryRun) {
        refuseInternal(sink, "replayed to");
        if (toMs > 0 && fromMs >= toMs) {
            throw new IllegalArgumentException("time from [" + Instant.ofEpochMilli(fromMs) + "] must be before to [" + Instant.ofEpochMilli(toMs) + "]");
        }
        return dryRun ? again(sink, fromMs, toMs, true, Task.NONE)
                : tasks.run("wal:replay", sink, "rows", REPLAYED, task -> again(sink, fromMs, toMs, false, task));
    }

    private Change again(String sink, long fromMs, long toMs, boolean dryRun, Task task) {
        read(connection -> {
            known(connection, sink);
            return null;
        });
        List<Span> received = search.received(fromMs, toMs, task);
        if (received.isEmpty()) {
            throw new IllegalArgumentException("nothing that is retained was received from [" + Instant.ofEpochMilli(fromMs) + "] to ["
                    + (toMs > 0 ? Instant.ofEpochMilli(toMs) : "now") + "]: wal:status shows the ends of the log");
        }
        return again(sink, received, dryRun, 0, task);
    }

    /** Replays what exists of a range; with {@code before} &gt; 0 the backlog before that sequence is left out first. */
    private Change again(String sink, long firstSeq, long lastSeq, boolean dryRun, long before) {
        List<Span> wanted = firstSeq > lastSeq ? List.of() : List.of(new Span(firstSeq, lastSeq));
        return dryRun ? again(sink, wanted, true, before, Task.NONE)
                : tasks.run(before > 0 ? "sink:reset" : "wal:replay", sink, "rows", REPLAYED, task -> again(sink, wanted, false, before, task));
    }

    private Change again(String sink, List<Span> all, boolean dryRun, long before, Task task) {
        Change change = write(!dryRun, connection -> {
            known(connection, sink);
            long newest = Replay.newest(connection, "wal");
            List<Span> wanted = Span.meet(all, List.of(new Span(1, Math.max(1, newest))));
            List<String> mended = new ArrayList<>();
            if (before > 0 && Replay.mendRanges(connection, sink, newest)) {
                mended.add("its ranges contradicted each other and are made anew");
            }
            long discarded = before > 0 ? Replay.discardBefore(connection, sink, Math.min(before, newest + 1), newest) : 0;
            List<Span> rows = wanted.isEmpty() ? List.of()
                    : Span.meet(wanted, Replay.retained(connection, wanted.get(0).first(), wanted.get(wanted.size() - 1).last()));
            Replay.Done done = Replay.replay(connection, sink, rows, newest, task);
            long off = before > 0 ? Replay.mendCounts(connection, sink) : 0;
            if (off != 0) {
                mended.add("its ledger was off by " + off + " rows, which count as acked now");
            }
            return new Change(sink, done.rows(), done.ranges(), discarded, done.pending(), Span.count(wanted) - Span.count(rows), done.more(),
                    note(connection, all, wanted, rows, done, mended));
        });
        done(dryRun, "sink [{}]: {} rows are delivered again, {} of its backlog are discarded by an operator", sink, change.rows(), change.discarded());
        if (!dryRun) {
            parts.wake(sink);
        }
        return change;
    }

    /**
     * What of it the operator should know.
     *
     * @param all    what is asked for
     * @param wanted what of it has been written
     */
    private static String note(Connection connection, List<Span> all, List<Span> wanted, List<Span> rows, Replay.Done done, List<String> mended)
            throws SQLException {
        List<String> notes = new ArrayList<>(mended);
        if (!wanted.isEmpty()) {
            List<Span> holes = Span.minus(wanted, rows);
            List<Span> lost = Span.meet(holes, Replay.lost(connection));
            List<Span> deleted = Span.minus(holes, lost);
            if (!deleted.isEmpty()) {
                notes.add(Span.text(deleted) + ": not in the log any more, deleted by retention");
            }
            if (!lost.isEmpty()) {
                notes.add(Span.text(lost) + ": lost when the store was damaged (wal:incidents)");
            }
        }
        if (wanted.size() > 1) {
            notes.add("what was received in that time is in " + wanted.size() + " pieces of the log, as the clock was set in between or rows of one moment"
                    + " are not in order: " + Span.text(wanted));
        }
        List<Span> notYet = Span.minus(all, wanted);
        if (!notYet.isEmpty() && notYet.get(notYet.size() - 1).last() != Long.MAX_VALUE) {
            notes.add(Span.text(notYet) + ": not written yet");
        }
        long notTaken = Span.count(rows) - done.rows() - done.pending();
        if (notTaken > 0 && !done.more()) {
            notes.add(notTaken + " rows are kept only for dead letters of other sinks, from before this sink's start");
        }
        if (done.more()) {
            notes.add("more than " + Replay.MAX_RANGES + " separate pieces: the first ones are taken, give the same command again when they are delivered");
        }
        return String.join("; ", notes);
    }

    // ---- dead letters

    @Override
    public List<DeadCause> deadCauses(DeadFilter filter) {
        return new DeadLetters(checked(filter), false).causes(this::read);
    }

    @Override
    public List<DeadLetter> deadLetters(DeadFilter filter, int limit) {
        return new DeadLetters(checked(filter), false).list(this::read, limit);
    }

    @Override
    public long deadExport(DeadFilter filter, OutputStream out, long limit) throws IOException {
        DeadLetters letters = new DeadLetters(checked(filter), true);
        return tasks.run("dead:export", text(filter.sink()), "records", "the lines that are written are whole; run it again, it starts anew", task -> {
            task.total(Math.min(limit, read(connection -> counted(connection, filter))));
            return letters.export(this::read, out, limit, gatewayId.get(), task);
        });
    }

    /** About how many it chooses, cheaply; 0: that would be as much work as doing it. */
    private static long counted(Connection connection, DeadFilter filter) throws SQLException {
        if (filter.reason() != null || filter.cause() != null || filter.device() != null || filter.fromMs() > 0 || filter.toMs() > 0 || filter.seq() > 0) {
            return 0;
        }
        return Sql.number(connection, "SELECT coalesce(sum(dead), 0) FROM sink WHERE ? IS NULL OR name = ?", filter.sink(), filter.sink());
    }

    private DeadFilter checked(DeadFilter filter) {
        if (filter.sink() != null) {
            read(connection -> known(connection, filter.sink()));
        }
        if (filter.cause() != null && !filter.cause().matches("[0-9a-f]{8}")) {
            throw new IllegalArgumentException("cause [" + filter.cause() + "] must be 8 hexadecimal digits: dead:list shows them");
        }
        return filter;
    }

    @Override
    public Change requeue(DeadFilter filter, boolean dryRun) {
        return eachDead(filter, dryRun, null);
    }

    @Override
    public Change discard(DeadFilter filter, String note, boolean dryRun) {
        if (note == null || note.isBlank() || note.length() > NOTE_CHARS) {
            throw new IllegalArgumentException("reason [" + text(note) + "] must say why in 1 to " + NOTE_CHARS + " characters: it is kept with each record");
        }
        return eachDead(filter, dryRun, note);
    }

    /** @param note null: requeue, else discard */
    private Change eachDead(DeadFilter filter, boolean dryRun, String note) {
        DeadLetters letters = new DeadLetters(checked(filter), false);
        if (note == null && filter.sink() != null) {
            refuseInternal(filter.sink(), "requeued to");
        }
        if (dryRun) {
            return eachDead(filter, true, note, letters, Task.NONE);
        }
        return tasks.run(note == null ? "dead:requeue" : "dead:discard", text(filter.sink()), "records", "these stay "
                + (note == null ? "requeued, each once" : "discarded") + ", the others are dead letters as before; run it again, it goes on", task -> {
                    task.total(read(connection -> counted(connection, filter)));
                    return eachDead(filter, false, note, letters, task);
                });
    }

    private Change eachDead(DeadFilter filter, boolean dryRun, String note, DeadLetters letters, Task task) {
        Tally tally = new Tally();
        try {
            eachPage(dryRun, note, letters, task, tally);
        } finally {
            // Also those of a work that was cancelled or failed: they are in the backlog.
            if (!dryRun && note == null) {
                tally.sinks.forEach(parts::wake);
            }
        }
        return tally(filter, dryRun, note, tally);
    }

    private void eachPage(boolean dryRun, String note, DeadLetters letters, Task task, Tally tally) {
        // A page is a transaction of its own: a million dead letters must not hold up who appends.
        do {
            if (dryRun) {
                tally.after = read(connection -> page(connection, letters, tally, note, true));
            } else {
                tally.after = write(true, connection -> page(connection, letters, tally, note, false));
                task.progress(tally.looked);
            }
        } while (tally.after != null && tally.ranges < Replay.MAX_RANGES);
    }

    private static Change tally(DeadFilter filter, boolean dryRun, String note, Tally tally) {
        boolean more = tally.after != null;
        List<String> notes = new ArrayList<>();
        if (tally.gone > 0) {
            notes.add(tally.gone + " have no row any more and cannot be delivered: dead:discard them");
        }
        if (tally.internal > 0) {
            notes.add(tally.internal + " belong to parts of the gateway, which would count them twice: dead:discard them");
        }
        if (more) {
            notes.add("more than " + Replay.MAX_RANGES + " separate pieces: give the same command again when these are delivered");
        }
        done(dryRun, "{} dead letters of {} are {} by an operator", tally.rows, tally.sinks, note == null ? "requeued" : "discarded (" + note + ")");
        return new Change(filter.sink(), tally.rows, tally.ranges, 0, tally.pending, tally.gone, more, String.join("; ", notes));
    }

    private static final class Tally {
        final Set<String> sinks = new java.util.TreeSet<>();
        DeadLetter after;
        long looked;
        long rows;
        int ranges;
        long gone;
        long pending;
        long internal;
    }

    private DeadLetter page(Connection connection, DeadLetters letters, Tally tally, String note, boolean dryRun) throws SQLException {
        Map<String, List<Long>> found = new LinkedHashMap<>();
        long[] gone = new long[1];
        DeadLetter last = letters.page(connection, tally.after, DeadLetters.PAGE, (letter, row) -> {
            tally.looked++;
            if (note == null && letter.messageKey() == null) {
                gone[0]++;
            } else {
                found.computeIfAbsent(letter.sink(), sink -> new ArrayList<>()).add(letter.seq());
            }
        });
        tally.gone += gone[0];
        for (Map.Entry<String, List<Long>> entry : found.entrySet()) {
            String sink = entry.getKey();
            if (note == null && known(connection, sink).internal()) {
                tally.internal += entry.getValue().size();
                continue;
            }
            List<Span> runs = Span.runs(entry.getValue());
            if (note == null) {
                List<Span> pending = Span.meet(runs, Replay.pending(connection, sink, Replay.newest(connection, "wal")));
                tally.pending += Span.count(pending);
                runs = Span.minus(runs, pending);
            }
            tally.rows += Span.count(runs);
            tally.ranges += note == null ? runs.size() : 0;
            tally.sinks.add(sink);
            if (dryRun) {
                continue;
            }
            for (Span run : runs) {
                Sql.update(connection, "UPDATE dead_letter SET state = ?, note = ? WHERE sink = ? AND seq BETWEEN ? AND ? AND state = 'dead'",
                        note == null ? "requeued" : "discarded", note, sink, run.first(), run.last());
            }
            Sql.update(connection, "UPDATE sink SET dead = dead - ? WHERE name = ?", Span.count(runs), sink);
            if (note == null) {
                Replay.enqueue(connection, sink, runs, "requeue");
            } else {
                Replay.discarded(connection, sink, "operator", Span.count(runs));
            }
        }
        return last;
    }

    // ---- the log

    @Override
    public LogStatus status() {
        return read(connection -> {
            long oldest = Sql.number(connection, "SELECT min(seq) FROM wal");
            long newest = Replay.newest(connection, "wal");
            long from = Replay.retainedFrom(connection);
            String logId = Sql.rows(connection, "SELECT log_id FROM meta", row -> row.getString(1)).get(0);
            long lost = Span.count(Span.meet(Replay.lost(connection), List.of(new Span(from, Math.max(from, newest)))));
            long below = oldest == 0 || oldest >= from ? 0 : Sql.number(connection, "SELECT count(*) FROM wal WHERE seq < ?", from);
            long free = 0;
            long size = 0;
            try {
                FileStore disk = Files.getFileStore(file);
                free = disk.getUsableSpace();
                size = disk.getTotalSpace();
            } catch (IOException e) {
                LOG.debug("the disk of {} does not tell its size", file, e);
            }
            return new LogStatus(wal.state().name(), text(wal.reason()), file.toString(), logId, Database.size(file),
                    Database.size(file.resolveSibling(file.getFileName() + "-wal")), free, size, oldest == 0 ? 0 : newest - from + 1 - lost + below, oldest,
                    newest, received(connection, oldest), received(connection, newest), wal.queued(),
                    Sql.number(connection, "SELECT seq FROM sqlite_sequence WHERE name = 'rejected'"),
                    Sql.number(connection, "SELECT count(*) FROM incident WHERE acknowledged_at_ms IS NULL"));
        });
    }

    private static long received(Connection connection, long seq) throws SQLException {
        return Sql.number(connection, "SELECT received_at_ms FROM wal WHERE seq = ?", seq);
    }

    @Override
    public List<LedgerRow> ledger() {
        return read(connection -> Sql.rows(connection, "SELECT l.sink, l.log, l.internal, l.appended, l.acked, l.dead, l.discarded, " + BY_REASON
                + ", l.inflight, l.backlog, l.unaccounted FROM ledger l ORDER BY l.sink",
                row -> new LedgerRow(row.getString(1), row.getString(2), row.getInt(3) == 1, row.getLong(4), row.getLong(5), row.getLong(6),
                        row.getLong(7), text(row.getString(8)), row.getLong(9), row.getLong(10), row.getLong(11))));
    }

    @Override
    public List<Discrepancy> discrepancies(boolean deep) {
        return new LedgerCheck(this::read).run(deep);
    }

    @Override
    public Message peek(String what, boolean scan) {
        return search.find(what.strip(), scan);
    }

    @Override
    public Verification verify(boolean whole) {
        try {
            return tasks.run("wal:verify", "", "rows", "nothing was changed, and what was not read may be damaged; run it again, it starts anew",
                    task -> parts.verify(whole, task));
        } catch (Exception e) {
            throw failed("wal:verify", e);
        }
    }

    @Override
    public String compact() {
        try {
            return tasks.run("wal:compact", "", "rows and pages",
                    "what is deleted is deleted, the rest follows bit by bit by itself; run it again, it goes on at once", parts::compact);
        } catch (Exception e) {
            throw failed("wal:compact", e);
        }
    }

    private RuntimeException failed(String what, Exception e) {
        return e instanceof RuntimeException known ? known : new IllegalStateException(what + ": " + StorageError.describe(e, file), e);
    }

    @Override
    public List<Incident> incidents() {
        return read(connection -> Sql.rows(connection, "SELECT id, kind, at_ms, file, salvaged_rows, lost_rows, detail, acknowledged_at_ms, acknowledged_by"
                + " FROM incident ORDER BY id DESC", row -> new Incident(row.getLong(1), row.getString(2), row.getLong(3), row.getString(4),
                        row.getLong(5), row.getLong(6), row.getString(7), row.getLong(8), row.getString(9))));
    }

    @Override
    public int acknowledge(String by) {
        if (by == null || by.isBlank() || by.length() > 100) {
            throw new IllegalArgumentException("by [" + text(by) + "] must name who acknowledges in 1 to 100 characters");
        }
        try {
            return parts.acknowledge(by);
        } catch (Exception e) {
            throw failed("wal:acknowledge", e);
        }
    }

    // ---- what is wrong

    @Override
    public List<Finding> diagnose() {
        List<Finding> findings = new ArrayList<>();
        LogStatus status = status();
        if (wal.state() != WalState.DURABLE) {
            findings.add(new Finding(wal.state() == WalState.REFUSING ? "error" : "warning", "wal", status.state() + ": " + status.reason(),
                    "wal:status shows sizes and free space"));
        }
        for (Incident incident : incidents()) {
            if (incident.acknowledgedAtMs() == 0) {
                findings.add(new Finding("error", "incident " + incident.id(), incident.kind() + ", " + incident.lostRows() + " rows lost: " + incident.detail(),
                        "wal:incidents, wal:verify, look after the disk; then wal:acknowledge"));
            }
        }
        for (Discrepancy d : discrepancies(false)) {
            findings.add(new Finding("error", "ledger of " + d.sink(), (d.firstSeq() == 0 ? "" : new Span(d.firstSeq(), d.lastSeq()) + ": ") + d.what(),
                    "wal:ledger --deep, then gateway:bundle and report it: this is a defect"));
        }
        for (SinkStatus sink : sinks()) {
            sink(sink, findings);
        }
        findings.sort((a, b) -> a.severity().compareTo(b.severity()));
        return findings;
    }

    private static void sink(SinkStatus sink, List<Finding> findings) {
        String subject = "sink " + sink.name();
        String behind = sink.backlog() + " rows behind, the oldest since " + sink.unackedAgeMs() / 1_000 + " s";
        if (!sink.installed()) {
            findings.add(new Finding("warning", subject, "its route is not installed, and its rows are kept for it: " + behind,
                    "feature:install caravan-sink-" + sink.name() + ", or sink:remove " + sink.name()));
        } else if (sink.state().equals("paused")) {
            findings.add(new Finding("warning", subject, "paused; " + behind, "sink:resume " + sink.name()));
        } else if (sink.state().equals("failed") || sink.attempts() > 0) {
            findings.add(new Finding(sink.state().equals("failed") ? "error" : "warning", subject, sink.state() + " after " + sink.attempts() + " attempts, "
                    + text(sink.reason()) + ": " + text(sink.lastError()) + "; " + behind, advice(sink)));
        }
        if (sink.dead() > 0) {
            findings.add(new Finding("warning", subject, sink.dead() + " dead letters", "dead:list --sink " + sink.name()
                    + ", then dead:requeue or dead:discard"));
        }
    }

    private static String advice(SinkStatus sink) {
        switch (text(sink.reason())) {
            case "unauthorized":
                return "mend its credentials or rights; it is probed and goes on by itself, at once with sink:resume " + sink.name();
            case "not_found":
                return "create the bucket, topic or path it names, or mend its name; it goes on by itself, at once with sink:resume " + sink.name();
            case "misconfigured":
                return "mend its configuration (route:show sink-" + sink.name() + "), then sink:resume " + sink.name();
            case "throttled":
                return "nothing, it waits as it was asked to";
            case "unavailable":
            case "timeout":
            case "server_error":
                return "look after the system it delivers to and the way there; it goes on by itself, at once with sink:resume " + sink.name();
            default:
                return "look for [" + sink.name() + "] in the log; it is tried again by itself, at once with sink:resume " + sink.name();
        }
    }

    // ---- small things

    private void refuseInternal(String sink, String what) {
        if (read(connection -> known(connection, sink)).internal()) {
            throw new IllegalArgumentException("sink [" + sink + "] is a part of the gateway and cannot be " + what
                    + (sink.equals("uplink") ? ": the cloud says what it has of the outbox, and gets the rest" : ": it would count rows twice"));
        }
    }

    private static Known known(Connection connection, String sink) throws SQLException {
        List<Known> found = Sql.rows(connection, "SELECT internal, log, state FROM sink WHERE name = ?",
                row -> new Known(row.getInt(1) == 1, row.getString(2), row.getString(3)), sink);
        if (found.isEmpty()) {
            List<String> names = Sql.rows(connection, "SELECT name FROM sink ORDER BY name", row -> row.getString(1));
            throw new IllegalArgumentException("there is no sink [" + sink + "]: known are " + names.stream().collect(Collectors.joining(", ")));
        }
        return found.get(0);
    }

    static long number(String text, String what, String rule) {
        try {
            long number = Long.parseLong(text);
            if (number >= 1) {
                return number;
            }
        } catch (NumberFormatException e) {
            LOG.trace("not a number", e);
        }
        throw new IllegalArgumentException(what + " [" + text + "] must be " + rule);
    }

    private static void done(boolean dryRun, String message, Object... arguments) {
        if (!dryRun) {
            LOG.info(message, arguments);
        }
    }

    private static String text(String value) {
        return value == null ? "" : value;
    }
}
