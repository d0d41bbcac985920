// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.parts.KafkaPart;
import io.caravan.parts.KafkaPart.Received;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.sql.SQLException;
import java.time.Duration;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Feature caravan-sink-kafka in the real gateway, against a real Kafka that asks for a password. */
class SinkKafkaIT {
  private static final Duration SOON = Duration.ofSeconds(60);
  private static final Duration DRAIN = Duration.ofSeconds(120);
  private static final String USER = "gateway";
  private static final String PASSWORD = "s3cret &\"=+%20";

  private static Distribution gateway;
  private static KafkaPart kafka;
  private static Path db;
  private static int mqttPort;

  @BeforeAll
  static void start() throws Exception {
    mqttPort = Ports.free();
    kafka = KafkaPart.start();
    kafka.scramUser(USER, PASSWORD);
    kafka.createTopic("telemetry", 3, Map.of());
    gateway = Distribution.unpack("gateway", "sink-kafka-gateway");
    db = gateway.home.resolve("data/caravan/gateway.db");
    Files.writeString(gateway.home.resolve("kafka.password"), PASSWORD + "\n");
    configure("telemetry");
    gateway.with("mqtt.server.port", mqttPort).with("uplink.enabled", false).with("sink.retry.max.ms", 1_000).with("sink.probe.ms", 500)
        .start().awaitReady();
    // Offline: everything is in the distribution.
    gateway.shell("feature:install caravan-sink-kafka");
    await("the sink runs").atMost(SOON).until(() -> state().startsWith("running"));
  }

  @AfterAll
  static void stop() {
    if (gateway != null) {
      gateway.close();
    }
    if (kafka != null) {
      kafka.close();
    }
  }

  @AfterEach
  void accountsBalance() throws Exception {
    awaitDrained();
    assertEquals(0, Store.number(db, "SELECT unaccounted FROM ledger WHERE sink = 'kafka'"));
    assertEquals(0, Store.number(db, "SELECT dead FROM ledger WHERE sink = 'kafka'"));
  }

  @Test
  void allThatIsAckedHasArrivedInOrderWhateverHappensToTheBrokerAndTheGateway() throws Exception {
    configure("telemetry");
    long before = acked();
    Set<String> keysBefore = keys(kafka.records("telemetry"));
    try (Load load = new Load(gateway.home, mqttPort).numbered()) {
      load.awaitProgress(1_000);
      awaitDelivering();
      kafka.kill();
      await("the sink notices").atMost(SOON).until(() -> Set.of("running,timeout", "running,unavailable").contains(state()));
      load.awaitProgress(1_000);
      kafka.restart();
      awaitDelivering();
      kafka.pause();
      await("the sink notices").atMost(SOON).until(() -> state().equals("running,timeout"));
      load.awaitProgress(1_000);
      kafka.resume();
      awaitDelivering();
      gateway.kill();
      gateway.start().awaitReady();
      awaitDelivering();
      load.awaitProgress(1_000);
      load.finish();
    }
    awaitDrained();
    List<Received> records = kafka.records("telemetry");
    Set<String> keys = keys(records);
    keys.removeAll(keysBefore);
    System.out.printf("sink kafka: acked %d, in the topic %d, distinct %d%n", acked() - before, records.size() - keysBefore.size(), keys.size());
    assertEquals(acked() - before, keys.size(), "distinct message_key = acked");
    assertEquals(Store.number(db, "SELECT count(*) FROM wal"), acked());
    Map<String, Set<Long>> devices = new TreeMap<>();
    for (Received r : records) {
      String line = new String(r.value(), StandardCharsets.UTF_8);
      devices.computeIfAbsent(r.key(), d -> new LinkedHashSet<>()).add(Long.parseLong(line.substring("{\"seq\":".length(), line.indexOf(','))));
    }
    devices.forEach((device, seqs) -> assertEquals(seqs.stream().sorted().toList(), List.copyOf(seqs), "order of " + device));
  }

