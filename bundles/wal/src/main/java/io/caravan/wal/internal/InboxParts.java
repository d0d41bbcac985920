// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Config;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.composite.CompositeMeterRegistry;
import java.sql.SQLException;
import java.util.ArrayDeque;
import java.util.Deque;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;
import org.apache.camel.health.HealthCheckRegistry;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What {@link io.caravan.wal.InboxSinks} has open; closed in the reverse order. */
public final class InboxParts implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(InboxParts.class);

    private final Deque<AutoCloseable> opened = new ArrayDeque<>();

    private InboxParts() {}

    /** See {@link io.caravan.wal.InboxSinks#start}. */
    public static AutoCloseable start(CamelContext context, Config config, DataSource reader, DataSource writer) throws SQLException {
        MeterRegistry registry = context.getRegistry().lookupByNameAndType("metricsRegistry", MeterRegistry.class);
        SinkLog log = new InboxLog(reader, writer);
        InboxParts parts = new InboxParts();
        SinkReport report = parts.keep(new SinkReport(config, log, "inbox", registry != null ? registry : new CompositeMeterRegistry(),
                HealthCheckRegistry.get(context)));
        Sinks sinks = parts.keep(new Sinks(context, config, log, report));
        parts.bind(context, "sinks", sinks);
        parts.bind(context, "recovery", new InboxTools(reader, writer, sinks));
        BatchConverters.ensure(context);
        return parts;
    }

    private <T extends AutoCloseable> T keep(T closeable) {
        opened.push(closeable);
        return closeable;
    }

    private void bind(CamelContext context, String name, Object bean) {
        context.getRegistry().bind(name, bean);
        opened.push(() -> context.getRegistry().unbind(name));
    }

    @Override
    public void close() {
        while (!opened.isEmpty()) {
            try {
                opened.pop().close();
            } catch (Exception e) {
                LOG.warn("closing the sinks: {}", e.toString());
            }
        }
    }
}
