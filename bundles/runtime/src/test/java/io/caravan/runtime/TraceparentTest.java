// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class TraceparentTest {
    private static final String IDS = "-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";

    @ParameterizedTest
    @CsvSource({"00,01,01", "00,00,00", "00,03,01", "00,02,00", "00,ff,01", "01,01,01", "cc,01-and-more,01"})
    void whatIsKnownOfItIsKept(String version, String flags, String kept) {
        assertEquals("00" + IDS + kept, Traceparent.valid(version + IDS + flags));
        assertEquals(kept.equals("01"), Traceparent.sampled(Traceparent.valid(version + IDS + flags)));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "00", "ff" + IDS + "01", "00" + IDS + "0", "00" + IDS + "01-", "00" + IDS + "01x", "01" + IDS + "01x", "0x" + IDS + "01",
        "00" + IDS + "0G", "00" + IDS + "0A", "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        " 00" + IDS + "01", "[00" + IDS + "01, 00" + IDS + "01]", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033\u0661\u0661-01"})
    void whatIsNoneIsNone(String given) {
        assertNull(Traceparent.valid(given));
        assertFalse(Traceparent.sampled(null));
    }

    @Test
    void aGoodOneIsNotCopiedAndHasItsIds() {
        String given = "00" + IDS + "01";
        assertSame(given, Traceparent.valid(given));
        assertEquals("0af7651916cd43dd8448eb211c80319c", Traceparent.traceId(given));
        assertEquals("b7ad6b7169203331", Traceparent.spanId(given));
    }

    /** A row that an older version stored; logging goes on without ids. */
    @Test
    void whatIsNoneGivesLogLinesNothing() {
        TraceSpan.mdc("00-1").close();
        TraceSpan.mdc(null).close();
    }
}
