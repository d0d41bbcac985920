// SPDX-License-Identifier: Apache-2.0
package io.caravan.fleet;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.accounts.AccountsModule;
import io.caravan.it.Ports;
import io.caravan.launcher.Enrol;
import io.caravan.postgres.PostgresModule;
import io.caravan.postgres.test.PostgresServer;
import io.caravan.runtime.Caravan;
import io.caravan.uplink.Fleet;
import io.caravan.uplink.Gateways;
import io.caravan.uplink.UplinkModule;
import io.caravan.wal.WalModule;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Gateways come in by themselves, are seen at every replica, and are out again everywhere: real modules, stores, TLS and a real gateway. */
@Timeout(180)
class FleetTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final HttpClient HTTP = HttpClient.newHttpClient();
  private static final Duration LIMIT = Duration.ofSeconds(60);

  @TempDir
  Path home;

  private final List<Caravan> open = new ArrayList<>();

  /** @param httpPort of its API, @param uplinkPort where gateways come in */
  private record Cloud(Caravan caravan, int httpPort, int uplinkPort) {
    Gateways gateways() {
      return caravan.bean("gateways", Gateways.class).orElseThrow();
    }

    Gateways.Gateway gateway(String id) {
      return gateways().list().stream().filter(g -> g.id().equals(id)).findFirst().orElse(null);
    }

    JsonNode json(int status, String method, String path, String body) throws Exception {
      HttpResponse<String> answer = HTTP.send(HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + httpPort + path)).header("Content-Type", "application/json")
          .method(method, body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body)).build(), HttpResponse.BodyHandlers.ofString());
      assertEquals(status, answer.statusCode(), answer::body);
      assertEquals(status < 400 ? "application/json" : "application/problem+json", answer.headers().firstValue("Content-Type").orElse("application/json"));
      return answer.body().isEmpty() ? JSON.nullNode() : JSON.readTree(answer.body());
    }

    JsonNode fleet(String id) throws Exception {
      return json(200, "GET", "/api/v1/fleet/" + id, null);
    }

    void execute(String sql) throws Exception {
      try (Connection connection = caravan.bean("writer", DataSource.class).orElseThrow().getConnection(); Statement statement = connection.createStatement()) {
        statement.executeUpdate(sql);
      }
    }
  }

  @BeforeEach
  void certificate() throws Exception {
    Process openssl = new ProcessBuilder("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "cloud.key", "-out", "cloud.crt").directory(home.toFile())
        .redirectErrorStream(true).redirectOutput(home.resolve("openssl.log").toFile()).start();
    assertTrue(openssl.waitFor(60, TimeUnit.SECONDS) && openssl.exitValue() == 0);
  }

  @AfterEach
  void stop() {
    for (int i = open.size() - 1; i >= 0; i--) {
      open.get(i).close();
    }
  }

  private Caravan start(String name, String side, Map<String, String> keys, String... stems) throws Exception {
    Path etc = Files.createDirectories(home.resolve(name + "/etc"));
    for (String from : List.of("common", side)) {
      Path folder = REPO.resolve("config").resolve(from);
      try (Stream<Path> files = Files.walk(folder)) {
        for (Path file : files.filter(Files::isRegularFile).toList()) {
          Path to = etc.resolve(folder.relativize(file).toString());
          Files.createDirectories(to.getParent());
          if (!Files.exists(to)) {
            Files.copy(file, to);
          }
        }
      }
    }
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX(); // its names are those of one container per JVM
    Caravan.Builder builder = Caravan.builder().context(context).home(home.resolve(name)).keys(etc.resolve("keys")).cfg(etc).environment(Map.of())
        .set("container.role", side).withoutDiscovery().module("wal", new WalModule());
    keys.forEach(builder::set);
    if (side.equals("cloud")) {
      builder.module("postgres", new PostgresModule()).module("accounts", new AccountsModule());
    }
    Caravan caravan = builder.module("uplink", new UplinkModule())
        .routes(Stream.of(stems).map(stem -> REPO.resolve("routes/" + side + "/" + stem + ".camel.yaml")).toArray(Path[]::new)).start();
    open.add(caravan);
    assertTrue(caravan.awaitReady(LIMIT), () -> name + ": " + caravan.checks().stream().filter(c -> !c.up()).toList());
    return caravan;
  }

  private Cloud cloud(String name, Map<String, String> more) throws Exception {
    int http = Ports.free();
    int uplink = Ports.free();
    Map<String, String> keys = new HashMap<>(Map.of("http.port", "" + http, "uplink.port", "" + uplink, "uplink.tls.cert", home.resolve("cloud.crt").toString(),
        "uplink.tls.key", home.resolve("cloud.key").toString(), "fleet.tick.ms", "200", "fleet.version.min", "0.0.1"));
    keys.putAll(more);
    return new Cloud(start(name, "cloud", keys, "uplink", "inbox", "fleet", "enrol"), http, uplink);
  }

  private Caravan gateway(Cloud at) throws Exception {
    return start("gateway", "gateway", Map.of("http.port", "" + Ports.free(), "uplink.url", "wss://localhost:" + at.uplinkPort,
        "uplink.ca.file", home.resolve("cloud.crt").toString(), "uplink.reconnect.min.ms", "50", "uplink.reconnect.max.ms", "200", "uplink.stats.ms", "200"),
        "outbox", "uplink");
  }

  /** What bin/caravan does: a process that reads the token from its input. @return exit status and what it said */
  private String enrol(Cloud at, String token) throws Exception {
    Process process = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-XX:TieredStopAtLevel=1", "-Dkaraf.etc="
        + home.resolve("gateway/etc"), "-cp", Path.of(Enrol.class.getProtectionDomain().getCodeSource().getLocation().toURI()).toString(), Enrol.class.getName(),
        "http://127.0.0.1:" + at.httpPort, "--uplink", "wss://localhost:" + at.uplinkPort).redirectErrorStream(true).start();
    process.getOutputStream().write((token + "\n").getBytes(StandardCharsets.US_ASCII));
    process.getOutputStream().close();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertTrue(process.waitFor(60, TimeUnit.SECONDS));
    return process.exitValue() + " " + said;
  }

  private static String sha256(String text) throws Exception {
    return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.US_ASCII)));
  }

  private void etc() throws IOException {
    Path etc = Files.createDirectories(home.resolve("gateway/etc"));
    Files.copy(REPO.resolve("config/gateway/io.caravan.uplink.cfg"), etc.resolve("io.caravan.uplink.cfg"));
  }

  private static void enrolment(Cloud cloud, String hash, int status, String token) throws Exception {
    cloud.json(status, "POST", "/api/v1/enrol", "{\"token\":\"" + token + "\",\"token_sha256\":\"" + hash + "\"}");
  }

  /** Tokens are not guessed faster than that, and the store is not asked for each. */
  @Test
  void enrolmentsOfOneAddressAreHeldUpWhenTheyAreTooMany() throws Exception {
    Cloud cloud = cloud("cloud", Map.of("api.rate.stranger.per.s", "1"));
    JsonNode made = cloud.json(201, "POST", "/api/v1/admin/gateways", "{\"gateway_id\":\"gw-7\"}");
    enrolment(cloud, "0".repeat(64), 401, "cve_" + "x".repeat(43));
    enrolment(cloud, "a".repeat(64), 200, made.get("enrolment_token").asText());
    HttpRequest guess = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + cloud.httpPort() + "/api/v1/enrol")).header("Content-Type", "application/json")
        .POST(HttpRequest.BodyPublishers.ofString("{\"token\":\"cve_" + "x".repeat(43) + "\",\"token_sha256\":\"" + "0".repeat(64) + "\"}")).build();
    HttpResponse<String> last = HTTP.send(guess, HttpResponse.BodyHandlers.ofString());
    for (int i = 0; i < 100 && last.statusCode() == 401; i++) {
      last = HTTP.send(guess, HttpResponse.BodyHandlers.ofString());
    }
    assertEquals(429, last.statusCode());
    assertEquals("too_many_requests", JSON.readTree(last.body()).get("error").asText());
    assertTrue(Integer.parseInt(last.headers().firstValue("Retry-After").orElseThrow()) >= 1);
  }

  /** One replica; the store is a file. */
  @Test
  void aGatewayEnrolsItselfOnceAndTellsHowItIs() throws Exception {
    Cloud cloud = cloud("cloud", Map.of());
    etc();
    JsonNode made = cloud.json(201, "POST", "/api/v1/admin/gateways", "{\"gateway_id\":\"gw-7\",\"note\":\"hall 3\"}");
    String token = made.get("enrolment_token").asText();
    assertEquals(0, made.get("tokens").size());
    assertEquals(List.of("new"), JSON.convertValue(cloud.fleet("gw-7").get("states"), List.class));
    cloud.json(409, "POST", "/api/v1/admin/gateways", "{\"gateway_id\":\"gw-7\"}");
    assertEquals("/gateway", cloud.json(400, "POST", "/api/v1/admin/gateways", "{\"gateway\":\"gw-8\"}").get("field").asText());
    cloud.json(201, "POST", "/api/v1/admin/gateways", "{\"gateway_id\":\"gw-8\"}");
    for (String list : List.of("/api/v1/fleet?state=new&limit=1", "/api/v1/admin/gateways?limit=1")) {
      HttpResponse<String> page = HTTP.send(HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + cloud.httpPort() + list)).build(), HttpResponse.BodyHandlers.ofString());
      String link = page.headers().firstValue("Link").orElseThrow();
      assertEquals("[gw-7]", JSON.readTree(page.body()).findValuesAsText("gateway_id").toString());
      assertEquals('<' + list + "&after=gw-7>; rel=\"next\"", link);
      JsonNode rest = cloud.json(200, "GET", link.substring(1, link.indexOf('>')), null);
      assertEquals("[gw-8]", rest.findValuesAsText("gateway_id").toString());
      assertEquals("/limit", cloud.json(400, "GET", list.replace("limit=1", "limit=0"), null).get("field").asText());
      assertEquals("/after", cloud.json(400, "GET", list + "&after=%2F", null).get("field").asText());
    }
    cloud.json(204, "DELETE", "/api/v1/admin/gateways/gw-8", null);
    enrolment(cloud, "0".repeat(64), 401, "cve_" + "x".repeat(43));
    enrolment(cloud, "short", 400, token);

    String said = enrol(cloud, token);
    assertTrue(said.startsWith("0 This is gateway gw-7 now."), said);
    Path file = home.resolve("gateway/etc/uplink.token");
    assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(file)));
    String own = Files.readString(file).strip();
    assertFalse(said.contains(own), "the token is said nowhere");
    assertFalse(Files.exists(home.resolve("gateway/etc/uplink.token.enrol")));
    List<String> lines = Files.readAllLines(home.resolve("gateway/etc/io.caravan.uplink.cfg"));
    assertTrue(lines.contains("gateway.id = gw-7") && lines.contains("uplink.url = wss://localhost:" + cloud.uplinkPort), lines::toString);
    assertEquals(Files.readAllLines(REPO.resolve("config/gateway/io.caravan.uplink.cfg")).size(), lines.size(), "in the place of the defaults");
    // Once: the same request again, as after a lost answer, yes; for another gateway, no.
    enrolment(cloud, sha256(own), 200, token);
    enrolment(cloud, sha256("another"), 401, token);
    assertTrue(enrol(cloud, token).startsWith("1 "), "a second machine with the same enrolment token");

    gateway(cloud);
    await().atMost(LIMIT).until(() -> cloud.fleet("gw-7").get("clock_offset_ms").isNumber());
    JsonNode seen = cloud.fleet("gw-7");
    assertEquals("[]", seen.get("states").toString(), seen::toString);
    assertTrue(seen.get("connected").asBoolean());
    assertEquals("DURABLE", seen.get("store_state").asText(), seen::toString);
    assertTrue(seen.get("store_bytes").asLong() > 0 && seen.get("store_limit_bytes").asLong() > seen.get("store_bytes").asLong(), seen::toString);
    assertEquals(0, seen.get("backlog_rows").asLong());
    // One machine, one clock: what is measured is at most half the way and the rounding.
    assertTrue(Math.abs(seen.get("clock_offset_ms").asLong()) <= seen.get("round_trip_ms").asLong() / 2 + 2, seen::toString);
    assertEquals("hall 3", seen.get("note").asText());
    await().atMost(LIMIT).until(() -> cloud.caravan.metrics().contains("caravan_fleet_gateways{state=\"ok\"} 1.0"));

    // Another machine takes its place: what the old one has is worth nothing from then on.
    String again = cloud.json(201, "POST", "/api/v1/admin/gateways/gw-7/enrol", "{\"valid_ms\":60000}").get("enrolment_token").asText();
    enrolment(cloud, sha256("its successor"), 200, again);
    await().atMost(LIMIT).until(() -> cloud.gateway("gw-7").connectedSinceMs() == null);
    assertTrue(Files.readString(home.resolve("cloud/data/audit/audit.log")).contains("gateway.enrol"));
  }

  /** Two replicas over one PostgreSQL. */
  @Test
  void whoIsRevokedAtOneReplicaIsCutAtTheOther() throws Exception {
    PostgresServer.Database database = PostgresServer.shared().database();
    Map<String, String> store = Map.of("store.type", "postgresql", "store.url", database.url(), "store.user", database.user(), "store.password", database.password());
    Cloud one = cloud("one", store);
    Cloud two = cloud("two", store);
    etc();
    String token = one.json(201, "POST", "/api/v1/admin/gateways", "{\"gateway_id\":\"gw-1\"}").get("enrolment_token").asText();
    assertTrue(enrol(two, token).startsWith("0 "), "what one replica made the other takes");
    gateway(two);
    await().atMost(LIMIT).until(() -> two.gateway("gw-1") != null && two.gateway("gw-1").connectedSinceMs() != null);
    await().atMost(LIMIT).until(() -> one.fleet("gw-1").get("connected").asBoolean() && one.fleet("gw-1").get("stats_at_ms").isNumber());
    assertNull(one.gateway("gw-1").connectedSinceMs(), "its connection is not here");
    // The negative control of the cut: what is nobody's business changes nothing.
    long since = two.gateway("gw-1").connectedSinceMs();
    one.json(201, "POST", "/api/v1/admin/gateways", "{\"gateway_id\":\"gw-2\"}");
    await().atMost(LIMIT).until(() -> two.gateway("gw-2") != null);
    assertEquals(since, two.gateway("gw-1").connectedSinceMs());

    long before = System.nanoTime();
    assertEquals("revoked", one.json(200, "POST", "/api/v1/admin/gateways/gw-1/revoke", null).get("status").asText());
    await().atMost(LIMIT).pollInterval(Duration.ofMillis(10)).until(() -> two.gateway("gw-1").connectedSinceMs() == null);
    System.out.printf("revoked at one replica, cut at the other after %d ms%n", (System.nanoTime() - before) / 1_000_000);
    await().atMost(LIMIT).until(() -> one.fleet("gw-1").get("states").toString().equals("[\"revoked\"]") && !one.fleet("gw-1").get("connected").asBoolean());
    one.json(409, "POST", "/api/v1/admin/gateways/gw-1/rotate", "{}");

    String fresh = two.json(200, "POST", "/api/v1/admin/gateways/gw-1/restore", null).get("token").asText();
    Files.writeString(home.resolve("gateway/etc/uplink.token"), fresh + "\n");
    await().atMost(LIMIT).until(() -> two.gateway("gw-1").connectedSinceMs() != null);
    await("the other replica knows it, too").atMost(LIMIT).until(() -> one.gateway("gw-1").status() == Gateways.Status.ACTIVE);
    String newest = one.json(200, "POST", "/api/v1/admin/gateways/gw-1/rotate", "{\"overlap_ms\":60000}").get("token").asText();
    assertNotEquals(fresh, newest);
    await().atMost(LIMIT).until(() -> two.gateway("gw-1").tokens().size() == 2);
    assertTrue(two.gateway("gw-1").connectedSinceMs() != null, "the old token stays good for a while");
    assertEquals(204, HTTP.send(HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + one.httpPort + "/api/v1/admin/gateways/gw-1")).DELETE().build(),
        HttpResponse.BodyHandlers.discarding()).statusCode());
    await().atMost(LIMIT).until(() -> two.gateway("gw-1") == null);
    one.json(404, "GET", "/api/v1/admin/gateways/gw-1", null);
  }

  /** States are told from what is in the table: no waiting for a gateway to be ill. */
  @Test
  void whatNeedsAttentionIsAStateAndTheFileIsTakenOver() throws Exception {
    Path etc = Files.createDirectories(home.resolve("cloud/etc"));
    Files.writeString(etc.resolve("gateways"), "# ours\nbehind = sha256:" + sha256("a") + "\nclock = certificate:accepted  # roof\nlate = sha256:" + sha256("b")
        + "\nold = sha256:" + sha256("c") + "\nwell = sha256:" + sha256("d") + "\nwide = sha256:" + sha256("e") + "\nfull = sha256:" + sha256("f")
        + "\nout = sha256:" + sha256("g") + " revoked\n");
    Cloud cloud = cloud("cloud", Map.of("fleet.tick.ms", "100", "fleet.behind.ms", "1000", "fleet.clock.ms", "2000", "fleet.version.min", "1.10.0"));
    Files.writeString(etc.resolve("gateways"), "broken = x\n", java.nio.file.StandardOpenOption.APPEND);
    await().atMost(LIMIT).until(() -> cloud.gateways().problems().size() == 1);
    long now = System.currentTimeMillis();
    String[] rows = {
      "('behind', " + now + ", 1, 'a', '1.10.0', 1, 5, 1001, 0, 1, 'DURABLE', 1, 2, 1)", "('clock', " + now + ", 1, 'a', '1.10.0', 1, 0, 0, -2006, 10, 'DURABLE', 1, 2, 1)",
      // As far as the way: it may be right.
      "('wide', " + now + ", 1, 'a', '1.10.0', 1, 0, 0, 2400, 1000, 'DURABLE', 1, 2, 1)", "('late', " + (now - 120_001) + ", NULL, 'a', '1.10.0', 1, 0, 0, 0, 1, 'DURABLE', 1, 2, 1)",
      "('old', " + now + ", 1, 'a', '1.9.9', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)", "('well', " + now + ", 1, 'a', '2.0.0', 1, 0, 1000, 2000, 0, 'DURABLE', 1, 2, 1)",
      "('full', " + now + ", 1, 'a', '1.10.0', 1, 0, 0, 0, 1, 'REFUSING', 2, 2, 0)", "('gone', " + now + ", 1, 'a', '1.10.0', 1, 0, 0, 0, 1, 'DURABLE', 1, 2, 1)"};
    cloud.execute("INSERT INTO gateway_health (gateway_id, seen_at_ms, connected_at_ms, address, version, stats_at_ms, backlog_rows, lag_ms, clock_offset_ms, round_trip_ms,"
        + " store_state, store_bytes, store_limit_bytes, ready) VALUES " + String.join(", ", rows));
    Map<String, String> states = new java.util.TreeMap<>();
    cloud.json(200, "GET", "/api/v1/fleet", null).forEach(g -> states.put(g.get("gateway_id").asText(), g.get("states").toString()));
    assertEquals(Map.of("behind", "[\"behind\"]", "clock", "[\"clock\"]", "wide", "[]", "late", "[\"late\"]", "old", "[\"old_version\"]", "well", "[]",
        "full", "[\"store\"]", "gone", "[\"revoked\"]", "out", "[\"revoked\"]", "broken", "[\"revoked\"]"), states);
    assertEquals(2, cloud.json(200, "GET", "/api/v1/fleet?state=ok", null).size());
    assertEquals("/state", cloud.json(400, "GET", "/api/v1/fleet?state=ill", null).get("field").asText());
    await().atMost(LIMIT).until(() -> cloud.caravan.metrics().contains("caravan_fleet_gateways{state=\"revoked\"} 3.0"));
    assertTrue(cloud.caravan.metrics().contains("caravan_fleet_gateways{state=\"behind\"} 1.0"));
    Fleet fleet = cloud.caravan.bean("fleet", Fleet.class).orElseThrow();
    assertEquals("roof", fleet.show("clock").orElseThrow().note());

    // Taken over: out of the file, but for what is no gateway's line.
    assertEquals(List.of("behind", "clock", "full", "late", "old", "out", "well", "wide"), cloud.gateways().importFile());
    assertEquals("# ours\nbroken = x\n", Files.readString(etc.resolve("gateways")));
    assertEquals(List.of(), cloud.gateways().importFile());
    assertEquals(Gateways.Status.REVOKED, cloud.gateway("out").status());
    assertEquals(Gateways.Certificate.ACCEPTED, cloud.gateway("clock").certificate());
    assertEquals(sha256("d").substring(0, 8), cloud.gateway("well").tokens().get(0).id());
    // What the store has goes before the file, unless that revokes.
    Files.writeString(etc.resolve("gateways"), "well = sha256:" + sha256("other") + " revoked\n");
    await().atMost(LIMIT).until(() -> cloud.gateway("well").status() == Gateways.Status.REVOKED);
    Files.writeString(etc.resolve("gateways"), "well = sha256:" + sha256("other") + "\n");
    await().atMost(LIMIT).until(() -> cloud.gateway("well").status() == Gateways.Status.ACTIVE);
    assertEquals(sha256("d").substring(0, 8), cloud.gateway("well").tokens().get(0).id());
  }
}
