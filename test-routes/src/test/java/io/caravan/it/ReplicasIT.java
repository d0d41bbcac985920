// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.parts.KafkaPart;
import io.caravan.postgres.test.PostgresServer;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/**
 * Two real clouds over one PostgreSQL, with one Kafka between inbox and store. Gateways under load, with commands under way, lose a
 * replica by SIGKILL and one by SIGSTOP, which comes back and finds itself dead. The control, a store that is written to without the
 * fence, is CommandReplicasTest's.
 */
class ReplicasIT {
  private static final int GATEWAYS = 6;
  private static final long ROW_MS = 50;
  /** Two shared cores; alone it is a few seconds. */
  private static final Duration MOVED = Duration.ofSeconds(40);
  private static final String TOKEN = "0123456789abcdef0123456789abcdef";

  private static final List<Distribution> REPLICAS = new ArrayList<>();
  private static final List<RoamingGateway> FLEET = new ArrayList<>();
  private static final List<Integer> PORTS = List.of(Ports.free(), Ports.free());
  private static PostgresServer.Database database;
  private static KafkaPart kafka;

  @BeforeAll
  static void start() throws Exception {
    database = PostgresServer.shared().database();
    kafka = KafkaPart.start();
    kafka.createTopic("caravan.inbox", 4, Map.of());
    for (int i = 0; i < 2; i++) {
      REPLICAS.add(Distribution.unpack("cloud", "replicas-" + i));
    }
    Path folder = REPLICAS.get(0).home.resolveSibling("replicas");
    Distribution.delete(folder);
    Files.createDirectories(folder);
    Path certs = folder.resolve("certs");
    for (List<String> step : List.of(List.of("init", certs.toString()), List.of("server", certs.toString(), "cloud", "localhost", "127.0.0.1"))) {
      List<String> command = new ArrayList<>(List.of(Distribution.REPO.resolve("mosquitto/certs").toString()));
      command.addAll(step);
      try (Child child = Child.start("certs", command, Map.of(), folder, folder.resolve("certs.log"))) {
        assertEquals(0, child.awaitExit(Duration.ofSeconds(60)), child::output);
      }
    }
    StringBuilder gateways = new StringBuilder();
    String hash = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(TOKEN.getBytes(StandardCharsets.US_ASCII)));
    for (int g = 0; g < GATEWAYS; g++) {
      gateways.append("gw-").append(g).append(" = sha256:").append(hash).append('\n');
    }
    Path secret = Files.createFile(folder.resolve("store.password"), PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
    Files.writeString(secret, database.password());
    Path known = Files.writeString(folder.resolve("gateways"), gateways);
    for (int i = 0; i < 2; i++) {
      REPLICAS.get(i).with("store.type", "postgresql").with("store.url", database.url()).with("store.user", database.user()).with("store.password", "file:" + secret)
          .with("bus.type", "kafka").with("bus.kafka.brokers", kafka.brokers()).with("uplink.port", PORTS.get(i)).with("uplink.tls.cert", certs.resolve("cloud.crt"))
          .with("uplink.tls.key", certs.resolve("cloud.key")).with("uplink.gateways.file", known).with("uplink.handshake.per.s", 0)
          .with("uplink.handshake.address.per.s", 0).with("uplink.lock.failures", 0).with("uplink.lock.address.failures", 0)
          .with("replica.timeout.ms", 4000).with("command.resend.ms", 2000).start();
    }
    REPLICAS.forEach(Distribution::awaitReady);
  }

  @AfterAll
  static void stop() {
    FLEET.forEach(RoamingGateway::close);
    REPLICAS.forEach(Distribution::close);
    if (kafka != null) {
      kafka.close();
    }
  }

  @Test
  void gatewaysMoveAndNothingIsLostOrDoubled() throws Exception {
    for (int g = 0; g < GATEWAYS; g++) {
      FLEET.add(new RoamingGateway("gw-" + g, TOKEN, PORTS, g % 2, ROW_MS));
    }
    progress("at the beginning");
    AtomicBoolean asking = new AtomicBoolean(true);
    Set<String> accepted = ConcurrentHashMap.newKeySet();
    List<Thread> people = List.of(new Thread(() -> ask(0, asking, accepted), "person-0"), new Thread(() -> ask(1, asking, accepted), "person-1"));
    people.forEach(Thread::start);

    String first = one("SELECT replica_id FROM replica WHERE address LIKE '%:" + PORTS.get(0) + "' ORDER BY until_ms DESC LIMIT 1");
    long killed = System.nanoTime();
    REPLICAS.get(0).kill();
    await().atMost(MOVED).until(() -> FLEET.stream().allMatch(g -> g.port() == PORTS.get(1)));
    progress("after SIGKILL of a replica");
    System.out.printf("replicas: moved after SIGKILL in %d ms%n", TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - killed));
    await().atMost(MOVED).until(() -> one("SELECT count(*) FROM gateway WHERE replica_id = '" + first + "'").equals("0"));
    REPLICAS.get(0).start().awaitReady();

