// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import org.sqlite.SQLiteConfig;

/** Reads a store that another process writes. */
public final class Store {
  private static final int BUSY_TIMEOUT_MS = 10_000;

  private Store() { }

  /** @return a row per element, its columns separated by commas */
  public static List<String> rows(Path file, String sql) throws SQLException {
    SQLiteConfig config = new SQLiteConfig();
    config.setReadOnly(true);
    config.setBusyTimeout(BUSY_TIMEOUT_MS);
    try (Connection c = config.createConnection("jdbc:sqlite:" + file); Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
      List<String> rows = new ArrayList<>();
      while (r.next()) {
        List<String> row = new ArrayList<>();
        for (int i = 1; i <= r.getMetaData().getColumnCount(); i++) {
          row.add(r.getString(i));
        }
        rows.add(String.join(",", row));
      }
      return rows;
    }
  }

  public static long number(Path file, String sql) throws SQLException {
    return Long.parseLong(rows(file, sql).get(0));
  }
}
