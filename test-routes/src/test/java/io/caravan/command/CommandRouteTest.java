// SPDX-License-Identifier: Apache-2.0
package io.caravan.command;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.commands.Commands;
import io.caravan.commands.Commands.Command;
import io.caravan.commands.CommandsModule;
import io.caravan.commands.Status;
import io.caravan.devices.Devices;
import io.caravan.devices.DevicesModule;
import io.caravan.devices.Presence;
import io.caravan.runtime.Caravan;
import io.caravan.runtime.ControlException;
import io.caravan.wal.WalModule;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import java.util.stream.Stream;
import org.apache.camel.Exchange;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The shipped route of commands with its bundle, the store and the registry; ways to devices and the control plane are the test's. */
@Timeout(180)
class CommandRouteTest {
  private static final Path REPO = Path.of("..").toAbsolutePath().normalize();
  private static final Duration SOON = Duration.ofSeconds(60);
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final String CAPABILITIES = "{\"schema_version\":1,\"version\":\"1\",\"commands\":{\"led\":{\"arguments\":{\"type\":\"object\","
      + "\"properties\":{\"on\":{\"type\":\"boolean\"}},\"required\":[\"on\"],\"additionalProperties\":false},\"idempotent\":true,\"timeout_ms\":20000},"
      + "\"relay\":{\"arguments\":{\"type\":\"object\"},\"idempotent\":false,\"timeout_ms\":20000}}}";

  /** A publication as the way to the device got it. */
  private record Published(String way, JsonNode payload, Map<String, Object> headers) {}

  @TempDir
  Path home;
  private final Map<String, Presence.Path> paths = new ConcurrentHashMap<>();
  private final BlockingQueue<Published> published = new LinkedBlockingQueue<>();
  private final BlockingQueue<String> toldControllers = new LinkedBlockingQueue<>();
  private volatile BiConsumer<String, String> appeared = (device, channel) -> { };
  private volatile String evidence = "delivered";
  private Caravan caravan;
  private Commands commands;

  @BeforeEach
  void start() throws Exception {
    Path etc = Files.createDirectories(home.resolve("etc"));
    for (String side : List.of("common", "gateway")) {
      Path folder = REPO.resolve("config").resolve(side);
      try (Stream<Path> files = Files.walk(folder)) {
        for (Path p : files.filter(Files::isRegularFile).toList()) {
          Path target = etc.resolve(folder.relativize(p).toString());
          Files.createDirectories(target.getParent());
          Files.copy(p, target);
        }
      }
    }
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    caravan = Caravan.builder().context(context).home(home).keys(etc.resolve("keys")).environment(Map.of()).set("container.role", "gateway")
        .set("http.port", "0").set("wal.ballast.bytes", "0").withoutDiscovery().module("wal", new WalModule()).module("devices", new DevicesModule())
        .module("there", (c, config) -> {
          c.getRegistry().bind("presence", Presence.class, new There());
          Devices devices = c.getRegistry().lookupByNameAndType("devices", Devices.class);
          for (String id : List.of("d1", "d2")) {
            devices.add(new Devices.NewDevice(id, null, CAPABILITIES, null, null, null, null, null, null));
          }
          return () -> { };
        }).module("commands", new CommandsModule()).routes(REPO.resolve("routes/gateway/command.camel.yaml")).start();
    context.addRoutes(new Ends());
    for (String route : List.of("test-direct", "test-mqtt", "test-status", "test-run")) {
      context.getRouteController().startRoute(route);
    }
    assertTrue(caravan.awaitReady(SOON), () -> caravan.checks() + " " + caravan.routes());
    commands = caravan.bean("commands", Commands.class).orElseThrow();
  }

  @AfterEach
  void stop() {
    caravan.close();
  }

  private final class There implements Presence {
    @Override
    public Path path(String deviceId) {
      return paths.getOrDefault(deviceId, Path.NONE);
    }

    @Override
    public Path desiredPath(String deviceId) {
      return Path.NONE;
    }

    @Override
    public AutoCloseable onAppeared(BiConsumer<String, String> listener) {
      BiConsumer<String, String> before = appeared;
      appeared = before.andThen(listener);
      return () -> { };
    }

    @Override
    public void subscribed(Exchange exchange) {}

    @Override
    public void heard(Exchange exchange) {}
  }

