// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk.internal;

import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletionStage;
import java.util.function.Supplier;

/** The connections of gateways that this replica holds. Thread-safe, never blocks. */
public interface Links {
  /** @param bean {@code sessions}; null: no uplink; @return null for null */
  static Links of(Object bean) {
    return bean == null || bean instanceof Links ? (Links) bean : new SessionLinks((io.caravan.uplink.Sessions) bean);
  }

  /** @return gateway id to session id, of those that take commands */
  Map<String, String> sessions();

  /**
   * Calls for one session keep their order.
   *
   * @param commands JSON objects; asked for when they are written, and before only for how long they are
   * @return completes when they are handed to the socket; exceptionally: that session is not here, or does not read. They may have
   *     gone or not
   */
  CompletionStage<Void> command(String gatewayId, String sessionId, List<Supplier<String>> commands);

  /** As {@link #command}. */
  CompletionStage<Void> cancel(String gatewayId, String sessionId, List<String> ids, String by);
}
