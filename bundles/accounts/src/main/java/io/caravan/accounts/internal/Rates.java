// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import io.caravan.runtime.Config;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Requests per caller, and per address of those who are nobody yet: so many a second, after a quiet time {@value #BURST} times as many at
 * once. Of this process; the least recently seen is forgotten when there are too many. Thread-safe.
 */
public final class Rates {
  static final int BURST = 4;
  private static final int MOST = 10_000;

  /** @param left requests that may come at once; @param waitS until one more may come; 0: it may */
  record State(boolean limited, long limit, long left, long waitS) {}

  private static final State FREE = new State(false, 0, 0, 0);

  private static final class Bucket {
    double tokens;
    long atNs;
  }

  private final Config config;
  private final Map<String, Bucket> buckets = new LinkedHashMap<>(16, 0.75f, true) {
    @Override
    protected boolean removeEldestEntry(Map.Entry<String, Bucket> eldest) {
      return size() > MOST;
    }
  };

  public Rates(Config config) {
    this.config = config;
  }

  State caller(Who who) {
    return who.how().equals("local") ? FREE : take("u" + who.how() + " " + who.user(), config.getLong("api.rate.per.s"));
  }

  State stranger(String address) {
    return take("a" + network(address), config.getLong("api.rate.stranger.per.s"));
  }

  private State take(String key, long perS) {
    if (perS == 0) {
      return FREE;
    }
    long most = perS * BURST;
    long now = System.nanoTime();
    synchronized (buckets) {
      Bucket bucket = buckets.get(key);
      if (bucket == null) {
        bucket = new Bucket();
        bucket.tokens = most;
        buckets.put(key, bucket);
      } else {
        bucket.tokens = Math.min(most, bucket.tokens + (now - bucket.atNs) / 1e9 * perS);
      }
      bucket.atNs = now;
      if (bucket.tokens < 1) {
        return new State(true, most, 0, Math.max(1, (long) Math.ceil((1 - bucket.tokens) / perS)));
      }
      bucket.tokens--;
      return new State(true, most, (long) bucket.tokens, 0);
    }
  }

  /** A /64 of IPv6 is one household. */
  static String network(String address) {
    if (address.indexOf(':') < 0) {
      return address;
    }
    try {
      byte[] bytes = InetAddress.getByName(address.replaceFirst("%.*", "")).getAddress();
      return bytes.length == 16 ? HexFormat.of().formatHex(Arrays.copyOf(bytes, 8)) : address;
    } catch (UnknownHostException e) {
      return address;
    }
  }
}
