// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Config;
import io.caravan.runtime.ConfigException;
import io.vertx.core.Vertx;
import io.vertx.ext.web.RoutingContext;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.util.List;
import org.apache.camel.CamelContext;
import org.apache.camel.component.platform.http.vertx.VertxPlatformHttpRouter;
import org.apache.camel.component.platform.http.vertx.VertxPlatformHttpServer;
import org.apache.camel.component.platform.http.vertx.VertxPlatformHttpServerConfiguration;

/** The container's one HTTP server, for {@code platform-http:} routes. */
final class HttpServer {

    private HttpServer() {
    }

    /**
     * @return the server, listening on {@code http.port}; 0: any free port
     * @throws ConfigException the port cannot be had
     */
    static VertxPlatformHttpServer start(CamelContext context, Vertx vertx, Config config) throws Exception {
        String host = config.get("http.bind.host");
        int port = (int) config.getLong("http.port");
        // Camel's server only logs that it could not listen, and goes on: ask first.
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
        configuration.setMaxBodySize(config.getLong("http.max.bytes"));
        configuration.getBodyHandler().setDeleteUploadedFilesOnEnd(true);
        VertxPlatformHttpServer server = new VertxPlatformHttpServer(configuration);
        server.setCamelContext(context);
        server.setVertx(vertx);
        context.addService(server);
        VertxPlatformHttpRouter.lookup(context, VertxPlatformHttpRouter.getRouterNameFromPort(port))
                .route().failureHandler(HttpServer::tooLarge);
        return server;
    }

    /** Answered here, in the form of all other refusals; else Vert.x logs a stack for each such request. */
    private static void tooLarge(RoutingContext request) {
        if (request.statusCode() != 413 || request.response().ended()) {
            request.next();
            return;
        }
        request.response().setStatusCode(413).putHeader("Content-Type", "application/json").putHeader("Connection", "close")
                .end("{\"error\":\"invalid_payload\",\"reason\":\"too_large\",\"message\":\"the body exceeds http.max.bytes\"}");
    }
}
