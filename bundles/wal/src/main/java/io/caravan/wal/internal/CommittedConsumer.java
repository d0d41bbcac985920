// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.util.concurrent.ExecutorService;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.camel.Endpoint;
import org.apache.camel.Exchange;
import org.apache.camel.Processor;
import org.apache.camel.support.DefaultConsumer;

/**
 * {@code wal:committed}: one exchange after commits, header CaravanLastSeq; however many commits there are while one is
 * under way, one more follows it. One at start, for the rows that were there already.
 */
final class CommittedConsumer extends DefaultConsumer {
    private final Signals signals;
    private final AtomicInteger due = new AtomicInteger();
    private ExecutorService executor;

    CommittedConsumer(Endpoint endpoint, Processor processor, Signals signals) {
        super(endpoint, processor);
        this.signals = signals;
    }

    /** Never blocks. */
    void signal() {
        // 2 means "again after this one"; more would say the same.
        if (due.getAndUpdate(n -> Math.min(2, n + 1)) == 0) {
            next();
        }
    }

    private void next() {
        ExecutorService worker = executor;
        if (worker == null || !isRunAllowed()) {
            due.set(0);
            return;
        }
        try {
            worker.execute(this::run);
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
        executor = getEndpoint().getCamelContext().getExecutorServiceManager().newSingleThreadExecutor(this, "caravan-wal-committed");
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
