// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.vertx.mqtt.MqttEndpoint;
import io.vertx.mqtt.messages.MqttPublishMessage;
import io.vertx.mqtt.messages.codes.MqttPubAckReasonCode;
import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import org.apache.camel.Exchange;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.impl.DefaultCamelContext;
import org.eclipse.paho.mqttv5.client.MqttAsyncClient;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Commands through a broker: what is known of each, and that none is published twice. */
@Timeout(120)
class OnceMqttPublisherTest {
  private static final String TOPIC = "devices/d1/commands";
  private static final long LONG_MS = 30_000;

  @TempDir
  Path folder;
  private final DefaultCamelContext context = new DefaultCamelContext();
  private OnceMqttPublisher publisher;
  private LatestMqttPublisher latest;

  @AfterEach
  void stop() {
    context.stop();
  }

  private void start(String url) throws Exception {
    publisher = new OnceMqttPublisher();
    latest = new LatestMqttPublisher();
    for (ManagedMqttClient each : List.of(publisher, latest)) {
      each.setCamelContext(context);
      each.setUrl(url);
      each.setClientId(each == publisher ? "caravan-cmd" : "caravan-pub");
      each.setKeepAliveSeconds(1);
      each.setReconnectMinMs(10);
      each.setReconnectMaxMs(100);
    }
    context.getShutdownStrategy().setTimeout(2);
    context.getRegistry().bind("once", publisher);
    context.getRegistry().bind("latest", latest);
    context.addRoutes(new RouteBuilder() {
      @Override
      public void configure() {
        errorHandler(noErrorHandler());
        from("direct:command").routePolicy(publisher).bean(publisher, "send");
        from("direct:latest").routePolicy(latest).bean(latest, "send");
      }
    });
    context.start();
  }

  private void connected() {
    Until.true_("connected", 10_000, publisher::isConnected);
  }

  private Exchange send(String uri, String body, Map<String, Object> headers) {
    return context.createProducerTemplate().send(uri, exchange -> {
      exchange.getMessage().setBody(body);
      exchange.getMessage().setHeader("CaravanTopic", TOPIC);
      exchange.getMessage().getHeaders().putAll(headers);
    });
  }

  private String evidence(int qos, long ttlMs, long ackMs) {
    Exchange exchange = send("direct:command", "c", Map.of("CaravanQos", qos, "CaravanTtlMs", ttlMs, "CaravanAckMs", ackMs));
    assertNull(exchange.getException());
    return exchange.getMessage().getHeader("CaravanEvidence", String.class);
  }

  private CompletableFuture<String> later(int qos, long ttlMs, long ackMs) {
    return CompletableFuture.supplyAsync(() -> evidence(qos, ttlMs, ackMs));
  }

  private static String text(MqttPublishMessage message) {
    return message.payload().toString(StandardCharsets.UTF_8);
  }

  @Test
  void whatTheBrokerSaysIsTheEvidence() throws Exception {
    LinkedBlockingQueue<MqttMessage> received = new LinkedBlockingQueue<>();
    try (Mosquitto broker = new Mosquitto(folder.resolve("broker"), true)) {
      start(broker.url());
      assertEquals("none", evidence(1, LONG_MS, LONG_MS), "no connection");
      broker.start();
      connected();
      assertEquals("none", evidence(1, LONG_MS, LONG_MS), "connected, and nobody is subscribed");
      MqttAsyncClient device = new MqttAsyncClient(broker.url(), "d1", new MemoryPersistence());
      device.setCallback(new Listener((topic, message) -> received.add(message)));
      device.connect(new MqttConnectionOptions()).waitForCompletion(10_000);
      device.subscribe(TOPIC, 1).waitForCompletion(10_000);
      assertEquals("none", evidence(1, 0, LONG_MS), "its time is over");

      Exchange sent = send("direct:command", "{}", new HashMap<>(Map.of("CaravanQos", 1, "CaravanTtlMs", 9_001, "CaravanContentType", "application/json",
          "CaravanResponseTopic", "devices/d1/command-status", "CaravanCorrelationData", "c-1", "CaravanUserProperties",
          Map.of("caravan-command-id", "c-1"))));
      assertEquals("sent", sent.getMessage().getHeader("CaravanEvidence"));
      MqttMessage message = received.poll(10, TimeUnit.SECONDS);
      assertEquals(1, message.getQos());
      assertFalse(message.isRetained());
      assertTrue(message.getProperties().getMessageExpiryInterval() <= 10 && message.getProperties().getMessageExpiryInterval() > 5);
      assertEquals("application/json", message.getProperties().getContentType());
      assertEquals("devices/d1/command-status", message.getProperties().getResponseTopic());
      assertArrayEquals("c-1".getBytes(StandardCharsets.UTF_8), message.getProperties().getCorrelationData());
      assertEquals("c-1", message.getProperties().getUserProperties().get(0).getValue());

      assertEquals("sent", evidence(0, LONG_MS, LONG_MS));
      assertEquals(0, received.poll(10, TimeUnit.SECONDS).getQos(), "a broker does not repeat it");
      assertInstanceOf(IllegalArgumentException.class, send("direct:command", "c", Map.of("CaravanQos", 2)).getException());
      device.disconnectForcibly(0, 100, true);
      device.close(true);

      broker.stop();
      Until.true_("disconnected", 10_000, () -> !publisher.isConnected());
      assertEquals("none", evidence(1, LONG_MS, LONG_MS));
      assertEquals("none", evidence(0, LONG_MS, LONG_MS));
    }
  }

