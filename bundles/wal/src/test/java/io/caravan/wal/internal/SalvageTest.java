// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static io.caravan.wal.internal.Fixture.row;
import static io.caravan.wal.internal.Fixture.rows;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What is saved out of a damaged file, against a copy from before the damage (G10). */
class SalvageTest {
    static final String EVERYTHING = "SELECT seq || '|' || quote(message_key) || quote(correlation_id) || quote(device_id) || quote(kind) || quote(lane)"
            + " || quote(boot_id) || quote(device_seq) || quote(observed_at_ms) || quote(received_at_ms) || quote(mono_ms) || quote(schema_version)"
            + " || quote(content_type) || quote(trace_context) || quote(body) || quote(crc) || quote(row_crc) FROM wal ORDER BY seq";
    private static final int ROWS = 2_000;
    private static final int ROUNDS = 25;

    private final long seed = Long.getLong("seed", System.nanoTime());
    private final Random random = new Random(seed);
    @TempDir Path directory;
    private Path sound;
    private Map<Long, String> rows;
    /** Where each row stands, and whether part of it stands elsewhere. */
    private final Map<Long, Integer> pageOf = new HashMap<>();
    private final Set<Long> overflowing = new HashSet<>();
    private final Map<Integer, Integer> types = new TreeMap<>();
    private int pages;

    @BeforeEach
    void makeAStore() throws Exception {
        sound = directory.resolve("sound.db");
        try (Fixture fixture = new Fixture(TestConfig.at(sound))) {
            fill(fixture, 1, ROWS, random);
            work(sound);
        }
        Fixture.execute(sound, "UPDATE device_progress SET signed_seq = highest_seq - 3, forgotten_seq = 2 WHERE device_id = 'dev-3'");
        rows = contents(sound);
        assertEquals(ROWS, rows.size());
        try (Pages file = new Pages(sound)) {
            pages = file.count();
            ByteBuffer page = ByteBuffer.allocate(Pages.SIZE);
            for (int number = 1; number <= pages; number++) {
                int at = number;
                file.page(number, page);
                types.put(number, Pages.type(number, page));
                if (types.get(number) == Pages.TABLE_LEAF) {
                    file.cells(number, page, (rowid, values) -> {
                        if (values.length == 17) {
                            pageOf.put(rowid, at);
                            if (((byte[]) values[14]).length > 3_500) {
                                overflowing.add(rowid);
                            }
                        }
                    }, new int[1]);
                }
            }
        }
        assertEquals(rows.keySet(), pageOf.keySet());
    }

    static void fill(Fixture fixture, int first, int last, Random random) throws Exception {
        java.util.ArrayList<io.caravan.wal.Record> records = new java.util.ArrayList<>();
        for (int i = first; i <= last; i++) {
            records.add(Fixture.numbered("dev-" + i % 7, "b" + i % 2, i, "{\"n\":" + i + ",\"pad\":\"" + "xyz".repeat(random.nextInt(i % 50 == 0 ? 4_000 : 150)) + "\"}"));
        }
        assertFalse(fixture.appendAll(records).stream().anyMatch(outcome -> !outcome.equals("durable")));
    }

    /** Sinks that have come some way, a dead letter, rejected messages, an outbox: the ledger is exact. */
    static void work(Path file) throws Exception {
        Fixture.execute(file, "UPDATE sink_range SET acked_seq = 1200, inflight_seq = 1200 WHERE sink = 'rollup';"
                + "UPDATE sink SET delivered = 1200 WHERE name = 'rollup';"
                + "INSERT INTO sink (name) VALUES ('kafka');"
                + "INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq) VALUES ('kafka', 1, 700, 700);"
                + "UPDATE sink SET delivered = 699, dead = 1 WHERE name = 'kafka';"
                + "INSERT INTO dead_letter VALUES ('kafka', 77, 'too_large', 'e', 1, 1, 1, 'dead', NULL);"
                + "INSERT INTO outbox (kind, device_id, message_key, observed_at_ms, created_at_ms, body)"
                + " SELECT 'event', 'd', 'k' || seq, 1, 1, '{\"v\":' || seq || '}' FROM wal WHERE seq <= 300;"
                + "INSERT INTO rejected (received_at_ms, correlation_id, source, topic, reason, error, body)"
                + " SELECT 1, 'c' || seq, 'mqtt', 't', 'bad_topic', 'e', x'00ff' FROM wal WHERE seq <= 100;");
    }

