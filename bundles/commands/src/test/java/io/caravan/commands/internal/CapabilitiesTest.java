// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.networknt.schema.JsonSchema;
import com.networknt.schema.JsonSchemaFactory;
import com.networknt.schema.SpecVersion;
import io.caravan.commands.Capabilities.Budget;
import io.caravan.commands.Capabilities.Capability;
import io.caravan.commands.Capabilities.Problem;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What devices declare, what is checked by it, and what the operator takes away. */
class CapabilitiesTest {
  private static final Path CONFIG = Path.of(System.getProperty("repo.dir", "../..")).resolve("config");
  private static final String UNLOCK = """
      {"schema_version":1,"version":"3","device_id":"d","boot_id":"b","device_seq":7,"commands":{
       "unlock":{"arguments":{"properties":{"door":{"enum":["front","back"]},"for":{"type":"integer","minimum":100,"maximum":5000,"multipleOf":50,"unit":"ms"},
         "ratio":{"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1},"who":{"type":"string","minLength":1,"maxLength":3},
         "list":{"type":"array","items":{"type":["integer","null"]},"minItems":1,"maxItems":2},
         "deep":{"type":"object","properties":{"x":{"const":1}},"additionalProperties":false}},"required":["door"]},
        "idempotent":true,"timeout_ms":5000,"budget":[{"count":3,"per_ms":60000}]},
       "ping":{}}}""";
  @TempDir Path directory;

  private static CapabilityBook book(Policy policy) {
    return book(new WatchedFile<>(Path.of("/nonexistent/none"), policy, policy, Policy::parse));
  }

  private static CapabilityBook book(WatchedFile<Policy> policy) {
    return new CapabilityBook(() -> null, policy, new WatchedFile<>(Path.of("/nonexistent/none"), null, null, CapabilityBook::file));
  }

  private static JsonNode json(String text) throws Exception {
    return Json.MAPPER.readTree(text);
  }

  private static String check(String name, String arguments, String units) throws Exception {
    Capability capability = CapabilityForm.parse(UNLOCK).commands().stream().filter(c -> c.name().equals(name)).findFirst().orElseThrow();
    Optional<Problem> problem = book(Policy.NONE).check(capability, json(arguments), units == null ? null : json(units));
    return problem.map(p -> p.reason() + " " + p.field()).orElse("ok");
  }

  @Test
  void aDeclarationIsReadWithItsDefaults() throws Exception {
    CapabilityForm form = CapabilityForm.parse(UNLOCK);
    assertEquals("3", form.version());
    Capability unlock = form.commands().get(0);
    assertTrue(unlock.idempotent());
    assertEquals(5000, unlock.timeoutMs());
    assertEquals(List.of(new Budget(3, 60_000)), unlock.budgets());
    Capability ping = form.commands().get(1);
    assertFalse(ping.idempotent());
    assertEquals(10_000, ping.timeoutMs());
    assertTrue(ping.allowed());
    // The members of the message itself are none of the declaration: a numbered announcement says nothing new.
    assertEquals(form.json(), CapabilityForm.parse(UNLOCK.replace("\"device_seq\":7", "\"device_seq\":8")).json());
    assertFalse(form.json().contains("device_seq"));
  }

