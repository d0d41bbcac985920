// SPDX-License-Identifier: Apache-2.0
package io.caravan.camelk;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.postgres.test.PostgresServer;
import io.caravan.runtime.Caravan;
import io.caravan.runtime.Check;
import io.caravan.runtime.RouteFile;
import io.caravan.uplink.Gateways;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.Statement;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import java.util.zip.GZIPOutputStream;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import javax.sql.DataSource;
import org.apache.camel.v1.Integration;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The sources of the Integration, mounted as the operator mounts them, run without OSGi on a real store, and a gateway's rows come through TLS. */
@Timeout(180)
class PlainCamelTest {
  private static final Duration LIMIT = Duration.ofSeconds(90);

  @TempDir
  Path home;

  private Path sources;
  private Caravan caravan;
  private int http;
  private int uplink;

  /** What a gateway says, without one. */
  private static final class Peer implements WebSocket.Listener {
    final BlockingQueue<String> heard = new LinkedBlockingQueue<>();
    private final StringBuilder text = new StringBuilder();

    @Override
    public CompletionStage<?> onText(WebSocket from, CharSequence data, boolean last) {
      text.append(data);
      if (last) {
        heard.add(text.toString());
        text.setLength(0);
      }
      from.request(1);
      return null;
    }

    String hears(String... words) throws InterruptedException {
      for (String frame = heard.poll(60, TimeUnit.SECONDS); frame != null; frame = heard.poll(60, TimeUnit.SECONDS)) {
        if (Stream.of(words).map(word -> '"' + word + '"').anyMatch(frame::contains)) {
          return frame;
        }
      }
      throw new AssertionError("none of " + List.of(words) + " came");
    }
  }

  private static int free() throws Exception {
    try (ServerSocket socket = new ServerSocket(0)) {
      return socket.getLocalPort();
    }
  }

