// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import io.caravan.commands.Commands.Command;
import io.caravan.commands.Commands.Event;
import io.caravan.commands.Commands.Filter;
import io.caravan.commands.Status;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Types;
import java.util.ArrayList;
import java.util.List;

/** Table command as Java sees it. */
final class Rows {
  private static final String COLUMNS = "seq, command_id, device_id, name, arguments, units, precondition, content_hash, origin, issued_by,"
      + " trace_context, status, reason, detail, result, revision, capability_version, idempotent, timeout_ms, accepted_at_ms,"
      + " expires_at_ms, os_boot_id, deadline_mono_ms, answer_until_mono_ms, attempts, attempted_at_ms, attempted_mono_ms, final_at_ms";
  static final String INSERT = "INSERT INTO command (" + COLUMNS
      + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
  static final String UPDATE = "UPDATE command SET status = ?, reason = ?, detail = ?, result = ?, revision = ?, os_boot_id = ?,"
      + " deadline_mono_ms = ?, answer_until_mono_ms = ?, attempts = ?, attempted_at_ms = ?, attempted_mono_ms = ?, final_at_ms = ? WHERE seq = ?";
  static final String BY_ID = "SELECT " + COLUMNS + " FROM command WHERE command_id = ?";
  static final String OPEN = "SELECT " + COLUMNS + " FROM command WHERE final_at_ms IS NULL ORDER BY seq";
  static final String EVENT = "INSERT INTO command_event (command_seq, revision, status, reason, detail, at_ms) VALUES (?, ?, ?, ?, ?, ?)";
  static final String OUTBOX = "INSERT INTO outbox (kind, device_id, message_key, observed_at_ms, created_at_ms, trace_context, body)"
      + " VALUES (?, ?, ?, ?, ?, ?, ?)";
  private static final String EVENTS = "SELECT revision, status, reason, detail, at_ms FROM command_event WHERE command_seq = ? ORDER BY revision";

  private Rows() {}

  static Entry read(ResultSet row) throws SQLException {
    Entry e = new Entry();
    int i = 0;
    e.seq = row.getLong(++i);
    e.id = row.getString(++i);
    e.deviceId = row.getString(++i);
    e.name = row.getString(++i);
    e.arguments = row.getString(++i);
    e.units = row.getString(++i);
    e.precondition = row.getString(++i);
    e.hash = row.getBytes(++i);
    e.origin = row.getString(++i);
    e.issuedBy = row.getString(++i);
    e.traceContext = row.getString(++i);
    e.status = Status.valueOf(row.getString(++i));
    e.reason = row.getString(++i);
    e.detail = row.getString(++i);
    e.result = row.getString(++i);
    e.revision = row.getLong(++i);
    e.capabilityVersion = row.getString(++i);
    e.idempotent = row.getInt(++i) != 0;
    e.timeoutMs = row.getLong(++i);
    e.acceptedAtMs = row.getLong(++i);
    e.expiresAtMs = row.getLong(++i);
    e.bootId = row.getString(++i);
    e.deadlineMono = row.getLong(++i);
    e.answerUntilMono = number(row, ++i);
    e.attempts = row.getInt(++i);
    e.attemptedAtMs = number(row, ++i);
    e.attemptedMono = number(row, ++i);
    e.finalAtMs = number(row, ++i);
    return e;
  }

