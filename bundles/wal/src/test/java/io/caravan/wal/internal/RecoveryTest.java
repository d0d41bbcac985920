// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static io.caravan.wal.internal.Fixture.row;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.Task;
import io.caravan.runtime.Tasks;
import io.caravan.wal.AppendResult;
import io.caravan.wal.Record;
import io.caravan.wal.Recovery;
import io.caravan.wal.Recovery.Change;
import io.caravan.wal.Recovery.DeadCause;
import io.caravan.wal.Recovery.DeadFilter;
import io.caravan.wal.Recovery.Message;
import io.caravan.wal.Recovery.SinkStatus;
import io.caravan.wal.Wal;
import io.caravan.wal.WalState;
import java.io.ByteArrayOutputStream;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.CompletionStage;
import javax.management.MBeanAttributeInfo;
import javax.management.MBeanServer;
import javax.management.ObjectName;
import javax.management.RuntimeMBeanException;
import javax.management.openmbean.CompositeData;
import javax.management.openmbean.TabularData;
import org.apache.camel.Exchange;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What each operation does and refuses; RecoveryLedgerTest has their combinations. */
class RecoveryTest {
    private static final long T0 = 1_790_000_000_000L;

    @TempDir Path directory;
    private Database database;
    private Recovery tools;
    private final Set<String> installed = new TreeSet<>();
    private final List<String> woken = new ArrayList<>();

    @BeforeEach
    void open() throws Exception {
        database = Database.open(Schema.GATEWAY, TestConfig.at(directory.resolve("gateway.db")));
        tools = tools(database, installed, woken);
    }

    @AfterEach
    void close() {
        database.close();
    }

    static RecoveryTools tools(Database database, Set<String> installed, List<String> woken) {
        return tools(database, installed, woken, new Tasks());
    }

    static RecoveryTools tools(Database database, Set<String> installed, List<String> woken, Tasks tasks) {
        return new RecoveryTools(database, () -> "gw-1", new Durable(), new RecoveryTools.Parts() {
            @Override
            public Set<String> installed() {
                return installed;
            }

            @Override
            public void wake(String sink) {
                woken.add(sink);
            }

            @Override
            public Recovery.Verification verify(boolean whole, Task task) throws SQLException {
                return new RecoveryParts(database, null, null).verify(whole, task);
            }

            @Override
            public String compact(Task task) {
                return "nothing to do";
            }

            @Override
            public int acknowledge(String by) throws SQLException {
                try (Connection connection = database.writer().getConnection()) {
                    return Sql.update(connection, "UPDATE incident SET acknowledged_at_ms = 1, acknowledged_by = ? WHERE acknowledged_at_ms IS NULL", by);
                }
            }
        }, tasks);
    }

    /** A row as if it had been appended; numbered by the device as in the log. */
    static void insert(Connection connection, String device, long seq, long receivedAtMs) throws SQLException {
        byte[] body = ("{\"n\":" + seq + "}").getBytes(StandardCharsets.UTF_8);
        Sql.update(connection, "INSERT INTO wal (seq, message_key, correlation_id, device_id, kind, lane, boot_id, device_seq, observed_at_ms, received_at_ms,"
                + " mono_ms, schema_version, content_type, body, crc) VALUES (?, ?, ?, ?, 'telemetry', 'live', 'b1', ?, ?, ?, 1, 1, 'application/json', ?, ?)",
                seq, Record.numberedKey(device, "b1", seq), correlation(receivedAtMs, seq), device, seq, receivedAtMs, receivedAtMs, body, RowCheck.of(body));
    }

    /** UUIDv7 */
    static String correlation(long ms, long seq) {
        return new UUID(ms << 16 | 0x7000L | seq & 0xfff, 0x8000_0000_0000_0000L | seq).toString();
    }

    private void write(RecoveryTools.Work<?> work) throws SQLException {
        try (Connection connection = database.writer().getConnection()) {
            connection.setAutoCommit(false);
            work.on(connection);
            connection.commit();
            connection.setAutoCommit(true);
        }
    }

    /** So many rows, one a second from {@link #T0} on, of which the sink has all. */
    private void delivered(String sink, int rows) throws SQLException {
        write(connection -> {
            long newest = Replay.newest(connection, "wal");
            for (long seq = newest + 1; seq <= newest + rows; seq++) {
                insert(connection, "d" + seq % 3, seq, T0 + 1_000 * seq);
            }
            Sql.update(connection, "INSERT INTO sink (name, delivered) VALUES (?, ?)", sink, newest + rows);
            return Sql.update(connection, "INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq) VALUES (?1, 1, ?2, ?2)", sink, newest + rows);
        });
        installed.add(sink);
    }

