// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.devices.Devices.NewDevice;
import io.caravan.mqtt.server.Authenticator;
import io.caravan.mqtt.server.internal.Listener;
import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.health.HealthCheck;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.impl.DefaultCamelContext;
import org.apache.camel.impl.health.DefaultHealthCheckRegistry;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The module in a CamelContext with a real listener: who is let in over the wire, and how soon a change cuts a connection. */
class DevicesModuleTest {
  private static final int READ_TIMEOUT_MS = 20_000;
  private static final int ROUNDS = 50;

  @TempDir
  Path folder;
  private final DefaultCamelContext context = new DefaultCamelContext();
  private final SimpleMeterRegistry meters = new SimpleMeterRegistry();
  private final List<String> audited = new CopyOnWriteArrayList<>();
  private final Settings settings = new Settings();
  private AutoCloseable module;
  private int port;

  @BeforeEach
  void start() throws Exception {
    settings.values.put("device.registry.file", folder.resolve("registry.db").toString());
    context.getCamelContextExtension().addContextPlugin(HealthCheckRegistry.class, new DefaultHealthCheckRegistry());
    context.getRegistry().bind("metricsRegistry", meters);
    Audit audit = (action, subject, outcome, details) -> audited.add(action + " " + subject + " " + outcome);
    context.getRegistry().bind("audit", Audit.class, audit);
    context.start();
    module = new DevicesModule().start(context, settings);
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        from("mqtt-server:devices?port=0&authenticator=#deviceAuthenticator").routeId("in").setBody(constant("ok"));
      }
    });
    port = ((Listener) context.getRoute("in").getConsumer()).actualPort();
  }

  @AfterEach
  void stop() throws Exception {
    context.stop();
    module.close();
  }

  private Devices devices() {
    return context.getRegistry().lookupByNameAndType("devices", Devices.class);
  }

  private String enrol(String id) throws IOException {
    return devices().add(new NewDevice(id, null, null, null, null, null, null, null, null)).token();
  }

  @Test
  void aRevocationCutsLiveConnectionsAtOnce() throws Exception {
    long[] nanos = new long[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
      String id = "dev-" + round;
      String token = enrol(id);
      String bystander = enrol("other-" + round);
      try (Board one = new Board("a" + round, id, token); Board two = new Board("b" + round, id, token); Board other = new Board("c" + round, "other-" + round, bystander)) {
        assertEquals(0, one.answer);
        assertEquals(0, two.answer);
        long before = System.nanoTime();
        devices().revoke(id);
        one.awaitEnd();
        two.awaitEnd();
        nanos[round] = System.nanoTime() - before;
        other.ping();
      }
    }
    Arrays.sort(nanos);
    System.out.printf("revoke() until two connections are cut, %d times: median %.1f ms, largest %.1f ms%n", ROUNDS, nanos[ROUNDS / 2] / 1e6, nanos[ROUNDS - 1] / 1e6);
    assertTrue(audited.contains("device.revoke dev-0 ok"));
  }

  @Test
  void everyOtherRestrictionCutsToo() throws Exception {
    String token = enrol("dev-1");
    try (Board board = new Board("a", "dev-1", token)) {
      devices().allow("dev-1", List.of("127.0.0.0/8"));
      board.ping();
      devices().allow("dev-1", List.of("10.0.0.0/8"));
      board.awaitEnd();
    }
    assertEquals(5, new Board("a", "dev-1", token).answer);
    devices().allow("dev-1", List.of());
    String next;
    try (Board board = new Board("a", "dev-1", token)) {
      next = devices().rotate("dev-1", 600_000, null).token();
      board.ping();
      devices().rotate("dev-1", 600_000, null);
      board.awaitEnd();
    }
    try (Board board = new Board("a", "dev-1", next)) {
      devices().remove("dev-1");
      board.awaitEnd();
    }
  }

  @Test
  void expiryEndsAConnection() throws Exception {
    String token = devices().add(new NewDevice("dev-1", null, null, null, null, null, null, null, System.currentTimeMillis() + 1_500)).token();
    try (Board board = new Board("a", "dev-1", token)) {
      assertEquals(0, board.answer);
      board.awaitEnd();
    }
    assertEquals(5, new Board("a", "dev-1", token).answer);
  }

  @Test
  void openIsShutAgainForWhoCameIn() throws Exception {
    settings.change("device.access", "open");
    assertTrue(health().getMessage().orElse("").contains("device.access=open"));
    try (Board board = new Board("a", "anybody", null)) {
      assertEquals(0, board.answer);
      settings.change("device.access", "registry");
      board.awaitEnd();
    }
    assertEquals(5, new Board("a", "anybody", null).answer);
  }

  @Test
  void guessingIsLockedOutAndAudited() throws Exception {
    String token = enrol("dev-1");
    settings.change("device.lock.failures", "3");
    for (int i = 0; i < 3; i++) {
      assertEquals(5, new Board("a", "dev-1", "guess").answer);
    }
    assertEquals(3, new Board("a", "dev-1", token).answer, "server unavailable, as 3.1.1 has no better word");
    await(() -> audited.contains("device.lockout dev-1 locked"));
    assertEquals(3, meters.get("caravan.auth.total").tag("transport", "mqtt").tag("outcome", "wrong_token").counter().count());
    assertEquals(1, meters.get("caravan.auth.total").tag("transport", "mqtt").tag("outcome", "locked_out").counter().count());
    assertEquals(1, meters.get("caravan.auth.locked").gauge().value());
    assertEquals(1, meters.get("caravan.devices").tag("status", "active").gauge().value());
    settings.change("device.lock.failures", "0");
    settings.change("device.lock.ms", "1");
    await(() -> {
      try (Board board = new Board("a", "dev-1", token)) {
        return board.answer == 0;
      }
    });
  }

  @Test
  void withoutTheRegistryNobodyIsLetIn() throws Exception {
    enrol("dev-1");
    Path file = folder.resolve("registry.db");
    await(() -> Files.exists(folder.resolve("registry.db.bak")));
    context.getRouteController().stopRoute("in");
    module.close();
    module = () -> { };
    assertNull(context.getRegistry().lookupByName("deviceAuthenticator"));
    Files.writeString(file, "no database, only text; long enough that it cannot be taken for an empty one");
    String message = assertThrows(IOException.class, () -> new DevicesModule().start(context, settings)).getMessage();
    assertTrue(message.contains("no device may connect") && message.contains("cp -p"), message);
    for (String bean : List.of("devices", "gate", "deviceAuthenticator", "httpAccess", "signatures")) {
      assertNull(context.getRegistry().lookupByName(bean), bean);
    }
    assertThrows(Exception.class, () -> context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        from("mqtt-server:again?port=0&authenticator=#deviceAuthenticator").routeId("again").setBody(constant("ok"));
      }
    }), "a listener without its authenticator");
    Files.delete(file);
    Files.move(folder.resolve("registry.db.bak"), file);
    module = new DevicesModule().start(context, settings);
    assertEquals(1, devices().list().size());
    assertNotNull(context.getRegistry().lookupByNameAndType("deviceAuthenticator", Authenticator.class));
  }

  @Test
  void noAuditNoRegistry() throws Exception {
    module.close();
    module = () -> { };
    context.getRegistry().unbind("audit");
    assertTrue(assertThrows(IllegalStateException.class, () -> new DevicesModule().start(context, settings)).getMessage().contains("[audit]"));
    assertNull(context.getRegistry().lookupByName("devices"));
  }

  private HealthCheck.Result health() {
    return HealthCheckRegistry.get(context).getCheck("devices").orElseThrow().call();
  }

  private interface Condition {
    boolean holds() throws Exception;
  }

  private static void await(Condition condition) throws Exception {
    long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(READ_TIMEOUT_MS);
    while (!condition.holds()) {
      assertTrue(System.nanoTime() < deadline, "not in time");
      TimeUnit.MILLISECONDS.sleep(5);
    }
  }

  /** MQTT 3.1.1, as far as a board needs it that only connects. */
  private final class Board implements AutoCloseable {
    final Socket socket;
    final DataInputStream in;
    final int answer;

    Board(String clientId, String user, String password) throws IOException {
      socket = new Socket("127.0.0.1", port);
      socket.setSoTimeout(READ_TIMEOUT_MS);
      in = new DataInputStream(socket.getInputStream());
      ByteArrayOutputStream bytes = new ByteArrayOutputStream();
      DataOutputStream packet = new DataOutputStream(bytes);
      text(packet, "MQTT");
      packet.write(new byte[] {4, (byte) (2 | 0x80 | (password == null ? 0 : 0x40)), 0, 0});
      text(packet, clientId);
      text(packet, user);
      if (password != null) {
        text(packet, password);
      }
      socket.getOutputStream().write(new byte[] {0x10, (byte) bytes.size()});
      socket.getOutputStream().write(bytes.toByteArray());
      byte[] connack = new byte[4];
      in.readFully(connack);
      answer = connack[3];
      if (answer == 0) {
        ping();
      }
    }

    private void text(DataOutputStream packet, String text) throws IOException {
      packet.writeShort(text.length());
      packet.write(text.getBytes(UTF_8));
    }

    void ping() throws IOException {
      socket.getOutputStream().write(new byte[] {(byte) 0xC0, 0});
      byte[] answered = new byte[2];
      in.readFully(answered);
      assertEquals((byte) 0xD0, answered[0]);
    }

    void awaitEnd() throws IOException {
      try {
        assertEquals(-1, in.read());
      } catch (java.net.SocketException reset) {
        // As good an end.
      }
    }

    @Override
    public void close() throws IOException {
      socket.close();
    }
  }

  private static final class Settings implements Config {
    final Map<String, String> values = new ConcurrentHashMap<>(Map.of("device.access", "registry", "device.lock.failures", "10", "device.lock.address.failures", "100",
        "device.lock.ms", "60000", "device.messages.per.s", "1000", "device.bytes.per.s", "1048576", "device.signature.window", "10000", "http.requests.per.s", "0",
        "http.trusted.proxies", ""));
    final List<Consumer<Set<String>>> listeners = new CopyOnWriteArrayList<>();

    void change(String key, String value) {
      values.put(key, value);
      listeners.forEach(l -> l.accept(Set.of(key)));
    }

    @Override
    public String get(String key) {
      String value = values.get(key);
      if (value == null) {
        throw new IllegalArgumentException("key [" + key + "] is not declared");
      }
      return value;
    }

    @Override
    public long getLong(String key) {
      return Long.parseLong(get(key));
    }

    @Override
    public boolean getBoolean(String key) {
      return Boolean.parseBoolean(get(key));
    }

    @Override
    public Path getPath(String key) {
      return Path.of(get(key));
    }

    @Override
    public List<String> getList(String key) {
      return get(key).isEmpty() ? List.of() : List.of(get(key).split(","));
    }

    @Override
    public AutoCloseable onChange(Consumer<Set<String>> listener) {
      listeners.add(listener);
      return () -> listeners.remove(listener);
    }
  }
}
