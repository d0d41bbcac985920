// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.OptionalDouble;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * Remembers for a minute how many messages had come, so that the overview can say a rate at once and does not have to wait for one.
 * Reads one counter every few seconds. This class is thread-safe.
 */
public final class Pulse implements AutoCloseable {

    private static final long EVERY_S = 5;
    private static final long MINUTE_NS = TimeUnit.SECONDS.toNanos(60);

    private record Beat(long atNs, double count) { }

    private final Supplier<Caravan> caravan;
    private final Deque<Beat> beats = new ArrayDeque<>();
    private final ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor(r -> {
        Thread thread = new Thread(r, "caravan-shell-pulse");
        thread.setDaemon(true);
        return thread;
    });

    /** @param caravan null while there is no container */
    Pulse(Supplier<Caravan> caravan) {
        this.caravan = caravan;
    }

    void start() {
        clock.scheduleWithFixedDelay(() -> beat(caravan.get()), 0, EVERY_S, TimeUnit.SECONDS);
    }

    private void beat(Caravan container) {
        try {
            OptionalDouble count = container == null ? OptionalDouble.empty() : taken(container);
            count.ifPresent(c -> beat(System.nanoTime(), c));
        } catch (RuntimeException e) {
            // The container is being stopped; what came before is of no use to the next one.
            forget();
        }
    }

    /** @return messages taken since the start: appended at a gateway, received from gateways in the cloud; empty: nothing counts them yet */
    static OptionalDouble taken(Caravan container) {
        MeterRegistry meters = container.context().getRegistry().lookupByNameAndType("metricsRegistry", MeterRegistry.class);
        Counter counter = meters == null ? null : meters.find(String.join(".", "caravan", container.role().equals("cloud") ? "sessions.rows" : "wal.appended.rows")).counter();
        return counter == null ? OptionalDouble.empty() : OptionalDouble.of(counter.count());
    }

    synchronized void beat(long atNs, double count) {
        if (!beats.isEmpty() && count < beats.getLast().count) {
            beats.clear();
        }
        beats.add(new Beat(atNs, count));
        while (atNs - beats.getFirst().atNs > MINUTE_NS) {
            beats.removeFirst();
        }
    }

    private synchronized void forget() {
        beats.clear();
    }

    /** @return per second, over the last minute or what there is of it; empty: not known yet */
    synchronized OptionalDouble perSecond() {
        if (beats.size() < 2) {
            return OptionalDouble.empty();
        }
        double seconds = (beats.getLast().atNs - beats.getFirst().atNs) / 1e9;
        return seconds <= 0 ? OptionalDouble.empty() : OptionalDouble.of((beats.getLast().count - beats.getFirst().count) / seconds);
    }

    @Override
    public void close() {
        clock.shutdownNow();
    }
}
