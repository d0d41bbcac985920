// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import io.caravan.commands.Commands.Command;
import io.caravan.commands.Commands.Event;
import io.caravan.commands.Status;
import java.util.List;

/** A row of table command in memory; the engine's thread only. */
final class Entry {
  static final long NEVER = Long.MAX_VALUE;

  long seq;
  String id;
  String deviceId;
  String name;
  /** Null: not in memory, read when it is needed. */
  String arguments;
  String units;
  String precondition;
  byte[] hash;
  String origin;
  String issuedBy;
  String traceContext;
  Status status;
  String reason;
  String detail;
  String result;
  long revision;
  String capabilityVersion;
  boolean idempotent;
  long timeoutMs;
  long acceptedAtMs;
  long expiresAtMs;
  String bootId;
  long deadlineMono;
  Long answerUntilMono;
  int attempts;
  Long attemptedAtMs;
  Long attemptedMono;
  Long finalAtMs;

  /** When the engine must look at it again; its place in the engine's agenda. */
  long due = NEVER;
  /** Not in the store yet, or other than there; until the transaction's end. */
  boolean fresh;
  boolean changed;

  boolean waiting() {
    return status == Status.QUEUED && attempts == 0;
  }

  /** Nothing says that the device has it. */
  boolean unproven() {
    return status.ordinal() < Status.DELIVERED.ordinal();
  }

  Command describe(List<Event> events) {
    return new Command(id, deviceId, name, arguments, origin, issuedBy, status, reason, detail, result, revision, attempts, acceptedAtMs,
        expiresAtMs, finalAtMs, events);
  }
}
