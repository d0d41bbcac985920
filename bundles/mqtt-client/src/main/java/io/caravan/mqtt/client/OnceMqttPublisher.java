// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import io.caravan.mqtt.client.internal.Line;
import io.caravan.mqtt.client.internal.Link;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import org.apache.camel.Exchange;
import org.apache.camel.Message;
import org.apache.camel.Route;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttActionListener;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;
import org.eclipse.paho.mqttv5.common.packet.UserProperty;

/**
 * Client of producing routes for messages that must not be published twice, such as commands: a bean step with the method
 * {@code send}, and {@code routePolicy: "#name"} on one of the routes.
 *
 * <p>A message is handed to the connection that stands at this moment, or to none; it is never kept for the next one, and never repeated.
 * What is known of it is said afterwards ({@link #send}); nothing is guessed. Thread-safe.
 *
 * <p>camel-paho-mqtt5 waits for the acknowledgement on the route's thread, keeps what it could not send, and has no properties per
 * message.
 */
public final class OnceMqttPublisher extends ManagedMqttClient {
  private static final int NO_MATCHING_SUBSCRIBERS = 0x10;
  private static final long ACK_MS = 10_000;
  private static final long MAX_EXPIRY_S = 0xFFFF_FFFFL;

  private final Set<Sent> open = ConcurrentHashMap.newKeySet();
  private volatile Line line;
  private volatile ScheduledThreadPoolExecutor timer;

  /** Does nothing until its route starts. */
  public OnceMqttPublisher() throws MqttException {
    super("mqtt-commands", false);
  }

  @Override
  public void onStart(Route route) {
    start();
  }

  @Override
  public void onResume(Route route) {
    start();
  }

  private synchronized void start() {
    if (timer == null) {
      timer = new ScheduledThreadPoolExecutor(1, task -> {
        Thread thread = new Thread(task, "caravan-mqtt-" + settings.clientId + "-timer");
        thread.setDaemon(true);
        return thread;
      });
      timer.setRemoveOnCancelPolicy(true);
    }
    begin();
  }

  @Override
  public void onStop(Route route) {
    stop();
  }

  @Override
  public void onSuspend(Route route) {
    stop();
  }

  @Override
  public void onRemove(Route route) {
    stop();
  }

  @Override
  public void close() {
    stop();
  }

  private synchronized void stop() {
    end();
    if (timer != null) {
      timer.shutdownNow();
      timer = null;
    }
    open.forEach(sent -> sent.settle("unknown", "the client was stopped before the broker acknowledged"));
  }

  /**
   * Publishes the body to the topic in the header {@code CaravanTopic}, with {@code CaravanQos} (0, the default, or 1), {@code CaravanTtlMs}
   * (not published if it is over; MQTT 5 message expiry, seconds rounded up), {@code CaravanContentType}, {@code CaravanResponseTopic},
   * {@code CaravanCorrelationData} (text or bytes), {@code CaravanUserProperties} (a Map of texts).
   *
   * <p>Sets the header {@code CaravanEvidence}, and {@code CaravanEvidenceDetail} where it is not good: {@code sent}: QoS 0, handed to the
   * socket, or QoS 1, acknowledged by the broker; {@code none}: certainly nobody has it: no connection, its time is over, or the broker
   * says that nobody is subscribed; {@code refused}: the broker answered with an error; {@code unknown}: no answer within {@code
   * CaravanAckMs} (10,000), or the connection ended first.
   *
   * @return completes, never exceptionally, when that is known
   * @throws IllegalArgumentException a header breaks its rule
   */
  public CompletionStage<Void> send(Exchange exchange) {
    Message message = exchange.getMessage();
    String topic = message.getHeader("CaravanTopic", String.class);
    byte[] body = message.getBody(byte[].class);
    int qos = message.getHeader("CaravanQos", 0, Integer.class);
    if (topic == null || body == null || qos < 0 || qos > 1) {
      throw new IllegalArgumentException("header CaravanTopic [" + topic + "], a body, and CaravanQos [" + qos + "] of 0 or 1 are needed");
    }
    Long ttlMs = message.getHeader("CaravanTtlMs", Long.class);
    MqttMessage publication = new MqttMessage(body);
    publication.setQos(qos);
    publication.setProperties(properties(message, ttlMs));
    Line now = line;
    ScheduledThreadPoolExecutor ticking = timer;
    Sent sent = new Sent(message, topic, qos, now);
    if (ttlMs != null && ttlMs <= 0) {
      sent.settle("none", "[" + topic + "] its time is over");
    } else if (now == null || ticking == null) {
      sent.settle("none", "no connection to [" + settings.url + "]");
    } else {
      publish(sent, publication, message.getHeader("CaravanAckMs", ACK_MS, Long.class), ticking);
    }
    return sent.known;
  }

