// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.WalState;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;

/**
 * Readiness {@code wal}: DOWN while the log refuses, while an incident is not acknowledged, and while a commit hangs, which no error
 * tells. A restart would not help, so no liveness.
 */
final class WalHealthCheck extends AbstractHealthCheck {
    private final GroupCommit wal;
    private final Incidents incidents;
    private final LongSupplier limitMs;

    /** @param limitMs how long a commit may take */
    WalHealthCheck(GroupCommit wal, Incidents incidents, LongSupplier limitMs) {
        super("caravan", "wal");
        this.wal = wal;
        this.incidents = incidents;
        this.limitMs = limitMs;
    }

    @Override
    public boolean isLiveness() {
        return false;
    }

    @Override
    protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
        WalState state = wal.state();
        builder.detail("state", state.name());
        builder.detail("queued", wal.queued());
        builder.detail("incidents", incidents.unacknowledged());
        if (incidents.unacknowledged() > 0) {
            builder.message(state == WalState.DURABLE ? incidents.message() : wal.reason() + "; " + incidents.message());
            builder.down();
            return;
        }
        long busyMs = TimeUnit.NANOSECONDS.toMillis(wal.busyNanos());
        if (busyMs > limitMs.getAsLong() && wal.queued() > 0) {
            builder.message(wal.queued() + " messages wait for a commit that has been under way for " + busyMs / 1_000
                    + " s; nothing is acknowledged until it is done").detail("todo", "look after the disk (dmesg, iostat): it hangs, or something else"
                    + " keeps it busy; what is unacknowledged is sent again");
            builder.down();
            return;
        }
        if (state == WalState.DURABLE) {
            builder.up();
            return;
        }
        builder.message(wal.reason());
        if (state == WalState.REFUSING) {
            builder.down();
        } else {
            builder.up();
        }
    }
}
