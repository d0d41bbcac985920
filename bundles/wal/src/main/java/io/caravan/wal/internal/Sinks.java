// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Config;
import io.caravan.runtime.TraceSpan;
import io.caravan.runtime.Traces;
import io.caravan.wal.Batch;
import io.caravan.wal.Row;
import io.caravan.wal.SinkException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Future;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.ExchangePattern;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.Route;
import org.apache.camel.support.DefaultExchange;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.MDC;

/**
 * Bean {@code sinks}: what route {@code sink} cannot say in SQL. Reads rows and checks their checksums, bounds a delivery
 * in time, tells failures apart, spaces attempts (on the monotonic clock, so that a step of the wall clock neither
 * hastens nor delays one) and finds a bad record by halving. Positions, states and counts are in the store; here is only
 * what may be forgotten in a crash. Thread-safe; the turns of one sink come one at a time.
 */
public final class Sinks implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Sinks.class);
    private static final String[] NUMBERS = {"batchRows", "batchBytes", "lingerMs", "timeoutMs", "maxRowBytes", "historicalRows"};
    private static final String SEDA = "seda://sink-";
    private static final long RETRY_AFTER_MAX_MS = 3_600_000;
    private static final int ENVELOPE_BYTES = 1_500;
    /** Deliveries that did not even end when interrupted. Above this the sink waits for one of them. */
    private static final int HANGING_MAX = 3;

    private final CamelContext context;
    private final Config config;
    private final SinkLog log;
    private final Traces traces;
    private final ProducerTemplate template;
    private final ExecutorService workers;
    private final AutoCloseable reopened;
    private final Map<String, State> states = new ConcurrentHashMap<>();
    private final SinkReport report;

    /** Of one sink, since this process began; guarded by itself. */
    private static final class State {
        boolean registered;
        long due;               // nanoTime of the next attempt, while attempts > 0
        int attempts;           // failures in a row of the same rows
        long firstFailedAtMs;
        int limit;              // rows per batch while a bad record is looked for; 0: all
        int refusedInARow;
        boolean live;           // the last batch was of the open range
        int hanging;
    }

    Sinks(CamelContext context, Config config, SinkLog log, SinkReport report) {
        this.context = context;
        this.config = config;
        this.log = log;
        this.report = report;
        traces = Traces.of(context);
        template = context.createProducerTemplate();
        // A damaged store may have lost table sink, and with it the entry of a sink.
        reopened = log.onReopened(() -> states.values().forEach(state -> {
            synchronized (state) {
                state.registered = false;
            }
        }));
        workers = context.getExecutorServiceManager().newCachedThreadPool(this, "caravan-sink");
    }

    /** Names of the sinks that have a route in this container at this moment, sorted. */
    public Set<String> installed() {
        Set<String> names = new TreeSet<>();
        for (Route route : context.getRoutes()) {
            String uri = route.getEndpoint().getEndpointUri();
            if (uri.startsWith(SEDA)) {
                int end = uri.indexOf('?');
                names.add(uri.substring(SEDA.length(), end < 0 ? uri.length() : end));
            }
        }
        return names;
    }

    /** Endpoints of the installed sinks' signal queues, separated by {@code ;}. */
    public String signals() {
        StringBuilder endpoints = new StringBuilder();
        for (String sink : installed()) {
            endpoints.append(endpoints.length() == 0 ? "" : ";").append(signal(sink));
        }
        return endpoints.toString();
    }

    private static String signal(String sink) {
        return "seda:sink-" + sink + "?size=1&discardWhenFull=true";
    }

    /** Forgets why the sink waits and what it was looking for, and has it try at once. */
    public void wake(String sink) {
        State state = state(sink);
        synchronized (state) {
            state.attempts = 0;
            state.limit = 0;
            state.refusedInARow = 0;
            state.registered = false; // it may have been removed from the store
        }
        if (installed().contains(sink)) {
            template.sendBody(signal(sink), null);
        }
    }

    /**
     * First step of a turn. Enters a new sink into the store; makes numbers of the template's parameters (SQLite would
     * compare a number with a text otherwise); sets variables {@code due}, {@code limit}, {@code preferLive}; {@code newest}, the
     * end of the log, and {@code waited}: 1 if rows that may wait for a batch to fill have waited long enough.
     *
     * @throws SQLException the store refuses
     */
    public void begin(Exchange exchange) throws SQLException {
        String sink = text(exchange, "sink");
        for (String parameter : NUMBERS) {
            exchange.setVariable(parameter, number(exchange, parameter));
        }
        State state = state(sink);
        synchronized (state) {
            boolean due = (state.attempts == 0 || System.nanoTime() - state.due >= 0) && log.mine(sink);
            exchange.setVariable("due", due);
            if (!due) {
                return;
            }
            if (!state.registered) {
                register(sink, text(exchange, "start"));
                state.registered = true;
            }
            look(exchange, sink, number(exchange, "lingerMs"));
            int rows = (int) number(exchange, "batchRows");
            exchange.setVariable("limit", state.limit > 0 ? Math.min(state.limit, rows) : rows);
            // In turns: live rows are not held up by the backlog, and a steady trickle of them does not hold it up either.
            exchange.setVariable("preferLive", state.live ? 0 : 1);
        }
    }

    private void look(Exchange exchange, String sink, long lingerMs) throws SQLException {
        try (Connection reader = log.reader().getConnection()) {
            exchange.setVariable("newest", log.newest(reader));
            long since = lingerMs == 0 ? 0 : log.waitingSince(reader, sink);
            long now = System.currentTimeMillis();
            // A row from the future: the clock was set back.
            exchange.setVariable("waited", lingerMs == 0 || since != 0 && (since < now - lingerMs || since > now + 1_000) ? 1 : 0);
        }
    }

    private void register(String sink, String start) throws SQLException {
        if (!start.equals("oldest") && !start.equals("now")) {
            throw new IllegalArgumentException("sink-" + sink + ": start [" + start + "] must be oldest or now");
        }
        if (!sink.matches("[a-z0-9][a-z0-9-]{0,62}")) {
            throw new IllegalArgumentException("sink [" + sink + "] must be lower-case letters, digits and hyphens, at most 63");
        }
        try (Connection reader = log.reader().getConnection();
                PreparedStatement known = reader.prepareStatement("SELECT internal FROM sink WHERE name = ?")) {
            known.setString(1, sink);
            try (ResultSet row = known.executeQuery()) {
                if (row.next()) {
                    if (row.getInt(1) == 1) {
                        throw new IllegalArgumentException("sink [" + sink + "] is a part of the container: give this sink another name");
                    }
                    return;
                }
            }
        }
        try (Connection writer = log.writer().getConnection()) {
            writer.setAutoCommit(false);
            try {
                log.register(writer, sink, start.equals("now"));
                writer.commit();
                LOG.info("sink [{}] is new: starts at {}", sink, start);
            } catch (SQLException e) {
                writer.rollback();
                throw e;
            } finally {
                writer.setAutoCommit(true);
            }
        }
        report.refresh();
    }

    /**
     * Reads the rows of variable {@code claim}. Body: {@link Batch}, or null if none can be sent. Variables: {@code read},
     * the last sequence read (before the claim's end when batchBytes was reached); {@code holes}, how many are not in the
     * log any more; {@code refused}, the rows that cannot be sent: damaged, or longer than maxRowBytes.
     */
    public void read(Exchange exchange) throws SQLException {
        Map<?, ?> claim = exchange.getVariable("claim", Map.class);
        String sink = text(exchange, "sink");
        long after = ((Number) claim.get("after")).longValue();
        long last = ((Number) claim.get("last")).longValue();
        long maxBytes = number(exchange, "batchBytes");
        long maxRowBytes = number(exchange, "maxRowBytes");
        boolean historical = "historical".equals(claim.get("lane"));
        List<Row> rows = new ArrayList<>();
        JsonArray refused = new JsonArray();
        long bytes = 0;
        long found = 0;
        long read = after;
        try (Connection reader = log.reader().getConnection();
                PreparedStatement query = reader.prepareStatement(log.rows())) {
            query.setLong(1, after);
            query.setLong(2, last);
            try (ResultSet r = query.executeQuery()) {
                boolean all = true;
                while (r.next()) {
                    SinkLog.Found one = log.row(r, historical);
                    Row row = one.row();
                    int length = row.body() == null ? 0 : row.body().length;
                    if (bytes + length > maxBytes && found > 0) {
                        all = false;
                        break;
                    }
                    long seq = row.seq();
                    read = seq;
                    found++;
                    bytes += length;
                    if (one.fault() != null) {
                        refused.add(corrupt(one));
                        continue;
                    }
                    if (maxRowBytes > 0 && length + ENVELOPE_BYTES > maxRowBytes && row.json().length > maxRowBytes) {
                        refused.add(refusal(seq, "too_large", "the record has " + row.json().length + " bytes, sink-" + sink
                                + " takes " + maxRowBytes, 1, 0));
                        continue;
                    }
                    rows.add(row);
                }
                if (all) {
                    read = last;
                }
            }
        }
        exchange.setVariable("read", read);
        exchange.setVariable("holes", log.dense() ? read - after - found : 0L);
        exchange.setVariable("refused", refused);
        exchange.getMessage().setBody(rows.isEmpty() ? null : new Batch(sink, after + 1, read, rows));
    }

    /**
     * For consumers that are part of the gateway and read the log in SQL: checks the rows of variable {@code claim} where its {@code aged} is 1.
     * Variables: {@code sink}; {@code damaged}, the sequences whose checksum does not hold, a JSON array; {@code dead}, how many; {@code refused}, the
     * same for table dead_letter.
     *
     * @throws SQLException the store refuses
     */
    public void check(Exchange exchange, String sink) throws SQLException {
        Map<?, ?> claim = exchange.getVariable("claim", Map.class);
        JsonArray refused = new JsonArray();
        JsonArray damaged = new JsonArray();
        if (claim.get("aged") instanceof Number aged && aged.intValue() == 1) {
            try (Connection reader = log.reader().getConnection();
                    PreparedStatement query = reader.prepareStatement(log.rows())) {
                query.setLong(1, ((Number) claim.get("after")).longValue());
                query.setLong(2, ((Number) claim.get("last")).longValue());
                try (ResultSet r = query.executeQuery()) {
                    while (r.next()) {
                        SinkLog.Found one = log.row(r, /* historical= */ false);
                        if (one.fault() != null) {
                            damaged.add(one.row().seq());
                            refused.add(corrupt(one));
                        }
                    }
                }
            }
        }
        exchange.setVariable("sink", sink);
        exchange.setVariable("damaged", damaged.toJson());
        dead(exchange, sink, refused);
    }

    private static JsonObject corrupt(SinkLog.Found one) {
        return refusal(one.row().seq(), "corrupt", one.fault() + ": the file is damaged, type wal:verify", 1, 0);
    }

    /**
     * Has {@code direct:deliver-<sink>} deliver the batch and sets variable {@code verdict}: {@code acked},
     * {@code again} (a part of it, at once) or {@code waits}, and what the next steps write down. Does not throw for what
     * the sink does.
     */
    public void deliver(Exchange exchange) {
        String sink = text(exchange, "sink");
        State state = state(sink);
        JsonArray refused = exchange.getVariable("refused", JsonArray.class);
        Batch batch = exchange.getMessage().getBody(Batch.class);
        TraceSpan span = batch == null ? null : trace(sink, state, batch);
        try (TraceSpan.Scope ids = TraceSpan.mdc(span == null ? null : span.traceparent())) {
            long begun = System.nanoTime();
            SinkException failure = batch == null ? null : attempt(exchange, sink, state, batch, number(exchange, "timeoutMs"), span);
            report.attempt(sink, failure, System.nanoTime() - begun, batch == null ? 0 : batch.size());
            ended(span, failure, state.attempts + 1);
            synchronized (state) {
                if (failure == null) {
                    state.refusedInARow = batch == null ? state.refusedInARow : 0;
                    accept(exchange, sink, batch == null ? 0 : batch.size(), refused);
                } else if (failure.kind() == SinkException.Kind.RECORD) {
                    recordFailed(exchange, sink, state, batch, refused, failure);
                } else {
                    waits(exchange, sink, state, failure);
                }
            }
        }
    }

    /** @return a span for each of the batch's sampled messages, as one; null: none */
    private TraceSpan trace(String sink, State state, Batch batch) {
        if (!traces.on()) {
            return null;
        }
        int attempt = state.attempts + 1;
        TraceSpan span = traces.each(attempt == 1 ? Traces.Stage.PUBLISH : Traces.Stage.RETRY, sink,
                () -> batch.stream().map(Row::traceContext).iterator());
        return span == null ? null : span.set("messaging.batch.message_count", batch.size()).set("caravan.attempt", attempt)
                .set("caravan.batch", batch.firstSeq() + "-" + batch.lastSeq());
    }

    /** A sink that is away for hours does not fill traces: of its failures the 1st, 2nd, 4th, 8th and so on are recorded. */
    private static void ended(TraceSpan span, SinkException failure, int attempt) {
        if (span != null && failure != null) {
            span.fail(failure.reason(), failure.getMessage());
        }
        if (span != null && (failure == null || Integer.bitCount(attempt) == 1)) {
            span.end();
        }
    }

    /** The positions are in the store: the next attempt is the first of its rows. */
    public void acked(Exchange exchange) {
        String sink = text(exchange, "sink");
        State state = state(sink);
        Map<?, ?> claim = exchange.getVariable("claim", Map.class);
        synchronized (state) {
            if (state.attempts > 0) {
                LOG.info("sink [{}] delivers again after {} attempts", sink, state.attempts);
            }
            state.attempts = 0;
            state.firstFailedAtMs = 0;
            state.live = !"historical".equals(claim.get("lane")) && "normal".equals(claim.get("origin"));
            if (state.limit > 0) {
                state.limit *= 2;
                if (state.limit >= number(exchange, "batchRows")) {
                    state.limit = 0;
                }
            }
        }
        report.acked(sink, exchange.getVariable("delivered", long.class), exchange.getVariable("dead", long.class));
    }

    private void recordFailed(Exchange exchange, String sink, State state, Batch batch, JsonArray refused, SinkException failure) {
        int rows = batch.size();
        Map<Long, String> named = failure.refused();
        if (named.isEmpty() && rows > 1) {
            state.limit = Math.max(1, rows / 2);
            exchange.setVariable("verdict", "again");
            LOG.debug("sink [{}] refuses a record among {}..{}: halved", sink, batch.firstSeq(), batch.lastSeq());
            return;
        }
        int bad = named.isEmpty() ? 1 : named.size();
        if (bad == rows) {
            long burst = config.getLong("sink.dead.burst");
            if (rows > burst) {
                // Not more than that at a time, and not none either: after sink:resume the next ones become dead letters.
                state.limit = (int) burst;
                exchange.setVariable("verdict", "again");
                return;
            }
            if (state.refusedInARow + bad > burst) {
                waits(exchange, sink, state, new SinkException(SinkException.Kind.CONFIGURATION, "misconfigured",
                        state.refusedInARow + bad + " records in a row were refused and none was taken; mend the sink, or type sink:resume "
                                + sink + " to have further ones become dead letters; the last error: " + failure.getMessage(), 0, failure));
                return;
            }
            state.refusedInARow += bad;
        } else {
            state.refusedInARow = 0;
        }
        for (Row row : batch) {
            String error = named.isEmpty() ? failure.getMessage() : named.get(row.seq());
            if (error != null) {
                refused.add(refusal(row.seq(), failure.reason(), error, state.attempts + 1, state.firstFailedAtMs));
                try (TraceSpan.Scope ids = TraceSpan.mdc(row.traceContext());
                        MDC.MDCCloseable id = MDC.putCloseable("correlation_id", row.correlationId() == null ? "" : row.correlationId())) {
                    LOG.warn("sink [{}]: record seq {} is a dead letter, {}: {}; dead:list shows it, dead:requeue delivers it again when that is mended", sink, row.seq(), failure.reason(), error);
                }
            }
        }
        accept(exchange, sink, rows - bad, refused);
    }

    private static void accept(Exchange exchange, String sink, long delivered, JsonArray refused) {
        exchange.setVariable("verdict", "acked");
        exchange.setVariable("delivered", delivered);
        exchange.setVariable("nowMs", System.currentTimeMillis());
        dead(exchange, sink, refused);
    }

    private static void dead(Exchange exchange, String sink, JsonArray refused) {
        exchange.setVariable("dead", (long) refused.size());
        exchange.setVariable("refused", refused);
        for (Object refusal : refused) {
            ((JsonObject) refusal).put("sink", sink);
            ((JsonObject) refusal).put("dead_at_ms", System.currentTimeMillis());
        }
    }

    private void waits(Exchange exchange, String sink, State state, SinkException failure) {
        boolean configuration = failure.kind() == SinkException.Kind.CONFIGURATION;
        long pause = configuration ? jitter(config.getLong("sink.probe.ms")) : backoff(state.attempts);
        pause = Math.max(pause, Math.min(failure.retryAfterMs(), RETRY_AFTER_MAX_MS));
        long now = System.currentTimeMillis();
        if (state.attempts == 0) {
            state.firstFailedAtMs = now;
            LOG.warn("sink [{}] {}, {}: {}", sink, configuration ? "is failed and is probed" : "is tried again with backoff",
                    failure.reason(), failure.getMessage());
        }
        state.attempts++;
        state.due = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(pause);
        exchange.setVariable("verdict", "waits");
        exchange.setVariable("state", configuration ? "failed" : "running");
        exchange.setVariable("attempts", state.attempts);
        exchange.setVariable("nowMs", now);
        exchange.setVariable("nextAttemptMs", now + pause);
        exchange.setVariable("reason", failure.reason());
        exchange.setVariable("error", failure.getMessage());
    }

    private long backoff(int failuresBefore) {
        long max = config.getLong("sink.retry.max.ms");
        long pause = config.getLong("sink.retry.min.ms");
        for (int i = 0; i < failuresBefore && pause < max; i++) {
            pause *= 2;
        }
        return jitter(Math.min(pause, max));
    }

    /** Half to all of it: gateways that lost the same sink do not come back as one. */
    private static long jitter(long ms) {
        return ms / 2 + ThreadLocalRandom.current().nextLong(ms / 2 + 1);
    }

    private SinkException attempt(Exchange turn, String sink, State state, Batch batch, long timeoutMs, TraceSpan span) {
        synchronized (state) {
            if (state.hanging >= HANGING_MAX) {
                return new SinkException(SinkException.Kind.TRANSIENT, "timeout", state.hanging + " deliveries hang and cannot be "
                        + "interrupted: restart route deliver-" + sink + " or its sink", 0, null);
            }
        }
        Exchange delivery = new DefaultExchange(context, ExchangePattern.InOnly);
        delivery.getMessage().setBody(batch);
        delivery.getMessage().setHeader("CaravanSink", sink);
        delivery.getMessage().setHeader("CaravanFirstSeq", batch.firstSeq());
        delivery.getMessage().setHeader("CaravanLastSeq", batch.lastSeq());
        delivery.getMessage().setHeader("CaravanRows", batch.size());
        delivery.getMessage().setHeader("CaravanBatchKey", new BatchKey(batch));
        delivery.getMessage().setHeader("CaravanBatchDate", batch.date());
        delivery.getMessage().setHeader("CaravanBatchPlace", log.place());
        delivery.getMessage().setHeader("CaravanLane", batch.get(0).lane() == null ? "live" : batch.get(0).lane());
        delivery.getMessage().setHeader("CaravanAttempt", state.attempts + 1);
        Delivery task = new Delivery(delivery, "direct:deliver-" + sink, state, span == null ? null : span.traceparent());
        Future<Exchange> result = workers.submit(task);
        try {
            Exchange done = result.get(timeoutMs, TimeUnit.MILLISECONDS);
            Object said = done.getVariable("failure");
            if (said instanceof SinkException) {
                return (SinkException) said;
            }
            if (done.getException() != null) {
                return Failures.of(done.getException());
            }
            return done.isRollbackOnly() || done.isRollbackOnlyLast() ? new SinkException(SinkException.Kind.TRANSIENT, "error",
                    "route deliver-" + sink + " marked the batch rollback-only", 0, null) : null;
        } catch (TimeoutException e) {
            task.abandon(result);
            return new SinkException(SinkException.Kind.TRANSIENT, "timeout", "no answer within " + timeoutMs + " ms (timeoutMs of sink-"
                    + sink + "): the delivery was interrupted", 0, e);
        } catch (InterruptedException e) {
            task.abandon(result);
            throw new RejectedExecutionException("sink-" + sink + " was stopped during a delivery; the batch is claimed again at the next start", e);
        } catch (ExecutionException e) {
            return Failures.of(e.getCause());
        }
    }

    /** One call of a deliver route, on a thread of its own: a sink that never answers holds up nothing else. */
    private final class Delivery implements Callable<Exchange> {
        private final Exchange exchange;
        private final String endpoint;
        private final State state;
        private final String traceparent;
        private boolean abandoned; // guarded by state, as the next two
        private boolean started;
        private boolean ended;

        Delivery(Exchange exchange, String endpoint, State state, String traceparent) {
            this.traceparent = traceparent;
            this.exchange = exchange;
            this.endpoint = endpoint;
            this.state = state;
        }

        @Override
        public Exchange call() {
            synchronized (state) {
                if (abandoned) {
                    return exchange; // nobody waits for it any more
                }
                started = true;
            }
            try (TraceSpan.Scope ids = TraceSpan.mdc(traceparent)) {
                return template.send(endpoint, exchange);
            } finally {
                synchronized (state) {
                    ended = true;
                    state.hanging -= abandoned ? 1 : 0;
                }
            }
        }

        /** Counts it as hanging until it ends; one that has not begun (the turn was interrupted as it came) never does, and hangs nowhere. */
        void abandon(Future<Exchange> result) {
            synchronized (state) {
                abandoned = !ended;
                state.hanging += abandoned && started ? 1 : 0;
            }
            result.cancel(/* mayInterruptIfRunning= */ true);
        }
    }

    /** Reckoned when somebody reads it: it takes a hash of the whole batch, and not every sink needs it. */
    private static final class BatchKey {
        private final Batch batch;

        BatchKey(Batch batch) {
            this.batch = batch;
        }

        @Override
        public String toString() {
            return batch.key();
        }
    }

    private static JsonObject refusal(long seq, String reason, String error, int attempts, long firstFailedAtMs) {
        JsonObject refusal = new JsonObject();
        refusal.put("seq", seq);
        refusal.put("reason", reason);
        refusal.put("error", error == null ? "" : error);
        refusal.put("attempts", attempts);
        refusal.put("first_failed_at_ms", firstFailedAtMs > 0 ? firstFailedAtMs : System.currentTimeMillis());
        return refusal;
    }

    private State state(String sink) {
        return states.computeIfAbsent(sink, name -> new State());
    }

    private static String text(Exchange exchange, String variable) {
        return String.valueOf(exchange.getVariable(variable));
    }

    private static long number(Exchange exchange, String variable) {
        String value = text(exchange, variable);
        try {
            return Long.parseLong(value.trim());
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException("parameter " + variable + " [" + value + "] of sink-" + text(exchange, "sink")
                    + " must be a whole number");
        }
    }

    @Override
    public void close() throws Exception {
        reopened.close();
        context.getExecutorServiceManager().shutdownNow(workers);
        template.stop();
        log.release();
    }
}
