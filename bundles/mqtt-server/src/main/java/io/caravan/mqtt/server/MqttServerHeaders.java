// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

/** Headers of the exchanges of {@code mqtt-server:}. */
public final class MqttServerHeaders {
  /** Consumer: {@code mqtt-server}. */
  public static final String SOURCE = "CaravanSource";
  /** Consumer: topic as received. Producer: topic to publish to, {@code devices/{id}/commands} or {@code /receipts}. */
  public static final String TOPIC = "CaravanTopic";
  /** Consumer: device id out of the topic. Producer with the option {@code channel}: whom to publish to. */
  public static final String DEVICE_ID = "CaravanDeviceId";
  /** Both: MQTT 5 content type; absent if there is none. */
  public static final String CONTENT_TYPE = "CaravanContentType";
  /** Consumer: MQTT 5 user property {@code caravan-idempotency-key}; absent if there is none. */
  public static final String IDEMPOTENCY_KEY = "CaravanIdempotencyKey";
  /** Consumer: MQTT 5 user property {@code caravan-signature}; absent if there is none. Not checked here. */
  public static final String SIGNATURE = "CaravanSignature";
  /** Consumer: MQTT 5 user property {@code traceparent}; absent if there is none. */
  public static final String TRACEPARENT = "CaravanTraceparent";
  /** Producer: MQTT 5 message expiry interval, whole seconds, at least 1. */
  public static final String EXPIRY_SECONDS = "CaravanExpirySeconds";
  /** Producer: MQTT 5 correlation data, byte[] or text. */
  public static final String CORRELATION_DATA = "CaravanCorrelationData";
  /** Producer: MQTT 5 user properties, a Map of texts. */
  public static final String USER_PROPERTIES = "CaravanUserProperties";

  private MqttServerHeaders() {}
}
