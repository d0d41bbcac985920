// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import java.util.Map;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;

/** Readiness {@code commands}: DOWN while commands cannot be written. A restart would not help, so no liveness. */
final class CommandsHealthCheck extends AbstractHealthCheck {
  private final CommandEngine engine;

  CommandsHealthCheck(CommandEngine engine) {
    super("caravan", "commands");
    this.engine = engine;
  }

  @Override
  public boolean isLiveness() {
    return false;
  }

  @Override
  protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
    builder.detail("open", engine.openCount());
    builder.detail("waiting", engine.waitingCount());
    String failure = engine.isAlive() ? engine.failure() : "the thread of the commands has ended: see the log, restart the gateway";
    if (failure.isEmpty()) {
      builder.up();
    } else {
      builder.message(failure).down();
    }
  }
}