    String second = one("SELECT replica_id FROM gateway ORDER BY gateway_id LIMIT 1");
    long frozen = System.nanoTime();
    signal("STOP", REPLICAS.get(1));
    await().atMost(MOVED).until(() -> FLEET.stream().allMatch(g -> g.port() == PORTS.get(0)));
    progress("after SIGSTOP of a replica");
    System.out.printf("replicas: moved after SIGSTOP in %d ms%n", TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - frozen));
    await().atMost(MOVED).until(() -> one("SELECT count(*) FROM replica WHERE replica_id = '" + second + "' AND until_ms > "
        + "CAST(extract(epoch FROM now()) * 1000 AS BIGINT)").equals("0"));
    signal("CONT", REPLICAS.get(1));
    await().atMost(MOVED).until(() -> living() == 2);
    assertNotEquals(second, one("SELECT replica_id FROM replica WHERE address LIKE '%:" + PORTS.get(1) + "' ORDER BY until_ms DESC LIMIT 1"), "it goes on under a new id");
    assertEquals("0", one("SELECT count(*) FROM gateway WHERE replica_id = '" + second + "'"), "nothing of what is late counts");
    progress("with both again");

    asking.set(false);
    for (Thread person : people) {
      person.join();
    }
    FLEET.forEach(RoamingGateway::finish);
    await().atMost(Duration.ofSeconds(60)).until(() -> one("SELECT count(*) FROM command WHERE final_at_ms IS NULL").equals("0"));
    await().atMost(Duration.ofSeconds(60)).until(() -> FLEET.stream().allMatch(RoamingGateway::drained));
    long sent = FLEET.stream().mapToLong(RoamingGateway::rows).sum();
    await().atMost(Duration.ofSeconds(90)).until(() -> Long.parseLong(one("SELECT count(*) FROM message")) >= sent);

    assertEquals(sent, Long.parseLong(one("SELECT count(DISTINCT (gateway_id, message_key)) FROM message")), "lost");
    assertEquals(sent, Long.parseLong(one("SELECT count(*) FROM message")), "doubled");
    assertEquals("0", one("SELECT count(*) FROM (SELECT 1 FROM inbox GROUP BY gateway_id, log_id, gateway_seq HAVING count(*) > 1) d"));
    Set<String> done = new TreeSet<>();
    for (RoamingGateway gateway : FLEET) {
      gateway.executed().forEach((id, times) -> {
        assertEquals(1, times, id);
        done.add(gateway.id() + "/" + id);
      });
    }
    assertTrue(accepted.size() > 20, () -> "too few commands to prove anything: " + accepted);
    assertEquals(new TreeSet<>(accepted), done, "commands");
    assertEquals(String.valueOf(accepted.size()), one("SELECT count(*) FROM command WHERE status = 'SUCCEEDED'"));
    // ACCEPTED by the cloud, then the gateway's five, each once and in this order.
    assertEquals("0", one("SELECT count(*) FROM (SELECT string_agg(coalesce(CAST(revision AS TEXT), '-'), '' ORDER BY id) AS told FROM command_event"
        + " GROUP BY gateway_id, command_id) e WHERE told <> '-12345'"));
    System.out.printf("replicas: %d rows, %d commands, %d connections%n", sent, accepted.size(), FLEET.stream().mapToInt(RoamingGateway::connections).sum());
  }

  /** Every gateway gets acks for what it makes from now on. */
  private static void progress(String when) {
    List<Long> before = FLEET.stream().map(RoamingGateway::acked).toList();
    await(when).atMost(MOVED).until(() -> {
      for (int g = 0; g < FLEET.size(); g++) {
        if (FLEET.get(g).acked() < before.get(g) + 20) {
          return false;
        }
      }
      return true;
    });
  }

  /** Asks its replica, or else the other one, with the same id until one has said that it has it. */
  private static void ask(int who, AtomicBoolean asking, Set<String> accepted) {
    for (int n = 0; asking.get(); n++) {
      String gateway = "gw-" + n % GATEWAYS;
      String id = "c" + who + "-" + n;
      byte[] body = ("{\"id\":\"" + id + "\",\"name\":\"unlock\",\"ttl_ms\":600000}").getBytes(StandardCharsets.UTF_8);
      for (int turn = who; ; turn++) {
        try {
          int status = REPLICAS.get(turn % 2).post("/api/v1/devices/" + gateway + "/dev-1/commands", "application/json", body).statusCode();
          if (status == 202 || status == 200) {
            accepted.add(gateway + "/" + id);
            break;
          }
        } catch (IOException e) {
          // Dead, or frozen: the other one.
        }
      }
    }
  }

  private static void signal(String name, Distribution replica) throws Exception {
    assertEquals(0, new ProcessBuilder("kill", "-" + name, String.valueOf(replica.pid())).start().waitFor());
  }

  private static long living() throws SQLException {
    return Long.parseLong(one("SELECT count(*) FROM replica WHERE until_ms > CAST(extract(epoch FROM now()) * 1000 AS BIGINT)"));
  }

  private static String one(String sql) throws SQLException {
    try (Connection connection = database.connect(); Statement statement = connection.createStatement(); ResultSet row = statement.executeQuery(sql)) {
      return row.next() ? row.getString(1) : null;
    }
  }
}
