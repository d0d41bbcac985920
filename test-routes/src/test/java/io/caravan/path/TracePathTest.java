// SPDX-License-Identifier: Apache-2.0
package io.caravan.path;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.datatypes.Mqtt5UserProperties;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import io.caravan.it.OtlpReceiver;
import io.caravan.it.OtlpReceiver.Got;
import io.caravan.runtime.Caravan;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.Statement;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import javax.sql.DataSource;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** One trace, from the device to the cloud's tables: over the real path, with a real receiver of OTLP. */
@Timeout(180)
class TracePathTest {
  private static final Duration SOON = Duration.ofSeconds(40);
  private static final String EVENT = "{\"schema_version\":1,\"event\":\"opened\"}";
  private static final String TELEMETRY = "{\"schema_version\":1,\"metrics\":{\"t\":1}}";
  private static final HttpClient HTTP = HttpClient.newHttpClient();

  @TempDir
  Path home;
  private OtlpReceiver receiver;
  private Pair pair;
  private int traces;

  @BeforeEach
  void receiver() throws Exception {
    receiver = new OtlpReceiver(0);
    pair = new Pair(home);
  }

  @AfterEach
  void stop() {
    pair.close();
    receiver.close();
  }

  private Map<String, String> keys(Map<String, String> more) {
    Map<String, String> keys = new HashMap<>(Map.of("traces.enabled", "true", "traces.endpoint", receiver.endpoint(), "traces.sample.ratio", "1"));
    keys.putAll(more);
    return keys;
  }

  private void gateway(Map<String, String> more) throws Exception {
    Map<String, String> keys = keys(Map.of("rollup.grace.ms", "0", "rollup.emit.ms", "100", "rollup.idle.ms", "1000", "uplink.flush.ms", "100"));
    keys.putAll(more);
    pair.startGateway(keys);
  }

  private String device() {
    return String.format("00-4bf92f3577b34da6a3ce929d0e0e%04x-00f067aa0ba902b7-01", ++traces);
  }

  private static String traceOf(String traceparent) {
    return traceparent.substring(3, 35);
  }

  private void publish(String channel, String body, String... traceparents) {
    Mqtt5BlockingClient client = Mqtt5Client.builder().identifier("d1").serverHost("127.0.0.1").serverPort(pair.mqttPort).buildBlocking();
    client.connect();
    try {
      var properties = Mqtt5UserProperties.builder();
      for (String each : traceparents) {
        properties.add("traceparent", each);
      }
      client.publish(Mqtt5Publish.builder().topic("devices/d1/" + channel).qos(MqttQos.AT_LEAST_ONCE).contentType("application/json")
          .payload(body.getBytes(UTF_8)).userProperties(properties.build()).build());
    } finally {
      client.disconnect();
    }
  }

