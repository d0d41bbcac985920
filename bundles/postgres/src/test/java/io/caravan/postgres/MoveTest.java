// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.postgres.test.PostgresServer;
import io.caravan.runtime.Check;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** From SQLite to PostgreSQL. */
class MoveTest {
  @TempDir
  Path home;

  @Test
  void bothStoresHaveTheSameTablesAndColumns() throws Exception {
    try (Box sqlite = Box.open(Box.Kind.SQLITE, home.resolve("s")).ready(); Box postgres = Box.open(Box.Kind.POSTGRESQL, home.resolve("p")).ready()) {
      List<String> theirs = sqlite.rows("SELECT m.name || '.' || c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c"
          + " WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' ORDER BY 1");
      List<String> ours = postgres.rows("SELECT c.table_name || '.' || c.column_name FROM information_schema.columns c JOIN information_schema.tables t"
          + " ON t.table_schema = c.table_schema AND t.table_name = c.table_name WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE'"
          + " AND c.table_name <> 'caravan_schema' AND c.table_name !~ '^(message|rollup_window)_(rest|\\d+)$' ORDER BY 1");
      assertEquals(String.join("\n", theirs.stream().sorted().toList()), String.join("\n", ours.stream().sorted().toList()));
    }
  }

  @Test
  void rowsAreTakenOverOnce() throws Exception {
    Path file = home.resolve("s/data/caravan/cloud.db");
    try (Box sqlite = Box.open(Box.Kind.SQLITE, home.resolve("s"), "routes", "store").ready()) {
      sqlite.execute("INSERT INTO inbox (seq, gateway_id, log_id, gateway_seq, kind, device_id, message_key, observed_at_ms, received_at_ms, body)"
          + " VALUES (41, 'g', 'l', 7, 'command', 'd', 'k', 1, 9223372036854775000, '{\"a\":\"\\u0000\"}')");
      sqlite.execute("INSERT INTO command (gateway_id, command_id, device_id, name, arguments, content_hash, origin, issued_by, status, created_at_ms,"
          + " expires_at_ms, updated_at_ms) VALUES ('g', 'c', 'd', 'n', '{ \"b\":1, \"a\":2 }', x'00ff', 'cloud', 'me', 'SENT', 1, 2, 3)");
      sqlite.send("direct:store-apply", Map.of("rows", "[{\"gateway_id\":\"g\",\"device_id\":\"d\",\"kind\":\"event\",\"message_key\":\"e\","
          + "\"observed_at_ms\":5,\"received_at_ms\":6,\"body\":{\"x\":1.50}}]"));
      // The timer passes the row of the inbox, and counts it; only then is the figure ours.
      await().atMost(Duration.ofSeconds(30)).until(() -> sqlite.one("SELECT max(acked_seq) FROM sink_range WHERE sink = 'store'"), "41"::equals);
      sqlite.execute("UPDATE sink SET delivered = 5 WHERE name = 'store'");
    }
    PostgresServer.Database database = PostgresServer.shared().database();
    String[] settings = {"store.import", file.toString()};
    for (int start = 1; start <= 2; start++) { // the second time it is not looked at
      try (Box postgres = new Box(Box.Kind.POSTGRESQL, home.resolve("p"), database, settings).ready()) {
        assertEquals("41|g|7|\ufffd", postgres.one("SELECT seq, gateway_id, gateway_seq, body->>'a' FROM inbox"));
        assertEquals("{ \"b\":1, \"a\":2 }|00ff", postgres.one("SELECT arguments, encode(content_hash, 'hex') FROM command"));
        assertEquals("e|5|{\"x\": 1.50}", postgres.one("SELECT message_key, observed_at_ms, CAST(body AS TEXT) FROM message"));
        assertEquals("5", postgres.one("SELECT delivered FROM sink WHERE name = 'store'"));
        if (start == 1) {
          // What comes next comes after it.
          postgres.execute("INSERT INTO inbox (gateway_id, log_id, gateway_seq, kind, device_id, message_key, observed_at_ms, received_at_ms, body)"
              + " VALUES ('g', 'l', 8, 'event', 'd', 'k', 1, 1, '{}')");
          assertEquals("42", postgres.one("SELECT max(seq) FROM inbox"));
          postgres.execute("INSERT INTO message (gateway_id, device_id, message_key, kind, observed_at_ms, received_at_ms, body)"
              + " VALUES ('g', 'd', 'e2', 'event', 1, 1, '{}')");
          assertEquals("1|2", postgres.one("SELECT min(id), max(id) FROM message"));
          postgres.execute("DELETE FROM inbox WHERE seq = 42");
          postgres.execute("DELETE FROM message WHERE id = 2");
        }
      }
    }
  }

  /** Negative control: nothing is made of what is no store, and the reason is said. */
  @Test
  void whatIsNoStoreIsRefused() throws Exception {
    PostgresServer.Database database = PostgresServer.shared().database();
    Path file = Files.writeString(home.resolve("x.db"), "");
    for (Map.Entry<Path, String> bad : Map.of(file, "has application_id 0 and version 0", home.resolve("missing.db"), "must be the SQLite store").entrySet()) {
      try (Box box = new Box(Box.Kind.POSTGRESQL, home.resolve("p"), database, "store.import", bad.getKey().toString())) {
        String said = box.caravan.checks().stream().filter(c -> c.name().equals("module:postgres")).map(Check::message).findFirst().orElse("");
        assertTrue(said.contains(bad.getValue()), said);
      }
    }
    try (Box box = new Box(Box.Kind.POSTGRESQL, home.resolve("p"), database).ready()) {
      assertEquals("0", box.one("SELECT count(*) FROM inbox"));
    }
  }
}
