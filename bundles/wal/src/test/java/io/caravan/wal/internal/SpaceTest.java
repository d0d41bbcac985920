// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static io.caravan.wal.internal.Fixture.await;
import static io.caravan.wal.internal.Fixture.keyed;
import static io.caravan.wal.internal.Fixture.numbered;
import static io.caravan.wal.internal.Fixture.row;
import static io.caravan.wal.internal.Fixture.rows;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.AppendResult;
import io.caravan.wal.StoreUnavailableException;
import io.caravan.wal.WalState;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Space that runs short, faults of the disk: nothing acknowledged is lost, sinks go on, ingest comes back unaided (G7, G8, G9). */
class SpaceTest {
    private static final long MIB = 1 << 20;
    private static final String PAD = "{\"pad\":\"" + "x".repeat(6_000) + "\"}";

    @TempDir Path directory;

    /** A device that sends the next message when the last one is acknowledged, and remembers which were. */
    private static final class Device {
        private final Fixture fixture;
        private final Set<String> acked = new HashSet<>();
        private final List<CompletableFuture<AppendResult>> open = new ArrayList<>();
        private long next = 1;

        Device(Fixture fixture) {
            this.fixture = fixture;
        }

        /** Sends up to so many; false: the last is not acknowledged within a moment. */
        boolean send(int messages) throws Exception {
            for (int i = 0; i < messages; i++) {
                if (open.isEmpty()) {
                    open.add(fixture.wal.submit(numbered("d1", "b1", next, PAD), "mqtt-server", "t").toCompletableFuture());
                }
                try {
                    assertEquals("durable", open.get(0).get(1_500, TimeUnit.MILLISECONDS).outcome());
                } catch (java.util.concurrent.TimeoutException e) {
                    return false;
                }
                open.clear();
                acked.add(io.caravan.wal.Record.numberedKey("d1", "b1", next++));
            }
            return true;
        }

        void sendUntil(WalState state) throws Exception {
            for (int i = 0; fixture.wal.state() != state; i++) {
                send(10);
                assertTrue(i < 10_000, "never " + state);
            }
        }

        void waitingIsAcknowledged() throws Exception {
            assertEquals("durable", open.get(0).get(20, TimeUnit.SECONDS).outcome());
            open.clear();
            acked.add(io.caravan.wal.Record.numberedKey("d1", "b1", next++));
        }

        /** In the log, or deleted by retention and remembered. */
        void nothingLost(Path file) throws Exception {
            assertEquals("ok", row(file, "PRAGMA integrity_check"));
            long contiguous = Long.parseLong(row(file, "SELECT contiguous_seq FROM device_progress"));
            Set<String> there = new HashSet<>(rows(file, "SELECT message_key FROM wal"));
            long from = Long.parseLong(row(file, "SELECT retained_from_seq FROM meta"));
            for (String key : acked) {
                long number = Long.parseLong(key.substring(key.lastIndexOf('/') + 1));
                assertTrue(number <= contiguous && (number < from || there.contains(key)), key + " was acknowledged and is gone, of "
                        + acked.size() + "; contiguous " + contiguous + ", rows " + there.size() + " from " + from);
            }
            assertTrue(contiguous >= acked.size());
        }
    }

    private static void sinksAck(Fixture fixture) throws SQLException {
        write(fixture, "UPDATE sink_range SET acked_seq = (SELECT seq FROM sqlite_sequence WHERE name = 'wal'),"
                + " inflight_seq = (SELECT seq FROM sqlite_sequence WHERE name = 'wal') WHERE sink <> 'uplink'");
    }

    private static void write(Fixture fixture, String sql) throws SQLException {
        DataSource writer = fixture.context.getRegistry().lookupByNameAndType("writer", DataSource.class);
        try (Connection connection = writer.getConnection(); Statement statement = connection.createStatement()) {
            statement.executeUpdate(sql);
        }
    }

    private static void httpIsRefusedAtOnce(Fixture fixture, String why) {
        CompletableFuture<AppendResult> http = fixture.wal.submit(keyed("d1/k/http", "{}"), "http", "/ingest/d1").toCompletableFuture();
        assertTrue(http.isCompletedExceptionally(), "HTTP waits");
        StoreUnavailableException e = assertInstanceOf(StoreUnavailableException.class,
                assertThrows(ExecutionException.class, http::get).getCause());
        assertTrue(e.getRetryAfterSeconds() >= 1 && e.getMessage().contains(why), e.getMessage());
    }

