// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.caravan.mqtt.server.Connections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** Who is connected and subscribed to what, over all listeners of one component. Thread-safe. */
public final class Hub implements Connections {
  private final Map<String, Session> byClientId = new ConcurrentHashMap<>();
  private final Map<String, Set<Session>> byTopic = new ConcurrentHashMap<>();
  private final Map<String, Listener> byAddress = new ConcurrentHashMap<>();

  /** A second listener on the same address in one Vert.x would silently share the port, connection by connection. */
  void claim(String address, Listener listener) {
    Listener other = byAddress.putIfAbsent(address, listener);
    if (other != null) {
      throw new IllegalStateException("mqtt-server:" + listener.name() + " cannot listen on " + address
          + ": route [" + other.getRouteId() + "] has it; give one of the two another port");
    }
  }

  void release(String address, Listener listener) {
    byAddress.remove(address, listener);
  }

  /** Makes the session the one of its client id and ends the one that was. */
  void open(Session session) {
    Session old = byClientId.put(session.clientId(), session);
    if (old != null) {
      old.later(() -> old.disconnect(Session.SESSION_TAKEN_OVER));
    }
  }

  void close(Session session) {
    if (session.clientId() != null) {
      byClientId.remove(session.clientId(), session);
    }
    session.subscriptions().keySet().forEach(topic -> unsubscribe(topic, session));
  }

  void subscribe(String topic, Session session) {
    byTopic.compute(topic, (key, old) -> {
      Set<Session> sessions = old == null ? ConcurrentHashMap.newKeySet(1) : old;
      sessions.add(session);
      return sessions;
    });
  }

  void unsubscribe(String topic, Session session) {
    byTopic.computeIfPresent(topic, (key, sessions) -> {
      sessions.remove(session);
      return sessions.isEmpty() ? null : sessions;
    });
  }

  List<Session> subscribers(String topic) {
    Set<Session> sessions = byTopic.get(topic);
    return sessions == null ? List.of() : List.copyOf(sessions);
  }

  @Override
  public List<Connection> list() {
    return byClientId.values().stream().map(Session::describe).toList();
  }

  @Override
  public int count() {
    return byClientId.size();
  }

  @Override
  public int disconnect(String deviceId, int reasonCode) {
    if (reasonCode < 0x80 || reasonCode > 0xA2) {
      throw new IllegalArgumentException("reasonCode [" + reasonCode + "] must be an MQTT 5 DISCONNECT reason code, 0x80 to 0xA2");
    }
    List<Session> sessions = byClientId.values().stream().filter(each -> deviceId.equals(each.identity())).toList();
    sessions.forEach(each -> each.later(() -> each.disconnect(reasonCode)));
    return sessions.size();
  }
}
