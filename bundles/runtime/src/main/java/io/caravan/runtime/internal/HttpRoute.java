// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.HttpFeed;
import io.micrometer.core.instrument.MeterRegistry;
import io.vertx.core.Context;
import io.vertx.core.Handler;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.HttpServerResponse;
import io.vertx.ext.web.RoutingContext;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import org.apache.camel.Exchange;
import org.apache.camel.ExchangePattern;
import org.apache.camel.Message;
import org.apache.camel.Processor;
import org.apache.camel.TypeConverter;
import org.apache.camel.component.platform.http.PlatformHttpEndpoint;
import org.apache.camel.component.platform.http.spi.PlatformHttpConsumer;
import org.apache.camel.component.platform.http.vertx.VertxPlatformHttpConsumer;
import org.apache.camel.component.platform.http.vertx.VertxPlatformHttpEngine;
import org.apache.camel.component.platform.http.vertx.VertxPlatformHttpRouter;
import org.apache.camel.spi.HeaderFilterStrategy;
import org.apache.camel.support.MessageHelper;
import org.apache.camel.support.ObjectHelper;
import org.apache.camel.support.http.HttpUtil;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The consumer of {@code platform-http:}. Camel's own holds a worker until the route is done, so that twenty requests that wait for
 * a commit are all there can be, and ends each answer. Here a route that waits holds no thread, and an answer may go on
 * ({@link HttpFeed}).
 */
final class HttpRoute extends VertxPlatformHttpConsumer {

    private static final Logger LOG = LoggerFactory.getLogger(HttpRoute.class);

    private final MeterRegistry registry;
    private volatile HttpMeters meters;

    private HttpRoute(PlatformHttpEndpoint endpoint, Processor processor, List<Handler<RoutingContext>> handlers, String router, MeterRegistry registry) {
        super(endpoint, processor, handlers, router);
        this.registry = registry;
    }

    /** Which route it is, its first exchange tells: Camel tells only the consumer around this one. */
    private void answered(Exchange exchange, int status, long begun) {
        HttpMeters known = meters;
        if (known == null) {
            String route = exchange.getFromRouteId();
            known = new HttpMeters(registry, route == null ? "none" : route);
            meters = route == null ? null : known;
        }
        known.answered(status, begun);
    }

    /** Makes such consumers. */
    static final class Engine extends VertxPlatformHttpEngine {
        private final MeterRegistry registry;

        Engine(MeterRegistry registry) {
            this.registry = registry;
        }

        @Override
        public PlatformHttpConsumer createConsumer(PlatformHttpEndpoint endpoint, Processor processor) {
            return new HttpRoute(endpoint, processor, getHandlers(), VertxPlatformHttpRouter.getRouterNameFromPort(getServerPort()),
                    registry);
        }
    }

    @Override
    protected void handleRequest(RoutingContext routing) {
        if (isSuspended()) {
            super.handleRequest(routing);
            return;
        }
        long begun = System.nanoTime();
        Context context = routing.vertx().getOrCreateContext();
        Exchange exchange = createExchange(false);
        exchange.setPattern(ExchangePattern.InOut);
        processHttpRequest(exchange, routing).onSuccess(read -> routing.vertx().executeBlocking(() -> {
            createUoW(exchange);
            getAsyncProcessor().process(exchange, sync -> context.runOnContext(go -> answer(routing, context, exchange, begun)));
            return null;
        }, false).onFailure(e -> context.runOnContext(go -> failed(routing, exchange, begun, e)))).onFailure(e -> failed(routing, exchange, begun, e));
    }

    private void answer(RoutingContext routing, Context context, Exchange exchange, long begun) {
        try {
            HttpServerResponse response = routing.response();
            if (response.ended() || response.closed()) {
                if (exchange.getMessage().getBody() instanceof HttpFeed feed) {
                    HttpAnswer.late(response, HttpLine.of(routing.request().connection()), context, feed);
                }
                done(exchange);
                return;
            }
            if (exchange.getException() != null) {
                int status = HttpUtil.determineResponseCode(exchange, null);
                answered(exchange, status, begun);
                routing.fail(status, exchange.getException());
                done(exchange);
                return;
            }
            Message message = exchange.getMessage();
            Object body = message.getBody();
            response.setStatusCode(HttpUtil.determineResponseCode(exchange, body));
            headers(routing, response, message);
            answered(exchange, response.getStatusCode(), begun);
            if (body instanceof HttpFeed feed) {
                HttpAnswer.begin(response, HttpLine.of(routing.request().connection()), context, feed);
            } else if (body == null) {
                routing.end();
            } else if (body instanceof Buffer buffer) {
                routing.end(buffer);
            } else {
                routing.end(Buffer.buffer(body instanceof String text ? text.getBytes(java.nio.charset.StandardCharsets.UTF_8)
                        : exchange.getContext().getTypeConverter().mandatoryConvertTo(byte[].class, exchange, body)));
            }
            done(exchange);
        } catch (Exception e) {
            failed(routing, exchange, begun, e);
        }
    }

    private void headers(RoutingContext routing, HttpServerResponse response, Message message) {
        String type = MessageHelper.getContentType(message);
        if (type != null) {
            response.putHeader("Content-Type", type);
        }
        HeaderFilterStrategy filter = getEndpoint().getHeaderFilterStrategy();
        if (filter == null) {
            return;
        }
        Exchange exchange = message.getExchange();
        TypeConverter converter = exchange.getContext().getTypeConverter();
        for (Map.Entry<String, Object> header : message.getHeaders().entrySet()) {
            // What is a part of the path is not given back.
            if (!routing.pathParams().containsKey(header.getKey())) {
                Iterator<?> values = ObjectHelper.createIterator(header.getValue(), null, true);
                HttpUtil.applyHeader(filter, exchange, values, converter, header.getKey(), (several, first) -> {
                    if (several != null) {
                        response.putHeader(header.getKey(), several);
                    } else if (first != null) {
                        response.putHeader(header.getKey(), first);
                    }
                });
            }
        }
    }

    private void failed(RoutingContext routing, Exchange exchange, long begun, Throwable failure) {
        answered(exchange, 500, begun);
        LOG.error("The request for {} failed", getEndpoint().getPath(), failure);
        routing.fail(500, failure);
        done(exchange);
    }

    private void done(Exchange exchange) {
        doneUoW(exchange);
        releaseExchange(exchange, false);
    }
}