    private void dead(String sink, String reason, String error, long... seqs) throws SQLException {
        write(connection -> {
            for (long seq : seqs) {
                Sql.update(connection, "INSERT INTO dead_letter (sink, seq, reason, error, attempts, first_failed_at_ms, dead_at_ms) VALUES (?, ?, ?, ?, 3, ?, ?)",
                        sink, seq, reason, error.replace("%", Long.toString(seq)), T0 + seq, T0 + 1_000 * seq);
            }
            return Sql.update(connection, "UPDATE sink SET dead = dead + ?1, delivered = delivered - ?1 WHERE name = ?2", seqs.length, sink);
        });
    }

    private List<String> ranges(String sink) throws SQLException {
        return Fixture.rows(database.file(), "SELECT first_seq, last_seq, acked_seq, inflight_seq, origin FROM sink_range WHERE sink = '" + sink + "' ORDER BY first_seq");
    }

    private String ledger(String sink) throws SQLException {
        return Fixture.row(database.file(), "SELECT acked, dead, discarded, backlog, unaccounted FROM ledger WHERE sink = '" + sink + "'");
    }

    private static void says(Executable call, String... parts) {
        RuntimeException e = assertThrows(RuntimeException.class, call::run);
        for (String part : parts) {
            assertTrue(e.getMessage().contains(part), e.getMessage());
        }
    }

    private interface Executable {
        void run() throws Exception;
    }

    @Test
    void replayDeliversARangeAgainToOneSink() throws Exception {
        delivered("kafka", 100);
        delivered("s3", 0);
        Change would = tools.replay("kafka", 10, 19, true);
        assertEquals(List.of("1 null 100 100 normal"), ranges("kafka"), "a dry run changes nothing");
        assertEquals(would, tools.replay("kafka", 10, 19, false));
        assertEquals(10, would.rows());
        assertEquals(List.of("10 19 9 9 replay", "101 null 100 100 normal"), ranges("kafka"));
        assertEquals("90 0 0 10 0", ledger("kafka"));
        assertEquals("100 0 0 0 0", ledger("s3"));
        assertEquals(List.of("kafka"), woken);

        Change again = tools.replay("kafka", 15, 24, false);
        assertEquals(5, again.rows());
        assertEquals(5, again.pending());
        assertEquals(List.of("10 19 9 9 replay", "20 24 19 19 replay", "101 null 100 100 normal"), ranges("kafka"));
        assertEquals(List.of("telemetry Enqueued"), Fixture.rows(database.file(), "SELECT 'telemetry', status FROM message_status WHERE sink = 'kafka' AND seq = 12"));
    }

    @Test
    void replaySaysWhatIsNotThereAnyMore() throws Exception {
        delivered("kafka", 100);
        write(connection -> Sql.update(connection, "DELETE FROM wal WHERE seq < 50 OR seq IN (60, 61)")
                + Sql.update(connection, "UPDATE meta SET retained_from_seq = 50")
                + Sql.update(connection, "INSERT INTO lost_range (first_seq, last_seq, incident) VALUES (60, 61, 1)"));
        Change change = tools.replay("kafka", 40, 200, false);
        assertEquals(49, change.rows());
        assertEquals(2, change.ranges());
        assertEquals(12, change.gone());
        assertTrue(change.note().contains("40-49: not in the log any more") && change.note().contains("60-61: lost")
                && change.note().contains("101-200: not written yet"), change.note());
        assertEquals("51 0 0 49 0", ledger("kafka"));
    }

    @Test
    void replayGoesBackBehindTheStartOfASink() throws Exception {
        delivered("kafka", 100);
        write(connection -> Sql.update(connection, "INSERT INTO sink (name, start_seq) VALUES ('new', 101)")
                + Sql.update(connection, "INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq) VALUES ('new', 101, 100, 100)"));
        assertEquals("0 0 0 0 0", ledger("new"));
        tools.replay("new", 51, 60, false);
        assertEquals("0 0 40 10 0", ledger("new"), "from 61 to 100 it was not asked for");
        assertEquals(40, tools.replay("new", 61, 100, false).rows());
        assertEquals("0 0 0 50 0", ledger("new"));
    }

