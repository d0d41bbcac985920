// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.FileNotFoundException;
import java.nio.file.Path;

import org.HdrHistogram.Histogram;
import org.HdrHistogram.HistogramLogWriter;

/** Histograms of an interval each, in HdrHistogram's log format, with a tag that says of what; {@link Quantiles} reads it. Thread-safe. */
final class LatencyLog implements AutoCloseable {
    private final HistogramLogWriter writer;

    LatencyLog(Path file) throws FileNotFoundException {
        writer = new HistogramLogWriter(file.toFile());
        writer.outputLogFormatVersion();
        writer.outputLegend();
    }

    /** @param interval with start and end time, as a Recorder makes it; nanoseconds */
    synchronized void write(String tag, Histogram interval) {
        interval.setTag(tag);
        writer.outputIntervalHistogram(interval.getStartTimeStamp() / 1e3, interval.getEndTimeStamp() / 1e3, interval, 1e6);
    }

    @Override
    public synchronized void close() {
        writer.close();
    }
}
