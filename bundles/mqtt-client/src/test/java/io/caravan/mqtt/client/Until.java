// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;

/** Waits for a condition, with a limit. */
final class Until {
  private Until() {}

  static void true_(String what, long limitMs, BooleanSupplier condition) {
    true_(() -> what, limitMs, condition);
  }

  static void true_(Supplier<String> what, long limitMs, BooleanSupplier condition) {
    if (!holds(limitMs, condition)) {
      throw new AssertionError("not within " + limitMs + " ms: " + what.get());
    }
  }

  static boolean holds(long limitMs, BooleanSupplier condition) {
    long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(limitMs);
    while (!condition.getAsBoolean()) {
      if (System.nanoTime() - end > 0) {
        return false;
      }
      LockSupport.parkNanos(2_000_000);
    }
    return true;
  }
}
