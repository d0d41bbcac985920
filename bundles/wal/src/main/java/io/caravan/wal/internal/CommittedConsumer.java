// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.camel.Endpoint;
import org.apache.camel.Exchange;
import org.apache.camel.Processor;
import org.apache.camel.support.DefaultConsumer;

/**
 * {@code wal:committed}: one exchange after commits, header CaravanLastSeq; however many commits there are while one is
 * under way, one more follows it. One at start, for the rows that were there already. Parameters {@code kinds} (commas between):
 * only commits with a row of one of these; {@code lagMs}: an exchange begins so long after the commit that it is made for, and
 * stands for all commits until then.
 */
final class CommittedConsumer extends DefaultConsumer {
    private final Signals signals;
    private final AtomicInteger due = new AtomicInteger();
    private final Set<String> kinds;
    private final long lagMs;
    private volatile ScheduledExecutorService executor;

    /** @param kinds empty: all */
    CommittedConsumer(Endpoint endpoint, Processor processor, Signals signals, Set<String> kinds, long lagMs) {
        super(endpoint, processor);
        this.signals = signals;
        this.kinds = kinds;
        this.lagMs = lagMs;
    }

    boolean wants(List<String> committed) {
        return kinds.isEmpty() || !Collections.disjoint(kinds, committed);
    }

    /** Never blocks. */
    void signal() {
        // 2 means "again after this one"; more would say the same.
        if (due.getAndUpdate(n -> Math.min(2, n + 1)) == 0) {
            next();
        }
    }

    private void next() {
        ScheduledExecutorService worker = executor;
        if (worker == null || !isRunAllowed()) {
            due.set(0);
            return;
        }
        try {
            if (lagMs > 0) {
                worker.schedule(this::run, lagMs, TimeUnit.MILLISECONDS);
            } else {
                worker.execute(this::run);
            }
        } catch (java.util.concurrent.RejectedExecutionException e) {
            due.set(0); // stopping; the next start signals
        }
    }

    private void run() {
        due.set(1); // what was committed up to here is covered by the exchange that starts now
        Exchange exchange = createExchange(false);
        exchange.getMessage().setHeader("CaravanLastSeq", signals.lastSeq());
        getAsyncProcessor().process(exchange, doneSync -> {
            Exception failure = exchange.getException();
            releaseExchange(exchange, false);
            if (failure != null) {
                getExceptionHandler().handleException("after a commit", exchange, failure);
            }
            if (due.decrementAndGet() > 0) {
                next();
            }
        });
    }

    @Override
    protected void doStart() throws Exception {
        super.doStart();
        executor = getEndpoint().getCamelContext().getExecutorServiceManager().newSingleThreadScheduledExecutor(this, "caravan-wal-committed");
        due.set(0);
        signals.add(this);
        signal();
    }

    @Override
    protected void doStop() throws Exception {
        signals.remove(this);
        getEndpoint().getCamelContext().getExecutorServiceManager().shutdown(executor);
        executor = null;
        super.doStop();
    }

    @Override
    protected void doSuspend() {
        signals.remove(this);
    }

    @Override
    protected void doResume() {
        signals.add(this);
        signal();
    }
}
