// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static io.caravan.wal.internal.Fixture.keyed;
import static io.caravan.wal.internal.Fixture.numbered;
import static io.caravan.wal.internal.Fixture.row;
import static io.caravan.wal.internal.Fixture.rows;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.AppendResult;
import io.caravan.wal.Record;
import io.caravan.wal.Rejection;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import org.apache.camel.Exchange;
import org.apache.camel.support.DefaultExchange;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the log takes, once, and what it says about it. */
class AppendTest {
    @TempDir Path directory;
    private Path file;
    private Fixture fixture;

    @BeforeEach
    void open() throws Exception {
        file = directory.resolve("new/gateway.db");
        fixture = new Fixture(TestConfig.at(file));
    }

    @AfterEach
    void close() throws Exception {
        fixture.close();
    }

    private void reopen() throws Exception {
        fixture.close();
        fixture = new Fixture(TestConfig.at(file));
    }

    @Test
    void anotherConnectionSeesTheRowWhenTheStageCompletes() throws Exception {
        for (int i = 1; i <= 200; i++) {
            Record record = numbered("d1", "b1", i, "{\"n\":" + i + "}");
            String[] seen = new String[1];
            CompletionStage<Void> done = fixture.wal.submit(record, "mqtt-server", "t").thenAccept(result -> {
                try {
                    seen[0] = row(file, "SELECT seq, device_seq, CAST(body AS TEXT) FROM wal WHERE message_key = '" + record.messageKey() + "'");
                } catch (java.sql.SQLException e) {
                    throw new IllegalStateException(e);
                }
            });
            Fixture.get(done);
            assertEquals(i + " " + i + " {\"n\":" + i + "}", seen[0]);
        }
    }

    @Test
    void aDuplicateIsStoredOnceOnDiskAndWithinAGroup() throws Exception {
        assertEquals("durable", fixture.append(keyed("d1/k/a", "{}")));
        assertEquals("duplicate", fixture.append(keyed("d1/k/a", "{}")));
        assertEquals(List.of("durable", "duplicate", "duplicate", "durable"),
                fixture.appendAll(List.of(keyed("d1/k/b", "{}"), keyed("d1/k/b", "{}"), keyed("d1/k/a", "{}"), keyed("d1/k/c", "{}"))));
        reopen();
        assertEquals("duplicate", fixture.append(keyed("d1/k/c", "{}")));
        assertEquals(List.of("1 d1/k/a", "2 d1/k/b", "3 d1/k/c"), rows(file, "SELECT seq, message_key FROM wal ORDER BY seq"));
    }

    @Test
    void sequencesAreDenseWhateverIsTurnedAway() throws Exception {
        List<Record> records = new ArrayList<>();
        Random random = new Random(7);
        for (int i = 0; i < 3_000; i++) {
            records.add(random.nextBoolean() ? numbered("d" + random.nextInt(3), "b", 1 + random.nextInt(300), "{}")
                    : keyed("d1/k/" + random.nextInt(300), random.nextInt(10) == 0 ? "{\"other\":1}" : "{}"));
        }
        List<String> outcomes = fixture.appendAll(records);
        assertEquals(row(file, "SELECT count(*), max(seq) FROM wal"),
                row(file, "SELECT (SELECT count(DISTINCT message_key) FROM wal), seq FROM sqlite_sequence WHERE name = 'wal'"));
        assertEquals(Collections.frequency(outcomes, "durable"), Integer.parseInt(row(file, "SELECT count(*) FROM wal")));
        assertEquals(Collections.frequency(outcomes, "rejected"), Integer.parseInt(row(file, "SELECT count(*) FROM rejected")));
    }

    @Test
    void theSameKeyWithAnotherBodyIsKeptAsConflict() throws Exception {
        fixture.append(numbered("d1", "b1", 1, "{\"t\":1}"));
        Exchange exchange = new DefaultExchange(fixture.context);
        exchange.setVariable("record", numbered("d1", "b1", 1, "{\"t\":2}"));
        exchange.getMessage().setHeader("CaravanSource", "http");
        exchange.getMessage().setHeader("CaravanTopic", "/ingest/d1");
        AppendResult result = Fixture.get(fixture.wal.append(exchange));
        assertEquals(new AppendResult("rejected", "key_conflict"), result);
        assertEquals("rejected", exchange.getVariable("outcome"));
        assertEquals("key_conflict", exchange.getVariable("reason"));
        assertEquals("http /ingest/d1 d1 key_conflict {\"t\":2}",
                row(file, "SELECT source, topic, device_id, reason, CAST(body AS TEXT) FROM rejected"));
        assertEquals("{\"t\":1}", row(file, "SELECT CAST(body AS TEXT) FROM wal"));
        assertEquals(List.of("durable", "rejected"), fixture.appendAll(List.of(keyed("d1/k/x", "1"), keyed("d1/k/x", "2"))));
    }

