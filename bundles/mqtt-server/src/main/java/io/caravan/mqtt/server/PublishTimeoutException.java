// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

/** The device was sent the message and did not acknowledge it in time; it may have it all the same. */
public class PublishTimeoutException extends Exception {
  private static final long serialVersionUID = 1;

  public PublishTimeoutException(String message) {
    super(message);
  }
}
