// SPDX-License-Identifier: Apache-2.0
package io.caravan.api;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.api.ApiBox.Kind;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.sql.Connection;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import javax.sql.DataSource;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Sites, gateways, devices, events, messages, capabilities: the same answers over both stores. */
@Timeout(120)
class ApiReadTest {
  @TempDir
  static Path dir;
  static final Map<Kind, ApiBox> BOXES = new EnumMap<>(Kind.class);

  @BeforeAll
  static void fill() throws Exception {
    for (Kind kind : Kind.values()) {
      ApiBox box = ApiBox.start(kind, dir.resolve(kind.name()), "api.rows.max", "7", "api.rows.default", "5");
      BOXES.put(kind, box);
      box.gateway("gw-1", "default", true);
      box.gateway("gw-2", "north", false);
      box.gateway("gw-3", "north", true);
      for (int i = 0; i < 6; i++) {
        box.device("gw-1", "dev_" + i);
        box.device("gw-2", "Lock-" + i);
      }
      box.last("gw-1", "dev_0", "temperature_c", 21.5, 5000);
      box.last("gw-1", "dev_0", "humidity_pct", -0.25, 6000);
      for (int i = 0; i < 12; i++) {
        String severity = i % 3 == 0 ? "" : ",\"severity\":\"" + (i % 3 == 1 ? "alarm" : "warning") + "\"";
        box.message(i % 2 == 0 ? "gw-1" : "gw-2", i % 2 == 0 ? "dev_0" : "Lock-1", "k" + i, "event", 10_000 + i,
            "{\"event\":\"door_" + (i % 4) + "\",\"data\":{\"n\":" + i + ",\"text\":\"\u00fc \\\"q\\\"\"}" + severity + "}");
      }
      box.message("gw-1", "dev_0", "c1", "command-status", 20_000, "{\"x\":[1,2.5,null,true]}");
      box.execute("INSERT INTO capability (gateway_id, device_id, body, observed_at_ms, received_at_ms)"
          + " VALUES ('gw-1', 'dev_0', {{sql.json}}(?), 1, 2)", "{\"version\":1,\"commands\":{\"unlock\":{\"arguments\":{\"type\":\"object\"}}}}");
    }
  }

  @AfterAll
  static void stop() {
    BOXES.values().forEach(ApiBox::close);
  }

  private static List<String> ids(Iterable<JsonNode> list, String name) {
    return java.util.stream.StreamSupport.stream(list.spliterator(), false).map(e -> e.get(name).asText()).toList();
  }

  @ParameterizedTest
  @EnumSource
  void sitesAndGateways(Kind kind) throws Exception {
    ApiBox box = BOXES.get(kind);
    assertEquals(ApiBox.JSON.readTree("[{\"site_id\":\"default\",\"name\":\"Default\",\"gateways\":1,\"gateways_connected\":1,\"devices\":6},"
        + "{\"site_id\":\"north\",\"name\":\"Site north\",\"gateways\":2,\"gateways_connected\":1,\"devices\":6}]").toString().toLowerCase(),
        box.json("/api/v1/sites").toString().toLowerCase());
    assertEquals(List.of("default", "north"), ids(box.pages("/api/v1/sites?limit=1", 1), "site_id"));
    assertEquals(List.of("gw-1", "gw-2", "gw-3"), ids(box.pages("/api/v1/gateways?limit=2", 2), "gateway_id"));
    assertEquals(List.of("gw-2", "gw-3"), ids(box.pages("/api/v1/gateways?site=north&limit=1", 1), "gateway_id"));
    assertEquals(ApiBox.JSON.readTree("{\"gateway_id\":\"gw-3\",\"site_id\":\"north\",\"log_id\":\"log-1\",\"version\":\"1.0\",\"connected\":true,"
        + "\"devices\":0,\"first_seen_ms\":1000,\"last_seen_ms\":2000}"), box.json("/api/v1/gateways/gw-3"));
    assertFalse(box.json("/api/v1/gateways/gw-2").get("connected").asBoolean());
    assertEquals("not_found", box.problem(404, "/api/v1/gateways/gw-9").get("error").asText());
  }