    @Test
    void partsOfTheGatewayAreNotReplayedTo() throws Exception {
        delivered("kafka", 3);
        for (String sink : List.of("rollup", "passthrough", "answers", "uplink")) {
            says(() -> tools.replay(sink, 1, 2, false), sink, "part of the gateway");
            says(() -> tools.reset(sink, "oldest", false), sink, "part of the gateway");
            says(() -> tools.remove(sink, false), sink, "part of the gateway");
        }
        says(() -> tools.replay("rollup", 1, 2, true), "count rows twice");
        says(() -> tools.replay("kavka", 1, 2, false), "[kavka]", "known are answers, kafka, passthrough, rollup, uplink");
        says(() -> tools.replay("kafka", 3, 2, false), "[3-2]");
        says(() -> tools.replay("kafka", 4, 9, false), "behind the end of the log, which is at 3");
    }

    @Test
    void resetToNowDiscardsTheBacklogAndCountsIt() throws Exception {
        delivered("kafka", 10);
        write(connection -> Sql.update(connection, "UPDATE sink SET delivered = 4 WHERE name = 'kafka'")
                + Sql.update(connection, "UPDATE sink_range SET acked_seq = 4, inflight_seq = 7 WHERE sink = 'kafka'"));
        assertEquals(6, tools.reset("kafka", "now", false).discarded());
        assertEquals("4 0 6 0 0", ledger("kafka"));
        assertEquals(List.of("11 null 10 10 normal"), ranges("kafka"));
        assertEquals(List.of("Dead discarded: operator: left out by sink:reset or wal:replay"),
                Fixture.rows(database.file(), "SELECT status, detail FROM message_status WHERE sink = 'kafka' AND seq = 5"));

        Change oldest = tools.reset("kafka", "oldest", false);
        assertEquals(10, oldest.rows());
        assertEquals("0 0 0 10 0", ledger("kafka"));
        assertEquals(3, tools.reset("kafka", "4", false).discarded());
        assertEquals("0 0 3 7 0", ledger("kafka"));
        assertEquals(List.of("4 10 3 3 replay", "11 null 10 10 normal"), ranges("kafka"));
        says(() -> tools.reset("kafka", "12", false), "[12]", "at 10");
        says(() -> tools.reset("kafka", "yesterday", false), "[yesterday]", "oldest, now or a sequence");
    }

    @Test
    void resetMendsWhatContradictsItself() throws Exception {
        delivered("kafka", 20);
        write(connection -> Sql.update(connection, "UPDATE sink SET delivered = 3, dead = 7 WHERE name = 'kafka'")
                + Sql.update(connection, "DELETE FROM sink_range WHERE sink = 'kafka'")
                + Sql.update(connection, "INSERT INTO sink_range (sink, first_seq, last_seq, acked_seq, inflight_seq) VALUES ('kafka', 1, 10, 4, 12), "
                        + "('kafka', 8, 15, 9, 9), ('kafka', 16, 40, 15, 15)"));
        assertFalse(tools.verify(false).ok());
        Change change = tools.reset("kafka", "10", false);
        assertTrue(change.note().contains("made anew") && change.note().contains("off by"), change.note());
        assertEquals("4 0 5 11 0", ledger("kafka"));
        assertEquals(List.of(), tools.discrepancies(true).stream().filter(d -> d.sink().equals("kafka")).toList());
        assertEquals(List.of(), tools.verify(true).findings().stream().filter(f -> f.subject().contains("kafka")).toList());
    }

    @Test
    void pauseAndResume() throws Exception {
        delivered("kafka", 10);
        write(connection -> Sql.update(connection, "UPDATE sink SET state = 'failed', attempts = 7, next_attempt_at_ms = 5, reason = 'unauthorized' WHERE name = 'kafka'"));
        tools.pause("kafka");
        assertEquals("paused operator", Fixture.row(database.file(), "SELECT state, reason FROM sink WHERE name = 'kafka'"));
        assertEquals(List.of(), woken);
        tools.resume("kafka");
        assertEquals("running null 0 null", Fixture.row(database.file(), "SELECT state, reason, attempts, next_attempt_at_ms FROM sink WHERE name = 'kafka'"));
        assertEquals(List.of("kafka"), woken);
        says(() -> tools.pause("nobody"), "[nobody]");
    }

