// SPDX-License-Identifier: Apache-2.0
package io.caravan.trust;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.devices.Devices;
import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.Devices.NewDevice;
import io.caravan.devices.DevicesModule;
import io.caravan.ingest.IngestModule;
import io.caravan.runtime.Caravan;
import io.caravan.wal.WalModule;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import java.util.zip.GZIPOutputStream;
import javax.sql.DataSource;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** HTTP ingest with devices that have tokens: the shipped routes and bundles on a real store, clients that write bytes. */
@Timeout(120)
class HttpAccessTest {
  private static final Path REPO = Path.of("..").toAbsolutePath().normalize();
  private static final Duration SOON = Duration.ofSeconds(20);
  private static final String BODY = "{\"schema_version\": 1, \"metrics\": {\"t\": %d}}";

  @TempDir
  Path home;
  private int number;

  Caravan start(String... settings) throws Exception {
    Path etc = home.resolve("etc");
    for (String side : List.of("common", "gateway")) {
      try (var files = Files.walk(REPO.resolve("config").resolve(side))) {
        for (Path p : files.filter(Files::isRegularFile).toList()) {
          Path target = etc.resolve(REPO.resolve("config").resolve(side).relativize(p).toString());
          Files.createDirectories(target.getParent());
          Files.copy(p, target);
        }
      }
    }
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    Path[] keys = Stream.of("container", "http", "devices", "ingest", "wal", "sink").map(pid -> etc.resolve("keys/io.caravan." + pid + ".yaml"))
        .toArray(Path[]::new);
    Caravan.Builder builder = Caravan.builder().context(context).home(home).keys(keys).set("container.role", "gateway")
        .set("http.port", "0").withoutDiscovery().module("wal", new WalModule()).module("ingest", new IngestModule())
        .module("devices", new DevicesModule());
    for (int i = 0; i < settings.length; i += 2) {
      builder.set(settings[i], settings[i + 1]);
    }
    for (String stem : List.of("ingest", "wal-append", "rejected", "ingest-http")) {
      builder.routes(REPO.resolve("routes/gateway/" + stem + ".camel.yaml"));
    }
    Caravan caravan = builder.start();
    assertTrue(caravan.awaitReady(SOON), () -> caravan.checks() + " " + caravan.routes());
    return caravan;
  }

  static Devices devices(Caravan caravan) {
    return caravan.bean("devices", Devices.class).orElseThrow();
  }

  private static Enrolment add(Caravan caravan, String id) throws IOException {
    return devices(caravan).add(new NewDevice(id, null, null, null, null, null, null, null, null));
  }

  private static String bearer(Enrolment enrolment) {
    return "Authorization: Bearer " + enrolment.token();
  }

  record Answer(int status, String head, String body) {
    /** What a stranger could compare: all of it. */
    String whole() {
      return head + "\n\n" + body;
    }
  }

  private Answer post(Caravan caravan, String path, String... headers) throws IOException {
    return post(caravan, path, BODY.formatted(++number).getBytes(StandardCharsets.UTF_8), headers);
  }

  private static Answer post(Caravan caravan, String path, byte[] body, String... headers) throws IOException {
    try (Socket socket = new Socket("127.0.0.1", caravan.httpPort())) {
      send(socket, head(path, body.length, headers).getBytes(StandardCharsets.ISO_8859_1));
      send(socket, body);
      return read(socket);
    }
  }

  static String head(String path, int length, String... headers) {
    return "POST " + path + " HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: " + length + "\r\n"
        + String.join("", List.of(headers).stream().map(h -> h + "\r\n").toList()) + "\r\n";
  }

  static void send(Socket socket, byte[] bytes) throws IOException {
    socket.setSoTimeout((int) SOON.toMillis());
    socket.getOutputStream().write(bytes);
    socket.getOutputStream().flush();
  }