  @Test
  void argumentsAreAsDeclaredOrTheFirstBrokenRuleIsNamed() throws Exception {
    assertEquals("ok", check("unlock", "{\"door\":\"front\"}", null));
    assertEquals("ok", check("unlock", "{\"door\":\"back\",\"for\":250,\"ratio\":0.5,\"who\":\"\uD83D\uDE00ab\",\"list\":[1,null],\"deep\":{\"x\":1.0}}", "{\"for\":\"ms\"}"));
    assertEquals("ok", check("unlock", "{\"door\":\"back\",\"for\":2.5e2}", null));
    assertEquals("bad_arguments /door", check("unlock", "{}", null));
    assertEquals("bad_arguments /door", check("unlock", "{\"door\":\"side\"}", null));
    assertEquals("bad_arguments /for", check("unlock", "{\"door\":\"front\",\"for\":99}", null));
    assertEquals("bad_arguments /for", check("unlock", "{\"door\":\"front\",\"for\":5050}", null));
    assertEquals("bad_arguments /for", check("unlock", "{\"door\":\"front\",\"for\":120}", null));
    assertEquals("bad_arguments /for", check("unlock", "{\"door\":\"front\",\"for\":\"250\"}", null));
    assertEquals("bad_arguments /for", check("unlock", "{\"door\":\"front\",\"for\":250.5}", null));
    assertEquals("bad_arguments /ratio", check("unlock", "{\"door\":\"front\",\"ratio\":1}", null));
    assertEquals("bad_arguments /ratio", check("unlock", "{\"door\":\"front\",\"ratio\":0}", null));
    assertEquals("bad_arguments /who", check("unlock", "{\"door\":\"front\",\"who\":\"\"}", null));
    assertEquals("bad_arguments /who", check("unlock", "{\"door\":\"front\",\"who\":\"abcd\"}", null));
    assertEquals("bad_arguments /list", check("unlock", "{\"door\":\"front\",\"list\":[]}", null));
    assertEquals("bad_arguments /list/1", check("unlock", "{\"door\":\"front\",\"list\":[1,\"2\"]}", null));
    assertEquals("bad_arguments /deep/x", check("unlock", "{\"door\":\"front\",\"deep\":{\"x\":2}}", null));
    assertEquals("bad_arguments /deep/y", check("unlock", "{\"door\":\"front\",\"deep\":{\"x\":1,\"y\":1}}", null));
    assertEquals("bad_arguments /dor", check("unlock", "{\"door\":\"front\",\"dor\":1}", null)); // not declared
    assertEquals("bad_arguments /x", check("ping", "{\"x\":1}", null));
    assertEquals("ok", check("ping", "{}", null));
    assertEquals("bad_arguments ", check("ping", "[]", null));
    assertEquals("unit_mismatch /for", check("unlock", "{\"door\":\"front\",\"for\":250}", "{\"for\":\"s\"}"));
    assertEquals("unit_mismatch /for", check("unlock", "{\"door\":\"front\"}", "{\"for\":\"ms\"}"));
    assertEquals("unit_mismatch /ratio", check("unlock", "{\"door\":\"front\",\"ratio\":0.5}", "{\"ratio\":\"%\"}"));
    assertEquals("unit_mismatch ", check("unlock", "{\"door\":\"front\"}", "[]"));
    Problem problem = book(Policy.NONE).check(CapabilityForm.parse(UNLOCK).commands().get(0), json("{\"door\":\"front\",\"for\":6000}"), null).orElseThrow();
    assertEquals("/for: [6000] must be at most 5000 ms", problem.message());
  }

  @Test
  void aPreconditionIsOfTheSameSubset() throws Exception {
    CapabilityBook book = book(Policy.NONE);
    JsonNode open = json("{\"properties\":{\"door\":{\"const\":\"closed\"}},\"required\":[\"door\"]}");
    assertEquals(Optional.empty(), book.matches(open, json("{\"door\":\"closed\",\"other\":1}")));
    assertEquals("precondition_failed", book.matches(open, json("{\"door\":\"open\"}")).orElseThrow().reason());
    assertEquals("precondition_failed", book.matches(open, json("{}")).orElseThrow().reason());
    for (String wrong : List.of("{\"pattern\":\"(a+)+\"}", "{\"$ref\":\"file:///etc/passwd\"}", "{\"anyOf\":[{}]}", "[]", "{\"properties\":{\"a\":{\"not\":{}}}}")) {
      assertEquals("bad_command", book.matches(json(wrong), json("{}")).orElseThrow().reason(), wrong);
    }
  }