    @Test
    void aSinkIsRemovedOnlyWithoutItsRoute() throws Exception {
        delivered("kafka", 10);
        dead("kafka", "refused", "no", 3);
        says(() -> tools.remove("kafka", false), "[kafka]", "feature:uninstall caravan-sink-kafka");
        installed.clear();
        assertTrue(tools.remove("kafka", true).note().contains("1 dead letters"));
        tools.remove("kafka", false);
        assertEquals(List.of("answers", "passthrough", "rollup", "uplink"), tools.sinks().stream().map(SinkStatus::name).toList());
        assertEquals("0", Fixture.row(database.file(), "SELECT count(*) FROM dead_letter"));
    }

    @Test
    void deadLettersAreGroupedByCause() throws Exception {
        delivered("kafka", 100);
        dead("kafka", "too_large", "the record has 10%1 bytes, at most 5000", 5, 6, 7, 8, 9, 10, 20);
        dead("kafka", "refused", "id 0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b is unknown", 30);
        dead("kafka", "refused", "id 0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c is unknown", 31);
        List<DeadCause> causes = tools.deadCauses(DeadFilter.ALL);
        assertEquals(2, causes.size());
        assertEquals("the record has # bytes, at most #", causes.get(0).error());
        assertEquals(7, causes.get(0).count());
        assertEquals("5,6,7,8,9", causes.get(0).samples());
        assertEquals(T0 + 5_000, causes.get(0).firstAtMs());
        assertEquals(T0 + 20_000, causes.get(0).lastAtMs());
        assertEquals("id # is unknown", causes.get(1).error());
        assertEquals(2, tools.deadLetters(new DeadFilter(null, null, causes.get(1).id(), null, 0, 0, 0), 10).size());
        assertEquals(3, tools.deadLetters(new DeadFilter("kafka", null, null, "d0", 0, 0, 0), 10).size(), "6, 9, 30");
        assertEquals(1, tools.deadLetters(new DeadFilter(null, null, null, null, T0 + 31_000, 0, 0), 10).size());
        assertEquals(2, tools.deadLetters(DeadFilter.ALL, 2).size());
        says(() -> tools.deadCauses(new DeadFilter("nobody", null, null, null, 0, 0, 0)), "[nobody]");
        says(() -> tools.deadCauses(new DeadFilter(null, null, "x", null, 0, 0, 0)), "[x]", "8 hexadecimal");
    }

    @Test
    void requeueTakesOnlyWhatWasChosen() throws Exception {
        delivered("kafka", 100);
        delivered("s3", 0);
        dead("kafka", "too_large", "the record has % bytes", 5, 6, 7, 20);
        dead("s3", "too_large", "the record has % bytes", 6);
        String cause = tools.deadCauses(new DeadFilter("kafka", null, null, null, 0, 0, 0)).get(0).id();
        Change change = tools.requeue(new DeadFilter(null, null, cause, null, 0, 0, 0), false);
        assertEquals(4, change.rows());
        assertEquals(2, change.ranges());
        assertEquals(List.of("5 7 4 4 requeue", "20 20 19 19 requeue", "101 null 100 100 normal"), ranges("kafka"));
        assertEquals("96 0 0 4 0", ledger("kafka"));
        assertEquals("99 1 0 0 0", ledger("s3"));
        assertEquals(List.of("kafka"), woken);
    }

