// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import io.caravan.runtime.HttpCall;
import io.caravan.runtime.Logins;
import io.caravan.runtime.Passwords;
import io.caravan.runtime.Problem;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.security.MessageDigest;
import java.nio.charset.StandardCharsets;
import java.time.Clock;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.apache.camel.Exchange;
import org.apache.camel.Message;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Bean {@code apiSession}: logging in and out over HTTP, and who one is. Each method reads the request of a route and makes the whole
 * answer. Thread-safe; blocks.
 */
public final class LoginApi {
  static final String COOKIE = "caravan_session";
  /** State, nonce and verifier of a login at the provider, with the browser that began it. */
  static final String OIDC_COOKIE = "caravan_oidc";

  private static final Logger LOG = LoggerFactory.getLogger(LoginApi.class);
  private static final Pattern OIDC = Pattern.compile("[A-Za-z0-9_-]{43}(\\.[A-Za-z0-9_-]{43}){2}");
  private static final int MAX_BODY = 16_384;
  private static final int LOGIN_S = 600;
  private static final long AUDIT_EVERY_MS = 60_000;
  private static final String CALLBACK = "/api/v1/session/oidc/callback";

  private final AccountBook book;
  private final Callers callers;
  private final Rates rates;
  private final Logins logins;
  private final Passwords passwords;
  private final Oidc oidc;
  private final Audit audit;
  private final Config config;
  private final Clock clock;
  private long refused;
  private long auditedNs = Long.MIN_VALUE;

  public LoginApi(AccountBook book, Callers callers, Rates rates, Logins logins, Passwords passwords, Oidc oidc, Audit audit, Config config, Clock clock) {
    this.book = book;
    this.callers = callers;
    this.rates = rates;
    this.logins = logins;
    this.passwords = passwords;
    this.oidc = oidc;
    this.audit = audit;
    this.config = config;
    this.clock = clock;
  }

  /** POST /api/v1/session: {@code user} and {@code password}, or {@code token}, a JWT. */
  public void login(Exchange exchange) {
    HttpCall call = HttpCall.of(exchange);
    if (!admitted(exchange, call)) {
      return;
    }
    JsonNode body = body(exchange, call);
    if (body == null) {
      return;
    }
    try {
      if (body.path("token").isTextual()) {
        Oidc.Verified verified = body.path("token").textValue().length() > Oidc.MAX_TOKEN ? null : oidc.verify(body.path("token").textValue());
        if (verified == null) {
          counted(call, "a token");
          wrong(exchange, call);
        } else {
          let(exchange, call, book.oidcLogin(verified, call.address()));
        }
        return;
      }
      String user = body.path("user").asText("");
      if (!body.path("password").isTextual() || user.isEmpty()) {
        Access.refuse(exchange, call, "bad_request", 400, "bad_request", "the body must be a JSON object with user and password, or token");
        return;
      }
      password(exchange, call, user, body.path("password").textValue().toCharArray());
    } catch (StoreAway | Oidc.Away | UncheckedIOException e) {
      unavailable(exchange, call, e);
    }
  }

  private void password(Exchange exchange, HttpCall call, String user, char[] password) {
    long lockedS = logins.lockedS(call.address());
    if (lockedS > 0) {
      Access.refuse(exchange, call, new Callers.Found(null, Callers.LOCKED_OUT, lockedS), rates);
      return;
    }
    try {
      Map.Entry<String, Boolean> known = book.stored(user);
      Passwords.Verdict verdict = passwords.verify(password, known == null ? null : known.getKey(), () -> counted(call, user));
      if (verdict == Passwords.Verdict.BUSY) {
        Access.refuse(exchange, call, "busy", 429, "too_many_requests", "too many log in at once; try again");
        exchange.getMessage().setHeader("Retry-After", Access.RETRY_S);
      } else if (verdict == Passwords.Verdict.WRONG) {
        wrong(exchange, call);
      } else if (known.getValue()) {
        counted(call, user);
        wrong(exchange, call);
      } else {
        logins.succeeded(call.address());
        let(exchange, call, book.login(user, call.address()));
      }
    } finally {
      Arrays.fill(password, '\0');
    }
  }

