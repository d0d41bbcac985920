// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.function.IntConsumer;
import java.util.function.LongSupplier;

/**
 * Shares among the gateways how much of their backlogs may come. What was granted and is not committed, and what is committed and the
 * store has not applied, is together at most {@code rows}: that much a live row may find ahead of it, and that much waits in memory. So
 * the grants go as fast as the store drains, and stop with it. Grants go round, one piece each, so that a gateway with a million rows
 * delays none with a thousand. It is arithmetic between sockets and for milliseconds, which no table could serve.
 *
 * <p>Memory: one {@link Share} for each session. A gateway that has credit and does not get on for {@value #STALL_MS} ms keeps
 * its credit, but nobody else waits for it any longer. This class is thread-safe; grants are told without a lock held.
 */
public final class Credits {

    /** Time in milliseconds without progress after which what a gateway was granted does not count. */
    static final long STALL_MS = 5_000;

    /**
     * @param rows        of all gateways together
     * @param gatewayRows of one at a time
     * @param perS        rows per second of all together; 0: no limit
     */
    public record Options(long rows, long gatewayRows, long perS) { }

    /** What one session of a gateway has and wants; made by {@link #join}. */
    public static final class Share {

        private final IntConsumer grant;
        private long wanted;
        private long granted;
        private boolean stalled;
        private long movedAt;

        private Share(IntConsumer grant) {
            this.grant = grant;
        }
    }

    private record Granted(Share share, int rows) { }

    private final Options options;
    private final int piece;
    private final LongSupplier clock;
    private final Set<Share> shares = new HashSet<>();
    /** Who wants and may have more, longest waiting first. */
    private final Set<Share> queue = new LinkedHashSet<>();
    private long granted;
    private long wanted;
    private long unapplied;
    private long committed;
    private long counted;
    private double allowance;
    private long allowedAt;

    public Credits(Options options) {
        this(options, System::nanoTime);
    }

    /** @param clock nanoseconds, monotonic */
    Credits(Options options, LongSupplier clock) {
        this.options = options;
        this.clock = clock;
        // Two pieces fit into what one gateway may have: the second is on its way while the first is being stored.
        this.piece = (int) Math.max(1, Math.min(Math.min(options.rows, (options.gatewayRows + 1) / 2), 1_000_000));
        this.allowance = options.perS;
        this.allowedAt = clock.getAsLong();
    }

    /** @param grant is told of rows that may come in addition, any time and on any thread; must not block */
    public synchronized Share join(IntConsumer grant) {
        Share share = new Share(grant);
        shares.add(share);
        return share;
    }

    /** The session is over: what it had goes to others. */
    public void leave(Share share) {
        List<Granted> grants;
        synchronized (this) {
            if (!shares.remove(share)) {
                return;
            }
            release(share, share.granted);
            want(share, 0);
            queue.remove(share);
            grants = share();
        }
        tell(grants);
    }

    /** @param rows of its backlog that are not acked yet; 0: it has none, and gives back what it was granted */
    public void wants(Share share, long rows) {
        List<Granted> grants;
        synchronized (this) {
            if (!shares.contains(share)) {
                return;
            }
            if (rows == 0) {
                release(share, share.granted);
            }
            want(share, Math.max(0, rows - share.granted));
            grants = share();
        }
        tell(grants);
    }

    /**
     * Rows are committed, and wait for the store from now on.
     *
     * @param share of the gateway they came from; null: it has none
     * @param all   how many
     * @param backlog how many of them needed credit
     * @return how many of these came without credit
     */
    public long committed(Share share, long all, long backlog) {
        List<Granted> grants;
        long without = 0;
        synchronized (this) {
            committed += all;
            if (share != null && backlog > 0 && shares.contains(share)) {
                without = Math.max(0, backlog - share.granted);
                if (share.stalled) {
                    share.stalled = false;
                    granted += share.granted;
                }
                share.movedAt = clock.getAsLong();
                release(share, Math.min(backlog, share.granted));
                want(share, Math.max(0, share.wanted - without));
            }
            grants = share();
        }
        tell(grants);
        return without;
    }

    /** @return whether there is anybody who wants; call it before the number for {@link #unapplied} is read */
    public synchronized boolean begin() {
        counted = committed;
        long now = clock.getAsLong();
        for (Share share : shares) {
            if (!share.stalled && share.granted > 0 && now - share.movedAt > STALL_MS * 1_000_000) {
                share.stalled = true;
                granted -= share.granted;
            }
        }
        return wanted > 0;
    }

    /** @param rows that are committed and the store has not applied, as read after {@link #begin} */
    public void unapplied(long rows) {
        List<Granted> grants;
        synchronized (this) {
            unapplied = Math.max(0, rows);
            // What was committed since begin may be in that number too, until the next one is read.
            committed -= counted;
            counted = 0;
            grants = share();
        }
        tell(grants);
    }

    /** @return rows that were granted and are not committed, without those of gateways that do not get on */
    public synchronized long granted() {
        return granted;
    }

    /** @return rows of backlogs that the gateways have told of and were not granted yet */
    public synchronized long wanted() {
        return wanted;
    }

    private void release(Share share, long rows) {
        share.granted -= rows;
        if (!share.stalled) {
            granted -= rows;
        } else if (share.granted == 0) {
            share.stalled = false;
        }
        enqueue(share);
    }

    private void want(Share share, long rows) {
        wanted += rows - share.wanted;
        share.wanted = rows;
        enqueue(share);
    }

    private void enqueue(Share share) {
        if (next(share) > 0 && shares.contains(share)) {
            queue.add(share);
        }
    }

    /** A whole piece or the rest: batches of a few rows would cost more than they bring. */
    private int next(Share share) {
        long rows = Math.min(piece, share.wanted);
        return share.stalled || share.granted + rows > options.gatewayRows ? 0 : (int) rows;
    }

    private List<Granted> share() {
        if (options.perS > 0) {
            long now = clock.getAsLong();
            allowance = Math.min(Math.max(options.perS, piece), allowance + (now - allowedAt) * (options.perS / 1e9));
            allowedAt = now;
        }
        List<Granted> grants = new ArrayList<>();
        while (!queue.isEmpty()) {
            Share share = queue.iterator().next();
            int rows = next(share);
            if (rows == 0) {
                queue.remove(share);
                continue;
            }
            if (rows > options.rows - granted - unapplied - committed || options.perS > 0 && rows > allowance) {
                break;
            }
            // To the end, if it wants more.
            queue.remove(share);
            if (share.granted == 0) {
                share.movedAt = clock.getAsLong();
            }
            share.granted += rows;
            granted += rows;
            allowance -= options.perS > 0 ? rows : 0;
            want(share, share.wanted - rows);
            grants.add(new Granted(share, rows));
        }
        return grants;
    }

    private static void tell(List<Granted> grants) {
        grants.forEach(g -> g.share.grant.accept(g.rows));
    }
}
