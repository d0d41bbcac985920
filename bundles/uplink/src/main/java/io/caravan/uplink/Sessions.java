// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.runtime.Audit;
import io.caravan.runtime.TraceSpan;
import io.caravan.runtime.Traces;
import io.caravan.uplink.internal.CommandFrames;
import io.caravan.uplink.internal.Connection;
import io.caravan.uplink.internal.Credits;
import io.caravan.uplink.internal.Frames;
import io.caravan.uplink.internal.GatewaysFile;
import io.caravan.uplink.internal.Listener;
import io.caravan.uplink.internal.Presence;
import io.caravan.uplink.internal.Refusals;
import io.caravan.uplink.internal.ServerTls;
import io.caravan.uplink.internal.Trust;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.vertx.core.Context;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.VertxException;
import io.vertx.core.http.ServerWebSocket;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.cert.CertificateException;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.apache.camel.Exchange;
import org.apache.camel.support.SynchronizationAdapter;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The cloud's register of connected gateways: who is who, which of two sessions counts, and a way to answer.
 *
 * <p>It stands behind a camel-vertx-websocket consumer and makes up for what that lacks:
 * <ul>
 * <li>Identity comes from the OPEN event alone, which carries the handshake: path, bearer token, client certificate, subprotocol.
 * Message events are matched by connection key; a handshake with a query is refused, because the consumer copies query
 * parameters over its own headers (CVE-2026-46726). {@code Listener} has looked at all that before; this class does not rely on it.
 * <li>{@link #recheck} ends the sessions whose credential is not valid any more.
 * <li>Answers go to the ServerWebSocket that was kept, so that an answer to a gateway that is gone fails. The
 * component's producer would report success or try to connect to itself.
 * <li>Order: the consumer hands frames to a thread pool, unordered. Nothing here depends on order. A gateway sends
 * {@code hello}, waits for {@code welcome}, and then has one batch per range in flight; a batch before the welcome is
 * refused, batches of different ranges do not touch each other, and batches of one range carry {@code after}: one that
 * overtook another is a {@code gap}, one that came late has only rows that are there already. A message that overtakes
 * its own OPEN waits for it; one that waited in vain is lost, and therefore its session is ended as soon as it is there.
 * <li>Backpressure: with {@value #FRAMES_MAX} frames of one session being processed its socket is not read. A peer that does not read:
 * as long as its socket is full, answers to {@code stats} are left out, and more than {@value #UNREAD_MAX} pongs and credits end the session.
 * <li>A frame above the limit ends the session; the component would log it and go on.
 * </ul>
 *
 * <p>The newest session of a gateway wins, whichever replica has it; the old one gets {@code error} {@code replaced}. A transaction that
 * writes for a session calls {@link #current} first, and then takes the gateway's row if that names this session: what an old
 * session sent is either committed before the new session's {@code hello} is answered, or not at all.
 *
 * <p>The routes' methods take and set exchange variables: {@code frame} (hello, batch, close or none), {@code gatewayId},
 * {@code sessionId}, {@code logId}, {@code version}, {@code ranges}, {@code lane}, {@code firstSeq}, {@code after},
 * {@code last}, {@code count}, {@code commands} (how many of its rows are about commands), {@code rows} (the batch's JSON text). This class is thread-safe.
 */
public final class Sessions implements AutoCloseable {

    /** Largest command as JSON, in bytes of UTF-8: with what is around it not more than any gateway takes. */
    public static final int COMMAND_BYTES = 65_000;

    static final int FRAMES_MAX = 8;
    static final int UNWRITTEN_MAX = 4_194_304;
    /** Answers that may follow one another on a socket that is full: more than any gateway causes that reads. */
    static final int UNREAD_MAX = 1_000;

    private static final Logger LOG = LoggerFactory.getLogger(Sessions.class);
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String KEY = "CamelVertxWebsocket.connectionKey";
    private static final String EVENT = "CamelVertxWebsocket.event";
    private static final int REMEMBERED_MAX = 4_096;
    static final long SEND_MS = 10_000;
    private static final short POLICY = 1008;

    /** Of a message whose connection is still being taken: the audit log's disk may be slow. */
    volatile long openWaitMs = 10_000;

    private final Trust gateways;
    private final Traces traces;
    private final Frames frames;
    private final int maxFrameBytes;
    private final int maxSessions;
    private final MeterRegistry meters;
    private final ServerTls tls;
    private final Refusals refusals;
    private final Supplier<Audit> audit;
    private final Supplier<String> replica;
    private final Counter framesIn;
    private final Counter bytesIn;
    private final Counter rowsIn;
    private final Counter rowsTwice;
    private final Counter rowsMissing;
    private final Counter commandsSent;
    private final Counter commandsUnsent;
    private final Counter rowsWithoutCredit;
    private final List<Gauge> gauges;
    private final Credits credits;
    private final Presence presence = new Presence();

    private final Map<String, CompletableFuture<Session>> byKey = new ConcurrentHashMap<>();
    private final Map<String, Session> byGateway = new ConcurrentHashMap<>();
    /** Keys that are over, so that what the thread pool still holds of them is dropped without waiting. */
    private final Set<String> over = Collections.synchronizedSet(Collections.newSetFromMap(new LinkedHashMap<>() {
        private static final long serialVersionUID = 1L;

        @Override
        protected boolean removeEldestEntry(Map.Entry<String, Boolean> eldest) {
            return size() > REMEMBERED_MAX;
        }
    }));

    /** A gateway that is connected; {@code version} is null before its hello. */
    record Connected(String gatewayId, long sinceMs, String address, String credential, String version) { }

    /**
     * @param gateways         who may connect
     * @param tls              whose client certificates are good
     * @param maxFrameBytes    largest frame as sent
     * @param maxInflatedBytes largest batch after gunzip
     * @param maxBatchRows     most rows of a batch
     * @param maxSessions      most gateways connected at one time
     * @param credits          how much backlog may come
     * @param audit            gives null where there is none
     * @param replica          the id under which this process has its lease now
     * @param traces           records what becomes of rows
     */
    Sessions(Trust gateways, ServerTls tls, int maxFrameBytes, int maxInflatedBytes, int maxBatchRows, int maxSessions,
        Credits credits, MeterRegistry meters, Refusals refusals, Supplier<Audit> audit, Supplier<String> replica,
        Traces traces) {
        this.traces = traces;
        this.replica = replica;
        this.gateways = gateways;
        this.tls = tls;
        this.refusals = refusals;
        this.audit = audit;
        this.frames = new Frames(maxInflatedBytes, maxBatchRows, traces);
        this.maxFrameBytes = maxFrameBytes;
        this.maxSessions = maxSessions;
        this.credits = credits;
        this.meters = meters;
        framesIn = Counter.builder("caravan.sessions.frames").description("Frames from gateways").register(meters);
        bytesIn = Counter.builder("caravan.sessions.bytes").description("Bytes of frames from gateways").register(meters);
        rowsIn = Counter.builder("caravan.sessions.rows").description("Rows from gateways that are stored").register(meters);
        rowsTwice = Counter.builder("caravan.sessions.duplicate.rows").description("Rows that were here already").register(meters);
        rowsMissing = Counter.builder("caravan.sessions.missing.rows").description("Rows of a range that a gateway said are lost").register(meters);
        commandsSent = Counter.builder("caravan.sessions.commands").description("Commands written to gateways' connections").tags("outcome", "written").register(meters);
        commandsUnsent = Counter.builder("caravan.sessions.commands").description("Commands written to gateways' connections").tags("outcome", "failed").register(meters);
        rowsWithoutCredit = Counter.builder("caravan.sessions.uncredited.rows").description("Rows of a backlog sent without leave").register(meters);
        gauges = List.of(Gauge.builder("caravan.sessions.open", byGateway, Map::size).description("Gateways connected to this replica").register(meters),
            Gauge.builder("caravan.sessions.backlog.rows", credits, c -> c.wanted() + c.granted()).description("Rows of backlogs that gateways wish to send, or may").register(meters),
            Gauge.builder("caravan.sessions.credit.rows", credits, Credits::granted).description("Rows of backlogs that gateways may send now").register(meters));
    }

    /** First step for every event of the consumer: sets {@code frame} and what belongs to it; answers what is refused. */
    public void receive(Exchange exchange) throws Exception {
        exchange.setVariable("frame", "none");
        if (exchange.getMessage().getHeader(EVENT) == null) {
            throw new IllegalStateException("header " + EVENT + " is missing: the allow-list before this step must keep it");
        }
        String event = String.valueOf(exchange.getMessage().getHeader(EVENT));
        Object key = exchange.getMessage().getHeader(KEY);
        if (exchange.getMessage().getBody() instanceof ServerWebSocket socket) {
            // Not the event header: a query can make a list of it.
            open(key, socket);
        } else if (key instanceof String known) {
            if (event.equals("CLOSE")) {
                close(exchange, known);
            } else if (event.equals("MESSAGE")) {
                message(exchange, known);
            }
        }
        // A key or event that became a list comes from a handshake with a query: its OPEN was refused.
    }

    /**
     * Called inside a transaction that writes for the exchange's session.
     *
     * @throws FrameException the session is over or was replaced
     */
    public void current(Exchange exchange) throws FrameException {
        Session session = session(exchange);
        if (session == null || byGateway.get(session.gateway) != session) {
            throw new FrameException("replaced", "the session is over or a newer one took its place");
        }
    }

    /** @throws FrameException always: the store has body, which may be null, as the newest session of this gateway, or none of this one */
    public void fenced(Exchange exchange) throws FrameException {
        Object newest = exchange.getMessage().getBody();
        throw newest == null ? new FrameException("not_current", "the cloud does not know this connection any more, connect again")
            : new FrameException("replaced", "a newer session of this gateway was opened at another replica of the cloud");
    }

    /** @throws FrameException always: the lease under which this session was opened is over */
    public void dead(Exchange exchange) throws FrameException {
        throw new FrameException("not_current", "this replica of the cloud has no lease now, connect again");
    }

    /** @throws FrameException always: the batch begins after something the cloud does not have */
    public void gap(Exchange exchange) throws FrameException {
        throw new FrameException("gap", "batch begins after " + exchange.getVariable("after") + " of range "
            + exchange.getVariable("firstSeq") + ", of which this cloud does not have everything");
    }

    /** Rows the gateway has been acked for and this cloud does not have: they were lost here, and are not sent again. */
    public void missing(Exchange exchange) {
        long rows = exchange.getVariable("missing", Long.class);
        if (rows > 0) {
            rowsMissing.increment(rows);
            LOG.error("gateway [{}] log [{}]: {} rows were acked once and are not in this store any more; was it restored"
                + " from a backup or made anew?", exchange.getVariable("gatewayId"), exchange.getVariable("logId"), rows);
        }
    }

    /** The session's hello is committed: sends the body (JSON text) as its answer and takes batches from now on. */
    public void welcome(Exchange exchange) throws UplinkClosedException {
        Session session = live(exchange);
        session.logId = exchange.getVariable("logId", String.class);
        session.version = exchange.getVariable("version", String.class);
        LOG.info("gateway [{}] connected, session {}, log [{}], version [{}]", session.gateway, session.key, session.logId,
            exchange.getVariable("version"));
        write(session, exchange.getMessage().getBody(String.class));
        // Behind the welcome, so that the gateway knows first how far its outbox is.
        session.commands = session.features.contains("command");
    }

    /** The batch is committed: tells the gateway. Variable {@code stored}: rows that were new. */
    public void ack(Exchange exchange) throws UplinkClosedException {
        long count = exchange.getVariable("count", Long.class);
        Long stored = exchange.getVariable("stored", Long.class);
        rowsIn.increment(count);
        rowsTwice.increment(count - (stored == null ? 0 : stored));
        Session session = session(exchange);
        rowsWithoutCredit.increment(credits.committed(session == null ? null : session.share, stored == null ? 0 : stored,
            "historical".equals(exchange.getVariable("lane")) ? count : 0));
        write(live(exchange), "{\"type\":\"ack\",\"log_id\":\"" + exchange.getVariable("logId") + "\",\"first_seq\":"
            + exchange.getVariable("firstSeq") + ",\"last\":" + exchange.getVariable("last") + "}");
    }

    /** @return whether any gateway has a backlog that it may not send yet; then {@link #share} is to be called */
    public boolean backlog() {
        return credits.begin();
    }

    /**
     * Lets the gateways that have a backlog send as much of it as there is room for.
     *
     * @param unapplied rows that are committed and the store has not applied, read after {@link #backlog}
     */
    public void share(long unapplied) {
        credits.unapplied(unapplied);
    }

    /**
     * Who can be sent commands from this very process: connected here, welcomed, and with feature {@code command} in its hello. An
     * older gateway is not among them: its commands wait, and expire.
     *
     * @return gateway id to session id, as it is now; a new session has a new id
     */
    public Map<String, String> commandSessions() {
        Map<String, String> sessions = new TreeMap<>();
        byGateway.values().stream().filter(s -> s.commands && !s.socket.isClosed()).forEach(s -> sessions.put(s.gateway, s.key));
        return sessions;
    }

    /**
     * Sends commands to a gateway that is among {@link #commandSessions}. Never blocks. What is sent on one session leaves in the order of
     * the calls, in as many frames as it needs.
     *
     * @param commands JSON text of each, docs/contract.md section 7; at most {@value #COMMAND_BYTES} bytes of UTF-8 each. Asked for
     *     twice, now for its size and when the connection's turn to write has come: only then is it known what is left of its time
     * @return completes on a worker thread when the socket took all, which is no evidence that it arrived. With
     *     {@link UplinkClosedException} when that session is not here (any more), has {@value #UNWRITTEN_MAX} bytes waiting, or did not take it
     *     within {@value #SEND_MS} ms and was closed: the gateway may have all, some or none of it. With {@link IllegalArgumentException}: one
     *     is too large, and none was sent
     */
    public CompletionStage<Void> command(String gatewayId, String sessionId, List<Supplier<String>> commands) {
        return send(gatewayId, sessionId, "{\"type\":\"command\",\"commands\":[", commands, "]}");
    }

    /**
     * Asks a gateway to take commands back; otherwise as {@link #command}.
     *
     * @param by who wants it, for people, at most 128 characters
     */
    public CompletionStage<Void> cancel(String gatewayId, String sessionId, List<String> ids, String by) {
        try {
            List<Supplier<String>> quoted = new ArrayList<>(ids.size());
            for (String id : ids) {
                String text = JSON.writeValueAsString(id);
                quoted.add(() -> text);
            }
            return send(gatewayId, sessionId, "{\"type\":\"command-cancel\",\"by\":" + JSON.writeValueAsString(by) + ",\"ids\":[", quoted, "]}");
        } catch (JsonProcessingException e) {
            return CompletableFuture.failedFuture(e);
        }
    }

    private CompletionStage<Void> send(String gateway, String sessionId, String head, List<Supplier<String>> items, String tail) {
        List<Supplier<String>> frames = new ArrayList<>();
        int from = 0;
        int bytes = 0;
        long total = 0;
        for (int i = 0; i < items.size(); i++) {
            int size = items.get(i).get().getBytes(StandardCharsets.UTF_8).length + 1;
            if (size > COMMAND_BYTES + 1) {
                return CompletableFuture.failedFuture(new IllegalArgumentException("command of [" + (size - 1) + "] bytes for gateway ["
                    + gateway + "] must not exceed " + COMMAND_BYTES));
            }
            if (i - from == CommandFrames.LIST_MAX || i > from && bytes + size > COMMAND_BYTES + 1) {
                frames.add(frame(head, items.subList(from, i), tail));
                from = i;
                bytes = 0;
            }
            bytes += size;
            total += size;
        }
        if (from < items.size()) {
            frames.add(frame(head, items.subList(from, items.size()), tail));
        }
        Session session = byGateway.get(gateway);
        if (session == null || !session.key.equals(sessionId) || !session.commands || session.ended || session.socket.isClosed()) {
            return CompletableFuture.failedFuture(new UplinkClosedException("gateway [" + gateway + "] session [" + sessionId
                + "] takes no commands here: it is over, not welcomed yet, or an older gateway's"));
        }
        return session.send(frames, total).whenComplete((done, error) -> (error == null ? commandsSent : commandsUnsent).increment(items.size()));
    }

    /** Processing a frame failed with the caught exception: tells the gateway why and closes its session. */
    public void fail(Exchange exchange) {
        Throwable error = exchange.getProperty(Exchange.EXCEPTION_CAUGHT, Throwable.class);
        Throwable root = error;
        while (root != null && !(root instanceof FrameException) && root.getCause() != null) {
            root = root.getCause();
        }
        Session session = session(exchange);
        if (root instanceof FrameException refused) {
            end(session, refused.reason(), refused.getMessage());
        } else if (error instanceof UplinkClosedException) {
            LOG.debug("gateway [{}] went before it was answered", exchange.getVariable("gatewayId"));
            // Its CLOSE may have been processed before its hello was committed.
            exchange.setVariable("undone", "hello".equals(exchange.getVariable("frame")));
        } else {
            LOG.error("gateway [{}] frame could not be stored, the session is closed and the gateway will send it again",
                exchange.getVariable("gatewayId"), error);
            end(session, "store_unavailable", "the cloud cannot store it now");
        }
    }

    /** @return JSON list of {@code {"gateway_id","session_id"}}: those whose hello is committed */
    public String welcomed() throws JsonProcessingException {
        // When the consumer stops, its sockets close and nobody routes their CLOSE.
        byGateway.values().stream().filter(s -> s.socket.isClosed()).toList().forEach(this::gone);
        return JSON.writeValueAsString(byGateway.values().stream().filter(s -> s.logId != null && !s.ended)
            .map(s -> Map.of("gateway_id", s.gateway, "session_id", s.key)).toList());
    }

    /** Ends the sessions that the body names, a JSON list of {@code {"session_id","newest"}}: the store has another one, or none. */
    public void superseded(Exchange exchange) throws JsonProcessingException {
        for (JsonNode one : JSON.readTree(exchange.getMessage().getBody(String.class))) {
            CompletableFuture<Session> known = byKey.get(one.get("session_id").asText());
            Session session = known == null ? null : known.getNow(null);
            boolean replaced = one.hasNonNull("newest");
            if (end(session, replaced ? "replaced" : "not_current", replaced
                ? "a newer session of this gateway was opened at another replica of the cloud" : "the cloud does not know this connection any more, connect again")) {
                audited("gateway.replaced", session, "ok", Map.of("address", session.address, "by", one.path("newest").asText("")));
            }
        }
    }

    /** @return of the session ids in the body, a JSON list, those that are not here (any more), as a JSON list */
    public String gone(Exchange exchange) throws JsonProcessingException {
        List<String> gone = new ArrayList<>();
        for (JsonNode one : JSON.readTree(exchange.getMessage().getBody(String.class))) {
            CompletableFuture<Session> known = byKey.get(one.asText());
            Session session = known == null ? null : known.getNow(null);
            if (session == null || session.ended) {
                gone.add(one.asText());
            }
        }
        return JSON.writeValueAsString(gone);
    }

    /** This replica was taken for dead: ends every session that was opened before it had this id. */
    void lost(String replicaId) {
        for (Session session : byGateway.values()) {
            if (!session.replica.equals(replicaId)) {
                end(session, "not_current", "this replica of the cloud was taken for dead, connect again");
            }
        }
    }

    /** @return the gateways that are connected now */
    List<Connected> list() {
        return byGateway.values().stream().filter(s -> !s.socket.isClosed()).map(s -> new Connected(s.gateway, s.sinceMs, s.address,
            s.shown.toString(), s.version)).toList();
    }

    /**
     * Ends every session whose credential is not valid any more.
     *
     * @param certificates whether authorities or revocation lists changed, so that certificates are to be looked at as well
     */
    void recheck(boolean certificates) {
        for (Session session : byGateway.values()) {
            String refusal = refusal(session, certificates);
            if (refusal != null) {
                cut(session, refusal);
            }
        }
    }

    private String refusal(Session session, boolean certificates) {
        String refusal = gateways.decide(session.gateway, session.shown).refusal();
        if (refusal == null && session.shown.certificateName() != null) {
            if (certificates) {
                return tls.refusal(session.chain);
            }
            try {
                session.chain[0].checkValidity();
            } catch (CertificateException e) {
                return "certificate_expired";
            }
        }
        return refusal;
    }

    private void cut(Session session, String refusal) {
        if (end(session, "not_authorized", "what this connection was made with is not valid any more: " + refusal)) {
            audited("gateway.cut", session, refusal, Map.of("credential", session.shown.toString()));
        }
    }

    /** @return false: it could not be written */
    private boolean audited(String action, Session session, String outcome, Map<String, String> details) {
        Audit log = audit.get();
        if (log == null) {
            return true;
        }
        try {
            log.record(action, session.gateway, outcome, details);
            return true;
        } catch (RuntimeException e) {
            LOG.error("gateway [{}]: [{}] could not be written to the audit log", session.gateway, action, e);
            return false;
        }
    }

    @Override
    public void close() {
        byGateway.values().forEach(s -> s.socket.close());
        byGateway.clear();
        byKey.clear();
        gauges.forEach(meters::remove);
    }

    private void open(Object key, ServerWebSocket socket) {
        if (!(key instanceof String known)) {
            refusals.refused("bad_frame", null, socket.remoteAddress().hostAddress(), "the path must not have a query");
            tell(socket, "bad_frame", "the path must not have a query");
            return;
        }
        String path = socket.path() == null ? "" : socket.path();
        String gateway = path.substring(path.lastIndexOf('/') + 1);
        X509Certificate[] chain = Listener.certificates(socket.sslSession());
        GatewaysFile.Decision decision = gateways.decide(gateway, Listener.shown(socket.headers().getAll("Authorization"), socket.sslSession()));
        // The worker's context is the socket's: its consumer was called there.
        Session session = new Session(known, gateway, decision.used(), chain, socket, Vertx.currentContext(), replica.get());
        // Before anything that waits for a disk. Vert.x has written the pong by then, whether or not the peer reads.
        session.context.runOnContext(go -> {
            if (!socket.isClosed()) {
                socket.frameHandler(frame -> {
                    if (frame.isPing()) {
                        reads(session);
                    }
                });
            }
        });
        if (socket.query() != null) {
            refuse(session, "bad_frame", "the path must not have a query");
        } else if (!Frames.isId(gateway) || decision.refusal() != null) {
            refuse(session, "not_authorized", "gateway id and credential do not match");
        } else if (!Connection.PROTOCOL.equals(socket.subProtocol())) {
            refuse(session, "bad_frame", "subprotocol must be " + Connection.PROTOCOL);
        } else if (byGateway.size() >= maxSessions && !byGateway.containsKey(gateway)) {
            refuse(session, "store_unavailable", "too many gateways are connected");
        } else if (!audited("gateway.connect", session, "ok", Map.of("address", session.address, "credential", session.shown.toString()))) {
            refuse(session, "store_unavailable", "the audit log cannot be written");
        } else if (socket.isClosed()) {
            // It went while this waited: it must not take the place of a session that stands.
            session.ended = true;
            opened(session);
            gone(session);
            audited("gateway.disconnect", session, "ok", Map.of("address", session.address));
        } else {
            socket.exceptionHandler(error -> {
                // A connection that broke is told by CLOSE.
                if (!(error instanceof IOException || error instanceof VertxException)) {
                    end(session, "bad_frame", String.valueOf(error.getMessage()));
                }
            });
            Session old = byGateway.put(gateway, session);
            boolean inTime = opened(session);
            if (old != null && end(old, "replaced", "a newer session of this gateway was opened, from " + session.address)) {
                audited("gateway.replaced", old, "ok", Map.of("address", old.address, "by", session.address));
            }
            // What was decided above may have changed before the session could be found here.
            String refusal = refusal(session, false);
            if (refusal != null) {
                cut(session, refusal);
            }
            if (socket.isClosed()) {
                // CLOSE may have been processed before this OPEN.
                gone(session);
            } else if (!inTime) {
                // Its hello is lost: both sides would wait for the other without end.
                end(session, "not_current", "the cloud took longer than " + openWaitMs + " ms to take this connection, connect again");
            }
        }
    }

    /**
     * On the session's context, for each frame that nobody waits for to be written, so that nothing else bounds them.
     *
     * @return false: the session is over, or is ended now because too many of them wait
     */
    private boolean reads(Session session) {
        if (session.socket.isClosed()) {
            return false;
        }
        session.unread = full(session) ? session.unread + 1 : 0;
        if (session.unread <= UNREAD_MAX) {
            return true;
        }
        // Its pings would be answered until the closing timeout.
        session.socket.pause();
        end(session, "bad_frame", "the gateway does not read what it is answered: " + UNREAD_MAX + " frames wait for its socket");
        return false;
    }

    /** @return whether what is written now would have to wait, or is lost */
    private static boolean full(Session session) {
        try {
            return session.socket.writeQueueFull();
        } catch (IllegalStateException closed) {
            return true;
        }
    }

    /** @return false: a message of it waited in vain, or it is over already */
    private boolean opened(Session session) {
        return byKey.computeIfAbsent(session.key, k -> new CompletableFuture<>()).complete(session) && !over.contains(session.key);
    }

    private void refuse(Session session, String reason, String message) {
        session.ended = true;
        opened(session);
        over.add(session.key);
        byKey.remove(session.key);
        refusals.refused(reason, session.gateway, session.address, message);
        tell(session.socket, reason, message);
    }

    private static void tell(ServerWebSocket socket, String reason, String message) {
        String text;
        try {
            text = JSON.writeValueAsString(Map.of("type", "error", "reason", reason, "message", message));
        } catch (JsonProcessingException e) {
            throw new IllegalStateException(e);
        }
        if (!socket.isClosed()) {
            // Not when the text was written: a peer that reads nothing would stay. The closing timeout ends it in any case.
            socket.writeTextMessage(text);
            socket.close(POLICY, reason);
        }
    }

    /** @return whether the session was still open */
    private boolean end(Session session, String reason, String message) {
        if (session == null || session.ended || !session.over.compareAndSet(false, true)) {
            return false;
        }
        leave(session);
        byGateway.remove(session.gateway, session);
        LOG.warn("gateway [{}] session {} ended: {}: {}", session.gateway, session.key, reason, message);
        refusals.count(reason);
        tell(session.socket, reason, message);
        return true;
    }

    private void gone(Session session) {
        leave(session);
        byGateway.remove(session.gateway, session);
        over.add(session.key);
        byKey.remove(session.key);
    }

    private void close(Exchange exchange, String key) {
        over.add(key);
        CompletableFuture<Session> known = byKey.remove(key);
        Session session = known == null || known.isCompletedExceptionally() ? null : known.getNow(null);
        if (session == null) {
            return;
        }
        gone(session);
        LOG.info("gateway [{}] session {} is gone", session.gateway, key);
        audited("gateway.disconnect", session, "ok", Map.of("address", session.address));
        exchange.setVariable("gatewayId", session.gateway);
        exchange.setVariable("sessionId", session.key);
        exchange.setVariable("frame", "close");
    }

    private void message(Exchange exchange, String key) throws InterruptedException {
        Session session = known(key);
        if (session == null || session.ended) {
            return;
        }
        int busy = session.busy.incrementAndGet();
        exchange.getExchangeExtension().addOnCompletion(new SynchronizationAdapter() {
            @Override
            public boolean allowHandover() {
                // A seda: step would take it along, and lose it with a signal that is discarded because the queue is full.
                return false;
            }

            @Override
            public void onDone(Exchange done) {
                if (session.busy.decrementAndGet() == FRAMES_MAX / 2) {
                    session.context.runOnContext(go -> {
                        if (session.unread <= UNREAD_MAX) {
                            session.socket.resume();
                        }
                    });
                }
            }
        });
        if (busy == FRAMES_MAX) {
            session.context.runOnContext(go -> {
                if (session.busy.get() >= FRAMES_MAX / 2 + 1) {
                    session.socket.pause();
                }
            });
        }
        exchange.setVariable("gatewayId", session.gateway);
        exchange.setVariable("sessionId", session.key);
        Object body = exchange.getMessage().getBody();
        int bytes = body instanceof byte[] b ? b.length : body instanceof String s ? s.length() : 0;
        framesIn.increment();
        bytesIn.increment(bytes);
        try {
            String refusal = refusal(session, false);
            if (refusal != null) {
                cut(session, refusal);
                return;
            }
            if (bytes > maxFrameBytes) {
                throw new FrameException("bad_frame", "frame must not exceed " + maxFrameBytes + " bytes");
            }
            if (body instanceof byte[] gzip) {
                batch(exchange, session, frames.batch(gzip));
            } else {
                control(exchange, session, frames.control(String.valueOf(body)));
            }
        } catch (FrameException e) {
            end(session, e.reason(), e.getMessage());
        }
    }

    /** @return the session of the key, after its OPEN has been processed; null when it is over or never was */
    private Session known(String key) throws InterruptedException {
        if (over.contains(key)) {
            return null;
        }
        CompletableFuture<Session> opening = byKey.computeIfAbsent(key, k -> new CompletableFuture<>());
        try {
            return opening.get(openWaitMs, TimeUnit.MILLISECONDS);
        } catch (TimeoutException | ExecutionException e) {
            if (!opening.completeExceptionally(e) && !opening.isCompletedExceptionally()) {
                return opening.getNow(null);   // just in time
            }
            over.add(key);
            byKey.remove(key, opening);
            return null;
        }
    }

    private void control(Exchange exchange, Session session, JsonNode node) throws FrameException {
        String type = node.get("type").textValue();
        if (type.equals("batch")) {
            throw new FrameException("bad_frame", "a batch must be a binary frame");
        }
        if (type.equals("backlog")) {
            backlog(session, frames.rows(node));
            return;
        }
        if (type.equals("stats")) {
            stats(session, node);
            return;
        }
        if (!type.equals("hello")) {
            return;
        }
        if (!session.greeted.compareAndSet(0, 1)) {
            throw new FrameException("bad_frame", "hello must come once");
        }
        Frames.Hello hello = frames.hello(node, session.gateway);
        session.features = hello.features();
        exchange.setVariable("logId", hello.logId());
        exchange.setVariable("version", hello.version());
        exchange.setVariable("ranges", hello.ranges());
        exchange.setVariable("replicaId", session.replica);
        exchange.setVariable("frame", "hello");
    }

    /** Answered at once, not when it is stored: the answer says what time it is, and nothing else. Behind other frames it would say it wrong. */
    private void stats(Session session, JsonNode frame) {
        if (session.logId == null || byGateway.get(session.gateway) != session) {
            return;
        }
        String answer = presence.stats(session.gateway, frame, System.currentTimeMillis());
        if (answer != null) {
            session.context.runOnContext(go -> {
                if (!full(session)) {
                    session.socket.writeTextMessage(answer);
                }
            });
        }
    }

    /**
     * Step of route {@code fleet}. @return a row of {@code gateway_health} for each gateway that is connected here, or was when this was called the
     * last time: column to value
     */
    public List<Map<String, Object>> health() {
        long now = System.currentTimeMillis();
        List<Map<String, Object>> rows = new ArrayList<>();
        Set<String> here = new java.util.TreeSet<>();
        for (Session session : byGateway.values()) {
            if (session.version != null && !session.socket.isClosed() && here.add(session.gateway)) {
                Map<String, Object> row = new java.util.HashMap<>();
                row.put("gateway_id", session.gateway);
                row.put("seen_at_ms", now);
                row.put("connected_at_ms", session.sinceMs);
                row.put("address", session.address);
                row.put("version", session.version);
                presence.fill(session.gateway, row);
                rows.add(row);
            }
        }
        presence.left(here).forEach((gateway, at) -> {
            Map<String, Object> row = new java.util.HashMap<>();
            row.put("gateway_id", gateway);
            row.put("seen_at_ms", at);
            row.put("connected_at_ms", null);
            row.put("address", null);
            row.put("version", null);
            presence.fill(gateway, row);
            rows.add(row);
        });
        presence.keep(here);
        return rows;
    }

    private void backlog(Session session, long rows) throws FrameException {
        if (session.logId == null || !session.features.contains("credit")) {
            throw new FrameException("bad_frame", "backlog must come after the welcome, from a gateway whose hello had credit in its features");
        }
        synchronized (session) {
            if (session.share == null && !session.ended) {
                session.share = credits.join(more -> session.context.runOnContext(go -> {
                    if (reads(session)) {
                        session.socket.writeTextMessage("{\"type\":\"credit\",\"rows\":" + more + "}");
                    }
                }));
            }
        }
        if (session.share != null) {
            credits.wants(session.share, rows);
        }
    }

    private void leave(Session session) {
        if (!session.ended && session.version != null) {
            presence.gone(session.gateway, System.currentTimeMillis());
        }
        Credits.Share share;
        synchronized (session) {
            session.ended = true;
            share = session.share;
        }
        if (share != null) {
            credits.leave(share);
        }
    }

    private void batch(Exchange exchange, Session session, Frames.Batch batch) throws FrameException {
        if (session.logId == null) {
            throw new FrameException("bad_frame", "hello must be answered before a batch is sent");
        }
        if (!session.logId.equals(batch.logId())) {
            throw new FrameException("bad_frame", "batch.log_id must be the one of hello");
        }
        exchange.setVariable("logId", batch.logId());
        exchange.setVariable("lane", batch.lane());
        exchange.setVariable("firstSeq", batch.firstSeq());
        exchange.setVariable("after", batch.after());
        exchange.setVariable("last", batch.last());
        exchange.setVariable("count", batch.rows());
        exchange.setVariable("commands", batch.commands());
        exchange.setVariable("rows", batch.text());
        // Up to the ack, or what is answered instead.
        TraceSpan span = batch.traces().isEmpty() ? null : traces.each(Traces.Stage.RECEIVE, "inbox", batch.traces());
        if (span != null) {
            traces.attach(exchange, span.set("messaging.batch.message_count", batch.rows()).set("gateway.id", session.gateway));
        }
        exchange.getMessage().setBody(null);
        exchange.setVariable("frame", "batch");
    }

    private Session session(Exchange exchange) {
        String key = exchange.getVariable("sessionId", String.class);
        CompletableFuture<Session> known = key == null ? null : byKey.get(key);
        return known == null ? null : known.getNow(null);
    }

    private Session live(Exchange exchange) throws UplinkClosedException {
        Session session = session(exchange);
        if (session == null || session.ended) {
            throw new UplinkClosedException("gateway [" + exchange.getVariable("gatewayId") + "] session ["
                + exchange.getVariable("sessionId") + "] is over");
        }
        return session;
    }

    private static void write(Session session, String text) throws UplinkClosedException {
        if (session.socket.isClosed()) {
            throw new UplinkClosedException("gateway [" + session.gateway + "] is gone");
        }
        try {
            session.socket.writeTextMessage(text).toCompletionStage().toCompletableFuture().get(SEND_MS, TimeUnit.MILLISECONDS);
        } catch (ExecutionException | TimeoutException e) {
            session.socket.close();
            throw new UplinkClosedException("gateway [" + session.gateway + "] did not take the frame within " + SEND_MS
                + " ms, its session is closed", e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new UplinkClosedException("interrupted while writing to gateway [" + session.gateway + "]", e);
        }
    }

    private static Supplier<String> frame(String head, List<Supplier<String>> items, String tail) {
        return () -> items.stream().map(Supplier::get).collect(Collectors.joining(",", head, tail));
    }

    /** One connection that passed OPEN. What it showed is kept to notice when that is not valid any more. */
    private static final class Session {

        final String key;
        final String gateway;
        /** Whose lease it is under. */
        final String replica;
        /** Null where it was refused. */
        final GatewaysFile.Shown shown;
        final X509Certificate[] chain;
        final ServerWebSocket socket;
        final String address;
        final long sinceMs = System.currentTimeMillis();
        final Context context;
        final AtomicInteger busy = new AtomicInteger();
        final AtomicInteger greeted = new AtomicInteger();
        final AtomicBoolean over = new AtomicBoolean();
        /** Bytes of commands that the socket has not taken yet. */
        final AtomicLong unwritten = new AtomicLong();
        /** Pongs and credits since the socket has been full; only on the context. */
        int unread;
        volatile String logId;
        volatile String version;
        volatile Set<String> features = Set.of();
        volatile boolean commands;
        /** Null until the gateway told of a backlog; set and read with {@code ended} under this session's lock. */
        volatile Credits.Share share;
        volatile boolean ended;

        Session(String key, String gateway, GatewaysFile.Shown shown, X509Certificate[] chain, ServerWebSocket socket, Context context, String replica) {
            this.replica = replica;
            this.key = key;
            this.gateway = gateway;
            this.shown = shown;
            this.chain = chain;
            this.socket = socket;
            this.address = socket.remoteAddress() == null ? "?" : socket.remoteAddress().hostAddress();
            this.context = context;
        }

        CompletableFuture<Void> send(List<Supplier<String>> frames, long bytes) {
            if (unwritten.addAndGet(bytes) > UNWRITTEN_MAX) {
                unwritten.addAndGet(-bytes);
                return CompletableFuture.failedFuture(new UplinkClosedException("gateway [" + gateway + "] reads too slowly: more than "
                    + UNWRITTEN_MAX + " bytes of commands wait for its socket"));
            }
            CompletableFuture<Void> sent = new CompletableFuture<>();
            Vertx vertx = context.owner();
            // Always by way of the context: a caller that is on it already would overtake those that are not.
            context.runOnContext(go -> {
                long late = vertx.setTimer(SEND_MS, fired -> socket.close());
                Future<Void> written = Future.succeededFuture();
                for (Supplier<String> frame : frames) {
                    // The last one is written last.
                    written = socket.writeTextMessage(frame.get());
                }
                written.onComplete(result -> {
                    vertx.cancelTimer(late);
                    unwritten.addAndGet(-bytes);
                    // Not the event loop: whoever goes on here goes on with the store.
                    vertx.executeBlocking(() -> result.succeeded() ? sent.complete(null) : sent.completeExceptionally(
                        new UplinkClosedException("gateway [" + gateway + "] did not take the commands, its session is closed", result.cause())), false);
                });
            });
            return sent;
        }
    }
}
