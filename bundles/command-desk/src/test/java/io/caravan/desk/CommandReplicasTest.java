// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpResponse;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.zip.GZIPOutputStream;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509ExtendedTrustManager;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Two replicas over one store, with real uplinks: a phone at the one, the gateway at the other, over HTTP, TLS and WebSocket. */
@Timeout(120)
class CommandReplicasTest {
  private static final String LIFE = "ACCEPTED QUEUED SENT DELIVERED SUCCEEDED";

  @TempDir
  Path dir;

  /** A gateway as its protocol has it: knows ids, carries each out once, tells five events of it. */
  private static final class Gateway implements WebSocket.Listener {
    final String id;
    final List<String> executed = new CopyOnWriteArrayList<>();
    private final Set<String> known = ConcurrentHashMap.newKeySet();
    private final StringBuilder text = new StringBuilder();
    private long seq;
    private WebSocket socket;

    Gateway(String id) {
      this.id = id;
    }

    void connect(int port) throws Exception {
      SSLContext tls = SSLContext.getInstance("TLS");
      tls.init(null, new TrustManager[] {new Anyone()}, null);
      socket = HttpClient.newBuilder().sslContext(tls).build().newWebSocketBuilder().header("Authorization", "Bearer t0ken")
          .connectTimeout(Duration.ofSeconds(20)).subprotocols("caravan.v1").buildAsync(URI.create("wss://localhost:" + port + "/uplink/" + id), this).get();
      socket.sendText("{\"type\":\"hello\",\"protocol\":\"caravan.v1\",\"gateway_id\":\"" + id + "\",\"log_id\":\"log-" + id + "\",\"version\":\"1\",\"time_ms\":1,"
          + "\"ranges\":[{\"first_seq\":1,\"acked_seq\":" + seq + "}],\"features\":[\"command\"]}", true).get();
    }

    @Override
    public CompletionStage<?> onText(WebSocket from, CharSequence data, boolean last) {
      from.request(1);
      text.append(data);
      if (!last) {
        return null;
      }
      try {
        JsonNode frame = Cloud.JSON.readTree(text.toString());
        text.setLength(0);
        if (frame.path("type").asText().equals("command")) {
          List<String> rows = new ArrayList<>();
          for (JsonNode command : frame.get("commands")) {
            String command0 = command.get("id").asText();
            if (known.add(command0)) {
              executed.add(command0);
              for (int r = 1; r <= 5; r++) {
                rows.add("{\"seq\":" + (seq + rows.size() + 1) + ",\"kind\":\"command\",\"device_id\":\"lock-1\",\"message_key\":\"lock-1//c/" + command0 + "/" + r
                    + "\",\"observed_at_ms\":1,\"body\":" + Cloud.event(command0, r, LIFE.split(" ")[r - 1], "") + "}");
              }
            }
          }
          if (!rows.isEmpty()) {
            long after = seq;
            seq += rows.size();
            return from.sendBinary(gzip("{\"type\":\"batch\",\"log_id\":\"log-" + id + "\",\"lane\":\"live\",\"first_seq\":1,\"after\":" + after + ",\"last\":" + seq
                + ",\"rows\":[" + String.join(",", rows) + "]}"), true);
          }
        }
      } catch (java.io.IOException e) {
        throw new java.io.UncheckedIOException(e);
      }
      return null;
    }

    private static ByteBuffer gzip(String text) throws java.io.IOException {
      ByteArrayOutputStream bytes = new ByteArrayOutputStream();
      try (GZIPOutputStream out = new GZIPOutputStream(bytes)) {
        out.write(text.getBytes(StandardCharsets.UTF_8));
      }
      return ByteBuffer.wrap(bytes.toByteArray());
    }
  }

  private static final class Anyone extends X509ExtendedTrustManager {
    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type) {}

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type) {}

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket) {}

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket) {}

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}

    @Override
    public X509Certificate[] getAcceptedIssuers() {
      return new X509Certificate[0];
    }
  }

  private String[] settings(int port) {
    return new String[] {"uplink.port", String.valueOf(port), "uplink.tls.cert", dir.resolve("cloud.pem").toString(), "uplink.tls.key",
        dir.resolve("cloud.key").toString(), "uplink.gateways.file", dir.resolve("gateways").toString(), "uplink.handshake.per.s", "0",
        "uplink.handshake.address.per.s", "0"};
  }

  private static int free() throws Exception {
    try (ServerSocket socket = new ServerSocket(0)) {
      return socket.getLocalPort();
    }
  }

  @Test
  void aCommandReachesItsGatewayThroughWhicheverReplicaHoldsIt() throws Exception {
    Process openssl = new ProcessBuilder("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
        "/CN=localhost", "-keyout", "cloud.key", "-out", "cloud.pem").directory(dir.toFile()).redirectErrorStream(true)
        .redirectOutput(dir.resolve("openssl.log").toFile()).start();
    assertEquals(true, openssl.waitFor(60, TimeUnit.SECONDS));
    Files.writeString(dir.resolve("gateways"), "gw-1 = sha256:" + HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest("t0ken".getBytes())) + "\n");
    int portOne = free();
    int portTwo = free();
    Gateway gateway = new Gateway("gw-1");
    try (Cloud one = Cloud.start(dir.resolve("one"), settings(portOne)); Cloud two = one.replica(dir.resolve("two"), settings(portTwo))) {
      gateway.connect(portTwo);
      await().until(() -> one.rows("SELECT connected FROM gateway").equals(List.of("1")));
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
        gateway.socket.abort();
        gateway.connect(portOne);
        ids.add("d0");
        two.json(202, "POST", "/api/v1/devices/gw-1/lock-1/commands", "{\"id\":\"d0\",\"name\":\"unlock\"}");
        assertEquals("ACCEPTED " + LIFE, told(lines, "d0"));
        await().atMost(30, TimeUnit.SECONDS).until(() -> one.one("SELECT count(*) FROM command WHERE status = 'SUCCEEDED'").equals("21"));
        assertEquals(ids.stream().sorted().toList(), gateway.executed.stream().sorted().toList(), "each once");
      }
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
