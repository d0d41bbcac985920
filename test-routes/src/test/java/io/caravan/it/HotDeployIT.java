// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.hivemq.client.mqtt.mqtt5.message.publish.puback.Mqtt5PubAckReasonCode;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** What an operator changes while the gateway runs, or mistypes before it starts. */
class HotDeployIT {
  /** Two seconds are promised; the rest is for a machine that is busy with a build. */
  private static final Duration LIVE = Duration.ofSeconds(6);
  /** Of sysexits.h: the configuration is at fault, a restart will not help. */
  private static final int EX_CONFIG = 78;
  private static final String HELLO = """
      - route:
          id: %s
          description: Say hello.
          from:
            uri: platform-http:/hello
            steps:
              - removeHeaders:
                  pattern: "*"
              - setBody:
                  constant: %s
      """;

  private static final int MQTT_PORT = Ports.free();
  private static Distribution gateway;
  private static Path deploy;
  private static Path db;

  @BeforeAll
  static void start() {
    gateway = Distribution.unpack("gateway", "hot-gateway");
    db = gateway.home.resolve("data/caravan/gateway.db");
    deploy = gateway.home.resolve("deploy");
    gateway.with("mqtt.server.port", MQTT_PORT).with("uplink.enabled", false).start().awaitReady();
  }

  @AfterAll
  static void stop() {
    if (gateway != null) {
      gateway.close();
    }
  }

  @AfterEach
  void takeEverythingBack() throws IOException {
    try (Stream<Path> files = Files.list(deploy)) {
      for (Path p : files.filter(p -> p.toString().contains(".camel.")).toList()) {
        Files.delete(p);
      }
    }
    awaitStatus("/hello", 404);
    awaitStatus("/readyz", 200);
  }

  @Test
  void overrideIsLiveWhileDevicesGoOnAndDeletingItReverts() throws Exception {
    try (Device device = Device.connect("hot-1", MQTT_PORT)) {
      AtomicLong seq = new AtomicLong();
      awaitStatus("/hello", 404);
      write("admin.camel.yaml", shipped("admin") + HELLO.formatted("admin-hello", "one"));
      awaitHello("one", device, seq);
      write("admin.camel.yaml", shipped("admin") + HELLO.formatted("admin-hello", "two"));
      awaitHello("two", device, seq);
      Files.delete(deploy.resolve("admin.camel.yaml"));
      awaitStatus("/hello", 404);
      awaitStatus("/readyz", 200);
      assertEquals(200, gateway.status("/version"));
      assertEquals(seq.get(), Store.number(db, "SELECT count(*) FROM wal WHERE device_id = 'hot-1'"));
    }
  }

  @Test
  void brokenFileLeavesTheOldOneRunningAndReadyzNamesFileAndLine() throws Exception {
    write("hello.camel.yaml", HELLO.formatted("hello", "fine"));
    awaitHello("fine");
    write("hello.camel.yaml", HELLO.formatted("hello", "broken").replace("- setBody:", "- setBodyy:"));
    String why = awaitDown("route:hello");
    assertTrue(why.contains("hello.camel.yaml") && why.contains("line 9"), why);
    assertEquals(503, gateway.status("/readyz"));
    assertEquals("fine", gateway.get("/hello").body());
    // Not even YAML.
    write("hello.camel.yaml", "- route:\n    id: [hello\n");
    await().atMost(LIVE).until(() -> gateway.down("route:hello"), w -> w != null && w.contains("hello.camel.yaml") && !w.equals(why));
    assertEquals("fine", gateway.get("/hello").body());
    write("hello.camel.yaml", HELLO.formatted("hello", "mended"));
    awaitHello("mended");
    awaitStatus("/readyz", 200);
  }

  @Test
  void overrideThatIsBrokenFromTheStartLeavesTheShippedOne() throws Exception {
    write("ingest-http.camel.yaml", "# no route\n" + shipped("ingest-http").replace("to-ingest-http-telemetry", "{{no.such.key}}"));
    String why = awaitDown("route:ingest-http");
    assertTrue(why.contains("ingest-http.camel.yaml") && why.contains("no.such.key"), why);
    assertEquals(202, gateway.post("/ingest/hot-2", "application/json", "{\"schema_version\":1,\"metrics\":{\"t\":1}}".getBytes()).statusCode());
  }

  @Test
  void routeMayBeXml() throws Exception {
    write("admin.camel.xml", """
        <routes xmlns="http://camel.apache.org/schema/xml-io">
          <route id="admin"><from uri="platform-http:/readyz"/><removeHeaders pattern="*"/><bean ref="health" method="ready"/></route>
          <route id="admin-hello">
            <from uri="platform-http:/hello"/>
            <removeHeaders pattern="*"/>
            <setBody><constant>in XML</constant></setBody>
          </route>
        </routes>
        """);
    awaitHello("in XML");
    awaitStatus("/version", 404);
    awaitStatus("/readyz", 200);
    Files.delete(deploy.resolve("admin.camel.xml"));
    awaitStatus("/version", 200);
  }

  @Test
  void ownRouteHasOwnKeys() throws Exception {
    Path cfg = gateway.home.resolve("etc/io.caravan.user.cfg");
    try {
      Files.writeString(cfg, "user.greeting = good morning\n");
      write("hello.camel.yaml", HELLO.formatted("hello", "\"{{user.greeting}}\""));
      awaitHello("good morning");
      Files.writeString(cfg, "user.greeting = good night\n");
      awaitHello("good night");
    } finally {
      Files.delete(deploy.resolve("hello.camel.yaml"));
      awaitStatus("/hello", 404);
      Files.delete(cfg);
    }
  }

