// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

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
import io.caravan.commands.Commands;
import io.caravan.commands.CommandsModule;
import io.caravan.commands.Status;
import io.caravan.devices.Devices;
import io.caravan.devices.DevicesModule;
import io.caravan.devices.Presence;
import io.caravan.ingest.IngestModule;
import io.caravan.runtime.Caravan;
import io.caravan.wal.WalModule;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.Statement;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.apache.camel.Exchange;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Commands, desired state and controllers by way of a real mosquitto: the shipped routes and modules, a real store. */
@Timeout(180)
class BrokerPathTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final Duration SOON = Duration.ofSeconds(40);
  private static final String CAPABILITIES = "{\"schema_version\":1,\"version\":\"1\",\"commands\":{\"led\":{\"idempotent\":true,\"timeout_ms\":60000},"
      + "\"unlock\":{\"idempotent\":false,\"timeout_ms\":60000}}}";

  @TempDir
  Path home;
  private final BlockingQueue<Map<String, Object>> control = new LinkedBlockingQueue<>();
  private Mosquitto broker;
  private DefaultCamelContext context;
  private Caravan gateway;

  @BeforeEach
  void broker() throws Exception {
    broker = new Mosquitto(home.resolve("broker"), Ports.free());
    broker.start();
  }

  @AfterEach
  void stop() {
    if (gateway != null) {
      gateway.close();
    }
    broker.close();
  }

  private void start(String... settings) throws Exception {
    for (String side : List.of("common", "gateway")) {
      Path from = REPO.resolve("config").resolve(side);
      try (Stream<Path> files = Files.walk(from)) {
        for (Path file : files.filter(Files::isRegularFile).toList()) {
          Path to = home.resolve("etc").resolve(from.relativize(file).toString());
          Files.createDirectories(to.getParent());
          Files.copy(file, to);
        }
      }
    }
    context = new DefaultCamelContext();
    context.disableJMX();
    // Stands in for what decides about control messages.
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        errorHandler(noErrorHandler());
        from("direct:control-message").process(exchange -> {
          control.add(Map.copyOf(exchange.getMessage().getHeaders()));
          exchange.setVariable("outcome", "durable");
        });
      }
    });
    Caravan.Builder builder = Caravan.builder().context(context).home(home).keys(home.resolve("etc/keys")).environment(Map.of()).withoutDiscovery()
        .set("container.role", "gateway").set("gateway.id", "g1").set("http.port", "0").set("mqtt.server.port", String.valueOf(Ports.free()))
        .set("ingest.mqtt.enabled", "true").set("mqtt.client.control.enabled", "true").set("mqtt.client.url", "tcp://127.0.0.1:" + broker.port)
        .module("wal", new WalModule()).module("ingest", new IngestModule()).module("devices", new DevicesModule())
        .module("commands", new CommandsModule());
    builder.routes(Stream.of("ingest", "wal-append", "rejected", "ingest-direct", "ingest-mqtt", "fanout", "answers", "command", "twin")
        .map(stem -> REPO.resolve("routes/gateway/" + stem + ".camel.yaml")).toArray(Path[]::new));
    for (int i = 0; i < settings.length; i += 2) {
      builder.set(settings[i], settings[i + 1]);
    }
    gateway = builder.start();
    assertTrue(gateway.awaitReady(SOON), () -> gateway.checks() + " " + gateway.routes());
    Devices devices = gateway.bean("devices", Devices.class).orElseThrow();
    for (String id : List.of("d1", "boss")) {
      devices.add(new Devices.NewDevice(id, null, id.equals("d1") ? CAPABILITIES : null, null, null, null, null, null, null, id.equals("boss")));
    }
  }

  private Mqtt5BlockingClient client(String id) {
    Mqtt5BlockingClient client = Mqtt5Client.builder().identifier(id).serverHost("127.0.0.1").serverPort(broker.port).buildBlocking();
    client.connect();
    return client;
  }

  private static void publish(Mqtt5BlockingClient client, String topic, boolean retain, String json) {
    client.publishWith().topic(topic).qos(MqttQos.AT_LEAST_ONCE).retain(retain).payload(json.getBytes(StandardCharsets.UTF_8)).send();
  }

  private static Mqtt5Publish next(Mqtt5BlockingClient.Mqtt5Publishes messages) throws InterruptedException {
    return messages.receive(SOON.toSeconds(), TimeUnit.SECONDS).orElseThrow(() -> new AssertionError("no message came"));
  }

  private Presence presence() {
    return gateway.bean("presence", Presence.class).orElseThrow();
  }

  private String submit(String id, String name) throws Exception {
    Commands commands = gateway.bean("commands", Commands.class).orElseThrow();
    commands.submit(List.of(new Commands.Request(id, "d1", name, null, null, null, 60_000L, "shell", "test", null)))
        .toCompletableFuture().get(SOON.toSeconds(), TimeUnit.SECONDS);
    return id;
  }

  private Commands.Command command(String id) {
    return gateway.bean("commands", Commands.class).orElseThrow().find(id).orElseThrow();
  }

  private long number(String sql) throws Exception {
    try (Connection c = gateway.bean("reader", DataSource.class).orElseThrow().getConnection(); Statement s = c.createStatement();
        ResultSet r = s.executeQuery(sql)) {
      r.next();
      return r.getLong(1);
    }
  }

  @Test
  void aCommandWaitsUntilItsDeviceIsHeardAndIsAnswered() throws Exception {
    start();
    Mqtt5BlockingClient device = client("d1");
    try (Mqtt5BlockingClient.Mqtt5Publishes messages = device.publishes(MqttGlobalPublishFilter.ALL)) {
      device.subscribeWith().topicFilter("devices/d1/commands").qos(MqttQos.AT_LEAST_ONCE).send();
      submit("c-1", "unlock");
      assertEquals(Presence.Path.NONE, presence().path("d1"));
      assertEquals(Status.QUEUED, command("c-1").status());
      publish(device, "devices/d1/telemetry", false, "{\"schema_version\":1,\"metrics\":{\"t\":1}}");
      Mqtt5Publish message = next(messages);
      assertEquals(Presence.Path.BROKER, presence().path("d1"));
      assertEquals(MqttQos.AT_MOST_ONCE, message.getQos(), "a broker repeats QoS 1, and this must not be done twice");
      assertEquals("c-1", StandardCharsets.UTF_8.decode(message.getCorrelationData().orElseThrow()).toString());
      assertTrue(message.getMessageExpiryInterval().isPresent());
      assertEquals("devices/d1/command-status", message.getResponseTopic().orElseThrow().toString());
      await().atMost(SOON).until(() -> command("c-1").status() == Status.SENT);
      publish(device, "devices/d1/command-status", false, "{\"command_id\":\"c-1\",\"status\":\"succeeded\"}");
      await().atMost(SOON).until(() -> command("c-1").status() == Status.SUCCEEDED);

      submit("c-2", "led");
      assertEquals(MqttQos.AT_LEAST_ONCE, next(messages).getQos(), "may come twice");
      publish(device, "devices/d1/command-status", false, "{\"command_id\":\"c-2\",\"status\":\"failed\"}");
      await().atMost(SOON).until(() -> command("c-2").status() == Status.FAILED);
    }
    device.disconnect();
  }

  /** What a broker had kept says nothing about where its device is now. */
  @Test
  void retainedCapabilitiesAreTakenAndAreNoPresence() throws Exception {
    Mqtt5BlockingClient device = client("d1");
    publish(device, "devices/d1/capabilities", true, CAPABILITIES);
    device.disconnect();
    start();
    await().atMost(SOON).until(() -> number("SELECT count(*) FROM wal WHERE kind = 'capabilities'") == 1);
    assertEquals(Presence.Path.NONE, presence().path("d1"));
    Mqtt5BlockingClient again = client("d1");
    publish(again, "devices/d1/capabilities", true, CAPABILITIES.replace("\"version\":\"1\"", "\"version\":\"2\""));
    await().atMost(SOON).until(() -> presence().path("d1") == Presence.Path.BROKER);
    publish(again, "devices/d1/reported", false, "{\"led\":true}");
    await().atMost(SOON).until(() -> number("SELECT count(*) FROM wal WHERE kind = 'reported'") == 1);
    again.disconnect();
  }

  /** It may be the only copy, so it is taken; that the broker gives it to every new session must not count it anew. */
  @Test
  void retainedTelemetryIsStoredOnceHoweverManySessionsGetIt() throws Exception {
    Mqtt5BlockingClient device = client("d1");
    String telemetry = "{\"schema_version\":1,\"metrics\":{\"t\":1}}";
    publish(device, "devices/d1/telemetry", true, telemetry);
    publish(device, "devices/d2/events", true, "{\"schema_version\":1,\"event\":\"up\"}");
    publish(device, "devices/d3/telemetry", true, telemetry.replace("{\"schema", "{\"boot_id\":\"b\",\"device_seq\":1,\"schema"));
    publish(device, "devices/d1/reported", true, "{\"led\":true}");
    start("ingest.dedupe.window.ms", "1000");
    String kept = "SELECT count(*) FROM wal WHERE kind IN ('telemetry', 'event')";
    String state = "SELECT count(*) FROM wal WHERE kind = 'reported'";
    await().atMost(SOON).until(() -> number(kept) == 3 && number(state) == 1);
    for (int session = 2; session <= 3; session++) {
      Thread.sleep(1_100); // another window
      takeOver("caravan-gateway");
      int states = session;
      await().atMost(SOON).until(() -> number(state) == states);
      // In the order of the broker's tree, not of publication: what comes last is published after all of them have come.
      publish(device, "devices/d1/telemetry", false, telemetry.replace("1}}", session + "}}"));
      await().atMost(SOON).until(() -> number("SELECT count(*) FROM wal WHERE CAST(body AS TEXT) LIKE '%\"t\":" + states + "}}'") == 1);
      assertEquals(3 + session - 1, number(kept));
    }
    assertEquals(0, number("SELECT count(*) FROM rejected"));
    device.disconnect();
  }

  /** Ends the gateway's session at the broker; it gets a new one. */
  private void takeOver(String clientId) {
    Mqtt5BlockingClient other = Mqtt5Client.builder().identifier(clientId).serverHost("127.0.0.1").serverPort(broker.port).buildBlocking();
    other.connectWith().cleanStart(true).sessionExpiryInterval(0).send();
    other.disconnect();
  }

  @Test
  void whatIsDesiredIsThereForWhoSubscribesLater() throws Exception {
    start();
    Exchange sent = context.createProducerTemplate().send("direct:twin-mqtt", exchange -> {
      exchange.getMessage().setBody("{\"desired\":{}}");
      exchange.getMessage().setHeader("CaravanDeviceId", "d1");
    });
    assertNull(sent.getException());
    Mqtt5BlockingClient device = client("d1");
    try (Mqtt5BlockingClient.Mqtt5Publishes messages = device.publishes(MqttGlobalPublishFilter.ALL)) {
      device.subscribeWith().topicFilter("devices/d1/desired").qos(MqttQos.AT_LEAST_ONCE).send();
      assertEquals("{\"desired\":{}}", new String(next(messages).getPayloadAsBytes(), StandardCharsets.UTF_8));
    }
    device.disconnect();
  }

  @Test
  void controllersAreKnownByTheirTopic() throws Exception {
    start();
    Mqtt5BlockingClient boss = client("boss");
    try (Mqtt5BlockingClient.Mqtt5Publishes messages = boss.publishes(MqttGlobalPublishFilter.ALL)) {
      publish(boss, "gateways/g1/control", false, "{}");
      publish(boss, "gateways/g2/control/boss", false, "{}");
      publish(boss, "gateways/g1/control/boss", false, "{}");
      Map<String, Object> headers = control.poll(SOON.toSeconds(), TimeUnit.SECONDS);
      assertEquals("boss", headers.get("CaravanDeviceId"));
      assertEquals("gateways/g1/control/boss", headers.get("CaravanTopic"));
      assertEquals("mqtt", headers.get("CaravanSource"));
      assertTrue(control.isEmpty(), "not without a name, not another gateway's");
      assertFalse(headers.keySet().stream().anyMatch(name -> name.startsWith("Camel")));

      boss.subscribeWith().topicFilter("gateways/g1/control-status/boss").qos(MqttQos.AT_LEAST_ONCE).send();
      Exchange told = context.createProducerTemplate().send("direct:control-status-mqtt", exchange -> {
        exchange.getMessage().setBody("{\"status\":\"SUCCEEDED\"}");
        exchange.getMessage().setHeader("CaravanDeviceId", "boss");
      });
      assertEquals("sent", told.getMessage().getHeader("CaravanEvidence"));
      Mqtt5Publish status = next(messages);
      assertEquals("{\"status\":\"SUCCEEDED\"}", new String(status.getPayloadAsBytes(), StandardCharsets.UTF_8));
      assertFalse(status.isRetain());
    }
    boss.disconnect();
  }
}
