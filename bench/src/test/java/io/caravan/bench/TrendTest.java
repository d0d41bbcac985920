// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import org.junit.jupiter.api.Test;

class TrendTest {
    private static final int SAMPLES = 200;
    private final double[] hours = new double[SAMPLES];
    private final double[] values = new double[SAMPLES];

    private Trend line(double perHour, double noise) {
        Random random = new Random(8);
        for (int i = 0; i < SAMPLES; i++) {
            hours[i] = i / 100.0;
            values[i] = 100 + perHour * hours[i] + noise * random.nextGaussian();
        }
        return Trend.of(hours, values);
    }

    @Test
    void findsTheSlopeOfALine() {
        Trend exact = line(7, 0);
        assertEquals(7, exact.perHour(), 1e-9);
        assertEquals(7, exact.lower(), 1e-6);
        assertEquals(200, exact.samples());
        Trend noisy = line(7, 5);
        assertTrue(noisy.lower() < 7 && noisy.upper() > 7 && noisy.upper() - noisy.lower() < 5, noisy.toString());
    }

    @Test
    void noiseIsNoLeakAndALeakInNoiseIsOne() {
        assertEquals(Trend.Verdict.FLAT, line(0, 5).against(10));
        assertEquals(Trend.Verdict.GROWS, line(20, 5).against(10));
        // Growing, but not more than is allowed.
        assertEquals(Trend.Verdict.FLAT, line(7, 5).against(10));
        // So much noise that a run of this length cannot tell: neither is said.
        assertEquals(Trend.Verdict.UNSURE, line(12, 200).against(10));
    }

    @Test
    void tooLittleIsNotJudged() {
        assertThrows(IllegalArgumentException.class, () -> Trend.of(new double[9], new double[9]));
        assertThrows(IllegalArgumentException.class, () -> Trend.of(new double[20], new double[20]));
        assertThrows(IllegalArgumentException.class, () -> Trend.of(new double[20], new double[19]));
    }
}
