// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.Statement;
import java.util.Set;
import java.util.zip.CRC32C;

import io.caravan.bench.Verdict.Fault;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A run that is in order, and then one thing wrong at a time: an oracle that finds nothing proves nothing. */
class OracleTest {
    private static final Path SCHEMAS = Path.of("../bundles/wal/src/main/resources/io/caravan/wal");
    private static final long T0 = 1_795_000_000_000L;
    private static final long WIDTH = 10_000;

    @TempDir Path dir;
    private Path gatewayDb;
    private Path cloudDb;
    private Path ledgerFile;

    /** Two devices, 20 readings each one second apart, an event, one bad message; all promised, stored, delivered. */
    @BeforeEach
    void inOrder() throws Exception {
        gatewayDb = dir.resolve("gateway.db");
        cloudDb = dir.resolve("cloud.db");
        ledgerFile = dir.resolve("ledger.ndjson");
        create(gatewayDb, "gateway-1.sql");
        create(cloudDb, "cloud-1.sql");
        sql(cloudDb, "INSERT INTO gateway VALUES ('g1', 'log', '0.1.0', 1, 0, 0)");
        try (Ledger ledger = new Ledger(ledgerFile)) {
            ledger.run(false, 2, 1);
            for (String device : new String[] {"d1", "d2"}) {
                for (int n = 1; n <= 20; n++) {
                    send(ledger, device, n, "telemetry", "\"metrics\":{\"temperature_c\":" + (20 + n / 10.0) + "}", true);
                }
            }
            send(ledger, "d1", 21, "event", "\"event\":\"door_open\"", true);
            byte[] bad = "{\"schema_version\":1".getBytes(StandardCharsets.UTF_8);
            ledger.bad("d1/bad/1", "d1", "malformed_json", bad);
            ledger.ack("d1/bad/1", 0x99);
        }
        sql(gatewayDb, "INSERT INTO rejected (received_at_ms, correlation_id, source, topic, device_id, reason, error, body)"
                + " VALUES (1, 'c', 'mqtt-server', 'devices/d1/telemetry', 'd1', 'malformed_json', 'cut off', CAST('{\"schema_version\":1' AS BLOB))");
        // What a right rollup, passthrough and uplink leave behind.
        sql(gatewayDb, """
                INSERT INTO rollup_window (device_id, metric, start_ms, width_ms, count, min, max, sum, last, last_observed_ms, last_seq, updated_at_ms, revision, dirty)
                SELECT device_id, 'temperature_c', observed_at_ms / 10000 * 10000, 10000, count(*), min(v), max(v), sum(v),
                  max(v) /* they rise */, max(observed_at_ms), max(seq), 1, 1, 0
                FROM (SELECT *, json_extract(CAST(body AS TEXT), '$.metrics.temperature_c') AS v FROM wal WHERE kind = 'telemetry') w GROUP BY 1, 3""");
        sql(gatewayDb, "UPDATE sink_range SET acked_seq = 41, inflight_seq = 41 WHERE sink <> 'uplink'");
        sql(cloudDb, "ATTACH '" + gatewayDb + "' AS g",
                "INSERT INTO rollup_window SELECT 'g1', device_id, metric, start_ms, width_ms, part, 1, count, min, max, sum, sum / count, last, last_observed_ms FROM g.rollup_window",
                "INSERT INTO message (gateway_id, device_id, message_key, kind, observed_at_ms, received_at_ms, body)"
                        + " SELECT 'g1', device_id, message_key, kind, observed_at_ms, 1, CAST(body AS TEXT) FROM g.wal WHERE kind = 'event'");
    }

    @Test
    void findsNothingInARunThatIsInOrder() throws Exception {
        Verdict verdict = oracle().judge();
        assertTrue(verdict.ok(), verdict::toString);
        assertEquals(41, verdict.count("stored"));
        assertEquals(41, verdict.count("promised (acked or receipted)"));
        assertEquals(6, verdict.count("windows expected"));
        assertEquals(1, verdict.count("messages in the cloud"));
    }

