// SPDX-License-Identifier: Apache-2.0
package io.caravan.hostile;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.datatypes.Mqtt5UserProperties;
import com.hivemq.client.mqtt.mqtt5.datatypes.Mqtt5UserPropertiesBuilder;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import io.caravan.it.Device;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Nothing from outside steers a Camel component: no header, query parameter, form field or user property under any of
 * Camel's names, in any spelling, comes further than the removeHeaders a route begins with. Each control takes that step out
 * of a copy of the route file and shows that they would.
 */
class HeaderInjectionTest {
  /** What steers components, what got through filters in other spellings (CVE-2025-27636, -29891), and our own names. */
  static final List<String> HOSTILE = List.of("CamelHttpUri", "CAmelHttpUri", "camelHttpUri", "CAMELHTTPURI", "CamelHttpPath", "cAmelHttpPath",
      "CamelHttpQuery", "CamelHttpMethod", "CamelHttpRawQuery", "CamelHttpResponseCode", "CamelSqlQuery", "CAmelSqlQuery", "CamelSqlParameters",
      "CamelSqlRetrieveGeneratedKeys", "CamelFileName", "CamelOverruleFileName", "CamelAwsS3Key", "CamelAwsS3BucketName", "CamelAwsS3OverrideBucketName",
      "CamelBeanMethodName", "CAmelBeanMethodName", "CamelBeanParameters", "CamelExecCommandExecutable", "CamelMqttTopic", "CamelPahoOverrideTopic",
      "CamelVertxWebsocket.connectionKey", "CamelVertxWebsocket.sendToAll", "CamelJsonValidatorSchema", "CamelLanguageScript", "CamelTemplate",
      "CamelToEndpoint", "CamelSlipEndpoint", "CamelRecipientListEndpoint", "kafka.OVERRIDE_TOPIC", "KAFKA.override_topic", "kafka.KEY",
      "kafka.PARTITION_KEY", "org.apache.camel.evil", "rabbitmq.ROUTING_KEY", "CaravanTopic", "caravanTopic", "CaravanDeviceId", "CaravanSource",
      "CaravanContentType", "CaravanIdempotencyKey", "CaravanTraceparent", "CaravanSignature", "CaravanBatchKey", "CaravanSession", "device_id",
      "breadcrumbId", "JMSDestination");
  private static final String EVIL = "http://127.0.0.1:1/" + HeaderWatch.MARK;
  private static final String JSON = "{\"schema_version\":1,\"metrics\":{\"t\":1}}";
  private static final String[] INGEST = {"ingest", "ingest-http", "ingest-direct", "wal-append", "rejected"};
  private static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

  @TempDir
  Path temp;

  private static String query() {
    return HOSTILE.stream().map(name -> name + "=" + URLEncoder.encode(EVIL, StandardCharsets.UTF_8)).collect(Collectors.joining("&"));
  }

