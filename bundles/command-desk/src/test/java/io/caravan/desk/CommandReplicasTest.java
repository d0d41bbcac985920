// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import io.caravan.postgres.test.PostgresServer;
import java.io.BufferedReader;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.ServerSocket;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Two replicas over one PostgreSQL, with real uplinks: a phone at the one, the gateway at the other, over HTTP, TLS and WebSocket;
 * gateways that move, and replicas that are taken for dead.
 */
@Timeout(180)
class CommandReplicasTest {
  private static final String LIFE = String.join(" ", Gateway.LIFE);
  /** What lets two sessions of one gateway write: the transaction neither takes nor looks at the gateway's row. */
  private static final Map<String, String> NO_FENCE = Map.of(
      "WHERE gateway_id = :#${variable.gatewayId} AND session_id = :#${variable.sessionId}\n        - filter:", "WHERE false\n        - filter:",
      "method: fenced", "method: backlog");
  private static final String ADVANCE = "        - to:\n            id: to-inbox-advance\n";
  /** A step that waits for lock 77 of the test. */
  private static final String HANG = "        - to:\n            id: to-hang\n            uri: sql\n            parameters:\n              dataSource: \"#writer\"\n"
      + "              outputType: SelectOne\n              query: SELECT 1 FROM (SELECT pg_advisory_xact_lock(77)) n\n";

  @TempDir
  Path dir;

  private String[] settings(int port) {
    return new String[] {"uplink.port", String.valueOf(port), "uplink.tls.cert", dir.resolve("cloud.pem").toString(), "uplink.tls.key",
        dir.resolve("cloud.key").toString(), "uplink.gateways.file", dir.resolve("gateways").toString(), "uplink.handshake.per.s", "0",
        "uplink.handshake.address.per.s", "0", "replica.heartbeat.ms", "100", "replica.timeout.ms", "10000"};
  }

  private static int free() throws Exception {
    try (ServerSocket socket = new ServerSocket(0)) {
      return socket.getLocalPort();
    }
  }

