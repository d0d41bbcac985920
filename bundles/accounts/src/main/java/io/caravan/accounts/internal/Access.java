// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.accounts.Accounts;
import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import io.caravan.runtime.HttpCall;
import io.caravan.runtime.Logins;
import io.caravan.runtime.Problem;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.camel.Exchange;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Bean {@code apiAccess}: who may do what over HTTP in the cloud. A route asks it first, with the role it needs. Sets the variables
 * {@code access} ({@code granted}, or why not: then the message is the whole answer), {@code user}, {@code role} (the highest the caller
 * has there), {@code sites} (JSON array: where the caller has the role that was asked for; {@code ["*"]}: everywhere), {@code from} and
 * {@code grant} ({@link io.caravan.runtime.Grant}). A header {@code gateway_id}, or the variable {@code gatewayId}, makes it the role at
 * that gateway's site. What is let in and changes something is in the audit log before it is done. Thread-safe; blocks.
 */
public final class Access {
  static final int RETRY_S = 5;

  private static final Logger LOG = LoggerFactory.getLogger(Access.class);
  private static final int MAX_SHOWN = 128;
  private static final int MAX_READ = 131_072;

  private final Callers callers;
  private final Rates rates;
  private final Audit audit;
  private final Config config;

  public Access(Callers callers, Rates rates, Audit audit, Config config) {
    this.callers = callers;
    this.rates = rates;
    this.audit = audit;
    this.config = config;
  }

  /** For a route that shows. */
  public void viewer(Exchange exchange) {
    decide(exchange, "viewer", false);
  }

  /** For a route that changes something. */
  public void operator(Exchange exchange) {
    decide(exchange, "operator", false);
  }

  /** As {@link #operator}, for administrators of the site. */
  public void admin(Exchange exchange) {
    decide(exchange, "admin", false);
  }

  /** For what concerns all sites: administrators of all. */
  public void everywhere(Exchange exchange) {
    decide(exchange, "admin", true);
  }

  /** For a route without a login, which looks itself at what it is shown: not too often from one address. */
  public void stranger(Exchange exchange) {
    HttpCall call = HttpCall.of(exchange);
    if (within(exchange, call, rates.stranger(call.address()))) {
      exchange.setVariable("access", Logins.GRANTED);
    }
  }

  private void decide(Exchange exchange, String role, boolean everywhere) {
    HttpCall call = HttpCall.of(exchange);
    exchange.setVariable("from", call.address());
    Callers.Found found = callers.find(call);
    Who who = found.who();
    if (who == null) {
      refuse(exchange, call, found, rates);
      return;
    }
    exchange.setVariable("user", who.user());
    if (Origins.foreign(call, who, config)) {
      refuse(exchange, call, "foreign_origin", 403, "forbidden", "a page of another origin must not ask for that");
      return;
    }
    if (!within(exchange, call, rates.caller(who))) {
      return;
    }
    String has = who.roles().get(Accounts.ALL);
    String where = "";
    if (!everywhere) {
      try {
        Collection<?> gateways = gateways(exchange);
        if (gateways.isEmpty()) {
          has = who.roles().values().stream().reduce(has, Roles::higher);
        }
        for (Object gateway : gateways) {
          String at = at(who, String.valueOf(gateway));
          if (at == null) {
            refuse(exchange, call, "role", 404, "not_found", "there is no such gateway here");
            return;
          }
          has = gateways.size() == 1 || Roles.rank(at) < Roles.rank(has) ? at : has;
          where = " at its site";
        }
      } catch (StoreAway e) {
        refuse(exchange, call, new Callers.Found(Callers.UNAVAILABLE), rates);
        return;
      }
    }
    if (Roles.rank(has) < Roles.rank(role)) {
      refuse(exchange, call, "role", 403, "forbidden", "this needs the role " + role + (everywhere ? " of all sites" : where) + ", which [" + who.user()
          + "] does not have; account:role or token:add gives it");
      return;
    }
    if (Origins.changes(call) && !audited(exchange, call, who, has)) {
      return;
    }
    exchange.setVariable("role", has);
    exchange.setVariable("sites", sites(who, role));
    exchange.setVariable("grant", callers.grant(who, role));
    exchange.setVariable("access", Logins.GRANTED);
  }

  /** @return the role at the gateway's site; null: for this caller there is no such gateway */
  private String at(Who who, String gateway) {
    String all = who.roles().get(Accounts.ALL);
    if (all != null && who.roles().size() == 1) {
      return all;
    }
    Tables.Place place = callers.place(gateway.length() <= MAX_SHOWN ? gateway : gateway.substring(0, MAX_SHOWN));
    return all != null || place.known() ? Roles.at(who.roles(), place.site()) : null;
  }