    static Map<Long, String> contents(Path file) throws Exception {
        Map<Long, String> found = new TreeMap<>();
        for (String text : rows(file, EVERYTHING)) {
            int bar = text.indexOf('|');
            found.put(Long.parseLong(text.substring(0, bar)), text.substring(bar + 1));
        }
        return found;
    }

    private interface Harm {
        /** @return pages that were touched */
        Set<Integer> to(RandomAccessFile file) throws Exception;
    }

    private Salvaged damage(String what, Harm harm) throws Exception {
        Path file = directory.resolve("gateway.db");
        Files.deleteIfExists(file);
        Files.copy(sound, file);
        Set<Integer> touched;
        try (RandomAccessFile bytes = new RandomAccessFile(file.toFile(), "rw")) {
            touched = harm.to(bytes);
        }
        byte[] before = Files.readAllBytes(file);
        Quarantine quarantine = Quarantine.of(file, 1_000, what);
        quarantine.move();
        Salvage.Result result = Salvage.run(quarantine, () -> false);
        quarantine.replace();
        assertTrue(java.util.Arrays.equals(before, Files.readAllBytes(quarantine.damaged())), "the damaged file was written to");
        return new Salvaged(what + ", pages " + touched + ", seed " + seed, file, touched, result);
    }

    private final class Salvaged {
        final String what;
        final Path file;
        final Set<Long> lost = new TreeSet<>();
        final Map<Long, String> there;
        final Salvage.Result result;

        Salvaged(String what, Path file, Set<Integer> touched, Salvage.Result result) throws Exception {
            this.what = what;
            this.file = file;
            this.result = result;
            there = contents(file);
            there.forEach((seq, text) -> assertEquals(rows.get(seq), text, "altered: row " + seq + ", " + what));
            boolean overflowTouched = touched.stream().anyMatch(page -> !isTree(types.getOrDefault(page, 0)));
            Set<Long> intact = rows.keySet().stream().filter(seq -> !touched.contains(pageOf.get(seq)))
                    .filter(seq -> !overflowTouched || !overflowing.contains(seq)).collect(Collectors.toCollection(TreeSet::new));
            intact.removeAll(there.keySet());
            assertEquals(Set.of(), intact, "intact and not salvaged, " + what);
            for (String range : rows(file, "SELECT first_seq, last_seq FROM lost_range ORDER BY 1")) {
                for (long seq = Long.parseLong(range.split(" ")[0]); seq <= Long.parseLong(range.split(" ")[1]); seq++) {
                    assertTrue(lost.add(seq), "ranges overlap, " + what);
                }
            }
            Set<Long> all = new TreeSet<>(rows.keySet());
            all.removeAll(there.keySet());
            Set<Long> certain = all.stream().filter(seq -> seq <= top()).collect(Collectors.toCollection(TreeSet::new));
            assertEquals(certain, lost, "lost_range must be exact, " + what);
            assertEquals(lost.size(), result.lost());
            assertEquals(there.size(), result.rows());
            assertEquals("ok", row(file, "PRAGMA integrity_check"), what);
            assertEquals("", row(file, "SELECT * FROM ledger WHERE log = 'wal' AND unaccounted <> 0"), what);
            assertEquals("1", row(file, "SELECT count(*) FROM incident WHERE kind = 'corrupt_file' AND acknowledged_at_ms IS NULL AND lost_rows = "
                    + lost.size()), what);
            // Never skipped: no cursor is further than it was.
            assertEquals("", row(file, "SELECT * FROM sink_range WHERE sink <> 'uplink' AND acked_seq > CASE sink WHEN 'rollup' THEN 1200 WHEN 'kafka' THEN 700 ELSE 0 END"), what);
            assertEquals("wal", row(file, "PRAGMA journal_mode"));
        }

