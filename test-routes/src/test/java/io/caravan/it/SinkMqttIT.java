// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import com.hivemq.client.mqtt.mqtt5.message.publish.puback.Mqtt5PubAckReasonCode;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Predicate;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Feature caravan-sink-mqtt in the real gateway, against a real broker with passwords and an access list. */
class SinkMqttIT {
  private static final Duration SOON = Duration.ofSeconds(30);
  private static final Duration DRAIN = Duration.ofSeconds(90);
  private static final int DEVICES = 3;

  private static Distribution gateway;
  private static Path db;
  private static Path cfg;
  private static Path password;
  private static int mqttPort;
  private static Mosquitto broker;
  private static Mqtt5AsyncClient subscriber;
  /** message_key and topic of all that arrived, in order of arrival. */
  private static final Queue<String> KEYS = new ConcurrentLinkedQueue<>();
  private static final Queue<String> TOPICS = new ConcurrentLinkedQueue<>();

  @BeforeAll
  static void start() throws Exception {
    mqttPort = Ports.free();
    gateway = Distribution.unpack("gateway", "sink-mqtt-gateway");
    db = gateway.home.resolve("data/caravan/gateway.db");
    cfg = gateway.home.resolve("etc/io.caravan.sink.mqtt.cfg");
    password = gateway.home.resolve("offload.password");
    Path folder = gateway.home.resolveSibling("sink-mqtt-broker");
    Distribution.delete(folder);
    // Sessions survive SIGKILL once they are a second old: what is lost then is the broker's, not the gateway's.
    broker = new Mosquitto(folder, Ports.free(), "allow_anonymous false", "password_file passwords", "acl_file acl", "persistence true",
        "persistence_location " + folder + "/", "autosave_interval 1",
        // Not 0: mosquitto 2.0.11 then ends the connection with the first message after one that was denied.
        "max_queued_messages 1000000");
    Files.writeString(folder.resolve("passwords"), "");
    passwd(folder, "offload", "right");
    passwd(folder, "reader", "right");
    Files.writeString(folder.resolve("acl"), """
        user reader
        topic read #
        user offload
        topic write offload/gateway-1/+/telemetry
        topic deny offload/gateway-1/denied/#
        topic write elsewhere/#
        """);
    broker.start();
    Files.writeString(password, "right\n");
    configure("");
    gateway.with("mqtt.server.port", mqttPort).with("uplink.enabled", false).with("sink.retry.max.ms", 1_000).with("sink.probe.ms", 500)
        .start().awaitReady();
    subscriber = subscriber();
    gateway.shell("feature:install caravan-sink-mqtt");
    await("the sink runs").atMost(SOON).until(() -> state().startsWith("running"));
  }

  @AfterAll
  static void stop() {
    if (subscriber != null) {
      subscriber.disconnect();
    }
    if (gateway != null) {
      gateway.close();
    }
    if (broker != null) {
      broker.close();
    }
  }

  @BeforeEach
  void drained() {
    KEYS.clear();
    TOPICS.clear();
  }

  @AfterEach
  void accountsBalance() throws Exception {
    awaitDrained();
    assertEquals(0, Store.number(db, "SELECT unaccounted FROM ledger WHERE sink = 'mqtt'"));
  }

  @Test
  void allThatIsAckedHasArrivedWhateverHappensToTheBrokerAndTheGateway() throws Exception {
    long before = acked();
    try (Traffic traffic = new Traffic()) {
      traffic.await(500);
      broker.stop();
      awaitState("running,unavailable");
      broker.start();
      awaitDelivering();
      // Its session is on the broker's disk by then.
      traffic.await(1_500);
      broker.kill();
      awaitState("running,unavailable");
      broker.start();
      awaitDelivering();
      broker.signal("STOP");
      awaitState("running,timeout");
      broker.signal("CONT");
      awaitDelivering();
      traffic.await(500);
      traffic.pause();
      gateway.kill();
      gateway.start().awaitReady();
      traffic.resume();
      awaitDelivering();
      traffic.await(500);
    }
    awaitDrained();
    long acked = acked() - before;
    assertTrue(acked > 3_000, "acked " + acked);
    await("distinct keys").atMost(DRAIN).until(() -> Set.copyOf(KEYS).size(), n -> n >= acked);
    Set<String> distinct = Set.copyOf(KEYS);
    System.out.printf("sink mqtt: acked %d, received %d, distinct %d%n", acked, KEYS.size(), distinct.size());
    assertEquals(acked, distinct.size());
    // Each device's in order, at the first arrival of each.
    for (int d = 0; d < DEVICES; d++) {
      String device = "m" + d + "/";
      List<String> first = KEYS.stream().distinct().filter(k -> k.startsWith(device)).toList();
      assertEquals(first.stream().sorted().toList(), first);
    }
  }

