// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import io.caravan.mqtt.client.internal.Line;
import io.caravan.mqtt.client.internal.Link;
import io.caravan.mqtt.client.internal.Seldom;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.camel.Exchange;
import org.apache.camel.Route;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttActionListener;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Client of one producing route for messages of which only the latest per topic counts, such as receipts:
 * a bean step with the method {@code send}, and {@code routePolicy: "#mqttPublisher"} on the route.
 *
 * <p>Publishing never waits for the broker and never fails for its sake. What cannot go out yet waits, one message per topic,
 * a newer one in place of an older; with more than {@link #setPendingMax} topics waiting, the one that has waited longest is
 * dropped with a log line, at most one in ten seconds. Messages of one topic go out in order, each once the one before was
 * acknowledged or its connection ended. No session: what the process holds when it ends is gone.
 */
public final class LatestMqttPublisher extends ManagedMqttClient {
  private static final Logger LOG = LoggerFactory.getLogger(LatestMqttPublisher.class);
  /** Below the 65,535 packet ids, and what a broker takes without flow control of its own. */
  private static final int WINDOW = 100;

  private final Seldom seldom = new Seldom(LOG);
  private final Object lock = new Object();
  private final Map<String, MqttMessage> pending = new LinkedHashMap<>();
  private final Map<String, MqttMessage> inFlight = new HashMap<>();
  private int pendingMax = 10_000;
  private Line line;

  /** Does nothing until its route starts. */
  public LatestMqttPublisher() throws MqttException {
    super("mqtt-receipts", false);
  }

  /** @param topics that may have a message waiting, at least 1 */
  public void setPendingMax(int topics) {
    pendingMax = topics;
  }

  @Override
  public void onStart(Route route) {
    begin();
  }

  @Override
  public void onResume(Route route) {
    begin();
  }

  /** Publishes the body with QoS 1 to the topic in the header {@code CaravanTopic}, retained with {@code CaravanRetain} true; returns at once. */
  public void send(Exchange exchange) {
    String topic = exchange.getMessage().getHeader("CaravanTopic", String.class);
    byte[] body = exchange.getMessage().getBody(byte[].class);
    if (topic == null || body == null) {
      throw new IllegalArgumentException("header CaravanTopic [" + topic + "] and a body are needed");
    }
    MqttMessage message = new MqttMessage(body);
    message.setQos(1);
    message.setRetained(exchange.getMessage().getHeader("CaravanRetain", false, Boolean.class));
    publish(topic, message);
  }

  /** Takes the message and returns at once. */
  @Override
  public void publish(String topic, MqttMessage message) {
    if (message.getProperties() == null) {
      message.setProperties(new MqttProperties());
    }
    synchronized (lock) {
      pending.put(topic, message);
      if (pending.size() > pendingMax) {
        Iterator<String> oldest = pending.keySet().iterator();
        String dropped = oldest.next();
        oldest.remove();
        seldom.warn("The latest message for [{}] was dropped: {} topics wait for [{}] already", dropped, pendingMax, settings.url);
      }
      drain();
    }
  }

  @Override
  Link.Use use() {
    return new Link.Use() {
      @Override
      public void connected(Line connected) {
        link().ready(connected);
        synchronized (lock) {
          line = connected;
          drain();
        }
      }

      @Override
      public void lost(Line lost) {
        synchronized (lock) {
          if (line == lost) {
            line = null;
          }
          inFlight.forEach(pending::putIfAbsent);
          inFlight.clear();
        }
      }
    };
  }

  /** Holds the lock. */
  private void drain() {
    Iterator<Map.Entry<String, MqttMessage>> next = pending.entrySet().iterator();
    while (line != null && inFlight.size() < WINDOW && next.hasNext()) {
      Map.Entry<String, MqttMessage> entry = next.next();
      String topic = entry.getKey();
      if (inFlight.containsKey(topic)) {
        continue;
      }
      Sent sent = new Sent(line, topic);
      inFlight.put(topic, entry.getValue());
      try {
        line.client().publish(topic, entry.getValue(), null, sent);
        next.remove();
      } catch (MqttException | RuntimeException e) {
        inFlight.remove(topic);
        if (e instanceof IllegalArgumentException) {
          next.remove(); // the topic itself is at fault
        }
        seldom.warn("The message for [{}] waits: {}", topic, e.toString());
        return;
      }
    }
  }

  /** What became of one message. */
  private final class Sent implements MqttActionListener {
    private final Line by;
    private final String topic;

    Sent(Line by, String topic) {
      this.by = by;
      this.topic = topic;
    }

    @Override
    public void onSuccess(IMqttToken token) {
      int[] codes = token.getReasonCodes();
      boolean refused = codes != null && codes.length > 0 && codes[0] >= 0x80;
      meters().published(refused ? "refused" : "acknowledged");
      if (refused) {
        seldom.warn("[{}] refused the message for [{}] [0x{}]: look at its access list for user [{}]", settings.url, topic,
            Integer.toHexString(codes[0]), settings.userName);
      }
      synchronized (lock) {
        if (line == by) {
          inFlight.remove(topic);
          drain();
        }
      }
    }

    @Override
    public void onFailure(IMqttToken token, Throwable cause) {
      meters().published("lost");
      LOG.debug("The message for [{}] goes out with the next connection", topic, cause);
    }
  }
}
