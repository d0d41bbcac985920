// SPDX-License-Identifier: Apache-2.0
package io.caravan.model;

import java.io.PrintWriter;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Set;
import java.util.logging.Logger;
import javax.sql.DataSource;

/**
 * The one write connection of a process that can die between any two of its statements, before or after each, COMMIT
 * included. From then on nothing it does has an effect; what was not committed is rolled back. Thread-safe.
 */
final class Crash implements DataSource {
  private static final Set<String> STEPS = Set.of("execute", "executeUpdate", "executeLargeUpdate", "executeBatch", "executeQuery", "commit",
      "setAutoCommit", "addBatch");

  private final DataSource real;
  private int left = -1;
  private boolean afterwards;
  private volatile boolean dead;
  private volatile Runnable onDeath = () -> { };

  Crash(DataSource real) {
    this.real = real;
  }

  /** @param steps so many statements from now are done; @param afterwards the next one has its effect, but nobody learns of it */
  synchronized void in(int steps, boolean afterwards) {
    left = steps;
    this.afterwards = afterwards;
  }

  synchronized void disarm() {
    left = -1;
  }

  void onDeath(Runnable action) {
    onDeath = action;
  }

  void die() {
    dead = true;
    onDeath.run();
  }

  boolean dead() {
    return dead;
  }

  private synchronized boolean due() {
    if (left < 0) {
      return false;
    }
    return left-- == 0;
  }

  private Object step(Object target, java.lang.reflect.Method method, Object[] args) throws Throwable {
    boolean counts = STEPS.contains(method.getName());
    if (dead && counts) {
      throw new SQLException("this process is dead");
    }
    boolean now = counts && due();
    if (now && !afterwards) {
      die();
      throw new SQLException("this process died before " + method.getName());
    }
    try {
      Object result = method.invoke(target, args);
      if (now) {
        die();
        throw new SQLException("this process died after " + method.getName());
      }
      return result;
    } catch (InvocationTargetException e) {
      throw e.getCause();
    }
  }

  private <T> T proxy(Class<T> type, InvocationHandler handler) {
    return type.cast(Proxy.newProxyInstance(Crash.class.getClassLoader(), new Class<?>[] {type}, handler));
  }

  @Override
  public Connection getConnection() throws SQLException {
    if (dead) {
      throw new SQLException("this process is dead");
    }
    Connection connection = real.getConnection();
    return proxy(Connection.class, (self, method, args) -> {
      switch (method.getName()) {
        case "equals":
          return self == args[0];
        case "hashCode":
          return System.identityHashCode(self);
        case "close":
          if (dead) {
            // What was begun is lost with the process.
            try {
              if (!connection.getAutoCommit()) {
                connection.rollback();
                connection.setAutoCommit(true);
              }
            } catch (SQLException gone) {
              // the store was closed first
            }
          }
          break;
        default:
      }
      Object result = step(connection, method, args);
      if (result instanceof CallableStatement || !(result instanceof Statement)) {
        return result;
      }
      Class<? extends Statement> type = result instanceof PreparedStatement ? PreparedStatement.class : Statement.class;
      return proxy(type, (s, m, a) -> step(result, m, a));
    });
  }

  @Override
  public Connection getConnection(String user, String password) throws SQLException {
    return getConnection();
  }

  @Override
  public PrintWriter getLogWriter() throws SQLException {
    return real.getLogWriter();
  }

  @Override
  public void setLogWriter(PrintWriter out) throws SQLException {
    real.setLogWriter(out);
  }

  @Override
  public void setLoginTimeout(int seconds) throws SQLException {
    real.setLoginTimeout(seconds);
  }

  @Override
  public int getLoginTimeout() throws SQLException {
    return real.getLoginTimeout();
  }

  @Override
  public Logger getParentLogger() {
    return Logger.getLogger("io.caravan.model");
  }

  @Override
  public <T> T unwrap(Class<T> type) throws SQLException {
    return real.unwrap(type);
  }

  @Override
  public boolean isWrapperFor(Class<?> type) throws SQLException {
    return real.isWrapperFor(type);
  }
}
