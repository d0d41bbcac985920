// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import io.caravan.devices.Devices.Signing;
import io.caravan.devices.Devices.Status;
import java.util.ArrayList;
import java.util.List;
import java.util.function.UnaryOperator;

/**
 * One device as it is now. Immutable.
 *
 * @param tokens newest first, at most {@link #MAX_TOKENS}
 * @param allow  empty: any address
 */
record Entry(String id, Status status, List<Credential> tokens, List<Cidr> allow, String capabilities, Signing signing, Integer messagesPerS,
    Long bytesPerS, String note, long createdAtMs, Long revokedAtMs, boolean controller) {

  /** As many comparisons are made for every attempt, whatever the device has. */
  static final int MAX_TOKENS = 8;

  Entry {
    tokens = List.copyOf(tokens);
    allow = List.copyOf(allow);
  }

  Entry status(Status next, Long nextRevokedAtMs) {
    return new Entry(id, next, tokens, allow, capabilities, signing, messagesPerS, bytesPerS, note, createdAtMs, nextRevokedAtMs, controller);
  }

  Entry tokens(UnaryOperator<Credential> each) {
    return tokens(tokens.stream().map(each).toList());
  }

  Entry with(Credential newest) {
    List<Credential> next = new ArrayList<>();
    next.add(newest);
    next.addAll(tokens);
    return tokens(next.subList(0, Math.min(next.size(), MAX_TOKENS)));
  }

  private Entry tokens(List<Credential> next) {
    return new Entry(id, status, next, allow, capabilities, signing, messagesPerS, bytesPerS, note, createdAtMs, revokedAtMs, controller);
  }

  Entry allow(List<Cidr> next) {
    return new Entry(id, status, tokens, next, capabilities, signing, messagesPerS, bytesPerS, note, createdAtMs, revokedAtMs, controller);
  }

  Entry capabilities(String next) {
    return new Entry(id, status, tokens, allow, next, signing, messagesPerS, bytesPerS, note, createdAtMs, revokedAtMs, controller);
  }

  Entry signing(Signing next) {
    return new Entry(id, status, tokens, allow, capabilities, next, messagesPerS, bytesPerS, note, createdAtMs, revokedAtMs, controller);
  }

  Entry controller(boolean next) {
    return new Entry(id, status, tokens, allow, capabilities, signing, messagesPerS, bytesPerS, note, createdAtMs, revokedAtMs, next);
  }

  Entry limits(Integer nextMessagesPerS, Long nextBytesPerS) {
    return new Entry(id, status, tokens, allow, capabilities, signing, nextMessagesPerS, nextBytesPerS, note, createdAtMs, revokedAtMs, controller);
  }

  int nextNumber() {
    return tokens.isEmpty() ? 1 : tokens.get(0).number() + 1;
  }

  boolean active() {
    return status == Status.ACTIVE;
  }

  /** @return whether {@code next} takes something away that this one has: that is in force before it is written */
  boolean tightenedBy(Entry next) {
    return active() && !next.active()
        || next.signing.compareTo(signing) > 0
        || controller && !next.controller
        || !next.allow.isEmpty() && (allow.isEmpty() || !allow.stream().allMatch(old -> next.allow.stream().anyMatch(a -> a.covers(old))))
        || tokens.stream().anyMatch(old -> old.revokedAtMs() == null
            && next.tokens.stream().noneMatch(t -> t.number() == old.number() && t.revokedAtMs() == null))
        || less(next.messagesPerS, messagesPerS) || less(next.bytesPerS, bytesPerS);
  }

  /** 0 is no limit; of null, the default, nothing is known here: any other value may be less. */
  private static boolean less(Number next, Number old) {
    long a = next == null ? -1 : next.longValue();
    long b = old == null ? -1 : old.longValue();
    return a != b && a != 0 && (a < 0 || b <= 0 || a < b);
  }
}
