// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.util.Arrays;

/**
 * Whether something grows: the least-squares line through samples over time. A line through noise has a slope too, so the judgement is made
 * with the lower end of its 95 % confidence interval: a leak is what grows faster than the bound beyond doubt.
 *
 * @param perHour  slope, units an hour
 * @param lower    lower end of the 95 % interval of the slope
 * @param upper    upper end of it
 * @param mean     mean of the samples
 * @param samples  how many
 */
record Trend(double perHour, double lower, double upper, double mean, int samples) {
    /** Fewer say nothing about noise. */
    static final int MIN_SAMPLES = 10;
    /** Student's quantile for 8 degrees of freedom, that of the fewest samples: with more it is cautious. */
    private static final double T95 = 2.31;

    enum Verdict { FLAT, GROWS, UNSURE }

    /**
     * @param hours  times of the samples
     * @param values samples
     * @throws IllegalArgumentException fewer than {@value #MIN_SAMPLES} samples, or all at one time
     */
    static Trend of(double[] hours, double[] values) {
        int n = hours.length;
        if (n != values.length || n < MIN_SAMPLES) {
            throw new IllegalArgumentException("a trend needs at least " + MIN_SAMPLES + " samples, each with its time; there are [" + n + "]: run longer or sample more often");
        }
        double meanX = Arrays.stream(hours).average().orElseThrow();
        double meanY = Arrays.stream(values).average().orElseThrow();
        double xx = 0;
        double xy = 0;
        for (int i = 0; i < n; i++) {
            xx += (hours[i] - meanX) * (hours[i] - meanX);
            xy += (hours[i] - meanX) * (values[i] - meanY);
        }
        if (xx == 0) {
            throw new IllegalArgumentException("all samples are of one time [" + meanX + " h]: they have no slope");
        }
        double slope = xy / xx;
        double residuals = 0;
        for (int i = 0; i < n; i++) {
            double off = values[i] - meanY - slope * (hours[i] - meanX);
            residuals += off * off;
        }
        double error = T95 * Math.sqrt(residuals / (n - 2) / xx);
        return new Trend(slope, slope - error, slope + error, meanY, n);
    }

    /**
     * @param bound the most that may be added in an hour
     * @return GROWS: beyond doubt faster than the bound; FLAT: beyond doubt slower; UNSURE: the run was too short for its noise
     */
    Verdict against(double bound) {
        return lower > bound ? Verdict.GROWS : upper <= bound ? Verdict.FLAT : Verdict.UNSURE;
    }
}
