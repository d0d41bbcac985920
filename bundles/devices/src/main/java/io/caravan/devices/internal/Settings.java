// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import io.caravan.runtime.Config;

/**
 * The keys of io.caravan.devices that take effect at once. Immutable.
 *
 * @param open whether everybody on this machine may act for any device
 */
record Settings(boolean open, int lockFailures, int lockAddressFailures, long lockMs, int messagesPerS, long bytesPerS) {

  static Settings of(Config config) {
    return new Settings(config.get("device.access").equals("open"), (int) config.getLong("device.lock.failures"),
        (int) config.getLong("device.lock.address.failures"), config.getLong("device.lock.ms"),
        (int) config.getLong("device.messages.per.s"), config.getLong("device.bytes.per.s"));
  }
}
