// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Counts what the cloud's listener refuses, {@code caravan_uplink_refused_total{reason}}, and logs it: per reason at most one
 * line every {@value #LOG_MS} ms, with how many there were in between. Reasons are ours and few; nothing that is logged is a
 * secret or longer than an id. This class is thread-safe.
 */
public final class Refusals {

    static final long LOG_MS = 5_000;

    private static final Logger LOG = LoggerFactory.getLogger(Refusals.class);

    private final MeterRegistry meters;
    private final Map<String, Last> last = new ConcurrentHashMap<>();

    public Refusals(MeterRegistry meters) {
        this.meters = meters;
    }

    /**
     * @param gateway whom the peer says it is; logged only if it is an id; may be null
     * @param address of the peer; null: not known
     * @param message what happened, without anything the peer sent; null: nothing to add
     */
    public void refused(String reason, String gateway, Object address, String message) {
        count(reason);
        long more = last.computeIfAbsent(reason, r -> new Last()).due();
        if (more >= 0) {
            LOG.warn("gateway [{}] from {} refused: {}{}{}", Frames.isId(gateway) ? gateway : "?", address == null ? "?" : address, reason,
                message == null ? "" : ": " + message, more == 0 ? "" : " (and " + more + " more for this reason since the last line)");
        }
    }

    /** For what is logged by itself. */
    public void count(String reason) {
        Counter.builder("caravan.uplink.refused").description("Gateways refused or ended").tags("reason", reason).register(meters).increment();
    }

    private static final class Last {

        private long at = System.nanoTime() - LOG_MS * 1_000_000;
        private long silent;

        /** @return how many were not logged; -1: neither is this one */
        synchronized long due() {
            if (System.nanoTime() - at < LOG_MS * 1_000_000) {
                silent++;
                return -1;
            }
            at = System.nanoTime();
            long more = silent;
            silent = 0;
            return more;
        }
    }
}
