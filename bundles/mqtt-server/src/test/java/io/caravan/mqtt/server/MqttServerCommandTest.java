// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import io.caravan.mqtt.server.internal.Listener;
import java.io.IOException;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.camel.Exchange;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Commands to devices, with what is known of each afterwards, and commands from controllers. */
@Timeout(60)
class MqttServerCommandTest {
  private static final byte[] PING = {(byte) 0xC0, 0};
  private static final String PONG = "d000";
  private final Map<String, TestGrant> grants = new ConcurrentHashMap<>();
  private final Queue<Map<String, Object>> received = new ConcurrentLinkedQueue<>();
  private final LinkedBlockingQueue<String> told = new LinkedBlockingQueue<>();
  private final DefaultCamelContext context = new DefaultCamelContext();
  private volatile String outcome = "durable";
  private volatile String reason;
  private int port;

  static final class TestGrant implements Authenticator.Grant {
    volatile boolean controller;

    @Override
    public boolean valid() {
      return true;
    }

    @Override
    public long take(int size) {
      return 0;
    }

    @Override
    public boolean controller() {
      return controller;
    }
  }

  /** Stand-in for the bean presence. */
  public final class Board {
    public void subscribed(Exchange exchange) {
      String channel = exchange.getMessage().getHeader("CaravanChannel", String.class);
      if (exchange.getMessage().getHeader("CaravanDeviceId").equals("broken")) {
        throw new IllegalStateException("nobody there");
      }
      told.add(exchange.getMessage().getBody(String.class) + " " + exchange.getMessage().getHeader("CaravanDeviceId") + " " + channel);
    }
  }

  @BeforeEach
  void start() throws Exception {
    context.getShutdownStrategy().setTimeout(2);
    Authenticator gate = request -> CompletableFuture.completedFuture(Authenticator.Decision.accept(request.username(), grant(request.username())));
    context.getRegistry().bind("gate", Authenticator.class, gate);
    context.getRegistry().bind("board", new Board());
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        errorHandler(noErrorHandler());
        from("mqtt-server:devices?port=0&authenticator=#gate&gatewayId=g1&onSubscribed=bean:board?method=subscribed")
            .routeId("ingest-direct").process(this::take);
        from("direct:command").to("mqtt-server:devices?channel=commands&evidence=true");
        from("direct:plain").to("mqtt-server:devices?channel=commands&publishTimeoutMs=1000");
        from("direct:desired").to("mqtt-server:devices?channel=desired&awaitAck=false&ignoreAbsent=true");
        from("direct:status").to("mqtt-server:devices?channel=control-status&gatewayId=g1&awaitAck=false&ignoreAbsent=true");
      }

