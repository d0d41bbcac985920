// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import com.hivemq.client.mqtt.mqtt5.message.publish.puback.Mqtt5PubAckReasonCode;
import io.caravan.bench.Oracle;
import io.caravan.bench.Verdict;
import io.caravan.bench.Verdict.Fault;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketException;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** What surrounds the gateway is away, full, or hostile; nobody helps it but by mending that. */
class FaultIT {
  @RegisterExtension
  static final KeptEvidence KEPT = new KeptEvidence("fault-");

  private static final Duration MENDED = Duration.ofSeconds(60);
  private static final Duration DRAIN = Duration.ofSeconds(90);
  private static final int MIB = 1 << 20;
  private static final byte[] GOOD = "{\"schema_version\":1,\"metrics\":{\"t\":1}}".getBytes(StandardCharsets.UTF_8);

  @Test
  void cloudThatComesLaterGetsEverythingOnce() throws Exception {
    try (Pair pair = new Pair("fault-cloud")) {
      pair.gateway.start().awaitReady();
      try (Load load = new Load(pair.folder, pair.mqttPort).devices().numbered()) {
        load.awaitProgress(5_000);
        pair.cloud.start().awaitReady();
        load.awaitProgress(1_000);
        Verdict verdict = load.finish().evidence(Oracle.of(pair.gatewayDb, pair.cloudDb)).waiting(DRAIN).judge();
        System.out.printf("fault cloud later%n%s", verdict);
        assertTrue(verdict.ok(), verdict::toString);
      }
    }
  }

  @Test
  void brokerThatComesLaterIsFound() throws Exception {
    try (Pair pair = new Pair("fault-broker").viaBroker(); Mosquitto broker = new Mosquitto(pair.folder.resolve("mosquitto"), pair.brokerPort)) {
      pair.cloud.start();
      pair.gateway.start().awaitLive();
      // What it can do without the broker, it does.
      await("HTTP ingest").atMost(MENDED).until(() -> pair.gateway.post("/ingest/fault-http", "application/json", GOOD).statusCode() == 202);
      String why = await("mqtt is DOWN").atMost(MENDED).until(() -> pair.gateway.down("mqtt"), w -> w != null);
      assertTrue(why.contains("127.0.0.1:" + broker.port), why);
      broker.start();
      pair.gateway.awaitReady();
      pair.cloud.awaitReady();
      try (Load load = new Load(pair.folder, broker.port).devices("--require-receipts", "--receipt-timeout", "3s")) {
        await("messages by the broker").atMost(MENDED).until(() -> Store.number(pair.gatewayDb, "SELECT count(*) FROM wal") > 300);
        // A topic that is nobody's gets past the broker, and no further than `rejected`.
        try (Device device = Device.connect("stray", broker.port)) {
          assertEquals(Mqtt5PubAckReasonCode.SUCCESS, device.publish(Mqtt5Publish.builder().topic("devices/a..b/telemetry")
              .qos(MqttQos.AT_LEAST_ONCE).payload(GOOD).build()));
        }
        await("rejected").atMost(MENDED).until(() -> Store.number(pair.gatewayDb,
            "SELECT count(*) FROM rejected WHERE source = 'mqtt' AND reason = 'bad_device_id' AND topic = 'devices/a..b/telemetry'") == 1);
        Verdict verdict = load.finish().evidence(Oracle.of(pair.gatewayDb, pair.cloudDb)).waiting(DRAIN).judge();
        for (Fault fault : Fault.values()) {
          // The two messages that are not the load's: the oracle knows nothing of who sent them.
          assertEquals(fault == Fault.INVENTED || fault == Fault.REFUSED ? 1 : 0, verdict.faults(fault), verdict::toString);
        }
      }
    }
  }

  @Test
  void storeThatCannotBeMadeIsNamedAndUsedWhenItCan() throws Exception {
    try (Distribution gateway = Distribution.unpack("gateway", "fault-store")) {
      int port = Ports.free();
      Path blocked = Files.writeString(gateway.home.resolve("blocked"), "a file where the directory should be");
      Path db = blocked.resolve("gateway.db");
      gateway.with("wal.path", db).with("mqtt.server.port", port).with("uplink.enabled", false).start().awaitLive();

      String why = await("module:wal is DOWN").atMost(MENDED).until(() -> gateway.down("module:wal"), w -> w != null);
      assertTrue(why.contains(db.toString()) && why.contains("wal.path"), why);
      assertEquals(503, gateway.status("/readyz"));
      // HTTP is asked to come again.
      await("HTTP 503").atMost(MENDED).until(() -> gateway.post("/ingest/fault-1", "application/json", GOOD), a -> a.statusCode() == 503
          && a.headers().firstValue("Retry-After").isPresent());
      // An MQTT device is either not let in, or gets no PUBACK.
      CompletableFuture<Mqtt5PubAckReasonCode> waiting = CompletableFuture.supplyAsync(() -> publishUntilAcked("fault-2", port));

      Files.delete(blocked);
      gateway.awaitReady();
      assertEquals(202, gateway.post("/ingest/fault-1", "application/json", GOOD).statusCode());
      assertEquals(Mqtt5PubAckReasonCode.SUCCESS, waiting.get(MENDED.toSeconds(), TimeUnit.SECONDS));
      assertEquals(List.of("fault-1", "fault-2"), Store.rows(db, "SELECT device_id FROM wal ORDER BY device_id"));
    }
  }

