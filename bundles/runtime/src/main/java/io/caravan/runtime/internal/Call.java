// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.HttpCall;
import io.vertx.core.Context;
import io.vertx.core.http.HttpServerRequest;
import io.vertx.core.http.impl.HttpServerRequestInternal;
import java.net.InetAddress;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.camel.Exchange;
import org.apache.camel.component.platform.http.vertx.HttpMessage;

/** The server's side of {@link HttpCall}; kept in the local data of the request's Vert.x context. */
public final class Call implements HttpCall {

    /** Any of these says that somebody forwarded the request, so that the peer is not the client. */
    private static final List<String> FORWARDED = List.of("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
            "X-Real-IP", "Via");

    private final HttpServerRequest request;
    private final String path;
    private final Refusals refusals;
    private final InetAddress peer;
    private final boolean proxied;
    private final String address;
    private final String certificateName;
    private final Map<Class<?>, Object> attached = new ConcurrentHashMap<>(4);

    private Call(HttpServerRequest request, Networks proxies, Refusals refusals, TlsFiles tls) {
        this.request = request;
        this.path = rawPath(request.uri());
        this.refusals = refusals;
        this.peer = Networks.peer(request.connection());
        this.proxied = proxies.contains(peer);
        InetAddress client = proxied ? proxies.client(peer, request.headers().getAll("X-Forwarded-For")) : peer;
        this.address = Networks.text(client);
        this.certificateName = request.isSSL() ? tls.clientName(request.sslSession()) : null;
    }

    /** @param tls null for plain HTTP */
    static Call begin(HttpServerRequest request, Networks proxies, Refusals refusals, TlsFiles tls) {
        Call call = new Call(request, proxies, refusals, tls);
        context(request).putLocal(Call.class, call);
        return call;
    }

    static Call of(HttpServerRequest request) {
        return context(request).getLocal(Call.class);
    }

    /** See {@link HttpCall#of}. */
    public static HttpCall of(Exchange exchange) {
        Call call = exchange.getMessage() instanceof HttpMessage message ? of(message.getRequest()) : null;
        if (call == null) {
            throw new IllegalStateException("the exchange does not come from the container's HTTP server: call this in a route"
                    + " from platform-http, before anything replaces the message");
        }
        return call;
    }

    private static Context context(HttpServerRequest request) {
        return ((HttpServerRequestInternal) request).context();
    }

    /** Not {@code request.path()}: Vert.x takes it out of the URI again for each call. */
    static String rawPath(String uri) {
        int end = uri.indexOf('?');
        return end < 0 ? uri : uri.substring(0, end);
    }

    @Override
    public String method() {
        return request.method().name();
    }

    @Override
    public String path() {
        return path;
    }

    @Override
    public List<String> headers(String name) {
        return request.headers().getAll(name);
    }

    @Override
    public String address() {
        return address;
    }

    @Override
    public boolean local() {
        return peer.isLoopbackAddress() && !proxied && forwarded() == null && ownName(request.getHeader("Host"));
    }

    @Override
    public boolean exposed() {
        return !tls() && !peer.isLoopbackAddress() && !proxied;
    }

    @Override
    public boolean tls() {
        return request.isSSL();
    }

    @Override
    public String certificateName() {
        return certificateName;
    }

    @Override
    public void answer(String name, String value) {
        request.response().putHeader(name, value);
    }

    @Override
    public void refused(String reason) {
        refusals.count(reason);
    }

    @Override
    public void attach(Object object) {
        attached.put(object.getClass(), object);
    }

    @Override
    public <T> T attachment(Class<T> type) {
        return type.cast(attached.get(type));
    }

    private String forwarded() {
        return FORWARDED.stream().filter(request.headers()::contains).findFirst().orElse(null);
    }

    /**
     * Whether the client asked for an address or localhost. A page of the internet whose name was pointed to 127.0.0.1 makes a
     * browser on this machine ask for that name.
     */
    static boolean ownName(String host) {
        if (host == null) {
            return true;
        }
        String name = host.replaceFirst(":\\d*$", "");
        return name.equalsIgnoreCase("localhost") || name.matches("\\d{1,3}(\\.\\d{1,3}){3}") || name.matches("\\[[0-9A-Fa-f:.]+]");
    }
}