  @ParameterizedTest
  @EnumSource
  void devicesPageByPage(Kind kind) throws Exception {
    ApiBox box = BOXES.get(kind);
    List<JsonNode> all = box.pages("/api/v1/devices?limit=4&include=last", 4);
    assertEquals(12, all.size());
    assertEquals(List.of("temperature_c", "humidity_pct").stream().sorted().toList(), ids(all.get(0).get("last"), "metric"));
    assertEquals(-0.25, all.get(0).get("last").get(0).get("value").asDouble());
    assertTrue(all.get(1).get("last").isArray() && all.get(1).get("last").isEmpty());
    assertEquals(5, box.json("/api/v1/devices").size(), "api.rows.default");
    assertEquals(7, box.json("/api/v1/devices?limit=1000").size(), "api.rows.max");
    assertTrue(box.json("/api/v1/devices").get(0).get("last").isNull());
    assertEquals(List.of("Lock-3"), ids(box.json("/api/v1/devices?q=K-3"), "device_id"));
    assertEquals(6, box.pages("/api/v1/devices?q=v_&limit=4", 4).size(), "an underscore is itself");
    assertEquals(6, box.pages("/api/v1/devices?gateway_id=gw-2&limit=6", 6).size());
    assertEquals(6, box.pages("/api/v1/devices?site=north&limit=6", 6).size());
    JsonNode one = box.json("/api/v1/devices/gw-1/dev_0");
    assertEquals(all.get(0), one);
    assertEquals(one.get("last"), box.json("/api/v1/devices/gw-1/dev_0/last"));
    assertEquals("unlock", box.json("/api/v1/devices/gw-1/dev_0/capabilities").get("commands").fieldNames().next());
    for (String what : List.of("", "/last", "/capabilities", "/events", "/messages", "/windows", "/series?metric=t")) {
      assertEquals("there is no such device here", box.problem(404, "/api/v1/devices/gw-1/nobody" + what).get("detail").asText(), what);
    }
  }

  @ParameterizedTest
  @EnumSource
  void eventsNewestFirst(Kind kind) throws Exception {
    ApiBox box = BOXES.get(kind);
    List<JsonNode> all = box.pages("/api/v1/events?limit=5", 5);
    assertEquals(12, all.size());
    assertTrue(IntStream.range(1, 12).allMatch(i -> all.get(i).get("id").asLong() < all.get(i - 1).get("id").asLong()));
    JsonNode newest = all.get(0);
    assertEquals("{\"n\":11,\"text\":\"\u00fc \\\"q\\\"\"}", newest.get("data").toString());
    assertEquals("door_3", newest.get("event").asText());
    assertEquals("warning", newest.get("severity").asText());
    assertEquals("info", all.get(2).get("severity").asText(), "none is info");
    assertEquals(8, box.pages("/api/v1/events?severity=alarm,warning&limit=3", 3).size());
    assertEquals(3, box.pages("/api/v1/events?event=door_1&limit=3", 3).size());
    assertEquals(6, box.pages("/api/v1/events?site=north&limit=4", 4).size());
    assertEquals(6, box.pages("/api/v1/devices/gw-2/Lock-1/events?limit=4", 4).size());
    assertEquals(2, box.pages("/api/v1/devices/gw-2/Lock-1/events?severity=alarm", 5).size());
    assertEquals(0, box.json("/api/v1/devices/gw-2/Lock-2/events").size());
    List<JsonNode> messages = box.pages("/api/v1/devices/gw-1/dev_0/messages?limit=4", 4);
    assertEquals(7, messages.size());
    assertEquals("{\"x\":[1,2.5,null,true]}", messages.get(6).get("body").toString());
  }

