// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.slf4j.Logger;

/** Logs at most one warning in ten seconds and says how many it left out. Thread-safe. */
final class Seldom {
  private static final long PERIOD = TimeUnit.SECONDS.toNanos(10);

  private final Logger log;
  private final AtomicLong next = new AtomicLong(System.nanoTime());
  private final AtomicLong left = new AtomicLong();

  Seldom(Logger log) {
    this.log = log;
  }

  void warn(String message, Object... arguments) {
    long now = System.nanoTime();
    long due = next.get();
    if (now - due < 0 || !next.compareAndSet(due, now + PERIOD)) {
      left.incrementAndGet();
      return;
    }
    long count = left.getAndSet(0);
    log.warn(count == 0 ? message : message + " (" + count + " like it were not logged)", arguments);
  }
}
