// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.util.Arrays;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.camel.Consumer;
import org.apache.camel.Endpoint;
import org.apache.camel.Processor;
import org.apache.camel.Producer;
import org.apache.camel.support.DefaultComponent;
import org.apache.camel.support.DefaultEndpoint;

/** {@code wal:committed} and {@code wal:receipts}, both to consume from. */
public final class WalComponent extends DefaultComponent {
    @Override
    protected Endpoint createEndpoint(String uri, String remaining, Map<String, Object> parameters) {
        if (!"committed".equals(remaining) && !"receipts".equals(remaining)) {
            throw new IllegalArgumentException("wal endpoint [" + remaining + "] must be wal:committed or wal:receipts");
        }
        if ("receipts".equals(remaining)) {
            return new WalEndpoint(uri, this, remaining, Set.of(), 0);
        }
        String kinds = getAndRemoveParameter(parameters, "kinds", String.class, "");
        long lagMs = getAndRemoveParameter(parameters, "lagMs", Long.class, 0L);
        if (lagMs < 0) {
            throw new IllegalArgumentException("lagMs [" + lagMs + "] of wal:committed must be 0 or more milliseconds");
        }
        return new WalEndpoint(uri, this, remaining,
                Arrays.stream(kinds.split(",")).map(String::trim).filter(kind -> !kind.isEmpty()).collect(Collectors.toUnmodifiableSet()), lagMs);
    }

    private static final class WalEndpoint extends DefaultEndpoint {
        private final String what;
        private final Set<String> kinds;
        private final long lagMs;

        WalEndpoint(String uri, WalComponent component, String what, Set<String> kinds, long lagMs) {
            super(uri, component);
            this.what = what;
            this.kinds = kinds;
            this.lagMs = lagMs;
        }

        @Override
        public Consumer createConsumer(Processor processor) throws Exception {
            Signals signals = Signals.of(getCamelContext());
            Consumer consumer = "committed".equals(what)
                    ? new CommittedConsumer(this, processor, signals, kinds, lagMs)
                    : new ReceiptsConsumer(this, processor, signals.receipts());
            configureConsumer(consumer);
            return consumer;
        }

        @Override
        public Producer createProducer() {
            throw new UnsupportedOperationException("wal:" + what + " can only be consumed from; append with bean wal, method append");
        }
    }
}