  private final class Ends extends RouteBuilder {
    @Override
    public void configure() {
      errorHandler(noErrorHandler());
      from("direct:command-direct").routeId("test-direct").process(e -> took("listener", e));
      from("direct:command-mqtt").routeId("test-mqtt").process(e -> took("broker", e));
      from("direct:control-status").routeId("test-status")
          .process(e -> toldControllers.add(e.getMessage().getHeader("CaravanDeviceId") + " " + e.getMessage().getBody(String.class)));
      from("direct:control-run").routeId("test-run").process(e -> {
        switch (e.getVariable("commandName", String.class)) {
          case "ping" -> e.getMessage().setBody(Map.of("by", e.getVariable("commandBy"), "attempt", e.getVariable("commandAttempt"),
              "echo", JSON.readTree(e.getMessage().getBody(String.class)).get("echo").asText()));
          case "gateway.info" -> throw new ControlException(ControlException.ROLLED_BACK, "not ready within 30 s", "{\"seen\":1}", null);
          default -> throw new IllegalStateException("something else");
        }
      });
    }

    private void took(String way, Exchange e) throws Exception {
      published.add(new Published(way, JSON.readTree(e.getMessage().getBody(byte[].class)), Map.copyOf(e.getMessage().getHeaders())));
      e.getMessage().setHeader("CaravanEvidence", evidence);
    }
  }

  private List<Command> send(Object body, String origin, String by) {
    return send("direct:command", body, Map.of("CaravanOrigin", origin, "CaravanIssuedBy", by));
  }

  private List<Command> send(String endpoint, Object body, Map<String, Object> headers) {
    Exchange done = caravan.context().createProducerTemplate().request(endpoint, e -> {
      e.getMessage().setBody(body);
      e.getMessage().setHeaders(new java.util.HashMap<>(headers));
    });
    if (done.getException() != null) {
      throw new AssertionError(done.getException());
    }
    List<?> list = assertInstanceOf(List.class, done.getMessage().getBody());
    return list.stream().map(Command.class::cast).toList();
  }

  private Command until(String id, Status status) {
    await(id).atMost(SOON).until(() -> commands.find(id).map(c -> c.status() == status).orElse(false));
    return commands.find(id).orElseThrow();
  }

