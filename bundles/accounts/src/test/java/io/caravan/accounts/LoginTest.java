// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Logins with a cookie, and what a browser's page may do. */
class LoginTest {
  private static final String TEST = "/api/v1/test/";

  @TempDir
  Path dir;

  @ParameterizedTest
  @EnumSource(Box.Kind.class)
  void aLoginIsACookieThatEnds(Box.Kind kind) throws Exception {
    try (Box box = Box.open(kind, dir, "api.session.idle.ms", "600000", "api.session.max.ms", "1200000", "api.access.cache.ms", "0").account("anna", "*", "operator")) {
      HttpResponse<String> in = box.away("POST", "/api/v1/session", "{\"user\":\"anna\",\"password\":\"" + Box.PASSWORD + "\"}", "X-Caravan-App", "1");
      assertEquals(200, in.statusCode(), in.body());
      String set = in.headers().firstValue("Set-Cookie").orElseThrow();
      assertTrue(set.matches("__Host-caravan_session=[A-Za-z0-9_-]{43}; Path=/; HttpOnly; SameSite=Strict; Max-Age=1200; Secure"), set);
      JsonNode me = Box.json(in);
      assertEquals("{\"user\":\"anna\",\"how\":\"cookie\",\"roles\":{\"*\":\"operator\"},\"sites\":[\"*\"],\"expires_at_ms\":" + (box.wall.ms + 1_200_000)
          + ",\"oidc\":null}", me.toString());
      String cookie = Box.cookie(in, "caravan_session");
      assertEquals(me, Box.json(box.away("GET", "/api/v1/me", null, "Cookie", cookie)));
      assertEquals(List.of("anna anna ok {from=192.0.2.7, how=account}"), box.audited("account.login"));
      // Without TLS the name of a cookie is another one, and that of TLS is not taken.
      assertEquals(401, box.send("GET", "/api/v1/me", null, "Cookie", cookie).statusCode());

      // Changes need the page's own origin.
      assertEquals(200, box.away("GET", TEST + "viewer", null, "Cookie", cookie).statusCode());
      assertEquals(403, box.away("POST", TEST + "operator", "{}", "Cookie", cookie).statusCode());
      assertEquals(403, box.away("POST", TEST + "operator", "{}", "Cookie", cookie, "Origin", "https://evil.example").statusCode());
      assertEquals(403, box.away("POST", TEST + "operator", "{}", "Cookie", cookie, "Origin", "null").statusCode());
      assertEquals(403, box.away("POST", TEST + "operator", "{}", "Cookie", cookie, "Sec-Fetch-Site", "cross-site").statusCode());
      assertEquals(200, box.away("POST", TEST + "operator", "{}", "Cookie", cookie, "Origin", box.origin()).statusCode());
      assertEquals(403, box.away("DELETE", "/api/v1/session", null, "Cookie", cookie, "Origin", "https://evil.example").statusCode());

      // Idle, and at the end of its time.
      box.wall.ms += 599_000;
      assertEquals(200, box.away("GET", TEST + "viewer", null, "Cookie", cookie).statusCode());
      box.wall.ms += 599_000;
      assertEquals(200, box.away("GET", TEST + "viewer", null, "Cookie", cookie).statusCode(), "use prolongs it");
      box.wall.ms += 3_000;
      HttpResponse<String> over = box.away("GET", TEST + "viewer", null, "Cookie", cookie);
      assertEquals(401, over.statusCode(), "not for ever");
      assertTrue(over.headers().firstValue("Set-Cookie").orElseThrow().startsWith("__Host-caravan_session=; "), "the browser forgets it");
      String idle = box.login("anna");
      box.wall.ms += 600_000;
      assertEquals(401, box.away("GET", TEST + "viewer", null, "Cookie", idle).statusCode());

      // Out, from another page of the same browser, too.
      String out = box.login("anna");
      HttpResponse<String> gone = box.away("DELETE", "/api/v1/session", null, "Cookie", out, "Origin", box.origin());
      assertEquals(204, gone.statusCode());
      assertTrue(gone.headers().firstValue("Set-Cookie").orElseThrow().contains("Max-Age=0"));
      assertEquals(401, box.away("GET", TEST + "viewer", null, "Cookie", out).statusCode());
      assertEquals(204, box.away("DELETE", "/api/v1/session", null).statusCode(), "out already");

      // Another password ends all logins, a login in place of one ends that.
      String old = box.login("anna");
      HttpResponse<String> again = box.away("POST", "/api/v1/session", "{\"user\":\"anna\",\"password\":\"" + Box.PASSWORD + "\"}", "Cookie", old);
      String now = Box.cookie(again, "caravan_session");
      assertNotEquals(old, now);
      assertEquals(401, box.away("GET", TEST + "viewer", null, "Cookie", old).statusCode());
      String change = "{\"password\":\"%s\",\"new_password\":\"%s\"}";
      assertEquals(403, box.away("POST", "/api/v1/me/password", change.formatted("wrong", "another long one"), "Cookie", now, "Origin", box.origin()).statusCode());
      assertEquals(400, box.away("POST", "/api/v1/me/password", change.formatted(Box.PASSWORD, "short"), "Cookie", now, "Origin", box.origin()).statusCode());
      assertEquals(403, box.away("POST", "/api/v1/me/password", change.formatted(Box.PASSWORD, "another long one"), "Cookie", now).statusCode());
      assertEquals(204, box.away("POST", "/api/v1/me/password", change.formatted(Box.PASSWORD, "another long one"), "Cookie", now, "Origin", box.origin()).statusCode());
      assertEquals(401, box.away("GET", TEST + "viewer", null, "Cookie", now).statusCode());
      assertEquals(401, box.away("POST", "/api/v1/session", "{\"user\":\"anna\",\"password\":\"" + Box.PASSWORD + "\"}").statusCode());
      HttpResponse<String> third = box.away("POST", "/api/v1/session", "{\"user\":\"anna\",\"password\":\"another long one\"}");
      assertEquals(200, third.statusCode());
      assertEquals(1, box.accounts().logout("anna"));
      assertEquals(401, box.away("GET", "/api/v1/me", null, "Cookie", Box.cookie(third, "caravan_session")).statusCode());
    }
  }

