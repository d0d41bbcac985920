// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.desk.Cloud.Wall;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Commands over HTTP, as a phone or a program sends them. */
@Timeout(120)
class CommandApiTest {
  private static final String COMMANDS = "/api/v1/devices/gw-1/lock-1/commands";

  @TempDir
  Path dir;

  private static String unlock(String id) {
    return "{\"id\":\"" + id + "\",\"name\":\"unlock\",\"arguments\":{\"door\":1},\"ttl_ms\":60000}";
  }

  @Test
  void whatIsAcceptedIsOnDiskAndTheSameAgainIsTheSame() throws Exception {
    try (Cloud cloud = Cloud.start(dir).gateway("gw-1")) {
      HttpResponse<String> first = cloud.send("POST", COMMANDS, unlock("c1"));
      assertEquals(202, first.statusCode(), first.body());
      assertEquals(COMMANDS + "/c1", first.headers().firstValue("Location").orElseThrow());
      JsonNode command = Cloud.JSON.readTree(first.body());
      assertEquals("ACCEPTED", command.get("status").asText());
      assertEquals("local", command.get("issued_by").asText());
      assertEquals(60_000, command.get("expires_at_ms").asLong() - command.get("created_at_ms").asLong());

      // Other order of members, other time to live, the id in the header: the same command.
      assertEquals("c1", cloud.json(200, "POST", COMMANDS, "{\"arguments\":{\"door\":1},\"name\":\"unlock\"}", "Idempotency-Key", "c1").get("id").asText());
      JsonNode conflict = cloud.json(409, "POST", COMMANDS, unlock("c1").replace("1}", "2}"));
      assertEquals("conflict", conflict.get("error").asText());
      assertEquals("/id", conflict.get("field").asText());
      assertEquals("1", cloud.one("SELECT count(*) FROM command"));

      JsonNode made = cloud.json(202, "POST", COMMANDS, "{\"name\":\"unlock\"}");
      assertEquals(36, made.get("id").asText().length());
      JsonNode list = cloud.json(200, "GET", COMMANDS, null);
      assertEquals(List.of(made.get("id").asText(), "c1"), list.findValuesAsText("id"));
      assertEquals("c1", cloud.json(200, "GET", COMMANDS + "?limit=1&after=" + list.get(0).get("seq").asLong(), null).get(0).get("id").asText());
      assertEquals(0, cloud.json(200, "GET", COMMANDS + "?status=SUCCEEDED", null).size());
      assertEquals(2, cloud.json(200, "GET", COMMANDS + "?status=open", null).size());
      JsonNode shown = cloud.json(200, "GET", COMMANDS + "/c1", null);
      assertEquals("ACCEPTED", shown.get("events").get(0).get("status").asText());
      assertEquals("cloud", shown.get("events").get(0).get("source").asText());
      cloud.json(404, "GET", COMMANDS + "/c2", null);
      cloud.json(404, "GET", COMMANDS.replace("lock-1", "lock-2") + "/c1", null);
    }
    // The store is opened again, as after a crash.
    try (Cloud cloud = Cloud.start(dir)) {
      cloud.json(200, "POST", COMMANDS, unlock("c1"));
      cloud.json(409, "POST", COMMANDS, unlock("c1").replace("unlock", "lock"));
    }
  }

