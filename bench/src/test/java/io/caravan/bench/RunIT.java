// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The cases with sinks, from the first to the last step with few rows: that they still run, and that what they check of
 * every run (nothing lost, nothing invented, the books balance) holds. No figure is judged.
 */
class RunIT {
    private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
    private static final long LIMIT_S = 600;

    @TempDir Path dir;

    @ParameterizedTest
    @ValueSource(strings = {"drain-kafka", "drain-s3"})
    void drainDeliversWhatWasAcknowledged(String name) throws Exception {
        List<JsonNode> results = run(name, "--rows", "2500", "--rate", "200", "--phase", "3");
        JsonNode detail = results.get(0).get("detail");
        assertEquals(0, detail.get("unaccounted").asLong());
        assertEquals(detail.get("promised").asLong(), detail.get("check").get("distinct").asLong());
        assertTrue(detail.get("promised").asLong() > 2_500, detail.toString());
        assertTrue(results.stream().allMatch(r -> r.get("environment").get("cores").asInt() > 0), results.toString());
    }

    @Test
    void isolationDeliversEverythingInTheEnd() throws Exception {
        List<JsonNode> results = run("isolation", "--rate", "200", "--warmup", "2", "--phase", "3");
        JsonNode arrived = results.get(results.size() - 1).get("detail").get("arrived");
        for (String receiver : List.of("kafka", "s3", "https")) {
            assertEquals(arrived.get(receiver).get("stored").asLong(), arrived.get(receiver).get("distinct").asLong(), receiver);
        }
    }

    /** mosquitto is the control: it syncs nothing, so that a cut which takes nothing from it is none. */
    @Test
    void powerCutsTakeNothingThatTheGatewayAcknowledged() throws Exception {
        List<JsonNode> results = run("peers", "--peers", "caravan,mosquitto-persistent", "--publishers", "1", "--cell", "1", "--warmup", "1");
        assertEquals(0, lost(results, "lost by kill -9: caravan"));
        assertTrue(Files.exists(Path.of("/dev/loop-control")), "a power cut takes a loop device, which this machine does not have: what was said is " + read(dir.resolve("err")));
        assertEquals(0, lost(results, "lost by power cuts: caravan"));
        assertTrue(lost(results, "lost by power cuts: mosquitto-persistent") > 0, results.toString());
    }

    /** What its file gets while it is measured, not what a load with its start and its end does. */
    @Test
    void nodeRedIsOfferedMoreOrLessUntilItIsKnownWhatItKeepsUpWith() throws Exception {
        List<JsonNode> results = run("peers", "--peers", "node-red", "--publishers", "1", "--cell", "1", "--warmup", "1", "--cuts", "0");
        List<JsonNode> cells = results.stream().filter(r -> r.get("name").asText().startsWith("messages per second: node-red")).toList();
        assertEquals(2, cells.size(), results.toString());
        for (JsonNode cell : cells) {
            long most = 0;
            boolean all = true;
            for (JsonNode step : cell.get("detail").get("steps")) {
                long value = step.get("value").asLong();
                long offered = step.get("offered").asLong();
                // Both are rounded.
                assertTrue(value <= offered && (step.get("kept_up").asBoolean() ? value >= 0.95 * offered - 1 : value <= 0.95 * offered + 1), cell.toString());
                most = Math.max(most, value);
                all &= step.get("kept_up").asBoolean();
            }
            assertTrue(most > 0, cell.toString());
            assertEquals(most, cell.get("value").asLong());
            assertEquals(all, cell.get("name").asText().endsWith(", all of " + cell.get("detail").get("all_of_offered").asLong() + " offered"), cell.toString());
        }
    }

    private static long lost(List<JsonNode> results, String name) {
        JsonNode result = results.stream().filter(r -> r.get("name").asText().equals(name)).findFirst()
                .orElseThrow(() -> new AssertionError("no result [" + name + "], which takes root: " + results));
        assertTrue(result.get("baseline").asLong() > 1_000, result.toString());
        return result.get("value").asLong();
    }

    private List<JsonNode> run(String... words) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of(REPO.resolve("bench/run").toString()));
        command.addAll(List.of(words));
        command.addAll(List.of("--json", "--dir", dir.toString()));
        Path out = dir.resolve("out");
        Path err = dir.resolve("err");
        Process process = new ProcessBuilder(command).redirectOutput(out.toFile()).redirectError(err.toFile()).start();
        boolean ended = process.waitFor(LIMIT_S, TimeUnit.SECONDS);
        if (!ended) {
            process.destroy();
            process.waitFor(60, TimeUnit.SECONDS);
        }
        assertTrue(ended && process.exitValue() == 0, () -> read(err));
        List<JsonNode> results = new ArrayList<>();
        for (String line : Files.readAllLines(out)) {
            results.add(new ObjectMapper().readTree(line));
        }
        return results;
    }

    private static String read(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException e) {
            return e.toString();
        }
    }
}