        private long top() throws NumberFormatException {
            try {
                return Long.parseLong(row(file, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'wal'"));
            } catch (java.sql.SQLException e) {
                throw new IllegalStateException(e);
            }
        }
    }

    private static boolean isTree(int type) {
        return type == Pages.TABLE_LEAF || type == Pages.TABLE_INTERIOR || type == Pages.INDEX_LEAF || type == Pages.INDEX_INTERIOR;
    }

    private int somePage(int type) {
        List<Integer> candidates = types.entrySet().stream().filter(e -> e.getValue() == type && e.getKey() > 1).map(Map.Entry::getKey).toList();
        return candidates.get(random.nextInt(candidates.size()));
    }

    private Set<Integer> flip(RandomAccessFile file, int page, int bytes) throws Exception {
        for (int i = 0; i < bytes; i++) {
            long at = (page - 1L) * Pages.SIZE + random.nextInt(Pages.SIZE);
            file.seek(at);
            int old = file.read();
            file.seek(at);
            file.write(old ^ 1 << random.nextInt(8));
        }
        return Set.of(page);
    }

    private Set<Integer> zero(RandomAccessFile file, int page) throws Exception {
        file.seek((page - 1L) * Pages.SIZE);
        file.write(new byte[Pages.SIZE]);
        return Set.of(page);
    }

    @Test
    void nothingIsLostWhereNothingIsDamaged() throws Exception {
        Salvaged all = damage("nothing", file -> Set.of());
        assertEquals(rows, all.there);
        assertEquals(row(sound, "SELECT log_id FROM meta"), row(all.file, "SELECT log_id FROM meta"));
        for (String table : List.of("sink", "sink_range", "dead_letter", "device_progress", "outbox", "rejected", "sqlite_sequence WHERE name <> 'incident'")) {
            assertEquals(rows(sound, "SELECT * FROM " + table), rows(all.file, "SELECT * FROM " + table), table);
        }
        try (Fixture fixture = new Fixture(TestConfig.at(all.file))) {
            assertEquals("duplicate", fixture.append(Fixture.numbered("dev-3", "b0", 10, row(all.file, "SELECT CAST(body AS TEXT) FROM wal WHERE seq = 10"))));
            assertEquals("durable", fixture.append(Fixture.keyed("new/k/1", "{}")));
        }
        assertEquals(ROWS + 1 + "", row(all.file, "SELECT max(seq) FROM wal"));
    }

    @Test
    void whatRetentionDeletedStaysDeletedAndWhatItLeftIsThere() throws Exception {
        Fixture.execute(sound, "DELETE FROM wal WHERE seq < 600 AND seq <> 77; UPDATE meta SET retained_from_seq = 600;"
                + "DELETE FROM outbox WHERE seq <= 150; UPDATE sink_range SET acked_seq = 150, inflight_seq = 150 WHERE sink = 'uplink'");
        assertTrue(Integer.parseInt(row(sound, "PRAGMA freelist_count")) > 10);
        rows = contents(sound);
        Salvaged all = damage("nothing", file -> Set.of());
        assertEquals(rows, all.there);
        assertEquals("600 150", row(all.file, "SELECT retained_from_seq, (SELECT count(*) FROM outbox) FROM meta"));
        assertEquals(Set.of(), all.lost);
    }

    @Test
    void flippedBytesAnywhere() throws Exception {
        for (int i = 0; i < ROUNDS; i++) {
            int page = 1 + random.nextInt(pages);
            damage("flips", file -> flip(file, page, 1 + random.nextInt(20)));
        }
    }

    @Test
    void aSingleBitInTheLog() throws Exception {
        for (int i = 0; i < ROUNDS; i++) {
            int page = somePage(Pages.TABLE_LEAF);
            damage("one bit", file -> flip(file, page, 1));
        }
    }

    @Test
    void zeroedPages() throws Exception {
        for (int i = 0; i < ROUNDS; i++) {
            int page = 1 + random.nextInt(pages);
            damage("zero", file -> zero(file, page));
        }
    }

    @Test
    void interiorPages() throws Exception {
        for (int type : new int[] {Pages.TABLE_INTERIOR, Pages.INDEX_INTERIOR}) {
            int page = somePage(type);
            Salvaged all = damage("interior", file -> zero(file, page));
            assertEquals(rows, all.there, all.what);
            damage("interior", file -> flip(file, page, 10));
        }
    }

    @Test
    void headerAndSchema() throws Exception {
        Salvaged all = damage("page 1", file -> zero(file, 1));
        assertEquals(rows, all.there, all.what);
        assertEquals(rows(sound, "SELECT * FROM sink_range ORDER BY 1, 2"), rows(all.file, "SELECT * FROM sink_range ORDER BY 1, 2"));
        assertEquals(row(sound, "SELECT log_id FROM meta"), row(all.file, "SELECT log_id FROM meta"));
    }

    @Test
    void eachPageOfTheSmallTables() throws Exception {
        for (int page = 3; page <= 25; page++) {
            int number = page;
            damage("zero", file -> zero(file, number));
            damage("flips", file -> flip(file, number, 3));
        }
    }

    @Test
    void windowsAreEmittedAgainWhereRowsOfTheOutboxAreLostAndStayWhereTheCursorIs() throws Exception {
        Fixture.execute(sound, "INSERT INTO rollup_window (device_id, metric, start_ms, width_ms, count, min, max, sum, last, last_observed_ms, last_seq,"
                + " updated_at_ms, revision, dirty) VALUES ('d', 'm', 60000, 60000, 5, 1, 2, 7, 1.5, 60001, 9, 1, 3, 0)");
        int outbox = Integer.parseInt(row(sound, "SELECT rootpage FROM sqlite_master WHERE name = 'outbox'"));
        Salvaged lostRows = damage("outbox", file -> zero(file, firstChild(outbox)));
        assertEquals("5 7.0 3 1", row(lostRows.file, "SELECT count, sum, revision, dirty FROM rollup_window"));
        assertTrue(lostRows.result.detail().contains("rows of the outbox are lost"), lostRows.result.detail());
        int ranges = Integer.parseInt(row(sound, "SELECT rootpage FROM sqlite_master WHERE name = 'sink_range'"));
        Salvaged lostCursor = damage("cursors", file -> zero(file, ranges));
        assertEquals("5 7.0 3 0", row(lostCursor.file, "SELECT count, sum, revision, dirty FROM rollup_window"));
        assertTrue(lostCursor.result.detail().contains("rollup was damaged: it goes on behind sequence 1200"), lostCursor.result.detail());
        assertEquals("rollup 1200 1200\nkafka 0 0", row(lostCursor.file, "SELECT sink, acked_seq, inflight_seq FROM sink_range WHERE sink IN ('rollup', 'kafka') ORDER BY 1 DESC"));
        assertEquals("0 0", row(lostCursor.file, "SELECT delivered, dead FROM sink WHERE name = 'kafka'"));
    }

    /** Values 1, 2, 3 ... of one device, a window of a minute each six rows; windows as roll-up made them of the first so many. */
    private Path rolledUp(String name, int rows, int added) throws Exception {
        Path file = directory.resolve(name);
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            java.util.ArrayList<io.caravan.wal.Record> records = new java.util.ArrayList<>();
            for (int i = 1; i <= rows; i++) {
                records.add(new io.caravan.wal.Record(io.caravan.wal.Record.numberedKey("d", "b", i), "c" + i, "d", "telemetry", "live", "b", i,
                        (i - 1) * 10_000L, 1_000_000_000L + i, 3, 1, "application/json", null,
                        ("{\"metrics\":{\"t\":" + i + "}}").getBytes(java.nio.charset.StandardCharsets.UTF_8)));
            }
            fixture.appendAll(records);
            rollUp(file, 0, added);
        }
        return file;
    }

