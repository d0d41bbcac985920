// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class LimitsTest {

    private long now = Long.MAX_VALUE - 5_000_000_000L;

    private Limits limits(int perS, int addressPerS, int failures, int addressFailures) {
        return new Limits(new Limits.Options(perS, addressPerS, failures, addressFailures, 60_000), () -> now);
    }

    @Test
    void oneAddressDoesNotUseUpWhatIsForAll() {
        Limits limits = limits(10, 1, 0, 0);
        for (int i = 0; i < 4; i++) {
            assertTrue(limits.mayTry("10.0.0.1"));
        }
        for (int i = 0; i < 1_000; i++) {
            assertFalse(limits.mayTry("10.0.0.1"));
        }
        for (int i = 0; i < 36; i++) {
            assertTrue(limits.mayTry("10.0.1." + i), "" + i);
        }
        assertFalse(limits.mayTry("10.0.2.1"), "the total");
        now += 1_000_000_000;
        assertTrue(limits.mayTry("10.0.0.1"));
        assertFalse(limits.mayTry("10.0.0.1"));
        Limits none = limits(0, 0, 0, 0);
        for (int i = 0; i < 100_000; i++) {
            assertTrue(none.mayTry("10.0.0.1"));
        }
    }

    /** A fleet behind one address comes back at once, while somebody there tries; one gateway alone cannot use up what is for all. */
    @Test
    void gatewaysBehindOneAddressDoNotWaitForStrangersOrForEachOther() {
        Limits limits = limits(100, 1, 0, 0);
        for (int i = 0; i < 1_000; i++) {
            limits.mayTry("10.0.0.1");
            limits.mayTry("10.0.1." + i);
        }
        for (int i = 0; i < 1_000; i++) {
            limits.mayReturn("mad");
        }
        for (int i = 0; i < 396; i++) {
            assertTrue(limits.mayReturn("gw-" + i), "" + i);
        }
        assertFalse(limits.mayReturn("gw-396"), "the total");
        now += 1_000_000_000;
        assertTrue(limits.mayReturn("gw-396"));
    }

    @Test
    void failuresLockThePairThenTheAddress() {
        Limits limits = limits(0, 0, 3, 5);
        assertNull(limits.failed("10.0.0.1", "gw-1"));
        assertNull(limits.failed("10.0.0.1", "gw-1"));
        assertEquals("gateway", limits.failed("10.0.0.1", "gw-1"));
        assertEquals(60_000, limits.lockedMs("10.0.0.1", "gw-1"));
        assertEquals(0, limits.lockedMs("10.0.0.1", "gw-2"));
        assertEquals(0, limits.lockedMs("10.0.0.2", "gw-1"));
        assertNull(limits.failed("10.0.0.1", "gw-2"));
        assertEquals(0, limits.lockedMs("10.0.0.1"));
        assertEquals("address", limits.failed("10.0.0.1", "gw-3"));
        assertEquals(60_000, limits.lockedMs("10.0.0.1"));
        assertEquals(0, limits.lockedMs("10.0.0.1", "gw-9"));
        now += 60_000_000_000L;
        assertEquals(0, limits.lockedMs("10.0.0.1", "gw-1"));
        assertNull(limits.failed("10.0.0.1", "gw-1"), "counted anew");
    }

    @Test
    void successForgetsFailuresOfThatGateway() {
        Limits limits = limits(0, 0, 2, 0);
        limits.failed("10.0.0.1", "gw-1");
        limits.succeeded("10.0.0.1", "gw-1");
        assertNull(limits.failed("10.0.0.1", "gw-1"));
        assertEquals("gateway", limits.failed("10.0.0.1", "gw-1"));
    }

    @Test
    void anIpv6AddressIsItsNetwork() {
        assertEquals(Limits.net("2001:db8:0:1::1"), Limits.net("2001:db8::1:ffff:1:2:3"));
        assertFalse(Limits.net("2001:db8:0:1::1").equals(Limits.net("2001:db8:0:2::1")));
        assertEquals("10.0.0.1", Limits.net("10.0.0.1"));
    }

    @Test
    void memoryIsBounded() {
        Limits limits = limits(1_000_000_000, 1, 1, 1);
        for (int i = 0; i < 100_000; i++) {
            limits.mayTry("a" + i);
            limits.failed("a" + i, "gw");
        }
        // Forgotten, and so may try again.
        assertEquals(0, limits.lockedMs("a0", "gw"));
        assertEquals(60_000, limits.lockedMs("a99999", "gw"));
    }
}
