// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.postgres.test.PostgresServer;
import io.caravan.runtime.Grant;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Roles per site, tokens, sites; on both stores, and on two replicas. */
class AccessTest {
  private static final String TEST = "/api/v1/test/";

  @TempDir
  Path dir;

  @ParameterizedTest
  @EnumSource(Box.Kind.class)
  void theRoleCountsAtTheSiteOfTheGateway(Box.Kind kind) throws Exception {
    try (Box box = Box.open(kind, dir, "api.access.cache.ms", "10000").gateway("gw-north").gateway("gw-south").gateway("gw-old")) {
      Accounts accounts = box.accounts();
      accounts.addSite("north", "North");
      accounts.addSite("south", "South");
      assertEquals("default", accounts.assign("gw-north", "north"));
      accounts.assign("gw-south", "south");
      assertEquals(List.of("default 1", "north 1", "south 1"), accounts.sites().stream().map(s -> s.id() + " " + s.gateways()).toList());
      assertEquals(Map.of("gw-north", "north", "gw-south", "south", "gw-old", "default"), accounts.gateways());

      assertEquals(401, box.away("GET", TEST + "viewer", null).statusCode());
      String token = box.token("plant", "north", "operator", "south", "viewer");
      assertTrue(token.matches("cvt_[A-Za-z0-9_-]{43}"), token);
      assertEquals("{\"user\":\"token:plant\",\"role\":\"operator\",\"sites\":[\"north\",\"south\"],\"from\":\"192.0.2.7\"}",
          box.bearer(token, "GET", TEST + "viewer").body());
      assertEquals("[\"north\"]", Box.json(box.bearer(token, "GET", TEST + "operator")).get("sites").toString());
      assertEquals("viewer", Box.json(box.bearer(token, "GET", TEST + "viewer/gw-south")).get("role").asText());
      assertEquals(200, box.bearer(token, "POST", TEST + "operator/gw-north").statusCode());
      HttpResponse<String> less = box.bearer(token, "POST", TEST + "operator/gw-south");
      assertEquals(403, less.statusCode());
      assertEquals("application/problem+json", less.headers().firstValue("Content-Type").orElseThrow());
      assertEquals("forbidden", Box.json(less).get("error").asText());
      assertEquals(403, box.bearer(token, "GET", TEST + "admin").statusCode());
      assertEquals(403, box.bearer(token, "GET", TEST + "everywhere").statusCode());
      // A foreign gateway answers as one that does not exist.
      HttpResponse<String> foreign = box.bearer(token, "GET", TEST + "viewer/gw-old");
      HttpResponse<String> none = box.bearer(token, "GET", TEST + "viewer/gw-none");
      assertEquals(404, foreign.statusCode());
      assertEquals(none.body(), foreign.body());
      // A second one in the query is no way around.
      assertEquals(404, box.bearer(token, "GET", TEST + "viewer/gw-old?gateway_id=gw-north").statusCode());
      assertEquals(403, box.bearer(token, "POST", TEST + "operator/gw-north?gateway_id=gw-south").statusCode());

      String all = box.token("all", "*", "admin", "north", "viewer");
      assertEquals("[\"*\"]", Box.json(box.bearer(all, "GET", TEST + "everywhere")).get("sites").toString());
      assertEquals("admin", Box.json(box.bearer(all, "GET", TEST + "viewer/gw-none")).get("role").asText(), "who may see all is told by the route");

      // What is changed here is in force here at once, whatever is remembered.
      Grant grant = box.seen.grants.get("token:plant");
      accounts.assign("gw-old", "north");
      assertEquals("operator", Box.json(box.bearer(token, "GET", TEST + "viewer/gw-old")).get("role").asText());
      assertThrows(IllegalArgumentException.class, () -> accounts.removeSite("south"));
      accounts.assign("gw-south", "default");
      accounts.removeSite("south");
      assertEquals("[\"north\"]", Box.json(box.bearer(token, "GET", TEST + "viewer")).get("sites").toString());
      Grant now = box.seen.grants.get("token:plant");
      assertTrue(now.valid() && now.sees("gw-north") && !now.sees("gw-south"));
      accounts.revokeToken("plant");
      assertEquals(401, box.bearer(token, "GET", TEST + "viewer").statusCode());
      assertFalse(now.valid() || now.sees("gw-north") || grant.valid(), "what goes on ends too");
      accounts.removeToken("plant");
      assertEquals(List.of("all"), accounts.tokens().stream().map(Accounts.Token::name).toList());
    }
  }

