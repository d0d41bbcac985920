// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest;

import io.caravan.ingest.internal.Draft;
import io.caravan.ingest.internal.Meters;
import io.caravan.ingest.internal.Settings;
import io.caravan.ingest.internal.Shape;
import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import io.caravan.runtime.Traces;
import java.util.HashMap;
import java.util.Map;
import org.apache.camel.CamelContext;
import org.apache.camel.Processor;

/** Binds the bean {@code ingest}, and its steps of every message as {@code ingestParse} and {@code ingestEnrich}; its keys take effect when they change. */
public final class IngestModule implements Module {

  @Override
  public AutoCloseable start(CamelContext context, Config config) throws Exception {
    // As json-validator does: a schema is read once in the life of the process.
    Map<String, Shape> shapes = new HashMap<>();
    for (String kind : Draft.MODELLED) {
      Shape shape = Shape.of(config.getPath("config.dir").resolve("schema").resolve(kind + "-1.json"));
      if (shape != null) {
        shapes.put(kind, shape);
      }
    }
    Ingest ingest = new Ingest(settings(config), Map.copyOf(shapes), Meters.of(context.getRegistry().lookupByName("metricsRegistry")),
        Traces.of(context));
    AutoCloseable changes = config.onChange(keys -> {
      if (keys.stream().anyMatch(key -> key.startsWith("ingest."))) {
        ingest.settings(settings(config));
      }
    });
    context.getRegistry().bind("ingest", ingest);
    // The same for step process, which costs a call; step bean finds method and arguments by reflection for every message.
    context.getRegistry().bind("ingestParse", (Processor) ingest::parse);
    context.getRegistry().bind("ingestEnrich", (Processor) ingest::enrich);
    return () -> {
      context.getRegistry().unbind("ingestEnrich");
      context.getRegistry().unbind("ingestParse");
      context.getRegistry().unbind("ingest");
      changes.close();
    };
  }

  private static Settings settings(Config config) {
    return new Settings((int) config.getLong("ingest.max.bytes"), config.get("ingest.content.type.default"),
        config.getLong("ingest.dedupe.window.ms"));
  }
}
