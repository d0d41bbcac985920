// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.parts.S3Part;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Features caravan-sink-s3 and caravan-archive-s3 in the real gateway, against a real S3 server. */
class SinkS3IT {
  private static final Duration SOON = Duration.ofSeconds(60);
  private static final Duration DRAIN = Duration.ofSeconds(120);
  private static final String BUCKET = "telemetry-offload";

  private static Distribution gateway;
  private static S3Part s3;
  private static Path db;
  private static final Map<String, String> S3_KEYS = new TreeMap<>();
  private static final Map<String, String> SINK_KEYS = new TreeMap<>();

  @BeforeAll
  static void start() throws Exception {
    s3 = S3Part.start();
    s3.createBucket(BUCKET);
    s3.createBucket("telemetry-archive");
    gateway = Distribution.unpack("gateway", "sink-s3-gateway");
    db = gateway.home.resolve("data/caravan/gateway.db");
    S3_KEYS.putAll(Map.of("s3.endpoint", s3.endpoint(), "s3.access.key", S3Part.ACCESS_KEY, "s3.secret.key", S3Part.SECRET_KEY,
        "s3.connect.timeout.ms", "1000", "s3.socket.timeout.ms", "1500", "s3.attempt.timeout.ms", "2000", "s3.call.timeout.ms", "3000"));
    SINK_KEYS.putAll(Map.of("sink.s3.batch.rows", "100", "sink.s3.linger.ms", "200"));
    configure();
    // Among what boots: then the bundles arrive while the first route files are read. The other sinks' tests install theirs into a running gateway.
    Path features = gateway.home.resolve("etc/org.apache.karaf.features.cfg");
    Files.writeString(features, Files.readString(features).replaceFirst("caravan-console/(\\S+)", "caravan-sink-s3/$1, caravan-archive-s3/$1, caravan-console/$1"));
    gateway.with("mqtt.server.port", Ports.free()).with("uplink.enabled", false).with("sink.retry.max.ms", 1_000).with("sink.probe.ms", 500)
        .with("fanout.tick.ms", 200).start().awaitReady();
    awaitState("running,null");
    gateway.awaitReady();
  }

  @AfterAll
  static void stop() {
    if (gateway != null) {
      gateway.close();
    }
    if (s3 != null) {
      s3.close();
    }
  }

  /** Whatever a test did: every row of the log is a line of exactly one object, or a dead letter. */
  @AfterEach
  void everyRowIsThereOnce() throws Exception {
    await("all delivered").atMost(DRAIN).until(() -> Store.number(db, "SELECT backlog FROM ledger WHERE sink = 's3'") == 0);
    List<Long> seqs = new ArrayList<>();
    for (S3Part.Listed object : s3.list(BUCKET, "")) {
      for (String line : lines(BUCKET, object.key())) {
        seqs.add(new ObjectMapper().readTree(line).path("seq").asLong());
      }
    }
    List<String> ledger = Store.rows(db, "SELECT appended, acked, dead, unaccounted FROM ledger WHERE sink = 's3'");
    System.out.printf("sink s3: appended, acked, dead, unaccounted = %s; lines in %d objects: %d%n", ledger.get(0), s3.list(BUCKET, "").size(), seqs.size());
    assertEquals(0, Store.number(db, "SELECT unaccounted FROM ledger WHERE sink = 's3'"));
    assertEquals(seqs.size(), new HashSet<>(seqs).size(), "rows that are there twice");
    assertEquals(Store.number(db, "SELECT acked FROM ledger WHERE sink = 's3'"), seqs.size(), "acked, and in an object");
    assertFalse(gateway.console().contains(S3Part.SECRET_KEY) || gateway.log().contains(S3Part.SECRET_KEY), "a secret is in the log");
  }

  @Test
  void whatIsAckedIsStoredOnceWhateverHappensToTheServerAndTheGateway() throws Exception {
    try (Traffic traffic = new Traffic("t")) {
      traffic.await(300);
      s3.kill();
      awaitState("running,unavailable");
      traffic.await(300);
      s3.restart();
      awaitState("running,null");
      s3.pause();
      awaitState("running,timeout");
      s3.resume();
      awaitState("running,null");
      for (int i = 0; i < 3; i++) {
        // As close behind a PUT as can be seen from outside: the ack of this object is mostly not written yet.
        int objects = s3.list(BUCKET, "").size();
        await("a new object").atMost(SOON).pollDelay(Duration.ZERO).pollInterval(Duration.ofMillis(1)).until(() -> s3.list(BUCKET, "").size() > objects);
        gateway.kill();
        gateway.start().awaitReady();
        traffic.await(200);
      }
    }
  }

  @Test
  void aWrongSecretFailsTheSinkUntilItIsCorrected() throws Exception {
    S3_KEYS.put("s3.secret.key", "wrong-secret");
    configure();
    try (Traffic traffic = new Traffic("u")) {
      traffic.await(50);
      awaitState("failed,unauthorized");
      assertFalse(gateway.log().contains("wrong-secret"), "a secret is in the log");
    } finally {
      S3_KEYS.put("s3.secret.key", S3Part.SECRET_KEY);
      configure();
    }
    awaitState("running,null");
  }

