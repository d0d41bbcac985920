// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Task;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/**
 * Puts rows back into a sink's backlog, and takes rows from it, in the caller's transaction on the writer. Every row is
 * moved from the count it was in to the one it is in then, so that the ledger adds up after each.
 */
final class Replay {
    /** So many ranges a command makes at most: each is claimed as a batch of its own. */
    static final int MAX_RANGES = 5_000;
    private static final int WINDOW = 50_000;

    private Replay() {}

    /** What {@link #replay} did. */
    record Done(long rows, int ranges, long pending, boolean more) { }

    /** The sequences of rows that exist, by looking at all; in windows, so that no read transaction is long. */
    static List<Span> existing(RecoveryTools.Reads reads, long first, long last) {
        List<Span> found = new ArrayList<>();
        long next = first;
        while (next <= last) {
            long from = next;
            long to = Math.min(last, next + WINDOW - 1);
            List<Span> part = reads.read(connection -> window(connection, from, to));
            next = to + 1;
            if (part.isEmpty()) {
                long after = reads.read(connection -> Sql.number(connection, "SELECT seq FROM wal WHERE seq > ? ORDER BY seq LIMIT 1", to));
                next = after == 0 ? last + 1 : after;
            } else if (!found.isEmpty() && found.get(found.size() - 1).last() == part.get(0).first() - 1) {
                Span joined = found.remove(found.size() - 1);
                found.add(new Span(joined.first(), part.get(0).last()));
                found.addAll(part.subList(1, part.size()));
            } else {
                found.addAll(part);
            }
        }
        return found;
    }

    private static List<Span> window(Connection connection, long from, long to) throws SQLException {
        long there = Sql.number(connection, "SELECT count(*) FROM wal WHERE seq BETWEEN ? AND ?", from, to);
        if (there == 0) {
            return List.of();
        }
        return there == to - from + 1 ? List.of(new Span(from, to)) : Span.runs(
                Sql.rows(connection, "SELECT seq FROM wal WHERE seq BETWEEN ? AND ? ORDER BY seq", row -> row.getLong(1), from, to));
    }

    /** Last sequence ever given in a sink's log. */
    static long newest(Connection connection, String log) throws SQLException {
        return Sql.number(connection, "SELECT seq FROM sqlite_sequence WHERE name = ?", log);
    }

    /** What the sink has still to get, its in-flight rows included. */
    static List<Span> pending(Connection connection, String sink, long newest) throws SQLException {
        return Sql.rows(connection, "SELECT acked_seq + 1, coalesce(last_seq, ?2) FROM sink_range "
                + "WHERE sink = ?1 AND acked_seq < coalesce(last_seq, ?2) ORDER BY first_seq",
                row -> new Span(row.getLong(1), row.getLong(2)), sink, newest);
    }

    /**
     * Adds rows to the backlog.
     *
     * @param rows that exist, up to {@code newest}
     */
    static Done replay(Connection connection, String sink, List<Span> rows, long newest, Task task) throws SQLException {
        List<Span> todo = Span.minus(rows, pending(connection, sink, newest));
        long pending = Span.count(rows) - Span.count(todo);
        boolean more = todo.size() > MAX_RANGES;
        if (more) {
            todo = todo.subList(0, MAX_RANGES);
        }
        todo = extend(connection, sink, todo);
        long n = 0;
        long wasDead = 0;
        long wasDiscarded = 0;
        task.total(Span.count(todo));
        for (Span span : todo) {
            task.progress(n);
            n += span.count();
            wasDead += Sql.update(connection, "UPDATE dead_letter SET state = 'requeued' WHERE sink = ? AND seq BETWEEN ? AND ? AND state = 'dead'",
                    sink, span.first(), span.last());
            wasDiscarded += Sql.update(connection,
                    "UPDATE dead_letter SET state = 'requeued' WHERE sink = ? AND seq BETWEEN ? AND ? AND state = 'discarded'",
                    sink, span.first(), span.last());
        }
        wasDiscarded += takeBack(connection, sink, todo);
        Sql.update(connection, "UPDATE sink SET delivered = delivered - ?, dead = dead - ? WHERE name = ?",
                n - wasDead - wasDiscarded, wasDead, sink);
        discarded(connection, sink, "operator", -wasDiscarded);
        enqueue(connection, sink, todo, "replay");
        task.progress(n);
        return new Done(n, todo.size(), pending, more);
    }