  /** A device without knowledge of what happens: it connects and sends until it gets an answer. */
  private static Mqtt5PubAckReasonCode publishUntilAcked(String deviceId, int port) {
    return await().atMost(MENDED).pollInterval(Duration.ofMillis(500)).ignoreExceptions().until(() -> {
      try (Device device = Device.connect(deviceId, port)) {
        return device.publish("telemetry", "{\"schema_version\":1,\"boot_id\":\"b1\",\"device_seq\":1,\"metrics\":{\"t\":1}}");
      }
    }, code -> code != null);
  }

  @Test
  void fullDiskRefusesKeepsWhatWasAckedAndRecoversUnaided() throws Exception {
    try (Distribution gateway = Distribution.unpack("gateway", "fault-disk"); Tmpfs disk = new Tmpfs(gateway.home.resolve("disk"), 24 * MIB)) {
      int port = Ports.free();
      Path db = disk.folder.resolve("store/gateway.db");
      Path ballast = disk.folder.resolve("ballast");
      gateway.with("wal.path", db).with("wal.checkpoint.bytes", MIB).with("mqtt.server.port", port).with("uplink.enabled", false)
          .start().awaitReady();
      try (Load load = new Load(gateway.home.resolve("disk").getParent(), port).devices().numbered()) {
        load.awaitProgress(1_000);
        // To the last byte, again and again: a group that was refused may fit in smaller parts.
        String why = await("wal is DOWN").atMost(MENDED).until(() -> {
          disk.fill(ballast);
          String down = gateway.down("wal");
          return disk.usable() == 0 ? down : null;
        }, w -> w != null);
        assertTrue(why.contains(db.toString()) && why.contains("free space"), why);
        assertEquals(503, gateway.status("/readyz"));
        assertTrue(gateway.get("/metrics").body().lines().anyMatch(l -> l.startsWith("caravan_wal_state 2")), "state REFUSING in /metrics");
        HttpResponse<String> answer = gateway.post("/ingest/fault-3", "application/json", GOOD);
        assertEquals(503, answer.statusCode(), answer::body);
        assertTrue(answer.headers().firstValue("Retry-After").isPresent());
        assertEquals(200, gateway.status("/healthz"), "a restart would not help");

        Files.delete(ballast);
        gateway.awaitReady();
        load.awaitProgress(1_000);
        Verdict verdict = load.finish().evidence(Oracle.of(db, null)).judge();
        System.out.printf("fault disk full%n%s", verdict);
        assertTrue(verdict.ok(), verdict::toString);
      }
      assertEquals(0, gateway.stop(), gateway::console);
    }
  }

  @Test
  void hostileInputDisturbsNobodyElse() throws Exception {
    try (Distribution gateway = Distribution.unpack("gateway", "fault-hostile")) {
      int port = Ports.free();
      Path db = gateway.home.resolve("data/caravan/gateway.db");
      gateway.with("mqtt.server.port", port).with("uplink.enabled", false).start().awaitReady();
      try (Load load = new Load(gateway.home, port).numbered()) {
        load.awaitProgress(100);
        int keptBodies = 0;

        assertEquals(413, statusOrCut(gateway, new byte[10 * MIB]));
        load.awaitProgress(100);
        for (String deep : List.of("[".repeat(10_000) + "]".repeat(10_000), "{\"a\":".repeat(10_000))) {
          assertEquals(400, gateway.post("/ingest/hostile", "application/json", deep.getBytes(StandardCharsets.US_ASCII)).statusCode());
          keptBodies++;
        }
        load.awaitProgress(100);
        for (byte[] packets : hostilePackets()) {
          send(port, packets);
          load.awaitProgress(100);
        }
        // Connections that never say anything.
        List<Socket> silent = new ArrayList<>();
        try {
          for (int i = 0; i < 200; i++) {
            silent.add(connect(port));
          }
          load.awaitProgress(1_000);
        } finally {
          for (Socket s : silent) {
            s.close();
          }
        }

        Verdict verdict = load.finish().evidence(Oracle.of(db, null)).judge();
        for (Fault fault : Fault.values()) {
          // What the hostile one sent is unknown to the oracle: it takes it for good messages that were refused.
          assertEquals(fault == Fault.REFUSED ? keptBodies : 0, verdict.faults(fault), verdict::toString);
        }
        assertEquals(List.of("too_deep," + keptBodies), Store.rows(db, "SELECT reason, count(*) FROM rejected GROUP BY 1 ORDER BY 1"));
      }
      assertEquals(200, gateway.status("/readyz"));
      assertNull(gateway.down("route:ingest-direct"));
      assertEquals(0, gateway.stop(), gateway::console);
      assertEquals(List.of(), gateway.errors());
    }
  }

