// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.zip.GZIPOutputStream;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509ExtendedTrustManager;

/** A gateway as its protocol has it: an outbox that forgets what is acked, one batch at a time; knows ids, carries each out once, tells five events of it. */
final class Gateway implements WebSocket.Listener {
  static final List<String> LIFE = List.of("ACCEPTED", "QUEUED", "SENT", "DELIVERED", "SUCCEEDED");
  private static final long WAIT_S = 60;

  private final String id;
  private final List<String> executed;
  private final Set<String> known;
  private final Deque<String> outbox = new ArrayDeque<>();
  private final CompletableFuture<String> refused = new CompletableFuture<>();
  private StringBuilder text;
  private CompletableFuture<Void> welcomed;
  private WebSocket socket;
  private long acked;
  private boolean sending;

  Gateway(String id) {
    this(id, new CopyOnWriteArrayList<>(), ConcurrentHashMap.newKeySet());
  }

  private Gateway(String id, List<String> executed, Set<String> known) {
    this.id = id;
    this.executed = executed;
    this.known = known;
  }

  /** @return the same gateway, which knows of no more acks than this one, for another connection */
  synchronized Gateway again() {
    Gateway next = new Gateway(id, executed, known);
    next.outbox.addAll(outbox);
    next.acked = acked;
    return next;
  }

  List<String> executed() {
    return executed;
  }

  /** @return when it is welcomed */
  void connect(int port) throws Exception {
    SSLContext tls = SSLContext.getInstance("TLS");
    tls.init(null, new TrustManager[] {new Anyone()}, null);
    CompletableFuture<Void> answer = new CompletableFuture<>();
    synchronized (this) {
      text = new StringBuilder();
      welcomed = answer;
    }
    WebSocket made = HttpClient.newBuilder().sslContext(tls).build().newWebSocketBuilder().header("Authorization", "Bearer t0ken")
        .connectTimeout(Duration.ofSeconds(20)).subprotocols("caravan.v1").buildAsync(URI.create("wss://localhost:" + port + "/uplink/" + id), this).get();
    String hello;
    synchronized (this) {
      socket = made;
      hello = "{\"type\":\"hello\",\"protocol\":\"caravan.v1\",\"gateway_id\":\"" + id + "\",\"log_id\":\"log-" + id + "\",\"version\":\"1\",\"time_ms\":1,"
          + "\"ranges\":[{\"first_seq\":1,\"acked_seq\":" + acked + "}],\"features\":[\"command\"]}";
    }
    made.sendText(hello, true).get();
    answer.get(WAIT_S, TimeUnit.SECONDS);
  }

  synchronized void abort() {
    socket.abort();
    welcomed = new CompletableFuture<>();
    sending = false;
  }

  /** So many rows more; waits for nothing. */
  synchronized void batch(String kind, int count) throws IOException {
    for (int i = 1; i <= count; i++) {
      row(kind, "lock-1/b/", "{\"schema_version\":1,\"metrics\":{\"t\":" + i + "}}");
    }
    pump();
  }

  /** @return when all there was is acked */
  synchronized void acked() throws InterruptedException {
    long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_S);
    while (!outbox.isEmpty()) {
      if (System.nanoTime() > until) {
        throw new IllegalStateException(outbox.size() + " rows are not acked");
      }
      wait(100);
    }
  }

  /** @return the reason, when this connection is refused */
  String refused() throws Exception {
    return refused.get(WAIT_S, TimeUnit.SECONDS);
  }

  private void row(String kind, String key, String body) {
    long seq = acked + outbox.size() + 1;
    outbox.add("{\"seq\":" + seq + ",\"kind\":\"" + kind + "\",\"device_id\":\"lock-1\",\"message_key\":\"" + key + seq + "\",\"observed_at_ms\":1,\"body\":" + body + "}");
  }

  private void forget(long to) {
    for (; acked < to; acked++) {
      outbox.remove();
    }
    notifyAll();
  }

  private void pump() throws IOException {
    if (sending || outbox.isEmpty() || welcomed == null || !welcomed.isDone()) {
      return;
    }
    sending = true;
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (GZIPOutputStream out = new GZIPOutputStream(bytes)) {
      out.write(("{\"type\":\"batch\",\"log_id\":\"log-" + id + "\",\"lane\":\"live\",\"first_seq\":1,\"after\":" + acked + ",\"last\":" + (acked + outbox.size())
          + ",\"rows\":[" + String.join(",", outbox) + "]}").getBytes(StandardCharsets.UTF_8));
    }
    socket.sendBinary(ByteBuffer.wrap(bytes.toByteArray()), true);
  }

  @Override
  public synchronized CompletionStage<?> onText(WebSocket from, CharSequence data, boolean last) {
    from.request(1);
    if (socket != null && from != socket) {
      return null;
    }
    text.append(data);
    if (!last) {
      return null;
    }
    try {
      JsonNode frame = Cloud.JSON.readTree(text.toString());
      text.setLength(0);
      switch (frame.path("type").asText()) {
        case "welcome" -> {
          frame.get("ranges").forEach(range -> forget(range.get("acked_seq").asLong()));
          sending = false;
          welcomed.complete(null);
        }
        case "error" -> refused.complete(frame.path("reason").asText());
        case "ack" -> {
          forget(frame.get("last").asLong());
          sending = false;
        }
        case "command" -> {
          for (JsonNode command : frame.get("commands")) {
            String one = command.get("id").asText();
            if (known.add(one)) {
              executed.add(one);
              for (int r = 1; r <= LIFE.size(); r++) {
                row("command", "lock-1//c/" + one + "/", Cloud.event(one, r, LIFE.get(r - 1), ""));
              }
            }
          }
        }
        default -> { }
      }
      pump();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return null;
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
