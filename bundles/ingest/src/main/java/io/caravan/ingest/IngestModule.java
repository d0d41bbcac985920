// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest;

import io.caravan.ingest.internal.Meters;
import io.caravan.ingest.internal.Settings;
import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import org.apache.camel.CamelContext;

/** Binds the bean {@code ingest}; its keys take effect when they change. */
public final class IngestModule implements Module {

  @Override
  public AutoCloseable start(CamelContext context, Config config) throws Exception {
    Ingest ingest = new Ingest(settings(config), Meters.of(context.getRegistry().lookupByName("metricsRegistry")));
    AutoCloseable changes = config.onChange(keys -> {
      if (keys.stream().anyMatch(key -> key.startsWith("ingest."))) {
        ingest.settings(settings(config));
      }
    });
    context.getRegistry().bind("ingest", ingest);
    return () -> {
      context.getRegistry().unbind("ingest");
      changes.close();
    };
  }

  private static Settings settings(Config config) {
    return new Settings((int) config.getLong("ingest.max.bytes"), config.get("ingest.content.type.default"),
        config.getLong("ingest.dedupe.window.ms"));
  }
}