  /** 413, however the server says it: it may close while the client still writes. */
  private static int statusOrCut(Distribution gateway, byte[] body) {
    try {
      return gateway.post("/ingest/hostile", "application/json", body).statusCode();
    } catch (IOException cut) {
      return 413;
    }
  }

  private static List<byte[]> hostilePackets() {
    HexFormat hex = HexFormat.of();
    // MQTT 5, clean start, client id "h".
    String connect = "100e00044d51545405020000000000" + "0168";
    List<byte[]> all = new ArrayList<>();
    Random random = new Random(7);
    for (int i = 0; i < 5; i++) {
      byte[] garbage = new byte[1 + random.nextInt(20_000)];
      random.nextBytes(garbage);
      all.add(garbage);
    }
    all.add("GET / HTTP/1.1\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
    all.add(hex.parseHex(connect.substring(0, 12)));                       // ends within CONNECT
    all.add(hex.parseHex("10ffffffff7f"));                                 // a length of five bytes
    all.add(hex.parseHex(connect + "32ffffff7f" + "0001"));                // PUBLISH of 256 MB, of which two bytes come
    all.add(hex.parseHex(connect + "3206" + "ffff" + "00000000"));         // topic longer than the packet
    all.add(hex.parseHex(connect + "3609" + "0003" + "612f62" + "0001" + "00" + "78")); // QoS 3
    all.add(hex.parseHex(connect + "3208" + "0003" + "ff2fc3" + "0001" + "00")); // topic that is no UTF-8
    all.add(hex.parseHex(connect + "8206" + "0001" + "00" + "000123"));    // SUBSCRIBE that ends too early
    all.add(hex.parseHex(connect + connect));                              // CONNECT twice
    all.add(hex.parseHex("3205" + "000161" + "0001"));                     // PUBLISH before CONNECT
    return all;
  }

  private static void send(int port, byte[] bytes) throws IOException {
    try (Socket socket = connect(port)) {
      socket.getOutputStream().write(bytes);
      socket.shutdownOutput();
      socket.getInputStream().readAllBytes();
    } catch (SocketException reset) {
      // also an answer
    }
  }

  private static Socket connect(int port) throws IOException {
    Socket socket = new Socket();
    socket.setSoTimeout((int) MENDED.toMillis());
    socket.connect(new InetSocketAddress("127.0.0.1", port), 5_000);
    return socket;
  }

  /** A small disk of its own. */
  private static final class Tmpfs implements AutoCloseable {
    final Path folder;

    Tmpfs(Path folder, int bytes) throws IOException {
      this.folder = Files.createDirectories(folder);
      run("mount", "-t", "tmpfs", "-o", "size=" + bytes, "caravan-it", folder.toString());
    }

    long usable() throws IOException {
      return Files.getFileStore(folder).getUsableSpace();
    }

    /** Lets a file grow until nothing is left. */
    void fill(Path file) throws IOException {
      byte[] some = new byte[4096];
      try (OutputStream out = Files.newOutputStream(file, StandardOpenOption.CREATE, StandardOpenOption.APPEND)) {
        while (usable() > 0) {
          out.write(some);
        }
      } catch (IOException full) {
        // as intended: somebody else took the last block
      }
    }

    private void run(String... command) {
      Child child = Child.start(command[0], List.of(command), Map.of(), folder.getParent(), folder.resolveSibling("mount.log"));
      if (child.awaitExit(Duration.ofSeconds(20)) != 0) {
        throw new AssertionError(command[0] + " failed: the test of a full disk needs a small one and must be run as root"
            + " with CAP_SYS_ADMIN (docker run --privileged): " + child.output());
      }
    }

    @Override
    public void close() {
      // Lazily: a process that was killed may hold it for a moment.
      run("umount", "-l", folder.toString());
    }
  }
}