  @Test
  void whatBreaksARuleIsNotKept() throws Exception {
    try (Cloud cloud = Cloud.start(dir, "command.open.max", "2", "command.ttl.max.ms", "100000").gateway("gw-1")) {
      Map<String, String> bad = Map.ofEntries(Map.entry("{", "/"), Map.entry("[]", "/"), Map.entry("", "/"), Map.entry("{\"name\":\"a\",\"name\":\"b\"}", "/"),
          Map.entry("{\"name\":\"a\"} x", "/"), Map.entry("{}", "/name"), Map.entry("{\"name\":\"1\"}", "/name"), Map.entry("{\"name\":1}", "/name"),
          Map.entry("{\"name\":\"a\",\"argument\":{}}", "/argument"), Map.entry("{\"name\":\"a\",\"arguments\":[]}", "/arguments"),
          Map.entry("{\"name\":\"a\",\"id\":\"../x\"}", "/id"), Map.entry("{\"name\":\"a\",\"id\":\"" + "x".repeat(65) + "\"}", "/id"),
          Map.entry("{\"name\":\"a\",\"ttl_ms\":0}", "/ttl_ms"), Map.entry("{\"name\":\"a\",\"ttl_ms\":100001}", "/ttl_ms"),
          Map.entry("{\"name\":\"a\",\"ttl_ms\":\"1\"}", "/ttl_ms"), Map.entry("{\"name\":\"a\",\"expires_at\":\"2020-01-01T00:00:00Z\"}", "/expires_at"),
          Map.entry("{\"name\":\"a\",\"expires_at\":\"tomorrow\"}", "/expires_at"), Map.entry("{\"name\":\"a\",\"expires_at\":-9223372036854775808}", "/expires_at"),
          Map.entry("{\"name\":\"a\",\"arguments\":" + "{\"a\":".repeat(40) + "1" + "}".repeat(40) + "}", "/"),
          Map.entry("{\"name\":\"a\",\"arguments\":{\"a\":\"" + "x".repeat(20_000) + "\"}}", "/arguments"));
      for (Map.Entry<String, String> e : bad.entrySet()) {
        JsonNode refused = cloud.json(400, "POST", COMMANDS, e.getKey());
        assertEquals("bad_request", refused.get("error").asText(), e.getKey());
        assertEquals(e.getValue(), refused.get("field").asText(), e.getKey() + " " + refused);
        assertFalse(refused.get("detail").asText().isEmpty());
      }
      cloud.json(400, "POST", COMMANDS, unlock("c1"), "Content-Type", "text/plain");
      cloud.json(400, "POST", COMMANDS, unlock("c1"), "Idempotency-Key", "c2");
      cloud.json(400, "POST", COMMANDS + "?device_id=gateway", unlock("c1"));
      cloud.json(400, "POST", "/api/v1/devices/gw-1/-/commands", unlock("c1"));
      cloud.json(404, "POST", "/api/v1/devices/gw-2/lock-1/commands", unlock("c1"));
      for (String query : List.of("status=NEW", "limit=0", "limit=x", "after=-1", "status=SENT&status=SENT")) {
        cloud.json(400, "GET", COMMANDS + "?" + query, null);
      }
      cloud.json(400, "GET", "/api/v1/commands/stream?after=x", null);
      cloud.json(400, "GET", "/api/v1/commands/stream?gateway_id=.", null);
      assertEquals("0", cloud.one("SELECT count(*) FROM command"));
      cloud.json(202, "POST", COMMANDS, unlock("c1"));
      cloud.json(202, "POST", COMMANDS, unlock("c2"));
      HttpResponse<String> full = cloud.send("POST", COMMANDS, unlock("c3"));
      assertEquals(429, full.statusCode());
      assertTrue(full.headers().firstValue("Retry-After").isPresent());
      cloud.json(200, "POST", COMMANDS, unlock("c2"));
    }
  }

  @Test
  void onlyWhoMayCommands() throws Exception {
    String from = "X-Forwarded-For";
    String there = "192.0.2.7";
    try (Cloud cloud = Cloud.start(dir, "http.trusted.proxies", "127.0.0.1", "admin.login.failures", "1000").gateway("gw-1")) {
      var users = cloud.caravan.bean("users", io.caravan.runtime.UserAdmin.class).orElseThrow();
      for (String role : List.of("viewer", "operator", "admin")) {
        users.put("u-" + role, "correct horse battery".toCharArray(), role);
      }
      String gateway = "/api/v1/devices/gw-1/gateway/commands";
      assertEquals(401, cloud.send("POST", COMMANDS, unlock("c1"), from, there).statusCode());
      assertEquals(401, cloud.send("GET", COMMANDS, null, from, there).statusCode());
      assertEquals(401, cloud.send("GET", "/api/v1/commands/stream", null, from, there).statusCode());
      assertEquals(401, cloud.send("POST", COMMANDS, unlock("c1"), from, there, "Authorization", basic("u-operator", "wrong")).statusCode());
      String viewer = basic("u-viewer", "correct horse battery");
      String operator = basic("u-operator", "correct horse battery");
      String admin = basic("u-admin", "correct horse battery");
      assertEquals(200, cloud.send("GET", COMMANDS, null, from, there, "Authorization", viewer).statusCode());
      JsonNode refused = cloud.json(403, "POST", COMMANDS, unlock("c1"), from, there, "Authorization", viewer);
      assertTrue(refused.get("detail").asText().contains("operator"), refused.toString());
      assertEquals(403, cloud.send("POST", COMMANDS + "/c1/cancel", null, from, there, "Authorization", viewer).statusCode());
      assertEquals(403, cloud.send("PATCH", COMMANDS.replace("commands", "twin"), "{}", from, there, "Authorization", viewer).statusCode());
      assertEquals(403, cloud.send("POST", gateway, unlock("g1"), from, there, "Authorization", operator).statusCode());
      // A second id in the query makes it neither: not a way around the role, and not a command.
      assertEquals(400, cloud.send("POST", gateway + "?device_id=lock-1", unlock("g1"), from, there, "Authorization", operator).statusCode());
      assertEquals("0", cloud.one("SELECT count(*) FROM command"), "nothing of what was refused is kept");
      assertEquals("u-operator", cloud.json(202, "POST", COMMANDS, unlock("c1"), from, there, "Authorization", operator).get("issued_by").asText());
      assertEquals("u-admin", cloud.json(202, "POST", gateway, unlock("g1"), from, there, "Authorization", admin).get("issued_by").asText());
      users.remove("u-operator");
      assertEquals(401, cloud.send("POST", COMMANDS, unlock("c2"), from, there, "Authorization", operator).statusCode());
    }
  }

