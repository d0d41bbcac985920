// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static io.caravan.wal.internal.Fixture.await;
import static io.caravan.wal.internal.Fixture.execute;
import static io.caravan.wal.internal.Fixture.keyed;
import static io.caravan.wal.internal.Fixture.numbered;
import static io.caravan.wal.internal.Fixture.row;
import static io.caravan.wal.internal.Fixture.rows;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.Record;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Deletes what every sink has acked and nobody needs, nothing else; the file shrinks; the clock may step (G3, G7, G11). */
class RetentionTest {
    private static final long HOUR = 3_600_000;
    private static final long DAY = 24 * HOUR;
    private static final String PAD = "{\"pad\":\"" + "x".repeat(1_000) + "\"}";

    @TempDir Path directory;

    /** A store whose own retention has nothing to do for a week, and one with clocks of the test. */
    private final class Setup implements AutoCloseable {
        final Path file = directory.resolve("gateway.db");
        final TestConfig config = TestConfig.at(file);
        final Fixture fixture;
        final Retention retention;
        final WalMetrics metrics = new WalMetrics(new SimpleMeterRegistry(), true);
        long monotonicMs;
        long wallMs;

        Setup(long wallMs, String... settings) throws Exception {
            this.wallMs = wallMs;
            for (int i = 0; i < settings.length; i += 2) {
                config.with(settings[i], settings[i + 1]);
            }
            fixture = new Fixture(TestConfig.at(file));
            Space space = new Space(fixture.database(), config, metrics);
            space.sample();
            retention = new Retention(fixture.database(), config, space, new Checkpointer(fixture.database(), 1 << 24, metrics), metrics,
                    () -> TimeUnit.MILLISECONDS.toNanos(monotonicMs), () -> this.wallMs);
        }

        /** Both clocks go on. */
        void pass(long ms) {
            monotonicMs += ms;
            wallMs += ms;
        }

        void append(long from, long to) throws Exception {
            List<Record> records = new ArrayList<>();
            for (long i = from; i <= to; i++) {
                records.add(numbered("d1", "b1", i, PAD));
            }
            assertTrue(fixture.appendAll(records).stream().allMatch("durable"::equals));
        }

        /** All sinks there are, up to here. */
        void ack(long seq) throws SQLException {
            execute(file, "UPDATE sink_range SET acked_seq = " + seq + ", inflight_seq = " + seq + " WHERE sink <> 'uplink'");
        }

        String kept() throws SQLException {
            List<Long> seqs = rows(file, "SELECT seq FROM wal ORDER BY seq").stream().map(Long::valueOf).toList();
            return Span.text(Span.runs(seqs));
        }

        @Override
        public void close() throws Exception {
            fixture.close();
        }
    }

    @Test
    void rowsGoWhenAllHaveAckedThemAndTheyAreOldEnough() throws Exception {
        try (Setup s = new Setup(0, "wal.retention.ms", "" + HOUR)) {
            s.append(1, 100);
            s.ack(100);
            assertEquals(0, s.retention.compact().rowsDeleted());
            s.monotonicMs += HOUR / 2;
            s.append(101, 150);
            s.ack(140);
            assertEquals(0, s.retention.compact().rowsDeleted());
            s.monotonicMs += HOUR / 2;
            assertEquals(100, s.retention.compact().rowsDeleted());
            assertEquals("101-150", s.kept());
            s.monotonicMs += HOUR;
            assertEquals(40, s.retention.compact().rowsDeleted());
            assertEquals("141-150", s.kept()); // old enough, but not acked
            assertEquals("141", row(s.file, "SELECT retained_from_seq FROM meta"));
            assertEquals("150", row(s.file, "SELECT appended FROM ledger WHERE sink = 'rollup'"));
        }
    }

