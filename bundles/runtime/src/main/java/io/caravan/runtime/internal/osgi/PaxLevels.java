// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal.osgi;

import io.caravan.runtime.internal.LogLevels;
import java.io.IOException;
import java.util.Collection;
import java.util.Collections;
import java.util.Dictionary;
import java.util.Hashtable;
import java.util.Map;
import java.util.function.Consumer;
import org.osgi.framework.BundleContext;
import org.osgi.framework.InvalidSyntaxException;
import org.osgi.framework.ServiceReference;
import org.osgi.service.cm.ConfigurationAdmin;
import org.osgi.service.cm.ConfigurationException;
import org.osgi.service.cm.ManagedService;

/**
 * Levels in Karaf's log: what is configured, with some levels changed, is given to Pax Logging directly. Not through Configuration
 * Admin, which would keep it, and have it written into etc/org.ops4j.pax.logging.cfg.
 */
final class PaxLevels implements LogLevels.Backend {

    private static final String PID = "org.ops4j.pax.logging";
    private static final String LOGGER = "log4j2.logger.";

    private final BundleContext bundles;

    PaxLevels(BundleContext bundles) {
        this.bundles = bundles;
    }

    @Override
    public void set(Map<String, String> levels) throws IOException, InvalidSyntaxException, ConfigurationException {
        Dictionary<String, Object> configured = configured();
        Dictionary<String, Object> changed = with(configured, levels);
        Collection<ServiceReference<ManagedService>> logs = bundles.getServiceReferences(ManagedService.class, "(service.pid=" + PID + ")");
        if (logs.isEmpty()) {
            throw new IOException("Pax Logging is not there");
        }
        for (ServiceReference<ManagedService> log : logs) {
            ManagedService service = bundles.getService(log);
            if (service != null) {
                try {
                    service.updated(changed);
                } finally {
                    bundles.ungetService(log);
                }
            }
        }
    }

    private Dictionary<String, Object> configured() throws IOException {
        ServiceReference<ConfigurationAdmin> reference = bundles.getServiceReference(ConfigurationAdmin.class);
        if (reference == null) {
            throw new IOException("Configuration Admin is not there");
        }
        try {
            Dictionary<String, Object> properties = bundles.getService(reference).getConfiguration(PID, null).getProperties();
            if (properties == null) {
                throw new IOException("there is no etc/" + PID + ".cfg");
            }
            return properties;
        } finally {
            bundles.ungetService(reference);
        }
    }

    /** @return the same with these levels: in the entry that the logger has, else in one more */
    static Dictionary<String, Object> with(Dictionary<String, Object> configured, Map<String, String> levels) {
        Dictionary<String, Object> changed = new Hashtable<>();
        Map<String, String> entries = new java.util.HashMap<>();
        Consumer<String> copy = key -> {
            Object value = configured.get(key);
            changed.put(key, value);
            if (key.startsWith(LOGGER) && key.endsWith(".name")) {
                entries.put(String.valueOf(value), key.substring(0, key.length() - ".name".length()));
            }
        };
        Collections.list(configured.keys()).forEach(copy);
        levels.forEach((logger, level) -> {
            String entry = entries.getOrDefault(logger, LOGGER + "caravan" + logger.replaceAll("[^A-Za-z0-9]", "x"));
            changed.put(entry + ".name", logger);
            changed.put(entry + ".level", level);
        });
        return changed;
    }
}