  private static String basic(String user, String password) {
    return "Basic " + java.util.Base64.getEncoder().encodeToString((user + ":" + password).getBytes(java.nio.charset.StandardCharsets.UTF_8));
  }

  @Test
  void aPageOfElsewhereMayNotUseThatSomebodyIsHere() throws Exception {
    try (Cloud cloud = Cloud.start(dir).gateway("gw-1")) {
      assertEquals(403, cloud.send("POST", COMMANDS, unlock("c1"), "Origin", "https://evil.example").statusCode());
      assertEquals(403, cloud.send("POST", COMMANDS + "/c1/cancel", null, "Origin", "null").statusCode());
      assertEquals("0", cloud.one("SELECT count(*) FROM command"));
      assertEquals(202, cloud.send("POST", COMMANDS, unlock("c1"), "Origin", "http://127.0.0.1:" + cloud.caravan.httpPort()).statusCode());
    }
  }

  @Test
  void whatIsNotHandedOverIsCancelledAtOnceElseTheGatewayIsAsked() throws Exception {
    try (Cloud cloud = Cloud.start(dir).gateway("gw-1")) {
      cloud.json(202, "POST", COMMANDS, unlock("c1"));
      JsonNode cancelled = cloud.json(200, "POST", COMMANDS + "/c1/cancel", null);
      assertEquals("CANCELLED", cancelled.get("status").asText());
      assertEquals("cancelled", cancelled.get("reason").asText());
      assertEquals("CANCELLED", cloud.json(200, "POST", COMMANDS + "/c1/cancel", null).get("status").asText());
      cloud.json(404, "POST", COMMANDS + "/c9/cancel", null);

      cloud.connect("gw-1", "s1");
      assertEquals(List.of(), cloud.net.sent, "what is cancelled does not leave");
      cloud.json(202, "POST", COMMANDS, unlock("c2"));
      await().until(() -> cloud.net.ids().equals(List.of("c2")));
      assertEquals("ACCEPTED", cloud.json(202, "POST", COMMANDS + "/c2/cancel", null).get("status").asText());
      await().until(() -> cloud.net.cancelled.equals(List.of("c2 by local")));
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c2", 1, "ACCEPTED", ""));
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c2", 2, "CANCELLED", ",\"reason\":\"cancelled\""));
      await().until(() -> cloud.one("SELECT status FROM command WHERE command_id = 'c2'").equals("CANCELLED"));

