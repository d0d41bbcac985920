// SPDX-License-Identifier: Apache-2.0
package io.caravan.api;

import io.caravan.api.internal.Api;
import io.caravan.api.internal.LiveStream;
import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import io.micrometer.core.instrument.MeterRegistry;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;

/** Cloud: bean {@code api}, over the bean {@code apiReader}. */
public final class ApiModule implements Module {
  @Override
  public AutoCloseable start(CamelContext context, Config config) throws Exception {
    DataSource reader = context.getRegistry().lookupByNameAndType("apiReader", DataSource.class);
    if (reader == null) {
      throw new IllegalStateException("bean apiReader is not there yet: module wal or postgres makes it");
    }
    LiveStream stream = new LiveStream(reader, context, config, context.getRegistry().lookupByNameAndType("metricsRegistry", MeterRegistry.class));
    context.getRegistry().bind("api", new Api(config, stream));
    return () -> {
      context.getRegistry().unbind("api");
      stream.close();
    };
  }
}
