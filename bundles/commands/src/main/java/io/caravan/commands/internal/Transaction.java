// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import io.caravan.commands.Commands;
import io.caravan.commands.Commands.Event;
import io.caravan.commands.Status;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The open transaction. Changes of commands are gathered and written at its end, a row once whatever happened to it. The engine's
 * thread only.
 */
final class Transaction implements Turn, AutoCloseable {

  private record OutboxRow(String kind, String deviceId, String messageKey, String traceContext, String body) {}

  private record Change(Entry entry, Event event) {}

  /** What one row tells the cloud at most: events, and characters behind which no more is added. */
  private static final int TOLD_EVENTS = 200;
  private static final int TOLD_CHARS = 65_536;

  private static final Logger LOG = LoggerFactory.getLogger(Transaction.class);

  private final CommandEngine engine;
  private final Connection connection;
  private final long nowMs;
  private final long monoMs;
  private final Map<String, PreparedStatement> statements = new HashMap<>();
  /** By id: also final ones, which the engine's memory has not. */
  private final Map<String, Entry> touched = new LinkedHashMap<>();
  private final List<Change> changes = new ArrayList<>();
  private final List<OutboxRow> outbox = new ArrayList<>();
  /** Events that are not in a row of the outbox yet: the rows of a transaction are many events long, because each costs the uplink. */
  private final StringBuilder told = new StringBuilder();
  private int toldEvents;
  private String toldKey;
  private final List<Runnable> afterCommit = new ArrayList<>();
  private boolean committed;

  Transaction(CommandEngine engine, DataSource writer, Time time) throws SQLException {
    this.engine = engine;
    connection = writer.getConnection();
    try {
      connection.setAutoCommit(false);
    } catch (SQLException | RuntimeException | Error e) {
      connection.close();
      throw e;
    }
    // After the turn to write has come: waiting for it must not make a command younger.
    nowMs = time.wallMs();
    monoMs = time.monoMs();
  }

  @Override
  public Connection connection() {
    return connection;
  }

  @Override
  public PreparedStatement statement(String sql) throws SQLException {
    PreparedStatement statement = statements.get(sql);
    if (statement == null) {
      statement = connection.prepareStatement(sql);
      statements.put(sql, statement);
    }
    return statement;
  }

  @Override
  public long nowMs() {
    return nowMs;
  }

  @Override
  public long monoMs() {
    return monoMs;
  }

  @Override
  public void outbox(String kind, String deviceId, String messageKey, String traceContext, String body) {
    outbox.add(new OutboxRow(kind, deviceId, messageKey, traceContext, body));
  }

  @Override
  public void answer(Answer answer) throws SQLException {
    engine.answer(this, answer);
  }

  @Override
  public void afterCommit(Runnable action) {
    afterCommit.add(action);
  }

  /** @return null: nobody knows it, or it is final and not changed in this transaction */
  Entry touched(String id) {
    return touched.get(id);
  }

  /** @return null: it is not in the store */
  Entry stored(String id) throws SQLException {
    PreparedStatement select = statement(Rows.BY_ID);
    select.setString(1, id);
    try (ResultSet row = select.executeQuery()) {
      return row.next() ? Rows.read(row) : null;
    }
  }

  void touch(Entry entry) {
    if (!entry.fresh) {
      entry.changed = true;
    }
    touched.put(entry.id, entry);
  }

  /** A change of status: its event, and its row for the cloud. */
  void event(Entry entry, Status status, String reason, String detail) {
    touch(entry);
    entry.status = status;
    entry.reason = reason;
    entry.detail = detail;
    entry.revision++;
    changes.add(new Change(entry, new Event(entry.revision, status, reason, detail, nowMs)));
    String body = Told.body(entry, nowMs);
    tell(entry, body);
    engine.changed(this, entry, changes.get(changes.size() - 1).event(), body);
  }

  private void tell(Entry entry, String event) {
    if (toldEvents == TOLD_EVENTS || told.length() >= TOLD_CHARS) {
      endTold();
    }
    if (toldEvents++ == 0) {
      toldKey = Commands.GATEWAY + "//c/" + entry.id + "/" + entry.revision;
    }
    told.append(toldEvents == 1 ? "{\"events\":[" : ",").append(event);
  }

  private void endTold() {
    if (toldEvents > 0) {
      outbox("command", Commands.GATEWAY, toldKey, null, told.append("]}").toString());
      told.setLength(0);
      toldEvents = 0;
    }
  }

  int size() {
    return touched.size();
  }

  boolean hasOutbox() {
    return toldEvents > 0 || !outbox.isEmpty();
  }

  void commit() throws SQLException {
    flush();
    connection.commit();
    committed = true;
    touched.values().forEach(entry -> {
      entry.fresh = false;
      entry.changed = false;
    });
  }

  List<Runnable> afterCommit() {
    return afterCommit;
  }

  private void flush() throws SQLException {
    endTold();
    boolean fresh = false;
    boolean changed = false;
    for (Entry entry : touched.values()) {
      if (entry.fresh) {
        Rows.insert(statement(Rows.INSERT), entry);
        fresh = true;
      } else if (entry.changed) {
        Rows.update(statement(Rows.UPDATE), entry);
        changed = true;
      }
    }
    if (fresh) {
      statement(Rows.INSERT).executeBatch();
    }
    if (changed) {
      statement(Rows.UPDATE).executeBatch();
    }
    if (!changes.isEmpty()) {
      PreparedStatement insert = statement(Rows.EVENT);
      for (Change change : changes) {
        insert.setLong(1, change.entry().seq);
        insert.setLong(2, change.event().revision());
        insert.setString(3, change.event().status().name());
        insert.setString(4, change.event().reason());
        insert.setString(5, change.event().detail());
        insert.setLong(6, change.event().atMs());
        insert.addBatch();
      }
      insert.executeBatch();
    }
    if (!outbox.isEmpty()) {
      PreparedStatement insert = statement(Rows.OUTBOX);
      for (OutboxRow row : outbox) {
        insert.setString(1, row.kind());
        insert.setString(2, row.deviceId());
        insert.setString(3, row.messageKey());
        insert.setLong(4, nowMs);
        insert.setLong(5, nowMs);
        insert.setString(6, row.traceContext());
        insert.setString(7, row.body());
        insert.addBatch();
      }
      insert.executeBatch();
    }
  }

  /** Rolls back what is not committed, and gives the turn to write to the next. Never fails: what is committed stays committed. */
  @Override
  public void close() {
    try {
      for (PreparedStatement statement : statements.values()) {
        statement.close();
      }
      if (!committed) {
        connection.rollback();
      }
    } catch (SQLException | RuntimeException e) {
      LOG.debug("SQLite may have rolled back by itself; a connection in doubt is not used again", e);
    } finally {
      try {
        connection.close();
      } catch (SQLException | RuntimeException e) {
        LOG.debug("giving back the writer", e);
      }
    }
  }
}
