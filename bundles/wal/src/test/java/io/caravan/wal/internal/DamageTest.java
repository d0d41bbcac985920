// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static io.caravan.wal.internal.Fixture.await;
import static io.caravan.wal.internal.Fixture.row;
import static io.caravan.wal.internal.Fixture.rows;
import static io.caravan.wal.internal.SalvageTest.contents;
import static io.caravan.wal.internal.SalvageTest.fill;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.AppendResult;
import io.caravan.wal.WalState;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.health.HealthCheck;
import org.apache.camel.health.HealthCheckRegistry;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A damaged store is noticed, put aside and replaced, at the start and in use (G10). */
class DamageTest {
    private static final int FRAME = 24 + Pages.SIZE;
    private final long seed = Long.getLong("seed", System.nanoTime());
    private final Random random = new Random(seed);
    @TempDir Path directory;

    /** What a kill -9 leaves behind: a store whose last commits are in the -wal file only. */
    private Path image(int rows, int commits) throws Exception {
        Path live = directory.resolve("live/gateway.db");
        Path image = Files.createDirectories(directory.resolve("image")).resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(live).with("wal.checkpoint.bytes", "67108864"))) {
            fill(fixture, 1, rows, random);
            Fixture.execute(live, "PRAGMA wal_checkpoint(TRUNCATE)");
            // The checkpointer looks every second; the copy is taken between two of its looks or after one, both happen.
            for (int i = 0; i < commits; i++) {
                fill(fixture, rows + 1 + i * 20, rows + 20 + i * 20, random);
            }
            for (String suffix : new String[] {"", "-wal", "-shm", ".lock"}) {
                Files.copy(Path.of(live + suffix), Path.of(image + suffix));
            }
        }
        return image;
    }

    private Path copy(Path image, String name) throws IOException {
        Path file = Files.createDirectories(directory.resolve(name)).resolve("gateway.db");
        for (String suffix : new String[] {"", "-wal", "-shm", ".lock"}) {
            if (Files.exists(Path.of(image + suffix))) {
                Files.copy(Path.of(image + suffix), Path.of(file + suffix));
            }
        }
        return file;
    }

    private static void flip(Path file, long at, int bit) throws IOException {
        try (RandomAccessFile bytes = new RandomAccessFile(file.toFile(), "rw")) {
            bytes.seek(at);
            int old = bytes.read();
            bytes.seek(at);
            bytes.write(old ^ 1 << bit);
        }
    }

    private static Set<Long> lostOf(Path file) throws Exception {
        Set<Long> lost = new HashSet<>();
        for (String range : rows(file, "SELECT first_seq, last_seq FROM lost_range")) {
            for (long seq = Long.parseLong(range.split(" ")[0]); seq <= Long.parseLong(range.split(" ")[1]); seq++) {
                lost.add(seq);
            }
        }
        return lost;
    }

    private static HealthCheck.Result health(Fixture fixture) {
        return HealthCheckRegistry.get(fixture.context).getCheck("wal").orElseThrow().call();
    }

    @Test
    void aKilledStoreIsNotTakenForADamagedOne() throws Exception {
        Path image = image(300, 10);
        Path whole = copy(image, "whole");
        Path withoutIndex = copy(image, "without");
        Files.delete(Path.of(withoutIndex + "-shm"));
        Path torn = copy(image, "torn"); // the last, unacknowledged, transaction of a power cut
        Files.write(Path.of(torn + "-wal"), new byte[3 * FRAME + 100], java.nio.file.StandardOpenOption.APPEND);
        for (Path file : List.of(whole, withoutIndex, torn)) {
            try (Fixture fixture = new Fixture(TestConfig.at(file))) {
                assertEquals(HealthCheck.State.UP, health(fixture).getState(), file.toString());
                assertEquals("500", row(file, "SELECT count(*) FROM wal"));
            }
            assertEquals(List.of(), Quarantine.kept(file));
        }
    }

    /** Its commit frame is there and whole, pages between are not: it was never synced, and nobody was told of it. */
    @Test
    void aTransactionThatMadeTheStoreLongerAndWasTornByAPowerCutIsNoDamage() throws Exception {
        Path image = image(300, 10);
        int first = lastFrame(image);
        Path live = copy(image, "grown");
        Path torn;
        try (Connection connection = java.sql.DriverManager.getConnection("jdbc:sqlite:" + live); Statement statement = connection.createStatement()) {
            statement.execute("PRAGMA wal_autocheckpoint = 0");
            statement.executeUpdate("INSERT INTO rejected (received_at_ms, correlation_id, source, topic, reason, error, body)"
                    + " SELECT 1, 'c' || seq, 'mqtt', 't', 'bad_topic', 'e', randomblob(2000) FROM wal");
            torn = copy(live, "half");
        }
        int last = lastFrame(torn);
        assertTrue(last > first + 100, first + " to " + last);
        Files.delete(Path.of(torn + "-shm"));
        try (RandomAccessFile bytes = new RandomAccessFile(torn + "-wal", "rw")) {
            for (int frame = first + 1; frame < last - 1; frame++) {
                bytes.seek(32 + (frame + 1L) * FRAME - 512);
                bytes.write(new byte[512]);
            }
        }
        try (Fixture fixture = new Fixture(TestConfig.at(torn))) {
            assertEquals(HealthCheck.State.UP, health(fixture).getState());
            assertEquals("500 0", row(torn, "SELECT count(*), (SELECT count(*) FROM rejected) FROM wal"));
        }
        assertEquals(List.of(), Quarantine.kept(torn));
    }

    @Test
    void damageInTheWalFileIsNoticedWhereSqliteWouldDropCommitsInSilence() throws Exception {
        Path image = image(300, 40);
        int frames = (int) ((Files.size(Path.of(image + "-wal")) - 32) / FRAME);
        int committed = lastFrame(image);
        assertTrue(committed > 100 && committed <= frames, committed + " of " + frames);
        Map<Long, String> before = contents(copy(image, "before"));
        assertEquals(1_100, before.size());
        int rounds = 25;
        int detected = 0;
        long salvaged = 0;
        long lostRows = 0;
        for (int round = 0; round < rounds; round++) {
            Path file = copy(image, "round-" + round);
            int frame = random.nextInt(committed);
            long at = round == 0 ? random.nextInt(32) : 32 + (long) frame * FRAME + random.nextInt(round % 5 == 0 ? 24 : FRAME);
            if (round == 0) {
                at = 8 + random.nextInt(24);
            }
            flip(Path.of(file + "-wal"), at, random.nextInt(8));
            String what = "byte " + at + ", frame " + frame + " of " + committed + ", seed " + seed;
            try (Fixture fixture = new Fixture(TestConfig.at(file))) {
                Map<Long, String> there = contents(file);
                Set<Long> lost = lostOf(file);
                there.forEach((seq, text) -> assertEquals(before.get(seq), text, "altered, " + what));
                Set<Long> gone = new HashSet<>(before.keySet());
                gone.removeAll(there.keySet());
                assertEquals(gone, lost, what);
                assertTrue(lost.size() <= 60, "one page's rows at most: " + lost.size() + ", " + what);
                salvaged += there.size();
                lostRows += lost.size();
                assertEquals(1, Quarantine.kept(file).size(), "not noticed, " + what);
                detected++;
                assertEquals(HealthCheck.State.DOWN, health(fixture).getState(), what);
                assertEquals("durable", fixture.append(Fixture.keyed("new/k/1", "{}")));
                assertEquals("1101", row(file, "SELECT max(seq) FROM wal"), what);
            }
            assertEquals("", row(file, "SELECT * FROM ledger WHERE log = 'wal' AND unaccounted <> 0"), what);
            // Another id where it could not be told any more how far the outbox was numbered, and only there.
            boolean told = row(file, "SELECT detail FROM incident").contains("the outbox has a new log id");
            assertEquals(told, !row(directory.resolve("live/gateway.db"), "SELECT log_id FROM meta").equals(row(file, "SELECT log_id FROM meta")), what);
        }
        assertEquals(rounds, detected);
        System.out.println("-wal frames: " + detected + "/" + rounds + " detected, " + salvaged + " rows salvaged, " + lostRows + " lost");
    }

    private static int lastFrame(Path store) throws IOException {
        try (RandomAccessFile index = new RandomAccessFile(store + "-shm", "r")) {
            index.seek(16);
            return Integer.reverseBytes(index.readInt());
        }
    }

    @Test
    void aCutWalFile() throws Exception {
        Path image = image(300, 40);
        int committed = lastFrame(image);
        Map<Long, String> before = contents(copy(image, "before"));
        int detected = 0;
        for (int round = 0; round < 8; round++) {
            Path file = copy(image, "round-" + round);
            long size = round == 0 ? 0 : 32 + (long) random.nextInt(committed - 1) * FRAME + random.nextInt(FRAME);
            try (RandomAccessFile bytes = new RandomAccessFile(file + "-wal", "rw")) {
                bytes.setLength(size);
            }
            try (Fixture fixture = new Fixture(TestConfig.at(file))) {
                Map<Long, String> there = contents(file);
                there.forEach((seq, text) -> assertEquals(before.get(seq), text, "altered, " + size + ", seed " + seed));
                assertTrue(there.size() >= 300, "what had been moved into the store is there");
                if (health(fixture).getState() == HealthCheck.State.DOWN) {
                    detected++;
                    // What the cloud may have seen under the old id would be given again.
                    assertFalse(row(directory.resolve("live/gateway.db"), "SELECT log_id FROM meta").equals(row(file, "SELECT log_id FROM meta")));
                } else {
                    assertEquals(before.size(), there.size(), "rows are gone and nobody noticed, " + size + ", seed " + seed);
                }
            }
        }
        assertTrue(detected >= 6, "detected " + detected);
    }

    @Test
    void damageThatShowsAtTheStart() throws Exception {
        Path sound = directory.resolve("sound/gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(sound))) {
            fill(fixture, 1, 600, random);
        }
        Map<Long, String> before = contents(sound);
        Map<String, long[]> flips = new TreeMap<>(Map.of("magic", new long[] {3, 1}, "page size", new long[] {16, 6}, "application id", new long[] {69, 4},
                "version", new long[] {60, 6}, "encoding", new long[] {59, 1}, "root page", new long[] {100, 3}, "schema version zero", new long[] {63, 2}));
        for (Map.Entry<String, long[]> flip : flips.entrySet()) {
            Path file = copy(sound, flip.getKey().replace(' ', '-'));
            flip(file, flip.getValue()[0], (int) flip.getValue()[1]);
            replaced(file, before, flip.getKey());
        }
        Path cut = copy(sound, "cut");
        try (RandomAccessFile bytes = new RandomAccessFile(cut.toFile(), "rw")) {
            bytes.setLength(bytes.length() - 3 * Pages.SIZE - 100);
        }
        replaced(cut, null, "cut");
        Path empty = copy(sound, "empty");
        Files.write(empty, new byte[0]);
        replaced(empty, Map.of(), "empty");
        Path gone = copy(sound, "gone");
        Files.delete(gone);
        replaced(gone, Map.of(), "gone");
    }

    private void replaced(Path file, Map<Long, String> expected, String what) throws Exception {
        byte[] damaged = Files.exists(file) ? Files.readAllBytes(file) : null;
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            assertEquals(HealthCheck.State.DOWN, health(fixture).getState(), what);
            assertTrue(health(fixture).getMessage().orElse("").contains("wal:acknowledge"), what);
            assertEquals(WalState.DURABLE, fixture.wal.state());
            if (expected != null) {
                assertEquals(expected, contents(file), what);
            }
            assertEquals("durable", fixture.append(Fixture.keyed("new/k/1", "{}")), what);
            Path kept = Quarantine.kept(file).get(0).resolve("gateway.db");
            assertTrue(damaged == null || java.util.Arrays.equals(damaged, Files.readAllBytes(kept)), "the damaged file was changed, " + what);
        }
        try (Fixture again = new Fixture(TestConfig.at(file))) {
            assertEquals(HealthCheck.State.DOWN, health(again).getState(), "until somebody says so: " + what);
            assertEquals(1, again.database().incidents().acknowledge("me"));
            assertEquals(HealthCheck.State.UP, health(again).getState(), what);
            assertEquals("me", again.database().incidents().list(true).get(0).acknowledgedBy());
            assertEquals(0, again.database().incidents().acknowledge("me"));
        }
        assertFalse(Files.exists(Quarantine.marker(file)));
        assertEquals(1, Quarantine.kept(file).size(), what);
    }

    @Test
    void damageThatShowsInUse() throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            fill(fixture, 1, 3_000, random);
            fixture.context.addRoutes(new RouteBuilder() {
                @Override
                public void configure() {
                    from("direct:route").errorHandler(noErrorHandler()).transacted("transaction")
                            .to("sql:UPDATE sink SET attempts = attempts + 1 WHERE name = 'rollup'?dataSource=#writer")
                            .to("sql:SELECT attempts FROM sink WHERE name = 'rollup'?dataSource=#writer&outputType=SelectOne");
                }
            });
            ProducerTemplate route = fixture.context.createProducerTemplate();
            assertEquals(1, route.requestBody("direct:route", null, Integer.class));
            Fixture.execute(file, "PRAGMA wal_checkpoint(TRUNCATE)");
            Map<Long, String> before = contents(file);
            int pages = (int) (Files.size(file) / Pages.SIZE);
            Set<Integer> zeroed = new HashSet<>();
            try (RandomAccessFile bytes = new RandomAccessFile(file.toFile(), "rw")) {
                for (int i = 0; i < 3; i++) {
                    int page = pages / 2 + random.nextInt(pages / 2);
                    bytes.seek((page - 1L) * Pages.SIZE);
                    bytes.write(new byte[Pages.SIZE]);
                    zeroed.add(page);
                }
            }
            List<CompletableFuture<AppendResult>> stages = new ArrayList<>();
            boolean noticed = false;
            for (int i = 1; i <= 2_000; i++) {
                stages.add(fixture.wal.submit(Fixture.numbered("more", "b", i, "{\"n\":" + i + "}"), "mqtt-server", "t").toCompletableFuture());
                if (i == 500) {
                    noticed = readAll(fixture);
                }
            }
            assertTrue(noticed, "three empty pages are read without an error, seed " + seed);
            for (CompletableFuture<AppendResult> stage : stages) {
                assertEquals("durable", stage.get(30, TimeUnit.SECONDS).outcome());
            }
            await("it takes again", () -> fixture.wal.state() == WalState.DURABLE);
            assertEquals(HealthCheck.State.DOWN, health(fixture).getState());
            assertEquals(1, Quarantine.kept(file).size());
            Map<Long, String> there = contents(file);
            Set<Long> lost = lostOf(file);
            for (long seq = 1; seq <= 5_000; seq++) {
                assertTrue(there.containsKey(seq) != lost.contains(seq), "row " + seq + ", seed " + seed);
                if (seq <= 3_000 && there.containsKey(seq)) {
                    assertEquals(before.get(seq), there.get(seq));
                }
            }
            assertTrue(lost.size() < 300 && lost.stream().allMatch(seq -> seq <= 3_000), "lost " + lost.size() + ", seed " + seed);
            assertEquals("5000 2000", row(file, "SELECT max(seq), (SELECT contiguous_seq FROM device_progress WHERE device_id = 'more') FROM wal"));
            assertFalse(readAll(fixture), "the beans read the new file");
            assertEquals(2, route.requestBody("direct:route", null, Integer.class), "routes that run hold beans that last");
            assertEquals(1, fixture.database().incidents().acknowledge("me"));
            assertEquals(HealthCheck.State.UP, health(fixture).getState());
        }
        assertEquals("ok", row(file, "PRAGMA integrity_check"));
        assertEquals("", row(file, "SELECT * FROM ledger WHERE log = 'wal' AND unaccounted <> 0"));
    }

    /** As a sink does. @return whether it was told that the file is damaged */
    private static boolean readAll(Fixture fixture) {
        try (Connection reader = fixture.database().reader().getConnection(); Statement statement = reader.createStatement();
                ResultSet all = statement.executeQuery("SELECT sum(length(body)) + (SELECT count(*) FROM wal INDEXED BY wal_message_key WHERE message_key > '') FROM wal")) {
            return !all.next();
        } catch (SQLException e) {
            return true;
        }
    }

    @Test
    void aKillDuringTheRepairIsGoneOnFrom() throws Exception {
        Path sound = directory.resolve("sound/gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(sound))) {
            fill(fixture, 1, 4_000, random);
        }
        Map<Long, String> before = contents(sound);
        int killed = 0;
        for (int round = 0; round < 2; round++) {
            Path file = copy(sound, "kill-" + round);
            flip(file, 5, 2);
            byte[] damaged = Files.readAllBytes(file);
            for (int kill = 0; kill < 5; kill++) {
                if (openAndKill(file, kill)) {
                    killed++;
                }
                // At no time is there a store that looks healthy and is not.
                if (Files.exists(file) && !Files.exists(Quarantine.marker(file)) && !Quarantine.kept(file).isEmpty()) {
                    assertEquals("4000 1", row(copy(file, "look-" + round + "-" + kill), "SELECT count(*), (SELECT count(*) FROM incident) FROM wal"));
                }
            }
            try (Fixture fixture = new Fixture(TestConfig.at(file))) {
                assertEquals(before, contents(file));
                assertEquals("1", row(file, "SELECT count(*) FROM incident"));
                assertEquals(HealthCheck.State.DOWN, health(fixture).getState());
            }
            assertEquals(1, Quarantine.kept(file).size());
            assertTrue(java.util.Arrays.equals(damaged, Files.readAllBytes(Quarantine.kept(file).get(0).resolve("gateway.db"))));
            assertFalse(Files.exists(Path.of(file + ".salvaged")));
        }
        assertTrue(killed > 3, "the repair was always quicker: " + killed);
    }

    /** @return whether it was killed before the store was open */
    private boolean openAndKill(Path file, int nth) throws Exception {
        Process child = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx128m",
                "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"), RepairChild.class.getName(), file.toString())
                .redirectErrorStream(true).start();
        try (BufferedReader lines = new BufferedReader(new InputStreamReader(child.getInputStream(), StandardCharsets.UTF_8))) {
            for (String line; (line = lines.readLine()) != null; ) {
                if (line.equals("opening")) {
                    // Somewhere in the repair: as long as it takes to see so much of the new file.
                    long enough = random.nextInt(4_000_000);
                    while (child.isAlive() && !Files.exists(Quarantine.marker(file)) && !lines.ready()) {
                        Thread.onSpinWait();
                    }
                    while (nth > 0 && child.isAlive() && Files.exists(Quarantine.marker(file)) && Database.size(Path.of(file + ".salvaged")) < enough) {
                        Thread.onSpinWait();
                    }
                    boolean open = lines.ready() && "open".equals(lines.readLine());
                    child.toHandle().destroyForcibly();
                    child.waitFor(10, TimeUnit.SECONDS);
                    return !open;
                }
            }
        } finally {
            child.destroyForcibly();
        }
        throw new AssertionError("the child did not begin");
    }

    @Test
    void withoutRoomItWaitsAndSaysSo() throws Exception {
        Path disk = Files.createDirectories(directory.resolve("disk"));
        if (new ProcessBuilder("mount", "-t", "tmpfs", "-o", "size=24m", "caravan-test", disk.toString()).start().waitFor() != 0) {
            return; // who may not mount cannot make this disk; everything else about a full disk is in RefusingTest
        }
        try {
            Path file = disk.resolve("gateway.db");
            try (Fixture fixture = new Fixture(TestConfig.at(file))) {
                fill(fixture, 1, 500, random);
            }
            flip(file, 5, 2);
            Path ballast = disk.resolve("ballast");
            Files.write(ballast, new byte[16 << 20]);
            IOException e = assertThrows(IOException.class, () -> new Fixture(TestConfig.at(file)).close());
            assertTrue(e.getMessage().contains("no room") && e.getMessage().contains(disk.toString()), e.getMessage());
            assertTrue(Files.exists(Quarantine.marker(file)) && !Files.exists(file));
            Files.delete(ballast);
            new Fixture(TestConfig.at(file)).close();
            assertEquals("500", row(file, "SELECT count(*) FROM wal"));
        } finally {
            assertEquals(0, new ProcessBuilder("umount", disk.toString()).start().waitFor());
        }
    }

    @Test
    void whatIsNotOursIsLeftAlone() throws Exception {
        Path other = directory.resolve("other.db");
        Fixture.execute(other, "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT)");
        byte[] before = Files.readAllBytes(other);
        IOException e = assertThrows(IOException.class, () -> new Fixture(TestConfig.at(other)).close());
        assertTrue(e.getMessage().contains("not a gateway's store"), e.getMessage());
        assertTrue(java.util.Arrays.equals(before, Files.readAllBytes(other)));
        assertEquals(List.of(), Quarantine.kept(other));
    }
}
