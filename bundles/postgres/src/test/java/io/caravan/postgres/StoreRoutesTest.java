// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** routes/cloud/store.camel.yaml on both stores: the same rows in, the same tables. */
class StoreRoutesTest {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final long HOUR = 3_600_000;
  private long seq;

  @TempDir
  Path home;

  private Box open(Box.Kind kind, String... settings) throws Exception {
    List<String> all = new ArrayList<>(List.of("routes", "store"));
    all.addAll(List.of(settings));
    return Box.open(kind, home, all.toArray(String[]::new)).ready();
  }

  private void inbox(Box box, String kind, String device, String key, long observed, String body) throws Exception {
    box.execute("INSERT INTO inbox (gateway_id, log_id, gateway_seq, kind, device_id, message_key, observed_at_ms, received_at_ms, body)"
        + " SELECT 'g1', 'log', CAST(? AS BIGINT), ?, ?, ?, CAST(? AS BIGINT), {{sql.now.ms}}, {{sql.json}}(?)", ++seq, kind, device, key, observed, body);
  }

  private static String window(String metric, long start, long revision, double last, long lastObserved) {
    return "{\"metric\":\"" + metric + "\",\"start_ms\":" + start + ",\"width_ms\":60000,\"part\":0,\"revision\":" + revision
        + ",\"count\":2,\"min\":1,\"max\":3,\"sum\":4.5,\"mean\":2.25,\"last\":" + last + ",\"last_observed_ms\":" + lastObserved + "}";
  }

  private static void drained(Box box) {
    box.caravan.context().createProducerTemplate().sendBody("seda:store?size=1&discardWhenFull=true", "");
    await().atMost(Duration.ofSeconds(20)).untilAsserted(() -> assertEquals("t", box.one("SELECT CASE WHEN"
        + " (SELECT acked_seq FROM sink_range WHERE sink = 'store') >= coalesce((SELECT max(seq) FROM inbox), 0) THEN 't' ELSE"
        + " (SELECT coalesce(last_error, 'not yet') FROM sink WHERE name = 'store') END")));
  }

  private static final List<String> TABLES = List.of(
      "SELECT gateway_id, device_id, metric, start_ms, width_ms, part, revision, count, CAST(max AS INTEGER), CAST(last AS INTEGER), last_observed_ms"
          + " FROM rollup_window ORDER BY 1, 2, 3, 4",
      "SELECT gateway_id, device_id, metric, CAST(value AS INTEGER), observed_at_ms FROM last_value ORDER BY 1, 2, 3",
      "SELECT gateway_id, device_id, last_observed_ms FROM device ORDER BY 1, 2",
      "SELECT gateway_id, device_id, message_key, kind, observed_at_ms FROM message ORDER BY id",
      "SELECT gateway_id, device_id, observed_at_ms, body->>'version' FROM capability ORDER BY 1, 2",
      "SELECT gateway_id, device_id, metric, start_ms FROM rollup_dirty ORDER BY 1, 2, 3, 4");

  private static String tables(Box box) throws Exception {
    List<String> all = new ArrayList<>();
    for (String sql : TABLES) {
      all.addAll(box.rows(sql));
      all.add("--");
    }
    return String.join("\n", all);
  }

