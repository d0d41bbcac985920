// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt3.Mqtt3BlockingClient;
import com.hivemq.client.mqtt.mqtt3.Mqtt3Client;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5ConnAckException;
import com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5PubAckException;
import com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5SubAckException;
import com.hivemq.client.mqtt.mqtt5.message.connect.connack.Mqtt5ConnAck;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5PublishResult;
import com.hivemq.client.mqtt.mqtt5.message.publish.puback.Mqtt5PubAckReasonCode;
import io.caravan.mqtt.server.internal.Listener;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.time.Duration;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Function;
import org.apache.camel.Exchange;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.impl.DefaultCamelContext;
import org.apache.camel.impl.engine.PooledExchangeFactory;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

@Timeout(60)
class MqttServerTest {
  private static final byte[] BODY = "{}".getBytes(UTF_8);
  private final SimpleMeterRegistry meters = new SimpleMeterRegistry();
  private final Queue<Received> received = new ConcurrentLinkedQueue<>();
  private final LinkedBlockingQueue<CompletableFuture<Void>> held = new LinkedBlockingQueue<>();
  /** What the stand-in for the store does: returns the outcome, throws, or holds (null). */
  private volatile Function<Exchange, String> store = exchange -> "durable";
  private DefaultCamelContext context;
  private int port;

  record Received(byte[] body, Map<String, Object> headers) {}

  /** Stand-in for the bean wal. */
  public final class Store {
    public CompletionStage<Void> append(Exchange exchange) {
      received.add(new Received(exchange.getMessage().getBody(byte[].class), Map.copyOf(exchange.getMessage().getHeaders())));
      String outcome = store.apply(exchange);
      if (outcome == null) {
        CompletableFuture<Void> later = new CompletableFuture<>();
        held.add(later);
        return later.thenRun(() -> exchange.setVariable("outcome", "durable"));
      }
      exchange.setVariable("outcome", outcome);
      if (outcome.equals("rejected")) {
        exchange.setVariable("reason", "schema_violation");
        exchange.setVariable("field", "/metrics/t");
      }
      return CompletableFuture.completedFuture(null);
    }
  }

  @BeforeEach
  void create() {
    context = new DefaultCamelContext();
    context.getShutdownStrategy().setTimeout(2);
    context.getRegistry().bind("metricsRegistry", meters);
    context.getRegistry().bind("store", new Store());
  }

  @AfterEach
  void stop() {
    context.stop();
  }

  private void start(String options) throws Exception {
    startOn(0, options);
  }

