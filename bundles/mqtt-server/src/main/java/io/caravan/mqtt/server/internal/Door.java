// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import java.net.InetAddress;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;

/**
 * Bounds what strangers can hold: connections that are not accepted yet, in total and per address, and connects of an
 * address over time. An IPv6 address counts as its /64, which is what one host has. Thread-safe.
 */
final class Door {
  /** A burst of this many seconds' worth is let in: devices behind one address come back together after an outage. */
  private static final int BURST_S = 20;
  /** More addresses than that: the one not seen for longest is forgotten, with its count of connects. */
  static final int MAX_ADDRESSES = 10_000;
  private static final double SECOND = TimeUnit.SECONDS.toNanos(1);

  private final int maxPending;
  private final int maxPendingPerAddress;
  private final int connectsPerS;
  private final LongSupplier nanoTime;
  private final Map<ByteBuffer, Address> addresses = new LinkedHashMap<>(16, 0.75f, /* accessOrder= */ true);
  private int pending;

  private final class Address {
    int pending;
    double tokens = (double) connectsPerS * BURST_S;
    long filledNs = nanoTime.getAsLong();
  }

  /** @param connectsPerS 0: no limit */
  Door(int maxPending, int maxPendingPerAddress, int connectsPerS, LongSupplier nanoTime) {
    this.maxPending = maxPending;
    this.maxPendingPerAddress = maxPendingPerAddress;
    this.connectsPerS = connectsPerS;
    this.nanoTime = nanoTime;
  }

  /** @return null: come in, to be followed by one leave() once accepted or closed; else why not */
  synchronized Refusal enter(InetAddress from) {
    Address address = addresses.computeIfAbsent(key(from), none -> new Address());
    if (addresses.size() > MAX_ADDRESSES) {
      forgetOne();
    }
    if (connectsPerS > 0) {
      long now = nanoTime.getAsLong();
      address.tokens = Math.min((double) connectsPerS * BURST_S, address.tokens + (now - address.filledNs) / SECOND * connectsPerS);
      address.filledNs = now;
      if (address.tokens < 1) {
        return Refusal.ADDRESS_RATE;
      }
      address.tokens--;
    }
    if (address.pending >= maxPendingPerAddress) {
      return Refusal.ADDRESS_PENDING;
    }
    if (pending >= maxPending) {
      return Refusal.PENDING;
    }
    address.pending++;
    pending++;
    return null;
  }

  synchronized void leave(InetAddress from) {
    pending--;
    // Never forgotten while it has pending ones.
    addresses.get(key(from)).pending--;
  }

  synchronized int pending() {
    return pending;
  }

  synchronized int addresses() {
    return addresses.size();
  }

  private void forgetOne() {
    for (Iterator<Address> each = addresses.values().iterator(); each.hasNext();) {
      if (each.next().pending == 0) {
        each.remove();
        return;
      }
    }
  }

  private static ByteBuffer key(InetAddress address) {
    byte[] bytes = address.getAddress();
    return ByteBuffer.wrap(bytes.length == 16 ? Arrays.copyOf(bytes, 8) : bytes);
  }
}