  /** DELETE /api/v1/session: also without one. */
  public void logout(Exchange exchange) {
    HttpCall call = HttpCall.of(exchange);
    String cookie = Callers.cookie(call);
    if (!call.headers("Origin").isEmpty() && !Origins.same(call)) {
      Access.refuse(exchange, call, "foreign_origin", 403, "forbidden", "a page of another origin must not ask for that");
      return;
    }
    try {
      Callers.Found found = cookie == null ? null : callers.find(call);
      if (cookie != null) {
        book.end(cookie, found.who() == null ? null : found.who().user(), call.address());
      }
    } catch (StoreAway e) {
      unavailable(exchange, call, e);
      return;
    }
    Message message = answer(exchange, 204, null);
    message.setHeader("Set-Cookie", Callers.setCookie(call, COOKIE, "", 0, "Strict"));
  }

  /** GET /api/v1/me */
  public void me(Exchange exchange) {
    HttpCall call = HttpCall.of(exchange);
    Callers.Found found = callers.find(call);
    if (found.who() == null) {
      Access.refuse(exchange, call, found, rates);
      if (exchange.getMessage().getHeader(Exchange.HTTP_RESPONSE_CODE, Integer.class) == 401) {
        // A member of its own: what the login page needs to know.
        String body = exchange.getMessage().getBody(String.class);
        exchange.getMessage().setBody(body.substring(0, body.length() - 1) + ",\"oidc\":" + provider() + "}");
      }
      return;
    }
    if (Access.within(exchange, call, rates.caller(found.who()))) {
      answer(exchange, 200, view(found.who()));
    }
  }

  /** POST /api/v1/me/password: who has logged in with a password gets another one. */
  public void change(Exchange exchange) {
    HttpCall call = HttpCall.of(exchange);
    Callers.Found found = callers.find(call);
    if (found.who() == null) {
      Access.refuse(exchange, call, found, rates);
      return;
    }
    Who who = found.who();
    if (Origins.foreign(call, who, config)) {
      Access.refuse(exchange, call, "foreign_origin", 403, "forbidden", "a page of another origin must not ask for that");
      return;
    }
    if (!admitted(exchange, call)) {
      return;
    }
    JsonNode body = body(exchange, call);
    if (body == null) {
      return;
    }
    char[] old = body.path("password").asText("").toCharArray();
    char[] next = body.path("new_password").asText("").toCharArray();
    try {
      Map.Entry<String, Boolean> known = who.how().equals("cookie") ? book.stored(who.user()) : null;
      if (known == null) {
        Access.refuse(exchange, call, "no_password", 403, "forbidden", "only who has logged in with a password can change it");
        return;
      }
      long lockedS = logins.lockedS(call.address());
      if (lockedS > 0) {
        Access.refuse(exchange, call, new Callers.Found(null, Callers.LOCKED_OUT, lockedS), rates);
        return;
      }
      if (passwords.verify(old, known.getKey(), () -> counted(call, who.user())) != Passwords.Verdict.RIGHT) {
        Access.refuse(exchange, call, "wrong_password", 403, "forbidden", "that is not the password");
        return;
      }
      book.password(who.user(), next, who.user(), call.address());
      Message message = answer(exchange, 204, null);
      message.setHeader("Set-Cookie", Callers.setCookie(call, COOKIE, "", 0, "Strict"));
    } catch (IllegalArgumentException e) {
      Access.refuse(exchange, call, "bad_request", 400, "bad_request", e.getMessage());
    } catch (StoreAway | UncheckedIOException e) {
      unavailable(exchange, call, e);
    } finally {
      Arrays.fill(old, '\0');
      Arrays.fill(next, '\0');
    }
  }

  // ---- the provider's login

