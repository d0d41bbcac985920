// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk.internal;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.util.RawValue;
import io.caravan.desk.CommandDesk.Command;
import io.caravan.desk.CommandDesk.Event;
import io.caravan.desk.CommandDesk.Twin;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.List;

/** Rows of the store as records, and records as the JSON that clients get. */
final class Views {
  static final String COMMAND = "SELECT seq, gateway_id, command_id, device_id, name, arguments, units, precondition, origin, issued_by, status,"
      + " reason, detail, result, created_at_ms, expires_at_ms, transmissions, cancel_requested_at_ms, gateway_revision, updated_at_ms,"
      + " final_at_ms FROM command ";
  static final String EVENT = "SELECT id, gateway_id, device_id, command_id, revision, status, reason, detail, result, at_ms FROM command_event ";
  static final String TWIN = "SELECT gateway_id, device_id, desired, desired_version, reported, reported_version, delta, updated_at_ms FROM twin ";

  private Views() {}

  static Command command(ResultSet row, List<Event> events) throws SQLException {
    return new Command(row.getLong(1), row.getString(2), row.getString(3), row.getString(4), row.getString(5), row.getString(6),
        row.getString(7), row.getString(8), row.getString(9), row.getString(10), row.getString(11), row.getString(12), row.getString(13),
        row.getString(14), row.getLong(15), row.getLong(16), row.getInt(17), number(row, 18), row.getLong(19), row.getLong(20),
        number(row, 21), events);
  }

  static Event event(ResultSet row) throws SQLException {
    return new Event(row.getLong(1), row.getString(2), row.getString(3), row.getString(4), number(row, 5), row.getString(6),
        row.getString(7), row.getString(8), row.getString(9), row.getLong(10));
  }

  static Twin twin(ResultSet row) throws SQLException {
    return new Twin(row.getString(1), row.getString(2), row.getString(3), row.getLong(4), row.getString(5), row.getLong(6), row.getString(7),
        row.getLong(8));
  }

  private static Long number(ResultSet row, int column) throws SQLException {
    long value = row.getLong(column);
    return row.wasNull() ? null : value;
  }

  static ObjectNode json(Command c) {
    ObjectNode node = Rules.JSON.createObjectNode();
    node.put("id", c.id()).put("gateway_id", c.gatewayId()).put("device_id", c.deviceId()).put("name", c.name());
    raw(node, "arguments", c.arguments());
    raw(node, "units", c.units());
    raw(node, "precondition", c.precondition());
    node.put("origin", c.origin()).put("issued_by", c.issuedBy()).put("status", c.status()).put("final", c.finalAtMs() != null);
    text(node, "reason", c.reason());
    text(node, "detail", c.detail());
    raw(node, "result", c.result());
    node.put("created_at_ms", c.createdAtMs()).put("expires_at_ms", c.expiresAtMs()).put("updated_at_ms", c.updatedAtMs());
    if (c.finalAtMs() != null) {
      node.put("final_at_ms", c.finalAtMs());
    }
    if (c.cancelRequestedAtMs() != null) {
      node.put("cancel_requested_at_ms", c.cancelRequestedAtMs());
    }
    node.put("seq", c.seq()).put("transmissions", c.transmissions()).put("gateway_revision", c.gatewayRevision());
    if (!c.events().isEmpty()) {
      var events = node.putArray("events");
      c.events().forEach(e -> events.add(json(e)));
    }
    return node;
  }

  static ObjectNode json(Event e) {
    ObjectNode node = Rules.JSON.createObjectNode();
    node.put("id", e.id()).put("gateway_id", e.gatewayId()).put("device_id", e.deviceId()).put("command_id", e.commandId());
    node.put("source", e.revision() == null ? "cloud" : "gateway");
    if (e.revision() != null) {
      node.put("revision", e.revision());
    }
    node.put("status", e.status());
    text(node, "reason", e.reason());
    text(node, "detail", e.detail());
    raw(node, "result", e.result());
    return node.put("at_ms", e.atMs());
  }

  static ObjectNode json(Twin t) {
    ObjectNode node = Rules.JSON.createObjectNode();
    node.put("gateway_id", t.gatewayId()).put("device_id", t.deviceId());
    raw(node, "desired", t.desired());
    node.put("desired_version", t.desiredVersion());
    raw(node, "reported", t.reported());
    node.put("reported_version", t.reportedVersion());
    raw(node, "delta", t.delta());
    return node.put("updated_at_ms", t.updatedAtMs());
  }

  static String text(ObjectNode node) {
    try {
      return Rules.JSON.writeValueAsString(node);
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }

  private static void text(ObjectNode node, String name, String value) {
    if (value != null) {
      node.put(name, value);
    }
  }

  /** What is in the store is JSON already. */
  private static void raw(ObjectNode node, String name, String json) {
    if (json != null) {
      node.putRawValue(name, new RawValue(json));
    }
  }
}
