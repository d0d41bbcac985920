// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.internal.Refusals.Refusal;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelOutboundBuffer;
import io.netty.channel.ChannelOutboundHandlerAdapter;
import io.netty.channel.ChannelPipeline;
import io.netty.channel.ChannelPromise;
import io.netty.channel.socket.DuplexChannel;
import io.netty.handler.codec.DecoderResult;
import io.netty.handler.codec.http.HttpContent;
import io.netty.handler.codec.http.HttpMessage;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpStatusClass;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.LastHttpContent;
import io.netty.handler.ssl.SslHandler;
import io.netty.util.ReferenceCountUtil;
import io.vertx.core.http.HttpConnection;
import io.vertx.core.http.HttpServerOptions;
import io.vertx.core.http.impl.VertxHttpRequestDecoder;
import io.vertx.core.net.impl.ConnectionBase;
import java.net.InetAddress;
import java.nio.channels.ClosedChannelException;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * One connection: knows how long its client has been sending a header or a body, or not reading an answer, and cuts it. Vert.x
 * only knows silence, and a client that sends a byte now and then is not silent.
 *
 * <p>Stands in the pipeline in place of Vert.x's decoder, which it is. Everything happens on the event loop but {@link #look},
 * which reads volatile fields to see whether there is something to do there.
 */
final class HttpLine extends VertxHttpRequestDecoder {

    /** What the client is sending. */
    private enum Phase { NOTHING, HEADER, BODY }

    /** A refused body is read up to this, so that the client gets to the answer; a reset would destroy it on the way. */
    private static final long DRAIN_BYTES = 16L << 20;

    private static final long LINGER_MS = 1_000;

    private final Supplier<HttpLimits> limits;
    private final Refusals refusals;
    private final InetAddress peer;
    private volatile ChannelHandlerContext context;
    private volatile Phase phase = Phase.NOTHING;
    /** When the phase began, or when its clock was started again because we had not been reading. */
    private volatile long since = System.nanoTime();
    /** Requests without the end of their answer. */
    private volatile int pending;
    private volatile boolean fresh = true;
    /** Since when there have been bytes that the client does not read; 0: none. */
    private volatile long unreadSince;
    private boolean answering;
    private boolean closing;
    private boolean cut;
    private long bodyBytes;

    private HttpLine(HttpServerOptions options, Supplier<HttpLimits> limits, Refusals refusals, InetAddress peer) {
        super(options);
        this.limits = limits;
        this.refusals = refusals;
        this.peer = peer;
    }

    /** On the event loop, before the connection's first byte is read. */
    static HttpLine watch(HttpConnection connection, HttpServerOptions options, Supplier<HttpLimits> limits, Refusals refusals) {
        ChannelPipeline pipeline = ((ConnectionBase) connection).channel().pipeline();
        HttpLine line = new HttpLine(options, limits, refusals, Networks.peer(connection));
        pipeline.replace("httpDecoder", "httpDecoder", line);
        pipeline.addAfter("httpEncoder", "caravanAnswers", line.new Answers());
        return line;
    }

    static HttpLine of(HttpConnection connection) {
        return (HttpLine) ((ConnectionBase) connection).channel().pipeline().get("httpDecoder");
    }

    InetAddress peer() {
        return peer;
    }

    /** Ends the connection once what it is sending has come in and what it gets has gone out. Event loop. */
    void closeAfterAnswer() {
        closing = true;
        maybeClose();
    }

    /** Answers where no request is being answered, and ends the connection. Event loop. */
    void refuse(Refusal refusal) {
        refusals.count(refusal);
        cut = true;
        context.writeAndFlush(refusal.bytes());
        end();
    }

    /** As {@link #refuse}, and the client gets no time to read that: who is over a limit must not hold what is limited. Event loop. */
    void turnAway(Refusal refusal) {
        refusals.count(refusal);
        cut = true;
        context.writeAndFlush(refusal.bytes()).addListener(ChannelFutureListener.CLOSE);
    }

    /**
     * Takes nothing more in, and closes when the client does, or soon. Closing while something is unread would reset the connection,
     * and the answer with it. Event loop.
     */
    void end() {
        cut = true;
        context.writeAndFlush(Unpooled.EMPTY_BUFFER).addListener(flushed -> {
            if (context.channel() instanceof DuplexChannel channel && context.pipeline().get(SslHandler.class) == null) {
                channel.shutdownOutput();
            }
            context.executor().schedule(() -> context.channel().close(), LINGER_MS, TimeUnit.MILLISECONDS);
        });
    }

    /** A piece of an answer that goes on was read: the clock of slow readers starts again. Event loop. */
    void progress() {
        unreadSince = 0;
    }

    /** Any thread, now and then. */
    void look(long now) {
        ChannelHandlerContext at = context;
        if (at == null || at.isRemoved()) {
            return;
        }
        ChannelOutboundBuffer out = at.channel().unsafe().outboundBuffer();
        if (out == null || out.totalPendingWriteBytes() == 0) {
            unreadSince = 0;
        } else if (unreadSince == 0) {
            unreadSince = now;
        }
        if (overdue(now) != null) {
            at.executor().execute(this::cut);
        }
    }

