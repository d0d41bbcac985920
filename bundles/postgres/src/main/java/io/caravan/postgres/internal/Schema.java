// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.internal;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The tables. {@code cloud-3.sql} makes them from nothing, {@code cloud-N.sql} brings them from N-1 to N; all that is missing is applied
 * in one transaction, one replica at a time. Versions are those of the SQLite store.
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
   * @param taken the SQLite store whose rows new tables begin with; null: with none
   * @throws IOException the database is another program's, a newer version's, or of a kind that will not do; nothing is changed then
   */
  static void apply(Connection connection, String place, Path taken) throws SQLException, IOException {
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
      if (found > VERSION) {
        throw new IOException("store [" + place + "] has version " + found + ", this program reads up to " + VERSION
            + ": start the version that wrote it, or restore a backup from before (docs/operations.md)");
      }
      for (int next = found + 1; next <= VERSION; next++) {
        statement.execute(script(next));
      }
      if (found < FIRST && taken != null) {
        Move.into(connection, taken);
      }
      if (found < VERSION) {
        statement.execute("UPDATE caravan_schema SET version = " + VERSION + ", changed_at = now()");
        LOG.info("store [{}] is brought from {} to version {}", place, found < FIRST ? "nothing" : "version " + found, VERSION);
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

  private static String script(int number) throws IOException {
    try (InputStream in = Schema.class.getResourceAsStream("/io/caravan/postgres/cloud-" + number + ".sql")) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    }
  }
}