  @ParameterizedTest
  @EnumSource(Box.Kind.class)
  void aTokenNeverHasMoreThanItsAccountAndEndsWithIt(Box.Kind kind) throws Exception {
    try (Box box = Box.open(kind, dir, "api.access.cache.ms", "10000").account("anna", "*", "operator")) {
      Accounts accounts = box.accounts();
      String token = accounts.addToken("script", "anna", Box.roles("*", "admin"), box.wall.ms + 60_000, "test").secret();
      assertEquals(200, box.bearer(token, "POST", TEST + "operator").statusCode());
      assertEquals(403, box.bearer(token, "POST", TEST + "admin").statusCode());
      accounts.roles("anna", Box.roles("*", "viewer"));
      assertEquals(403, box.bearer(token, "POST", TEST + "operator").statusCode());
      accounts.disable("anna", true);
      assertEquals(401, box.bearer(token, "GET", TEST + "viewer").statusCode());
      accounts.disable("anna", false);
      assertEquals(200, box.bearer(token, "GET", TEST + "viewer").statusCode());
      box.wall.ms += 60_000;
      assertEquals(401, box.bearer(token, "GET", TEST + "viewer").statusCode(), "expired");
      accounts.removeAccount("anna");
      assertEquals(List.of(), accounts.tokens());
      assertEquals(List.of(), accounts.accounts());

      // Only hashes are kept.
      String dump = String.valueOf(box.audited("token.add"));
      assertTrue(dump.contains("script") && !dump.contains(token), dump);
      for (Runnable broken : List.<Runnable>of(() -> accounts.addToken("x", "nobody", Box.roles("*", "viewer"), null, "test"),
          () -> accounts.addToken("x", null, Box.roles("nowhere", "viewer"), null, "test"), () -> accounts.addToken("x", null, Map.of(), null, "test"),
          () -> accounts.addToken("x", null, Box.roles("*", "root"), null, "test"), () -> accounts.addToken("1x", null, Box.roles("*", "viewer"), null, "test"),
          () -> accounts.addToken("x", null, Box.roles("*", "viewer"), 1L, "test"), () -> accounts.addAccount("x", "short".toCharArray(), Box.roles("*", "viewer"), "test"),
          () -> accounts.addSite("all", "All"), () -> accounts.addSite("../x", "x"), () -> accounts.assign("gw", "nowhere"), () -> accounts.removeSite("default"))) {
        assertThrows(IllegalArgumentException.class, broken::run);
      }
      assertEquals(List.of(), accounts.tokens());
    }
  }

  @Test
  void anotherReplicaKnowsWithinSeconds() throws Exception {
    PostgresServer.Database database = PostgresServer.shared().database();
    Box.Wall wall = new Box.Wall();
    try (Box one = new Box(wall, dir.resolve("1"), database, "api.access.cache.ms", "200");
        Box two = new Box(wall, dir.resolve("2"), database, "api.access.cache.ms", "200")) {
      String token = one.account("anna", "*", "viewer").token("t", "*", "viewer");
      assertEquals(200, two.bearer(token, "GET", TEST + "viewer").statusCode(), "one that is not known is asked for");
      String cookie = one.login("anna");
      assertEquals(200, two.away("GET", TEST + "viewer", null, "Cookie", cookie).statusCode(), "a login is good at all replicas");
      Grant grant = two.seen.grants.get("anna");
      assertTrue(grant.valid());
      one.accounts().revokeToken("t");
      one.accounts().disable("anna", true);
      await().until(() -> two.bearer(token, "GET", TEST + "viewer").statusCode() == 401);
      await().until(() -> two.away("GET", TEST + "viewer", null, "Cookie", cookie).statusCode() == 401 && !grant.valid());
    }
  }

