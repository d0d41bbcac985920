// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal.osgi;

import io.caravan.runtime.Config;
import io.caravan.runtime.internal.LayeredConfig;
import java.util.Dictionary;
import java.util.Hashtable;
import java.util.Map;
import java.util.Set;
import java.util.function.UnaryOperator;
import org.osgi.framework.BundleContext;

/**
 * What the log's fragment (bundle io.caravan.logging) must know of the container, with which it shares no class: whose lines they are,
 * as system properties {@code io.caravan.log.*}, and what takes this configuration's secrets out of a line, as a service. Thread-safe.
 */
final class LogContext {
    private static final String PREFIX = "io.caravan.log.";

    private final Config config;
    private final LayeredConfig layers;
    private volatile UnaryOperator<String> redaction;

    private LogContext(LayeredConfig layers) {
        this.config = layers;
        this.layers = layers;
    }

    /** For the rest of the process. */
    static void publish(BundleContext bundles, LayeredConfig layers) {
        LogContext log = new LogContext(layers);
        System.setProperty(PREFIX + "role", layers.get("container.role"));
        log.changed(Set.of());
        layers.onChange(log::changed);
        Dictionary<String, Object> properties = new Hashtable<>(Map.of("caravan.log.redaction", "true"));
        UnaryOperator<String> service = text -> log.redaction.apply(text);
        bundles.registerService(UnaryOperator.class, service, properties);
    }

    private void changed(Set<String> keys) {
        if (config.get("container.role").equals("gateway")) {
            System.setProperty(PREFIX + "gateway_id", config.get("gateway.id"));
        }
        redaction = layers.redaction()::ofLine;
    }
}