  /** The schema file is for people and editors; the code must be of the same opinion. */
  @Test
  void theCodeAndTheSchemaFileAgree() throws Exception {
    JsonSchema schema = JsonSchemaFactory.getInstance(SpecVersion.VersionFlag.V202012)
        .getSchema(Files.readString(CONFIG.resolve("common/schema/capabilities-1.json")));
    List<String> declarations = new ArrayList<>(List.of(UNLOCK, Files.readString(CONFIG.resolve("gateway/control-capabilities.json")),
        "{}", "[]", "{\"schema_version\":1}", "{\"schema_version\":2,\"commands\":{}}", "{\"schema_version\":\"1\",\"commands\":{}}",
        "{\"schema_version\":1,\"commands\":{}}", "{\"schema_version\":1,\"commands\":[]}", "{\"schema_version\":1,\"version\":3,\"commands\":{}}",
        "{\"schema_version\":1,\"version\":\"\",\"commands\":{}}", "{\"schema_version\":1,\"commands\":{},\"more\":1}",
        "{\"schema_version\":1,\"commands\":{\"1a\":{}}}", "{\"schema_version\":1,\"commands\":{\"a b\":{}}}", "{\"schema_version\":1,\"commands\":{\"" + "a".repeat(65) + "\":{}}}"));
    for (String command : List.of("1", "{\"idempotant\":true}", "{\"idempotent\":1}", "{\"timeout_ms\":99}", "{\"timeout_ms\":100}", "{\"timeout_ms\":3600001}",
        "{\"timeout_ms\":1.5}", "{\"budget\":{}}", "{\"budget\":[]}", "{\"budget\":[{\"count\":1}]}", "{\"budget\":[{\"count\":0,\"per_ms\":1}]}",
        "{\"budget\":[{\"count\":1001,\"per_ms\":1}]}", "{\"budget\":[{\"count\":1,\"per_ms\":86400001}]}", "{\"budget\":[{\"count\":1,\"per_ms\":1,\"x\":1}]}",
        "{\"budget\":[" + "{\"count\":1,\"per_ms\":1},".repeat(8) + "{\"count\":1,\"per_ms\":1}]}", "{\"description\":\"d\",\"title\":\"t\"}", "{\"description\":1}",
        "{\"arguments\":{\"type\":\"array\"}}", "{\"arguments\":{\"type\":[\"object\"]}}", "{\"arguments\":{\"type\":\"object\"}}", "{\"arguments\":true}")) {
      declarations.add("{\"schema_version\":1,\"commands\":{\"a\":" + command + "}}");
    }
    for (String argument : List.of("{}", "1", "true", "{\"type\":\"text\"}", "{\"type\":[]}", "{\"type\":[\"string\",\"null\"]}", "{\"type\":[\"string\",\"string\"]}", "{\"type\":1}",
        "{\"enum\":[]}", "{\"enum\":[1,1]}", "{\"enum\":[1,\"1\",null,{\"a\":1}]}", "{\"enum\":1}", "{\"const\":null}", "{\"const\":[1]}", "{\"minimum\":\"1\"}", "{\"minimum\":1.5}",
        "{\"multipleOf\":0}", "{\"multipleOf\":-1}", "{\"multipleOf\":0.1}", "{\"minLength\":-1}", "{\"minLength\":1.5}", "{\"maxLength\":65536}", "{\"maxLength\":65537}",
        "{\"minItems\":0}", "{\"maxItems\":\"1\"}", "{\"properties\":[]}", "{\"properties\":{\"\":{}}}", "{\"properties\":{\"" + "p".repeat(65) + "\":{}}}", "{\"properties\":{\"a\":1}}",
        "{\"required\":[]}", "{\"required\":[1]}", "{\"required\":[\"a\",\"a\"]}", "{\"required\":[\"a\"]}", "{\"additionalProperties\":{}}", "{\"additionalProperties\":true}",
        "{\"items\":[]}", "{\"items\":{\"type\":\"null\"}}", "{\"items\":{\"pattern\":\"a\"}}", "{\"unit\":\"\"}", "{\"unit\":\"Cel\"}", "{\"unit\":\"" + "u".repeat(33) + "\"}",
        "{\"pattern\":\"a\"}", "{\"$ref\":\"#\"}", "{\"allOf\":[]}", "{\"format\":\"date\"}", "{\"patternProperties\":{}}", "{\"default\":[1,2]}", "{\"title\":1}",
        "{\"description\":\"" + "d".repeat(501) + "\"}", "{\"uniqueItems\":true}", "{\"$schema\":\"x\"}", "{\"exclusiveMinimum\":true}")) {
      declarations.add("{\"schema_version\":1,\"commands\":{\"a\":{\"arguments\":{\"properties\":{\"x\":" + argument + "}}}}}");
    }
    int good = 0;
    for (String declaration : declarations) {
      boolean bySchema = schema.validate(json(declaration)).isEmpty();
      Optional<Problem> byCode = book(Policy.NONE).valid(declaration);
      assertEquals(bySchema, byCode.isEmpty(), declaration + ": " + byCode);
      byCode.ifPresent(p -> assertTrue(p.reason().equals("bad_capabilities") && p.message().length() < 400, p.toString()));
      good += bySchema ? 1 : 0;
    }
    assertTrue(good > 15 && good < declarations.size() - 15, good + " of " + declarations.size());
  }

