// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client.internal;

import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;

/** Logs at most one warning in ten seconds and says how many it left out. Thread-safe. */
public final class Seldom {
  private static final long PERIOD = TimeUnit.SECONDS.toNanos(10);

  private final Logger log;
  private long next = System.nanoTime();
  private long left;

  public Seldom(Logger log) {
    this.log = log;
  }

  public synchronized void warn(String message, Object... arguments) {
    long now = System.nanoTime();
    if (now - next < 0) {
      left++;
      return;
    }
    log.warn(left == 0 ? message : message + " (" + left + " more since the last such line)", arguments);
    next = now + PERIOD;
    left = 0;
  }
}
