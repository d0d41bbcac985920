// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.postgres.test.PostgresServer;
import io.caravan.runtime.Check;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the store says and does when the database is not as it should be. */
class PostgresModuleTest {
  private static final Duration SOON = Duration.ofSeconds(40);

  @TempDir
  Path home;

  private Box box(PostgresServer.Database database, String... settings) throws Exception {
    return new Box(Box.Kind.POSTGRESQL, home, database, settings);
  }

  private static String problem(Box box, String check) {
    return box.caravan.checks().stream().filter(c -> c.name().equals(check) && !c.up()).map(Check::message).findFirst().orElse("");
  }

  private void refused(PostgresServer.Database database, String expected, String... settings) throws Exception {
    try (Box box = box(database, settings)) {
      assertTrue(problem(box, "module:postgres").contains(expected), () -> "said: " + problem(box, "module:postgres"));
      assertTrue(box.caravan.bean("writer", Object.class).isEmpty(), "nothing is bound");
    }
  }

  @Test
  void databaseThatWillNotDoIsRefusedWithReasonAndAdvice() throws Exception {
    PostgresServer server = PostgresServer.shared();
    PostgresServer.Database good = server.database();
    refused(good, "store.url [http://x] must be jdbc:postgresql://<host>:<port>/<database>", "store.url", "http://x");
    refused(good, "does not exist", "store.url", good.url() + "_not");
    refused(good, "does not let us in", "store.user", "nobody");
    refused(good, "cannot be reached", "store.url", "jdbc:postgresql://127.0.0.1:1/x");
    refused(good, "no schema that its connections use", "store.url", good.url() + "?currentSchema=nowhere");

    PostgresServer.Database foreign = server.database();
    execute(foreign, "CREATE TABLE invoice (id INTEGER)");
    refused(foreign, "it has tables of another program, for example [invoice]");

    server.execute("DROP DATABASE IF EXISTS latin");
    server.execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    refused(new PostgresServer.Database(server, "latin"), "has the encoding [LATIN1], it must be UTF8");

    PostgresServer.Database newer = server.database();
    box(newer).ready().close();
    execute(newer, "UPDATE caravan_schema SET version = 99");
    refused(newer, "has version 99, this program reads up to 3, and there is no way back from version 99 in it");
  }

  /** Negative control of the refusals: schemas of their own in one database are fine, and start from nothing. */
  @Test
  void schemasShareADatabase() throws Exception {
    PostgresServer.Database database = PostgresServer.shared().database();
    for (String schema : List.of("one", "two")) {
      execute(database, "CREATE SCHEMA " + schema);
      try (Box box = box(database, "store.url", database.url() + "?currentSchema=" + schema).ready()) {
        assertEquals(schema + "|3", box.one("SELECT current_schema(), version FROM caravan_schema"));
      }
    }
  }

