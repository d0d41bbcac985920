// SPDX-License-Identifier: Apache-2.0
package io.caravan.api;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.api.ApiBox.Kind;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Windows and series: what is added up is what there is, whatever table it is read from; and no query reads more than it needs. */
@Timeout(180)
class ApiSeriesTest {
  private static final long HOUR = 3_600_000;
  private static final long DAY = 24 * HOUR;
  /** A Thursday at midnight, as days and weeks of series begin. */
  private static final long START = 20_000 * DAY;
  private static final int DAYS = 400;
  private static final long WIDTH = 1_800_000;

  @TempDir
  static Path dir;
  static final Map<Kind, ApiBox> BOXES = new EnumMap<>(Kind.class);

  @BeforeAll
  static void fill() throws Exception {
    for (Kind kind : Kind.values()) {
      ApiBox box = ApiBox.start(kind, dir.resolve(kind.name()));
      BOXES.put(kind, box);
      box.gateway("gw-1", "default", true);
      box.device("gw-1", "d");
      for (String metric : List.of("t", "u")) {
        box.last("gw-1", "d", metric, 1, 1);
      }
      // More than a year of windows of half an hour; value: the number of the window.
      String numbers = "WITH RECURSIVE n(i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < " + (DAYS * DAY / WIDTH - 1) + ") ";
      box.execute(numbers + "INSERT INTO rollup_window (gateway_id, device_id, metric, start_ms, width_ms, part, revision, count, min, max, sum, mean, last,"
          + " last_observed_ms, received_at_ms) SELECT 'gw-1', 'd', 't', " + START + " + i * " + WIDTH + ", " + WIDTH + ", 0, 1, 2, i, i + 1, 2 * i + 1,"
          + " i + 0.5, i, " + START + " + i * " + WIDTH + " + 5, " + START + " + (i + 1) * " + WIDTH + " + 100 FROM n");
      mark(box);
    }
  }

  @AfterAll
  static void stop() {
    BOXES.values().forEach(ApiBox::close);
  }

  /** As the store does with what it stores, here for all; and waits until it is added up. */
  private static void mark(ApiBox box) throws Exception {
    box.execute("INSERT INTO rollup_dirty (gateway_id, device_id, metric, start_ms, marked_at_ms) SELECT DISTINCT gateway_id, device_id, metric,"
        + " start_ms - start_ms % 3600000, 1 FROM rollup_window WHERE device_id = 'd' ORDER BY 1, 2, 3, 4"
        + (box.kind == Kind.POSTGRESQL ? " ON CONFLICT (gateway_id, device_id, metric, start_ms) DO UPDATE SET marked_at_ms = excluded.marked_at_ms" : ""));
    await().atMost(java.time.Duration.ofSeconds(60)).until(() -> box.rows("SELECT count(*) FROM rollup_dirty").equals(List.of("0")));
  }

  private static void window(ApiBox box, String metric, long start, long part, int revision, int count, double value, long receivedMs) throws Exception {
    box.execute("INSERT INTO rollup_window (gateway_id, device_id, metric, start_ms, width_ms, part, revision, count, min, max, sum, mean, last,"
        + " last_observed_ms, received_at_ms) VALUES ('gw-1', 'd', ?, ?, 60000, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        + " ON CONFLICT (gateway_id, device_id, metric, start_ms, width_ms, part) DO UPDATE SET revision = excluded.revision, count = excluded.count,"
        + " max = excluded.max, sum = excluded.sum, last = excluded.last, received_at_ms = excluded.received_at_ms",
        metric, start, part, revision, count, value, value, value * count, value, value, start + part, receivedMs);
    box.execute("INSERT INTO rollup_dirty (gateway_id, device_id, metric, start_ms, marked_at_ms) VALUES ('gw-1', 'd', ?, ?, 1)"
        + " ON CONFLICT (gateway_id, device_id, metric, start_ms) DO UPDATE SET marked_at_ms = excluded.marked_at_ms", metric, start - start % HOUR);
    await().until(() -> box.rows("SELECT count(*) FROM rollup_dirty").equals(List.of("0")));
  }

  private static JsonNode series(ApiBox box, String metric, long from, long to, int points) throws Exception {
    return box.json("/api/v1/devices/gw-1/d/series?metric=" + metric + "&from_ms=" + from + "&to_ms=" + to + "&points=" + points);
  }