  @ParameterizedTest
  @EnumSource
  void onlyWhatMayBeSeen(Kind kind) throws Exception {
    ApiBox box = BOXES.get(kind);
    box.gate.sites = "[\"north\",\"other\"]";
    try {
      assertEquals(List.of("north"), ids(box.json("/api/v1/sites"), "site_id"));
      assertEquals(List.of("gw-2", "gw-3"), ids(box.json("/api/v1/gateways"), "gateway_id"));
      assertEquals(0, box.json("/api/v1/gateways?site=default").size());
      assertEquals(List.of("gw-2"), ids(box.pages("/api/v1/devices?limit=7", 7), "gateway_id").stream().distinct().toList());
      assertEquals(6, box.pages("/api/v1/events?limit=7", 7).size());
      box.gate.sites = "[]";
      assertEquals(0, box.json("/api/v1/devices").size());
      assertEquals(0, box.json("/api/v1/events").size());
    } finally {
      box.gate.sites = "[\"*\"]";
    }
  }

  @ParameterizedTest
  @EnumSource
  void anAnswerThatIsThereIsNotSentAgain(Kind kind) throws Exception {
    ApiBox box = BOXES.get(kind);
    for (String path : List.of("/api/v1/devices?limit=3", "/api/v1/devices/gw-1/dev_0/last", "/api/v1/openapi.json", "/api/v1/events")) {
      HttpResponse<String> first = box.get(path);
      String tag = first.headers().firstValue("ETag").orElseThrow();
      assertTrue(tag.matches("\"[A-Za-z0-9_-]{20}\""), tag);
      assertEquals("private, no-cache", first.headers().firstValue("Cache-Control").orElse(""));
      HttpResponse<String> again = box.get(path, "If-None-Match", "\"x\", W/" + tag);
      assertEquals(304, again.statusCode(), path);
      assertEquals("", again.body());
      assertEquals(first.headers().firstValue("Link"), again.headers().firstValue("Link"));
      assertEquals(200, box.get(path, "If-None-Match", "\"other\"").statusCode());
    }
    String before = box.get("/api/v1/devices/gw-1/dev_1/last").headers().firstValue("ETag").orElseThrow();
    box.last("gw-1", "dev_1", "t", 1, 1);
    HttpResponse<String> changed = box.get("/api/v1/devices/gw-1/dev_1/last", "If-None-Match", before);
    assertEquals(200, changed.statusCode());
    assertNotEquals(before, changed.headers().firstValue("ETag").orElseThrow());
    box.execute("DELETE FROM last_value WHERE device_id = 'dev_1'");
  }

  @ParameterizedTest
  @EnumSource
  void whatBreaksARuleIsNamed(Kind kind) throws Exception {
    ApiBox box = BOXES.get(kind);
    Map<String, String> wrong = Map.ofEntries(Map.entry("devices?limit=0", "/limit"), Map.entry("devices?limit=1&limit=2", "/limit"), Map.entry("devices?limit=x", "/limit"),
        Map.entry("devices?after=gw-1", "/after"), Map.entry("devices?after=a,b,c", "/after"), Map.entry("devices?include=all", "/include"),
        Map.entry("devices?site=a%27b", "/site"), Map.entry("devices?q=%25", "/q"), Map.entry("devices/gw%20/x", "/gateway_id"),
        Map.entry("devices/gw-1/-x/last", "/device_id"), Map.entry("events?severity=info,fatal", "/severity"), Map.entry("events?before=-1", "/before"),
        Map.entry("devices/gw-1/dev_0/windows?before=a,t,1,1", "/before"), Map.entry("devices/gw-1/dev_0/windows?from_ms=1e3", "/from_ms"),
        Map.entry("devices/gw-1/dev_0/series", "/metric"), Map.entry("devices/gw-1/dev_0/series?metric=t&points=5001", "/points"),
        Map.entry("devices/gw-1/dev_0/series?metric=t&to_ms=9999999999999999", "/to_ms"), Map.entry("devices/gw-1/dev_0/messages?after=-1", "/after"),
        Map.entry("devices/gw-1/dev_0/messages?device_id=d2", "/device_id"), Map.entry("devices?after=1%3Bdrop", "/after"));
    for (Map.Entry<String, String> each : wrong.entrySet()) {
      JsonNode problem = box.problem(400, "/api/v1/" + each.getKey());
      assertEquals("bad_request", problem.get("error").asText());
      assertEquals(each.getValue(), problem.get("field").asText(), each.getKey());
    }
    assertEquals("limit [0] must be a whole number from 1; api.rows.max counts where it is less; without: api.rows.default",
        box.problem(400, "/api/v1/devices?limit=0").get("detail").asText());
  }

