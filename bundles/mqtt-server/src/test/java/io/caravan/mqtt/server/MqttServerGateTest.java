// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5ConnAckException;
import com.hivemq.client.mqtt.mqtt5.message.connect.connack.Mqtt5ConnAckReasonCode;
import io.caravan.mqtt.server.internal.Listener;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.net.InetSocketAddress;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
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

/** The listener with an authenticator: what a stranger, a rogue device and a device that lost its rights can and cannot do. */
@Timeout(60)
class MqttServerGateTest {
  private static final byte[] BODY = "{}".getBytes(UTF_8);
  private final SimpleMeterRegistry meters = new SimpleMeterRegistry();
  private final Queue<String> received = new ConcurrentLinkedQueue<>();
  private final Queue<byte[]> passwords = new ConcurrentLinkedQueue<>();
  private final Map<String, TestGrant> grants = new ConcurrentHashMap<>();
  private final DefaultCamelContext context = new DefaultCamelContext();
  private int port;

  /** What a test says, with what it was asked. */
  static final class TestGrant implements Authenticator.Grant {
    volatile boolean valid = true;
    /** Ended for who asks on this thread only, so that the sweep of the event loop does not see it. */
    volatile Thread endedFor;
    volatile long rest;
    final AtomicInteger taken = new AtomicInteger();
    final AtomicInteger bytes = new AtomicInteger();

    @Override
    public boolean valid() {
      return valid && Thread.currentThread() != endedFor;
    }

    @Override
    public long take(int size) {
      taken.incrementAndGet();
      bytes.addAndGet(size);
      return rest;
    }
  }

  private TestGrant grant(String device) {
    return grants.computeIfAbsent(device, none -> new TestGrant());
  }

  /** Whoever knows the word gets the device it names. */
  private CompletableFuture<Authenticator.Decision> decide(Authenticator.ConnectRequest request) {
    passwords.add(request.password() == null ? new byte[0] : request.password());
    boolean good = request.password() != null && new String(request.password(), UTF_8).equals("right");
    return CompletableFuture.completedFuture(good ? Authenticator.Decision.accept(request.username(), grant(request.username()))
        : Authenticator.Decision.refuse(0x87));
  }

  @BeforeEach
  void create() {
    context.getShutdownStrategy().setTimeout(2);
    context.getRegistry().bind("metricsRegistry", meters);
    Authenticator gate = this::decide;
    context.getRegistry().bind("gate", Authenticator.class, gate);
  }

  @AfterEach
  void stop() {
    context.stop();
  }

  private void start(String options) throws Exception {
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        errorHandler(noErrorHandler());
        from("mqtt-server:devices?port=0&authenticator=#gate" + options).routeId("ingest-direct").process(this::take);
      }