  @Test
  void wrongPasswordIsFailedAndRecoversByItself() throws Exception {
    try {
      Files.writeString(password, "wrong\n");
      // The connection there is goes on; a changed key makes a new one.
      configure("sink.mqtt.window.rows = 50");
      awaitState("failed,unauthorized", "p1");
      String error = Store.rows(db, "SELECT last_error FROM sink WHERE name = 'mqtt'").get(0);
      assertTrue(error.contains("correct user, password"), error);
      assertEquals(0, Store.number(db, "SELECT count(*) FROM dead_letter WHERE sink = 'mqtt' AND reason = 'unauthorized' AND seq IN (SELECT seq FROM wal"
          + " WHERE device_id = 'p1')"));
      assertEquals(200, gateway.status("/readyz"));
    } finally {
      Files.writeString(password, "right\n");
    }
    awaitState("running,null");
    awaitDrained();
    long sent = Store.number(db, "SELECT count(*) FROM wal WHERE device_id = 'p1'");
    await().atMost(SOON).until(() -> Set.copyOf(KEYS).size() == sent);
  }

  @Test
  void deniedTopicIsDeadLettersOfItsRowsOnly() throws Exception {
    // Something is accepted first: else it might be the user himself who has no rights.
    post("fine", 1);
    awaitDrained();
    long dead = dead();
    for (int i = 0; i < 20; i++) {
      post("fine", 1);
      post("denied", 1);
    }
    awaitDrained();
    assertEquals(20, dead() - dead);
    assertEquals(List.of("denied,unauthorized,20"), Store.rows(db, "SELECT w.device_id, d.reason, count(*) FROM dead_letter d JOIN wal w USING (seq)"
        + " WHERE d.sink = 'mqtt' AND d.state = 'dead' AND w.device_id IN ('denied', 'fine') GROUP BY 1, 2 ORDER BY 1"));
    String error = Store.rows(db, "SELECT error FROM dead_letter WHERE sink = 'mqtt' ORDER BY seq DESC LIMIT 1").get(0);
    assertTrue(error.contains("[offload/gateway-1/denied/telemetry] [0x87 not authorized]"), error);
    await().atMost(SOON).until(() -> TOPICS.size() == 21);
    assertEquals(Set.of("offload/gateway-1/fine/telemetry"), Set.copyOf(TOPICS));
    assertEquals("running", state().split(",")[0]);
  }

  @Test
  void changedTopicIsInForceWithoutARestartAndALoopIsRefused() throws Exception {
    try {
      configure("sink.mqtt.topic = elsewhere/{device_id}\nsink.mqtt.payload = body");
      awaitTopic("h1", "elsewhere/h1");
      configure("sink.mqtt.url = tcp://localhost:" + mqttPort);
      awaitState("failed,misconfigured", "h2");
      String error = Store.rows(db, "SELECT last_error FROM sink WHERE name = 'mqtt'").get(0);
      assertTrue(error.contains("own listener"), error);
      // A mistake that needs no broker to be seen changes nothing, and is named.
      configure("sink.mqtt.topic = elsewhere/{nonsense}");
      await("the mistake is named").atMost(SOON).until(() -> gateway.down("route:sink-mqtt"),
          why -> why != null && why.contains("field [nonsense]"));
    } finally {
      configure("");
    }
    await().atMost(SOON).until(() -> gateway.down("route:sink-mqtt") == null);
    awaitTopic("h3", "offload/gateway-1/h3/telemetry");
  }

  @Test
  void metricsTellOfTheConnection() throws Exception {
    post("g1", 3);
    awaitDrained();
    String metrics = gateway.get("/metrics").body();
    assertTrue(metrics.contains("caravan_mqttclient_connected{connection=\"sink-mqtt\"} 1.0"), metrics);
    for (String name : List.of("caravan_mqttclient_published_messages_total{connection=\"sink-mqtt\",outcome=\"acknowledged\"}",
        "caravan_mqttclient_connects_total{connection=\"sink-mqtt\",outcome=\"connected\"}")) {
      String value = metrics.lines().filter(l -> l.startsWith(name)).findFirst().orElseThrow(() -> new AssertionError(name + " in " + metrics));
      assertTrue(Double.parseDouble(value.substring(name.length())) > 0, value);
    }
  }

  // ---- helpers

  /** Devices that publish without a pause, each message after the PUBACK of the one before. */
  private static final class Traffic implements AutoCloseable {
    private static final AtomicLong SEQ = new AtomicLong();
    private final AtomicLong acknowledged = new AtomicLong();
    private final Thread thread = new Thread(this::run, "traffic");
    private volatile boolean paused;
    private volatile boolean idle;
    private volatile boolean stopped;
    private volatile Exception failure;

    Traffic() {
      thread.start();
    }

    private void run() {
      try {
        while (!stopped) {
          if (paused) {
            idle = true;
            Thread.onSpinWait();
            continue;
          }
          idle = false;
          Device[] devices = new Device[DEVICES];
          try {
            for (int d = 0; d < DEVICES; d++) {
              devices[d] = Device.connect("m" + d, mqttPort);
            }
            while (!stopped && !paused) {
              long n = SEQ.incrementAndGet();
              for (Device device : devices) {
                assertEquals(Mqtt5PubAckReasonCode.SUCCESS, device.publish("telemetry",
                    "{\"schema_version\":1,\"boot_id\":\"b1\",\"device_seq\":" + n + ",\"metrics\":{\"t\":1}}"));
                acknowledged.incrementAndGet();
              }
            }
          } finally {
            for (Device device : devices) {
              if (device != null) {
                device.close();
              }
            }
          }
        }
      } catch (Exception e) {
        failure = e;
      }
    }

