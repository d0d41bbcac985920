// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.commands.Twins;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.function.Function;
import java.util.function.Predicate;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Bean {@code twins}: desired and reported state in the store, and which devices are to be told of it. Merging and comparing is
 * code because the difference of two JSON objects is no SQL.
 */
public final class TwinBook implements Twins {
  private static final Logger LOG = LoggerFactory.getLogger(TwinBook.class);
  static final int MAX_CHARS = 16_384;
  private static final int MAX_BY = 128;
  private static final int TOLD_AT_ONCE = 100;
  private static final String COLUMNS = "device_id, desired, desired_version, desired_at_ms, reported, reported_version, reported_at_ms";

  private final DataSource reader;
  private final Turns turns;
  private final Predicate<String> known;
  private final Function<String, String> path;
  private final Runnable signal;
  private final Set<String> due = new LinkedHashSet<>();

  /**
   * What a device reported.
   *
   * @param patch JSON merge patch
   * @param atMs  when it observed that, wall-clock milliseconds, not later than the gateway's clock then
   */
  record Report(String deviceId, ObjectNode patch, long atMs, String traceContext) {}

  /**
   * @param known  whether the device may have a desired state
   * @param path   how the device is reached now, a name for the route
   * @param signal wakes the route that tells devices; never blocks
   */
  TwinBook(DataSource reader, Turns turns, Predicate<String> known, Function<String, String> path, Runnable signal) {
    this.reader = reader;
    this.turns = turns;
    this.known = known;
    this.path = path;
    this.signal = signal;
  }

  // ---- what is asked

  @Override
  public Optional<Twin> find(String deviceId) {
    return select(" WHERE device_id = ?", deviceId).stream().findFirst();
  }

  @Override
  public List<Twin> list() {
    return select(" ORDER BY device_id");
  }

  private List<Twin> select(String where, String... arguments) {
    try (Connection connection = reader.getConnection();
        PreparedStatement query = connection.prepareStatement("SELECT " + COLUMNS + " FROM twin" + where)) {
      for (int i = 0; i < arguments.length; i++) {
        query.setString(i + 1, arguments[i]);
      }
      List<Twin> twins = new ArrayList<>();
      try (ResultSet rows = query.executeQuery()) {
        while (rows.next()) {
          twins.add(State.of(rows).twin());
        }
      }
      return twins;
    } catch (SQLException e) {
      throw new IllegalStateException("desired and reported state cannot be read now: " + e.getMessage(), e);
    }
  }

  // ---- what is wanted

  @Override
  public CompletionStage<Twin> desire(String deviceId, String patch, Long expected, String by) {
    ObjectNode wanted;
    try {
      if (!known.test(deviceId)) {
        throw new IllegalArgumentException("device [" + Json.shown(deviceId) + "] must be an active one in the registry (device:list)");
      }
      wanted = Json.object(patch, "patch", MAX_CHARS);
    } catch (IllegalArgumentException e) {
      return CompletableFuture.failedFuture(e);
    }
    String who = by.length() > MAX_BY ? by.substring(0, MAX_BY) : by;
    // What does not fit is an answer and not a failure: a failure would undo what others have in the same transaction.
    CompletionStage<Object> done = turns.write(turn -> {
      State state = read(turn, deviceId);
      if (expected != null && expected != state.desiredVersion) {
        return new IllegalStateException("the desired state of [" + deviceId + "] has version [" + state.desiredVersion + "], it must have ["
            + expected + "]: read it again");
      }
      ObjectNode before = state.desired.deepCopy();
      Json.merge(state.desired, wanted);
      if (Json.same(before, state.desired)) {
        return state.twin();
      }
      if (state.desired.toString().length() > MAX_CHARS) {
        return new IllegalArgumentException("the desired state of [" + deviceId + "] would have [" + state.desired.toString().length()
            + "] characters, it must have at most " + MAX_CHARS);
      }
      state.desiredVersion++;
      state.desiredAtMs = turn.nowMs();
      PreparedStatement upsert = turn.statement("INSERT INTO twin (device_id, desired, desired_version, desired_at_ms, desired_by)"
          + " VALUES (?, ?, ?, ?, ?) ON CONFLICT (device_id) DO UPDATE SET desired = excluded.desired,"
          + " desired_version = excluded.desired_version, desired_at_ms = excluded.desired_at_ms, desired_by = excluded.desired_by");
      upsert.setString(1, deviceId);
      upsert.setString(2, state.desired.toString());
      upsert.setLong(3, state.desiredVersion);
      upsert.setLong(4, state.desiredAtMs);
      upsert.setString(5, who);
      upsert.executeUpdate();
      state.outbox(turn, null);
      turn.afterCommit(() -> requested(deviceId));
      return state.twin();
    });
    return done.thenCompose(result -> result instanceof Twin ? CompletableFuture.completedFuture((Twin) result)
        : CompletableFuture.failedFuture((RuntimeException) result));
  }

  // ---- what is reported

