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
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
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

    private final Config config;
    private final SinkLog log;
    private final MeterRegistry registry;
    private final HealthCheckRegistry health;
    private final Map<String, Seen> sinks = new HashMap<>(); // guarded by this
    private long lookedAt;

    /** A sink as it was when last looked at, and what is registered for it. */
    private static final class Seen {
        final List<Meter> meters = new ArrayList<>();
        final Map<String, Counter> failures = new HashMap<>();
        HealthCheck check;
        Counter delivered;
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

    SinkReport(Config config, SinkLog log, MeterRegistry registry, HealthCheckRegistry health) {
        this.config = config;
        this.log = log;
        this.registry = registry;
        this.health = health;
        refresh();
    }

    /** A delivery ended; failure is null if it went well. */
    synchronized void attempt(String sink, SinkException failure, long nanos, int rows) {
        Seen seen = sinks.get(sink);
        if (seen == null || rows == 0) {
            return;
        }
        seen.attempts.record(nanos, TimeUnit.NANOSECONDS);
        if (failure != null) {
            seen.failures.computeIfAbsent(failure.reason(), reason -> add(seen, Counter.builder("caravan.sink.failures")
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
        lookedAt = System.nanoTime() - 2 * FRESH_NANOS;
        look();
    }

    private synchronized void look() {
        if (System.nanoTime() - lookedAt < FRESH_NANOS) {
            return;
        }
        lookedAt = System.nanoTime();
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
            }
            sinks.entrySet().removeIf(entry -> !entry.getValue().present && unregister(entry.getValue()));
        } catch (SQLException e) {
            LOG.debug("sinks as they were: {}", e.toString()); // the store's own check says what is wrong with it
        }
    }

    private Seen register(String sink) {
        Seen seen = new Seen();
        gauge(seen, sink, "caravan.sink.backlog.rows", "Rows this sink has yet to ack", s -> s.backlog);
        gauge(seen, sink, "caravan.sink.dead.letters.rows", "Rows this sink refused, kept as dead letters", s -> s.deadLetters);
        gauge(seen, sink, "caravan.sink.attempts", "Failed attempts in a row of what it is trying to deliver", s -> s.tries);
        gauge(seen, sink, "caravan.sink.state", "0 running, 1 paused, 2 failed",
                s -> s.state.equals("running") ? 0 : s.state.equals("paused") ? 1 : 2);
        gauge(seen, sink, "caravan.sink.oldest.unacked.age.seconds", "Age of the oldest row this sink has yet to ack",
                s -> s.backlog == 0 || s.oldestMs == 0 ? 0 : Math.max(0, (System.currentTimeMillis() - s.oldestMs) / 1_000.0));
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
        lookedAt = System.nanoTime() + TimeUnit.DAYS.toNanos(1); // a late scrape must not bring them back
    }

    /** Readiness of one sink: progress, not the state of a socket. */
    private final class Check extends AbstractHealthCheck {
        private final Seen seen;

        Check(String sink, Seen seen) {
            super("caravan", "sink:" + sink);
            this.seen = seen;
        }

        @Override
        public boolean isLiveness() {
            return false;
        }

        @Override
        protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
            look();
            boolean failing = seen.state.equals("failed") || seen.tries > 0;
            if (failing && config.getBoolean("sink.readiness")) {
                builder.down();
            } else {
                builder.up();
            }
            if (failing || seen.state.equals("paused")) {
                builder.message(seen.state + (seen.reason == null ? "" : ", " + seen.reason + ": " + seen.error) + "; backlog "
                        + seen.backlog + " rows, " + seen.tries + " attempts");
            }
        }
    }
}