  @Test
  void aMissingBucketFailsTheSinkUntilItIsThere() throws Exception {
    SINK_KEYS.put("sink.s3.bucket", "not-made-yet");
    configure();
    try (Traffic traffic = new Traffic("b")) {
      traffic.await(50);
      awaitState("failed,not_found");
    } finally {
      SINK_KEYS.remove("sink.s3.bucket");
      configure();
    }
    awaitState("running,null");
  }

  @Test
  void aRowThatIsTooLargeIsOneDeadLetterAndTheRestGoesOn() throws Exception {
    long dead = Store.number(db, "SELECT dead FROM ledger WHERE sink = 's3'");
    SINK_KEYS.put("sink.s3.max.row.bytes", "4096");
    configure();
    // In force when its route has been replaced: until then a long row goes through.
    try (Traffic traffic = new Traffic("d")) {
      traffic.await(20);
      await("a dead letter").atMost(SOON).until(() -> {
        post("/ingest/large/events", "{\"schema_version\":1,\"event\":\"e\",\"data\":{\"text\":\"" + "x".repeat(5_000) + System.nanoTime() + "\"}}");
        return Store.number(db, "SELECT dead FROM ledger WHERE sink = 's3'") > dead;
      });
      traffic.await(20);
    } finally {
      SINK_KEYS.remove("sink.s3.max.row.bytes");
      configure();
    }
    assertEquals(0, Store.number(db, "SELECT count(*) FROM dead_letter WHERE sink = 's3' AND reason <> 'too_large'"));
    assertTrue(Store.number(db, "SELECT count(*) FROM dead_letter WHERE sink = 's3' AND reason = 'too_large'") > 0);
  }

  @Test
  void aDayIsArchivedByHandFromTheDeployFolder() throws Exception {
    try (Traffic traffic = new Traffic("a")) {
      traffic.await(250);
    }
    await("all delivered").atMost(DRAIN).until(() -> Store.number(db, "SELECT backlog FROM ledger WHERE sink = 's3'") == 0);
    S3Part.Listed some = s3.list(BUCKET, "date=").get(0);
    String day = some.key().substring("date=".length(), "date=".length() + 10);
    List<String> lines = new ArrayList<>();
    for (S3Part.Listed object : s3.list(BUCKET, "date=" + day)) {
      lines.addAll(lines(BUCKET, object.key()));
    }
    Path file = gateway.home.resolve("deploy/archive-once.camel.yaml");
    Files.writeString(file, """
        - route:
            id: archive-once
            from:
              uri: timer:archive-once
              parameters:
                repeatCount: 1
              steps:
                - setHeader:
                    name: CaravanDate
                    constant: %s
                - to: direct:archive-s3
        """.formatted(day));
    await("an archived day").atMost(SOON).until(() -> !s3.list("telemetry-archive", "date=" + day).isEmpty());
    List<String> archived = new ArrayList<>();
    for (S3Part.Listed object : s3.list("telemetry-archive", "date=" + day)) {
      archived.addAll(lines("telemetry-archive", object.key()));
    }
    Files.delete(file);
    assertEquals(lines.stream().sorted().toList(), archived.stream().sorted().toList());
  }

  private static List<String> lines(String bucket, String key) {
    try (GZIPInputStream in = new GZIPInputStream(new ByteArrayInputStream(s3.get(bucket, key).body()))) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8).lines().toList();
    } catch (IOException e) {
      throw new UncheckedIOException(key, e);
    }
  }

  private static void configure() throws IOException {
    write("io.caravan.s3.cfg", S3_KEYS);
    write("io.caravan.sink.s3.cfg", SINK_KEYS);
  }

  private static void write(String file, Map<String, String> keys) throws IOException {
    StringBuilder text = new StringBuilder();
    keys.forEach((key, value) -> text.append(key).append(" = ").append(value).append('\n'));
    Files.writeString(gateway.home.resolve("etc/" + file), text);
  }

  private static void awaitState(String state) {
    await("state of the sink " + state).atMost(SOON).until(() -> state(), state::equals);
  }

  private static String state() throws SQLException {
    List<String> rows = Store.rows(db, "SELECT state, reason FROM sink WHERE name = 's3'");
    return rows.isEmpty() ? "none" : rows.get(0);
  }

  private static int post(String path, String body) {
    try {
      return gateway.post(path, "application/json", body.getBytes(StandardCharsets.UTF_8)).statusCode();
    } catch (IOException e) {
      return 0;
    }
  }

  /** One device that sends a numbered message after the other by HTTP, and each again until it has a 202. */
  private static final class Traffic implements AutoCloseable {
    private final AtomicInteger accepted = new AtomicInteger();
    private final Thread thread;
    private volatile boolean ending;

    Traffic(String device) {
      String boot = Long.toString(System.nanoTime(), 36);
      thread = new Thread(() -> {
        for (int n = 1; !ending; n++) {
          String body = "{\"schema_version\":1,\"boot_id\":\"" + boot + "\",\"device_seq\":" + n + ",\"metrics\":{\"t\":" + n + "}}";
          while (post("/ingest/" + device, body) != 202) {
            Thread.yield();
          }
          accepted.incrementAndGet();
        }
      }, "traffic");
      thread.start();
    }

    void await(int more) {
      int until = accepted.get() + more;
      org.awaitility.Awaitility.await("messages").atMost(DRAIN).until(() -> accepted.get() >= until);
    }

    @Override
    public void close() throws InterruptedException {
      ending = true;
      thread.join();
    }
  }
}
