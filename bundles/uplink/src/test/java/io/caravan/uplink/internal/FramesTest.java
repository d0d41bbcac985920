// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.caravan.runtime.Traces;
import io.caravan.uplink.FrameException;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.zip.GZIPOutputStream;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.Test;

class FramesTest {

    private final Frames frames = new Frames(1 << 20, 10, Traces.of(new DefaultCamelContext()));

    private static String batch(long observed, String body) {
        return "{\"type\":\"batch\",\"log_id\":\"l\",\"lane\":\"live\",\"first_seq\":1,\"after\":0,\"last\":1,\"rows\":[{\"seq\":1,\"kind\":\"event\","
            + "\"device_id\":\"d\",\"message_key\":\"k\",\"observed_at_ms\":" + observed + ",\"body\":" + body + "}]}";
    }

    private String read(String text) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (GZIPOutputStream gzip = new GZIPOutputStream(bytes)) {
            gzip.write(text.getBytes(StandardCharsets.UTF_8));
        }
        return frames.batch(bytes.toByteArray()).text();
    }

    @Test
    void a_number_beyond_every_double_does_not_become_as_long_as_its_exponent_says() throws Exception {
        String beyond = "{\"a\":[1e9999,{\"b\":-0.5e401}],\"c\":1E-9999,\"d\":-1e-401,\"e\":0e-9999,\"f\":0." + "0".repeat(400) + "1,\"g\":1e2147483647,"
            + "\"h\":0e2147483647,\"i\":1.0,\"j\":100,\"k\":2.50e-3,\"l\":\"1e9999\"}";
        assertEquals(batch(1, "{\"a\":[1E+400,{\"b\":-1E+400}],\"c\":0,\"d\":0,\"e\":0,\"f\":0,\"g\":1E+400,\"h\":0,\"i\":1.0,\"j\":100,\"k\":0.00250,\"l\":\"1e9999\"}"),
            read(batch(1, beyond)));
        assertEquals(batch(1, "-1E+400"), read(batch(1, "-1e400000")));
    }

    @Test
    void what_a_double_has_goes_on_as_it_came() throws Exception {
        for (String body : List.of("{\"a\":[1e308,-1.7E-308,5e-324,1.0,1.50,0e0,-0.0,1e+2],\"b\":" + "9".repeat(300) + "}", "9.9e399", "1e-400", "0e-400", "\"x\"", "[]")) {
            assertEquals(batch(1, body), read(batch(1, body)));
        }
    }

    @Test
    void a_time_that_is_none_is_refused_with_the_rule() throws Exception {
        assertEquals(batch(999_999_999_999_999_999L, "{}"), read(batch(999_999_999_999_999_999L, "{}")));
        for (long observed : new long[] {1_000_000_000_000_000_000L, -1_000_000_000_000_000_000L, Long.MIN_VALUE}) {
            assertEquals("row.observed_at_ms [" + observed + "] must be within 10^18 of 0",
                assertThrows(FrameException.class, () -> read(batch(observed, "{}"))).getMessage());
        }
    }
}
