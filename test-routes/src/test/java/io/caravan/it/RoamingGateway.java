// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.zip.GZIPOutputStream;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509ExtendedTrustManager;

/**
 * A gateway as the clouds see it, by docs/contract.md section 7 alone: an outbox that forgets what is acked, the next address after a
 * failure, a memory of command ids. It knows what it has sent and done, so that a test can hold that against the store. What is asked of
 * it may be asked by any thread.
 */
final class RoamingGateway implements WebSocket.Listener, AutoCloseable {
  static final List<String> LIFE = List.of("ACCEPTED", "QUEUED", "SENT", "DELIVERED", "SUCCEEDED");
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final long ANSWER_MS = 3_000;
  private static final int BATCH = 100;
  private static final String DEVICE = "dev-1";

  private final String id;
  private final String token;
  private final List<Integer> ports;
  private final long everyMs;
  private final HttpClient http;
  private final Thread thread;
  private final BlockingQueue<JsonNode> frames = new LinkedBlockingQueue<>();
  private final StringBuilder text = new StringBuilder();
  // Of the thread.
  private final Deque<String> outbox = new ArrayDeque<>();
  private long nextAt;
  private long seq;

  private final Map<String, Integer> executed = new HashMap<>();
  private volatile long acked;
  private volatile long rows;
  private volatile int at;
  private volatile int connections;
  private volatile boolean producing = true;
  private volatile boolean over;

  /**
   * @param ports   of the replicas, on this machine
   * @param first   with which of them it begins
   * @param everyMs a row so often
   */
  RoamingGateway(String id, String token, List<Integer> ports, int first, long everyMs) {
    this.id = id;
    this.token = token;
    this.ports = ports;
    this.at = first;
    this.everyMs = everyMs;
    try {
      SSLContext tls = SSLContext.getInstance("TLS");
      tls.init(null, new TrustManager[] {new Anyone()}, null);
      http = HttpClient.newBuilder().sslContext(tls).connectTimeout(Duration.ofMillis(ANSWER_MS)).build();
    } catch (GeneralSecurityException e) {
      throw new IllegalStateException(e);
    }
    thread = new Thread(this::run, "gateway-" + id);
    thread.setDaemon(true);
    thread.start();
  }

  String id() {
    return id;
  }

  long acked() {
    return acked;
  }

  /** @return how many telemetry rows there are */
  long rows() {
    return rows;
  }

  int connections() {
    return connections;
  }

  /** @return the port it is connected to, or tries */
  int port() {
    return ports.get(at % ports.size());
  }

  /** @return command id to how often it was begun */
  Map<String, Integer> executed() {
    synchronized (executed) {
      return new HashMap<>(executed);
    }
  }

  /** No more rows; what there is still leaves. */
  void finish() {
    producing = false;
  }

  boolean drained() {
    return !producing && acked == seq && rows > 0;
  }

  @Override
  public void close() {
    over = true;
    thread.interrupt();
  }

  private void run() {
    nextAt = System.nanoTime();
    while (!over) {
      WebSocket socket = null;
      try {
        frames.clear();
        text.setLength(0);
        socket = http.newWebSocketBuilder().header("Authorization", "Bearer " + token).connectTimeout(Duration.ofMillis(ANSWER_MS)).subprotocols("caravan.v1")
            .buildAsync(URI.create("wss://localhost:" + port() + "/uplink/" + id), this).get(ANSWER_MS, TimeUnit.MILLISECONDS);
        connections++;
        speak(socket);
      } catch (InterruptedException e) {
        over = true;
      } catch (Exception | Error gone) {
        // Nothing is lost by it: what is not acked is in the outbox.
      }
      if (socket != null) {
        socket.abort();
      }
      at++;
      try {
        TimeUnit.MILLISECONDS.sleep(ThreadLocalRandom.current().nextLong(50, 200)); // the backoff of the protocol
      } catch (InterruptedException e) {
        over = true;
      }
    }
  }

