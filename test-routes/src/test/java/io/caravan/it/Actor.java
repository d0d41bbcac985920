// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * A device that carries out each command it gets, as often as it gets it, and notes when: it remembers nothing, so it is the
 * gateway that must not send a command twice. The command's argument {@code mood} says how it answers. Thread-safe.
 */
final class Actor implements AutoCloseable {
  static final String CAPABILITIES = """
      {"schema_version":1,"version":"1","commands":{
        "pulse":{"arguments":{"type":"object","properties":{"mood":{"type":"string","maxLength":20}},"additionalProperties":false},
          "idempotent":false,"timeout_ms":4000},
        "unlock":{"arguments":{"type":"object","properties":{"mood":{"type":"string","maxLength":20}},"additionalProperties":false},
          "idempotent":false,"timeout_ms":4000,"budget":[{"count":3,"per_ms":8000}]},
        "set":{"arguments":{"type":"object","properties":{"mood":{"type":"string","maxLength":20}},"additionalProperties":false},
          "idempotent":true,"timeout_ms":3000}}}""";
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final ScheduledExecutorService LATER = Executors.newSingleThreadScheduledExecutor(r -> {
    Thread thread = new Thread(r, "late-answers");
    thread.setDaemon(true);
    return thread;
  });

  /** What was carried out. @param atMs wall clock */
  record Run(String deviceId, String commandId, String name, long atMs, long expiresAtMs) {}

  final String id;
  private final int port;
  private final List<Run> runs;
  /** command id and status, as published. */
  private final Map<String, List<String>> said;
  private final AtomicInteger lives = new AtomicInteger();
  private volatile Mqtt5AsyncClient client;

  Actor(String id, int port, List<Run> runs, Map<String, List<String>> said) {
    this.id = id;
    this.port = port;
    this.runs = runs;
    this.said = said;
  }

  /** Switched on; connects as soon as it can and again whenever the connection breaks, until {@link #off}. */
  Actor on() {
    Mqtt5AsyncClient made = Mqtt5Client.builder().identifier(id + "-" + lives.incrementAndGet()).serverHost("127.0.0.1").serverPort(port)
        .automaticReconnect().initialDelay(50, TimeUnit.MILLISECONDS).maxDelay(500, TimeUnit.MILLISECONDS).applyAutomaticReconnect()
        .simpleAuth().username(id).applySimpleAuth()
        .addConnectedListener(c -> greet())
        .buildAsync();
    // Once for the client: with each subscription it would be called once more for the same message.
    made.publishes(MqttGlobalPublishFilter.ALL, p -> take(made, p));
    client = made;
    made.connectWith().cleanStart(true).send();
    return this;
  }

  private void greet() {
    Mqtt5AsyncClient now = client;
    if (now == null) {
      return;
    }
    now.publishWith().topic("devices/" + id + "/capabilities").qos(MqttQos.AT_LEAST_ONCE).payload(CAPABILITIES.getBytes(StandardCharsets.UTF_8)).send();
    now.subscribeWith().topicFilter("devices/" + id + "/commands").qos(MqttQos.AT_LEAST_ONCE).send();
  }

  /** Switched off, without a word. */
  void off() {
    Mqtt5AsyncClient now = client;
    client = null;
    if (now != null) {
      now.disconnect();
    }
  }

  private void take(Mqtt5AsyncClient by, Mqtt5Publish publish) {
    JsonNode command;
    try {
      command = JSON.readTree(publish.getPayloadAsBytes());
    } catch (IOException e) {
      throw new IllegalStateException(e);
    }
    String commandId = command.path("command_id").asText();
    runs.add(new Run(id, commandId, command.path("name").asText(), System.currentTimeMillis(), command.path("expires_at_ms").asLong()));
    switch (command.path("arguments").path("mood").asText("well")) {
      case "never" -> { }
      case "late" -> LATER.schedule(() -> answer(by, commandId, "succeeded"), 6, TimeUnit.SECONDS);
      case "slow" -> {
        answer(by, commandId, "received");
        LATER.schedule(() -> answer(by, commandId, "succeeded"), 500, TimeUnit.MILLISECONDS);
      }
      case "twice" -> {
        answer(by, commandId, "succeeded");
        answer(by, commandId, "succeeded");
      }
      case "contradict" -> {
        answer(by, commandId, "failed");
        answer(by, commandId, "succeeded");
      }
      case "fail" -> answer(by, commandId, "failed");
      case "refuse" -> answer(by, commandId, "rejected");
      case "rubbish" -> {
        publish(by, "{\"command_id\":\"" + commandId + "\",\"status\":\"exploded\"}");
        publish(by, "not even JSON");
        publish(by, "{\"command_id\":\"somebody-elses\",\"status\":\"succeeded\"}");
      }
      default -> answer(by, commandId, "succeeded");
    }
  }

  private void answer(Mqtt5AsyncClient by, String commandId, String status) {
    said.computeIfAbsent(commandId, c -> java.util.Collections.synchronizedList(new ArrayList<>())).add(status);
    publish(by, "{\"command_id\":\"" + commandId + "\",\"status\":\"" + status + "\",\"result\":{\"by\":\"" + id + "\"}}");
  }

  private void publish(Mqtt5AsyncClient by, String json) {
    by.publish(Mqtt5Publish.builder().topic("devices/" + id + "/command-status").qos(MqttQos.AT_LEAST_ONCE)
        .payload(json.getBytes(StandardCharsets.UTF_8)).build());
  }

  static Map<String, List<String>> answers() {
    return new ConcurrentHashMap<>();
  }

  @Override
  public void close() {
    off();
  }
}
