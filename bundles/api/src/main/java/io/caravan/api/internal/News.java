// SPDX-License-Identifier: Apache-2.0
package io.caravan.api.internal;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.camel.CamelContext;

/**
 * What is new in the tables. Where several connections write, a row may become visible after one that is newer: a mark stays before
 * whatever a transaction that still runs may bring, and what is behind it is told at once and known by its key. Of one thread, but
 * {@link #start}.
 */
final class News {
  private static final int VALUES = 5_000;
  private static final int EVENTS = 1_000;
  /** Of their bodies; one may be larger. */
  private static final int BYTES = 4_194_304;
  private static final long OVER_MS = 2_000;

  /** All that was stored until {@code changedMs}, and events up to that id, has been told. */
  record Mark(long changedMs, long eventId) {
    /** @return null: it is none */
    static Mark of(String text) {
      if (text == null || !text.matches("[0-9]{1,15}-[0-9]{1,18}")) {
        return null;
      }
      int dash = text.indexOf('-');
      return new Mark(Long.parseLong(text.substring(0, dash)), Long.parseLong(text.substring(dash + 1)));
    }

    @Override
    public String toString() {
      return changedMs + "-" + eventId;
    }
  }

  record Value(String gatewayId, String deviceId, String metric, long changedMs, String json) {}

  /** @param found with how many others it was found, of which not all are read */
  record Event(long id, String gatewayId, String deviceId, String json, long found) {}

  record Gateway(String id, String site, String state, String json) {
    boolean same(Gateway other) {
      return other != null && site.equals(other.site) && state.equals(other.state);
    }
  }

  /** @param told events behind the mark that are old */
  record Start(Mark mark, List<Long> told) {}

  /** @param moreEvents, @param more there is more behind it already */
  record Batch(List<Value> values, List<Event> events, Mark mark, boolean moreEvents, boolean more) {}

  private interface Row<T> {
    T of(ResultSet row) throws SQLException;
  }

  private final String now;
  private final String newest;
  private final String recent;
  private final String values;
  private final String events;
  private final String gateways;
  /** Of the common reader: when a metric that is read again was told, and ids that were seen at what time. */
  private final Map<String, Long> told = new HashMap<>();
  private final ArrayDeque<long[]> seen = new ArrayDeque<>();

  News(CamelContext context) {
    now = context.resolvePropertyPlaceholders("SELECT {{sql.settled.ms}}, {{sql.now.ms}}");
    newest = "SELECT (SELECT coalesce(max(m.id), 0) FROM message m WHERE m.kind = 'event'), (SELECT coalesce(max(d.changed_at_ms), 0) FROM device d)";
    recent = "SELECT m.id FROM message m WHERE m.kind = 'event' AND m.id > ? ORDER BY m.id";
    values = context.resolvePropertyPlaceholders("SELECT l.gateway_id, l.device_id, l.metric, l.changed_at_ms,"
        + " CAST({{sql.json.object}}('gateway_id', l.gateway_id, 'device_id', l.device_id, 'metric', l.metric, 'value', l.value,"
        + " 'observed_at_ms', l.observed_at_ms) AS TEXT) FROM device d JOIN last_value l ON l.gateway_id = d.gateway_id AND l.device_id = d.device_id"
        + " WHERE d.changed_at_ms >= ? AND l.changed_at_ms >= ? ORDER BY l.changed_at_ms, l.gateway_id, l.device_id, l.metric LIMIT " + VALUES);
    events = context.resolvePropertyPlaceholders("SELECT m.id, m.gateway_id, m.device_id,"
        + " CAST({{sql.json.object}}('id', m.id, 'gateway_id', m.gateway_id, 'device_id', m.device_id, 'kind', m.kind, 'event', m.body->>'event',"
        + " 'severity', coalesce(m.body->>'severity', 'info'), 'data', m.body->'data', 'observed_at_ms', m.observed_at_ms,"
        + " 'received_at_ms', m.received_at_ms) AS TEXT), m.found FROM (SELECT t.*, count(*) OVER () AS found, row_number() OVER (ORDER BY t.id) AS n,"
        + " sum(length(CAST(t.body AS TEXT))) OVER (ORDER BY t.id) AS bytes FROM (SELECT e.* FROM message e WHERE e.kind = 'event' AND e.id > ?"
        + " ORDER BY e.id LIMIT " + EVENTS + ") t) m WHERE m.n = 1 OR m.bytes <= " + BYTES + " ORDER BY m.id");
    gateways = context.resolvePropertyPlaceholders("SELECT g.gateway_id, g.site_id, g.connected || ' ' || coalesce(g.version, '') || ' ' || g.log_id,"
        + " CAST({{sql.json.object}}('gateway_id', g.gateway_id, 'site_id', g.site_id, 'log_id', g.log_id, 'version', g.version,"
        + " 'connected', {{sql.json}}(CASE WHEN g.connected = 1 THEN 'true' ELSE 'false' END),"
        + " 'devices', (SELECT count(*) FROM device d WHERE d.gateway_id = g.gateway_id),"
        + " 'first_seen_ms', g.first_seen_ms, 'last_seen_ms', g.last_seen_ms) AS TEXT)"
        + " FROM (SELECT w.gateway_id, coalesce(gs.site_id, 'default') AS site_id, w.log_id, w.version, w.first_seen_ms, w.last_seen_ms,"
        + " CASE WHEN EXISTS (SELECT 1 FROM replica r WHERE r.replica_id = w.replica_id AND r.until_ms > {{sql.now.ms}}) THEN 1 ELSE 0 END AS connected"
        + " FROM gateway w LEFT JOIN gateway_site gs ON gs.gateway_id = w.gateway_id) g ORDER BY g.gateway_id");
  }

