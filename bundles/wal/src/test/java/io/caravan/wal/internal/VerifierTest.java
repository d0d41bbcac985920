// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.sql.SQLException;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** wal:verify finds what is wrong, says where, and nothing where all is well. */
class VerifierTest {
    @TempDir Path directory;
    private Path file;
    private Fixture fixture;

    @BeforeEach
    void open() throws Exception {
        file = directory.resolve("gateway.db");
        fixture = new Fixture(TestConfig.at(file));
        SalvageTest.fill(fixture, 1, 2_000, new Random(1));
        SalvageTest.work(file);
    }

    @AfterEach
    void close() throws Exception {
        fixture.close();
    }

    private Verifier.Report verify() throws SQLException {
        return Verifier.run(fixture.database(), false);
    }

    @Test
    void allIsWell() throws Exception {
        Verifier.Report report = verify();
        assertTrue(report.ok(), report.toString());
        assertEquals(2_000L, report.counts().get("rows"));
        assertTrue(report.json().toJson().startsWith("{\"ok\":true,"), report.json().toJson());
        assertTrue(report.toString().startsWith("ok: {rows=2000"), report.toString());
    }

    @Test
    void eachThingThatIsWrongIsFound() throws Exception {
        Map<String, String> wrongs = new LinkedHashMap<>();
        wrongs.put("UPDATE wal SET body = x'7b7d' WHERE seq = 17", "wal, seq 17");
        wrongs.put("UPDATE wal SET observed_at_ms = 99 WHERE seq = 18", "wal, seq 18");
        wrongs.put("DELETE FROM wal WHERE seq BETWEEN 1500 AND 1502", "rows 1500 to 1502 are missing");
        wrongs.put("UPDATE sink SET delivered = delivered + 1 WHERE name = 'kafka'", "ledger of sink [kafka]");
        wrongs.put("UPDATE sink SET dead = 2, delivered = delivered - 1 WHERE name = 'kafka'", "counts 2 dead letters, there are 1");
        wrongs.put("UPDATE sink_range SET inflight_seq = 3 WHERE sink = 'rollup'", "do not fit together");
        wrongs.put("UPDATE sink_range SET inflight_seq = 99999 WHERE sink = 'rollup'", "do not fit together");
        wrongs.put("INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq) VALUES ('kafka', 50, 49, 49)", "overlaps the one from 50");
        wrongs.put("DELETE FROM sink_range WHERE sink = 'passthrough'", "no range that is open");
        wrongs.put("INSERT INTO dead_letter VALUES ('kafka', 4000, 'refused', 'e', 1, 1, 1, 'dead', NULL)", "its row is not in the log");
        wrongs.put("UPDATE device_progress SET contiguous_seq = highest_seq + 1 WHERE device_id = 'dev-1' AND boot_id = 'b1'", "do not fit");
        wrongs.put("UPDATE device_progress SET contiguous_seq = 0, highest_seq = 5 WHERE device_id = 'dev-2' AND boot_id = 'b1'", "the memory of numbers to 5");
        wrongs.put("INSERT INTO lost_range VALUES (20, 30, 1)", "rows in it are in the log");
        wrongs.put("UPDATE sqlite_sequence SET seq = 1990 WHERE name = 'wal'", "the log has row 2000");
        wrongs.put("DELETE FROM meta", "must have one");
        Path copy = directory.resolve("copy.db");
        for (Map.Entry<String, String> wrong : wrongs.entrySet()) {
            Fixture.execute(file, "VACUUM INTO '" + copy + "'");
            Fixture.execute(file, wrong.getKey());
            Verifier.Report report = verify();
            assertFalse(report.ok(), wrong.getKey());
            assertTrue(report.toString().contains(wrong.getValue()), wrong.getKey() + ": " + report);
            fixture.close();
            for (String suffix : new String[] {"", "-wal", "-shm"}) {
                java.nio.file.Files.deleteIfExists(Path.of(file + suffix));
            }
            java.nio.file.Files.move(copy, file);
            fixture = new Fixture(TestConfig.at(file));
        }
        assertTrue(verify().ok());
    }

    @Test
    void whatIsListedAsLostOrWasDeletedIsNotMissing() throws Exception {
        Fixture.execute(file, "DELETE FROM wal WHERE seq BETWEEN 1500 AND 1502; INSERT INTO lost_range VALUES (1500, 1502, 1);"
                + "DELETE FROM wal WHERE seq < 500 AND seq <> 77; UPDATE meta SET retained_from_seq = 500");
        Verifier.Report report = verify();
        assertTrue(report.ok(), report.toString());
        assertEquals(3L, report.counts().get("rows_lost"));
    }

    @Test
    void itRunsWhileTheGatewayWorks() throws Exception {
        AtomicBoolean running = new AtomicBoolean(true);
        Thread load = new Thread(() -> {
            for (int i = 1; running.get(); i++) {
                try {
                    fixture.append(Fixture.numbered("load", "b", i, "{\"n\":" + i + "}"));
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
            }
        });
        load.start();
        try {
            for (int i = 0; i < 5; i++) {
                Verifier.Report report = verify();
                assertTrue(report.ok(), report.toString());
            }
        } finally {
            running.set(false);
            load.join();
        }
    }
}