    /** What route rollup does, in short. */
    private static void rollUp(Path file, long after, long last) throws Exception {
        Fixture.execute(file, "INSERT INTO rollup_window (device_id, metric, start_ms, width_ms, part, count, min, max, sum, last, last_observed_ms, last_seq,"
                + " updated_at_ms) SELECT w.device_id, m.key, w.observed_at_ms / 60000 * 60000, 60000, 0, 1, m.value, m.value, m.value, m.value,"
                + " w.observed_at_ms, w.seq, 1 FROM wal w, json_each(CAST(w.body AS TEXT), '$.metrics') m WHERE w.seq > " + after + " AND w.seq <= " + last
                + " ON CONFLICT DO UPDATE SET count = count + 1, min = min(min, excluded.min), max = max(max, excluded.max), sum = sum + excluded.sum,"
                + " last = iif(excluded.last_observed_ms >= last_observed_ms, excluded.last, last),"
                + " last_seq = iif(excluded.last_observed_ms >= last_observed_ms, excluded.last_seq, last_seq),"
                + " last_observed_ms = max(last_observed_ms, excluded.last_observed_ms), dirty = 1");
        Fixture.execute(file, "UPDATE sink SET delivered = delivered + " + (last - after) + " WHERE name = 'rollup'");
        Fixture.execute(file, "UPDATE sink_range SET acked_seq = " + last + ", inflight_seq = " + last + " WHERE sink = 'rollup'");
    }

