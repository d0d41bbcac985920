// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import io.caravan.uplink.internal.Connection;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.composite.CompositeMeterRegistry;
import io.vertx.core.Vertx;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import org.apache.camel.Exchange;
import org.apache.camel.Processor;
import org.apache.camel.health.HealthCheck;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;
import org.apache.camel.support.CamelContextHelper;
import org.apache.camel.support.DefaultConsumer;

/**
 * Owns the connection and emits one exchange per event, in order, on one thread: header CaravanUplinkEvent is
 * {@code open}, {@code message}, {@code close} or {@code failed} (an attempt to connect, {@code message} in the body says why), header CaravanSession the
 * session's local id, the body a Map for a text frame and byte[] for a binary one; with {@code open}, header CaravanVersion is this software's version.
 *
 * <p>An {@code ack} that completes a waiting send is not emitted. When the route fails with an event the session is
 * closed, because nobody can know how far it got; the next session starts from what is on disk. This class is
 * thread-safe.
 */
final class UplinkConsumer extends DefaultConsumer {

    static final String EVENT = "CaravanUplinkEvent";
    static final String VERSION = "CaravanVersion";
    static final String SESSION = "CaravanSession";
    static final String AWAIT_ACK = "CaravanAwaitAck";
    static final String LOG_ID = "CaravanLogId";
    static final String FIRST_SEQ = "CaravanFirstSeq";
    static final String LAST_SEQ = "CaravanLastSeq";
    static final String ROWS = "CaravanRows";

    private final UplinkEndpoint endpoint;
    private final Connection.Options options;
    private final String version = version();
    private volatile Connection connection;
    private ExecutorService events;
    private ExecutorService completions;
    private HealthCheck health;

    UplinkConsumer(UplinkEndpoint endpoint, Processor processor, Connection.Options options) {
        super(endpoint, processor);
        this.endpoint = endpoint;
        this.options = options;
    }

    @Override
    protected void doStart() throws Exception {
        super.doStart();
        Vertx vertx = CamelContextHelper.mandatoryLookup(getEndpoint().getCamelContext(), "vertx", Vertx.class);
        MeterRegistry meters = CamelContextHelper.lookup(getEndpoint().getCamelContext(), "metricsRegistry",
            MeterRegistry.class);
        var threads = getEndpoint().getCamelContext().getExecutorServiceManager();
        events = threads.newSingleThreadExecutor(this, "uplink-events");
        // Not the events' thread: a route may wait there for an answer.
        completions = threads.newSingleThreadExecutor(this, "uplink-completions");
        Connection created = new Connection(vertx, options, events, completions, this::emit,
            meters == null ? new CompositeMeterRegistry() : meters);
        try {
            endpoint.getComponent().register(endpoint.name(), created);
        } catch (RuntimeException e) {
            threads.shutdownNow(events);
            threads.shutdownNow(completions);
            throw e;
        }
        connection = created;
        health = new Check(created, endpoint.isReadiness(), endpoint.getReadyAfterMs());
        HealthCheckRegistry checks = HealthCheckRegistry.get(getEndpoint().getCamelContext());
        if (checks != null) {
            checks.register(health);
        }
        created.start();
    }

    @Override
    protected void doStop() throws Exception {
        Connection closing = connection;
        connection = null;
        if (closing != null) {
            closing.close();
            endpoint.getComponent().unregister(endpoint.name(), closing);
        }
        HealthCheckRegistry checks = HealthCheckRegistry.get(getEndpoint().getCamelContext());
        if (checks != null && health != null) {
            checks.unregister(health);
        }
        var threads = getEndpoint().getCamelContext().getExecutorServiceManager();
        if (events != null) {
            threads.shutdownGraceful(events, 2_000);
        }
        if (completions != null) {
            threads.shutdownGraceful(completions, 2_000);
        }
        super.doStop();
    }

    private void emit(String event, String session, Object body) {
        Exchange exchange = createExchange(false);
        try {
            exchange.getMessage().setHeader(EVENT, event);
            exchange.getMessage().setHeader(SESSION, session);
            if (event.equals("open")) {
                exchange.getMessage().setHeader(VERSION, version);
            }
            exchange.getMessage().setBody(body);
            getProcessor().process(exchange);
        } catch (Exception e) {
            exchange.setException(e);
        }
        try {
            if (exchange.getException() != null) {
                getExceptionHandler().handleException("uplink [" + endpoint.name() + "] could not process event ["
                    + event + "], the session is closed", exchange, exchange.getException());
                Connection failed = connection;
                if (failed != null) {
                    failed.disconnect(session, "event " + event + " failed in the route");
                }
            }
        } finally {
            releaseExchange(exchange, false);
        }
    }

    static String version() {
        Properties properties = new Properties();
        try (InputStream in = UplinkConsumer.class.getResourceAsStream("/io/caravan/uplink/version.properties")) {
            properties.load(in);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return properties.getProperty("version");
    }

    /**
     * DOWN when there has been no connection for some time. Being away for a moment is normal life for an uplink: it is told, and nothing
     * follows. Whether a connection gets anywhere, the check of its sink says.
     */
    private static final class Check extends AbstractHealthCheck {

        private final Connection connection;
        private final long afterMs;

        Check(Connection connection, boolean atOnce, long afterMs) {
            super("caravan", "uplink");
            this.connection = connection;
            this.afterMs = atOnce ? 0 : afterMs;
        }

        @Override
        public boolean isLiveness() {
            return false;
        }

        @Override
        protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
            builder.detail("connected", connection.isConnected());
            long away = connection.awayMs();
            if (away == 0) {
                builder.up().message(connection.state());
            } else if (away < afterMs) {
                builder.up().message(connection.state() + "; since " + away / 1_000 + " s");
            } else {
                builder.down().message(connection.state() + "; since " + away / 1_000 + " s; what is received is stored all the same")
                    .detail("todo", "sink:list and the log say what the last attempt found: check uplink.url, the credential and the way there;"
                        + " a restart does not help");
            }
        }
    }
}
