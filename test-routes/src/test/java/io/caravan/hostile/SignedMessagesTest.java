// SPDX-License-Identifier: Apache-2.0
package io.caravan.hostile;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt3.Mqtt3BlockingClient;
import com.hivemq.client.mqtt.mqtt3.Mqtt3Client;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.datatypes.Mqtt5UserProperties;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import io.caravan.devices.Devices;
import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.Devices.Signing;
import io.caravan.devices.Signatures;
import io.caravan.it.Device;
import io.caravan.it.Ports;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Signed messages over every way into a gateway: real listeners, a real broker, the registry, the log. */
class SignedMessagesTest {
  private static final String[] INGEST = {"ingest", "ingest-http", "ingest-direct", "wal-append", "rejected"};
  private static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

  @TempDir
  Path temp;
  private Enrolment d1;

  private Side gateway(String... more) throws Exception {
    Side side = Side.gateway(temp.resolve("gateway")).set("device.signature.window", "10").start(
        java.util.stream.Stream.concat(java.util.Arrays.stream(INGEST), java.util.Arrays.stream(more)).toArray(String[]::new));
    d1 = enrol(side, "d1", Signing.REQUIRE);
    return side;
  }

  private static Enrolment enrol(Side side, String id, Signing signing) throws Exception {
    return side.bean("devices", Devices.class).add(new Devices.NewDevice(id, null, null, signing, null, null, null, null, null));
  }

  private static byte[] body(long number) {
    return ("{\"schema_version\":1,\"boot_id\":\"b7\",\"device_seq\":" + number + ",\"metrics\":{\"t\":21.5}}").getBytes(UTF_8);
  }

  private static String sign(Enrolment device, String topic, long number) {
    return Signatures.sign(Base64.getUrlDecoder().decode(device.signingKey()), topic, "b7", number, body(number));
  }

