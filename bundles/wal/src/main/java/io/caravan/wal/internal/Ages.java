// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.function.LongSupplier;

/**
 * The retention's clock, and how old the rows of a table are whose number only grows. For these the wall clock is read once,
 * at the start; from there on the monotonic one counts, and notes of "the table ended here then" say how old the rows of this
 * run are. A step of the wall clock, which is also in the rows' own times, makes nothing older or younger. Rows of
 * earlier runs are as old as they were at the start, by their own time, plus what has passed since.
 */
final class Ages {
    private static final int NOTES = 1_000;

    /** Shared by all tables. Not thread-safe but for {@link #elapsedMs} and {@link #now}. */
    static final class Clock {
        /** A step is more than that; a clock is believed when it went so long without one. */
        private static final long STEP_MS = 3_600_000;
        /** More than that are not told apart: the oldest ones count as one. */
        private static final int EPOCHS = 16;

        private final LongSupplier nanos;
        private final LongSupplier wall;
        private final long startNanos;
        private final long startWall;
        /** What the wall clock said between two steps, in order; the last one goes on. */
        private final List<Epoch> epochs = new ArrayList<>();

        /** Elapsed and wall-clock milliseconds of the first and the last look. */
        private static final class Epoch {
            final long began;
            long seen;
            long lowest;
            long highest;
            long newest;

            Epoch(long elapsed, long wall) {
                began = elapsed;
                seen = elapsed;
                lowest = wall;
                highest = wall;
                newest = wall;
            }
        }

        /**
         * @param nanos monotonic
         * @param wall  wall clock in milliseconds
         */
        Clock(LongSupplier nanos, LongSupplier wall) {
            this.nanos = nanos;
            this.wall = wall;
            startNanos = nanos.getAsLong();
            startWall = wall.getAsLong();
            epochs.add(new Epoch(0, startWall));
        }

        /** Reads the wall clock; to be called every few seconds, or a step there and back is not seen. */
        void look() {
            long elapsed = elapsedMs();
            long now = wall.getAsLong();
            Epoch last = epochs.get(epochs.size() - 1);
            long passed = elapsed - last.seen;
            if (Math.abs(now - (last.newest + passed)) > STEP_MS) {
                // Nobody saw when in between: as if it had been at either end.
                last.highest = Math.max(last.highest, last.newest + passed);
                last.seen = elapsed;
                Epoch next = new Epoch(elapsed, now);
                next.lowest -= passed;
                epochs.add(next);
                if (epochs.size() > EPOCHS) {
                    Epoch oldest = epochs.remove(0);
                    epochs.get(0).lowest = Math.min(epochs.get(0).lowest, oldest.lowest);
                    epochs.get(0).highest = Math.max(epochs.get(0).highest, oldest.highest);
                }
                return;
            }
            last.seen = elapsed;
            last.newest = now;
            last.lowest = Math.min(last.lowest, now);
            last.highest = Math.max(last.highest, now);
        }

        /**
         * What the wall clock says, for tables whose rows know only by it when they were written; 0 while it is not to be believed:
         * the first hour of a run and an hour after a step. A clock that is set a while after the start, back or ahead, forgets
         * nothing before its time by what it said until then; one that was set keeps nothing for ever.
         */
        long believed() {
            look();
            Epoch last = epochs.get(epochs.size() - 1);
            return last.seen - last.began >= STEP_MS ? last.newest : 0;
        }

        /**
         * Whether a time of this clock may be one that was written less than so long ago, when the clock said something else.
         *
         * @param column with the time, wall-clock milliseconds
         * @return condition in SQL
         */
        String maybeYoung(String column, long ageMs) {
            long due = elapsedMs() - ageMs;
            StringBuilder sql = new StringBuilder("0");
            for (Epoch epoch : epochs.subList(0, epochs.size() - 1)) {
                if (epoch.seen > due) {
                    sql.append(" OR ").append(column).append(" BETWEEN ").append(epoch.lowest).append(" AND ").append(epoch.highest);
                }
            }
            return "(" + sql + ")";
        }

        long elapsedMs() {
            return (nanos.getAsLong() - startNanos) / 1_000_000;
        }

        /** As in {@code wal.mono_ms}: of the machine's start, not of this process. */
        long monoMs() {
            return nanos.getAsLong() / 1_000_000;
        }

        /** Wall-clock milliseconds as they would be had nobody set the clock since the start. */
        long now() {
            return startWall + elapsedMs();
        }
    }

    private final Clock clock;
    private final long lastAtStart;
    private final ArrayDeque<long[]> notes = new ArrayDeque<>(); // last number, elapsed ms

    Ages(Clock clock, long lastAtStart) {
        this.clock = clock;
        this.lastAtStart = lastAtStart;
    }

    /** The table ends here now. */
    void note(long last, long ageMs) {
        long elapsed = clock.elapsedMs();
        long[] newest = notes.peekLast();
        if (last > (newest == null ? lastAtStart : newest[0]) && (newest == null || elapsed - newest[1] >= ageMs / NOTES)) {
            notes.add(new long[] {last, elapsed});
        }
    }

    /** Highest number of this run's rows that are surely at least so old; {@link #lastAtStart} or less: none is. */
    long olderThan(long ageMs) {
        long due = clock.elapsedMs() - ageMs;
        long found = 0;
        for (long[] first; (first = notes.peekFirst()) != null && first[1] <= due; ) {
            found = first[0];
            if (notes.size() == 1) {
                break; // the newest one stays: it spaces the next
            }
            notes.poll();
            long[] second = notes.peekFirst();
            if (second[1] > due) {
                notes.addFirst(first);
                break;
            }
        }
        return found;
    }

    /** Last number when this began; rows up to here are of earlier runs. */
    long lastAtStart() {
        return lastAtStart;
    }

    /** Whether a row of an earlier run is so old. One from the future (the clock was wrong) is as old as this run. */
    boolean isOlder(long receivedAtMs, long ageMs) {
        return clock.elapsedMs() >= ageMs || receivedAtMs <= clock.now() - ageMs;
    }
}
