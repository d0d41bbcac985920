// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** kill -9 of a process that appends and says what was acknowledged (G1). */
class CrashTest {
    private static final int KILLS = 6;
    private final Random random = new Random();
    @TempDir Path directory;

    @Test
    void everythingAcknowledgedIsThereAfterKill() throws Exception {
        Path file = directory.resolve("gateway.db");
        Set<Long> acknowledged = new HashSet<>();
        for (int kill = 0; kill < KILLS; kill++) {
            long first = next(file);
            acknowledged.addAll(runAndKill(file, first, "after-commit", 200 + random.nextInt(4_000)));
            assertEquals(Set.of(), lost(file, acknowledged), "lost acknowledged messages, kill " + kill);
            assertExact(file);
        }
        assertTrue(acknowledged.size() >= KILLS * 200, "too few to say anything: " + acknowledged.size());
        // The devices send again what was not acknowledged, and some that was: nothing is there twice.
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            for (long i : acknowledged.stream().limit(500).toList()) {
                assertEquals("duplicate", fixture.append(CrashChild.record(i)));
            }
        }
        assertExact(file);
    }

    @Test
    void acknowledgingBeforeCommitIsFoundOut() throws Exception {
        Path file = directory.resolve("gateway.db");
        for (int kill = 0; kill < 20; kill++) {
            if (!lost(file, runAndKill(file, kill == 0 ? 0 : next(file), "before-commit", 200 + random.nextInt(2_000))).isEmpty()) {
                return; // the test above can fail
            }
        }
        throw new AssertionError("acknowledging before COMMIT went unnoticed over 20 kills: this test is blind");
    }

    private static long next(Path file) throws Exception {
        return java.nio.file.Files.exists(file)
                ? Long.parseLong(Fixture.row(file, "SELECT coalesce(max(CAST(json_extract(body, '$.n') AS INTEGER)), -1) + 1 FROM wal")) : 0;
    }

    private static List<Long> runAndKill(Path file, long first, String ack, int after) throws Exception {
        Process child = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx128m",
                "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"), CrashChild.class.getName(), file.toString(),
                Long.toString(first), ack).redirectError(ProcessBuilder.Redirect.DISCARD).start();
        List<Long> acknowledged = new ArrayList<>();
        try (BufferedReader lines = new BufferedReader(new InputStreamReader(child.getInputStream(), StandardCharsets.US_ASCII))) {
            // A child that hangs ends this loop by being killed; surefire's own bound is the last one.
            Thread guard = new Thread(() -> {
                try {
                    if (!child.waitFor(30, TimeUnit.SECONDS)) {
                        child.toHandle().destroyForcibly();
                    }
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
            });
            guard.setDaemon(true);
            guard.start();
            for (String line; (line = lines.readLine()) != null; ) {
                int blank = line.indexOf(' ');
                if (blank < 0 || !line.endsWith("durable")) {
                    continue; // torn by the kill, or not acknowledged
                }
                acknowledged.add(Long.parseLong(line.substring(0, blank)));
                if (acknowledged.size() == after) {
                    child.toHandle().destroyForcibly(); // SIGKILL; the pipe stays open: what is in it was acknowledged too
                }
            }
        } finally {
            child.destroyForcibly();
        }
        assertTrue(child.waitFor(10, TimeUnit.SECONDS));
        assertEquals(137, child.exitValue(), "the child was to be killed, not to end; see its log");
        return acknowledged;
    }

    private static Set<Long> lost(Path file, Iterable<Long> acknowledged) throws Exception {
        Set<String> there = new HashSet<>(Fixture.rows(file, "SELECT message_key FROM wal"));
        Set<Long> lost = new HashSet<>();
        for (long i : acknowledged) {
            if (!there.contains(CrashChild.record(i).messageKey())) {
                lost.add(i);
            }
        }
        return lost;
    }

    private static void assertExact(Path file) throws Exception {
        assertEquals("ok", Fixture.row(file, "PRAGMA integrity_check"));
        assertEquals("1 1", Fixture.row(file, "SELECT count(*) = max(seq), max(seq) = (SELECT seq FROM sqlite_sequence WHERE name = 'wal') FROM wal"));
        // What progress says is what rows say: no gap up to contiguous, nothing above highest.
        assertEquals("", Fixture.row(file, "SELECT p.device_id, p.contiguous_seq, p.highest_seq, count(*), max(w.device_seq)"
                + " FROM device_progress p JOIN wal w USING (device_id, boot_id) GROUP BY 1"
                + " HAVING max(w.device_seq) <> p.highest_seq OR count(*) FILTER (WHERE w.device_seq <= p.contiguous_seq) <> p.contiguous_seq"
                + " OR count(*) FILTER (WHERE w.device_seq = p.contiguous_seq + 1) > 0"));
    }
}