  private static HttpResponse<String> post(Side side, String path, byte[] body, String... headers) throws Exception {
    HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + side.port("http.port") + path)).timeout(Side.LIMIT)
        .header("Content-Type", "application/json").POST(HttpRequest.BodyPublishers.ofByteArray(body));
    for (int i = 0; i < headers.length; i += 2) {
      request.header(headers[i], headers[i + 1]);
    }
    return HTTP.send(request.build(), HttpResponse.BodyHandlers.ofString());
  }

  private static Mqtt5Publish message(String topic, long number, String... signatures) {
    var user = Mqtt5UserProperties.builder();
    for (String signature : signatures) {
      user.add("caravan-signature", signature);
    }
    return Mqtt5Publish.builder().topic(topic).qos(MqttQos.AT_LEAST_ONCE).payload(body(number)).userProperties(user.build()).build();
  }

  @Test
  void overMqttAndHttp() throws Exception {
    String topic = "devices/d1/telemetry";
    try (Side side = gateway(); Device device = Device.connect("d1", side.port("mqtt.server.port"))) {
      assertEquals("SUCCESS", device.publish(message(topic, 1, sign(d1, topic, 1))).toString());
      HttpResponse<String> again = post(side, "/ingest/d1", body(1), "Caravan-Signature", sign(d1, topic, 1));
      assertTrue(again.statusCode() == 202 && again.body().contains("duplicate"), again.body());
      assertEquals(202, post(side, "/ingest/d1", body(2), "Caravan-Signature", sign(d1, topic, 2)).statusCode());
      assertEquals("SUCCESS", device.publish(message(topic, 2, sign(d1, topic, 2))).toString());
      assertEquals(List.of("1", "2"), side.rows("SELECT device_seq FROM wal ORDER BY seq"));

      assertEquals("NOT_AUTHORIZED", device.publish(message(topic, 3)).toString());
      assertEquals("NOT_AUTHORIZED", device.publish(message(topic, 3, sign(d1, topic, 4))).toString());
      assertEquals("NOT_AUTHORIZED", device.publish(message("devices/d1/events", 3, sign(d1, topic, 3))).toString());
      assertEquals("SUCCESS", device.publish(message(topic, 3, sign(d1, topic, 3), "v1=00")).toString(), "the first one counts");
      assertEquals("NOT_AUTHORIZED", device.publish(message(topic, 4, "v1=00", sign(d1, topic, 4))).toString());
      HttpResponse<String> refused = post(side, "/ingest/d1", body(4));
      assertTrue(refused.statusCode() == 403 && refused.body().contains("\"bad_signature\""), refused.body());
      assertEquals(403, post(side, "/ingest/d1", body(4), "Caravan-Signature", sign(d1, topic, 4), "Caravan-Signature", "v1=00").statusCode());
      assertEquals(403, post(side, "/ingest/d1", body(4), "Caravan-Signature", sign(d1, topic, 4), "Caravan-Signature", sign(d1, topic, 4)).statusCode());
      assertEquals(403, post(side, "/ingest/d1/events", body(4), "Caravan-Signature", sign(d1, topic, 4)).statusCode());

      // What was captured, as somebody else's.
      enrol(side, "d2", Signing.REQUIRE);
      assertEquals(403, post(side, "/ingest/d2", body(1), "Caravan-Signature", sign(d1, topic, 1)).statusCode());

      assertEquals("SUCCESS", device.publish(message(topic, 13, sign(d1, topic, 13))).toString());
      assertEquals("NOT_AUTHORIZED", device.publish(message(topic, 3, sign(d1, topic, 3))).toString());
      HttpResponse<String> replayed = post(side, "/ingest/d1", body(3), "Caravan-Signature", sign(d1, topic, 3));
      assertTrue(replayed.statusCode() == 403 && replayed.body().contains("\"replayed\""), replayed.body());
      assertEquals(List.of("1", "2", "3", "13"), side.rows("SELECT device_seq FROM wal ORDER BY seq"));
      assertEquals(List.of("bad_signature,9", "replayed,2"), side.rows("SELECT reason, count(*) FROM rejected GROUP BY 1 ORDER BY 1"));
      assertTrue(side.caravan.metrics().contains("caravan_ingest_rejected_total{reason=\"bad_signature\"} 9.0"), side.caravan.metrics());
      assertTrue(side.caravan.metrics().contains("caravan_wal_replayed_rows_total 2.0"), side.caravan.metrics());
    }
  }

  /** It cannot sign: what it sends is refused, answered and kept, and it is not left sending the same for ever. */
  @Test
  void mqtt311() throws Exception {
    try (Side side = gateway()) {
      Mqtt3BlockingClient device = Mqtt3Client.builder().identifier("d1").serverHost("127.0.0.1").serverPort(side.port("mqtt.server.port")).buildBlocking();
      device.connect();
      device.publishWith().topic("devices/d1/telemetry").qos(MqttQos.AT_LEAST_ONCE).payload(body(1)).send();
      device.disconnect();
      assertEquals(List.of("bad_signature,mqtt-server"), side.rows("SELECT reason, source FROM rejected"));
    }
  }

  @Test
  void throughABroker() throws Exception {
    int port = Ports.free();
    Process broker = new ProcessBuilder("mosquitto", "-p", String.valueOf(port)).redirectErrorStream(true)
        .redirectOutput(temp.resolve("mosquitto.log").toFile()).start();
    try {
      await("mosquitto").atMost(Side.LIMIT).ignoreExceptions().until(() -> {
        new Socket("127.0.0.1", port).close();
        return true;
      });
      try (Side side = Side.gateway(temp.resolve("broker")).set("ingest.mqtt.enabled", "true").set("mqtt.client.url", "tcp://127.0.0.1:" + port)
          .set("mqtt.client.user", "").set("mqtt.client.password.file", "").start("ingest", "ingest-mqtt", "wal-append", "rejected")) {
        d1 = enrol(side, "d1", Signing.REQUIRE);
        Mqtt5BlockingClient device = Mqtt5Client.builder().identifier("d1").serverHost("127.0.0.1").serverPort(port).buildBlocking();
        device.connect();
        String topic = "devices/d1/telemetry";
        // Until the gateway's session is there the broker drops them; the second is a duplicate of the first.
        await().atMost(Side.LIMIT).until(() -> {
          device.publish(message(topic, 1, sign(d1, topic, 1)));
          return side.rows("SELECT device_seq FROM wal").equals(List.of("1"));
        });
        // Whoever may publish in the broker, for example with another device's access, is still not this device.
        device.publish(message(topic, 2));
        device.publish(message(topic, 2, sign(d1, topic, 1)));
        attack(device, topic, body(3), sign(d1, topic, 3));
        await().atMost(Side.LIMIT).until(() -> side.rows("SELECT device_seq FROM wal WHERE device_seq = 3").size() == 1);
        assertEquals(List.of("1", "3"), side.rows("SELECT device_seq FROM wal ORDER BY seq"));
        assertEquals(List.of("bad_signature", "bad_signature"), side.rows("SELECT reason FROM rejected"));
        // No user property became a header; the packet's own object, in which they are, ends with the step that reads it.
        side.watch.seen.removeIf(step -> step.matches("ingest-mqtt (bean|setHeader|removeHeaders):\\S+ CamelPahoMqtt5MsgProperties"));
        assertEquals(List.of(), List.copyOf(side.watch.seen));
        assertTrue(side.watch.steps.stream().anyMatch(step -> step.startsWith("ingest-mqtt ")), () -> side.watch.steps.toString());
        device.disconnect();
      }
    } finally {
      broker.destroy();
      broker.waitFor(10, TimeUnit.SECONDS);
    }
  }

  /** A good message with all that {@link HeaderInjectionTest} knows beside. */
  private static void attack(Mqtt5BlockingClient device, String topic, byte[] body, String signature) {
    var user = Mqtt5UserProperties.builder().add("caravan-signature", signature);
    HeaderInjectionTest.HOSTILE.forEach(name -> user.add(name, HeaderWatch.MARK));
    device.publish(Mqtt5Publish.builder().topic(topic).qos(MqttQos.AT_LEAST_ONCE).payload(body).userProperties(user.build()).build());
  }

  /** The example of docs/contract.md, as it stands there, by a shell. */
  @Test
  void theExampleOfTheContractWorks() throws Exception {
    Matcher example = Pattern.compile("(?s)Try it.*?```sh\\n(.*?)```").matcher(Files.readString(Side.REPO.resolve("docs/contract.md")));
    assertTrue(example.find());
    try (Side side = Side.gateway(temp.resolve("example")).set("device.access", "registry").start(INGEST)) {
      Enrolment stm32 = enrol(side, "stm32-01", Signing.REQUIRE);
      String script = example.group(1).replace("127.0.0.1:8080", "127.0.0.1:" + side.port("http.port"));
      assertEquals("durable", run(script, stm32.token(), stm32.signingKey()));
      assertEquals("duplicate", run(script, stm32.token(), stm32.signingKey()));
      assertEquals("bad_signature", run(script.replace("seq=1", "seq=2").replace("$key\"", "00\""), stm32.token(), stm32.signingKey()));
      assertEquals(List.of("stm32-01/b7/0000000000000001"), side.rows("SELECT message_key FROM wal"));
    }
  }

  private String run(String script, String token, String key) throws Exception {
    ProcessBuilder shell = new ProcessBuilder("sh", "-c", script).redirectErrorStream(true);
    shell.environment().put("TOKEN", token);
    shell.environment().put("KEY", key);
    Process process = shell.start();
    String out = new String(process.getInputStream().readAllBytes(), UTF_8);
    process.waitFor(20, TimeUnit.SECONDS);
    return Pattern.compile("durable|duplicate|bad_signature").matcher(out).results().map(r -> r.group()).findFirst().orElse(out);
  }
}