    @Override
    public void handlerAdded(ChannelHandlerContext added) throws Exception {
        context = added;
        super.handlerAdded(added);
    }

    @Override
    protected void decode(ChannelHandlerContext at, ByteBuf in, List<Object> out) throws Exception {
        if (cut) {
            in.skipBytes(in.readableBytes());
            return;
        }
        if (phase == Phase.NOTHING && in.isReadable()) {
            enter(Phase.HEADER);
        }
        int before = out.size();
        super.decode(at, in, out);
        for (int i = before; i < out.size(); i++) {
            decoded(out.get(i));
        }
    }

    /** Left as it is, to be refused: netty would drop Content-Length, and a proxy before us may have gone by it. */
    @Override
    protected void handleTransferEncodingChunkedWithContentLength(HttpMessage message) {
    }

    private void decoded(Object message) {
        if (message instanceof HttpRequest request) {
            if (!request.protocolVersion().equals(HttpVersion.HTTP_1_1) && !request.protocolVersion().equals(HttpVersion.HTTP_1_0)) {
                if (request.decoderResult().isSuccess()) {
                    request.setDecoderResult(DecoderResult.failure(new IllegalArgumentException("HTTP/1.1 is spoken here")));
                }
                // The answer is written in the request's version, whatever that calls itself.
                request.setProtocolVersion(HttpVersion.HTTP_1_1);
            }
            fresh = false;
            bodyBytes = 0;
            pending++;
            enter(Phase.BODY);
            if (pending > limits.get().pipeline()) {
                refusals.count(Refusal.PIPELINE);
                close();
            }
        }
        if (message instanceof HttpContent content) {
            bodyBytes += content.content().readableBytes();
            if (content.decoderResult().isFailure() && !(message instanceof HttpRequest)) {
                // Vert.x ends the connection without a word.
                if (mayAnswer()) {
                    refuse(Refusal.BAD_REQUEST);
                } else {
                    refusals.count(Refusal.BAD_REQUEST);
                }
            } else if (bodyBytes > DRAIN_BYTES + limits.get().maxBytes()) {
                close();
            }
        }
        if (message instanceof LastHttpContent) {
            enter(Phase.NOTHING);
            maybeClose();
        }
    }

    private void enter(Phase next) {
        since = System.nanoTime();
        phase = next;
    }

    private void answered() {
        answering = false;
        if (pending > 0) {
            pending--;
        }
        // A pipelined request waits for this answer; until now it was we who did not read.
        since = System.nanoTime();
        maybeClose();
    }

    private void maybeClose() {
        if (closing && phase == Phase.NOTHING && pending == 0 && !cut) {
            cut = true;
            context.writeAndFlush(Unpooled.EMPTY_BUFFER).addListener(ChannelFutureListener.CLOSE);
        }
    }

    private Refusal overdue(long now) {
        HttpLimits l = limits.get();
        long age = now - since;
        if (unreadSince != 0 && now - unreadSince > l.requestNs()) {
            return Refusal.SLOW_READER;
        }
        return switch (phase) {
            case NOTHING -> pending == 0 && age > (fresh ? l.headerNs() : l.idleNs()) ? Refusal.IDLE : null;
            case HEADER -> pending == 0 && age > l.headerNs() ? Refusal.HEADER_TIMEOUT : null;
            // More than one: an earlier request is at work, and Vert.x does not read on until it has its answer.
            case BODY -> pending <= 1 && age > l.requestNs() ? Refusal.REQUEST_TIMEOUT : null;
        };
    }

    private void cut() {
        Refusal refusal = cut ? null : overdue(System.nanoTime());
        if (refusal == null) {
            return;
        }
        if (refusal != Refusal.IDLE && refusal != Refusal.SLOW_READER && mayAnswer()) {
            refuse(refusal);
            return;
        }
        if (refusal != Refusal.IDLE || fresh) {
            refusals.count(refusal);
        }
        close();
    }

    /** Whether bytes written here are the answer to what is being read, and not in the midst of another one. */
    private boolean mayAnswer() {
        return !cut && !answering && (phase == Phase.BODY ? pending == 1 : pending == 0);
    }

    private void close() {
        cut = true;
        context.close();
    }

    /** Sees the answers go out. */
    private final class Answers extends ChannelOutboundHandlerAdapter {
        @Override
        public void write(ChannelHandlerContext at, Object message, ChannelPromise promise) throws Exception {
            boolean interim = message instanceof HttpResponse response && response.status().codeClass() == HttpStatusClass.INFORMATIONAL;
            boolean head = message instanceof HttpResponse && !interim;
            boolean end = message instanceof LastHttpContent && !interim;
            if (cut && (head || interim)) {
                // The connection has been answered and is closing: two answers would be read as one.
                ReferenceCountUtil.release(message);
                promise.tryFailure(new ClosedChannelException());
                return;
            }
            if (head) {
                answering = true;
            }
            super.write(at, message, promise);
            if (end) {
                answered();
            }
        }
    }
}
