// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.micrometer.core.instrument.FunctionCounter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.Meter;
import io.micrometer.core.instrument.Tags;
import io.micrometer.core.instrument.binder.jvm.ClassLoaderMetrics;
import io.micrometer.core.instrument.binder.jvm.JvmGcMetrics;
import io.micrometer.core.instrument.binder.jvm.JvmMemoryMetrics;
import io.micrometer.core.instrument.binder.jvm.JvmThreadMetrics;
import io.micrometer.core.instrument.binder.system.FileDescriptorMetrics;
import io.micrometer.core.instrument.binder.system.ProcessorMetrics;
import io.micrometer.core.instrument.binder.system.UptimeMetrics;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.nio.file.Path;
import java.util.Map;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;

/** The bean {@code metrics} and the container's meter registry. This class is thread-safe. */
public final class Metrics implements AutoCloseable {

    private final PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
    private final JvmGcMetrics gc = new JvmGcMetrics();
    private final ProcessMeters process = new ProcessMeters();
    private RouteMeters routes;
    private CheckMeters checks;

    Metrics() {
        MeterRules rules = new MeterRules();
        registry.config().meterFilter(rules).onMeterAdded(rules::added).onMeterRemoved(rules::removed);
        FunctionCounter.builder("caravan.metrics.dropped.series", rules, MeterRules::dropped)
                .description("Times a series was refused because its metric has too many").register(registry);
        new ClassLoaderMetrics().bindTo(registry);
        new JvmMemoryMetrics().bindTo(registry);
        new JvmThreadMetrics().bindTo(registry);
        new ProcessorMetrics().bindTo(registry);
        new FileDescriptorMetrics().bindTo(registry);
        new UptimeMetrics().bindTo(registry);
        gc.bindTo(registry);
        process.bindTo(registry);
    }

    /**
     * What is known only when the container starts.
     *
     * @param build what {@code caravan_build_info} says
     * @param data  a folder on the disk whose space is told; it need not be there yet
     */
    synchronized void start(CamelContext context, Health health, Map<String, String> build, Path data) {
        Tags tags = Tags.empty();
        for (Map.Entry<String, String> entry : build.entrySet()) {
            tags = tags.and(entry.getKey(), entry.getValue());
        }
        Gauge.builder("caravan.build.info", () -> 1).description("What runs").tags(tags).register(registry);
        ProcessMeters.disk(registry, data);
        routes = new RouteMeters(context, registry);
        checks = new CheckMeters(health, registry);
    }

    PrometheusMeterRegistry registry() {
        return registry;
    }

    /** @return all meters in the Prometheus text format */
    synchronized String scrape() {
        process.look();
        if (routes != null) {
            routes.look();
            checks.look();
        }
        return registry.scrape();
    }

    /** Body: all meters in the Prometheus text format. */
    public void scrape(Exchange exchange) {
        exchange.getMessage().removeHeaders("*");
        exchange.getMessage().setHeader(Exchange.CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
        exchange.getMessage().setBody(scrape());
    }

    @Override
    public void close() {
        gc.close();
        registry.close();
    }

    /** Removes meters of what is gone. */
    static void remove(PrometheusMeterRegistry registry, Iterable<? extends Meter> meters) {
        meters.forEach(registry::remove);
    }
}
