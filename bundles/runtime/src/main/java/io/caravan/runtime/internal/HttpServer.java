// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Config;
import io.caravan.runtime.ConfigException;
import io.caravan.runtime.HttpGuard;
import io.caravan.runtime.Problem;
import io.caravan.runtime.internal.Refusals.Refusal;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.netty.handler.codec.http.TooLongHttpHeaderException;
import io.netty.handler.codec.http.TooLongHttpLineException;
import io.vertx.core.Handler;
import io.vertx.core.Vertx;
import io.vertx.core.http.HttpConnection;
import io.vertx.core.http.HttpServerOptions;
import io.vertx.core.http.HttpServerRequest;
import io.vertx.core.net.impl.ConnectionBase;
import io.vertx.ext.web.Router;
import io.vertx.ext.web.RoutingContext;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.sql.SQLException;
import java.sql.SQLTransientException;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.apache.camel.CamelContext;
import org.apache.camel.component.platform.http.PlatformHttpConstants;
import org.apache.camel.component.platform.http.vertx.VertxPlatformHttpRouter;
import org.apache.camel.component.platform.http.vertx.VertxPlatformHttpServer;
import org.apache.camel.component.platform.http.vertx.VertxPlatformHttpServerConfiguration;
import org.apache.camel.spi.Registry;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The container's one HTTP server, for {@code platform-http:} routes. Camel's own has no limits but one of the body's size, and
 * makes its options itself, so everything below the router is made here: HTTP/1.1 only, no CORS, no cookies, no uploads.
 */
final class HttpServer extends VertxPlatformHttpServer {

    private static final Logger LOG = LoggerFactory.getLogger(HttpServer.class);
    private static final long LOOK_MS = 200;
    private static final long WAIT_S = 10;
    private static final String GUARD = "httpAccess";

    private final Config config;
    private final HttpServerOptions options;
    private final TlsFiles tls;
    private final Refusals refusals;
    private final MeterRegistry meters;
    private final Set<HttpLine> lines = ConcurrentHashMap.newKeySet();
    private final Map<InetAddress, Integer> addresses = new ConcurrentHashMap<>();
    private final ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor(r -> {
        Thread thread = new Thread(r, "caravan-http");
        thread.setDaemon(true);
        return thread;
    });
    private volatile HttpLimits limits;
    private AutoCloseable changes;
    private Router router;
    private io.vertx.core.http.HttpServer server;

    private HttpServer(VertxPlatformHttpServerConfiguration configuration, Vertx vertx, Config config, MeterRegistry meters) {
        super(configuration);
        this.config = config;
        this.limits = HttpLimits.of(config);
        this.tls = TlsFiles.of(config, vertx);
        this.meters = meters;
        this.refusals = new Refusals(meters);
        this.options = new HttpServerOptions().setHost(configuration.getBindHost()).setPort(configuration.getBindPort())
                .setMaxHeaderSize((int) config.getLong("http.header.max.bytes"))
                .setMaxInitialLineLength((int) config.getLong("http.line.max.bytes"))
                .setHttp2ClearTextEnabled(false).setUseAlpn(false).setTcpKeepAlive(true)
                .setSslHandshakeTimeout(config.getLong("http.header.timeout.ms")).setSslHandshakeTimeoutUnit(TimeUnit.MILLISECONDS);
        if (tls != null) {
            tls.apply(options);
        }
        Gauge.builder("caravan.http.connections", lines, Set::size).description("Open HTTP connections").register(meters);
    }

