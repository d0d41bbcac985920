// SPDX-License-Identifier: Apache-2.0
package io.caravan.sinks;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.it.Ports;
import io.caravan.parts.HttpsPart;
import io.caravan.parts.HttpsPart.Answer;
import io.caravan.parts.HttpsPart.Identity;
import io.caravan.parts.HttpsPart.Request;
import io.caravan.runtime.Caravan;
import io.caravan.wal.Batch;
import io.caravan.wal.Record;
import io.caravan.wal.Row;
import io.caravan.wal.Wal;
import io.caravan.wal.WalModule;
import java.io.IOException;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.Statement;
import java.time.Duration;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLServerSocket;
import javax.sql.DataSource;
import org.apache.camel.Exchange;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.component.seda.SedaEndpoint;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.ResourceLock;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** Sink analytics on the real route files and store against a real HTTPS server that misbehaves in every way there is. */
@Timeout(180)
@ResourceLock("SinkAnalyticsTest")
class SinkAnalyticsTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();

  private static HttpsPart receiver;

  @TempDir
  Path home;
  private final Map<String, String> settings = new HashMap<>();
  private Caravan caravan;
  private int appended;

  @BeforeAll
  static void listen() throws Exception {
    receiver = new HttpsPart();
  }

  @AfterAll
  static void hangUp() throws Exception {
    receiver.close();
  }

  @BeforeEach
  void defaults() throws Exception {
    receiver.reset();
    settings.putAll(Map.of("sink.analytics.url", receiver.url(), "sink.analytics.ca.file", receiver.ca().toString(),
        "sink.analytics.connect.timeout.ms", "10000", "sink.analytics.answer.timeout.ms", "800", "sink.analytics.batch.rows", "1000",
        "sink.retry.min.ms", "20", "sink.retry.max.ms", "100", "sink.probe.ms", "100", "fanout.tick.ms", "100"));
  }

  /** Whatever happened: the books add up, and a key never stands for two different bodies. */
  @AfterEach
  void stop() throws Exception {
    if (caravan != null) {
      assertEquals("", text("SELECT coalesce(group_concat(sink || ' ' || unaccounted), '') FROM ledger WHERE unaccounted <> 0"));
      caravan.close();
    }
    assertEquals(Set.of(), receiver.conflicts());
  }

  private void start() throws Exception {
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    Caravan.Builder builder = Caravan.builder().context(context).home(home).cfg(Files.createDirectories(home.resolve("etc")))
        .keys(REPO.resolve("config/gateway/keys")).set("container.role", "gateway")
        .set("http.port", String.valueOf(Ports.free())).withoutDiscovery().module("wal", new WalModule())
        .routes(REPO.resolve("routes/gateway/sink.camel.yaml"), REPO.resolve("routes/gateway/fanout.camel.yaml"),
            REPO.resolve("routes/gateway/sink-analytics.camel.yaml"));
    settings.forEach(builder::set);
    caravan = builder.start();
    assertTrue(caravan.awaitReady(Duration.ofSeconds(60)), () -> caravan.checks() + " " + caravan.routes());
  }

  private void append(int rows) throws Exception {
    Wal wal = caravan.context().getRegistry().lookupByNameAndType("wal", Wal.class);
    List<CompletionStage<?>> stages = new ArrayList<>();
    for (int i = 0; i < rows; i++) {
      int number = ++appended;
      long now = System.currentTimeMillis();
      String device = "d" + number % 7;
      stages.add(wal.submit(new Record(key(number), "c-" + number, device, "telemetry", "live", null, 0, now, now, now, 1,
          "application/json", null, ("{\"metrics\":{\"t\":" + number + "}}").getBytes(StandardCharsets.UTF_8)), "http", "/ingest"));
    }
    for (CompletionStage<?> stage : stages) {
      stage.toCompletableFuture().get(30, TimeUnit.SECONDS);
    }
  }

  private static String key(int number) {
    return "d" + number % 7 + "//k/" + number;
  }

  private String text(String sql) throws Exception {
    DataSource reader = caravan.context().getRegistry().lookupByNameAndType("reader", DataSource.class);
    try (Connection c = reader.getConnection(); Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
      return r.next() ? r.getString(1) : null;
    }
  }

  private String ledger() throws Exception {
    return text("SELECT appended || ',' || acked || ',' || dead || ',' || discarded || ',' || backlog FROM ledger WHERE sink = 'analytics'");
  }

  /** state, reason */
  private String state() throws Exception {
    return text("SELECT state || ',' || coalesce(reason, '') FROM sink WHERE name = 'analytics'");
  }

  private void awaitState(String state) {
    await(state).atMost(Duration.ofSeconds(30)).until(this::state, state::equals);
  }

  private void awaitAllTaken() throws Exception {
    await().atMost(Duration.ofSeconds(60)).until(this::ledger, (appended + "," + appended + ",0,0,0")::equals);
    assertEquals(keys(appended), new TreeSet<>(receiver.taken()));
    assertEquals("running,", state());
  }

  private static Set<String> keys(int rows) {
    Set<String> keys = new TreeSet<>();
    for (int i = 1; i <= rows; i++) {
      keys.add(key(i));
    }
    return keys;
  }

  @Test
  void rowsArriveInOrderOnceInBatches() throws Exception {
    start();
    append(2_500);
    awaitAllTaken();
    List<Long> seqs = receiver.requests().stream().flatMap(r -> r.seqs().stream()).toList();
    assertEquals(2_500, seqs.size());
    assertEquals(seqs.stream().sorted().toList(), seqs);
    assertTrue(receiver.requests().stream().allMatch(r -> r.seqs().size() <= 1_000));
  }

  /** All that is on the wire is what the route names; nothing of a message chooses where it goes or what is told. */
  @Test
  void headersOfTheMessageNeitherLeakNorSteer() throws Exception {
    Path token = Files.writeString(home.resolve("token"), "t0ken\n");
    settings.put("sink.analytics.token.file", token.toString());
    settings.put("gateway.id", "gw-7");
    receiver.answer(Answer.status(200).header("CamelHttpUri", "https://localhost:1/").header("CaravanSink", "other")
        .header("Set-Cookie", "a=b").body("${bean:sinks} {{gateway.id}}"));
    start();
    Batch batch = new Batch("analytics", 1, 2, List.of(row(1), row(2)));
    ProducerTemplate template = caravan.context().createProducerTemplate();
    for (int i = 0; i < 2; i++) {
      Exchange done = template.request("direct:deliver-analytics", exchange -> {
        exchange.getMessage().setBody(batch);
        exchange.getMessage().setHeader("CaravanBatchKey", batch.key());
        for (String name : List.of("CamelHttpUri", "CamelRestHttpUri", "CAmelHttpUri", "CamelHttpPath", "CamelHttpQuery", "CamelHttpMethod",
            "CamelRestHttpQuery", "CamelHttpRawQuery", "CamelHttpHost", "CamelHttpPort", "Host", "Authorization", "Cookie", "X-Secret",
            "Transfer-Encoding", "Content-Length", "kafka.OVERRIDE_TOPIC", "Content-Type", "Content-Encoding", "caravan-gateway-id")) {
          exchange.getMessage().setHeader(name, "{{sink.analytics.token.file}}");
        }
      });
      assertNull(done.getException());
      assertNull(done.getMessage().getHeader("Set-Cookie"));
      assertEquals("{{sink.analytics.token.file}}", done.getMessage().getHeader("CamelHttpUri"));
      assertNull(done.getMessage().getHeader("CaravanSink"));
    }
    assertEquals(2, receiver.requests().size());
    for (Request request : receiver.requests()) {
      assertEquals("POST /rows", request.method() + " " + request.uri());
      assertEquals(new String(batch.ndjson(), StandardCharsets.UTF_8), request.body());
      Map<String, String> headers = new HashMap<>(request.headers());
      assertEquals(String.valueOf(request.wireBytes()), headers.remove("content-length"));
      assertEquals(Map.of("host", "localhost:" + receiver.port(), "user-agent", "caravan", "content-type", "application/x-ndjson",
          "content-encoding", "gzip", "idempotency-key", batch.key(), "caravan-gateway-id", "gw-7", "authorization", "Bearer t0ken"), headers);
    }
    assertEquals(1, receiver.repeatedRequests());
  }

  private static Row row(long seq) {
    return new Row(seq, "gw-7", "d1//k/" + seq, "c-" + seq, "d1", "telemetry", "live", null, 0, 1, 2, 1, "application/json", null,
        "{\"metrics\":{\"t\":1}}".getBytes(StandardCharsets.UTF_8));
  }

  /** Everything that is to be tried again, in a row: the same rows under the same key, until it gets through. */
  @Test
  void whatPassesIsTriedAgainAndNothingIsLostOrDoubled() throws Exception {
    start();
    receiver.next(Answer.status(500), Answer.status(502), Answer.status(503), Answer.status(504), Answer.status(408), Answer.status(409),
        Answer.status(425), Answer.status(429), Answer.hang(), Answer.cut(), Answer.late(), Answer.drip(), Answer.endless(),
        Answer.status(599), Answer.status(202).slow(Duration.ofMillis(100)));
    append(700);
    append(700);
    awaitAllTaken();
    Map<String, Integer> firstBatch = new HashMap<>();
    receiver.requests().forEach(r -> firstBatch.merge(r.key(), 1, Integer::sum));
    assertEquals(15, firstBatch.get(receiver.requests().get(0).key()), firstBatch::toString);
    assertEquals(4, receiver.repeatedRequests(), "cut, late, drip and endless had taken the rows, four came too many");
    assertEquals(0, receiver.repeatedRows());
  }

  @ParameterizedTest
  @CsvSource({"500,running,server_error", "503,running,server_error", "429,running,throttled", "425,running,throttled", "408,running,timeout",
      "409,running,throttled", "401,failed,unauthorized", "403,failed,unauthorized", "407,failed,unauthorized", "404,failed,not_found",
      "405,failed,not_found", "410,failed,misconfigured", "415,failed,misconfigured", "418,failed,misconfigured", "302,failed,misconfigured",
      "308,failed,misconfigured"})
  void aStatusMeansWhatTheDocumentationSays(int status, String state, String reason) throws Exception {
    // A redirect to where it would be taken: it must not be followed.
    receiver.answer(Answer.status(status).header("Location", receiver.url().replace("/rows", "/other")).body("no \u0007\n${x} " + "y".repeat(9_000)));
    start();
    append(3);
    awaitState(state + "," + reason);
    assertTrue(receiver.requests().stream().allMatch(r -> r.uri().equals("/rows")));
    String error = text("SELECT last_error FROM sink WHERE name = 'analytics'");
    assertTrue(error.contains("HTTP status " + status) && error.contains("[no ${x} yyy") && error.length() < 500, error);
    receiver.answer(Answer.status(200));
    awaitAllTaken();
  }

  @Test
  void retryAfterInSecondsIsHonoured() throws Exception {
    retryAfter("3000", 3_000_000);
  }

  @Test
  void retryAfterAsADateIsHonoured() throws Exception {
    retryAfter(DateTimeFormatter.RFC_1123_DATE_TIME.format(ZonedDateTime.now(ZoneOffset.UTC).plusSeconds(3_000)), 2_990_000);
  }

  private void retryAfter(String value, long leastMs) throws Exception {
    receiver.next(Answer.status(429).header("Retry-After", value), Answer.status(503).header("retry-after", value));
    start();
    for (String reason : List.of("throttled", "server_error")) {
      long before = System.currentTimeMillis();
      int requests = receiver.requests().size();
      append(1);
      awaitState("running," + reason);
      assertTrue(Long.parseLong(text("SELECT next_attempt_at_ms FROM sink WHERE name = 'analytics'")) >= before + leastMs);
      // New rows and ticks of the fan-out wake it; it does not ask the receiver.
      append(1);
      for (int i = 0; i < 5; i++) {
        caravan.context().createProducerTemplate().sendBody("direct:fanout-signal", "");
        await().until(() -> caravan.context().getEndpoint("seda:sink-analytics", SedaEndpoint.class).getCurrentQueueSize() == 0
            && caravan.context().getInflightRepository().size("sink-analytics") == 0);
      }
      assertEquals(requests + 1, receiver.requests().size());
      assertEquals("1", text("SELECT attempts FROM sink WHERE name = 'analytics'"));
      wake();
    }
    awaitAllTaken();
  }

  private void wake() throws Exception {
    Object sinks = caravan.context().getRegistry().lookupByName("sinks");
    sinks.getClass().getMethod("wake", String.class).invoke(sinks, "analytics");
  }

  @Test
  void oneRefusedRecordAmongAThousandIsIsolated() throws Exception {
    receiver.refuse(key(637));
    start();
    append(1_000);
    await().atMost(Duration.ofSeconds(30)).until(this::ledger, "1000,999,1,0,0"::equals);
    assertEquals("637,refused", text("SELECT seq || ',' || reason FROM dead_letter WHERE sink = 'analytics'"));
    String error = text("SELECT error FROM dead_letter");
    assertTrue(error.contains("HTTP status 400") && error.contains("cannot take " + key(637)), error);
    Set<String> expected = keys(1_000);
    expected.remove(key(637));
    assertEquals(expected, new TreeSet<>(receiver.taken()));
    assertEquals(0, receiver.repeatedRows());
    assertTrue(receiver.requests().size() < 40, () -> "requests " + receiver.requests().size());
  }

  /** The receiver took a part of the log under other keys: it drops rows by message_key. */
  @Test
  void aRefusedRecordAndCutAnswersTogetherDoubleNothing() throws Exception {
    receiver.refuse(key(3));
    receiver.next(Answer.cut(), Answer.late(), Answer.status(500), Answer.cut(), Answer.cut(), Answer.status(429), Answer.late());
    start();
    append(100);
    await().atMost(Duration.ofSeconds(60)).until(this::ledger, "100,99,1,0,0"::equals);
    Set<String> expected = keys(100);
    expected.remove(key(3));
    assertEquals(expected, new TreeSet<>(receiver.taken()));
    Map<String, Set<String>> rowsOfKey = new HashMap<>();
    receiver.requests().forEach(r -> rowsOfKey.computeIfAbsent(r.key(), k -> new HashSet<>()).add(r.body()));
    assertTrue(rowsOfKey.values().stream().allMatch(bodies -> bodies.size() == 1));
  }

  @Test
  void tokenIsReadForEachRequestAndAWrongOneIsAStateNotALoss() throws Exception {
    Path token = Files.writeString(home.resolve("token"), "wrong");
    settings.put("sink.analytics.token.file", token.toString());
    receiver.token("right");
    start();
    append(5);
    awaitState("failed,unauthorized");
    Files.writeString(token, "two words");
    awaitState("failed,misconfigured");
    assertTrue(text("SELECT last_error FROM sink WHERE name = 'analytics'").startsWith("sink.analytics.token.file [" + token + "] must hold"));
    Files.delete(token);
    await().until(() -> text("SELECT last_error FROM sink WHERE name = 'analytics'").contains("must be readable (NoSuchFileException)"));
    Files.writeString(token, "right\n");
    awaitAllTaken();
    receiver.token("rotated");
    Files.writeString(token, "rotated");
    append(5);
    awaitAllTaken();
  }

  @ParameterizedTest
  @EnumSource(value = Identity.class, names = {"WRONG_HOST", "EXPIRED"})
  void aCertificateThatIsNotTheReceiversIsRefused(Identity identity) throws Exception {
    receiver.identity(identity);
    start();
    append(5);
    awaitState("failed,misconfigured");
    String error = text("SELECT last_error FROM sink WHERE name = 'analytics'");
    assertTrue(error.contains(identity == Identity.EXPIRED ? "NotAfter" : "localhost"), error);
    assertEquals(List.of(), receiver.requests());
    receiver.identity(Identity.VALID);
    awaitAllTaken();
  }

  @Test
  void anUnknownAuthorityIsRefusedUntilItsFileIsThere() throws Exception {
    Path ca = home.resolve("ca.pem");
    settings.put("sink.analytics.ca.file", ca.toString());
    start();
    append(5);
    awaitState("failed,misconfigured");
    assertTrue(text("SELECT last_error FROM sink WHERE name = 'analytics'").startsWith("sink.analytics.ca.file [" + ca + "] must be a readable"));
    Files.writeString(ca, "no certificate");
    await().until(() -> text("SELECT last_error FROM sink WHERE name = 'analytics'").contains("PEM file with a certificate"));
    // An authority that did not sign the receiver's certificate.
    Files.writeString(ca, Files.readString(receiver.clientCert()));
    await().until(() -> text("SELECT last_error FROM sink WHERE name = 'analytics'").contains("certification path"));
    awaitState("failed,misconfigured");
    assertEquals(List.of(), receiver.requests());
    Files.writeString(ca, Files.readString(receiver.ca()));
    awaitAllTaken();
  }

  @Test
  void aReceiverThatWantsAClientCertificateGetsIt() throws Exception {
    receiver.clientCertificate(true);
    start();
    append(5);
    awaitState("running,unavailable");
    assertEquals(List.of(), receiver.requests());
    caravan.close();
    settings.put("sink.analytics.client.cert.file", receiver.clientCert().toString());
    settings.put("sink.analytics.client.key.file", receiver.clientKey().toString());
    start();
    awaitAllTaken();
  }

  @Test
  void aReceiverThatSaysThatItWantsAClientCertificateIsAState() throws Exception {
    try (SSLServerSocket server = (SSLServerSocket) receiver.tls().getServerSocketFactory().createServerSocket(0)) {
      server.setNeedClientAuth(true);
      Thread acceptor = new Thread(() -> {
        while (!server.isClosed()) {
          try (Socket socket = server.accept()) {
            socket.getInputStream().read();
          } catch (IOException e) {
            // The handshake failed, as it must, or the test is over.
          }
        }
      });
      acceptor.setDaemon(true);
      acceptor.start();
      settings.put("sink.analytics.url", "https://localhost:" + server.getLocalPort() + "/rows");
      start();
      append(1);
      awaitState("failed,unauthorized");
      assertTrue(text("SELECT last_error FROM sink WHERE name = 'analytics'").contains("check sink.analytics.client.cert.file"));
    }
  }

  @Test
  void aReceiverThatGoesAndComesBackGetsEverything() throws Exception {
    start();
    append(100);
    awaitAllTaken();
    receiver.stop();
    append(100);
    awaitState("running,unavailable");
    receiver.start();
    awaitAllTaken();
    receiver.pause();
    append(100);
    awaitState("running,timeout");
    receiver.resume();
    awaitAllTaken();
  }

  @Test
  void aHostThatIsNotThereIsWaitedFor() throws Exception {
    settings.put("sink.analytics.url", "https://nowhere.invalid/rows");
    start();
    append(1);
    awaitState("running,unavailable");
  }

  @ParameterizedTest
  @CsvSource({"http://localhost:1/rows,false,begin with https://", "http://example.org/rows,true,begin with https://",
      "http://127.0.0.1.example.org/rows,true,begin with https://", "https://user:pw@localhost:1/rows,false,without user",
      "ftp://localhost/rows,true,begin with https://"})
  void onlyHttpsLeavesThisMachine(String url, boolean loopbackHttp, String rule) throws Exception {
    settings.put("sink.analytics.url", url);
    settings.put("sink.analytics.loopback.http", String.valueOf(loopbackHttp));
    start();
    append(1);
    awaitState("failed,misconfigured");
    String error = text("SELECT last_error FROM sink WHERE name = 'analytics'");
    assertTrue(error.startsWith("sink.analytics.url [") && error.contains(rule), error);
    assertTrue(!error.contains("pw@"), error);
  }
}