  @ParameterizedTest
  @EnumSource
  void aSeriesIsWhatTheWindowsAre(Kind kind) throws Exception {
    ApiBox box = BOXES.get(kind);
    long[][] asked = {{1, 500, 1_800_000}, {2, 48, HOUR}, {2, 24, 2 * HOUR}, {3, 500, HOUR}, {30, 100, 12 * HOUR}, {365, 500, DAY}, {365, 2000, 6 * HOUR}, {365, 60, 7 * DAY},
        {400, 5000, 2 * HOUR}};
    for (long[] ask : asked) {
      long to = START + ask[0] * DAY;
      JsonNode series = series(box, "t", START, to, (int) ask[1]);
      String what = ask[0] + " days in " + ask[1] + " points: " + series.get("resolution_ms");
      long resolution = series.get("resolution_ms").asLong();
      assertEquals(ask[2], resolution, what);
      assertEquals((ask[0] * DAY + resolution - 1) / resolution, series.get("points").size(), what);
      long total = 0;
      for (JsonNode point : series.get("points")) {
        long start = point.get("start_ms").asLong();
        long first = (Math.max(start, START) - START) / WIDTH;
        // The last bucket may end behind the range.
        long last = (Math.min(start + resolution, to) - START) / WIDTH - 1;
        long count = last - first + 1;
        assertEquals(2 * count, point.get("count").asLong(), what + " at " + start);
        assertEquals(first, point.get("min").asDouble());
        assertEquals(last + 1, point.get("max").asDouble());
        assertEquals(last, point.get("last").asDouble());
        assertEquals((first + last + 1) / 2.0, point.get("mean").asDouble(), 1e-6);
        assertFalse(point.get("late").asBoolean());
        assertEquals(1, point.get("revision").asInt());
        total += count;
      }
      assertEquals(ask[0] * DAY / WIDTH, total, what);
    }
    assertEquals(0, series(box, "t", START - 10 * DAY, START - DAY, 500).get("points").size());
    assertEquals(0, series(box, "nothing", START, START + DAY, 500).get("points").size());
    assertEquals(0, box.json("/api/v1/devices/gw-1/d/series?metric=t").get("points").size(), "the last day");
  }

  @ParameterizedTest
  @EnumSource
  void lateAndRevisedWindowsAreSeenAsSuch(Kind kind) throws Exception {
    ApiBox box = BOXES.get(kind);
    long hour = START + 500 * DAY;
    window(box, "u", hour, 0, 1, 10, 2, hour + 60_000 + 1_000);
    window(box, "u", hour + 60_000, 0, 1, 10, 4, hour + 120_000 + 61_000);
    window(box, "u", hour + HOUR, 0, 1, 10, 6, hour + HOUR + 61_000);
    JsonNode windows = box.json("/api/v1/devices/gw-1/d/windows?metric=u&from_ms=" + hour);
    assertEquals(List.of("false", "true", "false"), windows.findValuesAsText("late"));
    assertEquals(List.of("1", "1", "1"), windows.findValuesAsText("revision"));
    JsonNode points = series(box, "u", hour, hour + 10 * DAY, 500).get("points");
    assertEquals(List.of("true", "false"), points.findValuesAsText("late"));
    assertEquals(List.of("20", "10"), points.findValuesAsText("count"));
    // A higher revision, and a part of its own, are in the hour and in the day.
    window(box, "u", hour + HOUR, 0, 2, 15, 8, hour + HOUR + 500_000);
    window(box, "u", hour + HOUR, 9, 1, 5, 1, hour + HOUR + 600_000);
    points = series(box, "u", hour, hour + 10 * DAY, 500).get("points");
    assertEquals(List.of("20", "20"), points.findValuesAsText("count"));
    assertEquals(List.of("1", "2"), points.findValuesAsText("revision"));
    assertEquals(List.of("true", "true"), points.findValuesAsText("late"));
    assertEquals((15 * 8 + 5) / 20.0, points.get(1).get("mean").asDouble(), 1e-9);
    assertEquals(1, points.get(1).get("last").asDouble(), "observed last");
    assertEquals(40, series(box, "u", hour, hour + 10 * DAY, 10).get("points").get(0).get("count").asInt());
    assertEquals(4, box.pages("/api/v1/devices/gw-1/d/windows?limit=3&metric=u&from_ms=" + hour, 3).size());
    // What retention has begun to delete keeps its hour, also when a late window comes.
    box.execute("DELETE FROM rollup_window WHERE metric = 'u' AND start_ms < ?", hour + HOUR);
    window(box, "u", hour + 120_000, 0, 1, 1, 100, hour + DAY);
    assertEquals(List.of("20", "20"), series(box, "u", hour, hour + 10 * DAY, 500).get("points").findValuesAsText("count"));
    box.execute("DELETE FROM rollup_window WHERE metric = 'u'");
    box.execute("DELETE FROM rollup_coarse WHERE metric = 'u'");
  }

