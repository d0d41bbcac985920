// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import io.caravan.uplink.internal.Connection;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.camel.Endpoint;
import org.apache.camel.support.DefaultComponent;

/**
 * {@code uplink:name}: one WebSocket over TLS to the cloud, protocol {@code caravan.v1}, for a consumer and any number
 * of producers.
 *
 * <p>The connection belongs to the consumer {@code uplink:name?url=...}: it exists while that consumer is started.
 * Producers {@code uplink:name} find it by name when they send; without it a send fails at once. This class is
 * thread-safe.
 */
public class UplinkComponent extends DefaultComponent {

    private final Map<String, Connection> connections = new ConcurrentHashMap<>();

    @Override
    protected Endpoint createEndpoint(String uri, String remaining, Map<String, Object> parameters) throws Exception {
        if (remaining == null || !remaining.matches("[A-Za-z0-9._-]{1,64}")) {
            throw new IllegalArgumentException("uplink name [" + remaining + "] must be 1 to 64 characters out of"
                + " A-Z a-z 0-9 . _ -, for example uplink:cloud");
        }
        UplinkEndpoint endpoint = new UplinkEndpoint(uri, this, remaining);
        setProperties(endpoint, parameters);
        return endpoint;
    }

    void register(String name, Connection connection) {
        if (connections.putIfAbsent(name, connection) != null) {
            throw new IllegalStateException("uplink [" + name + "] must have one consumer, and one is started already:"
                + " stop the other route, or give this one another name");
        }
    }

    void unregister(String name, Connection connection) {
        connections.remove(name, connection);
    }

    Connection connection(String name) throws UplinkClosedException {
        Connection connection = connections.get(name);
        if (connection == null) {
            throw new UplinkClosedException("uplink [" + name + "] has no consumer: start the route that reads from it");
        }
        return connection;
    }
}
