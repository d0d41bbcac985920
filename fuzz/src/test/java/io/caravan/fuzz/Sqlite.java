// SPDX-License-Identifier: Apache-2.0
package io.caravan.fuzz;

import com.fasterxml.jackson.databind.JsonNode;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;

/** The store's own reader of JSON and of patterns: what is let in must be readable there, and mean the same. */
public final class Sqlite implements AutoCloseable {
  private final Connection connection;
  private final PreparedStatement valid;
  private final PreparedStatement glob;

  public Sqlite() throws SQLException {
    connection = DriverManager.getConnection("jdbc:sqlite::memory:");
    valid = connection.prepareStatement("SELECT json_valid(?1), (SELECT count(*) FROM json_each(?1))");
    glob = connection.prepareStatement("SELECT ? GLOB ?");
  }

  /** SQLite takes the text for JSON and finds as many members as Jackson. */
  public void check(String text, JsonNode tree) throws SQLException {
    valid.setString(1, text);
    try (ResultSet row = valid.executeQuery()) {
      row.next();
      Invariant.that(row.getInt(1) == 1, "SQLite does not take for JSON what was accepted: " + text);
      Invariant.same(row.getInt(2), tree.size(), "members in SQLite");
    }
  }

  public boolean glob(String pattern, String text) throws SQLException {
    glob.setString(1, text);
    glob.setString(2, pattern);
    try (ResultSet row = glob.executeQuery()) {
      row.next();
      return row.getInt(1) == 1;
    }
  }

  @Override
  public void close() throws SQLException {
    connection.close();
  }
}
