// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Recovery.Discrepancy;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;

/**
 * Names sequences that the ledger does not account for. The ledger counts, so a wrong sum alone names nothing; what does
 * is the ranges, dead letters and lost ranges behind the counts, compared with each other and with the rows there are.
 */
final class LedgerCheck {
    private static final int MOST = 100;

    private final RecoveryTools.Reads reads;
    private final List<Discrepancy> found = new ArrayList<>();

    LedgerCheck(RecoveryTools.Reads reads) {
        this.reads = reads;
    }

    private record Count(String sink, String log, long start, long newest, long unaccounted, long acked, long deadCounted, long deadThere) { }

    List<Discrepancy> run(boolean deep) {
        List<Count> counts = reads.read(connection -> Sql.rows(connection, "SELECT l.sink, l.log, s.start_seq,"
                + " coalesce((SELECT q.seq FROM sqlite_sequence q WHERE q.name = l.log), 0), l.unaccounted, l.acked, l.dead,"
                + " (SELECT count(*) FROM dead_letter d WHERE d.sink = l.sink AND d.state = 'dead') FROM ledger l JOIN sink s ON s.name = l.sink ORDER BY l.sink",
                row -> new Count(row.getString(1), row.getString(2), row.getLong(3), row.getLong(4), row.getLong(5), row.getLong(6), row.getLong(7),
                        row.getLong(8))));
        List<Span> holes = null;
        for (Count count : counts) {
            int before = found.size();
            reads.read(connection -> contradictions(connection, count));
            if (deep || count.unaccounted() != 0) {
                if (count.log().equals("wal")) {
                    holes = holes == null ? holes() : holes;
                    holes(count.sink(), count.start(), holes);
                }
                if (count.unaccounted() != 0 && found.size() == before) {
                    reads.read(connection -> behindTheCursor(connection, count));
                }
            }
        }
        return found;
    }

    private Void contradictions(Connection connection, Count count) throws SQLException {
        String sink = count.sink();
        if (count.deadCounted() != count.deadThere()) {
            add(sink, 0, 0, "counted are " + count.deadCounted() + " dead letters, kept are " + count.deadThere());
        }
        if (count.acked() < 0) {
            add(sink, 0, 0, "fewer than no rows are counted as acked: " + count.acked());
        }
        List<Span> ranges = Sql.rows(connection, "SELECT first_seq, coalesce(last_seq, max(first_seq, ?2)) FROM sink_range WHERE sink = ?1 ORDER BY first_seq",
                row -> new Span(row.getLong(1), row.getLong(2)), sink, count.newest());
        for (int i = 1; i < ranges.size(); i++) {
            if (ranges.get(i).first() <= ranges.get(i - 1).last()) {
                add(sink, ranges.get(i).first(), Math.min(ranges.get(i).last(), ranges.get(i - 1).last()), "in two ranges: counted twice in the backlog");
            }
        }
        List<Span> pending = Replay.pending(connection, sink, count.newest());
        for (Span span : pending) {
            for (long seq : Sql.rows(connection, "SELECT seq FROM dead_letter WHERE sink = ? AND seq BETWEEN ? AND ? AND state <> 'requeued' LIMIT ?",
                    row -> row.getLong(1), sink, span.first(), span.last(), MOST)) {
                add(sink, seq, seq, "in the backlog and a dead letter: counted twice");
            }
        }
        for (Span twice : Span.meet(pending, Replay.leftOut(connection, sink))) {
            add(sink, twice.first(), twice.last(), "in the backlog and discarded: counted twice");
        }
        if (count.log().equals("wal")) {
            for (Span gone : Span.runs(Sql.rows(connection, "SELECT d.seq FROM dead_letter d WHERE d.sink = ? AND d.state = 'dead'"
                    + " AND NOT EXISTS (SELECT 1 FROM wal w WHERE w.seq = d.seq) AND NOT EXISTS"
                    + " (SELECT 1 FROM lost_range l WHERE d.seq BETWEEN l.first_seq AND l.last_seq) ORDER BY d.seq LIMIT ?",
                    row -> row.getLong(1), sink, MOST))) {
                add(sink, gone.first(), gone.last(), "a dead letter whose row is gone: it cannot be delivered again");
            }
        }
        return null;
    }

    /** Missing rows of the part of the log that should have all, apart from those known as lost. */
    private List<Span> holes() {
        long[] ends = reads.read(connection -> new long[] {Replay.retainedFrom(connection), Replay.newest(connection, "wal")});
        if (ends[0] > ends[1]) {
            return List.of();
        }
        List<Span> missing = Span.minus(List.of(new Span(ends[0], ends[1])), Replay.existing(reads, ends[0], ends[1]));
        List<Span> lost = reads.read(Replay::lost);
        long oldest = reads.read(Replay::retainedFrom); // what retention has deleted meanwhile is no hole
        return Span.meet(Span.minus(missing, lost), List.of(new Span(oldest, Long.MAX_VALUE)));
    }

    private void holes(String sink, long start, List<Span> holes) {
        for (Span hole : Span.meet(holes, List.of(new Span(start, Long.MAX_VALUE)))) {
            add(sink, hole.first(), hole.last(), "not in the log any more, and not known as lost or deleted by retention");
        }
    }

    /** The counts do not add up and nothing contradicts itself: the rows that could be meant. */
    private Void behindTheCursor(Connection connection, Count count) throws SQLException {
        List<Span> all = count.newest() < count.start() ? List.of() : List.of(new Span(count.start(), count.newest()));
        List<Span> rest = Span.minus(Span.minus(all, Replay.pending(connection, count.sink(), count.newest())), Replay.leftOut(connection, count.sink()));
        if (rest.isEmpty()) {
            add(count.sink(), 0, 0, count.unaccounted() + " more than there are rows");
        }
        for (Span span : rest) {
            add(count.sink(), span.first(), span.last(), Math.abs(count.unaccounted()) + " of these " + (count.unaccounted() > 0
                    ? "are behind the cursor and were not counted as acked, dead or discarded" : "are counted twice as acked, dead or discarded"));
        }
        return null;
    }

    private void add(String sink, long first, long last, String what) {
        if (found.size() < MOST) {
            found.add(new Discrepancy(sink, first, last, what));
        }
    }
}
