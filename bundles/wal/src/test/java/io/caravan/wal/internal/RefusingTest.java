// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static io.caravan.wal.internal.Fixture.await;
import static io.caravan.wal.internal.Fixture.keyed;
import static io.caravan.wal.internal.Fixture.numbered;
import static io.caravan.wal.internal.Fixture.row;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.AppendResult;
import io.caravan.wal.StoreUnavailableException;
import io.caravan.wal.WalState;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.camel.health.HealthCheck;
import org.apache.camel.health.HealthCheckRegistry;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The store cannot take messages: it says so, acknowledges nothing, keeps what waits, and goes on unaided (G8). */
class RefusingTest {
    @TempDir Path directory;

    @Test
    void aFullDiskRefusesKeepsAndRecovers() throws Exception {
        try (SmallDisk disk = SmallDisk.mount(directory.resolve("disk"))) {
            Path file = disk.path().resolve("gateway.db");
            try (Fixture fixture = new Fixture(TestConfig.at(file))) {
                refusesAndRecovers(fixture, file, () -> disk.fill(fixture.database()), () -> disk.free(fixture.database()), "free space");
            }
            assertEquals("ok", row(file, "PRAGMA integrity_check"));
        }
    }

    @Test
    void aStoreThatFindsTheDiskFullAtStartSaysSoAndStartsLater() throws Exception {
        try (SmallDisk disk = SmallDisk.mount(directory.resolve("disk"))) {
            Path file = disk.path().resolve("new/gateway.db");
            if (disk.mounted) {
                disk.fill(null);
                IOException e = assertThrows(IOException.class, () -> new Fixture(TestConfig.at(file)).close());
                assertTrue(e.getMessage().contains("gateway.db") && e.getMessage().contains("free space"), e.getMessage());
                disk.free(null);
            }
            try (Fixture fixture = new Fixture(TestConfig.at(file))) {
                assertEquals("durable", fixture.append(keyed("d1/k/1", "{}")));
            }
        }
    }

