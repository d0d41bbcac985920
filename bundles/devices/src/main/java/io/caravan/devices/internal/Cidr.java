// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;

/** A range of addresses, {@code 10.1.0.0/16} or {@code fd00:1::/64}; without a prefix one address. Immutable. */
record Cidr(Address base, int prefix, boolean v4) {
  static final int MAX_LIST = 64;

  /** @throws IllegalArgumentException with what it should be */
  static Cidr parse(String text) {
    int slash = text.indexOf('/');
    String number = slash < 0 ? "" : text.substring(slash + 1);
    Address address = text.indexOf('%') >= 0 ? null : Address.parse(slash < 0 ? text : text.substring(0, slash));
    if (address == null || slash >= 0 && !number.matches("\\d{1,3}")) {
      throw new IllegalArgumentException("address [" + shown(text) + "] must be an IPv4 or IPv6 address or range, like 10.1.0.0/16 or fd00:1::/64");
    }
    boolean v4 = address.v4();
    boolean mapped = v4 && text.indexOf(':') >= 0;
    int prefix = slash < 0 ? 128 : Integer.parseInt(number) + (v4 && !mapped ? 96 : 0);
    if (prefix > 128 || v4 && prefix < 96) {
      throw new IllegalArgumentException("address [" + shown(text) + "] must have a prefix of 0 to " + (v4 ? 32 : 128)
          + (mapped ? ", written as the IPv4 range it is" : ""));
    }
    Cidr cidr = new Cidr(new Address(address.high() & mask(prefix, 0), address.low() & mask(prefix, 64)), prefix, v4);
    if (!cidr.base.equals(address)) {
      throw new IllegalArgumentException("address [" + shown(text) + "] has bits behind its prefix: write " + cidr);
    }
    return cidr;
  }

  /** @return in the given order, without doubles */
  static List<Cidr> parse(List<String> texts) {
    if (texts == null) {
      return List.of();
    }
    Set<Cidr> list = new LinkedHashSet<>();
    for (String text : texts) {
      list.add(parse(text));
    }
    if (list.size() > MAX_LIST) {
      throw new IllegalArgumentException("an allow-list of [" + list.size() + "] addresses must have at most " + MAX_LIST + ": write ranges");
    }
    return List.copyOf(list);
  }

  boolean contains(Address address) {
    // ::/0 means every IPv6 address, and no IPv4 one although those are written as mapped here.
    return v4 == address.v4() && (address.high() & mask(prefix, 0)) == base.high() && (address.low() & mask(prefix, 64)) == base.low();
  }

  boolean covers(Cidr other) {
    return v4 == other.v4 && prefix <= other.prefix && contains(other.base);
  }

  /** @return whether an address of this list, or any if it is empty, may be used */
  static boolean allows(List<Cidr> list, Address address) {
    if (list.isEmpty()) {
      return true;
    }
    if (address == null) {
      return false;
    }
    for (int i = 0; i < list.size(); i++) {
      if (list.get(i).contains(address)) {
        return true;
      }
    }
    return false;
  }

  static List<String> texts(List<Cidr> list) {
    List<String> texts = new ArrayList<>(list.size());
    list.forEach(c -> texts.add(c.toString()));
    return texts;
  }

  private static long mask(int prefix, int from) {
    int bits = Math.min(64, Math.max(0, prefix - from));
    return bits == 0 ? 0 : -1L << 64 - bits;
  }

  private static String shown(String text) {
    return Rules.shown(text);
  }

  @Override
  public String toString() {
    try {
      ByteBuffer bytes = ByteBuffer.allocate(16).putLong(base.high()).putLong(base.low());
      // Java makes an Inet4Address of a mapped one by itself.
      return InetAddress.getByAddress(bytes.array()).getHostAddress() + "/" + (v4 ? prefix - 96 : prefix);
    } catch (UnknownHostException e) {
      throw new IllegalStateException("16 bytes are an address", e);
    }
  }
}
