// SPDX-License-Identifier: Apache-2.0
package io.caravan.https;

import io.vertx.core.AsyncResult;
import io.vertx.core.Future;
import io.vertx.core.Handler;
import io.vertx.core.Promise;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.streams.WriteStream;
import io.vertx.ext.web.codec.BodyCodec;
import io.vertx.ext.web.codec.spi.BodyStream;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Reads an answer to its end, keeps the beginning, and gives up after a time however much there is still to come. */
final class BoundedAnswer implements BodyCodec<Buffer> {
    private static final int KEPT_BYTES = 4_096;

    private final long timeoutMs;
    private final Runnable hangUp;

    /**
     * @param timeoutMs from the end of the headers; looked at when something comes, silence is the idle timeout's business
     * @param hangUp    ends the connection: the web client would read on until the other side ends it
     */
    BoundedAnswer(long timeoutMs, Runnable hangUp) {
        this.timeoutMs = timeoutMs;
        this.hangUp = hangUp;
    }

    @Override
    public void create(Handler<AsyncResult<BodyStream<Buffer>>> handler) {
        handler.handle(Future.succeededFuture(new Stream()));
    }

    private final class Stream implements BodyStream<Buffer> {
        private final Buffer kept = Buffer.buffer();
        private final Promise<Buffer> whole = Promise.promise();
        private final long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(timeoutMs);

        @Override
        public Future<Void> write(Buffer data) {
            int room = KEPT_BYTES - kept.length();
            if (room > 0) {
                kept.appendBuffer(data, 0, Math.min(room, data.length()));
            }
            if (System.nanoTime() - deadline < 0) {
                return Future.succeededFuture();
            }
            Throwable late = new TimeoutException("the answer did not end in time, " + kept.length() + " bytes of it came");
            if (whole.tryFail(late)) {
                hangUp.run();
            }
            return Future.failedFuture(late);
        }

        @Override
        public void write(Buffer data, Handler<AsyncResult<Void>> handler) {
            write(data).onComplete(handler);
        }

        @Override
        public void end(Handler<AsyncResult<Void>> handler) {
            whole.tryComplete(kept);
            if (handler != null) {
                handler.handle(Future.succeededFuture());
            }
        }

        @Override
        public Future<Buffer> result() {
            return whole.future();
        }

        @Override
        public void handle(Throwable error) {
            whole.tryFail(error);
        }

        @Override
        public boolean writeQueueFull() {
            return false;
        }

        @Override
        public WriteStream<Buffer> exceptionHandler(Handler<Throwable> handler) {
            return this;
        }

        @Override
        public WriteStream<Buffer> setWriteQueueMaxSize(int maxSize) {
            return this;
        }

        @Override
        public WriteStream<Buffer> drainHandler(Handler<Void> handler) {
            return this;
        }
    }
}
