// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.Batch;
import io.caravan.wal.Row;
import io.caravan.wal.SinkException;
import io.caravan.wal.SinkException.Kind;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.vertx.mqtt.MqttEndpoint;
import io.vertx.mqtt.messages.MqttPublishMessage;
import io.vertx.mqtt.messages.codes.MqttDisconnectReasonCode;
import io.vertx.mqtt.messages.codes.MqttPubAckReasonCode;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.BiConsumer;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.camel.CamelContext;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.impl.DefaultCamelContext;
import org.eclipse.paho.mqttv5.client.MqttAsyncClient;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.UserProperty;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Against a real mosquitto, and for the answers it does not give against a server that is told what to answer. */
@Timeout(60)
class MqttSinkTest {
  private static final Path CERTS = Path.of("../../mosquitto/certs").toAbsolutePath().normalize();

  @TempDir
  Path folder;
  private Mosquitto broker;
  private final List<AutoCloseable> open = new ArrayList<>();
  private final List<Got> got = new CopyOnWriteArrayList<>();

  private record Got(String topic, String payload, int qos, boolean retained, Map<String, String> properties) {
    String key() {
      return properties.get("message_key");
    }
  }

  @BeforeEach
  void make() throws Exception {
    broker = closing(new Mosquitto(folder.resolve("broker"), true));
  }

  @AfterEach
  void stop() throws Exception {
    for (int i = open.size() - 1; i >= 0; i--) {
      open.get(i).close();
    }
  }

  // ---- what arrives

  @Test
  void rowsArriveEachUnderItsTopicWithItsPropertiesInOrder() throws Exception {
    broker.start();
    listen(broker.url(), "#");
    MqttSink sink = sink(broker.url());
    Batch batch = batch(1, 500, i -> "d" + i % 7);
    sink.deliver(batch);
    awaitGot(500);
    for (int i = 0; i < 500; i++) {
      // mosquitto keeps the order of one publisher, so here all are in order, not only each device's.
      Row row = batch.get(i);
      Got it = got.get(i);
      assertEquals("offload/gw-1/" + row.deviceId() + "/telemetry", it.topic);
      assertEquals(new String(row.json(), StandardCharsets.UTF_8), it.payload);
      assertEquals(Map.of("message_key", row.messageKey(), "correlation_id", row.correlationId(), "lane", "live", "traceparent",
          row.traceContext()), it.properties);
      assertEquals(1, it.qos);
    }
    assertFalse(got.stream().anyMatch(Got::retained));
    // Nothing is retained there for who comes later either.
    got.clear();
    listen(broker.url(), "#");
    sink.deliver(batch(1, 1, i -> "later"));
    Until.true_("both listeners have it", 5_000, () -> got.size() >= 2);
    assertEquals(Set.of("offload/gw-1/later/telemetry"), got.stream().map(Got::topic).collect(Collectors.toSet()));
  }

  @Test
  void payloadMayBeTheBodyAloneAndTheTopicWhatThePatternSays() throws Exception {
    broker.start();
    listen(broker.url(), "#");
    MqttSink sink = sink(broker.url());
    sink.setTopic("site-7/{lane}/x{kind}-{device_id}");
    sink.setPayload("body");
    sink.init();
    sink.deliver(batch(1, 1, i -> "d1"));
    awaitGot(1);
    assertEquals("site-7/live/xtelemetry-d1", got.get(0).topic);
    assertEquals("{\"n\":1}", got.get(0).payload);
  }

