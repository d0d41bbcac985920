// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import io.caravan.runtime.Config;
import io.caravan.wal.internal.InboxParts;
import java.sql.SQLException;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;

/**
 * Sinks that read the cloud's inbox, whichever store it is in: beans {@code sinks} (for route {@code sink}) and
 * {@code recovery} ({@link Recovery}), meters and a readiness check for each sink.
 */
public final class InboxSinks {
    private InboxSinks() {}

    /**
     * Called by the module that has opened the store, after it has bound {@code reader} and {@code writer}.
     *
     * @param reader reads what is committed
     * @param writer takes part in a route's transaction, as bean {@code transaction} opens it. In PostgreSQL one of its
     *               connections is kept as long as this is open
     * @return undoes all of it
     * @throws SQLException the store does not answer; nothing stays bound then
     */
    public static AutoCloseable start(CamelContext context, Config config, DataSource reader, DataSource writer) throws SQLException {
        return InboxParts.start(context, config, reader, writer);
    }
}
