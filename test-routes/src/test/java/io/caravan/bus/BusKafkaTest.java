// SPDX-License-Identifier: Apache-2.0
package io.caravan.bus;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.parts.KafkaPart;
import io.caravan.parts.KafkaPart.Received;
import io.caravan.postgres.test.PostgresServer;
import io.caravan.wal.Recovery.DeadFilter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Route bus-kafka between a real inbox, a real Kafka that is killed or loses its topic, and the real store. */
@Timeout(180)
class BusKafkaTest {
  private static final Duration LIMIT = CloudBox.LIMIT;
  private static KafkaPart kafka;
  private static int topics;

  @TempDir
  Path home;
  private final Map<String, String> settings = new HashMap<>();
  private String topic;
  private CloudBox cloud;

  @BeforeAll
  static void broker() {
    kafka = new KafkaPart.Builder().property("group.min.session.timeout.ms", "1000").property("group.initial.rebalance.delay.ms", "0").start();
  }

  @AfterAll
  static void noBroker() {
    kafka.close();
  }

  @BeforeEach
  void defaults(TestInfo test) {
    topic = test.getTestMethod().orElseThrow().getName() + "-" + ++topics;
    settings.putAll(Map.of("bus.type", "kafka", "bus.kafka.brokers", kafka.brokers(), "bus.kafka.topic", topic, "bus.kafka.group", topic,
        "bus.kafka.connect.timeout.ms", "1500", "bus.kafka.request.timeout.ms", "3000", "bus.kafka.delivery.timeout.ms", "6000",
        "bus.kafka.batch.rows", "200", "bus.kafka.poll.ms", "50", "bus.kafka.session.timeout.ms", "2000"));
    kafka.createTopic(topic, 4, Map.of());
  }

  @AfterEach
  void stop() {
    if (cloud != null) {
      cloud.close();
    }
  }

  private CloudBox cloud(PostgresServer.Database database) throws Exception {
    cloud = new CloudBox(home, database, settings);
    return cloud;
  }