    /**
     * Makes the sink responsible for rows from before its start. What lies between them and its start and was not asked for
     * is counted too, as lost or as left out, because the ledger knows only one start.
     *
     * @return the rows it is responsible for
     */
    private static List<Span> extend(Connection connection, String sink, List<Span> todo) throws SQLException {
        long start = Sql.number(connection, "SELECT start_seq FROM sink WHERE name = ?", sink);
        // Below the retained part are single rows that are dead letters of other sinks.
        List<Span> able = Span.meet(todo, List.of(new Span(Math.min(start, retainedFrom(connection)), Long.MAX_VALUE)));
        if (able.isEmpty() || able.get(0).first() >= start) {
            return able;
        }
        long from = able.get(0).first();
        List<Span> before = List.of(new Span(from, start - 1));
        List<Span> lost = Span.meet(before, lost(connection));
        List<Span> leftOut = Span.minus(Span.minus(before, able), lost);
        leaveOut(connection, sink, leftOut);
        discarded(connection, sink, "lost", Span.count(lost));
        // What comes into the backlog is counted as delivered for the moment, like everything else that is replayed.
        Sql.update(connection, "UPDATE sink SET start_seq = ?, delivered = delivered + ? WHERE name = ?", from,
                Span.count(Span.meet(before, able)), sink);
        return able;
    }

    /** Every row from here on is in the log unless it is in lost_range; before it are only dead letters' rows. */
    static long retainedFrom(Connection connection) throws SQLException {
        return Sql.number(connection, "SELECT retained_from_seq FROM meta");
    }

    /** The sequences of rows that exist, as it is written down: {@link #retainedFrom} and lost_range. */
    static List<Span> retained(Connection connection, long first, long last) throws SQLException {
        long from = retainedFrom(connection);
        List<Span> rows = new ArrayList<>(first >= from ? List.of()
                : Span.runs(Sql.rows(connection, "SELECT seq FROM wal WHERE seq BETWEEN ? AND ? ORDER BY seq", row -> row.getLong(1), first, Math.min(last, from - 1))));
        if (last >= from) {
            rows.addAll(Span.minus(List.of(new Span(Math.max(first, from), last)), lost(connection)));
        }
        return rows;
    }

    static List<Span> lost(Connection connection) throws SQLException {
        return Sql.rows(connection, "SELECT first_seq, last_seq FROM lost_range ORDER BY first_seq", row -> new Span(row.getLong(1), row.getLong(2)));
    }

    /** Rows that were left out and that come back: their ranges are cut out. @return how many */
    private static long takeBack(Connection connection, String sink, List<Span> todo) throws SQLException {
        List<Span> out = leftOut(connection, sink);
        List<Span> back = Span.meet(out, todo);
        if (back.isEmpty()) {
            return 0;
        }
        Sql.update(connection, "DELETE FROM discarded_range WHERE sink = ?", sink);
        for (Span left : Span.minus(out, back)) {
            Sql.update(connection, "INSERT INTO discarded_range (sink, first_seq, last_seq) VALUES (?, ?, ?)", sink, left.first(), left.last());
        }
        return Span.count(back);
    }

    static List<Span> leftOut(Connection connection, String sink) throws SQLException {
        return Sql.rows(connection, "SELECT first_seq, last_seq FROM discarded_range WHERE sink = ? ORDER BY first_seq",
                row -> new Span(row.getLong(1), row.getLong(2)), sink);
    }

    /** Takes everything before {@code seq} from the backlog, counted. @return how many */
    static long discardBefore(Connection connection, String sink, long seq, long newest) throws SQLException {
        List<Span> gone = Span.meet(pending(connection, sink, newest), List.of(new Span(1, seq - 1)));
        leaveOut(connection, sink, gone);
        Sql.update(connection, "DELETE FROM sink_range WHERE sink = ? AND last_seq < ?", sink, seq);
        Sql.update(connection, "UPDATE sink_range SET first_seq = ?2, acked_seq = ?2 - 1, inflight_seq = ?2 - 1, planned_seq = 0 "
                + "WHERE sink = ?1 AND first_seq <= ?2 AND acked_seq < ?2 - 1", sink, seq);
        return Span.count(gone);
    }

