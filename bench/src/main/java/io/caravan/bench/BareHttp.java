// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.IOException;
import java.net.InetSocketAddress;

import com.sun.net.httpserver.HttpServer;

/**
 * The floor of boot and memory: the smallest JVM that answers {@code GET /readyz} with 200. What a gateway takes beyond it
 * is Karaf, Camel, the store and the routes. Not a subcommand, so that the command line's classes are not counted.
 */
public final class BareHttp {
    private BareHttp() { }

    /**
     * Serves until the process is ended.
     *
     * @param args the port on 127.0.0.1
     * @throws IOException the port is taken
     */
    public static void main(String[] args) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 0);
        server.createContext("/readyz", exchange -> {
            exchange.sendResponseHeaders(200, -1);
            exchange.close();
        });
        server.start();
    }
}
