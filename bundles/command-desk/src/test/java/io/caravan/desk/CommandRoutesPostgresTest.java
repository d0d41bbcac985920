// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk;

import io.caravan.postgres.test.PostgresServer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;

/** The same over PostgreSQL. */
class CommandRoutesPostgresTest extends CommandRoutesTest {
  @BeforeEach
  void database() throws Exception {
    Cloud.postgres = PostgresServer.shared().database();
  }

  @AfterEach
  void none() {
    Cloud.postgres = null;
  }
}
