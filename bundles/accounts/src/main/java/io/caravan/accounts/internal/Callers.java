// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.accounts.Accounts;
import io.caravan.runtime.Config;
import io.caravan.runtime.Grant;
import io.caravan.runtime.HttpCall;
import io.caravan.runtime.Logins;
import io.caravan.runtime.UserAdmin;
import java.time.Clock;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import org.apache.camel.spi.Registry;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Finds out who a caller is, by whatever the request presents, and what became of that meanwhile. Thread-safe; blocks. */
public final class Callers {
  static final String UNAUTHORIZED = "unauthorized";
  static final String EXPOSED = "exposed";
  static final String LOCKED_OUT = "locked_out";
  static final String UNAVAILABLE = "unavailable";
  static final ObjectMapper JSON = new ObjectMapper();

  private static final Logger LOG = LoggerFactory.getLogger(Callers.class);
  private static final Pattern COOKIE = Pattern.compile("[A-Za-z0-9_-]{43}");
  private static final int MAX_REMEMBERED = 10_000;
  private static final long TOUCH_MS = 60_000;

  /**
   * @param who     null: not {@link Logins#GRANTED}
   * @param outcome of {@link Logins.Login}, or {@link #UNAVAILABLE}
   */
  record Found(Who who, String outcome, long retryAfterS) {
    Found(Who who) {
      this(who, Logins.GRANTED, 0);
    }

    Found(String outcome) {
      this(null, outcome, 0);
    }
  }

  private final Tables tables;
  private final Logins logins;
  private final Oidc oidc;
  private final Config config;
  private final Clock clock;
  private final Registry registry;
  private final Memory<Who> known;
  private final Memory<Tables.Place> places;

  public Callers(Tables tables, Logins logins, Oidc oidc, Config config, Clock clock, Registry registry) {
    this.tables = tables;
    this.logins = logins;
    this.oidc = oidc;
    this.config = config;
    this.clock = clock;
    this.registry = registry;
    this.known = new Memory<>(MAX_REMEMBERED, () -> config.getLong("api.access.cache.ms"));
    this.places = new Memory<>(MAX_REMEMBERED, () -> config.getLong("api.access.cache.ms"));
  }

  Found find(HttpCall call) {
    if (call.exposed()) {
      return new Found(EXPOSED);
    }
    try {
      List<String> given = call.headers("Authorization");
      if (given.size() == 1 && given.get(0).regionMatches(true, 0, "Bearer ", 0, 7)) {
        String secret = given.get(0).substring(7).trim();
        return secret.startsWith(Secrets.TOKEN_PREFIX) ? token(call, secret) : jwt(call, secret);
      }
      if (given.isEmpty()) {
        String cookie = cookie(call);
        if (cookie != null) {
          Who who = login(Secrets.hash(cookie));
          return who == null ? new Found(UNAUTHORIZED) : new Found(who);
        }
      }
      Logins.Login login = logins.whoIs(call);
      return login.outcome().equals(Logins.GRANTED)
          ? new Found(new Who(login.user(), login.local() ? "local" : "basic", everywhere(login.roles()), null, null))
          : new Found(null, login.outcome(), login.retryAfterS());
    } catch (StoreAway | Oidc.Away e) {
      LOG.warn("Nobody can be asked who a caller is: {}", e.getMessage());
      return new Found(UNAVAILABLE);
    }
  }

  private Found token(HttpCall call, String secret) {
    String key = Secrets.hash(secret);
    Who who = byToken(key);
    if (who != null) {
      return new Found(who);
    }
    // One that is known and over is not a guess.
    return tables.token(key).isPresent() ? new Found(UNAUTHORIZED) : wrong(call);
  }

  private Found jwt(HttpCall call, String token) {
    Who who = byJwt(token);
    return who != null ? new Found(who) : new Found(UNAUTHORIZED);
  }

  /** Counts a guess against its address. */
  Found wrong(HttpCall call) {
    long lockedS = logins.lockedS(call.address());
    if (lockedS > 0) {
      return new Found(null, LOCKED_OUT, lockedS);
    }
    logins.failed(call.address(), "");
    return new Found(UNAUTHORIZED);
  }

  /** @return null: not good, or not any more; @throws Oidc.Away */
  Who byJwt(String token) {
    long now = clock.millis();
    String key = Secrets.hash(token);
    Who who = known.get("j" + key, () -> {
      Oidc.Verified verified = oidc.verify(token);
      return verified == null ? null : new Who(verified.user(), "jwt", oidc.roles(verified.claims()), verified.expiresAtMs(), key);
    });
    return who == null || who.over(now) ? null : who;
  }

  private Who byToken(String key) {
    long now = clock.millis();
    Who who = known.get("t" + key, () -> tables.token(key).filter(h -> h.token().revokedAtMs() == null && !h.ownerDisabled() && !h.ownerMissing()
        && (h.token().expiresAtMs() == null || h.token().expiresAtMs() > now)).map(h -> {
          Accounts.Token t = h.token();
          if (t.usedAtMs() == null || now - t.usedAtMs() > TOUCH_MS) {
            quietly(() -> tables.touchToken(t.name(), now));
          }
          return new Who("token:" + t.name(), "token", t.account() == null ? t.roles() : Roles.both(t.roles(), tables.accountRoles(t.account())),
              t.expiresAtMs(), key);
        }).orElse(null));
    return who == null || who.over(now) ? null : who;
  }

