// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import org.apache.camel.Exchange;
import org.apache.camel.Message;
import org.apache.camel.component.paho.mqtt5.PahoMqtt5Constants;
import org.apache.camel.component.paho.mqtt5.PahoMqtt5Message;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;
import org.eclipse.paho.mqttv5.common.packet.UserProperty;

/** Reads what ingest wants to know out of what {@code paho-mqtt5:} gives. Stateless. */
public final class MqttHeaders {

  /**
   * Sets {@code CaravanTopic}, {@code CaravanRetained} (true) where the broker had kept the message for who subscribes, and {@code CaravanContentType}, {@code CaravanIdempotencyKey}, {@code CaravanSignature} and
   * {@code CaravanTraceparent} where the MQTT 5 properties content type and user properties {@code caravan-idempotency-key},
   * {@code caravan-signature} and {@code traceparent} are there; of several user properties of a name the first counts.
   */
  public void read(Exchange exchange) {
    Message message = exchange.getMessage();
    message.setHeader("CaravanTopic", message.getHeader(PahoMqtt5Constants.MQTT_TOPIC));
    if (message instanceof PahoMqtt5Message received && received.getMqttMessage() != null && received.getMqttMessage().isRetained()) {
      message.setHeader("CaravanRetained", true);
    }
    if (!(message.getHeader(PahoMqtt5Constants.CAMEL_PAHO_MSG_PROPERTIES) instanceof MqttProperties properties)) {
      return;
    }
    set(message, "CaravanContentType", properties.getContentType());
    for (UserProperty property : properties.getUserProperties()) {
      switch (property.getKey()) {
        case "caravan-idempotency-key" -> set(message, "CaravanIdempotencyKey", property.getValue());
        case "caravan-signature" -> set(message, "CaravanSignature", property.getValue());
        case "traceparent" -> set(message, "CaravanTraceparent", property.getValue());
        default -> { }
      }
    }
  }

  /** Sets {@code CaravanDeviceId} to the last part of the topic {@code gateways/{gateway_id}/control/{device_id}}. */
  public void controller(Exchange exchange) {
    String topic = exchange.getMessage().getHeader("CaravanTopic", "", String.class);
    exchange.getMessage().setHeader("CaravanDeviceId", topic.substring(topic.lastIndexOf('/') + 1));
  }

  /**
   * Sets {@code CaravanIdempotencyKey} to {@code retained-} and 128 bits of SHA-256, in hex, over {@code CaravanTopic}, a zero byte and the
   * body: for what a broker had kept, which comes again with each new session at another time. One the device gave stays.
   */
  public void contentKey(Exchange exchange) {
    Message message = exchange.getMessage();
    byte[] body = message.getBody(byte[].class);
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      digest.update(message.getHeader("CaravanTopic", "", String.class).getBytes(StandardCharsets.UTF_8));
      digest.update((byte) 0);
      set(message, "CaravanIdempotencyKey", "retained-" + HexFormat.of().formatHex(digest.digest(body == null ? new byte[0] : body), 0, 16));
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java has SHA-256", e);
    }
  }

  private static void set(Message message, String header, String value) {
    if (value != null && message.getHeader(header) == null) {
      message.setHeader(header, value);
    }
  }
}
