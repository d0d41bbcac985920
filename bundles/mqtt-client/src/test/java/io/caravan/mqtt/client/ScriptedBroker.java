// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import io.netty.handler.codec.mqtt.MqttProperties;
import io.netty.handler.codec.mqtt.MqttProperties.IntegerProperty;
import io.netty.handler.codec.mqtt.MqttProperties.MqttPropertyType;
import io.vertx.core.Vertx;
import io.vertx.mqtt.MqttEndpoint;
import io.vertx.mqtt.MqttServer;
import io.vertx.mqtt.MqttServerOptions;
import io.vertx.mqtt.messages.MqttPublishMessage;
import io.vertx.mqtt.messages.codes.MqttPubAckReasonCode;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BiConsumer;

/** An MQTT server for the answers that mosquitto does not give. Everything happens on one thread of its own. */
final class ScriptedBroker implements AutoCloseable {
  final AtomicInteger connections = new AtomicInteger();
  private final Vertx vertx = Vertx.vertx();
  private final MqttServer server;

  /** @param receiveMaximum announced in CONNACK; 0: nothing is */
  ScriptedBroker(int receiveMaximum, BiConsumer<MqttEndpoint, MqttPublishMessage> onPublish) throws Exception {
    server = MqttServer.create(vertx, new MqttServerOptions().setHost("127.0.0.1").setPort(0));
    server.endpointHandler(endpoint -> {
      connections.incrementAndGet();
      endpoint.publishAutoAck(false).publishHandler(message -> onPublish.accept(endpoint, message));
      endpoint.exceptionHandler(e -> { });
      MqttProperties limits = new MqttProperties();
      if (receiveMaximum > 0) {
        limits.add(new IntegerProperty(MqttPropertyType.RECEIVE_MAXIMUM.value(), receiveMaximum));
      }
      endpoint.accept(false, limits);
    });
    server.listen().toCompletionStage().toCompletableFuture().get(10, TimeUnit.SECONDS);
  }

  String url() {
    return "tcp://127.0.0.1:" + server.actualPort();
  }

  static void answer(MqttEndpoint endpoint, MqttPublishMessage message, MqttPubAckReasonCode code) {
    endpoint.publishAcknowledge(message.messageId(), code, MqttProperties.NO_PROPERTIES);
  }

  @Override
  public void close() throws Exception {
    vertx.close().toCompletionStage().toCompletableFuture().get(10, TimeUnit.SECONDS);
  }
}