  /** With one at a time over a line of 50 ms it would be 20 messages a second. */
  @Test
  void aWholeWindowIsUnderWayAtOnceAndNeverMoreThanTheBrokerTakes() throws Exception {
    for (int[] limits : new int[][] {{1_000, 7, 7}, {5, 0, 5}, {3, 50, 3}}) {
      Deque<MqttPublishMessage> waiting = new ArrayDeque<>();
      AtomicInteger most = new AtomicInteger();
      AtomicInteger all = new AtomicInteger();
      // Answers only what it holds when it holds a full window: a client that waits for each answer gets none.
      ScriptedBroker scripted = closing(new ScriptedBroker(limits[1], (endpoint, message) -> {
        waiting.add(message);
        most.accumulateAndGet(waiting.size(), Math::max);
        if (all.incrementAndGet() == 210 || waiting.size() == limits[2]) {
          waiting.forEach(m -> ScriptedBroker.answer(endpoint, m, MqttPubAckReasonCode.SUCCESS));
          waiting.clear();
        }
      }));
      MqttSink sink = sink(scripted.url());
      sink.setWindow(limits[0]);
      sink.deliver(batch(1, 210, i -> "d" + i));
      assertEquals(210, all.get());
      assertEquals(limits[2], most.get());
    }
  }

  @Test
  void whatARowBringsCannotMakeAnotherTopicOfIt() throws Exception {
    broker.start();
    listen(broker.url(), "#");
    String[] bad = {"a/b", "+", "#", "$SYS", "", "x y", "a\u0000b", "a\nb", "\u00e4", "../x", "d/../../x", "a".repeat(300), "\ud800"};
    MqttSink sink = sink(broker.url());
    SinkException e = assertThrows(SinkException.class, () -> sink.deliver(batch(1, bad.length + 1, i -> i <= bad.length ? bad[i - 1] : "good")));
    assertEquals("refused", e.reason());
    assertEquals(IntStream.rangeClosed(1, bad.length).mapToObj(i -> (long) i).collect(Collectors.toSet()), e.refused().keySet());
    assertTrue(e.refused().get(1L).contains("device_id [a/b]"), e.refused().get(1L));
    awaitGot(1);
    assertEquals("offload/gw-1/good/telemetry", got.get(0).topic);
    // Nor can a key that MQTT has no form for; the same connection goes on.
    SinkException key = assertThrows(SinkException.class, () -> sink.deliver(new Batch("mqtt", 1, 2,
        List.of(row(1, "d1", "k\u0000ey"), row(2, "d1", "key-2")))));
    assertEquals(Set.of(1L), key.refused().keySet());
    awaitGot(2);
    assertEquals(1, connects("connected"));
  }

  @Test
  void aGatewayIdThatCannotStandInATopicIsNoFaultOfTheRecords() throws Exception {
    broker.start();
    Row row = row(1, "d1", "k1");
    Row other = new Row(1, "a/b", row.messageKey(), row.correlationId(), "d1", "telemetry", "live", null, 0, 0, 0, 1, null, null, row.body());
    fails(sink(broker.url()), new Batch("mqtt", 1, 1, List.of(other)), Kind.CONFIGURATION, "misconfigured", "gateway.id [a/b]");
  }

  // ---- mistakes in the configuration

  @Test
  void badPatternsAreToldApart() {
    for (String[] bad : new String[][] {{"", "1 to 256"}, {"a".repeat(257), "1 to 256"}, {"a//b", "empty level"}, {"/a", "empty level"},
        {"a/", "empty level"}, {"a/+/b", "character [+]"}, {"a/#", "character [#]"}, {"$SYS/{kind}", "character [$]"},
        {"a/{device}", "field [device]"}, {"a/{body}", "field [body]"}, {"a/{device_id", "character [{]"}, {"a/${kind}", "character [$]"},
        {"a b", "character [\\u0020]"}, {"a/\u00fc", "character [\\u00fc]"}}) {
      MqttSink sink = new MqttSink();
      sink.setClientId("x");
      sink.setTopic(bad[0]);
      IllegalArgumentException e = assertThrows(IllegalArgumentException.class, sink::init, bad[0]);
      assertTrue(e.getMessage().contains(bad[1]), e.getMessage());
    }
    MqttSink sink = new MqttSink();
    sink.setTopic("a");
    sink.setUrl("http://x");
    assertTrue(assertThrows(IllegalArgumentException.class, sink::init).getMessage().contains("[http://x]"));
    assertThrows(IllegalArgumentException.class, () -> sink.setPayload("all"));
  }