    @ParameterizedTest(name = "{0} {1}: {2}")
    @CsvSource(delimiter = '|', quoteCharacter = '`', value = {
        "LOST      | gateway | DELETE FROM wal WHERE message_key = 'd2/b/0000000000000007'",
        "LOST      | gateway | DELETE FROM rejected",
        "LOST      | cloud   | DELETE FROM message",
        "DOUBLED   | gateway | DROP INDEX wal_message_key; UPDATE wal SET message_key = 'd1/b/0000000000000001' WHERE message_key = 'd1/b/0000000000000002'",
        "DOUBLED   | cloud   | DROP INDEX message_key; INSERT INTO message SELECT 99, gateway_id, device_id, message_key, kind, 0, 0, body FROM message",
        "INVENTED  | gateway | UPDATE wal SET message_key = 'd2/b/0000000000000099' WHERE message_key = 'd2/b/0000000000000007'",
        "INVENTED  | gateway | UPDATE wal SET message_key = 'd2/k/other' WHERE message_key = 'd2/b/0000000000000007'",
        "INVENTED  | cloud   | UPDATE message SET message_key = 'd1/b/0000000000000003'",
        "INVENTED  | cloud   | INSERT INTO rollup_window SELECT gateway_id, 'd3', metric, start_ms, width_ms, part, revision, count, min, max, sum, mean, last, last_observed_ms FROM rollup_window WHERE device_id = 'd1'",
        "ALTERED   | gateway | UPDATE wal SET crc = crc + 1 WHERE seq = 3",
        "ALTERED   | gateway | UPDATE wal SET observed_at_ms = observed_at_ms + 1 WHERE seq = 3",
        "ALTERED   | gateway | UPDATE wal SET kind = 'event' WHERE seq = 3",
        "ALTERED   | cloud   | UPDATE message SET body = replace(body, 'door_open', 'door_shut')",
        "REFUSED   | gateway | UPDATE rejected SET reason = 'too_deep'",
        "REFUSED   | gateway | INSERT INTO rejected SELECT 9, 1, 'c', source, topic, device_id, NULL, 'schema_violation', '/x', 'e', CAST('{}' AS BLOB) FROM rejected",
        "WINDOW    | cloud   | DELETE FROM rollup_window WHERE rowid_of = 1",
        "WINDOW    | cloud   | UPDATE rollup_window SET sum = sum * 1.00000001 WHERE device_id = 'd1'",
        "WINDOW    | cloud   | UPDATE rollup_window SET count = count + 1 WHERE device_id = 'd1'",
        "WINDOW    | cloud   | UPDATE rollup_window SET min = min + 0.1 WHERE device_id = 'd1'",
        "WINDOW    | cloud   | UPDATE rollup_window SET max = max - 0.1 WHERE device_id = 'd1'",
        "WINDOW    | cloud   | UPDATE rollup_window SET last = last + 0.1 WHERE device_id = 'd1'",
        "LEDGER    | gateway | UPDATE sqlite_sequence SET seq = 42 WHERE name = 'wal'",
        "LEDGER    | gateway | UPDATE sink SET dead = 1 WHERE name = 'rollup'",
        "LEDGER    | gateway | UPDATE sink_range SET acked_seq = 50 WHERE sink = 'rollup'",
        "BACKLOG   | gateway | UPDATE sink_range SET acked_seq = 40 WHERE sink = 'rollup'",
        "BACKLOG   | gateway | UPDATE rollup_window SET dirty = 1",
        "BACKLOG   | cloud   | INSERT INTO inbox VALUES (1, 'g1', 'log', 1, 'event', 'd1', 'k', 0, 0, NULL, '{}')",
    })
    void findsWhatIsWrong(Fault fault, String where, String damage) throws Exception {
        String statement = damage.replace("WHERE rowid_of = 1", "WHERE device_id = 'd2' AND start_ms = (SELECT min(start_ms) FROM rollup_window)");
        sql(where.equals("gateway") ? gatewayDb : cloudDb, statement.split(";"));
        Verdict verdict = oracle().judge();
        assertTrue(verdict.faults(fault) > 0, () -> "expected " + fault + " after " + damage + ", found\n" + verdict);
    }

