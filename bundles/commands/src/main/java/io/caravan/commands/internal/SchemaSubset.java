// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.commands.Capabilities.Problem;
import java.math.BigDecimal;
import java.util.HashSet;
import java.util.Iterator;
import java.util.Map;
import java.util.Set;

/**
 * The subset of JSON Schema (2020-12) that devices may use to say what a command takes. Own code instead of a library's: a schema
 * comes from a device, and with the subset neither checking it nor checking by it can take more than a bounded number of steps (no
 * regular expression, no reference, no combination). What a keyword means is what the standard says.
 */
final class SchemaSubset {
  static final int MAX_DEPTH = 8;
  static final int MAX_SCHEMAS = 256;
  static final int MAX_LIST = 64;
  static final int MAX_NAME = 64;
  static final int MAX_UNIT = 32;
  private static final int MAX_TEXT = 500;
  private static final int MAX_LENGTH = 65_536;
  private static final Set<String> TYPES = Set.of("object", "array", "string", "number", "integer", "boolean", "null");

  /** Breaks off at the first problem. No stack trace: it is an answer. */
  static final class Bad extends Exception {
    private static final long serialVersionUID = 1L;
    private final transient Problem problem;

    Bad(String reason, String pointer, String message) {
      super(Json.readable(message), null, false, false);
      // Pointers are made of the names that somebody sent.
      problem = new Problem(reason, Json.readable(pointer), getMessage());
    }

    Problem problem() {
      return problem;
    }
  }

  private final String reason;
  private int schemas;

  private SchemaSubset(String reason) {
    this.reason = reason;
  }

  /**
   * Checks that a schema is of the subset.
   *
   * @param reason  of the problem
   * @param pointer where the schema stands, JSON pointer
   */
  static void form(JsonNode schema, String pointer, String reason) throws Bad {
    new SchemaSubset(reason).schema(schema, pointer, 1);
  }

  /**
   * Checks a value.
   *
   * @param schema of the subset: {@link #form} did not complain
   * @param closed the value's members must be in {@code properties} unless {@code additionalProperties} is true
   */
  static void check(JsonNode schema, JsonNode value, String reason, boolean closed) throws Bad {
    new SchemaSubset(reason).value(schema, value, "", closed);
  }

  static String pointer(String parent, String name) {
    return parent + '/' + name.replace("~", "~0").replace("/", "~1");
  }

  private Bad bad(String pointer, String message) {
    return new Bad(reason, pointer, (pointer.isEmpty() ? "" : pointer + ": ") + message);
  }

  // ---- the schema

  private void schema(JsonNode schema, String pointer, int depth) throws Bad {
    if (!schema.isObject()) {
      throw bad(pointer, "[" + Json.shown(schema.toString()) + "] must be a schema, an object");
    }
    if (depth > MAX_DEPTH || ++schemas > MAX_SCHEMAS) {
      throw bad(pointer, "a schema must be at most " + MAX_DEPTH + " deep and have at most " + MAX_SCHEMAS + " schemas in it");
    }
    for (Iterator<Map.Entry<String, JsonNode>> members = schema.fields(); members.hasNext();) {
      Map.Entry<String, JsonNode> member = members.next();
      keyword(member.getKey(), member.getValue(), pointer(pointer, member.getKey()), depth);
    }
  }

  private void keyword(String keyword, JsonNode value, String at, int depth) throws Bad {
    switch (keyword) {
      case "type":
        if (!value.isArray()) {
          type(value, at);
        } else {
          list(value, at, 1);
          for (JsonNode each : value) {
            type(each, at);
          }
        }
        break;
      case "enum":
        list(value, at, 1);
        break;
      case "required":
        list(value, at, 0);
        for (JsonNode name : value) {
          must(name.isTextual(), name, at, "be the name of a property");
        }
        break;
      case "minimum":
      case "maximum":
      case "exclusiveMinimum":
      case "exclusiveMaximum":
        must(value.isNumber() && Json.bounded(value), value, at, "be a number");
        break;
      case "multipleOf":
        must(value.isNumber() && Json.bounded(value) && value.decimalValue().signum() > 0, value, at, "be a number above 0");
        break;
      case "minLength":
      case "maxLength":
      case "minItems":
      case "maxItems":
        must(value.isIntegralNumber() && value.canConvertToInt() && value.intValue() >= 0 && value.intValue() <= MAX_LENGTH, value, at,
            "be a whole number from 0 to " + MAX_LENGTH);
        break;
      case "properties":
        must(value.isObject() && value.size() <= MAX_LIST, value, at, "be an object of at most " + MAX_LIST + " schemas");
        for (Iterator<Map.Entry<String, JsonNode>> members = value.fields(); members.hasNext();) {
          Map.Entry<String, JsonNode> member = members.next();
          must(!member.getKey().isEmpty() && member.getKey().length() <= MAX_NAME, value, at,
              "have names of 1 to " + MAX_NAME + " characters");
          schema(member.getValue(), pointer(at, member.getKey()), depth + 1);
        }
        break;
      case "additionalProperties":
        must(value.isBoolean(), value, at, "be true or false");
        break;
      case "items":
        schema(value, at, depth + 1);
        break;
      case "unit":
        must(value.isTextual() && !value.textValue().isEmpty() && value.textValue().length() <= MAX_UNIT, value, at,
            "be text of 1 to " + MAX_UNIT + " characters");
        break;
      case "title":
      case "description":
        must(value.isTextual() && value.textValue().length() <= MAX_TEXT, value, at, "be text of at most " + MAX_TEXT + " characters");
        break;
      case "const":
      case "default":
        break;
      default:
        throw bad(at, "keyword [" + Json.shown(keyword) + "] must be one of the subset in schema/capabilities-1.json");
    }
  }

