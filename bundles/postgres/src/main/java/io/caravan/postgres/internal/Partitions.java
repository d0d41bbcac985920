// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.internal;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Time partitions: made ahead, made for what has collected in {@code <table>_rest}, and dropped when all that could be in them is too old.
 * DDL that routes cannot express: bounds must be constants. Each step is a transaction that gives up after a short wait for its lock, so
 * that nobody queues behind it, and comes again. Not thread-safe; several replicas may do it at the same time.
 */
final class Partitions {
  /** A table partitioned by one column of milliseconds. */
  enum Table {
    WINDOW("rollup_window", "start_ms"),
    MESSAGE("message", "observed_at_ms");

    final String table;
    final String column;

    Table(String table, String column) {
      this.table = table;
      this.column = column;
    }
  }

  record Partition(String name, long from, long to) {
  }

  /** So many rows of one time in _rest are worth a partition; single ones are from devices whose clocks are wrong. */
  static final int WORTH_ROWS = 1_000;
  private static final int AHEAD = 2;
  private static final int MOST_AT_ONCE = 60;
  private static final long DAY_MS = 86_400_000;
  private static final Pattern BOUNDS = Pattern.compile("FROM \\('(-?\\d+)'\\) TO \\('(-?\\d+)'\\)");
  private static final DateTimeFormatter NAME = DateTimeFormatter.ofPattern("yyyyMMdd").withZone(ZoneOffset.UTC);
  private static final Logger LOG = LoggerFactory.getLogger(Partitions.class);

  private final DataSource writer;
  private final long width;

  /** @param days width of the partitions to make */
  Partitions(DataSource writer, long days) {
    this.writer = writer;
    this.width = days * DAY_MS;
  }

  /**
   * Makes what is missing and drops what is too old.
   *
   * @param now milliseconds since 1970
   * @param keep milliseconds after their time that rows are kept; 0: for ever
   * @throws SQLException part of it may be done; the rest is done next time
   */
  void maintain(long now, long keep) throws SQLException {
    SQLException failed = null;
    for (Table table : Table.values()) {
      try {
        for (long slot : wanted(table, now, keep)) {
          make(table, slot);
        }
        if (keep > 0) {
          for (Partition partition : list(table)) {
            if (partition.to() <= now - keep) {
              drop(table, partition);
            }
          }
        }
      } catch (SQLException e) {
        failed = e; // the other table's turn first
      }
    }
    if (failed != null) {
      throw failed;
    }
  }

  /** @return the partitions but _rest, in the order of time */
  List<Partition> list(Table table) throws SQLException {
    try (Connection connection = writer.getConnection()) {
      return list(connection, table);
    }
  }

  private static List<Partition> list(Connection connection, Table table) throws SQLException {
    List<Partition> found = new ArrayList<>();
    try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            + " WHERE i.inhparent = CAST('" + table.table + "' AS regclass) AND NOT i.inhdetachpending ORDER BY c.relname")) {
      while (rows.next()) {
        Matcher bounds = BOUNDS.matcher(rows.getString(2));
        if (bounds.find()) {
          found.add(new Partition(rows.getString(1), Long.parseLong(bounds.group(1)), Long.parseLong(bounds.group(2))));
        }
      }
    }
    found.sort((a, b) -> Long.compare(a.from(), b.from()));
    return found;
  }

  /** Beginnings of the partitions that should be there and are not, at least not whole. */
  private List<Long> wanted(Table table, long now, long keep) throws SQLException {
    TreeSet<Long> slots = new TreeSet<>();
    long current = Math.floorDiv(now, width) * width;
    for (int i = 0; i <= AHEAD; i++) {
      slots.add(current + i * width);
    }
    try (Connection connection = writer.getConnection(); PreparedStatement select = connection.prepareStatement("SELECT " + table.column
        + " / ? AS slot FROM " + table.table + "_rest WHERE " + table.column + " >= ? AND " + table.column + " < ? GROUP BY slot"
        + " HAVING count(*) >= " + WORTH_ROWS + " ORDER BY slot DESC LIMIT " + MOST_AT_ONCE)) {
      select.setLong(1, width);
      select.setLong(2, keep > 0 ? now - keep : 0);
      select.setLong(3, current + (AHEAD + 1) * width);
      try (ResultSet rows = select.executeQuery()) {
        while (rows.next()) {
          slots.add(rows.getLong(1) * width);
        }
      }
      // Only those that no partition covers: a look at the catalogue is cheap, a lock is not.
      List<Partition> there = list(connection, table);
      return slots.stream().filter(slot -> !free(slot, there).isEmpty()).toList();
    }
  }

  /** What of a slot no partition covers; partitions of another width may be there from before. */
  private List<long[]> free(long slot, List<Partition> there) {
    List<long[]> free = new ArrayList<>();
    long from = slot;
    for (Partition partition : there) {
      if (partition.to() <= from || partition.from() >= slot + width) {
        continue;
      }
      if (partition.from() > from) {
        free.add(new long[] {from, partition.from()});
      }
      from = partition.to();
    }
    if (from < slot + width) {
      free.add(new long[] {from, slot + width});
    }
    return free;
  }

  private void make(Table table, long slot) throws SQLException {
    transaction(statement -> {
      String rest = table.table + "_rest";
      // Attaching needs it anyway; taken first, rows that are being put there cannot get in between.
      statement.execute("LOCK TABLE " + rest + " IN ACCESS EXCLUSIVE MODE");
      for (long[] range : free(slot, list(statement.getConnection(), table))) {
        String name = table.table + "_" + NAME.format(Instant.ofEpochMilli(range[0]));
        String in = " WHERE " + table.column + " >= " + range[0] + " AND " + table.column + " < " + range[1];
        statement.execute("CREATE TABLE " + name + " (LIKE " + table.table + " INCLUDING ALL)");
        int moved = statement.executeUpdate("WITH moved AS (DELETE FROM " + rest + in + " RETURNING *) INSERT INTO " + name + " SELECT * FROM moved");
        statement.execute("ALTER TABLE " + table.table + " ATTACH PARTITION " + name + " FOR VALUES FROM (" + range[0] + ") TO (" + range[1] + ")");
        LOG.info("partition {} is made{}", name, moved == 0 ? "" : ", " + moved + " rows of " + rest + " are in it now");
      }
    });
  }

  private void drop(Table table, Partition partition) throws SQLException {
    transaction(statement -> {
      // Another replica may have been first.
      if (list(statement.getConnection(), table).contains(partition)) {
        statement.execute("DROP TABLE " + partition.name());
        LOG.info("partition {} is dropped: all in it is older than store.keep.ms", partition.name());
      }
    });
  }

  private interface Step {
    void run(Statement statement) throws SQLException;
  }

  private void transaction(Step step) throws SQLException {
    try (Connection connection = writer.getConnection(); Statement statement = connection.createStatement()) {
      connection.setAutoCommit(false);
      try {
        statement.execute("SET LOCAL lock_timeout = '2s'");
        statement.execute("SELECT 1 FROM caravan_lock(3)"); // one replica at a time
        step.run(statement);
        connection.commit();
      } catch (SQLException | RuntimeException e) {
        connection.rollback();
        throw e;
      } finally {
        connection.setAutoCommit(true);
      }
    }
  }
}
