// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client.internal;

import org.eclipse.paho.mqttv5.client.MqttAsyncClient;

/**
 * One connection, with a Paho client of its own: packet ids, queues and threads of a broken one cannot reach the next, and an
 * acknowledgement that comes late is not mistaken for one of another message with the same packet id.
 */
public final class Line {
  final long openedAt = System.nanoTime();
  volatile MqttAsyncClient client;
  volatile boolean ready;
  volatile boolean over;
  /** A message of this connection failed: the rest of it stays with the broker until the next one. */
  volatile boolean paused;

  private int inFlight;

  Line() {}

  /**
   * Counts one message more, once there is room. mosquitto 2.0.11 was seen to send over 5,000 messages ahead of a
   * Receive Maximum of 1,000 while a long backlog drained; waiting on the thread that receives leaves them in the socket.
   *
   * @return false: the connection ended meanwhile, the message is not wanted any more
   */
  public synchronized boolean enter(int max) {
    while (inFlight >= max && open()) {
      try {
        wait(100);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        return false;
      }
    }
    if (!open()) {
      return false;
    }
    inFlight++;
    return true;
  }

  /** One message less. */
  public synchronized void leave() {
    inFlight--;
    notify();
  }

  /** Whether messages of this connection are still wanted. */
  public boolean open() {
    return !over && !paused;
  }

  /** Whether an acknowledgement still means something. */
  public boolean alive() {
    return !over;
  }

  public MqttAsyncClient client() {
    return client;
  }
}