  @Test
  void aLoopIsRefusedBeforeAnythingIsPublished() throws Exception {
    broker.start();
    listen(broker.url(), "#");
    Batch batch = batch(1, 1, i -> "d1");
    String read = "devices/+/telemetry,devices/+/events";
    for (String[] loop : new String[][] {{"devices/{device_id}/{kind}", read}, {"devices/x{device_id}/telemetry", read}, {"{kind}/a/events", read},
        {"offload/{device_id}", "offload/#"}, {"a/b/c", "#"}, {"a/b", "$share/g/a/+"}}) {
      MqttSink sink = sink(broker.url());
      sink.setTopic(loop[0]);
      sink.init();
      // Another name of the same broker.
      sink.setOwnEnabled(true);
      sink.setOwnUrl("tcp://localhost:" + broker.port);
      sink.setOwnTopics(loop[1]);
      fails(sink, batch, Kind.CONFIGURATION, "misconfigured", "would come in again");
    }
    MqttSink listener = sink(broker.url());
    listener.setOwnListener(true);
    listener.setOwnPort(broker.port);
    fails(listener, batch, Kind.CONFIGURATION, "misconfigured", "own listener");
    listener.setOwnPort(1);
    listener.setOwnTlsPort(broker.port);
    listener.setOwnTls(true);
    fails(listener, batch, Kind.CONFIGURATION, "misconfigured", "own listener");
    assertTrue(got.isEmpty());
    // Another tree there, another broker, or nothing read at all, is none.
    for (String[] none : new String[][] {{"offload/{device_id}/{kind}", read, "1"}, {"devices/{device_id}/telemetry/x", read, "1"},
        {"devices/{device_id}", read, "1"}, {"devices/{device_id}/{kind}", read, "0"}}) {
      MqttSink sink = sink(broker.url());
      sink.setTopic(none[0]);
      sink.init();
      sink.setOwnEnabled(none[2].equals("1"));
      sink.setOwnUrl("tcp://localhost:" + broker.port);
      sink.setOwnTopics(none[1]);
      // A listener that is off is none: a broker of this machine may have its port.
      sink.setOwnPort(broker.port);
      sink.setOwnTlsPort(broker.port);
      sink.setOwnTls(true);
      sink.deliver(batch);
    }
    MqttSink elsewhere = sink(broker.url());
    elsewhere.setTopic("devices/{device_id}/{kind}");
    elsewhere.init();
    elsewhere.setOwnEnabled(true);
    elsewhere.setOwnUrl("tcp://localhost:1");
    elsewhere.setOwnTopics(read);
    elsewhere.deliver(batch);
    awaitGot(5);
  }

  // ---- a broker in trouble

  @Test
  void brokerAwayKilledAndBackAgain() throws Exception {
    MqttSink sink = sink(broker.url());
    Batch batch = batch(1, 200, i -> "d" + i % 3);
    fails(sink, batch, Kind.TRANSIENT, "unavailable", "Connection refused");
    broker.start();
    listen(broker.url(), "#");
    sink.deliver(batch);
    awaitGot(200);
    broker.kill();
    fails(sink, batch, Kind.TRANSIENT, "unavailable", broker.url());
    fails(sink, batch, Kind.TRANSIENT, "unavailable", broker.url());
    broker.start();
    got.clear();
    listen(broker.url(), "#");
    sink.deliver(batch);
    awaitGot(200);
    assertEquals(batch.stream().map(Row::messageKey).toList(), got.stream().map(Got::key).toList());
    MqttSink nowhere = sink("tcp://no-such-host.invalid:1883");
    fails(nowhere, batch, Kind.TRANSIENT, "unavailable", "UnknownHost");
  }

