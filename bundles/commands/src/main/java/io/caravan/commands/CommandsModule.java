// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands;

import io.caravan.commands.internal.CommandService;
import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import org.apache.camel.CamelContext;

/**
 * Binds {@link Commands commands} with {@code commandIntake} for routes, {@link Capabilities capabilities}, {@link Twins twins}
 * and {@code answers}, and the health check {@code commands}. Needs the store ({@code writer}, {@code reader}) and the registry of devices.
 */
public final class CommandsModule implements Module {
  @Override
  public AutoCloseable start(CamelContext context, Config config) throws Exception {
    return CommandService.start(context, config);
  }
}
