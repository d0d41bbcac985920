// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import com.fasterxml.jackson.core.io.JsonStringEncoder;

/** The JSON that others are told: docs/contract.md section 12. Written by hand, because it is written for every change. */
final class Told {
  private Told() {}

  /** An event as an outbox row has it among others; everything of the command with its first revision. */
  static String body(Entry entry, long atMs) {
    StringBuilder json = new StringBuilder(256);
    json.append('{');
    text(json, "device_id", entry.deviceId);
    text(json, "command_id", entry.id);
    number(json, "revision", entry.revision);
    text(json, "status", entry.status.name());
    text(json, "reason", entry.reason);
    text(json, "detail", entry.detail);
    raw(json, "result", entry.status.isFinal() ? entry.result : null);
    number(json, "at_ms", atMs);
    if (entry.revision == 1) {
      text(json, "name", entry.name);
      raw(json, "arguments", entry.arguments);
      raw(json, "units", entry.units);
      raw(json, "precondition", entry.precondition);
      text(json, "origin", entry.origin);
      text(json, "issued_by", entry.issuedBy);
      number(json, "created_at_ms", entry.acceptedAtMs);
      number(json, "expires_at_ms", entry.expiresAtMs);
    }
    text(json, "trace_context", entry.traceContext);
    return json.append('}').toString();
  }

  /** What a device gets. */
  static String payload(Publisher.Publication p, long ttlMs) {
    StringBuilder json = new StringBuilder(160 + p.arguments().length());
    json.append('{');
    text(json, "command_id", p.commandId());
    text(json, "name", p.name());
    raw(json, "arguments", p.arguments());
    number(json, "issued_at_ms", p.issuedAtMs());
    number(json, "expires_at_ms", p.expiresAtMs());
    number(json, "ttl_ms", ttlMs);
    return json.append('}').toString();
  }

  private static void name(StringBuilder json, String name) {
    if (json.length() > 1) {
      json.append(',');
    }
    json.append('"').append(name).append("\":");
  }

  private static void text(StringBuilder json, String name, String value) {
    if (value != null) {
      name(json, name);
      json.append('"');
      JsonStringEncoder.getInstance().quoteAsString(value, json);
      json.append('"');
    }
  }

  private static void number(StringBuilder json, String name, long value) {
    name(json, name);
    json.append(value);
  }

  private static void raw(StringBuilder json, String name, String value) {
    if (value != null) {
      name(json, name);
      json.append(value);
    }
  }
}
