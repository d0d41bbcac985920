// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.util.ArrayDeque;
import java.util.function.LongSupplier;

/**
 * The retention's clock, and how old the rows of a table are whose number only grows. The wall clock is read once, at the
 * start; from there on the monotonic one counts, and notes of "the table ended here then" say how old the rows of this
 * run are. A step of the wall clock, which is also in the rows' own times, makes nothing older or younger. Rows of
 * earlier runs are as old as they were at the start, by their own time, plus what has passed since.
 */
final class Ages {
    private static final int NOTES = 1_000;

    /** Shared by all tables. */
    static final class Clock {
        private final LongSupplier nanos;
        private final long startNanos;
        private final long startWall;

        /**
         * @param nanos monotonic
         * @param wall  wall clock in milliseconds, asked once
         */
        Clock(LongSupplier nanos, LongSupplier wall) {
            this.nanos = nanos;
            startNanos = nanos.getAsLong();
            startWall = wall.getAsLong();
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
