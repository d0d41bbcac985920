// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import io.netty.handler.ssl.NotSslRecordException;
import io.vertx.core.Vertx;
import io.vertx.core.http.HttpConnection;
import io.vertx.core.http.HttpHeaders;
import io.vertx.core.http.HttpMethod;
import io.vertx.core.http.HttpServer;
import io.vertx.core.http.HttpServerOptions;
import io.vertx.core.http.HttpServerRequest;
import io.vertx.ext.web.Router;
import io.vertx.ext.web.RoutingContext;
import java.security.cert.CertificateException;
import java.security.cert.X509Certificate;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLPeerUnverifiedException;
import javax.net.ssl.SSLSession;
import org.apache.camel.component.vertx.websocket.VertxWebsocketComponent;
import org.apache.camel.component.vertx.websocket.VertxWebsocketHost;
import org.apache.camel.component.vertx.websocket.VertxWebsocketHostConfiguration;
import org.apache.camel.component.vertx.websocket.VertxWebsocketHostKey;
import org.apache.camel.spi.annotations.Component;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Component {@code uplink-server} of the cloud, camel-vertx-websocket with a door in front: until a peer is known to be a gateway it gets a place
 * (bounded), a deadline, so many tries, and no WebSocket. The stock component has none of that: it upgrades everybody, never
 * closes a peer that sends its handshake byte by byte, and copies the query over the exchange's headers (CVE-2026-46726).
 *
 * <p>Answers before the upgrade: 400 not a WebSocket handshake or one with a query, 401 gateway id and credential do not match (always
 * the same, whatever was wrong), 404 another path, 429 with {@code Retry-After} too fast or locked out. The connection is closed
 * after each.
 *
 * <p>One server for one route: the route of the uplink is the only one with a WebSocket consumer in the cloud. This class is
 * thread-safe.
 */
// The annotation: its options are set by the generated code of the component of that name.
@Component("vertx-websocket")
public final class Listener extends VertxWebsocketComponent {

    private static final Logger LOG = LoggerFactory.getLogger(Listener.class);
    private static final String PREFIX = "/uplink/";
    private static final String BEARER = "Bearer ";

    /** {@code handshakeMs}: time from accept to upgrade; {@code strangersMax}: connections that are not gateways yet. */
    public record Options(long handshakeMs, int strangersMax) { }

    /** Told of each lock-out, on an event loop. */
    public interface Lockouts {
        void locked(String what, String gateway, String address);
    }

    private final Options options;
    private final Trust gateways;
    private final ServerTls tls;
    private final Limits limits;
    private final Refusals refusals;
    private final Lockouts lockouts;
    /** Accepted and not known yet, with the timer that ends it. */
    private final Map<HttpConnection, Long> strangers = new ConcurrentHashMap<>();

    public Listener(Options options, Trust gateways, ServerTls tls, Limits limits, Refusals refusals, Lockouts lockouts) {
        this.options = options;
        this.gateways = gateways;
        this.tls = tls;
        this.limits = limits;
        this.refusals = refusals;
        this.lockouts = lockouts;
    }

    @Override
    protected VertxWebsocketHost createVertxWebsocketHost(VertxWebsocketHostConfiguration configuration, VertxWebsocketHostKey key) {
        // A router of its own: the stock component takes the one router it finds in the registry, which is the HTTP server's, and so
        // offers the uplink on that port, without TLS, and the HTTP server's paths on this one.
        return new Host(new VertxWebsocketHostConfiguration(configuration.getVertx(), Router.router(configuration.getVertx()),
            configuration.getServerOptions(), null), key);
    }

    /** @return {@link ServerTls#problem} */
    public String tlsProblem() {
        return tls.problem();
    }

    /** @return how many connections are open that are not known to be gateways' */
    public int strangers() {
        return strangers.size();
    }

    /** What a handshake shows, with the token's hash instead of the token. */
    public static GatewaysFile.Shown shown(List<String> authorization, SSLSession session) {
        String token = authorization.size() == 1 && authorization.get(0).regionMatches(true, 0, BEARER, 0, BEARER.length())
            ? authorization.get(0).substring(BEARER.length()).strip() : "";
        X509Certificate[] chain = certificates(session);
        return GatewaysFile.Shown.of(token.isEmpty() ? null : token, chain == null ? null : ServerTls.commonName(chain[0]),
            chain == null ? null : chain[0].getSerialNumber().toString(16));
    }

    /** @return the peer's certificates; null: it showed none */
    public static X509Certificate[] certificates(SSLSession session) {
        try {
            return session != null && session.getPeerCertificates() instanceof X509Certificate[] chain && chain.length > 0 ? chain : null;
        } catch (SSLPeerUnverifiedException e) {
            return null;
        }
    }

    private void accepted(Vertx vertx, HttpConnection connection) {
        if (strangers.size() >= options.strangersMax) {
            refusals.refused("too_many_connections", null, connection.remoteAddress().hostAddress(), null);
            connection.close();
            return;
        }
        strangers.put(connection, vertx.setTimer(options.handshakeMs, fired -> {
            if (strangers.remove(connection) != null) {
                refusals.refused("handshake_timeout", null, connection.remoteAddress().hostAddress(),
                    "no WebSocket within " + options.handshakeMs + " ms");
                connection.close();
            }
        }));
        connection.closeHandler(closed -> known(vertx, connection));
    }

    private void known(Vertx vertx, HttpConnection connection) {
        Long timer = strangers.remove(connection);
        if (timer != null) {
            vertx.cancelTimer(timer);
        }
    }

