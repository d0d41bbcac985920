// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** A sink that an operator writes himself, as docs/route-authors.md shows it, and the one of files that is shipped. */
class SinkFileIT {
  private static final Duration SOON = Duration.ofSeconds(30);
  private static final ObjectMapper JSON = new ObjectMapper();

  private static Distribution gateway;
  private static Path db;
  private static Path out;

  @BeforeAll
  static void start() throws IOException {
    gateway = Distribution.unpack("gateway", "sink-file-gateway");
    db = gateway.home.resolve("data/caravan/gateway.db");
    out = Files.createDirectories(gateway.home.resolve("out"));
    gateway.with("mqtt.server.port", Ports.free()).with("uplink.enabled", false).with("sink.retry.max.ms", 500).with("sink.probe.ms", 500)
        .start().awaitReady();
  }

  @AfterAll
  static void stop() {
    if (gateway != null) {
      gateway.close();
    }
  }

  /** The text of the documentation is what is deployed: it cannot rot. */
  @Test
  void theExampleOfTheDocsHasRetryDeadLettersMetricsAndReplay() throws Exception {
    String docs = Files.readString(Distribution.REPO.resolve("docs/route-authors.md"));
    Matcher example = Pattern.compile("(?s)## A new sink in 15 lines\n.*?`deploy/([a-z.-]+)`.*?```yaml\n(.*?)```").matcher(docs);
    assertTrue(example.find());
    String name = example.group(1);
    String text = example.group(2);
    long lines = text.lines().filter(l -> !l.startsWith("#")).count();
    assertTrue(lines <= 15, lines + " lines");

    // Where the folder should be is a file: nothing can be written.
    Path folder = out.resolve("example");
    Files.writeString(folder, "in the way");
    Files.writeString(gateway.home.resolve("etc/io.caravan.user.cfg"), "user.ndjson.directory = " + folder + "\n");
    post("n1", 20, 10);
    deploy(name, text);
    await("it tries again").atMost(SOON).until(() -> number("SELECT attempts FROM sink WHERE name = 'ndjson'") >= 2);
    assertTrue(metric("caravan_sink_attempts{sink=\"ndjson\"}") >= 1);
    assertTrue(metric("caravan_sink_backlog_rows{sink=\"ndjson\"}") >= 20);
    assertEquals(0, number("SELECT acked FROM ledger WHERE sink = 'ndjson'"));
    Files.delete(folder);
    awaitDrained("ndjson");
    assertEquals(keys(), keysIn(folder));
    assertEquals(keys().size(), metric("caravan_sink_delivered_rows_total{sink=\"ndjson\"}"));

    // One parameter more, saved while it runs: a limit, and a record above it.
    deploy(name, text.replace("value: ndjson }", "value: ndjson }\n      - { name: maxRowBytes, value: 2000 }"));
    await("the new text is in force").atMost(SOON).until(() -> gateway.shell("route:show sink-ndjson").contains("maxRowBytes"));
    post("big", 1, 3_000);
    post("n2", 10, 10);
    awaitDrained("ndjson");
    assertEquals(List.of("big,too_large"), Store.rows(db, "SELECT w.device_id, d.reason FROM dead_letter d JOIN wal w USING (seq)"
        + " WHERE d.sink = 'ndjson' AND d.state = 'dead' ORDER BY seq"));
    // Gauges of the log are looked up every so often, not per scrape.
    await("the gauge of dead letters").atMost(SOON).until(() -> metric("caravan_sink_dead_letters_rows{sink=\"ndjson\"}") == 1);
    assertEquals(keys().size() - 1, keysIn(folder).size());
    assertTrue(gateway.shell("dead:list --sink ndjson").contains("too_large"));

    // The limit was the mistake: taken back, the record is sent after all.
    deploy(name, text);
    await("the old text is in force").atMost(SOON).until(() -> !gateway.shell("route:show sink-ndjson").contains("maxRowBytes"));
    gateway.shell("dead:requeue --sink ndjson --yes");
    await("the dead letter is delivered").atMost(SOON).until(() -> number("SELECT dead FROM ledger WHERE sink = 'ndjson'") == 0);
    awaitDrained("ndjson");
    assertEquals(keys(), keysIn(folder).stream().sorted().toList());

    Distribution.delete(folder);
    gateway.shell("wal:replay --seq 1-15 --yes ndjson");
    awaitDrained("ndjson");
    assertEquals(15, keysIn(folder).stream().distinct().count());
    assertEquals(0, number("SELECT unaccounted FROM ledger WHERE sink = 'ndjson'"));

    Files.delete(gateway.home.resolve("deploy/" + name));
    await("it is gone").atMost(SOON).until(() -> !gateway.shell("route:list").contains("sink-ndjson"));
  }

