// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Config;
import io.caravan.wal.WalState;
import java.io.File;
import java.io.IOException;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Whether the store takes messages: DURABLE, DEGRADED or REFUSING, from the bytes in the store, the disk's free space,
 * the ballast, and what the committer, the checkpointer and the retention say. Looks once a second and after each
 * {@link #written} of some size; each state is left at a lower mark than it was entered at. REFUSING stops appends only:
 * acks, deletes and checkpoints need the room that is kept free for them. Thread-safe.
 */
final class Space implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Space.class);
    private static final long LOOK_MS = 1_000;
    private static final long LOOK_AGAIN_MS = 200; // while not DURABLE: what was stopped should not wait long
    private static final long BALLAST_STEP = 4 << 20;
    private static final long BALLAST_REST_NANOS = TimeUnit.SECONDS.toNanos(5);
    private static final long TREND_NANOS = TimeUnit.MINUTES.toNanos(5);
    private static final long TREND_STEP_NANOS = TimeUnit.SECONDS.toNanos(1);
    private static final int PAGE = 4_096;

    private final Database database;
    private final Config config;
    private final Ballast ballast;
    private final File directory;
    private final List<Supplier<String>> complaints = new ArrayList<>();
    private final Thread thread = new Thread(this::run, "caravan-wal-space");
    private final Object lock = new Object();
    private boolean due;
    private boolean stopping;
    private long written;
    private volatile long wakeAfter = 1 << 20;

    // Measured; written by whoever samples, under this.
    private long hardLimit;
    private long ballastGoneAt = System.nanoTime() - BALLAST_REST_NANOS;
    private boolean overQuota;
    private volatile boolean noFree;
    private boolean nearQuota;
    private volatile boolean littleFree;
    private String lastCauses = "";
    private WalState lastState = WalState.DURABLE;
    private final ArrayDeque<long[]> trend = new ArrayDeque<>(); // nanos, live bytes, free bytes
    private volatile long limit = Long.MAX_VALUE;
    private volatile long live;
    private volatile long walFile;
    private volatile long usable = Long.MAX_VALUE;
    private volatile long reserve;
    private volatile long freePages;
    private volatile double secondsToFull = Double.POSITIVE_INFINITY;

    // What follows from it, and what others said.
    private volatile String refusal;
    private volatile String pressure = "";
    private volatile String ballastProblem = "";
    private volatile String unmeasured = "";
    private volatile String commitFailure;
    private volatile boolean diskFull;

    Space(Database database, Config config, WalMetrics metrics) {
        this.database = database;
        this.config = config;
        ballast = new Ballast(database.file());
        directory = database.file().getParent().toFile();
        metrics.gauge("caravan.wal.bytes", "Live content of the store and its -wal file", this, Space::used);
        metrics.gauge("caravan.wal.limit.bytes", "Most of caravan_wal_bytes before the store refuses", this, s -> s.limit);
        metrics.gauge("caravan.wal.free.bytes", "Free space of the store's file system", this, s -> s.usable);
        metrics.gauge("caravan.wal.ballast.bytes", "Space kept for acks and deletes on a full disk", ballast, Ballast::size);
        metrics.gauge("caravan.wal.time.to.full.seconds", "Until the store refuses, at the net growth of the last minutes; +Inf: it does not grow",
                this, s -> s.refusal != null ? 0 : s.secondsToFull);
        thread.setDaemon(true);
    }

    /** @param text asked at each look: empty, or why the store is at least DEGRADED */
    void watch(Supplier<String> text) {
        synchronized (complaints) {
            complaints.add(text);
        }
    }

    void start() {
        sample(/* mine= */ true);
        thread.start();
    }

    // ---- for everybody

    WalState state() {
        if (commitFailure != null || refusal != null) {
            return WalState.REFUSING;
        }
        return complaint().isEmpty() ? WalState.DURABLE : WalState.DEGRADED;
    }

    /** Empty while DURABLE. */
    String reason() {
        String failed = commitFailure;
        String full = refusal;
        return failed != null ? failed : full != null ? full : complaint();
    }

    /** Null: appends may be committed. Else why not; sinks' acks and deletes may all the same. */
    String refusal() {
        return refusal;
    }

    /** Whether acked rows should go before their time. */
    boolean isTight() {
        return refusal != null || !pressure.isEmpty();
    }

    /** Whether it is the disk that is short of space, and not the quota alone. */
    boolean isDiskTight() {
        return littleFree || noFree;
    }

    /** Bytes that count against {@link #limit()}. */
    long used() {
        return live + walFile;
    }

    long limit() {
        return limit;
    }

    /** Pages in the file that nothing uses. */
    long freePages() {
        return freePages;
    }

    long livePages() {
        return live / PAGE;
    }

    private String complaint() {
        if (!pressure.isEmpty()) {
            return pressure;
        }
        if (!ballastProblem.isEmpty()) {
            return ballastProblem;
        }
        if (!unmeasured.isEmpty()) {
            return unmeasured;
        }
        synchronized (complaints) {
            for (Supplier<String> text : complaints) {
                String why = text.get();
                if (!why.isEmpty()) {
                    return why;
                }
            }
        }
        return "";
    }

    // ---- for the committer, the checkpointer, the retention

    /** A commit failed; nothing is acknowledged until one succeeds. */
    void commitFailed(Throwable error, String why) {
        commitFailure = why;
        writeFailed(error);
        tell();
        LOG.debug("commit failed", error);
    }

    void commitSucceeded() {
        if (commitFailure != null) {
            commitFailure = null;
            tell();
        }
    }

    /** Any write failed: if for want of space, the ballast goes. */
    void writeFailed(Throwable error) {
        if (StorageError.isFull(error)) {
            diskFull = true;
            wake();
        }
    }

    /** About so many bytes were written; by the committer, cheap. */
    void written(long bytes) {
        written += bytes;
        if (written > wakeAfter) {
            written = 0;
            wake();
        }
    }

    private void wake() {
        synchronized (lock) {
            due = true;
            lock.notifyAll();
        }
    }

    // ---- looking

    private void run() {
        while (true) {
            synchronized (lock) {
                try {
                    if (!due && !stopping) {
                        lock.wait(state() == WalState.DURABLE ? LOOK_MS : LOOK_AGAIN_MS);
                    }
                } catch (InterruptedException e) {
                    return;
                }
                if (stopping) {
                    return;
                }
                due = false;
            }
            sample(/* mine= */ true);
        }
    }

    /** Looks now. */
    void sample() {
        sample(/* mine= */ false);
    }

    /** @param mine on the thread of this, which alone touches the ballast */
    private synchronized void sample(boolean mine) {
        try {
            measure();
            unmeasured = "";
        } catch (SQLException e) {
            unmeasured = "the store cannot be measured: " + StorageError.describe(e, database.file());
        } catch (RuntimeException e) {
            unmeasured = "the store cannot be measured: " + e;
            LOG.debug("measuring", e);
        }
        // By itself less on a small disk, where what suits a large one would refuse from the start.
        long minFree = config.getLong("wal.min.free.bytes");
        minFree = minFree >= 0 ? minFree : Math.min(64L << 20, directory.getTotalSpace() / 32);
        long target = config.getLong("wal.ballast.bytes");
        target = target >= 0 ? target : Math.min(32L << 20, directory.getTotalSpace() / 16);
        usable = directory.getUsableSpace();
        if (mine) {
            keepBallast(target, minFree);
        }
        // What the ballast lacks is kept free for it: else appends would eat what was given up for acks and deletes.
        reserve = Math.max(0, target - ballast.size());
        decide(minFree);
        tell();
    }

    private void measure() throws SQLException {
        // A new one each time: the store may have been replaced by a salvaged one.
        try (Connection connection = database.checkpointConnection();
                Statement statement = connection.createStatement();
                ResultSet row = statement.executeQuery("SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count")) {
            row.next();
            freePages = row.getLong(2);
            live = (row.getLong(1) - freePages) * PAGE;
        }
        walFile = Database.size(database.walFile());
        long quota = config.getLong("wal.max.bytes");
        limit = quota > 0 ? quota : directory.getTotalSpace() / 2;
        // A net, for writers that do not ask: far enough above for all that goes on while the log refuses.
        long hard = limit + limit / 4 + (64 << 20);
        if (hard != hardLimit) {
            database.limitPages((int) Math.min(Integer.MAX_VALUE, hard / PAGE));
            hardLimit = hard;
        }
    }

    private void keepBallast(long target, long minFree) {
        long size = ballast.size();
        boolean full = diskFull && used() < limit || usable < Ballast.FULL_BYTES;
        diskFull = false;
        try {
            if (size > target) {
                ballast.resize(target, 0);
            } else if (size > 0 && full) {
                ballast.giveUp();
                ballastGoneAt = System.nanoTime();
                LOG.warn("disk of store [{}] is full ({} bytes free): the ballast of {} bytes is given up, for acks and deletes only; free space"
                        + " under {}", database.file(), usable, size, directory);
                usable = directory.getUsableSpace();
            } else if (size < target && System.nanoTime() - ballastGoneAt > BALLAST_REST_NANOS
                    && usable - (target - size) >= enoughFree(minFree) + Ballast.FULL_BYTES) {
                ballast.resize(target, BALLAST_STEP);
                usable = directory.getUsableSpace();
                if (ballast.size() < target) {
                    wake();
                } else {
                    LOG.info("ballast [{}] of {} bytes is there", ballast, target);
                }
                ballastProblem = "";
                return;
            }
            ballastProblem = ballast.size() >= target ? "" : "store [" + database.file() + "] has " + ballast.size() + " of its "
                    + target + " bytes of ballast (wal.ballast.bytes), " + usable + " bytes are free: free space under " + directory;
        } catch (IOException | RuntimeException e) {
            ballastGoneAt = System.nanoTime();
            ballastProblem = "ballast [" + ballast + "] cannot be kept: " + e + "; make " + directory
                    + " writable and free space there, or lower wal.ballast.bytes";
        }
    }

    private static long enoughFree(long minFree) {
        return minFree + minFree / 4;
    }

    private void decide(long minFree) {
        long used = used();
        long free = usable - reserve;
        long percent = config.getLong("wal.degraded.percent");
        long hysteresis = limit / 20;
        overQuota = used >= (overQuota ? limit - hysteresis : limit);
        noFree = free < (noFree ? enoughFree(minFree) : minFree);
        long mark = limit / 100 * percent;
        nearQuota = used >= (nearQuota ? mark - hysteresis : mark);
        littleFree = free < (littleFree ? 3 * minFree : 2 * minFree);
        wakeAfter = Math.max(64 << 10, Math.min(limit / 100, minFree > 0 ? minFree / 4 : Long.MAX_VALUE));
        trend(free, minFree);

        String quotaNumbers = "store [" + database.file() + "] holds " + used + " of wal.max.bytes [" + limit + "]";
        String freeNumbers = "the disk of store [" + database.file() + "] has " + usable + " bytes free, wal.min.free.bytes is [" + minFree + "]"
                + (reserve == 0 ? "" : " and " + reserve + " are kept for the ballast");
        if (overQuota) {
            refusal = quotaNumbers + ": nothing is acknowledged until sinks catch up (sink:list) and rows go, or the quota is raised";
        } else if (noFree) {
            refusal = freeNumbers + ": nothing is acknowledged until there is free space under " + directory;
        } else {
            refusal = null;
        }
        if (nearQuota) {
            pressure = quotaNumbers + ": acked rows go before their time; look for a sink that does not keep up (sink:list), or raise the quota";
        } else if (littleFree) {
            pressure = freeNumbers + ": free space under " + directory;
        } else {
            pressure = "";
        }
    }

    private void trend(long free, long minFree) {
        long now = System.nanoTime();
        if (!trend.isEmpty() && now - trend.peekLast()[0] < TREND_STEP_NANOS) {
            return;
        }
        trend.add(new long[] {now, live, free});
        while (now - trend.peekFirst()[0] > TREND_NANOS) {
            trend.poll();
        }
        long[] first = trend.peekFirst();
        double seconds = (now - first[0]) / 1e9;
        double grows = seconds == 0 ? 0 : (live - first[1]) / seconds;
        double shrinks = seconds == 0 ? 0 : (first[2] - free) / seconds;
        double quota = grows > 0 ? Math.max(0, limit - used()) / grows : Double.POSITIVE_INFINITY;
        double disk = shrinks > 0 ? Math.max(0, free - minFree) / shrinks : Double.POSITIVE_INFINITY;
        secondsToFull = Math.min(quota, disk);
    }

    /** One line for each change of state or cause. */
    private void tell() {
        synchronized (thread) {
            WalState state = state();
            String causes = state + " " + (commitFailure != null ? "commit" : refusal != null ? overQuota ? "quota" : "free"
                    : nearQuota ? "near" : littleFree ? "little" : complaint().isEmpty() ? "" : "other");
            if (causes.equals(lastCauses) || lastCauses.isEmpty() && state == WalState.DURABLE) {
                return;
            }
            lastCauses = causes;
            WalState before = lastState;
            lastState = state;
            String numbers = used() + " of " + limit + " bytes used, " + usable + " free on the disk";
            if (state == WalState.REFUSING) {
                LOG.error("store is REFUSING (was {}): {}; {}", before, reason(), numbers);
            } else if (state == WalState.DEGRADED) {
                LOG.warn("store is DEGRADED (was {}): {}; {}", before, reason(), numbers);
            } else {
                LOG.info("store is DURABLE again (was {}): {}", before, numbers);
            }
        }
    }

    @Override
    public void close() {
        synchronized (lock) {
            stopping = true;
            lock.notifyAll();
        }
        try {
            thread.join(10_000);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
