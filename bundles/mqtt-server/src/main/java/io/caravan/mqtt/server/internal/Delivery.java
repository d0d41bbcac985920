// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.caravan.mqtt.server.DeviceNotConnectedException;
import io.caravan.mqtt.server.Evidence;
import io.caravan.mqtt.server.PublishException;
import io.netty.handler.codec.mqtt.MqttProperties;
import io.netty.handler.codec.mqtt.MqttProperties.MqttPropertyType;
import io.vertx.core.Vertx;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BiConsumer;

/**
 * One message on its way to the connections subscribed to its topic: to all of them, or, if a device must get it at most once, to
 * one after the other until it was written to one. It ends once: with the first acknowledgement, or when nothing is left that could
 * acknowledge it. What has ended unwritten is not written any more. Thread-safe.
 */
final class Delivery {
  private static final int WAITING = 0;
  private static final int WRITTEN = 1;
  private static final int ENDED = 2;

  final String topic;
  final byte[] payload;
  /** Upper bound of the encoded size. */
  final int maxBytes;
  final boolean awaitAck;
  private final MqttProperties properties;
  /** System.nanoTime() from which it is not written any more; 0: none. */
  private final long notAfterNs;
  /** Who gets it if the one before could not be written to; null: all get it at the same time. */
  private final Deque<Session> others;
  /** A subscription with QoS 0 will do: then the end is SENT. */
  private final boolean qos0;
  private final AtomicInteger open;
  private final AtomicInteger state = new AtomicInteger(WAITING);
  private final BiConsumer<Evidence, PublishException> end;
  private PublishException mildest;
  private volatile Vertx clock;
  private volatile long timer;

  /**
   * @param notAfterNs System.nanoTime() from which it must not be written; 0: none
   * @param sessions   newest first
   * @param one        to one of them at most
   * @param qos0       a subscription with QoS 0 will do
   * @param end        called once, on any thread that must not wait: with what is known, and why if it is not good
   */
  Delivery(String topic, byte[] payload, MqttProperties properties, int maxBytes, boolean awaitAck, long notAfterNs, List<Session> sessions,
      boolean one, boolean qos0, BiConsumer<Evidence, PublishException> end) {
    this.topic = topic;
    this.payload = payload;
    this.properties = properties;
    this.maxBytes = maxBytes;
    this.awaitAck = awaitAck;
    this.notAfterNs = notAfterNs;
    this.others = one ? new ConcurrentLinkedDeque<>(sessions) : null;
    this.qos0 = qos0;
    this.open = new AtomicInteger(sessions.size());
    this.end = end;
  }

  /** Hands it to the connections. */
  void start(List<Session> sessions) {
    if (others == null) {
      sessions.forEach(session -> session.later(() -> session.deliver(this)));
    } else {
      next();
    }
  }

  /** The timer that ends it; not needed any more once it has ended. */
  void timer(Vertx vertx, long id) {
    timer = id;
    clock = vertx;
    if (ended()) {
      vertx.cancelTimer(id);
    }
  }

  private void finish(Evidence evidence, PublishException why) {
    Vertx ticking = clock;
    if (ticking != null) {
      ticking.cancelTimer(timer);
    }
    end.accept(evidence, why);
  }

  private boolean next() {
    Session session = others.poll();
    if (session != null) {
      session.later(() -> session.deliver(this));
    }
    return session != null;
  }

  boolean ended() {
    return state.get() == ENDED;
  }

  boolean takesQos0() {
    return qos0 || !awaitAck;
  }

  boolean late() {
    return notAfterNs != 0 && System.nanoTime() - notAfterNs >= 0;
  }

  /** Right before it is written to a connection; false: it must not be. */
  boolean write() {
    return state.compareAndSet(WAITING, WRITTEN) || others == null && (state.get() == WRITTEN || !awaitAck);
  }

  /** As they are to be written now: what is left of its time counts, not what was there in the beginning. */
  MqttProperties properties() {
    if (notAfterNs == 0) {
      return properties;
    }
    MqttProperties now = new MqttProperties();
    for (MqttProperties.MqttProperty<?> each : properties.listAll()) {
      now.add(each);
    }
    long seconds = (Math.max(1, notAfterNs - System.nanoTime()) + 999_999_999L) / TimeUnit.SECONDS.toNanos(1);
    now.add(new MqttProperties.IntegerProperty(MqttPropertyType.PUBLICATION_EXPIRY_INTERVAL.value(), (int) Math.min(seconds, 0xFFFF_FFFFL)));
    return now;
  }

  void succeeded(Evidence evidence) {
    end(evidence, null);
  }

  /** One connection has failed. */
  void failed(PublishException why) {
    if (others != null) {
      if (why.evidence() != Evidence.NONE && state.get() == WRITTEN) {
        end(why.evidence(), why);
        return;
      }
      mildest = mildest == null || why.evidence() == Evidence.NONE ? why : mildest;
      if (!next()) {
        end(mildest.evidence(), mildest);
      }
    } else if (open.decrementAndGet() == 0) {
      end(why.evidence(), why);
    }
  }

  /** Ends it if it was not written yet. */
  boolean abandon(PublishException why) {
    if (state.compareAndSet(WAITING, ENDED)) {
      finish(why.evidence(), why);
      return true;
    }
    return state.get() == ENDED;
  }

  /** Ends it whatever the connections still say. */
  void end(Evidence evidence, PublishException why) {
    if (state.getAndSet(ENDED) != ENDED) {
      finish(evidence, why);
    }
  }

  DeviceNotConnectedException gone(boolean written) {
    return written ? new DeviceNotConnectedException("the connection subscribed to [" + topic + "] ended before it acknowledged", Evidence.UNKNOWN)
        : new DeviceNotConnectedException("the connection subscribed to [" + topic + "] ended before it was sent the message", Evidence.NONE);
  }
}
