// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.internal;

import java.util.Map;
import java.util.function.Supplier;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;

/** Readiness {@code store}: DOWN while the database does not take what is written. A restart would not help, so no liveness. */
final class StoreHealthCheck extends AbstractHealthCheck {
  private final Supplier<String> problem;

  /** @param problem what the last look at the database found; null: nothing */
  StoreHealthCheck(Supplier<String> problem) {
    super("caravan", "store");
    this.problem = problem;
  }

  @Override
  public boolean isLiveness() {
    return false;
  }

  @Override
  protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
    String why = problem.get();
    if (why == null) {
      builder.up();
    } else {
      builder.message(why);
      builder.down();
    }
  }
}