    /** Before there is HTTP: TLS failed. */
    private void failed(Throwable error) {
        for (Throwable t = error; t != null; t = t.getCause()) {
            if (t instanceof CertificateException) {
                // Counted where it was checked.
                return;
            }
            if (t instanceof NotSslRecordException) {
                refusals.refused("plaintext", null, null, "this port speaks TLS only");
                return;
            }
            if (t.getClass().getSimpleName().equals("SslHandshakeTimeoutException")) {
                refusals.refused("handshake_timeout", null, null, "no TLS within " + options.handshakeMs + " ms");
                return;
            }
        }
        if (error instanceof SSLException) {
            refusals.refused("tls", null, null, String.valueOf(error.getMessage()));
        } else {
            // Somebody who went away, before or after the handshake.
            LOG.debug("uplink connection failed", error);
        }
    }

    private void guard(RoutingContext routing) {
        HttpServerRequest request = routing.request();
        String address = request.remoteAddress().hostAddress();
        String path = request.path() == null ? "" : request.path();
        String gateway = path.substring(path.lastIndexOf('/') + 1);
        String claimed = Frames.isId(gateway) ? gateway : "?";
        // Looked at first, and cheap beside the TLS before it: whoever shows the right credential is not held up by others behind its address.
        X509Certificate[] chain = certificates(request.sslSession());
        // Asked again: a TLS session that is resumed does not check the certificate it began with.
        String refusal = chain == null ? null : tls.refusal(chain);
        if (refusal == null) {
            refusal = gateways.decide(claimed, shown(request.headers().getAll(HttpHeaders.AUTHORIZATION), request.sslSession())).refusal();
        }
        long locked = limits.lockedMs(address, claimed);
        if (refusal != null) {
            locked = Math.max(locked, limits.lockedMs(address));
        }
        // Who is locked out counts as a stranger, so that the answer does not tell whether the guess was right.
        if (!(refusal == null && locked == 0 ? limits.mayReturn(claimed) : limits.mayTry(address))) {
            refuse(request, 429, "rate", claimed, "too_many_requests", "too many handshakes", 1_000);
        } else if (!path.equals(PREFIX + gateway)) {
            refuse(request, 404, "bad_request", null, "not_found", "there is nothing here", 0);
        } else if (request.method() != HttpMethod.GET || !request.headers().contains(HttpHeaders.UPGRADE, "websocket", true)
            || request.query() != null) {
            refuse(request, 400, "bad_request", claimed, "bad_request", "a WebSocket handshake without query is expected", 0);
        } else if (locked > 0) {
            refuse(request, 429, "locked_out", claimed, "too_many_requests", "too many failures", locked);
        } else if (refusal != null) {
            String lock = limits.failed(address, claimed);
            if (lock != null) {
                lockouts.locked(lock, claimed, address);
            }
            refuse(request, 401, refusal, claimed, "unauthorized", "gateway id and credential do not match", 0);
        } else {
            limits.succeeded(address, claimed);
            known(routing.vertx(), request.connection());
            routing.next();
        }
    }

    private void refuse(HttpServerRequest request, int status, String reason, String gateway, String error, String message, long retryMs) {
        refusals.refused(reason, gateway, request.remoteAddress().hostAddress(), null);
        request.response().setStatusCode(status).putHeader("Content-Type", "application/json").putHeader("Connection", "close");
        if (status == 401) {
            request.response().putHeader("WWW-Authenticate", "Bearer");
        } else if (retryMs > 0) {
            request.response().putHeader("Retry-After", Long.toString((retryMs + 999) / 1_000));
        }
        request.response().end("{\"error\":\"" + error + "\",\"message\":\"" + message + "\"}")
            .onComplete(written -> request.connection().close());
    }

    /** As the one it extends, with our own server. */
    private final class Host extends VertxWebsocketHost {

        private final VertxWebsocketHostConfiguration configuration;
        private final VertxWebsocketHostKey key;
        private HttpServer server;

        Host(VertxWebsocketHostConfiguration configuration, VertxWebsocketHostKey key) {
            super(getCamelContext(), configuration, key);
            this.configuration = configuration;
            this.key = key;
            configuration.getRouter().route().order(Integer.MIN_VALUE).handler(Listener.this::guard);
        }

        @Override
        public void start() throws Exception {
            if (server != null) {
                return;
            }
            Vertx vertx = configuration.getVertx();
            HttpServer made = vertx.createHttpServer(tls.apply(new HttpServerOptions(configuration.getServerOptions())))
                .connectionHandler(connection -> accepted(vertx, connection))
                .exceptionHandler(Listener.this::failed)
                .invalidRequestHandler(request -> {
                    refusals.refused("bad_request", null, request.remoteAddress().hostAddress(), "not HTTP, or a line or header too long");
                    HttpServerRequest.DEFAULT_INVALID_REQUEST_HANDLER.handle(request);
                })
                .requestHandler(configuration.getRouter());
            made.listen(key.getPort(), key.getHost()).toCompletionStage().toCompletableFuture().get(30, TimeUnit.SECONDS);
            server = made;
            LOG.info("uplink listens on {}:{}", key.getHost(), made.actualPort());
        }

        @Override
        public void stop() throws java.util.concurrent.ExecutionException, InterruptedException {
            HttpServer closing = server;
            server = null;
            if (closing != null) {
                try {
                    closing.close().toCompletionStage().toCompletableFuture().get(10, TimeUnit.SECONDS);
                } catch (java.util.concurrent.TimeoutException e) {
                    LOG.warn("uplink port {}:{} was not closed within 10 s", key.getHost(), key.getPort());
                }
            }
            super.stop();
        }

        @Override
        public int getPort() {
            return server == null ? super.getPort() : server.actualPort();
        }
    }
}
