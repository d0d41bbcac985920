// SPDX-License-Identifier: Apache-2.0
package io.caravan.logging;

import org.apache.logging.log4j.core.LogEvent;
import org.apache.logging.log4j.core.config.plugins.Plugin;
import org.apache.logging.log4j.core.config.plugins.PluginFactory;
import org.apache.logging.log4j.layout.template.json.resolver.EventResolver;
import org.apache.logging.log4j.layout.template.json.resolver.EventResolverContext;
import org.apache.logging.log4j.layout.template.json.resolver.EventResolverFactory;
import org.apache.logging.log4j.layout.template.json.resolver.TemplateResolverConfig;
import org.apache.logging.log4j.layout.template.json.resolver.TemplateResolverFactory;
import org.apache.logging.log4j.layout.template.json.util.JsonWriter;

/**
 * {@code {"$resolver": "caravanProcess", "key": "gateway_id"}}: what the container says of itself in the system property
 * {@code io.caravan.log.<key>}; no field as long as it says nothing, which {@code ${sys:...}} cannot. Instances are thread-safe.
 */
final class ProcessResolver implements EventResolver {
  static final String PREFIX = "io.caravan.log.";

  private final String property;

  private ProcessResolver(String key) {
    property = PREFIX + key;
  }

  /** Found by log4j2 in the plugin list. */
  @Plugin(name = "CaravanProcessResolverFactory", category = TemplateResolverFactory.CATEGORY)
  public static final class Factory implements EventResolverFactory {
    private static final Factory INSTANCE = new Factory();

    @PluginFactory
    public static Factory getInstance() {
      return INSTANCE;
    }

    @Override
    public String getName() {
      return "caravanProcess";
    }

    @Override
    public ProcessResolver create(EventResolverContext context, TemplateResolverConfig config) {
      return new ProcessResolver(config.getString("key"));
    }
  }

  @Override
  public boolean isResolvable(LogEvent event) {
    return System.getProperty(property) != null;
  }

  @Override
  public void resolve(LogEvent event, JsonWriter writer) {
    writer.writeString(System.getProperty(property));
  }
}