    private static final String WINDOWS = "SELECT start_ms, count, min, max, sum, last, last_observed_ms, last_seq FROM rollup_window ORDER BY 1";

    /** Salvages after the harm, adds up what is left to add, and gives the windows. */
    private String salvagedWindows(Path file, String... spoilt) throws Exception {
        for (String table : spoilt) {
            int page = Integer.parseInt(row(file, "SELECT rootpage FROM sqlite_master WHERE name = '" + table + "'"));
            try (RandomAccessFile bytes = new RandomAccessFile(file.toFile(), "rw")) {
                zero(bytes, page);
            }
        }
        Quarantine quarantine = Quarantine.of(file, 1_000, "test");
        quarantine.move();
        Salvage.run(quarantine, () -> false);
        quarantine.replace();
        assertEquals("", row(file, "SELECT * FROM ledger WHERE log = 'wal' AND unaccounted <> 0"));
        rollUp(file, Long.parseLong(row(file, "SELECT acked_seq FROM sink_range WHERE sink = 'rollup'")), 100);
        assertEquals("0", row(file, "SELECT unaccounted FROM ledger WHERE sink = 'rollup'"));
        return row(file, WINDOWS);
    }

    @Test
    void windowsHaveEachRowOnceWhateverTheCursorsTableLost() throws Exception {
        String whole = row(rolledUp("whole.db", 100, 100), WINDOWS);
        for (String[] spoilt : new String[][] {{}, {"sink_range"}, {"sink"}, {"sink_range", "sink"}, {"meta"}, {"sink_range", "meta"}}) {
            Path file = rolledUp("spoilt" + String.join("-", spoilt) + ".db", 100, 80);
            // Retention took the first rows, in the middle of a window; the windows before the third are pruned.
            Fixture.execute(file, "DELETE FROM wal WHERE seq <= 15; UPDATE meta SET retained_from_seq = 16, rollup_pruned_before_ms = 60001");
            assertEquals(whole, salvagedWindows(file, spoilt), String.join(", ", spoilt));
            assertEquals(List.of(spoilt).contains("meta") ? "1000" : "60001", row(file, "SELECT rollup_pruned_before_ms FROM meta"));
        }
    }