  /** GET /api/v1/session/oidc: sends the browser to the provider. */
  public void begin(Exchange exchange) {
    HttpCall call = HttpCall.of(exchange);
    if (!admitted(exchange, call)) {
      return;
    }
    if (!oidc.offersLogin()) {
      Access.refuse(exchange, call, "not_found", 404, "not_found", "no OpenID provider is configured for logins");
      return;
    }
    String state = Secrets.random();
    String nonce = Secrets.random();
    String verifier = Secrets.random();
    try {
      String to = oidc.authorization(redirect(call), state, nonce, verifier);
      Message message = answer(exchange, 302, null);
      message.setHeader("Location", to);
      // Lax: the browser comes back from the provider's page.
      message.setHeader("Set-Cookie", Callers.setCookie(call, OIDC_COOKIE, state + "." + nonce + "." + verifier, LOGIN_S, "Lax"));
    } catch (Oidc.Away e) {
      unavailable(exchange, call, e);
    }
  }

  /** GET /api/v1/session/oidc/callback: back from there, with a code. */
  public void callback(Exchange exchange) {
    HttpCall call = HttpCall.of(exchange);
    if (!admitted(exchange, call)) {
      return;
    }
    String kept = Callers.cookie(call, OIDC_COOKIE);
    String state = parameter(exchange, "state");
    String code = parameter(exchange, "code");
    String issuer = parameter(exchange, "iss");
    AccountBook.Opened opened = null;
    try {
      if (oidc.offersLogin() && kept != null && OIDC.matcher(kept).matches() && state != null && code != null && (issuer == null || oidc.isIssuer(issuer))) {
        String[] parts = kept.split("\\.");
        if (MessageDigest.isEqual(parts[0].getBytes(StandardCharsets.US_ASCII), state.getBytes(StandardCharsets.UTF_8))) {
          Oidc.Verified verified = oidc.login(code, redirect(call), parts[2], parts[1]);
          if (verified != null && !oidc.roles(verified.claims()).isEmpty()) {
            opened = book.oidcLogin(verified, call.address());
          } else {
            LOG.warn("A login at the OpenID provider comes to nothing: {}", verified == null ? "its token is not good" : "[" + verified.user()
                + "] has no role here, api.oidc.roles gives them");
          }
        }
      }
    } catch (StoreAway | Oidc.Away | UncheckedIOException e) {
      LOG.warn("A login at the OpenID provider comes to nothing: {}", e.getMessage());
    }
    if (opened == null) {
      call.refused(Callers.UNAUTHORIZED);
    }
    Message message = answer(exchange, 302, null);
    message.setHeader("Location", opened == null ? "/?login=failed" : "/");
    String gone = Callers.setCookie(call, OIDC_COOKIE, "", 0, "Lax");
    message.setHeader("Set-Cookie", opened == null ? gone : List.of(gone, session(call, opened)));
  }

  /** As it is registered at the provider, which compares it. */
  private String redirect(HttpCall call) {
    String base = config.get("api.public.url");
    if (base.isEmpty()) {
      List<String> hosts = call.headers("Host");
      base = (Callers.secure(call) ? "https://" : "http://") + (hosts.isEmpty() ? "" : hosts.get(0));
    }
    return base.replaceFirst("/$", "") + CALLBACK;
  }

  // ---- answers

  /** Whoever is nobody yet: neither over an open network, nor from another page, nor too often. */
  private boolean admitted(Exchange exchange, HttpCall call) {
    if (call.exposed()) {
      Access.refuse(exchange, call, new Callers.Found(Callers.EXPOSED), rates);
      return false;
    }
    if (Origins.changes(call) && !call.headers("Origin").isEmpty() && !Origins.same(call)) {
      Access.refuse(exchange, call, "foreign_origin", 403, "forbidden", "a page of another origin must not ask for that");
      return false;
    }
    return Access.within(exchange, call, rates.stranger(call.address()));
  }