    @Test
    void stepsOfTheWallClockMakeNothingOlderOrYounger() throws Exception {
        long now = 100 * DAY;
        try (Setup s = new Setup(now, "wal.retention.ms", "" + HOUR)) {
            s.append(1, 300);
            s.ack(300);
            s.retention.compact();
            // What a clock that was set back a day, and set forward a day, writes into rows of this run.
            execute(s.file, "UPDATE wal SET received_at_ms = " + (now - DAY) + " WHERE seq <= 100");
            execute(s.file, "UPDATE wal SET received_at_ms = " + (now + DAY) + " WHERE seq > 100");
            s.wallMs += DAY;
            s.monotonicMs += HOUR - 1;
            assertEquals("100", row(s.file, "SELECT count(*) FROM wal WHERE received_at_ms < " + (now - HOUR)),
                    "a rule that believes the rows' own time would delete these");
            assertEquals(0, s.retention.compact().rowsDeleted(), "not an hour old, whatever the clock says");
            s.wallMs -= 2 * DAY;
            s.monotonicMs += 1;
            assertEquals(300, s.retention.compact().rowsDeleted(), "an hour old, whatever the clock says");
        }
    }

    @Test
    void rowsOfAnEarlierRunAreAsOldAsTheyWereAtTheStart() throws Exception {
        long now = 100 * DAY;
        try (Setup s = new Setup(now)) {
            s.append(1, 30);
            execute(s.file, "UPDATE wal SET received_at_ms = " + (now - 2 * HOUR) + " WHERE seq <= 10");
            execute(s.file, "UPDATE wal SET received_at_ms = " + (now - HOUR / 2) + " WHERE seq = 11");
            execute(s.file, "UPDATE wal SET received_at_ms = " + (now - 2 * HOUR) + " WHERE seq BETWEEN 12 AND 20");
            execute(s.file, "UPDATE wal SET received_at_ms = " + (now + DAY) + " WHERE seq > 20");
            s.ack(30);
        }
        try (Setup s = new Setup(now, "wal.retention.ms", "" + HOUR)) {
            assertEquals(10, s.retention.compact().rowsDeleted(), "up to the first that is too young");
            s.monotonicMs += HOUR / 2;
            assertEquals(10, s.retention.compact().rowsDeleted());
            assertEquals("21-30", s.kept()); // from the future: the clock was wrong
            s.monotonicMs += HOUR / 2;
            assertEquals(10, s.retention.compact().rowsDeleted(), "as old as this run, at least");
        }
    }

    @Test
    void everyKindOfPendingWorkHoldsItsRows() throws Exception {
        try (Setup s = new Setup(0, "wal.retention.ms", "0", "wal.retention.bytes", "0")) {
            s.append(1, 100);
            s.ack(100);
            execute(s.file, "INSERT INTO sink (name, state) VALUES ('slow', 'paused'), ('dead', 'running'), ('other', 'running')");
            execute(s.file, "INSERT INTO sink_range (sink, first_seq, last_seq, acked_seq, inflight_seq, origin) VALUES"
                    + " ('slow', 1, NULL, 90, 95, 'normal'), ('dead', 1, NULL, 100, 100, 'normal'),"
                    + " ('other', 1, 40, 40, 40, 'normal'), ('other', 41, NULL, 100, 100, 'normal')");
            execute(s.file, "INSERT INTO dead_letter (sink, seq, reason, error, attempts, first_failed_at_ms, dead_at_ms, state) VALUES"
                    + " ('dead', 5, 'too_large', 'x', 1, 0, 0, 'dead'), ('dead', 6, 'too_large', 'x', 1, 0, 0, 'discarded'),"
                    + " ('dead', 7, 'too_large', 'x', 1, 0, 0, 'requeued'), ('gone', 8, 'too_large', 'x', 1, 0, 0, 'dead')");
            // A replay that has got to 20, and a requeue of one row.
            execute(s.file, "INSERT INTO sink_range (sink, first_seq, last_seq, acked_seq, inflight_seq, origin) VALUES"
                    + " ('replayed', 10, 30, 20, 25, 'replay'), ('dead', 7, 7, 6, 6, 'requeue')");
            execute(s.file, "INSERT INTO sink (name) VALUES ('replayed')");

            s.retention.compact();
            assertEquals("5, 7-100", s.kept());
            execute(s.file, "DELETE FROM sink_range WHERE sink = 'dead' AND first_seq = 7"); // delivered
            s.retention.compact();
            assertEquals("5, 21-100", s.kept());
            execute(s.file, "DELETE FROM sink_range WHERE sink = 'replayed'"); // finished
            s.retention.compact();
            assertEquals("5, 91-100", s.kept());
            execute(s.file, "DELETE FROM sink_range WHERE sink = 'slow'; DELETE FROM sink WHERE name = 'slow'"); // removed by command
            s.retention.compact();
            assertEquals("5", s.kept());
            execute(s.file, "UPDATE dead_letter SET state = 'discarded' WHERE seq = 5");
            s.retention.compact();
            assertEquals("", s.kept());
            execute(s.file, "UPDATE sink_range SET acked_seq = 3 WHERE sink = 'rollup'"); // internal sinks count: see below
            s.append(101, 110);
            s.retention.compact();
            assertEquals("101-110", s.kept());
        }
    }