      private void take(Exchange exchange) {
        received.add(exchange.getMessage().getBody(String.class));
        exchange.setVariable("outcome", "durable");
      }
    });
    context.start();
    port = ((Listener) context.getRoute("ingest-direct").getConsumer()).actualPort();
  }

  private RawClient connected(String device, String clientId) throws IOException {
    return connected(5, device, clientId);
  }

  private RawClient connected(int level, String device, String clientId) throws IOException {
    RawClient client = new RawClient(port);
    assertEquals("00", client.ask(RawClient.connect(level, clientId, device, "right")).substring(6, 8));
    return client;
  }

  private static void assertPublishes(RawClient client, String device) throws IOException {
    assertEquals("40020007", client.ask(RawClient.publish(5, "devices/" + device + "/telemetry", 1, 7, BODY)));
  }

  private double refused(String reason) {
    return meters.get("caravan.mqtt.refused").tags("listener", "devices", "reason", reason).counter().count();
  }

  private Connections connections() {
    return context.getRegistry().lookupByNameAndType("mqttConnections", Connections.class);
  }

  // ------------------------------------------------------------------------------------------------- grants

  @ParameterizedTest
  @ValueSource(ints = {4, 5})
  void whatWasRevokedBetweenTheDecisionAndTheConnectionEndsIt(int level) throws Exception {
    start("");
    grant("d1").valid = false;
    // By nobody's call: the connection itself asks, before it takes the message that came with CONNECT.
    try (RawClient device = new RawClient(port)) {
      byte[] connect = RawClient.connect(level, "c", "d1", "right");
      byte[] publish = RawClient.publish(level, "devices/d1/telemetry", 1, 1, BODY);
      byte[] both = java.util.Arrays.copyOf(connect, connect.length + publish.length);
      System.arraycopy(publish, 0, both, connect.length, publish.length);
      assertEquals("00", device.ask(both).substring(6, 8));
      String next = device.receive();
      assertEquals(level == 5 ? "98" : "closed", level == 5 ? next.substring(4, 6) : next);
    }
    await().until(() -> connections().count() == 0);
    assertTrue(received.isEmpty());
    assertEquals(1, refused("grant_ended"));
  }

  @Test
  void revalidateEndsWhoseGrantEnded() throws Exception {
    start("");
    try (RawClient one = connected("d1", "a"); RawClient two = connected("d1", "b"); RawClient other = connected("d2", "a");
        RawClient old = connected(4, "d3", "a")) {
      assertEquals(0, connections().revalidate(null), "all grants hold");
      grant("d1").endedFor = Thread.currentThread();
      assertEquals(0, connections().revalidate("d2"));
      assertEquals(2, connections().revalidate("d1"));
      assertEquals("98", one.receive().substring(4, 6));
      assertEquals("closed", one.receive());
      assertEquals("98", two.receive().substring(4, 6));
      assertPublishes(other, "d2");
      grant("d3").endedFor = Thread.currentThread();
      assertEquals(1, connections().revalidate(null));
      assertEquals("closed", old.receive());
      assertPublishes(other, "d2");
    }
  }

  @Test
  void aGrantThatEndsIsNoticedWithoutACall() throws Exception {
    start("");
    try (RawClient device = connected("d1", "a"); RawClient other = connected("d2", "b")) {
      grant("d1").valid = false;
      assertEquals("98", device.receive().substring(4, 6));
      assertPublishes(other, "d2");
    }
  }

  @Test
  void nothingIsTakenAfterTheEnd() throws Exception {
    start("");
    try (RawClient device = connected("d1", "a")) {
      grant("d1").valid = false;
      connections().revalidate("d1");
      await().until(() -> connections().count() == 0);
      assertEquals("98", device.ask(RawClient.publish(5, "devices/d1/telemetry", 1, 1, BODY)).substring(4, 6));
      assertEquals("closed", device.receive());
    }
    assertTrue(received.isEmpty());
  }

  @Test
  void whoDoesNotReadIsCutAllTheSame() throws Exception {
    start("");
    try (SocketChannel deaf = SocketChannel.open()) {
      // Small, because the kernel takes long to sort megabytes of answers of two bytes.
      deaf.setOption(StandardSocketOptions.SO_RCVBUF, 8192);
      deaf.connect(new InetSocketAddress("127.0.0.1", port));
      deaf.write(ByteBuffer.wrap(RawClient.connect(5, "a", "d1", "right")));
      await().until(() -> connections().count() == 1);
      // Answers that nobody reads: the listener stops to read, instead of keeping them.
      byte[] pings = new byte[1 << 16];
      for (int i = 0; i < pings.length; i += 2) {
        pings[i] = (byte) 0xC0;
      }
      long sent = RawClient.sendUntilHeld(deaf, pings, 48 << 20);
      assertTrue(sent < 48 << 20, sent + " bytes were taken");
      grant("d1").valid = false;
      connections().revalidate("d1");
      await().until(() -> connections().count() == 0);
      await().until(() -> {
        try {
          return deaf.write(ByteBuffer.wrap(new byte[] {(byte) 0xC0, 0})) < 0;
        } catch (IOException reset) {
          return true;
        }
      });
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {4, 5})
  void whoSendsTooFastIsNotReadForAWhileAndLosesNothing(int level) throws Exception {
    start("");
    grant("d1").rest = 20;
    int total = 50;
    try (RawClient device = connected(level, "d1", "a")) {
      for (int id = 1; id <= total; id++) {
        device.send(RawClient.publish(level, "devices/d1/telemetry", 1, id, String.valueOf(id).getBytes(UTF_8)));
      }
      for (int id = 1; id <= total; id++) {
        assertEquals(String.format("4002%04x", id), device.receive());
      }
    }
    assertEquals(java.util.stream.IntStream.rangeClosed(1, total).mapToObj(String::valueOf).toList(), List.copyOf(received));
    assertEquals(total, grant("d1").taken.get());
    assertEquals(total, meters.get("caravan.mqtt.throttled").timer().count());
    assertEquals(20.0 * total, meters.get("caravan.mqtt.throttled").timer().totalTime(TimeUnit.MILLISECONDS), 0.1);
  }

  @Test
  void keepAliveDoesNotEndAConnectionThatIsNotRead() throws Exception {
    start("");
    grant("d1").rest = 4000;
    RawClient.Packet connect = new RawClient.Packet().text("MQTT").bytes(5, 0xC2).number(1).bytes(0).text("a").text("d1").text("right");
    try (RawClient device = new RawClient(port)) {
      assertEquals("00", device.ask(connect.build(0x10)).substring(6, 8));
      device.send(RawClient.publish(5, "devices/d1/telemetry", 1, 1, BODY));
      assertEquals("40020001", device.receive());
      // More than twice the keep-alive: what it sends in that time is neither read nor lost.
      assertEquals("d000", device.ask(new byte[] {(byte) 0xC0, 0}));
    }
  }

  @Test
  void refusedMessagesAndSubscriptionsCountToo() throws Exception {
    start("");
    try (RawClient device = connected("d1", "a")) {
      assertEquals("87", device.ask(RawClient.publish(5, "devices/d2/telemetry", 1, 1, BODY)).substring(8, 10));
      assertEquals("90", device.ask(RawClient.publish(5, "x", 1, 2, BODY)).substring(8, 10));
      device.ask(RawClient.subscribe(5, 3, "devices/d1/commands", 1));
      assertEquals(3, grant("d1").taken.get());
      assertEquals(4, grant("d1").bytes.get());
    }
  }

  // ------------------------------------------------------------------------------------------------- refusals

  @ParameterizedTest
  @ValueSource(ints = {4, 5})
  void aWrongPasswordIsAnsweredLateAndLeavesNoTrace(int level) throws Exception {
    PrintStream err = System.err;
    ByteArrayOutputStream log = new ByteArrayOutputStream();
    System.setErr(new PrintStream(log, true, UTF_8));
    try {
      start("");
      for (int i = 0; i < 5; i++) {
        try (RawClient stranger = new RawClient(port)) {
          long before = System.nanoTime();
          String answer = stranger.ask(RawClient.connect(level, "c", "d1", "swordfish"));
          assertTrue(System.nanoTime() - before >= TimeUnit.MILLISECONDS.toNanos(100), "earlier than a guess may be answered");
          assertEquals(level == 5 ? "87" : "05", answer.substring(6, 8));
          assertEquals("closed", stranger.receive());
        }
      }
    } finally {
      System.setErr(err);
    }
    assertEquals(5, refused("not_authorized"));
    assertEquals(5, passwords.size());
    passwords.forEach(each -> assertArrayEquals(new byte[9], each, "cleared"));
    String said = log.toString(UTF_8);
    assertFalse(said.contains("swordfish") || said.contains(java.util.HexFormat.of().formatHex("swordfish".getBytes(UTF_8))), said);
    assertEquals(1, said.lines().filter(line -> line.contains("refused or ended")).count(), said);
  }

  @Test
  void theRightPasswordIsClearedToo() throws Exception {
    start("");
    connected("d1", "a").close();
    assertArrayEquals(new byte[5], passwords.remove());
  }

  @Test
  void aClientOfEveryKindIsToldTheSame() throws Exception {
    start("");
    Mqtt5BlockingClient client = Mqtt5Client.builder().identifier("c").serverHost("127.0.0.1").serverPort(port).buildBlocking();
    for (byte[] password : new byte[][] {null, {}, "wrong".getBytes(UTF_8)}) {
      Mqtt5ConnAckException refusal = assertThrows(Mqtt5ConnAckException.class, () -> {
        if (password == null) {
          client.connect();
        } else {
          client.connectWith().simpleAuth().username("d1").password(password).applySimpleAuth().send();
        }
      });
      assertEquals(Mqtt5ConnAckReasonCode.NOT_AUTHORIZED, refusal.getMqttMessage().getReasonCode());
    }
    client.connectWith().simpleAuth().username("d1").password("right".getBytes(UTF_8)).applySimpleAuth().send();
    client.disconnect();
  }

  @Test
  void anAuthenticatorThatThrowsRefuses() throws Exception {
    Authenticator broken = request -> {
      throw new IllegalStateException("no registry");
    };
    context.getRegistry().unbind("gate");
    context.getRegistry().bind("gate", Authenticator.class, broken);
    start("");
    try (RawClient device = new RawClient(port)) {
      assertEquals("88", device.ask(RawClient.connect(5, "c", "d1", "right")).substring(6, 8));
    }
    assertEquals(1, refused("unavailable"));
  }

  /** Fail closed: a listener that was to have an authenticator is not opened without. */
  @Test
  void withoutTheAuthenticatorThatIsNamedNothingStarts() {
    context.getRegistry().unbind("gate");
    assertThrows(Exception.class, () -> start(""));
  }

  // ------------------------------------------------------------------------------------------------- strangers

  @Test
  void connectionsThatAreNotAcceptedAreBounded() throws Exception {
    start("&maxPending=5&maxPendingPerAddress=3");
    List<RawClient> silent = new ArrayList<>();
    try (RawClient good = connected("d1", "a")) {
      for (int i = 0; i < 3; i++) {
        silent.add(new RawClient(port));
      }
      await().until(() -> meters.get("caravan.mqtt.pending").gauge().value() == 3);
      try (RawClient fourth = new RawClient(port)) {
        assertEquals("closed", fourth.receive());
      }
      assertEquals(1, refused("address_pending"));
      for (int i = 0; i < 2; i++) {
        silent.add(RawClient.from("127.0.0.2", port));
      }
      await().until(() -> meters.get("caravan.mqtt.pending").gauge().value() == 5);
      try (RawClient sixth = RawClient.from("127.0.0.3", port)) {
        assertEquals("closed", sixth.receive());
      }
      assertEquals(1, refused("pending"));
      assertPublishes(good, "d1");
      silent.remove(0).close();
      await().until(() -> meters.get("caravan.mqtt.pending").gauge().value() == 4);
      connected("d2", "a").close();
    } finally {
      for (RawClient each : silent) {
        each.close();
      }
    }
    await().until(() -> meters.get("caravan.mqtt.pending").gauge().value() == 0);
  }

  @Test
  void connectsOfAnAddressAreLimited() throws Exception {
    start("&connectsPerS=1");
    int served = 0;
    for (int i = 0; i < 40; i++) {
      try (RawClient client = new RawClient(port)) {
        served += client.ask(RawClient.connect(5, "a", "d1", "right")).startsWith("20") ? 1 : 0;
      }
    }
    assertTrue(served >= 20 && served < 40, served + " of 40");
    assertEquals(40 - served, refused("address_rate"));
    try (RawClient elsewhere = RawClient.from("127.0.0.2", port)) {
      assertEquals("00", elsewhere.ask(RawClient.connect(5, "a", "d1", "right")).substring(6, 8));
    }
  }

  @Test
  void aConnectThatTricklesIsCutInTime() throws Exception {
    start("&connectTimeoutMs=1000");
    byte[] connect = RawClient.connect(5, "x".repeat(100), "d1", "right");
    try (RawClient slow = new RawClient(port); RawClient good = connected("d1", "a")) {
      CompletableFuture<Void> trickle = CompletableFuture.runAsync(() -> {
        try {
          for (byte each : connect) {
            slow.send(new byte[] {each});
            TimeUnit.MILLISECONDS.sleep(100);
          }
        } catch (IOException | InterruptedException e) {
          // Cut, as it should be.
        }
      });
      assertEquals("closed", slow.receive());
      trickle.get(20, TimeUnit.SECONDS);
      assertEquals(1, refused("timeout"));
      assertPublishes(good, "d1");
    }
    assertEquals(1, passwords.size(), "nobody was asked about it");
  }

  @Test
  void aConnectIsSmall() throws Exception {
    start("");
    try (RawClient large = new RawClient(port)) {
      assertEquals("closed", large.ask(RawClient.connect(5, "c", "d1", "x".repeat(5000))));
    }
    assertEquals(1, refused("too_large"));
    assertTrue(passwords.isEmpty());
    try (RawClient good = connected("d1", "a")) {
      assertEquals("40020001", good.ask(RawClient.publish(5, "devices/d1/telemetry", 1, 1, new byte[60_000])));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\u0016\u0003\u0001\u0002\u0000\u0001\u0000", "\u0000\u0000\u0000\u0000", "SSH-2.0-x\r\n"})
  void otherProtocolsAreRefusedAndCounted(String bytes) throws Exception {
    start("&connectTimeoutMs=1000");
    try (RawClient stranger = new RawClient(port)) {
      assertEquals("closed", stranger.ask(bytes.getBytes(java.nio.charset.StandardCharsets.ISO_8859_1)));
    }
    assertEquals(1, refused("malformed") + refused("too_large") + refused("timeout"));
    connected("d1", "a").close();
  }

  // ------------------------------------------------------------------------------------------------- rogue devices

  @Test
  void aClientIdIsTheDevicesOwn() throws Exception {
    start("");
    try (RawClient victim = connected("d1", "sensor"); RawClient rogue = connected("d2", "sensor")) {
      assertPublishes(victim, "d1");
      assertPublishes(rogue, "d2");
      assertEquals(2, connections().count());
      try (RawClient again = connected("d1", "sensor")) {
        assertEquals("8e", victim.receive().substring(4, 6), "the device itself takes over");
        assertPublishes(again, "d1");
      }
    }
  }

  @Test
  void aDeviceCannotTakeAllConnections() throws Exception {
    start("&maxConnections=4&maxConnectionsPerDevice=2");
    try (RawClient first = connected("d1", "a"); RawClient second = connected("d1", "b"); RawClient third = connected("d1", "c");
        RawClient other = connected("d2", "a")) {
      assertEquals("97", first.receive().substring(4, 6), "the oldest goes");
      assertPublishes(second, "d1");
      assertPublishes(third, "d1");
      assertPublishes(other, "d2");
    }
    assertEquals(1, refused("device_connections"));
  }

  @ParameterizedTest
  @CsvSource({"devices/d1/telemetry, 00", "devices/d2/telemetry, 87", "devices/D1/telemetry, 87", "devices/d1./telemetry, 87", "devices/d1\u200B/telemetry, 90",
      "devices/\u05011/telemetry, 90", "devices/\uFF441/telemetry, 90", "devices/../d2/telemetry, 90", "devices/d1/../d2/telemetry, 90", "devices//telemetry, 90",
      "/devices/d1/telemetry, 90", "devices/d1//telemetry, 90", "devices/d1/telemetry/, 90", "$share/g/devices/d1/telemetry, 90", "$SYS/broker, 90",
      "devices/d1/receipts, 90", "devices/d2/commands, 90", "devices/%64%32/telemetry, 90", "'devices/d1 /telemetry', 90"})
  void whatADeviceMayPublish(String topic, String code) throws Exception {
    start("");
    try (RawClient device = connected("d1", "a")) {
      String answer = device.ask(RawClient.publish(5, topic, 1, 9, BODY));
      assertEquals(code, answer.equals("40020009") ? "00" : answer.substring(8, 10), answer);
      assertPublishes(device, "d1");
    }
    try (RawClient old = connected(4, "d1", "b")) {
      assertEquals(code.equals("00") ? "40020009" : "closed", old.ask(RawClient.publish(4, topic, 1, 9, BODY)));
    }
    assertEquals(code.equals("00") ? 3 : 1, received.size());
    double counted = meters.get("caravan.mqtt.messages").tags("outcome", "not_authorized").counter().count();
    assertEquals(code.equals("87") ? 2 : 0, counted);
  }

  @ParameterizedTest
  @CsvSource({"devices/+/telemetry", "devices/#", "#", "devices/d1\u0000/telemetry"})
  void aTopicNobodyMayEvenNameEndsTheConnection(String topic) throws Exception {
    start("");
    try (RawClient device = connected("d1", "a")) {
      String answer = device.ask(RawClient.publish(5, topic, 1, 9, BODY));
      assertTrue(answer.startsWith("e0") || answer.startsWith("40") && answer.startsWith("90", 8), answer);
    }
    assertTrue(received.isEmpty());
  }

  @ParameterizedTest
  @CsvSource({"devices/d1/commands, 01", "devices/d1/receipts, 01", "devices/d2/commands, 87", "devices/d2/receipts, 87", "devices/D1/commands, 87",
      "devices/+/commands, a2", "devices/#, a2", "#, a2", "+, a2", "devices/d1/#, a2", "$SYS/#, a2", "$SYS/broker/uptime, 8f", "$share/g/devices/d1/commands, 9e",
      "$share/g/#, 9e", "devices/../d2/commands, 8f", "devices/d1/../d2/commands, 8f", "devices//commands, 8f", "devices/d1//commands, 8f", "/devices/d1/commands, 8f",
      "devices/d1/commands/, 8f", "devices/d1/telemetry, 8f", "devices/d2/telemetry, 8f", "devices/\u0501d1/commands, 8f", "'', 8f"})
  void whatADeviceMaySubscribeTo(String filter, String code) throws Exception {
    start("");
    try (RawClient device = connected("d1", "a"); RawClient old = connected(4, "d1", "b")) {
      assertEquals("9004000500" + code, device.ask(RawClient.subscribe(5, 5, filter, 1)));
      assertEquals("90030005" + (code.equals("01") ? "01" : "80"), old.ask(RawClient.subscribe(4, 5, filter, 1)));
    }
    double counted = meters.get("caravan.mqtt.subscriptions").tags("outcome", code.equals("01") ? "granted" : code.equals("87") ? "not_authorized" : "refused")
        .counter().count();
    assertEquals(2, counted);
  }

  // ------------------------------------------------------------------------------------------------- figures

  /** Prints how long it takes; asserts only that it happens. */
  @Test
  void aRevocationReachesTheClientAtOnce() throws Exception {
    start("");
    long[] ms = new long[100];
    for (int i = 0; i < ms.length; i++) {
      grants.put("d1", new TestGrant());
      try (RawClient device = connected("d1", "c" + i)) {
        grant("d1").valid = false;
        long before = System.nanoTime();
        connections().revalidate("d1");
        assertEquals("98", device.receive().substring(4, 6));
        ms[i] = System.nanoTime() - before;
        assertEquals("closed", device.receive());
      }
    }
    java.util.Arrays.sort(ms);
    System.out.printf("revalidate() to DISCONNECT at the client: p50 %.2f ms, max %.2f ms of %d%n", ms[ms.length / 2] / 1e6, ms[ms.length - 1] / 1e6, ms.length);
  }
}
