// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.InetAddress;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

class DoorTest {
  private final AtomicLong clock = new AtomicLong();

  private static InetAddress address(String numeric) throws Exception {
    return InetAddress.getByName(numeric);
  }

  private Door door(int connectsPerS) {
    return new Door(10, 2, connectsPerS, clock::get);
  }

  @Test
  void theHostsOfOneIpv6NetworkAreOneAddress() throws Exception {
    Door door = door(0);
    assertNull(door.enter(address("2001:db8::1")));
    assertNull(door.enter(address("2001:db8::ffff:2")));
    assertEquals(Refusal.ADDRESS_PENDING, door.enter(address("2001:db8:0:0:5::3")));
    assertNull(door.enter(address("2001:db8:0:1::1")));
    assertNull(door.enter(address("32.1.13.184")), "not the IPv6 network with the same first bytes");
    door.leave(address("2001:db8::9"));
    assertNull(door.enter(address("2001:db8::1")));
  }

  @Test
  void ipv4InIpv6IsIpv4() throws Exception {
    Door door = door(0);
    assertNull(door.enter(address("192.0.2.1")));
    assertNull(door.enter(address("::ffff:192.0.2.1")));
    assertEquals(Refusal.ADDRESS_PENDING, door.enter(address("192.0.2.1")));
    assertNull(door.enter(address("192.0.2.2")));
  }

  @Test
  void aBurstAndThenTheRate() throws Exception {
    Door door = door(5);
    InetAddress from = address("192.0.2.1");
    int let = 0;
    for (int i = 0; i < 300; i++) {
      if (door.enter(from) == null) {
        let++;
        door.leave(from);
      }
    }
    assertEquals(100, let);
    assertNull(door.enter(address("192.0.2.2")), "others do not suffer");
    clock.addAndGet(TimeUnit.SECONDS.toNanos(1));
    for (int i = 0; i < 5; i++) {
      assertNull(door.enter(from));
      door.leave(from);
    }
    assertEquals(Refusal.ADDRESS_RATE, door.enter(from));
  }

  @Test
  void memoryIsBoundedAndNobodyIsForgottenWhoIsInside() throws Exception {
    Door door = door(5);
    InetAddress inside = address("192.0.2.1");
    assertNull(door.enter(inside));
    for (int i = 0; i < 3 * Door.MAX_ADDRESSES; i++) {
      InetAddress from = address("10." + (i >> 16) + "." + (i >> 8 & 255) + "." + (i & 255));
      assertNull(door.enter(from));
      door.leave(from);
    }
    assertTrue(door.addresses() <= Door.MAX_ADDRESSES, door.addresses() + " addresses");
    assertEquals(1, door.pending());
    door.leave(inside);
    assertEquals(0, door.pending());
  }
}
