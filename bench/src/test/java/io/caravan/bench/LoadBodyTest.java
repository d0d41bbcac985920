// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class LoadBodyTest {
    private final ObjectMapper json = new ObjectMapper();

    @ParameterizedTest
    @ValueSource(longs = {1, 9, 10, 42, 999_999_999_999L})
    void isTelemetryAsTheContractHasIt(long seq) throws Exception {
        JsonNode body = json.readTree(new LoadBody("load-1", "b7", 8).compose(seq, 1_795_000_000_123L));
        assertEquals(seq, body.get("device_seq").asLong());
        assertEquals(1, body.get("schema_version").asInt());
        assertEquals("b7", body.get("boot_id").asText());
        assertEquals(1_795_000_000_123L, body.get("observed_at").asLong());
        assertEquals(8, body.get("metrics").size());
        double temperature = body.get("metrics").get("temperature_c").asDouble();
        assertTrue(temperature >= 15 && temperature < 35, "temperature " + temperature);
    }

    @Test
    void isAbout300Bytes() {
        int bytes = new LoadBody("load-1", "bmwqsg31xpk", 8).compose(1234, 1_795_000_000_123L).length;
        assertTrue(bytes > 280 && bytes < 330, "bytes " + bytes);
    }

    @Test
    void boardsMeasureTheSameWithTheSameSeed() throws Exception {
        Board a = new Board(7);
        Board b = new Board(7);
        for (int i = 0; i < 100; i++) {
            String metrics = a.metrics();
            assertEquals(metrics, b.metrics());
            assertEquals(14, json.readTree(metrics).size());
        }
    }
}
