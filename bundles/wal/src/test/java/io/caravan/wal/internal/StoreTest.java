// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static io.caravan.wal.internal.Fixture.row;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.List;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Opening, refusing to open, and who may write. */
class StoreTest {
    @TempDir Path directory;

    @Test
    void aNewStoreHasTheSettingsThePromiseRestsOn() throws Exception {
        Path file = directory.resolve("a/b/gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            assertEquals("rwx------", PosixFilePermissions.toString(Files.getPosixFilePermissions(file.getParent())));
            assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(file)));
            assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(Path.of(file + "-wal"))));
            assertEquals("4", row(file, "PRAGMA user_version"));
            assertEquals("2", row(file, "PRAGMA auto_vacuum"));
            assertEquals("4096", row(file, "PRAGMA page_size"));
            assertEquals("wal", row(file, "PRAGMA journal_mode"));
            assertEquals("36", row(file, "SELECT length(log_id) FROM meta"));
            try (Connection writer = bean(fixture, "writer").getConnection(); Statement statement = writer.createStatement()) {
                assertEquals(2, statement.executeQuery("PRAGMA synchronous").getInt(1));
                assertEquals(1, statement.executeQuery("PRAGMA foreign_keys").getInt(1));
            }
            try (Connection reader = bean(fixture, "reader").getConnection(); Statement statement = reader.createStatement()) {
                assertThrows(SQLException.class, () -> statement.executeUpdate("DELETE FROM sink"));
            }
        }
        assertFalse(Files.exists(Path.of(file + "-wal")), "a clean stop leaves one file");
    }

    @Test
    void theCloudHasItsOwnTablesAndNoLog() throws Exception {
        Path file = directory.resolve("cloud.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file).with("container.role", "cloud"))) {
            assertEquals("1", row(file, "SELECT count(*) FROM sink WHERE name = 'store'"));
            assertEquals(null, fixture.wal);
        }
        IOException e = assertThrows(IOException.class, () -> new Fixture(TestConfig.at(file)).close());
        assertTrue(e.getMessage().contains("not a gateway's store"), e.getMessage());
    }

    @Test
    void aNewerStoreIsRefused() throws Exception {
        Path file = directory.resolve("gateway.db");
        new Fixture(TestConfig.at(file)).close();
        Fixture.execute(file, "PRAGMA user_version = 5");
        IOException e = assertThrows(IOException.class, () -> new Fixture(TestConfig.at(file)).close());
        assertTrue(e.getMessage().contains("version 5") && e.getMessage().contains("wal.path"), e.getMessage());
        Fixture.execute(file, "PRAGMA user_version = 4");
        new Fixture(TestConfig.at(file)).close(); // nothing was left locked
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3})
    void anOlderStoreIsMigratedAndKeepsWhatItKnows(int version) throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Connection connection = java.sql.DriverManager.getConnection("jdbc:sqlite:" + file); Statement statement = connection.createStatement()) {
            statement.execute("PRAGMA auto_vacuum = INCREMENTAL");
            for (int script = 1; script <= version; script++) {
                try (var in = Schema.class.getResourceAsStream("/io/caravan/wal/gateway-" + script + ".sql")) {
                    statement.executeUpdate(new String(in.readAllBytes(), java.nio.charset.StandardCharsets.UTF_8));
                }
            }
            statement.executeUpdate("INSERT INTO meta (one, log_id, created_at_ms) VALUES (1, '0193c1d2-0000-7000-8000-000000000001', 1)");
            statement.executeUpdate("INSERT INTO device_progress (device_id, boot_id, contiguous_seq, highest_seq, updated_at_ms)"
                    + " VALUES ('d1', 'b1', 41, 50, 7)");
            statement.execute("PRAGMA application_id = " + Schema.GATEWAY.applicationId());
            statement.execute("PRAGMA user_version = " + version);
        }
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            assertEquals("4 0193c1d2-0000-7000-8000-000000000001", row(file, "SELECT (SELECT user_version FROM pragma_user_version), log_id FROM meta"));
            assertEquals("d1 b1 41 50 7 0 0", row(file, "SELECT * FROM device_progress"));
            assertEquals("duplicate", fixture.append(Fixture.numbered("d1", "b1", 41, "{}")));
            assertEquals("durable", fixture.append(Fixture.signed("d1", "b1", 51, "{}", 10)));
            assertEquals("41 51 51", row(file, "SELECT contiguous_seq, highest_seq, signed_seq FROM device_progress"));
        }
    }

    @Test
    void aDirectoryThatCannotBeMadeIsSaidWithAdvice() throws Exception {
        Path plain = Files.createFile(directory.resolve("plain"));
        IOException e = assertThrows(IOException.class, () -> new Fixture(TestConfig.at(plain.resolve("x/gateway.db"))).close());
        assertTrue(e.getMessage().contains("gateway.db") && e.getMessage().contains("wal.path"), e.getMessage());
    }

    @Test
    void aFileThatIsNoDatabaseIsLeftAlone() throws Exception {
        Path file = directory.resolve("gateway.db");
        Files.writeString(file, "these are a hundred characters of something else, which nobody wants to lose to a gateway's table ....");
        IOException e = assertThrows(IOException.class, () -> new Fixture(TestConfig.at(file)).close());
        assertTrue(e.getMessage().contains("not a database"), e.getMessage());
        assertTrue(Files.readString(file).startsWith("these are"));
    }

    @Test
    void aSecondOpenerIsRefused() throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            IOException e = assertThrows(IOException.class, () -> new Fixture(TestConfig.at(file)).close());
            assertTrue(e.getMessage().contains("in use by process [" + ProcessHandle.current().pid() + "]"), e.getMessage());
            Process second = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-cp",
                    System.getProperty("java.class.path"), CrashChild.class.getName(), file.toString(), "1", "x")
                    .redirectErrorStream(true).redirectOutput(new File(directory.toFile(), "out")).start();
            boolean ended = second.waitFor(30, TimeUnit.SECONDS);
            second.destroyForcibly();
            assertTrue(ended, "the second process was let in");
            assertEquals(1, second.exitValue());
            assertTrue(Files.readString(directory.resolve("out")).contains("in use by process"), Files.readString(directory.resolve("out")));
            assertEquals("durable", fixture.append(Fixture.keyed("d/k/1", "{}")));
        }
    }

    @Test
    void aStoreUsedWithoutDedupeIsNoStoreAnyMore() throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file).with("wal.unsafe.dedupe", "off"))) {
            assertEquals(List.of("durable", "durable"),
                    fixture.appendAll(List.of(Fixture.keyed("d/k/1", "{}"), Fixture.keyed("d/k/1", "{}"))));
            assertEquals("2", row(file, "SELECT count(*) FROM wal"));
        }
        IOException e = assertThrows(IOException.class, () -> new Fixture(TestConfig.at(file)).close());
        assertTrue(e.getMessage().contains("wal.unsafe.dedupe"), e.getMessage());
    }

    @Test
    void aConnectionWhoseBeginFailedIsNotGivenOutAgain() throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            DataSource writer = bean(fixture, "writer");
            try (Connection other = java.sql.DriverManager.getConnection("jdbc:sqlite:" + file); Statement lock = other.createStatement()) {
                lock.execute("BEGIN IMMEDIATE");
                try (Connection first = writer.getConnection()) {
                    assertThrows(SQLException.class, () -> first.setAutoCommit(false));
                }
                lock.execute("ROLLBACK");
            }
            try (Connection second = writer.getConnection(); Statement statement = second.createStatement()) {
                assertTrue(second.getAutoCommit());
                second.setAutoCommit(false);
                statement.executeUpdate("UPDATE sink SET delivered = 9");
                second.rollback();
                second.setAutoCommit(true);
            }
            assertEquals("0", row(file, "SELECT max(delivered) FROM sink"));
        }
    }

    @Test
    void appendInsideATransactionFailsInsteadOfWaitingForItself() throws Exception {
        try (Fixture fixture = new Fixture(TestConfig.at(directory.resolve("gateway.db")));
                Connection mine = bean(fixture, "writer").getConnection()) {
            assertThrows(java.util.concurrent.ExecutionException.class, () -> fixture.append(Fixture.keyed("d/k/1", "{}")));
            assertThrows(SQLException.class, () -> bean(fixture, "writer").getConnection());
            assertFalse(mine.isClosed());
        }
    }

    private static DataSource bean(Fixture fixture, String name) {
        return fixture.context.getRegistry().lookupByNameAndType(name, DataSource.class);
    }
}
