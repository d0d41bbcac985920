// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

/** The device was sent the message and did not acknowledge it in time (UNKNOWN), or its turn did not come in time (NONE). */
public class PublishTimeoutException extends PublishException {
  private static final long serialVersionUID = 1;

  public PublishTimeoutException(String message, Evidence evidence) {
    super(message, evidence);
  }
}
