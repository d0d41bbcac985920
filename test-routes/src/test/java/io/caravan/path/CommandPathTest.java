// SPDX-License-Identifier: Apache-2.0
package io.caravan.path;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import io.caravan.commands.Commands;
import io.caravan.commands.Status;
import io.caravan.uplink.Gateways;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.ClientWebSocket;
import io.vertx.core.http.WebSocketClientOptions;
import io.vertx.core.http.WebSocketConnectOptions;
import io.vertx.core.json.JsonObject;
import io.vertx.core.net.PemTrustOptions;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** From the phone to the device and back, over the real path: HTTP, TLS uplink, MQTT, two stores, and the live stream. */
@Timeout(300)
class CommandPathTest {
  private static final Logger LOG = LoggerFactory.getLogger(CommandPathTest.class);
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final String CAPABILITIES = "{\"schema_version\":1,\"version\":\"1\",\"commands\":{\"led\":{\"arguments\":{\"type\":\"object\","
      + "\"properties\":{\"on\":{\"type\":\"boolean\"}},\"required\":[\"on\"],\"additionalProperties\":false},\"idempotent\":false,\"timeout_ms\":10000}}}";

  /** When each step was seen, in nanoseconds, by command id. */
  private static final class Times {
    final Map<String, Long> posted = new ConcurrentHashMap<>();
    final Map<String, Long> accepted = new ConcurrentHashMap<>();
    final Map<String, Long> atDevice = new ConcurrentHashMap<>();
    final Map<String, Long> answerAcked = new ConcurrentHashMap<>();
    final Map<String, Long> atGateway = new ConcurrentHashMap<>();
    final Map<String, Long> streamed = new ConcurrentHashMap<>();
  }

  @TempDir Path temp;
  final HttpClient http = HttpClient.newHttpClient();
  final Times times = new Times();
  final Map<String, List<String>> statuses = new ConcurrentHashMap<>();
  final AtomicInteger executions = new AtomicInteger();
  final List<Mqtt5AsyncClient> devices = new ArrayList<>();
  Pair pair;
  Thread stream;
  volatile boolean streaming;

  @BeforeEach
  void start() throws Exception {
    pair = new Pair(temp);
    pair.startCloud(Map.of());
    pair.enrol();
    pair.startGateway(Map.of());
    pair.gateway.bean("commands", Commands.class).orElseThrow().onChange(c -> {
      if (c.status() == Status.SUCCEEDED) {
        times.atGateway.put(c.id(), System.nanoTime());
      }
    });
    await().atMost(Duration.ofSeconds(30)).until(() -> Pair.number(pair.cloud, "SELECT count(*) FROM gateway WHERE session_id IS NOT NULL") == 1);
  }

  @AfterEach
  void stop() throws Exception {
    devices.forEach(d -> d.disconnect().exceptionally(gone -> null).join());
    pair.close();
    if (stream != null) {
      stream.join(10_000);
    }
  }

  /** A device that does what it is told at once, and says so. */
  private void device(String id) throws Exception {
    Mqtt5AsyncClient client = Mqtt5Client.builder().identifier(id).serverHost("127.0.0.1").serverPort(pair.mqttPort).buildAsync();
    client.connect().get(30, TimeUnit.SECONDS);
    client.publish(message(id, "capabilities", CAPABILITIES)).get(30, TimeUnit.SECONDS);
    client.subscribeWith().topicFilter("devices/" + id + "/commands").qos(MqttQos.AT_LEAST_ONCE).callback(command -> {
      try {
        String commandId = JSON.readTree(command.getPayloadAsBytes()).path("command_id").textValue();
        times.atDevice.put(commandId, System.nanoTime());
        executions.incrementAndGet();
        client.publish(message(id, "command-status", "{\"command_id\":\"" + commandId + "\",\"status\":\"succeeded\",\"result\":{\"on\":true}}"))
            .whenComplete((acked, error) -> times.answerAcked.put(commandId, System.nanoTime()));
      } catch (Exception e) {
        throw new IllegalStateException(e);
      }
    }).send().get(30, TimeUnit.SECONDS);
    devices.add(client);
    await().atMost(Duration.ofSeconds(30)).until(() -> Pair.number(pair.gateway, "SELECT count(*) FROM capability WHERE device_id = '" + id + "'") == 1);
  }

