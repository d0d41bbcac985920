// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.internal;

import io.caravan.wal.WayBack;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The tables. {@code cloud-3.sql} makes them from nothing, {@code cloud-N.sql} brings them from N-1 to N; all that is missing is applied
 * in one transaction, one replica at a time. Versions are those of the SQLite store. With a script goes {@code cloud-N-back.sql} into
 * the store, for an older program ({@link WayBack}). {@code cloud-functions.sql} is applied each time: what is mended in a function comes
 * to a store of any age.
 */
final class Schema {
  static final int FIRST = 3;
  static final int VERSION = 3;
  private static final int OLDEST_SERVER = 150_000;
  private static final Logger LOG = LoggerFactory.getLogger(Schema.class);

  private Schema() {
  }

  /**
   * Creates or migrates.
   *
   * @param place the database's address, for people
   * @param taken puts in what new tables begin with; null: nothing
   * @throws IOException the database is another program's, a newer version's, or of a kind that will not do; nothing is changed then
   */
  static void apply(Connection connection, String place, Taken taken) throws SQLException, IOException {
    apply(connection, place, taken, VERSION, Schema::resource);
  }

  /** Rows of another store, taken over in the transaction that makes the tables. */
  interface Taken {
    void into(Connection connection) throws SQLException, IOException;
  }

  /** Where scripts come from: the text of {@code cloud-<what>.sql}, or null. */
  interface Scripts {
    String read(String name) throws IOException;
  }

  static void apply(Connection connection, String place, Taken taken, int version, Scripts scripts) throws SQLException, IOException {
    connection.setAutoCommit(false);
    try (Statement statement = connection.createStatement()) {
      suits(statement, place);
      statement.execute("SELECT pg_advisory_xact_lock(hashtext('caravan.' || current_schema()), 0)");
      int found = FIRST - 1;
      if (one(statement, "SELECT CAST(to_regclass(current_schema() || '.caravan_schema') IS NOT NULL AS TEXT)").equals("true")) {
        found = Integer.parseInt(one(statement, "SELECT version FROM caravan_schema WHERE one = 1"));
      } else {
        String other = one(statement, "SELECT min(tablename) FROM pg_tables WHERE schemaname = current_schema()");
        if (other != null) {
          throw new IOException("store [" + place + "] is not a cloud's store: it has tables of another program, for example [" + other
              + "]: give it a database of its own, or a schema (currentSchema in store.url)");
        }
        statement.execute("CREATE TABLE caravan_schema (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL,"
            + " changed_at TIMESTAMPTZ NOT NULL, checked_at TIMESTAMPTZ)");
        statement.execute("INSERT INTO caravan_schema VALUES (1, " + found + ", now(), NULL)");
      }
      if (found > version) {
        back(connection, statement, place, found, version);
      }
      statement.execute(resource("cloud-functions"));
      for (int next = found + 1; next <= version; next++) {
        statement.execute(scripts.read("cloud-" + next));
        String back = scripts.read("cloud-" + next + "-back");
        if (back != null) {
          WayBack.keep(connection, next, back);
        }
      }
      if (found < FIRST && taken != null) {
        // Before its first row it counts what is there, which takes longer than a session may stand idle in a transaction.
        statement.execute("SET LOCAL idle_in_transaction_session_timeout = 0");
        taken.into(connection);
      }
      if (found != version) {
        statement.execute("UPDATE caravan_schema SET version = " + version + ", changed_at = now()");
        LOG.info("store [{}] is brought from {} to version {}", place, found < FIRST ? "nothing" : "version " + found, version);
      }
      connection.commit();
    } catch (SQLException | IOException | RuntimeException e) {
      connection.rollback();
      throw e;
    }
  }

  private static void suits(Statement statement, String place) throws SQLException, IOException {
    int server = Integer.parseInt(one(statement, "SHOW server_version_num"));
    if (server < OLDEST_SERVER) {
      throw new IOException("store [" + place + "] is on PostgreSQL " + one(statement, "SHOW server_version") + ": it must be 15 or newer");
    }
    String encoding = one(statement, "SHOW server_encoding");
    if (!"UTF8".equals(encoding)) {
      throw new IOException("store [" + place + "] has the encoding [" + encoding + "], it must be UTF8: createdb -E UTF8 -T template0");
    }
    if (one(statement, "SELECT current_schema()") == null) {
      throw new IOException("store [" + place + "] has no schema that its connections use (search_path is ["
          + one(statement, "SHOW search_path") + "]): create it, or change currentSchema in store.url");
    }
    if ("t".equals(one(statement, "SELECT pg_is_in_recovery()"))) {
      throw new IOException("store [" + place + "] is a standby, which is read-only: store.url must lead to the primary");
    }
  }

  private static String one(Statement statement, String sql) throws SQLException {
    try (ResultSet row = statement.executeQuery(sql)) {
      return row.next() ? row.getString(1) : null;
    }
  }

  /** Not under the feet of a newer replica that works with these tables. */
  private static void back(Connection connection, Statement statement, String place, int found, int version) throws SQLException, IOException {
    String hindrance = one(statement, "SELECT 'replica ' || replica_id || ' (' || coalesce(version, '?') || ') works with it: stop it first'"
        + " FROM replica WHERE until_ms > extract(epoch FROM now()) * 1000 ORDER BY replica_id LIMIT 1");
    try {
      if (hindrance == null) {
        WayBack.go(connection, found, version);
      }
    } catch (SQLException e) {
      hindrance = e.getMessage();
    }
    if (hindrance != null) {
      throw new IOException("store [" + place + "] has version " + found + ", this program reads up to " + version + ", and " + hindrance
          + "; or start the version that wrote it (docs/upgrade.md)");
    }
  }

  private static String resource(String name) throws IOException {
    try (InputStream in = Schema.class.getResourceAsStream("/io/caravan/postgres/" + name + ".sql")) {
      return in == null ? null : new String(in.readAllBytes(), StandardCharsets.UTF_8);
    }
  }
}
