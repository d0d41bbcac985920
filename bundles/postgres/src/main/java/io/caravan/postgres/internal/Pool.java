// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.internal;

import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.SQLTransientConnectionException;
import org.springframework.jdbc.datasource.AbstractDataSource;

/** A pool whose errors say which database it is and what to do. Thread-safe. */
final class Pool extends AbstractDataSource implements AutoCloseable {
  private final HikariDataSource pool;
  private final Trouble trouble;

  Pool(HikariDataSource pool, Trouble trouble) {
    this.pool = pool;
    this.trouble = trouble;
  }

  @Override
  public Connection getConnection() throws SQLException {
    try {
      return pool.getConnection();
    } catch (SQLException e) {
      throw new SQLTransientConnectionException(trouble.describe(e), e.getSQLState(), e);
    }
  }

  @Override
  public Connection getConnection(String user, String password) throws SQLException {
    return getConnection();
  }

  HikariDataSource pool() {
    return pool;
  }

  @Override
  public void close() {
    pool.close();
  }
}
