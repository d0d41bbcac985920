// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.caravan.mqtt.server.DeviceNotConnectedException;
import io.caravan.mqtt.server.Evidence;
import io.caravan.mqtt.server.MqttServerHeaders;
import io.caravan.mqtt.server.PublishException;
import io.caravan.mqtt.server.PublishTimeoutException;
import io.netty.handler.codec.mqtt.MqttProperties;
import io.netty.handler.codec.mqtt.MqttProperties.MqttPropertyType;
import io.vertx.core.Vertx;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import org.apache.camel.AsyncCallback;
import org.apache.camel.Endpoint;
import org.apache.camel.Exchange;
import org.apache.camel.Message;
import org.apache.camel.support.DefaultAsyncProducer;

/**
 * Producer of {@code mqtt-server:}: to every connection subscribed to the topic, a command to one of them. The first PUBACK ends the
 * exchange. Nothing is written twice to a connection.
 */
public final class Publisher extends DefaultAsyncProducer {
  private static final String COMMANDS = "commands";
  /** What MQTT 5 can say, in seconds; further than any clock here is asked. */
  private static final long MAX_TTL_MS = TimeUnit.SECONDS.toMillis(0xFFFF_FFFFL);

  private final Hub hub;
  private final Supplier<Vertx> vertx;
  private final Supplier<ExecutorService> completions;
  private final Options options;

  /** @param channel commands, receipts, desired, control-status, or null to take the header CaravanTopic */
  public record Options(String channel, String gatewayId, boolean awaitAck, boolean ignoreAbsent, boolean evidence, long publishTimeoutMs) {}

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
      if (!Topics.CONTROL_STATUS.equals(options.channel())) {
        return publish(exchange, callback, topic(exchange.getMessage()));
      }
      controlStatus(exchange);
    } catch (Exception e) {
      exchange.setException(e);
    }
    callback.done(true);
    return true;
  }

  private boolean publish(Exchange exchange, AsyncCallback callback, String topic) throws Exception {
    List<Session> sessions = hub.subscribers(topic);
    Delivery delivery = delivery(exchange, topic, sessions, callback);
    if (sessions.isEmpty()) {
      settle(exchange, Evidence.NONE, new DeviceNotConnectedException("no connection is subscribed to [" + topic + "]", Evidence.NONE));
    } else if (delivery.late()) {
      settle(exchange, Evidence.NONE, new PublishTimeoutException("[" + topic + "] its time is over", Evidence.NONE));
    } else {
      if (options.awaitAck()) {
        long ackMs = ms(exchange.getMessage(), MqttServerHeaders.ACK_MS, options.publishTimeoutMs());
        long ttlMs = ms(exchange.getMessage(), MqttServerHeaders.TTL_MS, ackMs);
        limit(delivery, Math.max(1, Math.min(ackMs, ttlMs)), ackMs);
      }
      delivery.start(sessions);
      if (options.awaitAck()) {
        return false;
      }
    }
    callback.done(true);
    return true;
  }

  /** To the controller's connections only, on the topic that each of them is subscribed to; nobody waits for it. */
  private void controlStatus(Exchange exchange) throws Exception {
    String device = exchange.getMessage().getHeader(MqttServerHeaders.DEVICE_ID, String.class);
    if (device == null || !Topics.validDevice(device)) {
      throw new IllegalArgumentException("header " + MqttServerHeaders.DEVICE_ID + " [" + device + "] must name the controller");
    }
    String whole = Topics.controlStatus(options.gatewayId());
    for (String topic : List.of(whole, whole + '/' + device)) {
      List<Session> sessions = hub.subscribers(topic).stream().filter(each -> device.equals(each.bound()) && each.granted()).toList();
      if (!sessions.isEmpty()) {
        delivery(exchange, topic, sessions, null).start(sessions);
      }
    }
  }

  private String topic(Message message) {
    String topic;
    if (options.channel() != null) {
      topic = "devices/" + message.getHeader(MqttServerHeaders.DEVICE_ID, String.class) + '/' + options.channel();
    } else {
      topic = message.getHeader(MqttServerHeaders.TOPIC, String.class);
    }
    if (topic == null || !Topics.subscribed(topic) || !Topics.validDevice(Topics.device(topic))) {
      throw new IllegalArgumentException("topic [" + topic + "] must be devices/{id}/commands, devices/{id}/receipts or devices/{id}/desired: set the header "
          + (options.channel() != null ? MqttServerHeaders.DEVICE_ID : MqttServerHeaders.TOPIC));
    }
    return topic;
  }

  /** What was not written when the message's time is over never will be; what was, may be acknowledged until ackMs. */
  private void limit(Delivery delivery, long firstMs, long ackMs) {
    delivery.timer(vertx.get(), vertx.get().setTimer(firstMs, id -> {
      if (delivery.abandon(new PublishTimeoutException("[" + delivery.topic + "] the device did not take within " + firstMs
          + " ms what was sent before it", Evidence.NONE))) {
        return;
      }
      if (ackMs > firstMs) {
        limit(delivery, ackMs - firstMs, 0);
      } else {
        delivery.end(Evidence.UNKNOWN, new PublishTimeoutException("[" + delivery.topic + "] was not acknowledged in time", Evidence.UNKNOWN));
      }
    }));
  }

  /** @param callback null: nobody waits */
  private Delivery delivery(Exchange exchange, String topic, List<Session> sessions, AsyncCallback callback) throws Exception {
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
    size += text(properties, MqttPropertyType.CONTENT_TYPE, message.getHeader(MqttServerHeaders.CONTENT_TYPE, String.class));
    size += text(properties, MqttPropertyType.RESPONSE_TOPIC, message.getHeader(MqttServerHeaders.RESPONSE_TOPIC, String.class));
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
    Long ttlMs = message.getHeader(MqttServerHeaders.TTL_MS, Long.class);
    // Whatever the clock says now, 0 would be none.
    long notAfterNs = ttlMs == null ? 0 : System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(Math.min(ttlMs, MAX_TTL_MS)) | 1;
    boolean awaitAck = callback != null && options.awaitAck();
    return new Delivery(topic, payload, properties, size, awaitAck, notAfterNs, sessions, /* one= */ Topics.isDevice(topic, COMMANDS),
        options.evidence(), (evidence, why) -> {
      if (awaitAck) {
        completions.get().execute(() -> {
          settle(exchange, evidence, why);
          callback.done(false);
        });
      }
    });
  }

  private void settle(Exchange exchange, Evidence evidence, PublishException why) {
    if (options.evidence()) {
      exchange.getMessage().setHeader(MqttServerHeaders.EVIDENCE, evidence.toString());
      if (why != null) {
        exchange.getMessage().setHeader(MqttServerHeaders.EVIDENCE_DETAIL, why.getMessage());
      }
    } else if (why != null && !(options.ignoreAbsent() && why instanceof DeviceNotConnectedException && !why.isWritten())) {
      exchange.setException(why);
    }
  }

  /** @return what it adds to the size at most */
  private static int text(MqttProperties properties, MqttPropertyType type, String text) {
    if (text == null) {
      return 0;
    }
    properties.add(new MqttProperties.StringProperty(type.value(), text));
    return 3 * text.length() + 3;
  }

  private static long ms(Message message, String header, long absent) {
    Long value = message.getHeader(header, Long.class);
    return value == null ? absent : value;
  }
}
