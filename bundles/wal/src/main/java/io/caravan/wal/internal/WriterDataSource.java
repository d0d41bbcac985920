// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import com.zaxxer.hikari.HikariDataSource;
import java.io.PrintWriter;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.logging.Logger;
import javax.sql.DataSource;
import org.slf4j.LoggerFactory;
import org.sqlite.SQLiteConnection;

/**
 * Bean {@code writer}: the pool of one behind the {@link WriteGate}. A connection that comes back in doubt is closed
 * and not given out again: sqlite-jdbc notes "transaction begun" before it begins one, so that after a failed BEGIN the
 * next borrower would write statement by statement, without a transaction and without noticing.
 */
final class WriterDataSource implements DataSource {
    private static final long TURN_TIMEOUT_MS = 30_000;

    /** The pool that there is now: a repair of the store replaces it. */
    interface Pool {
        /** @throws SQLException there is none, at the moment or for good */
        HikariDataSource get() throws SQLException;
    }

    private final Pool pool;
    private final WriteGate gate;

    WriterDataSource(Pool pool, WriteGate gate) {
        this.pool = pool;
        this.gate = gate;
    }

    @Override
    public Connection getConnection() throws SQLException {
        if (gate.isMine()) {
            throw new SQLException("this thread holds the writer already: a second write connection would wait for itself; "
                    + "use one transaction");
        }
        gate.enter(TURN_TIMEOUT_MS);
        try {
            HikariDataSource now = pool.get();
            Connection connection = now.getConnection();
            return (Connection) Proxy.newProxyInstance(WriterDataSource.class.getClassLoader(), new Class<?>[] {Connection.class},
                    new Turn(now, connection));
        } catch (SQLException | RuntimeException | Error e) {
            gate.leave();
            throw e;
        }
    }

    /** Closes the physical connection now, which rolls back, and has the pool open another one next time. */
    static void discard(HikariDataSource pool, Connection pooled) {
        try {
            pooled.unwrap(SQLiteConnection.class).close();
        } catch (SQLException | RuntimeException e) {
            LoggerFactory.getLogger(WriterDataSource.class).debug("closing a connection in doubt", e);
        }
        pool.evictConnection(pooled);
    }

    private final class Turn implements InvocationHandler {
        private final HikariDataSource from;
        private final Connection connection;
        private boolean doubtful;
        private boolean closed;

        Turn(HikariDataSource from, Connection connection) {
            this.from = from;
            this.connection = connection;
        }

        @Override
        public Object invoke(Object proxy, Method method, Object[] args) throws Throwable {
            switch (method.getName()) {
                case "close":
                    close();
                    return null;
                case "isClosed":
                    return closed || connection.isClosed();
                case "equals":
                    return proxy == args[0];
                case "hashCode":
                    return System.identityHashCode(proxy);
                default:
                    if (closed) {
                        throw new SQLException("connection is closed");
                    }
                    try {
                        return method.invoke(connection, args);
                    } catch (InvocationTargetException e) {
                        doubtful = true;
                        throw e.getCause();
                    }
            }
        }

        private synchronized void close() throws SQLException {
            if (closed) {
                return;
            }
            closed = true;
            try {
                if (doubtful) {
                    discard(from, connection);
                } else {
                    connection.close();
                }
            } finally {
                gate.leave();
            }
        }
    }

    @Override
    public Connection getConnection(String user, String password) throws SQLException {
        return getConnection();
    }

    @Override
    public PrintWriter getLogWriter() throws SQLException {
        return pool.get().getLogWriter();
    }

    @Override
    public void setLogWriter(PrintWriter out) throws SQLException {
        pool.get().setLogWriter(out);
    }

    @Override
    public void setLoginTimeout(int seconds) throws SQLException {
        pool.get().setLoginTimeout(seconds);
    }

    @Override
    public int getLoginTimeout() throws SQLException {
        return pool.get().getLoginTimeout();
    }

    @Override
    public Logger getParentLogger() {
        return Logger.getLogger("io.caravan.wal");
    }

    @Override
    public <T> T unwrap(Class<T> type) throws SQLException {
        return type.isInstance(this) ? type.cast(this) : pool.get().unwrap(type);
    }

    @Override
    public boolean isWrapperFor(Class<?> type) throws SQLException {
        return type.isInstance(this) || pool.get().isWrapperFor(type);
    }
}