  @ParameterizedTest
  @EnumSource
  void aPageHasNotMoreBytesThanItMay(Kind kind) throws Exception {
    try (ApiBox box = ApiBox.start(kind, dir.resolve("bytes-" + kind), "api.rows.bytes", "65536")) {
      box.gateway("gw-1", "default", true);
      box.device("gw-1", "d");
      for (int i = 0; i < 5; i++) {
        box.message("gw-1", "d", "k" + i, "event", i, "{\"event\":\"e" + i + "\",\"data\":\"" + "x".repeat(i == 2 ? 100_000 : 30_000) + "\"}");
      }
      assertEquals(List.of("[e4, e3]", "[e2]", "[e1, e0]"), events(box, "/api/v1/events?limit=5"));
      assertEquals(List.of("[e4]", "[e3]", "[e2]", "[e1]", "[e0]"), events(box, "/api/v1/events?limit=1"));
      assertEquals(List.of("[e4, e3]", "[e2]", "[e1, e0]"), events(box, "/api/v1/devices/gw-1/d/events"));
      assertEquals(List.of("[e0, e1]", "[e2]", "[e3, e4]"), events(box, "/api/v1/devices/gw-1/d/messages"));
    }
  }

  private static List<String> events(ApiBox box, String path) throws Exception {
    return box.pages(path).stream().map(page -> page.findValuesAsText("event").toString()).toList();
  }

  @ParameterizedTest
  @EnumSource
  void requestsAndTheStoreDoNotWaitForEachOthersConnections(Kind kind) throws Exception {
    try (ApiBox box = ApiBox.start(kind, dir.resolve("pools-" + kind), "store.pool.readers", "2", "store.pool.api", "2")) {
      DataSource stores = box.caravan.bean("reader", DataSource.class).orElseThrow();
      try (Connection one = stores.getConnection(); Connection two = stores.getConnection()) {
        for (String path : List.of("/api/v1/gateways", "/api/v1/devices", "/api/v1/events")) {
          assertEquals(200, box.get(path).statusCode(), path);
        }
      }
    }
  }

  @Test
  void aRequestThatTakesTooLongIsEnded() throws Exception {
    try (ApiBox box = ApiBox.start(Kind.POSTGRESQL, dir.resolve("long"), "store.api.timeout.ms", "300"); Connection hold = box.writer().getConnection()) {
      hold.setAutoCommit(false);
      box.execute(hold, "LOCK TABLE message IN ACCESS EXCLUSIVE MODE");
      HttpResponse<String> answer = box.get("/api/v1/events?event=nothing");
      assertEquals(503, answer.statusCode(), answer.body());
      assertEquals("application/problem+json", answer.headers().firstValue("Content-Type").orElseThrow());
      assertEquals("the store took too long for this; ask for less", ApiBox.JSON.readTree(answer.body()).get("detail").asText());
      assertEquals("5", answer.headers().firstValue("Retry-After").orElseThrow());
      hold.rollback();
      hold.setAutoCommit(true);
      assertEquals(0, box.json("/api/v1/events?event=nothing").size());
    }
  }
}
