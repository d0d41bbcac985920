// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import java.util.Map;
import java.util.function.BooleanSupplier;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;

/** Readiness {@code devices}: DOWN while a change is in force that a restart would undo. A restart would not help, so no liveness. */
final class DevicesHealthCheck extends AbstractHealthCheck {
  private final DeviceBook devices;
  private final BooleanSupplier open;

  DevicesHealthCheck(DeviceBook devices, BooleanSupplier open) {
    super("caravan", "devices");
    this.devices = devices;
    this.open = open;
  }

  @Override
  public boolean isLiveness() {
    return false;
  }

  @Override
  protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
    String problem = devices.problem();
    if (!problem.isEmpty()) {
      builder.message(problem).down();
      return;
    }
    if (open.getAsBoolean()) {
      builder.message("device.access=open: whoever is on this machine may act for any device");
    } else if (!devices.copyProblem().isEmpty()) {
      builder.message(devices.copyProblem());
    }
    builder.up();
  }
}
