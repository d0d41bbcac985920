// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import io.caravan.devices.Presence;
import io.caravan.ingest.Ingest;
import io.caravan.mqtt.server.Connections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import java.util.function.LongSupplier;
import java.util.function.Supplier;
import org.apache.camel.Exchange;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** {@link Presence} in memory: a restart forgets it, and hears of the devices again. */
final class PresenceBoard implements Presence {
  private static final Logger LOG = LoggerFactory.getLogger(PresenceBoard.class);
  /** More devices than a registry has: with a broker that lets everybody in, any id can be heard. */
  private static final int MAX_HEARD = 100_000;

  private final Supplier<Connections> connections;
  private final LongSupplier nanos;
  private final Map<String, Long> heard = new ConcurrentHashMap<>();
  private final List<BiConsumer<String, String>> listeners = new CopyOnWriteArrayList<>();
  private volatile long presenceNs;
  private Long sweptNs;

  /**
   * @param connections of the own listener; null while there is none
   * @param nanos       a clock that nobody sets
   */
  PresenceBoard(Supplier<Connections> connections, LongSupplier nanos, long presenceMs) {
    this.connections = connections;
    this.nanos = nanos;
    presence(presenceMs);
  }

  void presence(long ms) {
    presenceNs = TimeUnit.MILLISECONDS.toNanos(ms);
  }

  @Override
  public Path path(String deviceId) {
    return path(deviceId, COMMANDS);
  }

  @Override
  public Path desiredPath(String deviceId) {
    return path(deviceId, DESIRED);
  }

  private Path path(String deviceId, String channel) {
    Connections own = connections.get();
    if (own != null && own.subscribed("devices/" + deviceId + '/' + channel)) {
      return Path.LISTENER;
    }
    Long at = heard.get(deviceId);
    return at != null && nanos.getAsLong() - at < presenceNs ? Path.BROKER : Path.NONE;
  }

  @Override
  public AutoCloseable onAppeared(BiConsumer<String, String> listener) {
    listeners.add(listener);
    return () -> listeners.remove(listener);
  }

  @Override
  public void subscribed(Exchange exchange) {
    appeared(exchange.getMessage().getHeader("CaravanDeviceId", String.class), exchange.getMessage().getHeader("CaravanChannel", String.class));
  }

  /** Ids of long ago keep no device out. At most once per presence time: looking through all is not for every message. */
  private synchronized void forgetSilent(long now) {
    if (sweptNs == null || now - sweptNs >= presenceNs) {
      sweptNs = now;
      heard.values().removeIf(at -> now - at >= presenceNs);
    }
  }

  @Override
  public void heard(Exchange exchange) {
    Object outcome = exchange.getVariable("outcome");
    if (!"durable".equals(outcome) && !"duplicate".equals(outcome) || exchange.getMessage().getHeader("CaravanRetained") != null) {
      return;
    }
    String deviceId = Ingest.received(exchange).deviceId();
    long now = nanos.getAsLong();
    if (heard.size() >= MAX_HEARD && !heard.containsKey(deviceId)) {
      forgetSilent(now);
      if (heard.size() >= MAX_HEARD) {
        return;
      }
    }
    Long before = heard.put(deviceId, now);
    if (before == null || now - before >= presenceNs) {
      appeared(deviceId, COMMANDS);
      appeared(deviceId, DESIRED);
    }
  }

  private void appeared(String deviceId, String channel) {
    for (BiConsumer<String, String> listener : listeners) {
      try {
        listener.accept(deviceId, channel);
      } catch (RuntimeException | LinkageError e) {
        LOG.error("That device [{}] is there for its {} could not be passed on", deviceId, channel, e);
      }
    }
  }
}