  /** Given in the path and again in the query they are several, which no route takes; until then all of them count. */
  private static Collection<?> gateways(Exchange exchange) {
    Object header = exchange.getMessage().getHeader("gateway_id");
    if (header == null) {
      header = exchange.getVariable("gatewayId");
    }
    return header == null || header.equals("") ? List.of() : header instanceof Collection<?> several ? several : List.of(header);
  }

  static String sites(Who who, String role) {
    if (Roles.rank(who.roles().get(Accounts.ALL)) >= Roles.rank(role)) {
      return "[\"*\"]";
    }
    // Ids of sites need no escapes.
    return who.roles().entrySet().stream().filter(r -> Roles.rank(r.getValue()) >= Roles.rank(role)).map(r -> "\"" + r.getKey() + "\"")
        .collect(Collectors.joining(",", "[", "]"));
  }

  private boolean audited(Exchange exchange, HttpCall call, Who who, String role) {
    Map<String, Object> details = new LinkedHashMap<>();
    details.put("from", call.address());
    details.put("how", who.how());
    details.put("role", role);
    if (call.path().endsWith("/commands")) {
      command(exchange, details);
    }
    try {
      audit.recordAs(who.user(), "api.request", call.method() + " " + call.path(), "ok", details);
      return true;
    } catch (UncheckedIOException e) {
      LOG.warn("A request is refused: {}", e.getMessage());
      refuse(exchange, call, new Callers.Found(Callers.UNAVAILABLE), rates);
      return false;
    }
  }

  /** Which command it is; what it says else is its own business. */
  private static void command(Exchange exchange, Map<String, Object> details) {
    byte[] body = exchange.getMessage().getBody(byte[].class);
    if (body == null || body.length > MAX_READ) {
      return;
    }
    try {
      JsonNode node = Callers.JSON.readTree(body);
      for (String field : List.of("name", "id")) {
        String value = node == null ? "" : node.path(field).asText("");
        if (!value.isEmpty()) {
          details.put(field, value.length() <= MAX_SHOWN ? value : value.substring(0, MAX_SHOWN));
        }
      }
    } catch (IOException | RuntimeException | StackOverflowError e) {
      details.put("body", "not JSON");
    }
  }

  // ---- answers

  /** @return false: too many, and the answer is made */
  static boolean within(Exchange exchange, HttpCall call, Rates.State rate) {
    if (!rate.limited()) {
      return true;
    }
    call.answer("RateLimit-Policy", "\"caller\";q=" + rate.limit() + ";w=" + Rates.BURST);
    call.answer("RateLimit", "\"caller\";r=" + rate.left() + ";t=" + Math.max(1, rate.waitS()));
    if (rate.waitS() == 0) {
      return true;
    }
    refuse(exchange, call, "too_fast", 429, "too_many_requests", "too many requests; slow down");
    exchange.getMessage().setHeader("Retry-After", rate.waitS());
    return false;
  }

  static void refuse(Exchange exchange, HttpCall call, Callers.Found found, Rates rates) {
    switch (found.outcome()) {
      case Callers.LOCKED_OUT -> {
        refuse(exchange, call, found.outcome(), 429, "too_many_requests", "too many logins; try again later");
        exchange.getMessage().setHeader("Retry-After", found.retryAfterS());
      }
      case Callers.EXPOSED -> refuse(exchange, call, found.outcome(), 403, "forbidden",
          "a credential must not cross the network in the clear: use https, or a tunnel to this machine");
      case Callers.UNAVAILABLE -> {
        refuse(exchange, call, found.outcome(), 503, "unavailable", "it cannot be found out now who may do this; nothing was done");
        exchange.getMessage().setHeader("Retry-After", RETRY_S);
      }
      default -> {
        if (within(exchange, call, rates.stranger(call.address()))) {
          refuse(exchange, call, Callers.UNAUTHORIZED, 401, "unauthorized", "log in");
          challenge(exchange, call);
        }
      }
    }
  }

  private static void challenge(Exchange exchange, HttpCall call) {
    // A page asks for the password itself; a browser would before it gets to.
    boolean page = !call.headers("X-Caravan-App").isEmpty()
        || call.headers("Sec-Fetch-Mode").stream().anyMatch(mode -> !mode.equals("navigate"));
    exchange.getMessage().setHeader("WWW-Authenticate", page ? "Bearer realm=\"caravan\"" : "Basic realm=\"caravan\", charset=\"UTF-8\"");
    if (Callers.cookie(call) != null && call.headers("Authorization").isEmpty()) {
      exchange.getMessage().setHeader("Set-Cookie", Callers.setCookie(call, LoginApi.COOKIE, "", 0, "Strict"));
    }
  }

  static void refuse(Exchange exchange, HttpCall call, String reason, int status, String error, String detail) {
    exchange.setVariable("access", reason);
    call.refused(reason);
    Problem.answer(exchange, status, error, null, detail);
  }
}