    @Test
    void aRejectionIsOnDiskWhenItsStageCompletes() throws Exception {
        Exchange exchange = new DefaultExchange(fixture.context);
        exchange.setVariable("rejection", new Rejection(5, "c1", "mqtt", "devices/x/telemetry", null, null, "malformed_json", "/a",
                "not JSON", "{".getBytes(StandardCharsets.UTF_8)));
        Fixture.get(fixture.wal.reject(exchange));
        assertEquals("1 5 c1 mqtt devices/x/telemetry null null malformed_json /a not JSON",
                row(file, "SELECT id, received_at_ms, correlation_id, source, topic, device_id, content_type, reason, field, error FROM rejected"));
    }

    @Test
    void aRejectionTheStoreRefusesLeavesNoCommitUnderWay() throws Exception {
        Fixture.execute(file, "CREATE TRIGGER poison BEFORE INSERT ON rejected BEGIN SELECT raise(ABORT, 'not this one'); END");
        Exchange exchange = new DefaultExchange(fixture.context);
        exchange.setVariable("rejection", new Rejection(5, "c1", "mqtt", "t", null, null, "malformed_json", null, "not JSON", new byte[0]));
        ExecutionException e = assertThrows(ExecutionException.class, () -> Fixture.get(fixture.wal.reject(exchange)));
        assertTrue(e.getCause().getMessage().contains("not this one"), e.getCause().getMessage());
        assertEquals(0, ((GroupCommit) fixture.wal).busyNanos());
    }

    @Test
    void progressIsExactOverGapsAnyOrderAndRestarts() throws Exception {
        Random random = new Random(42);
        List<Integer> numbers = new ArrayList<>();
        for (int i = 1; i <= 2_000; i++) {
            numbers.add(i);
        }
        for (int at = 0; at < numbers.size(); at += 50) {
            Collections.shuffle(numbers.subList(at, Math.min(at + 120, numbers.size())), random); // ever later numbers come early
        }
        boolean[] there = new boolean[2_002];
        long stored = 0;
        for (int at = 0; at < numbers.size(); at += 100) {
            List<Record> records = new ArrayList<>();
            for (int number : numbers.subList(at, at + 100)) {
                int earlier = Math.max(1, number - 30); // often a duplicate, sometimes the first
                for (int sent : new int[] {number, earlier}) {
                    if (sent % 397 != 0) { // lost on the way; comes at the end
                        records.add(numbered("d1", "b1", sent, "{}"));
                        stored += there[sent] ? 0 : 1;
                        there[sent] = true;
                    }
                }
            }
            fixture.appendAll(records);
            expectProgress(there, stored);
            if (at % 500 == 0) {
                reopen();
            }
        }
        for (int number = 397; number <= 2_000; number += 397) {
            fixture.append(numbered("d1", "b1", number, "{}"));
            stored += there[number] ? 0 : 1;
            there[number] = true;
            expectProgress(there, stored);
        }
        assertEquals("2000 2000", row(file, "SELECT contiguous_seq, highest_seq FROM device_progress"));
    }

    private void expectProgress(boolean[] there, long stored) throws Exception {
        int contiguous = 0;
        while (there[contiguous + 1]) {
            contiguous++;
        }
        int highest = there.length - 1;
        while (!there[highest]) {
            highest--;
        }
        assertEquals(contiguous + " " + highest + " " + stored,
                row(file, "SELECT contiguous_seq, highest_seq, (SELECT count(*) FROM wal) FROM device_progress"));
    }

    @Test
    void bootsAndDevicesAreToldApart() throws Exception {
        fixture.appendAll(List.of(numbered("d1", "b1", 1, "{}"), numbered("d1", "b2", 1, "{}"), numbered("d2", "b1", 2, "{}")));
        assertEquals(List.of("d1 b1 1 1", "d1 b2 1 1", "d2 b1 0 2"), rows(file,
                "SELECT device_id, boot_id, contiguous_seq, highest_seq FROM device_progress ORDER BY 1, 2"));
    }

    @Test
    void whatRetentionTookIsStillADuplicate() throws Exception {
        fixture.appendAll(List.of(numbered("d1", "b1", 1, "{}"), numbered("d1", "b1", 2, "{}"), numbered("d1", "b1", 4, "{}"),
                numbered("d1", "b1", 5, "{}"), keyed("d1/k/a", "{}")));
        Fixture.execute(file, "INSERT INTO key_memory SELECT message_key, 1 FROM wal WHERE device_seq IS NULL OR device_seq > 2;"
                + " DELETE FROM wal");
        assertEquals(List.of("duplicate", "duplicate", "duplicate", "duplicate"), fixture.appendAll(List.of(numbered("d1", "b1", 2, "{}"),
                numbered("d1", "b1", 1, "{\"cannot\":\"be compared\"}"), numbered("d1", "b1", 4, "{}"), keyed("d1/k/a", "{}"))));
        reopen();
        assertEquals("durable", fixture.append(numbered("d1", "b1", 3, "{}"))); // closes the gap over remembered rows
        assertEquals("5 5", row(file, "SELECT contiguous_seq, highest_seq FROM device_progress"));
        assertEquals("6", row(file, "SELECT seq FROM wal"));
        fixture.appendAll(List.of(numbered("d2", "b1", 2, "{}"), numbered("d2", "b1", 3, "{}"), numbered("d2", "b1", 4, "{}")));
        Fixture.execute(file, "INSERT INTO key_memory SELECT message_key, 1 FROM wal WHERE device_id = 'd2' AND device_seq = 3;"
                + " DELETE FROM wal WHERE device_id = 'd2' AND device_seq = 3");
        fixture.append(numbered("d2", "b1", 1, "{}")); // 2 and 4 are rows, 3 is remembered
        assertEquals("4 4", row(file, "SELECT contiguous_seq, highest_seq FROM device_progress WHERE device_id = 'd2'"));
    }