  @Test
  void aRefusalIsOne() throws Exception {
    try (ScriptedBroker broker = new ScriptedBroker(0, (endpoint, message) -> ScriptedBroker.answer(endpoint, message, MqttPubAckReasonCode.NOT_AUTHORIZED))) {
      start(broker.url());
      connected();
      Exchange refused = send("direct:command", "c", Map.of("CaravanQos", 1));
      assertEquals("refused", refused.getMessage().getHeader("CaravanEvidence"));
      assertTrue(refused.getMessage().getHeader("CaravanEvidenceDetail", String.class).contains("0x87"));
    }
  }

  @Test
  void whatIsNotAnsweredIsUnknown() throws Exception {
    List<String> seen = new CopyOnWriteArrayList<>();
    try (ScriptedBroker broker = new ScriptedBroker(0, (endpoint, message) -> seen.add(text(message)))) {
      start(broker.url());
      connected();
      assertEquals("unknown", evidence(1, LONG_MS, 300), "no PUBACK in time");
      CompletableFuture<String> stopped = later(1, LONG_MS, LONG_MS);
      Until.true_("the broker has it", 10_000, () -> seen.size() == 2);
      context.getRouteController().stopRoute(context.getRoutes().get(0).getRouteId());
      assertEquals("unknown", stopped.get(10, TimeUnit.SECONDS), "the client was stopped");
      assertEquals("none", publisherAlone(), "and takes nothing any more");
    }
  }

  /** Stopped between the hand-over to the connection and the begin of the time for its answer. */
  @Test
  void stoppedInBetweenIsUnknownAndNoError() throws Exception {
    List<String> seen = new CopyOnWriteArrayList<>();
    try (ScriptedBroker broker = new ScriptedBroker(0, (endpoint, message) -> seen.add(text(message)))) {
      start(broker.url());
      connected();
      Field timer = OnceMqttPublisher.class.getDeclaredField("timer");
      timer.setAccessible(true);
      ((ExecutorService) timer.get(publisher)).shutdownNow();
      assertEquals("unknown", evidence(1, LONG_MS, LONG_MS));
      Until.true_("the broker has it", 10_000, () -> seen.size() == 1);
    }
  }

  private String publisherAlone() {
    Exchange exchange = new org.apache.camel.support.DefaultExchange(context);
    exchange.getMessage().setBody("c");
    exchange.getMessage().setHeader("CaravanTopic", TOPIC);
    publisher.send(exchange);
    return exchange.getMessage().getHeader("CaravanEvidence", String.class);
  }

  /** More than a broker takes at once is not kept: it goes back to who has the queue. */
  @Test
  void whatExceedsTheBrokersReceiveMaximumIsNotTaken() throws Exception {
    List<Runnable> answers = new CopyOnWriteArrayList<>();
    BiConsumer<MqttEndpoint, MqttPublishMessage> hold =
        (endpoint, message) -> answers.add(() -> ScriptedBroker.answer(endpoint, message, MqttPubAckReasonCode.SUCCESS));
    try (ScriptedBroker broker = new ScriptedBroker(1, hold)) {
      start(broker.url());
      connected();
      CompletableFuture<String> first = later(1, LONG_MS, LONG_MS);
      Until.true_("the broker has it", 10_000, () -> answers.size() == 1);
      assertEquals("none", evidence(1, LONG_MS, LONG_MS));
      answers.get(0).run();
      assertEquals("sent", first.get(10, TimeUnit.SECONDS));
      assertEquals(1, answers.size());
    }
  }

  /** A broker that takes a message and ends the connection: whoever keeps it for the next one has it carried out twice. */
  @Test
  void nothingIsPublishedTwice() throws Exception {
    List<String> seen = new CopyOnWriteArrayList<>();
    BiConsumer<MqttEndpoint, MqttPublishMessage> cut = (endpoint, message) -> {
      seen.add(text(message));
      if (text(message).startsWith("fence")) {
        if (message.messageId() > 0) {
          ScriptedBroker.answer(endpoint, message, MqttPubAckReasonCode.SUCCESS);
        }
      } else if (seen.indexOf(text(message)) == seen.size() - 1) {
        endpoint.close();
      } else {
        ScriptedBroker.answer(endpoint, message, MqttPubAckReasonCode.SUCCESS);
      }
    };
    try (ScriptedBroker broker = new ScriptedBroker(0, cut)) {
      start(broker.url());
      connected();
      assertEquals("unknown", evidence(1, LONG_MS, LONG_MS));
      Until.true_("connected again", 10_000, () -> "sent".equals(send("direct:command", "fence", Map.of("CaravanQos", 1)).getMessage()
          .getHeader("CaravanEvidence")));
      assertEquals(List.of("c", "fence"), seen);

      // Negative control: the publisher of receipts, which may come twice, sends again what it has no answer for.
      send("direct:latest", "receipt", Map.of());
      Until.true_("the receipt came twice", 10_000, () -> seen.stream().filter("receipt"::equals).count() == 2);
    }
  }
}
