// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

/** Headers of the exchanges of {@code mqtt-server:}. */
public final class MqttServerHeaders {
  /** Consumer: {@code mqtt-server}. */
  public static final String SOURCE = "CaravanSource";
  /** Consumer: topic as received. Producer: topic to publish to, {@code devices/{id}/commands}, {@code /receipts} or {@code /desired}. */
  public static final String TOPIC = "CaravanTopic";
  /** Consumer: device id out of the topic, or who sent a control message. Producer with the option {@code channel}: whom to publish to. */
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
  /**
   * Producer: how long the message is good for, milliseconds from now: it is not written later than that, and its MQTT 5 message expiry
   * interval is what is left of it then, in whole seconds rounded up. Goes before {@link #EXPIRY_SECONDS}.
   */
  public static final String TTL_MS = "CaravanTtlMs";
  /** Producer: time the device has to acknowledge, milliseconds from now; goes before the option {@code publishTimeoutMs}. */
  public static final String ACK_MS = "CaravanAckMs";
  /** Producer: MQTT 5 response topic. */
  public static final String RESPONSE_TOPIC = "CaravanResponseTopic";
  /** Producer with the option {@code evidence}, set when the exchange ends: {@link Evidence} as text. */
  public static final String EVIDENCE = "CaravanEvidence";
  /** Producer with the option {@code evidence}: for people, why it is not better; absent otherwise. */
  public static final String EVIDENCE_DETAIL = "CaravanEvidenceDetail";
  /** To {@code onSubscribed}: {@code commands} or {@code desired}. */
  public static final String CHANNEL = "CaravanChannel";
  /** Producer: MQTT 5 correlation data, byte[] or text. */
  public static final String CORRELATION_DATA = "CaravanCorrelationData";
  /** Producer: MQTT 5 user properties, a Map of texts. */
  public static final String USER_PROPERTIES = "CaravanUserProperties";

  private MqttServerHeaders() {}
}
