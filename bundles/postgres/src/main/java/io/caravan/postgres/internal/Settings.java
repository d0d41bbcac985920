// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.internal;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import com.zaxxer.hikari.SQLExceptionOverride;
import io.caravan.runtime.Config;
import java.io.IOException;
import java.sql.SQLException;
import java.util.Locale;
import javax.sql.DataSource;
import org.postgresql.ds.PGSimpleDataSource;

/** How to connect, out of {@code store.*}. Thread-safe. */
final class Settings {
  /** A replica that hangs must not hold a lock for ever: the inbox' is everybody's. */
  private static final String OPTIONS = "-c idle_in_transaction_session_timeout=5s -c tcp_user_timeout=10000 -c lock_timeout=20s -c jit=off";
  private static final int CONNECT_S = 5;
  private static final int SOCKET_S = 60;
  private static final long MAX_LIFETIME_MS = 1_800_000;

  private final Config config;
  private final PGSimpleDataSource source = new PGSimpleDataSource();

  /** @throws IOException {@code store.url} is not one */
  Settings(Config config) throws IOException {
    this.config = config;
    String url = config.get("store.url");
    if (!url.startsWith("jdbc:postgresql://")) {
      throw new IOException("store.url [" + url + "] must be jdbc:postgresql://<host>:<port>/<database>, because store.type is postgresql:"
          + " set it in io.caravan.store.cfg");
    }
    try {
      source.setURL(url);
    } catch (IllegalArgumentException e) {
      throw new IOException("store.url [" + place() + "] is not understood: it must be jdbc:postgresql://<host>:<port>/<database>", e);
    }
    if (!config.get("store.user").isEmpty()) {
      source.setUser(config.get("store.user"));
    }
    if (!config.get("store.password").isEmpty()) {
      source.setPassword(config.get("store.password"));
    }
    source.setOptions(source.getOptions() == null ? OPTIONS : OPTIONS + " " + source.getOptions()); // what stands last wins
    source.setStringType("unspecified"); // else text would not go into jsonb and numbers
    if (source.getApplicationName() == null) {
      source.setApplicationName("caravan");
    }
    source.setConnectTimeout(CONNECT_S);
    source.setSocketTimeout(Math.max(SOCKET_S, source.getSocketTimeout()));
    source.setTcpKeepAlive(true);
  }

  /** @return connections outside all pools: for the schema, and for who listens */
  DataSource source() {
    return source;
  }

  /** @return the address without what may be secret in it */
  String place() {
    String url = config.get("store.url");
    int query = url.indexOf('?');
    return query < 0 ? url : url.substring(0, query);
  }

  /** @param init what each connection begins with; null: nothing */
  HikariDataSource pool(String name, String sizeKey, boolean readOnly, String init, Trouble trouble) {
    HikariConfig pool = new HikariConfig();
    pool.setPoolName("caravan-" + name);
    pool.setDataSource(source);
    pool.setMaximumPoolSize((int) config.getLong(sizeKey));
    pool.setMinimumIdle(1);
    pool.setReadOnly(readOnly);
    pool.setConnectionInitSql(init);
    pool.setAutoCommit(true);
    pool.setTransactionIsolation("TRANSACTION_READ_COMMITTED");
    pool.setConnectionTimeout(config.getLong("store.timeout.ms"));
    pool.setValidationTimeout(Math.max(250, config.getLong("store.timeout.ms") / 2));
    pool.setMaxLifetime(MAX_LIFETIME_MS);
    pool.setInitializationFailTimeout(-1); // the schema has been looked at already; later it may be away
    pool.setExceptionOverride(new SQLExceptionOverride() {
      @java.lang.Override
      public Override adjudicate(SQLException e) {
        trouble.seen(e);
        return Override.CONTINUE_EVICT;
      }
    });
    return new HikariDataSource(pool);
  }

  @Override
  public String toString() {
    return String.format(Locale.ROOT, "%s as %s", place(), source.getUser());
  }
}
