// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import org.apache.camel.CamelContext;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.health.HealthCheck;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.impl.DefaultCamelContext;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttAsyncClient;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;
import org.eclipse.paho.mqttv5.common.packet.UserProperty;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Against a real mosquitto. The two long runs take their number of rounds from {@code mqtt.test.starts} and
 * {@code mqtt.test.reconnects}, 50 each.
 */
@Timeout(180)
class DurableMqttClientTest {
  private static final int BACKLOG = 500;

  @TempDir
  Path folder;
  private Mosquitto broker;
  private Store store;
  private final List<AutoCloseable> open = new ArrayList<>();
  private MqttAsyncClient device;
  private int sent;

  @BeforeEach
  void start() throws Exception {
    broker = new Mosquitto(folder.resolve("broker"), true);
    store = new Store();
  }

  @AfterEach
  void stop() throws Exception {
    if (device != null) {
      device.disconnectForcibly(0, 100, true);
      device.close(true);
    }
    for (int i = open.size() - 1; i >= 0; i--) {
      open.get(i).close();
    }
    store.close();
    broker.close();
  }

  @Test
  void coldStartsAgainstABacklogLeaveNothingBehind() throws Exception {
    broker.start();
    makeSession();
    int starts = Integer.getInteger("mqtt.test.starts", 50);
    for (int i = 1; i <= starts; i++) {
      int from = sent;
      publish(BACKLOG);
      try (Running running = client(broker.url()).route()) {
        int round = i;
        Until.true_(() -> "start " + round + " received all, missing " + store.missing(from, sent) + " of " + BACKLOG, 10_000,
            () -> store.missing(from, sent) == 0);
      }
    }
    assertEquals(0, store.missing(0, sent));
  }

  @Test
  void reconnectsAgainstABacklogLeaveNothingBehind() throws Exception {
    broker.start();
    Wire wire = closing(new Wire(broker.port));
    Running running = closing(client(wire.url()).route());
    running.awaitUp();
    int reconnects = Integer.getInteger("mqtt.test.reconnects", 50);
    int threads = 0;
    for (int i = 1; i <= reconnects; i++) {
      int from = sent;
      wire.cut();
      publish(BACKLOG);
      wire.mend();
      int round = i;
      Until.true_(() -> "reconnect " + round + " received all, missing " + store.missing(from, sent) + " of " + BACKLOG, 10_000,
          () -> store.missing(from, sent) == 0);
      if (i == reconnects / 2) {
        threads = Thread.activeCount();
      }
    }
    assertEquals(0, store.missing(0, sent));
    int half = threads;
    Until.true_(() -> "old connections are gone: " + half + " threads at half time, now " + Thread.activeCount(), 10_000,
        () -> Thread.activeCount() <= half + 10);
  }

