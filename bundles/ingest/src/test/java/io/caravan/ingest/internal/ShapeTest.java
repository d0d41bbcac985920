// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest.internal;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.networknt.schema.JsonSchema;
import com.networknt.schema.JsonSchemaFactory;
import com.networknt.schema.SpecVersion;
import io.caravan.ingest.RejectedException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Against the library behind json-validator: what has a shape's word is valid there. */
class ShapeTest {
  private static final Path SCHEMAS = Path.of(System.getProperty("basedir", "."), "../../config/common/schema");
  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final String[] NAMES = {"schema_version", "device_id", "boot_id", "device_seq", "observed_at", "metrics", "event", "severity",
      "data", "#x", "more", "", "metrics ", "a\\u0000"};
  private static final String[] VALUES = {"1", "2", "0", "-1", "1.0", "1e0", "1.5", "9007199254740991", "9007199254740992", "123456789012345678901",
      "true", "null", "[]", "[{\"a\":[1]}]", "{}", "{\"t\":1}", "{\"t\":1.5,\"u.v_1\":-2e3}", "{\"t\":\"1\"}", "{\"t\":null}", "{\"t\":{}}", "{\"1t\":1}",
      "{\"t \":1}", "{\"\":1}", "{\"t\\n\":1}", "{\"\\u00e9\":1}", "\"d1\"", "\"\"", "\"b 1\"", "\"b\\n\"", "\"info\"", "\"INFO\"", "\"door\"",
      "\"" + "a".repeat(64) + "\"", "\"" + "a".repeat(65) + "\"", "\"" + "\\ud83d\\ude00".repeat(40) + "\"", "\"2026-01-01T00:00:00Z\"",
      "{\"" + "m".repeat(64) + "\":1}", "{\"" + "m".repeat(65) + "\":1}", metrics(64), metrics(65)};

  @TempDir Path folder;

  private static String metrics(int count) {
    StringBuilder text = new StringBuilder("{");
    for (int i = 0; i < count; i++) {
      text.append(i == 0 ? "" : ",").append("\"m").append(i).append("\":").append(i);
    }
    return text.append('}').toString();
  }

  @ParameterizedTest
  @CsvSource({"telemetry", "event"})
  void neverSaysYesToWhatTheSchemaRefuses(String kind) throws Exception {
    Path schema = SCHEMAS.resolve(kind + "-1.json");
    Verdicts verdicts = compare(kind, Shape.of(schema), schema);
    assertEquals(List.of(), verdicts.wrong);
    assertTrue(verdicts.certain > 1000 && verdicts.invalid > 1000, verdicts.certain + " certain, " + verdicts.invalid + " invalid");
  }

  /** The negative control: a shape that is one rule short says yes too often, and the comparison sees it. */
  @ParameterizedTest
  @ValueSource(strings = {"\"required\": [\"schema_version\", \"metrics\"],", "\"maxProperties\": 64,", "\"minProperties\": 1,", "\"maximum\": 9007199254740991",
      "\"additionalProperties\": false,", "\"dependencies\": {\"boot_id\": [\"device_seq\"], \"device_seq\": [\"boot_id\"]},", ", \"const\": 1",
      "\"propertyNames\": {\"pattern\": \"^[A-Za-z][A-Za-z0-9_.]{0,63}(?![\\\\s\\\\S])\"},"})
  void aRuleThatIsMissingIsSeen(String rule) throws Exception {
    Path schema = SCHEMAS.resolve("telemetry-1.json");
    String text = Files.readString(schema);
    assertTrue(text.contains(rule), rule);
    Path lax = Files.writeString(folder.resolve("lax.json"), text.replace(rule, "").replace("\"minimum\": 1, }", "\"minimum\": 1}"));
    Shape shape = Shape.of(lax);
    assertNotNull(shape, rule);
    assertTrue(!compare("data", shape, schema).wrong.isEmpty(), rule);
  }

  @ParameterizedTest
  @ValueSource(strings = {"{\"allOf\":[]}", "{\"properties\":{\"a\":{\"$ref\":\"#\"}}}", "{\"properties\":{\"a\":true}}", "{\"items\":{}}", "{\"type\":\"frob\"}",
      "{\"const\":\"a\"}", "{\"const\":1.5}", "{\"minimum\":0.5}", "{\"enum\":[1]}", "{\"propertyNames\":{\"maxLength\":3}}", "{\"dependencies\":{\"a\":{}}}", "true", "{", "",
      "{\"pattern\":\"(\"}", "{\"properties\":{\"a\":{\"properties\":{\"b\":{\"properties\":{\"c\":{\"properties\":{\"d\":{}}}}}}}}}"})
  void aSchemaThatIsNotUnderstoodHasNoShape(String schema) throws IOException {
    assertNull(Shape.of(Files.writeString(folder.resolve("odd.json"), schema)));
    assertNull(Shape.of(folder.resolve("absent.json")));
  }

  private static final class Verdicts {
    int certain;
    int invalid;
    final List<String> wrong = new ArrayList<>();
  }

  private static Verdicts compare(String kind, Shape shape, Path file) throws Exception {
    JsonSchema schema = JsonSchemaFactory.getInstance(SpecVersion.VersionFlag.V7).getSchema(Files.readString(file));
    Random random = new Random(11);
    Verdicts verdicts = new Verdicts();
    for (int i = 0; i < 20_000; i++) {
      String text = message(random);
      Draft draft = new Draft("", 0, 0, "", "", text.getBytes(UTF_8));
      draft.kind = kind;
      draft.contentType = Draft.JSON;
      draft.deviceId = "d1";
      try {
        PayloadReader.read(draft, shape);
      } catch (RejectedException e) {
        continue;
      }
      JsonNode node = MAPPER.readTree(text);
      boolean valid = schema.validate(node).isEmpty();
      verdicts.certain += draft.valid ? 1 : 0;
      verdicts.invalid += valid ? 0 : 1;
      if (draft.valid && !valid) {
        verdicts.wrong.add(text);
      }
    }
    return verdicts;
  }

  /** Mostly a message as devices send it, with a few fields that are not as they should be. */
  private static String message(Random random) {
    List<String> fields = new ArrayList<>();
    add(fields, random, "schema_version", "1");
    if (random.nextInt(3) > 0) {
      add(fields, random, "boot_id", "\"b7\"");
      add(fields, random, "device_seq", "42");
    }
    add(fields, random, "observed_at", "1795255200000");
    add(fields, random, random.nextBoolean() ? "metrics" : "event", random.nextBoolean() ? "{\"t\":1,\"u\":2.5}" : "\"door\"");
    if (random.nextInt(3) == 0) {
      fields.add('"' + NAMES[random.nextInt(NAMES.length)] + "\":" + VALUES[random.nextInt(VALUES.length)]);
    }
    return "{" + String.join(",", fields) + "}";
  }

  private static void add(List<String> fields, Random random, String name, String value) {
    int fate = random.nextInt(12);
    if (fate > 0) {
      fields.add('"' + name + "\":" + (fate < 3 ? VALUES[random.nextInt(VALUES.length)] : value));
    }
  }
}
