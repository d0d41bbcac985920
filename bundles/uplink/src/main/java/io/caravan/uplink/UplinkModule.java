// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import io.caravan.uplink.internal.Connection;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.composite.CompositeMeterRegistry;
import io.vertx.core.http.HttpServerOptions;
import io.vertx.core.net.PemKeyCertOptions;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.camel.CamelContext;
import org.apache.camel.support.CamelContextHelper;

/**
 * Gateway: bean {@code uplinkBatch}. Cloud: beans {@code sessions} and {@code uplinkServerOptions}. The uplink:
 * component itself needs no module.
 */
public final class UplinkModule implements Module {

    @Override
    public AutoCloseable start(CamelContext context, Config config) throws Exception {
        if (!config.get("container.role").equals("cloud")) {
            context.getRegistry().bind("uplinkBatch", new Batch());
            return () -> context.getRegistry().unbind("uplinkBatch");
        }
        MeterRegistry meters = CamelContextHelper.lookup(context, "metricsRegistry", MeterRegistry.class);
        HttpServerOptions server = serverOptions(config);
        Sessions sessions = new Sessions(config.getPath("uplink.gateways.file"),
            Math.toIntExact(config.getLong("uplink.max.frame.bytes")),
            Math.toIntExact(config.getLong("uplink.max.inflated.bytes")),
            Math.toIntExact(config.getLong("uplink.max.batch.rows")),
            Math.toIntExact(config.getLong("uplink.sessions.max")),
            meters == null ? new CompositeMeterRegistry() : meters);
        context.getRegistry().bind("uplinkServerOptions", server);
        context.getRegistry().bind("sessions", sessions);
        return () -> {
            context.getRegistry().unbind("sessions");
            context.getRegistry().unbind("uplinkServerOptions");
            sessions.close();
        };
    }

    private static HttpServerOptions serverOptions(Config config) {
        return new HttpServerOptions()
            .setSsl(true)
            .setKeyCertOptions(new PemKeyCertOptions()
                .addCertPath(readable(config, "uplink.tls.cert", "certificate chain"))
                .addKeyPath(readable(config, "uplink.tls.key", "private key (PKCS#8)")))
            .setEnabledSecureTransportProtocols(Set.of("TLSv1.2", "TLSv1.3"))
            .setSslHandshakeTimeout(10).setSslHandshakeTimeoutUnit(TimeUnit.SECONDS)
            .setUseAlpn(false)
            .setWebSocketSubProtocols(List.of(Connection.PROTOCOL))
            // Frames stay at the default: a larger one than the peer's limit kills the connection.
            .setMaxWebSocketMessageSize(Math.toIntExact(config.getLong("uplink.max.frame.bytes")))
            // Batches come compressed; a second time costs more than it saves.
            .setPerFrameWebSocketCompressionSupported(false)
            .setPerMessageWebSocketCompressionSupported(false)
            .setIdleTimeout(Math.toIntExact(config.getLong("uplink.idle.timeout.ms"))).setIdleTimeoutUnit(TimeUnit.MILLISECONDS)
            .setMaxInitialLineLength(1024)
            .setMaxHeaderSize(8192);
    }

    private static String readable(Config config, String key, String what) {
        Path path = config.getPath(key);
        if (path == null || !Files.isRegularFile(path) || !Files.isReadable(path)) {
            throw new IllegalArgumentException(key + " [" + path + "] must be a readable PEM file with the cloud's " + what
                + ": the uplink is never served without TLS");
        }
        return path.toString();
    }
}
