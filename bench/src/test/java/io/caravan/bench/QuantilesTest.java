// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.HdrHistogram.Histogram;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class QuantilesTest {
    private static final long BEGUN_MS = 1_795_000_000_000L;

    @TempDir Path dir;

    @Test
    void takesTheIntervalsBetweenTwoTimesByTag() throws Exception {
        Path ingest = dir.resolve("ingest.hlog");
        Path sinks = dir.resolve("sinks.hlog");
        try (LatencyLog log = new LatencyLog(ingest); LatencyLog other = new LatencyLog(sinks)) {
            log.write("ingest", interval(0, 5));
            log.write("ingest", interval(1, 10));
            log.write("ingest", interval(2, 30));
            log.write("ingest", interval(3, 900));
            other.write("kafka", interval(1, 70));
        }
        Map<String, Histogram> found = Quantiles.merge(List.of(ingest, sinks), BEGUN_MS + 1000, BEGUN_MS + 3000);
        assertEquals(Set.of("ingest", "kafka"), found.keySet());
        assertEquals(2, found.get("ingest").getTotalCount());
        assertEquals(10.0, found.get("ingest").getMinValue() / 1e6, 0.1);
        assertEquals(30.0, found.get("ingest").getMaxValue() / 1e6, 0.1);
        assertEquals(1, found.get("kafka").getTotalCount());
    }

    private static Histogram interval(long second, long ms) {
        Histogram h = new Histogram(TimeUnit.MINUTES.toNanos(10), 3);
        h.recordValue(TimeUnit.MILLISECONDS.toNanos(ms));
        h.setStartTimeStamp(BEGUN_MS + second * 1000);
        h.setEndTimeStamp(BEGUN_MS + second * 1000 + 1000);
        return h;
    }
}
