// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import io.caravan.mqtt.client.internal.Line;
import io.caravan.mqtt.client.internal.Link;
import io.caravan.mqtt.client.internal.Seldom;
import io.caravan.mqtt.client.internal.Settings;
import java.util.List;
import org.apache.camel.Consumer;
import org.apache.camel.Exchange;
import org.apache.camel.Route;
import org.apache.camel.StatefulService;
import org.apache.camel.component.paho.mqtt5.PahoMqtt5Message;
import org.apache.camel.spi.Synchronization;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttActionListener;
import org.eclipse.paho.mqttv5.client.MqttCallback;
import org.eclipse.paho.mqttv5.client.MqttToken;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.MqttSubscription;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Client of one consuming route with a session that the broker keeps (MQTT 5, QoS 1):
 * {@code paho-mqtt5:a/+,b/+?client=#mqttClient&qos=1} with {@code routePolicy: "#mqttClient"}. The endpoint's topic may be
 * several filters with commas between them.
 *
 * <p>Guarantee: a message is acknowledged to the broker after its exchange has completed without failure, and not before.
 * One that failed, or was not finished when the connection or the route ended, is sent again by the broker: on the next
 * connection, which is made {@link #setRedeliveryDelayMs} after a failure; until then nothing more is taken from the broken
 * one, so failures cannot use up the window. At most {@link #setReceiveMaximum} exchanges are in flight.
 *
 * <p>The component as it comes connects before it can receive and subscribes on the thread that receives: messages stay
 * with the broker, or all stand still. Here the callback is there before CONNECT, each connection is a new Paho client, and
 * nothing waits on Paho's threads. The option {@code manualAcksEnabled} is neither needed nor harmful.
 */
public final class DurableMqttClient extends ManagedMqttClient {
  private static final Logger LOG = LoggerFactory.getLogger(DurableMqttClient.class);

  private final Seldom seldom = new Seldom(LOG);
  private long redeliveryDelayMs = 5_000;
  private volatile MqttCallback camel;
  private volatile Route route;
  private String topic;

  /** Does nothing until its route starts. */
  public DurableMqttClient() throws MqttException {
    super("mqtt", true);
  }

  /** @param seconds how long the broker keeps the session and its messages while nobody is connected */
  public void setSessionExpirySeconds(long seconds) {
    settings.sessionExpirySeconds = seconds;
  }

  /** @param messages sent by the broker and not acknowledged yet, 1 to 65,535 */
  public void setReceiveMaximum(int messages) {
    settings.receiveMaximum = messages;
  }

  /** @param ms from a failed exchange to the connection on which its message comes again */
  public void setRedeliveryDelayMs(long ms) {
    redeliveryDelayMs = ms;
  }

  // ---- what the component calls

  @Override
  public void setCallback(MqttCallback callback) {
    camel = callback;
  }

  /** Starts to connect and to subscribe, and returns at once. */
  @Override
  public IMqttToken subscribe(String topic, int qos) {
    if (route == null) {
      throw new IllegalStateException("client [" + settings.clientId + "] would never acknowledge: write it into the route,"
          + " routePolicy: \"#<name of this bean>\"");
    }
    this.topic = topic;
    begin();
    return new MqttToken(settings.clientId);
  }

  /** With {@code manualAcksEnabled}: acknowledged already, by the route policy. */
  @Override
  public void messageArrivedComplete(int messageId, int qos) {}

  // ---- route policy

  @Override
  public void onInit(Route route) {
    if (this.route != null && this.route != route && this.route.getId() != null && !this.route.getId().equals(route.getId())) {
      throw new IllegalStateException("client [" + settings.clientId + "] belongs to route [" + this.route.getId()
          + "]: it has one callback, give route [" + route.getId() + "] a bean and a client id of its own");
    }
    this.route = route;
  }

  @Override
  public void onResume(Route route) {
    if (topic != null) {
      begin();
    }
  }

  @Override
  public void onExchangeBegin(Route route, Exchange exchange) {
    if (exchange.getIn() instanceof PahoMqtt5Message message && message.getMqttMessage() instanceof Received received) {
      // Not in onExchangeDone: Camel leaves that out while it stops, and what is stored then would come twice.
      exchange.getExchangeExtension().addOnCompletion(received);
    }
  }

  @Override
  Link.Use use() {
    return new Link.Use() {
      @Override
      public void connected(Line line) throws MqttException {
        subscribe(line);
      }

      @Override
      public void received(Line line, String topic, MqttMessage message) {
        take(line, topic, message);
      }
    };
  }

  private void subscribe(Line line) throws MqttException {
    List<String> filters = Settings.list(topic);
    MqttSubscription[] subscriptions = filters.stream().map(DurableMqttClient::subscription).toArray(MqttSubscription[]::new);
    line.client().subscribe(subscriptions, null, new MqttActionListener() {
      @Override
      public void onSuccess(IMqttToken token) {
        int[] codes = token.getReasonCodes();
        for (int i = 0; codes != null && i < codes.length; i++) {
          if (codes[i] >= 0x80) {
            onFailure(token, new IllegalArgumentException("the broker refused the subscription to [" + filters.get(i) + "] [0x"
                + Integer.toHexString(codes[i]) + "]: look at its access list for this user"));
            return;
          }
        }
        link(link -> link.ready(line));
      }

      @Override
      public void onFailure(IMqttToken token, Throwable cause) {
        link(link -> link.broken(line, cause));
      }
    }, new MqttProperties());
  }

  private static MqttSubscription subscription(String filter) {
    MqttSubscription subscription = new MqttSubscription(filter, 1);
    subscription.setNoLocal(true);
    // Retained ones once per session: each reconnect subscribes again.
    subscription.setRetainHandling(1);
    return subscription;
  }

  private void take(Line line, String topic, MqttMessage message) {
    if (!taking()) {
      return; // not acknowledged, so it comes again when the route does
    }
    if (!line.enter(settings.receiveMaximum)) {
      return;
    }
    Received received = new Received(line, message);
    try {
      camel.messageArrived(topic, received);
    } catch (Exception e) {
      received.failed(e);
    }
  }

  /** Camel stops a consumer before it waits for what is in flight, and would process what comes in between. */
  private boolean taking() {
    Route now = route;
    Consumer consumer = now == null ? null : now.getConsumer();
    return !(consumer instanceof StatefulService service)
        || !(service.isStopping() || service.isStopped() || service.isSuspending() || service.isSuspended());
  }

  private void link(java.util.function.Consumer<Link> action) {
    Link now = link();
    if (now != null) {
      action.accept(now);
    }
  }

  /** A message that knows the connection it came by, and acknowledges itself. */
  private final class Received extends MqttMessage implements Synchronization {
    private final Line line;

    Received(Line line, MqttMessage message) {
      super(message.getPayload(), message.getQos(), message.isRetained(), message.getProperties());
      this.line = line;
      setId(message.getId());
    }

    @Override
    public void onComplete(Exchange exchange) {
      line.leave();
      meters().received("taken");
      if (getQos() == 0 || !line.alive()) {
        return; // the broker sends it again, and the store knows it already
      }
      try {
        line.client().messageArrivedComplete(getId(), getQos());
      } catch (MqttException | RuntimeException e) {
        LOG.debug("Not acknowledged, the connection is gone", e);
      }
    }

    @Override
    public void onFailure(Exchange exchange) {
      line.leave();
      failed(exchange.getException());
      // Else the consumer logs each with its stack, and with a full window that is a thousand at once.
      exchange.setException(null);
    }

    void failed(Exception cause) {
      meters().received("failed");
      seldom.warn("A message of [{}] was not taken and is asked for again in {} ms: {}", settings.url, redeliveryDelayMs,
          String.valueOf(cause));
      if (getQos() > 0) {
        link(link -> link.redeliver(line, redeliveryDelayMs));
      }
    }
  }
}