    @Test
    void aQuotaDegradesThenRefusesWhileSinksGoOnAndComesBack() throws Exception {
        Path file = directory.resolve("gateway.db");
        DefaultCamelContext context = new DefaultCamelContext();
        MeterRegistry meters = new SimpleMeterRegistry();
        context.getRegistry().bind("metricsRegistry", meters);
        TestConfig config = TestConfig.at(file).with("wal.max.bytes", "" + 12 * MIB).with("wal.degraded.percent", "50")
                .with("wal.checkpoint.bytes", "" + MIB);
        try (Fixture fixture = new Fixture(context, config)) {
            Device device = new Device(fixture);
            assertTrue(device.send(100));
            assertEquals(WalState.DURABLE, fixture.wal.state());
            assertEquals("", fixture.wal.reason());

            device.sendUntil(WalState.DEGRADED);
            assertTrue(fixture.wal.reason().contains("wal.max.bytes [" + 12 * MIB + "]") && fixture.wal.reason().contains(file.toString()),
                    fixture.wal.reason());
            assertTrue(device.send(10), "DEGRADED takes messages");
            assertTrue(meters.get("caravan.wal.bytes").gauge().value() >= 5 * MIB);

            device.sendUntil(WalState.REFUSING);
            assertEquals(12 * MIB, meters.get("caravan.wal.limit.bytes").gauge().value());
            assertEquals(0, meters.get("caravan.wal.time.to.full.seconds").gauge().value());
            while (device.send(1)) {
                // a group that was under way
            }
            httpIsRefusedAtOnce(fixture, "wal.max.bytes");
            long rows = Long.parseLong(row(file, "SELECT count(*) FROM wal"));
            assertTrue(device.acked.size() <= rows && rows <= device.acked.size() + 1, "what waits is not on disk");
            assertTrue(meters.get("caravan.wal.bytes").gauge().value() < 14 * MIB, "how far above the quota it went");

            // Raised quota, nothing else: it goes on. Lowered again: it refuses again.
            config.with("wal.max.bytes", "" + 64 * MIB);
            device.waitingIsAcknowledged();
            await("DURABLE", () -> fixture.wal.state() == WalState.DURABLE);
            config.with("wal.max.bytes", "" + 8 * MIB);
            await("REFUSING", () -> fixture.wal.state() == WalState.REFUSING);
            assertFalse(device.send(1), "REFUSING takes none");

            sinksAck(fixture);
            device.waitingIsAcknowledged();
            await("DURABLE", () -> fixture.wal.state() == WalState.DURABLE);
            assertEquals("", fixture.wal.reason());
            assertTrue(device.send(10));
            assertTrue(meters.get("caravan.wal.retention.deleted.rows").tag("table", "wal").counter().count() > 0);
            device.nothingLost(file);
        }
    }