  private void type(JsonNode value, String at) throws Bad {
    must(value.isTextual() && TYPES.contains(value.textValue()), value, at, "be one of object, array, string, number, integer, boolean, null");
  }

  private void list(JsonNode value, String at, int least) throws Bad {
    must(value.isArray() && value.size() >= least && value.size() <= MAX_LIST, value, at,
        "be a list of " + least + " to " + MAX_LIST + " elements");
    Set<JsonNode> elements = new HashSet<>();
    for (JsonNode each : value) {
      must(elements.add(each), each, at, "be there once");
    }
  }

  private void must(boolean holds, JsonNode value, String at, String rule) throws Bad {
    if (!holds) {
      throw bad(at, "[" + Json.shown(value.toString()) + "] must " + rule);
    }
  }

  // ---- a value

  private void value(JsonNode schema, JsonNode value, String at, boolean closed) throws Bad {
    JsonNode type = schema.get("type");
    if (type != null && !(type.isArray() ? anyOf(type, value) : is(type.textValue(), value))) {
      throw bad(at, "[" + Json.shown(value.toString()) + "] must be of type " + (type.isArray() ? type.toString() : type.textValue()));
    }
    JsonNode constant = schema.get("const");
    if (constant != null) {
      must(Json.same(constant, value), value, at, "be " + Json.shown(constant.toString()));
    }
    JsonNode choice = schema.get("enum");
    if (choice != null) {
      boolean found = false;
      for (JsonNode each : choice) {
        found = found || Json.same(each, value);
      }
      must(found, value, at, "be one of " + Json.shown(choice.toString()));
    }
    if (value.isNumber()) {
      number(schema, value, at);
    } else if (value.isTextual()) {
      size(schema, "minLength", "maxLength", value.textValue().codePointCount(0, value.textValue().length()), "characters", at);
    } else if (value.isArray()) {
      size(schema, "minItems", "maxItems", value.size(), "elements", at);
      JsonNode items = schema.get("items");
      for (int i = 0; items != null && i < value.size(); i++) {
        value(items, value.get(i), at + '/' + i, false);
      }
    } else if (value.isObject()) {
      object(schema, value, at, closed);
    }
  }

  private void number(JsonNode schema, JsonNode value, String at) throws Bad {
    must(Json.bounded(value), value, at, "be a number a device can have");
    BigDecimal number = value.decimalValue();
    if (schema.has("minimum")) {
      must(number.compareTo(schema.get("minimum").decimalValue()) >= 0, value, at, "be at least " + said(schema, "minimum"));
    }
    if (schema.has("maximum")) {
      must(number.compareTo(schema.get("maximum").decimalValue()) <= 0, value, at, "be at most " + said(schema, "maximum"));
    }
    if (schema.has("exclusiveMinimum")) {
      must(number.compareTo(schema.get("exclusiveMinimum").decimalValue()) > 0, value, at, "be above " + said(schema, "exclusiveMinimum"));
    }
    if (schema.has("exclusiveMaximum")) {
      must(number.compareTo(schema.get("exclusiveMaximum").decimalValue()) < 0, value, at, "be below " + said(schema, "exclusiveMaximum"));
    }
    if (schema.has("multipleOf")) {
      must(number.remainder(schema.get("multipleOf").decimalValue()).signum() == 0, value, at, "be a multiple of " + said(schema, "multipleOf"));
    }
  }

  private static String said(JsonNode schema, String keyword) {
    return schema.get(keyword).asText() + (schema.has("unit") ? ' ' + schema.get("unit").textValue() : "");
  }

  private void size(JsonNode schema, String least, String most, int size, String what, String at) throws Bad {
    if (schema.has(least) && size < schema.get(least).intValue()) {
      throw bad(at, "[" + size + "] " + what + " must be at least " + schema.get(least));
    }
    if (schema.has(most) && size > schema.get(most).intValue()) {
      throw bad(at, "[" + size + "] " + what + " must be at most " + schema.get(most));
    }
  }

  private void object(JsonNode schema, JsonNode value, String at, boolean closed) throws Bad {
    for (JsonNode name : schema.path("required")) {
      if (!value.has(name.textValue())) {
        throw bad(pointer(at, name.textValue()), "is required and missing");
      }
    }
    JsonNode properties = schema.path("properties");
    boolean open = schema.path("additionalProperties").asBoolean(!closed);
    for (Iterator<Map.Entry<String, JsonNode>> members = value.fields(); members.hasNext();) {
      Map.Entry<String, JsonNode> member = members.next();
      JsonNode declared = properties.get(member.getKey());
      if (declared != null) {
        value(declared, member.getValue(), pointer(at, member.getKey()), false);
      } else if (!open) {
        throw bad(pointer(at, member.getKey()), "[" + Json.shown(member.getKey()) + "] is not declared"
            + (properties.isEmpty() ? "" : ", only " + Json.shown(String.join(", ", names(properties)))));
      }
    }
  }

  private static Iterable<String> names(JsonNode object) {
    return object::fieldNames;
  }

  private static boolean anyOf(JsonNode types, JsonNode value) {
    for (JsonNode type : types) {
      if (is(type.textValue(), value)) {
        return true;
      }
    }
    return false;
  }

  private static boolean is(String type, JsonNode value) {
    switch (type) {
      case "object":
        return value.isObject();
      case "array":
        return value.isArray();
      case "string":
        return value.isTextual();
      case "boolean":
        return value.isBoolean();
      case "null":
        return value.isNull();
      case "number":
        return value.isNumber();
      default:
        return value.isIntegralNumber()
            || value.isNumber() && Json.bounded(value) && value.decimalValue().stripTrailingZeros().scale() <= 0;
    }
  }
}