  @ParameterizedTest
  @EnumSource(Box.Kind.class)
  void rowsComeIntoTheTables(Box.Kind kind) throws Exception {
    try (Box box = open(kind, "store.batch.rows", "7")) {
      inbox(box, "window", "d1", "w1", 10 * HOUR, window("t", 10 * HOUR, 1, 1, 10 * HOUR + 5));
      inbox(box, "window", "d1", "w2", 10 * HOUR, window("t", 10 * HOUR, 3, 3, 10 * HOUR + 7)); // twice in a batch
      inbox(box, "window", "d1", "w3", 10 * HOUR, window("t", 10 * HOUR, 2, 2, 10 * HOUR + 6)); // an older revision comes later
      inbox(box, "window", "d1", "w4", 11 * HOUR, window("t", 11 * HOUR, 1, 7, 11 * HOUR));
      inbox(box, "window", "d1", "w5", 9 * HOUR, window("t", 9 * HOUR, 1, 9, 9 * HOUR)); // late: it is no last value
      inbox(box, "window", "d1", "w6", 11 * HOUR, "{\"metric\":\"t\",\"start_ms\":\"x\"}");
      inbox(box, "window", "d1", "w7", 11 * HOUR, window("t", 11 * HOUR, 1, 7, 11 * HOUR).replace("\"max\":3", "\"max\":1e400"));
      inbox(box, "event", "d2", "e1", 12 * HOUR, "{\"event\":\"alarm\",\"data\":\"\\u0000\"}");
      inbox(box, "event", "d2", "e1", 12 * HOUR, "{\"event\":\"alarm\",\"data\":\"\\u0000\"}"); // the same message again
      inbox(box, "event", "d2", "e2", 11 * HOUR, "{}");
      inbox(box, "capabilities", "d2", "c2", 13 * HOUR, "{\"version\":2}");
      inbox(box, "capabilities", "d2", "c1", 12 * HOUR, "{\"version\":1}");
      inbox(box, "command", "d3", "x", 13 * HOUR, "{}");
      inbox(box, "twin", "d3", "y", 13 * HOUR, "{}");
      drained(box);
      String expected = String.join("\n",
          "g1|d1|t|32400000|60000|0|1|2|3|9|32400000", "g1|d1|t|36000000|60000|0|3|2|3|3|36000007", "g1|d1|t|39600000|60000|0|1|2|3|7|39600000", "--",
          "g1|d1|t|7|39600000", "--",
          "g1|d1|39600000", "g1|d2|46800000", "--",
          "g1|d1|w6|window|39600000", "g1|d2|e1|event|43200000", "g1|d2|e2|event|39600000", "g1|d2|c2|capabilities|46800000",
          "g1|d2|c1|capabilities|43200000", "--",
          "g1|d2|46800000|2", "--",
          "g1|d1|t|32400000", "g1|d1|t|36000000", "g1|d1|t|39600000", "--");
      assertEquals(expected, tables(box));
      // Of w7 the window is known (another row's), so it is no message of its own.
      assertEquals("13|1", box.one("SELECT delivered, dead FROM sink WHERE name = 'store'"));
      // What every sink has leaves the inbox; sink command has nothing yet.
      assertEquals("14", box.one("SELECT count(*) FROM inbox"));
      box.execute("UPDATE sink_range SET acked_seq = (SELECT max(seq) FROM inbox)");
      await().atMost(Duration.ofSeconds(20)).untilAsserted(() -> assertEquals("0", box.one("SELECT count(*) FROM inbox")));
    }
  }

