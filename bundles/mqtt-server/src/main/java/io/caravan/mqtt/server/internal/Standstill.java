// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;

/** For how long something has waited while nothing was done, from one look to another. Thread-safe. */
final class Standstill {
  private final LongSupplier nanos;
  private double done = -1;
  private boolean waiting;
  private long since;

  /** @param nanos a clock that only goes forward */
  Standstill(LongSupplier nanos) {
    this.nanos = nanos;
  }

  /**
   * A look. The first that finds something waiting tells nothing yet: it may have come just now.
   *
   * @param waits how many wait
   * @param nowDone how many were done since ever; NaN: not counted
   * @return seconds since the first look at this standstill; 0: there is none
   */
  synchronized long seconds(long waits, double nowDone) {
    if (waits == 0 || nowDone != done) {
      done = nowDone;
      waiting = false;
      return 0;
    }
    if (!waiting) {
      waiting = true;
      since = nanos.getAsLong();
    }
    return TimeUnit.NANOSECONDS.toSeconds(nanos.getAsLong() - since);
  }
}