  private void speak(WebSocket socket) throws Exception {
    socket.sendText("{\"type\":\"hello\",\"protocol\":\"caravan.v1\",\"gateway_id\":\"" + id + "\",\"log_id\":\"log-" + id + "\",\"version\":\"it\",\"time_ms\":"
        + System.currentTimeMillis() + ",\"ranges\":[{\"first_seq\":1,\"acked_seq\":" + acked + "}],\"features\":[\"command\"]}", true).get(ANSWER_MS, TimeUnit.MILLISECONDS);
    JsonNode welcome = await("welcome", -1);
    for (JsonNode range : welcome.get("ranges")) {
      forget(range.get("acked_seq").asLong());
    }
    while (!over) {
      produce();
      if (outbox.isEmpty()) {
        JsonNode frame = frames.poll(20, TimeUnit.MILLISECONDS);
        if (frame != null) {
          handle(frame);
        }
        continue;
      }
      List<String> batch = new ArrayList<>();
      for (String row : outbox) {
        if (batch.size() < BATCH) {
          batch.add(row);
        }
      }
      long last = acked + batch.size();
      socket.sendBinary(gzip("{\"type\":\"batch\",\"log_id\":\"log-" + id + "\",\"lane\":\"live\",\"first_seq\":1,\"after\":" + acked + ",\"last\":" + last + ",\"rows\":["
          + String.join(",", batch) + "]}"), true).get(ANSWER_MS, TimeUnit.MILLISECONDS);
      await("ack", last);
      forget(last);
    }
  }

  private JsonNode await(String type, long last) throws InterruptedException, IOException {
    long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(ANSWER_MS);
    while (true) {
      JsonNode frame = frames.poll(until - System.nanoTime(), TimeUnit.NANOSECONDS);
      if (frame == null) {
        throw new IOException("no " + type);
      }
      if (frame.path("type").asText().equals(type) && (last < 0 || frame.path("last").asLong() == last)) {
        return frame;
      }
      handle(frame);
    }
  }

  private void forget(long to) {
    for (; acked < to; acked++) {
      outbox.remove();
    }
  }

  private void produce() {
    while (producing && nextAt <= System.nanoTime()) {
      nextAt += TimeUnit.MILLISECONDS.toNanos(everyMs);
      row("telemetry", DEVICE + "/b/" + (rows + 1), "{\"schema_version\":1,\"metrics\":{\"t\":" + (rows + 1) + "}}");
      rows++;
    }
  }

  private void row(String kind, String key, String body) {
    seq++;
    outbox.add("{\"seq\":" + seq + ",\"kind\":\"" + kind + "\",\"device_id\":\"" + DEVICE + "\",\"message_key\":\"" + key + "\",\"observed_at_ms\":"
        + System.currentTimeMillis() + ",\"body\":" + body + "}");
  }

  private void handle(JsonNode frame) throws IOException {
    String type = frame.path("type").asText();
    if (type.equals("error") || type.equals("closed")) {
      throw new IOException(frame.toString());
    }
    if (!type.equals("command")) {
      return;
    }
    for (JsonNode command : frame.get("commands")) {
      String one = command.get("id").asText();
      boolean first;
      synchronized (executed) {
        first = !executed.containsKey(one) && command.path("ttl_ms").asLong() > 0;
        if (first) {
          executed.merge(one, 1, Integer::sum);
        }
      }
      for (int r = 1; first && r <= LIFE.size(); r++) {
        row("command", DEVICE + "//c/" + one + "/" + r, "{\"command_id\":\"" + one + "\",\"revision\":" + r + ",\"status\":\"" + LIFE.get(r - 1) + "\",\"at_ms\":"
            + System.currentTimeMillis() + "}");
      }
    }
  }

  @Override
  public CompletionStage<?> onText(WebSocket from, CharSequence data, boolean last) {
    from.request(1);
    text.append(data);
    if (last) {
      try {
        frames.add(JSON.readTree(text.toString()));
      } catch (IOException e) {
        frames.add(JSON.createObjectNode().put("type", "closed"));
      }
      text.setLength(0);
    }
    return null;
  }

  @Override
  public CompletionStage<?> onClose(WebSocket from, int status, String reason) {
    frames.add(JSON.createObjectNode().put("type", "closed"));
    return null;
  }

  @Override
  public void onError(WebSocket from, Throwable error) {
    frames.add(JSON.createObjectNode().put("type", "closed"));
  }

  private static ByteBuffer gzip(String text) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (GZIPOutputStream out = new GZIPOutputStream(bytes)) {
      out.write(text.getBytes(StandardCharsets.UTF_8));
    }
    return ByteBuffer.wrap(bytes.toByteArray());
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
}
