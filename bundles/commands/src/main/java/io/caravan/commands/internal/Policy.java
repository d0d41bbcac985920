// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.commands.Capabilities.Budget;
import io.caravan.commands.Capabilities.Capability;
import io.caravan.commands.internal.SchemaSubset.Bad;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Set;

/** {@code etc/command-policy.json}: what the operator takes away from what devices declare. It never adds anything. */
final class Policy {
  static final Policy NONE = new Policy(List.of(), false);
  /** While nobody knows what the operator forbids. */
  static final Policy NOTHING_ALLOWED = new Policy(List.of(), true);
  private static final int MAX_CHARS = 262_144;
  private static final int MAX_RULES = 1_000;
  private static final int MAX_GLOB = 128;
  private static final String BAD = "bad_policy";

  /** @param budget null: forbidden */
  private record Rule(String device, String command, Budget budget) {
    boolean matches(String deviceId, String name) {
      return Glob.matches(device, deviceId) && Glob.matches(command, name);
    }
  }

  private final List<Rule> rules;
  private final boolean forbidsAll;

  private Policy(List<Rule> rules, boolean forbidsAll) {
    this.rules = rules;
    this.forbidsAll = forbidsAll;
  }

  /** @throws IllegalArgumentException which value broke which rule */
  static Policy parse(String text) {
    ObjectNode root = Json.object(text, "the file", MAX_CHARS);
    try {
      only(root, Set.of("forbid", "budget"), "");
      List<Rule> rules = new ArrayList<>();
      int i = 0;
      for (JsonNode each : list(root, "forbid")) {
        String at = "/forbid/" + i++;
        only(each, Set.of("device", "command"), at);
        rules.add(new Rule(glob(each, "device", at), glob(each, "command", at), null));
      }
      i = 0;
      for (JsonNode each : list(root, "budget")) {
        String at = "/budget/" + i++;
        only(each, Set.of("device", "command", "count", "per_ms"), at);
        rules.add(new Rule(glob(each, "device", at), glob(each, "command", at), CapabilityForm.budget(each.path("count"), each.path("per_ms"), at)));
      }
      return new Policy(List.copyOf(rules), false);
    } catch (Bad e) {
      throw new IllegalArgumentException(e.getMessage(), e);
    }
  }

  /** @return with what is taken away; the same if that is nothing */
  Capability apply(String deviceId, Capability declared) {
    boolean allowed = !forbidsAll;
    List<Budget> budgets = null;
    for (Rule rule : rules) {
      if (rule.matches(deviceId, declared.name())) {
        if (rule.budget == null) {
          allowed = false;
        } else {
          budgets = budgets == null ? new ArrayList<>(declared.budgets()) : budgets;
          budgets.add(rule.budget);
        }
      }
    }
    return allowed && budgets == null ? declared : new Capability(declared.name(), declared.arguments(), declared.idempotent(),
        declared.timeoutMs(), budgets == null ? declared.budgets() : List.copyOf(budgets), allowed);
  }

  private static JsonNode list(ObjectNode root, String name) throws Bad {
    JsonNode list = root.path(name);
    if (!list.isArray() || list.size() > MAX_RULES) {
      throw new Bad(BAD, "/" + name, "/" + name + " must be a list of at most " + MAX_RULES + " rules");
    }
    return list;
  }

  private static void only(JsonNode object, Set<String> names, String at) throws Bad {
    if (!object.isObject()) {
      throw new Bad(BAD, at, at + ": [" + Json.shown(object.toString()) + "] must be an object");
    }
    for (Iterator<String> there = object.fieldNames(); there.hasNext();) {
      String name = there.next();
      if (!names.contains(name)) {
        throw new Bad(BAD, at, at + ": [" + Json.shown(name) + "] must be one of " + String.join(", ", names.stream().sorted().toList()));
      }
    }
  }

  private static String glob(JsonNode rule, String name, String at) throws Bad {
    JsonNode glob = rule.path(name);
    if (!glob.isTextual() || glob.textValue().isEmpty() || glob.textValue().length() > MAX_GLOB) {
      throw new Bad(BAD, at + '/' + name, at + '/' + name + ": [" + Json.shown(glob.toString()) + "] must be a pattern of 1 to " + MAX_GLOB + " characters");
    }
    return glob.textValue();
  }
}
