// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.commands.Capabilities.Budget;
import io.caravan.commands.Capabilities.Capability;
import io.caravan.commands.internal.SchemaSubset.Bad;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * What a device says it can do, as of schema/capabilities-1.json. By hand and not by that schema, so that a device is told which value
 * broke which rule, and cannot make the gateway compile or fetch anything.
 *
 * @param json what counts of it, as text that is equal when the meaning is: the members of the message itself are left out
 */
record CapabilityForm(String version, List<Capability> commands, String json) {
  static final int MAX_CHARS = 32_768;
  static final int MAX_COMMANDS = 64;
  static final int MAX_BUDGETS = 8;
  static final int MAX_COUNT = 1_000;
  /** Publications are remembered at least that long. */
  static final long MAX_PER_MS = 86_400_000;
  static final long DEFAULT_TIMEOUT_MS = 10_000;
  private static final long MIN_TIMEOUT_MS = 100;
  private static final long MAX_TIMEOUT_MS = 3_600_000;
  private static final int MAX_VERSION = 32;
  private static final int MAX_TEXT = 500;
  /** Of the message, not of what it says. */
  static final Set<String> ENVELOPE = Set.of("schema_version", "device_id", "boot_id", "device_seq", "observed_at");
  static final Pattern NAME = Pattern.compile("[A-Za-z][A-Za-z0-9_.-]{0,63}");
  private static final String BAD = "bad_capabilities";

  /** @throws Bad with the first rule that is broken */
  static CapabilityForm parse(String text) throws Bad {
    ObjectNode root;
    try {
      root = Json.object(text, "capabilities", MAX_CHARS);
    } catch (IllegalArgumentException e) {
      throw new Bad(BAD, "", e.getMessage());
    }
    JsonNode schema = root.path("schema_version");
    must(schema.isIntegralNumber() && schema.canConvertToInt() && schema.intValue() == 1, schema, "/schema_version", "be 1");
    for (Iterator<String> names = root.fieldNames(); names.hasNext();) {
      String name = names.next();
      if (!ENVELOPE.contains(name) && !name.equals("version") && !name.equals("commands")) {
        throw new Bad(BAD, SchemaSubset.pointer("", name), "[" + Json.shown(name) + "] must be one of schema_version, version, commands");
      }
    }
    JsonNode version = root.get("version");
    if (version != null) {
      text(version, "/version", 1, MAX_VERSION);
    }
    JsonNode commands = root.path("commands");
    must(commands.isObject() && commands.size() <= MAX_COMMANDS, commands, "/commands", "be an object of at most " + MAX_COMMANDS + " commands");
    List<Capability> all = new ArrayList<>(commands.size());
    for (Iterator<Map.Entry<String, JsonNode>> members = commands.fields(); members.hasNext();) {
      Map.Entry<String, JsonNode> member = members.next();
      all.add(command(member.getKey(), member.getValue()));
    }
    ObjectNode json = JsonNodeFactory.instance.objectNode();
    json.put("schema_version", 1);
    if (version != null) {
      json.set("version", version);
    }
    json.set("commands", commands);
    return new CapabilityForm(version == null ? null : version.textValue(), List.copyOf(all), json.toString());
  }

  private static Capability command(String name, JsonNode command) throws Bad {
    String at = SchemaSubset.pointer("/commands", name);
    if (!NAME.matcher(name).matches()) {
      throw new Bad(BAD, at, at + ": name [" + Json.shown(name) + "] must be 1 to 64 characters out of A-Z a-z 0-9 _ . -, a letter first");
    }
    must(command.isObject(), command, at, "be an object");
    JsonNode arguments = JsonNodeFactory.instance.objectNode();
    boolean idempotent = false;
    long timeoutMs = DEFAULT_TIMEOUT_MS;
    List<Budget> budgets = List.of();
    for (Iterator<Map.Entry<String, JsonNode>> members = command.fields(); members.hasNext();) {
      Map.Entry<String, JsonNode> member = members.next();
      JsonNode value = member.getValue();
      String here = SchemaSubset.pointer(at, member.getKey());
      switch (member.getKey()) {
        case "arguments":
          SchemaSubset.form(value, here, BAD);
          must(!value.has("type") || "object".equals(value.get("type").textValue()), value.path("type"), here + "/type",
              "be object: arguments have names");
          arguments = value;
          break;
        case "idempotent":
          must(value.isBoolean(), value, here, "be true or false");
          idempotent = value.booleanValue();
          break;
        case "timeout_ms":
          timeoutMs = whole(value, here, MIN_TIMEOUT_MS, MAX_TIMEOUT_MS);
          break;
        case "budget":
          must(value.isArray() && value.size() <= MAX_BUDGETS, value, here, "be a list of at most " + MAX_BUDGETS);
          budgets = new ArrayList<>(value.size());
          for (int i = 0; i < value.size(); i++) {
            budgets.add(budget(value.get(i), here + '/' + i));
          }
          break;
        case "title":
        case "description":
          text(value, here, 0, MAX_TEXT);
          break;
        default:
          throw new Bad(BAD, here, here + ": [" + Json.shown(member.getKey())
              + "] must be one of arguments, idempotent, timeout_ms, budget, title, description");
      }
    }
    return new Capability(name, arguments, idempotent, timeoutMs, List.copyOf(budgets), true);
  }

  private static Budget budget(JsonNode budget, String at) throws Bad {
    must(budget.isObject() && budget.size() == 2 && budget.has("count") && budget.has("per_ms"), budget, at, "have count and per_ms and nothing else");
    return budget(budget.get("count"), budget.get("per_ms"), at);
  }

  static Budget budget(JsonNode count, JsonNode perMs, String at) throws Bad {
    return new Budget((int) whole(count, at + "/count", 1, MAX_COUNT), whole(perMs, at + "/per_ms", 1, MAX_PER_MS));
  }

  private static long whole(JsonNode value, String at, long least, long most) throws Bad {
    must(value.isIntegralNumber() && value.canConvertToLong() && value.longValue() >= least && value.longValue() <= most, value, at,
        "be a whole number from " + least + " to " + most);
    return value.longValue();
  }

  private static void text(JsonNode value, String at, int least, int most) throws Bad {
    must(value.isTextual() && value.textValue().length() >= least && value.textValue().length() <= most, value, at,
        "be text of " + least + " to " + most + " characters");
  }

  private static void must(boolean holds, JsonNode value, String at, String rule) throws Bad {
    if (!holds) {
      throw new Bad(BAD, at, at + ": " + (value.isMissingNode() ? "is missing, must " : "[" + Json.shown(value.toString()) + "] must ") + rule);
    }
  }
}
