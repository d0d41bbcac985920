// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.HttpFeed;
import io.caravan.runtime.HttpStream;
import io.vertx.core.Context;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.HttpServerResponse;
import java.util.concurrent.atomic.AtomicInteger;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** An answer that goes on. What it writes is counted until it is on the socket, so that the feed can wait for its client. */
final class HttpAnswer implements HttpStream {

    private static final Logger LOG = LoggerFactory.getLogger(HttpAnswer.class);

    private final HttpServerResponse response;
    private final HttpLine line;
    private final Context context;
    private final AtomicInteger unread = new AtomicInteger();
    private volatile boolean ended;
    private volatile Runnable ready = () -> { };
    private Runnable closed;

    private HttpAnswer(HttpServerResponse response, HttpLine line, Context context) {
        this.response = response;
        this.line = line;
        this.context = context;
    }

    /** Sends the head and lets the feed go on. On the event loop of the request. */
    static void begin(HttpServerResponse response, HttpLine line, Context context, HttpFeed feed) {
        HttpAnswer answer = new HttpAnswer(response, line, context);
        response.setChunked(true);
        response.closeHandler(gone -> answer.gone());
        response.exceptionHandler(e -> LOG.debug("An answer that goes on failed", e));
        if (response.closed()) {
            answer.ended = true;
        }
        feed.open(answer);
    }

    /** Tells the feed at once that nobody is there any more: it has made room for a client that went before it was answered. */
    static void late(HttpServerResponse response, HttpLine line, Context context, HttpFeed feed) {
        HttpAnswer answer = new HttpAnswer(response, line, context);
        answer.ended = true;
        feed.open(answer);
    }

    @Override
    public boolean isReady() {
        return !ended && unread.get() == 0;
    }

    @Override
    public void write(byte[] bytes) {
        if (ended) {
            return;
        }
        unread.incrementAndGet();
        context.runOnContext(go -> {
            if (response.ended() || response.closed()) {
                unread.decrementAndGet();
                return;
            }
            response.write(Buffer.buffer(bytes)).onComplete(written -> {
                line.progress();
                if (unread.decrementAndGet() == 0 && !ended) {
                    ready.run();
                }
            });
        });
    }

    @Override
    public void onReady(Runnable listener) {
        ready = listener;
    }

    @Override
    public void onClose(Runnable listener) {
        boolean now;
        synchronized (this) {
            closed = listener;
            now = ended;
        }
        if (now) {
            gone();
        }
    }

    @Override
    public void close() {
        if (!ended) {
            context.runOnContext(go -> {
                if (!response.ended() && !response.closed()) {
                    response.end();
                }
                gone();
            });
        }
    }

    private void gone() {
        Runnable listener;
        synchronized (this) {
            ended = true;
            listener = closed;
            closed = null;
        }
        if (listener != null) {
            listener.run();
        }
    }
}
