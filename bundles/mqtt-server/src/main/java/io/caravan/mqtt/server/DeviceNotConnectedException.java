// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

/** No connection is subscribed to the topic, or the last one ended before it acknowledged: nothing is known of delivery. */
public class DeviceNotConnectedException extends Exception {
  private static final long serialVersionUID = 1;

  public DeviceNotConnectedException(String message) {
    super(message);
  }
}
