// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.ConfigException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Notices changed cfg files, and changed files that values are read from ({@code file:}). A change counts once two looks in a
 * row see the same, so that a file that is being written is never half read. {@link #look} is called by one thread; {@link #problems} by any.
 */
final class ConfigWatch {

    private static final Logger LOG = LoggerFactory.getLogger(ConfigWatch.class);

    private final LayeredConfig config;
    private final Consumer<Set<String>> changed;
    private final Consumer<List<String>> refused;
    private Map<String, String> inForce;
    private Map<String, String> lastSeen;
    private volatile List<String> problems = List.of();

    /**
     * @param changed told the keys that changed, after the config's own listeners
     * @param refused told what was wrong with a change that is not in force
     */
    ConfigWatch(LayeredConfig config, Consumer<Set<String>> changed, Consumer<List<String>> refused) {
        this.config = config;
        this.changed = changed;
        this.refused = refused;
        this.lastSeen = see();
        this.inForce = config.asRead(lastSeen);
    }

    void look() {
        Map<String, String> seen = see();
        boolean settled = seen.equals(lastSeen);
        lastSeen = seen;
        if (!settled || seen.equals(inForce)) {
            return;
        }
        take(seen);
    }

    /**
     * Puts the files in force as they are, without a second look. By the thread that calls {@link #look}.
     *
     * @return the keys whose value changed
     * @throws ConfigException the old values stay in force
     */
    Set<String> now() {
        lastSeen = see();
        Set<String> keys = reload(lastSeen);
        problems = List.of();
        if (!keys.isEmpty()) {
            changed.accept(keys);
        }
        return keys;
    }

    private void take(Map<String, String> seen) {
        try {
            Set<String> keys = reload(seen);
            problems = List.of();
            LOG.info("Configuration reloaded, changed: {}", keys);
            if (!keys.isEmpty()) {
                changed.accept(keys);
            }
        } catch (ConfigException e) {
            problems = e.problems();
            LOG.error("Configuration change refused, the old values stay in force:\n{}", e.getMessage());
            refused.accept(problems);
        }
    }

    /** @param seen counts as taken, whether it is good or not; which files values are read from is known only behind it */
    private Set<String> reload(Map<String, String> seen) {
        try {
            return config.reload();
        } finally {
            inForce = config.asRead(seen);
        }
    }

    /** @return why the files as they are now are not in force; empty: they are */
    List<String> problems() {
        return problems;
    }

    private Map<String, String> see() {
        try {
            return config.fingerprint();
        } catch (IOException | UncheckedIOException e) {
            // A file that was deleted while the folder was listed: the next look sees the folder settled.
            return config.asRead(Map.of("", String.valueOf(e)));
        }
    }
}