  @Test
  void aWrongLoginIsToldNothing() throws Exception {
    try (Box box = Box.open(Box.Kind.SQLITE, dir).account("anna", "*", "viewer").account("gone", "*", "viewer")) {
      box.accounts().disable("gone", true);
      HttpResponse<String> wrong = box.away("POST", "/api/v1/session", "{\"user\":\"anna\",\"password\":\"not the password\"}");
      assertEquals(401, wrong.statusCode());
      assertEquals("unauthorized", Box.json(wrong).get("error").asText());
      assertFalse(wrong.headers().firstValue("Set-Cookie").isPresent());
      assertEquals(wrong.body(), box.away("POST", "/api/v1/session", "{\"user\":\"nobody\",\"password\":\"not the password\"}").body());
      assertEquals(wrong.body(), box.away("POST", "/api/v1/session", "{\"user\":\"gone\",\"password\":\"" + Box.PASSWORD + "\"}").body());
      assertEquals(wrong.body(), box.away("POST", "/api/v1/session", "{\"user\":\"' OR 1=1 --\",\"password\":\"x\"}").body());
      assertEquals(wrong.body(), box.away("POST", "/api/v1/session", "{\"token\":\"a.b.c\"}").body(), "no provider is configured");
      assertEquals(1, box.audited("account.login").size(), "one entry a minute");
      for (String body : List.of("", "[]", "{", "{\"user\":\"anna\"}", "{\"user\":1,\"password\":2}", "{\"user\":\"anna\",\"password\":\"" + "x".repeat(20_000) + "\"}")) {
        assertEquals(400, box.away("POST", "/api/v1/session", body).statusCode(), body);
      }
      // A form of another page cannot: neither its type nor its origin fits.
      assertEquals(403, box.away("POST", "/api/v1/session", "{\"user\":\"anna\",\"password\":\"" + Box.PASSWORD + "\"}", "Origin", "https://evil.example").statusCode());
      // A page's own request does not open the browser's password box; what a person types does.
      HttpResponse<String> app = box.away("GET", "/api/v1/me", null, "X-Caravan-App", "1");
      assertEquals("Bearer realm=\"caravan\"", app.headers().firstValue("WWW-Authenticate").orElseThrow());
      assertTrue(Box.json(app).get("oidc").isNull());
      assertTrue(box.away("GET", TEST + "viewer", null).headers().firstValue("WWW-Authenticate").orElseThrow().startsWith("Basic"));
      assertEquals(404, box.away("GET", "/api/v1/session/oidc", null).statusCode());
    }
  }

  @Test
  void pagesOfOtherOriginsOnlyWithATokenAndOnlyListed() throws Exception {
    try (Box box = Box.open(Box.Kind.SQLITE, dir, "api.cors.origins", "https://app.example").account("anna", "*", "operator")) {
      String token = box.token("t", "*", "operator");
      HttpResponse<String> asked = box.away("OPTIONS", TEST + "operator", null, "Origin", "https://app.example", "Access-Control-Request-Method", "POST",
          "Access-Control-Request-Headers", "authorization");
      assertEquals(204, asked.statusCode());
      assertEquals("https://app.example", asked.headers().firstValue("Access-Control-Allow-Origin").orElseThrow());
      assertTrue(asked.headers().firstValue("Access-Control-Allow-Headers").orElseThrow().contains("Authorization"));
      assertFalse(asked.headers().firstValue("Access-Control-Allow-Credentials").isPresent());
      HttpResponse<String> listed = box.away("POST", TEST + "operator", "{}", "Origin", "https://app.example", "Authorization", "Bearer " + token);
      assertEquals(200, listed.statusCode());
      assertEquals("https://app.example", listed.headers().firstValue("Access-Control-Allow-Origin").orElseThrow());
      assertEquals("Origin", listed.headers().firstValue("Vary").orElseThrow());
      HttpResponse<String> evil = box.away("OPTIONS", TEST + "operator", null, "Origin", "https://evil.example", "Access-Control-Request-Method", "POST");
      assertEquals(403, evil.statusCode());
      assertFalse(evil.headers().firstValue("Access-Control-Allow-Origin").isPresent());
      assertEquals(403, box.away("POST", TEST + "operator", "{}", "Origin", "https://evil.example", "Authorization", "Bearer " + token).statusCode());
      assertEquals(403, box.away("POST", TEST + "operator", "{}", "Origin", "https://app.example", "Cookie", box.login("anna")).statusCode(), "never with a cookie");
      HttpResponse<String> plain = box.bearer(token, "GET", TEST + "viewer");
      assertFalse(plain.headers().firstValue("Access-Control-Allow-Origin").isPresent());
      assertEquals("default-src 'none'; frame-ancestors 'none'", plain.headers().firstValue("Content-Security-Policy").orElseThrow());
      assertEquals("DENY", plain.headers().firstValue("X-Frame-Options").orElseThrow());
      assertEquals("nosniff", plain.headers().firstValue("X-Content-Type-Options").orElseThrow());
      assertEquals("same-origin", plain.headers().firstValue("Cross-Origin-Resource-Policy").orElseThrow());
    }
  }
}