    /**
     * Also binds the bean {@code adminAccess}.
     *
     * @return the server, listening on {@code http.port}; 0: any free port
     * @throws ConfigException the port cannot be had, a file of TLS cannot be read
     */
    static VertxPlatformHttpServer start(CamelContext context, Vertx vertx, Config config) throws Exception {
        String host = config.get("http.bind.host");
        int port = (int) config.getLong("http.port");
        // Camel wraps what a service throws when it starts: ask first.
        try (ServerSocket probe = new ServerSocket()) {
            probe.bind(new InetSocketAddress(host, port));
            // 0 is any free port; Camel finds its router by the number, so it cannot be left to the server.
            port = probe.getLocalPort();
        } catch (IOException e) {
            throw new ConfigException(List.of("http.port [" + port + "] cannot be listened on at http.bind.host [" + host
                    + "]: " + e.getMessage() + "; stop what uses the port, or change http.port (io.caravan.http.cfg, CARAVAN_HTTP_PORT or --http.port)"));
        }
        VertxPlatformHttpServerConfiguration configuration = new VertxPlatformHttpServerConfiguration();
        configuration.setBindHost(host);
        configuration.setBindPort(port);
        MeterRegistry meters = context.getRegistry().lookupByNameAndType("metricsRegistry", MeterRegistry.class);
        HttpServer server = new HttpServer(configuration, vertx, config, meters == null ? new SimpleMeterRegistry() : meters);
        server.setCamelContext(context);
        server.setVertx(vertx);
        context.getRegistry().bind("adminAccess", new AdminAccess(context, config));
        context.addService(server);
        // Binds itself, and is found by the component when the first route comes.
        context.addService(new HttpRoute.Engine(server.meters));
        return server;
    }

    @Override
    public io.vertx.core.http.HttpServer getServer() {
        return server;
    }

    @Override
    public int getPort() {
        return server == null ? super.getPort() : server.actualPort();
    }

    @Override
    protected void initializeServer() {
        router = Router.router(getVertx());
        List.of(400, 404, 405, 406, 408, 413, 415, 500, 501, 503).forEach(status -> router.errorHandler(status, this::failed));
        String name = VertxPlatformHttpRouter.getRouterNameFromPort((int) options.getPort());
        HttpBody body = new HttpBody(() -> limits, this::guard, refusals);
        getCamelContext().getRegistry().bind(name, new VertxPlatformHttpRouter(this, getVertx(), router, name) {
            @Override
            public Handler<RoutingContext> bodyHandler() {
                return body;
            }
        });
    }

    @Override
    protected void startServer() throws Exception {
        server = getVertx().createHttpServer(options).connectionHandler(this::connected).invalidRequestHandler(this::malformed)
                .exceptionHandler(e -> LOG.debug("An HTTP connection failed before it was accepted", e))
                .requestHandler(this::handle);
        server.listen().toCompletionStage().toCompletableFuture().get(WAIT_S, TimeUnit.SECONDS);
        changes = config.onChange(keys -> {
            if (keys.stream().anyMatch(key -> key.startsWith("http."))) {
                limits = HttpLimits.of(config);
            }
        });
        clock.scheduleWithFixedDelay(this::look, LOOK_MS, LOOK_MS, TimeUnit.MILLISECONDS);
        LOG.info("HTTP server listens on {}:{}{}", options.getHost(), server.actualPort(), tls == null ? "" : ", TLS");
    }

    @Override
    protected void stopServer() {
        clock.shutdownNow();
        try {
            if (changes != null) {
                changes.close();
            }
            if (server != null) {
                getCamelContext().removeComponent(PlatformHttpConstants.PLATFORM_HTTP_COMPONENT_NAME);
                server.close().toCompletionStage().toCompletableFuture().get(WAIT_S, TimeUnit.SECONDS);
            }
        } catch (Exception e) {
            LOG.warn("The HTTP server did not close cleanly", e);
        }
    }

    private HttpGuard guard() {
        Registry registry = getCamelContext().getRegistry();
        // Asked for each request, and most containers have none: not of all services there are.
        Object bean = registry instanceof DraftRegistry own ? own.own(GUARD) : registry.lookupByName(GUARD);
        return bean instanceof HttpGuard guard ? guard : null;
    }

    private void connected(HttpConnection connection) {
        HttpLine line = HttpLine.watch(connection, options, () -> limits, refusals);
        HttpLimits now = limits;
        int ofAddress = addresses.merge(line.peer(), 1, Integer::sum);
        lines.add(line);
        ((ConnectionBase) connection).channel().closeFuture().addListener(closed -> {
            lines.remove(line);
            addresses.computeIfPresent(line.peer(), (address, count) -> count == 1 ? null : count - 1);
        });
        if (lines.size() > now.connections()) {
            line.turnAway(Refusal.CONNECTIONS);
        } else if (ofAddress > now.addressConnections() && !now.proxies().contains(line.peer())) {
            line.turnAway(Refusal.ADDRESS_CONNECTIONS);
        }
    }