  static void insert(PreparedStatement s, Entry e) throws SQLException {
    int i = 0;
    s.setLong(++i, e.seq);
    s.setString(++i, e.id);
    s.setString(++i, e.deviceId);
    s.setString(++i, e.name);
    s.setString(++i, e.arguments);
    s.setString(++i, e.units);
    s.setString(++i, e.precondition);
    s.setBytes(++i, e.hash);
    s.setString(++i, e.origin);
    s.setString(++i, e.issuedBy);
    s.setString(++i, e.traceContext);
    s.setString(++i, e.status.name());
    s.setString(++i, e.reason);
    s.setString(++i, e.detail);
    s.setString(++i, e.result);
    s.setLong(++i, e.revision);
    s.setString(++i, e.capabilityVersion);
    s.setInt(++i, e.idempotent ? 1 : 0);
    s.setLong(++i, e.timeoutMs);
    s.setLong(++i, e.acceptedAtMs);
    s.setLong(++i, e.expiresAtMs);
    s.setString(++i, e.bootId);
    s.setLong(++i, e.deadlineMono);
    set(s, ++i, e.answerUntilMono);
    s.setInt(++i, e.attempts);
    set(s, ++i, e.attemptedAtMs);
    set(s, ++i, e.attemptedMono);
    set(s, ++i, e.finalAtMs);
    s.addBatch();
  }

  static void update(PreparedStatement s, Entry e) throws SQLException {
    int i = 0;
    s.setString(++i, e.status.name());
    s.setString(++i, e.reason);
    s.setString(++i, e.detail);
    s.setString(++i, e.result);
    s.setLong(++i, e.revision);
    s.setString(++i, e.bootId);
    s.setLong(++i, e.deadlineMono);
    set(s, ++i, e.answerUntilMono);
    s.setInt(++i, e.attempts);
    set(s, ++i, e.attemptedAtMs);
    set(s, ++i, e.attemptedMono);
    set(s, ++i, e.finalAtMs);
    s.setLong(++i, e.seq);
    s.addBatch();
  }

  static List<Entry> open(Connection reader) throws SQLException {
    List<Entry> found = new ArrayList<>();
    try (PreparedStatement select = reader.prepareStatement(OPEN); ResultSet row = select.executeQuery()) {
      while (row.next()) {
        found.add(read(row));
      }
    }
    return found;
  }

  /** @return null: there is none */
  static Command find(Connection reader, String id) throws SQLException {
    try (PreparedStatement select = reader.prepareStatement(BY_ID); PreparedStatement events = reader.prepareStatement(EVENTS)) {
      select.setString(1, id);
      Entry entry;
      try (ResultSet row = select.executeQuery()) {
        if (!row.next()) {
          return null;
        }
        entry = read(row);
      }
      events.setLong(1, entry.seq);
      List<Event> history = new ArrayList<>();
      try (ResultSet row = events.executeQuery()) {
        // The second statement may see a later commit: no event that the row does not know of.
        while (row.next() && row.getLong(1) <= entry.revision) {
          history.add(new Event(row.getLong(1), Status.valueOf(row.getString(2)), row.getString(3), row.getString(4), row.getLong(5)));
        }
      }
      return entry.describe(history);
    }
  }

  static List<Command> list(Connection reader, Filter filter, int limit) throws SQLException {
    StringBuilder sql = new StringBuilder("SELECT ").append(COLUMNS).append(" FROM command WHERE 1");
    if (filter.deviceId() != null) {
      sql.append(" AND device_id = ?");
    }
    if (filter.status() != null) {
      sql.append(" AND status = ?");
    }
    if (filter.open()) {
      sql.append(" AND final_at_ms IS NULL");
    }
    sql.append(" ORDER BY seq DESC LIMIT ?");
    List<Command> found = new ArrayList<>();
    try (PreparedStatement select = reader.prepareStatement(sql.toString())) {
      int i = 0;
      if (filter.deviceId() != null) {
        select.setString(++i, filter.deviceId());
      }
      if (filter.status() != null) {
        select.setString(++i, filter.status().name());
      }
      select.setInt(++i, limit);
      try (ResultSet row = select.executeQuery()) {
        while (row.next()) {
          found.add(read(row).describe(List.of()));
        }
      }
    }
    return found;
  }

  private static Long number(ResultSet row, int column) throws SQLException {
    long value = row.getLong(column);
    return row.wasNull() ? null : value;
  }

  private static void set(PreparedStatement s, int column, Long value) throws SQLException {
    if (value == null) {
      s.setNull(column, Types.INTEGER);
    } else {
      s.setLong(column, value);
    }
  }
}
