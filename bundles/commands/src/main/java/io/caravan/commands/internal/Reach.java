// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

/** Whether a device can be sent something now. Thread-safe, does not block. */
public interface Reach {
  enum Way { LISTENER, BROKER, NONE }

  Way way(String deviceId);
}
