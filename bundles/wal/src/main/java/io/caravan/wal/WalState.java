// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

/** Whether the store takes messages. */
public enum WalState {
    /** Commits succeed and there is room. */
    DURABLE,
    /** Commits succeed, but space runs short, or something beside them fails (checkpoint, retention, ballast). */
    DEGRADED,
    /** The last commit failed or there is no room for one: nothing is acknowledged, what waits is kept and tried again. */
    REFUSING
}
