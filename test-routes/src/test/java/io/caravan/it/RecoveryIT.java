// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.TestMethodOrder;

/** The recovery tools as an operator's script meets them: {@code bin/caravan shell} of a gateway that runs. */
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
class RecoveryIT {
  @RegisterExtension
  static final KeptEvidence KEPT = new KeptEvidence("recovery");

  private static final Duration SOON = Duration.ofSeconds(30);
  private static final int ROWS = 20;
  private static final String SECRET = "a-token-nobody-should-see-7731";
  /** A sink that refuses long records, as long as the test wants it to. */
  private static final String PICKY = """
      # Write rows to files and refuse long ones, for tests.
      - templatedRoute:
          routeTemplateRef: sink
          routeId: sink-picky
          parameters:
            - { name: sink, value: picky }
            - { name: maxRowBytes, value: "{{user.picky.max}}" }
      - route:
          id: sink-picky-deliver
          description: Write a batch.
          errorHandler:
            noErrorHandler: {}
          from:
            uri: direct:deliver-picky
            steps:
              - to:
                  id: to-picky-file
                  uri: file:{{user.picky.directory}}
                  parameters:
                    fileName: ${header.CaravanBatchKey}.ndjson
      """;
  private static Distribution gateway;
  private static Path db;
  private static Path files;

  @BeforeAll
  static void start() throws IOException {
    gateway = Distribution.unpack("gateway", "recovery");
    db = gateway.home.resolve("data/gateway.db");
    files = gateway.home.resolve("data/file");
    Path token = Files.writeString(gateway.home.resolve("token"), SECRET + "\n");
    Files.createDirectories(files);
    gateway.with("wal.path", db).with("mqtt.server.port", Ports.free()).with("uplink.enabled", false).with("uplink.token.file", token)
        .with("sink.file.directory", files).with("sink.file.linger.ms", 0).with("sink.retry.min.ms", 100).with("sink.retry.max.ms", 500)
        .with("fanout.tick.ms", 500);
    gateway.start().awaitReady();
    for (int i = 1; i <= ROWS; i++) {
      post("good", i);
    }
    assertEquals(0, shell("feature:install caravan-sink-file").status());
    awaitBacklog("file", 0);
  }

  @AfterAll
  static void stop() {
    if (gateway != null) {
      gateway.close();
    }
  }

  private record Answer(int status, String text) {
    JsonNode json() {
      try {
        return new ObjectMapper().readTree(text);
      } catch (IOException e) {
        throw new AssertionError("no JSON: " + text, e);
      }
    }

    Answer ok() {
      assertEquals(0, status, text);
      return this;
    }

    /** It was refused, and the message has these parts. */
    void refused(String... parts) {
      assertNotEquals(0, status, text);
      Stream.of(parts).forEach(part -> assertTrue(text.contains(part), text));
    }
  }

  private static Answer shell(String command) throws IOException {
    Path out = Files.createTempFile(gateway.home, "shell", ".out");
    try (Child child = Child.start("shell", List.of(gateway.home.resolve("bin/caravan").toString(), "shell", command), Map.of(), gateway.home, out)) {
      int status = child.awaitExit(Duration.ofSeconds(60));
      return new Answer(status, Files.readString(out));
    }
  }

  private static void post(String device, int seq) throws IOException {
    post(device, seq, "\"metrics\":{\"t\":" + seq + "}");
  }

  private static void post(String device, int seq, String what) throws IOException {
    assertEquals(202, gateway.post("/ingest/" + device, "application/json", SmokeIT.numbered(seq, what).getBytes(StandardCharsets.UTF_8)).statusCode());
  }

  private static void awaitBacklog(String sink, long rows) {
    await(sink + "'s backlog is " + rows).atMost(SOON).pollInterval(Duration.ofMillis(200)).ignoreExceptions()
        .until(() -> Store.number(db, "SELECT backlog FROM ledger WHERE sink = '" + sink + "'") == rows);
  }

  private static void assertLedger() throws Exception {
    assertEquals(List.of(), Store.rows(db, "SELECT sink, unaccounted FROM ledger WHERE unaccounted <> 0"));
  }

  /** How often each sequence was written. */
  private static Map<Long, Integer> written() throws IOException {
    Map<Long, Integer> times = new TreeMap<>();
    try (Stream<Path> all = Files.walk(files)) {
      for (Path file : all.filter(f -> f.toString().endsWith(".ndjson")).toList()) {
        for (String line : Files.readAllLines(file)) {
          times.merge(new ObjectMapper().readTree(line).path("seq").asLong(), 1, Integer::sum);
        }
      }
    }
    return times;
  }