  @Test
  void theShippedSinkWritesWholeFilesThatARepeatedBatchReplaces() throws Exception {
    Path folder = out.resolve("shipped");
    Files.writeString(gateway.home.resolve("etc/io.caravan.sink.file.cfg"), "sink.file.directory = " + folder + "\nsink.file.linger.ms = 0\n"
        + "sink.file.batch.rows = 7\n");
    gateway.shell("feature:install caravan-sink-file");
    post("f1", 30, 10);
    awaitDrained("file");
    await("all are there").atMost(SOON).until(() -> keysIn(folder).size() == keys().size());
    assertEquals(keys(), keysIn(folder));
    List<Path> files = files(folder);
    for (Path file : files) {
      String rows = Files.readString(file);
      assertTrue(folder.relativize(file).toString().matches("\\d{4}-\\d\\d-\\d\\d/\\d{16}-\\d{16}-[0-9a-f]{16}\\.ndjson"), file.toString());
      assertTrue(rows.endsWith("}\n") && rows.lines().count() <= 7, rows);
    }
    // Each bundle with type converters that stops makes Karaf's Camel fill its registry anew: what makes bytes of a batch must be in it.
    assertFalse(gateway.shell("bundle:restart caravan-camel-json").contains("No bundles"));
    await("that bundle is back").atMost(SOON).until(() -> gateway.status("/readyz") == 200);
    post("f1", 10, 10);
    awaitDrained("file");
    // A batch that was written and not acked is planned as it was, so the same file is written again.
    gateway.kill();
    gateway.start().awaitReady();
    post("f1", 10, 10);
    awaitDrained("file");
    await().atMost(SOON).until(() -> keysIn(folder).size() == keys().size());
    assertEquals(keys(), keysIn(folder));
    assertTrue(files(folder).containsAll(files));
    assertEquals(0, number("SELECT unaccounted FROM ledger WHERE sink = 'file'"));
  }

  // ---- helpers

  /** As an editor saves: a new file in place of the old one. */
  private static void deploy(String name, String text) throws IOException {
    Path saved = Files.writeString(gateway.home.resolve(name + ".saved"), text);
    Files.move(saved, gateway.home.resolve("deploy/" + name), StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
  }

  private static void post(String device, int messages, int nameLength) throws IOException {
    for (int i = 0; i < messages; i++) {
      String data = "x".repeat(nameLength) + System.nanoTime();
      byte[] body = ("{\"schema_version\":1,\"event\":\"e\",\"data\":{\"text\":\"" + data + "\"}}").getBytes(StandardCharsets.UTF_8);
      assertEquals(202, gateway.post("/ingest/" + device + "/events", "application/json", body).statusCode());
    }
  }

  private static List<String> keys() throws SQLException {
    return Store.rows(db, "SELECT message_key FROM wal ORDER BY seq").stream().sorted().toList();
  }

  /** Whole files only; each row once per file it is in. */
  private static List<String> keysIn(Path folder) throws IOException {
    List<String> keys = new ArrayList<>();
    for (Path file : files(folder)) {
      for (String line : Files.readAllLines(file)) {
        keys.add(JSON.readTree(line).path("message_key").asText());
      }
    }
    return keys.stream().sorted().toList();
  }

  private static List<Path> files(Path folder) throws IOException {
    if (!Files.isDirectory(folder)) {
      return List.of();
    }
    try (Stream<Path> all = Files.walk(folder)) {
      return all.filter(Files::isRegularFile).filter(p -> !p.getFileName().toString().startsWith(".")).sorted().toList();
    }
  }

  private static void awaitDrained(String sink) {
    await("no backlog of " + sink).atMost(Duration.ofSeconds(60))
        .until(() -> Store.rows(db, "SELECT backlog FROM ledger WHERE sink = '" + sink + "'"), List.of("0")::equals);
  }

  private static long number(String sql) throws SQLException {
    List<String> rows = Store.rows(db, sql);
    return rows.isEmpty() ? 0 : Long.parseLong(rows.get(0));
  }

  private static double metric(String name) throws IOException {
    return gateway.get("/metrics").body().lines().filter(l -> l.startsWith(name)).findFirst()
        .map(l -> Double.parseDouble(l.substring(name.length()).strip())).orElse(0.0);
  }
}
