// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import java.util.TreeMap;

/** The open commands of one device; the engine's thread only. */
final class Line {
  final String deviceId;
  /** Those that are not published, in their order. */
  final TreeMap<Long, Entry> waiting = new TreeMap<>();
  /** All that are not final. */
  int open;
  /** Publications without an outcome. */
  int inFlight;
  /** Not before, because the last publication did not leave; monotonic milliseconds. */
  long blockedUntil = Long.MIN_VALUE;

  Line(String deviceId) {
    this.deviceId = deviceId;
  }

  /** How many of that name wait. */
  int waiting(String name) {
    int count = 0;
    for (Entry each : waiting.values()) {
      if (each.name.equals(name)) {
        count++;
      }
    }
    return count;
  }
}
