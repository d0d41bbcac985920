// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.micrometer.core.instrument.FunctionCounter;
import io.micrometer.core.instrument.FunctionTimer;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.Meter;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import javax.management.Attribute;
import javax.management.JMException;
import javax.management.MBeanServer;
import javax.management.ObjectName;
import org.apache.camel.CamelContext;
import org.apache.camel.Route;
import org.apache.camel.spi.ManagementAgent;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Camel's routes, from what Camel's management counts of them anyway, read when somebody asks: camel-micrometer's policy would count a
 * second time, for every message. Not thread-safe.
 */
final class RouteMeters {

    private static final Logger LOG = LoggerFactory.getLogger(RouteMeters.class);
    private static final String[] ATTRIBUTES = {"ExchangesCompleted", "ExchangesFailed", "ExchangesInflight", "TotalProcessingTime"};

    private final CamelContext context;
    private final PrometheusMeterRegistry registry;
    private final Map<String, Seen> routes = new HashMap<>();

    RouteMeters(CamelContext context, PrometheusMeterRegistry registry) {
        this.context = context;
        this.registry = registry;
    }

    /** A route as it was when last looked at. */
    private static final class Seen {
        List<Meter> meters = List.of();
        volatile long[] values = new long[ATTRIBUTES.length];
        volatile boolean up;

        double value(int attribute) {
            return values[attribute];
        }
    }

    void look() {
        ManagementAgent agent = context.getManagementStrategy().getManagementAgent();
        MBeanServer server = agent == null ? null : agent.getMBeanServer();
        Set<String> there = new HashSet<>();
        for (Route route : context.getRoutes()) {
            String id = route.getRouteId();
            there.add(id);
            Seen seen = routes.computeIfAbsent(id, key -> register(key, server != null));
            seen.up = context.getRouteController().getRouteStatus(id) != null && context.getRouteController().getRouteStatus(id).isStarted();
            if (server != null) {
                read(server, route, seen);
            }
        }
        routes.entrySet().removeIf(entry -> {
            if (there.contains(entry.getKey())) {
                return false;
            }
            Metrics.remove(registry, entry.getValue().meters);
            return true;
        });
    }

    private void read(MBeanServer server, Route route, Seen seen) {
        try {
            ObjectName name = context.getManagementStrategy().getManagementObjectNameStrategy().getObjectNameForRoute(route);
            if (!server.isRegistered(name)) {
                return; // being replaced
            }
            long[] values = new long[ATTRIBUTES.length];
            for (Attribute attribute : server.getAttributes(name, ATTRIBUTES).asList()) {
                for (int i = 0; i < ATTRIBUTES.length; i++) {
                    if (ATTRIBUTES[i].equals(attribute.getName()) && attribute.getValue() instanceof Number number) {
                        values[i] = number.longValue();
                    }
                }
            }
            seen.values = values;
        } catch (JMException e) {
            LOG.debug("route [{}] does not tell its counts: {}", route.getRouteId(), e.toString());
        }
    }

    private Seen register(String id, boolean counted) {
        Seen seen = new Seen();
        Gauge up = Gauge.builder("caravan.route.up", () -> seen.up ? 1 : 0).description("1: the route is started").tag("route", id).register(registry);
        seen.meters = !counted ? List.of(up) : List.of(up,
                exchanges(id, seen, "completed", 0), exchanges(id, seen, "failed", 1),
                Gauge.builder("caravan.route.in.flight.exchanges", () -> seen.value(2)).description("Exchanges under way in the route")
                        .tag("route", id).register(registry),
                FunctionTimer.builder("caravan.route.seconds", seen, s -> s.values[0] + s.values[1], s -> s.value(3), TimeUnit.MILLISECONDS)
                        .description("How long exchanges took, each in whole milliseconds").tag("route", id).register(registry));
        return seen;
    }

    private Meter exchanges(String id, Seen seen, String outcome, int attribute) {
        return FunctionCounter.builder("caravan.route.exchanges", seen, s -> s.value(attribute)).description("Exchanges that ended in the route")
                .tag("route", id).tag("outcome", outcome).register(registry);
    }
}
