// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.caravan.mqtt.server.Connections;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** Who is connected and subscribed to what, over all listeners of one component. Thread-safe. */
public final class Hub implements Connections {
  /** A client id is a device's own: what one device calls itself cannot end another's connection. */
  private record Key(String device, String clientId) {
    static Key of(Session session) {
      return new Key(session.bound(), session.clientId());
    }
  }

  private final Map<Key, Session> byClientId = new ConcurrentHashMap<>();
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

  /** Makes the session the one of its device's client id and ends the one that was, and the oldest ones of a device that has too many. */
  void open(Session session, int maxPerDevice) {
    Session old = byClientId.put(Key.of(session), session);
    if (old != null) {
      old.later(() -> old.disconnect(Session.SESSION_TAKEN_OVER));
    }
    if (session.bound() == null) {
      return;
    }
    List<Session> same = byClientId.values().stream().filter(each -> session.bound().equals(each.bound()))
        .sorted(Comparator.comparingLong(Session::openedNs)).toList();
    // The oldest go, not the new one: after an outage they are likely dead without knowing it.
    same.stream().limit(Math.max(0, same.size() - maxPerDevice)).forEach(each -> each.later(each::superfluous));
  }

  void close(Session session) {
    if (session.clientId() != null) {
      byClientId.remove(Key.of(session), session);
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

  /** @return newest first */
  List<Session> subscribers(String topic) {
    Set<Session> sessions = byTopic.get(topic);
    return sessions == null ? List.of() : sessions.stream().sorted(Comparator.comparingLong(Session::openedNs).reversed()).toList();
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
  public boolean subscribed(String topic) {
    return byTopic.containsKey(topic);
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

  @Override
  public int revalidate(String deviceId) {
    List<Session> ended = byClientId.values().stream()
        .filter(each -> (deviceId == null || deviceId.equals(each.identity())) && !each.granted()).toList();
    ended.forEach(each -> each.later(each::revoked));
    return ended.size();
  }
}
