// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class DensityTest {
    private static final long MS = 1_000_000;

    private long now;
    private final Density density = new Density(2_000, () -> now);

    private void every(long ms, int each, int times) {
        for (int i = 0; i < times; i++) {
            now += ms * MS;
            density.add(each);
        }
    }

    @Test
    void fromTheRateOn() {
        every(1, 2, 60);
        assertTrue(density.dense(), "2,000 a second");
    }

    @Test
    void notBelowIt() {
        every(1, 1, 200);
        assertFalse(density.dense(), "1,000 a second: senders that each wait for their acknowledgement");
    }

    @Test
    void aLoneOneAfterAPauseIsNotDense() {
        every(1, 10, 60);
        assertTrue(density.dense(), "before the pause");
        now += 100 * MS;
        assertFalse(density.dense(), "nothing has come for 100 ms");
        density.add(1);
        assertFalse(density.dense(), "one in 100 ms");
    }
}