    private static void leaveOut(Connection connection, String sink, List<Span> spans) throws SQLException {
        for (Span span : spans) {
            Sql.update(connection, "INSERT INTO discarded_range (sink, first_seq, last_seq) VALUES (?, ?, ?)", sink, span.first(), span.last());
        }
        discarded(connection, sink, "operator", Span.count(spans));
    }

    /**
     * Makes ranges that contradict each other, or have no open end, into such that do not, with the same rows pending.
     *
     * @return whether something was wrong
     */
    static boolean mendRanges(Connection connection, String sink, long newest) throws SQLException {
        long wrong = Sql.number(connection, "SELECT count(*) FROM sink_range r WHERE r.sink = ?1 AND (r.first_seq < 1 OR r.acked_seq < r.first_seq - 1"
                + " OR r.inflight_seq < r.acked_seq OR r.last_seq < r.acked_seq OR r.acked_seq > ?2 OR r.last_seq > ?2"
                + " OR EXISTS (SELECT 1 FROM sink_range o WHERE o.sink = r.sink AND o.first_seq > r.first_seq"
                + " AND (r.last_seq IS NULL OR r.last_seq >= o.first_seq)))", sink, newest);
        long open = Sql.number(connection, "SELECT count(*) FROM sink_range WHERE sink = ? AND last_seq IS NULL", sink);
        if (wrong == 0 && open == 1) {
            return false;
        }
        List<Span> pending = new ArrayList<>();
        for (Span span : pending(connection, sink, newest)) {
            pending.addAll(Span.minus(Span.meet(List.of(span), List.of(new Span(1, Math.max(1, newest)))), pending));
            pending.sort(Comparator.comparingLong(Span::first));
        }
        Sql.update(connection, "DELETE FROM sink_range WHERE sink = ?", sink);
        Sql.update(connection, "INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq) VALUES (?1, ?2 + 1, ?2, ?2)", sink, newest);
        enqueue(connection, sink, pending, "replay");
        return true;
    }

    /** Counts dead letters anew and takes what is not accounted for as acked. @return by how much the ledger was off */
    static long mendCounts(Connection connection, String sink) throws SQLException {
        Sql.update(connection, "UPDATE sink SET dead = (SELECT count(*) FROM dead_letter d WHERE d.sink = sink.name AND d.state = 'dead') WHERE name = ?", sink);
        long off = Sql.number(connection, "SELECT unaccounted FROM ledger WHERE sink = ?", sink);
        if (off != 0) {
            Sql.update(connection, "UPDATE sink SET delivered = delivered + ? WHERE name = ?", off, sink);
        }
        return off;
    }

    static void discarded(Connection connection, String sink, String reason, long rows) throws SQLException {
        if (rows != 0) {
            Sql.update(connection, "INSERT INTO discarded (sink, reason, row_count) VALUES (?, ?, ?) "
                    + "ON CONFLICT (sink, reason) DO UPDATE SET row_count = row_count + excluded.row_count", sink, reason, rows);
            Sql.update(connection, "DELETE FROM discarded WHERE sink = ? AND row_count = 0", sink);
        }
    }

    /** Makes ranges of rows that are in no backlog; the counts are the caller's business. */
    static void enqueue(Connection connection, String sink, List<Span> todo, String origin) throws SQLException {
        record Acked(long key, Span span) { }
        List<Acked> acked = Sql.rows(connection, "SELECT first_seq, acked_seq FROM sink_range WHERE sink = ? AND acked_seq >= first_seq ORDER BY first_seq",
                row -> new Acked(row.getLong(1), new Span(row.getLong(1), row.getLong(2))), sink);
        // Ranges must not overlap: one whose acked part holds a row that comes back begins behind that part from now on.
        for (Acked range : acked) {
            if (!Span.meet(List.of(range.span()), todo).isEmpty()) {
                Sql.update(connection, "DELETE FROM sink_range WHERE sink = ? AND first_seq = ? AND acked_seq >= last_seq", sink, range.key());
                Sql.update(connection, "UPDATE sink_range SET first_seq = acked_seq + 1, inflight_seq = acked_seq WHERE sink = ? AND first_seq = ?",
                        sink, range.key());
            }
        }
        for (Span span : todo) {
            Sql.update(connection, "INSERT INTO sink_range (sink, first_seq, last_seq, lane, acked_seq, inflight_seq, origin) "
                    + "VALUES (?1, ?2, ?3, 'historical', ?2 - 1, ?2 - 1, ?4)", sink, span.first(), span.last(), origin);
        }
    }
}
