// SPDX-License-Identifier: Apache-2.0
package io.caravan.sinks;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.it.Ports;
import io.caravan.parts.HttpsPart;
import io.caravan.parts.HttpsPart.Identity;
import io.caravan.runtime.Caravan;
import io.caravan.sinks.GrpcReceiver.Answer;
import io.caravan.sinks.GrpcReceiver.Call;
import io.caravan.wal.Record;
import io.caravan.wal.Wal;
import io.caravan.wal.WalModule;
import io.grpc.Metadata;
import io.grpc.Status;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
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

/** Sink analytics-grpc on the real route files and store against a receiver made with grpc-java and the shipped .proto. */
@Timeout(180)
@ResourceLock("SinkAnalyticsGrpcTest")
class SinkAnalyticsGrpcTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final String SINK = "FROM sink WHERE name = 'analytics-grpc'";

  private static HttpsPart authority;

  @TempDir
  Path home;
  private final Map<String, String> settings = new HashMap<>();
  private GrpcReceiver receiver;
  private Caravan caravan;
  private int appended;

  @BeforeAll
  static void certify() throws Exception {
    authority = new HttpsPart();
  }

  @AfterAll
  static void forget() throws Exception {
    authority.close();
  }

  @BeforeEach
  void defaults() throws Exception {
    authority.reset();
    receiver = new GrpcReceiver(authority);
    set("url", receiver.url());
    set("ca.file", authority.ca().toString());
    set("deadline.ms", "10000");
    settings.putAll(Map.of("gateway.id", "gw-7", "sink.retry.min.ms", "20", "sink.retry.max.ms", "100", "sink.probe.ms", "100",
        "fanout.tick.ms", "100"));
  }

  /** Whatever happened: the books add up, and a key never stands for two different requests. */
  @AfterEach
  void stop() throws Exception {
    try {
      if (caravan != null) {
        assertEquals("", text("SELECT coalesce(group_concat(sink || ' ' || unaccounted), '') FROM ledger WHERE unaccounted <> 0"));
        caravan.close();
      }
      assertEquals(Set.of(), receiver.faults());
    } finally {
      receiver.close();
    }
  }

  private void set(String key, String value) {
    settings.put("sink.analytics.grpc." + key, value);
  }

  private void start() throws Exception {
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    Caravan.Builder builder = Caravan.builder().context(context).home(home).cfg(Files.createDirectories(home.resolve("etc")))
        .keys(REPO.resolve("config/gateway/keys")).set("container.role", "gateway")
        .set("http.port", String.valueOf(Ports.free())).withoutDiscovery().module("wal", new WalModule())
        .routes(REPO.resolve("routes/gateway/sink.camel.yaml"), REPO.resolve("routes/gateway/fanout.camel.yaml"),
            REPO.resolve("routes/gateway/sink-analytics-grpc.camel.yaml"));
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

  private String error() throws Exception {
    return String.valueOf(text("SELECT last_error " + SINK));
  }

  private void awaitError(String part) {
    await(part).atMost(Duration.ofSeconds(30)).until(this::error, error -> error.contains(part));
  }

  private String ledger() throws Exception {
    return text("SELECT appended || ',' || acked || ',' || dead || ',' || discarded || ',' || backlog FROM ledger WHERE sink = 'analytics-grpc'");
  }

  /** state, reason */
  private String state() throws Exception {
    return text("SELECT state || ',' || coalesce(reason, '') " + SINK);
  }

  private void awaitState(String state) {
    await(state).atMost(Duration.ofSeconds(30)).until(this::state, state::equals);
  }

  private void awaitAllTaken() throws Exception {
    awaitAllTakenBut(Set.of());
    assertEquals("running,", state());
  }

  private void awaitAllTakenBut(Set<Integer> dead) throws Exception {
    await().atMost(Duration.ofSeconds(60)).until(this::ledger,
        (appended + "," + (appended - dead.size()) + "," + dead.size() + ",0,0")::equals);
    Set<String> keys = new TreeSet<>();
    for (int i = 1; i <= appended; i++) {
      if (!dead.contains(i)) {
        keys.add(key(i));
      }
    }
    assertEquals(keys, new TreeSet<>(receiver.taken()));
  }

  @ParameterizedTest
  @CsvSource({"true,gzip", "true,none", "false,gzip"})
  void rowsArriveInOrderOnceInBatches(boolean tls, String compression) throws Exception {
    receiver.stop();
    receiver.listenAs(tls, false, 4_194_304);
    receiver.start();
    set("url", receiver.url());
    set("loopback.http", String.valueOf(!tls));
    set("compression", compression);
    start();
    append(2_500);
    awaitAllTaken();
    List<Long> seqs = receiver.calls().stream().flatMap(c -> c.seqs().stream()).toList();
    assertEquals(2_500, seqs.size());
    assertEquals(seqs.stream().sorted().toList(), seqs);
    assertTrue(receiver.calls().stream().allMatch(c -> c.seqs().size() <= 1_000 && c.deadlineMs() > 0 && c.deadlineMs() <= 10_000));
    assertEquals(0, receiver.repeatedCalls());
  }

  /** What the sink writes by hand is what the code generated from the file reads. */
  @Test
  void aRowIsWhatTheFileSays() throws Exception {
    start();
    append(1);
    awaitAllTaken();
    Call call = receiver.calls().get(0);
    assertEquals("gw-7", call.request().getGatewayId());
    var row = call.request().getRows(0);
    assertEquals(text("SELECT seq || '|' || message_key || '|' || correlation_id || '|' || device_id || '|' || observed_at_ms || '|' "
        + "|| received_at_ms || '|' || body FROM wal"), row.getSeq() + "|" + row.getMessageKey() + "|" + row.getCorrelationId() + "|"
        + row.getDeviceId() + "|" + row.getObservedAtMs() + "|" + row.getReceivedAtMs() + "|" + row.getBody().toStringUtf8());
    assertEquals("gw-7|telemetry|live||0|1|", row.getGatewayId() + "|" + row.getKind() + "|" + row.getLane() + "|" + row.getBootId() + "|"
        + row.getDeviceSeq() + "|" + row.getSchemaVersion() + "|" + row.getTraceContext());
    assertEquals(Set.of("content-type", "content-length", "grpc-timeout", "user-agent", "idempotency-key", "grpc-encoding"),
        call.metadata().keys());
  }

  /** Everything that is to be tried again, in a row: the same rows under the same key, until it gets through. */
  @Test
  void whatPassesIsTriedAgainAndNothingIsLostOrDoubled() throws Exception {
    set("deadline.ms", "800");
    start();
    receiver.next(Answer.status(Status.UNAVAILABLE), Answer.status(Status.DEADLINE_EXCEEDED), Answer.status(Status.RESOURCE_EXHAUSTED),
        Answer.status(Status.ABORTED), Answer.status(Status.INTERNAL), Answer.status(Status.UNKNOWN), Answer.status(Status.CANCELLED),
        Answer.status(Status.DATA_LOSS), Answer.hang(), Answer.late());
    append(700);
    append(700);
    awaitAllTaken();
    Map<String, Integer> ofKey = new HashMap<>();
    receiver.calls().forEach(c -> ofKey.merge(c.request().getBatchKey(), 1, Integer::sum));
    assertEquals(11, ofKey.get(receiver.calls().get(0).request().getBatchKey()), ofKey::toString);
    assertEquals(1, receiver.repeatedCalls(), "the late answer had taken the rows");
  }

  @ParameterizedTest
  @CsvSource({"UNAVAILABLE,running,unavailable", "DEADLINE_EXCEEDED,running,timeout", "RESOURCE_EXHAUSTED,running,throttled",
      "ABORTED,running,throttled", "INTERNAL,running,server_error", "UNKNOWN,running,server_error", "CANCELLED,running,server_error",
      "DATA_LOSS,running,server_error", "UNAUTHENTICATED,failed,unauthorized", "PERMISSION_DENIED,failed,unauthorized",
      "NOT_FOUND,failed,not_found", "UNIMPLEMENTED,failed,not_found", "ALREADY_EXISTS,failed,misconfigured",
      "FAILED_PRECONDITION,failed,misconfigured"})
  void aStatusMeansWhatTheDocumentationSays(Status.Code code, String state, String reason) throws Exception {
    receiver.answer(Answer.status(code.toStatus().withDescription("no \u0007\n${x} 100% \u00e4 " + "y".repeat(900))));
    start();
    append(3);
    awaitState(state + "," + reason);
    assertTrue(error().contains(receiver.url() + " answered " + code + " [no ${x} 100% yyy") && error().length() < 500, error());
    receiver.answer(Answer.ok());
    awaitAllTaken();
  }

  @Test
  void nothingIsAskedBeforeThePushbackIsOver() throws Exception {
    receiver.next(new Answer(Status.RESOURCE_EXHAUSTED, false, 3_000_000, 0));
    start();
    long before = System.currentTimeMillis();
    append(1);
    awaitState("running,throttled");
    assertTrue(Long.parseLong(text("SELECT next_attempt_at_ms " + SINK)) >= before + 3_000_000);
  }

  @ParameterizedTest
  @EnumSource(value = Status.Code.class, names = {"INVALID_ARGUMENT", "OUT_OF_RANGE"})
  void oneRefusedRowIsADeadLetterAndAllOthersArrive(Status.Code code) throws Exception {
    receiver.refuse(key(37), code.toStatus().withDescription("not this"));
    start();
    append(100);
    awaitAllTakenBut(Set.of(37));
    assertEquals("37 refused", text("SELECT seq || ' ' || reason FROM dead_letter"));
    assertTrue(text("SELECT error FROM dead_letter").contains("answered " + code + " [not this]"));
  }

  @Test
  void aBatchAboveTheLimitIsHalvedBeforeItIsSent() throws Exception {
    set("max.message.bytes", "8192");
    receiver.stop();
    receiver.listenAs(true, false, 8_192);
    receiver.start();
    start();
    append(1_000);
    awaitAllTaken();
    assertTrue(receiver.calls().stream().allMatch(c -> c.request().getSerializedSize() <= 8_192));
  }

  /** What gRPC's libraries say of it has the status of a receiver that is too busy. */
  @Test
  void aMessageTheReceiverFindsTooLargeIsHalved() throws Exception {
    set("compression", "none"); // unpacking one that is too long grpc-java answers UNKNOWN, which says nothing
    receiver.stop();
    receiver.listenAs(true, false, 8_192);
    receiver.start();
    start();
    append(1_000);
    awaitAllTaken();
  }

  @Test
  void okForLessThanAllRowsIsNoAcknowledgement() throws Exception {
    receiver.answer(new Answer(Status.OK, false, 0, 0));
    start();
    append(5);
    awaitState("failed,misconfigured");
    assertTrue(error().contains("accepted [0], which must be"), error());
    receiver.answer(Answer.ok());
    awaitAllTaken();
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
  }

  @Test
  void aReceiverThatHangsIsLeftAtTheDeadline() throws Exception {
    set("deadline.ms", "500");
    receiver.answer(Answer.hang());
    start();
    append(3);
    awaitState("running,timeout");
    assertTrue(error().contains("did not answer within 500 ms (sink.analytics.grpc.deadline.ms)") || error().contains("DEADLINE"), error());
    receiver.answer(Answer.ok());
    awaitAllTaken();
  }

  /** Takes the connection and says nothing, not even in TLS. */
  @Test
  void anAddressThatIsSilentIsLeftAtTheDeadline() throws Exception {
    try (ServerSocket silent = new ServerSocket(0)) {
      set("url", "https://localhost:" + silent.getLocalPort());
      set("deadline.ms", "500");
      start();
      append(1);
      awaitState("running,timeout");
    }
  }

  @Test
  void tokenIsReadForEachCallAndAWrongOneIsAStateNotALoss() throws Exception {
    Path token = Files.writeString(home.resolve("token"), "wrong");
    set("token.file", token.toString());
    receiver.token("right");
    start();
    append(5);
    awaitState("failed,unauthorized");
    Files.writeString(token, "two words");
    awaitError("sink.analytics.grpc.token.file [" + token + "] must hold");
    awaitState("failed,misconfigured");
    Files.writeString(token, "right\n");
    awaitAllTaken();
    Metadata last = receiver.calls().get(receiver.calls().size() - 1).metadata();
    assertEquals("Bearer right", last.get(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER)));
  }

  @ParameterizedTest
  @EnumSource(value = Identity.class, names = {"WRONG_HOST", "EXPIRED"})
  void aCertificateThatIsNotTheReceiversIsRefused(Identity identity) throws Exception {
    receiver.stop();
    authority.identity(identity);
    receiver.start();
    start();
    append(5);
    awaitState("failed,misconfigured");
    assertTrue(error().contains(identity == Identity.EXPIRED ? "NotAfter" : "localhost"), error());
    assertEquals(List.of(), receiver.calls());
    receiver.stop();
    authority.identity(Identity.VALID);
    receiver.start();
    awaitAllTaken();
  }

  @Test
  void anUnknownAuthorityIsRefusedUntilItsFileIsThere() throws Exception {
    Path ca = home.resolve("ca.pem");
    set("ca.file", ca.toString());
    start();
    append(5);
    awaitError("sink.analytics.grpc.ca.file [" + ca + "] must be a readable");
    Files.writeString(ca, Files.readString(authority.clientCert()));
    awaitError("certification path");
    awaitState("failed,misconfigured");
    assertEquals(List.of(), receiver.calls());
    Files.writeString(ca, Files.readString(authority.ca()));
    awaitAllTaken();
  }

  @Test
  void aReceiverThatWantsAClientCertificateGetsIt() throws Exception {
    receiver.stop();
    receiver.listenAs(true, true, 4_194_304);
    receiver.start();
    Path cert = home.resolve("client.pem");
    start();
    append(5);
    await().until(() -> !"running,".equals(state()));
    assertEquals(List.of(), receiver.calls());
    caravan.close();
    set("client.cert.file", Files.copy(authority.clientCert(), cert).toString());
    set("client.key.file", authority.clientKey().toString());
    start();
    awaitAllTaken();
  }

  @Test
  void aServerThatIsNoGrpcServerIsAState() throws Exception {
    set("url", "https://localhost:" + authority.port());
    start();
    append(1);
    awaitState("failed,misconfigured");
    assertTrue(error().contains("does not speak HTTP/2"), error());
  }

  @ParameterizedTest
  @CsvSource({"http://localhost:1,false,begin with https://", "http://example.org,true,begin with https://",
      "http://127.0.0.1.example.org,true,begin with https://", "https://user:pw@localhost:1,false,without user",
      "https://localhost:1/v1,true,have no path", "https://a b,false,be https://host"})
  void onlyTlsLeavesThisMachine(String url, boolean loopbackHttp, String rule) throws Exception {
    set("url", url);
    set("loopback.http", String.valueOf(loopbackHttp));
    start();
    append(1);
    awaitState("failed,misconfigured");
    assertTrue(error().startsWith("sink.analytics.grpc.url [") && error().contains(rule), error());
    assertTrue(!error().contains("pw@"), error());
  }
}