  /** Of before the store had bounds: what no sum has room for must not stop those of everybody else. */
  @ParameterizedTest
  @EnumSource
  void windowsThatDoNotAddUpStopNobody(Kind kind) throws Exception {
    ApiBox box = BOXES.get(kind);
    long day = START + 600 * DAY;
    String window = "INSERT INTO rollup_window (gateway_id, device_id, metric, start_ms, width_ms, part, revision, count, min, max, sum, mean, last, last_observed_ms)"
        + " VALUES ('gw-1', 'd', 'v', ?, 60000, ?, 1, CAST(? AS BIGINT), 1, 1, ?, 1, 1, 1)";
    for (int part = 0; part < 2; part++) {
      box.execute(window, day, part, 1, 1e308);
      box.execute(window, day + HOUR, part, Long.MAX_VALUE, 1.0);
      box.execute(window, day + 2 * HOUR, part, 0, 0.0);
      box.execute("INSERT INTO rollup_coarse (gateway_id, device_id, metric, width_ms, start_ms, count, min, max, sum, last, last_observed_ms, late, revision)"
          + " VALUES ('gw-1', 'd', 'v', 3600000, ?, ?, 1, 1, ?, 1, 1, 0, 1)", day + (3 + part) * HOUR, part, 1e308);
    }
    window(box, "v", day + 5 * HOUR, 0, 1, 10, 2, day + 6 * HOUR);
    box.execute("INSERT INTO rollup_dirty (gateway_id, device_id, metric, start_ms, marked_at_ms) SELECT DISTINCT gateway_id, device_id, metric, start_ms, 1"
        + " FROM rollup_window WHERE metric = 'v' ORDER BY 1, 2, 3, 4"
        + (kind == Kind.POSTGRESQL ? " ON CONFLICT (gateway_id, device_id, metric, start_ms) DO UPDATE SET marked_at_ms = excluded.marked_at_ms" : ""));
    await().until(() -> box.rows("SELECT count(*) FROM rollup_dirty").equals(List.of("0")));
    JsonNode minutes = series(box, "v", day, day + DAY, 5000).get("points");
    JsonNode hours = series(box, "v", day, day + DAY, 24).get("points");
    JsonNode days = series(box, "v", day, day + 400 * DAY, 500).get("points");
    for (JsonNode points : List.of(minutes, hours)) {
      assertEquals(List.of(String.valueOf(day + HOUR), String.valueOf(day + 5 * HOUR)), points.findValuesAsText("start_ms"));
      assertEquals(List.of("9000000000000000000", "10"), points.findValuesAsText("count"));
      assertEquals(2, points.get(1).get("mean").asDouble());
    }
    assertEquals(List.of("9000000000000000000"), days.findValuesAsText("count"));
    box.execute("DELETE FROM rollup_window WHERE metric = 'v'");
    box.execute("DELETE FROM rollup_coarse WHERE metric = 'v'");
  }

  @ParameterizedTest
  @EnumSource
  void windowsPageByPage(Kind kind) throws Exception {
    ApiBox box = BOXES.get(kind);
    List<JsonNode> all = box.pages("/api/v1/devices/gw-1/d/windows?limit=40&from_ms=" + START + "&to_ms=" + (START + 2 * DAY), 40);
    assertEquals(96, all.size());
    assertEquals(96, all.stream().map(w -> w.get("start_ms").asLong()).distinct().count());
    assertEquals(START + 56 * WIDTH, all.get(0).get("start_ms").asLong(), "the newest page, oldest first");
    assertEquals(START + 2 * DAY - WIDTH, all.get(39).get("start_ms").asLong());
  }

