// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import org.junit.jupiter.api.Test;

/** On clocks that the test sets: no time passes. */
class ClockOffsetTest {

    private final ClockOffset clock = new ClockOffset();
    private long nanos = 5_000_000_000L;
    private long wall = 1_790_000_000_000L;
    private long number;

    /** The own clock is {@code ahead} of the other one; the way there and the way back take so long, the other side holds the question so long. */
    private boolean exchange(long ahead, long there, long held, long back) {
        clock.asks(++number, wall, nanos);
        long received = wall + there - ahead;
        pass(there + held + back);
        return clock.answered(number, received, received + held, nanos);
    }

    private void pass(long ms) {
        nanos += ms * 1_000_000;
        wall += ms;
    }

    private ClockOffset.Measured measured() {
        return clock.measured(wall, nanos);
    }

    @Test
    void a_symmetric_way_gives_the_offset_and_time_at_the_other_side_does_not_count() {
        assertNull(measured());
        assertTrue(exchange(250, 20, 900, 20));
        assertEquals(250, measured().offsetMs(), 0.01);
        assertEquals(40, measured().roundTripMs(), 0.01);
    }

    @Test
    void the_error_is_never_more_than_half_the_round_trip() {
        Random random = new Random(4711);
        for (int i = 0; i < 2_000; i++) {
            long ahead = random.nextInt(20_000) - 10_000;
            ClockOffset fresh = new ClockOffset();
            long there = random.nextInt(3_000);
            long back = random.nextInt(3_000);
            fresh.asks(1, wall, nanos);
            pass(there + back);
            assertTrue(fresh.answered(1, wall - there - back + there - ahead, wall - there - back + there - ahead, nanos));
            ClockOffset.Measured m = fresh.measured(wall, nanos);
            assertTrue(Math.abs(m.offsetMs() - ahead) <= m.roundTripMs() / 2 + 0.01, ahead + " " + m);
        }
    }

    /** The negative control: the last one alone would say 1,750. */
    @Test
    void a_slow_exchange_does_not_outvote_a_fast_one() {
        exchange(250, 5, 0, 5);
        exchange(250, 0, 0, 3_000);
        assertEquals(250, measured().offsetMs(), 0.01);
        assertEquals(10, measured().roundTripMs(), 0.01);
        ClockOffset alone = new ClockOffset();
        alone.asks(1, wall, nanos);
        pass(3_000);
        alone.answered(1, wall - 3_000 - 250, wall - 3_000 - 250, nanos);
        assertEquals(1_750, alone.measured(wall, nanos).offsetMs(), 0.01);
    }

    @Test
    void a_step_of_the_own_clock_counts_at_once() {
        exchange(0, 5, 0, 5);
        wall += 60_000;
        assertEquals(60_000, measured().offsetMs(), 0.01);
        exchange(60_000, 1, 0, 1);
        assertEquals(60_000, measured().offsetMs(), 0.01);
        assertEquals(2, measured().roundTripMs(), 0.01);
    }

    @Test
    void what_answers_nothing_or_cannot_be_is_not_taken() {
        clock.asks(1, wall, nanos);
        assertFalse(clock.answered(2, wall, wall, nanos), "another number");
        assertFalse(clock.answered(1, wall, wall - 1, nanos), "sent before it was received");
        assertFalse(clock.answered(1, wall, wall + 500, nanos), "held for longer than it all took");
        assertTrue(clock.answered(1, wall, wall, nanos));
        assertFalse(clock.answered(1, wall, wall, nanos), "twice");
        for (int i = 0; i < 3 * ClockOffset.KEPT; i++) {
            exchange(7, 10 + i, 0, 10 + i);
        }
        assertEquals(2 * (10 + 3 * ClockOffset.KEPT - ClockOffset.KEPT), measured().roundTripMs(), 0.01, "only so many are kept");
    }
}
