// SPDX-License-Identifier: Apache-2.0
package io.caravan.cases;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.datatypes.Mqtt5UserProperties;
import com.hivemq.client.mqtt.mqtt5.datatypes.Mqtt5UserPropertiesBuilder;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import io.caravan.devices.Devices;
import io.caravan.devices.Signatures;
import io.caravan.it.Device;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.support.DefaultExchange;

/** Does a case's steps in a running context and compares. */
final class CaseRun {
  private static final HttpClient HTTP = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(20)).version(HttpClient.Version.HTTP_1_1).build();

  private final RouteCase routeCase;
  private final CamelContext context;
  /** How long anything is waited for. */
  private final Duration limit;
  private final Map<String, byte[]> keys = new HashMap<>();

  CaseRun(RouteCase routeCase, CamelContext context) {
    this.routeCase = routeCase;
    this.context = context;
    this.limit = Duration.ofMillis(Long.parseLong(routeCase.settings.getOrDefault("limit.ms", "20000")));
  }

  void run() throws Exception {
    for (String device : routeCase.settings.getOrDefault("devices", "").strip().split("\\s+")) {
      if (!device.isEmpty()) {
        enrol(device.split(":")[0], Devices.Signing.valueOf(device.split(":")[1].toUpperCase(Locale.ROOT)));
      }
    }
    for (RouteCase.Step step : routeCase.steps) {
      if (step.sql() != null) {
        try (Connection c = source("writer").getConnection(); Statement s = c.createStatement()) {
          s.executeUpdate(step.sql());
        }
      }
      Map<String, String> answer = step.isMessage() ? send(step) : Map.of();
      if (step.expected() != null) {
        compare(step, answer);
      }
      if (step.expectedRows() != null) {
        compare(step.expectedRows());
      }
    }
  }

  private void enrol(String id, Devices.Signing signing) throws Exception {
    Devices.Enrolment enrolment = context.getRegistry().lookupByNameAndType("devices", Devices.class)
        .add(new Devices.NewDevice(id, null, null, signing, null, null, null, null, null));
    keys.put(id, Base64.getUrlDecoder().decode(enrolment.signingKey()));
  }

  /** {@code sign = <device> <boot> <number>}: the header of a message that this device sends under this number. */
  private void sign(Map<String, String> settings, byte[] body) {
    String[] sign = settings.getOrDefault("sign", "").split(" ");
    if (sign.length == 3) {
      settings.put("header.CaravanSignature", Signatures.sign(keys.get(sign[0]), settings.get("header.CaravanTopic"), sign[1],
          Long.parseLong(sign[2]), body));
    }
  }

  private void compare(RouteCase.Step step, Map<String, String> answer) {
    step.expected().forEach((name, value) -> {
      if (value.equals("*")) {
        assertNotNull(answer.get(name), () -> "step " + step.number() + ": " + name + " is missing in " + answer);
      } else {
        assertEquals(value, answer.getOrDefault(name, ""), () -> "step " + step.number() + ": " + name + " in " + answer);
      }
    });
  }

  private void compare(RouteCase.Table table) {
    await(table.file().toString()).atMost(limit).untilAsserted(() -> {
      List<List<String>> rows = rows(table.query());
      for (int i = 0; i < Math.min(rows.size(), table.rows().size()); i++) {
        for (int c = 0; c < Math.min(rows.get(i).size(), table.rows().get(i).size()); c++) {
          if (table.rows().get(i).get(c).equals("*")) {
            rows.get(i).set(c, "*");
          }
        }
      }
      assertEquals(lines(table.rows()), lines(rows), table.query());
    });
  }

  private static String lines(List<List<String>> rows) {
    return rows.stream().map(r -> String.join(",", r)).reduce("", (a, b) -> a + b + "\n");
  }

  private List<List<String>> rows(String query) throws SQLException {
    try (Connection c = source("reader").getConnection(); Statement s = c.createStatement(); ResultSet r = s.executeQuery(query)) {
      List<List<String>> rows = new ArrayList<>();
      while (r.next()) {
        List<String> row = new ArrayList<>();
        for (int i = 1; i <= r.getMetaData().getColumnCount(); i++) {
          row.add(r.getString(i) == null ? "NULL" : r.getString(i));
        }
        rows.add(row);
      }
      return rows;
    }
  }

  private DataSource source(String bean) {
    return context.getRegistry().lookupByNameAndType(bean, DataSource.class);
  }

  private Map<String, String> send(RouteCase.Step step) throws Exception {
    Map<String, String> settings = new TreeMap<>(routeCase.settings);
    if (step.properties() != null) {
      settings.putAll(step.properties());
    }
    byte[] body = step.body() == null ? new byte[0] : step.body();
    sign(settings, body);
    if (settings.containsKey("http")) {
      return http(settings, body);
    } else if (settings.containsKey("mqtt")) {
      return mqtt(settings, body);
    }
    return route(settings, body);
  }

  /** To an endpoint of the context; the answer is the exchange's variables. */
  private Map<String, String> route(Map<String, String> settings, byte[] body) throws Exception {
    try (ProducerTemplate template = context.createProducerTemplate()) {
      Exchange exchange = new DefaultExchange(context);
      exchange.getMessage().setBody(body);
      RouteCase.below("header.", settings).forEach(exchange.getMessage()::setHeader);
      template.asyncSend(settings.get("to"), exchange).get(limit.toMillis(), TimeUnit.MILLISECONDS);
      Map<String, String> answer = new TreeMap<>();
      if (exchange.getVariables() != null) {
        exchange.getVariables().forEach((k, v) -> answer.put(k, String.valueOf(v)));
      }
      if (exchange.getException() != null) {
        answer.put("exception", exchange.getException().toString());
        if (!routeCase.steps.stream().anyMatch(s -> s.expected() != null && s.expected().containsKey("exception"))) {
          throw exchange.getException();
        }
      }
      return answer;
    }
  }

  private Map<String, String> http(Map<String, String> settings, byte[] body) throws Exception {
    String[] request = settings.get("http").split(" ", 2);
    HttpRequest.Builder builder = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + port("http.port") + request[1]))
        .timeout(limit).method(request[0], body.length == 0 ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofByteArray(body));
    RouteCase.below("header.", settings).forEach(builder::header);
    HttpResponse<String> response = HTTP.send(builder.build(), HttpResponse.BodyHandlers.ofString());
    Map<String, String> answer = new TreeMap<>();
    answer.put("status", String.valueOf(response.statusCode()));
    response.headers().map().forEach((k, v) -> answer.put("header." + k.toLowerCase(), String.join(",", v)));
    answer.put("body", response.body());
    if (response.body().startsWith("{") || response.body().startsWith("[")) {
      pointers("", new ObjectMapper().readTree(response.body()), answer);
    }
    return answer;
  }

  private static void pointers(String at, JsonNode node, Map<String, String> answer) {
    if (node.isObject()) {
      node.fields().forEachRemaining(e -> pointers(at + "/" + e.getKey(), e.getValue(), answer));
    } else if (node.isArray()) {
      for (int i = 0; i < node.size(); i++) {
        pointers(at + "/" + i, node.get(i), answer);
      }
    } else {
      answer.put(at, node.asText());
    }
  }

  private Map<String, String> mqtt(Map<String, String> settings, byte[] body) throws Exception {
    String topic = settings.get("mqtt");
    String deviceId = settings.getOrDefault("client", topic.split("/").length > 1 ? topic.split("/")[1] : "d1");
    Mqtt5UserPropertiesBuilder user = Mqtt5UserProperties.builder();
    RouteCase.below("user.", settings).forEach(user::add);
    Mqtt5Publish publish = Mqtt5Publish.builder().topic(topic).qos(MqttQos.AT_LEAST_ONCE).payload(body)
        .contentType(settings.get("content-type")).userProperties(user.build()).build();
    try (Device device = Device.connect(deviceId, port("mqtt.server.port"))) {
      return Map.of("puback", device.publish(publish).toString());
    }
  }

  private int port(String key) {
    return Integer.parseInt(context.resolvePropertyPlaceholders("{{" + key + "}}"));
  }
}