  private void let(Exchange exchange, HttpCall call, AccountBook.Opened opened) {
    String before = Callers.cookie(call);
    if (before != null) {
      book.forget(before);
    }
    Message message = answer(exchange, 200, view(opened.who()));
    message.setHeader("Set-Cookie", session(call, opened));
  }

  private String session(HttpCall call, AccountBook.Opened opened) {
    return Callers.setCookie(call, COOKIE, opened.secret(), TimeUnit.MILLISECONDS.toSeconds(opened.who().expiresAtMs() - clock.millis()), "Strict");
  }

  private void counted(HttpCall call, String user) {
    logins.failed(call.address(), user);
    String shown = AccountBook.NAME.matcher(user).matches() ? user : "a name that no account can have";
    long count = 0;
    synchronized (this) {
      refused++;
      long now = System.nanoTime();
      if (auditedNs == Long.MIN_VALUE || now - auditedNs > TimeUnit.MILLISECONDS.toNanos(AUDIT_EVERY_MS)) {
        auditedNs = now;
        count = refused;
        refused = 0;
      }
    }
    if (count > 0) {
      LOG.warn("Login as [{}] from {} refused; {} refused since the last such line", shown, call.address(), count);
      try {
        audit.record("account.login", shown, "refused", Map.of("from", call.address(), "count", count));
      } catch (UncheckedIOException e) {
        LOG.debug("Noted later: login refused", e);
      }
    }
  }

  private static void wrong(Exchange exchange, HttpCall call) {
    Access.refuse(exchange, call, Callers.UNAUTHORIZED, 401, "unauthorized", "the user or the password is wrong");
    exchange.getMessage().setHeader("WWW-Authenticate", "Bearer realm=\"caravan\"");
  }

  private void unavailable(Exchange exchange, HttpCall call, RuntimeException e) {
    LOG.warn("A login cannot be decided: {}", e.getMessage());
    Access.refuse(exchange, call, new Callers.Found(Callers.UNAVAILABLE), rates);
  }

  private String view(Who who) {
    ObjectNode node = Callers.JSON.createObjectNode().put("user", who.user()).put("how", who.how());
    ObjectNode roles = node.putObject("roles");
    who.roles().forEach(roles::put);
    node.set("sites", Callers.JSON.valueToTree(who.roles().keySet()));
    node.put("expires_at_ms", who.expiresAtMs());
    node.putRawValue("oidc", new com.fasterxml.jackson.databind.util.RawValue(provider()));
    return node.toString();
  }

  /** @return JSON, or {@code null} */
  private String provider() {
    return oidc.offersLogin() ? Callers.JSON.createObjectNode().put("login", "/api/v1/session/oidc").put("issuer", oidc.issuer())
        .put("client_id", config.get("api.oidc.client.id")).toString() : "null";
  }

  private static JsonNode body(Exchange exchange, HttpCall call) {
    String type = String.join("", call.headers("Content-Type")).split(";")[0].trim();
    byte[] bytes = exchange.getMessage().getBody(byte[].class);
    if (type.equalsIgnoreCase("application/json") && bytes != null && bytes.length <= MAX_BODY) {
      try {
        JsonNode node = Callers.JSON.readTree(bytes);
        if (node != null && node.isObject()) {
          return node;
        }
      } catch (IOException e) {
        LOG.debug("Not JSON", e);
      }
    }
    Access.refuse(exchange, call, "bad_request", 400, "bad_request", "the body must be a JSON object of at most " + MAX_BODY
        + " bytes, with Content-Type application/json");
    return null;
  }

  private static String parameter(Exchange exchange, String name) {
    return exchange.getMessage().getHeader(name) instanceof String value ? value : null;
  }

  private static Message answer(Exchange exchange, int status, String body) {
    Message message = exchange.getMessage();
    message.removeHeaders("*");
    message.setHeader(Exchange.HTTP_RESPONSE_CODE, status);
    if (body != null) {
      message.setHeader(Exchange.CONTENT_TYPE, "application/json");
    }
    message.setBody(body);
    return message;
  }
}
