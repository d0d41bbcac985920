// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

/** The device answered with an error reason code, or the message exceeds its maximum packet size (REFUSED); its window is full (NONE). */
public class PublishRefusedException extends PublishException {
  private static final long serialVersionUID = 1;

  public PublishRefusedException(String message, Evidence evidence) {
    super(message, evidence);
  }
}