  @Test
  void onTheWayThatTheDeviceIsThere() throws Exception {
    List<Command> kept = send(List.of(Map.of("id", "c1", "device_id", "d1", "name", "led", "arguments", "{\"on\":true}", "ttl_ms", 30_000L,
        "issued_by", "ann", "trace_context", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        Map.of("id", "c2", "device_id", "d2", "name", "relay", "issued_by", "ann")), "cloud", "cloud");
    assertEquals(List.of(Status.QUEUED, Status.QUEUED), kept.stream().map(Command::status).toList());
    assertNull(published.poll(), "nobody is there");
    paths.put("d1", Presence.Path.LISTENER);
    appeared.accept("d1", Presence.COMMANDS);
    Published one = published.poll(60, TimeUnit.SECONDS);
    assertEquals("listener", one.way());
    assertEquals("c1", one.payload().get("command_id").asText());
    assertEquals("{\"on\":true}", one.payload().get("arguments").toString());
    assertEquals(6, one.payload().size());
    long left = one.payload().get("ttl_ms").asLong();
    assertTrue(left > 0 && left <= 30_000, () -> "ttl_ms " + left);
    assertEquals("d1", one.headers().get("CaravanDeviceId"));
    assertEquals("c1", one.headers().get("CaravanCorrelationData"));
    assertEquals("application/json", one.headers().get("CaravanContentType"));
    assertEquals("devices/d1/command-status", one.headers().get("CaravanResponseTopic"));
    assertEquals("c1", ((Map<?, ?>) one.headers().get("CaravanUserProperties")).get("caravan-command-id"));
    assertEquals(1, one.headers().get("CaravanQos"));
    until("c1", Status.DELIVERED);
    evidence = "sent";
    paths.put("d2", Presence.Path.BROKER);
    appeared.accept("d2", Presence.COMMANDS);
    Published two = published.poll(60, TimeUnit.SECONDS);
    assertEquals("broker", two.way());
    assertEquals(0, two.headers().get("CaravanQos"), "a broker repeats QoS 1, and this one is not idempotent");
    until("c2", Status.SENT);
  }

  @Test
  void framesListsAndSingleOnesAndWhatIsWrongWithThem() {
    List<Command> kept = send("{\"type\":\"command\",\"commands\":[{\"id\":\"c1\",\"device_id\":\"d1\",\"name\":\"led\",\"arguments\":{\"on\":true}},"
        + "{\"id\":\"c2\",\"device_id\":\"d1\",\"name\":\"led\",\"arguments\":{\"on\":1}},"
        + "{\"id\":\"c3\",\"device_id\":\"d1\",\"name\":\"led\",\"arguments\":[1]},"
        + "{\"id\":\"c4\",\"device_id\":\"d1\",\"name\":\"led\",\"arguments\":{\"on\":true},\"ttl_ms\":\"soon\"}]}", "cloud", "ann");
    assertEquals(List.of("QUEUED null", "REJECTED bad_arguments", "REJECTED bad_command", "REJECTED bad_command"),
        kept.stream().map(c -> c.status() + " " + c.reason()).toList());
    Command one = send(Map.of("id", "c5", "device_id", "d1", "name", "led", "problem", "units is too deep"), "cloud", "ann").get(0);
    assertEquals("bad_command", one.reason());
    assertEquals("units is too deep", one.detail());
    assertEquals("unknown_device", send(Map.of("id", "c6", "device_id", "nobody", "name", "led"), "cloud", "ann").get(0).reason());
    Command conflict = send(Map.of("id", "c1", "device_id", "d1", "name", "led", "arguments", Map.of("on", false)), "cloud", "ann").get(0);
    assertEquals("conflict", conflict.reason());
    assertEquals(Status.QUEUED, commands.find("c1").orElseThrow().status());
    assertEquals(6, commands.list(new Commands.Filter(null, null, false), 100).size());
  }

  @Test
  void takenBack() {
    send(List.of(Map.of("id", "c1", "device_id", "d1", "name", "relay")), "cloud", "ann");
    assertEquals(List.of(Status.CANCELLED), send("direct:command-cancel", List.of("c1", "nobody"), Map.of("CaravanBy", "ann")).stream()
        .map(Command::status).toList());
    assertEquals(List.of(Status.CANCELLED), send("direct:command-cancel", "{\"type\":\"command-cancel\",\"ids\":[\"c1\"],\"by\":\"bob\"}", Map.of()).stream()
        .map(Command::status).toList());
    assertEquals("by ann", commands.find("c1").orElseThrow().detail());
  }

  @Test
  void theGatewaysOwnAndItsController() throws Exception {
    send("{\"id\":\"p1\",\"name\":\"ping\",\"arguments\":{\"echo\":\"hello\"}}", "mqtt", "mqtt:app");
    Command ping = until("p1", Status.SUCCEEDED);
    assertEquals(Commands.GATEWAY, ping.deviceId());
    assertEquals(JSON.readTree("{\"by\":\"mqtt:app\",\"attempt\":1,\"echo\":\"hello\"}"), JSON.readTree(ping.result()));
    String first = toldControllers.poll(60, TimeUnit.SECONDS);
    assertTrue(first.startsWith("app {\"device_id\":\"gateway\",\"command_id\":\"p1\",\"revision\":1,\"status\":\"ACCEPTED\""), first);
    send("{\"id\":\"p2\",\"name\":\"gateway.info\"}", "mqtt", "mqtt:app");
    Command undone = until("p2", Status.FAILED);
    assertEquals("rolled_back", undone.reason());
    assertEquals("not ready within 30 s", undone.detail());
    assertEquals("{\"seen\":1}", undone.result());
    send("{\"id\":\"p3\",\"name\":\"gateway.diagnose\"}", "shell", "root");
    assertEquals("control_failed something else", until("p3", Status.FAILED).reason() + " " + commands.find("p3").orElseThrow().detail());
  }

  @Test
  void withoutARouteToTheDeviceNothingIsLostAndNothingSaid() throws Exception {
    paths.put("d1", Presence.Path.LISTENER);
    caravan.context().getRouteController().stopRoute("command-publish");
    send(List.of(Map.of("id", "c1", "device_id", "d1", "name", "relay")), "cloud", "ann");
    await().atMost(SOON).until(() -> commands.find("c1").orElseThrow().attempts() == 0);
    caravan.context().getRouteController().startRoute("command-publish");
    assertEquals("c1", published.poll(60, TimeUnit.SECONDS).payload().get("command_id").asText());
    until("c1", Status.DELIVERED);
    assertEquals(List.of(Status.ACCEPTED, Status.QUEUED, Status.SENT, Status.DELIVERED),
        commands.find("c1").orElseThrow().events().stream().map(Commands.Event::status).toList());
    assertEquals(0, published.size(), "and only once");
  }
}
