// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The dialect words mean the same in both stores. */
class WordsTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  @TempDir
  Path home;

  @Test
  void bothStoresHaveTheSameWords() throws Exception {
    assertEquals(words("bundles/wal/src/main/resources/io/caravan/wal/sql-sqlite.properties"),
        words("bundles/postgres/src/main/resources/io/caravan/postgres/sql-postgresql.properties"));
  }

  private static Set<String> words(String file) throws Exception {
    Properties properties = new Properties();
    try (Reader in = Files.newBufferedReader(Box.REPO.resolve(file))) {
      properties.load(in);
    }
    return properties.stringPropertyNames();
  }

  @ParameterizedTest
  @EnumSource(Box.Kind.class)
  void wordsMeanTheSame(Box.Kind kind) throws Exception {
    try (Box box = Box.open(kind, home).ready()) {
      long now = Long.parseLong(box.one("SELECT {{sql.now.ms}}"));
      assertTrue(Math.abs(now - System.currentTimeMillis()) < 60_000, () -> "the store's clock says " + now);
      assertEquals("3|1", box.one("SELECT {{sql.greatest}}(1, 3), {{sql.least}}(1, 3)"));
      assertEquals("[\"b\",[1,\"x\"],{\"z\":1,\"a\":true}]", tidy(box.one("SELECT CAST({{sql.json.array}}('b', {{sql.json.array}}(1, 'x'),"
          + " {{sql.json.object}}('z', 1, 'a', {{sql.json}}(CASE WHEN 1 = 1 THEN 'true' ELSE 'false' END))) AS TEXT)")));
      assertEquals("[\"c\",\"b\"]", tidy(box.one("SELECT CAST({{sql.json.agg}}(e.value ORDER BY e.key DESC) FILTER (WHERE e.value <> 'a') AS TEXT)"
          + " FROM {{sql.json.each.text}}(?) e", "[\"a\",\"b\",\"c\"]")));
      assertEquals("[]", tidy(box.one("SELECT CAST(coalesce({{sql.json.agg}}(e.value ORDER BY e.key), {{sql.json.empty}}) AS TEXT)"
          + " FROM {{sql.json.each.text}}(?) e", "[]")));
      assertEquals(List.of("0|1", "1|2"), box.rows("SELECT e.key, CAST({{sql.json.long}}(e.value, '$.a.b') AS BIGINT)"
          + " FROM {{sql.json.each}}(?, '$.rows') e ORDER BY e.key", "{\"rows\":[{\"a\":{\"b\":1}},{\"a\":{\"b\":2}}]}"));
      assertEquals("text|integer|real|real|true|null|object|array|null", box.one("SELECT {{sql.json.type}}(j.v, '$.t'), {{sql.json.type}}(j.v, '$.i'),"
          + " {{sql.json.type}}(j.v, '$.r'), {{sql.json.type}}(j.v, '$.s'), {{sql.json.type}}(j.v, '$.b'), {{sql.json.type}}(j.v, '$.n'),"
          + " {{sql.json.type}}(j.v, '$.o'), {{sql.json.type}}(j.v, '$.a'), {{sql.json.type}}(j.v, '$.missing')"
          + " FROM (SELECT {{sql.json}}(?) AS v) j",
          "{\"t\":\"x\",\"i\":-5,\"r\":1.5,\"s\":1e-7,\"b\":true,\"n\":null,\"o\":{},\"a\":[]}"));
      assertEquals("x|7|1.5|x", box.one("SELECT {{sql.json.text}}(j.v, '$.t'), {{sql.json.long}}(j.v, '$.i'), {{sql.json.double}}(j.v, '$.r'), j.v->>'t'"
          + " FROM (SELECT {{sql.json}}(?) AS v) j", "{\"t\":\"x\",\"i\":7,\"r\":1.5}"));
      for (String word : List.of("{{sql.inbox.lock}}", "{{sql.command.lock}}", "SELECT {{sql.notify}}('caravan', 'x')",
          "SELECT name FROM sink WHERE name = 'store' {{sql.for.update}}", "SELECT name FROM sink WHERE name = 'store' {{sql.for.update.skip.locked}}")) {
        box.execute(word);
      }
    }
  }

  /** What a gateway may send and PostgreSQL's JSON does not know must not stop everybody's rows. */
  @ParameterizedTest
  @EnumSource(Box.Kind.class)
  void noJsonOfAGatewayFails(Box.Kind kind) throws Exception {
    try (Box box = Box.open(kind, home).ready()) {
      for (String hostile : List.of("\\u0000", "\\ud800", "\\udc00x", "\\ud83d\\ude00", "\\\\u0000", "\\\\\\u0000", "\\\"\\ud800\\\"")) {
        String back = box.one("SELECT CAST({{sql.json}}(?) AS TEXT)", "{\"a\":\"" + hostile + "\",\"b\":1}");
        assertEquals(1, JSON.readTree(back).get("b").asInt(), back);
      }
      if (kind == Box.Kind.POSTGRESQL) {
        assertEquals("\ufffd|\ud83d\ude00|\\u0000", box.one("SELECT j.v->>'a', j.v->>'b', j.v->>'c' FROM (SELECT {{sql.json}}(?) AS v) j",
            "{\"a\":\"\\u0000\",\"b\":\"\\ud83d\\ude00\",\"c\":\"\\\\u0000\"}"));
      }
      // Too large for their columns.
      for (String number : List.of("99999999999999999999", "1e400", "-1e400", "1e-400", "1e999999")) {
        String json = "{\"n\":" + number + "}";
        box.one("SELECT {{sql.json.type}}(j.v, '$.n') FROM (SELECT {{sql.json}}(?) AS v) j", json);
        box.one("SELECT CAST({{sql.json.long}}(j.v, '$.n') AS BIGINT) FROM (SELECT {{sql.json}}(?) AS v) j", json);
        box.one("SELECT CAST({{sql.json.double}}(j.v, '$.n') AS DOUBLE PRECISION) FROM (SELECT {{sql.json}}(?) AS v) j", json);
      }
      assertFalse(box.one("SELECT {{sql.json.type}}(j.v, '$.n') FROM (SELECT {{sql.json}}('{\"n\":1.0e0}') AS v) j").isEmpty());
    }
  }

  /** In one text are the rows of many gateways: what is mended in one leaves the others as they are. */
  @ParameterizedTest
  @EnumSource(Box.Kind.class)
  void whatIsMendedInOneRowLeavesTheOthersAlone(Box.Kind kind) throws Exception {
    String others = "{\"key\":\"d//h/x-3f7e918273\",\"serial\":\"SN-4E12345\",\"note\":\"[1e20000,2E-20000] \\\"3e99999\\\\\"}";
    try (Box box = Box.open(kind, home).ready()) {
      for (String hostile : List.of("\"\\u0000\"", "\"\\ud800\"", "1e200000", "-2.5E-20000", "[\"\\u0000\",1e200000,0e-20000]")) {
        String back = box.one("SELECT CAST({{sql.json}}(?) AS TEXT)", "[{\"a\":" + hostile + "}," + others + ",{\"a\":" + hostile + "}]");
        assertEquals(JSON.readTree(others), JSON.readTree(back).get(1), hostile);
      }
      if (kind == Box.Kind.POSTGRESQL) {
        assertEquals("huge|huge|integer|\ufffd", box.one("SELECT {{sql.json.type}}(j.v, '$.a'), {{sql.json.type}}(j.v, '$.b'), {{sql.json.type}}(j.v, '$.c'), j.v->>'d'"
            + " FROM (SELECT {{sql.json}}(?) AS v) j", "{\"a\":-1.5e200000,\"b\":1e-20000,\"c\":0e200000,\"d\":\"\\u0000\"}"));
      }
    }
  }

  private static String tidy(String json) throws Exception {
    return JSON.writeValueAsString(JSON.readTree(json));
  }
}