  private static JsonNode sink(String name) throws IOException {
    for (JsonNode sink : shell("sink:list --json").ok().json()) {
      if (sink.path("name").asText().equals(name)) {
        return sink;
      }
    }
    throw new AssertionError("no sink " + name);
  }

  @Test
  @Order(1)
  void statusAndLedger() throws Exception {
    JsonNode status = shell("wal:status --json").ok().json();
    assertEquals("DURABLE", status.path("state").asText());
    assertEquals(ROWS, status.path("newest_seq").asLong());
    JsonNode file = sink("file");
    assertTrue(file.path("installed").asBoolean());
    assertEquals(ROWS, file.path("acked").asLong());
    assertEquals("[]", shell("wal:ledger --deep --json").ok().json().path("discrepancies").toString());
    for (String command : List.of("sink:list", "wal:status", "wal:ledger", "dead:list", "wal:incidents", "gateway:diagnose")) {
      shell(command).ok();
    }
    assertLedger();
  }

  @Test
  @Order(2)
  void aMessageIsFound() throws Exception {
    JsonNode bySeq = shell("wal:peek --json 7").ok().json();
    assertEquals("good", bySeq.path("device_id").asText());
    assertEquals(bySeq, shell("wal:peek --json good/b1/7").ok().json());
    assertEquals(bySeq, shell("wal:peek --json " + bySeq.path("correlation_id").asText()).ok().json());
    List<String> places = new ArrayList<>();
    bySeq.path("places").forEach(p -> places.add(p.path("sink").asText() + " " + p.path("status").asText()));
    assertTrue(places.contains("file Acked"), places.toString());
  }

  @Test
  @Order(3)
  void destructiveCommandsAskFirst() throws Exception {
    shell("sink:reset file now").refused("no terminal", "--yes");
    shell("sink:remove file").refused("installed", "feature:uninstall");
    shell("wal:replay rollup --seq 1-2 --yes").refused("part of the gateway", "count rows twice");
    shell("sink:pause fiel").refused("[fiel]", "known are");
    shell("dead:requeue --yes").refused("--all");
    shell("wal:replay file --from yesterday --yes").refused("[yesterday]", "15m");
    assertLedger();
  }

  @Test
  @Order(4)
  void replayedRowsAreDeliveredOnceMore() throws Exception {
    Map<Long, Integer> before = written();
    JsonNode change = shell("wal:replay file --seq 5-8 --yes --json").ok().json();
    assertEquals(4, change.path("rows").asInt());
    awaitBacklog("file", 0);
    Map<Long, Integer> after = written();
    for (long seq = 1; seq <= ROWS; seq++) {
      assertEquals(before.get(seq) + (seq >= 5 && seq <= 8 ? 1 : 0), after.get(seq), "sequence " + seq);
    }
    assertEquals(ROWS, shell("wal:replay file --from 1h --yes --json").ok().json().path("rows").asInt());
    awaitBacklog("file", 0);
    assertLedger();
  }

  @Test
  @Order(5)
  void pauseResumeAndReset() throws Exception {
    shell("sink:pause file").ok();
    for (int i = ROWS + 1; i <= ROWS + 5; i++) {
      post("good", i);
    }
    awaitBacklog("file", 5);
    assertEquals("paused", sink("file").path("state").asText());
    assertTrue(shell("gateway:diagnose").ok().text().contains("sink:resume file"));
    assertEquals(3, shell("sink:reset file " + (ROWS + 4) + " --yes --json").ok().json().path("discarded").asInt());
    awaitBacklog("file", 2);
    shell("sink:resume file").ok();
    awaitBacklog("file", 0);
    assertEquals(3, Store.number(db, "SELECT discarded FROM ledger WHERE sink = 'file'"));
    assertFalse(written().containsKey((long) ROWS + 2));
    assertTrue(written().containsKey((long) ROWS + 5));
    assertLedger();
  }

