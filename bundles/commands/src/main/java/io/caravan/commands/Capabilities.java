// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.List;
import java.util.Optional;

/**
 * Bean {@code capabilities}: what each device can do. What is configured in the registry of devices counts before what the device
 * announced; the gateway's own stand in {@code etc/control-capabilities.json}; {@code etc/command-policy.json} takes away more. Thread-safe,
 * never blocks: kept in memory.
 */
public interface Capabilities {

  /**
   * @param version   as declared, text; null: none
   * @param source    {@code configured}, {@code announced} or {@code gateway}
   */
  record Declared(String deviceId, String version, String source, List<Capability> commands) {}

  /**
   * @param arguments  JSON Schema (the subset of schema/capabilities-1.json: no pattern, no $ref), units in {@code unit}
   * @param idempotent may be published again as long as there is no evidence
   * @param timeoutMs  from publication to the device's final answer
   * @param budgets    all of them hold: the device's and the policy's
   * @param allowed    false: the policy forbids it
   */
  record Capability(String name, JsonNode arguments, boolean idempotent, long timeoutMs, List<Budget> budgets, boolean allowed) {}

  /** At most {@code count} publications within any {@code perMs} milliseconds. */
  record Budget(int count, long perMs) {}

  /** @param reason {@code no_capability}, {@code not_allowed}, {@code bad_arguments}, {@code unit_mismatch}; field: JSON pointer or null */
  record Problem(String reason, String field, String message) {}

  /** @return empty: nothing is declared, so nothing may be sent */
  Optional<Declared> of(String deviceId);

  /** @return the capability of that name, if it is declared, also when the policy forbids it */
  Optional<Capability> find(String deviceId, String name);

  /** @return empty: the arguments are as declared; else the first problem */
  Optional<Problem> check(Capability capability, JsonNode arguments, JsonNode units);

  /**
   * As {@link #check} for a schema of the same subset that somebody sent: a precondition.
   *
   * @return reason {@code bad_command}: the schema itself is not of the subset; {@code precondition_failed}: the value is not as it says
   */
  Optional<Problem> matches(JsonNode schema, JsonNode value);

  /** @return of the gateway and of every device that has something declared, sorted by id */
  List<Declared> list();

  /** @return empty: the text is capabilities as of schema/capabilities-1.json; else the first problem, reason {@code bad_capabilities} */
  Optional<Problem> valid(String json);
}
