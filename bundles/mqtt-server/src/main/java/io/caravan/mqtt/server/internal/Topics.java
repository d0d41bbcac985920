// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import java.util.Set;

/** The topics of docs/contract.md section 2. */
final class Topics {
  private static final String ROOT = "devices/";
  private static final String GATEWAYS = "gateways/";
  private static final Set<String> PUBLISHED = Set.of("telemetry", "events", "capabilities", "command-status", "reported");
  private static final Set<String> SUBSCRIBED = Set.of("commands", "receipts", "desired");
  static final String CONTROL = "control";
  static final String CONTROL_STATUS = "control-status";

  private Topics() {}

  /** Whether the topic has the form devices/x/channel with a channel a device publishes to; x is not looked at. */
  static boolean published(String topic) {
    int end = deviceEnd(topic);
    return end > 0 && PUBLISHED.contains(topic.substring(end + 1));
  }

  /** Whether the filter has the form devices/x/channel with a channel a device subscribes to; x is not looked at. */
  static boolean subscribed(String filter) {
    int end = deviceEnd(filter);
    return end > 0 && SUBSCRIBED.contains(filter.substring(end + 1));
  }

  /** Whether it is that channel of a device. */
  static boolean isDevice(String topic, String channel) {
    int end = deviceEnd(topic);
    return end > 0 && topic.length() == end + 1 + channel.length() && topic.endsWith(channel);
  }

  /** The x of devices/x/channel. */
  static String device(String topic) {
    return topic.substring(ROOT.length(), deviceEnd(topic));
  }

  /** The channel of devices/x/channel. */
  static String channel(String topic) {
    return topic.substring(deviceEnd(topic) + 1);
  }

  /** Whether the topic is about the gateway itself, whatever follows. */
  static boolean ofGateways(String topic) {
    return topic.startsWith(GATEWAYS);
  }

  /**
   * Of gateways/{gateway}/{channel} the empty text, of gateways/{gateway}/{channel}/{device} the device, not looked at; null: it is none of
   * the two.
   *
   * @param gateway null or empty: this listener has no such topics
   */
  static String controller(String topic, String gateway, String channel) {
    if (gateway == null || gateway.isEmpty()) {
      return null;
    }
    String whole = GATEWAYS + gateway + '/' + channel;
    if (topic.equals(whole)) {
      return "";
    }
    return topic.startsWith(whole + '/') && topic.length() > whole.length() + 1 ? topic.substring(whole.length() + 1) : null;
  }

  static String controlStatus(String gateway) {
    return GATEWAYS + gateway + '/' + CONTROL_STATUS;
  }

  /** Whether a retained message is taken on the topic: a device announces once, and a broker in its place would keep it. */
  static boolean retained(String topic) {
    return topic.startsWith(ROOT) && topic.endsWith("/capabilities");
  }

  /** docs/contract.md section 1. */
  static boolean validDevice(String id) {
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

  private static boolean alphanumeric(char c) {
    return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9';
  }

  private static int deviceEnd(String topic) {
    return topic.startsWith(ROOT) ? topic.indexOf('/', ROOT.length()) : -1;
  }
}
