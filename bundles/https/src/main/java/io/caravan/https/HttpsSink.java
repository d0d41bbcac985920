// SPDX-License-Identifier: Apache-2.0
package io.caravan.https;

import io.caravan.wal.SinkException;
import io.caravan.wal.SinkException.Kind;
import io.vertx.core.AsyncResult;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.HttpMethod;
import io.vertx.core.http.HttpVersion;
import io.vertx.ext.web.client.HttpRequest;
import io.vertx.ext.web.client.HttpResponse;
import io.vertx.ext.web.client.WebClient;
import io.vertx.ext.web.client.WebClientOptions;
import java.net.URI;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.camel.Exchange;
import org.apache.camel.component.vertx.http.DefaultVertxHttpBinding;
import org.apache.camel.component.vertx.http.VertxHttpEndpoint;
import org.apache.camel.http.base.HttpOperationFailedException;

/**
 * What {@code vertx-http:} sends, whom it trusts, and what it makes of an answer, when a sink posts a batch: parameter
 * {@code vertxHttpBinding}.
 *
 * <p>Java because the component's own binding does otherwise: it lets headers of the message choose URI, path, query and
 * method (and resolves {@code {{..}}} in them, see CVE-2026-78164; that is so in camel-vertx-http 4.14 too), sends every
 * header that is not filtered, follows redirects, keeps an answer of any length, knows a token only as a literal, and
 * reads certificates once.
 *
 * <p>Here the request goes by POST to the endpoint's URI and nowhere else; it has the named headers and the token of the
 * token file as it is at that moment; certificate files that have changed are read again. TLS 1.2 or later, the host name
 * is verified, HTTP/1.1. Of an answer 4 KiB are kept, only to be quoted in an error. It must begin within the answer timeout,
 * never pause for longer, and is cut off half an answer timeout after it began however much there is to come. The message is
 * left as it is.
 *
 * <p>2xx is delivered. What is said otherwise becomes an exception that bean {@code sinks} understands. Thread-safe once
 * its properties are set; each instance has a connection pool of its own.
 */
public final class HttpsSink extends DefaultVertxHttpBinding implements AutoCloseable {
    private static final int CONNECTIONS = 2; // a sink has at most two batches on their way, live and historical
    private static final int KEEP_ALIVE_S = 30;

    private final Access access = new Access();
    private Set<String> headers = Set.of();
    private int connectTimeoutMs = 10_000;
    private int answerTimeoutMs = 20_000;

    private WebClient client;      // guarded by this, as the next
    private List<String> stamps;   // of the certificate files the client has read

    /** @param prefix of the configuration keys that errors name, for example {@code sink.analytics} */
    public void setKeys(String prefix) {
        access.keys = prefix;
    }

    /** @param allowed whether http is taken when the host is a loopback address; never for any other */
    public void setLoopbackHttp(boolean allowed) {
        access.loopbackHttp = allowed;
    }

    /** @param file whose content, without white space around it, is sent as bearer token; empty: none is sent */
    public void setTokenFile(String file) {
        access.tokenFile = Access.path(file);
    }

    /** @param file PEM, the only authorities the receiver's certificate may come from; empty: those of the JVM */
    public void setCaFile(String file) {
        access.caFile = Access.path(file);
    }

    /** @param file PEM, the client's certificate chain; empty: none */
    public void setCertFile(String file) {
        access.certFile = Access.path(file);
    }

    /** @param file PEM, PKCS#8, not encrypted */
    public void setKeyFile(String file) {
        access.keyFile = Access.path(file);
    }

    /** @param names of the message's headers that are sent, comma-separated */
    public void setHeaders(String names) {
        headers = Set.of(names.trim().split("\\s*,\\s*"));
    }

    /** @param ms for TCP connection, and again for the TLS handshake */
    public void setConnectTimeoutMs(int ms) {
        connectTimeoutMs = ms;
    }

    /** @param ms for the answer to begin, the upload included */
    public void setAnswerTimeoutMs(int ms) {
        answerTimeoutMs = ms;
    }