  private Who login(String key) {
    long now = clock.millis();
    long idle = config.getLong("api.session.idle.ms");
    Who who = known.get("s" + key, () -> tables.login(key).filter(l -> !l.disabled() && l.expiresAtMs() > now && l.usedAtMs() + idle > now).map(l -> {
      Map<String, String> roles = l.kind().equals("oidc") ? oidcRoles(l.roles()) : tables.accountRoles(l.user());
      if (roles == null) {
        return null;
      }
      if (now - l.usedAtMs() > Math.min(TOUCH_MS, idle / 10)) {
        quietly(() -> tables.touchLogin(key, now));
      }
      return new Who(l.user(), "cookie", roles, l.expiresAtMs(), key);
    }).orElse(null));
    return who == null || who.over(now) ? null : who;
  }

  /** The claims are kept, not the roles, so that what is configured counts. @return null: that issuer is not believed any more */
  private Map<String, String> oidcRoles(String kept) {
    try {
      JsonNode node = JSON.readTree(kept);
      if (!oidc.isIssuer(node.path("issuer").asText())) {
        return null;
      }
      List<String> claims = new ArrayList<>();
      node.path("claims").forEach(c -> claims.add(c.asText()));
      return oidc.roles(claims);
    } catch (JsonProcessingException e) {
      return null;
    }
  }

  Map<String, String> oidcRoles(List<String> claims) {
    return oidc.roles(claims);
  }

  static Map<String, String> everywhere(Set<String> roles) {
    String highest = roles.stream().reduce(null, Roles::higher);
    return highest == null ? Map.of() : Map.of(Accounts.ALL, highest);
  }

  /** Asks again who it is; @return null: nobody any more */
  Who again(Who who) {
    return switch (who.how()) {
      case "cookie" -> login(who.key());
      case "token" -> byToken(who.key());
      case "jwt" -> who.over(clock.millis()) ? null : who;
      case "basic" -> registry.lookupByName("users") instanceof UserAdmin users
          ? users.list().stream().filter(u -> u.name().equals(who.user())).findFirst()
              .map(u -> new Who(who.user(), who.how(), Map.of(Accounts.ALL, u.role()), null, null)).orElse(null) : who;
      default -> config.get("admin.login").equals("remote") ? who : null;
    };
  }

  Tables.Place place(String gatewayId) {
    return places.get(gatewayId, () -> tables.place(gatewayId));
  }

  /** @param role that it needs */
  Grant grant(Who who, String role) {
    return new Grant() {
      @Override
      public boolean valid() {
        try {
          Who now = again(who);
          return now != null && now.roles().values().stream().anyMatch(has -> Roles.rank(has) >= Roles.rank(role));
        } catch (RuntimeException e) {
          LOG.debug("Asked again who [{}] is", who.user(), e);
          return false;
        }
      }

      @Override
      public boolean sees(String gatewayId) {
        try {
          Who now = again(who);
          return now != null && (Roles.rank(now.roles().get(Accounts.ALL)) >= Roles.rank(role)
              || Roles.rank(Roles.at(now.roles(), place(gatewayId).site())) >= Roles.rank(role));
        } catch (RuntimeException e) {
          LOG.debug("Asked again what [{}] sees", who.user(), e);
          return false;
        }
      }
    };
  }

  /** Something was changed here: it is in force here at once. */
  void forget() {
    known.forget();
    places.forget();
  }

  private static void quietly(Runnable touch) {
    try {
      touch.run();
    } catch (StoreAway e) {
      LOG.debug("When it was used last is not noted", e);
    }
  }

  // ---- the cookie

  /** @return whether the client came over TLS, to us or to a proxy before us */
  static boolean secure(HttpCall call) {
    // One that only claims it gets a cookie it cannot send.
    return call.tls() || call.headers("X-Forwarded-Proto").equals(List.of("https"));
  }

  /** The prefix makes browsers refuse one that another host of the domain, or a page without TLS, sets. */
  static String cookieName(HttpCall call, String name) {
    return secure(call) ? "__Host-" + name : name;
  }

  /** @return null: none, or nothing that could be one */
  static String cookie(HttpCall call, String name) {
    String prefix = cookieName(call, name) + "=";
    for (String header : call.headers("Cookie")) {
      for (String part : header.split(";")) {
        String one = part.trim();
        if (one.startsWith(prefix)) {
          return one.substring(prefix.length());
        }
      }
    }
    return null;
  }

  static String cookie(HttpCall call) {
    String value = cookie(call, LoginApi.COOKIE);
    return value != null && COOKIE.matcher(value).matches() ? value : value == null ? null : "-";
  }

  /** @param maxAgeS 0: it goes away */
  static String setCookie(HttpCall call, String name, String value, long maxAgeS, String sameSite) {
    return cookieName(call, name) + "=" + value + "; Path=/; HttpOnly; SameSite=" + sameSite + "; Max-Age=" + maxAgeS + (secure(call) ? "; Secure" : "");
  }
}