  @BeforeEach
  void database() throws Exception {
    Cloud.postgres = PostgresServer.shared().database();
    Process openssl = new ProcessBuilder("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
        "/CN=localhost", "-keyout", "cloud.key", "-out", "cloud.pem").directory(dir.toFile()).redirectErrorStream(true)
        .redirectOutput(dir.resolve("openssl.log").toFile()).start();
    assertEquals(true, openssl.waitFor(60, TimeUnit.SECONDS));
    Files.writeString(dir.resolve("gateways"), "gw-1 = sha256:" + HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest("t0ken".getBytes())) + "\n");
  }

  @AfterEach
  void none() {
    Cloud.postgres = null;
  }

  @Test
  void aCommandReachesItsGatewayThroughWhicheverReplicaHoldsIt() throws Exception {
    int portOne = free();
    int portTwo = free();
    Gateway gateway = new Gateway("gw-1");
    try (Cloud one = Cloud.start(dir.resolve("one"), settings(portOne)); Cloud two = one.replica(dir.resolve("two"), settings(portTwo))) {
      gateway.connect(portTwo);
      await().until(() -> one.one("SELECT count(*) FROM gateway WHERE session_id IS NOT NULL").equals("1"));
      HttpResponse<InputStream> stream = Cloud.HTTP.send(one.request("GET", "/api/v1/commands/stream?gateway_id=gw-1", null),
          HttpResponse.BodyHandlers.ofInputStream());
      try (BufferedReader lines = new BufferedReader(new InputStreamReader(stream.body(), StandardCharsets.UTF_8))) {
        List<String> ids = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
          ids.add("c" + i);
          (i % 2 == 0 ? one : two).json(202, "POST", "/api/v1/devices/gw-1/lock-1/commands", "{\"id\":\"c" + i + "\",\"name\":\"unlock\"}");
        }
        assertEquals("ACCEPTED " + LIFE, told(lines, "c0"), "phone and stream at one, gateway at two");
        // The gateway's connection moves to the other replica.
        gateway.abort();
        gateway.connect(portOne);
        ids.add("d0");
        two.json(202, "POST", "/api/v1/devices/gw-1/lock-1/commands", "{\"id\":\"d0\",\"name\":\"unlock\"}");
        assertEquals("ACCEPTED " + LIFE, told(lines, "d0"));
        await().atMost(30, TimeUnit.SECONDS).until(() -> one.one("SELECT count(*) FROM command WHERE status = 'SUCCEEDED'").equals("21"));
        assertEquals(ids.stream().sorted().toList(), gateway.executed().stream().sorted().toList(), "each once");
      }
    }
  }

  @Test
  void theNewestSessionOfAGatewayWinsWhicheverReplicaHasIt() throws Exception {
    int portOne = free();
    int portTwo = free();
    try (Cloud one = Cloud.start(dir.resolve("one"), settings(portOne)); Cloud two = one.replica(dir.resolve("two"), settings(portTwo))) {
      Gateway before = new Gateway("gw-1");
      before.connect(portOne);
      before.batch("telemetry", 3);
      before.acked();
      Gateway after = before.again();
      after.connect(portTwo);
      // The older connection is alive and well at the other replica, which has not heard of it.
      before.batch("telemetry", 2);
      assertEquals("replaced", before.refused());
      after.batch("telemetry", 2);
      after.acked();
      assertEquals("5", one.one("SELECT acked_seq FROM gateway_range"));
      assertEquals(List.of("1"), two.rows("SELECT count(*) FROM gateway g JOIN replica p ON p.replica_id = g.replica_id AND p.address LIKE '%:" + portTwo + "'"));
    }
  }

  @Test
  void aReplicaThatWasTakenForDeadEndsItsSessionsAndGoesOnUnderANewId() throws Exception {
    int port = free();
    try (Cloud cloud = Cloud.start(dir.resolve("one"), settings(port))) {
      Gateway gateway = new Gateway("gw-1");
      gateway.connect(port);
      String id = cloud.one("SELECT replica_id FROM gateway");
      assertEquals(List.of(id), cloud.rows(LIVING));
      // As if it had been frozen for longer than its lease.
      cloud.execute("UPDATE replica SET until_ms = 0");
      assertEquals("not_current", gateway.refused());
      await().until(() -> cloud.rows("SELECT replica_id FROM replica WHERE until_ms > 0").size() == 1);
      assertNotEquals(id, cloud.one("SELECT replica_id FROM replica WHERE until_ms > 0"));
      assertEquals(List.of(), cloud.rows(LIVING), "not connected, although nobody wrote so");
      Gateway again = gateway.again();
      again.connect(port);
      again.batch("telemetry", 1);
      again.acked();
      assertEquals(1, cloud.rows(LIVING).size());
    }
  }

  private static final String LIVING = "SELECT g.replica_id FROM gateway g JOIN replica p ON p.replica_id = g.replica_id"
      + " AND p.until_ms > CAST(extract(epoch FROM now()) * 1000 AS BIGINT)";

  @Test
  void aTransactionThatHangsIsNotOvertakenByTheNextSession() throws Exception {
    assertEquals(3, storedWhenATransactionHangs(Map.of()));
  }

  /** Negative control: the same without the fence stores the rows twice. */
  @Test
  void aTransactionThatHangsIsOvertakenWithoutTheFence() throws Exception {
    assertEquals(6, storedWhenATransactionHangs(NO_FENCE));
  }

  /** Replica one hangs after it has read how far the gateway is; the gateway goes to the other one and sends the same again. */
  private long storedWhenATransactionHangs(Map<String, String> edits) throws Exception {
    int portOne = free();
    int portTwo = free();
    Map<String, String> hangs = new HashMap<>(edits);
    hangs.put(ADVANCE, HANG + ADVANCE);
    try (Cloud two = Cloud.start(dir.resolve("two"), null, edits, settings(portTwo));
        Cloud one = two.replica(dir.resolve("one"), hangs, settings(portOne));
        Connection hold = Cloud.postgres.connect(); Statement lock = hold.createStatement()) {
      lock.execute("SELECT pg_advisory_lock(77)");
      Gateway before = new Gateway("gw-1");
      before.connect(portOne);
      before.batch("telemetry", 3);
      await().until(() -> two.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted").equals("1"));
      Gateway after = before.again();
      CompletableFuture<Void> moved = CompletableFuture.runAsync(() -> {
        try {
          after.connect(portTwo);
          after.acked();
        } catch (Exception e) {
          throw new IllegalStateException(e);
        }
      });
      if (edits.isEmpty()) {
        await("its hello waits").until(() -> two.one("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')").equals("1"));
      } else {
        moved.get(60, TimeUnit.SECONDS);
        // Applied, and gone from the inbox.
        await().atMost(60, TimeUnit.SECONDS).until(() -> two.one("SELECT count(*) FROM inbox").equals("0"));
      }
      lock.execute("SELECT pg_advisory_unlock(77)");
      moved.get(60, TimeUnit.SECONDS);
      await().atMost(60, TimeUnit.SECONDS).until(() -> two.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77").equals("0")
          && two.one("SELECT count(*) FROM inbox").equals("0"));
      return Long.parseLong(two.one("SELECT delivered FROM sink WHERE name = 'store'"));
    }
  }

  /** @return what the stream says of that command, up to its end */
  private static String told(BufferedReader lines, String id) throws Exception {
    List<String> statuses = new ArrayList<>();
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      if (line.startsWith("data: ") && line.contains("\"command_id\":\"" + id + "\"")) {
        statuses.add(Cloud.JSON.readTree(line.substring(6)).get("status").asText());
        if (statuses.get(statuses.size() - 1).equals("SUCCEEDED")) {
          return String.join(" ", statuses);
        }
      }
    }
    return "the stream ended after " + statuses;
  }
}
