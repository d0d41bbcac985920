// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import com.fasterxml.jackson.core.JsonParseException;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import io.caravan.uplink.AckTimeoutException;
import io.caravan.uplink.UplinkClosedException;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Timer;
import io.vertx.core.Context;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.ClientWebSocket;
import io.vertx.core.http.UpgradeRejectedException;
import io.vertx.core.http.WebSocketClient;
import io.vertx.core.http.WebSocketClientOptions;
import io.vertx.core.http.WebSocketConnectOptions;
import io.vertx.core.net.PemKeyCertOptions;
import io.vertx.core.net.PemTrustOptions;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.cert.CertificateException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.SSLException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One WebSocket over TLS that comes back by itself.
 *
 * <p>Guarantee: at most one connection or connection attempt at a time, and a session's events in order: {@code open},
 * its {@code message}s, {@code close}. All state lives on one Vert.x context, so nothing here is locked. Each attempt
 * has a WebSocketClient of its own and the next attempt begins only when that client is closed: an attempt that hangs in
 * TCP, TLS or the handshake cannot come back later as a second connection, and certificates are read anew each time.
 *
 * <p>Liveness: a ping every {@code pingMs}; with two unanswered ones, and nothing else received either, the connection
 * is ended. A peer that takes frames and never acks or answers them is ended by the ack timeout. A slow route is no dead peer:
 * when {@value #EVENTS_MAX} events wait for it, reading is paused and pings are not counted.
 *
 * <p>Several addresses are replicas of one cloud: each attempt after a failure goes to the next. A fleet begins at different ones, as
 * the gateways' ids say. With {@code probeMs}, a replica that is frozen, whose machine still takes what is sent, is noticed by its
 * silence: the time grows with what is under way, so that a slow line is not taken for it.
 *
 * <p>Credentials: token, certificate, key and authorities are looked at every {@value #WATCH_MS} ms. When they changed, hold still
 * and can be used, the connection is made anew at once; what cannot be used changes nothing while there is a connection.
 *
 * <p>Refusals: after 401, {@code not_authorized} or {@code replaced} the longest pause is made; each {@code replaced} in a row doubles it,
 * up to 16 times: two gateways with one id must not take each other's place as fast as they can. A session that held for twice the
 * longest of these pauses shows that the other one does not come any more: that is forgotten.
 *
 * <p>This class is thread-safe.
 */
public final class Connection implements AutoCloseable {

    /** {@code caravan.v1}, docs/contract.md section 7. */
    public static final String PROTOCOL = "caravan.v1";

    static final int EVENTS_MAX = 256;

    private static final Logger LOG = LoggerFactory.getLogger(Connection.class);
    /** A command's numbers stay as they were written: their text is handed on. */
    private static final ObjectMapper JSON = JsonMapper.builder().enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
        .nodeFactory(JsonNodeFactory.withExactBigDecimals(true)).build();
    private static final TypeReference<Map<String, Object>> MAP = new TypeReference<>() { };
    private static final int CLOSE_MS = 2_000;
    private static final long WATCH_MS = 500;
    private static final int REPLACED_MAX = 4;
    /** The slowest line whose silence is understood. */
    private static final int BYTES_PER_MS = 16;

    /** What the endpoint was given; paths may be null. Times in milliseconds. */
    public record Options(String name, List<Address> addresses, Path tokenFile, Path caFile, Path clientCert, Path clientKey,
        long connectTimeoutMs, long pingMs, long probeMs, long reconnectMinMs, long reconnectMaxMs, long sendTimeoutMs, long ackTimeoutMs,
        int maxFrameBytes, int maxInFlight) { }

    /** Where one replica of the cloud, or what stands before all of them, listens. */
    public record Address(String host, int port, String path) {
        @Override
        public String toString() {
            return host + ":" + port + path;
        }
    }

    /** The ack a send waits for: same log and range, {@code last} at least this one; {@code rows} is for the meter. */
    public record Awaited(String logId, long firstSeq, long lastSeq, long rows) { }

    /** Called on the events executor. */
    public interface Listener {
        void event(String event, String session, Object body);
    }

    private final Vertx vertx;
    private final Context context;
    private final Options options;
    private final Executor events;
    private final Executor completions;
    private final Listener listener;
    private final MeterRegistry meters;
    private final Counter framesIn;
    private final Counter framesOut;
    private final Counter bytesIn;
    private final Counter bytesOut;
    private final Counter ackedRows;
    private final Counter attempts;
    private final Counter opened;
    private final Timer roundTrip;
    private final CommandFrames commandFrames;
    private final List<Gauge> gauges = new ArrayList<>();

    // Only on the context.
    private Attempt current;
    private int next;
    private long retryTimer = -1;
    private int failures;
    private boolean waitLong;
    private boolean renewing;
    private int replaced;
    private boolean stopped;
    private long watch = -1;
    private String inUse;
    private String seen;

    // Written on the context, read anywhere.
    private volatile boolean connected;
    private volatile String state = "not connected yet";
    private volatile long backoffMs;
    private volatile long awaySince = System.nanoTime();
    private volatile int inFlight;
    private volatile long inFlightBytes;

    public Connection(Vertx vertx, Options options, Executor events, Executor completions, Listener listener,
        MeterRegistry meters) {
        this.vertx = vertx;
        this.context = vertx.getOrCreateContext();
        this.options = options;
        this.events = events;
        this.completions = completions;
        next = Math.floorMod(options.addresses.get(0).path.hashCode(), options.addresses.size());
        this.listener = listener;
        this.meters = meters;
        framesIn = Counter.builder("caravan.uplink.frames").description("Frames").tags("direction", "in").register(meters);
        framesOut = Counter.builder("caravan.uplink.frames").description("Frames").tags("direction", "out").register(meters);
        bytesIn = Counter.builder("caravan.uplink.bytes").description("Bytes of frames, compressed").tags("direction", "in").register(meters);
        bytesOut = Counter.builder("caravan.uplink.bytes").description("Bytes of frames, compressed").tags("direction", "out").register(meters);
        ackedRows = Counter.builder("caravan.uplink.acked.rows").description("Rows the cloud has acked").register(meters);
        attempts = Counter.builder("caravan.uplink.connect.attempts").description("Attempts to connect").register(meters);
        opened = Counter.builder("caravan.uplink.sessions.opened").description("Connections that came about").register(meters);
        roundTrip = Timer.builder("caravan.uplink.round.trip").description("From sending a batch to its ack").register(meters);
        commandFrames = new CommandFrames(options.name, meters);
    }

    /** Begins to connect; returns at once, whether or not the cloud is there. */
    public void start() {
        gauges.add(Gauge.builder("caravan.uplink.connected", this, c -> c.connected ? 1 : 0).description("1: the connection to the cloud stands").register(meters));
        gauges.add(Gauge.builder("caravan.uplink.backoff.seconds", this, c -> c.backoffMs / 1000.0).description("Pause before the attempt that is next").register(meters));
        gauges.add(Gauge.builder("caravan.uplink.in.flight.frames", this, c -> c.inFlight).description("Batches sent whose ack has not come").register(meters));
        gauges.add(Gauge.builder("caravan.uplink.in.flight.bytes", this, c -> c.inFlightBytes).description("Their bytes").register(meters));
        context.runOnContext(go -> {
            connect();
            watch = vertx.setPeriodic(WATCH_MS, tick -> watch());
        });
    }

    public boolean isConnected() {
        return connected;
    }

    /** @return for how long there has been no connection, ms; 0: there is one */
    public long awayMs() {
        return connected ? 0 : TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - awaySince);
    }

    /** @return one sentence for an operator: connected since when, or why not */
    public String state() {
        return state;
    }

    /**
     * Sends one frame.
     *
     * @param body    String (text frame) or byte[] (binary frame)
     * @param awaited the ack to wait for; null: complete when the frame was written to the socket
     * @param reply   type of the message that must follow within {@code ackTimeoutMs}, or the connection is ended; null: none. The send
     *                does not wait for it: it is an event of the session as any other
     * @return completes on the completions executor; with {@link UplinkClosedException} when the session is gone or ends
     *     before, with {@link AckTimeoutException} when no ack came in time (the connection is then ended)
     */
    public CompletionStage<Void> send(String session, Object body, Awaited awaited, String reply) {
        Pending pending = new Pending(awaited);
        context.runOnContext(go -> {
            Attempt attempt = current;
            if (attempt == null || !attempt.open || !attempt.session.equals(session)) {
                pending.fail(new UplinkClosedException("uplink [" + options.name + "] session [" + session
                    + "] is gone: " + state));
            } else {
                attempt.expect(reply);
                attempt.send(body, pending);
            }
        });
        return pending.result;
    }

    /**
     * Sends frame {@code stats}: these facts, and how far this clock is from the cloud's, as far as the cloud has answered before. The first
     * answer of a session is followed by the same facts with that. Otherwise as {@link #send} without an ack.
     */
    public CompletionStage<Void> stats(String session, Map<String, Object> facts) {
        Pending pending = new Pending(null);
        context.runOnContext(go -> {
            Attempt attempt = current;
            if (attempt == null || !attempt.open || !attempt.session.equals(session)) {
                pending.fail(new UplinkClosedException("uplink [" + options.name + "] session [" + session + "] is gone: " + state));
            } else {
                attempt.stats(facts, pending);
            }
        });
        return pending.result;
    }

    /** Ends the session if it is still this one; the next one follows after the backoff. */
    public void disconnect(String session, String reason) {
        context.runOnContext(go -> {
            if (current != null && current.session.equals(session)) {
                current.end(new UplinkClosedException(reason), true);
            }
        });
    }

    /** Ends the connection for good; waits at most a few seconds for the socket to be closed. */
    @Override
    public void close() {
        CountDownLatch done = new CountDownLatch(1);
        context.runOnContext(go -> {
            stopped = true;
            vertx.cancelTimer(retryTimer);
            vertx.cancelTimer(watch);
            if (current == null) {
                done.countDown();
            } else {
                current.afterwards.add(done::countDown);
                current.end(new UplinkClosedException("the uplink is stopped"), true);
            }
        });
        try {
            if (!done.await(2 * CLOSE_MS, TimeUnit.MILLISECONDS)) {
                LOG.warn("uplink [{}] was not closed within {} ms", options.name, 2 * CLOSE_MS);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        gauges.forEach(meters::remove);
    }

    private void connect() {
        if (stopped || current != null) {
            return;
        }
        attempts.increment();
        current = new Attempt();
        current.connect();
    }

    private void retry() {
        if (stopped) {
            return;
        }
        if (renewing) {
            renewing = false;
            backoffMs = 0;
            connect();
            return;
        }
        // The upper half of the step is drawn, so that many gateways do not come back together after an outage.
        long step = replaced > 0 ? options.reconnectMaxMs << Math.min(replaced - 1, REPLACED_MAX) : waitLong ? options.reconnectMaxMs
            : Math.min(options.reconnectMaxMs, options.reconnectMinMs << Math.min(failures, 20));
        failures++;
        waitLong = false;
        long delay = Math.max(1, step / 2 + ThreadLocalRandom.current().nextLong(step / 2 + 1));
        backoffMs = delay;
        retryTimer = vertx.setTimer(delay, fired -> context.runOnContext(go -> connect()));
    }

    private void watch() {
        vertx.executeBlocking(() -> Credentials.read(options)).onComplete(read -> context.runOnContext(go -> {
            if (stopped || read.failed() || inUse == null) {
                return;
            }
            String now = read.result().fingerprint();
            boolean still = now.equals(seen);
            seen = now;
            if (!still || now.equals(inUse)) {
                return;
            }
            inUse = now;
            try {
                read.result().check();
            } catch (UplinkClosedException e) {
                failed("credentials");
                LOG.error("uplink [{}] credentials changed and cannot be used{}: {}", options.name,
                    connected ? ", the connection stays as it is" : "", e.getMessage());
                if (connected) {
                    state = "connected, but the changed credentials cannot be used: " + e.getMessage();
                    return;
                }
            }
            LOG.info("uplink [{}] credentials changed, connecting anew", options.name);
            renew();
        }));
    }

    /** At once, whatever the backoff says. */
    private void renew() {
        failures = 0;
        replaced = 0;
        waitLong = false;
        if (current != null) {
            renewing = true;
            current.end(new UplinkClosedException("the credentials changed"), true);
        } else if (vertx.cancelTimer(retryTimer)) {
            backoffMs = 0;
            connect();
        }
    }

    private void failed(String reason) {
        Counter.builder("caravan.uplink.connect.failures").description("Attempts that failed, and refusals").tags("reason", reason).register(meters).increment();
    }

    /** @return the reason for the meter: few, and told by the kind of the error, not by its text */
    private static String reason(Throwable error) {
        for (Throwable t = error; t != null; t = t.getCause()) {
            if (t instanceof UpgradeRejectedException rejected) {
                return rejected.getStatus() == 401 || rejected.getStatus() == 403 ? "not_authorized" : rejected.getStatus() == 429 ? "too_many_requests"
                    : "protocol";
            }
            if (t instanceof SSLException || t instanceof CertificateException) {
                return "tls";
            }
        }
        return error instanceof UplinkClosedException ? "protocol" : "unreachable";
    }

    private void emit(String event, String session, Object body, Runnable after) {
        try {
            events.execute(() -> {
                try {
                    listener.event(event, session, body);
                } finally {
                    after.run();
                }
            });
        } catch (RejectedExecutionException stopping) {
            LOG.debug("uplink [{}] is stopping, event [{}] is not routed", options.name, event);
        }
    }

    /** A text frame of the cloud as JSON, whatever it may say. */
    static JsonNode frame(String text) throws JsonProcessingException {
        try {
            return JSON.readTree(text);
        } catch (NumberFormatException e) {
            // What Jackson throws at an exponent of more than ten digits.
            throw new JsonParseException(null, "a number has an exponent that cannot be read", e);
        }
    }

    /** TLS and netty say what was wrong in the innermost cause only. */
    private static String message(Throwable error) {
        String text = error.getMessage() == null ? error.getClass().getSimpleName() : error.getMessage();
        Throwable root = error;
        for (int depth = 0; root.getCause() != null && depth < 8; depth++) {
            root = root.getCause();
        }
        return root == error || root.getMessage() == null || text.contains(root.getMessage()) ? text
            : text + ": " + root.getMessage();
    }

    /** A send that is not complete. Only on the context, except for the future. */
    private final class Pending {

        final CompletableFuture<Void> result = new CompletableFuture<>();
        final Awaited awaited;
        long timer = -1;
        long sentAt;
        int bytes;

        Pending(Awaited awaited) {
            this.awaited = awaited;
        }

        void succeed() {
            vertx.cancelTimer(timer);
            complete(() -> result.complete(null));
        }

        void fail(Throwable error) {
            vertx.cancelTimer(timer);
            complete(() -> result.completeExceptionally(error));
        }

        private void complete(Runnable completion) {
            try {
                completions.execute(completion);
            } catch (RejectedExecutionException stopping) {
                // The executor goes with the consumer; whoever waits must still be told.
                vertx.executeBlocking(() -> {
                    completion.run();
                    return null;
                });
            }
        }
    }

    /** One attempt and, if it succeeds, the connection it became. Only on the context. */
    private final class Attempt {

        final String session = UUID.randomUUID().toString();
        final Set<Pending> pending = new LinkedHashSet<>();
        final List<Runnable> afterwards = new ArrayList<>();
        final AtomicInteger queued = new AtomicInteger();
        final Address address = options.addresses.get(next);
        WebSocketClient client;
        ClientWebSocket socket;
        long deadline = -1;
        long pings = -1;
        long probe = -1;
        /** Type of a message without which the session cannot go on; null: none. */
        String reply;
        long overdue = -1;
        int unanswered;
        /** Frames whose ack did not come yet, and their bytes. */
        int flying;
        long underWay;
        String refused;
        /** Another gateway took its place. */
        boolean displaced;
        String failure;
        long openedAt;
        final ClockOffset clock = new ClockOffset();
        long asked;
        Map<String, Object> facts = Map.of();
        /** Before that the socket throws at any question. */
        boolean established;
        boolean open;
        boolean paused;
        boolean ended;

        void connect() {
            deadline = vertx.setTimer(options.connectTimeoutMs, fired -> here(() -> end(new UplinkClosedException(
                "no WebSocket within " + options.connectTimeoutMs + " ms"), false)));
            vertx.executeBlocking(() -> Credentials.read(options)).onComplete(read -> here(() -> {
                if (ended) {
                    return;
                }
                if (read.failed()) {
                    failure = "credentials";
                    end(read.cause(), false);
                    return;
                }
                inUse = read.result().fingerprint();
                seen = inUse;
                try {
                    read.result().check();
                } catch (UplinkClosedException e) {
                    failure = "credentials";
                    end(e, false);
                    return;
                }
                try {
                    connect(read.result());
                } catch (UplinkClosedException | RuntimeException e) {
                    end(e, false);
                }
            }));
        }

        private void connect(Credentials credentials) throws UplinkClosedException {
            WebSocketClientOptions tls = new WebSocketClientOptions()
                .setSsl(true).setVerifyHost(true).setTrustAll(false)
                .setEnabledSecureTransportProtocols(Set.of("TLSv1.2", "TLSv1.3"))
                .setSslHandshakeTimeout(options.connectTimeoutMs).setSslHandshakeTimeoutUnit(TimeUnit.MILLISECONDS)
                .setConnectTimeout((int) Math.min(Integer.MAX_VALUE, options.connectTimeoutMs))
                // Frames stay at the default: a larger one than the peer's limit kills the connection.
                .setMaxMessageSize(options.maxFrameBytes)
                .setClosingTimeout(1)
                .setTcpNoDelay(true);
            if (credentials.ca != null) {
                tls.setTrustOptions(new PemTrustOptions().addCertValue(Buffer.buffer(credentials.ca)));
            }
            if (credentials.cert != null) {
                tls.setKeyCertOptions(new PemKeyCertOptions()
                    .addCertValue(Buffer.buffer(credentials.cert)).addKeyValue(Buffer.buffer(credentials.key)));
            }
            WebSocketConnectOptions target = new WebSocketConnectOptions()
                .setHost(address.host).setPort(address.port).setURI(address.path).setSsl(true)
                .setTimeout(options.connectTimeoutMs)
                .addSubProtocol(PROTOCOL);
            target.setAllowOriginHeader(false);
            String token = credentials.token();
            if (token != null) {
                target.addHeader("Authorization", "Bearer " + token);
            }
            client = vertx.createWebSocketClient(tls);
            socket = client.webSocket();
            socket.textMessageHandler(text -> here(() -> text(text)));
            socket.binaryMessageHandler(bytes -> here(() -> received(bytes.length(), bytes.getBytes())));
            socket.pongHandler(pong -> here(this::heard));
            socket.exceptionHandler(error -> here(() -> end(error, false)));
            socket.closeHandler(gone -> here(() -> end(new UplinkClosedException("closed by the other side"
                + (socket.closeReason() == null ? "" : ": " + socket.closeReason())), false)));
            socket.connect(target).onComplete(result -> here(() -> {
                if (result.failed()) {
                    end(result.cause(), false);
                } else if (!ended) {
                    established = true;
                    opened();
                }
            }));
        }

        private void opened() {
            if (!PROTOCOL.equals(socket.subProtocol())) {
                end(new UplinkClosedException("the other side did not agree to subprotocol " + PROTOCOL
                    + ", it answered [" + socket.subProtocol() + "]: check uplink.url"), true);
                return;
            }
            vertx.cancelTimer(deadline);
            open = true;
            connected = true;
            state = "connected";
            opened.increment();
            LOG.info("uplink [{}] connected to {}, session {}", options.name, address, session);
            openedAt = System.nanoTime();
            pings = vertx.setPeriodic(options.pingMs, tick -> here(this::ping));
            enqueue("open", null);
        }

        /** A peer that answers pings and nothing else would be waited for without end. */
        void expect(String type) {
            if (type == null) {
                return;
            }
            vertx.cancelTimer(overdue);
            reply = type;
            overdue = vertx.setTimer(options.ackTimeoutMs, fired -> here(() -> {
                if (paused) {
                    expect(type);   // it may be there already
                } else if (!ended && type.equals(reply)) {
                    end(new UplinkClosedException("no [" + type + "] came within " + options.ackTimeoutMs + " ms"), true);
                }
            }));
        }

        private void ping() {
            if (ended || paused) {
                return;
            }
            if (unanswered >= 2) {
                end(new UplinkClosedException("two pings of " + options.pingMs + " ms without an answer"), false);
                return;
            }
            unanswered++;
            socket.writePing(Buffer.buffer("c"));
            probe();
        }

        /** Something was sent that ought to be followed by something. */
        private void probe() {
            if (options.probeMs > 0 && probe < 0) {
                probe = vertx.setTimer(options.probeMs, fired -> here(() -> silent(false)));
            }
        }

        private void silent(boolean asked) {
            if (ended) {
                return;
            }
            if (paused) {
                probe = -1;
            } else if (asked) {
                end(new UplinkClosedException("nothing came for " + 2 * options.probeMs + " ms, although it was asked for by a ping"), false);
            } else {
                socket.writePing(Buffer.buffer("c"));
                probe = vertx.setTimer(options.probeMs + underWay / BYTES_PER_MS, fired -> here(() -> silent(true)));
            }
        }

        private void heard() {
            unanswered = 0;
            vertx.cancelTimer(probe);
            probe = -1;
            if (underWay > 0) {
                probe();
            }
        }

        private void text(String text) {
            Map<String, Object> message;
            try {
                JsonNode frame = frame(text);
                if (!frame.isObject()) {
                    end(new UplinkClosedException("the other side sent a text frame that is no JSON object"), true);
                    return;
                }
                if (commandFrames.isOne(frame)) {
                    count(text.length());
                    // What breaks the contract is dropped and not answered with the end: telemetry must not stop for it.
                    Map<String, Object> commands = commandFrames.read(text, frame);
                    if (commands != null && !ended) {
                        enqueue("message", commands);
                        pauseWhenFull();
                    }
                    return;
                }
                message = JSON.convertValue(frame, MAP);
            } catch (JsonProcessingException e) {
                end(new UplinkClosedException("the other side sent a text frame that is no JSON object", e), true);
                return;
            }
            Object type = message.get("type");
            if (reply != null && reply.equals(type)) {
                reply = null;
                vertx.cancelTimer(overdue);
            }
            if ("error".equals(type)) {
                // Trying again quickly helps neither side here.
                String reason = String.valueOf(message.get("reason"));
                waitLong = reason.equals("not_authorized");
                if (reason.equals("replaced")) {
                    // One that held for long was no fight: the other one came once.
                    replaced = heldLong() ? 1 : replaced + 1;
                    displaced = true;
                    LOG.error("uplink [{}] another gateway connected with this id: if it happens again, two gateways have the same gateway.id"
                        + " and credential; give one of them its own (uplink:add)", options.name);
                }
                if (waitLong || reason.equals("replaced")) {
                    failed(reason);
                }
                refused = "refused by the cloud: " + message.get("reason") + ": " + message.get("message");
            } else if ("ack".equals(type) && ack(message)) {
                count(text.length());
                return;
            } else if ("stats-ack".equals(type)) {
                // Here, not in the route: what waits in a queue in between would count as the way.
                count(text.length());
                answered(message);
                return;
            }
            received(text.length(), message);
        }

        void stats(Map<String, Object> facts, Pending sent) {
            this.facts = facts;
            long nowMs = System.currentTimeMillis();
            long nanos = System.nanoTime();
            ClockOffset.Measured measured = clock.measured(nowMs, nanos);
            Map<String, Object> frame = new LinkedHashMap<>(Map.of("type", "stats"));
            frame.put("number", ++asked);
            frame.put("time_ms", nowMs);
            if (measured != null) {
                frame.put("clock_offset_ms", Math.round(measured.offsetMs()));
                frame.put("round_trip_ms", (long) Math.ceil(measured.roundTripMs()));
            }
            frame.putAll(facts);
            try {
                String text = JSON.writeValueAsString(frame);
                clock.asks(asked, nowMs, nanos);
                send(text, sent);
            } catch (JsonProcessingException e) {
                sent.fail(e);
            }
        }

        private void answered(Map<String, Object> message) {
            if (message.get("number") instanceof Number number && message.get("received_ms") instanceof Number received
                && message.get("sent_ms") instanceof Number sent
                && clock.answered(number.longValue(), received.longValue(), sent.longValue(), System.nanoTime()) && asked == 1 && !ended) {
                stats(facts, new Pending(null));
            }
        }

        private boolean ack(Map<String, Object> message) {
            if (!(message.get("first_seq") instanceof Number first) || !(message.get("last") instanceof Number last)) {
                return false;
            }
            List<Pending> done = new ArrayList<>();
            for (Pending p : pending) {
                if (p.awaited != null && p.awaited.logId.equals(message.get("log_id"))
                    && p.awaited.firstSeq == first.longValue() && last.longValue() >= p.awaited.lastSeq) {
                    done.add(p);
                }
            }
            pending.removeAll(done);
            for (Pending p : done) {
                flying--;
                underWay -= p.bytes;
                roundTrip.record(System.nanoTime() - p.sentAt, TimeUnit.NANOSECONDS);
                // Progress resets the backoff, not a connection: one that is refused right after would come at full speed.
                failures = 0;
                ackedRows.increment(p.awaited.rows);
                p.succeed();
            }
            told();
            return !done.isEmpty();
        }

        private void count(int bytes) {
            heard();
            framesIn.increment();
            bytesIn.increment(bytes);
        }

        private void received(int bytes, Object body) {
            if (ended) {
                return;
            }
            count(bytes);
            enqueue("message", body);
            pauseWhenFull();
        }

        private void pauseWhenFull() {
            if (!paused && queued.get() >= EVENTS_MAX) {
                paused = true;
                socket.pause();
            }
        }

        private void enqueue(String event, Object body) {
            queued.incrementAndGet();
            emit(event, session, body, () -> {
                if (queued.decrementAndGet() == EVENTS_MAX / 4) {
                    here(() -> {
                        if (paused && !ended) {
                            paused = false;
                            unanswered = 0;
                            socket.resume();
                        }
                    });
                }
            });
        }

        private void told() {
            inFlight = flying;
            inFlightBytes = underWay;
        }

        void send(Object body, Pending send) {
            if (pending.size() >= options.maxInFlight) {
                send.fail(new IllegalStateException("uplink [" + options.name + "] has " + pending.size()
                    + " sends in flight, at most " + options.maxInFlight + " are allowed: wait for acks before sending"));
                return;
            }
            int bytes = body instanceof byte[] b ? b.length : ((String) body).getBytes(StandardCharsets.UTF_8).length;
            if (bytes > options.maxFrameBytes) {
                send.fail(new IllegalArgumentException("uplink frame of [" + bytes + "] bytes must not exceed "
                    + options.maxFrameBytes + ": lower uplink.batch.bytes or raise uplink.max.frame.bytes on both sides"));
                return;
            }
            pending.add(send);
            if (send.awaited != null) {
                send.bytes = bytes;
                send.sentAt = System.nanoTime();
                flying++;
                underWay += bytes;
                told();
                probe();
            }
            long ms = send.awaited == null ? options.sendTimeoutMs : options.ackTimeoutMs;
            send.timer = vertx.setTimer(ms, fired -> here(() -> late(send, ms)));
            Future<Void> written = body instanceof byte[] b
                ? socket.writeBinaryMessage(Buffer.buffer(b)) : socket.writeTextMessage((String) body);
            long unsent = send.awaited == null ? -1 : vertx.setTimer(options.sendTimeoutMs, fired -> here(() -> end(
                new UplinkClosedException("a frame was not written within " + options.sendTimeoutMs + " ms"), false)));
            written.onComplete(result -> here(() -> {
                vertx.cancelTimer(unsent);
                if (result.failed()) {
                    end(result.cause(), false);
                    return;
                }
                framesOut.increment();
                bytesOut.increment(bytes);
                // A frame that was written is not a frame that arrived: whoever wants to know awaits the ack.
                if (send.awaited == null && pending.remove(send)) {
                    send.succeed();
                }
            }));
        }

        private void late(Pending send, long ms) {
            if (!pending.remove(send)) {
                return;
            }
            UplinkClosedException error = send.awaited == null
                ? new UplinkClosedException("uplink [" + options.name + "] frame was not written within " + ms + " ms")
                : new AckTimeoutException("uplink [" + options.name + "] ack of log [" + send.awaited.logId + "] range ["
                    + send.awaited.firstSeq + "] up to [" + send.awaited.lastSeq + "] did not come within " + ms + " ms");
            send.fail(error);
            end(error, true);
        }

        void end(Throwable cause, boolean ours) {
            if (ended) {
                return;
            }
            ended = true;
            if (open) {
                awaySince = System.nanoTime();
            }
            connected = false;
            flying = 0;
            underWay = 0;
            told();
            vertx.cancelTimer(deadline);
            vertx.cancelTimer(pings);
            vertx.cancelTimer(probe);
            vertx.cancelTimer(overdue);
            if (!renewing) {
                next = (next + 1) % options.addresses.size();
            }
            String why = failure != null ? failure : reason(cause);
            if (!open && !stopped && !renewing) {
                failed(why);
                waitLong = why.equals("not_authorized");
            }
            // What the cloud said is worth more than that it then closed.
            state = refused != null ? refused : why.equals("not_authorized")
                ? "not connected: refused by the cloud (401): gateway id [" + address.path.substring(address.path.lastIndexOf('/') + 1)
                    + "] and credential do not match; uplink:list in the cloud tells more" : "not connected: " + message(cause);
            if (stopped) {
                LOG.info("uplink [{}] stopped", options.name);
            } else if (open) {
                LOG.warn("uplink [{}] session {} ended: {}", options.name, session, message(cause));
            } else {
                LOG.info("uplink [{}] could not connect to {}: {}", options.name, address, message(cause));
                if (!renewing) {
                    // A Map like a message of the cloud: a route that does not know it yet passes it over.
                    emit("failed", session, Map.of("type", "failed", "message", state), () -> { });
                }
            }
            pending.forEach(p -> p.fail(new UplinkClosedException("uplink [" + options.name + "] session [" + session
                + "] ended before the frame was complete: " + message(cause), cause)));
            pending.clear();
            if (open) {
                if (System.nanoTime() - openedAt >= options.reconnectMaxMs * 1_000_000) {
                    failures = 0;
                }
                if (!displaced && heldLong()) {
                    replaced = 0;
                }
                emit("close", session, null, () -> { });
            }
            open = false;
            shut(ours);
        }

        /** @return whether another gateway with this id would have come back meanwhile, even after the longest pause it makes */
        private boolean heldLong() {
            return System.nanoTime() - openedAt > 2_000_000L * (options.reconnectMaxMs << REPLACED_MAX);
        }

        /** Says goodbye if there is somebody to say it to, then closes the client, then lets the next attempt begin. */
        private void shut(boolean polite) {
            long limit = vertx.setTimer(CLOSE_MS, fired -> here(this::gone));
            Future<Void> goodbye = polite && established && !socket.isClosed()
                ? socket.close() : Future.succeededFuture();
            goodbye.onComplete(closed -> {
                Future<Void> shut = client == null ? Future.succeededFuture() : client.close();
                shut.onComplete(done -> here(() -> {
                    vertx.cancelTimer(limit);
                    gone();
                }));
            });
        }

        private void gone() {
            if (current != this) {
                return;
            }
            if (client != null) {
                client.close();
            }
            current = null;
            afterwards.forEach(Runnable::run);
            retry();
        }

        private void here(Runnable task) {
            if (Vertx.currentContext() == context) {
                task.run();
            } else {
                context.runOnContext(go -> task.run());
            }
        }
    }
}