  private int post(String body, String traceparent) throws Exception {
    HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + pair.gatewayHttpPort + "/ingest/d1/events"))
        .timeout(SOON).header("Content-Type", "application/json").POST(HttpRequest.BodyPublishers.ofString(body));
    if (traceparent != null) {
      request.header("traceparent", traceparent);
    }
    return HTTP.send(request.build(), HttpResponse.BodyHandlers.ofString()).statusCode();
  }

  private static String text(Caravan side, String sql) throws Exception {
    try (Connection c = side.bean("reader", DataSource.class).orElseThrow().getConnection(); Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
      return r.next() ? r.getString(1) : "no row";
    }
  }

  private static String event(String name) {
    return EVENT.replace("opened", name);
  }

  private String contextOf(String event) throws Exception {
    return text(pair.gateway, "SELECT trace_context FROM wal WHERE json_extract(CAST(body AS TEXT), '$.event') = '" + event + "'");
  }

  private Set<String> names(String trace) {
    return receiver.trace(trace).stream().map(s -> s.service().replace("caravan-", "") + ": " + s.name()).collect(Collectors.toSet());
  }

  private Got one(String trace, String name) {
    List<Got> found = receiver.trace(trace).stream().filter(s -> s.name().equals(name)).toList();
    assertEquals(1, found.size(), () -> name + " in " + receiver.trace(trace));
    return found.get(0);
  }

  private static final Set<String> ALL = Set.of("gateway: ingest mqtt-server", "gateway: append wal", "gateway: send uplink", "cloud: receive inbox",
      "cloud: store inbox");

  @Test
  void oneTraceSpansTheQueueAndBothContainers() throws Exception {
    pair.startCloud(keys(Map.of()));
    pair.enrol();
    gateway(Map.of());

    // The device began it, in a user property of MQTT 5.
    String device = device();
    publish("events", event("began"), device);
    await().atMost(SOON).until(() -> names(traceOf(device)).equals(ALL));
    Got ingest = one(traceOf(device), "ingest mqtt-server");
    assertEquals("00f067aa0ba902b7", ingest.parent(), "the device's span is the parent");
    assertEquals(ingest.traceparent(), contextOf("began"), "the row has the context");
    for (String name : Set.of("append wal", "send uplink", "receive inbox", "store inbox")) {
      assertEquals(ingest.id(), one(traceOf(device), name).parent(), name);
    }
    assertEquals("gw-1", ingest.resource().get("gateway.id"));
    assertEquals("durable", one(traceOf(device), "append wal").attributes().get("caravan.outcome"));
    assertEquals("d1", ingest.attributes().get("caravan.device_id"));
    assertEquals("gw-1", one(traceOf(device), "receive inbox").attributes().get("gateway.id"));

    // Nobody began it: every message is sampled.
    publish("events", event("alone"));
    await().atMost(SOON).until(() -> contextOf("alone") != null && names(traceOf(contextOf("alone"))).equals(ALL));
    assertEquals("", one(traceOf(contextOf("alone")), "ingest mqtt-server").parent());

    // Over HTTP, in the header.
    String client = device();
    assertEquals(202, post(event("http"), client));
    await().atMost(SOON).until(() -> names(traceOf(client)).size() == ALL.size());
    assertEquals("00f067aa0ba902b7", one(traceOf(client), "ingest http").parent());

    // It was not sampled where it began: it is handed on, and nothing is recorded.
    String unsampled = device().replaceAll("-01$", "-00");
    publish("events", event("unsampled"), unsampled);
    assertEquals(unsampled, contextOf("unsampled"));
    // What is none is not stored; a trace of its own begins.
    for (String hostile : List.of("00-x", "00-" + "0".repeat(32) + "-00f067aa0ba902b7-01", device().toUpperCase(java.util.Locale.ROOT), "' OR 1=1 --",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a".repeat(5_000), "")) {
      String name = "hostile-" + ++traces;
      double before = ignored(pair.gateway);
      publish("events", event(name), hostile);
      String context = contextOf(name);
      assertTrue(context.matches("00-[0-9a-f]{32}-[0-9a-f]{16}-01") && !context.contains("4bf92f3577b34da6a3ce929d0e0e"), context);
      await().atMost(SOON).until(() -> ignored(pair.gateway) == before + 1);
    }
    assertEquals(202, post(event("hostile-http"), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"));
    assertTrue(!contextOf("hostile-http").contains("4bf92f3577b34da6a3ce929d0e0e4736"));
    assertEquals(List.of(), receiver.trace(traceOf(unsampled)));

    // A window is of many messages: a trace of its own, linked to theirs, in which they find when they were added up.
    String metric = device();
    publish("telemetry", TELEMETRY, metric);
    await().atMost(SOON).until(() -> names(traceOf(metric)).equals(Set.of("gateway: ingest mqtt-server", "gateway: append wal", "gateway: rollup wal")));
    String message = one(traceOf(metric), "ingest mqtt-server").traceparent();
    Predicate<Got> windows = s -> s.name().equals("emit outbox") && s.links().contains(message);
    await().atMost(SOON).until(() -> receiver.spans().stream().anyMatch(windows));
    Got emit = receiver.spans().stream().filter(windows).findFirst().orElseThrow();
    assertNotEquals(traceOf(metric), emit.trace());
    await().atMost(SOON).until(() -> names(emit.trace()).equals(Set.of("gateway: emit outbox", "gateway: send uplink", "cloud: receive inbox",
        "cloud: store inbox")));
    assertEquals(emit.id(), one(emit.trace(), "store inbox").parent());

    // Refused: the trace says why.
    String bad = device();
    try {
      publish("telemetry", "{\"schema_version\":1,\"metrics\":{\"t\":\"x\"}}", bad);
    } catch (com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5PubAckException e) {
      // The answer to it.
    }
    await().atMost(SOON).until(() -> receiver.trace(traceOf(bad)).size() == 1);
    assertTrue(one(traceOf(bad), "ingest mqtt-server").failed());
    assertEquals("schema_violation", one(traceOf(bad), "ingest mqtt-server").attributes().get("error.type"));
    assertEquals(List.of(), receiver.problems());
  }

  /** The context comes out of the row: everything else of the gateway and the cloud is new when the message goes on. */
  @Test
  void aTraceOutlivesBothProcesses() throws Exception {
    pair.startCloud(keys(Map.of()));
    pair.enrol();
    pair.cloud.close();
    gateway(Map.of());
    String device = device();
    publish("events", event("before"), device);
    await().atMost(SOON).until(() -> Pair.number(pair.gateway, "SELECT count(*) FROM outbox") == 1);
    await().atMost(SOON).until(() -> names(traceOf(device)).equals(Set.of("gateway: ingest mqtt-server", "gateway: append wal")));
    pair.gateway.close();

    pair.startCloud(keys(Map.of()));
    gateway(Map.of());
    await().atMost(SOON).until(() -> names(traceOf(device)).equals(ALL));
    assertEquals(one(traceOf(device), "ingest mqtt-server").id(), one(traceOf(device), "store inbox").parent());
    assertEquals(List.of(), receiver.problems());
  }

  /** Off, as it is shipped: no span, no context but the one a device gave; and what comes from a gateway that traces is handed on. */
  @Test
  void offMeansNothing() throws Exception {
    Map<String, String> off = Map.of("traces.enabled", "false", "traces.endpoint", receiver.endpoint());
    pair.startCloud(off);
    pair.enrol();
    gateway(off);
    String device = device();
    publish("events", event("given"), device);
    publish("events", event("none"));
    publish("events", event("bad"), "00-bad");
    publish("telemetry", TELEMETRY);
    assertEquals(device, contextOf("given"));
    assertEquals(null, contextOf("none"));
    assertEquals(null, contextOf("bad"));
    assertEquals(1.0, ignored(pair.gateway));
    await().atMost(SOON).until(() -> Pair.number(pair.cloud, "SELECT count(*) FROM message") == 3
        && Pair.number(pair.cloud, "SELECT count(*) FROM rollup_window") > 0);
    assertEquals(1, Pair.number(pair.cloud, "SELECT count(*) FROM inbox WHERE trace_context IS NOT NULL"));
    pair.gateway.close();
    pair.cloud.close();
    assertEquals(0, receiver.requests());
  }

  private static double ignored(Caravan side) {
    return side.metrics().lines().filter(l -> l.startsWith("caravan_traces_ignored_total ")).mapToDouble(l -> Double.parseDouble(l.split(" ")[1])).sum();
  }
}
