// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import com.hivemq.client.mqtt.mqtt5.message.publish.puback.Mqtt5PubAckReasonCode;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestMethodOrder;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Both distributions as devices, an operator and a user of the cloud's API meet them. */
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
class SmokeIT {
  private static final Duration DELIVERY = Duration.ofSeconds(30);
  private static final String JSON = "application/json";
  private static final String PROTOBUF = "application/x-protobuf";
  private static Pair pair;

  @BeforeAll
  static void start() {
    pair = new Pair("smoke");
    pair.start();
  }

  @AfterAll
  static void stop() {
    if (pair != null) {
      pair.close();
    }
  }

  @Test
  void operatorsQuestionsAreAnswered() throws Exception {
    for (Distribution side : List.of(pair.gateway, pair.cloud)) {
      assertEquals(200, side.status("/healthz"), side.side);
      assertEquals("ready", side.json("/readyz").path("status").asText(), side.side);
      assertTrue(side.get("/metrics").body().contains("caravan_"), () -> "no metric of ours in /metrics of the " + side.side);
      assertEquals("0.1.0", side.json("/version").path("version").asText(), side.side);
    }
  }

  /** What the process says on stdout is JSON lines with what an operator needs, from the first to the last. */
  @Test
  void everyLineOnStdoutIsJson() throws Exception {
    for (Distribution side : List.of(pair.gateway, pair.cloud)) {
      List<JsonNode> lines = side.logLines();
      assertTrue(lines.size() > 10, side::console);
      for (JsonNode line : lines) {
        for (String field : List.of("ts", "level", "logger", "thread", "msg")) {
          assertTrue(line.path(field).isTextual(), () -> side.side + ": no " + field + " in " + line);
        }
      }
      JsonNode last = lines.get(lines.size() - 1);
      assertEquals(side.side, last.path("role").asText(), last::toString);
      assertEquals(side == pair.gateway ? Pair.GATEWAY_ID : "", last.path("gateway_id").asText(), last::toString);
      // What is no JSON is what the launcher, and Karaf's through java.util.logging, say on stderr before there is a log.
      assertEquals(List.of(), side.console().lines()
          .filter(l -> !l.startsWith("{") && !l.startsWith("caravan: ") && !l.startsWith("INFO: ") && !l.contains(" org.apache.karaf.main.")).toList(), side.side);
    }
    // A line of the text log that says what was sent stays one line there too, and one object here.
    String evil = "x\u001b[31m\r\n{\"level\":\"ERROR\",\"msg\":\"forged by a device\"}";
    assertEquals(400, pair.gateway.post("/ingest/smoke-log", JSON, bytes(evil)).statusCode());
    assertTrue(pair.gateway.logLines().stream().noneMatch(l -> l.path("msg").asText().equals("forged by a device")));
  }

  /** A level is changed while it runs, and back: the lines come on stdout, and no more. */
  @Test
  void levelOfALoggerIsChangedWhileItRuns() {
    String logger = "org.apache.karaf.log.core"; // of log:log
    pair.gateway.shell("log:log -l DEBUG smoke-before");
    pair.gateway.shell("log:set DEBUG " + logger);
    assertEquals("DEBUG", pair.gateway.shell("log:get " + logger).strip());
    pair.gateway.shell("log:log -l DEBUG smoke-between");
    await().atMost(DELIVERY).until(() -> said(pair.gateway, "smoke-between") == 1);
    assertEquals(0, said(pair.gateway, "smoke-before"), "negative control");
    pair.gateway.shell("log:set DEFAULT " + logger);
    assertEquals("INFO", pair.gateway.shell("log:get " + logger).strip());
    pair.gateway.shell("log:log -l DEBUG smoke-after; log:log -l WARNING smoke-end");
    await().atMost(DELIVERY).until(() -> said(pair.gateway, "smoke-end") == 1);
    assertEquals(0, said(pair.gateway, "smoke-after"));
  }

