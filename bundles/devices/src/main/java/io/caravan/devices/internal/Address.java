// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import java.net.Inet4Address;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.ByteBuffer;

/**
 * A numeric address as two numbers, IPv4 as the mapped IPv6 one ({@code ::ffff:0:0/96}), so that a dual-stack socket's
 * peers are who they are. Never asks DNS. Immutable.
 */
record Address(long high, long low) {
  private static final long MAPPED = 0xFFFF_0000_0000L;
  private static final int MAX_TEXT = 64;

  /** @return null: no numeric address */
  static Address parse(String text) {
    if (text == null || text.isEmpty() || text.length() > MAX_TEXT) {
      return null;
    }
    return text.indexOf(':') < 0 ? v4(text) : v6(text);
  }

  private static Address v4(String text) {
    long value = 0;
    int part = 0;
    int digits = 0;
    int parts = 1;
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (c == '.' && digits > 0 && parts < 4) {
        value = value << 8 | part;
        part = 0;
        digits = 0;
        parts++;
        // A leading zero would be octal to some readers and decimal to others.
      } else if (c >= '0' && c <= '9' && !(digits > 0 && part == 0)) {
        part = part * 10 + c - '0';
        digits++;
        if (part > 255) {
          return null;
        }
      } else {
        return null;
      }
    }
    return parts == 4 && digits > 0 ? new Address(0, MAPPED | value << 8 | part) : null;
  }

  private static Address v6(String text) {
    String numeric = text;
    int zone = text.indexOf('%');
    if (zone >= 0) {
      numeric = text.substring(0, zone);
    }
    for (int i = 0; i < numeric.length(); i++) {
      char c = numeric.charAt(i);
      if (c != ':' && c != '.' && Character.digit(c, 16) < 0 || c > 'f') {
        return null;
      }
    }
    try {
      // In brackets Java takes it for a literal or throws; it asks nobody.
      InetAddress address = InetAddress.getByName("[" + numeric + "]");
      byte[] bytes = address.getAddress();
      if (address instanceof Inet4Address) {
        return new Address(0, MAPPED | ByteBuffer.wrap(bytes).getInt() & 0xFFFF_FFFFL);
      }
      ByteBuffer buffer = ByteBuffer.wrap(bytes);
      return new Address(buffer.getLong(), buffer.getLong());
    } catch (UnknownHostException e) {
      return null;
    }
  }

  boolean v4() {
    return high == 0 && low >>> 32 == 0xFFFF;
  }

  boolean loopback() {
    return v4() ? (low >>> 24 & 0xFF) == 127 : high == 0 && low == 1;
  }

  /** What counts as one peer: an IPv4 address, but of IPv6 the /64, of which every household has 2^64 addresses. */
  Address peer() {
    return v4() ? this : new Address(high, 0);
  }
}
