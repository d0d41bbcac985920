// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import io.caravan.wal.internal.Store;
import org.apache.camel.CamelContext;

/**
 * Opens the store of this container's role and binds {@code writer}, {@code reader}, {@code transaction} and, at the
 * gateway, {@link Wal wal} with its health check. Does nothing in a cloud whose {@code store.type} is another's.
 */
public final class WalModule implements Module {
    /**
     * @throws java.io.IOException with path, rule and advice, if the store cannot be opened; nothing stays bound or open,
     *     and the same call may succeed later
     */
    @Override
    public AutoCloseable start(CamelContext context, Config config) throws Exception {
        return Store.start(context, config);
    }
}
