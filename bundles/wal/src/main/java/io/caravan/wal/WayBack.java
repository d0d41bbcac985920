// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.zip.CRC32C;

/**
 * How a store gets back to the tables of an older version. The version that changes the tables knows how to undo it, the one that
 * has to do it is older and cannot know: so the script is kept in the store, in table {@code schema_change}. For SQLite and PostgreSQL.
 * Not thread-safe; all methods work in the caller's transaction, and leave it to be rolled back if they throw.
 */
public final class WayBack {
  /** A script puts a row with its reason here if the older version could not keep what was promised since. */
  private static final String REFUSAL = "refusal";
  private static final String TABLE = "schema_change";

  private WayBack() {
  }

  /**
   * Keeps the script.
   *
   * @param version the tables' version that it leaves, for version - 1
   */
  public static void keep(Connection connection, int version, String script) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.executeUpdate("CREATE TABLE IF NOT EXISTS " + TABLE
          + " (version INTEGER PRIMARY KEY, back TEXT NOT NULL, crc INTEGER NOT NULL, changed_at_ms BIGINT NOT NULL)");
    }
    try (PreparedStatement insert = connection.prepareStatement("INSERT INTO " + TABLE + " (version, back, crc, changed_at_ms) VALUES (?, ?, ?, ?)")) {
      insert.setInt(1, version);
      insert.setString(2, script);
      insert.setInt(3, crc(script));
      insert.setLong(4, System.currentTimeMillis());
      insert.executeUpdate();
    }
  }

  /**
   * Runs the scripts from the newest down to {@code to + 1}, and forgets them. The caller notes the version.
   *
   * @throws SQLException there is no script, it is damaged, or it refuses: the message says which
   */
  public static void go(Connection connection, int from, int to) throws SQLException {
    for (int version = from; version > to; version--) {
      String script = script(connection, version);
      try (Statement statement = connection.createStatement()) {
        statement.executeUpdate("CREATE TEMPORARY TABLE " + REFUSAL + " (why TEXT)");
        statement.executeUpdate(script); // all of it: SQLite's execute() runs the first statement only
      }
      try (Statement statement = connection.createStatement()) {
        try (ResultSet row = statement.executeQuery("SELECT why FROM " + REFUSAL)) {
          if (row.next()) {
            throw new SQLException("version " + version + " does not let go: " + row.getString(1));
          }
        }
        statement.executeUpdate("DROP TABLE " + REFUSAL);
        statement.executeUpdate("DELETE FROM " + TABLE + " WHERE version = " + version);
      }
    }
  }

  private static String script(Connection connection, int version) throws SQLException {
    boolean any;
    try (ResultSet table = connection.getMetaData().getTables(null, connection.getSchema(), TABLE, null)) {
      any = table.next();
    }
    if (any) {
      try (Statement statement = connection.createStatement();
          ResultSet row = statement.executeQuery("SELECT back, crc FROM " + TABLE + " WHERE version = " + version)) {
        if (row.next()) {
          if (crc(row.getString(1)) != row.getInt(2)) {
            throw new SQLException("the way back from version " + version + " is damaged");
          }
          return row.getString(1);
        }
      }
    }
    throw new SQLException("there is no way back from version " + version + " in it");
  }

  private static int crc(String script) {
    CRC32C crc = new CRC32C();
    crc.update(script.getBytes(StandardCharsets.UTF_8));
    return (int) crc.getValue();
  }
}