  private static long said(Distribution side, String text) {
    return side.logLines().stream().filter(l -> l.path("msg").asText().equals(text)).count();
  }

  /** Long work is in the list with what became of it, and what is not there cannot be cancelled. */
  @Test
  void longWorkIsListed() throws Exception {
    pair.gateway.shell("wal:verify");
    JsonNode tasks = new ObjectMapper().readTree(pair.gateway.shell("task:list --json"));
    JsonNode verify = StreamSupport.stream(tasks.spliterator(), false).filter(t -> t.path("name").asText().equals("wal:verify")).findFirst().orElseThrow();
    assertEquals("done", verify.path("state").asText(), tasks::toString);
    assertEquals(1, verify.path("ratio").asDouble(), tasks::toString);
    assertTrue(pair.gateway.get("/metrics").body().contains("caravan_task_progress_ratio{task=\"wal:verify\"} 1.0"));
    String id = verify.path("id").asText();
    AssertionError refused = assertThrows(AssertionError.class, () -> pair.gateway.shell("task:cancel " + id));
    assertTrue(refused.getMessage().contains("is over: done"), refused::getMessage);
  }

  @Test
  void messagesByMqttReachTheCloudOnce() throws Exception {
    try (Device device = Device.connect("smoke-mqtt", pair.mqttPort)) {
      for (int seq = 1; seq <= 10; seq++) {
        String telemetry = numbered(seq, "\"observed_at\":\"2026-01-01T00:00:00." + seq % 10 + "00Z\",\"metrics\":{\"t\":" + seq + "}");
        assertEquals(Mqtt5PubAckReasonCode.SUCCESS, device.publish("telemetry", telemetry));
        assertEquals(Mqtt5PubAckReasonCode.SUCCESS, device.publish("telemetry", telemetry), "a duplicate is acknowledged again");
      }
      String event = numbered(11, "\"event\":\"door_open\",\"severity\":\"warning\",\"data\":{\"door\":3}");
      assertEquals(Mqtt5PubAckReasonCode.SUCCESS, device.publish("events", event));
      assertEquals(Mqtt5PubAckReasonCode.SUCCESS, device.publish("events", event));
      assertEquals(Mqtt5PubAckReasonCode.SUCCESS, device.publish("capabilities", numbered(12, "\"metrics\":[\"t\"]")));
      assertEquals(Mqtt5PubAckReasonCode.SUCCESS, device.publish("command-status", numbered(13, "\"command\":\"c1\",\"done\":true")));
    }
    JsonNode window = awaitWindow("smoke-mqtt", "t", 10);
    assertEquals(55, window.path("sum").asDouble());
    assertEquals(1, window.path("min").asDouble());
    assertEquals(10, window.path("max").asDouble());
    assertEquals(9, window.path("last").asDouble(), "the one observed last, not the one that came last");
    assertEquals(List.of("event", "capabilities", "command-status"), awaitMessages("smoke-mqtt", 3));
  }

  @Test
  void messagesByHttpReachTheCloudOnce() throws Exception {
    for (int seq = 1; seq <= 3; seq++) {
      byte[] body = bytes(numbered(seq, "\"observed_at\":1767225600000,\"metrics\":{\"t\":" + seq + "}"));
      for (String status : List.of("durable", "duplicate")) {
        HttpResponse<String> answer = pair.gateway.post("/ingest/smoke-http", JSON, body);
        assertEquals(202, answer.statusCode(), answer::body);
        assertEquals(status, new ObjectMapper().readTree(answer.body()).path("status").asText());
      }
    }
    assertEquals(202, pair.gateway.post("/ingest/smoke-http/events", JSON, bytes(numbered(4, "\"event\":\"started\""))).statusCode());
    assertEquals(6, awaitWindow("smoke-http", "t", 3).path("sum").asDouble());
    assertEquals(List.of("event"), awaitMessages("smoke-http", 1));
  }