  private static HttpResponse<String> send(Side side, String method, String path, String type, String body) throws Exception {
    HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + side.port("http.port") + path)).timeout(Side.LIMIT)
        .method(method, body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body));
    if (type != null) {
      request.header("Content-Type", type);
    }
    HOSTILE.forEach(name -> request.header(name, EVIL));
    return HTTP.send(request.build(), HttpResponse.BodyHandlers.ofString());
  }

  /** Also: none of it comes back as a header of the answer. */
  private static int status(Side side, String method, String path, String type, String body) throws Exception {
    HttpResponse<String> response = send(side, method, path, type, body);
    assertFalse(response.headers().map().toString().contains(HeaderWatch.MARK), () -> "echoed: " + response.headers());
    return response.statusCode();
  }

  /** Everything an attacker can put into a request: headers, query, path parameter, form, parts of a form. */
  private static void attackIngest(Side gateway) throws Exception {
    assertEquals(202, status(gateway, "POST", "/ingest/d1", "application/json", JSON));
    assertEquals(202, status(gateway, "POST", "/ingest/d2?" + query(), "application/json", JSON));
    assertEquals(202, status(gateway, "POST", "/ingest/d3/events?" + query(), "application/json", "{\"schema_version\":1,\"event\":\"e\"}"));
    assertEquals(400, status(gateway, "POST", "/ingest/" + HeaderWatch.MARK + "..x?" + query(), "application/json", JSON));
    assertEquals(415, status(gateway, "POST", "/ingest/d1", "application/x-www-form-urlencoded", query()));
    String parts = HOSTILE.stream().map(name -> "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + EVIL + "\r\n")
        .collect(Collectors.joining()) + "--b--\r\n";
    assertEquals(415, status(gateway, "POST", "/ingest/d1", "multipart/form-data; boundary=b", parts));
  }

  @Test
  void overHttp() throws Exception {
    try (Side gateway = Side.gateway(temp).start(INGEST)) {
      attackIngest(gateway);
      // The path is the device's id: the only place in which what was sent may stand, and it is refused there.
      gateway.watch.seen.removeIf(step -> step.endsWith(" CamelHttpPath") || step.endsWith(" CaravanTopic"));
      assertEquals(List.of(), List.copyOf(gateway.watch.seen));
      assertTrue(gateway.watch.steps.stream().anyMatch(step -> step.contains("ingest-http-accept")), () -> gateway.watch.steps.toString());
      assertEquals(List.of("d1", "d2", "d3"), gateway.rows("SELECT DISTINCT device_id FROM wal ORDER BY 1"));
      assertEquals(List.of("http"), gateway.rows("SELECT DISTINCT source FROM rejected"));
    }
  }

  @Test
  void overHttpWithoutTheStepTheyWould() throws Exception {
    try (Side gateway = Side.gateway(temp).edit("ingest-http", HeaderInjectionTest::withoutRemoveHeaders).start(INGEST)) {
      send(gateway, "POST", "/ingest/d2?" + query(), "application/json", JSON);
      assertFalse(gateway.watch.seen.isEmpty(), "the watch is blind");
      assertTrue(gateway.watch.seen.toString().contains("kafka.OVERRIDE_TOPIC"), () -> gateway.watch.seen.toString());
    }
  }

  @Test
  void overMqtt() throws Exception {
    try (Side gateway = Side.gateway(temp).start(INGEST); Device device = Device.connect("d1", gateway.port("mqtt.server.port"))) {
      Mqtt5UserPropertiesBuilder user = Mqtt5UserProperties.builder();
      HOSTILE.forEach(name -> user.add(name, EVIL));
      assertEquals("SUCCESS", device.publish(Mqtt5Publish.builder().topic("devices/d1/telemetry").qos(MqttQos.AT_LEAST_ONCE)
          .payload(JSON.getBytes(StandardCharsets.UTF_8)).responseTopic(EVIL).correlationData(EVIL.getBytes(StandardCharsets.UTF_8))
          .userProperties(user.build()).build()).toString());
      assertEquals(List.of(), List.copyOf(gateway.watch.seen));
      assertTrue(gateway.watch.steps.stream().anyMatch(step -> step.startsWith("ingest ")), () -> gateway.watch.steps.toString());
      // Control: what is named does come through, and the watch sees it.
      assertEquals("SUCCESS", device.publish(Mqtt5Publish.builder().topic("devices/d1/telemetry").qos(MqttQos.AT_LEAST_ONCE)
          .payload(JSON.getBytes(StandardCharsets.UTF_8)).userProperties(Mqtt5UserProperties.builder()
          .add("caravan-idempotency-key", EVIL).build()).build()).toString());
      assertTrue(gateway.watch.seen.toString().contains("CaravanIdempotencyKey"), () -> gateway.watch.seen + " in " + gateway.watch.steps);
    }
  }

  @Test
  void whatAnOperatorAsks() throws Exception {
    try (Side gateway = Side.gateway(temp).start("admin")) {
      for (String path : List.of("/readyz", "/healthz", "/metrics", "/version")) {
        status(gateway, "GET", path + "?" + query(), null, null);
      }
      assertEquals(List.of(), List.copyOf(gateway.watch.seen));
      assertFalse(gateway.watch.steps.isEmpty());
    }
  }

  @Test
  void whatAnOperatorAsksWithoutTheStepTheyWould() throws Exception {
    try (Side gateway = Side.gateway(temp).edit("admin", HeaderInjectionTest::withoutRemoveHeaders).start("admin")) {
      send(gateway, "GET", "/version?" + query(), null, null);
      assertFalse(gateway.watch.seen.isEmpty(), "the watch is blind");
    }
  }

  @Test
  void whatAPhoneAsksTheCloud() throws Exception {
    try (Side cloud = Side.cloud(temp).start("api", "api-device", "api-series", "api-event", "stream", "admin")) {
      for (String path : List.of("sites", "gateways", "gateways/g1", "devices", "devices/g1/d1", "devices/g1/d1/last", "devices/g1/d1/capabilities",
          "devices/g1/d1/windows", "devices/g1/d1/series", "devices/g1/d1/events", "devices/g1/d1/messages", "events", "stream")) {
        status(cloud, "GET", "/api/v1/" + path + "?" + query(), null, null);
      }
      // device_id is a name of the path, and a value that is no id is refused.
      cloud.watch.seen.removeIf(step -> step.endsWith(" device_id"));
      assertEquals(List.of(), List.copyOf(cloud.watch.seen));
      assertEquals(400, status(cloud, "GET", "/api/v1/devices/g1/d1?device_id=" + HeaderWatch.MARK + "%27--", null, null));
      assertTrue(cloud.watch.steps.stream().anyMatch(step -> step.startsWith("api-series-window ")), () -> cloud.watch.steps.toString());
    }
  }

  @Test
  void whatAPhoneAsksTheCloudWithoutTheStepTheyWould() throws Exception {
    try (Side cloud = Side.cloud(temp).edit("api", HeaderInjectionTest::withoutRemoveHeaders).start("api", "admin")) {
      send(cloud, "GET", "/api/v1/gateways?" + query(), null, null);
      assertTrue(cloud.watch.seen.toString().contains("kafka.OVERRIDE_TOPIC"), () -> cloud.watch.seen.toString());
    }
  }

  /** Each removeHeaders that is the first of a list of steps, as the text of the route file has it. */
  static String withoutRemoveHeaders(String yaml) {
    return yaml.replaceAll("(?m)^      steps:\\n(        #.*\\n)*        - removeHeaders:\\n(          +.*\\n)+", "      steps:\n");
  }
}