  static Answer read(Socket socket) throws IOException {
    ByteArrayOutputStream head = new ByteArrayOutputStream();
    while (!head.toString(StandardCharsets.ISO_8859_1).endsWith("\r\n\r\n")) {
      int b = socket.getInputStream().read();
      assertTrue(b >= 0, () -> "closed after [" + head + "]");
      head.write(b);
    }
    String text = head.toString(StandardCharsets.ISO_8859_1).toLowerCase().strip();
    int length = 0;
    for (String line : text.split("\r\n")) {
      length = line.startsWith("content-length:") ? Integer.parseInt(line.substring(15).trim()) : length;
    }
    String body = text.contains("transfer-encoding: chunked") ? chunks(socket)
        : new String(socket.getInputStream().readNBytes(length), StandardCharsets.UTF_8);
    return new Answer(Integer.parseInt(text.split(" ")[1]), text, body);
  }

  private static String chunks(Socket socket) throws IOException {
    StringBuilder body = new StringBuilder();
    while (true) {
      StringBuilder size = new StringBuilder();
      for (int b = socket.getInputStream().read(); b != '\n'; b = socket.getInputStream().read()) {
        size.append((char) b);
      }
      int bytes = Integer.parseInt(size.toString().trim(), 16);
      body.append(new String(socket.getInputStream().readNBytes(bytes + 2), StandardCharsets.UTF_8).stripTrailing());
      if (bytes == 0) {
        return body.toString();
      }
    }
  }

  private static String query(Caravan caravan, String sql) throws Exception {
    DataSource reader = caravan.context().getRegistry().lookupByNameAndType("reader", DataSource.class);
    try (Connection c = reader.getConnection(); Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
      List<String> rows = new ArrayList<>();
      while (r.next()) {
        rows.add(r.getString(1));
      }
      return String.join(",", rows);
    }
  }

  private static double counter(Caravan caravan, String start) {
    return caravan.metrics().lines().filter(l -> l.startsWith(start)).mapToDouble(l -> Double.parseDouble(l.substring(l.lastIndexOf(' ')))).sum();
  }

  @Test
  void aDeviceSpeaksForItselfAndNobodyElse() throws Exception {
    try (Caravan caravan = start()) {
      Enrolment one = add(caravan, "d1");
      Enrolment two = add(caravan, "d2");
      assertEquals(202, post(caravan, "/ingest/d1", bearer(one)).status());
      assertEquals(202, post(caravan, "/ingest/d2", bearer(two).replace("Bearer", "bearer")).status());
      assertEquals(202, post(caravan, "/ingest/d1/events", "{\"schema_version\": 1, \"event\": \"x\"}".getBytes(), bearer(one)).status());
      assertEquals(401, post(caravan, "/ingest/d2", bearer(one)).status());
      assertEquals(401, post(caravan, "/ingest/d2?device_id=d1", bearer(one), "CaravanDeviceId: d2", "device_id: d1").status());
      assertEquals("d1,d1,d2", query(caravan, "SELECT device_id FROM wal ORDER BY device_id"));
      assertEquals("0", query(caravan, "SELECT count(*) FROM rejected"));
      assertEquals(2, counter(caravan, "caravan_http_refused_total{reason=\"unauthorized\"}"));
      assertEquals(2, counter(caravan, "caravan_auth_total{outcome=\"wrong_token\",transport=\"http\"}"));
      assertEquals("d1", devices(caravan).find("d1").filter(d -> d.lastAddress().equals("127.0.0.1")).orElseThrow().id());
    }
  }

