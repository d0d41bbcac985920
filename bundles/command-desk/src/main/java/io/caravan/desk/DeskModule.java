// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk;

import io.caravan.desk.internal.Api;
import io.caravan.desk.internal.Desk;
import io.caravan.desk.internal.Links;
import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import io.micrometer.core.instrument.MeterRegistry;
import java.time.Clock;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;

/**
 * Cloud: beans {@code commandDesk} ({@link CommandDesk}) and {@code commandApi}, over the beans {@code writer}, {@code reader} and
 * {@code sessions}. A {@link Clock} in the registry takes the place of the system's.
 */
public final class DeskModule implements Module {
  @Override
  public AutoCloseable start(CamelContext context, Config config) throws Exception {
    DataSource writer = context.getRegistry().lookupByNameAndType("writer", DataSource.class);
    DataSource reader = context.getRegistry().lookupByNameAndType("reader", DataSource.class);
    if (writer == null || reader == null) {
      throw new IllegalStateException("beans writer and reader are not there yet: module wal makes them");
    }
    Clock clock = context.getRegistry().findSingleByType(Clock.class);
    Desk desk = new Desk(writer, reader, () -> Links.of(context.getRegistry().lookupByName("sessions")), config,
        clock == null ? Clock.systemUTC() : clock, context.getRegistry().lookupByNameAndType("metricsRegistry", MeterRegistry.class),
        context::resolvePropertyPlaceholders);
    desk.start();
    context.getRegistry().bind("commandDesk", desk);
    context.getRegistry().bind("commandApi", new Api(desk, config));
    return () -> {
      context.getRegistry().unbind("commandApi");
      context.getRegistry().unbind("commandDesk");
      desk.close();
    };
  }
}
