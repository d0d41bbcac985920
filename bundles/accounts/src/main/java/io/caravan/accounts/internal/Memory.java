// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;
import java.util.function.Supplier;

/** What the store said lately: bounded in number and, so that what another replica changed is in force here soon, in time. Thread-safe. */
final class Memory<V> {
  private record Entry<V>(V value, long atNs) {}

  private final LongSupplier keepMs;
  private final Map<String, Entry<V>> entries;
  private long epoch;

  /** @param keepMs asked each time */
  Memory(int most, LongSupplier keepMs) {
    this.keepMs = keepMs;
    this.entries = new LinkedHashMap<>(16, 0.75f, true) {
      @Override
      protected boolean removeEldestEntry(Map.Entry<String, Entry<V>> eldest) {
        return size() > most;
      }
    };
  }

  /** @param load null from it is not kept */
  V get(String key, Supplier<V> load) {
    long began;
    synchronized (this) {
      Entry<V> known = entries.get(key);
      if (known != null && System.nanoTime() - known.atNs < TimeUnit.MILLISECONDS.toNanos(keepMs.getAsLong())) {
        return known.value;
      }
      began = epoch;
    }
    // Its age counts from before it was asked for.
    long at = System.nanoTime();
    V value = load.get();
    synchronized (this) {
      if (value == null) {
        entries.remove(key);
      } else if (began == epoch) {
        entries.put(key, new Entry<>(value, at));
      }
    }
    return value;
  }

  /** From now on nothing is answered that was loaded before. */
  synchronized void forget() {
    epoch++;
    entries.clear();
  }
}