    private void handle(HttpServerRequest request) {
        secure(request);
        Refusal refusal = HttpRules.broken(request);
        if (refusal != null) {
            refuse(request, refusal);
            return;
        }
        Call call = Call.begin(request, limits.proxies(), refusals, tls);
        HttpGuard guard = guard();
        if (guard != null && call.path().startsWith(guard.prefix())) {
            int status = arrived(guard, call);
            if (status != 0) {
                request.response().setStatusCode(status).end();
                return;
            }
        }
        router.handle(request);
    }

    private static int arrived(HttpGuard guard, Call call) {
        try {
            return guard.arrived(call);
        } catch (RuntimeException e) {
            LOG.error("The guard of {} failed", guard.prefix(), e);
            return 500;
        }
    }

    private void malformed(HttpServerRequest request) {
        secure(request);
        Throwable cause = request.decoderResult().cause();
        refuse(request, cause instanceof TooLongHttpLineException ? Refusal.LINE_TOO_LONG
                : cause instanceof TooLongHttpHeaderException ? Refusal.HEADER_TOO_LARGE : Refusal.BAD_REQUEST);
    }

    private void refuse(HttpServerRequest request, Refusal refusal) {
        refusals.count(refusal);
        refusal.answer(request.response());
        // Where its body ends is not known, or not believed.
        HttpLine.of(request.connection()).end();
    }

    private static void secure(HttpServerRequest request) {
        request.response().putHeader("X-Content-Type-Options", "nosniff").putHeader("Cache-Control", "no-store");
    }

    /** What no route answered, or a route failed to. */
    private void failed(RoutingContext routing) {
        int status = routing.statusCode();
        String[] text = switch (status) {
            case 404 -> new String[] {"not_found", "there is nothing at this path"};
            case 405 -> new String[] {"method_not_allowed", "this path does not take that method"};
            case 406, 415 -> new String[] {"unsupported_content_type", "this path does not speak that content type"};
            case 500, 501, 503 -> new String[] {"internal_error", "the request failed; the log says why"};
            default -> new String[] {"bad_request", "the request is not understood"};
        };
        if (status == 404 || status == 405) {
            refusals.count(text[0]);
        }
        if (routing.response().ended()) {
            return;
        }
        if (String.valueOf(routing.request().path()).startsWith("/api/")) {
            String away = status == 500 ? away(routing.failure()) : null;
            if (away != null) {
                routing.response().putHeader("Retry-After", "5");
            }
            routing.response().setStatusCode(away != null ? 503 : status).putHeader("Content-Type", Problem.TYPE).end(away != null
                    ? Problem.json(503, "unavailable", null, away) : Problem.json(status, text[0], null, text[1]));
            return;
        }
        routing.response().setStatusCode(status).putHeader("Content-Type", "application/json").end(Refusals.json(text[0], text[1]));
    }

    /** @return what is told where a database was not there or ended the statement, by the exception or its SQLSTATE; null: it is not that */
    private static String away(Throwable failure) {
        for (Throwable cause = failure; cause != null; cause = cause.getCause() == cause ? null : cause.getCause()) {
            String state = cause instanceof SQLException e && e.getSQLState() != null ? e.getSQLState() : "";
            if (state.equals("57014")) {
                return "the store took too long for this; ask for less";
            }
            if (cause instanceof SQLTransientException || state.matches("(08|53|57P).*")) {
                return "the store cannot be reached now; try again";
            }
        }
        return null;
    }

    private void look() {
        try {
            long now = System.nanoTime();
            lines.forEach(line -> line.look(now));
            if (tls != null && tls.changed()) {
                renew();
            }
        } catch (RuntimeException e) {
            LOG.error("Could not look after the HTTP connections", e);
        }
    }

    private void renew() {
        String broken = tls.load();
        if (broken != null) {
            LOG.error("The HTTP server goes on with the certificates it has: {}", broken);
        } else {
            LOG.info("The HTTP server took its certificates anew");
        }
    }
}
