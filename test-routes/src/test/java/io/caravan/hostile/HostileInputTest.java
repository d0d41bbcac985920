// SPDX-License-Identifier: Apache-2.0
package io.caravan.hostile;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.datatypes.Mqtt5UserProperties;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import io.caravan.it.Device;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * What should break a gateway, over real listeners into the real store: each has its answer and its row, and the next
 * message of somebody else gets through as ever.
 */
class HostileInputTest {
  private static final String JSON = "application/json";
  private static final String GOOD = "{\"schema_version\":1,\"metrics\":{\"t\":1}}";
  private static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
  private static final int TEN_MB = 10_000_000;

  @TempDir
  static Path temp;
  private static Side gateway;
  private static int others;
  private String tables;

  @BeforeAll
  static void start() throws Exception {
    gateway = Side.gateway(temp).start("ingest", "ingest-http", "ingest-direct", "wal-append", "rejected");
  }

  @AfterAll
  static void stop() {
    gateway.close();
  }

  @BeforeEach
  void remember() throws Exception {
    tables = String.join("\n", gateway.rows("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"));
  }

  /** Nothing else is disturbed. */
  @AfterEach
  void somebodyElseIsServed() throws Exception {
    String other = "other-" + others++;
    assertEquals(202, post("/ingest/" + other, JSON, GOOD.getBytes(UTF_8)).statusCode());
    try (Device device = Device.connect(other, gateway.port("mqtt.server.port"))) {
      assertEquals("SUCCESS", device.publish("events", "{\"schema_version\":1,\"event\":\"still here\"}").toString());
    }
    assertEquals(List.of("2"), gateway.rows("SELECT count(*) FROM wal WHERE device_id = '" + other + "'"));
    assertEquals(tables, String.join("\n", gateway.rows("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name")));
    assertEquals("ok", gateway.rows("PRAGMA quick_check").get(0));
  }

