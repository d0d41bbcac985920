// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Counts failures per key in windows of the lock's length, and locks a key that reached its limit. At most
 * {@link #MAX_KEYS} keys: then the one that was used least recently is forgotten, so that whoever invents keys only
 * forgets his own. Thread-safe.
 *
 * @param <K> a small immutable key
 */
final class Lockouts<K> {
  /** Some 2 MB. */
  static final int MAX_KEYS = 16_384;

  private static final class Count {
    long sinceMs;
    int failures;
    boolean locked;
  }

  private final Map<K, Count> counts = new LinkedHashMap<>(64, 0.75f, true) {
    @Override
    protected boolean removeEldestEntry(Map.Entry<K, Count> eldest) {
      return size() > MAX_KEYS;
    }
  };
  /** Asked for each attempt, and nearly always true. */
  private volatile boolean empty = true;

  /** @return milliseconds until the key is free; 0: it is not locked */
  long lockedMs(K key, long lockMs, long nowMs) {
    if (empty) {
      return 0;
    }
    synchronized (this) {
      Count count = counts.get(key);
      return count == null || !count.locked ? 0 : Math.max(0, count.sinceMs + lockMs - nowMs);
    }
  }

  /**
   * @param limit that many failures within lockMs lock the key for lockMs; 0: never
   * @param nowMs of a clock that nobody sets
   * @return whether this one did
   */
  synchronized boolean failed(K key, int limit, long lockMs, long nowMs) {
    if (limit == 0) {
      return false;
    }
    Count count = counts.computeIfAbsent(key, k -> new Count());
    empty = false;
    if (count.failures == 0 || nowMs - count.sinceMs >= lockMs) {
      count.sinceMs = nowMs;
      count.failures = 0;
      count.locked = false;
    }
    if (++count.failures < limit || count.locked) {
      return false;
    }
    count.locked = true;
    count.sinceMs = nowMs;
    return true;
  }

  /** The key is as good as new, if it was not locked. */
  void succeeded(K key) {
    if (empty) {
      return;
    }
    synchronized (this) {
      counts.remove(key);
    }
  }

  /** Forgets what is over. @return keys that are locked */
  synchronized int locked(long lockMs, long nowMs) {
    counts.values().removeIf(c -> nowMs - c.sinceMs >= lockMs);
    empty = counts.isEmpty();
    return (int) counts.values().stream().filter(c -> c.locked).count();
  }

  synchronized int size() {
    return counts.size();
  }
}
