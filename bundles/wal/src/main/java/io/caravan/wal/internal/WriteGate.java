// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.sql.SQLTransientConnectionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

/**
 * The turn to write. Hikari hands a connection to whoever comes at the right moment, and a committer under load always
 * does: routes would starve. This gate is first come, first served, for routes, committer and checkpointer alike.
 */
final class WriteGate {
    private final Semaphore turn = new Semaphore(1, /* fair= */ true);
    private volatile Thread holder;
    private volatile long since;

    void enter(long timeoutMs) throws SQLTransientConnectionException {
        try {
            if (!turn.tryAcquire(timeoutMs, TimeUnit.MILLISECONDS)) {
                Thread thread = holder;
                throw new SQLTransientConnectionException("no turn to write within " + timeoutMs + " ms: the writer is held by thread ["
                        + (thread == null ? "-" : thread.getName()) + "] for " + heldMs() + " ms; a route must not wait inside a transaction");
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new SQLTransientConnectionException("interrupted while waiting for the turn to write", e);
        }
        since = System.nanoTime();
        holder = Thread.currentThread();
    }

    void leave() {
        holder = null;
        turn.release();
    }

    boolean isMine() {
        return holder == Thread.currentThread();
    }

    private long heldMs() {
        return (System.nanoTime() - since) / 1_000_000;
    }
}
