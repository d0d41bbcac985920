// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.postgres.test.PostgresServer;
import java.io.IOException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import org.junit.jupiter.api.Test;

/** An older program on tables that a newer one has changed. */
class SchemaTest {
  private static final int NEXT = Schema.VERSION + 1;

  @Test
  void anOlderProgramTakesTheTablesBackWhenNobodyWorksWithThem() throws Exception {
    PostgresServer.Database database = PostgresServer.shared().database();
    try (Connection connection = DriverManager.getConnection(database.url(), database.user(), database.password())) {
      Schema.apply(connection, "it", null);
      next(connection, "CREATE TABLE news (said TEXT); ALTER TABLE inbox ADD COLUMN colour TEXT",
          "INSERT INTO refusal SELECT 'there are news' FROM news LIMIT 1; ALTER TABLE inbox DROP COLUMN colour; DROP TABLE news");
      run(connection, "INSERT INTO replica (replica_id, version, started_at_ms, seen_at_ms, until_ms) VALUES ('r1', '9', 0, 0, 99999999999999)");
      assertTrue(refused(connection).contains("replica r1 (9) works with it"));
      run(connection, "UPDATE replica SET until_ms = 1");
      run(connection, "INSERT INTO news VALUES ('x')");
      assertTrue(refused(connection).contains("does not let go: there are news"));
      assertEquals(NEXT, version(connection));
      run(connection, "DELETE FROM news");
      Schema.apply(connection, "it", null);
      assertEquals(Schema.VERSION, version(connection));
      assertEquals("0", one(connection, "SELECT count(*) FROM information_schema.columns WHERE table_name = 'inbox' AND column_name = 'colour'"));
      Schema.apply(connection, "it", null);
    }
  }

  @Test
  void withoutAWayBackTheNewerTablesAreRefused() throws Exception {
    PostgresServer.Database database = PostgresServer.shared().database();
    try (Connection connection = DriverManager.getConnection(database.url(), database.user(), database.password())) {
      Schema.apply(connection, "it", null);
      next(connection, "CREATE TABLE news (said TEXT)", null);
      assertTrue(refused(connection).contains("there is no way back from version " + NEXT));
      assertEquals(NEXT, version(connection));
    }
  }

  @Test
  void aStoreThatIsThereGetsTheFunctionsOfThisProgram() throws Exception {
    PostgresServer.Database database = PostgresServer.shared().database();
    try (Connection connection = DriverManager.getConnection(database.url(), database.user(), database.password())) {
      Schema.apply(connection, "it", null);
      run(connection, "CREATE OR REPLACE FUNCTION caravan_json(source text) RETURNS jsonb LANGUAGE sql IMMUTABLE STRICT AS 'SELECT source::jsonb'");
      Schema.apply(connection, "it", null);
      assertEquals("{\"a\": \"\ufffd\"}", one(connection, "SELECT caravan_json('{\"a\":\"\\u0000\"}')"));
    }
  }

  private static void next(Connection connection, String forth, String back) throws Exception {
    Schema.apply(connection, "it", null, NEXT, name -> name.endsWith("-back") ? back : forth);
  }

  private static String refused(Connection connection) {
    return assertThrows(IOException.class, () -> Schema.apply(connection, "it", null)).getMessage();
  }

  private static void run(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute(sql);
      connection.commit();
    }
  }

  private static int version(Connection connection) throws SQLException {
    return Integer.parseInt(one(connection, "SELECT version FROM caravan_schema"));
  }

  private static String one(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement(); ResultSet row = statement.executeQuery(sql)) {
      row.next();
      return row.getString(1);
    }
  }
}
