// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

/** A message for a device was not acknowledged by it; says exactly what is known of it. */
public abstract class PublishException extends Exception {
  private static final long serialVersionUID = 1;
  private final Evidence evidence;

  PublishException(String message, Evidence evidence) {
    super(message);
    this.evidence = evidence;
  }

  /** @return NONE, REFUSED or UNKNOWN */
  public Evidence evidence() {
    return evidence;
  }

  /** @return whether a device may have the message; false is certain */
  public boolean isWritten() {
    return evidence == Evidence.UNKNOWN;
  }
}