      private void take(Exchange exchange) {
        received.add(Map.copyOf(exchange.getMessage().getHeaders()));
        exchange.setVariable("outcome", outcome);
        exchange.setVariable("reason", reason);
      }
    });
    context.start();
    port = ((Listener) context.getRoute("ingest-direct").getConsumer()).actualPort();
  }

  @AfterEach
  void stop() {
    context.stop();
  }

  private TestGrant grant(String device) {
    return grants.computeIfAbsent(device, none -> new TestGrant());
  }

  private TestGrant controller(String device) {
    grant(device).controller = true;
    return grant(device);
  }

  private RawClient connected(int level, String device, String clientId) throws IOException {
    RawClient client = new RawClient(port);
    assertEquals("00", client.ask(RawClient.connect(level, clientId, device, "x")).substring(6, 8));
    return client;
  }

  /** A device that may have only one unacknowledged message, and messages of that many bytes. */
  private RawClient narrow(String device, int maxPacketBytes) throws IOException {
    RawClient client = new RawClient(port);
    RawClient.Packet packet = new RawClient.Packet().text("MQTT").bytes(5, 0xC2).number(60).bytes(8, 0x21, 0, 1, 0x27).number(0).number(maxPacketBytes);
    assertEquals("00", client.ask(packet.text("c").text(device).text("x").build(0x10)).substring(6, 8));
    return client;
  }

  private static void subscribe(RawClient client, int level, String filter, int qos) throws IOException {
    assertEquals((level == 5 ? "9004000100" : "90030001") + "0" + qos, client.ask(RawClient.subscribe(level, 1, filter, qos)));
  }

  private Exchange send(String uri, Map<String, Object> headers) {
    return context.createProducerTemplate().send(uri, exchange -> {
      exchange.getMessage().setBody("{}");
      exchange.getMessage().setHeaders(new HashMap<>(headers));
    });
  }

  private CompletableFuture<String> command(long ttlMs, long ackMs) {
    return CompletableFuture.supplyAsync(() -> evidence(ttlMs, ackMs));
  }

  private String evidence(long ttlMs, long ackMs) {
    Exchange exchange = send("direct:command", Map.of("CaravanDeviceId", "d1", "CaravanTtlMs", ttlMs, "CaravanAckMs", ackMs));
    assertNull(exchange.getException());
    return exchange.getMessage().getHeader("CaravanEvidence", String.class);
  }

  private static byte[] puback(String publish, int reasonCode) {
    return new RawClient.Packet().number(packetId(publish)).bytes(reasonCode).build(0x40);
  }

  /** Of a QoS 1 PUBLISH in hex, shorter than 128 bytes. */
  private static int packetId(String publish) {
    assertTrue(publish.startsWith("32"), publish);
    int topic = Integer.parseInt(publish.substring(4, 8), 16);
    return Integer.parseInt(publish.substring(8 + 2 * topic, 12 + 2 * topic), 16);
  }

  private static String topic(String publish) {
    int length = Integer.parseInt(publish.substring(4, 8), 16);
    return new String(HexFormat.of().parseHex(publish.substring(8, 8 + 2 * length)), UTF_8);
  }

  private Connections connections() {
    return context.getRegistry().lookupByNameAndType("mqttConnections", Connections.class);
  }

  // ------------------------------------------------------------------------------------------------- evidence

  @ParameterizedTest
  @ValueSource(ints = {4, 5})
  void evidenceOfACommand(int level) throws Exception {
    assertEquals("none", evidence(5_000, 5_000), "nobody is connected");
    try (RawClient device = connected(level, "d1", "c")) {
      assertEquals("none", evidence(5_000, 5_000), "connected, not subscribed");
      subscribe(device, level, "devices/d1/commands", 1);
      assertTrue(connections().subscribed("devices/d1/commands"));
      assertEquals("none", evidence(0, 5_000), "its time is over");
      assertEquals(PONG, device.ask(PING), "nothing was written");

      CompletableFuture<String> delivered = command(5_000, 5_000);
      device.send(level == 5 ? puback(device.receive(), 0x10) : new RawClient.Packet().number(packetId(device.receive())).build(0x40));
      assertEquals("delivered", delivered.get(5, TimeUnit.SECONDS));

      assertEquals("unknown", evidence(5_000, 1_000), "written, and no PUBACK");
      packetId(device.receive());
      CompletableFuture<String> cut = command(5_000, 5_000);
      packetId(device.receive());
      device.close();
      assertEquals("unknown", cut.get(5, TimeUnit.SECONDS), "written, and the connection ended");
      await().until(() -> !connections().subscribed("devices/d1/commands"));
      assertEquals("none", evidence(5_000, 5_000));
    }
  }

  @Test
  void whatTheDeviceDoesNotTakeIsRefused() throws Exception {
    try (RawClient device = connected(5, "d1", "c")) {
      subscribe(device, 5, "devices/d1/commands", 1);
      CompletableFuture<String> refused = command(5_000, 5_000);
      device.send(puback(device.receive(), 0x83));
      assertEquals("refused", refused.get(5, TimeUnit.SECONDS));
    }
    try (RawClient device = narrow("d1", 30)) {
      subscribe(device, 5, "devices/d1/commands", 1);
      Exchange exchange = send("direct:command", Map.of("CaravanDeviceId", "d1"));
      assertEquals("refused", exchange.getMessage().getHeader("CaravanEvidence"));
      assertTrue(exchange.getMessage().getHeader("CaravanEvidenceDetail", String.class).contains("maximum packet size 30"));
      assertEquals(PONG, device.ask(PING), "nothing was written");
    }
  }

  @Test
  void aSubscriptionWithQos0IsServedWithoutEvidence() throws Exception {
    try (RawClient device = connected(5, "d1", "c")) {
      subscribe(device, 5, "devices/d1/commands", 0);
      assertEquals("sent", evidence(5_000, 5_000));
      assertTrue(device.receive().startsWith("30"));
    }
  }

  /** The exceptions say the same to a producer without the option evidence. */
  @Test
  void exceptionsSayWhetherItWasWritten() throws Exception {
    assertFalse(((PublishException) send("direct:plain", Map.of("CaravanDeviceId", "d1")).getException()).isWritten());
    try (RawClient device = connected(5, "d1", "c")) {
      subscribe(device, 5, "devices/d1/commands", 1);
      assertTrue(((PublishException) send("direct:plain", Map.of("CaravanDeviceId", "d1")).getException()).isWritten());
    }
  }

  @Test
  void aCommandWhoseTimeEndsBehindOthersIsNeverWritten() throws Exception {
    try (RawClient device = narrow("d1", 1000)) {
      subscribe(device, 5, "devices/d1/commands", 1);
      CompletableFuture<String> first = command(60_000, 60_000);
      String one = device.receive();
      assertEquals("none", evidence(50, 60_000), "its time ended in the queue");
      assertEquals("none", evidence(60_000, 50), "nobody waits for it any more");
      CompletableFuture<String> last = command(60_000, 60_000);
      device.send(puback(one, 0));
      assertEquals("delivered", first.get(5, TimeUnit.SECONDS));
      // The window has room again: it is the last one that comes, and nothing of the two in between.
      device.send(puback(device.receive(), 0));
      assertEquals("delivered", last.get(5, TimeUnit.SECONDS));
      assertEquals(PONG, device.ask(PING));
    }
  }

  @Test
  void whatWaitsWhenTheConnectionEndsWasNotWritten() throws Exception {
    try (RawClient device = narrow("d1", 1000)) {
      subscribe(device, 5, "devices/d1/commands", 1);
      CompletableFuture<String> first = command(60_000, 60_000);
      packetId(device.receive());
      CompletableFuture<String> second = command(60_000, 60_000);
      // Behind the first, on the same loop: after this answer it waits there.
      await().until(() -> device.ask(PING).equals(PONG) && !second.isDone());
      device.close();
      assertEquals("unknown", first.get(5, TimeUnit.SECONDS));
      assertEquals("none", second.get(5, TimeUnit.SECONDS));
    }
  }

  /** Two connections of one device, one of them perhaps dead without knowing it: a command must not be carried out twice. */
  @Test
  void aCommandGoesToOneConnectionTheNewest() throws Exception {
    try (RawClient older = connected(5, "d1", "a"); RawClient newer = connected(5, "d1", "b")) {
      for (String channel : new String[] {"commands", "desired"}) {
        subscribe(newer, 5, "devices/d1/" + channel, 1);
        subscribe(older, 5, "devices/d1/" + channel, 1);
      }
      assertEquals("unknown", evidence(5_000, 1_000), "not tried with the other one, either");
      assertEquals("devices/d1/commands", topic(newer.receive()));
      assertEquals(PONG, older.ask(PING), "nothing was written to the older one");
      send("direct:desired", Map.of("CaravanDeviceId", "d1"));
      assertEquals("devices/d1/desired", topic(newer.receive()));
      assertEquals("devices/d1/desired", topic(older.receive()), "what may come twice goes to both");
    }
  }

  @Test
  void theNextConnectionGetsWhatCouldNotBeWrittenToTheNewest() throws Exception {
    try (RawClient older = connected(5, "d1", "a"); RawClient newer = narrow("d1", 30)) {
      subscribe(older, 5, "devices/d1/commands", 1);
      subscribe(newer, 5, "devices/d1/commands", 1);
      CompletableFuture<String> delivered = command(5_000, 5_000);
      older.send(puback(older.receive(), 0));
      assertEquals("delivered", delivered.get(5, TimeUnit.SECONDS));
      assertEquals(PONG, newer.ask(PING));
    }
  }

  @Test
  void propertiesOfACommand() throws Exception {
    Mqtt5BlockingClient device = Mqtt5Client.builder().serverHost("127.0.0.1").serverPort(port).buildBlocking();
    device.connectWith().simpleAuth().username("d1").password(PING).applySimpleAuth().send();
    try (Mqtt5BlockingClient.Mqtt5Publishes messages = device.publishes(MqttGlobalPublishFilter.ALL)) {
      device.subscribeWith().topicFilter("devices/d1/commands").qos(MqttQos.AT_LEAST_ONCE).send();
      Exchange sent = send("direct:command", Map.of("CaravanDeviceId", "d1", "CaravanTtlMs", 59_001, "CaravanCorrelationData", "c-1",
          "CaravanResponseTopic", "devices/d1/command-status", "CaravanContentType", "application/json",
          "CaravanUserProperties", Map.of("caravan-command-id", "c-1")));
      assertEquals("delivered", sent.getMessage().getHeader("CaravanEvidence"));
      Mqtt5Publish message = messages.receive(5, TimeUnit.SECONDS).orElseThrow();
      // Whole seconds, rounded up, of what is left when it is written; the machine may be slow.
      long expiry = message.getMessageExpiryInterval().orElseThrow();
      assertTrue(expiry <= 60 && expiry > 30, () -> "expiry " + expiry);
      assertEquals("c-1", UTF_8.decode(message.getCorrelationData().orElseThrow()).toString());
      assertEquals("devices/d1/command-status", message.getResponseTopic().orElseThrow().toString());
      assertEquals("application/json", message.getContentType().orElseThrow().toString());
      assertEquals("caravan-command-id", message.getUserProperties().asList().get(0).getName().toString());
      assertFalse(message.isRetain());

      send("direct:command", Map.of("CaravanDeviceId", "d1", "CaravanTtlMs", 1));
      messages.receive(200, TimeUnit.MILLISECONDS).ifPresent(late -> assertEquals(1, late.getMessageExpiryInterval().orElseThrow()));
    }
    device.disconnect();
  }

  // ------------------------------------------------------------------------------------------------- presence

  @Test
  void subscriptionsAreToldAfterTheirSuback() throws Exception {
    try (RawClient device = connected(5, "d1", "c"); RawClient broken = connected(5, "broken", "c")) {
      subscribe(device, 5, "devices/d1/commands", 1);
      assertEquals("d1 d1 commands", told.poll(5, TimeUnit.SECONDS));
      subscribe(device, 5, "devices/d1/desired", 1);
      assertEquals("d1 d1 desired", told.poll(5, TimeUnit.SECONDS));
      subscribe(device, 5, "devices/d1/receipts", 1);
      subscribe(broken, 5, "devices/broken/commands", 1);
      assertEquals(PONG, broken.ask(PING), "who cannot be told is the gateway's trouble, not the device's");
      assertEquals(PONG, device.ask(PING));
      assertTrue(told.isEmpty());
    }
  }

  // ------------------------------------------------------------------------------------------------- what devices publish

  @Test
  void reportedStateAndRetainedCapabilitiesAreTaken() throws Exception {
    try (RawClient device = connected(5, "d1", "c")) {
      assertEquals("40020007", device.ask(RawClient.publish(5, "devices/d1/reported", 1, 7, PING)));
      byte[] retained = new RawClient.Packet().text("devices/d1/capabilities").number(8).bytes(0).raw(PING).build(0x33);
      assertEquals("40020008", device.ask(retained));
      assertEquals(2, received.size());
      byte[] other = new RawClient.Packet().text("devices/d1/reported").number(9).bytes(0).raw(PING).build(0x33);
      assertEquals("9a", device.ask(other).substring(4, 6), "retained on any other topic");
    }
  }

  // ------------------------------------------------------------------------------------------------- controllers

  @ParameterizedTest
  @CsvSource({"gateways/g1/control, 0", "gateways/g1/control/boss, 0", "gateways/g1/control/d1, 87", "gateways/g2/control, 90",
      "gateways/g1/control/boss/x, 87", "gateways/g1/control/, 90", "gateways/g1/control-status, 90", "gateways/g1/controls, 90"})
  void controllersUseTheControlTopicsOfThisGateway(String topic, String code) throws Exception {
    controller("boss");
    try (RawClient boss = connected(5, "boss", "c"); RawClient old = connected(4, "boss", "o"); RawClient device = connected(5, "d1", "c")) {
      assertEquals(code, code(boss.ask(RawClient.publish(5, topic, 1, 7, PING))));
      assertEquals(code.equals("0") ? "40020007" : "closed", old.ask(RawClient.publish(4, topic, 1, 7, PING)));
      assertEquals(code.equals("90") ? "90" : "87", code(device.ask(RawClient.publish(5, topic, 1, 7, PING))), "no controller");
      assertEquals(code.equals("0") ? 2 : 0, received.size());
      received.forEach(headers -> {
        assertEquals("boss", headers.get("CaravanDeviceId"));
        assertEquals(topic, headers.get("CaravanTopic"));
        assertEquals("mqtt-server", headers.get("CaravanSource"));
      });
    }
  }

  /** Of a PUBACK. */
  private static String code(String puback) {
    return puback.equals("40020007") ? "0" : puback.substring(8, 10);
  }

  @Test
  void theRightToControlIsAskedForEachMessage() throws Exception {
    TestGrant grant = controller("boss");
    try (RawClient boss = connected(5, "boss", "c")) {
      byte[] control = RawClient.publish(5, "gateways/g1/control", 1, 7, PING);
      assertEquals("0", code(boss.ask(control)));
      grant.controller = false;
      connections().revalidate("boss");
      assertEquals("87", code(boss.ask(control)), "it stays connected, and is no controller");
      grant.controller = true;
      outcome = "rejected";
      reason = "not_authorized";
      assertEquals("87", code(boss.ask(control)), "the route refuses");
      reason = "bad_command";
      assertEquals("99", code(boss.ask(control)));
      assertEquals(3, received.size());
    }
  }

  @Test
  void controlStatusIsForItsController() throws Exception {
    TestGrant grant = controller("boss");
    controller("other");
    try (RawClient boss = connected(5, "boss", "c"); RawClient second = connected(4, "boss", "o"); RawClient other = connected(5, "other", "c");
        RawClient device = connected(5, "d1", "c")) {
      subscribe(boss, 5, "gateways/g1/control-status", 1);
      subscribe(second, 4, "gateways/g1/control-status/boss", 1);
      subscribe(other, 5, "gateways/g1/control-status", 1);
      assertEquals("900400010087", device.ask(RawClient.subscribe(5, 1, "gateways/g1/control-status", 1)), "no controller");
      assertEquals("900400010087", other.ask(RawClient.subscribe(5, 1, "gateways/g1/control-status/boss", 1)), "another one's");
      assertEquals("90040001008f", other.ask(RawClient.subscribe(5, 1, "gateways/g2/control-status", 1)));
      assertEquals("90040001008f", other.ask(RawClient.subscribe(5, 1, "gateways/g1/control", 1)));
      assertNull(send("direct:status", Map.of("CaravanDeviceId", "boss")).getException());
      assertEquals("gateways/g1/control-status", topic(boss.receive()));
      assertEquals("gateways/g1/control-status/boss", topic(second.receive()));
      assertEquals(PONG, other.ask(PING), "not the other controller");
      assertNull(send("direct:status", Map.of("CaravanDeviceId", "away")).getException());

      grant.controller = false;
      assertEquals(2, connections().revalidate("boss"));
      assertEquals("98", boss.receive().substring(4, 6), "who may not see it any more is disconnected");
      assertEquals("closed", second.receive());
      assertEquals(PONG, other.ask(PING));
    }
  }
}
