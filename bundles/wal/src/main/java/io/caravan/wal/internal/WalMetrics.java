// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.DistributionSummary;
import io.micrometer.core.instrument.FunctionCounter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.Meter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Timer;
import io.micrometer.core.instrument.composite.CompositeMeterRegistry;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.ToDoubleFunction;

/** The wal's meters, taken back on close. Prometheus sees {@code caravan_wal_<what>_<unit>}. */
final class WalMetrics implements AutoCloseable {
    private static final String OUTCOMES = "What became of messages that reached the log";

    private MeterRegistry registry;
    private final List<Meter> meters = new ArrayList<>();
    final Counter appended;
    final Counter duplicates;
    final Counter conflicts;
    final Counter replayed;
    final Counter rejected;
    /** Of those rows, without conflicts and replays. */
    final LongAdder rejections = new LongAdder();
    final Counter poisoned;
    final Counter failures;
    final Counter unavailable;
    final Timer commit;
    final Timer wait;
    final DistributionSummary group;
    final Timer checkpoint;
    final Counter checkpointFailures;

    /** @param log whether there is one: without, only what every store has is told */
    WalMetrics(MeterRegistry told, boolean log) {
        // Of no registry: counts nothing.
        registry = log ? told : new CompositeMeterRegistry();
        appended = counter("caravan.wal.appended.rows", "Rows committed to the log");
        duplicates = counter("caravan.wal.duplicate.rows", "Messages that were in the log already");
        conflicts = counter("caravan.wal.conflict.rows", "Messages whose key is in the log with another body");
        replayed = counter("caravan.wal.replayed.rows", "Signed messages that are too old to be told from a replay");
        rejected = counter("caravan.wal.rejected.rows", "Rows committed to table rejected");
        poisoned = counter("caravan.wal.poisoned.rows", "Rows the store refused one by one, kept in table rejected");
        failures = counter("caravan.wal.commit.failures", "Commits that failed and are tried again");
        unavailable = counter("caravan.wal.unavailable.messages", "Messages turned away because the store could not take them");
        commit = timer("caravan.wal.commit", "From taking a group to COMMIT returned, turn included");
        wait = timer("caravan.wal.append.wait", "From append to acknowledgement, of the oldest message of a group");
        group = register(DistributionSummary.builder("caravan.wal.group.rows").description("Messages per commit").register(registry));
        outcome("durable", appended);
        outcome("duplicate", duplicates);
        outcome("conflict", conflicts);
        outcome("replayed", replayed);
        outcome("unavailable", unavailable);
        register(FunctionCounter.builder("caravan.ingest.messages", rejections, LongAdder::sum).description(OUTCOMES).tag("outcome", "rejected").register(registry));
        registry = told;
        checkpoint = timer("caravan.wal.checkpoint", "Checkpoints");
        checkpointFailures = counter("caravan.wal.checkpoint.failures", "Checkpoints that failed or found a reader in the way");
    }

    /** Counts what is counted already: nothing more for each message. */
    private void outcome(String outcome, Counter counter) {
        register(FunctionCounter.builder("caravan.ingest.messages", counter, Counter::count).description(OUTCOMES).tag("outcome", outcome).register(registry));
    }

    <T> void gauge(String name, String description, T of, ToDoubleFunction<T> value, String... tags) {
        meters.add(Gauge.builder(name, of, value).description(description).tags(tags).register(registry));
    }

    <T> void count(String name, String description, T of, ToDoubleFunction<T> value) {
        meters.add(FunctionCounter.builder(name, of, value).description(description).register(registry));
    }

    Counter counter(String name, String description, String... tags) {
        return register(Counter.builder(name).description(description).tags(tags).register(registry));
    }

    Timer timer(String name, String description) {
        return register(Timer.builder(name).description(description).register(registry));
    }

    private <M extends Meter> M register(M meter) {
        meters.add(meter);
        return meter;
    }

    @Override
    public void close() {
        meters.forEach(registry::remove);
    }
}