  @Test
  void whoIsOnThisMachineMayAndWhatChangesIsAudited() throws Exception {
    try (Box box = Box.open(Box.Kind.SQLITE, dir, "http.trusted.proxies", "")) {
      assertEquals("local", Box.json(box.send("GET", TEST + "everywhere", null)).get("user").asText());
      assertEquals(403, box.send("POST", TEST + "viewer", "{}", "Origin", "https://evil.example").statusCode());
      assertEquals(200, box.send("POST", TEST + "operator/gw-1/commands", "{\"id\":\"c1\",\"name\":\"unlock\",\"arguments\":{\"pin\":\"4711\"}}", "Origin", box.origin()).statusCode());
      List<String> audited = box.audited("api.request");
      assertEquals(1, audited.size(), "what was refused, or only shows, is not in it: " + audited);
      assertEquals("local POST /api/v1/test/operator/gw-1/commands ok {from=127.0.0.1, how=local, id=c1, name=unlock, role=admin}", audited.get(0));
      box.send("POST", TEST + "operator/gw-1/commands", "[" + "[".repeat(5_000), "Origin", box.origin());
      assertEquals(2, box.audited("api.request").size(), "also what is not JSON");

      // Users of the container log in with Basic, as at its other routes.
      box.caravan.bean("users", io.caravan.runtime.UserAdmin.class).orElseThrow().put("otto", Box.PASSWORD.toCharArray(), "viewer");
      String basic = "Basic " + java.util.Base64.getEncoder().encodeToString(("otto:" + Box.PASSWORD).getBytes(java.nio.charset.StandardCharsets.UTF_8));
      assertEquals("otto", Box.json(box.send("GET", TEST + "viewer", null, "Authorization", basic)).get("user").asText());
      assertEquals(403, box.send("POST", TEST + "operator", "{}", "Authorization", basic).statusCode());
      Grant grant = box.seen.grants.get("otto");
      assertTrue(grant.valid() && grant.sees("gw-1"));
      box.caravan.bean("users", io.caravan.runtime.UserAdmin.class).orElseThrow().remove("otto");
      assertFalse(grant.valid());
      // Two credentials are none; a wrong one is not made good by being on this machine.
      assertEquals(401, box.send("GET", TEST + "viewer", null, "Authorization", basic, "Authorization", "Bearer x").statusCode());
      assertEquals(401, box.send("GET", TEST + "viewer", null, "Authorization", "Bearer cvt_" + "A".repeat(43)).statusCode());
      assertEquals(401, box.send("GET", TEST + "viewer", null, "Cookie", "caravan_session=" + "A".repeat(43)).statusCode());
    }
  }

  @Test
  void tooManyRequestsAndGuessesAreHeldUp() throws Exception {
    try (Box box = Box.open(Box.Kind.SQLITE, dir, "api.rate.per.s", "1", "api.rate.stranger.per.s", "2", "admin.login.failures", "3", "admin.login.lock.ms", "86400000")) {
      String token = box.token("t", "*", "viewer");
      String other = box.token("o", "*", "viewer");
      HttpResponse<String> first = box.bearer(token, "GET", TEST + "viewer");
      assertEquals("\"caller\";q=4;w=4", first.headers().firstValue("RateLimit-Policy").orElseThrow());
      assertEquals("\"caller\";r=3;t=1", first.headers().firstValue("RateLimit").orElseThrow());
      HttpResponse<String> last = first;
      for (int i = 0; i < 100 && last.statusCode() == 200; i++) {
        last = box.bearer(token, "GET", TEST + "viewer");
      }
      assertEquals(429, last.statusCode());
      assertEquals("too_many_requests", Box.json(last).get("error").asText());
      assertTrue(Integer.parseInt(last.headers().firstValue("Retry-After").orElseThrow()) >= 1);
      assertEquals(200, box.bearer(other, "GET", TEST + "viewer").statusCode(), "others are not held up");

      String guess = "cvt_" + "B".repeat(43);
      for (int i = 0; i < 3; i++) {
        assertEquals(401, box.bearer(guess, "GET", TEST + "viewer").statusCode());
      }
      assertEquals(429, box.bearer(guess, "GET", TEST + "viewer").statusCode(), "locked out");
      assertEquals(1, box.audited("user.lockout").size());
      assertEquals(429, box.away("POST", "/api/v1/session", "{\"user\":\"anna\",\"password\":\"" + Box.PASSWORD + "\"}").statusCode(), "logins are too");
      assertEquals(200, box.bearer(box.token("late", "*", "viewer"), "GET", TEST + "viewer").statusCode(), "who has a good one is not");
      HttpResponse<String> elsewhere = null;
      for (int i = 0; i < 100 && (elsewhere == null || elsewhere.statusCode() == 401); i++) {
        elsewhere = box.send("GET", TEST + "viewer", null, "X-Forwarded-For", "2001:db8::" + Integer.toHexString(i + 1));
      }
      assertEquals(429, elsewhere.statusCode(), "a /64 is one");
    }
  }
}