  @Test
  void replicasThatStartTogetherMakeTheTablesOnce() throws Exception {
    PostgresServer.Database database = PostgresServer.shared().database();
    List<CompletableFuture<Box>> starts = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      Path own = home.resolve("replica" + i);
      starts.add(CompletableFuture.supplyAsync(() -> {
        try {
          return new Box(Box.Kind.POSTGRESQL, own, database).ready();
        } catch (Exception e) {
          throw new IllegalStateException(e);
        }
      }));
    }
    for (CompletableFuture<Box> start : starts) {
      try (Box box = start.get(60, TimeUnit.SECONDS)) {
        assertEquals("1|2", box.one("SELECT (SELECT count(*) FROM meta), (SELECT count(*) FROM sink WHERE name IN ('store', 'command'))"));
      }
    }
  }

  @Test
  void databaseThatGoesAwayIsSaidAndComesBackByItself() throws Exception {
    try (PostgresServer server = PostgresServer.start(); Box box = box(server.database(), "routes", "store", "store.timeout.ms", "500").ready()) {
      server.stop();
      await().atMost(SOON).untilAsserted(() -> {
        String said = problem(box, "store");
        assertTrue(said.contains("store [jdbc:postgresql://127.0.0.1:" + server.port()) && said.matches(".*(cannot be reached|has ended).*"), said);
      });
      SQLException failure = assertThrows(SQLException.class, () -> box.writer().getConnection());
      assertTrue(failure.getMessage().contains("cannot be reached"), failure::getMessage);
      server.restart();
      box.ready();
      box.execute("{{sql.inbox.lock}}");
    }
  }

  /** By its error, as a full disk gives it. */
  @Test
  void fullDatabaseIsSaidUntilItTakesRowsAgain() throws Exception {
    try (Box box = box(PostgresServer.shared().database()).ready()) {
      box.execute("CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device'"
          + " USING ERRCODE = '53100'; END $$");
      box.execute("CREATE TRIGGER disk_full BEFORE UPDATE ON caravan_schema FOR EACH ROW EXECUTE FUNCTION disk_full()");
      await().atMost(SOON).untilAsserted(() -> assertTrue(problem(box, "store").contains("is full (ERROR: could not extend file: No space left on device"),
          problem(box, "store")));
      box.execute("DROP TRIGGER disk_full ON caravan_schema");
      box.ready();
    }
  }

  /** The inbox' lock: what is seen is never followed by something before it, and nothing is missing. */
  @Test
  void sequencesAreDenseAndSeenInOrder() throws Exception {
    try (Box box = box(PostgresServer.shared().database()).ready()) {
      try (Connection first = box.writer().getConnection(); Connection second = box.writer().getConnection()) {
        first.setAutoCommit(false);
        second.setAutoCommit(false);
        insert(box, first, 1, true);
        CompletableFuture<Void> waits = CompletableFuture.runAsync(() -> {
          try {
            insert(box, second, 2, true);
            second.commit();
          } catch (Exception e) {
            throw new IllegalStateException(e);
          }
        });
        await().atMost(SOON).until(() -> "1".equals(box.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")));
        assertFalse(waits.isDone());
        first.rollback(); // what it has spent is given back
        waits.get(30, TimeUnit.SECONDS);
        assertEquals(List.of("1|2"), box.rows("SELECT seq, gateway_seq FROM inbox"));
        // Cleaned: the cursor knows how far it was.
        second.setAutoCommit(true);
        box.execute("UPDATE sink_range SET acked_seq = 1");
        box.execute("DELETE FROM inbox");
        first.rollback();
        insert(box, first, 3, true);
        first.commit();
        assertEquals(List.of("2|3"), box.rows("SELECT seq, gateway_seq FROM inbox"));

        // Negative control: without the lock a reader sees 4 before 3, and after a rollback one is missing.
        insert(box, first, 4, false);
        second.setAutoCommit(false);
        insert(box, second, 5, false);
        second.commit();
        assertEquals("4", box.one("SELECT max(seq) FROM inbox"));
        assertEquals("2", box.one("SELECT count(*) FROM inbox"));
        first.rollback();
        first.setAutoCommit(true);
        second.setAutoCommit(true);
      }
    }
  }

  private static void insert(Box box, Connection connection, long gatewaySeq, boolean lock) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      if (lock) {
        statement.execute(box.sql("{{sql.inbox.lock}}"));
      }
      statement.execute("INSERT INTO inbox (gateway_id, log_id, gateway_seq, kind, device_id, message_key, observed_at_ms, received_at_ms, body)"
          + " VALUES ('g', 'l', " + gatewaySeq + ", 'event', 'd', 'k', 1, 1, '{}')");
    }
  }

  static void execute(PostgresServer.Database database, String sql) throws SQLException {
    try (Connection connection = database.connect(); Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }

  static List<String> column(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
      List<String> all = new ArrayList<>();
      while (rows.next()) {
        all.add(rows.getString(1));
      }
      return all;
    }
  }
}
