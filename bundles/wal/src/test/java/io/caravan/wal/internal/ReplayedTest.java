// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static io.caravan.wal.internal.Fixture.numbered;
import static io.caravan.wal.internal.Fixture.row;
import static io.caravan.wal.internal.Fixture.signed;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.AppendResult;
import io.caravan.wal.Record;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A signed message gets into the log once, however often and however late it is sent. */
class ReplayedTest {
    private static final AppendResult REPLAYED = new AppendResult("rejected", "replayed");

    @TempDir Path directory;
    private Path file;

    @BeforeEach
    void name() {
        file = directory.resolve("gateway.db");
    }

    private static AppendResult submit(Fixture fixture, Record record) throws Exception {
        return Fixture.get(fixture.wal.submit(record, "mqtt-server", "devices/" + record.deviceId() + "/telemetry"));
    }

    @Test
    void behindTheWindowItIsRefusedAndInItADuplicate() throws Exception {
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            for (long number = 1; number <= 100; number++) {
                assertEquals("durable", fixture.append(signed("d1", "b1", number, "{\"n\":" + number + "}", 10)));
            }
            for (long number = 1; number <= 90; number++) {
                assertEquals(REPLAYED, submit(fixture, signed("d1", "b1", number, "{\"n\":" + number + "}", 10)));
            }
            for (long number = 91; number <= 100; number++) {
                assertEquals("duplicate", fixture.append(signed("d1", "b1", number, "{\"n\":" + number + "}", 10)));
            }
            assertEquals("100 100 90", row(file, "SELECT count(*), max(seq), (SELECT count(*) FROM rejected WHERE reason = 'replayed') FROM wal"));
            String error = row(file, "SELECT error FROM rejected LIMIT 1");
            assertTrue(error.contains("[1]") && error.contains("[b1]") && error.contains("[100]") && error.contains("device.signature.window"), error);
            // The newest number of one boot says nothing about another.
            assertEquals("durable", fixture.append(signed("d1", "b0", 1, "{}", 10)));
        }
    }

    @Test
    void aGapInTheWindowIsFilledAndOneBehindItIsNot() throws Exception {
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            assertEquals(List.of("durable", "durable"), fixture.appendAll(List.of(signed("d1", "b1", 1, "{}", 10), signed("d1", "b1", 20, "{}", 10))));
            assertEquals("durable", fixture.append(signed("d1", "b1", 11, "{}", 10)));
            assertEquals(REPLAYED, submit(fixture, signed("d1", "b1", 10, "{}", 10)));
            assertEquals("3", row(file, "SELECT count(*) FROM wal"));
        }
    }

    @Test
    void itIsKnownAfterARestart() throws Exception {
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            assertEquals("durable", fixture.append(signed("d1", "b1", 500, "{}", 10)));
        }
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            assertEquals(REPLAYED, submit(fixture, signed("d1", "b1", 490, "{}", 10)));
            assertEquals("durable", fixture.append(signed("d1", "b1", 491, "{}", 10)));
        }
    }

    @Test
    void messagesWithoutASignatureMoveNoWindowAndHaveNone() throws Exception {
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            assertEquals("durable", fixture.append(signed("d1", "b1", 1, "{}", 10)));
            // Whoever may send without a signature could else lock out those who sign.
            assertEquals("durable", fixture.append(numbered("d1", "b1", 1L << 52, "{}")));
            assertEquals("durable", fixture.append(signed("d1", "b1", 2, "{}", 10)));
            assertEquals("2 " + (1L << 52), row(file, "SELECT signed_seq, highest_seq FROM device_progress"));
            assertEquals("durable", fixture.append(numbered("d1", "b1", 50, "{}")), "control: far behind, without a signature");
        }
    }

    @Test
    void inOneGroupAsOneByOne() throws Exception {
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            assertEquals(List.of("durable", "durable", "rejected", "duplicate", "rejected"), fixture.appendAll(List.of(signed("d1", "b1", 1, "{}", 10),
                    signed("d1", "b1", 11, "{}", 10), signed("d1", "b1", 1, "{}", 10), signed("d1", "b1", 11, "{}", 10), signed("d1", "b1", 11, "{\"x\":1}", 10))));
            assertEquals("replayed 1\nkey_conflict 11", row(file, "SELECT reason, substr(correlation_id, 7) FROM rejected ORDER BY id"));
        }
    }

    @Test
    void aSignedRecordIsNumbered() {
        assertThrows(IllegalArgumentException.class, () -> new Record("d//k/1", "c", "d", "telemetry", "live", null, 0, 1, 1, 1, 1, "application/json", null,
                new byte[0], 10));
        assertThrows(IllegalArgumentException.class, () -> signed("d", "b", 1, "{}", -1));
    }
}
