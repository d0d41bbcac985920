// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;

import org.HdrHistogram.ConcurrentHistogram;
import org.HdrHistogram.Histogram;

/** What all gateways of a fleet see together. This class is thread-safe. */
final class Counts {
    private final LongAdder live = new LongAdder();
    private final LongAdder sent = new LongAdder();
    private final LongAdder bytes = new LongAdder();
    private final LongAdder credited = new LongAdder();
    /** One place, so that who reads it twice knows how much was acked in between. */
    private final AtomicLong backlog = new AtomicLong();
    private final AtomicInteger open = new AtomicInteger();
    private final AtomicInteger mostOpen = new AtomicInteger();
    private final Map<String, LongAdder> refused = new ConcurrentHashMap<>();
    private final Map<String, LongAdder> lost = new ConcurrentHashMap<>();
    private final Histogram liveNanos = new ConcurrentHistogram(TimeUnit.MINUTES.toNanos(30), 3);
    private final Histogram backlogNanos = new ConcurrentHistogram(TimeUnit.MINUTES.toNanos(30), 3);
    private final Histogram liveBatchNanos = new ConcurrentHistogram(TimeUnit.MINUTES.toNanos(30), 3);
    private final Histogram welcomeMs = new ConcurrentHistogram(TimeUnit.MINUTES.toMillis(60), 3);
    private final Histogram passed = new ConcurrentHistogram(1_000_000_000_000L, 3);

    void live(long nanos) {
        live.increment();
        liveNanos.recordValue(Math.max(0, Math.min(nanos, TimeUnit.MINUTES.toNanos(30))));
    }

    void backlog(long rows, long nanos) {
        backlog.addAndGet(rows);
        backlogNanos.recordValue(Math.max(0, Math.min(nanos, TimeUnit.MINUTES.toNanos(30))));
    }

    /** A batch of live rows was sent and acked. */
    void liveBatch(long nanos) {
        liveBatchNanos.recordValue(Math.max(0, Math.min(nanos, TimeUnit.MINUTES.toNanos(30))));
    }

    /** @param rows of backlogs that were acked while a batch of live rows was on its way: they passed it, or were before it */
    void passed(long rows) {
        passed.recordValue(rows);
    }

    void sent(long rows, int size) {
        sent.add(rows);
        bytes.add(size);
    }

    void credited(long rows) {
        credited.add(rows);
    }

    void welcomed(long ms) {
        welcomeMs.recordValue(Math.max(0, ms));
    }

    void open(int more) {
        mostOpen.accumulateAndGet(open.addAndGet(more), Math::max);
    }

    void refused(String why) {
        refused.computeIfAbsent(why, w -> new LongAdder()).increment();
    }

    void lost(String why) {
        lost.computeIfAbsent(why, w -> new LongAdder()).increment();
    }

    /** What was recorded so far does not count for latencies. */
    void resetLatencies() {
        liveNanos.reset();
        liveBatchNanos.reset();
        passed.reset();
    }

    long liveAcked() {
        return live.sum();
    }

    long backlogAcked() {
        return backlog.get();
    }

    long rowsSent() {
        return sent.sum();
    }

    long bytesSent() {
        return bytes.sum();
    }

    long creditedRows() {
        return credited.sum();
    }

    int opened() {
        return open.get();
    }

    int mostOpened() {
        return mostOpen.get();
    }

    Histogram liveNanos() {
        return liveNanos;
    }

    Histogram liveBatchNanos() {
        return liveBatchNanos;
    }

    Histogram backlogNanos() {
        return backlogNanos;
    }

    Histogram welcomeMs() {
        return welcomeMs;
    }

    Histogram passedRows() {
        return passed;
    }

    Map<String, Long> refusedBy() {
        return sums(refused);
    }

    Map<String, Long> lostBy() {
        return sums(lost);
    }

    private static Map<String, Long> sums(Map<String, LongAdder> counters) {
        Map<String, Long> sums = new TreeMap<>();
        counters.forEach((name, count) -> sums.put(name, count.sum()));
        return sums;
    }
}