  @Test
  @Order(6)
  void deadLettersComeBack() throws Exception {
    Path picked = gateway.home.resolve("data/picky");
    Path cfg = gateway.home.resolve("etc/io.caravan.user.cfg");
    Files.writeString(cfg, "user.picky.max=600\nuser.picky.directory=" + picked + "\n");
    Files.writeString(gateway.home.resolve("deploy/sink-picky.camel.yaml"), PICKY);
    awaitBacklog("picky", 0);
    post("bad", 1, "\"metrics\":{" + IntStream.range(0, 60).mapToObj(i -> "\"metric_of_some_length_" + i + "\":1").collect(Collectors.joining(",")) + "}");
    post("bad", 2, "\"metrics\":{" + IntStream.range(0, 50).mapToObj(i -> "\"metric_of_some_length_" + i + "\":1").collect(Collectors.joining(",")) + "}");
    await("two dead letters").atMost(SOON).pollInterval(Duration.ofMillis(200)).ignoreExceptions()
        .until(() -> Store.number(db, "SELECT dead FROM ledger WHERE sink = 'picky'") == 2);
    JsonNode cause = shell("dead:list --json").ok().json().path(0);
    assertEquals(2, cause.path("count").asInt());
    assertTrue(cause.path("error").asText().contains("the record has # bytes"), cause.toString());
    String[] lines = shell("dead:export --sink picky").ok().text().split("\n");
    assertEquals(2, lines.length);
    assertEquals("bad", new ObjectMapper().readTree(lines[0]).path("row").path("device_id").asText());
    Path export = gateway.home.resolve("dead.ndjson");
    shell("dead:export " + export).ok();
    assertEquals(2, Files.readAllLines(export).size());
    assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(export)));
    shell("dead:export " + export).refused("is there already");

    long one = cause.path("samples").asText().isEmpty() ? 0 : Long.parseLong(cause.path("samples").asText().split(",")[0]);
    assertEquals(1, shell("dead:discard --seq " + one + " --reason 'a test' --yes --json").ok().json().path("rows").asInt());
    Files.writeString(cfg, "user.picky.max=0\nuser.picky.directory=" + picked + "\n");
    await("the sink takes them").atMost(SOON).pollInterval(Duration.ofMillis(200)).until(() -> {
      shell("dead:requeue --cause " + cause.path("id").asText() + " --yes").ok();
      return Store.number(db, "SELECT backlog + dead FROM ledger WHERE sink = 'picky'") == 0;
    });
    assertEquals(1, Store.number(db, "SELECT discarded FROM ledger WHERE sink = 'picky'"));
    assertLedger();
  }

  @Test
  @Order(7)
  void aSinkIsRemovedAfterItsRoute() throws Exception {
    Files.delete(gateway.home.resolve("deploy/sink-picky.camel.yaml"));
    await("its route is gone").atMost(SOON).pollInterval(Duration.ofMillis(500)).until(() -> !sink("picky").path("installed").asBoolean());
    assertTrue(shell("gateway:diagnose").ok().text().contains("sink:remove picky"));
    shell("sink:remove picky --yes").ok();
    assertEquals(0, Store.number(db, "SELECT count(*) FROM sink WHERE name = 'picky'"));
    assertLedger();
  }

  @Test
  @Order(8)
  void theBundleHasEverythingButSecrets() throws Exception {
    Path file = Path.of(shell("gateway:bundle --json").ok().json().path("file").asText());
    Map<String, String> entries = new TreeMap<>();
    try (ZipFile zip = new ZipFile(file.toFile())) {
      for (ZipEntry entry : zip.stream().toList()) {
        entries.put(entry.getName(), new String(zip.getInputStream(entry).readAllBytes(), StandardCharsets.UTF_8));
      }
    }
    for (String name : List.of("about.json", "readiness.json", "diagnosis.json", "config.properties", "routes.json", "bundles.txt", "metrics.txt", "wal-status.json",
        "ledger.json", "sinks.json", "incidents.json", "dead-letters.json", "log.txt", "threads.txt", "routes/sink.camel.yaml")) {
      assertTrue(entries.containsKey(name), () -> name + " is missing in " + entries.keySet());
      assertFalse(entries.get(name).startsWith("could not be collected"), () -> name + ": " + entries.get(name));
    }
    assertTrue(entries.get("config.properties").contains("sink.file.linger.ms = 0"));
    assertTrue(entries.get("log.txt").contains("caravan"));
    assertEquals(List.of(), entries.entrySet().stream().filter(e -> e.getValue().contains(SECRET)).map(Map.Entry::getKey).collect(Collectors.toList()));
    assertFalse(entries.containsKey("dead-letters.ndjson"));
    assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(file)));
  }

  @Test
  @Order(9)
  void compactAndVerify() throws Exception {
    shell("wal:compact").ok();
    JsonNode verified = shell("wal:verify --whole --json").ok().json();
    assertTrue(verified.path("ok").asBoolean(), verified.toString());
    assertEquals(0, shell("wal:acknowledge --json").ok().json().path("acknowledged").asInt());
    assertLedger();
  }
}
