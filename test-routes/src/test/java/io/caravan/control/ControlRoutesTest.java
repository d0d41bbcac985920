// SPDX-License-Identifier: Apache-2.0
package io.caravan.control;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.commands.Capabilities;
import io.caravan.commands.Commands;
import io.caravan.commands.Commands.Command;
import io.caravan.commands.CommandsModule;
import io.caravan.commands.Status;
import io.caravan.devices.Devices;
import io.caravan.devices.DevicesModule;
import io.caravan.ingest.IngestModule;
import io.caravan.it.Ports;
import io.caravan.runtime.AuditTrail;
import io.caravan.runtime.Caravan;
import io.caravan.runtime.ControlException;
import io.caravan.wal.Recovery;
import io.caravan.wal.WalModule;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.apache.camel.Exchange;
import org.apache.camel.ExchangePattern;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The commands of the gateway itself: the real routes, store, registry, and bean {@code commands}. */
class ControlRoutesTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final List<String> ROUTES = List.of("control", "command", "answers", "twin", "ingest", "wal-append", "rejected", "fanout", "rollup", "passthrough");

  @TempDir
  Path temp;
  private Caravan caravan;

  @BeforeEach
  void start() throws Exception {
    Path etc = temp.resolve("etc");
    for (String from : List.of("config/common", "config/gateway")) {
      try (Stream<Path> files = Files.walk(REPO.resolve(from))) {
        for (Path file : files.filter(Files::isRegularFile).toList()) {
          Path target = etc.resolve(REPO.resolve(from).relativize(file).toString());
          Files.createDirectories(target.getParent());
          Files.copy(file, target, StandardCopyOption.REPLACE_EXISTING);
        }
      }
    }
    open();
  }

  private void open() throws Exception {
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    caravan = Caravan.builder().context(context).home(temp).keys(temp.resolve("etc/keys")).cfg(temp.resolve("etc"))
        .set("container.role", "gateway").set("http.port", String.valueOf(Ports.free())).set("fanout.tick.ms", "100")
        .withoutDiscovery().module("wal", new WalModule()).module("ingest", new IngestModule()).module("devices", new DevicesModule())
        .module("commands", new CommandsModule())
        .routes(ROUTES.stream().map(stem -> REPO.resolve("routes/gateway/" + stem + ".camel.yaml")).toArray(Path[]::new)).start();
    assertTrue(caravan.awaitReady(Duration.ofSeconds(60)), () -> "not ready: " + caravan.checks());
  }

  @AfterEach
  void stop() {
    caravan.close();
  }

  private Exchange send(String name, String id, String arguments) {
    return caravan.context().createProducerTemplate().send("direct:control-run", ExchangePattern.InOut, e -> {
      e.getMessage().setBody(arguments);
      e.setVariable("commandName", name);
      e.setVariable("commandId", id);
      e.setVariable("commandOrigin", "cloud");
      e.setVariable("commandBy", "ann");
      e.setVariable("commandAttempt", 1);
    });
  }

  private JsonNode run(String name, String arguments) throws Exception {
    Exchange exchange = send(name, "c-" + System.nanoTime(), arguments);
    if (exchange.getException() != null) {
      throw new AssertionError(name + ": " + exchange.getException(), exchange.getException());
    }
    return JSON.readTree(exchange.getMessage().getBody(String.class));
  }

  private String refusal(String name, String arguments) {
    Exception e = send(name, "c-" + System.nanoTime(), arguments).getException();
    assertNotNull(e, name + " " + arguments);
    return e.getMessage();
  }

  private Command command(String id, String name, String arguments) throws Exception {
    Commands commands = caravan.bean("commands", Commands.class).orElseThrow();
    commands.submit(List.of(new Commands.Request(id, Commands.GATEWAY, name, arguments, null, null, 60_000L, "shell", "tester", null)))
        .toCompletableFuture().get(20, TimeUnit.SECONDS);
    return await().atMost(Duration.ofSeconds(60)).until(() -> commands.find(id).orElseThrow(), c -> c.status().isFinal());
  }

  private List<String> audited(String prefix) {
    List<String> entries = new ArrayList<>();
    caravan.bean("audit", AuditTrail.class).orElseThrow().read(e -> e.action().startsWith(prefix), e -> entries.add(e.action() + " " + e.subject() + " " + e.outcome()));
    return entries;
  }

  /** A command in the file that no branch carries out, and the other way round, is a mistake of the distribution. */
  @Test
  void everyDeclaredCommandHasABranchAndEveryBranchIsDeclared() throws Exception {
    JsonNode declared = JSON.readTree(temp.resolve("etc/control-capabilities.json").toFile()).get("commands");
    String route = Files.readString(REPO.resolve("routes/gateway/control.camel.yaml"));
    List<String> names = new ArrayList<>();
    declared.fieldNames().forEachRemaining(names::add);
    for (String name : names) {
      assertTrue(route.contains("'" + name + "'") || route.contains(name + ",") || route.contains("," + name), name);
      Exception e = send(name, "d-" + name, "{}").getException();
      assertTrue(e == null || !String.valueOf(e.getMessage()).contains("not in control.camel.yaml"), name + ": " + e);
    }
    assertTrue(refusal("gateway.explode", "{}").contains("[gateway.explode] is in etc/control-capabilities.json, but not"), "negative control");
    Capabilities capabilities = caravan.bean("capabilities", Capabilities.class).orElseThrow();
    assertEquals(names.stream().sorted().toList(), capabilities.of(Commands.GATEWAY).orElseThrow().commands().stream().map(Capabilities.Capability::name).sorted().toList());
  }

  @Test
  void answersWhatItIsAsked() throws Exception {
    assertEquals("hello", run("ping", "{\"echo\":\"hello\"}").get("echo").asText());
    JsonNode info = run("gateway.info", "{}");
    assertEquals("gateway", info.get("role").asText());
    assertTrue(info.get("ready").asBoolean(), info.toString());
    assertTrue(run("gateway.diagnose", "{}").get("findings").isArray());
    JsonNode config = run("config.get", "{\"keys\":[\"rollup.*\",\"http.*\"]}");
    assertEquals("60000", config.get("values").get("rollup.window.ms").asText());
    assertFalse(config.toString().contains("http."), config.toString());
  }

  @Test
  void setsConfigurationAndWindowsAndRefusesTheRest() throws Exception {
    assertEquals("1000", run("config.update", "{\"changes\":{\"rollup.emit.ms\":900,\"outbox.tick.ms\":4000},\"ready_within_ms\":20000}").at("/changed/rollup.emit.ms/from").asText());
    assertEquals("900", caravan.config().get("rollup.emit.ms"));
    assertEquals("4000", caravan.config().get("outbox.tick.ms"));
    run("rollup.window", "{\"window_ms\":30000}");
    assertEquals("30000", caravan.config().get("rollup.window.ms"));
    assertTrue(refusal("config.update", "{\"changes\":{\"rollup.window.ms\":99,\"rollup.emit.ms\":1}}").contains("must be a whole number"));
    for (String key : List.of("mqtt.server.bind.host", "mqtt.server.port", "device.access", "http.trusted.proxies", "admin.login", "uplink.url",
        "uplink.enabled", "uplink.ca.file", "broker.enabled", "ingest.direct.enabled", "control.config.keys", "control.dir", "command.unsafe",
        "command.queue.max", "wal.max.bytes", "wal.unsafe.ack", "audit.file", "secret.file.check", "config.dir", "user.x", "sink.mqtt.url",
        "sink.s3.bucket", "sink.kafka.security.protocol", "sink.analytics.loopback.http", "s3.endpoint", "mqtt.client.control.enabled")) {
      assertTrue(refusal("config.update", "{\"changes\":{\"" + key + "\":\"1\"}}").contains(key + " is "), key);
    }
  }

  /** A cloud that was taken over cannot make more leave the LAN than the operator's file lets through. */
  @Test
  void thePolicyIsCheckedByItsSchemaAndKept() throws Exception {
    assertTrue(refusal("policy.update", "{\"policy\":{\"rollup\":[],\"passthrough\":[{\"kind\":\"everything\",\"device\":\"*\"}]}}").contains("breaks schema/data-policy-1.json"));
    assertFalse(Files.exists(temp.resolve("data/control/data-policy.json")));
    String mine = Files.readString(temp.resolve("etc/data-policy.json"));
    run("policy.update", "{\"policy\":{\"rollup\":[{\"device\":\"d-1\",\"metric\":\"*\"}],\"passthrough\":[]}}");
    assertEquals(mine, Files.readString(temp.resolve("etc/data-policy.json")));
    assertEquals("d-1", JSON.readTree(temp.resolve("data/control/data-policy.json").toFile()).at("/rollup/0/device").asText());
    run("policy.update", "{\"policy\":null}");
    assertEquals("{}", Files.readString(temp.resolve("data/control/data-policy.json")));
  }

  @Test
  void pausesResumesAndReplaysSinksButNotThoseItAnswersThrough() throws Exception {
    Recovery recovery = caravan.bean("recovery", Recovery.class).orElseThrow();
    run("sink.pause", "{\"sink\":\"rollup\"}");
    assertEquals("paused", recovery.sinks().stream().filter(s -> s.name().equals("rollup")).findFirst().orElseThrow().state());
    run("sink.resume", "{\"sink\":\"rollup\"}");
    assertEquals("running", recovery.sinks().stream().filter(s -> s.name().equals("rollup")).findFirst().orElseThrow().state());
    assertTrue(refusal("sink.pause", "{\"sink\":\"uplink\"}").contains("carries the commands' own answers"));
    assertTrue(refusal("sink.pause", "{\"sink\":\"answers\"}").contains("carries the commands' own answers"));
    assertTrue(refusal("sink.pause", "{\"sink\":\"nowhere\"}").contains("nowhere"));
    // As the bean says it: for windows a row must not count twice.
    assertTrue(refusal("sink.replay", "{\"sink\":\"passthrough\",\"from_ms\":1,\"dry_run\":true}").contains("part of the gateway"));
    assertTrue(audited("control.sink.").size() >= 3, () -> audited("control.").toString());
  }

  @Test
  void logLevelsNeedALogThatCanAndALoggerOfOurs() {
    assertTrue(refusal("log.level", "{\"logger\":\"org.apache.http.wire\",\"level\":\"TRACE\"}").contains("other programs' loggers"));
    // SLF4J's simple logger cannot; Karaf's can (CommandIT).
    assertTrue(refusal("log.level", "{\"logger\":\"io.caravan.wal\",\"level\":\"DEBUG\",\"for_ms\":1000}").contains("levels can be set while it runs"));
  }

  @Test
  void aCommandToTheGatewayLivesLikeAnyOther() throws Exception {
    Command ping = command("g-1", "ping", "{\"echo\":\"x\"}");
    assertEquals(Status.SUCCEEDED, ping.status(), ping::toString);
    assertEquals("x", JSON.readTree(ping.result()).get("echo").asText());
    assertEquals(Status.REJECTED, command("g-2", "ping", "{\"nonsense\":1}").status());
    assertEquals(Status.REJECTED, command("g-3", "rollup.window", "{\"window_ms\":500}").status(), "the operator's range");
    assertEquals("no_capability", command("g-4", "reboot", "{}").reason());
    Command refused = command("g-5", "config.update", "{\"changes\":{\"device.access\":\"open\"}}");
    assertEquals(Status.FAILED, refused.status());
    assertEquals("control_failed", refused.reason());
    assertEquals("registry", caravan.config().get("device.access"));
    Command done = command("g-6", "config.update", "{\"changes\":{\"rollup.emit.ms\":800}}");
    assertEquals(Status.SUCCEEDED, done.status(), done::toString);
    assertEquals("800", JSON.readTree(done.result()).at("/changed/rollup.emit.ms/to").asText());
    caravan.bean("devices", Devices.class).orElseThrow().add(new Devices.NewDevice("board-1", null, null, null, null, null, null, null, null));
    Command twin = command("g-7", "twin.desire", "{\"device_id\":\"board-1\",\"patch\":{\"led\":true}}");
    assertEquals(Status.SUCCEEDED, twin.status(), twin::toString);
    assertTrue(twin.result().contains("led"), twin.result());
    assertEquals(Status.FAILED, command("g-8", "twin.desire", "{\"device_id\":\"nobody\",\"patch\":{}}").status());
  }

  /** The process ends while a change is watched: the command is told what became of it after the next start. */
  @Test
  void aCommandThatTheProcessDidNotOutliveIsToldItsEnd() throws Exception {
    Commands commands = caravan.bean("commands", Commands.class).orElseThrow();
    // Longer than the test: it is being watched until the stop.
    Path late = Files.writeString(temp.resolve("etc/io.caravan.control.cfg"), "control.settle.ms = 60000\n");
    await().atMost(Duration.ofSeconds(20)).until(() -> caravan.config().getLong("control.settle.ms") == 60_000);
    commands.submit(List.of(new Commands.Request("x-1", Commands.GATEWAY, "config.update", "{\"changes\":{\"rollup.emit.ms\":700},\"ready_within_ms\":300000}", null, null,
        60_000L, "shell", "tester", null))).toCompletableFuture().get(20, TimeUnit.SECONDS);
    await().atMost(Duration.ofSeconds(20)).until(() -> caravan.config().get("rollup.emit.ms").equals("700"));
    caravan.close();
    Files.delete(late);
    open();
    assertEquals("1000", caravan.config().get("rollup.emit.ms"));
    Commands again = caravan.bean("commands", Commands.class).orElseThrow();
    Command told = await().atMost(Duration.ofSeconds(60)).until(() -> again.find("x-1").orElseThrow(), c -> c.status().isFinal());
    assertEquals(Status.FAILED, told.status(), told::toString);
    assertEquals("rolled_back", told.reason());
    assertEquals(List.of("control.rollback x-1 ok"), audited("control.rollback"));
  }

  // ---- what controllers send

  private Exchange message(String from, String body) {
    return caravan.context().createProducerTemplate().send("direct:control-message", ExchangePattern.InOut, e -> {
      e.getMessage().setHeader("CaravanDeviceId", from);
      e.getMessage().setHeader("CaravanTopic", "gateways/gateway-1/control");
      e.getMessage().setHeader("CaravanOrigin", "cloud");
      e.getMessage().setHeader("CaravanIssuedBy", "somebody else");
      e.getMessage().setBody(body.getBytes(StandardCharsets.UTF_8));
    });
  }

  @Test
  void keepsWhatAControllerSendsOnceAndUnderItsName() throws Exception {
    Devices devices = caravan.bean("devices", Devices.class).orElseThrow();
    devices.add(new Devices.NewDevice("panel-1", null, null, null, null, null, null, null, null));
    assertEquals("not_authorized", message("panel-1", "{\"id\":\"m-0\",\"name\":\"ping\"}").getVariable("reason"));
    Commands commands = caravan.bean("commands", Commands.class).orElseThrow();
    assertTrue(commands.find("m-0").isEmpty());
    assertEquals(List.of("control.refused panel-1 not_authorized"), audited("control.refused"));
    devices.controller("panel-1", true);
    Exchange kept = message("panel-1", "{\"id\":\"m-1\",\"name\":\"ping\",\"arguments\":{\"echo\":\"hi\"},\"ttl_ms\":30000}");
    assertNull(kept.getException());
    assertEquals("durable", kept.getVariable("outcome"));
    Command done = await().atMost(Duration.ofSeconds(20)).until(() -> commands.find("m-1").orElseThrow(), c -> c.status().isFinal());
    assertEquals(Status.SUCCEEDED, done.status(), done::toString);
    assertEquals("mqtt", done.origin(), "headers from outside say nothing");
    assertEquals("mqtt:panel-1", done.issuedBy());
    assertEquals("durable", message("panel-1", "{\"id\":\"m-1\",\"name\":\"ping\",\"arguments\":{\"echo\":\"hi\"},\"ttl_ms\":30000}").getVariable("outcome"), "sent again");
    Exchange conflict = message("panel-1", "{\"id\":\"m-1\",\"name\":\"ping\",\"arguments\":{\"echo\":\"other\"}}");
    assertEquals("rejected conflict", conflict.getVariable("outcome") + " " + conflict.getVariable("reason"));
    devices.controller("panel-1", false);
    assertEquals("not_authorized", message("panel-1", "{\"id\":\"m-2\",\"name\":\"ping\"}").getVariable("reason"), "from now on");
  }

  @Test
  void whatHasNoIdIsRefusedAndWhatIsWrongIsKeptAsRejected() throws Exception {
    Devices devices = caravan.bean("devices", Devices.class).orElseThrow();
    devices.add(new Devices.NewDevice("panel-1", null, null, null, null, null, null, null, null));
    devices.controller("panel-1", true);
    for (String bad : List.of("", "[]", "{", "no json", "{\"name\":\"ping\"}", "{\"id\":5,\"name\":\"ping\"}", "{\"id\":\"a b\",\"name\":\"ping\"}",
        "{\"id\":\"x\",\"device_id\":\"../x\",\"name\":\"ping\"}", "[".repeat(50_000), "{\"id\":\"x\",\"arguments\":" + "{\"a\":".repeat(40) + "1" + "}".repeat(41))) {
      Exchange refused = message("panel-1", bad);
      assertNull(refused.getException(), bad);
      assertEquals("rejected bad_command", refused.getVariable("outcome") + " " + refused.getVariable("reason"), bad);
    }
    Commands commands = caravan.bean("commands", Commands.class).orElseThrow();
    for (Map.Entry<String, String> bad : Map.of("w-1", "\"name\":7", "w-2", "\"name\":\"ping\",\"arguments\":3", "w-3", "\"name\":\"ping\",\"bogus\":3",
        "w-4", "\"name\":\"ping\",\"ttl_ms\":\"soon\"").entrySet()) {
      assertEquals("durable", message("panel-1", "{\"id\":\"" + bad.getKey() + "\"," + bad.getValue() + "}").getVariable("outcome"));
      assertEquals("bad_command", commands.find(bad.getKey()).orElseThrow().reason(), bad.getKey());
    }
  }

  @Test
  void sayingWhyIsPartOfTheAnswer() {
    ControlException e = assertThrows(ControlException.class, () -> {
      Exception cause = send("config.update", "r-1", "{\"changes\":{}}").getException();
      throw (ControlException) cause;
    });
    assertEquals("control_failed", e.reason());
  }
}
