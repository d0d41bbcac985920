// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server;

import java.util.Locale;

/** What is known of a message for a device, header {@code CaravanEvidence}. Nothing is guessed: what may have been written is UNKNOWN. */
public enum Evidence {
  /** The device's own PUBACK. */
  DELIVERED,
  /** Written, and nobody acknowledges it: subscribed with QoS 0. */
  SENT,
  /** Certainly not written, and it will not be: nobody is subscribed, or its time was over before its turn came. */
  NONE,
  /** The device has refused it with an error code, or it is larger than the device takes: sending it again would not help. */
  REFUSED,
  /** Written, and no PUBACK came in time or before the connection ended. */
  UNKNOWN;

  /** In lower case, as it stands in the header. */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
