// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.caravan.mqtt.server.DeviceNotConnectedException;
import io.caravan.mqtt.server.MqttServerHeaders;
import io.caravan.mqtt.server.PublishTimeoutException;
import io.netty.handler.codec.mqtt.MqttProperties;
import io.netty.handler.codec.mqtt.MqttProperties.MqttPropertyType;
import io.vertx.core.Vertx;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.function.Supplier;
import org.apache.camel.AsyncCallback;
import org.apache.camel.Endpoint;
import org.apache.camel.Exchange;
import org.apache.camel.Message;
import org.apache.camel.support.DefaultAsyncProducer;

/** Producer of {@code mqtt-server:}: to every connection subscribed to the topic; the first PUBACK ends the exchange. */
public final class Publisher extends DefaultAsyncProducer {
  private final Hub hub;
  private final Supplier<Vertx> vertx;
  private final Supplier<ExecutorService> completions;
  private final Options options;

  /** @param channel commands, receipts, or null to take the header CaravanTopic */
  public record Options(String channel, boolean awaitAck, boolean ignoreAbsent, long publishTimeoutMs) {}

  public Publisher(Endpoint endpoint, Hub hub, Supplier<Vertx> vertx, Supplier<ExecutorService> completions, Options options) {
    super(endpoint);
    this.hub = hub;
    this.vertx = vertx;
    this.completions = completions;
    this.options = options;
  }

  @Override
  public boolean process(Exchange exchange, AsyncCallback callback) {
    try {
      String topic = topic(exchange.getMessage());
      List<Session> sessions = hub.subscribers(topic);
      if (sessions.isEmpty()) {
        if (!options.ignoreAbsent()) {
          exchange.setException(new DeviceNotConnectedException("no connection is subscribed to [" + topic + "]"));
        }
        callback.done(true);
        return true;
      }
      Delivery delivery = delivery(exchange, topic, sessions.size(), options.awaitAck() ? callback : null);
      if (options.awaitAck()) {
        vertx.get().setTimer(options.publishTimeoutMs(), id -> delivery.end(new PublishTimeoutException(
            "[" + topic + "] was not acknowledged within " + options.publishTimeoutMs() + " ms")));
      }
      sessions.forEach(session -> session.later(() -> session.deliver(delivery)));
      if (options.awaitAck()) {
        return false;
      }
    } catch (Exception e) {
      exchange.setException(e);
    }
    callback.done(true);
    return true;
  }

  private String topic(Message message) {
    String topic;
    if (options.channel() != null) {
      topic = "devices/" + message.getHeader(MqttServerHeaders.DEVICE_ID, String.class) + '/' + options.channel();
    } else {
      topic = message.getHeader(MqttServerHeaders.TOPIC, String.class);
    }
    if (topic == null || !Topics.subscribed(topic) || !Topics.validDevice(Topics.device(topic))) {
      throw new IllegalArgumentException("topic [" + topic + "] must be devices/{id}/commands or devices/{id}/receipts: set the header "
          + (options.channel() != null ? MqttServerHeaders.DEVICE_ID : MqttServerHeaders.TOPIC));
    }
    return topic;
  }

  private Delivery delivery(Exchange exchange, String topic, int connections, AsyncCallback callback) throws Exception {
    Message message = exchange.getMessage();
    byte[] payload = message.getBody() == null ? new byte[0] : message.getMandatoryBody(byte[].class);
    MqttProperties properties = new MqttProperties();
    int size = payload.length + 2 * topic.length() + 32;
    Long expiry = message.getHeader(MqttServerHeaders.EXPIRY_SECONDS, Long.class);
    if (expiry != null) {
      if (expiry < 1 || expiry > 0xFFFF_FFFFL) {
        throw new IllegalArgumentException("header " + MqttServerHeaders.EXPIRY_SECONDS + " [" + expiry + "] must be 1 to 4294967295");
      }
      properties.add(new MqttProperties.IntegerProperty(MqttPropertyType.PUBLICATION_EXPIRY_INTERVAL.value(), expiry.intValue()));
    }
    String contentType = message.getHeader(MqttServerHeaders.CONTENT_TYPE, String.class);
    if (contentType != null) {
      properties.add(new MqttProperties.StringProperty(MqttPropertyType.CONTENT_TYPE.value(), contentType));
      size += 3 * contentType.length() + 3;
    }
    Object correlation = message.getHeader(MqttServerHeaders.CORRELATION_DATA);
    if (correlation != null) {
      byte[] data = correlation instanceof byte[] bytes ? bytes : correlation.toString().getBytes(StandardCharsets.UTF_8);
      properties.add(new MqttProperties.BinaryProperty(MqttPropertyType.CORRELATION_DATA.value(), data));
      size += data.length + 3;
    }
    if (message.getHeader(MqttServerHeaders.USER_PROPERTIES) instanceof Map<?, ?> map) {
      MqttProperties.UserProperties user = new MqttProperties.UserProperties();
      for (Map.Entry<?, ?> each : map.entrySet()) {
        user.add(String.valueOf(each.getKey()), String.valueOf(each.getValue()));
        size += 3 * (String.valueOf(each.getKey()).length() + String.valueOf(each.getValue()).length()) + 5;
      }
      properties.add(user);
    }
    return new Delivery(topic, payload, properties, size, callback != null, connections, failure -> {
      if (callback != null) {
        completions.get().execute(() -> {
          if (failure != null) {
            exchange.setException(failure);
          }
          callback.done(false);
        });
      }
    });
  }
}
