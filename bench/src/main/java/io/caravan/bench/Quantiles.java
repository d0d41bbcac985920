// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import org.HdrHistogram.EncodableHistogram;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.HistogramLogReader;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** Latencies of a part of a run, out of logs that were written while it ran. */
@Command(name = "quantiles", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Quantiles between two times of what load --latency-log and watch --latency-log wrote; one JSON object by tag.")
final class Quantiles implements Callable<Integer> {
    @Option(names = "--log", required = true, paramLabel = "FILE", description = "repeat it for several logs")
    List<Path> logs;

    @Option(names = "--from", required = true, description = "wall clock, ms")
    long fromMs;

    @Option(names = "--to", required = true, description = "wall clock, ms")
    long toMs;

    @Override
    public Integer call() throws Exception {
        ObjectNode out = new ObjectMapper().createObjectNode();
        for (Map.Entry<String, Histogram> tag : merge(logs, fromMs, toMs).entrySet()) {
            Histogram h = tag.getValue();
            out.putObject(tag.getKey()).put("count", h.getTotalCount()).put("rate", Math.round(h.getTotalCount() * 1e3 / (toMs - fromMs)))
                    .put("p50_ms", ms(h.getValueAtPercentile(50))).put("p90_ms", ms(h.getValueAtPercentile(90)))
                    .put("p99_ms", ms(h.getValueAtPercentile(99))).put("max_ms", ms(h.getMaxValue()));
        }
        System.out.println(out);
        return 0;
    }

    /** @return by tag, all intervals whose middle is between the times */
    static Map<String, Histogram> merge(List<Path> logs, long fromMs, long toMs) throws Exception {
        Map<String, Histogram> merged = new TreeMap<>();
        for (Path log : logs) {
            try (HistogramLogReader reader = new HistogramLogReader(log.toFile())) {
                while (reader.hasNext()) {
                    EncodableHistogram next = reader.nextIntervalHistogram();
                    if (next instanceof Histogram interval) {
                        long middle = (interval.getStartTimeStamp() + interval.getEndTimeStamp()) / 2;
                        if (middle >= fromMs && middle < toMs) {
                            merged.computeIfAbsent(String.valueOf(interval.getTag()), t -> new Histogram(TimeUnit.MINUTES.toNanos(10), 3)).add(interval);
                        }
                    }
                }
            }
        }
        return merged;
    }

    private static double ms(long nanos) {
        return Math.round(nanos / 1e3) / 1e3;
    }
}