  /** Where somebody begins who wants what comes from now on; thread-safe. */
  Start start(Connection connection) throws SQLException {
    long settled = times(connection)[0];
    long[] max = all(connection, newest, row -> new long[] {row.getLong(1), row.getLong(2)}).get(0);
    if (settled == Long.MAX_VALUE) {
      return new Start(new Mark(max[1], max[0]), List.of());
    }
    long from = Math.max(0, max[0] - EVENTS);
    return new Start(new Mark(Math.min(settled, max[1]), from), all(connection, recent, row -> row.getLong(1), from));
  }

  /** For the common reader, which goes on from mark to mark: each change once. */
  Batch next(Connection connection, Mark from) throws SQLException {
    long[] times = times(connection);
    // What became visible at the mark's own millisecond has done so by now.
    boolean over = times[0] > from.changedMs() && times[1] - from.changedMs() > OVER_MS;
    Batch read = read(connection, over ? new Mark(from.changedMs() + 1, from.eventId()) : from);
    List<Value> news = new ArrayList<>();
    for (Value value : read.values()) {
      Long known = told.put(value.gatewayId() + '/' + value.deviceId() + '/' + value.metric(), value.changedMs());
      if (known == null || known != value.changedMs()) {
        news.add(value);
      }
    }
    long changed = Math.max(from.changedMs(), Math.min(read.mark().changedMs(), times[0]));
    told.values().removeIf(ms -> ms < changed);
    // An id was drawn before it was seen: when all transactions that ran then are over, every id up to it is visible or never will be.
    long event = from.eventId();
    while (!seen.isEmpty() && (seen.peek()[0] < times[0])) {
      event = Math.max(event, seen.poll()[1]);
    }
    if (read.mark().eventId() > from.eventId()) {
      if (times[0] == Long.MAX_VALUE) {
        event = read.mark().eventId();
      } else if (seen.isEmpty() || seen.peekLast()[1] < read.mark().eventId()) {
        seen.add(new long[] {times(connection)[1], read.mark().eventId()});
      }
    }
    return new Batch(news, read.events(), new Mark(changed, event), read.moreEvents(), read.more() && !(news.isEmpty() && event == from.eventId()));
  }

  /** For one that was left behind: what there is behind its mark, the same may come again. */
  Batch since(Connection connection, Mark from) throws SQLException {
    long[] times = times(connection);
    Batch read = read(connection, from);
    long changed = Math.max(from.changedMs(), Math.min(read.mark().changedMs(), times[0]));
    // As long as there are more, those that are read are old; the last ones stay behind the mark until the common reader passes them.
    boolean old = read.moreEvents() || times[0] == Long.MAX_VALUE;
    return new Batch(read.values(), read.events(), new Mark(changed, old ? read.mark().eventId() : from.eventId()), read.moreEvents(), read.more());
  }

  void forget() {
    told.clear();
    seen.clear();
  }

  Map<String, Gateway> gateways(Connection connection) throws SQLException {
    Map<String, Gateway> all = new LinkedHashMap<>();
    all(connection, gateways, row -> new Gateway(row.getString(1), row.getString(2), row.getString(3), row.getString(4)))
        .forEach(g -> all.put(g.id(), g));
    return all;
  }

  private Batch read(Connection connection, Mark from) throws SQLException {
    List<Value> last = all(connection, values, row -> new Value(row.getString(1), row.getString(2), row.getString(3), row.getLong(4), row.getString(5)),
        from.changedMs(), from.changedMs());
    List<Event> reported = all(connection, events, row -> new Event(row.getLong(1), row.getString(2), row.getString(3), row.getString(4),
        row.getLong(5)), from.eventId());
    long changed = last.isEmpty() ? from.changedMs() : last.get(last.size() - 1).changedMs();
    if (last.size() == VALUES && changed == from.changedMs()) {
      // More in one millisecond than are read at a time: go on, a value that is left out comes with its next change.
      changed++;
    }
    long event = reported.isEmpty() ? from.eventId() : reported.get(reported.size() - 1).id();
    boolean moreEvents = reported.size() == EVENTS || !reported.isEmpty() && reported.get(0).found() > reported.size();
    return new Batch(last, reported, new Mark(changed, event), moreEvents, last.size() == VALUES || moreEvents);
  }

  /** @return the time before which nothing can become visible any more, {@link Long#MAX_VALUE}: all that can is; and now */
  private long[] times(Connection connection) throws SQLException {
    return all(connection, now, row -> new long[] {row.getLong(1), row.getLong(2)}).get(0);
  }

  private static <T> List<T> all(Connection connection, String sql, Row<T> each, long... values) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      for (int i = 0; i < values.length; i++) {
        statement.setLong(i + 1, values[i]);
      }
      try (ResultSet rows = statement.executeQuery()) {
        List<T> all = new ArrayList<>();
        while (rows.next()) {
          all.add(each.of(rows));
        }
        return all;
      }
    }
  }
}