    /**
     * @throws SinkException of kind CONFIGURATION: the URI is not allowed, or a file it needs is not there
     */
    @Override
    public HttpRequest<Buffer> prepareHttpRequest(VertxHttpEndpoint endpoint, Exchange exchange) throws SinkException {
        URI uri = access.checked(endpoint.getConfiguration().getHttpUri());
        WebClient current = client(endpoint.getComponent().getVertx());
        HttpRequest<Buffer> request = current.requestAbs(HttpMethod.POST, uri.toString())
                .followRedirects(false)
                .connectTimeout(2L * connectTimeoutMs)
                .idleTimeout(answerTimeoutMs)
                .as(new BoundedAnswer(answerTimeoutMs / 2, () -> discard(current)));
        for (String name : headers) {
            String value = exchange.getMessage().getHeader(name, String.class);
            if (value != null) {
                request.putHeader(name, value);
            }
        }
        String token = access.token();
        if (token != null) {
            request.putHeader("Authorization", "Bearer " + token);
        }
        return request;
    }

    @Override
    public void handleResponse(VertxHttpEndpoint endpoint, Exchange exchange, AsyncResult<HttpResponse<Buffer>> response) {
        URI uri = endpoint.getConfiguration().getHttpUri();
        if (response.failed()) {
            exchange.setException(access.failure(uri, response.cause()));
        } else if (response.result().statusCode() / 100 != 2) {
            exchange.setException(refusal(uri, response.result()));
        }
    }

    /** Closes its connections; a request that is on its way fails. */
    @Override
    public synchronized void close() {
        if (client != null) {
            client.close();
            client = null;
        }
    }

    // -- request ------------------------------------------------------------------------------------------------------

    private synchronized WebClient client(Vertx vertx) throws SinkException {
        List<String> now = access.stamps();
        if (client == null || !now.equals(stamps)) {
            WebClientOptions options = options();
            close();
            client = WebClient.create(vertx, options);
            stamps = now;
        }
        return client;
    }

    private synchronized void discard(WebClient old) {
        if (client == old) {
            client = null;
        }
        old.close();
    }

    private WebClientOptions options() throws SinkException {
        return access.secure(new WebClientOptions()
                .setUserAgent("caravan").setFollowRedirects(false).setProtocolVersion(HttpVersion.HTTP_1_1).setUseAlpn(false)
                .setMaxPoolSize(CONNECTIONS).setKeepAliveTimeout(KEEP_ALIVE_S).setConnectTimeout(connectTimeoutMs), connectTimeoutMs);
    }

    // -- answer -------------------------------------------------------------------------------------------------------

    private Exception refusal(URI uri, HttpResponse<Buffer> response) {
        int status = response.statusCode();
        Map<String, String> all = new HashMap<>();
        response.headers().forEach(all::put);
        String said = Access.quote(response.body() == null ? null : response.body().toString());
        HttpOperationFailedException refusal = new Refusal(uri, response, all, said);
        String message = "HTTP status " + status + ": " + refusal.getMessage();
        if (status == 409) {
            return new SinkException(Kind.TRANSIENT, "throttled", message + "; taken as: the same key is being worked on", 0, refusal);
        }
        // These are about the request, not about what is in it: to take them for refused records would empty the log into dead letters.
        if (status / 100 == 4 && !Set.of(400, 401, 403, 404, 405, 407, 408, 413, 422, 425, 429).contains(status)) {
            return new SinkException(Kind.CONFIGURATION, "misconfigured", message + "; check " + access.keys + ".url", 0, refusal);
        }
        return refusal;
    }

    /** Says what was answered; the component's exception says only that it failed. */
    private static final class Refusal extends HttpOperationFailedException {
        private static final long serialVersionUID = 1L;
        private final String message;

        Refusal(URI uri, HttpResponse<Buffer> response, Map<String, String> headers, String said) {
            super(uri.toString(), response.statusCode(), response.statusMessage(), null, headers, said);
            message = uri + " answered [" + said + "]";
        }

        @Override
        public String getMessage() {
            return message;
        }
    }
}
