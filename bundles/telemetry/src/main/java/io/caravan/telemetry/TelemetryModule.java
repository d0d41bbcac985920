// SPDX-License-Identifier: Apache-2.0
package io.caravan.telemetry;

import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import io.caravan.runtime.Traces;
import io.caravan.telemetry.internal.Settings;
import io.caravan.telemetry.internal.Telemetry;
import org.apache.camel.CamelContext;

/** Switches traces on while {@code traces.enabled} says so; its keys take effect when they change. */
public final class TelemetryModule implements Module {

  @Override
  public AutoCloseable start(CamelContext context, Config config) throws Exception {
    Telemetry telemetry = new Telemetry(Traces.of(context), context.getRegistry().lookupByName("metricsRegistry"));
    telemetry.apply(Settings.of(config));
    AutoCloseable changes = config.onChange(keys -> {
      if (keys.stream().anyMatch(key -> key.startsWith("traces."))) {
        telemetry.apply(Settings.of(config));
      }
    });
    return () -> {
      changes.close();
      telemetry.close();
    };
  }
}