  @BeforeEach
  void mount() throws Exception {
    Integration integration = Strict.YAML.treeToValue(Strict.documents(Integrations.text(Strict.REPO, "0.1.0")).get(0), Integration.class);
    sources = Files.createDirectories(home.resolve("sources"));
    for (var source : integration.getSpec().getSources()) {
      Files.writeString(sources.resolve(source.getName()), source.getContent());
    }
    for (String from : List.of("common", "cloud")) {
      Path folder = Strict.REPO.resolve("config").resolve(from);
      try (Stream<Path> files = Files.walk(folder)) {
        for (Path file : files.filter(Files::isRegularFile).toList()) {
          Path to = home.resolve("etc").resolve(folder.relativize(file).toString());
          Files.createDirectories(to.getParent());
          Files.copy(file, to);
        }
      }
    }
    Process openssl = new ProcessBuilder("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "tls.key", "-out", "tls.crt").directory(home.toFile()).redirectErrorStream(true)
        .redirectOutput(home.resolve("openssl.log").toFile()).start();
    assertTrue(openssl.waitFor(60, TimeUnit.SECONDS) && openssl.exitValue() == 0);
    http = free();
    uplink = free();
  }

  @AfterEach
  void stop() {
    if (caravan != null) {
      caravan.close();
    }
    List.copyOf(System.getProperties().stringPropertyNames()).stream().filter(p -> p.startsWith("caravan.")).forEach(System::clearProperty);
  }

  private void start(Map<String, String> more) throws Exception {
    Map<String, String> keys = new HashMap<>(Map.of("http.port", "" + http, "uplink.port", "" + uplink, "uplink.tls.cert", home.resolve("tls.crt").toString(),
        "uplink.tls.key", home.resolve("tls.key").toString(), "fleet.tick.ms", "200"));
    keys.putAll(more);
    // In a pod these are CARAVAN_*; a process cannot change its own environment.
    keys.forEach((key, value) -> System.setProperty("caravan." + key, value));
    caravan = Main.start(home, sources);
    assertTrue(caravan.awaitReady(LIMIT), () -> caravan.checks().stream().filter(c -> !c.up()).map(Check::toString).toList().toString());
  }

  private String get(int status, String path) throws Exception {
    HttpResponse<String> answer = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + http + path)).build(), HttpResponse.BodyHandlers.ofString());
    assertEquals(status, answer.statusCode(), answer::body);
    return answer.body();
  }

  private WebSocket connect(String token, Peer peer) throws Exception {
    KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
    trusted.load(null, null);
    try (InputStream in = Files.newInputStream(home.resolve("tls.crt"))) {
      trusted.setCertificateEntry("cloud", CertificateFactory.getInstance("X.509").generateCertificate(in));
    }
    TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    factory.init(trusted);
    SSLContext tls = SSLContext.getInstance("TLS");
    tls.init(null, factory.getTrustManagers(), null);
    return HttpClient.newBuilder().sslContext(tls).build().newWebSocketBuilder().header("Authorization", "Bearer " + token).subprotocols("caravan.v1")
        .connectTimeout(Duration.ofSeconds(30)).buildAsync(URI.create("wss://localhost:" + uplink + "/uplink/gw-1"), peer).get();
  }

  private String one(String sql) throws Exception {
    try (Connection connection = caravan.bean("reader", DataSource.class).orElseThrow().getConnection(); Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery(sql)) {
      return row.next() ? row.getString(1) : null;
    }
  }

  private void flows() throws Exception {
    // Camel starts with no routes and says nothing: so they are counted.
    assertEquals(new TreeSet<>(Integrations.files(Strict.REPO).keySet()), new TreeSet<>(caravan.routes().stream().map(RouteFile::file).toList()));
    assertTrue(caravan.context().getRoutesSize() >= 20, () -> "routes: " + caravan.context().getRoutesSize());
    get(200, "/healthz");
    get(200, "/readyz");
    String token = caravan.bean("gateways", Gateways.class).orElseThrow().add("gw-1", Gateways.Certificate.NO, true, null, null).token();
    Peer peer = new Peer();
    WebSocket socket = null;
    String answer = "not_current";
    // A replica that has no lease yet says so, and a gateway connects again.
    for (long end = System.nanoTime() + LIMIT.toNanos(); answer.contains("not_current") && System.nanoTime() < end;) {
      socket = connect(token, peer);
      socket.sendText("{\"type\":\"hello\",\"protocol\":\"caravan.v1\",\"gateway_id\":\"gw-1\",\"log_id\":\"log-1\",\"version\":\"0.1.0\",\"time_ms\":1,"
          + "\"ranges\":[{\"first_seq\":1,\"acked_seq\":0}],\"features\":[\"command\"]}", true).get();
      answer = peer.hears("welcome", "not_current");
    }
    assertTrue(answer.contains("max_batch_rows"), answer);
    String body = "{\"device_id\":\"dev-1\",\"metric\":\"t\",\"start_ms\":1795255200000,\"width_ms\":60000,\"part\":0,\"revision\":1,\"count\":2,\"min\":20.5,\"max\":21.5,"
        + "\"sum\":42.0,\"mean\":21.0,\"last\":21.5,\"last_observed_ms\":1795255230000}";
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (GZIPOutputStream out = new GZIPOutputStream(bytes)) {
      out.write(("{\"type\":\"batch\",\"log_id\":\"log-1\",\"lane\":\"live\",\"first_seq\":1,\"after\":0,\"last\":1,\"rows\":[{\"seq\":1,\"kind\":\"window\",\"device_id\":\"dev-1\","
          + "\"message_key\":\"dev-1//w/1\",\"observed_at_ms\":1795255230000,\"body\":" + body + "}]}").getBytes(StandardCharsets.UTF_8));
    }
    socket.sendBinary(ByteBuffer.wrap(bytes.toByteArray()), true).get();
    assertTrue(peer.hears("ack").contains("\"last\":1"));
    socket.sendText("{\"type\":\"stats\",\"number\":1,\"time_ms\":1,\"backlog_rows\":3,\"lag_ms\":5,\"store_state\":\"DURABLE\",\"ready\":true}", true).get();
    assertTrue(peer.hears("stats-ack").contains("\"number\":1"));
    await().atMost(LIMIT).until(() -> "21.5".equals(one("SELECT value FROM last_value WHERE gateway_id = 'gw-1' AND device_id = 'dev-1' AND metric = 't'")));
    await().atMost(LIMIT).until(() -> "3".equals(one("SELECT backlog_rows FROM gateway_health WHERE gateway_id = 'gw-1'")));
    assertTrue(get(200, "/api/v1/fleet/gw-1").contains("\"backlog_rows\":3"));
    socket.abort();
  }

  @Test
  void theFlowsRunOnSqlite() throws Exception {
    start(Map.of());
    flows();
  }

  @Test
  void theFlowsRunOnPostgresql() throws Exception {
    PostgresServer.Database database = PostgresServer.shared().database();
    start(Map.of("store.type", "postgresql", "store.url", database.url(), "store.user", database.user(), "store.password", database.password()));
    flows();
  }

  @Test
  void withoutSourcesItDoesNotStart() {
    System.setProperty("caravan.http.port", "0");
    assertTrue(assertThrows(IllegalStateException.class, () -> Main.start(home, Files.createDirectories(home.resolve("none")))).getMessage().contains("CARAVAN_SOURCES"));
  }
}