  @Test
  void routeIdOfAnotherFileIsRefused() throws Exception {
    write("hello.camel.yaml", HELLO.formatted("rollup-emit", "stolen"));
    String why = awaitDown("route:hello");
    assertTrue(why.contains("hello.camel.yaml") && why.contains("rollup-emit") && why.contains("rollup.camel.yaml"), why);
    assertEquals(404, gateway.status("/hello"));
  }

  @Test
  void changedKeyTakesEffectWithoutRestartAndAWrongOneLeavesTheOld() throws Exception {
    Path cfg = gateway.home.resolve("etc/io.caravan.rollup.cfg");
    try (Device device = Device.connect("hot-3", MQTT_PORT)) {
      AtomicLong seq = new AtomicLong();
      awaitWindows(device, seq, 60_000);
      Files.writeString(cfg, "rollup.window.ms = 2000\n");
      awaitWindows(device, seq, 2_000);
      Files.writeString(cfg, "rollup.window.ms = 5\nrollup.windw.ms = 3000\n");
      String why = awaitDown("config");
      assertTrue(why.contains("rollup.window.ms [5] must") && why.contains("io.caravan.rollup.cfg")
          && why.contains("rollup.windw.ms") && why.contains("did you mean rollup.window.ms"), why);
      assertEquals(Mqtt5PubAckReasonCode.SUCCESS, device.publish("telemetry", next(seq)));
      Files.writeString(cfg, "rollup.window.ms = 3000\n");
      awaitWindows(device, seq, 3_000);
      awaitStatus("/readyz", 200);
    } finally {
      Files.deleteIfExists(cfg);
    }
    assertEquals(List.of(), Store.rows(db, "SELECT width_ms FROM rollup_window WHERE width_ms NOT IN (60000, 2000, 3000)"));
  }

  @Test
  void mistakesInTheConfigurationEndTheStartAndAreAllNamed() throws Exception {
    try (Distribution wrong = Distribution.unpack("gateway", "hot-wrong")) {
      Files.writeString(wrong.home.resolve("etc/io.caravan.rollup.cfg"), "rollup.windw.ms = 1000\n");
      wrong.with("wal.commit.max", "many").withEnvironment("CARAVAN_MQTT_SERVER_PROT", "1883");
      assertEquals(EX_CONFIG, wrong.start().awaitExit(), wrong::console);
      for (String said : List.of("[rollup.windw.ms]", "etc/io.caravan.rollup.cfg", "did you mean rollup.window.ms?", "wal.commit.max [many] must",
          "--wal.commit.max", "CARAVAN_MQTT_SERVER_PROT", "did you mean CARAVAN_MQTT_SERVER_PORT?")) {
        assertTrue(wrong.console().contains(said), () -> "the console must say [" + said + "]:\n" + wrong.console());
      }
    }
  }

  @Test
  void portThatIsTakenEndsTheStartAndIsNamed() throws Exception {
    try (ServerSocket holder = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
        Distribution second = Distribution.unpack("gateway", "hot-port")) {
      second.with("http.port", holder.getLocalPort());
      assertEquals(EX_CONFIG, second.start().awaitExit(), second::console);
      String said = "http.port [" + holder.getLocalPort() + "]";
      assertTrue(second.console().contains(said) && second.console().contains("--http.port"), () -> "the console must say " + said + ":\n" + second.console());
    }
  }

  private static String shipped(String stem) throws IOException {
    return Files.readString(Distribution.REPO.resolve("routes/gateway/" + stem + ".camel.yaml"));
  }

  /** As an editor saves: a new file in place of the old one. */
  private static void write(String name, String text) throws IOException {
    Path saved = Files.writeString(gateway.home.resolve(name + ".saved"), text);
    Files.move(saved, deploy.resolve(name), StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
  }

  private static void awaitHello(String text) {
    await("/hello says " + text).atMost(LIVE).ignoreExceptions().until(() -> gateway.get("/hello").body(), text::equals);
  }

  /** The device notices nothing of the change: same connection, every message acknowledged. */
  private static void awaitHello(String text, Device device, AtomicLong seq) {
    await("/hello says " + text).atMost(LIVE).until(() -> {
      assertEquals(Mqtt5PubAckReasonCode.SUCCESS, device.publish("telemetry", next(seq)));
      return text.equals(gateway.get("/hello").body());
    });
  }

  private static void awaitStatus(String path, int status) {
    await(path + " is " + status).atMost(LIVE).until(() -> gateway.status(path), s -> s == status);
  }

  private static String awaitDown(String check) {
    return await(check + " is DOWN").atMost(LIVE).until(() -> gateway.down(check), w -> w != null);
  }

  private static void awaitWindows(Device device, AtomicLong seq, long widthMs) {
    await("windows of " + widthMs + " ms").atMost(LIVE).until(() -> {
      assertEquals(Mqtt5PubAckReasonCode.SUCCESS, device.publish("telemetry", next(seq)));
      return Store.number(db, "SELECT count(*) FROM rollup_window WHERE device_id = 'hot-3' AND width_ms = " + widthMs) > 0;
    });
  }

  private static String next(AtomicLong seq) {
    return "{\"schema_version\":1,\"boot_id\":\"b1\",\"device_seq\":" + seq.incrementAndGet() + ",\"metrics\":{\"t\":1}}";
  }
}
