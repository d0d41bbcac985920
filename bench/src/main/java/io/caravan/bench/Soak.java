// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** Reads the samples of a soak and says of each thing that may leak whether it grows. */
@Command(name = "soak-verdict", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Slope per hour of each series of samples, with its bound and a verdict; exit 1 when one grows, 3 when one cannot be told.")
final class Soak implements Callable<Integer> {
    @Option(names = "--samples", required = true, paramLabel = "FILE", description = "JSON lines with ms and a number for each series")
    Path samples;

    @Option(names = "--skip", defaultValue = "0.25", description = "part of the run at its beginning that is not judged: caches fill, code is compiled (${DEFAULT-VALUE})")
    double skip;

    @Option(names = "--bound", required = true, paramLabel = "SERIES=PER_HOUR", description = "series that is judged, and how much it may grow in an hour")
    Map<String, Double> bounds = new LinkedHashMap<>();

    @Override
    public Integer call() throws Exception {
        List<JsonNode> read = new ArrayList<>();
        ObjectMapper json = new ObjectMapper();
        for (String line : Files.readAllLines(samples)) {
            read.add(json.readTree(line));
        }
        ObjectNode out = judge(read, skip, bounds);
        System.out.println(out);
        List<String> verdicts = new ArrayList<>();
        out.path("series").forEach(each -> verdicts.add(each.path("verdict").asText()));
        return verdicts.contains("GROWS") ? 1 : verdicts.contains("UNSURE") ? 3 : 0;
    }

    /**
     * @param samples of the whole run, in order of time
     * @throws IOException a series is missing from the samples: what is not measured must not pass for flat
     */
    static ObjectNode judge(List<JsonNode> samples, double skip, Map<String, Double> bounds) throws IOException {
        ObjectNode out = new ObjectMapper().createObjectNode();
        if (samples.isEmpty()) {
            throw new IOException("there are no samples: nothing can be said");
        }
        long first = samples.get(0).path("ms").asLong();
        long last = samples.get(samples.size() - 1).path("ms").asLong();
        long from = first + (long) ((last - first) * skip);
        out.put("hours", Math.round((last - first) / 36.0) / 1e5).put("judged_hours", Math.round((last - from) / 36.0) / 1e5);
        for (Map.Entry<String, Double> bound : bounds.entrySet()) {
            List<JsonNode> judged = samples.stream().filter(s -> s.path("ms").asLong() >= from && s.path(bound.getKey()).isNumber()).toList();
            if (judged.size() < Trend.MIN_SAMPLES) {
                throw new IOException("series [" + bound.getKey() + "] has [" + judged.size() + "] samples after the first " + Math.round(skip * 100)
                        + " % of the run, it needs " + Trend.MIN_SAMPLES + ": run longer, or see why it was not measured");
            }
            double[] values = judged.stream().mapToDouble(s -> s.path(bound.getKey()).asDouble()).toArray();
            Trend trend = Trend.of(judged.stream().mapToDouble(s -> (s.path("ms").asLong() - first) / 3.6e6).toArray(), values);
            out.withObject("/series").putObject(bound.getKey()).put("per_hour", round(trend.perHour())).put("lower", round(trend.lower()))
                    .put("upper", round(trend.upper())).put("bound", bound.getValue()).put("first", values[0]).put("last", values[values.length - 1])
                    .put("mean", round(trend.mean())).put("samples", trend.samples()).put("verdict", trend.against(bound.getValue()).name());
        }
        return out;
    }

    private static double round(double d) {
        return Math.round(d * 1000) / 1000.0;
    }
}
