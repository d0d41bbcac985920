// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

/** The device answered with an error reason code, or cannot take the message (its maximum packet size, its full window). */
public class PublishRefusedException extends Exception {
  private static final long serialVersionUID = 1;

  public PublishRefusedException(String message) {
    super(message);
  }
}
