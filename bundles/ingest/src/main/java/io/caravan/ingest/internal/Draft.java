// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest.internal;

import io.caravan.ingest.Received;
import io.caravan.ingest.Reason;
import io.caravan.ingest.RejectedException;
import io.caravan.runtime.TraceSpan;
import java.util.Map;
import java.util.Set;

/** What is known of a message so far: filled by parsing, read by enriching and rejecting. Of one exchange. */
public final class Draft implements Received {
  public static final String JSON = "application/json";
  public static final String PROTOBUF = "application/x-protobuf";
  public static final String TELEMETRY = "telemetry";
  public static final String EVENT = "event";
  /** Kinds whose payload is described by the contract; the others are JSON objects kept as they are. */
  public static final Set<String> MODELLED = Set.of(TELEMETRY, EVENT);
  private static final Map<String, String> KIND_BY_CHANNEL = Map.of("telemetry", TELEMETRY, "events", EVENT,
      "capabilities", "capabilities", "command-status", "command-status", "reported", "reported");
  private static final String ROOT = "devices/";
  private static final int MAX_KEPT_ID = 256;

  public final String correlationId;
  public final long receivedAtMs;
  public final long monoMs;
  public final String source;
  public final String topic;
  public final byte[] original;

  public String deviceId;
  public String kind;
  public String contentType;
  /** Canonical JSON: the original itself where that is JSON. */
  public byte[] json;
  /** The kind's schema certainly accepts it. */
  public boolean valid;
  public int schemaVersion = 1;
  /** Null: not numbered. */
  public String bootId;
  public long deviceSeq;
  public boolean observed;
  public long observedAtMs;
  /** Valid traceparent for the row; null: none. */
  public String traceContext;
  /** Null: not recorded. */
  public TraceSpan span;
  /** 0: no verified signature. */
  public long replayWindow;

  public Draft(String correlationId, long receivedAtMs, long monoMs, String source, String topic, byte[] original) {
    this.correlationId = correlationId;
    this.receivedAtMs = receivedAtMs;
    this.monoMs = monoMs;
    this.source = source;
    this.topic = topic;
    this.original = original;
  }

  @Override
  public String deviceId() {
    return deviceId;
  }

  @Override
  public String topic() {
    return topic;
  }

  @Override
  public String bootId() {
    return bootId;
  }

  @Override
  public long deviceSeq() {
    return bootId == null ? 0 : deviceSeq;
  }

  @Override
  public byte[] payload() {
    return original;
  }

  @Override
  public void signed(long window) {
    if (window < 1 || bootId == null) {
      throw new IllegalArgumentException("replay window [" + window + "] must be at least 1, and the message must be numbered");
    }
    replayWindow = window;
  }

  /** Device and kind from the topic; an id the entry route may have put in a header must be the same. */
  public void readTopic(String headerDeviceId) throws RejectedException {
    int end = topic.startsWith(ROOT) ? topic.indexOf('/', ROOT.length()) : -1;
    if (end < 0) {
      deviceId = headerDeviceId;
      throw badTopic();
    }
    deviceId = topic.substring(ROOT.length(), Math.min(end, ROOT.length() + MAX_KEPT_ID));
    kind = KIND_BY_CHANNEL.get(topic.substring(end + 1));
    if (kind == null) {
      throw badTopic();
    }
    if (!validDevice(deviceId)) {
      throw new RejectedException(Reason.BAD_DEVICE_ID, null, "device id [" + deviceId
          + "] must be 1 to 64 characters out of A-Z a-z 0-9 . _ -, begin with a letter or digit and have no [..]");
    }
    if (headerDeviceId != null && !headerDeviceId.equals(deviceId)) {
      throw new RejectedException(Reason.DEVICE_ID_MISMATCH, null, "topic [" + topic + "] is not one of device [" + headerDeviceId + "]");
    }
  }

  private RejectedException badTopic() {
    return new RejectedException(Reason.BAD_TOPIC, null,
        "topic [" + topic + "] must be devices/{id}/telemetry, /events, /capabilities, /command-status or /reported");
  }

  private static boolean validDevice(String id) {
    int length = id.length();
    if (length == 0 || length > 64 || !alphanumeric(id.charAt(0))) {
      return false;
    }
    for (int i = 1; i < length; i++) {
      char c = id.charAt(i);
      if (!alphanumeric(c) && c != '_' && c != '-' && (c != '.' || id.charAt(i - 1) == '.')) {
        return false;
      }
    }
    return true;
  }

  static boolean alphanumeric(char c) {
    return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9';
  }
}