    /** A flood of messages without number or key must not leave a key each. */
    @Test
    void aHashOfContentIsRememberedOnlyWhileItsWindowLasts() throws Exception {
        try (Setup s = new Setup(0, "wal.retention.ms", "0", "wal.dedupe.ms", "" + HOUR)) {
            s.fixture.append(keyed("d1//h/b.1-aa", "{}"));
            s.ack(1);
            s.retention.compact();
            assertEquals("d1//h/b.1-aa", row(s.file, "SELECT message_key FROM key_memory"));
            assertEquals("duplicate", s.fixture.append(keyed("d1//h/b.1-aa", "{}")));
            s.fixture.append(keyed("d1//h/b.1-bb", "{}"));
            s.fixture.append(keyed("d1//k/x//h/y", "{}"));
            s.monotonicMs += 3 * 60_000;
            s.ack(3);
            assertEquals(2, s.retention.compact().rowsDeleted());
            assertEquals("d1//h/b.1-aa\nd1//k/x//h/y", row(s.file, "SELECT message_key FROM key_memory ORDER BY 1"));
        }
    }

    @Test
    void aMessageWhoseRowIsGoneIsStillADuplicateUntilItsKeyIsForgotten() throws Exception {
        try (Setup s = new Setup(0, "wal.retention.ms", "0", "wal.dedupe.ms", "" + HOUR)) {
            assertEquals("durable", s.fixture.append(keyed("d1/k/1", "{}")));
            for (long number : new long[] {1, 2, 4, 5}) {
                assertEquals("durable", s.fixture.append(numbered("d2", "b1", number, "{}")));
            }
            s.ack(5);
            assertEquals(5, s.retention.compact().rowsDeleted());
            assertEquals("d1/k/1\nd2/b1/0000000000000004\nd2/b1/0000000000000005", row(s.file, "SELECT message_key FROM key_memory ORDER BY 1"),
                    "numbers without a gap need no memory of their own");
            assertEquals("duplicate", s.fixture.append(keyed("d1/k/1", "{}")));
            for (long number : new long[] {1, 2, 4, 5}) {
                assertEquals("duplicate", s.fixture.append(numbered("d2", "b1", number, "{}")));
            }
            assertEquals("durable", s.fixture.append(numbered("d2", "b1", 3, "{}")));
            assertEquals("5", row(s.file, "SELECT contiguous_seq FROM device_progress"), "the gap closes over rows that are gone");

            s.monotonicMs += HOUR + 1;
            s.retention.compact();
            assertEquals("0", row(s.file, "SELECT count(*) FROM key_memory"));
            assertEquals("duplicate", s.fixture.append(numbered("d2", "b1", 5, "{}")));
            assertEquals("durable", s.fixture.append(keyed("d1/k/1", "{}")), "the memory is what made it a duplicate");
        }
    }

