// SPDX-License-Identifier: Apache-2.0
package io.caravan.sinks;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.it.Ports;
import io.caravan.parts.KafkaPart;
import io.caravan.parts.KafkaPart.Received;
import io.caravan.runtime.Caravan;
import io.caravan.wal.Record;
import io.caravan.wal.Wal;
import io.caravan.wal.WalModule;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.ResourceLock;

/** Sink kafka on the real route files and store, against a real Kafka that is killed, halted, or refuses. */
@Timeout(180)
@ResourceLock("SinkKafkaTest")
class SinkKafkaTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final Duration LIMIT = Duration.ofSeconds(60);
  private static final int DEVICES = 7;

  private static KafkaPart kafka;

  @TempDir
  Path home;
  private final Map<String, String> settings = new HashMap<>();
  private Caravan caravan;
  private String topic;
  private int appended;

  @BeforeAll
  static void broker() {
    kafka = new KafkaPart.Builder().tls().start();
  }

  @AfterAll
  static void noBroker() {
    kafka.close();
  }

  @BeforeEach
  void defaults(TestInfo test) {
    topic = test.getTestMethod().orElseThrow().getName();
    settings.putAll(Map.ofEntries(Map.entry("sink.kafka.brokers", kafka.brokers()), Map.entry("sink.kafka.topic", topic),
        Map.entry("sink.kafka.connect.timeout.ms", "1500"), Map.entry("sink.kafka.request.timeout.ms", "1000"),
        Map.entry("sink.kafka.delivery.timeout.ms", "2000"), Map.entry("sink.kafka.batch.rows", "200"),
        Map.entry("sink.retry.min.ms", "20"), Map.entry("sink.retry.max.ms", "100"), Map.entry("sink.probe.ms", "100"),
        Map.entry("fanout.tick.ms", "100")));
  }

  @AfterEach
  void nothingIsUnaccounted() throws Exception {
    if (caravan != null) {
      assertEquals("0", text("SELECT unaccounted FROM ledger WHERE sink = 'kafka'"));
      caravan.close();
    }
  }

  @Test
  void aRowArrivesWithKeyHeadersAndItsLine() throws Exception {
    kafka.createTopic(topic, 3, Map.of());
    start();
    append(250);
    long now = System.currentTimeMillis();
    String trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    wal().submit(new Record("x/b1/0000000000000042", "c-x", "x", "event", "historical", "b1", 42, 1, now, now, 1, "application/json", trace,
        "{\"event\":\"\u00e4\"}".getBytes(StandardCharsets.UTF_8)), "http", "/ingest").toCompletableFuture().get(30, TimeUnit.SECONDS);
    appended++;
    List<Received> all = awaitAll();
    assertEquals(appended, all.size(), "nothing failed, so nothing comes twice");
    Received last = all.stream().filter(r -> r.key().equals("x")).findFirst().orElseThrow();
    assertEquals(Map.of("message_key", "x/b1/0000000000000042", "kind", "event", "device_id", "x", "lane", "historical", "traceparent", trace),
        last.headers());
    assertEquals("{\"seq\":251,\"gateway_id\":\"gateway-1\",\"message_key\":\"x/b1/0000000000000042\",\"correlation_id\":\"c-x\","
        + "\"device_id\":\"x\",\"kind\":\"event\",\"lane\":\"historical\",\"boot_id\":\"b1\",\"device_seq\":42,\"observed_at_ms\":1,"
        + "\"received_at_ms\":" + now + ",\"schema_version\":1,\"trace_context\":\"" + trace + "\",\"body\":{\"event\":\"\u00e4\"}}",
        new String(last.value(), StandardCharsets.UTF_8));
    assertEquals(Set.of("message_key", "kind", "device_id", "lane"), all.get(0).key().equals("x") ? Set.of() : all.get(0).headers().keySet());
  }

  @Test
  void whatWasAppendedWhileTheBrokerWasDeadArrives() throws Exception {
    kafka.createTopic(topic, 3, Map.of());
    start();
    append(500);
    await().atMost(LIMIT).until(() -> number("acked") > 0);
    kafka.kill();
    append(500);
    await().atMost(LIMIT).until(() -> Set.of("timeout", "unavailable").contains(state("reason")));
    assertEquals("running", state("state"));
    append(500);
    kafka.restart();
    awaitAll();
  }

  @Test
  void aBrokerThatComesLaterIsFoundAndIsNotWaitedForRowByRow() throws Exception {
    kafka.createTopic(topic, 3, Map.of());
    kafka.kill();
    try {
      start();
      append(1_000);
      // A failure within one connect timeout, whatever the number of rows: before the template has to interrupt it.
      await().atMost(LIMIT).until(() -> Long.parseLong(state("attempts")) >= 3);
      assertTrue(state("last_error").contains("not present in metadata"), state("last_error"));
    } finally {
      kafka.restart();
    }
    awaitAll();
  }

  @Test
  void whatWasAppendedWhileTheBrokerWasHaltedArrivesInOrder() throws Exception {
    kafka.createTopic(topic, 3, Map.of());
    start();
    for (int round = 0; round < 3; round++) {
      append(300);
      kafka.pause();
      try {
        append(700);
        await().atMost(LIMIT).until(() -> "timeout".equals(state("reason")));
      } finally {
        kafka.resume();
      }
      await().atMost(LIMIT).until(() -> number("backlog") == 0);
    }
    awaitAll();
  }

  @Test
  void aDeliveryThatIsInterruptedLeavesNothingBehindThatIsSentLater() throws Exception {
    settings.putAll(Map.of("sink.kafka.timeout.ms", "1000", "sink.kafka.request.timeout.ms", "30000", "sink.kafka.delivery.timeout.ms", "60000",
        "sink.kafka.connect.timeout.ms", "30000"));
    kafka.createTopic(topic, 3, Map.of());
    start();
    append(100);
    await().atMost(LIMIT).until(() -> number("acked") == 100);
    kafka.pause();
    try {
      append(1_000);
      await().atMost(LIMIT).until(() -> Long.parseLong(state("attempts")) >= 3);
      assertEquals("timeout", state("reason"));
    } finally {
      kafka.resume();
    }
    awaitAll();
  }

  @Test
  void aTopicThatIsNotThereIsAStateAndMendsItself() throws Exception {
    start();
    append(1_000);
    await().atMost(LIMIT).until(() -> "failed".equals(state("state")));
    assertEquals("not_found", state("reason"));
    assertTrue(state("last_error").contains(topic), state("last_error"));
    kafka.createTopic(topic, 3, Map.of());
    assertEquals(1_000, awaitAll().size());
    assertEquals("running", state("state"));
  }

  @Test
  void aTopicThatIsDeletedUnderwayIsAStateAndMendsItself() throws Exception {
    kafka.createTopic(topic, 3, Map.of());
    start();
    append(100);
    await().atMost(LIMIT).until(() -> number("acked") == 100);
    kafka.deleteTopic(topic);
    append(100);
    await().atMost(LIMIT).until(() -> "failed".equals(state("state")));
    assertEquals("not_found", state("reason"));
    kafka.createTopic(topic, 3, Map.of());
    await().atMost(LIMIT).until(() -> number("backlog") == 0);
    // Those of the first topic went with it.
    assertEquals(100, kafka.count(topic));
    assertEquals(200, number("acked"));
  }

  @Test
  void wrongCredentialsAreAStateAndMendThemselves() throws Exception {
    kafka.createTopic(topic, 3, Map.of());
    kafka.scramUser("g\"w", "other");
    settings.putAll(Map.of("sink.kafka.brokers", kafka.saslBrokers(), "sink.kafka.security.protocol", "SASL_PLAINTEXT",
        "sink.kafka.sasl.mechanism", "SCRAM-SHA-512", "sink.kafka.user", "g\"w", "sink.kafka.password", "p&a\\s=\"s%20+"));
    start();
    append(100);
    await().atMost(LIMIT).until(() -> "failed".equals(state("state")));
    assertEquals("unauthorized", state("reason"));
    // On the broker's side: the gateway is not touched, and its next probe gets through.
    kafka.scramUser("g\"w", "p&a\\s=\"s%20+");
    assertEquals(100, awaitAll().size());
  }

  @Test
  void tlsWithAClientCertificate() throws Exception {
    kafka.createTopic(topic, 3, Map.of());
    settings.putAll(Map.of("sink.kafka.brokers", kafka.tlsBrokers(), "sink.kafka.security.protocol", "SSL",
        "sink.kafka.ca.file", kafka.ca().toString(), "sink.kafka.client.cert.file", kafka.clientCert().toString(),
        "sink.kafka.client.key.file", kafka.clientKey().toString()));
    start();
    append(100);
    assertEquals(100, awaitAll().size());
  }

  @Test
  void aBrokerWithAnotherCertificateGetsNothing() throws Exception {
    kafka.createTopic(topic, 3, Map.of());
    settings.putAll(Map.of("sink.kafka.brokers", kafka.tlsBrokers(), "sink.kafka.security.protocol", "SSL",
        "sink.kafka.client.cert.file", kafka.clientCert().toString(), "sink.kafka.client.key.file", kafka.clientKey().toString()));
    start();
    append(100);
    await().atMost(LIMIT).until(() -> "failed".equals(state("state")));
    assertTrue(Set.of("unauthorized", "misconfigured").contains(state("reason")), state("reason") + ": " + state("last_error"));
    assertEquals(0, kafka.count(topic));
  }

  @Test
  void aRowThatIsTooLargeIsADeadLetterAndIsNotSent() throws Exception {
    settings.put("sink.kafka.max.row.bytes", "10000");
    kafka.createTopic(topic, 3, Map.of());
    start();
    append(100);
    append(noise(20_000));
    append(100);
    await().atMost(LIMIT).until(() -> number("backlog") == 0);
    assertEquals("too_large,1", text("SELECT reason || ',' || count(*) FROM dead_letter WHERE sink = 'kafka' GROUP BY reason"));
    assertEquals(200, number("acked"));
    assertEquals(200, kafka.count(topic), "the others, and each once");
  }

  @Test
  void rowsThatTheBrokerRefusesAreExactlyTheDeadLetters() throws Exception {
    kafka.createTopic(topic, 3, Map.of("max.message.bytes", "10000"));
    settings.put("sink.kafka.request.bytes", "5000");
    startWhenABatchIsFull();
    append(100);
    append(noise(20_000));
    append(50);
    append(noise(20_000));
    append(48);
    await().atMost(LIMIT).until(() -> number("backlog") == 0);
    assertEquals("101,too_large|152,too_large", text("SELECT group_concat(seq || ',' || reason, '|' ORDER BY seq) FROM dead_letter WHERE sink = 'kafka'"));
    assertEquals(198, number("acked"));
    assertEquals(198, kafka.count(topic), "the others of the batch, and each once");
    order(kafka.records(topic));
  }

  @Test
  void requestsThatAreTooLargeForTheTopicAreAStateAndNotAStorm() throws Exception {
    kafka.createTopic(topic, 1, Map.of("max.message.bytes", "10000"));
    settings.put("sink.kafka.compression", "none");
    startWhenABatchIsFull();
    append(200);
    await().atMost(LIMIT).until(() -> "failed".equals(state("state")));
    assertEquals("misconfigured", state("reason"));
    assertTrue(state("last_error").contains("max.message.bytes"), state("last_error"));
  }

  /** To a broker that takes nothing that is older than now, this machine's clock is slow. */
  @Test
  void aClockThatIsWrongMakesNoDeadLetters() throws Exception {
    kafka.createTopic(topic, 1, Map.of("message.timestamp.before.max.ms", "0"));
    settings.put("sink.kafka.request.linger.ms", "100");
    start();
    append(200);
    await().atMost(LIMIT).until(() -> "failed".equals(state("state")));
    assertEquals("misconfigured", state("reason"));
    assertTrue(state("last_error").contains("clock"), state("last_error"));
    kafka.deleteTopic(topic);
    kafka.createTopic(topic, 1, Map.of());
    await().atMost(LIMIT).until(() -> number("backlog") == 0);
    assertEquals(200, number("acked"));
    assertEquals(200, kafka.records(topic).stream().map(r -> r.headers().get("message_key")).distinct().count());
    assertNull(text("SELECT group_concat(seq) FROM dead_letter"));
  }

  /** All 200 rows of a test share a batch. */
  private void startWhenABatchIsFull() throws Exception {
    settings.put("sink.kafka.linger.ms", "3600000");
    start();
  }

  private void start() throws Exception {
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    Caravan.Builder builder = Caravan.builder().context(context).home(home).cfg(Files.createDirectories(home.resolve("etc")))
        .keys(REPO.resolve("config/gateway/keys")).set("container.role", "gateway")
        .set("http.port", String.valueOf(Ports.free())).withoutDiscovery().module("wal", new WalModule())
        .routes(REPO.resolve("routes/gateway/sink.camel.yaml"), REPO.resolve("routes/gateway/fanout.camel.yaml"),
            REPO.resolve("routes/gateway/sink-kafka.camel.yaml"));
    settings.forEach(builder::set);
    caravan = builder.start();
    assertTrue(caravan.awaitReady(LIMIT), () -> caravan.checks() + " " + caravan.routes());
    await().atMost(LIMIT).until(() -> text("SELECT state FROM sink WHERE name = 'kafka'") != null);
  }

  private Wal wal() {
    return caravan.context().getRegistry().lookupByNameAndType("wal", Wal.class);
  }

  private void append(int rows) throws Exception {
    List<CompletionStage<?>> stages = new ArrayList<>();
    for (int i = 0; i < rows; i++) {
      stages.add(submit("{\"metrics\":{\"t\":" + appended + "}}"));
    }
    for (CompletionStage<?> stage : stages) {
      stage.toCompletableFuture().get(30, TimeUnit.SECONDS);
    }
  }

  private void append(String body) throws Exception {
    submit(body).toCompletableFuture().get(30, TimeUnit.SECONDS);
  }

  private CompletionStage<?> submit(String body) {
    int number = appended++;
    long now = System.currentTimeMillis();
    String device = "d" + number % DEVICES;
    return wal().submit(new Record(device + "//k/" + number, "c-" + number, device, "telemetry", "live", null, 0, now, now, now, 1,
        "application/json", null, body.getBytes(StandardCharsets.UTF_8)), "http", "/ingest");
  }

  /** Nothing can make it smaller. */
  private static String noise(int bytes) {
    StringBuilder text = new StringBuilder("{\"noise\":\"");
    new Random(7).ints(bytes, 'A', 'Z' + 1).forEach(c -> text.append((char) c));
    return text.append("\"}").toString();
  }

  /** Waits until all is delivered; everything is in the topic, each device's in order. */
  private List<Received> awaitAll() throws Exception {
    await().atMost(LIMIT).until(() -> number("backlog") == 0);
    assertEquals(appended, number("acked"));
    List<Received> all = kafka.records(topic);
    Set<String> keys = new HashSet<>();
    all.forEach(r -> keys.add(r.headers().get("message_key")));
    assertEquals(appended, keys.size(), "distinct message_key in the topic = acked");
    order(all);
    return all;
  }

  /** Whoever reads a device's records and takes each message_key once gets them in order of seq. */
  private static void order(List<Received> all) {
    Map<String, Set<Long>> devices = new TreeMap<>();
    for (Received r : all) {
      String line = new String(r.value(), StandardCharsets.UTF_8);
      devices.computeIfAbsent(r.key(), d -> new LinkedHashSet<>()).add(Long.parseLong(line.substring(7, line.indexOf(','))));
    }
    devices.forEach((device, seqs) -> assertEquals(seqs.stream().sorted().toList(), List.copyOf(seqs), "order of " + device));
  }

  private long number(String column) throws Exception {
    return Long.parseLong(text("SELECT " + column + " FROM ledger WHERE sink = 'kafka'"));
  }

  private String state(String column) throws Exception {
    return String.valueOf(text("SELECT " + column + " FROM sink WHERE name = 'kafka'"));
  }

  private String text(String sql) throws Exception {
    DataSource reader = caravan.context().getRegistry().lookupByNameAndType("reader", DataSource.class);
    try (Connection c = reader.getConnection(); Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
      return r.next() ? r.getString(1) : null;
    }
  }
}
