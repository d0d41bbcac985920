// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

/** How many requests of all devices together are taken. Refused ones do not count, or who keeps asking would never get in. Thread-safe. */
public final class RequestRate {
  private final Pace pace = new Pace(System.nanoTime());

  /**
   * @param perS 0: no limit
   * @return 0: taken; else milliseconds until one more is
   */
  public long take(long perS) {
    long now = System.nanoTime();
    long owed = pace.take(0, perS, now);
    if (owed > 0) {
      return owed / 1_000_000 + 1;
    }
    pace.take(1, perS, now);
    return 0;
  }
}