    @Test
    void ackedRowsAreKeptUpToSoManyBytes() throws Exception {
        try (Setup s = new Setup(0, "wal.retention.bytes", "" + (1 << 20))) {
            s.append(1, 5_000);
            s.ack(4_000);
            s.retention.compact();
            long acked = Long.parseLong(row(s.file, "SELECT sum(length(body) + 2 * length(message_key)) + 180 * count(*) FROM wal WHERE seq <= 4000"));
            assertTrue(acked <= 1 << 20 && acked >= 900_000, "kept " + acked);
            assertEquals("1000", row(s.file, "SELECT count(*) FROM wal WHERE seq > 4000"));
        }
    }

    @Test
    void theFileShrinksWhenABacklogWasDrained() throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file).with("wal.retention.ms", "0").with("wal.checkpoint.bytes", "1048576"))) {
            List<Record> records = new ArrayList<>();
            for (int i = 1; i <= 20_000; i++) {
                records.add(numbered("d1", "b1", i, PAD));
            }
            fixture.appendAll(records);
            await("the backlog is in the file", () -> Database.size(file) > 20_000_000);
            execute(file, "UPDATE sink_range SET acked_seq = 20000, inflight_seq = 20000 WHERE sink <> 'uplink'");
            await("the file shrinks", () -> Database.size(file) < 4_000_000);
            assertEquals("durable", fixture.append(numbered("d1", "b1", 20_001, PAD)));
            assertEquals("ok", row(file, "PRAGMA integrity_check"));
            Retention.Result result = fixture.retention().compact();
            assertTrue(result.bytesAfter() < 400_000 && result.bytesAfter() <= result.bytesBefore(), result.toString());
        }
    }

    @Test
    void deletingBesideIngestAndSinksNeverTakesAnUnackedRow() throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file).with("wal.retention.ms", "0").with("wal.retention.bytes", "0"))) {
            fixture.append(keyed("d1/k/1", "{}")); // the sequence exists
            AtomicBoolean done = new AtomicBoolean();
            List<String> outcomes = new ArrayList<>();
            Thread ingest = new Thread(() -> {
                try {
                    for (int i = 0; i < 60; i++) {
                        List<Record> records = new ArrayList<>();
                        for (int n = 1; n <= 200; n++) {
                            records.add(numbered("d" + n % 7, "b1", i * 200L + n, "{}"));
                        }
                        outcomes.addAll(fixture.appendAll(records));
                    }
                } catch (Exception e) {
                    outcomes.add(e.toString());
                }
                done.set(true);
            });
            ingest.start();
            Random random = new Random(1);
            long checked = 0;
            while (!done.get() || checked < 100) {
                String sink = random.nextBoolean() ? "rollup" : "passthrough";
                execute(file, "UPDATE sink_range SET acked_seq = min(acked_seq + " + random.nextInt(300)
                        + ", (SELECT seq FROM sqlite_sequence WHERE name = 'wal')) WHERE sink = '" + sink + "'");
                fixture.retention().compact();
                String[] found = row(file, "SELECT (SELECT min(acked_seq) FROM sink_range WHERE sink <> 'uplink') AS a,"
                        + " (SELECT q.seq FROM sqlite_sequence q WHERE q.name = 'wal') AS last, count(*) FROM wal WHERE seq >"
                        + " (SELECT min(acked_seq) FROM sink_range WHERE sink <> 'uplink')").split(" ");
                assertEquals(Long.parseLong(found[1]) - Long.parseLong(found[0]), Long.parseLong(found[2]), "unacked rows that are there");
                checked++;
            }
            ingest.join();
            assertEquals(List.of("durable"), outcomes.stream().distinct().toList());
            assertEquals(12_000, outcomes.size());
        }
    }

    @Test
    void rejectedMessagesGoByAgeAndBytes() throws Exception {
        try (Setup s = new Setup(0, "rejected.retention.ms", "" + HOUR)) {
            reject(s, 1, 200);
            s.retention.compact();
            s.monotonicMs += HOUR - 1;
            reject(s, 201, 300);
            s.retention.compact();
            assertEquals("300", row(s.file, "SELECT count(*) FROM rejected"));
            s.monotonicMs += 1;
            s.retention.compact();
            assertEquals("201", row(s.file, "SELECT min(id) FROM rejected"));
            s.config.with("rejected.retention.bytes", "50000");
            s.retention.compact();
            long left = Long.parseLong(row(s.file, "SELECT count(*) FROM rejected"));
            assertTrue(left >= 35 && left <= 50, "left " + left);
            assertEquals("300", row(s.file, "SELECT max(id) FROM rejected"), "the newest stay");
        }
    }

    private static void reject(Setup s, int from, int to) throws SQLException {
        execute(s.file, "INSERT INTO rejected (received_at_ms, correlation_id, source, topic, reason, error, body)"
                + " WITH RECURSIVE n(i) AS (SELECT " + from + " UNION ALL SELECT i + 1 FROM n WHERE i < " + to + ")"
                + " SELECT 0, 'c', 'http', 't', 'schema_violation', 'e', zeroblob(1000) FROM n");
    }

    @Test
    void windowsThatWereEmittedGoAndTheirPartsAreKnown() throws Exception {
        try (Setup s = new Setup(100 * DAY, "rollup.retention.ms", "" + DAY)) {
            long now = 100 * DAY;
            window(s, "old", 90 * DAY, 90 * DAY, 0);
            window(s, "old-but-dirty", 90 * DAY, 90 * DAY, 1);
            window(s, "old-but-changed", 90 * DAY, now, 0);
            window(s, "future", 200 * DAY, 90 * DAY, 0);
            window(s, "young", now - HOUR, now - HOUR, 0);
            s.retention.compact();
            assertEquals("5", row(s.file, "SELECT count(*) FROM rollup_window"), "who knows whether this clock is right");
            s.pass(HOUR);
            s.retention.compact();
            assertEquals("future\nold-but-changed\nold-but-dirty\nyoung", row(s.file, "SELECT metric FROM rollup_window ORDER BY metric"));
            assertEquals("" + (90 * DAY + 1), row(s.file, "SELECT rollup_pruned_before_ms FROM meta"));
        }
    }

    /** As a box without a battery does it: in 1970 until somebody tells it the time. */
    @Test
    void aClockThatIsSetAfterTheStartKeepsNothingForEver() throws Exception {
        long now = 20_000 * DAY;
        try (Setup s = new Setup(HOUR, "wal.retention.ms", "0", "rollup.retention.ms", "" + 7 * DAY, "wal.progress.retention.ms", "" + 90 * DAY)) {
            settled(s, "old", now - 100 * DAY);
            settled(s, "young", now - DAY);
            settled(s, "unset", HOUR + 5);
            s.retention.compact();
            s.pass(10_000);
            s.wallMs = now;
            s.retention.compact();
            s.pass(HOUR - 1);
            s.retention.compact();
            assertEquals("old\nunset\nyoung", kept(s, "rollup_window", "metric"), "set a moment ago");
            s.pass(1);
            s.retention.compact();
            assertEquals("young", kept(s, "rollup_window", "metric"));
            assertEquals("young", kept(s, "dead_letter", "sink"));
            assertEquals("last\nunset\nyoung", kept(s, "device_progress", "boot_id"), "what came in 1970 came a moment ago");
            for (int day = 0; day < 90; day++) {
                s.pass(DAY);
                s.retention.compact();
            }
            assertEquals("last", kept(s, "device_progress", "boot_id"));
        }
    }

    @Test
    void aClockThatIsAheadForAWhileForgetsNothing() throws Exception {
        long now = 20_000 * DAY;
        for (boolean atTheStart : new boolean[] {true, false}) {
            try (Setup s = new Setup(atTheStart ? now + 4_000 * DAY : now, "wal.retention.ms", "0")) {
                settled(s, "young", now - HOUR);
                if (!atTheStart) {
                    s.pass(2 * HOUR);
                    s.retention.compact();
                    s.wallMs += 4_000 * DAY;
                }
                for (int minute = 0; minute < 30; minute++) {
                    s.pass(60_000);
                    s.retention.compact();
                }
                s.wallMs -= 4_000 * DAY;
                for (int hour = 0; hour < 3; hour++) {
                    s.retention.compact();
                    s.pass(HOUR);
                }
                s.retention.compact();
                for (String[] table : new String[][] {{"rollup_window", "metric"}, {"dead_letter", "sink"}}) {
                    assertEquals("young", kept(s, table[0], table[1]));
                }
                assertEquals("last\nyoung", kept(s, "device_progress", "boot_id"));
            }
            Files.delete(directory.resolve("gateway.db"));
        }
    }

    /** A window, a dead letter and a boot that are over; the boot had a later one. */
    private static void settled(Setup s, String name, long atMs) throws SQLException {
        window(s, name, atMs - 60_000, atMs, 0);
        execute(s.file, "INSERT INTO dead_letter (sink, seq, reason, error, attempts, first_failed_at_ms, dead_at_ms, state) VALUES"
                + " ('" + name + "', 1, 'refused', 'x', 1, 0, " + atMs + ", 'discarded')");
        execute(s.file, "INSERT INTO device_progress (device_id, boot_id, contiguous_seq, highest_seq, updated_at_ms) VALUES"
                + " ('d1', '" + name + "', 1, 1, " + atMs + "), ('d1', 'last', 1, 1, " + 40_000 * DAY + ") ON CONFLICT DO NOTHING");
    }

    private static String kept(Setup s, String table, String column) throws SQLException {
        return row(s.file, "SELECT " + column + " FROM " + table + " ORDER BY 1");
    }

    private static void window(Setup s, String metric, long start, long updated, int dirty) throws SQLException {
        execute(s.file, "INSERT INTO rollup_window (device_id, metric, start_ms, width_ms, count, min, max, sum, last, last_observed_ms, last_seq,"
                + " updated_at_ms, revision, dirty) VALUES ('d1', '" + metric + "', " + start + ", 60000, 1, 1, 1, 1, 1, 1, 1, " + updated + ", 1, " + dirty + ")");
    }

    @Test
    void bootsOfLongAgoAndSettledDeadLettersGo() throws Exception {
        long now = 1_000 * DAY;
        try (Setup s = new Setup(now, "wal.retention.ms", "0", "wal.progress.retention.ms", "" + 90 * DAY, "dead.retention.ms", "" + 30 * DAY)) {
            for (String boot : List.of("a", "b", "c")) {
                s.fixture.append(numbered("d1", boot, 1, "{}"));
            }
            s.fixture.append(numbered("d2", "only", 1, "{}"));
            execute(s.file, "UPDATE device_progress SET updated_at_ms = " + (now - 100 * DAY) + " WHERE boot_id IN ('a', 'b', 'only')");
            s.ack(1); // row of boot b is not acked
            execute(s.file, "INSERT INTO dead_letter (sink, seq, reason, error, attempts, first_failed_at_ms, dead_at_ms, state) VALUES"
                    + " ('rollup', 1, 'refused', 'x', 1, 0, 0, 'discarded'), ('rollup', 2, 'refused', 'x', 1, 0, 0, 'requeued'),"
                    + " ('passthrough', 1, 'refused', 'x', 1, 0, " + now + ", 'discarded')");
            s.pass(HOUR);
            s.retention.compact();
            assertEquals("b\nc\nonly", row(s.file, "SELECT boot_id FROM device_progress ORDER BY boot_id"));
            assertEquals("passthrough 1\nrollup 2", row(s.file, "SELECT sink, seq FROM dead_letter ORDER BY sink, seq"));
        }
    }

    /** Negative control: boot a of {@link #bootsOfLongAgoAndSettledDeadLettersGo}, which is the same without a signature, goes. */
    @Test
    void aBootWithSignaturesIsNeverForgotten() throws Exception {
        long now = 1_000 * DAY;
        try (Setup s = new Setup(now, "wal.retention.ms", "0", "wal.dedupe.ms", "" + DAY, "wal.progress.retention.ms", "" + 90 * DAY)) {
            assertEquals("durable", s.fixture.append(Fixture.signed("d1", "a", 1, "{}", 10)));
            assertEquals("durable", s.fixture.append(numbered("d1", "plain", 1, "{}")));
            assertEquals("durable", s.fixture.append(Fixture.signed("d1", "b", 1, "{}", 10)));
            execute(s.file, "UPDATE device_progress SET updated_at_ms = " + (now - 100 * DAY) + " WHERE boot_id <> 'b'");
            s.ack(3);
            s.pass(HOUR);
            s.retention.compact();
            assertEquals("a\nb", row(s.file, "SELECT boot_id FROM device_progress ORDER BY boot_id"));
            assertEquals("0", row(s.file, "SELECT count(*) FROM wal"));
            assertEquals("duplicate", s.fixture.append(Fixture.signed("d1", "a", 1, "{}", 10)), "replayed a hundred days later: no effect");
        }
    }

    @Test
    void aSignedNumberWhoseKeyIsForgottenIsNotTakenForNew() throws Exception {
        try (Setup s = new Setup(0, "wal.retention.ms", "0", "wal.dedupe.ms", "" + HOUR)) {
            for (long number : new long[] {1, 3, 4, 9}) {
                assertEquals("durable", s.fixture.append(Fixture.signed("d1", "b1", number, "{}", 100)));
                assertEquals("durable", s.fixture.append(numbered("d2", "b1", number, "{}")));
            }
            s.ack(8);
            s.retention.compact();
            s.monotonicMs += HOUR + 1;
            s.retention.compact();
            assertEquals("0 0", row(s.file, "SELECT count(*), (SELECT count(*) FROM wal) FROM key_memory"));
            assertEquals("1 9 9\n1 9 0", row(s.file, "SELECT contiguous_seq, highest_seq, forgotten_seq FROM device_progress ORDER BY device_id"));
            assertEquals("durable", s.fixture.append(numbered("d2", "b1", 3, "{}")), "control: without signatures a forgotten key is a new message");
            assertEquals("rejected", s.fixture.append(Fixture.signed("d1", "b1", 3, "{}", 100)));
            assertEquals("rejected", s.fixture.append(Fixture.signed("d1", "b1", 2, "{}", 100)), "cannot be told from one that was there");
            assertEquals("duplicate", s.fixture.append(Fixture.signed("d1", "b1", 1, "{}", 100)));
            assertEquals("durable", s.fixture.append(Fixture.signed("d1", "b1", 10, "{}", 100)));
            assertEquals("replayed", row(s.file, "SELECT DISTINCT reason FROM rejected"));
        }
    }

    @Test
    void aStoreThatRefusesIsSaidAndTriedAgain() throws Exception {
        Path file = directory.resolve("gateway.db");
        try (Fixture fixture = new Fixture(TestConfig.at(file).with("wal.retention.ms", "0"))) {
            fixture.append(keyed("d1/k/1", "{}"));
            execute(file, "CREATE TRIGGER no BEFORE DELETE ON wal BEGIN SELECT raise(FAIL, 'not now'); END");
            execute(file, "UPDATE sink_range SET acked_seq = 1, inflight_seq = 1 WHERE sink <> 'uplink'");
            await("DEGRADED", () -> fixture.wal.state() == io.caravan.wal.WalState.DEGRADED);
            assertTrue(fixture.wal.reason().contains("retention") && fixture.wal.reason().contains("not now"), fixture.wal.reason());
            assertEquals("durable", fixture.append(keyed("d1/k/2", "{}")));
            execute(file, "DROP TRIGGER no");
            await("DURABLE", () -> fixture.wal.state() == io.caravan.wal.WalState.DURABLE);
            assertEquals("d1/k/2", row(file, "SELECT message_key FROM wal"));
            assertTrue(Files.exists(file));
        }
    }
}
