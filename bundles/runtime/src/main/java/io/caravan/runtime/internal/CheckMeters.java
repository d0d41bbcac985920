// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Check;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The readiness checks as meters, as they were looked at last: a scrape does not wait for a database. Not thread-safe. */
final class CheckMeters {

    private final Health health;
    private final PrometheusMeterRegistry registry;
    private final Map<List<String>, Seen> checks = new HashMap<>();

    /** What is registered for a check, which {@code counts} is a label of. */
    private static final class Seen {
        Gauge gauge;
        volatile boolean up;
        boolean there;
    }

    CheckMeters(Health health, PrometheusMeterRegistry registry) {
        this.health = health;
        this.registry = registry;
        Gauge.builder("caravan.health.ready", health, h -> h.last().isEmpty() || h.last().stream().anyMatch(Check::blocks) ? 0 : 1)
                .description("1: /readyz answers 200").register(registry);
    }

    void look() {
        checks.values().forEach(seen -> seen.there = false);
        for (Check check : health.last()) {
            Seen seen = checks.computeIfAbsent(List.of(check.name(), String.valueOf(check.counts())), this::register);
            seen.up = check.up();
            seen.there = true;
        }
        checks.values().removeIf(seen -> {
            if (!seen.there) {
                registry.remove(seen.gauge);
            }
            return !seen.there;
        });
    }

    private Seen register(List<String> labels) {
        Seen seen = new Seen();
        seen.gauge = Gauge.builder("caravan.health.check.up", () -> seen.up ? 1 : 0).description("1: the check of /readyz is UP")
                .tag("check", labels.get(0)).tag("counts", labels.get(1)).register(registry);
        return seen;
    }
}