      cloud.json(202, "POST", COMMANDS, unlock("c3"));
      for (String status : List.of("ACCEPTED", "QUEUED", "SENT")) {
        cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c3", List.of("ACCEPTED", "QUEUED", "SENT").indexOf(status) + 1, status, ""));
      }
      await().until(() -> cloud.one("SELECT status FROM command WHERE command_id = 'c3'").equals("SENT"));
      assertEquals("too_late", cloud.json(409, "POST", COMMANDS + "/c3/cancel", null).get("error").asText());
    }
  }

  @Test
  void desiredStateIsACommandToTheGatewayAndComesBack() throws Exception {
    String twin = "/api/v1/devices/gw-1/lock-1/twin";
    try (Cloud cloud = Cloud.start(dir)) {
      cloud.connect("gw-1", "s1");
      cloud.json(404, "GET", twin, null);
      JsonNode command = cloud.json(202, "PATCH", twin, "{\"led\":\"on\",\"old\":null}", "Content-Type", "application/merge-patch+json", "If-Match", "\"3\"");
      assertEquals("gateway", command.get("device_id").asText());
      await().until(() -> cloud.net.sent.size() == 1);
      assertEquals("{\"device_id\":\"lock-1\",\"expected_version\":3,\"patch\":{\"led\":\"on\",\"old\":null}}", cloud.net.sent.get(0).get("arguments").toString());
      assertEquals("twin.desire", cloud.net.sent.get(0).get("name").asText());
      cloud.json(400, "PATCH", twin, "[]");
      cloud.json(400, "PATCH", twin, "{}", "If-Match", "3");
      cloud.json(400, "PATCH", "/api/v1/devices/gw-1/gateway/twin", "{}");

      cloud.inbox("gw-1", "twin", "lock-1", twin(1, "on", 0));
      await().until(() -> cloud.send("GET", twin, null).statusCode() == 200);
      HttpResponse<String> shown = cloud.send("GET", twin, null);
      assertEquals("\"1\"", shown.headers().firstValue("ETag").orElseThrow());
      assertEquals("{\"gateway_id\":\"gw-1\",\"device_id\":\"lock-1\",\"desired\":{\"led\":\"on\"},\"desired_version\":1,\"reported\":{},\"reported_version\":0,"
          + "\"delta\":{\"led\":\"on\"},\"updated_at_ms\":1}", shown.body());
      // An older one that came late does not win; one of a new store of the gateway does, once it said hello with it.
      cloud.inbox("gw-1", "twin", "lock-1", twin(3, "three", 2));
      cloud.inbox("gw-1", "twin", "lock-1", twin(2, "two", 2));
      cloud.inboxOf("gw-1", "log-0", "twin", "lock-1", twin(9, "stray", 9));
      await().until(() -> cloud.one("SELECT min(acked_seq) >= (SELECT seq FROM sqlite_sequence WHERE name = 'inbox') FROM sink_range").equals("1"));
      assertEquals("3", cloud.one("SELECT desired_version FROM twin"));
      cloud.execute("UPDATE gateway SET log_id = 'log-2'");
      cloud.inboxOf("gw-1", "log-2", "twin", "lock-1", twin(1, "new", 0));
      await().until(() -> cloud.one("SELECT desired_version FROM twin").equals("1"));
    }
  }

  private static String twin(int desired, String led, int reported) {
    return "{\"desired\":{\"led\":\"" + led + "\"},\"desired_version\":" + desired + ",\"reported\":{},\"reported_version\":" + reported
        + ",\"delta\":{\"led\":\"" + led + "\"}}";
  }

  @Test
  void manyPostsShareATransaction() throws Exception {
    try (Cloud cloud = Cloud.start(dir, "http.address.connections.max", "1024", "command.open.max", "100000")) {
      cloud.connect("gw-1", "s1");
      List<CompletableFuture<HttpResponse<String>>> all = new ArrayList<>();
      int count = 600;
      // Somebody else has the writer: all of them wait, and no worker of the server with them.
      try (var held = cloud.caravan.bean("writer", javax.sql.DataSource.class).orElseThrow().getConnection()) {
        for (int i = 0; i < count; i++) {
          all.add(Cloud.HTTP.sendAsync(cloud.request("POST", COMMANDS, unlock("c" + i % (count / 2))), HttpResponse.BodyHandlers.ofString()));
        }
        assertEquals(404, cloud.send("GET", COMMANDS + "/nobody", null).statusCode(), "the server answers others meanwhile");
        assertTrue(all.stream().noneMatch(CompletableFuture::isDone), "202 before COMMIT");
      }
      Set<Integer> statuses = new TreeSet<>();
      int accepted = 0;
      for (CompletableFuture<HttpResponse<String>> one : all) {
        statuses.add(one.get().statusCode());
        accepted += one.get().statusCode() == 202 ? 1 : 0;
      }
      assertEquals(Set.of(200, 202), statuses);
      assertEquals(count / 2, accepted, "each id once");
      assertEquals(String.valueOf(count / 2), cloud.one("SELECT count(*) FROM command"));
      await().until(() -> cloud.net.sent.size() == count / 2);
      assertEquals(cloud.rows("SELECT command_id FROM command ORDER BY seq"), cloud.net.ids(), "handed over once, in the order of acceptance");
      assertTrue(Integer.parseInt(cloud.one("SELECT count(DISTINCT at_ms) FROM command_event")) < count / 4, "one transaction for many");
    }
  }

  @Test
  void nothingIsAcceptedWhileTheStoreIsAway() throws Exception {
    try (Cloud cloud = Cloud.start(dir, new Wall(), Map.of()).gateway("gw-1")) {
      cloud.json(202, "POST", COMMANDS, unlock("c0"));
      cloud.execute("ALTER TABLE command_event RENAME TO elsewhere");
      HttpResponse<String> refused = cloud.send("POST", COMMANDS, unlock("c1"));
      assertEquals(503, refused.statusCode());
      assertTrue(refused.headers().firstValue("Retry-After").isPresent());
      assertEquals("1", cloud.one("SELECT count(*) FROM command"), "half of it is not kept");
      cloud.execute("ALTER TABLE elsewhere RENAME TO command_event");
      cloud.json(202, "POST", COMMANDS, unlock("c1"));
    }
  }
}
