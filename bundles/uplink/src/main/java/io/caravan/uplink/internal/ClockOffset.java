// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import java.util.ArrayDeque;
import java.util.Deque;

/**
 * How far this clock is ahead of the other side's, from questions and their answers: of the last {@value #KEPT} the one with the shortest
 * round trip counts, because the error is at most half of it. A question that was answered late for being queued is so outvoted
 * by one that was not. A step of the own clock is taken into account at once. Not thread-safe.
 */
final class ClockOffset {

    static final int KEPT = 8;
    private static final double MS = 1_000_000.0;

    /** {@code offsetMs}: own clock minus the other one, wrong by at most half of {@code roundTripMs}. */
    record Measured(double offsetMs, double roundTripMs) { }

    /** {@code base}: own clock minus monotonic time, which differs after the own clock was set. */
    private record Sample(double offsetMs, double roundTripMs, double base) { }

    private final Deque<Sample> samples = new ArrayDeque<>();
    private long asked = -1;
    private long askedMs;
    private long askedNanos;

    /** A question leaves now. An older one without an answer does not count any more. */
    void asks(long number, long nowMs, long nowNanos) {
        asked = number;
        askedMs = nowMs;
        askedNanos = nowNanos;
    }

    /**
     * @param receivedMs when the other side had the question, by its clock
     * @param sentMs     when it sent the answer, by its clock
     * @return false: it answers no open question, or with times that cannot be
     */
    boolean answered(long number, long receivedMs, long sentMs, long nowNanos) {
        // Elapsed by the monotonic clock: the wall clock may have been set meanwhile.
        double elapsed = (nowNanos - askedNanos) / MS;
        double roundTrip = elapsed - (sentMs - receivedMs);
        if (number != asked || sentMs < receivedMs || roundTrip < -1) {
            return false;
        }
        asked = -1;
        double offset = ((askedMs - receivedMs) + (askedMs + elapsed - sentMs)) / 2;
        samples.addLast(new Sample(offset, Math.max(0, roundTrip), askedMs - askedNanos / MS));
        if (samples.size() > KEPT) {
            samples.removeFirst();
        }
        return true;
    }

    /** @return null: nothing was answered yet */
    Measured measured(long nowMs, long nowNanos) {
        Sample best = null;
        for (Sample sample : samples) {
            best = best == null || sample.roundTripMs <= best.roundTripMs ? sample : best;
        }
        double base = nowMs - nowNanos / MS;
        // Below 2 ms it is the two clocks' grain.
        return best == null ? null : new Measured(best.offsetMs + (Math.abs(base - best.base) < 2 ? 0 : base - best.base), best.roundTripMs);
    }
}