    @Test
    void aRowTheStoreRefusesIsIsolatedAndKept() throws Exception {
        fixture.append(keyed("d0/k/0", "{}"));
        Fixture.execute(file, "CREATE TRIGGER poison BEFORE INSERT ON wal WHEN new.device_id = 'bad'"
                + " BEGIN SELECT raise(ABORT, 'no such device'); END");
        List<Record> records = new ArrayList<>();
        for (int i = 1; i <= 300; i++) {
            records.add(i % 100 == 37 ? numbered("bad", "b", i, "{}") : numbered("good", "b", i, "{}"));
        }
        List<String> outcomes = fixture.appendAll(records);
        assertEquals(3, Collections.frequency(outcomes, "rejected"));
        assertEquals(297, Collections.frequency(outcomes, "durable"));
        assertEquals("298 298", row(file, "SELECT count(*), max(seq) FROM wal"));
        assertTrue(row(file, "SELECT max(error) FROM rejected").contains("no such device"));
        assertEquals(List.of("good 36 300"), rows(file, "SELECT device_id, contiguous_seq, highest_seq FROM device_progress"));
    }

    @Test
    void aKeyThatIsAnothersNumberIsNoWayToBlockTheLog() throws Exception {
        // Idempotency key 0000000000000001 and number 1 of boot "k" spell the same message_key.
        assertEquals("durable", fixture.append(keyed("d1/k/0000000000000001", "{\"a\":1}")));
        assertEquals(List.of("rejected", "durable"),
                fixture.appendAll(List.of(numbered("d1", "k", 1, "{\"b\":1}"), numbered("d1", "k", 2, "{}"))));
    }

    @Test
    void anExchangeWithoutARecordFails() {
        ExecutionException e = assertThrows(ExecutionException.class,
                () -> Fixture.get(fixture.wal.append(new DefaultExchange(fixture.context))));
        assertTrue(e.getCause().getMessage().contains("variable record"));
    }

    @Test
    void theLedgerIsExactAndTheStatusIndexed() throws Exception {
        for (int i = 1; i <= 10; i++) {
            fixture.append(numbered("d1", "b1", i, "{}"));
            fixture.append(numbered("d1", "b1", i, "{}")); // uses up no number
        }
        assertEquals(List.of("answers 10 0 0 0 0 10", "passthrough 10 0 0 0 0 10", "rollup 10 0 0 0 0 10", "uplink 0 0 0 0 0 0"), ledger());
        Fixture.execute(file, "UPDATE sink_range SET acked_seq = 4, inflight_seq = 7 WHERE sink = 'rollup';"
                + " UPDATE sink SET delivered = 3, dead = 1 WHERE name = 'rollup';"
                + " INSERT INTO dead_letter VALUES ('rollup', 2, 'too_large', 'e', 1, 1, 1, 'dead', NULL)");
        assertEquals(List.of("answers 10 0 0 0 0 10", "passthrough 10 0 0 0 0 10", "rollup 10 3 1 0 3 6", "uplink 0 0 0 0 0 0"), ledger());
        assertEquals("Acked Dead Acked Acked InFlight InFlight InFlight Enqueued Enqueued Enqueued", String.join(" ",
                rows(file, "SELECT status FROM message_status WHERE sink = 'rollup' ORDER BY seq")));
        for (String where : List.of("message_key = 'd1/b1/0000000000000003'", "seq = 3 AND sink = 'rollup'", "seq BETWEEN 2 AND 5 AND sink = 'rollup'")) {
            String plan = row(file, "EXPLAIN QUERY PLAN SELECT * FROM message_status WHERE " + where);
            assertTrue(!plan.contains("SCAN w") && !plan.contains("SCAN r") && !plan.contains("SCAN d"), where + "\n" + plan);
        }
        reopen(); // what was in flight is enqueued again
        assertEquals(List.of("answers 10 0 0 0 0 10", "passthrough 10 0 0 0 0 10", "rollup 10 3 1 0 0 6", "uplink 0 0 0 0 0 0"), ledger());
    }

    private List<String> ledger() throws Exception {
        assertEquals("", row(file, "SELECT * FROM ledger WHERE appended <> acked + dead + discarded + backlog"));
        assertEquals("", row(file, "SELECT * FROM ledger WHERE unaccounted <> 0"));
        return rows(file, "SELECT sink, appended, acked, dead, discarded, inflight, backlog FROM ledger ORDER BY sink");
    }
}
