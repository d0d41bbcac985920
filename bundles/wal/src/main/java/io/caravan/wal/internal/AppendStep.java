// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Wal;
import org.apache.camel.AsyncCallback;
import org.apache.camel.Exchange;
import org.apache.camel.support.AsyncProcessorSupport;

/**
 * {@link Wal#append} as a step: the exchange goes on, and is acknowledged, only after COMMIT returned. Step {@code bean} does the same, but
 * finds method and arguments anew and by reflection for every message.
 */
final class AppendStep extends AsyncProcessorSupport {
    private final Wal wal;

    AppendStep(Wal wal) {
        this.wal = wal;
    }

    @Override
    public boolean process(Exchange exchange, AsyncCallback callback) {
        wal.append(exchange).whenComplete((result, failure) -> {
            if (failure != null) {
                exchange.setException(failure);
            }
            callback.done(false);
        });
        return false;
    }
}
