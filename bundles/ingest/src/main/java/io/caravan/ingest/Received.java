// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest;

/**
 * What a message says of itself, after {@link Ingest#parse}: for a step between parse and enrich that has to know who sent
 * exactly what. Of one exchange, on the thread that has it.
 */
public interface Received {

  /** The one of the topic; valid by docs/contract.md section 1. */
  String deviceId();

  /** As received; over HTTP the one that the entry route made of the path. */
  String topic();

  /** Null: the message is not numbered. */
  String bootId();

  /** 0: the message is not numbered. */
  long deviceSeq();

  /** The payload as it was sent, before any conversion; not a copy, do not write into it. */
  byte[] payload();

  /**
   * Notes that the device's signature was verified, so that the log keeps the memory by which a replay is known.
   *
   * @param replayWindow how far, at least 1, its number may be behind the newest signed one of its boot
   * @throws IllegalArgumentException it is not numbered, or the window is below 1
   */
  void signed(long replayWindow);
}