    /** What somebody types, or sends by JMX, is a value in each statement and never a part of it. */
    @ParameterizedTest
    @ValueSource(strings = {"'; DROP TABLE wal; --", "' OR '1'='1", "x'); DELETE FROM dead_letter; --", "?1", "%", "_", "\" OR 1=1; --", "kafka' --",
            "${body}", "{{wal.path}}", "kafka/b/1' OR '1'='1"})
    void argumentsAreValues(String evil) throws Exception {
        delivered("kafka", 10);
        dead("kafka", "refused", "no", 5, 6);
        String everything = "SELECT (SELECT group_concat(sql, x'0a') FROM (SELECT sql FROM sqlite_master ORDER BY name)), (SELECT count(*) FROM wal),"
                + " (SELECT group_concat(sink || seq || state) FROM dead_letter), (SELECT group_concat(name || state || dead) FROM sink),"
                + " (SELECT group_concat(sink || first_seq || acked_seq) FROM sink_range)";
        String before = row(database.file(), everything);
        List<Executable> operations = List.of(() -> tools.pause(evil), () -> tools.resume(evil), () -> tools.reset(evil, "oldest", false),
                () -> tools.reset("kafka", evil, false), () -> tools.remove(evil, false), () -> tools.replay(evil, 1, 10, false),
                () -> tools.replayTime(evil, 1, 0, false), () -> tools.peek(evil, true));
        for (Executable operation : operations) {
            try {
                operation.run();
            } catch (IllegalArgumentException | IllegalStateException refused) {
                // as it should be
            }
        }
        for (DeadFilter filter : List.of(new DeadFilter(evil, null, null, null, 0, 0, 0), new DeadFilter(null, evil, null, null, 0, 0, 0),
                new DeadFilter(null, null, evil, null, 0, 0, 0), new DeadFilter(null, null, null, evil, 0, 0, 0))) {
            for (Executable operation : List.<Executable>of(() -> assertEquals(0, tools.deadLetters(filter, 10).size()),
                    () -> assertEquals(0, tools.requeue(filter, false).rows()), () -> assertEquals(0, tools.discard(filter, evil, false).rows()),
                    () -> assertEquals(0, tools.deadExport(filter, new ByteArrayOutputStream(), 10)), () -> assertEquals(0, tools.deadCauses(filter).size()))) {
                try {
                    operation.run();
                } catch (IllegalArgumentException refused) {
                    // as it should be
                }
            }
        }
        tools.acknowledge(evil);
        assertEquals(before, row(database.file(), everything));
        assertEquals(1, tools.discard(new DeadFilter(null, null, null, null, 0, 0, 5), evil, false).rows());
        assertEquals(evil, row(database.file(), "SELECT note FROM dead_letter WHERE seq = 5"));
    }

    @Test
    void aDeadLetterWithoutItsRowIsNotRequeued() throws Exception {
        delivered("kafka", 10);
        dead("kafka", "corrupt", "checksum", 5, 6);
        write(connection -> Sql.update(connection, "DELETE FROM wal WHERE seq = 5"));
        Change change = tools.requeue(DeadFilter.ALL, false);
        assertEquals(1, change.rows());
        assertEquals(1, change.gone());
        assertTrue(change.note().contains("dead:discard"), change.note());
        assertEquals("8 1 0 1 0", ledger("kafka"));
        assertEquals(1, tools.discard(DeadFilter.ALL, "the row is gone", false).rows());
        assertEquals("8 0 1 1 0", ledger("kafka"));
        assertEquals("discarded the row is gone", Fixture.row(database.file(), "SELECT state, note FROM dead_letter WHERE seq = 5"));
        says(() -> tools.discard(DeadFilter.ALL, " ", false), "must say why");
    }

    @Test
    void thousandsOfPiecesAreTakenInTurns() throws Exception {
        delivered("kafka", 12_001);
        write(connection -> Sql.update(connection, "INSERT INTO dead_letter (sink, seq, reason, error, attempts, first_failed_at_ms, dead_at_ms)"
                + " SELECT 'kafka', seq, 'refused', 'no', 1, 1, 1 FROM wal WHERE seq % 2 = 0")
                + Sql.update(connection, "UPDATE sink SET dead = 6000, delivered = 6001 WHERE name = 'kafka'"));
        Change first = tools.requeue(DeadFilter.ALL, false);
        assertTrue(first.more() && first.note().contains("same command again"), first.note());
        Change second = tools.requeue(DeadFilter.ALL, false);
        assertFalse(second.more());
        assertEquals(6_000, first.rows() + second.rows());
        assertEquals("6001 0 0 6000 0", ledger("kafka"));
    }

    @Test
    void deadLettersAreExportedWithTheirRows() throws Exception {
        delivered("kafka", 120);
        long[] all = new long[120];
        for (int i = 0; i < all.length; i++) {
            all[i] = i + 1;
        }
        dead("kafka", "refused", "no \"quotes\" %", all);
        write(connection -> Sql.update(connection, "DELETE FROM wal WHERE seq = 2") + Sql.update(connection, "UPDATE wal SET body = x'7b7d' WHERE seq = 3"));
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        assertEquals(120, tools.deadExport(DeadFilter.ALL, out, Long.MAX_VALUE));
        String[] lines = out.toString(StandardCharsets.UTF_8).split("\n");
        assertEquals(120, lines.length);
        assertEquals("{\"sink\":\"kafka\",\"seq\":1,\"reason\":\"refused\",\"error\":\"no \\\"quotes\\\" 1\",\"attempts\":3,\"first_failed_at_ms\":" + (T0 + 1)
                + ",\"dead_at_ms\":" + (T0 + 1_000) + ",\"row\":{\"seq\":1,\"gateway_id\":\"gw-1\",\"message_key\":\"d1/b1/0000000000000001\",\"correlation_id\":\""
                + correlation(T0 + 1_000, 1) + "\",\"device_id\":\"d1\",\"kind\":\"telemetry\",\"lane\":\"live\",\"boot_id\":\"b1\",\"device_seq\":1,\"observed_at_ms\":"
                + (T0 + 1_000) + ",\"received_at_ms\":" + (T0 + 1_000) + ",\"schema_version\":1,\"body\":{\"n\":1}}}", lines[0]);
        assertTrue(lines[1].endsWith("\"row\":null}"), lines[1]);
        assertTrue(lines[2].endsWith("\"row\":null,\"body_base64\":\"e30=\"}"), lines[2]);
        assertEquals(7, tools.deadExport(DeadFilter.ALL, new ByteArrayOutputStream(), 7));
    }

