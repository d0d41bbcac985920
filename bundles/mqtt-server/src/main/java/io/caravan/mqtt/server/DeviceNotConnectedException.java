// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

/** No connection is subscribed to the topic (NONE), or the one that was sent the message ended before it acknowledged (UNKNOWN). */
public class DeviceNotConnectedException extends PublishException {
  private static final long serialVersionUID = 1;

  public DeviceNotConnectedException(String message, Evidence evidence) {
    super(message, evidence);
  }
}
