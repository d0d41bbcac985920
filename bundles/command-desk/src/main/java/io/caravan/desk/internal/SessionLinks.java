// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk.internal;

import io.caravan.uplink.Sessions;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletionStage;
import java.util.function.Supplier;

/** The uplink's sessions. */
record SessionLinks(Sessions sessionsOfUplink) implements Links {
  @Override
  public Map<String, String> sessions() {
    return sessionsOfUplink.commandSessions();
  }

  @Override
  public CompletionStage<Void> command(String gatewayId, String sessionId, List<Supplier<String>> commands) {
    return sessionsOfUplink.command(gatewayId, sessionId, commands);
  }

  @Override
  public CompletionStage<Void> cancel(String gatewayId, String sessionId, List<String> ids, String by) {
    return sessionsOfUplink.cancel(gatewayId, sessionId, ids, by);
  }
}
