// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.postgres.test.PostgresServer;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.List;
import javax.sql.DataSource;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.springframework.jdbc.datasource.DriverManagerDataSource;

class PartitionsTest {
  private static final long DAY = 86_400_000;
  private static final long NOW = 20_000 * DAY + 12_345; // 2024-10-04

  private DataSource store;

  @BeforeEach
  void schema() throws Exception {
    PostgresServer.Database database = PostgresServer.shared().database();
    store = new DriverManagerDataSource(database.url(), database.user(), database.password());
    try (Connection connection = store.getConnection()) {
      Schema.apply(connection, database.url(), null);
    }
  }

  private void execute(String sql) throws SQLException {
    try (Connection connection = store.getConnection(); Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }

  private long number(String sql) throws SQLException {
    try (Connection connection = store.getConnection(); Statement statement = connection.createStatement(); ResultSet row = statement.executeQuery(sql)) {
      row.next();
      return row.getLong(1);
    }
  }

  private void windows(long count, long from, long step) throws SQLException {
    execute("INSERT INTO rollup_window SELECT 'g', 'd', 't', " + from + " + n * " + step + ", 1000, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1 FROM generate_series(0, "
        + (count - 1) + ") n");
  }

  private List<String> names(Partitions partitions, Partitions.Table table) throws SQLException {
    return partitions.list(table).stream().map(Partitions.Partition::name).toList();
  }

  @Test
  void areMadeAheadAndDroppedByAge() throws Exception {
    Partitions days = new Partitions(store, 1);
    days.maintain(NOW, 3 * DAY);
    assertEquals(List.of("rollup_window_20241004", "rollup_window_20241005", "rollup_window_20241006"), names(days, Partitions.Table.WINDOW));
    assertEquals(List.of("message_20241004", "message_20241005", "message_20241006"), names(days, Partitions.Table.MESSAGE));
    days.maintain(NOW, 3 * DAY); // again: nothing
    assertEquals(3, days.list(Partitions.Table.WINDOW).size());

    windows(10, NOW, 1000);
    assertEquals(0, number("SELECT count(*) FROM rollup_window_rest"));
    days.maintain(NOW + 3 * DAY, 3 * DAY); // young enough: its last row could be of this moment less three days
    assertEquals(6, days.list(Partitions.Table.WINDOW).size());
    assertEquals(10, number("SELECT count(*) FROM rollup_window"));
    days.maintain(NOW + 4 * DAY, 3 * DAY);
    assertEquals("rollup_window_20241005", names(days, Partitions.Table.WINDOW).get(0));
    assertEquals(0, number("SELECT count(*) FROM rollup_window"));
    days.maintain(NOW + 500 * DAY, 0); // kept for ever
    assertTrue(names(days, Partitions.Table.WINDOW).contains("rollup_window_20241005"));
  }

  @Test
  void areMadeForABacklogAndNotForWrongClocks() throws Exception {
    Partitions weeks = new Partitions(store, 7);
    windows(Partitions.WORTH_ROWS + 1, NOW - 30 * DAY, 1000); // a gateway that was away
    windows(5, 1000, 1000); // 1970
    windows(5, NOW + 5_000 * DAY, 1000);
    weeks.maintain(NOW, 100 * DAY);
    assertEquals(List.of("rollup_window_20240829", "rollup_window_20241003", "rollup_window_20241010", "rollup_window_20241017"),
        names(weeks, Partitions.Table.WINDOW));
    assertEquals(Partitions.WORTH_ROWS + 1, number("SELECT count(*) FROM rollup_window_20240829"));
    assertEquals(10, number("SELECT count(*) FROM rollup_window_rest"));
    assertEquals(Partitions.WORTH_ROWS + 11, number("SELECT count(*) FROM rollup_window"));
    // The key holds over partitions that were attached.
    assertThrows(SQLException.class, () -> windows(1, NOW - 30 * DAY, 1000));
  }

  @Test
  void anotherWidthFillsTheGaps() throws Exception {
    new Partitions(store, 1).maintain(NOW, 0);
    Partitions weeks = new Partitions(store, 7);
    weeks.maintain(NOW, 0);
    List<Partitions.Partition> all = weeks.list(Partitions.Table.WINDOW);
    // 2024-10-03 to 04, the three days that were there, 07 to 10, and two weeks: without a gap or an overlap.
    assertEquals(List.of("rollup_window_20241003", "rollup_window_20241004", "rollup_window_20241005", "rollup_window_20241006", "rollup_window_20241007",
        "rollup_window_20241010", "rollup_window_20241017"), all.stream().map(Partitions.Partition::name).toList());
    for (int i = 1; i < all.size(); i++) {
      assertEquals(all.get(i - 1).to(), all.get(i).from());
    }
  }

  /** Who reads _rest for long holds it up, not the other way round. */
  @Test
  void giveUpSoonAndComeAgain() throws Exception {
    Partitions days = new Partitions(store, 1);
    try (Connection reader = store.getConnection(); Statement statement = reader.createStatement()) {
      reader.setAutoCommit(false);
      statement.executeQuery("SELECT count(*) FROM rollup_window").close();
      SQLException e = assertThrows(SQLException.class, () -> days.maintain(NOW, 0));
      assertEquals("55P03", e.getSQLState());
      assertEquals(3, days.list(Partitions.Table.MESSAGE).size()); // the other table's turn came
      windows(1, NOW, 1);
      reader.rollback();
    }
    days.maintain(NOW, 0);
    assertEquals(1, number("SELECT count(*) FROM rollup_window_20241004"));
  }
}