    @Test
    void aMessageIsFoundByWhateverIsKnownOfIt() throws Exception {
        delivered("kafka", 3_000);
        dead("kafka", "refused", "no", 1_234);
        Message bySeq = tools.peek("1234", false);
        assertEquals(List.of("answers Enqueued null", "kafka Dead dead: refused: no", "passthrough Enqueued null", "rollup Enqueued null"),
                bySeq.places().stream().map(p -> p.sink() + " " + p.status() + " " + p.detail()).toList());
        assertTrue(bySeq.intact());
        assertEquals("{\"n\":1234}", bySeq.body());
        assertEquals(bySeq, tools.peek(bySeq.messageKey(), false));
        assertEquals(bySeq, tools.peek("d1/b1/1234", false), "as the device says it");
        assertEquals(bySeq, tools.peek(bySeq.correlationId().toUpperCase(java.util.Locale.ROOT), false));
        assertEquals(1, tools.peek(correlation(T0 + 1_000, 1), false).seq());
        assertEquals(3_000, tools.peek(correlation(T0 + 3_000_000, 3_000), false).seq());

        write(connection -> Sql.update(connection, "DELETE FROM wal WHERE seq < 100 OR seq BETWEEN 1000 AND 2000")
                + Sql.update(connection, "UPDATE meta SET retained_from_seq = 100")
                + Sql.update(connection, "UPDATE wal SET correlation_id = '" + correlation(T0 + 86_400_000, 7) + "' WHERE seq = 500")
                + Sql.update(connection, "INSERT INTO lost_range (first_seq, last_seq, incident) VALUES (1000, 2000, 4)")
                + Sql.update(connection, "INSERT INTO device_progress (device_id, boot_id, contiguous_seq, highest_seq, updated_at_ms) VALUES ('d0', 'b1', 3000, 3000, 1)")
                + Sql.update(connection, "UPDATE wal SET device_id = 'other' WHERE seq = 501")
                + Sql.update(connection, "UPDATE wal SET body = x'7b7d' WHERE seq = 502"));
        assertEquals(2_500, tools.peek(correlation(T0 + 2_500_000, 2_500), false).seq(), "beyond a hole");
        assertTrue(tools.peek("5", false).note().contains("deleted by retention"));
        assertTrue(tools.peek("1500", false).note().contains("incident 4"));
        assertTrue(tools.peek("9999", false).note().contains("never given"));
        assertTrue(tools.peek("d0/b1/3", false).note().contains("was in the log"));
        assertTrue(tools.peek("d9/b1/3", false).note().contains("is not in the log"));
        assertFalse(tools.peek("502", false).intact());
        Message clockWasSet = tools.peek(correlation(T0 + 86_400_000, 7), false);
        assertEquals(0, clockWasSet.seq());
        assertTrue(clockWasSet.note().contains("--scan"), clockWasSet.note());
        assertEquals(500, tools.peek(correlation(T0 + 86_400_000, 7), true).seq());
        says(() -> tools.peek("6ba7b810-9dad-11d1-80b4-00c04fd430c8", false), "UUIDv7");
    }

    @Test
    void whatWasRefusedIsFoundByItsCorrelationId() throws Exception {
        write(connection -> Sql.update(connection, "INSERT INTO rejected (received_at_ms, correlation_id, source, topic, reason, error, body)"
                + " VALUES (?, ?, 'http', '/ingest/x', 'malformed_json', 'line 1', x'7b')", T0, correlation(T0, 1)));
        assertTrue(tools.peek(correlation(T0, 1), false).note().contains("malformed_json: line 1"));
    }