  @Test
  void allWhoAreRefusedGetTheSameAnswer() throws Exception {
    try (Caravan caravan = start("device.lock.failures", "0", "device.lock.address.failures", "0")) {
      Enrolment good = add(caravan, "good");
      Enrolment revoked = add(caravan, "revoked");
      devices(caravan).revoke("revoked");
      Enrolment away = devices(caravan).add(new NewDevice("away", List.of("192.0.2.0/24"), null, null, null, null, null, null, null));
      long now = System.currentTimeMillis();
      Enrolment early = devices(caravan).add(new NewDevice("early", null, null, null, null, null, null, now + 3_600_000, null));
      Enrolment late = devices(caravan).add(new NewDevice("late", null, null, null, null, null, null, null, now + 200));
      await().atMost(SOON).until(() -> System.currentTimeMillis() > now + 200);
      Set<String> answers = new LinkedHashSet<>();
      String right = bearer(good);
      List<String[]> refused = List.of(new String[] {"/ingest/good"}, new String[] {"/ingest/nobody"}, new String[] {"/ingest/nobody", right},
          new String[] {"/ingest/nobody/events", right}, new String[] {"/ingest/good", "Authorization: Bearer cvn_" + "A".repeat(43)},
          new String[] {"/ingest/revoked", bearer(revoked)}, new String[] {"/ingest/away", bearer(away)}, new String[] {"/ingest/early", bearer(early)},
          new String[] {"/ingest/late", bearer(late)}, new String[] {"/ingest/good", right, right}, new String[] {"/ingest/good", right + " "
              + "x"}, new String[] {"/ingest/good", right.replace("Bearer ", "Bearer  ")}, new String[] {"/ingest/good", right.replace("Bearer", "Basic")},
          new String[] {"/ingest/good", right + ", Bearer x"}, new String[] {"/ingest/good", "Authorization: Bearer"},
          new String[] {"/ingest/good", "Authorization: Bearer " + "a".repeat(5000)}, new String[] {"/ingest/g%6fod", right},
          new String[] {"/ingest/d1..2", right}, new String[] {"/ingest/" + "a".repeat(300), right},
          new String[] {"/ingest/good';DROP TABLE wal;--".replace(" ", "+"), right});
      for (String[] each : refused) {
        Answer answer = post(caravan, each[0], List.of(each).subList(1, each.length).toArray(String[]::new));
        assertEquals(401, answer.status(), () -> String.join(" ", each) + answer);
        answers.add(answer.whole());
      }
      assertEquals(1, answers.size(), () -> String.join("\n\n", answers));
      assertTrue(answers.iterator().next().contains("www-authenticate: bearer"), answers::toString);
      // Each for its own reason, which the client is not told.
      for (String outcome : List.of("no_credential", "unknown_device", "wrong_token", "revoked", "address", "not_yet_valid", "expired")) {
        assertTrue(counter(caravan, "caravan_auth_total{outcome=\"" + outcome + "\",transport=\"http\"}") > 0, outcome);
      }
      assertEquals("0", query(caravan, "SELECT (SELECT count(*) FROM wal) + (SELECT count(*) FROM rejected)"));
      assertEquals(202, post(caravan, "/ingest/good", right).status(), "and the right one gets in");
      for (String path : List.of("/ingest/..%2fgood", "/ingest/../ingest/good", "/ingest//good", "/ingest/good%00")) {
        assertEquals(400, post(caravan, path, right).status(), path);
      }
    }
  }

  @Test
  void whoKeepsGuessingIsLockedOut() throws Exception {
    try (Caravan caravan = start("device.lock.failures", "3", "device.lock.ms", "1500")) {
      Enrolment one = add(caravan, "d1");
      Enrolment two = add(caravan, "d2");
      for (int i = 0; i < 3; i++) {
        assertEquals(401, post(caravan, "/ingest/d1", "Authorization: Bearer cvn_guess" + i).status());
      }
      Answer locked = post(caravan, "/ingest/d1", bearer(one));
      assertEquals(429, locked.status(), "the right token tells nothing now");
      assertTrue(locked.head().matches("(?s).*retry-after: [12]\r\n.*"), locked.head());
      assertEquals(202, post(caravan, "/ingest/d2", bearer(two)).status(), "another device of the same address goes on");
      await().atMost(SOON).until(() -> post(caravan, "/ingest/d1", bearer(one)).status() == 202);
      assertTrue(counter(caravan, "caravan_http_refused_total{reason=\"locked_out\"}") >= 1);
    }
  }

