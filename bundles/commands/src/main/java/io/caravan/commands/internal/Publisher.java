// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

/** The way to devices and to the gateway's own control plane. */
public interface Publisher extends AutoCloseable {

  /** What is known of a publication, by how much a device may have of it. */
  enum Evidence {
    /** Nobody can have it. */
    NONE,
    /** It may have been written or not. */
    UNKNOWN,
    /** Written; nobody has acknowledged it. */
    SENT,
    /** The device's own acknowledgement. */
    DELIVERED,
    /** The device, or what stands for it, will never carry it out. */
    REFUSED,
    /** The gateway's own command: it has an answer. */
    ANSWERED
  }

  /** @param answer only with ANSWERED */
  record Outcome(Evidence evidence, String detail, Answer answer) {}

  /** @param deadlineMono when it may not be published any more */
  record Publication(String commandId, String deviceId, String name, String arguments, String origin, String issuedBy, int attempt,
      boolean idempotent, Reach.Way way, long issuedAtMs, long expiresAtMs, long deadlineMono, long timeoutMs, String traceContext) {}

  interface Listener {
    /** @param atMono when it left, monotonic milliseconds */
    void outcome(Publication publication, Outcome outcome, long atMono);
  }

  /** Does not block; publications of one device leave in the order of the calls. {@code listener} is called once, on any thread. */
  void publish(Publication publication, Listener listener);

  /** Returns when all that was given is handed over; for tests. */
  void settle();

  @Override
  void close();
}
