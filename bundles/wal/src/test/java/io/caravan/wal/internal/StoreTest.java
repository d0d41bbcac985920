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

    private static final String FIVE = "CREATE TABLE news (id INTEGER PRIMARY KEY, said TEXT) STRICT;"
            + " ALTER TABLE wal ADD COLUMN colour TEXT; ALTER TABLE meta ADD COLUMN extra INTEGER NOT NULL DEFAULT 5";
    private static final String FIVE_BACK = "INSERT INTO refusal SELECT count(*) || ' news must be read first' FROM news HAVING count(*) > 0;"
            + " ALTER TABLE meta DROP COLUMN extra; ALTER TABLE wal DROP COLUMN colour; DROP TABLE news";

    /** The program as it will be: one version of the tables more. */
    private static void applyNext(Path file, String forth, String back) throws SQLException {
        int next = Schema.GATEWAY.version() + 1;
        try (Connection connection = java.sql.DriverManager.getConnection("jdbc:sqlite:" + file)) {
            Schema.GATEWAY.apply(connection, file.toString(), name -> name.equals("gateway-" + next) ? forth
                    : name.equals("gateway-" + next + "-back") ? back : name.endsWith("-back") ? null : script(name));
        }
    }

    private static String script(String name) {
        try (var in = Schema.class.getResourceAsStream("/io/caravan/wal/" + name + ".sql")) {
            return in == null ? null : new String(in.readAllBytes(), java.nio.charset.StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    @Test
    void anOlderProgramTakesANewerStoreBackAndLosesNoMessage() throws Exception {
        Path file = directory.resolve("gateway.db");
        String schema;
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            assertEquals("durable", fixture.append(Fixture.numbered("d1", "b1", 1, "{}")));
            schema = row(file, "SELECT group_concat(sql, char(10)) FROM (SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name)");
        }
        applyNext(file, FIVE, FIVE_BACK);
        Fixture.execute(file, "UPDATE wal SET colour = 'red'");
        assertEquals("5 5", row(file, "SELECT (SELECT user_version FROM pragma_user_version), extra FROM meta"));
        Fixture.execute(file, "INSERT INTO news (said) VALUES ('x')");
        IOException e = assertThrows(IOException.class, () -> new Fixture(TestConfig.at(file)).close());
        assertTrue(e.getMessage().contains("version 5 does not let go: 1 news must be read first"), e.getMessage());
        Fixture.execute(file, "DELETE FROM news");
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            assertEquals("4", row(file, "PRAGMA user_version"));
            assertEquals(schema, row(file, "SELECT group_concat(sql, char(10)) FROM (SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL"
                    + " AND name <> 'schema_change' ORDER BY name)"));
            assertEquals("0", row(file, "SELECT count(*) FROM schema_change"));
            assertEquals("duplicate", fixture.append(Fixture.numbered("d1", "b1", 1, "{}")));
            assertEquals("durable", fixture.append(Fixture.numbered("d1", "b1", 2, "{}")));
        }
        applyNext(file, FIVE, FIVE_BACK); // and forth again
        assertEquals("2 5", row(file, "SELECT (SELECT count(*) FROM wal), (SELECT version FROM schema_change)"));
    }

    @Test
    void aWayBackThatFailsOrIsDamagedChangesNothing() throws Exception {
        Path file = directory.resolve("gateway.db");
        new Fixture(TestConfig.at(file)).close();
        applyNext(file, FIVE, "DROP TABLE news; DROP TABLE no_such_table");
        IOException e = assertThrows(IOException.class, () -> new Fixture(TestConfig.at(file)).close());
        assertTrue(e.getMessage().contains("no_such_table"), e.getMessage());
        assertEquals("5 1", row(file, "SELECT (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema WHERE name = 'news')"));
        Fixture.execute(file, "UPDATE schema_change SET back = replace(back, 'news', 'wal')");
        e = assertThrows(IOException.class, () -> new Fixture(TestConfig.at(file)).close());
        assertTrue(e.getMessage().contains("the way back from version 5 is damaged"), e.getMessage());
        applyNext(file, FIVE, FIVE_BACK); // its own program still opens it
    }

    /** From the first release on. Versions before it have none: nobody has a program that would need it. */
    @Test
    void everyVersionHasAWayBack() throws Exception {
        assertEquals(null, fault(Schema.GATEWAY, "gateway", 4, StoreTest::script));
        assertEquals(null, fault(Schema.CLOUD, "cloud", 3, StoreTest::script));
        assertEquals(null, fault(FIVE.replaceAll(" ALTER TABLE wal[^;]*;", ""), FIVE_BACK.replaceAll(" ALTER TABLE wal[^;]*;", "")));
        assertEquals("gateway-5-back.sql is missing", fault("CREATE TABLE news (id INTEGER) STRICT", null));
        assertEquals("gateway-5-back.sql does not lead to version 4", fault("CREATE TABLE news (id INTEGER) STRICT", "UPDATE meta SET one = one"));
        assertEquals("gateway-5.sql alters a log", fault(FIVE, FIVE_BACK));
    }

    private String fault(String forth, String back) throws SQLException {
        return fault(Schema.GATEWAY, "gateway", 4, name -> name.equals("gateway-5") ? forth : name.equals("gateway-5-back") ? back
                : name.matches("gateway-[1-4]") ? script(name) : null);
    }

    /** What is wrong with the scripts after version {@code first}; null: nothing. */
    private String fault(Schema schema, String role, int first, Schema.Scripts scripts) throws SQLException {
        String older = null;
        for (int version = first; scripts.read(role + "-" + version) != null; version++) {
            int last = version;
            try (Connection connection = java.sql.DriverManager.getConnection("jdbc:sqlite::memory:")) {
                schema.apply(connection, "", name -> name.equals(role + "-" + (last + 1)) ? null : scripts.read(name));
                String tables = tables(connection);
                if (version > first) {
                    String script = role + "-" + version;
                    if (scripts.read(script + "-back") == null) {
                        return script + "-back.sql is missing";
                    }
                    // To drop a column again rewrites every row: minutes and the space of the whole log (docs/adr/0013).
                    if ((scripts.read(script) + scripts.read(script + "-back")).matches("(?is).*\\balter\\s+table\\s+(wal|outbox|inbox)\\b.*")) {
                        return script + ".sql alters a log";
                    }
                    schema.apply(connection, "", name -> name.equals(script) ? null : scripts.read(name));
                    if (!older.equals(tables(connection))) {
                        return script + "-back.sql does not lead to version " + (version - 1);
                    }
                }
                older = tables;
            }
        }
        return older == null ? role + "-" + first + ".sql is missing" : null;
    }

    private static String tables(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement(); var rows = statement.executeQuery("SELECT group_concat(sql, char(10))"
                + " FROM (SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name <> 'schema_change' ORDER BY name)")) {
            return rows.getString(1);
        }
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