  /** Why this bundle exists. If it fails, the component has learnt to reconnect and the bundle may go. */
  @Test
  void theComponentAsItComesStandsStillWhenItReconnectsAgainstABacklog() throws Exception {
    broker.start();
    Wire wire = closing(new Wire(broker.port));
    CamelContext context = closing(new DefaultCamelContext());
    context.getShutdownStrategy().setTimeout(2);
    context.getRegistry().bind("store", store);
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        errorHandler(noErrorHandler());
        from("paho-mqtt5:devices/+/telemetry?brokerUrl=" + wire.url() + "&clientId=stock&qos=1&manualAcksEnabled=true"
            + "&cleanStart=false&sessionExpiryInterval=3600&automaticReconnect=true&keepAliveInterval=10")
            .to("bean:store?method=append");
      }
    });
    context.start();
    publish(1);
    Until.true_("the first one is there", 10_000, () -> store.missing(0, 1) == 0);
    wire.cut();
    publish(BACKLOG);
    wire.mend();
    assertFalse(Until.holds(8_000, () -> store.missing(0, sent) == 0), "nothing stood still");
    assertTrue(store.missing(0, sent) > BACKLOG - 100, "missing " + store.missing(0, sent));
  }

  @Test
  void startsWithoutABrokerAndConnectsWhenThereIsOne() throws Exception {
    long begin = System.nanoTime();
    Running running = closing(client(broker.url()).route());
    long took = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - begin);
    assertTrue(took < 3_000, "the start took " + took + " ms");
    Until.true_(() -> "the reason is told: " + running.check(), 5_000, () -> running.check().matches("DOWN .*(refused|connect).*"));
    broker.start();
    running.awaitUp();
    publish(10);
    Until.true_("all arrived", 10_000, () -> store.missing(0, 10) == 0);
    broker.kill();
    Until.true_(() -> "the loss is told: " + running.check(), 5_000, () -> running.check().startsWith("DOWN"));
    running.context.getRouteController().stopRoute("consume");
    assertNull(running.check(), "a route that was stopped has no check");
  }

  @Test
  void aBrokerThatSaysNothingIsGivenUp() throws Exception {
    try (java.net.ServerSocket mute = new java.net.ServerSocket(0, 50, java.net.InetAddress.getLoopbackAddress())) {
      Running running = closing(client("tcp://127.0.0.1:" + mute.getLocalPort()).with(c -> c.setConnectTimeoutMs(300)).route());
      Until.true_(() -> "it is told: " + running.check(), 10_000, () -> running.check().contains("did not answer"));
    }
  }

  @Test
  void whatFailedComesAgainAndFailuresDoNotUseUpTheWindow() throws Exception {
    broker.start();
    Running running = closing(client(broker.url()).with(c -> {
      c.setReceiveMaximum(20);
      c.setRedeliveryDelayMs(50);
    }).route());
    running.awaitUp();
    store.failures.set(70);
    publish(BACKLOG);
    Until.true_(() -> "all arrived, missing " + store.missing(0, sent), 30_000, () -> store.missing(0, sent) == 0);
  }

  @Test
  void whatIsNotFinishedWhenTheRouteStopsComesAgain() throws Exception {
    broker.start();
    Running running = closing(client(broker.url()).route());
    running.awaitUp();
    store.stuck = true;
    publish(30);
    Until.true_("all are in the store's hands", 10_000, () -> store.taken.get() == 30);
    running.context.getRouteController().stopRoute("consume", 200, TimeUnit.MILLISECONDS);
    store.stuck = false;
    running.context.getRouteController().startRoute("consume");
    Until.true_(() -> "all came again: " + store.taken, 10_000, () -> store.taken.get() == 60);
    running.awaitUp();
    running.context.getRouteController().stopRoute("consume");
    running.context.getRouteController().startRoute("consume");
    publish(1);
    Until.true_("the next one is there", 10_000, () -> store.missing(30, 31) == 0);
    assertEquals(61, store.taken.get(), "acknowledged ones do not come a third time");
  }

  @Test
  void aBacklogAboveMosquittosDefaultOfAThousandIsKept() throws Exception {
    broker.start();
    makeSession();
    publish(5_000);
    Running running = closing(client(broker.url()).route());
    Until.true_(() -> "all arrived, missing " + store.missing(0, sent), 20_000, () -> store.missing(0, sent) == 0);
  }

  @Test
  void theWindowHoldsWhenTheBrokerComesBack() throws Exception {
    broker.start();
    store.stuck = true;
    Running running = closing(client(broker.url()).with(c -> c.setReceiveMaximum(20)).route());
    running.awaitUp();
    publish(3_000);
    Until.true_("the window is full", 10_000, () -> store.taken.get() == 20);
    broker.stop();
    broker.start();
    Until.true_("what was in flight comes again", 10_000, () -> store.taken.get() >= 40);
    assertFalse(Until.holds(1_000, () -> store.taken.get() > 40), "in flight " + store.taken);
    running.context.getRouteController().stopRoute("consume", 200, TimeUnit.MILLISECONDS);
    store.stuck = false;
    running.context.getRouteController().startRoute("consume");
    Until.true_(() -> "all arrived, missing " + store.missing(0, sent), 20_000, () -> store.missing(0, sent) == 0);
  }

  @Test
  void anotherTopicThanThoseSubscribedDoesNotComeBack() throws Exception {
    broker.start();
    Running running = closing(client(broker.url()).route());
    running.awaitUp();
    connectDevice();
    device.publish("devices/d1/receipts", "0".getBytes(), 1, false).waitForCompletion(5_000);
    device.publish("devices/d1/events", "1".getBytes(), 1, false).waitForCompletion(5_000);
    Until.true_("the event is there", 5_000, () -> store.missing(1, 2) == 0);
    assertEquals(1, store.taken.get());
  }

  @Test
  void aRouteWithoutThePolicyIsRefused() throws Exception {
    CamelContext context = closing(new DefaultCamelContext());
    context.getRegistry().bind("client", client(broker.url()).client);
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        from("paho-mqtt5:x?client=#client&qos=1").to("direct:x");
      }
    });
    Exception e = org.junit.jupiter.api.Assertions.assertThrows(Exception.class, context::start);
    assertTrue(causes(e).contains("routePolicy"), causes(e));
  }

  @Test
  void propertiesBecomeHeaders() throws Exception {
    broker.start();
    AtomicReference<Map<String, Object>> headers = new AtomicReference<>();
    DurableMqttClient client = client(broker.url()).client;
    CamelContext context = closing(new DefaultCamelContext());
    context.getRegistry().bind("client", client);
    context.getRegistry().bind("read", new MqttHeaders());
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        from("paho-mqtt5:devices/+/+?client=#client&qos=1").routePolicyRef("client").bean("read", "read")
            .process(e -> headers.set(Map.copyOf(e.getMessage().getHeaders())));
      }
    });
    context.start();
    Until.true_("connected", 10_000, client::isConnected);
    connectDevice();
    MqttMessage message = new MqttMessage("1".getBytes());
    message.setQos(1);
    MqttProperties properties = new MqttProperties();
    properties.setContentType("application/json");
    properties.setUserProperties(List.of(new UserProperty("caravan-idempotency-key", "k1"),
        new UserProperty("caravan-idempotency-key", "k2"), new UserProperty("CamelHttpUri", "x"),
        new UserProperty("traceparent", "00-aa-bb-01")));
    message.setProperties(properties);
    device.publish("devices/d1/telemetry", message).waitForCompletion(5_000);
    Until.true_("it is there", 5_000, () -> headers.get() != null);
    assertEquals("devices/d1/telemetry", headers.get().get("CaravanTopic"));
    assertEquals("application/json", headers.get().get("CaravanContentType"));
    assertEquals("k1", headers.get().get("CaravanIdempotencyKey"));
    assertEquals("00-aa-bb-01", headers.get().get("CaravanTraceparent"));
    assertFalse(headers.get().containsKey("CamelHttpUri"));
  }

  @Test
  void publishingDoesNotWaitForTheBrokerAndTheLatestOfEachTopicGoesOut() throws Exception {
    LatestMqttPublisher publisher = new LatestMqttPublisher();
    publisher.setUrl(broker.url());
    publisher.setClientId("test-pub");
    publisher.setReconnectMinMs(20);
    publisher.setReconnectMaxMs(100);
    CamelContext context = closing(new DefaultCamelContext());
    context.getRegistry().bind("pub", publisher);
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        from("direct:out").routePolicyRef("pub")
            .setHeader("CaravanTopic", simple("devices/${header.CaravanDeviceId}/receipts")).bean("pub", "send");
      }
    });
    context.start();
    var template = context.createProducerTemplate();
    long begin = System.nanoTime();
    for (int i = 1; i <= 1_000; i++) {
      template.sendBodyAndHeader("direct:out", String.valueOf(i), "CaravanDeviceId", "d" + i % 300);
    }
    assertTrue(System.nanoTime() - begin < TimeUnit.SECONDS.toNanos(3), "publishing waited");
    Map<String, String> got = new ConcurrentHashMap<>();
    broker.start();
    Until.true_("connected", 10_000, publisher::isConnected);
    connectDevice();
    device.setCallback(new Listener((topic, message) -> got.put(topic, new String(message.getPayload()))));
    device.subscribe("devices/+/receipts", 1).waitForCompletion(5_000);
    for (int i = 1_001; i <= 1_300; i++) {
      template.sendBodyAndHeader("direct:out", String.valueOf(i), "CaravanDeviceId", "d" + i % 300);
    }
    Until.true_(() -> "the latest of each device: " + got.size(), 10_000, () -> got.size() == 300
        && got.entrySet().stream().allMatch(e -> Integer.parseInt(e.getValue()) > 1_000));
  }

  @Test
  void theShippedBrokerLetsADeviceActOnlyForItself() throws Exception {
    broker = new Mosquitto(folder.resolve("shipped"), false);
    broker.password("gateway", "g-secret");
    broker.password("d1", "d1-secret");
    broker.start();
    Path password = Files.writeString(folder.resolve("gateway.password"), "wrong\n");
    Running running = closing(client(broker.url()).with(c -> {
      c.setUserName("gateway");
      c.setPasswordFile(password.toString());
    }).route());
    Until.true_(() -> "the refusal is told: " + running.check(), 5_000, () -> running.check().contains("0x87"));
    Files.writeString(password, "g-secret\n"); // read again by the next attempt
    running.awaitUp();
    connectDevice(broker.url(), "d1", "d1-secret");
    assertEquals(0x87, code(device.publish("devices/d2/telemetry", "0".getBytes(), 1, false)));
    assertEquals(0x87, code(device.publish("devices/d1/receipts", "0".getBytes(), 1, false)));
    int fine = code(device.publish("devices/d1/telemetry", "1".getBytes(), 1, false));
    assertTrue(fine == 0 || fine == 0x10, "code " + fine);
    Until.true_("its own is there", 5_000, () -> store.missing(1, 2) == 0);
    assertEquals(1, store.taken.get());
  }

  @Test
  void tlsChecksBothEnds() throws Exception {
    Path certs = folder.resolve("certs");
    String script = Path.of("../../mosquitto/certs").toAbsolutePath().normalize().toString();
    Mosquitto.run(script, "init", certs.toString());
    Mosquitto.run(script, "server", certs.toString(), "broker", "localhost", "127.0.0.1");
    Mosquitto.run(script, "client", certs.toString(), "gateway");
    Mosquitto.run(script, "client", certs.toString(), "d1");
    Mosquitto.run(script, "client", certs.toString(), "d2");
    Mosquitto.run(script, "revoke", certs.toString(), "d2");
    Path other = folder.resolve("other");
    Mosquitto.run(script, "init", other.toString());
    int port = Mosquitto.freePort();
    broker = new Mosquitto(folder.resolve("tls"), false, "listener " + port + " 127.0.0.1", "cafile " + certs.resolve("ca.crt"),
        "certfile " + certs.resolve("broker.crt"), "keyfile " + certs.resolve("broker.key"),
        "crlfile " + certs.resolve("ca.crl"), "require_certificate true", "use_identity_as_username true", "tls_version tlsv1.2");
    broker.start();
    Consumer<DurableMqttClient> own = c -> {
      c.setCaFile(certs.resolve("ca.crt").toString());
      c.setCertFile(certs.resolve("gateway.crt").toString());
      c.setKeyFile(certs.resolve("gateway.key").toString());
    };
    Running good = closing(client("ssl://localhost:" + port).with(own).route());
    good.awaitUp();
    assertTrue(broker.port != port);
    good.close();
    Running byAddress = closing(client("ssl://127.0.0.1:" + port).with(own).route());
    byAddress.awaitUp();
    byAddress.close();
    Running stranger = closing(client("ssl://localhost:" + port).with(own)
        .with(c -> c.setCaFile(other.resolve("ca.crt").toString())).route());
    Until.true_(() -> "a broker of another CA is refused: " + stranger.check(), 10_000,
        () -> stranger.check().matches("DOWN .*(PKIX|path|certif|[Ss]ignature).*"));
    stranger.close();
    Running nobody = closing(client("ssl://localhost:" + port).with(c -> c.setCaFile(certs.resolve("ca.crt").toString())).route());
    Until.true_(() -> "the broker refuses a client without certificate: " + nobody.check(), 10_000,
        () -> nobody.check().startsWith("DOWN") && !nobody.check().contains("not connected yet"));
    nobody.close();
  }

  // ---- helpers

  private <T extends AutoCloseable> T closing(T it) {
    open.add(it);
    return it;
  }

  private Setup client(String url) throws MqttException {
    DurableMqttClient client = new DurableMqttClient();
    client.setUrl(url);
    client.setClientId("gateway");
    client.setReconnectMinMs(20);
    client.setReconnectMaxMs(100);
    return new Setup(client);
  }

  private final class Setup {
    final DurableMqttClient client;

    Setup(DurableMqttClient client) {
      this.client = client;
    }

    Setup with(Consumer<DurableMqttClient> change) {
      change.accept(client);
      return this;
    }

    /** Starts a new CamelContext with a route from this client to the store, and waits for nothing else. */
    Running route() throws Exception {
      CamelContext context = new DefaultCamelContext();
      context.getShutdownStrategy().setTimeout(2);
      context.getRegistry().bind("client", client);
      context.getRegistry().bind("store", store);
      context.addRoutes(new RouteBuilder() {
        @Override
        public void configure() {
          errorHandler(noErrorHandler());
          from("paho-mqtt5:devices/+/telemetry,devices/+/events?client=#client&qos=1").routeId("consume").routePolicyRef("client")
              .to("bean:store?method=append");
        }
      });
      context.start();
      return new Running(context);
    }
  }

  private record Running(CamelContext context) implements AutoCloseable {
    /** State and message; null: there is no such check. */
    String check() {
      HealthCheck check = HealthCheckRegistry.get(context).getCheck("mqtt").orElse(null);
      if (check == null) {
        return null;
      }
      HealthCheck.Result result = check.call(Map.of(HealthCheck.CHECK_KIND, HealthCheck.Kind.READINESS));
      return result.getState() + " " + result.getMessage().orElse("");
    }

    void awaitUp() {
      Until.true_(() -> "connected: " + check(), 10_000, () -> check().startsWith("UP"));
    }

    @Override
    public void close() throws Exception {
      context.close();
    }
  }

  private void makeSession() throws Exception {
    try (Running running = client(broker.url()).route()) {
      running.awaitUp();
    }
  }

  /** Numbered telemetry, all of it acknowledged by the broker. */
  private void publish(int count) throws Exception {
    connectDevice();
    List<IMqttToken> tokens = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      tokens.add(device.publish("devices/d1/telemetry", String.valueOf(sent++).getBytes(), 1, false));
    }
    for (IMqttToken token : tokens) {
      token.waitForCompletion(10_000);
    }
  }

  private void connectDevice() throws Exception {
    connectDevice(broker.url(), null, null);
  }

  private void connectDevice(String url, String user, String password) throws Exception {
    if (device != null) {
      return;
    }
    MqttConnectionOptions options = new MqttConnectionOptions();
    options.setCleanStart(true);
    if (user != null) {
      options.setUserName(user);
      options.setPassword(password.getBytes());
    }
    device = new MqttAsyncClient(url, "device", new MemoryPersistence());
    device.connect(options).waitForCompletion(10_000);
  }

  private static int code(IMqttToken token) throws Exception {
    token.waitForCompletion(5_000);
    int[] codes = token.getReasonCodes();
    return codes == null || codes.length == 0 ? 0 : codes[0];
  }

  private static String causes(Throwable e) {
    StringBuilder text = new StringBuilder();
    for (Throwable c = e; c != null; c = c.getCause()) {
      text.append(c.getMessage()).append('\n');
    }
    return text.toString();
  }
}
