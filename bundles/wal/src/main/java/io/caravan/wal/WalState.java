// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

/** Whether the store takes messages. */
public enum WalState {
    /** Commits succeed. */
    DURABLE,
    /** Commits succeed, but something beside them does not (the checkpointer): the file grows. */
    DEGRADED,
    /** The last commit failed: nothing is acknowledged, what waits is kept and tried again with backoff. */
    REFUSING
}