  @Test
  void whatCouldCostMuchIsRefused() {
    String deep = "{\"items\":".repeat(9) + "{}" + "}".repeat(9);
    String wide = "{\"properties\":{" + "\"p%d\":{\"properties\":{\"a\":{},\"b\":{},\"c\":{},\"d\":{},\"e\":{}}},".repeat(60).replaceAll(",$", "") + "}}";
    StringBuilder numbered = new StringBuilder();
    for (String part : wide.split("%d", -1)) {
      numbered.append(part).append(numbered.length());
    }
    for (String argument : List.of(deep, numbered.toString().replaceAll("}\\d+$", "}"), "{\"minimum\":1e999999999}", "{\"multipleOf\":1e-999999999}",
        "{\"const\":1e401}", "{\"a\":1,\"a\":2}")) {
      assertTimeout(argument, () -> assertTrue(book(Policy.NONE).valid("{\"schema_version\":1,\"commands\":{\"a\":{\"arguments\":{\"properties\":{\"x\":" + argument
          + "}}}}}").isPresent(), Json.shown(argument)));
    }
    assertTrue(book(Policy.NONE).valid("[".repeat(100_000)).isPresent());
    assertTrue(book(Policy.NONE).valid("{\"schema_version\":1,\"commands\":{}," + " ".repeat(40_000) + "\"version\":\"1\"}").isPresent());
    // Numbers of a command that nobody has parsed strictly.
    assertTimeout("number", () -> {
      Capability any = CapabilityForm.parse("{\"schema_version\":1,\"commands\":{\"a\":{\"arguments\":{\"properties\":{\"x\":{\"multipleOf\":0.001}}}}}}").commands().get(0);
      assertEquals("bad_arguments", book(Policy.NONE).check(any, json("{\"x\":1e999999999}"), null).orElseThrow().reason());
      assertEquals("bad_arguments", book(Policy.NONE).check(any, Json.MAPPER.createObjectNode().put("x", Double.NaN), null).orElseThrow().reason());
    });
  }

  private interface Step {
    void run() throws Exception;
  }

  /** No measurement: without the bounds these would take hours. */
  private static void assertTimeout(String what, Step step) {
    org.junit.jupiter.api.Assertions.assertTimeoutPreemptively(Duration.ofSeconds(60), step::run, what);
  }