    @Test
    void takesPartsOfAWindowTogether() throws Exception {
        sql(cloudDb, "INSERT INTO rollup_window SELECT gateway_id, device_id, metric, start_ms, width_ms, 1, 1, 1, min, min, min, min, min, 0 FROM rollup_window WHERE device_id = 'd1'",
                "UPDATE rollup_window SET count = count - 1, sum = sum - min WHERE device_id = 'd1' AND part = 0");
        Verdict verdict = oracle().judge();
        assertTrue(verdict.ok(), verdict::toString);
    }

    @Test
    void allowsStoredButNotPromised() throws Exception {
        Path cutOff = dir.resolve("cut-off.ndjson");
        Files.write(cutOff, Files.readAllLines(ledgerFile).stream().filter(l -> !l.contains("\"ack\"") || l.contains("bad")).toList());
        Verdict verdict = Oracle.of(gatewayDb, cloudDb).ledger(cutOff).judge();
        assertTrue(verdict.ok(), verdict::toString);
        assertEquals(41, verdict.count("stored, promise not seen"));
    }

    @Test
    void aBrokersAckIsNoPromiseAReceiptIs() throws Exception {
        sql(gatewayDb, "DELETE FROM wal WHERE message_key = 'd2/b/0000000000000007'");
        Path throughBroker = dir.resolve("broker.ndjson");
        Files.write(throughBroker, Files.readAllLines(ledgerFile).stream().map(l -> l.replace("\"promise\":\"ack\"", "\"promise\":\"receipt\"")).toList());
        assertEquals(0, Oracle.of(gatewayDb, null).ledger(throughBroker).judge().faults(Fault.LOST));
        Files.writeString(throughBroker, Files.readString(throughBroker) + "{\"t\":\"receipt\",\"device\":\"d2\",\"boot\":\"b\",\"seq\":9}\n");
        assertEquals(1, Oracle.of(gatewayDb, null).ledger(throughBroker).judge().faults(Fault.LOST));
    }

    @Test
    void readsALoadGeneratorsAckLog() throws Exception {
        Path acks = dir.resolve("acks");
        try (AckLog log = new AckLog(acks, 5)) {
            for (String device : new String[] {"d1", "d2"}) {
                log.sent(device, "b", 21);
                for (int n = 1; n <= 20; n++) {
                    log.acked(device + "/b/", n);
                }
            }
        }
        Files.writeString(acks, Files.readString(acks) + "d1/b/00000000000");   // torn by a kill
        sql(gatewayDb, "DELETE FROM rejected");
        assertTrue(Oracle.of(gatewayDb, cloudDb).ackLog(acks).judge().ok());
        sql(gatewayDb, "DELETE FROM wal WHERE message_key = 'd2/b/0000000000000007'");
        assertEquals(1, Oracle.of(gatewayDb, cloudDb).ackLog(acks).judge().faults(Fault.LOST));
    }

    @Test
    void aRefusedGoodMessageIsAFault() throws Exception {
        Files.writeString(ledgerFile, Files.readString(ledgerFile) + "{\"t\":\"ack\",\"key\":\"d2/b/0000000000000007\",\"code\":153}\n");
        assertEquals(1, oracle().judge().faults(Fault.REFUSED));
    }