  @Test
  void protobufIsTelemetryToo() throws Exception {
    // schema_version 1, metric t = 21.5
    byte[] body = {0x08, 0x01, 0x32, 0x0c, 0x0a, 0x01, 0x74, 0x11, 0, 0, 0, 0, 0, (byte) 0x80, 0x35, 0x40};
    HttpResponse<String> answer = pair.gateway.post("/ingest/smoke-protobuf", PROTOBUF, body);
    assertEquals(202, answer.statusCode(), answer::body);
    assertEquals(21.5, awaitWindow("smoke-protobuf", "t", 1).path("sum").asDouble());
  }

  @Test
  void deviceGetsReceipts() throws Exception {
    try (Device device = Device.connect("smoke-receipt", pair.mqttPort)) {
      device.subscribe("receipts");
      device.publish("telemetry", numbered(1, "\"metrics\":{\"t\":1}"));
      assertEquals("{\"boot_id\":\"b1\",\"device_seq\":1}", device.next());
    }
    // One that was switched off before its receipt came learns it when it comes back.
    try (Device device = Device.connect("smoke-receipt", pair.mqttPort)) {
      device.subscribe("receipts");
      assertEquals("{\"boot_id\":\"b1\",\"device_seq\":1}", device.next());
    }
  }

  static Stream<Arguments> badMessages() {
    return Stream.of(
        Arguments.of("malformed_json", JSON, bytes("{\"schema_version\":1"), 400),
        Arguments.of("malformed_protobuf", PROTOBUF, new byte[] {0x0a, 0x7f, 0x01}, 400),
        Arguments.of("not_utf8", JSON, new byte[] {'{', '"', (byte) 0xff, (byte) 0xc3, '"', ':', '1', '}'}, 400),
        Arguments.of("too_large", JSON, bytes("{\"schema_version\":1,\"metrics\":{\"t\":1}}" + " ".repeat(65_536)), 413),
        Arguments.of("too_deep", JSON, bytes("[".repeat(100) + "]".repeat(100)), 400),
        Arguments.of("schema_violation", JSON, bytes("{\"schema_version\":1,\"metrics\":{\"t\":\"warm\"}}"), 400),
        Arguments.of("unsupported_schema_version", JSON, bytes("{\"schema_version\":2,\"metrics\":{\"t\":1}}"), 400),
        Arguments.of("device_id_mismatch", JSON, bytes("{\"schema_version\":1,\"device_id\":\"other\",\"metrics\":{\"t\":1}}"), 400),
        Arguments.of("unsupported_content_type", "text/plain", bytes("t=1"), 415));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("badMessages")
  void badMessageIsAnsweredAndKeptUnderItsReason(String reason, String contentType, byte[] body, int status) throws Exception {
    String id = "bad-" + reason.replace('_', '-');
    try (Device device = Device.connect(id, pair.mqttPort)) {
      assertEquals(Mqtt5PubAckReasonCode.PAYLOAD_FORMAT_INVALID, device.publish(Mqtt5Publish.builder().topic("devices/" + id + "/telemetry")
          .qos(MqttQos.AT_LEAST_ONCE).contentType(contentType).payload(body).build()));
    }
    assertRefused(status, reason, "/ingest/" + id, contentType, body);
    // On disk before it was answered: nothing to wait for.
    assertEquals(List.of("http," + reason, "mqtt-server," + reason), rejected("device_id = '" + id + "'"));
  }

  @Test
  void sameKeyWithAnotherBodyIsAConflict() throws Exception {
    try (Device device = Device.connect("bad-key", pair.mqttPort)) {
      assertEquals(Mqtt5PubAckReasonCode.SUCCESS, device.publish("telemetry", numbered(1, "\"metrics\":{\"t\":1}")));
      assertEquals(Mqtt5PubAckReasonCode.PAYLOAD_FORMAT_INVALID, device.publish("telemetry", numbered(1, "\"metrics\":{\"t\":2}")));
    }
    assertRefused(400, "key_conflict", "/ingest/bad-key", JSON, bytes(numbered(1, "\"metrics\":{\"t\":3}")));
    assertEquals(List.of("http,key_conflict", "mqtt-server,key_conflict"), rejected("device_id = 'bad-key'"));
  }

  @Test
  void addressThatIsNobodysIsRefused() throws Exception {
    assertRefused(400, "bad_device_id", "/ingest/a..b", JSON, bytes("{\"schema_version\":1,\"metrics\":{\"t\":1}}"));
    assertEquals(List.of("http,bad_device_id"), rejected("topic LIKE '%a..b%'"));
    try (Device device = Device.connect("smoke-topics", pair.mqttPort)) {
      for (String topic : List.of("devices/a..b/telemetry", "devices/smoke-topics/telemetrie", "elsewhere")) {
        assertEquals(Mqtt5PubAckReasonCode.TOPIC_NAME_INVALID,
            device.publish(Mqtt5Publish.builder().topic(topic).qos(MqttQos.AT_LEAST_ONCE).payload(bytes("{}")).build()), topic);
      }
    }
    assertEquals(404, pair.gateway.post("/ingest", JSON, bytes("{}")).statusCode());
    assertEquals(405, pair.gateway.send(HttpRequest.newBuilder(pair.gateway.uri("/ingest/d1")).PUT(HttpRequest.BodyPublishers.ofString("{}"))).statusCode());
  }

  @Test
  void apiRefusesWhatItDoesNotKnow() throws Exception {
    assertEquals(404, pair.cloud.status(Pair.api("nobody", "windows")));
    assertEquals(400, pair.cloud.status(Pair.api("nobody", "windows") + "?limit=many"));
    assertEquals(Pair.GATEWAY_ID, pair.cloud.json("/api/v1/gateways").path(0).path("gateway_id").asText());
  }

  @Test
  @Order(Integer.MAX_VALUE)
  void bothStopCleanlyAndHadNothingToComplainAbout() {
    for (Distribution side : List.of(pair.gateway, pair.cloud)) {
      assertEquals(0, side.stop(), side::console);
      assertEquals(List.of(), side.errors(), side.side);
    }
  }

  private static void assertRefused(int status, String reason, String path, String contentType, byte[] body) throws Exception {
    HttpResponse<String> answer = pair.gateway.post(path, contentType, body);
    assertEquals(status, answer.statusCode(), answer::body);
    assertEquals(reason, new ObjectMapper().readTree(answer.body()).path("reason").asText(), answer::body);
  }

  private static List<String> rejected(String where) throws Exception {
    return Store.rows(pair.gatewayDb, "SELECT source, reason FROM rejected WHERE " + where + " GROUP BY 1, 2 ORDER BY 1");
  }

  /** The device's one window, when it has that many values. */
  private static JsonNode awaitWindow(String deviceId, String metric, int count) {
    return await(deviceId + "'s window in the cloud").atMost(DELIVERY).pollInterval(Duration.ofMillis(200)).ignoreExceptions()
        .until(() -> pair.cloud.json(Pair.api(deviceId, "windows?metric=" + metric)), w -> w.size() == 1 && w.path(0).path("count").asInt() == count)
        .path(0);
  }

  /** The kinds of the device's messages, when there are that many. */
  private static List<String> awaitMessages(String deviceId, int count) {
    JsonNode messages = await(deviceId + "'s messages in the cloud").atMost(DELIVERY).pollInterval(Duration.ofMillis(200)).ignoreExceptions()
        .until(() -> pair.cloud.json(Pair.api(deviceId, "messages")), m -> m.size() >= count);
    return StreamSupport.stream(messages.spliterator(), false).map(m -> m.path("kind").asText()).toList();
  }

  static String numbered(int seq, String rest) {
    return "{\"schema_version\":1,\"boot_id\":\"b1\",\"device_seq\":" + seq + "," + rest + "}";
  }

  private static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }
}