  @Test
  void globsAreSqlites() throws Exception {
    Random random = new Random(7);
    try (Connection connection = DriverManager.getConnection("jdbc:sqlite::memory:");
        PreparedStatement query = connection.prepareStatement("SELECT ? GLOB ?")) {
      int matched = 0;
      for (int i = 0; i < 40_000; i++) {
        // Every other one is a set, in most of which something stands around a hyphen.
        String pattern = i % 2 == 0 ? text(random, "ab*?[]^-c", 7) : "[" + text(random, "a-[?^]z", 9) + "]";
        String text = text(random, i % 2 == 0 ? "abc-]^" : "?a-[^]z", i % 2 == 0 ? 6 : 1);
        query.setString(1, text);
        query.setString(2, pattern);
        try (ResultSet row = query.executeQuery()) {
          row.next();
          assertEquals(row.getBoolean(1), Glob.matches(pattern, text), "[" + text + "] GLOB [" + pattern + "]");
          matched += row.getInt(1);
        }
      }
      assertTrue(matched > 200, "matched " + matched);
    }
    assertFalse(Glob.matches("[[[a---[^a-z]", "?"), "a range whose end is before its beginning takes nothing, and its end is no character of its own");
    assertFalse(Glob.matches("[z-a]", "a"));
    assertTrue(Glob.matches("[z-a-c]", "-"));
    assertTrue(Glob.matches("[z-a-c]", "c"));
    assertFalse(Glob.matches("[z-a-c]", "b"));
    assertTimeout("stars", () -> assertFalse(Glob.matches("*a".repeat(60) + "b", "a".repeat(128))));
  }

  private static String text(Random random, String of, int most) {
    StringBuilder text = new StringBuilder();
    for (int n = random.nextInt(most + 1); n > 0; n--) {
      text.append(of.charAt(random.nextInt(of.length())));
    }
    return text.toString();
  }

  @Test
  void thePolicyTakesAwayAndNeverAdds() throws Exception {
    Policy policy = Policy.parse("{\"forbid\":[{\"device\":\"lock-*\",\"command\":\"unlock\"}],\"budget\":[{\"device\":\"*\",\"command\":\"unl*\",\"count\":1,\"per_ms\":1000},"
        + "{\"device\":\"d\",\"command\":\"unlock\",\"count\":2,\"per_ms\":5}]}");
    Capability unlock = CapabilityForm.parse(UNLOCK).commands().get(0);
    Capability ping = CapabilityForm.parse(UNLOCK).commands().get(1);
    assertEquals(List.of(new Budget(3, 60_000), new Budget(1, 1_000), new Budget(2, 5)), policy.apply("d", unlock).budgets());
    assertTrue(policy.apply("d", unlock).allowed());
    assertFalse(policy.apply("lock-1", unlock).allowed());
    assertSame(ping, policy.apply("lock-1", ping));
    assertFalse(Policy.NOTHING_ALLOWED.apply("d", ping).allowed());
    assertEquals("not_allowed", book(Policy.NONE).check(policy.apply("lock-1", unlock), json("{\"door\":\"front\"}"), null).orElseThrow().reason());
    JsonSchema schema = JsonSchemaFactory.getInstance(SpecVersion.VersionFlag.V202012)
        .getSchema(Files.readString(CONFIG.resolve("gateway/schema/command-policy-1.json")));
    for (String text : List.of("{\"forbid\":[],\"budget\":[]}", Files.readString(CONFIG.resolve("gateway/command-policy.json")), "{}", "[]", "{\"forbid\":[]}",
        "{\"forbid\":[1],\"budget\":[]}", "{\"forbid\":[{\"device\":\"*\"}],\"budget\":[]}", "{\"forbid\":[{\"device\":\"*\",\"command\":\"\"}],\"budget\":[]}",
        "{\"forbid\":[{\"device\":\"*\",\"command\":\"*\",\"x\":1}],\"budget\":[]}", "{\"forbid\":[],\"budget\":[],\"more\":[]}",
        "{\"forbid\":[],\"budget\":[{\"device\":\"*\",\"command\":\"*\",\"count\":1}]}", "{\"forbid\":[],\"budget\":[{\"device\":\"*\",\"command\":\"*\",\"count\":1,\"per_ms\":5}]}",
        "{\"forbid\":[],\"budget\":[{\"device\":\"*\",\"command\":\"*\",\"count\":0,\"per_ms\":5}]}")) {
      boolean byCode = true;
      try {
        Policy.parse(text);
      } catch (IllegalArgumentException e) {
        byCode = false;
      }
      assertEquals(schema.validate(json(text)).isEmpty(), byCode, text);
    }
  }

