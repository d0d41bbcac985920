// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import io.caravan.wal.internal.TransactionPolicy;
import javax.sql.DataSource;
import org.apache.camel.spi.TransactedPolicy;

/** Makes bean {@code transaction} of a store. */
public final class Transactions {
    private Transactions() {}

    /**
     * @param writer bean {@code writer} of the store
     * @return what follows {@code transacted} in a route is one transaction on the writer, as far as it stays on the thread; it is
     *     rolled back when the exchange fails or an error handler handled a failure in it. Thread-safe
     */
    public static TransactedPolicy policy(DataSource writer) {
        return new TransactionPolicy(writer);
    }
}
