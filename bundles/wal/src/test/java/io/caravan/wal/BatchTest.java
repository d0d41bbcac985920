// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.List;
import org.apache.camel.util.json.JsonObject;
import org.apache.camel.util.json.Jsoner;
import org.junit.jupiter.api.Test;

class BatchTest {
    @Test
    void aLineHasEveryFieldAndTheBodyAsItIs() throws Exception {
        String body = "{\"metrics\":{\"t\":1e3,\"u\":\"\u00e4\ud83d\ude00\"}}";
        String line = new String(row(7, "dev-1/b1/0000000000000042", body).json(), StandardCharsets.UTF_8);
        assertTrue(line.endsWith(",\"body\":" + body + "}"), line);
        JsonObject json = (JsonObject) Jsoner.deserialize(line);
        assertEquals("7", json.getString("seq"));
        assertEquals("gw-1", json.getString("gateway_id"));
        assertEquals("dev-1/b1/0000000000000042", json.getString("message_key"));
        assertEquals("42", json.getString("device_seq"));
        assertEquals("b1", json.getString("boot_id"));
        assertEquals("live", json.getString("lane"));
    }

    @Test
    void anIdThatWouldBreakOutOfItsStringCannot() throws Exception {
        String evil = "k\",\"seq\":9,\"x\":\"\\ \n \u0000 \u00e4 \ud83d \u2028";
        JsonObject json = (JsonObject) Jsoner.deserialize(new String(row(7, evil, "{}").json(), StandardCharsets.UTF_8));
        assertEquals(evil, json.getString("message_key"));
        assertEquals("7", json.getString("seq"));
    }

    @Test
    void linesAreNdjson() {
        Batch batch = new Batch("s", 1, 3, List.of(row(1, "a", "{}"), row(3, "b", "{\"x\":1}")));
        String text = new String(batch.ndjson(), StandardCharsets.UTF_8);
        assertEquals(2, text.lines().count());
        assertEquals(new String(batch.get(0).json(), StandardCharsets.UTF_8) + "\n" + new String(batch.get(1).json(), StandardCharsets.UTF_8)
                + "\n", text);
    }

    @Test
    void theKeyNamesTheRowsAndWhatIsInThem() {
        Batch batch = new Batch("s", 1, 2, List.of(row(1, "a", "{}"), row(2, "b", "{}")));
        assertEquals(batch.key(), new Batch("other", 1, 2, List.of(row(1, "a", "{}"), row(2, "b", "{}"))).key());
        assertTrue(batch.key().matches("0{15}1-0{15}2-[0-9a-f]{16}"), batch.key());
        assertNotEquals(batch.key(), new Batch("s", 1, 2, List.of(row(1, "a", "{}"), row(2, "c", "{}"))).key(),
                "another store that counts from 1 again writes other objects");
        assertEquals("2026-11-20", batch.date());
    }

    private static Row row(long seq, String key, String body) {
        return new Row(seq, "gw-1", key, "c", "dev-1", "telemetry", "live", "b1", 42, 1_763_600_000_000L, 1_795_132_800_000L, 1,
                "application/json", null, body.getBytes(StandardCharsets.UTF_8));
    }
}
