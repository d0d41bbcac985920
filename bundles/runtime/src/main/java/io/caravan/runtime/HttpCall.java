// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import io.caravan.runtime.internal.Call;
import java.util.List;
import org.apache.camel.Exchange;

/**
 * A request to the container's HTTP server as the connection and its header tell it, whatever a route did to the headers of
 * its exchange. Thread-safe.
 */
public interface HttpCall {

    /**
     * @return the request that the exchange came from
     * @throws IllegalStateException the exchange does not come from the container's HTTP server
     */
    static HttpCall of(Exchange exchange) {
        return Call.of(exchange);
    }

    /** @return for example {@code POST} */
    String method();

    /** @return as it was sent, without the query; the server has refused what could be read in two ways */
    String path();

    /** @return all values of that header, in order, whatever its case */
    List<String> headers(String name);

    /**
     * @return numeric address of the client: of the peer, or, if that is one of {@code http.trusted.proxies}, of the last hop
     *         before them
     */
    String address();

    /** @return whether the client is on this machine: a loopback peer, nothing forwarded, and no foreign name asked for */
    boolean local();

    /** @return whether a secret in the header was readable on a network: false over TLS, on this machine, from a trusted proxy */
    boolean exposed();

    boolean tls();

    /** @return CN of the client certificate, which the server verified; null without one */
    String certificateName();

    /** Sets a header of the answer, whatever a route does to the headers of its message; that of a route, if it has one of that name, counts. */
    void answer(String name, String value);

    /** Counts that the request is refused ({@code caravan_http_refused_total}). @param reason of a closed vocabulary */
    void refused(String reason);

    /** Keeps something with the request, one object per class. */
    void attach(Object object);

    /** @return what was attached, or null */
    <T> T attachment(Class<T> type);
}
