// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import io.caravan.mqtt.client.internal.Line;
import io.caravan.mqtt.client.internal.Link;
import java.util.Arrays;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttActionListener;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;

/**
 * Client of a bean that talks with a broker itself, without a route: one subscription with QoS 0, no session, connected again in
 * the background whenever the connection ends. Its bean says in a readiness check of its own how it is.
 *
 * <p>Setters before {@link #start()}; then thread-safe.
 */
public final class ControlMqttClient extends ManagedMqttClient {

  /** Called on threads of the client: must not block. */
  public interface Listener {
    /** The connection stands and is subscribed. */
    void connected();

    void received(String topic, byte[] payload);

    /** The connection is gone; not called for one that never stood. */
    void lost();
  }

  private final String filter;
  private final Listener listener;
  private volatile Line line;

  /**
   * @param name   tag {@code connection} of its meters
   * @param filter topic or filter that is subscribed
   */
  public ControlMqttClient(String name, String filter, Listener listener) throws MqttException {
    super(name, false);
    setCheck(null);
    setMetersName(name);
    this.filter = filter;
    this.listener = listener;
  }

  /**
   * Starts to connect, and returns at once.
   *
   * @throws IllegalArgumentException a value breaks its rule, or a file cannot be read; the message names it
   */
  public void start() {
    begin();
  }

  /** Ends the connection and does not make another one. */
  public void stop() {
    end();
  }

  /** @return null: connected and subscribed, else why not */
  public String trouble() {
    Link now = link();
    return now == null ? "not started" : now.trouble();
  }

  /** @return whether the broker refused user, password or certificate when it was tried last */
  public boolean refused() {
    Link now = link();
    return now != null && now.refused();
  }

  /**
   * Publishes with QoS 1, and does not wait for the acknowledgement.
   *
   * @throws MqttException not connected, or the connection broke
   */
  @Override
  public void publish(String topic, MqttMessage message) throws MqttException {
    Line now = line;
    if (now == null) {
      throw new MqttException(MqttException.REASON_CODE_CLIENT_EXCEPTION, new IllegalStateException("not connected: " + trouble()));
    }
    message.setQos(1);
    now.client().publish(topic, message);
  }

  @Override
  Link.Use use() {
    return new Link.Use() {
      @Override
      public void connected(Line connected) throws MqttException {
        subscribe(connected);
      }

      @Override
      public void received(Line from, String topic, MqttMessage message) {
        if (from == line) {
          listener.received(topic, message.getPayload());
        }
      }

      @Override
      public void lost(Line gone) {
        if (gone == line) {
          line = null;
          listener.lost();
        }
      }
    };
  }

  private void subscribe(Line connected) throws MqttException {
    connected.client().subscribe(new String[] {filter}, new int[] {0}, null, new MqttActionListener() {
      @Override
      public void onSuccess(IMqttToken token) {
        int[] codes = token.getReasonCodes();
        if (codes != null && Arrays.stream(codes).anyMatch(code -> code >= 0x80)) {
          onFailure(token, new IllegalArgumentException("the broker refused the subscription to [" + filter
              + "]: look at its access list for user [" + settings.userName + "]"));
          return;
        }
        line = connected;
        link().ready(connected);
        listener.connected();
      }

      @Override
      public void onFailure(IMqttToken token, Throwable cause) {
        Link now = link();
        if (now != null) {
          now.broken(connected, cause);
        }
      }
    });
  }
}