  private static HttpResponse<String> post(String path, String type, byte[] body, String... headers) throws Exception {
    HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + gateway.port("http.port") + path)).timeout(Side.LIMIT)
        .header("Content-Type", type).POST(HttpRequest.BodyPublishers.ofByteArray(body));
    if (headers.length > 0) {
      request.headers(headers);
    }
    return HTTP.send(request.build(), HttpResponse.BodyHandlers.ofString());
  }

  // ------------------------------------------------------------------------------------------------- payloads

  static Stream<Arguments> payloads() {
    String deep = "[".repeat(10_000) + "]".repeat(10_000);
    StringBuilder collide = new StringBuilder();
    for (int i = 0; i < 1_500; i++) {
      collide.append(i == 0 ? "\"" : ",\"");
      for (int bit = 0; bit < 11; bit++) {
        collide.append((i >> bit & 1) == 0 ? "Aa" : "BB");
      }
      collide.append("\":1");
    }
    return Stream.of(
        Arguments.of("too_deep", JSON, "{\"schema_version\":1,\"metrics\":{\"t\":" + deep + "}}"),
        Arguments.of("too_deep", JSON, "{\"a\":".repeat(10_000) + "1" + "}".repeat(10_000)),
        Arguments.of("malformed_json", JSON, "{\"schema_version\":1,\"metrics\":{\"t\":" + "9".repeat(50_000) + "}}"),
        Arguments.of("schema_violation", JSON, "{\"schema_version\":1,\"metrics\":{\"t\":1e999999999}}"),
        Arguments.of("schema_violation", JSON, "{\"schema_version\":1,\"boot_id\":\"b\",\"device_seq\":1e999999999,\"metrics\":{\"t\":1}}"),
        Arguments.of("schema_violation", JSON, "{\"schema_version\":1,\"metrics\":{" + collide + "}}"),
        Arguments.of("schema_violation", JSON, "{\"schema_version\":1,\"metrics\":{\"" + "m".repeat(40_000) + "\":1}}"),
        Arguments.of("malformed_json", JSON, "{\"schema_version\":1,\"metrics\":{\"" + "m".repeat(60_000) + "\":1}}"),
        Arguments.of("malformed_json", JSON, "{\"schema_version\":1,\"metrics\":{\"t\":1,\"t\":2}}"),
        Arguments.of("malformed_json", JSON, "\ufeff" + GOOD),
        Arguments.of("malformed_json", JSON, "{\"schema_version\":1,\"event\":\"\\ud800\"}"),
        Arguments.of("device_id_mismatch", JSON, "{\"schema_version\":1,\"device_id\":\"" + "x".repeat(63) + "\ud83d\ude00\",\"metrics\":{\"t\":1}}"),
        Arguments.of("schema_violation", JSON, "{\"schema_version\":1,\"metrics\":{\"" + "x".repeat(489) + "\ud83d\ude00\ud83d\ude00\":1}}"),
        Arguments.of("malformed_protobuf", "application/x-protobuf", "S".repeat(10_000)),
        Arguments.of("schema_violation", "application/x-protobuf", ""));
  }

  @ParameterizedTest(name = "{index} {0}")
  @MethodSource("payloads")
  void aPayloadHasItsAnswerAndItsRow(String reason, String type, String body) throws Exception {
    String id = "payload-" + others;
    HttpResponse<String> answer = post("/ingest/" + id, type, body.getBytes(UTF_8));
    assertEquals(400, answer.statusCode(), answer.body());
    assertEquals(reason, new ObjectMapper().readTree(answer.body()).path("reason").asText(), answer.body());
    assertTrue(answer.body().length() < 2_000, "an answer quotes, and does not repeat");
    try (Device device = Device.connect(id, gateway.port("mqtt.server.port"))) {
      assertEquals("PAYLOAD_FORMAT_INVALID", device.publish(Mqtt5Publish.builder().topic("devices/" + id + "/telemetry").qos(MqttQos.AT_LEAST_ONCE)
          .contentType(type).payload(body.getBytes(UTF_8)).build()).toString());
    }
    assertEquals(List.of("http," + reason, "mqtt-server," + reason), gateway.rows("SELECT source, reason FROM rejected WHERE device_id = '" + id
        + "' ORDER BY 1"));
  }

  @ParameterizedTest
  @ValueSource(strings = {"c0af", "eda080", "f4908080", "ff", "c3"})
  void bytesThatAreNoText(String hex) throws Exception {
    String id = "bytes-" + hex;
    ByteArrayOutputStream body = new ByteArrayOutputStream();
    body.writeBytes("{\"schema_version\":1,\"event\":\"".getBytes(UTF_8));
    body.writeBytes(java.util.HexFormat.of().parseHex(hex));
    body.writeBytes("\"}".getBytes(UTF_8));
    assertEquals(400, post("/ingest/" + id + "/events", JSON, body.toByteArray()).statusCode());
    assertEquals(List.of("not_utf8"), gateway.rows("SELECT reason FROM rejected WHERE device_id = '" + id + "'"));
  }

  @Test
  void tenMegabytes() throws Exception {
    byte[] big = new byte[TEN_MB];
    java.util.Arrays.fill(big, (byte) ' ');
    try {
      assertEquals(413, post("/ingest/big", JSON, big).statusCode());
    } catch (IOException cut) {
      // Refused before it was sent to the end: the answer may get lost with the connection.
      assertFalse(cut instanceof java.net.http.HttpTimeoutException, cut::toString);
    }
    try (Device device = Device.connect("big", gateway.port("mqtt.server.port"))) {
      assertThrows(Exception.class, () -> device.publish(Mqtt5Publish.builder().topic("devices/big/telemetry").qos(MqttQos.AT_LEAST_ONCE)
          .payload(big).build()));
    }
    assertEquals(List.of("0"), gateway.rows("SELECT count(*) FROM wal WHERE device_id = 'big'"));
    assertEquals(List.of(), gateway.rows("SELECT length(body) FROM rejected WHERE device_id = 'big' AND length(body) > 65536"));
  }

  // ------------------------------------------------------------------------------------------------- injection

  static List<String> injections() {
    return List.of("'; DROP TABLE wal; --", "\" OR 1=1; --", "x' OR 'x'='x", "1); DELETE FROM rejected; --", "?", ":#${body}", "?1", "\\'; --",
        "${sys.user.dir}", "${body.getClass()}", "${bean:wal?method=state}", "{{env:PATH}}", "{{wal.path}}", "#{T(java.lang.Runtime)}", "${jndi:ldap://127.0.0.1:1/x}",
        "%s%n%x", "../../etc/passwd", "<script>", "$(touch /tmp/x)", "`id`");
  }

  /** In every field of a message that reaches SQL, an expression or a log; where it is a legal value, it is stored as it is. */
  @ParameterizedTest
  @MethodSource("injections")
  void textIsText(String evil) throws Exception {
    String id = "text-" + others;
    ObjectMapper json = new ObjectMapper();
    String quoted = json.writeValueAsString(evil);
    String path = "/ingest/" + id;
    // Legal anywhere in an event.
    assertEquals(202, post(path + "/events", JSON, ("{\"schema_version\":1,\"event\":" + quoted + ",\"data\":{" + quoted + ":" + quoted + "}}").getBytes(UTF_8))
        .statusCode());
    assertEquals(List.of("1"), gateway.rows("SELECT count(*) FROM wal WHERE device_id = '" + id + "' AND json_extract(CAST(body AS TEXT), '$.event') = '"
        + evil.replace("'", "''") + "'"));
    // A key is printable and short, or hashed; the rest of the headers is ignored or refused.
    assertEquals(202, post(path, JSON, GOOD.getBytes(UTF_8), "Idempotency-Key", evil, "traceparent", evil).statusCode());
    String key = gateway.rows("SELECT message_key FROM wal WHERE device_id = '" + id + "' AND kind = 'telemetry'").get(0);
    assertTrue(key.equals(id + "//k/" + evil) || key.startsWith(id + "//k/sha256-"), key);
    assertEquals(List.of("1"), gateway.rows("SELECT count(*) FROM wal WHERE device_id = '" + id + "' AND kind = 'telemetry' AND trace_context IS NULL"));
    assertEquals(415, post(path, "application/json; x=" + evil, GOOD.getBytes(UTF_8)).statusCode());
    assertEquals(202, post(path + "?q=" + URLEncoder.encode(evil, UTF_8), JSON, GOOD.getBytes(UTF_8), "Idempotency-Key", "q").statusCode());
    for (String body : List.of("{\"schema_version\":1,\"boot_id\":%s,\"device_seq\":1,\"metrics\":{\"t\":1}}", "{\"schema_version\":1,\"device_id\":%s,\"metrics\":{\"t\":1}}",
        "{\"schema_version\":1,\"metrics\":{%s:1}}", "{\"schema_version\":1,\"observed_at\":%s,\"metrics\":{\"t\":1}}", "{\"schema_version\":%s,\"metrics\":{\"t\":1}}",
        "{\"schema_version\":1,%s:1,\"metrics\":{\"t\":1}}", "{\"schema_version\":1,\"event\":\"e\",\"severity\":%s}")) {
      HttpResponse<String> answer = post(path + (body.contains("severity") ? "/events" : ""), JSON, body.replace("%s", quoted).getBytes(UTF_8));
      assertEquals(400, answer.statusCode(), () -> body + " with " + quoted + ": " + answer.body());
    }
    // As the id: no device has it, and no topic.
    int status = post("/ingest/" + URLEncoder.encode(evil, UTF_8), JSON, GOOD.getBytes(UTF_8)).statusCode();
    assertTrue(status == 400 || status == 404, "status " + status);
    try (Device device = Device.connect(id, gateway.port("mqtt.server.port"))) {
      assertEquals("SUCCESS", device.publish(Mqtt5Publish.builder().topic("devices/" + id + "/telemetry").qos(MqttQos.AT_LEAST_ONCE)
          .payload(GOOD.getBytes(UTF_8)).userProperties(Mqtt5UserProperties.builder().add("caravan-idempotency-key", evil).add("traceparent", evil)
              .add(evil, evil).build()).responseTopic("a").build()).toString(), "the same key as over HTTP, hence a duplicate");
      assertEquals("PAYLOAD_FORMAT_INVALID", device.publish(Mqtt5Publish.builder().topic("devices/" + id + "/telemetry").qos(MqttQos.AT_LEAST_ONCE)
          .contentType(evil).payload(GOOD.getBytes(UTF_8)).build()).toString());
      if (evil.chars().noneMatch(c -> c == '#' || c == '+')) {
        for (String topic : List.of("devices/" + evil + "/telemetry", "devices/" + id + "/" + evil, evil)) {
          String refused = device.publish(Mqtt5Publish.builder().topic(topic).qos(MqttQos.AT_LEAST_ONCE).payload(GOOD.getBytes(UTF_8)).build()).toString();
          assertTrue(refused.equals("TOPIC_NAME_INVALID") || refused.equals("NOT_AUTHORIZED"), topic + " " + refused);
        }
      }
    }
    assertEquals(List.of("3"), gateway.rows("SELECT count(*) FROM wal WHERE device_id = '" + id + "'"));
    assertEquals(List.of(), gateway.rows("SELECT message_key FROM wal WHERE message_key LIKE '%" + System.getProperty("user.dir") + "%'"));
  }

  /** What the store keeps of refused messages, and says of them, is one line of text each. */
  @Test
  void nobodyForgesALine() throws Exception {
    String id = "lines";
    String forged = "x\\n2026-11-22T00:00:00 | ERROR | forged\\u001b[2J\\u202e";
    for (String body : List.of("{\"schema_version\":1,\"device_id\":\"%s\",\"metrics\":{\"t\":1}}", "{\"schema_version\":1,\"metrics\":{\"%s\":1}}",
        "{\"schema_version\":1,\"%s\":1,\"metrics\":{\"t\":1}}")) {
      HttpResponse<String> answer = post("/ingest/" + id, JSON, body.replace("%s", forged).getBytes(UTF_8));
      assertEquals(400, answer.statusCode(), answer.body());
    }
    for (String row : gateway.rows("SELECT error || coalesce(field, '') FROM rejected WHERE device_id = '" + id + "'")) {
      assertTrue(row.codePoints().noneMatch(c -> c < ' ' || c == 0x7f || c == 0x202e), row);
    }
    assertEquals(List.of("3"), gateway.rows("SELECT count(*) FROM rejected WHERE device_id = '" + id + "'"));
  }

  @Test
  void everythingIsCounted() throws Exception {
    for (Map.Entry<String, String> each : Map.of("too_deep", "{\"a\":".repeat(40) + "1" + "}".repeat(40), "malformed_json", "{").entrySet()) {
      double before = counted(each.getKey());
      post("/ingest/counted", JSON, each.getValue().getBytes(UTF_8));
      await().atMost(Side.LIMIT).untilAsserted(() -> assertEquals(before + 1, counted(each.getKey()), 0.1));
    }
  }

  private static double counted(String reason) {
    return gateway.caravan.metrics().lines().filter(line -> line.startsWith("caravan_ingest_rejected_total{") && line.contains("reason=\"" + reason + "\""))
        .mapToDouble(line -> Double.parseDouble(line.substring(line.lastIndexOf(' ')))).sum();
  }
}
