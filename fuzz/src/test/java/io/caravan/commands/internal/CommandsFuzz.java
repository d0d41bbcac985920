// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import static io.caravan.fuzz.Invariant.bounded;
import static io.caravan.fuzz.Invariant.message;
import static io.caravan.fuzz.Invariant.same;
import static io.caravan.fuzz.Invariant.that;

import com.code_intelligence.jazzer.junit.DictionaryEntries;
import com.code_intelligence.jazzer.junit.FuzzTest;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.networknt.schema.JsonSchema;
import com.networknt.schema.JsonSchemaFactory;
import com.networknt.schema.SpecVersion;
import io.caravan.fuzz.Sqlite;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;

/** What devices say they can do, what is commanded by it, merging and patterns: compared with a library's schema validator and with SQLite. */
class CommandsFuzz {
  private static final int MAX_MESSAGE = 700;
  private static final long PER_BYTE = 4_000;
  private static JsonSchema capabilities;
  private static Sqlite sqlite;

  @BeforeAll
  static void start() throws Exception {
    capabilities = JsonSchemaFactory.getInstance(SpecVersion.VersionFlag.V202012)
        .getSchema(Files.readString(Path.of(System.getProperty("repo.dir", ".."), "config/common/schema/capabilities-1.json")));
    sqlite = new Sqlite();
  }

  @AfterAll
  static void stop() throws Exception {
    sqlite.close();
  }

  /** Our own reader takes nothing that the published schema refuses, and says what is wrong with the rest. */
  @FuzzTest
  @DictionaryEntries({"\"schema_version\":1", "\"version\":\"1\"", "\"commands\":{", "\"arguments\":{", "\"idempotent\":true", "\"timeout_ms\":1000", "\"budget\":[{\"count\":1,\"per_ms\":1000}]",
      "\"title\":\"\"", "\"type\":\"object\"", "\"type\":[\"integer\",\"null\"]", "\"properties\":{", "\"required\":[", "\"enum\":[", "\"const\":", "\"minimum\":", "\"multipleOf\":0.1",
      "\"minLength\":", "\"maxItems\":", "\"additionalProperties\":false", "\"items\":{", "\"unit\":\"Cel\"", "\"default\":", "1e400", "1e999999", "\\ud800"})
  void capabilities(byte[] bytes) throws Exception {
    String text = new String(bytes, StandardCharsets.UTF_8);
    CapabilityForm form;
    try {
      form = bounded(bytes.length, PER_BYTE, () -> CapabilityForm.parse(text));
    } catch (SchemaSubset.Bad e) {
      same(e.problem().reason(), "bad_capabilities", "reason");
      message(e.problem().message(), MAX_MESSAGE);
      return;
    }
    JsonNode tree = Json.MAPPER.readTree(text);
    var errors = capabilities.validate(tree);
    that(errors.isEmpty(), "accepted, and refused by the published schema: " + errors + ": " + text);
    CapabilityForm again = CapabilityForm.parse(form.json());
    same(again.json(), form.json(), "what counts of it, read again");
    same(again.commands(), form.commands(), "commands, read again");
  }

  /** Input: {"schema": a schema, "value": a value}. The subset means what the standard says. */
  @FuzzTest
  @DictionaryEntries({"{\"schema\":{", "\"value\":", "\"type\":\"integer\"", "\"type\":\"number\"", "\"type\":[\"string\",\"null\"]", "\"properties\":{\"a\":{", "\"required\":[\"a\"]", "\"enum\":[1,1.0]",
      "\"const\":1.0", "\"minimum\":", "\"exclusiveMaximum\":", "\"multipleOf\":0.01", "\"minLength\":", "\"maxItems\":", "\"additionalProperties\":false", "\"items\":{", "1.0", "1e3", "1e-300",
      "\\ud83d\\ude00"})
  void schema(byte[] bytes) throws Exception {
    ObjectNode input;
    try {
      input = Json.object(new String(bytes, StandardCharsets.UTF_8), "input", 32_768);
    } catch (IllegalArgumentException e) {
      message(e.getMessage(), MAX_MESSAGE);
      return;
    }
    JsonNode schema = input.path("schema");
    JsonNode value = input.path("value");
    if (value.isMissingNode()) {
      return;
    }
    try {
      bounded(bytes.length, PER_BYTE, () -> {
        SchemaSubset.form(schema, "", "bad_command");
        return null;
      });
    } catch (SchemaSubset.Bad e) {
      message(e.problem().message(), MAX_MESSAGE);
      return;
    }
    boolean good = true;
    try {
      bounded(bytes.length, PER_BYTE, () -> {
        SchemaSubset.check(schema, value, "bad_arguments", false);
        return null;
      });
    } catch (SchemaSubset.Bad e) {
      message(e.problem().message(), MAX_MESSAGE);
      good = false;
    }
    if (!decimals(schema) && !decimals(value)) {
      // The library compares decimals as doubles, and 1 with 1.0 as different: only whole numbers are compared.
      var errors = JsonSchemaFactory.getInstance(SpecVersion.VersionFlag.V202012).getSchema(schema).validate(value);
      same(good, errors.isEmpty(), "value " + value + " by schema " + schema + ": " + errors);
    }
  }

  private static boolean decimals(JsonNode node) {
    if (node.isNumber() && !node.isIntegralNumber()) {
      return true;
    }
    for (JsonNode child : node) {
      if (decimals(child)) {
        return true;
      }
    }
    return false;
  }

  /** Input: {"desired": object, "reported": object}. What is still to be done, merged into what is, leaves nothing to be done. */
  @FuzzTest
  @DictionaryEntries({"{\"desired\":{", "\"reported\":{", "null", "1.0", "\"a\":{\"b\":1}", "[1,2]"})
  void merge(byte[] bytes) throws Exception {
    ObjectNode input;
    try {
      input = Json.object(new String(bytes, StandardCharsets.UTF_8), "input", 32_768);
    } catch (IllegalArgumentException e) {
      message(e.getMessage(), MAX_MESSAGE);
      return;
    }
    if (!(input.get("desired") instanceof ObjectNode patch) || !(input.get("reported") instanceof ObjectNode reported)) {
      return;
    }
    // A state has no nulls: merging takes them out.
    ObjectNode desired = Json.merge(Json.MAPPER.createObjectNode(), patch.deepCopy());
    String before = reported.toString();
    ObjectNode delta = bounded(bytes.length, PER_BYTE, () -> Json.delta(desired, reported));
    same(reported.toString(), before, "reported is only read");
    ObjectNode merged = Json.merge(reported.deepCopy(), delta.deepCopy());
    same(Json.delta(desired, merged).toString(), "{}", "left of " + desired + " after merging " + delta + " into " + reported);
    same(Json.merge(merged.deepCopy(), delta.deepCopy()).toString(), merged.toString(), "merged twice");
  }

  /** Input: a line with the pattern, then the text. As SQLite's GLOB. */
  @FuzzTest
  @DictionaryEntries({"*", "?", "[a-z]", "[^a-z]", "[]]", "[^]]", "[a-", "[--]", "dev-", "-]"})
  void glob(byte[] bytes) throws Exception {
    String input = new String(bytes, StandardCharsets.US_ASCII);
    int line = input.indexOf('\n');
    if (line < 0 || input.indexOf('\0') >= 0 || input.indexOf('\ufffd') >= 0) {
      return;
    }
    String pattern = input.substring(0, line);
    String text = input.substring(line + 1);
    same(Glob.matches(pattern, text), sqlite.glob(pattern, text), "[" + text + "] GLOB [" + pattern + "]");
  }
}
