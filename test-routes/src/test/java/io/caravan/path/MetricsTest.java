// SPDX-License-Identifier: Apache-2.0
package io.caravan.path;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import io.caravan.runtime.Caravan;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** docs/metrics.md against what a gateway and a cloud export that have something to do, and /readyz, /healthz, /version as people ask them. */
@Timeout(300)
class MetricsTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Duration LIMIT = Duration.ofSeconds(30);

  @TempDir static Path temp;
  static final HttpClient http = HttpClient.newHttpClient();
  static Pair pair;

  /** A row of the tables. */
  private record Row(String name, String type, Set<String> labels, String meaning, String where) {
    boolean late() {
      return meaning.contains("comes with the first one");
    }

    boolean at(String side) {
      return where.startsWith(side) || where.startsWith("both");
    }

    /** Of a feature that this pair does not have. */
    boolean optional() {
      return !at("gateway") && !at("cloud");
    }
  }

  @BeforeAll
  static void start() throws Exception {
    pair = new Pair(temp);
    pair.jmx = true;
    pair.moreAtCloud = List.of("admin", "fleet", "enrol");
    pair.moreAtGateway = List.of("admin", "ingest-http", "receipt", "control", "sink");
    pair.startCloud(Map.of());
    pair.enrol();
    pair.startGateway(Map.of("rollup.window.ms", "1000", "uplink.stats.ms", "500"));
    await().atMost(LIMIT).until(() -> Pair.number(pair.cloud, "SELECT count(*) FROM gateway WHERE session_id IS NOT NULL") == 1);
    flood("first", 3);
    await().atMost(LIMIT).until(() -> Pair.number(pair.cloud, "SELECT count(*) FROM inbox") > 0);
  }

  @AfterAll
  static void stop() {
    pair.close();
  }

  private static HttpResponse<String> ask(Caravan side, String method, String path, String body) throws Exception {
    return http.send(HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + side.httpPort() + path)).header("Content-Type", "application/json")
        .method(method, body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body)).build(),
        HttpResponse.BodyHandlers.ofString());
  }

  /** Everything that comes from outside and could become a label, in many values. */
  private static void flood(String prefix, int many) throws Exception {
    for (int i = 0; i < many; i++) {
      String name = prefix + "-" + i;
      ask(pair.gateway, "POST", "/ingest/" + name, "{\"schema_version\":1,\"metrics\":{\"" + name.replace('-', '_') + "\":" + i + "}}");
      ask(pair.gateway, "POST", "/ingest/" + name, "{\"" + name);
      ask(pair.gateway, "POST", "/ingest/%0a" + name, "{}");
      for (Caravan side : List.of(pair.gateway, pair.cloud)) {
        ask(side, "GET", "/" + name, null);
        ask(side, "PUT", "/readyz", name);
        ask(side, name.replace("-", "").toUpperCase(), "/healthz", null);
        ask(side, "GET", "/api/v1/devices/" + name + "/x", null);
      }
      Mqtt5BlockingClient client = Mqtt5Client.builder().identifier(name).serverHost("127.0.0.1").serverPort(pair.mqttPort).buildBlocking();
      client.connect();
      for (String topic : List.of("devices/" + name + "/telemetry", "devices/" + name + "/" + name, "devices/" + name + "/command-status")) {
        try {
          client.publishWith().topic(topic).qos(MqttQos.AT_LEAST_ONCE)
              .payload(("{\"schema_version\":1,\"metrics\":{\"t\":1},\"command_id\":\"" + name + "\",\"status\":\"" + name + "\"}").getBytes(StandardCharsets.UTF_8)).send();
        } catch (RuntimeException refused) {
          // what is refused is counted as well
        }
      }
      client.disconnect();
      ask(pair.cloud, "POST", "/api/v1/devices/gw-1/" + name + "/commands", "{\"id\":\"" + name + "\",\"name\":\"" + name + "\",\"arguments\":{}}");
    }
  }

  private static List<Row> table() throws IOException {
    List<Row> rows = new ArrayList<>();
    for (String line : Files.readAllLines(REPO.resolve("docs/metrics.md"))) {
      if (line.startsWith("| `caravan_") && line.chars().filter(c -> c == '|').count() >= 7) {
        String[] cells = line.split("\\|", -1);
        Set<String> labels = Stream.of(cells[4].replaceAll("\\([^)]*\\)", "").split(",")).map(String::strip).filter(l -> !l.isEmpty()).collect(Collectors.toSet());
        rows.add(new Row(cells[1].replace("`", "").strip(), cells[2].strip(), labels, cells[5].strip(), cells[6].strip()));
      }
    }
    assertTrue(rows.size() > 100, "the tables are not read: " + rows.size());
    assertEquals(rows.size(), rows.stream().map(Row::name).distinct().count(), "a name is there twice");
    return rows;
  }

  /** @return type by name, without Micrometer's own and without the maxima that come with histograms and summaries */
  private static Map<String, String> families(String text) {
    Map<String, String> types = new TreeMap<>();
    for (String line : text.split("\n")) {
      if (line.startsWith("# TYPE caravan_")) {
        types.put(line.split(" ")[2], line.split(" ")[3]);
      }
    }
    types.keySet().removeIf(name -> name.endsWith("_max") && types.containsKey(name.substring(0, name.length() - "_max".length())));
    return types;
  }

  /** @return each series, without its value */
  private static Set<String> series(String text) {
    return text.lines().filter(l -> l.startsWith("caravan_")).map(l -> l.replaceFirst(" \\S+$", "")).collect(Collectors.toCollection(TreeSet::new));
  }

  private static Set<String> labels(String text, String name) {
    Set<String> labels = new TreeSet<>();
    Matcher series = Pattern.compile("(?m)^" + name + "(?:_count)?\\{(.*)} \\S+$").matcher(text);
    while (series.find()) {
      Matcher label = Pattern.compile("(\\w+)=\"(?:[^\"\\\\]|\\\\.)*\"").matcher(series.group(1));
      while (label.find()) {
        labels.add(label.group(1));
      }
    }
    return labels;
  }

  @Test
  void what_is_exported_is_in_the_table_and_the_other_way_round() throws Exception {
    List<String> wrong = new ArrayList<>();
    Map<String, Row> table = table().stream().collect(Collectors.toMap(Row::name, r -> r));
    for (Map.Entry<String, Caravan> side : Map.of("gateway", pair.gateway, "cloud", pair.cloud).entrySet()) {
      HttpResponse<String> answer = ask(side.getValue(), "GET", "/metrics", null);
      assertEquals(200, answer.statusCode());
      Map<String, String> exported = families(answer.body());
      exported.forEach((name, type) -> {
        Row row = table.get(name);
        if (row == null || !row.at(side.getKey())) {
          wrong.add(side.getKey() + " exports " + name + " (" + type + "), which the table does not have for it");
        } else if (!row.type().equals(type)) {
          wrong.add(side.getKey() + " exports " + name + " as " + type + ", the table says " + row.type());
        } else if (!row.labels().equals(labels(answer.body(), name))) {
          wrong.add(side.getKey() + " exports " + name + " with labels " + labels(answer.body(), name) + ", the table says " + row.labels());
        }
      });
      table.values().stream().filter(r -> r.at(side.getKey()) && !r.late() && !exported.containsKey(r.name()))
          .forEach(r -> wrong.add(side.getKey() + " does not export " + r.name() + ", which the table has"));
    }
    wrong.addAll(strays(table.keySet(), sources()));
    // What this pair has no part of, or had no cause for: at least somebody makes a meter of that name.
    Set<String> made = sources();
    table.values().stream().filter(r -> r.optional() || r.late()).filter(r -> made.stream().noneMatch(m -> isOf(r.name(), m)))
        .forEach(r -> wrong.add(r.name() + " is in the table, and nothing in bundles/ makes it"));
    assertEquals("", String.join("\n", wrong));
    assertFalse(strays(table.keySet(), Set.of("caravan.shelf.life.seconds")).isEmpty(), "the check of the sources finds nothing");
  }

  /** @return names that bundles give to meters */
  private static Set<String> sources() throws IOException {
    Set<String> names = new TreeSet<>();
    Pattern made = Pattern.compile("(?:builder|gauge|count|counter|timer)\\(\\s*(?:[a-z]+ \\? )?\"(caravan\\.[a-z0-9.]+)\"(?: : \"(caravan\\.[a-z0-9.]+)\")?");
    try (Stream<Path> files = Files.walk(REPO.resolve("bundles"))) {
      for (Path file : files.filter(f -> f.toString().endsWith(".java") && f.toString().contains("/src/main/") && !f.toString().contains("/target/")).toList()) {
        Matcher m = made.matcher(Files.readString(file));
        while (m.find()) {
          names.add(m.group(1));
          if (m.group(2) != null) {
            names.add(m.group(2));
          }
        }
      }
    }
    assertTrue(names.size() > 100, "the sources are not read: " + names);
    return names;
  }

  private static List<String> strays(Set<String> table, Set<String> sources) {
    return sources.stream().filter(s -> table.stream().noneMatch(t -> isOf(t, s))).map(s -> "meter " + s + " is not in docs/metrics.md").toList();
  }

  /** Whether Prometheus shows a meter of that name so. */
  private static boolean isOf(String shown, String meter) {
    String name = meter.replace('.', '_');
    return Set.of(name, name + "_total", name + "_seconds").contains(shown);
  }

  @Test
  void a_flood_makes_no_series() throws Exception {
    Map<String, Set<String>> before = new TreeMap<>();
    flood("warm", 2);
    for (Caravan side : List.of(pair.gateway, pair.cloud)) {
      before.put(side.role(), series(side.metrics()));
    }
    flood("flood", 40);
    Set<String> late = table().stream().filter(Row::late).map(Row::name).collect(Collectors.toSet());
    for (Caravan side : List.of(pair.gateway, pair.cloud)) {
      Set<String> more = series(side.metrics());
      more.removeAll(before.get(side.role()));
      assertTrue(more.stream().noneMatch(s -> s.toLowerCase().contains("flood")), more.toString());
      // What comes with the first cause may come late, once.
      Set<String> names = more.stream().map(s -> s.replaceFirst("\\{.*", "")).collect(Collectors.toSet());
      assertTrue(late.containsAll(names) && more.size() < 5, more.toString());
    }
    // The control, and the net below it: a meter whose author did not think.
    MeterRegistry meters = pair.gateway.bean("metricsRegistry", MeterRegistry.class).orElseThrow();
    for (int i = 0; i < 600; i++) {
      Counter.builder("caravan.test.careless").tag("of", "dev-" + i).register(meters).increment();
    }
    String text = pair.gateway.metrics();
    List<Counter> careless = List.copyOf(meters.find("caravan.test.careless").counters());
    careless.forEach(meters::remove);
    assertEquals(500, series(text).stream().filter(s -> s.startsWith("caravan_test_careless")).count());
    assertEquals(500, careless.size());
    assertTrue(text.contains("caravan_metrics_dropped_series_total 100.0"), "the refused ones are counted");
  }

  @Test
  void promtool_finds_nothing() throws Exception {
    Path promtool = Stream.of(System.getenv("PATH").split(":")).map(p -> Path.of(p, "promtool")).filter(Files::isExecutable).findFirst()
        .orElseThrow(() -> new AssertionError("promtool is not on the PATH, so what /metrics says was not checked: bin/install-deps installs it (apt: prometheus)"));
    for (Caravan side : List.of(pair.gateway, pair.cloud)) {
      // Micrometer's own names are not ours to mend.
      String ours = side.metrics().lines().filter(l -> l.matches("(# (HELP|TYPE) )?caravan_.*")).collect(Collectors.joining("\n", "", "\n"));
      assertEquals("", check(promtool, ours), side.role());
      assertFalse(check(promtool, ours + "caravan_bad_total{ 1\n").isEmpty(), "promtool does not look");
    }
  }

  private static String check(Path promtool, String text) throws Exception {
    Path in = Files.writeString(Files.createTempFile(temp, "metrics", ".txt"), text);
    Process process = new ProcessBuilder(promtool.toString(), "check", "metrics").redirectInput(in.toFile()).redirectErrorStream(true).start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    int code = process.waitFor();
    return code == 0 ? said : said + " (exit " + code + ")";
  }

  @Test
  void figures_are_those_of_what_happened() throws Exception {
    ask(pair.gateway, "POST", "/ingest/figures", "{\"schema_version\":1,\"metrics\":{\"t\":1}}");
    await().atMost(LIMIT).untilAsserted(() -> {
      String gateway = pair.gateway.metrics();
      positive(gateway, "caravan_ingest_messages_total{outcome=\"durable\"}");
      assertEquals(value(gateway, "caravan_wal_appended_rows_total"), value(gateway, "caravan_ingest_messages_total{outcome=\"durable\"}"));
      positive(gateway, "caravan_ingest_messages_total{outcome=\"rejected\"}");
      assertEquals(value(gateway, "caravan_wal_commit_seconds_bucket{le=\"+Inf\"}"), value(gateway, "caravan_wal_commit_seconds_count"));
      positive(gateway, "caravan_wal_group_rows_bucket{le=\"1000.0\"}");
      positive(gateway, "caravan_uplink_round_trip_seconds_count");
      positive(gateway, "caravan_route_exchanges_total{outcome=\"completed\",route=\"ingest-http\"}");
      positive(gateway, "caravan_http_requests_total{route=\"ingest-http\",status=\"202\"}");
      assertTrue(value(gateway, "caravan_process_resident_bytes") > 10_000_000);
      assertEquals(1, value(gateway, "caravan_health_ready"));
      assertEquals(1, value(gateway, "caravan_health_check_up{check=\"wal\",counts=\"true\"}"));
      assertEquals(1, value(pair.cloud.metrics(), "caravan_fleet_replicas"));
      assertEquals(1, value(pair.cloud.metrics(), "caravan_health_check_up{check=\"sink:store\",counts=\"false\"}"));
    });
  }

  private static void positive(String text, String series) {
    assertTrue(value(text, series) > 0, () -> series + ": " + text.lines().filter(l -> l.startsWith(series.replaceFirst("\\{.*", ""))).toList());
  }

  private static double value(String text, String series) {
    return text.lines().filter(l -> l.startsWith(series + " ")).mapToDouble(l -> Double.parseDouble(l.substring(series.length() + 1))).findFirst().orElse(Double.NaN);
  }

  @Test
  void the_admin_api_answers_as_documented() throws Exception {
    for (Caravan side : List.of(pair.gateway, pair.cloud)) {
      JsonNode version = JSON.readTree(ask(side, "GET", "/version", null).body());
      for (String field : List.of("version", "commit", "build_time", "java", "camel", "sqlite", "schema")) {
        assertFalse(version.path(field).asText().isEmpty(), field + " of " + version);
      }
      JsonNode ready = JSON.readTree(ask(side, "GET", "/readyz", null).body());
      for (JsonNode check : ready.path("checks")) {
        assertTrue(check.path("since").asText().endsWith("Z"), check.toString());
      }
      for (String path : List.of("/healthz", "/readyz", "/version", "/metrics")) {
        HttpResponse<String> head = ask(side, "HEAD", path, null);
        assertEquals(200, head.statusCode(), path);
        assertEquals("", head.body());
        assertEquals("no-store", head.headers().firstValue("Cache-Control").orElse(""));
        assertEquals(405, ask(side, "POST", path, "{}").statusCode(), path);
        assertEquals(405, ask(side, "DELETE", path, null).statusCode(), path);
      }
    }
    JsonNode checks = JSON.readTree(ask(pair.gateway, "GET", "/readyz", null).body()).path("checks");
    List<String> names = new ArrayList<>();
    checks.forEach(c -> names.add(c.path("name").asText()));
    assertTrue(names.containsAll(List.of("wal", "uplink", "sink:uplink", "sink:rollup")) && names.stream().anyMatch(n -> n.startsWith("mqtt-server:")), names.toString());
  }
}
