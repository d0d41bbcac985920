// SPDX-License-Identifier: Apache-2.0
package io.caravan.path;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.fail;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import io.caravan.accounts.Accounts;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import javax.sql.DataSource;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * The phone app in real Chromium, at phone and desktop size, against a cloud with its real routes and store, a gateway, and a
 * device that measures and obeys. The cases are in app/test/app.test.mjs; screenshots go to target/app.
 */
@Timeout(300)
class AppTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final String PASSWORD = "correct horse battery";
  private static final String DEVICE = "heating-1";
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final String CAPABILITIES = """
      {"schema_version":1,"version":"1","commands":{
       "led":{"title":"Switch the led","arguments":{"type":"object","properties":{"on":{"type":"boolean"}},"required":["on"]},"idempotent":true},
       "sampling":{"arguments":{"type":"object","properties":{"interval_ms":{"type":"integer","minimum":100,"maximum":60000,"unit":"ms"},
         "mode":{"enum":["eco","normal","fast"]}},"required":["interval_ms"]},"idempotent":true},
       "unlock":{"title":"Unlock","arguments":{"type":"object","properties":{"door":{"type":"integer","minimum":1,"maximum":4}},"required":["door"]},"timeout_ms":1000},
       "alarm":{"title":"Test alarm"}}}""";

  @TempDir
  Path temp;

  @TestFactory
  List<DynamicTest> app() throws Exception {
    ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor();
    List<Mqtt5AsyncClient> devices = new ArrayList<>();
    try (Pair pair = new Pair(temp)) {
      pair.startCloud(Map.of("admin.login", "always"));
      pair.enrol();
      pair.startGateway(Map.of("rollup.window.ms", "1000", "rollup.grace.ms", "100", "rollup.emit.ms", "200"));
      Accounts accounts = pair.cloud.bean("accounts", Accounts.class).orElseThrow();
      accounts.addAccount("anna", PASSWORD.toCharArray(), Map.of("*", "operator"), "test");
      accounts.addAccount("bert", PASSWORD.toCharArray(), Map.of("*", "viewer"), "test");
      device(pair, DEVICE, devices, clock);
      // It says what it can, and is gone.
      device(pair, "away-1", devices, null);
      await().atMost(Duration.ofSeconds(30)).until(() -> Pair.number(pair.cloud, "SELECT count(*) FROM capability") == 2
          && Pair.number(pair.cloud, "SELECT count(*) FROM last_value") >= 2);
      yesterday(pair);
      return browse(pair);
    } finally {
      clock.shutdownNow();
      devices.forEach(d -> d.disconnect().exceptionally(gone -> null).join());
    }
  }

  private static Mqtt5Publish message(String device, String what, String json) {
    return Mqtt5Publish.builder().topic("devices/" + device + "/" + what).qos(MqttQos.AT_LEAST_ONCE).contentType("application/json")
        .payload(json.getBytes(StandardCharsets.UTF_8)).build();
  }

  /** @param clock null: it goes away as soon as it has said what it can */
  private static void device(Pair pair, String id, List<Mqtt5AsyncClient> devices, ScheduledExecutorService clock) throws Exception {
    Mqtt5AsyncClient client = Mqtt5Client.builder().identifier(id).serverHost("127.0.0.1").serverPort(pair.mqttPort).buildAsync();
    client.connect().get(30, TimeUnit.SECONDS);
    client.publish(message(id, "capabilities", CAPABILITIES)).get(30, TimeUnit.SECONDS);
    await().atMost(Duration.ofSeconds(30)).until(() -> Pair.number(pair.gateway, "SELECT count(*) FROM capability WHERE device_id = '" + id + "'") == 1);
    if (clock == null) {
      client.disconnect().get(30, TimeUnit.SECONDS);
      return;
    }
    devices.add(client);
    client.publish(message(id, "reported", "{\"led\":false,\"firmware\":\"1.4.2\"}")).get(30, TimeUnit.SECONDS);
    client.subscribeWith().topicFilter("devices/" + id + "/commands").qos(MqttQos.AT_LEAST_ONCE).callback(command -> {
      try {
        JsonNode c = JSON.readTree(command.getPayloadAsBytes());
        if (c.path("name").asText().equals("unlock")) {
          return;
        }
        if (c.path("name").asText().equals("alarm")) {
          client.publish(message(id, "events", "{\"schema_version\":1,\"event\":\"over_temperature\",\"severity\":\"alarm\",\"data\":{\"celsius\":81.5,\"limit\":75}}"));
        }
        client.publish(message(id, "command-status", "{\"command_id\":\"" + c.path("command_id").asText() + "\",\"status\":\"succeeded\",\"result\":{\"led\":"
            + c.path("arguments").path("on").asBoolean() + "}}"));
      } catch (Exception e) {
        throw new IllegalStateException(e);
      }
    }).send().get(30, TimeUnit.SECONDS);
    AtomicInteger n = new AtomicInteger();
    clock.scheduleAtFixedRate(() -> client.publish(message(id, "telemetry", String.format(java.util.Locale.ROOT,
        "{\"schema_version\":1,\"metrics\":{\"temperature_c\":%.2f,\"humidity_pct\":%.1f}}", 20 + n.incrementAndGet() * 0.01, 40 + n.get() % 7 * 0.5))), 0, 250, TimeUnit.MILLISECONDS);
  }

  /** A day of windows of a minute, with an hour without any, some that came late and some that were revised. */
  private static void yesterday(Pair pair) throws Exception {
    long minute = 60_000;
    long now = System.currentTimeMillis() / minute * minute;
    try (Connection c = pair.cloud.bean("writer", DataSource.class).orElseThrow().getConnection();
        PreparedStatement s = c.prepareStatement("INSERT INTO rollup_window (gateway_id, device_id, metric, start_ms, width_ms, part, revision, count, min, max, sum, mean, last,"
            + " last_observed_ms, received_at_ms) VALUES ('gw-1', '" + DEVICE + "', ?, ?, 60000, 0, ?, 60, ?, ?, ?, ?, ?, ?, ?)")) {
      boolean auto = c.getAutoCommit();
      c.setAutoCommit(false);
      for (int m = 2; m < 1440; m++) {
        if (m > 300 && m < 360) {
          continue;
        }
        for (String metric : List.of("temperature_c", "humidity_pct")) {
          double mean = metric.startsWith("t") ? 21 + 3 * Math.sin(m / 230.0) + 0.4 * Math.sin(m / 7.0) : 45 - 8 * Math.sin(m / 230.0) + Math.sin(m / 11.0);
          double spread = 0.3 + 0.5 * Math.abs(Math.sin(m / 90.0));
          long start = now - m * minute;
          Object[] values = {metric, start, m > 600 && m < 640 ? 3 : 1, mean - spread, mean + spread, mean * 60, mean, mean, start + 59_000,
              start + minute + (m > 360 && m < 400 ? 3_600_000 : 500)};
          for (int i = 0; i < values.length; i++) {
            s.setObject(i + 1, values[i]);
          }
          s.addBatch();
        }
      }
      s.executeBatch();
      c.commit();
      c.setAutoCommit(auto);
    }
  }

  private static List<DynamicTest> browse(Pair pair) throws Exception {
    ProcessBuilder builder = new ProcessBuilder("node", "test/app.test.mjs").directory(REPO.resolve("app").toFile()).redirectErrorStream(true);
    builder.environment().putAll(Map.of("APP_PORT", String.valueOf(pair.httpPort), "APP_GATEWAY", "gw-1", "APP_DEVICE", DEVICE, "APP_PASSWORD", PASSWORD,
        "APP_SHOTS", REPO.resolve("test-routes/target/app").toString()));
    Process node = builder.start();
    List<DynamicTest> cases = new ArrayList<>();
    StringBuilder rest = new StringBuilder();
    try (var lines = node.inputReader(StandardCharsets.UTF_8)) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        if (line.startsWith("ok ")) {
          cases.add(DynamicTest.dynamicTest(line.substring(3).replaceFirst(" #.*", ""), () -> { }));
        } else if (line.startsWith("not ok ")) {
          String[] part = line.substring(7).split(": ", 2);
          cases.add(DynamicTest.dynamicTest(part[0], () -> fail(part[1])));
        } else {
          rest.append(line).append('\n');
        }
      }
    } finally {
      node.descendants().forEach(ProcessHandle::destroy);
      node.destroy();
    }
    int exit = node.waitFor();
    assertFalse(cases.isEmpty(), () -> "node app/test/app.test.mjs ended with " + exit + " (bin/install-deps installs Node.js and Chromium):\n" + rest);
    if (rest.indexOf("# all ran") < 0) {
      cases.add(DynamicTest.dynamicTest("all cases ran", () -> fail("node app/test/app.test.mjs ended with " + exit + " before its last case:\n" + rest)));
    }
    return cases;
  }
}
