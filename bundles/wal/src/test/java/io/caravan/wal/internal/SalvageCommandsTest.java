// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static io.caravan.wal.internal.Fixture.execute;
import static io.caravan.wal.internal.Fixture.row;
import static io.caravan.wal.internal.Fixture.rows;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Commands, capabilities and desired state out of a damaged file: nothing is carried out twice for it. */
class SalvageCommandsTest {
    private static final int COMMANDS = 300;
    private static final List<String> TABLES = List.of(
            "SELECT seq, command_id, device_id, name, arguments, status, revision, attempts, hex(content_hash), final_at_ms FROM command ORDER BY seq",
            "SELECT command_seq, revision, status, reason, at_ms FROM command_event ORDER BY 1, 2",
            "SELECT * FROM capability ORDER BY 1", "SELECT * FROM twin ORDER BY 1");
    @TempDir Path directory;
    private Path sound;

    /** A third is open and waits, a third is published, a third is over. The log's first rows are of before commands. */
    @BeforeEach
    void makeAStore() throws Exception {
        sound = directory.resolve("sound.db");
        try (Fixture fixture = new Fixture(TestConfig.at(sound))) {
            SalvageTest.fill(fixture, 1, 50, new java.util.Random(1));
            execute(sound, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " + COMMANDS + ")"
                    + " INSERT INTO command (command_id, device_id, name, arguments, content_hash, origin, issued_by, status, revision, idempotent, accepted_at_ms,"
                    + " expires_at_ms, os_boot_id, deadline_mono_ms, attempts, final_at_ms)"
                    + " SELECT 'c-' || i, 'dev-' || (i % 7), 'unlock', '{\"pad\":\"' || hex(randomblob(iif(i % 40 = 0, 3000, 100))) || '\"}', x'00ff', 'cloud', 'me',"
                    + " iif(i % 3 = 2, 'SUCCEEDED', 'QUEUED'), 2, i % 2, 1, 2, 'boot', 3, iif(i % 3 = 0, 0, 1), iif(i % 3 = 2, 9, NULL) FROM n");
            execute(sound, "INSERT INTO command_event SELECT seq, r.value, iif(r.value = 1, 'ACCEPTED', status), NULL, NULL, 5 FROM command, json_each('[1,2]') r");
            execute(sound, "INSERT INTO capability SELECT 'dev-' || seq, '1', '{\"commands\":{},\"pad\":\"' || hex(randomblob(300)) || '\"}', seq, 7 FROM wal");
            execute(sound, "INSERT INTO twin SELECT 'dev-' || seq, '{\"a\":1}', 3, 4, 'me', '{\"b\":\"' || hex(randomblob(300)) || '\"}', 5, 6 FROM wal");
            execute(sound, "INSERT INTO outbox (kind, device_id, message_key, observed_at_ms, created_at_ms, body) SELECT 'command', device_id,"
                    + " device_id || '//c/' || command_id || '/' || r, 5, 5, iif(seq % 2, json_object('events', json_array(json(e))), e) FROM"
                    + " (SELECT *, json_object('device_id', iif(seq % 2, device_id, NULL), 'command_id', command_id, 'revision', r.value, 'status',"
                    + " iif(r.value = 1, 'ACCEPTED', status), 'at_ms', 5, 'name', iif(r.value = 1, name, NULL)) AS e, r.value AS r FROM command, json_each('[1,2]') r WHERE seq > 250)");
        }
    }

    @Test
    void whereNothingIsDamagedAllIsThereAndWaitingCommandsStillWait() throws Exception {
        Path file = salvage(bytes -> { });
        for (String table : TABLES) {
            assertEquals(rows(sound, table), rows(file, table));
        }
        assertEquals(COMMANDS + "", row(file, "SELECT seq FROM sqlite_sequence WHERE name = 'command'"));
        assertEquals("1 51 50", row(file, "SELECT s.internal, q.seq + 1, r.acked_seq + 50 FROM sink s JOIN sink_range r ON r.sink = s.name"
                + " JOIN sqlite_sequence q ON q.name = 'wal' WHERE s.name = 'answers'"));
        assertEquals("0", row(file, "SELECT count(*) FROM ledger WHERE unaccounted <> 0"));
    }

    @Test
    void withADamagedPageOfCommandsTheOthersAreKeptAndNoneThatMayHaveBeenPublishedIsPublished() throws Exception {
        for (int page : pagesOf("command")) {
            Path file = salvage(bytes -> scribble(bytes, page));
            List<String> before = rows(sound, "SELECT command_id FROM command ORDER BY seq");
            List<String> after = rows(file, "SELECT command_id FROM command WHERE issued_by = 'me' ORDER BY seq");
            assertTrue(before.containsAll(after));
            assertEquals("0", row(file, "SELECT count(*) FROM command WHERE final_at_ms IS NULL AND attempts = 0 AND idempotent = 0"), "page " + page);
            assertEquals("0", row(file, "SELECT count(*) FROM command_event WHERE command_seq NOT IN (SELECT seq FROM command)"));
            // What the cloud has no event of would be sent again: it must be known.
            List<String> known = rows(file, "SELECT command_id FROM command");
            assertTrue(known.containsAll(before.subList(250, COMMANDS)), "page " + page + ": " + known.size());
            assertEquals(new HashSet<>(known).size(), known.size());
            assertTrue(Long.parseLong(row(file, "SELECT seq FROM sqlite_sequence WHERE name = 'command'")) >= after.size());
        }
    }

    @Test
    void mostOfTheTableIsLeftWhenOneOfItsLeavesIsDamaged() throws Exception {
        Set<Integer> leaves = new HashSet<>();
        try (Pages pages = new Pages(sound)) {
            for (int page : pagesOf("command")) {
                ByteBuffer content = ByteBuffer.allocate(Pages.SIZE);
                pages.page(page, content);
                if (Pages.type(page, content) == Pages.TABLE_LEAF) {
                    leaves.add(page);
                }
            }
        }
        assertTrue(leaves.size() > 5);
        for (int page : leaves) {
            Path file = salvage(bytes -> scribble(bytes, page));
            int left = rows(file, "SELECT 1 FROM command WHERE issued_by = 'me'").size();
            assertTrue(left >= COMMANDS - 30 && left < COMMANDS, "page " + page + ": " + left);
            assertEquals(rows(sound, TABLES.get(2)), rows(file, TABLES.get(2)));
            assertEquals(rows(sound, TABLES.get(3)), rows(file, TABLES.get(3)));
        }
    }

    @Test
    void eachPageOfCapabilitiesAndTwinsDamagedLosesNothingElse() throws Exception {
        for (String table : List.of("capability", "twin")) {
            for (int page : pagesOf(table)) {
                Path file = salvage(bytes -> scribble(bytes, page));
                for (int i = 0; i < TABLES.size(); i++) {
                    List<String> before = rows(sound, TABLES.get(i));
                    List<String> after = rows(file, TABLES.get(i));
                    assertTrue(before.containsAll(after), table + " page " + page);
                    if (!TABLES.get(i).contains(" " + table)) {
                        assertEquals(before, after, table + " page " + page);
                    }
                }
            }
        }
    }

    @Test
    void aStoreOfTheVersionBeforeGetsItsConsumerAtTheEndOfTheLog() throws Exception {
        Path file = salvage(bytes -> { }, "DROP TABLE command_event; DROP TABLE command; DROP TABLE capability; DROP TABLE twin;"
                + "DELETE FROM sink WHERE name = 'answers'; DELETE FROM sink_range WHERE sink = 'answers'; DELETE FROM sqlite_sequence WHERE name = 'command';"
                + "PRAGMA user_version = 3");
        assertEquals("1 51 50", row(file, "SELECT s.internal, s.start_seq, r.acked_seq FROM sink s JOIN sink_range r ON r.sink = s.name WHERE s.name = 'answers'"));
        assertEquals("0", row(file, "SELECT count(*) FROM ledger WHERE unaccounted <> 0"));
        for (String table : TABLES) {
            assertEquals(List.of(), rows(file, table));
        }
    }

    @Test
    void aLostCursorOfAnswersBeginsAgainAtTheOldestRow() throws Exception {
        Path file = salvage(bytes -> { }, "DELETE FROM sink_range WHERE sink = 'answers'");
        assertEquals("1 0", row(file, "SELECT first_seq, acked_seq FROM sink_range WHERE sink = 'answers'"));
        assertNotEquals("", row(file, "SELECT 1 FROM incident WHERE detail LIKE '%answers%'"));
        assertEquals("0", row(file, "SELECT count(*) FROM ledger WHERE unaccounted <> 0"));
    }

    // ---- tools

    private interface Harm {
        void to(RandomAccessFile file) throws Exception;
    }

    private Path salvage(Harm harm, String... sql) throws Exception {
        Path file = directory.resolve("gateway.db");
        Files.deleteIfExists(file);
        Files.copy(sound, file);
        for (String each : sql) {
            try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + file); Statement statement = connection.createStatement()) {
                statement.executeUpdate(each);
            }
        }
        try (RandomAccessFile bytes = new RandomAccessFile(file.toFile(), "rw")) {
            harm.to(bytes);
        }
        Quarantine quarantine = Quarantine.of(file, 1_000, "a test");
        quarantine.move();
        Salvage.run(quarantine, () -> false);
        quarantine.replace();
        assertEquals("ok", row(file, "PRAGMA integrity_check"));
        return file;
    }

    private static void scribble(RandomAccessFile file, int page) throws Exception {
        byte[] nonsense = new byte[Pages.SIZE];
        java.util.Arrays.fill(nonsense, (byte) 0xA5);
        file.seek((page - 1L) * Pages.SIZE);
        file.write(nonsense);
    }

    private List<Integer> pagesOf(String table) throws Exception {
        List<Integer> pages = new ArrayList<>();
        for (String page : rows(sound, "SELECT pageno FROM dbstat WHERE name = '" + table + "'")) {
            pages.add(Integer.parseInt(page));
        }
        assertFalse(pages.isEmpty());
        return pages;
    }
}