  /** Everything is in the tables once, the store's cursor says so, and nothing is outstanding. */
  private void whole(int rows) throws Exception {
    await().atMost(LIMIT).until(() -> cloud.stored() >= rows);
    assertEquals(rows, cloud.number("SELECT count(*) FROM message"));
    await().atMost(LIMIT).until(() -> cloud.number("SELECT count(*) FROM inbox i WHERE i.seq > (SELECT min(acked_seq) FROM sink_range WHERE sink = 'store')") == 0);
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void rowsGoOverTheTopicOnceAndInOrderOfTheirDevice(boolean postgres) throws Exception {
    cloud(postgres ? PostgresServer.shared().database() : null);
    cloud.append(1, 500);
    whole(500);
    await().atMost(LIMIT).until(() -> cloud.number("SELECT count(*) FROM bus_mark") == 0);
    List<Received> all = kafka.records(topic);
    assertEquals(500, all.stream().map(r -> r.headers().get("message_key")).distinct().count());
    Received one = all.stream().filter(r -> "k-7".equals(r.headers().get("message_key"))).findFirst().orElseThrow();
    assertEquals("gw-1/d7", one.key());
    assertEquals("gw-1", one.headers().get("gateway_id"));
    String line = new String(one.value(), StandardCharsets.UTF_8);
    assertTrue(line.contains("\"gateway_id\":\"gw-1\",\"message_key\":\"k-7\",\"device_id\":\"d7\",\"kind\":\"telemetry\",\"lane\":\"live\""), line);
    assertFalse(line.contains("correlation_id") || line.contains("schema_version"), line);
    Map<String, List<Integer>> numbers = all.stream().collect(Collectors.groupingBy(Received::key,
        Collectors.mapping(r -> Integer.parseInt(r.headers().get("message_key").substring(2)), Collectors.toList())));
    numbers.forEach((device, order) -> assertEquals(order.stream().distinct().sorted().toList(), order.stream().distinct().toList(), device));
  }

  @Test
  void switchingThereAndBackUnderLoadLosesAndDoublesNothing() throws Exception {
    cloud(null);
    AtomicInteger appended = new AtomicInteger();
    AtomicBoolean on = new AtomicBoolean(true);
    CompletableFuture<Void> load = CompletableFuture.runAsync(() -> {
      while (on.get()) {
        try {
          cloud.append(appended.get() + 1, 20);
          appended.addAndGet(20);
        } catch (Exception e) {
          throw new IllegalStateException(e);
        }
      }
    });
    for (String type : List.of("embedded", "kafka", "embedded", "kafka")) {
      int so = appended.get() + 200;
      await().atMost(LIMIT).until(() -> appended.get() > so);
      cloud.set("bus.type", type);
      long stored = cloud.stored();
      await().atMost(LIMIT).until(() -> cloud.stored() > stored + 100);
    }
    on.set(false);
    load.get(30, TimeUnit.SECONDS);
    whole(appended.get());
    assertTrue(kafka.count(topic) > 100, "some went over Kafka");
  }

  @Test
  void whatADeadKafkaHoldsIsStoredWithoutItAfterTheSwitch() throws Exception {
    cloud(null);
    cloud.append(1, 50);
    whole(50);
    heldInTheTopic(51, 100);
    kafka.kill();
    try {
      embedded();
      cloud.recovery().resume("store");
      whole(150);
    } finally {
      kafka.restart();
    }
  }

  /** The same, but for a cursor that passed what was only published: the rows are lost, and the test above would see it. */
  @Test
  void aCursorThatPassesWhatIsOnlyInTheTopicWouldLoseIt() throws Exception {
    cloud(null);
    cloud.append(1, 50);
    whole(50);
    heldInTheTopic(51, 100);
    kafka.kill();
    try {
      cloud.execute("UPDATE sink_range SET acked_seq = (SELECT max(acked_seq) FROM sink_range WHERE sink = 'bus') WHERE sink = 'store'");
      embedded();
      cloud.recovery().resume("store");
      cloud.append(151, 50);
      await().atMost(LIMIT).until(() -> cloud.stored() == 100);
      assertEquals(0, cloud.number("SELECT count(*) FROM message WHERE message_key = 'k-100'"));
    } finally {
      kafka.restart();
    }
  }

  /** The old route is gone, with what its consumer had in its hands, and the new one has left the topic. */
  private void embedded() throws Exception {
    cloud.set("bus.type", "embedded");
    await().atMost(LIMIT).until(() -> cloud.rows("SELECT name FROM sink WHERE name = 'bus'").isEmpty());
  }

  /** Rows that are published and that nobody reads. */
  private void heldInTheTopic(int from, int rows) throws Exception {
    cloud.recovery().pause("store");
    cloud.append(from, rows);
    await().atMost(LIMIT).until(() -> cloud.number("SELECT max(seq) FROM inbox") == cloud.cursor("bus"));
    assertEquals(from - 1, cloud.stored());
    assertEquals(rows, cloud.number("SELECT count(*) FROM inbox i WHERE i.seq > (SELECT acked_seq FROM sink_range WHERE sink = 'store')"),
        "the inbox has what the store does not have");
  }

  @Test
  void whatWentWithATopicThatWasDeletedIsPublishedAgain() throws Exception {
    cloud(null);
    cloud.append(1, 50);
    whole(50);
    heldInTheTopic(51, 100);
    kafka.deleteTopic(topic);
    await().atMost(LIMIT).ignoreExceptions().until(() -> {
      kafka.createTopic(topic, 4, Map.of());
      return true;
    });
    cloud.append(151, 50);
    cloud.recovery().resume("store");
    whole(200);
  }

  @Test
  void rowsWaitInTheInboxWhileKafkaIsDead() throws Exception {
    cloud(null);
    cloud.append(1, 50);
    whole(50);
    kafka.kill();
    try {
      cloud.append(51, 100);
      await().atMost(LIMIT).until(() -> cloud.number("SELECT attempts FROM sink WHERE name = 'bus'") > 0);
    } finally {
      kafka.restart();
    }
    whole(150);
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void poisonIsADeadLetterAndEverythingElseIsStored(boolean postgres) throws Exception {
    cloud(postgres ? PostgresServer.shared().database() : null);
    cloud.append(1, 10);
    whole(10);
    // No row at all, and a row that the store refuses (whatever its reason may be one day) between good ones.
    refusing(postgres);
    cloud.recovery().pause("store");
    try (KafkaProducer<String, byte[]> producer = new KafkaProducer<>(Map.of("bootstrap.servers", kafka.brokers()), new StringSerializer(), new ByteArraySerializer())) {
      for (int partition = 0; partition < 4; partition++) {
        producer.send(new ProducerRecord<>(topic, partition, "x", "}, {".getBytes(StandardCharsets.UTF_8))).get(30, TimeUnit.SECONDS);
      }
    }
    cloud.append(11, 100);
    await().atMost(LIMIT).until(() -> cloud.number("SELECT max(seq) FROM inbox") == cloud.cursor("bus"));
    cloud.recovery().resume("store");
    await().atMost(LIMIT).until(() -> cloud.stored() == 109);
    assertEquals(0, cloud.number("SELECT count(*) FROM message WHERE message_key = 'k-50'"));
    await().atMost(LIMIT).until(() -> cloud.recovery().deadLetters(DeadFilter.ALL, 10).size() == 5);
    assertEquals(Set.of("store", "topic"), cloud.recovery().deadLetters(DeadFilter.ALL, 10).stream().map(d -> d.sink()).collect(Collectors.toSet()));
    assertEquals("k-50", cloud.recovery().deadLetters(new DeadFilter("store", null, null, null, 0, 0, 0), 10).get(0).messageKey());
    assertEquals(5, cloud.number("SELECT dead FROM sink WHERE name = 'store'"));
    // Mended: it comes again on the same way.
    cloud.execute(postgres ? "DROP TRIGGER poison ON message" : "DROP TRIGGER poison");
    assertEquals(1, cloud.recovery().requeue(new DeadFilter("store", null, null, null, 0, 0, 0), false).rows());
    await().atMost(LIMIT).until(() -> cloud.stored() == 110);
    assertEquals(4, cloud.recovery().discard(new DeadFilter("topic", null, null, null, 0, 0, 0), "somebody tried", false).rows());
    assertEquals(List.of(), cloud.recovery().deadLetters(DeadFilter.ALL, 10));
    assertEquals(0, cloud.number("SELECT dead FROM sink WHERE name = 'store'"));
  }

  private void refusing(boolean postgres) throws Exception {
    if (postgres) {
      cloud.execute("CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '22000'; END $$");
      cloud.execute("CREATE TRIGGER poison BEFORE INSERT ON message FOR EACH ROW WHEN (NEW.message_key = 'k-50') EXECUTE FUNCTION poison()");
    } else {
      cloud.execute("CREATE TRIGGER poison BEFORE INSERT ON message WHEN new.message_key = 'k-50' BEGIN SELECT raise(ABORT, 'not this one'); END");
    }
  }

  @Test
  void aRowThatKafkaDoesNotTakeGoesToTheStoreWithoutIt() throws Exception {
    settings.put("bus.kafka.max.row.bytes", "2000");
    cloud(null);
    cloud.append(1, 10);
    cloud.execute("INSERT INTO inbox (gateway_id, log_id, gateway_seq, kind, device_id, message_key, observed_at_ms, received_at_ms, body)"
        + " VALUES ('gw-1', 'log-1', 11, 'event', 'd1', 'k-11', 1, 1, ?)", "{\"event\":\"" + "x".repeat(5_000) + "\"}");
    cloud.append(12, 10);
    whole(21);
    assertEquals(0, kafka.records(topic).stream().filter(r -> "k-11".equals(r.headers().get("message_key"))).count());
    assertEquals(List.of("requeued"), cloud.rows("SELECT state FROM dead_letter WHERE sink = 'bus'"));
  }

  @Test
  void replicasShareThePartitionsAndNothingIsAppliedTwiceWhenOneComesOrGoes() throws Exception {
    PostgresServer.Database database = PostgresServer.shared().database();
    cloud(database);
    AtomicInteger appended = new AtomicInteger();
    AtomicBoolean on = new AtomicBoolean(true);
    CompletableFuture<Void> load = CompletableFuture.runAsync(() -> {
      while (on.get()) {
        try {
          cloud.append(appended.get() + 1, 50);
          appended.addAndGet(50);
        } catch (Exception e) {
          throw new IllegalStateException(e);
        }
      }
    });
    int so = appended.get();
    try (CloudBox other = new CloudBox(home.resolve("other"), database, new HashMap<>(settings))) {
      await().atMost(LIMIT).until(() -> kafka.members(topic).stream().filter(n -> n > 0).count() == 2);
      await().atMost(LIMIT).until(() -> appended.get() > so + 300);
      long stored = other.stored();
      await().atMost(LIMIT).until(() -> other.stored() > stored + 200);
      // One publishes, whoever holds the lock.
      assertEquals(1, other.number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid <> 0 AND objsubid = 1"
          + " AND (classid::bigint << 32 | objid::bigint) = hashtextextended('caravan.sink.' || current_schema() || '.bus', 0)"));
    }
    await().atMost(LIMIT).until(() -> kafka.members(topic).equals(List.of(4)));
    on.set(false);
    load.get(30, TimeUnit.SECONDS);
    whole(appended.get());
    // Exactly once by record: what the store counted is what the topic holds, repetitions of a publisher that was cut off included.
    await().atMost(LIMIT).until(() -> cloud.number("SELECT delivered FROM sink WHERE name = 'store'") == kafka.count(topic));
  }
}
