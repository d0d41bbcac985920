// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A subject that leaks in this JVM, measured as a gateway is: what leaks is found, what does not is not accused. */
class SoakTest {
    /** Sampled faster than a clock moves: the samples are dated one minute apart. */
    private static final long MINUTE_MS = 60_000;
    private static final int SAMPLES = 60;
    /** A third of what leaks here, and more than what a JVM does by itself meanwhile. */
    private static final Map<String, Double> BOUNDS = Map.of("threads", 20.0, "handles", 20.0, "direct_kb", 1000.0, "disk_bytes", 10_000.0);

    @TempDir Path dir;

    /** A place for what is leaked, and how to give it back. */
    private final List<AutoCloseable> leaked = new ArrayList<>();
    private final List<ByteBuffer> buffers = new ArrayList<>();

    private JsonNode sample(int i) throws IOException {
        long direct = ManagementFactory.getPlatformMXBeans(java.lang.management.BufferPoolMXBean.class).stream()
                .filter(b -> b.getName().equals("direct")).findFirst().orElseThrow().getMemoryUsed();
        try (var files = Files.list(Path.of("/proc/self/fd")); var threads = Files.list(Path.of("/proc/self/task"))) {
            return new ObjectMapper().createObjectNode().put("ms", i * MINUTE_MS).put("handles", files.count()).put("threads", threads.count())
                    .put("direct_kb", direct / 1024).put("disk_bytes", size());
        }
    }

    private long size() throws IOException {
        try (var files = Files.list(dir)) {
            return files.mapToLong(f -> f.toFile().length()).sum();
        }
    }

    private ObjectNode run(Leak leak) throws Exception {
        List<JsonNode> samples = new ArrayList<>();
        try {
            for (int i = 0; i < SAMPLES; i++) {
                leak.step(i);
                samples.add(sample(i));
            }
        } finally {
            for (AutoCloseable each : leaked) {
                each.close();
            }
        }
        return Soak.judge(samples, 0.25, BOUNDS);
    }

    private interface Leak {
        void step(int i) throws Exception;
    }

    private static void assertGrows(String series, ObjectNode verdict) {
        for (String each : BOUNDS.keySet()) {
            assertEquals(each.equals(series) ? "GROWS" : "FLAT", verdict.at("/series/" + each + "/verdict").asText(), each + " of " + verdict);
        }
    }

    @Test
    void whatIsGivenBackIsNoLeak() throws Exception {
        Path file = Files.write(dir.resolve("file"), new byte[10_000]);
        assertGrows("nothing", run(i -> {
            Thread thread = new Thread(() -> { });
            thread.start();
            thread.join();
            try (FileChannel open = FileChannel.open(file)) {
                assertTrue(open.size() > 0);
            }
        }));
    }

    @Test
    void findsAThreadThatStays() throws Exception {
        CountDownLatch end = new CountDownLatch(1);
        leaked.add(end::countDown);
        assertGrows("threads", run(i -> {
            Thread thread = new Thread(() -> {
                try {
                    end.await();
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
            });
            thread.setDaemon(true);
            thread.start();
        }));
    }

    @Test
    void findsAFileThatStaysOpen() throws Exception {
        Path file = Files.write(dir.resolve("file"), new byte[1]);
        assertGrows("handles", run(i -> leaked.add(FileChannel.open(file))));
    }

    @Test
    void findsDirectMemoryThatStays() throws Exception {
        assertGrows("direct_kb", run(i -> buffers.add(ByteBuffer.allocateDirect(64 << 10))));
        assertEquals(SAMPLES, buffers.size());
    }

    @Test
    void findsAFolderThatFills() throws Exception {
        assertGrows("disk_bytes", run(i -> Files.write(dir.resolve("f" + i), new byte[1000])));
    }

    @Test
    void theBeginningIsNotJudgedAndWhatIsMissingIsNotFlat() throws Exception {
        List<JsonNode> samples = new ArrayList<>();
        for (int i = 0; i < SAMPLES; i++) {
            // Grows until a quarter of the run is over, then stays.
            samples.add(new ObjectMapper().createObjectNode().put("ms", i * MINUTE_MS).put("heap", Math.min(i, SAMPLES / 4)));
        }
        assertEquals("FLAT", Soak.judge(samples, 0.25, Map.of("heap", 1.0)).at("/series/heap/verdict").asText());
        assertEquals("GROWS", Soak.judge(samples, 0, Map.of("heap", 1.0)).at("/series/heap/verdict").asText());
        assertThrows(IOException.class, () -> Soak.judge(samples, 0.25, Map.of("threads", 1.0)));
        assertThrows(IOException.class, () -> Soak.judge(List.of(), 0.25, Map.of("heap", 1.0)));
    }

    @Test
    void theCommandsExitSaysIt() throws Exception {
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < SAMPLES; i++) {
            lines.append("{\"ms\":").append(i * MINUTE_MS).append(",\"threads\":").append(50 + i).append(",\"handles\":70}\n");
        }
        Path file = Files.writeString(dir.resolve("samples"), lines);
        assertEquals(1, Main.commandLine().execute("soak-verdict", "--samples", file.toString(), "--bound", "threads=1", "--bound", "handles=1"));
        assertEquals(0, Main.commandLine().execute("soak-verdict", "--samples", file.toString(), "--bound", "handles=1"));
        assertEquals(2, Main.commandLine().execute("soak-verdict", "--samples", file.toString(), "--bound", "heap_mb=1"));
    }
}