  @Test
  void killedInTheMiddleOfABatch() throws Exception {
    broker.start();
    Wire wire = closing(new Wire(broker.port));
    listen(broker.url(), "#");
    MqttSink sink = sink(wire.url());
    Batch batch = batch(1, 20_000, i -> "d" + i % 3);
    AtomicReference<Throwable> failure = new AtomicReference<>();
    Thread sender = new Thread(() -> {
      try {
        sink.deliver(batch);
      } catch (Exception e) {
        failure.set(e);
      }
    });
    sender.start();
    Until.true_("some have arrived", 10_000, () -> got.size() > 1_000);
    wire.cut();
    sender.join();
    SinkException e = (SinkException) failure.get();
    assertEquals("TRANSIENT unavailable", e.kind() + " " + e.reason(), e.getMessage());
    assertTrue(got.size() < 20_000);
    wire.mend();
    sink.deliver(batch);
    Until.true_("all are there", 20_000, () -> got.stream().map(Got::key).distinct().count() == 20_000);
    // In order at the first arrival of each.
    Set<String> seen = new HashSet<>();
    List<String> first = got.stream().map(Got::key).filter(seen::add).toList();
    assertEquals(batch.stream().map(Row::messageKey).toList(), first);
  }

  /** As an operator does it over JMX. */
  @Test
  void aRouteThatWasSuspendedDeliversAgainWhenItIsResumed() throws Exception {
    broker.start();
    listen(broker.url(), "#");
    MqttSink sink = sink(broker.url());
    sink.getCamelContext().addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        errorHandler(noErrorHandler());
        from("direct:deliver").routeId("deliver").routePolicy(sink).bean(sink, "deliver");
      }
    });
    sink.getCamelContext().start();
    sink.deliver(batch(1, 1, i -> "d1"));
    sink.getCamelContext().getRouteController().suspendRoute("deliver");
    fails(sink, batch(2, 1, i -> "d1"), Kind.TRANSIENT, "error", "the route is stopping");
    sink.getCamelContext().getRouteController().resumeRoute("deliver");
    sink.getCamelContext().createProducerTemplate().sendBody("direct:deliver", batch(2, 1, i -> "d1"));
    awaitGot(2);
    assertEquals(2, connects("connected"));
    assertEquals(1, meters.get("caravan.mqttclient.connected").gauge().value());
  }

  @Test
  void haltedBrokerIsATimeoutAndItsOldConnectionsAreOfNoConsequence() throws Exception {
    broker.start();
    MqttSink sink = sink(broker.url());
    sink.setAckTimeoutMs(500);
    sink.setConnectTimeoutMs(1_000);
    Batch batch = batch(1, 50, i -> "d1");
    sink.deliver(batch);
    broker.pause();
    try {
      fails(sink, batch, Kind.TRANSIENT, "timeout", "acknowledged none of 50 messages within 500 ms");
      for (int i = 0; i < 3; i++) {
        fails(sink, batch, Kind.TRANSIENT, "timeout", "did not answer CONNECT within 2000 ms");
      }
    } finally {
      broker.resume();
    }
    listen(broker.url(), "#");
    sink.deliver(batch);
    awaitGot(50);
    // The attempts of meanwhile were taken back: none of them takes the client id over.
    for (int i = 0; i < 20; i++) {
      sink.deliver(batch(1, 50, n -> "d2"));
    }
    assertEquals(2, connects("connected"));
  }

  @Test
  void aBrokerThatNeverAnswersOnceIsATimeoutAndAnInterruptEndsItAtOnce() throws Exception {
    ScriptedBroker silent = closing(new ScriptedBroker(0, (endpoint, message) -> { }));
    MqttSink sink = sink(silent.url());
    sink.setAckTimeoutMs(100);
    fails(sink, batch(1, 3, i -> "d1"), Kind.TRANSIENT, "timeout", "none of 3 messages");
    sink.setAckTimeoutMs(600_000);
    AtomicReference<Throwable> failure = new AtomicReference<>();
    Thread sender = new Thread(() -> {
      try {
        sink.deliver(batch(1, 3, i -> "d1"));
      } catch (Throwable e) {
        failure.set(e);
      }
    });
    sender.start();
    Until.true_("it has connected", 10_000, () -> silent.connections.get() == 2);
    sender.interrupt();
    sender.join(10_000);
    assertTrue(failure.get() instanceof InterruptedException, String.valueOf(failure.get()));
  }

  @Test
  void badPasswordIsConfigurationAndItsFileIsReadAgain() throws Exception {
    broker = closing(new Mosquitto(folder.resolve("guarded"), false));
    broker.password("offload", "right");
    broker.acl("user offload", "topic readwrite offload/#");
    broker.start();
    Path password = Files.writeString(folder.resolve("password"), "wrong\n");
    MqttSink sink = sink(broker.url());
    sink.setUserName("offload");
    sink.setPasswordFile(password.toString());
    Batch batch = batch(1, 3, i -> "d1");
    fails(sink, batch, Kind.CONFIGURATION, "unauthorized", "[0x87 not authorized]");
    Files.delete(password);
    fails(sink, batch, Kind.CONFIGURATION, "misconfigured", "[" + password + "] cannot be read");
    Files.writeString(password, "right\n");
    sink.deliver(batch);
  }

  // ---- single rows

  @Test
  void aTopicTheBrokerDeniesIsThatRowsAffairUnlessAllAreDenied() throws Exception {
    broker = closing(new Mosquitto(folder.resolve("guarded"), false));
    broker.password("offload", "right");
    broker.password("reader", "right");
    broker.acl("user reader", "topic read #", "user offload", "topic write offload/gw-1/d0/telemetry", "topic write offload/gw-1/d2/telemetry");
    broker.start();
    listen(broker.url(), "#", "reader", "right");
    MqttSink sink = sink(broker.url());
    sink.setUserName("offload");
    sink.setPassword("right");
    // Nothing was ever accepted, so it may be the user himself who has no rights.
    fails(sink, batch(1, 5, i -> "d1"), Kind.CONFIGURATION, "unauthorized", "[offload/gw-1/d1/telemetry]");
    Batch batch = batch(1, 300, i -> "d" + i % 3);
    SinkException e = assertThrows(SinkException.class, () -> sink.deliver(batch));
    assertEquals("unauthorized", e.reason());
    assertEquals(batch.stream().filter(r -> r.deviceId().equals("d1")).map(Row::seq).collect(Collectors.toSet()), e.refused().keySet());
    assertTrue(e.refused().get(1L).contains("[offload/gw-1/d1/telemetry] [0x87 not authorized]: look at its access list for user [offload]"),
        e.refused().get(1L));
    awaitGot(200);
    // A device that is denied and happens to be alone in its batch does not stop the others.
    SinkException alone = assertThrows(SinkException.class, () -> sink.deliver(batch(1, 2, i -> "d1")));
    assertEquals(Set.of(1L, 2L), alone.refused().keySet());
    fails(sink, batch(1, 2, i -> "e" + i), Kind.CONFIGURATION, "unauthorized", "all of 2 topics");
  }

  @Test
  void answersOfOneRowAndOfAll() throws Exception {
    AtomicReference<BiConsumer<MqttEndpoint, MqttPublishMessage>> script = new AtomicReference<>();
    ScriptedBroker scripted = closing(new ScriptedBroker(0, (e, m) -> script.get().accept(e, m)));
    MqttSink sink = sink(scripted.url());
    Batch batch = batch(1, 10, i -> "d" + i);
    for (MqttPubAckReasonCode code : List.of(MqttPubAckReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, MqttPubAckReasonCode.UNSPECIFIED_ERROR,
        MqttPubAckReasonCode.TOPIC_NAME_INVALID, MqttPubAckReasonCode.PAYLOAD_FORMAT_INVALID)) {
      script.set((e, m) -> ScriptedBroker.answer(e, m, m.topicName().contains("/d4/") ? code : MqttPubAckReasonCode.SUCCESS));
      SinkException e = assertThrows(SinkException.class, () -> sink.deliver(batch));
      assertEquals("refused", e.reason());
      assertEquals(Set.of(4L), e.refused().keySet());
      assertTrue(e.refused().get(4L).contains(String.format("[0x%x ", code.value() & 0xff)), e.refused().get(4L));
    }
    script.set((e, m) -> ScriptedBroker.answer(e, m, m.topicName().contains("/d4/") ? MqttPubAckReasonCode.QUOTA_EXCEEDED
        : MqttPubAckReasonCode.SUCCESS));
    fails(sink, batch, Kind.TRANSIENT, "throttled", "[0x97 quota exceeded]");
    script.set((e, m) -> ScriptedBroker.answer(e, m, MqttPubAckReasonCode.UNSPECIFIED_ERROR));
    fails(sink, batch, Kind.TRANSIENT, "server_error", "all of 10 messages");
    script.set((e, m) -> ScriptedBroker.answer(e, m, MqttPubAckReasonCode.NO_MATCHING_SUBSCRIBERS));
    sink.deliver(batch);
    assertEquals(1, scripted.connections.get());
    // One at a time: who still writes to a broker that has hung up does not get to read why.
    sink.setWindow(1);
    for (Object[] end : new Object[][] {{MqttDisconnectReasonCode.SESSION_TAKEN_OVER, Kind.CONFIGURATION, "misconfigured"},
        {MqttDisconnectReasonCode.NOT_AUTHORIZED, Kind.CONFIGURATION, "unauthorized"},
        {MqttDisconnectReasonCode.QUOTA_EXCEEDED, Kind.TRANSIENT, "throttled"},
        {MqttDisconnectReasonCode.SERVER_SHUTTING_DOWN, Kind.TRANSIENT, "unavailable"},
        {MqttDisconnectReasonCode.PACKET_TOO_LARGE, Kind.RECORD, "too_large"}}) {
      script.set((e, m) -> {
        if (e.isConnected()) {
          e.disconnect((MqttDisconnectReasonCode) end[0], io.netty.handler.codec.mqtt.MqttProperties.NO_PROPERTIES);
          e.close();
        }
      });
      fails(sink, batch, (Kind) end[1], (String) end[2], String.format("[0x%x ", ((MqttDisconnectReasonCode) end[0]).value() & 0xff));
    }
  }

  @Test
  void aRowAboveTheBrokersPacketSizeIsRefusedBeforeItIsSent() throws Exception {
    broker = closing(new Mosquitto(folder.resolve("small"), true, "max_packet_size 2000")).start();
    listen(broker.url(), "#");
    MqttSink sink = sink(broker.url());
    sink.setPayload("body");
    // Every length around the limit: the broker ends the connection for one byte too many.
    List<Row> rows = IntStream.rangeClosed(1, 400).mapToObj(i -> row(i, "d1", "k" + i, "\"" + "x".repeat(1_600 + i) + "\"")).toList();
    SinkException e = assertThrows(SinkException.class, () -> sink.deliver(new Batch("mqtt", 1, 400, rows)));
    assertEquals("too_large", e.reason());
    TreeSet<Long> refused = new TreeSet<>(e.refused().keySet());
    assertEquals(400L, refused.last());
    assertEquals(400L - refused.first() + 1, refused.size());
    awaitGot(400 - refused.size());
    assertTrue(got.size() > 100, "refused from " + refused.first());
    assertEquals(1, connects("connected"));
  }

  @Test
  void aBrokerThatAnswersWhatMqttDoesNotHaveIsHalvedDownToTheRow() throws Exception {
    broker = closing(new Mosquitto(folder.resolve("small"), true, "message_size_limit 1000")).start();
    listen(broker.url(), "#");
    MqttSink sink = sink(broker.url());
    Row big = row(3, "d1", "k3", "\"" + "x".repeat(1_000) + "\"");
    SinkException e = refused(sink, new Batch("mqtt", 1, 3, List.of(row(1, "d1", "k1"), row(2, "d1", "k2"), big)));
    assertEquals("RECORD too_large", e.kind() + " " + e.reason(), e.getMessage());
    assertTrue(e.refused().isEmpty());
    sink.deliver(new Batch("mqtt", 1, 2, List.of(row(1, "d1", "k1"), row(2, "d1", "k2"))));
    assertEquals(Kind.RECORD, refused(sink, new Batch("mqtt", 3, 3, List.of(big))).kind());
  }

  /** mosquitto closes right behind its answer: where the end is noticed before the answer is read, the template tries again. */
  private static SinkException refused(MqttSink sink, Batch batch) {
    for (int attempt = 1;; attempt++) {
      SinkException e = assertThrows(SinkException.class, () -> sink.deliver(batch));
      if (!e.reason().equals("unavailable") || attempt == 20) {
        return e;
      }
    }
  }

  // ---- TLS, route, metrics

  @Test
  void tlsChecksBothEnds() throws Exception {
    Path certs = folder.resolve("certs");
    Mosquitto.run(CERTS.toString(), "init", certs.toString());
    Mosquitto.run(CERTS.toString(), "server", certs.toString(), "broker", "localhost");
    Mosquitto.run(CERTS.toString(), "client", certs.toString(), "gateway");
    Path other = folder.resolve("other");
    Mosquitto.run(CERTS.toString(), "init", other.toString());
    int port = Mosquitto.freePort();
    broker = closing(new Mosquitto(folder.resolve("tls"), true, "listener " + port + " 127.0.0.1", "cafile " + certs.resolve("ca.crt"),
        "certfile " + certs.resolve("broker.crt"), "keyfile " + certs.resolve("broker.key"), "require_certificate true")).start();
    Batch batch = batch(1, 3, i -> "d1");
    Consumer<MqttSink> own = s -> {
      s.setCaFile(certs.resolve("ca.crt").toString());
      s.setCertFile(certs.resolve("gateway.crt").toString());
      s.setKeyFile(certs.resolve("gateway.key").toString());
    };
    MqttSink good = sink("ssl://localhost:" + port);
    own.accept(good);
    good.deliver(batch);
    MqttSink wrongName = sink("ssl://127.0.0.1:" + port);
    own.accept(wrongName);
    fails(wrongName, batch, Kind.CONFIGURATION, "misconfigured", "127.0.0.1");
    MqttSink wrongCa = sink("ssl://localhost:" + port);
    own.accept(wrongCa);
    wrongCa.setCaFile(other.resolve("ca.crt").toString());
    fails(wrongCa, batch, Kind.CONFIGURATION, "misconfigured", "TLS");
    MqttSink nobody = sink("ssl://localhost:" + port);
    nobody.setCaFile(certs.resolve("ca.crt").toString());
    SinkException e = assertThrows(SinkException.class, () -> nobody.deliver(batch));
    assertEquals("CONFIGURATION misconfigured", e.kind() + " " + e.reason(), e.getMessage());
    MqttSink noFile = sink("ssl://localhost:" + port);
    noFile.setCaFile(folder.resolve("none").toString());
    fails(noFile, batch, Kind.CONFIGURATION, "misconfigured", "none");
  }

  @Test
  void theConnectionIsTheRoutesAndIsSeenInMetrics() throws Exception {
    broker.start();
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    CamelContext context = closing(new DefaultCamelContext());
    context.getRegistry().bind("metricsRegistry", registry);
    MqttSink sink = new MqttSink();
    sink.setUrl(broker.url());
    sink.setGatewayId("gw-1");
    sink.setTopic("offload/{device_id}");
    sink.setCamelContext(context);
    sink.init();
    context.getRegistry().bind("sink", sink);
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        errorHandler(noErrorHandler());
        from("direct:deliver-mqtt").routeId("deliver").routePolicyRef("sink").bean("sink", "deliver");
      }
    });
    context.start();
    assertEquals(0, registry.get("caravan.mqttclient.connected").tag("connection", "sink-mqtt").gauge().value());
    var template = context.createProducerTemplate();
    template.sendBody("direct:deliver-mqtt", batch(1, 30, i -> "d1"));
    assertEquals(1, registry.get("caravan.mqttclient.connected").gauge().value());
    assertEquals(30, registry.get("caravan.mqttclient.published.messages").tag("outcome", "acknowledged").counter().count());
    assertEquals(1, registry.get("caravan.mqttclient.connects").tag("outcome", "connected").counter().count());
    assertTrue(broker.log().contains("gw-1-sink"));
    context.getRouteController().stopRoute("deliver");
    assertNull(registry.find("caravan.mqttclient.connected").gauge());
    Until.true_("the broker sees it go", 5_000, () -> broker.log().contains("Client gw-1-sink disconnected."));
    context.getRouteController().startRoute("deliver");
    template.sendBody("direct:deliver-mqtt", batch(1, 30, i -> "d1"));
    assertEquals(60, registry.get("caravan.mqttclient.published.messages").tag("outcome", "acknowledged").counter().count());
    broker.kill();
    assertThrows(Exception.class, () -> template.sendBody("direct:deliver-mqtt", batch(1, 30, i -> "d1")));
    assertThrows(Exception.class, () -> template.sendBody("direct:deliver-mqtt", batch(1, 30, i -> "d1")));
    assertEquals(0, registry.get("caravan.mqttclient.connected").gauge().value());
    assertTrue(registry.get("caravan.mqttclient.connects").tag("outcome", "failed").counter().count() >= 1);
  }

  // ---- helpers

  private final SimpleMeterRegistry meters = new SimpleMeterRegistry();

  private double connects(String outcome) {
    return meters.get("caravan.mqttclient.connects").tag("outcome", outcome).counter().count();
  }

  private MqttSink sink(String url) throws Exception {
    CamelContext context = closing(new DefaultCamelContext());
    context.getRegistry().bind("metricsRegistry", meters);
    MqttSink sink = new MqttSink();
    sink.setCamelContext(context);
    sink.setUrl(url);
    sink.setClientId("sink-" + open.size());
    sink.setTopic("offload/{gateway_id}/{device_id}/{kind}");
    sink.setConnectTimeoutMs(5_000);
    sink.init();
    sink.onStart(null);
    open.add(sink::close);
    return sink;
  }

  private static void fails(MqttSink sink, Batch batch, Kind kind, String reason, String text) {
    SinkException e = assertThrows(SinkException.class, () -> sink.deliver(batch));
    assertEquals(kind + " " + reason, e.kind() + " " + e.reason(), e.getMessage());
    assertTrue(e.refused().isEmpty(), e.getMessage());
    assertTrue(e.getMessage().contains(text), e.getMessage());
  }

  private static Batch batch(int first, int rows, java.util.function.IntFunction<String> device) {
    return new Batch("mqtt", first, first + rows - 1, IntStream.range(first, first + rows)
        .mapToObj(i -> row(i, device.apply(i), device.apply(i).length() > 100 ? "long" : "key/" + i)).toList());
  }

  private static Row row(long seq, String device, String key) {
    return row(seq, device, key, "{\"n\":" + seq + "}");
  }

  private static Row row(long seq, String device, String key, String body) {
    return new Row(seq, "gw-1", key, "c-" + seq, device, "telemetry", "live", "b1", seq, 1_000 + seq, 2_000 + seq, 1, "application/json",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", body.getBytes(StandardCharsets.UTF_8));
  }

  private void awaitGot(int count) {
    Until.true_(() -> count + " messages, there are " + got.size(), 10_000, () -> got.size() >= count);
    assertEquals(count, got.size());
  }

  private void listen(String url, String filter, String... credentials) throws Exception {
    MqttConnectionOptions options = new MqttConnectionOptions();
    if (credentials.length > 0) {
      options.setUserName(credentials[0]);
      options.setPassword(credentials[1].getBytes());
    }
    MqttAsyncClient client = new MqttAsyncClient(url, "listener-" + open.size(), new MemoryPersistence());
    open.add(() -> {
      try {
        client.disconnectForcibly(0, 100, true);
      } finally {
        client.close(true);
      }
    });
    client.setCallback(new Listener((topic, message) -> got.add(got(topic, message))));
    client.connect(options).waitForCompletion(10_000);
    client.subscribe(filter, 1).waitForCompletion(10_000);
  }

  private static Got got(String topic, MqttMessage message) {
    return new Got(topic, new String(message.getPayload(), StandardCharsets.UTF_8), message.getQos(), message.isRetained(),
        message.getProperties().getUserProperties().stream().collect(Collectors.toMap(UserProperty::getKey, UserProperty::getValue)));
  }

  private <T extends AutoCloseable> T closing(T it) {
    open.add(it);
    return it;
  }
}