  @Test
  void whoIsTooFastIsToldWhenToComeBack() throws Exception {
    try (Caravan caravan = start()) {
      Enrolment slow = devices(caravan).add(new NewDevice("slow", null, null, null, 2, null, null, null, null));
      Enrolment other = add(caravan, "other");
      Answer answer = null;
      for (int i = 0; i < 20 && (answer == null || answer.status() == 202); i++) {
        answer = post(caravan, "/ingest/slow", bearer(slow));
      }
      assertEquals(429, answer.status());
      assertTrue(answer.head().matches("(?s).*retry-after: \\d+\r\n.*"), answer.head());
      assertEquals(202, post(caravan, "/ingest/other", bearer(other)).status());
      await().atMost(SOON).until(() -> post(caravan, "/ingest/slow", bearer(slow)).status() == 202);
      // What was refused was not taken, and what was taken is there.
      assertEquals(counter(caravan, "caravan_auth_total{outcome=\"accepted\",transport=\"http\"}"),
          Double.parseDouble(query(caravan, "SELECT count(*) FROM wal")));
    }
  }

  @Test
  void allTogetherHaveALimitThatStrangersDoNotUseUp() throws Exception {
    try (Caravan caravan = start("http.requests.per.s", "1", "device.lock.failures", "0", "device.lock.address.failures", "0")) {
      Enrolment one = add(caravan, "d1");
      for (int i = 0; i < 20; i++) {
        assertEquals(401, post(caravan, "/ingest/nobody").status());
      }
      Set<Integer> statuses = new LinkedHashSet<>();
      for (int i = 0; i < 20 && !statuses.contains(429); i++) {
        statuses.add(post(caravan, "/ingest/d1", bearer(one)).status());
      }
      assertEquals(List.of(202, 429), List.copyOf(statuses));
      await().atMost(SOON).until(() -> post(caravan, "/ingest/d1", bearer(one)).status() == 202);
    }
  }

  @Test
  void theBodyOfAStrangerIsNotWaitedFor() throws Exception {
    try (Caravan caravan = start()) {
      Enrolment one = add(caravan, "d1");
      try (Socket stranger = new Socket("127.0.0.1", caravan.httpPort()); Socket device = new Socket("127.0.0.1", caravan.httpPort())) {
        byte[] body = BODY.formatted(1).getBytes();
        send(device, head("/ingest/d1", body.length, bearer(one)).getBytes());
        send(stranger, head("/ingest/d1", 100_000).getBytes());
        assertEquals(401, read(stranger).status());
        // The device's header came first, and nothing has been said to it: its body is waited for.
        assertEquals(0, device.getInputStream().available());
        send(device, body);
        assertEquals(202, read(device).status());
      }
    }
  }

  @Test
  void aTokenIsUselessOnceItIsRevokedAlsoInTheMidstOfARequest() throws Exception {
    try (Caravan caravan = start()) {
      Enrolment one = add(caravan, "d1");
      byte[] body = BODY.formatted(1).getBytes();
      try (Socket device = new Socket("127.0.0.1", caravan.httpPort())) {
        send(device, head("/ingest/d1", body.length, bearer(one)).getBytes());
        await().atMost(SOON).until(() -> counter(caravan, "caravan_auth_total{outcome=\"accepted\",transport=\"http\"}") == 1);
        devices(caravan).revoke("d1");
        send(device, body);
        assertEquals(401, read(device).status());
      }
      assertEquals(401, post(caravan, "/ingest/d1", bearer(one)).status());
      assertEquals("0", query(caravan, "SELECT count(*) FROM wal"));
      Enrolment again = devices(caravan).restore("d1");
      assertEquals(202, post(caravan, "/ingest/d1", bearer(again)).status());
      assertEquals(401, post(caravan, "/ingest/d1", bearer(one)).status());
    }
  }