  private void startOn(int wanted, String options) throws Exception {
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        errorHandler(noErrorHandler());
        from("mqtt-server:devices?port=" + wanted + options).routeId("ingest-direct").to("direct:ingest");
        from("direct:ingest").bean("store", "append");
        from("direct:command").to("mqtt-server:devices?publishTimeoutMs=500&channel=commands");
        from("direct:receipt").to("mqtt-server:devices?awaitAck=false&ignoreAbsent=true");
      }
    });
    context.start();
    port = ((Listener) context.getRoute("ingest-direct").getConsumer()).actualPort();
  }

  private Mqtt5BlockingClient mqtt5(String id) {
    return Mqtt5Client.builder().identifier(id).serverHost("127.0.0.1").serverPort(port).buildBlocking();
  }

  private Mqtt3BlockingClient mqtt3(String id) {
    return Mqtt3Client.builder().identifier(id).serverHost("127.0.0.1").serverPort(port).buildBlocking();
  }

  private static Mqtt5PublishResult publish(Mqtt5BlockingClient client, String topic) {
    return client.publishWith().topic(topic).qos(MqttQos.AT_LEAST_ONCE).payload(BODY).send();
  }

  private static Mqtt5PubAckReasonCode refusal(Mqtt5BlockingClient client, String topic) {
    return assertThrows(Mqtt5PubAckException.class, () -> publish(client, topic)).getMqttMessage().getReasonCode();
  }

  private double count(String outcome, String reason) {
    return meters.get("caravan.mqtt.messages").tags("outcome", outcome, "reason", reason).counter().count();
  }

  // ------------------------------------------------------------------------------------------------- publishing

  @Test
  void aMessageBecomesAnExchangeAndIsAcknowledged() throws Exception {
    start("");
    Mqtt5BlockingClient device = mqtt5("d1");
    device.connect();
    Mqtt5PublishResult result = device.publishWith().topic("devices/d1/events").qos(MqttQos.AT_LEAST_ONCE).payload(BODY)
        .contentType("application/json").userProperties().add("caravan-idempotency-key", "k1").add("traceparent", "00-x").add("caravan-signature", "v1=00")
        .add("CamelHttpUri", "http://evil").applyUserProperties().send();
    assertFalse(result.getError().isPresent());
    Received message = received.remove();
    assertEquals("{}", new String(message.body, UTF_8));
    assertEquals(Map.of("CaravanSource", "mqtt-server", "CaravanTopic", "devices/d1/events", "CaravanDeviceId", "d1", "CaravanContentType",
        "application/json", "CaravanIdempotencyKey", "k1", "CaravanTraceparent", "00-x", "CaravanSignature", "v1=00"), message.headers);
    assertEquals(1, count("durable", ""));
    device.disconnect();
  }

  @Test
  void theSameFor311AndForDuplicates() throws Exception {
    store = exchange -> "duplicate";
    start("");
    Mqtt3BlockingClient device = mqtt3("d1");
    device.connect();
    device.publishWith().topic("devices/d1/telemetry").qos(MqttQos.AT_LEAST_ONCE).payload(BODY).send();
    assertEquals(Map.of("CaravanSource", "mqtt-server", "CaravanTopic", "devices/d1/telemetry", "CaravanDeviceId", "d1"), received.remove().headers);
    assertEquals(1, count("duplicate", ""));
    device.disconnect();
  }

  @Test
  void qos0IsTakenWithoutAnAnswer() throws Exception {
    start("");
    Mqtt5BlockingClient device = mqtt5("d1");
    device.connect();
    device.publishWith().topic("devices/d1/telemetry").qos(MqttQos.AT_MOST_ONCE).payload(BODY).send();
    await().until(() -> received.size() == 1);
    device.disconnect();
  }

  @Test
  void whatIsRejectedIsAnsweredWith99AndItsReason() throws Exception {
    store = exchange -> "rejected";
    start("");
    Mqtt5BlockingClient device = mqtt5("d1");
    device.connect();
    Mqtt5PubAckException refused = assertThrows(Mqtt5PubAckException.class, () -> publish(device, "devices/d1/telemetry"));
    assertEquals(Mqtt5PubAckReasonCode.PAYLOAD_FORMAT_INVALID, refused.getMqttMessage().getReasonCode());
    assertEquals("schema_violation /metrics/t", refused.getMqttMessage().getReasonString().orElseThrow().toString());
    device.disconnect();
    Mqtt3BlockingClient old = mqtt3("d1");
    old.connect();
    old.publishWith().topic("devices/d1/telemetry").qos(MqttQos.AT_LEAST_ONCE).payload(BODY).send();
    old.disconnect();
    assertEquals(2, count("rejected", ""));
  }

  @Test
  void theAnswerWaitsForTheExchangeAndKeepsTheOrder() throws Exception {
    store = exchange -> null;
    start("");
    try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
      for (int id = 1; id <= 3; id++) {
        device.send(RawClient.publish(5, "devices/d1/telemetry", 1, id, BODY));
      }
      await().until(() -> held.size() == 3);
      List<CompletableFuture<Void>> all = List.copyOf(held);
      all.get(2).complete(null);
      all.get(1).complete(null);
      device.send(new byte[] {(byte) 0xC0, 0});
      assertEquals("d000", device.receive(), "a PINGRESP, and no PUBACK before it");
      all.get(0).complete(null);
      assertEquals(List.of("40020001", "40020002", "40020003"), List.of(device.receive(), device.receive(), device.receive()));
    }
  }

  /** What follows would be read differently by everybody else: the payload of a PUBLISH, filters, a client id. */
  @ParameterizedTest
  @ValueSource(strings = {
      "10 | 0004 4d515454 05 02 003c | 01 21000a | 0001 66",
      "10 | 0004 4d515454 05 06 003c | 00 | 0001 66 | 01 0101 | 0001 77 0000",
      "32 | 0008 646576696365732f | 0001 | 05 26 0001 6b 0001 76 | 7b7d",
      "30 | 0008 646576696365732f | 04 02 00000001",
      "30 | 0008 646576696365732f | 01 00 | 7b",
      "30 | 0008 646576696365732f | 01 26",
      "30 | 0008 646576696365732f | 03 0101 00 | 7b7d",
      "82 | 0001 | 01 0b01 | 0003 612f62 01",
      "a2 | 0001 | 02 26 0000 0000 | 0003 612f62",
      "40 | 0001 00 | 01 1f 0002 6162",
      "e0 | 00 | 01 1f 0000"})
  void propertiesThatAreNotAsLongAsTheySayAreMalformed(String packet) throws Exception {
    start("");
    byte[] rest = HexFormat.of().parseHex(packet.substring(2).replaceAll("[ |]", ""));
    ByteBuffer bytes = ByteBuffer.allocate(2 + rest.length).put(HexFormat.of().parseHex(packet.substring(0, 2))).put((byte) rest.length).put(rest);
    boolean first = packet.startsWith("10");
    try (RawClient device = first ? new RawClient(port) : RawClient.connected(port, 5, "d1", 60)) {
      device.send(bytes.array());
      assertTrue(device.receive().matches(first ? "closed" : "e0..81.*"));
    }
    assertEquals(List.of(), List.copyOf(received));
  }

  /** One of each kind of value, in a packet that is followed by another. */
  @ParameterizedTest
  @ValueSource(strings = {"00", "02 0101", "05 0200000001", "09 03 0002 612f 09 0001 00", "07 26 0001 6b 0001 76", "0e 26 0001 6b 0001 76 26 0001 6b 0001 77"})
  void propertiesThatFitAreTaken(String properties) throws Exception {
    start("");
    byte[] rest = HexFormat.of().parseHex(("0014 646576696365732f64312f74656c656d65747279 0001" + properties + "7b7d").replace(" ", ""));
    ByteBuffer bytes = ByteBuffer.allocate(2 * (2 + rest.length));
    bytes.put((byte) 0x32).put((byte) rest.length).put(rest).put(bytes.array(), 0, 2 + rest.length);
    try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
      device.send(bytes.array());
      assertEquals(List.of("40020001", "40020001"), List.of(device.receive(), device.receive()));
    }
    assertEquals(2, received.size());
  }

  @Test
  void whatTheStoreCannotTakeIsNotAcknowledgedAndComesAgain() throws Exception {
    store = exchange -> {
      throw new IllegalStateException("disk full");
    };
    start("&failureDelayMs=100");
    try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
      device.send(RawClient.publish(5, "devices/d1/telemetry", 1, 1, BODY));
      assertTrue(device.receive().startsWith("e0") , "DISCONNECT and no PUBACK");
      assertEquals("closed", device.receive());
    }
    try (RawClient device = RawClient.connected(port, 4, "d1", 60)) {
      device.send(RawClient.publish(4, "devices/d1/telemetry", 1, 1, BODY));
      assertEquals("closed", device.receive());
    }
    assertEquals(2, count("failed", ""));
    store = exchange -> "durable";
    try (RawClient device = RawClient.connected(port, 4, "d1", 60)) {
      device.send(RawClient.publish(4, "devices/d1/telemetry", 1, 1, BODY));
      assertEquals("40020001", device.receive());
    }
  }

  @Test
  void whatComesBehindAMessageThatFailedIsNotStoredBeforeIt() throws Exception {
    AtomicInteger calls = new AtomicInteger();
    store = exchange -> {
      if (calls.incrementAndGet() == 2) {
        throw new IllegalStateException("no consumers available on endpoint: direct://wal-append");
      }
      return "durable";
    };
    start("&failureDelayMs=1");
    ByteBuffer all = ByteBuffer.allocate(1_000);
    for (int id = 1; id <= 5; id++) {
      all.put(RawClient.publish(5, "devices/d1/telemetry", 1, id, BODY));
    }
    try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
      device.send(Arrays.copyOf(all.array(), all.position()));
      assertEquals("40020001", device.receive(), "what came before it is acknowledged");
      assertTrue(device.receive().startsWith("e0"), "DISCONNECT");
      assertEquals("closed", device.receive());
    }
    assertEquals(2, calls.get());
  }

  @Test
  void disconnectSaysThatTheServerIsBusy() throws Exception {
    store = exchange -> "what";
    start("&failureDelayMs=1");
    try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
      device.send(RawClient.publish(5, "devices/d1/telemetry", 1, 1, BODY));
      assertEquals("89", device.receive().substring(4, 6), "a route that does not say durable has not stored anything");
    }
  }

  /** MQTT 5, 3.4.2.2.2 and 3.14.2.2.3: rather no reason string than a packet that is longer than the client takes. */
  @Test
  void aReasonIsLeftOutWhereItsPacketWouldBeTooLong() throws Exception {
    store = exchange -> "rejected";
    start("");
    int puback = 9 + "schema_violation /metrics/t".length();
    int disconnect = 7 + "nothing but capabilities is retained here".length();
    assertEquals("4003000799", answers(puback - 1)[0]);
    assertEquals(2 * puback, answers(puback)[0].length());
    assertEquals("e0029a00", answers(disconnect - 1)[1]);
    assertEquals(2 * disconnect, answers(disconnect)[1].length());
  }

  /** What a client that takes packets of so many bytes gets for a message that is kept as rejected, and for a retained one; in hex. */
  private String[] answers(int maximumPacketBytes) throws Exception {
    try (RawClient client = new RawClient(port)) {
      client.send(new RawClient.Packet().text("MQTT").bytes(5, 0x02).number(60).bytes(5, 0x27, 0, 0).number(maximumPacketBytes).text("c1").build(0x10));
      assertTrue(client.receive().startsWith("20"));
      client.send(RawClient.publish(5, "devices/d1/telemetry", 1, 7, BODY));
      String puback = client.receive();
      client.send(new RawClient.Packet().text("devices/d1/telemetry").number(8).bytes(0).raw(BODY).build(0x33));
      return new String[] {puback, client.receive()};
    }
  }

  @ParameterizedTest
  @CsvSource({"devices/d1/telemetrie, bad_topic", "devices/d1, bad_topic", "x/d1/telemetry, bad_topic", "devices/d1/commands, bad_topic",
      "devices/d1/telemetry/x, bad_topic", "$SYS/x, bad_topic", "devices/d..1/telemetry, bad_device_id", "devices//telemetry, bad_device_id"})
  void topicsOutsideTheContract(String topic, String reason) throws Exception {
    start("");
    Mqtt5BlockingClient device = mqtt5("d1");
    device.connect();
    assertEquals(Mqtt5PubAckReasonCode.TOPIC_NAME_INVALID, refusal(device, topic));
    publish(device, "devices/d1/telemetry");
    device.disconnect();
    assertEquals(1, count("refused", reason));
    try (RawClient old = RawClient.connected(port, 4, "d1", 60)) {
      old.send(RawClient.publish(4, topic, 1, 1, BODY));
      assertEquals("closed", old.receive(), "3.1.1 cannot refuse a message");
    }
    assertEquals(1, received.size());
  }

  @Test
  void identityOwnBindsAConnectionToItsDevice() throws Exception {
    start("&identity=own");
    Mqtt5BlockingClient device = mqtt5("d1");
    device.connect();
    publish(device, "devices/d1/telemetry");
    assertEquals(Mqtt5PubAckReasonCode.NOT_AUTHORIZED, refusal(device, "devices/d2/telemetry"));
    assertEquals(1, count("not_authorized", ""));
    assertThrows(Mqtt5SubAckException.class, () -> device.subscribeWith().topicFilter("devices/d2/commands").send());
    device.disconnect();
    Mqtt5BlockingClient named = mqtt5("anything");
    named.connectWith().simpleAuth().username("d2").password(BODY).applySimpleAuth().send();
    publish(named, "devices/d2/telemetry");
    assertEquals(Mqtt5PubAckReasonCode.NOT_AUTHORIZED, refusal(named, "devices/anything/telemetry"));
    named.disconnect();
  }

  // ------------------------------------------------------------------------------------------------- connecting

  @Test
  void connackAnnouncesWhatIsThere() throws Exception {
    start("&receiveMaximum=7&maxPacketBytes=1000&keepAliveSeconds=30");
    Mqtt5BlockingClient device = Mqtt5Client.builder().serverHost("127.0.0.1").serverPort(port).buildBlocking();
    Mqtt5ConnAck connack = device.connectWith().keepAlive(0).cleanStart(false).sessionExpiryInterval(1000).send();
    assertFalse(connack.isSessionPresent());
    assertEquals(7, connack.getRestrictions().getReceiveMaximum());
    assertEquals(1000, connack.getRestrictions().getMaximumPacketSize());
    assertEquals(MqttQos.AT_LEAST_ONCE, connack.getRestrictions().getMaximumQos());
    assertEquals(0, connack.getRestrictions().getTopicAliasMaximum());
    assertTrue(connack.getRestrictions().isRetainAvailable());
    assertFalse(connack.getRestrictions().isWildcardSubscriptionAvailable());
    assertFalse(connack.getRestrictions().isSharedSubscriptionAvailable());
    assertFalse(connack.getRestrictions().areSubscriptionIdentifiersAvailable());
    assertEquals(30, connack.getServerKeepAlive().orElseThrow());
    assertEquals(0, connack.getSessionExpiryInterval().orElseThrow());
    assertTrue(connack.getAssignedClientIdentifier().orElseThrow().toString().startsWith("auto-"));
    device.disconnect();
  }

  @Test
  void theSameClientIdTakesOver() throws Exception {
    start("");
    try (RawClient first = RawClient.connected(port, 5, "d1", 60); RawClient second = RawClient.connected(port, 5, "d1", 60)) {
      assertEquals("8e", first.receive().substring(4, 6));
      assertEquals("closed", first.receive());
      second.send(RawClient.publish(5, "devices/d1/telemetry", 1, 1, BODY));
      assertEquals("40020001", second.receive());
      assertEquals(1, connections().count());
    }
    await().until(() -> connections().count() == 0);
  }

  @Test
  void keepAliveIsEnforced() throws Exception {
    start("");
    try (RawClient device = RawClient.connected(port, 5, "d1", 1)) {
      device.send(new byte[] {(byte) 0xC0, 0});
      assertEquals("d000", device.receive());
      long before = System.nanoTime();
      assertEquals("8d", device.receive().substring(4, 6));
      long ms = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - before);
      assertTrue(ms >= 900 && ms < 5000, ms + " ms");
    }
  }

  @Test
  void silenceBeforeConnectEndsTheConnection() throws Exception {
    start("&connectTimeoutMs=300");
    try (RawClient device = new RawClient(port)) {
      device.send(new byte[] {0x10});
      assertEquals("closed", device.receive());
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {4, 5})
  void oneConnectionTooMany(int level) throws Exception {
    start("&maxConnections=1");
    try (RawClient first = RawClient.connected(port, level, "d1", 60); RawClient second = new RawClient(port)) {
      second.send(RawClient.connect(level, "d2", 60));
      String connack = second.receive();
      assertEquals(level == 5 ? "97" : "03", connack.substring(6, 8));
      assertEquals("closed", second.receive());
      first.send(RawClient.publish(level, "devices/d1/telemetry", 1, 1, BODY));
      assertEquals("40020001", first.receive());
    }
    await().until(() -> connections().count() == 0);
    RawClient.connected(port, level, "d3", 60).close();
  }

  @Test
  void otherProtocolVersionsAreRefused() throws Exception {
    start("");
    for (int level : new int[] {3, 6, 131}) {
      try (RawClient device = new RawClient(port)) {
        device.send(RawClient.connect(level, "d1", 60));
        assertEquals("20020001", device.receive(), "level " + level);
      }
    }
    try (RawClient device = new RawClient(port)) {
      device.send(new RawClient.Packet().text("MQIsdp").bytes(3, 2).number(60).text("d1").build(0x10));
      assertEquals("20020001", device.receive());
    }
  }

  @Test
  void theAuthenticatorDecides() throws Exception {
    AtomicReference<CompletableFuture<Authenticator.Decision>> pending = new AtomicReference<>();
    Authenticator authenticator = request -> switch (request.clientId()) {
      case "good" -> CompletableFuture.completedFuture(Authenticator.Decision.accept("d1"));
      case "bad" -> CompletableFuture.completedFuture(Authenticator.Decision.refuse(0x86));
      case "slow" -> {
        pending.set(new CompletableFuture<>());
        yield pending.get();
      }
      default -> CompletableFuture.failedFuture(new IllegalStateException("registry is away"));
    };
    context.getRegistry().bind("authenticator", Authenticator.class, authenticator);
    start("&connectTimeoutMs=2000");
    Mqtt5BlockingClient good = mqtt5("good");
    good.connect();
    publish(good, "devices/d1/telemetry");
    assertEquals(Mqtt5PubAckReasonCode.NOT_AUTHORIZED, refusal(good, "devices/good/telemetry"));
    good.disconnect();
    assertEquals("BAD_USER_NAME_OR_PASSWORD", assertThrows(Mqtt5ConnAckException.class, () -> mqtt5("bad").connect()).getMqttMessage().getReasonCode().name());
    assertEquals("SERVER_UNAVAILABLE", assertThrows(Mqtt5ConnAckException.class, () -> mqtt5("x").connect()).getMqttMessage().getReasonCode().name());
    try (RawClient slow = new RawClient(port)) {
      slow.send(RawClient.connect(4, "slow", 60));
      slow.send(RawClient.publish(4, "devices/d1/telemetry", 1, 9, BODY));
      await().until(() -> pending.get() != null);
      assertEquals(1, received.size(), "nothing is taken before the decision");
      pending.get().complete(Authenticator.Decision.accept("d1"));
      assertEquals("20020000", slow.receive());
      assertEquals("40020009", slow.receive());
    }
    try (RawClient never = new RawClient(port)) {
      never.send(RawClient.connect(4, "slow", 60));
      assertEquals("closed", never.receive());
    }
  }

  @Test
  void connectionsAreListedAndEnded() throws Exception {
    start("&identity=own");
    try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
      device.send(RawClient.subscribe(5, 1, "devices/d1/commands", 1));
      device.receive();
      Connections.Connection connection = connections().list().get(0);
      assertEquals("d1", connection.deviceId());
      assertEquals(5, connection.protocolLevel());
      assertEquals(List.of("devices/d1/commands"), connection.subscriptions());
      assertEquals(1, meters.get("caravan.mqtt.connections").gauge().value());
      assertEquals(0, connections().disconnect("d2", 0x98));
      assertEquals(1, connections().disconnect("d1", 0x98));
      assertEquals("98", device.receive().substring(4, 6));
    }
  }

  // ------------------------------------------------------------------------------------------------- hostile bytes

  @ParameterizedTest
  @CsvSource({"3003000178, 82 before CONNECT", "101000044d51545404020000000164ffff, beyond the end", "ffffffffff, bad length", "0000, reserved type",
      "10ffffff7f, 256 MB", "100c00044d515454050200003c00, no client id"})
  void bytesThatAreNoConnect(String bytes, String what) throws Exception {
    start("&connectTimeoutMs=1000");
    try (RawClient device = new RawClient(port)) {
      device.send(java.util.HexFormat.of().parseHex(bytes));
      assertEquals("closed", device.receive(), what);
    }
    RawClient.connected(port, 4, "d1", 60).close();
  }

  @ParameterizedTest
  @CsvSource({"360600017800010a, illegal QoS 3, 81", "820100, truncated SUBSCRIBE, 81", "c00161, PINGREQ with a body, 81", "30ffffff7f, 256 MB, 95",
      "620400010000, PUBREL, 82", "f000, AUTH, 82"})
  void bytesThatAreNoPacket(String bytes, String what, String code) throws Exception {
    start("");
    try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
      device.send(java.util.HexFormat.of().parseHex(bytes));
      String answer = device.receive();
      if (answer.equals("d000")) {
        // The PINGREQ as such was one.
        answer = device.receive();
      }
      assertEquals(code, answer.substring(4, 6), what);
      assertEquals("closed", device.receive());
    }
  }

  @Test
  void aSecondConnectIsAProtocolError() throws Exception {
    start("");
    try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
      device.send(RawClient.connect(5, "d1", 60));
      assertEquals("82", device.receive().substring(4, 6));
    }
  }

  @Test
  void propertiesThatClaimMoreThanThePacketEndTheConnection() throws Exception {
    start("");
    try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
      // 200 MB of properties in a packet of a few bytes, followed by packets that would fill them up.
      device.send(new RawClient.Packet().text("devices/d1/telemetry").number(1).bytes(0x80, 0x80, 0x80, 0x60, 0x26).build(0x32));
      assertEquals("81", device.receive().substring(4, 6));
      assertEquals("closed", device.receive());
    }
  }

  @Test
  void packetSizeIsLimited() throws Exception {
    start("&maxPacketBytes=200");
    try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
      int overhead = RawClient.publish(5, "devices/d1/telemetry", 1, 1, new byte[100]).length - 100 + 1;
      device.send(RawClient.publish(5, "devices/d1/telemetry", 1, 1, new byte[200 - overhead]));
      assertEquals("40020001", device.receive());
      device.send(RawClient.publish(5, "devices/d1/telemetry", 1, 2, new byte[200 - overhead + 1]));
      assertEquals("95", device.receive().substring(4, 6));
    }
  }

  @Test
  void randomBytesHurtNobodyElse() throws Exception {
    start("&connectTimeoutMs=10000");
    java.util.Random random = new java.util.Random(5);
    try (RawClient good = RawClient.connected(port, 5, "good", 60)) {
      for (int i = 0; i < 300; i++) {
        try (RawClient bad = i % 2 == 0 ? new RawClient(port) : RawClient.connected(port, i % 4 == 1 ? 5 : 4, "bad", 60)) {
          byte[] bytes = new byte[1 + random.nextInt(300)];
          random.nextBytes(bytes);
          bad.send(bytes);
        }
      }
      good.send(RawClient.publish(5, "devices/good/telemetry", 1, 1, BODY));
      assertEquals("40020001", good.receive());
    }
    await().until(() -> connections().count() == 0);
  }

  @Test
  void whatIsNotOfferedEndsTheConnection() throws Exception {
    start("");
    Map<String, byte[]> packets = Map.of(
        "9b", RawClient.publish(5, "devices/d1/telemetry", 2, 1, BODY),
        "9a", new RawClient.Packet().text("devices/d1/telemetry").number(1).bytes(0).build(0x33),
        "94", new RawClient.Packet().text("").number(1).bytes(3, 0x23, 0, 1).build(0x32),
        "a1", new RawClient.Packet().number(1).bytes(2, 0x0B, 1).text("devices/d1/commands").bytes(1).build(0x82));
    for (Map.Entry<String, byte[]> each : packets.entrySet()) {
      try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
        device.send(each.getValue());
        assertEquals(each.getKey(), device.receive().substring(4, 6));
      }
    }
    try (RawClient device = RawClient.connected(port, 4, "d1", 60)) {
      device.send(RawClient.publish(4, "devices/d1/telemetry", 2, 1, BODY));
      assertEquals("closed", device.receive());
    }
    assertEquals(0, received.size());
  }

  // ------------------------------------------------------------------------------------------------- backpressure

  @Test
  void moreThanTheReceiveMaximumEndsAnMqtt5Connection() throws Exception {
    store = exchange -> null;
    start("&receiveMaximum=3");
    try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
      for (int id = 1; id <= 4; id++) {
        device.send(RawClient.publish(5, "devices/d1/telemetry", 1, id, BODY));
      }
      assertEquals("93", device.receive().substring(4, 6));
      assertEquals(3, received.size());
    }
  }

  @ParameterizedTest
  @CsvSource({"4, 1", "4, 0", "5, 0"})
  void whoKnowsNoReceiveMaximumIsHeldByTheSocket(int level, int qos) throws Exception {
    store = exchange -> null;
    start("&receiveMaximum=10");
    try (RawClient device = RawClient.connected(port, level, "d1", 1)) {
      for (int id = 1; id <= 500; id++) {
        device.send(RawClient.publish(level, "devices/d1/telemetry", qos, id, BODY));
      }
      await().until(() -> held.size() == 10);
      // Longer than the keep-alive: while nothing is read, silence is not the device's.
      await().during(Duration.ofSeconds(2)).atMost(Duration.ofSeconds(4)).until(() -> held.size() == 10);
      int done = 0;
      while (done < 500) {
        CompletableFuture<Void> next = held.poll(5, TimeUnit.SECONDS);
        assertTrue(next != null, done + " messages");
        assertTrue(received.size() - done <= 10, received.size() + " taken, " + done + " done");
        next.complete(null);
        done++;
      }
      for (int id = 1; qos == 1 && id <= 500; id++) {
        assertEquals(String.format("4002%04x", id), device.receive());
      }
    }
  }

  /** Held by TCP, that is, and not in memory. */
  @ParameterizedTest
  @ValueSource(strings = {"&receiveMaximum=10", "&maxInFlight=10"})
  void whoIsHeldIsNotReadEither(String bound) throws Exception {
    store = exchange -> null;
    start(bound);
    try (SocketChannel device = SocketChannel.open(new InetSocketAddress("127.0.0.1", port))) {
      device.write(ByteBuffer.wrap(RawClient.connect(4, "d1", 60)));
      long sent = RawClient.sendUntilHeld(device, RawClient.publish(4, "devices/d1/telemetry", 0, 0, new byte[60_000]), 48 << 20);
      assertTrue(sent < 48 << 20, sent + " bytes were taken");
      assertEquals(10, received.size());
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"&maxInFlight=20", "&maxInFlightBytes=2000"})
  void allConnectionsTogetherAreBounded(String bound) throws Exception {
    store = exchange -> null;
    start("&receiveMaximum=500" + bound);
    RawClient[] devices = new RawClient[4];
    for (int d = 0; d < devices.length; d++) {
      devices[d] = RawClient.connected(port, 4, "d" + d, 60);
      for (int id = 1; id <= 100; id++) {
        devices[d].send(RawClient.publish(4, "devices/d" + d + "/telemetry", 1, id, new byte[100]));
      }
    }
    await().until(() -> held.size() >= 20);
    await().during(Duration.ofMillis(300)).atMost(Duration.ofSeconds(3)).until(() -> held.size() <= 20 + devices.length);
    int done = 0;
    for (; done < 400; done++) {
      CompletableFuture<Void> next = held.poll(5, TimeUnit.SECONDS);
      assertTrue(next != null, done + " messages");
      next.complete(null);
    }
    for (int d = 0; d < devices.length; d++) {
      for (int id = 1; id <= 100; id++) {
        assertEquals(String.format("4002%04x", id), devices[d].receive());
      }
      devices[d].close();
    }
    assertEquals(0, meters.get("caravan.mqtt.in.flight").gauge().value());
  }

  @Test
  void manyMessagesOverPooledExchanges() throws Exception {
    context.getCamelContextExtension().setExchangeFactory(new PooledExchangeFactory());
    LinkedBlockingQueue<Runnable> committer = new LinkedBlockingQueue<>();
    context.getRegistry().unbind("store");
    context.getRegistry().bind("store", new Object() {
      public CompletionStage<Void> append(Exchange exchange) {
        CompletableFuture<Void> done = new CompletableFuture<>();
        String body = exchange.getMessage().getBody(String.class);
        committer.add(() -> {
          exchange.setVariable("outcome", body.endsWith("7") ? "rejected" : "durable");
          done.complete(null);
        });
        return done;
      }
    });
    Thread thread = new Thread(() -> {
      try {
        while (true) {
          committer.take().run();
        }
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    });
    thread.start();
    try {
      start("");
      Mqtt5AsyncClient device = mqtt5("d1").toAsync();
      device.connect().get(5, TimeUnit.SECONDS);
      int total = 20_000;
      CompletableFuture<?>[] sent = new CompletableFuture<?>[total];
      for (int i = 0; i < total; i++) {
        boolean bad = i % 10 == 7;
        sent[i] = device.publishWith().topic("devices/d1/telemetry").qos(MqttQos.AT_LEAST_ONCE).payload(Integer.toString(i).getBytes(UTF_8)).send()
            .handle((result, failure) -> {
              boolean refused = failure instanceof Mqtt5PubAckException || result != null && result.getError().isPresent();
              assertEquals(bad, refused, () -> String.valueOf(failure));
              return null;
            });
      }
      CompletableFuture.allOf(sent).get(30, TimeUnit.SECONDS);
      assertEquals(total / 10, count("rejected", ""));
      device.disconnect().get(5, TimeUnit.SECONDS);
    } finally {
      thread.interrupt();
    }
  }

  // ------------------------------------------------------------------------------------------------- to devices

  @Test
  void subscriptionsAreCommandsAndReceiptsByName() throws Exception {
    start("");
    Map<String, String> codes = Map.of("devices/d1/commands", "01", "devices/+/commands", "a2", "devices/d1/#", "a2", "#", "a2", "$share/g/devices/d1/commands", "9e",
        "devices/d1/telemetry", "8f", "devices/../commands", "8f", "devices/d1/receipts", "01");
    try (RawClient device = RawClient.connected(port, 5, "d1", 60); RawClient old = RawClient.connected(port, 4, "d2", 60)) {
      for (Map.Entry<String, String> each : codes.entrySet()) {
        device.send(RawClient.subscribe(5, 5, each.getKey(), 2));
        assertEquals("9004000500" + each.getValue(), device.receive(), each.getKey());
        old.send(RawClient.subscribe(4, 5, each.getKey(), 1));
        assertEquals("90030005" + (each.getValue().equals("01") ? "01" : "80"), old.receive(), each.getKey());
      }
      device.send(new RawClient.Packet().number(6).bytes(0).text("devices/d1/commands").text("devices/d9/commands").build(0xA2));
      assertEquals("b0050006000011", device.receive());
      old.send(new RawClient.Packet().number(6).text("devices/d1/commands").build(0xA2));
      assertEquals("b0020006", old.receive());
      assertInstanceOf(DeviceNotConnectedException.class, command("d1").getException());
    }
  }

  @Test
  void aCommandIsDeliveredWhenTheDeviceAcknowledgedIt() throws Exception {
    start("");
    Mqtt5BlockingClient device = mqtt5("d1");
    device.connect();
    try (Mqtt5BlockingClient.Mqtt5Publishes messages = device.publishes(MqttGlobalPublishFilter.ALL)) {
      device.subscribeWith().topicFilter("devices/d1/commands").qos(MqttQos.AT_LEAST_ONCE).send();
      assertNull(command("d1").getException());
      Mqtt5Publish message = messages.receive(5, TimeUnit.SECONDS).orElseThrow();
      assertEquals("{\"name\":\"reboot\"}", new String(message.getPayloadAsBytes(), UTF_8));
      assertEquals(MqttQos.AT_LEAST_ONCE, message.getQos());
      assertFalse(message.isRetain());
      assertEquals(60, message.getMessageExpiryInterval().orElseThrow());
      assertEquals("c-1", UTF_8.decode(message.getCorrelationData().orElseThrow()).toString());
      assertEquals("id", message.getUserProperties().asList().get(0).getName().toString());
      assertEquals("application/json", message.getContentType().orElseThrow().toString());
    }
    device.disconnect();
    await().until(() -> connections().count() == 0);
    assertInstanceOf(DeviceNotConnectedException.class, command("d1").getException());
  }

  @Test
  void aCommandThatIsNotAcknowledgedFails() throws Exception {
    start("");
    try (RawClient device = RawClient.connected(port, 4, "d1", 60)) {
      device.send(RawClient.subscribe(4, 1, "devices/d1/commands", 1));
      device.receive();
      assertInstanceOf(PublishTimeoutException.class, command("d1").getException());
      assertTrue(device.receive().startsWith("32"));
      CompletableFuture<Exchange> second = CompletableFuture.supplyAsync(() -> command("d1"));
      assertTrue(device.receive().startsWith("32"));
      device.close();
      assertInstanceOf(DeviceNotConnectedException.class, second.get(5, TimeUnit.SECONDS).getException());
    }
    try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
      device.send(RawClient.subscribe(5, 1, "devices/d1/commands", 1));
      device.receive();
      CompletableFuture<Exchange> refused = CompletableFuture.supplyAsync(() -> command("d1"));
      String publish = device.receive();
      int topicLength = Integer.parseInt(publish.substring(4, 8), 16);
      int packetId = Integer.parseInt(publish.substring(8 + 2 * topicLength, 12 + 2 * topicLength), 16);
      device.send(new RawClient.Packet().number(packetId).bytes(0x87).build(0x40));
      assertInstanceOf(PublishRefusedException.class, refused.get(5, TimeUnit.SECONDS).getException());
      device.send(RawClient.subscribe(5, 2, "devices/d1/commands", 0));
      device.receive();
      assertInstanceOf(DeviceNotConnectedException.class, command("d1").getException(), "QoS 0 is no evidence");
    }
  }

  @Test
  void theDevicesReceiveMaximumIsKept() throws Exception {
    start("");
    try (RawClient device = new RawClient(port)) {
      device.send(new RawClient.Packet().text("MQTT").bytes(5, 2).number(60).bytes(3, 0x21, 0, 1).text("d1").build(0x10));
      device.receive();
      device.send(RawClient.subscribe(5, 1, "devices/d1/commands", 1));
      device.receive();
      CompletableFuture<Exchange> first = CompletableFuture.supplyAsync(() -> command("d1"));
      assertTrue(device.receive().startsWith("32"));
      CompletableFuture<Exchange> second = CompletableFuture.supplyAsync(() -> command("d1"));
      device.send(new byte[] {(byte) 0xC0, 0});
      assertEquals("d000", device.receive(), "no second message before the first is acknowledged");
      device.send(new RawClient.Packet().number(1).build(0x40));
      assertNull(first.get(5, TimeUnit.SECONDS).getException());
      assertTrue(device.receive().startsWith("32"));
      device.send(new RawClient.Packet().number(2).build(0x40));
      assertNull(second.get(5, TimeUnit.SECONDS).getException());
    }
  }

  @Test
  void receiptsAreSentWithoutWaitingAndAskedForBySubscribing() throws Exception {
    LinkedBlockingQueue<String> asked = new LinkedBlockingQueue<>();
    context.getRegistry().bind("wal", new Object() {
      public void receiptRequested(String deviceId) {
        asked.add(deviceId);
      }
    });
    start("&onReceiptsSubscribed=bean:wal?method=receiptRequested");
    assertNull(receipt("d1").getException(), "an absent device is no error");
    try (RawClient device = RawClient.connected(port, 4, "d1", 60)) {
      device.send(RawClient.subscribe(4, 1, "devices/d1/receipts", 1));
      device.receive();
      assertEquals("d1", asked.poll(5, TimeUnit.SECONDS));
      assertNull(receipt("d1").getException());
      assertTrue(device.receive().startsWith("32"));
    }
    assertInstanceOf(IllegalArgumentException.class, send("direct:receipt", Map.of("CaravanTopic", "devices/d1/telemetry")).getException());
    assertInstanceOf(IllegalArgumentException.class, send("direct:command", Map.of("CaravanDeviceId", "d1/x")).getException());
  }

  private Exchange command(String device) {
    return send("direct:command", Map.of("CaravanDeviceId", device, "CaravanExpirySeconds", 60, "CaravanCorrelationData", "c-1", "CaravanUserProperties",
        Map.of("id", "c-1"), "CaravanContentType", "application/json"));
  }

  private Exchange receipt(String device) {
    return send("direct:receipt", Map.of("CaravanTopic", "devices/" + device + "/receipts"));
  }

  private Exchange send(String uri, Map<String, Object> headers) {
    return context.createProducerTemplate().send(uri, exchange -> {
      exchange.getMessage().setBody("{\"name\":\"reboot\"}");
      exchange.getMessage().setHeaders(new java.util.HashMap<>(headers));
    });
  }

  // ------------------------------------------------------------------------------------------------- starting and stopping

  @Test
  void stoppingAnswersWhatWasTakenAndSaysGoodbye() throws Exception {
    store = exchange -> null;
    start("");
    try (RawClient device = RawClient.connected(port, 5, "d1", 60)) {
      device.send(RawClient.publish(5, "devices/d1/telemetry", 1, 1, BODY));
      await().until(() -> held.size() == 1);
      CompletableFuture<Void> stopped = CompletableFuture.runAsync(() -> context.stop());
      await().until(() -> context.isStopping());
      held.take().complete(null);
      assertEquals("40020001", device.receive());
      assertEquals("8b", device.receive().substring(4, 6));
      stopped.get(10, TimeUnit.SECONDS);
    }
    try (ServerSocket free = new ServerSocket(port)) {
      assertEquals(port, free.getLocalPort());
    }
  }

  @Test
  void aRouteStartsAgainOnItsPort() throws Exception {
    int fixed;
    try (ServerSocket free = new ServerSocket(0)) {
      fixed = free.getLocalPort();
    }
    start("&host=127.0.0.1");
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        errorHandler(noErrorHandler());
        from("mqtt-server:devices?port=" + fixed).routeId("fixed").to("direct:ingest");
      }
    });
    // So often, that the port is taken for a moment when the first of two loops binds, and free for the second.
    for (int i = 0; i < 300; i++) {
      RawClient.connected(fixed, 5, "d1", 60).close();
      context.getRouteController().stopRoute("fixed");
      context.getRouteController().startRoute("fixed");
    }
    Exception twice = assertThrows(Exception.class, () -> context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        from("mqtt-server:other?port=" + fixed).routeId("other").to("direct:ingest");
      }
    }));
    assertTrue(deepest(twice).getMessage().contains("route [fixed] has it"), deepest(twice).getMessage());
  }

  @Test
  void aTakenPortIsAnErrorThatSaysWhatToDo() throws Exception {
    try (ServerSocket taken = new ServerSocket(0, 1, java.net.InetAddress.getByName("127.0.0.1"))) {
      Exception e = assertThrows(IllegalStateException.class, () -> startOn(taken.getLocalPort(), ""));
      String message = e.getMessage();
      assertTrue(message.contains("127.0.0.1:" + taken.getLocalPort()) && message.contains("mqtt.server.port") && message.contains("mqtt.server.bind.host"), message);
    }
  }

  @ParameterizedTest
  @CsvSource({"receiveMaximum=0, receiveMaximum", "identity=some, identity", "tlsCert=/nowhere/x.pem&tlsKey=/nowhere/y.pem, /nowhere/x.pem", "tlsClientCa=/x.pem, tlsCert",
      "nosuch=1, nosuch"})
  void wrongOptionsAreNamed(String option, String named) {
    Exception e = assertThrows(Exception.class, () -> start("&" + option));
    StringBuilder all = new StringBuilder();
    for (Throwable cause = e; cause != null; cause = cause.getCause()) {
      all.append(cause.getMessage()).append('\n');
    }
    assertTrue(all.toString().contains(named), all.toString());
  }

  private static Throwable deepest(Throwable e) {
    return e.getCause() == null ? e : deepest(e.getCause());
  }

  private Connections connections() {
    return context.getRegistry().lookupByNameAndType("mqttConnections", Connections.class);
  }
}
