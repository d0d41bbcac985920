// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Config;
import io.caravan.runtime.ConfigException;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** What a client of the HTTP server may take: the keys {@code http.*} that change while it runs. Times in nanoseconds. */
record HttpLimits(long maxBytes, long headerNs, long requestNs, long idleNs, int connections, int addressConnections,
        int pipeline, Networks proxies) {

    /** @throws ConfigException {@code http.trusted.proxies} holds something else than networks */
    static HttpLimits of(Config config) {
        try {
            return new HttpLimits(config.getLong("http.max.bytes"), nanos(config, "http.header.timeout.ms"),
                    nanos(config, "http.request.timeout.ms"), nanos(config, "http.idle.timeout.ms"),
                    (int) config.getLong("http.connections.max"), (int) config.getLong("http.address.connections.max"),
                    (int) config.getLong("http.pipeline.max"), new Networks(config.getList("http.trusted.proxies")));
        } catch (IllegalArgumentException e) {
            throw new ConfigException(List.of("http.trusted.proxies: " + e.getMessage()
                    + "; change it (io.caravan.http.cfg, CARAVAN_HTTP_TRUSTED_PROXIES or --http.trusted.proxies)"));
        }
    }

    private static long nanos(Config config, String key) {
        return TimeUnit.MILLISECONDS.toNanos(config.getLong(key));
    }
}