    @Test
    void aQuotaRefusesKeepsAndRecovers() throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            refusesAndRecovers(fixture, file, () -> fixture.database().limitPages(1), () -> fixture.database().limitPages(1_000_000), "SQLITE_FULL");
        }
    }

    @Test
    void anotherProcessThatHoldsTheWriteLockDoesTheSame() throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file));
                Connection other = DriverManager.getConnection("jdbc:sqlite:" + file); Statement lock = other.createStatement()) {
            refusesAndRecovers(fixture, file, () -> lock.execute("BEGIN IMMEDIATE"), () -> lock.execute("ROLLBACK"), "write lock");
        }
    }

    private interface Step {
        void run() throws Exception;
    }

    private static void refusesAndRecovers(Fixture fixture, Path file, Step fault, Step repair, String reason) throws Exception {
        for (int i = 1; i <= 50; i++) {
            assertEquals("durable", fixture.append(numbered("d1", "b1", i, "{}")));
        }
        assertEquals(HealthCheck.State.UP, health(fixture).getState());
        fault.run();
        List<CompletableFuture<AppendResult>> waiting = new ArrayList<>();
        CompletableFuture<AppendResult> http = null;
        String body = "{\"pad\":\"" + "x".repeat(5_000) + "\"}";
        for (int i = 51; i <= 250; i++) {
            waiting.add(fixture.wal.submit(numbered("d1", "b1", i, body), "mqtt-server", "t").toCompletableFuture());
            if (i == 200) {
                http = fixture.wal.submit(keyed("d1/k/queued", body), "http", "/ingest/d1").toCompletableFuture();
            }
        }
        await("the log refuses", () -> fixture.wal.state() == WalState.REFUSING);
        assertTrue(fixture.wal.reason().contains(reason) && fixture.wal.reason().contains("gateway.db"), fixture.wal.reason());
        HealthCheck.Result down = health(fixture);
        assertEquals(HealthCheck.State.DOWN, down.getState());
        assertTrue(down.getMessage().orElse("").contains(reason));

        // HTTP hears at once, what was queued and what comes now; nothing of it is kept.
        CompletableFuture<AppendResult> queued = http;
        StoreUnavailableException e = assertInstanceOf(StoreUnavailableException.class,
                assertThrows(ExecutionException.class, () -> queued.get(10, TimeUnit.SECONDS)).getCause());
        assertTrue(e.getRetryAfterSeconds() >= 1 && e.getRetryAfterSeconds() <= 6, "retry after " + e.getRetryAfterSeconds());
        assertTrue(fixture.wal.submit(keyed("d1/k/now", "{}"), "http", "/ingest/d1").toCompletableFuture().isCompletedExceptionally());
        assertTrue(waiting.stream().noneMatch(CompletableFuture::isCompletedExceptionally), "MQTT waits for its acknowledgement");
        long there = Long.parseLong(row(file, "SELECT count(*) FROM wal"));
        assertEquals(there, 50 + waiting.stream().filter(CompletableFuture::isDone).count(), "acknowledged and on disk are the same");

        repair.run();
        for (CompletableFuture<AppendResult> stage : waiting) {
            assertEquals("durable", stage.get(20, TimeUnit.SECONDS).outcome());
        }
        assertEquals(WalState.DURABLE, fixture.wal.state());
        assertEquals("", fixture.wal.reason());
        assertEquals(HealthCheck.State.UP, health(fixture).getState());
        await("the queue is empty", () -> fixture.wal.queued() == 0); // stages complete before they are counted off
        assertEquals("durable", fixture.append(keyed("d1/k/after", "{}")));
        assertEquals("251 251 250 250", row(file, "SELECT count(*), max(seq), (SELECT contiguous_seq FROM device_progress),"
                + " (SELECT highest_seq FROM device_progress) FROM wal"));
    }

    @Test
    void theQueueIsBounded() throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file).with("wal.queue.max", "100"))) {
            List<CompletableFuture<AppendResult>> stages = new ArrayList<>();
            fixture.database().gate().enter(1_000); // a route that is long at it
            Thread other = new Thread(() -> {
                for (int i = 1; i <= 2_000; i++) {
                    stages.add(fixture.wal.submit(numbered("d1", "b1", i, "{}"), "mqtt-server", "t").toCompletableFuture());
                }
            });
            other.start();
            other.join(10_000);
            fixture.database().gate().leave();
            long refused = stages.stream().filter(CompletableFuture::isCompletedExceptionally).count();
            assertTrue(refused >= 2_000 - 100 - 1_000, "refused " + refused); // 100 queued, at most 1000 taken
            for (CompletableFuture<AppendResult> stage : stages) {
                if (!stage.isCompletedExceptionally()) {
                    assertEquals("durable", stage.get(10, TimeUnit.SECONDS).outcome());
                }
            }
            assertEquals(Long.toString(2_000 - refused), row(file, "SELECT count(*) FROM wal"));
        }
    }

    @Test
    void stoppingCommitsWhatIsQueuedAndLeavesTheRestUnacknowledged() throws Exception {
        Path file = directory.resolve("gateway.db");
        Fixture fixture = new Fixture(TestConfig.at(file));
        List<CompletableFuture<AppendResult>> stages = new ArrayList<>();
        for (int i = 1; i <= 5_000; i++) {
            stages.add(fixture.wal.submit(numbered("d1", "b1", i, "{}"), "mqtt-server", "t").toCompletableFuture());
        }
        fixture.close();
        for (CompletableFuture<AppendResult> stage : stages) {
            assertEquals("durable", stage.get(0, TimeUnit.SECONDS).outcome());
        }
        assertTrue(fixture.wal.submit(numbered("d1", "b1", 5_001, "{}"), "mqtt-server", "t").toCompletableFuture().isCompletedExceptionally());

        fixture = new Fixture(TestConfig.at(file));
        CompletableFuture<AppendResult> stuck;
        try (Connection other = DriverManager.getConnection("jdbc:sqlite:" + file); Statement lock = other.createStatement()) {
            lock.execute("BEGIN IMMEDIATE");
            stuck = fixture.wal.submit(numbered("d1", "b1", 5_001, "{}"), "mqtt-server", "t").toCompletableFuture();
            Fixture stopping = fixture;
            await("the log refuses", () -> stopping.wal.state() == WalState.REFUSING);
            assertFalse(stuck.isDone());
            fixture.close();
        }
        assertInstanceOf(StoreUnavailableException.class,
                assertThrows(ExecutionException.class, () -> stuck.get(0, TimeUnit.SECONDS)).getCause());
        assertEquals("5000", row(file, "SELECT count(*) FROM wal"));
    }

    private static HealthCheck.Result health(Fixture fixture) {
        HealthCheck check = HealthCheckRegistry.get(fixture.context).getCheck("wal").orElseThrow();
        assertTrue(check.isReadiness() && !check.isLiveness());
        return check.call();
    }

    /** A file system of 12 MB where a test may mount one, else a quota on the store. */
    private static final class SmallDisk implements AutoCloseable {
        private final Path path;
        private final boolean mounted;

        private SmallDisk(Path path, boolean mounted) {
            this.path = path;
            this.mounted = mounted;
        }

        static SmallDisk mount(Path path) throws Exception {
            Files.createDirectories(path);
            return new SmallDisk(path, run("mount", "-t", "tmpfs", "-o", "size=12m", "caravan-test", path.toString()));
        }

        private static boolean run(String... command) throws Exception {
            try {
                Process process = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
                return process.waitFor(10, TimeUnit.SECONDS) && process.exitValue() == 0;
            } catch (IOException e) {
                return false;
            }
        }

        Path path() {
            return path;
        }

        void fill(Database database) throws Exception {
            if (!mounted) {
                database.limitPages(1);
                return;
            }
            byte[] block = new byte[4_096];
            try (OutputStream out = Files.newOutputStream(path.resolve("ballast"))) {
                while (true) {
                    out.write(block);
                }
            } catch (IOException full) {
                assertTrue(full.getMessage().contains("No space left"), full.getMessage());
            }
        }

        void free(Database database) throws Exception {
            if (mounted) {
                Files.delete(path.resolve("ballast"));
            } else {
                database.limitPages(1_000_000);
            }
        }

        @Override
        public void close() throws Exception {
            if (mounted) {
                assertTrue(run("umount", path.toString()));
            }
        }
    }
}
