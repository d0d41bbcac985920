// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client.internal;

import org.eclipse.paho.mqttv5.client.MqttAsyncClient;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Ends one Paho client for good, whatever it is doing. */
public final class Closing {
  private static final Logger LOG = LoggerFactory.getLogger(Closing.class);
  private static final long DISCONNECT_MS = 500;

  private Closing() {}

  /**
   * On a thread of its own: Paho waits without limit for its callback thread, which may be inside a route.
   *
   * @param quiesceMs how long to wait for what is on its way
   * @return the thread, for those who want to wait for it
   */
  public static Thread start(MqttAsyncClient client, long quiesceMs) {
    Thread thread = new Thread(() -> close(client, quiesceMs), "caravan-mqtt-close-" + client.getClientId());
    thread.setDaemon(true);
    thread.start();
    return thread;
  }

  private static void close(MqttAsyncClient client, long quiesceMs) {
    try {
      boolean connected = client.isConnected();
      // Not only when it is connected: one that waits for CONNACK would be there as soon as a halted broker goes on, and
      // take the client id away from the connection that is in use by then.
      client.disconnectForcibly(connected ? quiesceMs : 0, DISCONNECT_MS, /* sendDisconnectPacket= */ connected);
      client.close(true);
    } catch (MqttException | RuntimeException e) {
      LOG.debug("An old connection of {}", client.getClientId(), e);
    }
  }
}
