// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres;

import io.caravan.postgres.internal.PostgresStore;
import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import org.apache.camel.CamelContext;

/**
 * The cloud's store in PostgreSQL: binds {@code writer}, {@code reader}, {@code transaction}, the words {@code {{sql.*}}} and the
 * health check {@code store}. Does nothing unless {@code store.type} is {@code postgresql}.
 */
public final class PostgresModule implements Module {
  /**
   * @throws java.io.IOException with address, rule and advice, if the database cannot be had or is not this store's; nothing stays
   *     bound or open, and the same call may succeed later
   */
  @Override
  public AutoCloseable start(CamelContext context, Config config) throws Exception {
    if (!"cloud".equals(config.get("container.role")) || !"postgresql".equals(config.get("store.type"))) {
      return () -> { };
    }
    return PostgresStore.start(context, config);
  }
}
