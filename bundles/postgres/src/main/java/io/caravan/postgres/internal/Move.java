// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.internal;

import io.caravan.runtime.Task;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.sqlite.SQLiteConfig;
import org.sqlite.SQLiteDataSource;

/**
 * Takes over what a cloud had in SQLite, into tables that have just been made, in the same transaction: after a failure there are none,
 * and it comes again. Both stores of one version have the same tables and columns, so it is a copy, table by table; only what is JSON and
 * the next numbers of sequences need help.
 */
final class Move {
  private static final int BATCH_ROWS = 1_000;
  private static final int CLOUD = 0x43415243;
  private static final Logger LOG = LoggerFactory.getLogger(Move.class);

  private Move() {
  }

  /**
   * @param file the SQLite store; no process has it open
   * @param into in a transaction, the tables of {@link Schema} without rows but those they are made with
   * @param task told how many rows are taken over
   * @throws IOException the file is not there, no cloud's store, or of another version
   */
  static void into(Connection into, Path file, Task task) throws SQLException, IOException {
    if (!Files.isRegularFile(file)) {
      throw new IOException("store.import [" + file + "] must be the SQLite store to take over: correct the path, or empty the key to begin with nothing");
    }
    SQLiteConfig config = new SQLiteConfig();
    config.setBusyTimeout(1_000);
    config.setReadOnly(false); // else its -wal file could not be read
    SQLiteDataSource source = new SQLiteDataSource(config);
    source.setUrl("jdbc:sqlite:" + file);
    long rows = 0;
    try (Connection from = source.getConnection(); Statement read = from.createStatement()) {
      int application = number(read, "PRAGMA application_id");
      int version = number(read, "PRAGMA user_version");
      if (application != CLOUD || version != Schema.VERSION) {
        throw new IOException("store.import [" + file + "] has application_id " + Integer.toHexString(application) + " and version " + version
            + ", it must be a cloud's store (" + Integer.toHexString(CLOUD) + ") of version " + Schema.VERSION
            + ": start this program with store.type=sqlite once, which brings it there");
      }
      read.execute("PRAGMA locking_mode = EXCLUSIVE");
      read.execute("BEGIN EXCLUSIVE"); // nobody else has it, or it fails
      List<String> tables = texts(read, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name");
      long all = 0;
      for (String table : tables) {
        all += number(read, "SELECT count(*) FROM " + table);
      }
      task.total(all);
      for (String table : tables) {
        Map<String, String> columns = columns(into, table);
        List<String> theirs = texts(read, "SELECT name FROM pragma_table_info('" + table + "') ORDER BY cid");
        if (!columns.keySet().containsAll(theirs)) {
          throw new IOException("store.import [" + file + "]: table [" + table + "] has columns that there are not here: " + theirs + ", here "
              + columns.keySet());
        }
        rows += copy(read, into, table, theirs, columns, task, rows);
      }
      read.execute("COMMIT");
    }
    sequences(into);
    LOG.info("{} rows of [{}] are taken over; it is not needed any more", rows, file);
  }

  private static long copy(Statement read, Connection into, String table, List<String> names, Map<String, String> types, Task task, long before)
      throws SQLException {
    String values = names.stream().map(name -> "jsonb".equals(types.get(name)) ? "caravan_json(?)" : "?").collect(Collectors.joining(", "));
    String list = String.join(", ", names);
    long count = 0;
    try (Statement clear = into.createStatement();
        PreparedStatement insert = into.prepareStatement("INSERT INTO " + table + " (" + list + ") OVERRIDING SYSTEM VALUE VALUES (" + values + ")");
        ResultSet rows = read.executeQuery("SELECT " + list + " FROM " + table)) {
      clear.execute("DELETE FROM " + table); // what tables are made with
      while (rows.next()) {
        for (int i = 1; i <= names.size(); i++) {
          if ("bytea".equals(types.get(names.get(i - 1)))) {
            insert.setBytes(i, rows.getBytes(i));
          } else {
            Object value = rows.getObject(i);
            insert.setObject(i, value instanceof Integer number ? (Object) number.longValue() : value);
          }
        }
        insert.addBatch();
        if (++count % BATCH_ROWS == 0) {
          insert.executeBatch();
          task.progress(before + count);
        }
      }
      insert.executeBatch();
    }
    return count;
  }

  private static Map<String, String> columns(Connection connection, String table) throws SQLException {
    Map<String, String> types = new LinkedHashMap<>();
    try (PreparedStatement select = connection.prepareStatement("SELECT column_name, udt_name FROM information_schema.columns"
        + " WHERE table_schema = current_schema() AND table_name = ? ORDER BY ordinal_position")) {
      select.setString(1, table);
      try (ResultSet rows = select.executeQuery()) {
        while (rows.next()) {
          types.put(rows.getString(1), rows.getString(2));
        }
      }
    }
    return types;
  }

  /** The next numbers come after those that were taken over. */
  private static void sequences(Connection connection) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      for (String column : texts(statement, "SELECT table_name || ' ' || column_name FROM information_schema.columns"
          + " WHERE table_schema = current_schema() AND (is_identity = 'YES' OR column_default LIKE 'nextval(%')"
          + " AND pg_get_serial_sequence(quote_ident(table_name), column_name) IS NOT NULL ORDER BY 1")) {
        String table = column.split(" ")[0];
        String name = column.split(" ")[1];
        statement.execute("SELECT setval(pg_get_serial_sequence('" + table + "', '" + name + "'), coalesce(max(" + name + "), 1), max(" + name
            + ") IS NOT NULL) FROM " + table);
      }
    }
  }

  private static List<String> texts(Statement statement, String sql) throws SQLException {
    try (ResultSet rows = statement.executeQuery(sql)) {
      List<String> all = new ArrayList<>();
      while (rows.next()) {
        all.add(rows.getString(1));
      }
      return all;
    }
  }

  private static int number(Statement statement, String sql) throws SQLException {
    try (ResultSet row = statement.executeQuery(sql)) {
      row.next();
      return row.getInt(1);
    }
  }
}
