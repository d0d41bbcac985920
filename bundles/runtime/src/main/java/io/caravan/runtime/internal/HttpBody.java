// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.HttpGuard;
import io.caravan.runtime.internal.Refusals.Refusal;
import io.vertx.core.Handler;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.HttpServerRequest;
import io.vertx.ext.web.RoutingContext;
import io.vertx.ext.web.impl.RoutingContextInternal;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Reads a request's body, if it may be read at all. In place of Vert.x's BodyHandler, which reads first and decodes forms and
 * writes uploads to the disk, of anybody. Stateless but for its collaborators; runs on event loops.
 */
final class HttpBody implements Handler<RoutingContext> {

    private static final Logger LOG = LoggerFactory.getLogger(HttpBody.class);

    /** Taken at once; the rest as it comes, so that announcing a body costs us nothing. */
    private static final int FIRST_BYTES = 4096;

    private final Supplier<HttpLimits> limits;
    private final Supplier<HttpGuard> guard;
    private final Refusals refusals;

    HttpBody(Supplier<HttpLimits> limits, Supplier<HttpGuard> guard, Refusals refusals) {
        this.limits = limits;
        this.guard = guard;
        this.refusals = refusals;
    }

    @Override
    public void handle(RoutingContext routing) {
        RoutingContextInternal internal = (RoutingContextInternal) routing;
        if (internal.seenHandler(RoutingContextInternal.BODY_HANDLER)) {
            routing.next();
            return;
        }
        internal.visitHandler(RoutingContextInternal.BODY_HANDLER);
        HttpServerRequest request = routing.request();
        if (!admitted(Call.of(request))) {
            // Nobody takes the body: Vert.x drops it, HttpLine counts and times it.
            routing.next();
            return;
        }
        long limit = limits.get().maxBytes();
        String length = request.getHeader("Content-Length");
        if (length != null && (length.length() > 18 || Long.parseLong(length) > limit)) {
            tooLarge(request);
            return;
        }
        String expect = request.getHeader("Expect");
        if (expect != null) {
            if (!expect.equalsIgnoreCase("100-continue")) {
                refusals.count(Refusal.EXPECTATION);
                Refusal.EXPECTATION.answer(request.response());
                HttpLine.of(request.connection()).closeAfterAnswer();
                return;
            }
            request.response().writeContinue();
        }
        Buffer body = Buffer.buffer(length == null ? FIRST_BYTES : Math.min(Integer.parseInt(length), FIRST_BYTES));
        request.handler(chunk -> {
            if (body.length() + chunk.length() > limit) {
                request.handler(rest -> { }).endHandler(end -> { });
                tooLarge(request);
            } else {
                body.appendBuffer(chunk);
            }
        });
        request.exceptionHandler(e -> LOG.debug("A request ended before its body did", e));
        request.endHandler(end -> {
            internal.setBody(body);
            routing.next();
        });
    }

    private boolean admitted(Call call) {
        HttpGuard asked = guard.get();
        if (asked == null || !call.path().startsWith(asked.prefix())) {
            return true;
        }
        try {
            return asked.admit(call);
        } catch (RuntimeException e) {
            LOG.error("The guard of {} failed; the request is not admitted", asked.prefix(), e);
            return false;
        }
    }

    private void tooLarge(HttpServerRequest request) {
        refusals.count(Refusal.TOO_LARGE);
        Refusal.TOO_LARGE.answer(request.response());
        HttpLine.of(request.connection()).closeAfterAnswer();
    }
}