  @Test
  void anAddressIsBelievedOfTrustedProxiesOnly() throws Exception {
    for (boolean trusted : List.of(false, true)) {
      Path own = home.resolve(String.valueOf(trusted));
      Path before = home;
      home = own;
      try (Caravan caravan = start("http.trusted.proxies", trusted ? "127.0.0.1" : "10.0.0.1")) {
        Enrolment away = devices(caravan).add(new NewDevice("away", List.of("192.0.2.0/24"), null, null, null, null, null, null, null));
        assertEquals(trusted ? 202 : 401, post(caravan, "/ingest/away", bearer(away), "X-Forwarded-For: 6.6.6.6, 192.0.2.7").status());
        assertEquals(401, post(caravan, "/ingest/away", bearer(away), "X-Forwarded-For: 192.0.2.7, 6.6.6.6").status());
      } finally {
        home = before;
      }
    }
  }

  private static byte[] gzip(byte[] body) throws IOException {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try (GZIPOutputStream gzip = new GZIPOutputStream(out)) {
      gzip.write(body);
    }
    return out.toByteArray();
  }

  @Test
  void gzipIsUnpackedAsFarAsAMessageMayBeLarge() throws Exception {
    try (Caravan caravan = start()) {
      Enrolment one = add(caravan, "d1");
      String gzip = "Content-Encoding: gzip";
      assertEquals(202, post(caravan, "/ingest/d1", gzip(BODY.formatted(7).getBytes()), bearer(one), gzip).status());
      assertEquals("7", query(caravan, "SELECT json_extract(CAST(body AS TEXT), '$.metrics.t') FROM wal"));

      byte[] bomb = gzip(new byte[100 << 20]);
      assertTrue(bomb.length < 128 << 10, "it has to get in: " + bomb.length);
      Answer answer = post(caravan, "/ingest/d1", bomb, bearer(one), gzip);
      assertEquals(413, answer.status());
      assertTrue(answer.body().contains("\"reason\":\"too_large\""), answer.body());
      assertEquals("too_large 65536", query(caravan, "SELECT reason || ' ' || length(body) FROM rejected"), "kept, as far as any message is");
      assertEquals(1, counter(caravan, "caravan_http_refused_total{reason=\"inflated_too_large\"}"));

      byte[] damaged = gzip(BODY.formatted(8).getBytes());
      damaged[damaged.length - 6] ^= 1;
      for (var each : List.of(List.of("br", BODY.formatted(9).getBytes()), List.of("gzip", damaged), List.of("gzip", BODY.formatted(9).getBytes()),
          List.of("gzip, gzip", gzip(gzip(BODY.formatted(9).getBytes()))), List.of("x".repeat(500), BODY.formatted(9).getBytes()))) {
        answer = post(caravan, "/ingest/d1", (byte[]) each.get(1), bearer(one), "Content-Encoding: " + each.get(0));
        assertEquals(415, answer.status(), answer.body());
        assertTrue(answer.body().contains("unsupported_content_type"), answer.body());
      }
      assertEquals(5, counter(caravan, "caravan_http_refused_total{reason=\"content_encoding\"}"));
      assertEquals("1", query(caravan, "SELECT count(*) FROM wal"));
    }
  }

  @Test
  void noSecretIsInAnAnswerOrInTheRegistry() throws Exception {
    try (Caravan caravan = start()) {
      Enrolment one = add(caravan, "d1");
      for (String path : List.of("/ingest/d1", "/ingest/other")) {
        assertFalse(post(caravan, path, bearer(one)).whole().contains(one.token().toLowerCase()));
      }
      assertFalse(caravan.metrics().contains(one.token()));
      try (var files = Files.walk(home)) {
        for (Path p : files.filter(Files::isRegularFile).toList()) {
          assertFalse(new String(Files.readAllBytes(p), StandardCharsets.ISO_8859_1).contains(one.token()), p.toString());
        }
      }
    }
  }
}
