// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.micrometer.core.instrument.Meter;
import io.micrometer.core.instrument.config.MeterFilter;
import io.micrometer.core.instrument.config.MeterFilterReply;
import io.micrometer.core.instrument.distribution.DistributionStatisticConfig;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;

/**
 * What holds for every meter, whoever makes it: the fixed buckets of histograms, and a ceiling to the series of a metric, so that
 * a label that is not as bounded as its author thought costs counts and not the memory of the box. Thread-safe.
 */
final class MeterRules implements MeterFilter {

    static final int SERIES_MAX = 500;

    /** In seconds, from what a disk's cache takes to what a dead peer does. */
    private static final double[] SECONDS = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30};
    private static final double[] PIECES = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000};
    private static final String OURS = "caravan";
    /** By what follows {@link #OURS} and a dot. */
    private static final Map<String, double[]> BUCKETS = Map.ofEntries(
            Map.entry("http.request", SECONDS),
            Map.entry("wal.commit", SECONDS), Map.entry("wal.append.wait", SECONDS),
            Map.entry("wal.checkpoint", SECONDS), Map.entry("wal.retention.turn", SECONDS),
            Map.entry("command.turn", SECONDS), Map.entry("sink.delivery", SECONDS),
            Map.entry("uplink.round.trip", SECONDS),
            Map.entry("wal.group.rows", PIECES), Map.entry("command.turn.commands", PIECES));

    private final Map<String, Integer> series = new ConcurrentHashMap<>();
    private final AtomicLong dropped = new AtomicLong();

    @Override
    public MeterFilterReply accept(Meter.Id id) {
        if (series.getOrDefault(id.getName(), 0) < SERIES_MAX) {
            return MeterFilterReply.NEUTRAL;
        }
        dropped.incrementAndGet();
        return MeterFilterReply.DENY;
    }

    @Override
    public DistributionStatisticConfig configure(Meter.Id id, DistributionStatisticConfig config) {
        double[] buckets = id.getName().startsWith(OURS + '.') ? BUCKETS.get(id.getName().substring(OURS.length() + 1)) : null;
        if (buckets == null) {
            return config;
        }
        double[] own = buckets.clone();
        for (int i = 0; i < own.length && id.getType() == Meter.Type.TIMER; i++) {
            own[i] *= Duration.ofSeconds(1).toNanos();
        }
        return DistributionStatisticConfig.builder().serviceLevelObjectives(own).build().merge(config);
    }

    void added(Meter meter) {
        series.merge(meter.getId().getName(), 1, Integer::sum);
    }

    void removed(Meter meter) {
        series.computeIfPresent(meter.getId().getName(), (name, count) -> count == 1 ? null : count - 1);
    }

    double dropped() {
        return dropped.get();
    }
}