  /** What does not fit into a column, an index or a sum is its gateway's own loss. */
  @ParameterizedTest
  @EnumSource(Box.Kind.class)
  void aHostileGatewayStopsNobody(Box.Kind kind) throws Exception {
    try (Box box = open(kind)) {
      String noise = new Random(1).ints(54_000, 'a', 'z').collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append).toString();
      String wide = "\ud83d\ude00".repeat(256);
      long never = 9_000_000_000_000_000_000L;
      inbox(box, "event", "d1", "e1", never, "{}");
      inbox(box, "capabilities", "d1", "c1", -never, "{\"version\":1}");
      int bad = 0;
      for (String body : List.of(window(noise, 0, 1, 1, 1), window(wide + "x", 0, 1, 1, 1), window("", 0, 1, 1, 1),
          window("sum", 0, 1, 1, 1).replace("4.5", "1e291"), window("min", 0, 1, 1, 1).replace("\"min\":1", "\"min\":-1e291"),
          window("none", 0, 1, 1, 1).replace("\"count\":2", "\"count\":0"), window("many", 0, 1, 1, 1).replace("\"count\":2", "\"count\":1000000000001"))) {
        inbox(box, "window", "d1", "bad" + bad++, 1, body);
      }
      inbox(box, "window", "d1", "w1", 1, window(wide, 0, 1, 1, 1).replace("4.5", "-1e290").replace("\"count\":2", "\"count\":1000000000000")
          .replace("\"min\":1", "\"min\":" + Long.MIN_VALUE));
      inbox(box, "event", "d2", "e2", 5, "{}");
      drained(box);
      assertEquals("4|" + bad, box.one("SELECT delivered, dead FROM sink WHERE name = 'store'"));
      assertEquals(List.of(wide), box.rows("SELECT metric FROM rollup_window"));
      assertEquals(3 + bad, box.rows("SELECT message_key FROM message").size());
      assertEquals("5", box.one("SELECT last_observed_ms FROM device WHERE device_id = 'd2'"));
      if (kind == Box.Kind.POSTGRESQL) {
        assertEquals("t|t", box.one("SELECT m.observed_at_ms = i.received_at_ms, i.observed_at_ms > 1 FROM message m JOIN inbox i ON i.message_key = m.message_key"
            + " WHERE m.message_key = 'e1'"));
      }
    }
  }

  @ParameterizedTest
  @EnumSource(Box.Kind.class)
  void theRowOfADeadLetterStaysAsLongAsItIsOne(Box.Kind kind) throws Exception {
    try (Box box = open(kind, "store.batch.rows", "1")) {
      for (int i = 1; i <= 5; i++) {
        // More at the head than are looked at in one go.
        box.execute("INSERT INTO dead_letter (sink, seq, reason, error, attempts, first_failed_at_ms, dead_at_ms, state)"
            + " VALUES ('archive', ?, 'refused', 'x', 1, 1, 1, ?)", i, i < 4 ? "dead" : "requeued");
        inbox(box, "event", "d1", "e" + i, 1, "{}");
      }
      drained(box);
      box.execute("UPDATE sink_range SET acked_seq = 5");
      await().atMost(Duration.ofSeconds(20)).untilAsserted(() -> assertEquals(List.of("1", "2", "3"), box.rows("SELECT seq FROM inbox ORDER BY seq")));
      box.execute("{{sql.inbox.lock}}");
      inbox(box, "event", "d1", "e6", 1, "{}");
      assertEquals("6", box.one("SELECT max(seq) FROM inbox"));
      box.execute("UPDATE dead_letter SET state = 'discarded'");
      box.execute("UPDATE sink_range SET acked_seq = 6");
      await().atMost(Duration.ofSeconds(20)).untilAsserted(() -> assertEquals("0", box.one("SELECT count(*) FROM inbox")));
    }
  }

  /** What the Kafka consumer does: rows as JSON, perhaps twice. */
  @ParameterizedTest
  @EnumSource(Box.Kind.class)
  void applyingTwiceChangesNothing(Box.Kind kind) throws Exception {
    try (Box box = open(kind)) {
      String rows = "[" + String.join(",",
          row("w1", "window", "d1", HOUR, window("t", HOUR, 2, 5, HOUR + 5)), row("e1", "event", "d1", HOUR, "{\"event\":\"x\"}"),
          row("c1", "capabilities", "d1", HOUR, "{\"version\":1}"), row("w2", "window", "d1", HOUR, "{}")) + "]";
      assertEquals("1", String.valueOf(box.send("direct:store-apply", Map.of("rows", rows)).getVariable("dead")));
      String once = tables(box);
      assertTrue(once.contains("|w2|window|"), once);
      box.send("direct:store-apply", Map.of("rows", rows));
      assertEquals(once, tables(box));
      box.send("direct:store-apply", Map.of("rows", "[]"));
      assertEquals(once, tables(box));
      // An older revision after it: neither the window nor the last value changes.
      box.send("direct:store-apply", Map.of("rows", "[" + row("w0", "window", "d1", HOUR, window("t", HOUR, 1, 99, HOUR + 1)) + "]"));
      assertEquals(once, tables(box));
    }
  }

  /** Negative control of the above and of the ledger: a failure in the middle leaves the cursor and the tables where they were. */
  @ParameterizedTest
  @EnumSource(Box.Kind.class)
  void batchIsAppliedAsAWhole(Box.Kind kind) throws Exception {
    try (Box box = open(kind)) {
      String forbid = kind == Box.Kind.SQLITE
          ? "CREATE TRIGGER no BEFORE INSERT ON message BEGIN SELECT RAISE(ABORT, 'no messages today'); END"
          : "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no messages today''; END';"
              + " CREATE TRIGGER no BEFORE INSERT ON message FOR EACH ROW EXECUTE FUNCTION no()";
      box.execute(forbid);
      inbox(box, "window", "d1", "w1", HOUR, window("t", HOUR, 1, 1, HOUR));
      inbox(box, "event", "d1", "e1", HOUR, "{}");
      await().atMost(Duration.ofSeconds(20)).untilAsserted(() -> assertTrue(
          box.one("SELECT coalesce(last_error, '') FROM sink WHERE name = 'store'").contains("no messages today")));
      assertEquals("0|0", box.one("SELECT (SELECT count(*) FROM rollup_window), (SELECT acked_seq FROM sink_range WHERE sink = 'store')"));
      box.execute(kind == Box.Kind.SQLITE ? "DROP TRIGGER no" : "DROP TRIGGER no ON message");
      drained(box);
      assertEquals("1|1", box.one("SELECT (SELECT count(*) FROM rollup_window), (SELECT count(*) FROM message)"));
    }
  }

  @ParameterizedTest
  @EnumSource(Box.Kind.class)
  void whatIsOldIsDeleted(Box.Kind kind) throws Exception {
    try (Box box = open(kind, "store.keep.ms", String.valueOf(1000 * HOUR), "store.keep.coarse.ms", String.valueOf(2000 * HOUR), "store.retain.ms", "100",
        "store.batch.rows", "3")) {
      long now = Long.parseLong(box.one("SELECT {{sql.now.ms}}")) / HOUR * HOUR;
      List<String> rows = new ArrayList<>();
      for (int i = 0; i < 10; i++) {
        rows.add(row("old" + i, "window", "d1", 0, window("t", now - (2000 + i) * HOUR, 1, 1, now)));
        rows.add(row("new" + i, "window", "d1", 0, window("t", now - i * HOUR, 1, 1, now)));
        rows.add(row("m" + i, "event", "d1", now - (2000 + i) * HOUR, "{}").replace("\"received_at_ms\":9", "\"received_at_ms\":" + (now - 2000 * HOUR)));
        rows.add(row("clock" + i, "event", "d1", 1, "{}").replace("\"received_at_ms\":9", "\"received_at_ms\":" + now));
      }
      rows.add(row("w-clock", "window", "d1", 0, window("t", HOUR, 1, 1, now)).replace("\"received_at_ms\":9", "\"received_at_ms\":" + now));
      box.send("direct:store-apply", Map.of("rows", "[" + String.join(",", rows) + "]"));
      for (long age : new long[] {1999, 2001}) {
        box.execute("INSERT INTO rollup_coarse VALUES ('g1', 'd1', 't', 3600000, ?, 1, 1, 1, 1, 1, 1, 0, 1)", now - age * HOUR);
      }
      await().atMost(Duration.ofSeconds(30)).untilAsserted(() -> assertEquals("11|10|1", box.one("SELECT (SELECT count(*) FROM rollup_window),"
          + " (SELECT count(*) FROM message), (SELECT count(*) FROM rollup_coarse)")));
      assertEquals("10", box.one("SELECT count(*) FROM message WHERE message_key LIKE 'clock%'")); // young by one clock
      assertEquals("1|" + HOUR, box.one("SELECT count(*), min(start_ms) FROM rollup_window WHERE start_ms < CAST(? AS BIGINT)", now - 1000 * HOUR), "what came young");
    }
  }

  @ParameterizedTest
  @EnumSource(Box.Kind.class)
  void keptForEverByZero(Box.Kind kind) throws Exception {
    try (Box box = open(kind, "store.keep.ms", "0", "store.retain.ms", "600000")) {
      box.send("direct:store-apply", Map.of("rows", "[" + row("w", "window", "d1", 0, window("t", HOUR, 1, 1, HOUR)) + "," + row("e", "event", "d1", 1, "{}") + "]"));
      box.caravan.context().createProducerTemplate().requestBody("seda:store-retain?waitForTaskToComplete=Always", "");
      assertEquals("1|1", box.one("SELECT (SELECT count(*) FROM rollup_window), (SELECT count(*) FROM message)"));
    }
  }

  private static String row(String key, String kind, String device, long observed, String body) throws Exception {
    return JSON.writeValueAsString(Map.of("gateway_id", "g1", "device_id", device, "kind", kind, "message_key", key, "observed_at_ms", observed,
        "received_at_ms", 9, "body", JSON.readTree(body)));
  }
}
