// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.sql.Connection;
import java.sql.SQLException;
import org.springframework.jdbc.datasource.AbstractDataSource;

/** Bean {@code reader}: the pool that there is now, which a repair of the store replaces. */
final class ReaderDataSource extends AbstractDataSource {
    private final WriterDataSource.Pool pool;

    ReaderDataSource(WriterDataSource.Pool pool) {
        this.pool = pool;
    }

    @Override
    public Connection getConnection() throws SQLException {
        return pool.get().getConnection();
    }

    @Override
    public Connection getConnection(String user, String password) throws SQLException {
        return getConnection();
    }
}
