// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import java.util.concurrent.atomic.AtomicLong;

/**
 * A token bucket that holds one second's worth, as the one number it needs: the time at which all that was taken will have
 * been paid for. May be overdrawn. Thread-safe, without locks.
 */
final class Pace {
  private static final long SECOND = 1_000_000_000L;

  private final AtomicLong paidAt;

  Pace(long nowNanos) {
    paidAt = new AtomicLong(nowNanos - SECOND);
  }

  /**
   * @param amount what is taken, in any case; 0: only look
   * @param perS   0: no limit
   * @return nanoseconds until nothing is owed any more; 0: nothing is
   */
  long take(long amount, long perS, long nowNanos) {
    if (perS <= 0) {
      return 0;
    }
    if (amount == 0) {
      return Math.max(0, paidAt.get() - nowNanos);
    }
    long cost = amount * SECOND / perS;
    long before;
    long after;
    do {
      before = paidAt.get();
      // Compared as a difference: nanoTime may be negative and wrap.
      after = (before - (nowNanos - SECOND) < 0 ? nowNanos - SECOND : before) + cost;
    } while (!paidAt.compareAndSet(before, after));
    return Math.max(0, after - nowNanos);
  }
}
