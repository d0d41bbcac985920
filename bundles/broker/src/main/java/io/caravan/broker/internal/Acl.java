// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;

/**
 * One right of a role, as the dynamic security plugin has it.
 *
 * @param type     publishClientSend, publishClientReceive, subscribeLiteral, subscribePattern, unsubscribeLiteral, unsubscribePattern
 * @param priority the higher one decides where several match
 */
record Acl(String type, String topic, boolean allow, int priority) implements Comparable<Acl> {
  static final String ADMIN = "admin";
  static final String GATEWAY = "gateway";
  /** Begins the name of a device's role, so that no device id is the name of another role. */
  static final String DEVICE = "device:";

  private static final List<String> FROM_DEVICES = List.of("telemetry", "events", "capabilities", "command-status", "reported");
  private static final List<String> TO_DEVICES = List.of("commands", "receipts", "desired");

  private static Acl allow(String type, String topic) {
    return new Acl(type, topic, true, 0);
  }

  /**
   * What a device may: literal topics, because {@code %u} in a role matches nothing in mosquitto 2.0.
   *
   * @param gateway whose controller it is; null: it is none
   */
  static Set<Acl> device(String id, String gateway) {
    Stream<Acl> own = Stream.concat(
        FROM_DEVICES.stream().map(kind -> allow("publishClientSend", "devices/" + id + "/" + kind)),
        TO_DEVICES.stream().map(kind -> "devices/" + id + "/" + kind).flatMap(Acl::readableLiteral));
    // Its own topic each: the gateway must know who sent a command, and the broker tells nothing but the topic.
    Stream<Acl> control = gateway == null ? Stream.empty() : Stream.concat(
        Stream.of(allow("publishClientSend", "gateways/" + gateway + "/control/" + id)),
        readableLiteral("gateways/" + gateway + "/control-status/" + id));
    return Stream.concat(own, control).collect(Collectors.toCollection(TreeSet::new));
  }

  /** What the gateway may: all devices' topics, in their direction, those of its controllers, and how the broker is. */
  static Set<Acl> gateway(String gateway) {
    return Stream.of(
        TO_DEVICES.stream().map(kind -> allow("publishClientSend", "devices/+/" + kind)),
        Stream.of(allow("publishClientSend", "gateways/" + gateway + "/control-status/+")),
        FROM_DEVICES.stream().map(kind -> "devices/+/" + kind).flatMap(Acl::readable), readable("gateways/" + gateway + "/control/+"),
        readable("$SYS/broker/#"))
        .flatMap(all -> all).collect(Collectors.toCollection(TreeSet::new));
  }

  /** What the driver may: change users and rights, and no message of a device. */
  static Set<Acl> admin() {
    return Stream.concat(Stream.of(allow("publishClientSend", "$CONTROL/dynamic-security/#")), readable("$CONTROL/dynamic-security/#"))
        .collect(Collectors.toCollection(TreeSet::new));
  }

  private static Stream<Acl> readableLiteral(String topic) {
    return Stream.of(allow("subscribeLiteral", topic), allow("unsubscribeLiteral", topic), allow("publishClientReceive", topic));
  }

  private static Stream<Acl> readable(String topic) {
    return Stream.of(allow("subscribePattern", topic), allow("unsubscribePattern", topic), allow("publishClientReceive", topic));
  }

  static JsonArray json(Collection<Acl> acls) {
    JsonArray array = new JsonArray();
    for (Acl acl : acls) {
      JsonObject object = new JsonObject();
      object.put("acltype", acl.type);
      object.put("topic", acl.topic);
      object.put("priority", acl.priority);
      object.put("allow", acl.allow);
      array.add(object);
    }
    return array;
  }

  static Set<Acl> of(Collection<?> json) {
    Set<Acl> acls = new TreeSet<>();
    for (Object element : json) {
      JsonObject object = (JsonObject) element;
      acls.add(new Acl(object.getString("acltype"), object.getString("topic"), Boolean.TRUE.equals(object.getBoolean("allow")),
          object.getIntegerOrDefault("priority", 0)));
    }
    return acls;
  }

  @Override
  public int compareTo(Acl other) {
    return (type + "\n" + topic + "\n" + allow + "\n" + priority).compareTo(other.type + "\n" + other.topic + "\n" + other.allow + "\n" + other.priority);
  }
}