    /** Three commands: carried out, expired, indeterminate (the device has it and never answered); and one for the gateway itself. */
    private void commands() throws Exception {
        sql(gatewayDb, schema("gateway-4.sql").split("(?m)^-- The consumer of", 2)[0].split(";\\s*\\n"));
        sql(cloudDb, schema("cloud-2.sql").split("(?m)^-- A consumer of", 2)[0].split(";\\s*\\n"));
        try (Ledger ledger = new Ledger(ledgerFile)) {
            for (String id : new String[] {"c-1", "c-3"}) {
                ledger.command("got", "d1", id, "led");
                ledger.command("ran", "d1", id, "led");
            }
            ledger.answer("d1", "c-1", "succeeded");
        }
        command("c-1", "d1", "SUCCEEDED", null, "QUEUED", "DELIVERED", "SUCCEEDED");
        command("c-2", "d1", "EXPIRED", "expired", "QUEUED", "EXPIRED");
        command("c-3", "d1", "INDETERMINATE", "no_result", "QUEUED", "DELIVERED", "INDETERMINATE");
        command("c-4", "gateway", "SUCCEEDED", null, "QUEUED", "SENT", "DELIVERED", "SUCCEEDED");
    }

    private void command(String id, String device, String status, String reason, String... events) throws Exception {
        String why = reason == null ? "NULL" : "'" + reason + "'";
        sql(gatewayDb, "INSERT INTO command (command_id, device_id, name, arguments, content_hash, origin, issued_by, status, reason, revision, accepted_at_ms, expires_at_ms, os_boot_id,"
                + " deadline_mono_ms, final_at_ms) VALUES ('" + id + "', '" + device + "', 'led', '{}', x'00', 'cloud', 'anna', '" + status + "', " + why + ", " + events.length + ", 1, 2, 'b', 2, 3)");
        for (int i = 0; i < events.length; i++) {
            sql(gatewayDb, "INSERT INTO command_event (command_seq, revision, status, at_ms) SELECT seq, " + (i + 1) + ", '" + events[i] + "', 1 FROM command WHERE command_id = '" + id + "'");
        }
        sql(cloudDb, "INSERT INTO command (gateway_id, command_id, device_id, name, arguments, origin, issued_by, status, reason, created_at_ms, expires_at_ms, gateway_revision, updated_at_ms, final_at_ms)"
                + " VALUES ('g1', '" + id + "', '" + device + "', 'led', '{}', 'cloud', 'anna', '" + status + "', " + why + ", 1, 2, " + events.length + ", 3, 3)");
    }

    @Test
    void findsNothingInCommandsThatAreInOrder() throws Exception {
        commands();
        Verdict verdict = oracle().judge();
        assertTrue(verdict.ok(), verdict::toString);
        assertEquals(4, verdict.count("commands"));
        assertEquals(2, verdict.count("commands carried out"));
    }

