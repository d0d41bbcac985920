// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.netty.handler.codec.mqtt.MqttProperties;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;

/**
 * One message on its way to every connection subscribed to its topic. It succeeds with the first acknowledgement and
 * fails when every connection has failed. Thread-safe.
 */
final class Delivery {
  final String topic;
  final byte[] payload;
  final MqttProperties properties;
  /** Upper bound of the encoded size. */
  final int maxBytes;
  final boolean awaitAck;
  private final AtomicInteger open;
  private final AtomicBoolean ended = new AtomicBoolean();
  private final Consumer<Exception> end;

  /** @param end called once, with null for success, on an event loop */
  Delivery(String topic, byte[] payload, MqttProperties properties, int maxBytes, boolean awaitAck, int connections,
      Consumer<Exception> end) {
    this.topic = topic;
    this.payload = payload;
    this.properties = properties;
    this.maxBytes = maxBytes;
    this.awaitAck = awaitAck;
    this.open = new AtomicInteger(connections);
    this.end = end;
  }

  boolean ended() {
    return ended.get();
  }

  void succeeded() {
    end(null);
  }

  void failed(Exception why) {
    if (open.decrementAndGet() == 0) {
      end(why);
    }
  }

  /** Ends it whatever the connections still say. */
  void end(Exception why) {
    if (ended.compareAndSet(false, true)) {
      end.accept(why);
    }
  }
}
