// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.util.Map;
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
        return new WalEndpoint(uri, this, remaining);
    }

    private static final class WalEndpoint extends DefaultEndpoint {
        private final String what;

        WalEndpoint(String uri, WalComponent component, String what) {
            super(uri, component);
            this.what = what;
        }

        @Override
        public Consumer createConsumer(Processor processor) throws Exception {
            Signals signals = Signals.of(getCamelContext());
            Consumer consumer = "committed".equals(what)
                    ? new CommittedConsumer(this, processor, signals)
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