    @ParameterizedTest(name = "{0} {1}: {2}")
    @CsvSource(delimiter = '|', quoteCharacter = '^', value = {
        "COMMAND  | gateway | UPDATE command SET status = 'EXPIRED', reason = 'expired' WHERE command_id = 'c-1'",
        "COMMAND  | gateway | UPDATE command SET status = 'REJECTED', reason = 'budget_exceeded' WHERE command_id = 'c-3'",
        "COMMAND  | gateway | UPDATE command SET status = 'SUCCEEDED', reason = NULL WHERE command_id = 'c-3'",
        "COMMAND  | gateway | UPDATE command SET status = 'FAILED', reason = 'device_failed' WHERE command_id = 'c-1'",
        "COMMAND  | gateway | UPDATE command_event SET status = 'DELIVERED' WHERE command_seq = 2 AND revision = 1",
        "COMMAND  | cloud   | UPDATE command SET status = 'SUCCEEDED', reason = NULL WHERE command_id = 'c-2'",
        "COMMAND  | cloud   | UPDATE command SET reason = 'no_evidence' WHERE command_id = 'c-3'",
        "INVENTED | gateway | UPDATE command SET command_id = 'c-9' WHERE command_id = 'c-1'",
        "BACKLOG  | gateway | UPDATE command SET status = 'SENT', final_at_ms = NULL WHERE command_id = 'c-3'",
        "BACKLOG  | cloud   | UPDATE command SET gateway_revision = 1 WHERE command_id = 'c-1'",
        "BACKLOG  | cloud   | DELETE FROM command WHERE command_id = 'c-4'",
        "BACKLOG  | cloud   | UPDATE command SET command_id = 'c-9', final_at_ms = NULL WHERE command_id = 'c-2'",
        "DOUBLED  | ledger  | {`t`:`command`,`what`:`ran`,`device`:`d1`,`id`:`c-1`,`name`:`led`,`at_ms`:1}",
        "INVENTED | ledger  | {`t`:`command`,`what`:`got`,`device`:`d1`,`id`:`c-8`,`name`:`led`,`at_ms`:1}",
    })
    void findsWhatIsWrongWithCommands(Fault fault, String where, String damage) throws Exception {
        commands();
        if (where.equals("ledger")) {
            Files.writeString(ledgerFile, Files.readString(ledgerFile) + damage.replace('`', '"') + "\n");
        } else {
            sql(where.equals("gateway") ? gatewayDb : cloudDb, damage);
        }
        Verdict verdict = oracle().judge();
        assertTrue(verdict.faults(fault) > 0, () -> "expected " + fault + " after " + damage + ", found\n" + verdict);
    }

    @Test
    void saysItInOneLineOfJson() throws Exception {
        sql(gatewayDb, "DELETE FROM wal WHERE message_key = 'd2/b/0000000000000007'");
        String json = oracle().judge().json();
        assertTrue(json.startsWith("{\"ok\":false"), json);
        assertTrue(json.contains("\"lost\":1"), json);
    }

    private Oracle oracle() {
        return Oracle.of(gatewayDb, cloudDb).ledger(ledgerFile).passthrough(Set.of("event"));
    }

    private void send(Ledger ledger, String device, int n, String kind, String content, boolean promised) throws Exception {
        String key = Keys.numbered(device, "b", n);
        long observed = T0 + n * 1000L;
        byte[] body = ("{\"schema_version\":1,\"boot_id\":\"b\",\"device_seq\":" + n + ",\"observed_at\":" + observed + "," + content + "}").getBytes(StandardCharsets.UTF_8);
        ledger.sent(key, kind, body);
        CRC32C crc = new CRC32C();
        crc.update(body);
        try (Connection c = DriverManager.getConnection("jdbc:sqlite:" + gatewayDb); PreparedStatement s = c.prepareStatement(
                "INSERT INTO wal (message_key, correlation_id, device_id, kind, lane, boot_id, device_seq, observed_at_ms, received_at_ms, mono_ms,"
                + " schema_version, content_type, body, crc) VALUES (?, 'c', ?, ?, 'live', 'b', ?, ?, 1, 1, 1, 'application/json', ?, ?)")) {
            s.setString(1, key);
            s.setString(2, device);
            s.setString(3, kind);
            s.setInt(4, n);
            s.setLong(5, observed);
            s.setBytes(6, body);
            s.setLong(7, crc.getValue());
            s.executeUpdate();
        }
        if (promised) {
            ledger.ack(key, 0);
        }
    }

    private static void create(Path db, String schema) throws Exception {
        try (Connection c = DriverManager.getConnection("jdbc:sqlite:" + db); Statement s = c.createStatement()) {
            s.executeUpdate("PRAGMA synchronous=OFF");
            s.executeUpdate(schema(schema));
        }
    }

    private static String schema(String name) throws IOException {
        return Files.readString(SCHEMAS.resolve(name));
    }

    private static void sql(Path db, String... statements) throws Exception {
        try (Connection c = DriverManager.getConnection("jdbc:sqlite:" + db); Statement s = c.createStatement()) {
            for (String statement : statements) {
                s.execute(statement);
            }
        }
    }
}