  private void publish(Sent sent, MqttMessage publication, long ackMs, ScheduledThreadPoolExecutor ticking) {
    open.add(sent);
    try {
      sent.line.client().publish(sent.topic, publication, null, sent);
    } catch (MqttException | RuntimeException e) {
      // Paho throws before it takes a message, or not at all.
      sent.settle("none", "[" + sent.topic + "] was not taken by the connection: " + e.getMessage());
      return;
    }
    try {
      sent.timeout = ticking.schedule(() -> sent.settle("unknown", "[" + sent.topic + "] the broker did not acknowledge within " + ackMs + " ms"),
          Math.max(1, ackMs), TimeUnit.MILLISECONDS);
    } catch (java.util.concurrent.RejectedExecutionException e) {
      sent.settle("unknown", "the client was stopped before the broker acknowledged");
      return;
    }
    if (sent.known.isDone()) {
      sent.timeout.cancel(false);
    } else if (line != sent.line) {
      sent.settle("unknown", "the connection ended before the broker acknowledged");
    }
  }

  private static MqttProperties properties(Message message, Long ttlMs) {
    MqttProperties properties = new MqttProperties();
    if (ttlMs != null && ttlMs > 0) {
      properties.setMessageExpiryInterval(Math.min(MAX_EXPIRY_S, (ttlMs - 1) / 1_000 + 1));
    }
    properties.setContentType(message.getHeader("CaravanContentType", String.class));
    properties.setResponseTopic(message.getHeader("CaravanResponseTopic", String.class));
    Object correlation = message.getHeader("CaravanCorrelationData");
    if (correlation != null) {
      properties.setCorrelationData(correlation instanceof byte[] bytes ? bytes : correlation.toString().getBytes(StandardCharsets.UTF_8));
    }
    if (message.getHeader("CaravanUserProperties") instanceof Map<?, ?> map) {
      properties.setUserProperties(map.entrySet().stream()
          .map(each -> new UserProperty(String.valueOf(each.getKey()), String.valueOf(each.getValue()))).toList());
    }
    return properties;
  }

  @Override
  Link.Use use() {
    return new Link.Use() {
      @Override
      public void connected(Line connected) {
        link().ready(connected);
        line = connected;
      }

      @Override
      public void lost(Line lost) {
        if (line == lost) {
          line = null;
        }
        open.stream().filter(sent -> sent.line == lost)
            .forEach(sent -> sent.settle("unknown", "the connection ended before the broker acknowledged"));
      }
    };
  }

  /** What became of one message; the first that is known counts. */
  private final class Sent implements MqttActionListener {
    final CompletableFuture<Void> known = new CompletableFuture<>();
    final String topic;
    final Line line;
    volatile java.util.concurrent.Future<?> timeout;
    private final Message message;
    private final int qos;
    private boolean settled;

    Sent(Message message, String topic, int qos, Line line) {
      this.message = message;
      this.topic = topic;
      this.qos = qos;
      this.line = line;
    }

    void settle(String evidence, String detail) {
      synchronized (this) {
        if (settled) {
          return;
        }
        settled = true;
      }
      open.remove(this);
      if (timeout != null) {
        timeout.cancel(false);
      }
      message.setHeader("CaravanEvidence", evidence);
      if (detail != null) {
        message.setHeader("CaravanEvidenceDetail", detail);
      }
      meters().published(switch (evidence) {
        case "sent" -> "acknowledged";
        case "unknown" -> "lost";
        case "none" -> "unsent";
        default -> "refused";
      });
      known.complete(null);
    }

    @Override
    public void onSuccess(IMqttToken token) {
      int[] codes = qos == 0 ? null : token.getReasonCodes();
      int code = codes == null || codes.length == 0 ? 0 : codes[0];
      if (code >= 0x80) {
        settle("refused", "[" + topic + "] the broker answered 0x" + Integer.toHexString(code) + ": look at its access list for user ["
            + settings.userName + "]");
      } else if (code == NO_MATCHING_SUBSCRIBERS) {
        settle("none", "[" + topic + "] nobody is subscribed at the broker");
      } else {
        settle("sent", null);
      }
    }

    @Override
    public void onFailure(IMqttToken token, Throwable cause) {
      int[] codes = qos == 0 || token == null ? null : token.getReasonCodes();
      if (codes != null && codes.length > 0 && codes[0] >= 0x80) {
        onSuccess(token);
      } else {
        settle("unknown", "[" + topic + "] " + (cause == null ? "the connection ended" : cause.getMessage()));
      }
    }
  }
}