    @Test
    void timesLeadToSequences() throws Exception {
        delivered("kafka", 1_000);
        write(connection -> Sql.update(connection, "DELETE FROM wal WHERE seq < 100 OR seq BETWEEN 300 AND 600"));
        write(connection -> Sql.update(connection, "UPDATE meta SET retained_from_seq = 100"));
        assertEquals(11, tools.replayTime("kafka", T0 + 200_000, T0 + 211_000, false).rows());
        assertEquals(1, tools.replayTime("kafka", T0 + 1_000_000, 0, false).rows());
        says(() -> tools.replayTime("kafka", T0 + 2_000_000, 0, false), "nothing that is retained", "wal:status");
        says(() -> tools.replayTime("kafka", 5, 4, false), "must be before");
        assertEquals(50, tools.replayTime("kafka", 0, T0 + 150_000, false).rows());
        write(connection -> Sql.update(connection, "INSERT INTO lost_range VALUES (300, 600, 1)"));
        Change beyondAHole = tools.replayTime("kafka", T0 + 290_000, T0 + 611_000, false);
        assertEquals("20 301 true", beyondAHole.rows() + " " + beyondAHole.gone() + " " + beyondAHole.note().contains("300-600: lost"), beyondAHole.note());
    }

    /** The clock goes back an hour at 401 and is set right at 701: what it says twice was received twice. */
    @Test
    void whatWasReceivedInATimeIsFoundOnBothSidesOfAStepOfTheClock() throws Exception {
        delivered("kafka", 1_000);
        write(connection -> Sql.update(connection, "UPDATE wal SET received_at_ms = received_at_ms - 350000 WHERE seq BETWEEN 401 AND 700"));
        Change change = tools.replayTime("kafka", T0 + 100_000, T0 + 201_000, true);
        assertEquals(202, change.rows());
        assertTrue(change.note().contains("2 pieces of the log") && change.note().contains("100-200, 450-550"), change.note());
        assertEquals(202, tools.replayTime("kafka", T0 + 100_000, T0 + 201_000, false).rows());
        assertEquals("100 200\n450 550", Fixture.row(database.file(), "SELECT first_seq, last_seq FROM sink_range WHERE sink = 'kafka' AND last_seq > 0"));
        assertEquals("0", Fixture.row(database.file(), "SELECT unaccounted FROM ledger WHERE sink = 'kafka'"));
    }

    @Test
    void anMBeanSaysAndDoesTheSame() throws Exception {
        delivered("kafka", 100);
        dead("kafka", "refused", "no %", 5, 6);
        MBeanServer server = ManagementFactory.getPlatformMBeanServer();
        ObjectName all = new ObjectName("io.caravan:type=Recovery,*");
        Set<ObjectName> before = server.queryNames(all, null);
        AutoCloseable registered = RecoveryJmx.register(tools);
        Set<ObjectName> names = new java.util.HashSet<>(server.queryNames(all, null));
        names.removeAll(before);
        ObjectName name = names.iterator().next();
        for (MBeanAttributeInfo attribute : server.getMBeanInfo(name).getAttributes()) {
            assertTrue(attribute.getType().startsWith("javax.management.openmbean."), attribute.toString());
            server.getAttribute(name, attribute.getName());
        }
        TabularData sinks = (TabularData) server.getAttribute(name, "Sinks");
        assertEquals(5, sinks.size());
        assertEquals(2L, sinks.get(new Object[] {"kafka"}).get("dead"));
        assertEquals(100L, ((CompositeData) server.getAttribute(name, "Status")).get("newestSeq"));
        String text = String.class.getName();
        CompositeData change = (CompositeData) server.invoke(name, "requeueDead", new Object[] {"kafka", "", "", null, 0L, 0L, false},
                new String[] {text, text, text, text, "long", "long", "boolean"});
        assertEquals(2L, change.get("rows"));
        assertEquals("98 0 0 2 0", ledger("kafka"));
        TabularData places = (TabularData) server.invoke(name, "peekPlaces", new Object[] {"5"}, new String[] {text});
        assertEquals("Enqueued", places.get(new Object[] {"kafka"}).get("status"));
        RuntimeMBeanException e = assertThrows(RuntimeMBeanException.class, () -> server.invoke(name, "pauseSink", new Object[] {"nobody"}, new String[] {text}));
        assertTrue(e.getCause().getMessage().contains("[nobody]"));
        registered.close();
        assertFalse(server.isRegistered(name));
    }

