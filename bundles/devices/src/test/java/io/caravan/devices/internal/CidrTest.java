// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class CidrTest {

  private static boolean in(String range, String address) {
    return Cidr.parse(range).contains(Address.parse(address));
  }

  @Test
  void rangesOfBothFamilies() {
    assertTrue(in("10.1.0.0/16", "10.1.255.255"));
    assertFalse(in("10.1.0.0/16", "10.2.0.0"));
    assertTrue(in("10.1.2.3", "10.1.2.3"));
    assertFalse(in("10.1.2.3", "10.1.2.4"));
    assertTrue(in("0.0.0.0/0", "255.255.255.255"));
    assertTrue(in("10.0.0.2/31", "10.0.0.3"));
    assertTrue(in("fd00:1::/64", "fd00:1::abcd"));
    assertFalse(in("fd00:1::/64", "fd00:1:0:1::1"));
    assertTrue(in("fd00:1::/65", "fd00:1::7fff:0:0:1"));
    assertFalse(in("fd00:1::/65", "fd00:1::8000:0:0:1"));
    assertTrue(in("fe80::1", "fe80::1%eth0"));
  }

  @Test
  void aMappedAddressIsTheIpv4OneItMaps() {
    assertTrue(in("10.1.0.0/16", "::ffff:10.1.2.3"));
    assertTrue(in("10.1.0.0/16", "::FFFF:0a01:0203"));
    assertEquals("10.1.0.0/16", Cidr.parse("::ffff:10.1.0.0/112").toString());
    assertTrue(Address.parse("::ffff:127.0.0.1").loopback());
    assertFalse(in("::/0", "10.1.2.3"), "every IPv6 address is no IPv4 address");
    assertFalse(in("::/0", "::ffff:10.1.2.3"));
    assertFalse(in("0.0.0.0/0", "::1"));
  }

  @Test
  void textsAreCanonical() {
    for (String text : List.of("10.1.0.0/16", "0.0.0.0/0", "127.0.0.1/32", "fd00:1:0:0:0:0:0:0/64", "0:0:0:0:0:0:0:0/0")) {
      assertEquals(text, Cidr.parse(text).toString());
    }
    assertEquals(List.of("10.0.0.1/32"), Cidr.texts(Cidr.parse(List.of("10.0.0.1", "10.0.0.1/32", "::ffff:10.0.0.1"))));
  }

  @Test
  void whatIsNoRangeIsRefusedWithAdvice() {
    for (String bad : List.of("", "example.com", "abc.def", "10.1", "10.1.2.3.4", "10.1.2.256", "010.1.2.3", "10.1.2.3/33", "10.1.2.3/-1",
        "10.1.2.3/", "10.1.2.3/8/8", "fd00::/129", "fe80::1%eth0", "[::1]", "1::2::3", "10.1.2.3; DROP TABLE device", "\u0661.1.1.1", "::ffff:10.0.0.0/64",
        "*")) {
      String message = assertThrows(IllegalArgumentException.class, () -> Cidr.parse(bad), bad).getMessage();
      assertTrue(message.startsWith("address [" + Rules.shown(bad) + "]"), message);
    }
    assertTrue(assertThrows(IllegalArgumentException.class, () -> Cidr.parse("10.1.2.3/16")).getMessage().endsWith("write 10.1.0.0/16"));
    List<String> many = IntStream.range(0, 65).mapToObj(i -> "10.0.0." + i).toList();
    assertTrue(assertThrows(IllegalArgumentException.class, () -> Cidr.parse(many)).getMessage().contains("[65]"));
  }

  @Test
  void addressesAreNeverNames() {
    for (String bad : List.of("localhost", "cafe.de", "1", "::1]", "::g", "1.2.3.4.", ".1.2.3", "1..2.3", "x".repeat(100), "%")) {
      assertNull(Address.parse(bad), bad);
    }
    assertNull(Address.parse(null));
  }

  @Test
  void ipv6CountsPerNetwork() {
    assertEquals(Address.parse("2001:db8::1").peer(), Address.parse("2001:db8::ffff:1:2:3").peer());
    assertFalse(Address.parse("2001:db8::1").peer().equals(Address.parse("2001:db8:0:1::1").peer()));
    assertFalse(Address.parse("10.0.0.1").peer().equals(Address.parse("10.0.0.2").peer()));
  }

  @Test
  void anEmptyListAllowsAll() {
    assertTrue(Cidr.allows(List.of(), null));
    assertFalse(Cidr.allows(Cidr.parse(List.of("10.0.0.0/8")), null));
  }
}
