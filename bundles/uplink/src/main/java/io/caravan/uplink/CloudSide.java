// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import io.caravan.runtime.Traces;
import io.caravan.uplink.internal.Connection;
import io.caravan.uplink.internal.Credits;
import io.caravan.uplink.internal.GatewaysFile;
import io.caravan.uplink.internal.GatewaysTable;
import io.caravan.uplink.internal.Limits;
import io.caravan.uplink.internal.Listener;
import io.caravan.uplink.internal.Refusals;
import io.caravan.uplink.internal.ServerTls;
import io.caravan.uplink.internal.Trust;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.vertx.core.http.ClientAuth;
import io.vertx.core.http.HttpServerOptions;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.file.Path;
import java.sql.SQLException;
import java.time.Clock;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;
import org.apache.camel.health.HealthCheck;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Puts the cloud's side together, and looks after its files every {@value #LOOK_MS} ms and after the registry in the store every
 * {@value #REGISTRY_MS} ms: who is not allowed any more is cut off in less than a second, at every replica. Not the file system's events: they are lost on network file systems, and the ends of tokens come without one.
 */
final class CloudSide implements AutoCloseable {

    static final long LOOK_MS = 200;
    /** How long what another replica changed may take to be in force here, and the time to read it. */
    static final long REGISTRY_MS = 500;
    /** A file that is being rewritten in place has lines missing for a moment: nobody is cut off before it holds still, or for so long. */
    private static final int RESTLESS_MAX = 3;

    private static final Logger LOG = LoggerFactory.getLogger(CloudSide.class);
    /** Not the stock component's name: what asks for that one before we are here gets it, without TLS, and Camel keeps it. */
    private static final String COMPONENT = "uplink-server";

    private final CamelContext context;
    private final MeterRegistry meters;
    private final GatewaysFile file;
    /** Null: the file is all there is. */
    private final GatewaysTable table;
    private final Trust trust;
    private final FleetView fleet;
    private final ServerTls tls;
    private final Listener listener;
    private final Sessions sessions;
    private final Replica replica;
    private final ScheduledExecutorService watch;
    /** A thread of its own: a store that hangs must not keep the files from being looked at. */
    private final ScheduledExecutorService registry;
    private final List<Gauge> gauges = new ArrayList<>();
    private final HealthCheck health = new Check();
    private int restless;
    private boolean certificates;

    /** @throws SQLException the registry in the store cannot be read */
    CloudSide(CamelContext context, Config config, MeterRegistry meters) throws SQLException {
        this.context = context;
        this.meters = meters;
        DataSource reader = context.getRegistry().lookupByNameAndType("reader", DataSource.class);
        if (config.get("uplink.registry").equals("store")) {
            DataSource writer = context.getRegistry().lookupByNameAndType("writer", DataSource.class);
            if (writer == null || reader == null) {
                throw new IllegalStateException("beans writer and reader are not there yet: the store's module makes them");
            }
            // First of all: nothing is open yet that had to be closed.
            table = new GatewaysTable(writer, reader);
        } else {
            table = null;
        }
        Refusals refusals = new Refusals(meters);
        String auth = config.get("uplink.tls.client.auth");
        tls = new ServerTls(new ServerTls.Options(config.getPath("uplink.tls.cert"), config.getPath("uplink.tls.key"),
            path(config, "uplink.tls.client.ca.file"), path(config, "uplink.tls.crl.file"),
            auth.equals("none") ? ClientAuth.NONE : auth.equals("required") ? ClientAuth.REQUIRED : ClientAuth.REQUEST,
            config.getLong("uplink.handshake.timeout.ms")), refusals);
        file = new GatewaysFile(config.getPath("uplink.gateways.file"));
        trust = new Trust(file, table);
        sessions = new Sessions(trust, tls, number(config, "uplink.max.frame.bytes"), number(config, "uplink.max.inflated.bytes"),
            number(config, "uplink.max.batch.rows"), number(config, "uplink.sessions.max"),
            new Credits(new Credits.Options(config.getLong("uplink.backlog.rows"), config.getLong("uplink.backlog.gateway.rows"),
                config.getLong("uplink.backlog.rows.per.s"))), meters, refusals, this::audit, this::replicaId, Traces.of(context));
        replica = new Replica(config.get("replica.address").isEmpty() ? host() + ":" + config.get("uplink.port") : config.get("replica.address"),
            UplinkConsumer.version(), config.get("store.type").equals("sqlite"), config.getLong("replica.timeout.ms"), sessions::lost);
        listener = new Listener(new Listener.Options(config.getLong("uplink.handshake.timeout.ms"), number(config, "uplink.strangers.max")),
            trust, tls, new Limits(new Limits.Options(number(config, "uplink.handshake.per.s"), number(config, "uplink.handshake.address.per.s"),
                number(config, "uplink.lock.failures"), number(config, "uplink.lock.address.failures"), config.getLong("uplink.lock.ms"))),
            refusals, this::locked);
        watch = thread("uplink-watch");
        registry = thread("uplink-registry");
        gauges.add(Gauge.builder("caravan.uplink.strangers", listener, Listener::strangers).description("Connections that have not proved who they are").register(meters));
        gauges.add(Gauge.builder("caravan.uplink.gateways", trust, t -> t.entries().size()).description("Gateways that are registered").register(meters));
        gauges.add(Gauge.builder("caravan.uplink.gateways.problems", trust, t -> t.problems().size()).description("Entries of the registry that cannot be used").register(meters));
        context.getRegistry().bind("uplinkServerOptions", serverOptions(config));
        context.getRegistry().bind("sessions", sessions);
        context.getRegistry().bind("replica", replica);
        GatewayRegistry gateways = new GatewayRegistry(trust, sessions, this::audit);
        context.getRegistry().bind("gateways", gateways);
        Clock clock = context.getRegistry().findSingleByType(Clock.class);
        fleet = reader == null ? null : new FleetView(reader, gateways, config, clock == null ? Clock.systemUTC() : clock, UplinkConsumer.version(), meters);
        if (fleet != null) {
            context.getRegistry().bind("fleet", fleet);
            context.getRegistry().bind("gatewayApi", new GatewayApi(gateways, fleet, config));
        }
        context.getRegistry().bind(COMPONENT, listener);
        HealthCheckRegistry checks = HealthCheckRegistry.get(context);
        if (checks != null) {
            checks.register(health);
        }
        watch.scheduleWithFixedDelay(this::look, LOOK_MS, LOOK_MS, TimeUnit.MILLISECONDS);
        if (table != null) {
            registry.scheduleWithFixedDelay(this::lookAtStore, REGISTRY_MS, REGISTRY_MS, TimeUnit.MILLISECONDS);
        }
    }

    private static ScheduledExecutorService thread(String name) {
        return Executors.newSingleThreadScheduledExecutor(task -> {
            Thread thread = new Thread(task, name);
            thread.setDaemon(true);
            return thread;
        });
    }

    private String replicaId() {
        return replica.id();
    }

    private static String host() {
        try {
            return InetAddress.getLocalHost().getHostName();
        } catch (UnknownHostException e) {
            return "unknown";
        }
    }

    private static HttpServerOptions serverOptions(Config config) {
        return new HttpServerOptions()
            .setWebSocketSubProtocols(List.of(Connection.PROTOCOL))
            // Frames stay at the default: a larger one than the peer's limit kills the connection.
            .setMaxWebSocketMessageSize(number(config, "uplink.max.frame.bytes"))
            // Batches come compressed; a second time costs more than it saves.
            .setPerFrameWebSocketCompressionSupported(false)
            .setPerMessageWebSocketCompressionSupported(false)
            // Whoever is cut off and does not answer is gone after a second all the same.
            .setWebSocketClosingTimeout(1)
            .setIdleTimeout(number(config, "uplink.idle.timeout.ms")).setIdleTimeoutUnit(TimeUnit.MILLISECONDS)
            .setMaxInitialLineLength(1024)
            .setMaxHeaderSize(8192);
    }

    private static int number(Config config, String key) {
        return Math.toIntExact(config.getLong(key));
    }

    private static Path path(Config config, String key) {
        return config.get(key).isEmpty() ? null : config.getPath(key);
    }

    private Audit audit() {
        return context.getRegistry().lookupByNameAndType("audit", Audit.class);
    }

    private void locked(String what, String gateway, String address) {
        LOG.warn("{} locked out after repeated failures: gateway id [{}], address {}", what, gateway, address);
        Counter.builder("caravan.uplink.lockouts").description("Ids and addresses locked out").tags("what", what).register(meters).increment();
        Audit log = audit();
        if (log != null) {
            // Off the event loop: it waits for the disk.
            watch.execute(() -> {
                try {
                    log.record("gateway.lockout", gateway, "ok", Map.of("what", what, "address", address));
                } catch (RuntimeException e) {
                    LOG.error("lock-out of [{}] from {} could not be written to the audit log", gateway, address, e);
                }
            });
        }
    }

    private void look() {
        try {
            if (tls.look()) {
                certificates = true;
            }
            if (file.look() && ++restless < RESTLESS_MAX) {
                return;
            }
            restless = 0;
            boolean all = certificates;
            certificates = false;
            sessions.recheck(all);
        } catch (RuntimeException e) {
            LOG.error("uplink could not look after its files", e);
        }
    }

    private void lookAtStore() {
        try {
            if (table.look()) {
                sessions.recheck(false);
            }
        } catch (RuntimeException e) {
            LOG.error("uplink could not look after the registry of gateways", e);
        }
    }

    @Override
    public void close() throws Exception {
        watch.shutdownNow();
        registry.shutdownNow();
        HealthCheckRegistry checks = HealthCheckRegistry.get(context);
        if (checks != null) {
            checks.unregister(health);
        }
        for (String bean : List.of("gatewayApi", "fleet", "gateways", "replica", "sessions", "uplinkServerOptions", COMPONENT)) {
            context.getRegistry().unbind(bean);
        }
        // The context keeps what it has resolved; the next start brings its own.
        context.removeComponent(COMPONENT);
        sessions.close();
        gauges.forEach(meters::remove);
        if (fleet != null) {
            fleet.close();
        }
    }

    /** Like a route file that does not load: what is good works on, and /readyz is red until somebody has mended the rest. */
    private final class Check extends AbstractHealthCheck {

        Check() {
            super("caravan", "uplink-trust");
        }

        @Override
        public boolean isLiveness() {
            return false;
        }

        @Override
        protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
            List<String> problems = new ArrayList<>(trust.problems());
            if (tls.problem() != null) {
                problems.add(tls.problem());
            }
            if (problems.isEmpty()) {
                builder.up();
            } else {
                builder.down().message(String.join("; ", problems));
            }
        }
    }
}