  /**
   * Applies one device's reports in their order.
   *
   * @return how many could not be: the state would have become too large
   */
  int report(Turn turn, String deviceId, List<Report> reports) throws SQLException {
    State state = read(turn, deviceId);
    long version = state.reportedVersion;
    int refused = 0;
    for (Report report : reports) {
      ObjectNode next = Json.merge(state.reported.deepCopy(), report.patch());
      if (next.toString().length() > MAX_CHARS) {
        refused++;
        continue;
      }
      // Also when nothing changed: it is known to be so at that time.
      state.reportedAtMs = report.atMs();
      if (!Json.same(state.reported, next)) {
        state.reported = next;
        state.reportedVersion++;
      }
    }
    if (state.reportedAtMs == null) {
      return refused;
    }
    PreparedStatement upsert = turn.statement("INSERT INTO twin (device_id, reported, reported_version, reported_at_ms) VALUES (?, ?, ?, ?)"
        + " ON CONFLICT (device_id) DO UPDATE SET reported = excluded.reported, reported_version = excluded.reported_version,"
        + " reported_at_ms = excluded.reported_at_ms");
    upsert.setString(1, deviceId);
    upsert.setString(2, state.reported.toString());
    upsert.setLong(3, state.reportedVersion);
    upsert.setLong(4, state.reportedAtMs);
    upsert.executeUpdate();
    if (state.reportedVersion > version) {
      state.outbox(turn, reports.get(reports.size() - 1).traceContext());
    }
    return refused;
  }

  // ---- what devices are told

  /** The device is there, or what is desired of it has changed: it is told soon. Thread-safe, does not block. */
  public void requested(String deviceId) {
    synchronized (due) {
      due.add(deviceId);
    }
    signal.run();
  }

  /** Every device whose state is not as desired, for it may be there already. */
  void requestAll() {
    try (Connection connection = reader.getConnection();
        PreparedStatement query = connection.prepareStatement("SELECT " + COLUMNS + " FROM twin WHERE desired_version > 0");
        ResultSet rows = query.executeQuery()) {
      boolean any = false;
      while (rows.next()) { // one at a time in memory
        State state = State.of(rows);
        if (!Json.delta(state.desired, state.reported).isEmpty()) {
          synchronized (due) {
            any |= due.add(state.deviceId);
          }
        }
      }
      if (any) {
        signal.run();
      }
    } catch (SQLException e) {
      throw new IllegalStateException("desired state cannot be read now: " + e.getMessage(), e);
    }
  }

  /** @return how many devices are to be told */
  public int waiting() {
    synchronized (due) {
      return due.size();
    }
  }

  /**
   * For the route.
   *
   * @return some of those that are to be told, {@code deviceId}, {@code path} and {@code payload}; they are not due any more
   * @throws IllegalStateException the store cannot be read; they stay due
   */
  public List<Map<String, String>> due() {
    List<String> ids;
    synchronized (due) {
      ids = due.stream().limit(TOLD_AT_ONCE).toList();
      ids.forEach(due::remove);
    }
    List<Map<String, String>> told = new ArrayList<>(ids.size());
    try {
      for (String id : ids) {
        find(id).filter(twin -> twin.desiredVersion() > 0).ifPresent(twin -> told.add(Map.of("deviceId", id, "path", path.apply(id), "payload",
            "{\"desired\":" + twin.desired() + ",\"version\":" + twin.desiredVersion() + ",\"delta\":" + twin.delta() + '}')));
      }
      return told;
    } catch (IllegalStateException e) {
      synchronized (due) {
        due.addAll(ids);
      }
      throw e;
    }
  }

  // ---- a row

  private static State read(Turn turn, String deviceId) throws SQLException {
    PreparedStatement query = turn.statement("SELECT " + COLUMNS + " FROM twin WHERE device_id = ?");
    query.setString(1, deviceId);
    try (ResultSet row = query.executeQuery()) {
      return row.next() ? State.of(row) : new State(deviceId);
    }
  }

  private static final class State {
    final String deviceId;
    ObjectNode desired = Json.MAPPER.createObjectNode();
    long desiredVersion;
    Long desiredAtMs;
    ObjectNode reported = Json.MAPPER.createObjectNode();
    long reportedVersion;
    Long reportedAtMs;

    State(String deviceId) {
      this.deviceId = deviceId;
    }

    static State of(ResultSet row) throws SQLException {
      State state = new State(row.getString(1));
      state.desired = object(row.getString(2), state.deviceId);
      state.desiredVersion = row.getLong(3);
      state.desiredAtMs = row.getObject(4) == null ? null : row.getLong(4);
      state.reported = object(row.getString(5), state.deviceId);
      state.reportedVersion = row.getLong(6);
      state.reportedAtMs = row.getObject(7) == null ? null : row.getLong(7);
      return state;
    }

    /** What a damaged file has made of it must not stop everything else: the device reports again. */
    private static ObjectNode object(String text, String deviceId) {
      try {
        if (Json.MAPPER.readTree(text) instanceof ObjectNode object) {
          return object;
        }
      } catch (JsonProcessingException | NumberFormatException e) {
        LOG.debug("twin of {}", deviceId, e);
      }
      LOG.warn("the state of [{}] in the store is no JSON object [{}], taken as empty", deviceId, Json.shown(text));
      return Json.MAPPER.createObjectNode();
    }

    Twin twin() {
      return new Twin(deviceId, desired.toString(), desiredVersion, desiredAtMs, reported.toString(), reportedVersion, reportedAtMs,
          Json.delta(desired, reported).toString());
    }

    void outbox(Turn turn, String traceContext) {
      ObjectNode body = Json.MAPPER.createObjectNode();
      body.set("desired", desired);
      body.put("desired_version", desiredVersion);
      body.set("reported", reported);
      body.put("reported_version", reportedVersion);
      body.set("delta", Json.delta(desired, reported));
      turn.outbox("twin", deviceId, deviceId + "//t/" + desiredVersion + '-' + reportedVersion, traceContext, body.toString());
    }
  }
}
