// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.camel.CamelContext;

/**
 * Where the log and the {@code wal:} consumers of one CamelContext find each other, whichever comes first and however
 * often either is replaced. Thread-safe.
 */
final class Signals {
    private static final String BEAN = "caravanWalSignals";

    private final List<CommittedConsumer> committed = new CopyOnWriteArrayList<>();
    private final Receipts receipts = new Receipts();
    private volatile long lastSeq;

    static Signals of(CamelContext context) {
        synchronized (Signals.class) {
            Object bound = context.getRegistry().lookupByName(BEAN);
            if (bound instanceof Signals) { // not so after an update of this bundle: the class is another one then
                return (Signals) bound;
            }
            Signals signals = new Signals();
            context.getRegistry().bind(BEAN, signals);
            return signals;
        }
    }

    /** There may be news of any kind for anybody, up to seq. Never blocks. */
    void committed(long seq) {
        lastSeq = seq;
        committed.forEach(CommittedConsumer::signal);
    }

    /**
     * New rows are on disk, up to seq. Never blocks.
     *
     * @param kinds of the new rows
     */
    void committed(long seq, List<String> kinds) {
        lastSeq = seq;
        for (CommittedConsumer consumer : committed) {
            if (consumer.wants(kinds)) {
                consumer.signal();
            }
        }
    }

    long lastSeq() {
        return lastSeq;
    }

    void add(CommittedConsumer consumer) {
        committed.add(consumer);
    }

    void remove(CommittedConsumer consumer) {
        committed.remove(consumer);
    }

    Receipts receipts() {
        return receipts;
    }
}
