// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Config;
import io.caravan.wal.SinkException;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.Meter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Timer;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;
import java.util.function.ToDoubleFunction;
import org.apache.camel.health.HealthCheck;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * What is seen of the sinks: meters with tag {@code sink}, and a readiness check {@code sink:<name>} each, from what is in
 * the store. Looks there at most once a second, when somebody asks. Thread-safe.
 */
final class SinkReport implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(SinkReport.class);
    private static final long FRESH_NANOS = TimeUnit.SECONDS.toNanos(1);
    /** What the age of the oldest row is compared with: how it was about so long ago. */
    private static final long TREND_NANOS = TimeUnit.SECONDS.toNanos(60);
    private static final long TREND_STEP_NANOS = TimeUnit.SECONDS.toNanos(5);
    private static final long TREND_LEAST_NANOS = TimeUnit.SECONDS.toNanos(10);
    private static final int REASONS_MAX = 20;

    private final Config config;
    private final SinkLog log;
    private final MeterRegistry registry;
    private final HealthCheckRegistry health;
    private final List<Meter> meters = new ArrayList<>();
    private final LongSupplier nanos;
    private final Map<String, Seen> sinks = new HashMap<>(); // guarded by this
    private long lookedAt;

    /** A sink as it was when last looked at, and what is registered for it. */
    private static final class Seen {
        final List<Meter> meters = new ArrayList<>();
        final Map<String, Counter> failures = new HashMap<>();
        final ArrayDeque<long[]> trend = new ArrayDeque<>(); // nanos, when the oldest row came
        HealthCheck check;
        Counter delivered;
        Counter succeeded;
        Counter failed;
        Counter retries;
        boolean failedBefore;
        Counter dead;
        Timer attempts;
        boolean present;
        String state = "running";
        String reason;
        String error;
        long tries;
        long backlog;
        long deadLetters;
        long oldestMs;
    }

    /** @param area of the log's own meters: {@code wal}, {@code inbox} */
    SinkReport(Config config, SinkLog log, String area, MeterRegistry registry, HealthCheckRegistry health) {
        this(config, log, area, registry, health, System::nanoTime);
    }

    /** @param nanos monotonic time, ns */
    SinkReport(Config config, SinkLog log, String area, MeterRegistry registry, HealthCheckRegistry health, LongSupplier nanos) {
        this.nanos = nanos;
        this.config = config;
        this.log = log;
        this.registry = registry;
        this.health = health;
        refresh();
        boolean gateway = area.equals("wal");
        meters.add(Gauge.builder(gateway ? "caravan.wal.depth.rows" : "caravan.inbox.depth.rows", () -> largest(s -> s.backlog))
                .description("Rows at least one sink has yet to ack").register(registry));
        meters.add(Gauge.builder(gateway ? "caravan.wal.oldest.unacked.age.seconds" : "caravan.inbox.oldest.unacked.age.seconds", () -> largest(SinkReport::age))
                .description("Age of the oldest of them").register(registry));
    }

    private synchronized double largest(ToDoubleFunction<Seen> value) {
        look();
        return sinks.values().stream().mapToDouble(value).max().orElse(0);
    }

    /** In seconds. */
    private static double age(Seen seen) {
        return seen.backlog == 0 || seen.oldestMs == 0 ? 0 : Math.max(0, (System.currentTimeMillis() - seen.oldestMs) / 1_000.0);
    }

    /** A delivery ended; failure is null if it went well. */
    synchronized void attempt(String sink, SinkException failure, long took, int rows) {
        Seen seen = sinks.get(sink);
        if (seen == null || rows == 0) {
            return;
        }
        seen.attempts.record(took, TimeUnit.NANOSECONDS);
        (failure == null ? seen.succeeded : seen.failed).increment();
        if (seen.failedBefore) {
            seen.retries.increment();
        }
        seen.failedBefore = failure != null;
        if (failure != null) {
            // A route may give any text for a reason.
            String known = seen.failures.containsKey(failure.reason()) || seen.failures.size() < REASONS_MAX ? failure.reason() : "other";
            seen.failures.computeIfAbsent(known, reason -> add(seen, Counter.builder("caravan.sink.failures")
                    .description("Deliveries that failed").tag("sink", sink).tag("reason", reason).register(registry))).increment();
        }
    }

    synchronized void acked(String sink, long rows, long dead) {
        Seen seen = sinks.get(sink);
        if (seen != null) {
            seen.delivered.increment(rows);
            seen.dead.increment(dead);
        }
    }

    /** Looks now: a sink came or went. */
    synchronized void refresh() {
        lookedAt = nanos.getAsLong() - 2 * FRESH_NANOS;
        look();
    }

    private synchronized void look() {
        long now = nanos.getAsLong();
        if (now - lookedAt < FRESH_NANOS) {
            return;
        }
        lookedAt = now;
        try (Connection connection = log.reader().getConnection(); Statement statement = connection.createStatement();
                ResultSet row = statement.executeQuery(log.report())) {
            sinks.values().forEach(seen -> seen.present = false);
            while (row.next()) {
                Seen seen = sinks.computeIfAbsent(row.getString(1), this::register);
                seen.present = true;
                seen.state = row.getString(2);
                seen.reason = row.getString(3);
                seen.error = row.getString(4);
                seen.tries = row.getLong(5);
                seen.backlog = row.getLong(6);
                seen.deadLetters = row.getLong(7);
                seen.oldestMs = row.getLong(8);
                trend(seen, now);
            }
            sinks.entrySet().removeIf(entry -> !entry.getValue().present && unregister(entry.getValue()));
        } catch (SQLException e) {
            LOG.debug("sinks as they were: {}", e.toString()); // the store's own check says what is wrong with it
        }
    }

    private static void trend(Seen seen, long now) {
        if (seen.backlog == 0 || seen.oldestMs == 0) {
            seen.trend.clear();
        } else if (seen.trend.isEmpty() || now - seen.trend.peekLast()[0] >= TREND_STEP_NANOS) {
            seen.trend.add(new long[] {now, seen.oldestMs});
            while (seen.trend.size() > 2 && now - seen.trend.peekFirst()[0] > TREND_NANOS) {
                seen.trend.poll();
            }
        }
    }

    /** Whether the oldest row gets older: what was a long time away and catches up does not. */
    private static boolean ages(Seen seen) {
        if (seen.trend.size() < 2) {
            return false;
        }
        long[] first = seen.trend.peekFirst();
        long[] last = seen.trend.peekLast();
        long passed = last[0] - first[0];
        return passed >= TREND_LEAST_NANOS && TimeUnit.MILLISECONDS.toNanos(last[1] - first[1]) < passed;
    }

    private Seen register(String sink) {
        Seen seen = new Seen();
        gauge(seen, sink, "caravan.sink.backlog.rows", "Rows this sink has yet to ack", s -> s.backlog);
        gauge(seen, sink, "caravan.sink.dead.letters.rows", "Rows this sink refused, kept as dead letters", s -> s.deadLetters);
        gauge(seen, sink, "caravan.sink.attempts", "Failed attempts in a row of what it is trying to deliver", s -> s.tries);
        gauge(seen, sink, "caravan.sink.state", "0 running, 1 paused, 2 failed",
                s -> s.state.equals("running") ? 0 : s.state.equals("paused") ? 1 : 2);
        gauge(seen, sink, "caravan.sink.oldest.unacked.age.seconds", "Age of the oldest row this sink has yet to ack",
                SinkReport::age);
        seen.succeeded = add(seen, Counter.builder("caravan.sink.deliveries").description("Deliveries by how they ended").tag("sink", sink)
                .tag("outcome", "delivered").register(registry));
        seen.failed = add(seen, Counter.builder("caravan.sink.deliveries").description("Deliveries by how they ended").tag("sink", sink)
                .tag("outcome", "failed").register(registry));
        seen.retries = add(seen, Counter.builder("caravan.sink.retries").description("Deliveries that followed a failure").tag("sink", sink).register(registry));
        seen.delivered = add(seen, Counter.builder("caravan.sink.delivered.rows").description("Rows acked").tag("sink", sink).register(registry));
        seen.dead = add(seen, Counter.builder("caravan.sink.refused.rows").description("Rows that became dead letters").tag("sink", sink).register(registry));
        seen.attempts = add(seen, Timer.builder("caravan.sink.delivery").description("Deliveries, failed ones included").tag("sink", sink).register(registry));
        if (health != null) {
            seen.check = new Check(sink, seen);
            health.register(seen.check);
        }
        return seen;
    }

    private void gauge(Seen seen, String sink, String name, String description, ToDoubleFunction<Seen> value) {
        add(seen, Gauge.builder(name, () -> {
            look();
            return value.applyAsDouble(seen);
        }).description(description).tag("sink", sink).register(registry));
    }

    private static <M extends Meter> M add(Seen seen, M meter) {
        seen.meters.add(meter);
        return meter;
    }

    private boolean unregister(Seen seen) {
        seen.meters.forEach(registry::remove);
        if (health != null) {
            health.unregister(seen.check);
        }
        return true;
    }

    @Override
    public synchronized void close() {
        sinks.values().forEach(this::unregister);
        sinks.clear();
        meters.forEach(registry::remove);
        lookedAt = nanos.getAsLong() + TimeUnit.DAYS.toNanos(1); // a late scrape must not bring them back
    }

    /** Readiness of one sink: progress, not the state of a socket. */
    private final class Check extends AbstractHealthCheck {
        private final String name;
        private final Seen seen;

        Check(String sink, Seen seen) {
            super("caravan", "sink:" + sink);
            name = sink;
            this.seen = seen;
        }

        @Override
        public boolean isLiveness() {
            return false;
        }

        @Override
        protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
            synchronized (SinkReport.this) {
                look();
                judge(builder);
            }
        }

        private void judge(HealthCheckResultBuilder builder) {
            boolean paused = seen.state.equals("paused");
            boolean failing = !paused && (seen.state.equals("failed") || seen.tries > 0);
            boolean old = !paused && age(seen) * 1_000 > config.getLong("sink.ready.after.ms");
            boolean stuck = old && ages(seen);
            String text = (paused ? "paused by an operator; sink:resume " + name + " goes on" : seen.state) + (seen.reason == null ? "" : ", " + seen.reason + ": "
                    + seen.error) + "; backlog " + seen.backlog + " rows, " + seen.tries + " attempts";
            if (stuck) {
                text += "; its oldest row waits for " + (long) age(seen) + " s and gets older";
            } else if (old) {
                text += "; its oldest row waits for " + (long) age(seen) + " s, it is catching up";
            }
            if (stuck || failing && config.getBoolean("sink.readiness")) {
                builder.down().detail("todo", "sink:list has the last error: mend what it names, a delivery is tried again by itself; if it is to be away,"
                        + " sink:pause " + name + ". Rows are kept meanwhile, and a restart does not help");
            } else {
                builder.up();
            }
            if (failing || paused || old) {
                builder.message(text);
            }
        }
    }
}