    @Test
    void unackedRowsAreNeverDeletedHoweverShortSpaceIs() throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file).with("wal.max.bytes", "" + 6 * MIB).with("wal.checkpoint.bytes", "" + MIB)
                .with("wal.retention.ms", "0").with("wal.retention.bytes", "0"))) {
            Device device = new Device(fixture);
            device.sendUntil(WalState.REFUSING);
            write(fixture, "UPDATE sink_range SET acked_seq = 10, inflight_seq = 10 WHERE sink = 'rollup'");
            write(fixture, "UPDATE sink_range SET acked_seq = 50, inflight_seq = 50 WHERE sink IN ('passthrough', 'answers')");
            await("the ten go", () -> count(file, "SELECT count(*) FROM wal WHERE seq <= 10") == 0);
            for (int i = 0; i < 5; i++) {
                fixture.retention().compact();
            }
            assertTrue(device.acked.size() <= count(file, "SELECT seq FROM sqlite_sequence WHERE name = 'wal'"));
            assertEquals(10, count(file, "SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'wal') - count(*) FROM wal"));
            assertEquals(11, count(file, "SELECT min(seq) FROM wal"));
        }
    }

    @Test
    void whoOnlySpeaksHttpIsTakenAgainAfterAFailedCommit() throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            fixture.database().limitPages(1);
            for (int i = 0; fixture.wal.state() != WalState.REFUSING; i++) {
                CompletableFuture<AppendResult> http = fixture.wal.submit(keyed("d1/k/" + i, PAD), "http", "/ingest/d1").toCompletableFuture();
                await("answered", http::isDone);
            }
            fixture.database().limitPages(1_000_000);
            await("DURABLE without a message", () -> fixture.wal.state() == WalState.DURABLE);
            assertEquals("durable", Fixture.get(fixture.wal.submit(keyed("d1/k/after", "{}"), "http", "/ingest/d1")).outcome());
        }
    }

    @Test
    void onAFullDiskSinksAckAndRowsGoByTheBallast() throws Exception {
        try (TestDisk disk = TestDisk.tmpfs(directory.resolve("disk"), 32)) {
            Path file = disk.path().resolve("gateway.db");
            Path ballast = disk.path().resolve("gateway.db.ballast");
            TestConfig config = TestConfig.at(file).with("wal.min.free.bytes", "" + 2 * MIB).with("wal.ballast.bytes", "" + 6 * MIB)
                    .with("wal.checkpoint.bytes", "" + MIB);
            try (Fixture fixture = new Fixture(config)) {
                await("the ballast is made", () -> Database.size(ballast) == 6 * MIB);
                Device device = new Device(fixture);
                assertTrue(device.send(1_800));
                assertEquals(WalState.DURABLE, fixture.wal.state(), fixture.wal.reason());

                disk.fill();
                await("REFUSING", () -> fixture.wal.state() == WalState.REFUSING);
                await("the ballast is given up", () -> Database.size(ballast) == 0);
                while (device.send(1)) {
                    // until the first that waits
                }
                assertTrue(fixture.wal.reason().contains("free"), fixture.wal.reason());
                httpIsRefusedAtOnce(fixture, "free");

                assertTrue(disk.usable() > 4 * MIB, "the space of the ballast is not for appends: " + disk.usable());
                assertEquals(WalState.REFUSING, fixture.wal.state());

                // Sinks ack bit by bit, rows go, and what the file gives back may be used: it goes on without anybody's help.
                for (int i = 1; i <= 100; i++) {
                    write(fixture, "UPDATE sink_range SET acked_seq = " + 10 * i + ", inflight_seq = " + 10 * i + " WHERE sink <> 'uplink'");
                }
                await("rows went although the disk is full", () -> count(file, "SELECT count(*) FROM wal WHERE seq <= 1000") == 0);
                device.waitingIsAcknowledged();
                assertEquals(0, Database.size(ballast), "there is not enough space for the ballast yet");

                disk.free();
                await("DURABLE", () -> fixture.wal.state() == WalState.DURABLE);
                await("the ballast is made again", () -> Database.size(ballast) == 6 * MIB);
                assertTrue(device.send(100));
                device.nothingLost(file);
            }
        }
    }

    @Test
    void withoutBallastAFullDiskStopsSinksToo() throws Exception {
        try (TestDisk disk = TestDisk.tmpfs(directory.resolve("disk"), 32)) {
            Path file = disk.path().resolve("gateway.db");
            try (Fixture fixture = new Fixture(TestConfig.at(file).with("wal.checkpoint.bytes", "" + MIB))) {
                assertTrue(new Device(fixture).send(2_000));
                disk.fill();
                SQLException e = assertThrows(SQLException.class, () -> {
                    for (int i = 1; i <= 2_000; i++) {
                        write(fixture, "UPDATE sink_range SET acked_seq = " + i + ", inflight_seq = " + i + " WHERE sink <> 'uplink'");
                        write(fixture, "DELETE FROM wal WHERE seq <= " + i);
                        disk.fill();
                    }
                });
                assertTrue(StorageError.isFull(e), e.getMessage());
                disk.free();
            }
        }
    }

    @Test
    void aStoreOnADiskThatIsFullAtStartOpensByItsBallast() throws Exception {
        try (TestDisk disk = TestDisk.tmpfs(directory.resolve("disk"), 16)) {
            Path file = disk.path().resolve("gateway.db");
            TestConfig config = TestConfig.at(file).with("wal.min.free.bytes", "" + MIB).with("wal.ballast.bytes", "" + 3 * MIB);
            Device device;
            try (Fixture fixture = new Fixture(config)) {
                device = new Device(fixture);
                assertTrue(device.send(100));
                await("the ballast is made", () -> Database.size(Path.of(file + ".ballast")) == 3 * MIB);
            }
            disk.fill();
            try (Fixture fixture = new Fixture(config)) {
                assertEquals(WalState.REFUSING, fixture.wal.state());
                sinksAck(fixture);
                disk.free();
                await("DURABLE", () -> fixture.wal.state() == WalState.DURABLE);
                device.nothingLost(file);
            }
        }
    }

    /** As after "errors=remount-ro", but one can go back: the files may be read only. */
    @Test
    void filesThatBecomeReadOnlyRefuseAndComeBack() throws Exception {
        try (TestDisk disk = TestDisk.ext4(directory.resolve("image"), directory.resolve("disk"), 32)) {
            Path file = disk.path().resolve("gateway.db");
            try (Fixture fixture = new Fixture(TestConfig.at(file))) {
                Device device = new Device(fixture);
                assertTrue(device.send(100));
                // Not the mapped -shm file: between the look at it and a background checkpoint's write there is a moment, and the
                // kernel answers a write to it with SIGBUS, which would end this test's own process.
                String[] files = {file.toString(), file + "-wal"};
                chattr("+i", files);
                try {
                    assertFalse(device.send(1), "nothing is acknowledged");
                    await("REFUSING", () -> fixture.wal.state() == WalState.REFUSING);
                    assertTrue(fixture.wal.reason().contains("read-only"), fixture.wal.reason());
                    assertThrows(SQLException.class, () -> fixture.database().reader().getConnection().close());
                } finally {
                    chattr("-i", files);
                }
                device.waitingIsAcknowledged();
                await("DURABLE", () -> fixture.wal.state() == WalState.DURABLE);
                assertTrue(device.send(10));
                device.nothingLost(file);
            }
        }
    }

    private static void chattr(String flag, String... files) throws Exception {
        for (String file : files) {
            TestDisk.run("chattr", flag, file);
        }
    }

    /** The kernel takes a file system with a fault read-only: EROFS on open files. Going back needs a new mount, so a restart. */
    @Test
    void aFileSystemThatTheKernelTookReadOnlyLosesNothingAndTheProcessSurvives() throws Exception {
        try (TestDisk disk = TestDisk.ext4(directory.resolve("image"), directory.resolve("disk"), 32)) {
            Path file = disk.path().resolve("gateway.db");
            Process child = child(file).start();
            long acked = 0;
            try (BufferedReader out = new BufferedReader(new InputStreamReader(child.getInputStream()));
                    Writer in = new OutputStreamWriter(child.getOutputStream())) {
                say(in, "500");
                while (acked < 500) {
                    acked = acked(out.readLine(), acked);
                }
                // All pages clean: the next write to the mapped -shm file asks the file system, which then is no more.
                TestDisk.run("sync", "-f", disk.path().toString());
                TestDisk.run("mount", "-o", "remount,abort", disk.path().toString());
                say(in, "1000");
                String state = "";
                long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
                while (!state.startsWith("state REFUSING") || !state.contains("read-only")) {
                    assertTrue(System.nanoTime() < until, state);
                    say(in, "");
                    while (!(state = String.valueOf(out.readLine())).startsWith("state")) {
                        acked = acked(state, acked); // also what it acknowledges now must be there
                    }
                }
                in.close(); // a clean stop, as far as that goes
                String last;
                while (!"closed".equals(last = out.readLine())) {
                    acked = acked(last, acked);
                }
                assertTrue(child.waitFor(20, TimeUnit.SECONDS));
                assertEquals(0, child.exitValue());
            } finally {
                child.destroyForcibly().waitFor();
            }
            disk.unmount();
            disk.mount();
            assertEquals("ok", row(file, "PRAGMA integrity_check"));
            assertTrue(acked <= count(file, "SELECT count(*) FROM wal"), acked + " acknowledged");
            try (Fixture fixture = new Fixture(TestConfig.at(file))) {
                assertEquals(WalState.DURABLE, fixture.wal.state());
                assertEquals("durable", fixture.append(keyed("d1/k/after", "{}")));
            }
        }
    }

    private static long acked(String line, long before) {
        assertNotNull(line, "the process died");
        return line.startsWith("acked ") ? Long.parseLong(line.substring(6)) : before;
    }

    /** A library between SQLite and the kernel, whose fsync fails with EIO while a file exists. Needs no headers. */
    private static final String SHIM = "extern int access(const char *, int); extern char *getenv(const char *); extern int *__errno_location(void);\n"
            + "extern long syscall(long, ...);\n"
            + "static int sync_it(long call, int fd) { char *f = getenv(\"CARAVAN_FAULT\"); if (f && access(f, 0) == 0) { *__errno_location() = 5;"
            + " return -1; } return syscall(call, fd); }\n"
            + "#ifdef __x86_64__\n"
            + "int fsync(int fd) { return sync_it(74, fd); } int fdatasync(int fd) { return sync_it(75, fd); }\n"
            + "#else\n"
            + "int fsync(int fd) { return sync_it(82, fd); } int fdatasync(int fd) { return sync_it(83, fd); }\n"
            + "#endif\n";

    /**
     * fsync fails with EIO, and works again later. The kernel may have dropped what it could not write by then, so that
     * nothing it says counts: nothing is acknowledged until the next start, and the -wal file is not folded in.
     */
    @Test
    void afterAFailedFsyncNothingIsAcknowledgedAndWhatWasIsThere() throws Exception {
        Path file = directory.resolve("store/gateway.db");
        Path fault = directory.resolve("fault");
        Path shim = directory.resolve("shim.so");
        Files.writeString(directory.resolve("shim.c"), SHIM);
        TestDisk.run("cc", "-shared", "-fPIC", "-nostdlib", "-o", shim.toString(), directory.resolve("shim.c").toString());
        long acked = 0;
        ProcessBuilder builder = child(file);
        builder.environment().put("LD_PRELOAD", shim.toString());
        builder.environment().put("CARAVAN_FAULT", fault.toString());
        Process child = builder.start();
        try (BufferedReader out = new BufferedReader(new InputStreamReader(child.getInputStream()));
                Writer in = new OutputStreamWriter(child.getOutputStream())) {
            say(in, "200");
            while (acked < 200) {
                acked = acked(out.readLine(), acked);
            }
            Files.createFile(fault);
            say(in, "400");
            String state = "";
            long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
            while (!state.startsWith("state REFUSING") || !state.contains("had a failed fsync")) {
                assertTrue(System.nanoTime() < until, state);
                say(in, "");
                state = String.valueOf(out.readLine());
                assertFalse(state.startsWith("acked"), state);
            }
            Files.delete(fault); // it works again, but what is on the disk?
            for (int i = 0; i < 20; i++) {
                say(in, "");
            }
            in.close();
            for (String line; !"closed".equals(line = out.readLine()); ) {
                assertNotNull(line, "the process died");
                assertFalse(line.startsWith("acked"), line);
            }
            assertTrue(child.waitFor(20, TimeUnit.SECONDS));
            assertEquals(0, child.exitValue());
        } finally {
            child.destroyForcibly().waitFor();
        }
        assertTrue(Database.size(Path.of(file + "-wal")) > 0, "what may not be on the disk was folded into the store");
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            assertTrue(acked <= count(file, "SELECT count(*) FROM wal"), acked + " acknowledged");
            assertEquals("durable", fixture.append(keyed("d1/k/after", "{}")));
        }
    }

    private static void say(Writer in, String line) throws IOException {
        in.write(line + "\n");
        in.flush();
    }

    private ProcessBuilder child(Path file) {
        return new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-XX:-CreateCoredumpOnCrash",
                "-XX:ErrorFile=" + directory.resolve("hs_err"), "-cp", System.getProperty("java.class.path"), DiskChild.class.getName(),
                file.toString()).redirectError(directory.resolve("err").toFile());
    }

    @Test
    void aDiskThatShrinksOnlyALittleDegrades() throws Exception {
        try (TestDisk disk = TestDisk.tmpfs(directory.resolve("disk"), 16)) {
            Path file = disk.path().resolve("gateway.db");
            try (Fixture fixture = new Fixture(TestConfig.at(file).with("wal.min.free.bytes", "" + 2 * MIB))) {
                Device device = new Device(fixture);
                assertTrue(device.send(10));
                Files.write(disk.path().resolve("other"), new byte[(int) (disk.usable() - 3 * MIB)]);
                await("DEGRADED", () -> fixture.wal.state() == WalState.DEGRADED);
                assertTrue(fixture.wal.reason().contains("wal.min.free.bytes"), fixture.wal.reason());
                assertTrue(device.send(10));
                Files.delete(disk.path().resolve("other"));
                await("DURABLE", () -> fixture.wal.state() == WalState.DURABLE);
            }
        }
    }


    private static long count(Path file, String sql) {
        try {
            return Long.parseLong(row(file, sql));
        } catch (SQLException e) {
            throw new AssertionError(e);
        }
    }
}