    void await(int more) throws Exception {
      long from = acknowledged.get();
      org.awaitility.Awaitility.await(more + " more messages").atMost(DRAIN).until(() -> failure != null || acknowledged.get() - from >= more);
      if (failure != null) {
        throw failure;
      }
    }

    void pause() {
      paused = true;
      org.awaitility.Awaitility.await("traffic pauses").atMost(SOON).until(() -> idle || failure != null);
    }

    void resume() {
      paused = false;
    }

    @Override
    public void close() throws Exception {
      stopped = true;
      thread.join();
      if (failure != null) {
        throw failure;
      }
    }
  }

  private static void passwd(Path folder, String user, String password) {
    try (Child child = Child.start("passwd", List.of("mosquitto_passwd", "-b", folder.resolve("passwords").toString(), user, password),
        java.util.Map.of(), folder, folder.resolve("passwd.log"))) {
      assertEquals(0, child.awaitExit(SOON), child::output);
    }
  }

  private static void configure(String more) throws IOException {
    String url = more.contains("sink.mqtt.url") ? "" : "sink.mqtt.url = tcp://127.0.0.1:" + broker.port + "\n";
    Path saved = Files.writeString(cfg.resolveSibling("sink.mqtt.saved"), url + "sink.mqtt.user = offload\nsink.mqtt.password.file = "
        + password + "\nsink.mqtt.connect.timeout.ms = 2000\nsink.mqtt.ack.timeout.ms = 1000\n" + more + "\n");
    Files.move(saved, cfg, java.nio.file.StandardCopyOption.REPLACE_EXISTING, java.nio.file.StandardCopyOption.ATOMIC_MOVE);
  }

  private static Mqtt5AsyncClient subscriber() throws Exception {
    Mqtt5AsyncClient client = Mqtt5Client.builder().identifier("reader").serverHost("127.0.0.1").serverPort(broker.port)
        .simpleAuth().username("reader").password("right".getBytes(StandardCharsets.UTF_8)).applySimpleAuth()
        .automaticReconnect().initialDelay(50, TimeUnit.MILLISECONDS).maxDelay(200, TimeUnit.MILLISECONDS).applyAutomaticReconnect()
        .buildAsync();
    client.connectWith().cleanStart(false).sessionExpiryInterval(3_600).send().get(30, TimeUnit.SECONDS);
    client.subscribeWith().topicFilter("#").qos(MqttQos.AT_LEAST_ONCE).callback(SinkMqttIT::received).send().get(30, TimeUnit.SECONDS);
    return client;
  }

  private static void received(Mqtt5Publish message) {
    TOPICS.add(message.getTopic().toString());
    message.getUserProperties().asList().stream().filter(p -> p.getName().toString().equals("message_key"))
        .forEach(p -> KEYS.add(p.getValue().toString()));
  }

  private static void post(String device, int messages) throws IOException {
    for (int i = 0; i < messages; i++) {
      byte[] body = ("{\"schema_version\":1,\"metrics\":{\"t\":" + System.nanoTime() + "}}").getBytes(StandardCharsets.UTF_8);
      assertEquals(202, gateway.post("/ingest/" + device, "application/json", body).statusCode());
    }
  }

  /** Until one comes under that topic, and what came before is of no interest. */
  private static void awaitTopic(String device, String topic) {
    await(topic).atMost(SOON).until(() -> {
      post(device, 1);
      return TOPICS.contains(topic);
    });
  }

  private static String state() throws SQLException {
    List<String> rows = Store.rows(db, "SELECT state, reason FROM sink WHERE name = 'mqtt'");
    return rows.isEmpty() ? "" : rows.get(0);
  }

  private static void awaitState(String state) {
    await("sink mqtt is " + state).atMost(SOON).until(SinkMqttIT::state, Predicate.isEqual(state));
  }

  /** With something to deliver all the time: what was changed is in force a moment later. */
  private static void awaitState(String state, String device) {
    await("sink mqtt is " + state).atMost(SOON).until(() -> {
      post(device, 1);
      return state();
    }, Predicate.isEqual(state));
  }

  private static void awaitDelivering() throws SQLException {
    long from = acked();
    await("rows are acked again").atMost(DRAIN).until(() -> acked() > from);
  }

  private static void awaitDrained() {
    await("no backlog").atMost(DRAIN).until(() -> Store.number(db, "SELECT backlog FROM ledger WHERE sink = 'mqtt'") == 0);
  }

  private static long acked() throws SQLException {
    return Store.number(db, "SELECT acked FROM ledger WHERE sink = 'mqtt'");
  }

  private static long dead() throws SQLException {
    return Store.number(db, "SELECT dead FROM ledger WHERE sink = 'mqtt'");
  }
}
