// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

class StandstillTest {
  private final AtomicLong nanos = new AtomicLong();
  private final Standstill standstill = new Standstill(nanos::get);

  private long after(long seconds, long waits, double done) {
    nanos.addAndGet(TimeUnit.SECONDS.toNanos(seconds));
    return standstill.seconds(waits, done);
  }

  @Test
  void aQuietNightIsNoStandstillOfWhatComesAfterIt() {
    assertEquals(0, after(0, 0, 7));
    assertEquals(0, after(36_000, 3, 7), "they may have come a moment ago");
    assertEquals(5, after(5, 3, 7));
    assertEquals(0, after(60, 3, 8), "one was answered");
  }

  @Test
  void nothingDoneWhileSomethingWaitsIsOne() {
    after(0, 2, 7);
    after(1, 2, 7);
    assertEquals(30, after(30, 40, 7));
    assertEquals(0, after(1, 0, 7), "who waited has gone");
    assertEquals(0, after(60, 1, Double.NaN), "nothing is counted");
    assertEquals(0, after(60, 1, Double.NaN));
  }
}
