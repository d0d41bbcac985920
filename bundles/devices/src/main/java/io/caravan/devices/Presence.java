// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices;

import java.util.function.BiConsumer;
import org.apache.camel.Exchange;

/**
 * Bean {@code presence}: on which way a device can be reached now. A look into a table, never blocks; thread-safe.
 *
 * <p>At the gateway's own listener it is known: the device is subscribed. Behind a broker it is assumed of a device that was heard
 * within {@code command.presence.ms}.
 */
public interface Presence {
  String COMMANDS = "commands";
  String DESIRED = "desired";

  enum Path {
    /** Subscribed at the own listener. */
    LISTENER,
    /** Not that, but heard by way of the broker not long ago. */
    BROKER,
    NONE
  }

  /** @return how a command reaches the device */
  Path path(String deviceId);

  /** @return how its desired state reaches the device */
  Path desiredPath(String deviceId);

  /**
   * @param listener called with device id and channel, {@link #COMMANDS} or {@link #DESIRED}: when the device has subscribed to it at the
   *     own listener, and for both when it is heard by way of the broker after {@code command.presence.ms} of silence. Called on
   *     threads of others: must not block. What it throws is logged
   * @return ends it
   */
  AutoCloseable onAppeared(BiConsumer<String, String> listener);

  /**
   * For the listener's route: device {@code CaravanDeviceId} has subscribed to its {@code CaravanChannel}.
   */
  void subscribed(Exchange exchange);

  /**
   * For the route of a broker's messages, when one was stored: its device is there. One that is not stored, or that the broker had
   * retained (header {@code CaravanRetained}), says nothing.
   */
  void heard(Exchange exchange);
}
