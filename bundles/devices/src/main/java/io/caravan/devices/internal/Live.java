// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import io.caravan.devices.Devices;
import io.caravan.devices.Gate.Transport;

/**
 * A device while the gateway runs: what the registry says of it now, how fast it is, when it was seen. One per device from
 * its enrolment to its removal, so that whoever holds it sees each change at once. Thread-safe.
 */
final class Live {
  final Pace messages;
  final Pace bytes;
  /** null: removed; never set again then. */
  volatile Entry entry;
  private volatile Seen seen;
  private volatile long seenMs;
  private long flushedMs;

  /** Of the last accepted connection or request. */
  record Seen(String address, Transport transport) {}

  Live(Entry entry, Seen seen, long seenMs, long nowNanos) {
    this.entry = entry;
    this.seen = seen;
    this.seenMs = seenMs;
    this.flushedMs = seenMs;
    messages = new Pace(nowNanos);
    bytes = new Pace(nowNanos);
  }

  void accepted(String address, Transport transport, long nowMs) {
    Seen before = seen;
    if (before == null || before.transport() != transport || !before.address().equals(address)) {
      seen = new Seen(address, transport);
    }
    seenMs = nowMs;
  }

  void heard(long nowMs) {
    seenMs = nowMs;
  }

  Seen seen() {
    return seen;
  }

  /** 0: never. */
  long seenMs() {
    return seenMs;
  }

  /** @return whether it was seen since it was last written; for one thread */
  boolean toFlush() {
    return seen != null && flushedMs != seenMs;
  }

  void flushed(long ms) {
    flushedMs = ms;
  }

  static Devices.Device shown(Entry e, Live live) {
    Seen seen = live == null ? null : live.seen;
    return new Devices.Device(e.id(), e.status(), e.tokens().stream().map(Credential::shown).toList(), Cidr.texts(e.allow()), e.capabilities(),
        e.signing(), e.messagesPerS(), e.bytesPerS(), e.note(), e.createdAtMs(), e.revokedAtMs(), seen == null ? null : (Long) live.seenMs,
        seen == null ? null : seen.address(), seen == null ? null : seen.transport(), e.controller());
  }
}
