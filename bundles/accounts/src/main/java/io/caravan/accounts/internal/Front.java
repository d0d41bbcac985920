// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts.internal;

import io.caravan.runtime.Config;
import io.caravan.runtime.HttpCall;
import io.caravan.runtime.HttpGuard;

/**
 * Bean {@code httpAccess} of the cloud: headers of each answer below {@code /api/} that tell browsers what pages may do with it, and the
 * answer to what browsers ask before a page of another origin may (CORS). No origin is let in with cookies. Thread-safe.
 */
public final class Front implements HttpGuard {
  private static final int PREFLIGHT_S = 600;

  private final Config config;

  public Front(Config config) {
    this.config = config;
  }

  @Override
  public String prefix() {
    return "/api/";
  }

  @Override
  public int arrived(HttpCall call) {
    call.answer("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
    call.answer("X-Frame-Options", "DENY");
    call.answer("Referrer-Policy", "no-referrer");
    if (call.tls()) {
      call.answer("Strict-Transport-Security", "max-age=31536000");
    }
    boolean listed = Origins.listed(call, config);
    call.answer("Cross-Origin-Resource-Policy", listed ? "cross-origin" : "same-origin");
    if (!config.get("api.cors.origins").isEmpty()) {
      call.answer("Vary", "Origin");
    }
    if (listed) {
      call.answer("Access-Control-Allow-Origin", Origins.of(call));
      call.answer("Access-Control-Expose-Headers", "ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After");
    }
    if (!call.method().equals("OPTIONS") || call.headers("Access-Control-Request-Method").isEmpty()) {
      return 0;
    }
    if (!listed) {
      call.refused("foreign_origin");
      return 403;
    }
    call.answer("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE");
    call.answer("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, traceparent");
    call.answer("Access-Control-Max-Age", String.valueOf(PREFLIGHT_S));
    return 204;
  }

  @Override
  public boolean admit(HttpCall call) {
    // Who it is takes too long to find out here; the size of a body is limited anyway.
    return true;
  }
}