  @Test
  void aChangedFileIsInForceAndABrokenOneLeavesTheOldOneInForceAndIsSeen() throws Exception {
    Path file = directory.resolve("command-policy.json");
    WatchedFile<Policy> watched = new WatchedFile<>(file, Policy.NONE, Policy.NOTHING_ALLOWED, Policy::parse);
    Capability unlock = CapabilityForm.parse(UNLOCK).commands().get(0);
    assertTrue(watched.value().apply("d", unlock).allowed(), "no file: no policy");
    assertEquals(null, watched.problem());
    String forbids = "{\"forbid\":[{\"device\":\"*\",\"command\":\"unlock\"}],\"budget\":[]}";
    Files.writeString(file, forbids);
    watched.poll();
    assertFalse(watched.value().apply("d", unlock).allowed());
    for (String broken : List.of("{\"forbid\":", "{\"forbid\":[],\"budget\":[{}]}", "")) {
      Files.writeString(file, broken);
      watched.poll();
      assertFalse(watched.value().apply("d", unlock).allowed(), "the old one is in force");
      assertTrue(watched.problem().contains("command-policy.json"), watched.problem());
      watched.poll();
      assertTrue(watched.problem() != null, "still");
    }
    Files.write(file, new byte[] {(byte) 0xff, (byte) 0xfe});
    watched.poll();
    assertTrue(watched.problem().contains("UTF-8"));
    Files.delete(file);
    watched.poll();
    assertFalse(watched.value().apply("d", unlock).allowed(), "a file that is gone forbids what it forbade");
    assertTrue(watched.problem().contains("not there"));
    Files.writeString(file, forbids); // the same again
    watched.poll();
    assertEquals(null, watched.problem());
    assertFalse(watched.value().apply("d", unlock).allowed());
    Files.writeString(file, "{\"forbid\":[],\"budget\":[]}");
    watched.poll();
    assertTrue(watched.value().apply("d", unlock).allowed());
    // Broken when the gateway starts: nobody knows what is forbidden.
    Files.writeString(file, "{");
    WatchedFile<Policy> fresh = new WatchedFile<>(file, Policy.NONE, Policy.NOTHING_ALLOWED, Policy::parse);
    assertFalse(fresh.value().apply("d", unlock).allowed());
    assertEquals("not_allowed", book(fresh).check(fresh.value().apply("d", unlock), json("{\"door\":\"front\"}"), null).orElseThrow().reason());
    Files.writeString(file, "{\"forbid\":[],\"budget\":[]}");
    fresh.poll();
    assertTrue(fresh.value().apply("d", unlock).allowed());
  }

  @Test
  void mergeAndDelta() throws Exception {
    String[][] merges = {{"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"}, {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"}, {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"}, {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"}, {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"}, {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"}, {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        {"{\"a\":1}", "{}", "{\"a\":1}"}}; // RFC 7396, appendix A
    for (String[] merge : merges) {
      assertEquals(json(merge[2]), Json.merge(Json.object(merge[0], "t", 99), Json.object(merge[1], "p", 99)), merge[1]);
    }
    assertEquals("{}", Json.delta(Json.object("{\"a\":1,\"b\":{\"c\":[1]}}", "", 99), Json.object("{\"a\":1.0,\"b\":{\"c\":[1],\"d\":2},\"e\":1}", "", 99)).toString());
    assertEquals("{\"a\":1,\"b\":{\"c\":2}}", Json.delta(Json.object("{\"a\":1,\"b\":{\"c\":2,\"d\":3}}", "", 99), Json.object("{\"a\":\"1\",\"b\":{\"d\":3}}", "", 99)).toString());
    assertEquals("{\"x\":1.10}", Json.object("{\"x\":1.10}", "", 99).toString(), "as it was written");
    assertThrows(IllegalArgumentException.class, () -> Json.object("{\"x\":1e500}", "x", 99));
  }
}
