// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Config;
import io.caravan.runtime.TraceSpan;
import io.caravan.runtime.Traces;
import io.caravan.wal.AppendResult;
import io.caravan.wal.Density;
import io.caravan.wal.Record;
import io.caravan.wal.Rejection;
import io.caravan.wal.StoreUnavailableException;
import io.caravan.wal.Wal;
import io.caravan.wal.WalState;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import org.apache.camel.Exchange;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.MDC;
import org.sqlite.SQLiteConnection;

/**
 * The committer: one thread that takes whatever waits when the last commit ended, writes it in one transaction, and
 * completes the stages after COMMIT returned. A lone message commits at once; under load the groups grow by themselves, and where
 * messages come densely it waits {@code wal.commit.gather.ms} for more (ADR 14).
 *
 * <p>A commit that fails completes nobody. The same messages are tried again, with backoff, until they are on disk or
 * the log stops; a row the store refuses for what it is (not for the state of the disk) is found by halving.
 */
public final class GroupCommit implements Wal, AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(GroupCommit.class);
    private static final long TURN_TIMEOUT_MS = 30_000;
    private static final long BACKOFF_MIN_MS = 100;
    private static final long BACKOFF_MAX_MS = 5_000;
    private static final long SPACE_LOOK_MS = 100;
    private static final long DRAIN_MS = 5_000;
    /** Messages a second from which on a commit waits for more. */
    private static final int DENSE = 2_000;
    /** So many messages share what a commit costs well enough. */
    private static final int GATHERED = 200;
    private static final long GATHER_LOOK_MS = 1;
    private static final long IDLE = Long.MIN_VALUE;

    private final Database database;
    private final Signals signals;
    private final Checkpointer checkpointer;
    private final Space space;
    private final WalMetrics metrics;
    private final Traces traces;
    private final LogWriter log;
    private final boolean ackBeforeCommit;
    private final int maxGroup;
    private final long maxGroupBytes;
    private final int maxQueue;
    private final long maxQueueBytes;
    private final Thread thread = new Thread(this::run, "caravan-wal-commit");

    private final Object lock = new Object();
    private final ArrayDeque<Pending> queue = new ArrayDeque<>();
    private long queueBytes;
    private boolean idle;
    private volatile boolean stopping;
    private long stopDeadline;
    /** Queued and in the group under way. */
    private volatile int waiting;

    // Of the committer's thread.
    private final List<String> kinds = new ArrayList<>();
    private final long gatherNs;
    private final Density density = new Density(DENSE);

    private int generation;            // of the store that the committer's memory is about
    private volatile long busySince = IDLE; // nanoTime; a commit is under way
    private volatile String refusing;  // null: the last commit succeeded
    private volatile long nextAttempt; // nanoTime, while refusing

    GroupCommit(Database database, Config config, Signals signals, Checkpointer checkpointer, Space space, WalMetrics metrics,
            Traces traces) {
        this.traces = traces;
        this.database = database;
        this.signals = signals;
        this.checkpointer = checkpointer;
        this.space = space;
        this.metrics = metrics;
        log = new LogWriter(!"off".equals(config.get("wal.unsafe.dedupe")));
        ackBeforeCommit = UnsafeSwitches.ackBeforeCommit(config.get("wal.unsafe.ack"));
        maxGroup = (int) config.getLong("wal.commit.max");
        maxGroupBytes = config.getLong("wal.commit.max.bytes");
        gatherNs = TimeUnit.MILLISECONDS.toNanos(config.getLong("wal.commit.gather.ms"));
        maxQueue = (int) config.getLong("wal.queue.max");
        maxQueueBytes = config.getLong("wal.queue.max.bytes");
        metrics.gauge("caravan.wal.commit.running.seconds", "For how long the commit that is under way has been", this, wal -> wal.busyNanos() / 1e9);
        metrics.gauge("caravan.wal.queue.rows", "Messages that wait for their commit", this, GroupCommit::queued);
        metrics.gauge("caravan.wal.state", "0 durable, 1 degraded, 2 refusing", this, wal -> wal.state().ordinal());
        thread.setDaemon(true);
    }

    void start() {
        thread.start();
    }

    // ---- callers

    @Override
    public CompletionStage<AppendResult> append(Exchange exchange) {
        Object record = exchange.getVariable("record");
        if (!(record instanceof Record)) {
            return CompletableFuture.failedStage(new IllegalArgumentException("variable record [" + record
                    + "] must be an io.caravan.wal.Record: set it before bean wal, method append"));
        }
        return traced((Record) record,
                enqueue(new Pending((Record) record, null, exchange, header(exchange, "CaravanSource"), header(exchange, "CaravanTopic"))));
    }

    @Override
    public CompletionStage<Void> reject(Exchange exchange) {
        Object rejection = exchange.getVariable("rejection");
        if (!(rejection instanceof Rejection)) {
            return CompletableFuture.failedStage(new IllegalArgumentException("variable rejection [" + rejection
                    + "] must be an io.caravan.wal.Rejection: set it before bean wal, method reject"));
        }
        Rejection r = (Rejection) rejection;
        return enqueue(new Pending(null, r, exchange, r.source(), r.topic())).thenApply(done -> null);
    }

    @Override
    public CompletionStage<AppendResult> submit(Record record, String source, String topic) {
        return traced(record, enqueue(new Pending(record, null, null, source, topic)));
    }

    @Override
    public void receiptRequested(String deviceId) {
        signals.receipts().asked(deviceId);
    }

    @Override
    public WalState state() {
        return refusing != null || database.trouble() != null ? WalState.REFUSING : space.state();
    }

    @Override
    public String reason() {
        String why = refusal();
        return why != null ? why : space.reason();
    }

    @Override
    public int queued() {
        return waiting;
    }

    /** Of a message whose trace is recorded: ends its span, and what goes on then logs with its ids. */
    private CompletableFuture<AppendResult> traced(Record record, CompletableFuture<AppendResult> stage) {
        TraceSpan span = traces.on() ? traces.child(Traces.Stage.APPEND, "wal", record.traceContext()) : null;
        if (span == null) {
            return stage;
        }
        CompletableFuture<AppendResult> done = new CompletableFuture<>();
        stage.whenComplete((result, failure) -> {
            if (failure != null) {
                span.fail(failure.getClass().getName(), failure.getMessage());
            } else {
                span.set("caravan.outcome", result.outcome());
            }
            span.end();
            try (TraceSpan.Scope ids = span.enter()) {
                if (failure != null) {
                    done.completeExceptionally(failure);
                } else {
                    done.complete(result);
                }
            }
        });
        return done;
    }

    private static String header(Exchange exchange, String name) {
        Object value = exchange.getMessage().getHeader(name);
        return value == null ? null : value.toString();
    }

    private CompletableFuture<AppendResult> enqueue(Pending pending) {
        if (database.gate().isMine()) {
            pending.completeExceptionally(new IllegalStateException("append inside a transaction on writer would wait for itself: "
                    + "append first, or insert with SQL"));
            return pending;
        }
        String refused;
        synchronized (lock) {
            refused = whyNot(pending);
            if (refused == null) {
                queue.add(pending);
                queueBytes += pending.bytes();
                waiting++;
                if (idle) {
                    idle = false;
                    lock.notify();
                }
                return pending;
            }
        }
        pending.completeExceptionally(unavailable(refused));
        return pending;
    }

    private String whyNot(Pending pending) {
        if (stopping) {
            return "the log is stopping";
        }
        if (pending.isHttp() && refusal() != null) {
            return refusal();
        }
        if (queue.size() >= maxQueue) {
            return "wal.queue.max [" + maxQueue + "] messages wait for their commit already" + whileRefusing();
        }
        if (queueBytes + pending.bytes() > maxQueueBytes && !queue.isEmpty()) {
            return "wal.queue.max.bytes [" + maxQueueBytes + "] wait for their commit already" + whileRefusing();
        }
        return null;
    }

    private String whileRefusing() {
        String why = refusal();
        return why == null ? "" : "; " + why;
    }

    /** For how long the commit that is under way has been, the turn to write included; 0: none is. A disk that hangs makes no error. */
    long busyNanos() {
        long since = busySince;
        return since == IDLE ? 0 : Math.max(0, System.nanoTime() - since);
    }

    /** The store is being repaired, the last commit failed, or there is no space for one. */
    private String refusal() {
        String why = database.trouble();
        if (why == null) {
            why = refusing;
        }
        return why != null ? why : space.refusal();
    }

    private StoreUnavailableException unavailable(String why) {
        metrics.unavailable.increment();
        long left = refusing != null ? Math.max(0, TimeUnit.NANOSECONDS.toSeconds(nextAttempt - System.nanoTime()))
                : space.refusal() != null ? TimeUnit.MILLISECONDS.toSeconds(BACKOFF_MAX_MS) : 0;
        return new StoreUnavailableException(why, (int) Math.min(left + 1, TimeUnit.MILLISECONDS.toSeconds(BACKOFF_MAX_MS) + 1), null);
    }

    // ---- the committer thread

    private void run() {
        List<Pending> group = new ArrayList<>(maxGroup);
        try {
            while (take(group)) {
                store(group, /* careful= */ false);
                group.clear();
            }
        } catch (Stopped | InterruptedException e) {
            LOG.info("log stopped with {} messages unacknowledged: their senders will send them again", waiting);
        } catch (Throwable e) {
            LOG.error("the committer ended, nothing will be acknowledged any more: restart bundle io.caravan.wal", e);
            refusing = "the committer ended: " + e;
        } finally {
            giveUp(group);
        }
    }

    /** Waits for messages. False: stopping, and all is done. */
    private boolean take(List<Pending> group) throws InterruptedException {
        synchronized (lock) {
            while (queue.isEmpty()) {
                if (stopping) {
                    return false;
                }
                idle = true;
                lock.wait();
            }
            idle = false;
            gather();
            long bytes = 0;
            while (!queue.isEmpty() && group.size() < maxGroup && bytes < maxGroupBytes) {
                Pending pending = queue.poll();
                bytes += pending.bytes();
                group.add(pending);
            }
            queueBytes -= bytes;
        }
        density.add(group.size());
        return true;
    }

    /**
     * Where messages come densely, waits a moment for more: a commit, and what it sets going behind the log, costs the same for one
     * message and for a hundred. Not longer than nothing comes: senders that wait for their acknowledgements are not made to.
     */
    private void gather() throws InterruptedException {
        if (gatherNs == 0 || !density.dense()) {
            return;
        }
        long begun = System.nanoTime();
        for (int before = 0, now = queue.size(); now > before && now < GATHERED && System.nanoTime() - begun < gatherNs && !stopping; now = queue.size()) {
            before = now;
            lock.wait(GATHER_LOOK_MS);
        }
    }

    private void store(List<Pending> group, boolean careful) throws InterruptedException {
        Throwable poison = untilCommitted(group, careful);
        if (poison == null) {
            return;
        }
        if (group.size() > 1 || !careful) {
            // Memory is not trusted after a surprise: look each key up from here on.
            int half = Math.max(1, group.size() / 2);
            store(new ArrayList<>(group.subList(0, half)), true);
            if (half < group.size()) {
                store(new ArrayList<>(group.subList(half, group.size())), true);
            }
            return;
        }
        Pending culprit = group.get(0);
        metrics.poisoned.increment();
        if (culprit.isRejection()) {
            try (MDC.MDCCloseable id = MDC.putCloseable("correlation_id", culprit.rejection().correlationId())) {
                LOG.error("the store refuses a rejected message, correlation id [{}]; it stays unacknowledged: {}",
                        culprit.rejection().correlationId(), poison.toString());
            }
            culprit.completeExceptionally(new IllegalStateException("table rejected refuses this message: " + poison.getMessage(), poison));
            settled(1);
            return;
        }
        try (MDC.MDCCloseable id = MDC.putCloseable("correlation_id", culprit.record.correlationId())) {
            LOG.error("the log refuses message [{}], correlation id [{}]: kept in table rejected: {}", culprit.record.messageKey(),
                    culprit.record.correlationId(), poison.toString());
        }
        culprit.poison("the log refused the row: " + poison.getMessage());
        store(group, true);
    }

    /** @return null: committed and completed. Else what is wrong with the data; nothing was stored then */
    private Throwable untilCommitted(List<Pending> group, boolean careful) throws InterruptedException {
        for (long backoff = BACKOFF_MIN_MS; ; backoff = Math.min(2 * backoff, BACKOFF_MAX_MS)) {
            if (!awaitSpace(group)) {
                return null;
            }
            long begun = System.nanoTime();
            busySince = begun;
            long lastSeq;
            try {
                lastSeq = commit(group, careful);
            } catch (SQLException | RuntimeException | OutOfMemoryError e) {
                busySince = IDLE;
                log.forget();
                database.noticed(e);
                if (StorageError.isPoison(e) && !group.isEmpty()) {
                    return e;
                }
                metrics.failures.increment();
                refuse(e, backoff);
                failHttp(group, refusing);
                if (group.isEmpty() && stopping) {
                    return null;
                }
                // Also with an empty group: who only speaks HTTP is turned away meanwhile and would never cause an attempt.
                pause(backoff);
                continue;
            }
            busySince = IDLE;
            // Outside of the try: it is on disk, nothing that goes wrong from here on may have it written again.
            acknowledge(group, lastSeq, begun);
            return null;
        }
    }

    /** Space that is short stops appends before a commit fails, so that there is some for acks and deletes. False: nothing is left to do. */
    private boolean awaitSpace(List<Pending> group) throws InterruptedException {
        for (String full; (full = space.refusal()) != null; pause(SPACE_LOOK_MS)) {
            failHttp(group, full);
            if (group.isEmpty() && (refusing == null || stopping)) {
                return false;
            }
        }
        return true;
    }

    /** @return highest sequence number of the log, all of it on disk */
    private long commit(List<Pending> group, boolean careful) throws SQLException {
        database.gate().enter(TURN_TIMEOUT_MS);
        try {
            Connection pooled = database.borrow();
            boolean committed = false;
            if (generation != database.generation()) {
                log.forget(); // a salvaged store may know less than this memory
                generation = database.generation();
            }
            try {
                Connection connection = pooled.unwrap(SQLiteConnection.class);
                connection.setAutoCommit(false); // BEGIN IMMEDIATE
                if (group.isEmpty()) {
                    probe(connection);
                }
                long lastSeq = log.write(connection, group, careful);
                if (ackBeforeCommit) {
                    group.forEach(Pending::finish);
                }
                connection.setAutoCommit(true); // COMMIT: returns after fsync
                committed = true;
                return lastSeq;
            } finally {
                if (committed) {
                    pooled.close();
                } else {
                    // A new connection is certain to be outside a transaction; this one's state is a guess.
                    database.discard(pooled);
                }
            }
        } finally {
            database.gate().leave();
        }
    }

    /** A commit without a change would not touch the disk and prove nothing. */
    private static void probe(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("UPDATE meta SET created_at_ms = created_at_ms");
        }
    }

    private void acknowledge(List<Pending> group, long lastSeq, long begun) {
        if (refusing != null) {
            refusing = null;
            space.commitSucceeded();
        }
        if (group.isEmpty()) {
            log.reset();
            return;
        }
        long now = System.nanoTime();
        metrics.commit.record(now - begun, TimeUnit.NANOSECONDS);
        metrics.wait.record(now - group.get(0).queuedAt, TimeUnit.NANOSECONDS);
        metrics.group.record(group.size());
        int appended = 0;
        int duplicates = 0;
        int rejections = 0;
        int conflicts = 0;
        int replays = 0;
        long bytes = 0;
        kinds.clear();
        String kind = null;
        for (int i = 0; i < group.size(); i++) {
            Pending pending = group.get(i);
            bytes += pending.bytes();
            if (pending.isRejection()) {
                rejections++;
            } else if (pending.isDurable()) {
                appended++;
                if (!pending.record.kind().equals(kind)) {
                    kind = pending.record.kind();
                    if (!kinds.contains(kind)) {
                        kinds.add(kind);
                    }
                }
            } else if (pending.isDuplicate()) {
                duplicates++;
            } else if (pending.isReplayed()) {
                replays++;
            } else {
                conflicts++;
            }
            try {
                pending.finish();
            } catch (RuntimeException e) {
                // Not the continuation, whose exceptions end in its own stage: the exchange itself does not take a variable.
                pending.completeExceptionally(e);
            }
        }
        settled(group.size());
        metrics.appended.increment(appended);
        metrics.duplicates.increment(duplicates);
        metrics.conflicts.increment(conflicts);
        metrics.replayed.increment(replays);
        metrics.rejected.increment(rejections + conflicts + replays);
        metrics.rejections.add(rejections);
        signals.receipts().committed(log.committed());
        log.reset();
        if (appended > 0) {
            signals.committed(lastSeq, kinds);
        }
        checkpointer.written(bytes);
        space.written(bytes);
    }

    private void settled(int messages) {
        synchronized (lock) {
            waiting -= messages;
        }
    }

    private void refuse(Throwable error, long backoff) {
        String why = StorageError.describe(error, database.file());
        nextAttempt = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(backoff);
        if (refusing != null && backoff == BACKOFF_MAX_MS) {
            LOG.warn("commit still fails: {}", why);
        }
        synchronized (lock) {
            refusing = why;
        }
        space.commitFailed(error, "commit failed, nothing is acknowledged until one succeeds, trying again with backoff: " + why);
    }

    /** An HTTP client can be told to come again; it would not wait anyway. Nothing of its message is kept. */
    private void failHttp(List<Pending> group, String why) {
        List<Pending> failed = new ArrayList<>();
        move(group.iterator(), failed);
        synchronized (lock) {
            int before = failed.size();
            move(queue.iterator(), failed);
            for (Pending pending : failed.subList(before, failed.size())) {
                queueBytes -= pending.bytes();
            }
            waiting -= failed.size();
        }
        failed.forEach(pending -> pending.completeExceptionally(unavailable(why)));
    }

    private static void move(Iterator<Pending> from, List<Pending> to) {
        while (from.hasNext()) {
            Pending pending = from.next();
            if (pending.isHttp()) {
                from.remove();
                to.add(pending);
            }
        }
    }

    private void pause(long ms) throws InterruptedException {
        long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(ms);
        synchronized (lock) {
            for (long left; (left = until - System.nanoTime()) > 0; ) {
                if (stopping && System.nanoTime() >= stopDeadline) {
                    break;
                }
                if (stopping) {
                    left = Math.min(left, stopDeadline - System.nanoTime());
                }
                lock.wait(left / 1_000_000, (int) (left % 1_000_000));
            }
            if (stopping && System.nanoTime() >= stopDeadline) {
                throw new Stopped();
            }
        }
    }

    private void giveUp(List<Pending> group) {
        List<Pending> left;
        synchronized (lock) {
            stopping = true;
            left = new ArrayList<>(group);
            left.addAll(queue);
            queue.clear();
            queueBytes = 0;
            waiting = 0;
        }
        StoreUnavailableException stopped = new StoreUnavailableException("the log stopped before this message was on disk", 5, null);
        left.forEach(pending -> pending.completeExceptionally(stopped));
    }

    /** Commits what is queued, up to 5 s, then leaves the rest unacknowledged. */
    @Override
    public void close() {
        synchronized (lock) {
            stopping = true;
            stopDeadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(DRAIN_MS);
            lock.notifyAll();
        }
        try {
            thread.join(DRAIN_MS + 1_000);
            if (thread.isAlive()) {
                thread.interrupt();
                thread.join(1_000);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        if (thread.isAlive()) {
            LOG.warn("the committer did not end: a disk that hangs? {}", reason());
        }
    }

    private static final class Stopped extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Stopped() {
            super("stopped", null, false, false);
        }
    }
}