    @Test
    void sequencesThatAreNotCountedAreNamed() throws Exception {
        delivered("kafka", 100);
        assertEquals(List.of(), tools.discrepancies(true).stream().filter(d -> d.sink().equals("kafka")).toList());
        dead("kafka", "refused", "no", 40);
        write(connection -> Sql.update(connection, "DELETE FROM wal WHERE seq IN (50, 51, 40)")
                + Sql.update(connection, "INSERT INTO sink_range (sink, first_seq, last_seq, acked_seq, inflight_seq) VALUES ('kafka', 60, 62, 59, 59)"));
        List<String> found = tools.discrepancies(true).stream().filter(d -> d.sink().equals("kafka")).map(d -> d.firstSeq() + "-" + d.lastSeq() + " " + d.what()).toList();
        assertTrue(found.toString().contains("60-62 in two ranges"), found.toString());
        assertTrue(found.toString().contains("40-40 a dead letter whose row is gone"), found.toString());
        assertTrue(found.toString().contains("50-51 not in the log any more"), found.toString());
        assertTrue(tools.diagnose().stream().anyMatch(f -> f.severity().equals("error") && f.subject().equals("ledger of kafka")), "diagnosed too");
    }

    @Test
    void statusAndIncidents() throws Exception {
        delivered("kafka", 100);
        write(connection -> Sql.update(connection, "DELETE FROM wal WHERE seq < 20")
                + Sql.update(connection, "UPDATE meta SET retained_from_seq = 20")
                + Sql.update(connection, "INSERT INTO incident (kind, at_ms, salvaged_rows, lost_rows, detail) VALUES ('corrupt_rows', 5, 0, 2, 'rows 7 and 8')"));
        Recovery.LogStatus status = tools.status();
        assertEquals(81, status.rows());
        assertEquals(20, status.oldestSeq());
        assertEquals(100, status.newestSeq());
        assertEquals(T0 + 20_000, status.oldestAtMs());
        assertEquals(1, status.openIncidents());
        assertTrue(tools.diagnose().stream().anyMatch(f -> f.advice().contains("wal:acknowledge")));
        says(() -> tools.acknowledge(""), "must name who");
        assertEquals(1, tools.acknowledge("me"));
        assertEquals(0, tools.acknowledge("me"));
        assertEquals("me", tools.incidents().get(0).acknowledgedBy());
        assertEquals(0, tools.status().openIncidents());
    }

    @Test
    void aSinkThatDoesNotGetOnIsDiagnosedWithAdvice() throws Exception {
        delivered("kafka", 10);
        delivered("old", 10);
        installed.remove("old");
        dead("kafka", "refused", "no", 3);
        write(connection -> Sql.update(connection, "UPDATE sink SET state = 'failed', attempts = 4, reason = 'not_found', last_error = 'no topic [t]' WHERE name = 'kafka'"));
        List<String> found = tools.diagnose().stream().map(f -> f.severity() + " " + f.subject() + ": " + f.what() + ". " + f.advice()).toList();
        assertTrue(found.get(0).startsWith("error sink kafka: failed after 4 attempts, not_found: no topic [t]; 10 rows behind")
                && found.get(0).contains("sink:resume kafka"), found.toString());
        assertTrue(found.toString().contains("sink:remove old"), found.toString());
        assertTrue(found.toString().contains("dead:list --sink kafka"), found.toString());
        SinkStatus kafka = tools.sinks().get(0);
        assertTrue(kafka.installed() && kafka.unackedAgeMs() > 0, kafka.toString());
    }

    /** A log that works. */
    private static final class Durable implements Wal {
        @Override
        public CompletionStage<AppendResult> append(Exchange exchange) {
            throw new UnsupportedOperationException();
        }

        @Override
        public CompletionStage<Void> reject(Exchange exchange) {
            throw new UnsupportedOperationException();
        }

        @Override
        public CompletionStage<AppendResult> submit(Record record, String source, String topic) {
            throw new UnsupportedOperationException();
        }

        @Override
        public void receiptRequested(String deviceId) {
            throw new UnsupportedOperationException();
        }

        @Override
        public WalState state() {
            return WalState.DURABLE;
        }

        @Override
        public String reason() {
            return "";
        }

        @Override
        public int queued() {
            return 0;
        }
    }
}