    @Test
    void windowsOfADamagedTableAreMadeAnewAndThoseThatAreThereKeepWhatIsDeleted() throws Exception {
        String whole = row(rolledUp("whole.db", 100, 100), WINDOWS);
        Path file = rolledUp("gateway.db", 100, 80);
        Fixture.execute(file, "DELETE FROM wal WHERE seq <= 15; UPDATE meta SET retained_from_seq = 16, rollup_pruned_before_ms = 60001");
        // So many windows that the table has more than one page; those of metric z are on the last one.
        Fixture.execute(file, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO rollup_window (device_id, metric,"
                + " start_ms, width_ms, count, min, max, sum, last, last_observed_ms, last_seq, updated_at_ms, dirty) SELECT 'd', 'z', i, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0 FROM n");
        int root = Integer.parseInt(row(file, "SELECT rootpage FROM sqlite_master WHERE name = 'rollup_window'"));
        int last;
        try (Pages pages = new Pages(file)) {
            ByteBuffer page = ByteBuffer.allocate(Pages.SIZE);
            pages.page(root, page);
            int[] children = Pages.children(root, page);
            last = children[children.length - 1];
        }
        try (RandomAccessFile bytes = new RandomAccessFile(file.toFile(), "rw")) {
            zero(bytes, last);
        }
        salvagedWindows(file);
        assertEquals(whole, row(file, WINDOWS.replace(" ORDER", " WHERE metric = 't' ORDER")));
        assertEquals("0", row(file, "SELECT rollup_pruned_before_ms FROM meta"));
    }

    /** A receipt must not cover what never came; that it covers nothing any more is told. */
    @Test
    void numbersThatRetentionDeletedAreNotTakenForKnown() throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            java.util.ArrayList<io.caravan.wal.Record> records = new java.util.ArrayList<>();
            for (int i = 1; i <= 100; i++) {
                records.add(Fixture.numbered("d", "b", i, "{}"));
            }
            fixture.appendAll(records);
        }
        Fixture.execute(file, "DELETE FROM wal WHERE seq <= 50; UPDATE meta SET retained_from_seq = 51;"
                + "UPDATE sink_range SET acked_seq = 50, inflight_seq = 50 WHERE sink <> 'uplink'; UPDATE sink SET delivered = 50 WHERE log = 'wal'");
        int numbers = Integer.parseInt(row(file, "SELECT rootpage FROM sqlite_master WHERE name = 'device_progress'"));
        try (RandomAccessFile bytes = new RandomAccessFile(file.toFile(), "rw")) {
            zero(bytes, numbers);
        }
        Quarantine quarantine = Quarantine.of(file, 1, "test");
        quarantine.move();
        Salvage.Result result = Salvage.run(quarantine, () -> false);
        quarantine.replace();
        assertTrue(result.detail().contains("numbers of 1 boots of devices are not known"), result.detail());
        assertEquals("b 0 100", row(file, "SELECT boot_id, contiguous_seq, highest_seq FROM device_progress"));
    }

    private int firstChild(int root) throws Exception {
        try (Pages file = new Pages(sound)) {
            ByteBuffer page = ByteBuffer.allocate(Pages.SIZE);
            file.page(root, page);
            return Pages.children(root, page)[0];
        }
    }

    @Test
    void aCutFile() throws Exception {
        for (int i = 0; i < 5; i++) {
            int kept = 1 + random.nextInt(pages);
            damage("cut to " + kept, file -> {
                file.setLength((kept - 1L) * Pages.SIZE + random.nextInt(Pages.SIZE));
                Set<Integer> gone = new TreeSet<>();
                for (int page = kept; page <= pages; page++) {
                    gone.add(page);
                }
                return gone;
            });
        }
        Salvaged none = damage("cut to nothing", file -> {
            file.setLength(0);
            return types.keySet();
        });
        assertEquals(Map.of(), none.there);
    }

    @Test
    void withoutTheChecksumsAlteredRowsWouldBeServed() throws Exception {
        Salvage.unsafeTrustRows = true;
        try {
            for (int i = 0; i < 200; i++) {
                try {
                    int page = somePage(Pages.TABLE_LEAF);
                    damage("one bit", file -> flip(file, page, 1));
                } catch (AssertionError e) {
                    if (e.getMessage().startsWith("altered")) {
                        return; // the tests above can fail
                    }
                }
            }
        } finally {
            Salvage.unsafeTrustRows = false;
        }
        throw new AssertionError("altered rows went unnoticed: these tests are blind, seed " + seed);
    }
}
