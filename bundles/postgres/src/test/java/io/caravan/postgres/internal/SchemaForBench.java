// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.internal;

import java.sql.Connection;

/** Lets a bench have the tables. */
public final class SchemaForBench {
  private SchemaForBench() {
  }

  public static void apply(Connection connection) throws Exception {
    Schema.apply(connection, "bench", null);
  }
}