  @Test
  void aMissingTopicIsFailedAndRecoversByItself() throws Exception {
    configure("later");
    await("state failed").atMost(SOON).until(() -> {
      post();
      return state().equals("failed,not_found");
    });
    assertEquals(200, gateway.status("/readyz"), "it stores everything all the same");
    kafka.createTopic("later", 1, Map.of());
    awaitDrained();
    assertTrue(kafka.count("later") > 0);
    await().atMost(SOON).until(() -> state().equals("running,null"));
  }

  /** What an operator's own route uses, with Kafka's classes looked up by name. */
  @Test
  void camelKafkaWorksBesideIt() throws Exception {
    kafka.createTopic("own", 1, Map.of());
    Path route = gateway.home.resolve("own-kafka.camel.yaml");
    Files.writeString(route, """
        - route:
            id: own-kafka
            from:
              uri: timer:own-kafka
              parameters: { repeatCount: 1 }
              steps:
                - setBody: { constant: hello }
                - to:
                    uri: kafka:own
                    parameters:
                      brokers: %s
                      securityProtocol: SASL_PLAINTEXT
                      saslMechanism: PLAIN
                      saslJaasConfig: RAW(org.apache.kafka.common.security.plain.PlainLoginModule required username="%s" password="%s";)
                      compressionCodec: gzip
        """.formatted(kafka.saslBrokers(), KafkaPart.USER, KafkaPart.PASSWORD));
    Files.move(route, gateway.home.resolve("deploy/own-kafka.camel.yaml"), StandardCopyOption.ATOMIC_MOVE);
    await("the record").atMost(SOON).until(() -> kafka.count("own") == 1);
    assertEquals("hello", new String(kafka.records("own").get(0).value(), StandardCharsets.UTF_8));
    Files.delete(gateway.home.resolve("deploy/own-kafka.camel.yaml"));
  }

  private static void configure(String topic) throws IOException {
    Path saved = Files.writeString(gateway.home.resolve("etc/sink.kafka.saved"), "sink.kafka.topic = " + topic + "\nsink.kafka.brokers = "
        + kafka.saslBrokers() + "\nsink.kafka.security.protocol = SASL_PLAINTEXT\nsink.kafka.user = " + USER
        + "\nsink.kafka.password.file = " + gateway.home.resolve("kafka.password")
        + "\nsink.kafka.connect.timeout.ms = 2000\nsink.kafka.request.timeout.ms = 1000\nsink.kafka.delivery.timeout.ms = 3000\n");
    Files.move(saved, gateway.home.resolve("etc/io.caravan.sink.kafka.cfg"), StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
  }

  private static void post() throws IOException {
    byte[] body = ("{\"schema_version\":1,\"metrics\":{\"t\":" + System.nanoTime() + "}}").getBytes(StandardCharsets.UTF_8);
    assertEquals(202, gateway.post("/ingest/poster", "application/json", body).statusCode());
  }

  private static Set<String> keys(List<Received> records) {
    Set<String> keys = new HashSet<>();
    records.forEach(r -> keys.add(r.headers().get("message_key")));
    return keys;
  }

  private static String state() throws SQLException {
    List<String> rows = Store.rows(db, "SELECT state, reason FROM sink WHERE name = 'kafka'");
    return rows.isEmpty() ? "" : rows.get(0);
  }

  private static void awaitDelivering() throws SQLException {
    long from = acked();
    await("rows are acked").atMost(DRAIN).until(() -> acked() > from);
  }

  private static void awaitDrained() {
    await("no backlog").atMost(DRAIN).until(() -> Store.number(db, "SELECT backlog FROM ledger WHERE sink = 'kafka'") == 0);
  }

  private static long acked() throws SQLException {
    return Store.number(db, "SELECT acked FROM ledger WHERE sink = 'kafka'");
  }
}
