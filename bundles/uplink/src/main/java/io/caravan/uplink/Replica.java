// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import java.util.UUID;
import java.util.function.Consumer;
import org.apache.camel.Exchange;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Bean {@code replica}: who this process is among those that share a store. An id is good for one lease, which the routes prolong by
 * the store's clock; whoever missed that, frozen or cut off, was taken for dead, takes a new id and ends what it had under the old
 * one. So what is late is refused by the store and not by a clock here. Thread-safe.
 */
public final class Replica {

    /** A store of one process is written to once: the lease of the only replica there is. */
    private static final long ALONE_MS = 3_153_600_000_000L;
    private static final Logger LOG = LoggerFactory.getLogger(Replica.class);

    private final String address;
    private final String version;
    private final boolean alone;
    private final long leaseMs;
    private final Consumer<String> lost;
    private volatile String id = UUID.randomUUID().toString();
    private volatile boolean begun;
    private volatile boolean missed;

    /**
     * @param address for people
     * @param alone   the store is this process' own
     * @param leaseMs so long after its last word it counts as dead
     * @param lost    told the new id when the old one's lease is over
     */
    Replica(String address, String version, boolean alone, long leaseMs, Consumer<String> lost) {
        this.address = address;
        this.version = version;
        this.alone = alone;
        this.leaseMs = alone ? ALONE_MS : leaseMs;
        this.lost = lost;
    }

    /** @return the id of the current lease */
    public String id() {
        return id;
    }

    /** Sets variable {@code due}, and for the statements {@code replicaId}, {@code replicaAddress}, {@code replicaVersion}, {@code leaseMs}, {@code alone}. */
    public void due(Exchange exchange) {
        exchange.setVariable("due", !alone || !begun);
        variables(exchange);
    }

    /** The store has no lease of this id (any more): goes on under a new one. */
    public void begin(Exchange exchange) {
        if (begun) {
            id = UUID.randomUUID().toString();
            begun = false;
            LOG.warn("this replica did not prolong its lease in time and was taken for dead: its gateways connect again, it goes on as [{}]", id);
            lost.accept(id);
        }
        variables(exchange);
    }

    /** The lease is committed. */
    public void kept() {
        if (!begun) {
            System.setProperty("io.caravan.log.replica_id", id); // for the log, which shares no class with us
        }
        begun = true;
        if (missed) {
            missed = false;
            LOG.info("replica [{}] has prolonged its lease again", id);
        }
    }

    /** The lease could not be prolonged. */
    public void missed(Exchange exchange) {
        if (!missed) {
            missed = true;
            LOG.warn("replica [{}] could not prolong its lease, it tries again: {}", id,
                String.valueOf(exchange.getProperty(Exchange.EXCEPTION_CAUGHT)));
        }
    }

    private void variables(Exchange exchange) {
        exchange.setVariable("replicaId", id);
        exchange.setVariable("replicaAddress", address);
        exchange.setVariable("replicaVersion", version);
        exchange.setVariable("leaseMs", leaseMs);
        exchange.setVariable("alone", alone ? 1 : 0);
    }
}
