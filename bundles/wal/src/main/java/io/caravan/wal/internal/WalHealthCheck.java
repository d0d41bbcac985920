// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Wal;
import io.caravan.wal.WalState;
import java.util.Map;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;

/** Readiness {@code wal}: DOWN while the log refuses, and while an incident is not acknowledged. A restart would not help, so no liveness. */
final class WalHealthCheck extends AbstractHealthCheck {
    private final Wal wal;
    private final Incidents incidents;

    WalHealthCheck(Wal wal, Incidents incidents) {
        super("caravan", "wal");
        this.wal = wal;
        this.incidents = incidents;
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