  private static Mqtt5Publish message(String device, String what, String json) {
    return Mqtt5Publish.builder().topic("devices/" + device + "/" + what).qos(MqttQos.AT_LEAST_ONCE).contentType("application/json")
        .payload(json.getBytes(StandardCharsets.UTF_8)).build();
  }

  private void stream() throws Exception {
    HttpResponse<java.io.InputStream> response = http.send(HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + pair.httpPort
        + "/api/v1/commands/stream?gateway_id=gw-1")).build(), HttpResponse.BodyHandlers.ofInputStream());
    assertEquals(200, response.statusCode());
    stream = new Thread(() -> {
      try (BufferedReader lines = new BufferedReader(new InputStreamReader(response.body(), StandardCharsets.UTF_8))) {
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
          if (line.startsWith("data:")) {
            JsonNode event = JSON.readTree(line.substring(5));
            String id = event.path("command_id").textValue();
            String status = event.path("status").textValue();
            statuses.computeIfAbsent(id, k -> new ArrayList<>()).add(status);
            if (status.equals("SUCCEEDED")) {
              times.streamed.put(id, System.nanoTime());
            }
          }
        }
      } catch (java.io.IOException closed) {
        LOG.debug("the stream ended", closed);
      }
    });
    stream.start();
  }

  private void post(String device, String id) throws Exception {
    times.posted.put(id, System.nanoTime());
    HttpResponse<String> answer = http.send(request(device, id), HttpResponse.BodyHandlers.ofString());
    times.accepted.put(id, System.nanoTime());
    assertEquals(202, answer.statusCode(), answer.body());
  }

  private HttpRequest request(String device, String id) {
    return HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + pair.httpPort + "/api/v1/devices/gw-1/" + device + "/commands"))
        .header("Content-Type", "application/json").POST(HttpRequest.BodyPublishers.ofString("{\"id\":\"" + id + "\",\"name\":\"led\",\"arguments\":{\"on\":true},"
            + "\"ttl_ms\":60000}")).build();
  }

  private static String figures(Map<String, Long> from, Map<String, Long> to, int skip) {
    List<Long> us = new TreeMap<>(from).entrySet().stream().skip(skip).filter(e -> to.containsKey(e.getKey()))
        .map(e -> (to.get(e.getKey()) - e.getValue()) / 1000).sorted().toList();
    return us.isEmpty() ? "none" : String.format("p10 %.1f  p50 %.1f  p90 %.1f  p99 %.1f ms", us.get(us.size() / 10) / 1000.0, us.get(us.size() / 2) / 1000.0, us.get(us.size() * 9 / 10) / 1000.0,
        us.get(us.size() * 99 / 100) / 1000.0);
  }

  private void report(int skip) {
    LOG.warn("round trip  {}", figures(times.posted, times.streamed, skip));
    LOG.warn("  POST to 202            {}", figures(times.posted, times.accepted, skip));
    LOG.warn("  POST to device         {}", figures(times.posted, times.atDevice, skip));
    LOG.warn("  device to PUBACK       {}", figures(times.atDevice, times.answerAcked, skip));
    LOG.warn("  device to SUCCEEDED    {}", figures(times.atDevice, times.atGateway, skip));
    LOG.warn("  SUCCEEDED to stream    {}", figures(times.atGateway, times.streamed, skip));
  }

  private void trace(String id) {
    if (pair.traces.isEmpty()) {
      return;
    }
    long from = times.posted.get(id);
    StringBuilder text = new StringBuilder();
    List<Trace.Step> steps = new ArrayList<>();
    pair.traces.values().forEach(t -> steps.addAll(t.between(from, times.streamed.get(id))));
    for (var mark : Map.of("202", times.accepted, "AT DEVICE", times.atDevice, "PUBACK", times.answerAcked, "SUCCEEDED", times.atGateway, "STREAMED", times.streamed).entrySet()) {
      steps.add(new Trace.Step("=====", "", mark.getKey(), "", mark.getValue().get(id), mark.getValue().get(id)));
    }
    steps.sort(java.util.Comparator.comparingLong(Trace.Step::from));
    steps.forEach(s -> text.append(String.format("%n%7.2f +%6.2f %-8s %-18s %-40s %s", (s.from() - from) / 1e6, (s.to() - s.from()) / 1e6, s.side(), s.route(), s.step(), s.thread())));
    LOG.warn("{}", text);
  }

  @Test
  void commandGoesToTheDeviceAndItsAnswerComesBackToTheStream() throws Exception {
    device("dev-1");
    stream();
    int count = Integer.getInteger("path.commands", 30);
    for (int i = 0; i < count; i++) {
      String id = String.format("c-%04d", i);
      post("dev-1", id);
      await().atMost(Duration.ofSeconds(30)).pollDelay(Duration.ZERO).pollInterval(Duration.ofMillis(1)).until(() -> times.streamed.containsKey(id));
    }
    report(count / 3);
    trace(String.format("c-%04d", count - 1));
    trace(String.format("c-%04d", count - 2));
    assertEquals(count, executions.get());
    statuses.values().forEach(s -> assertEquals(List.of("ACCEPTED", "QUEUED", "SENT", "DELIVERED", "SUCCEEDED"), s.stream().distinct().toList()));
    assertEquals(count, Pair.number(pair.cloud, "SELECT count(*) FROM command WHERE status = 'SUCCEEDED' AND transmissions = 1"));
  }

  /** A gateway of this cloud that lies: about commands of another gateway, about ones that do not exist, out of order, twice. */
  @Test
  void gatewayThatLiesHarmsNobodyButItself() throws Exception {
    device("dev-1");
    stream();
    post("dev-1", "c-0001");
    await().atMost(Duration.ofSeconds(60)).until(() -> times.streamed.containsKey("c-0001"));
    String token = pair.cloud.bean("gateways", Gateways.class).orElseThrow().add("gw-2", Gateways.Certificate.NO, true, null, null).token();
    Vertx vertx = Vertx.vertx();
    try {
      BlockingQueue<JsonObject> received = new LinkedBlockingQueue<>();
      ClientWebSocket liar = vertx.createWebSocketClient(new WebSocketClientOptions().setSsl(true)
          .setTrustOptions(new PemTrustOptions().addCertPath(temp.resolve("cloud.crt").toString()))).webSocket();
      liar.textMessageHandler(text -> received.add(new JsonObject(text)));
      liar.connect(new WebSocketConnectOptions().setHost("localhost").setPort(pair.uplinkPort).setURI("/uplink/gw-2").addSubProtocol("caravan.v1")
          .addHeader("Authorization", "Bearer " + token)).toCompletionStage().toCompletableFuture().get(30, TimeUnit.SECONDS);
      liar.writeTextMessage("{\"type\":\"hello\",\"protocol\":\"caravan.v1\",\"gateway_id\":\"gw-2\",\"log_id\":\"log\",\"version\":\"x\",\"time_ms\":1,\"ranges\":[]}");
      assertEquals("welcome", received.poll(30, TimeUnit.SECONDS).getString("type"));
      List<String> bodies = new ArrayList<>(List.of(
          event("c-0001", 6, "FAILED"), event("c-0001", 1, "EXPIRED"),       // of the other gateway
          event("ghost", 2, "SUCCEEDED"), event("ghost", 4, "FAILED"),       // nobody's, and its first word is missing
          event("twice", 1, "ACCEPTED"), event("twice", 1, "REJECTED"), event("twice", 3, "SENT"), event("twice", 2, "QUEUED"), event("twice", 3, "FAILED"),
          "1", "null", "[]", "{}", "\"x\"", event("huge", 9_000_000_000L, "SENT"), event("neg", -1, "SENT"), event("word", 1, "DONE"),
          event("x".repeat(65), 1, "ACCEPTED"), event("types", 1, "ACCEPTED").replace("\"status\":\"ACCEPTED\"", "\"status\":[\"ACCEPTED\"]"),
          event("deep", 1, "ACCEPTED").replace("\"at_ms\":1", "\"at_ms\":1,\"result\":" + "[".repeat(50) + "]".repeat(50))));
      StringBuilder rows = new StringBuilder();
      for (int i = 0; i < bodies.size(); i++) {
        rows.append(i == 0 ? "" : ",").append("{\"seq\":").append(i + 1).append(",\"kind\":\"command\",\"device_id\":\"dev-1\",\"message_key\":\"k").append(i)
            .append("\",\"observed_at_ms\":1,\"trace_context\":null,\"body\":").append(bodies.get(i)).append('}');
      }
      ByteArrayOutputStream batch = new ByteArrayOutputStream();
      try (GZIPOutputStream gzip = new GZIPOutputStream(batch)) {
        gzip.write(("{\"type\":\"batch\",\"log_id\":\"log\",\"lane\":\"live\",\"first_seq\":1,\"after\":0,\"last\":" + bodies.size() + ",\"rows\":[" + rows + "]}")
            .getBytes(StandardCharsets.UTF_8));
      }
      liar.writeBinaryMessage(Buffer.buffer(batch.toByteArray()));
      JsonObject ack = received.poll(30, TimeUnit.SECONDS);
      assertEquals("ack", ack.getString("type"), ack::encode);
      await().atMost(Duration.ofSeconds(60)).until(() -> Pair.number(pair.cloud, "SELECT min(acked_seq) >= (SELECT seq FROM sqlite_sequence WHERE name = 'inbox')"
          + " FROM sink_range WHERE sink = 'command'") == 1);
    } finally {
      vertx.close().toCompletionStage().toCompletableFuture().get(30, TimeUnit.SECONDS);
    }
    assertEquals(1, Pair.number(pair.cloud, "SELECT count(*) FROM command WHERE gateway_id = 'gw-1' AND command_id = 'c-0001' AND status = 'SUCCEEDED' AND gateway_revision = 5"));
    assertEquals(0, Pair.number(pair.cloud, "SELECT count(*) FROM command_event WHERE gateway_id = 'gw-1' AND status IN ('FAILED', 'EXPIRED')"));
    // Its own lies are told as its own, in the order of their revisions, each revision once.
    assertEquals(1, Pair.number(pair.cloud, "SELECT group_concat(revision || status, ' ' ORDER BY id) = '1ACCEPTED 2QUEUED 3SENT' FROM command_event WHERE gateway_id = 'gw-2'"
        + " AND command_id = 'twice'"));
    assertEquals(0, Pair.number(pair.cloud, "SELECT count(*) FROM command_event WHERE gateway_id = 'gw-2' AND command_id IN ('ghost', 'huge', 'neg', 'word', 'types')"));
    post("dev-1", "c-0002");
    await().atMost(Duration.ofSeconds(60)).until(() -> times.streamed.containsKey("c-0002"));
  }

  private static String event(String id, long revision, String status) {
    return "{\"command_id\":\"" + id + "\",\"revision\":" + revision + ",\"status\":\"" + status + "\",\"at_ms\":1"
        + (revision == 1 ? ",\"name\":\"led\",\"arguments\":{},\"origin\":\"shell\",\"issued_by\":\"x\",\"created_at_ms\":1,\"expires_at_ms\":2" : "") + "}";
  }
}