  /** No query reads a table that grows but by its key, down to the time; the control shows what is found otherwise. */
  @ParameterizedTest
  @EnumSource
  void queriesUseTheirIndex(Kind kind) throws Exception {
    ApiBox box = BOXES.get(kind);
    // Which PostgreSQL does by itself in time.
    box.execute("ANALYZE");
    for (String step : List.of("api-series to-store-series", "api-series to-store-windows", "api-device to-store-last", "api-device to-store-one-device",
        "api-device to-store-devices", "api-event to-store-events", "api-event to-store-device-events", "api-event to-store-messages",
        "downsample to-store-downsample-hour", "downsample to-store-downsample-day")) {
      String sql = query(step.split(" ")[0], step.split(" ")[1]);
      assertEquals(List.of(), scans(box, sql), step);
    }
    String series = query("api-series", "to-store-series");
    assertFalse(scans(box, series.replace("w.start_ms >=", "w.start_ms + 0 >=").replace("w.start_ms <", "w.start_ms + 0 <")).isEmpty(), "control: start_ms in no index");
    assertFalse(scans(box, series.replace("c.device_id = :#${variable.device_id}", "c.device_id || '' = :#${variable.device_id}")).isEmpty(), "control");
  }

  private static String query(String stem, String step) throws Exception {
    String text = Files.readString(ApiBox.REPO.resolve("routes/cloud/" + stem + ".camel.yaml"));
    Matcher m = Pattern.compile("id: " + step + "\\n.*?query: >-\\n(.*?)(?=\\n\\s*- |\\z)", Pattern.DOTALL).matcher(text);
    assertTrue(m.find(), step);
    return m.group(1);
  }

  /** @return steps of the plan that read one of the tables that grow without a key that goes down to the time */
  private static List<String> scans(ApiBox box, String query) throws Exception {
    Map<String, String> values = Map.of("range[from_ms]", String.valueOf(START), "range[to_ms]", String.valueOf(START + DAY), "range[resolution_ms]", "900000",
        "limit", "100", "metric", "'t'", "before", "9007199254740991", "after", "0", "hours[list]", "'[[\"gw-1\",\"d\",\"t\",3600000]]'");
    Matcher m = Pattern.compile(":#(in:)?\\$\\{variable\\.([^}]+)}").matcher(query);
    StringBuilder sql = new StringBuilder();
    while (m.find()) {
      String name = m.group(2);
      String value = values.getOrDefault(name, name.matches("before\\[[023]\\]|.*_ms") ? String.valueOf(START) : name.endsWith("_id") ? "'x'"
          : name.equals("site_list") ? "'*'" : name.equals("severity") ? "''" : name.startsWith("after[") ? "'a'" : name.startsWith("before[") ? "'t'" : "NULL");
      m.appendReplacement(sql, Matcher.quoteReplacement(value));
    }
    m.appendTail(sql);
    String plain = box.sql(sql.toString()).replace("?", "NULL");
    List<String> found = new ArrayList<>();
    try (Connection c = box.writer().getConnection()) {
      if (box.kind == Kind.SQLITE) {
        try (var s = c.createStatement(); var r = s.executeQuery("EXPLAIN QUERY PLAN " + plain)) {
          while (r.next()) {
            String line = r.getString("detail");
            // Aliases of the tables that grow.
            if (line.matches("SCAN (w|c|m|v|rollup_window|rollup_coarse|message|last_value)\\b.*") && !line.contains("message_event")
                || line.matches("SEARCH w .*") && !line.contains("start_ms") || line.matches("SEARCH c .*") && !line.contains("start_ms")) {
              found.add(line);
            }
          }
        }
        return found;
      }
      try (var s = c.createStatement()) {
        c.setAutoCommit(false);
        if (query.contains("hours[list]")) {
          s.execute(box.sql("{{sql.join.by.key}}"));
        }
        // Tables of a test are small: say that reading all of one costs more.
        s.execute("SET LOCAL enable_seqscan = off");
        s.execute("SET LOCAL enable_bitmapscan = off");
        String conditions = "";
        String at = "";
        try (var r = s.executeQuery("EXPLAIN (VERBOSE) " + plain)) {
          while (r.next()) {
            String line = r.getString(1);
            if (line.matches(".*(Seq|Index|Index Only) Scan.* on .*(rollup_window|rollup_coarse|message|last_value).*")) {
              at = line.strip();
              if (at.contains("Seq Scan")) {
                found.add(at);
              }
            } else if (line.contains("Index Cond:") && !at.isEmpty()) {
              conditions = line;
              if (at.contains("rollup_") && !(conditions.contains("start_ms >") && conditions.contains("device_id ="))) {
                found.add(at + conditions.strip());
              }
              at = "";
            } else if (line.contains("->") && !at.isEmpty()) {
              at = "";
            }
          }
        } finally {
          c.rollback();
          c.setAutoCommit(true);
        }
      }
    }
    return found;
  }
}
