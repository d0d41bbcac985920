// SPDX-License-Identifier: Apache-2.0
package io.caravan.hawtio.internal;

import java.security.SecureRandom;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.function.LongSupplier;

/** Who is logged in, in memory only: a restart ends all. Thread-safe. */
final class Sessions {
  private static final int MAX = 100;
  private static final int TOKEN_BYTES = 32;

  /** @param credential of the user when they logged in: another password or role ends the session */
  record Session(String user, String credential, long sinceMs, long usedMs) { }

  private final SecureRandom random = new SecureRandom();
  private final LongSupplier clock;
  private final long idleMs;
  private final long maxMs;
  /** The one that was used longest ago goes when there are too many. */
  private final Map<String, Session> byToken = new LinkedHashMap<>(16, 0.75f, true) {
    @Override
    protected boolean removeEldestEntry(Map.Entry<String, Session> eldest) {
      return size() > MAX;
    }
  };

  /** @param clock milliseconds, going forward only */
  Sessions(LongSupplier clock, long idleMs, long maxMs) {
    this.clock = clock;
    this.idleMs = idleMs;
    this.maxMs = maxMs;
  }

  /** @return the token of a new session */
  synchronized String begin(String user, String credential) {
    byte[] bytes = new byte[TOKEN_BYTES];
    random.nextBytes(bytes);
    String token = Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    long now = clock.getAsLong();
    byToken.put(token, new Session(user, credential, now, now));
    return token;
  }

  /** @return the session, which is used now; empty: there is none, or it has ended */
  synchronized Optional<Session> use(String token) {
    Session session = byToken.get(token);
    if (session == null) {
      return Optional.empty();
    }
    long now = clock.getAsLong();
    if (now - session.usedMs > idleMs || now - session.sinceMs > maxMs) {
      byToken.remove(token);
      return Optional.empty();
    }
    Session used = new Session(session.user, session.credential, session.sinceMs, now);
    byToken.put(token, used);
    return Optional.of(used);
  }

  synchronized void end(String token) {
    byToken.remove(token);
  }
}
