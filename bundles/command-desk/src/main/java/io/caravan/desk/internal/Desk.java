// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk.internal;

import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.util.RawValue;
import io.caravan.desk.CommandDesk;
import io.caravan.desk.DeskException;
import io.caravan.desk.internal.Rules.Checked;
import io.caravan.runtime.Config;
import io.caravan.wal.Density;
import io.caravan.wal.StoreUnavailableException;
import io.micrometer.core.instrument.MeterRegistry;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Clock;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One thread takes whatever waits when the last commit ended, and does it in one transaction: many people's commands share an
 * fsync, which statements in routes cannot. The same transaction writes down that a command is about to be handed over, and the
 * same thread hands over, so that commands of a gateway leave in the order in which they were accepted.
 */
public final class Desk implements CommandDesk, AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Desk.class);
  private static final int GROUP = 500;
  private static final int QUEUE = 10_000;
  private static final int CHUNK = 256;
  /** Requests a second from which on a turn waits for more. */
  private static final int DENSE = 300;
  private static final long GATHER_NS = 3_000_000;
  /** Chunks of one connection that are not yet on its socket. */
  private static final int UNDER_WAY = 4;
  private static final long SILENCE_LOOK_MS = 5_000;
  private static final int RETRY_S = 2;
  private static final long STOP_MS = 10_000;
  private static final String CANCELS = "SELECT gateway_id, command_id, cancel_requested_by FROM command WHERE final_at_ms IS NULL"
      + " AND cancel_requested_at_ms IS NOT NULL ORDER BY gateway_id, seq LIMIT 10000";
  /** Neither handed over nor spoken of by the gateway: what began there, or what it was handed before this store was restored, it has. */
  private static final String NEW = "transmissions = 0 AND gateway_revision = 0";
  private static final String UNSENT = "SELECT DISTINCT gateway_id FROM command WHERE final_at_ms IS NULL AND " + NEW + " ORDER BY gateway_id";

  private sealed interface Work {
    CompletableFuture<?> stage();
  }

  private record Submit(Checked command, CompletableFuture<Accepted> stage) implements Work {}

  private record Ask(String gatewayId, String id, String by, CompletableFuture<Cancel> stage) implements Work {}

  private record Pass(CompletableFuture<Void> stage) implements Work {}

  /** A connection of a gateway, as far as this thread has gone with it. */
  private static final class Lane {
    final String session;
    final AtomicInteger underWay = new AtomicInteger();
    /** Whether everything up to now that the gateway has not spoken of was handed to this connection. */
    boolean swept;
    long sweptTo;
    long sweepBefore = Long.MAX_VALUE;
    long againAt;
    /** Of what the gateway had not spoken of when it was last looked; 0: nothing. */
    long oldestSilent;
    volatile boolean more;
    /** Commands that this connection was asked to take back. */
    Set<String> asked = new HashSet<>();

    Lane(String session) {
      this.session = session;
    }

    /** @return whether it is time to look again at what the gateway has not spoken of, or the clock was set back since the last time */
    boolean again(long now, long resendMs) {
      return now >= againAt || now < againAt - resendMs;
    }
  }

  /** What leaves once the transaction is committed. */
  private record Parcel(String gatewayId, Lane lane, List<Frame> commands, Map<String, List<String>> cancels) {}

  /**
   * A command but for what is left of its time, which goes on while it waits for the commit and for its socket.
   *
   * @param ttlMs what it was given in all: never more is left of it, also by a clock that is behind the one it was accepted by
   */
  private record Frame(String head, long expiresAtMs, long ttlMs) {
    String text(long nowMs) {
      return head + Math.max(0, Math.min(expiresAtMs - nowMs, ttlMs)) + "}";
    }
  }

  private final DataSource writer;
  private final DataSource reader;
  private final Supplier<Links> links;
  private final Config config;
  private final Clock clock;
  private final Rules rules;
  private final Streams streams;
  private final Meters meters;
  private final Words words;
  private final Thread thread = new Thread(this::run, "caravan-command-desk");

  private final Object lock = new Object();
  private final ArrayDeque<Work> queue = new ArrayDeque<>();
  private boolean stopping;

  // Of the thread.
  private final Map<String, Lane> lanes = new HashMap<>();
  private final Set<String> gateways = new HashSet<>();
  private long silenceLookedAt = Long.MIN_VALUE;

  /** What the two stores say differently: made of the placeholders that routes have, once. */
  private record Words(String lock, String notice, String silent) {
    Words(UnaryOperator<String> dialect) {
      this(dialect.apply("{{sql.command.lock}}"), dialect.apply("SELECT {{sql.notify}}('caravan', CAST(? AS TEXT))"),
          dialect.apply("final_at_ms IS NULL AND (transmissions > 0 OR gateway_revision > 0)"
              + " AND {{sql.greatest}}(expires_at_ms, updated_at_ms) <= ?"));
    }
  }

  /**
   * @param links   null from it: no gateway can be connected now
   * @param dialect puts the store's words in the place of {@code {{sql.*}}}
   */
  public Desk(DataSource writer, DataSource reader, Supplier<Links> links, Config config, Clock clock, MeterRegistry registry,
      UnaryOperator<String> dialect) {
    words = new Words(dialect);
    this.writer = writer;
    this.reader = reader;
    this.links = links;
    this.config = config;
    this.clock = clock;
    rules = new Rules(config);
    streams = new Streams(reader, config);
    meters = new Meters(registry, streams);
    thread.setDaemon(true);
  }

  public void start() {
    streams.start();
    thread.start();
  }

  Streams streams() {
    return streams;
  }

  long now() {
    return clock.millis();
  }

  @Override
  public CompletionStage<Accepted> submit(Request request) {
    try {
      return enqueue(new Submit(rules.check(request, now()), new CompletableFuture<>()));
    } catch (DeskException e) {
      meters.accepted(e.error());
      return CompletableFuture.failedFuture(e);
    }
  }

  @Override
  public CompletionStage<Cancel> cancel(String gatewayId, String id, String by) {
    String who = by == null || by.isBlank() ? "unknown" : by.length() > Rules.BY ? by.substring(0, Rules.BY) : by;
    return enqueue(new Ask(gatewayId, id, who, new CompletableFuture<>()));
  }

  @Override
  public CompletionStage<Accepted> desire(String gatewayId, String deviceId, String patch, Long expected, String id, String origin, String by) {
    ObjectNode arguments = Rules.JSON.createObjectNode().put("device_id", deviceId);
    arguments.putRawValue("patch", new RawValue(patch));
    if (expected != null) {
      arguments.put("expected_version", expected);
    }
    return submit(new Request(gatewayId, GATEWAY, id, "twin.desire", Views.text(arguments), null, null, null, null, origin, by, null));
  }

  @Override
  public CompletionStage<Void> pass() {
    return enqueue(new Pass(new CompletableFuture<>()));
  }

  /** For routes: as {@link #pass}, but nobody waits, and one that waits already is enough. */
  public void signal() {
    synchronized (lock) {
      if (stopping || queue.peekLast() instanceof Pass) {
        return;
      }
    }
    pass();
  }

  /** For routes: events of gateways were committed. */
  public void applied() {
    streams.wake();
  }

  private <T> CompletableFuture<T> enqueue(Work work) {
    String refusal = null;
    synchronized (lock) {
      if (stopping) {
        refusal = "the desk of commands is closed";
      } else if (queue.size() >= QUEUE && !(work instanceof Pass)) {
        refusal = QUEUE + " requests wait for the store";
      } else {
        queue.add(work);
        lock.notifyAll();
      }
    }
    if (refusal != null) {
      work.stage().completeExceptionally(new StoreUnavailableException(refusal, RETRY_S, null));
    }
    @SuppressWarnings("unchecked")
    CompletableFuture<T> stage = (CompletableFuture<T>) work.stage();
    return stage;
  }

  private void run() {
    List<Work> group = new ArrayList<>();
    Density density = new Density(DENSE);
    while (take(group)) {
      density.add(group.size());
      try {
        turn(group);
      } catch (SQLException | RuntimeException | Error e) {
        LOG.error("commands: {} requests were not kept: {}", group.size(), e.toString());
        group.forEach(w -> w.stage().completeExceptionally(
            new StoreUnavailableException("the store cannot take commands now: " + e.getMessage(), RETRY_S, e)));
      }
      group.clear();
      if (density.dense()) {
        // A turn costs the same for one request as for ten.
        LockSupport.parkNanos(GATHER_NS);
      }
    }
  }

  private boolean take(List<Work> group) {
    synchronized (lock) {
      while (queue.isEmpty() && !stopping) {
        try {
          lock.wait();
        } catch (InterruptedException e) {
          stopping = true;
        }
      }
      while (!queue.isEmpty() && group.size() < GROUP) {
        group.add(queue.poll());
      }
      return !group.isEmpty();
    }
  }

  private void turn(List<Work> group) throws SQLException {
    boolean pass = false;
    boolean only = true;
    for (Work work : group) {
      pass |= work instanceof Pass;
      only &= work instanceof Pass;
    }
    Map<String, String> sessions = sessions();
    lanes.keySet().retainAll(sessions.keySet());
    sessions.forEach((gateway, session) -> lanes.compute(gateway,
        (g, lane) -> lane == null || !lane.session.equals(session) ? new Lane(session) : lane));
    if (only && !due(now())) {
      group.forEach(w -> w.stage().complete(null));
      return;
    }
    List<Runnable> answers = new ArrayList<>();
    Map<String, Parcel> parcels = new LinkedHashMap<>();
    try (Connection connection = writer.getConnection()) {
      connection.setAutoCommit(false);
      try (Turn turn = new Turn(connection, parcels)) {
        turn.begin();
        for (Work work : group) {
          if (work instanceof Submit submit) {
            answers.add(turn.submit(submit));
          } else if (work instanceof Ask ask) {
            answers.add(turn.ask(ask));
          }
        }
        if (pass) {
          turn.end();
          turn.dispatch();
        }
        turn.tellOthers();
        connection.commit();
      } catch (SQLException | RuntimeException e) {
        rollback(connection);
        // What was noted of connections was not done.
        lanes.clear();
        throw e;
      }
    }
    answers.forEach(Runnable::run);
    streams.wake();
    CompletableFuture<?> sent = CompletableFuture.allOf(parcels.values().stream().map(this::send).toArray(CompletableFuture[]::new));
    for (Work work : group) {
      if (work instanceof Pass p) {
        sent.whenComplete((done, failed) -> p.stage.complete(null));
      }
    }
  }

  private static void rollback(Connection connection) {
    try {
      connection.rollback();
    } catch (SQLException e) {
      LOG.debug("rolling back", e);
    }
  }

  private Map<String, String> sessions() {
    Links now = links.get();
    return now == null ? Map.of() : now.sessions();
  }

  private CompletableFuture<Void> send(Parcel parcel) {
    Links now = links.get();
    if (now == null) {
      return CompletableFuture.completedFuture(null);
    }
    Lane lane = parcel.lane;
    lane.underWay.incrementAndGet();
    List<CompletableFuture<Void>> all = new ArrayList<>();
    try {
      if (!parcel.commands.isEmpty()) {
        List<Supplier<String>> texts = new ArrayList<>(parcel.commands.size());
        parcel.commands.forEach(frame -> texts.add(() -> frame.text(now())));
        all.add(now.command(parcel.gatewayId, lane.session, texts).toCompletableFuture());
      }
      parcel.cancels.forEach((by, ids) -> all.add(now.cancel(parcel.gatewayId, lane.session, ids, by).toCompletableFuture()));
    } catch (RuntimeException e) {
      all.add(CompletableFuture.failedFuture(e));
    }
    return CompletableFuture.allOf(all.toArray(CompletableFuture[]::new)).handle((done, failed) -> {
      lane.underWay.decrementAndGet();
      if (failed != null) {
        // It is sent again to the next connection, or to this one after command.resend.ms.
        LOG.debug("gateway [{}] may not have got {} commands: {}", parcel.gatewayId, parcel.commands.size(), failed.toString());
      } else if (lane.more) {
        signal();
      }
      return null;
    });
  }

  /** Whether a pass would find something to do; on the reader, so that an idle cloud does not write. */
  private boolean due(long now) throws SQLException {
    try (Connection connection = reader.getConnection()) {
      if (exists(connection, "SELECT 1 FROM command WHERE final_at_ms IS NULL AND " + NEW + " AND expires_at_ms <= ? LIMIT 1", now)) {
        return true;
      }
      if (now - silenceLookedAt >= SILENCE_LOOK_MS || now < silenceLookedAt || silenceLookedAt == Long.MIN_VALUE) {
        if (exists(connection, "SELECT 1 FROM command WHERE " + words.silent + " LIMIT 1", now - silence())) {
          return true;
        }
        silenceLookedAt = now;
      }
      for (Map.Entry<String, Lane> entry : lanes.entrySet()) {
        Lane lane = entry.getValue();
        if (lane.underWay.get() < UNDER_WAY && (!lane.swept || lane.again(now, resend()))) {
          return true;
        }
      }
      try (PreparedStatement unsent = connection.prepareStatement(UNSENT); ResultSet rows = unsent.executeQuery()) {
        while (rows.next()) {
          Lane lane = lanes.get(rows.getString(1));
          if (lane != null && lane.underWay.get() < UNDER_WAY) {
            return true;
          }
        }
      }
      try (PreparedStatement wanted = connection.prepareStatement(CANCELS); ResultSet rows = wanted.executeQuery()) {
        while (rows.next()) {
          Lane lane = lanes.get(rows.getString(1));
          if (lane != null && lane.swept && lane.underWay.get() < UNDER_WAY && !lane.asked.contains(rows.getString(2))) {
            return true;
          }
        }
      }
      return false;
    }
  }

  private static boolean exists(Connection connection, String sql, Object... values) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      for (int i = 0; i < values.length; i++) {
        statement.setObject(i + 1, values[i]);
      }
      try (ResultSet row = statement.executeQuery()) {
        return row.next();
      }
    }
  }

  private long silence() {
    return config.getLong("command.silence.ms");
  }

  private long resend() {
    return config.getLong("command.resend.ms");
  }

  /** One transaction. */
  private final class Turn implements AutoCloseable {
    private final Connection connection;
    private final Map<String, Parcel> parcels;
    private final Map<String, PreparedStatement> statements = new HashMap<>();
    /** Gateways to which a new command may go at once, as no older one waits. */
    private final Map<String, Boolean> direct = new HashMap<>();
    /** When the turn had the store to itself: what expired while it waited for that is over. */
    private long now;
    private boolean told;
    private boolean elsewhere;
    private final Map<String, Long> open = new HashMap<>();

    Turn(Connection connection, Map<String, Parcel> parcels) {
      this.connection = connection;
      this.parcels = parcels;
    }

    private PreparedStatement sql(String sql, Object... values) throws SQLException {
      PreparedStatement statement = statements.get(sql);
      if (statement == null) {
        statement = connection.prepareStatement(sql);
        statements.put(sql, statement);
      }
      for (int i = 0; i < values.length; i++) {
        statement.setObject(i + 1, values[i]);
      }
      return statement;
    }

    /** Replicas take turns: commands leave, and events are told, in the order of their numbers, so that must be the order of commits. */
    void begin() throws SQLException {
      exists(words.lock);
      now = now();
    }

    /** Goes out with the commit. */
    void tellOthers() throws SQLException {
      if (elsewhere) {
        exists(words.notice, "command");
      }
      if (told) {
        exists(words.notice, "command-told");
      }
    }

    /** @return what tells the caller, once it is committed */
    Runnable submit(Submit work) throws SQLException {
      Checked c = work.command;
      Command before = load(c.gatewayId(), c.id());
      if (before != null) {
        boolean same = exists("SELECT 1 FROM command WHERE seq = ? AND content_hash = ?", before.seq(), c.hash());
        return same ? () -> {
          meters.accepted("known");
          work.stage.complete(new Accepted(before, true));
        } : fail(work, new DeskException("conflict", "/id", "command [" + c.id() + "] of gateway [" + c.gatewayId()
            + "] is another one already; give a new command a new id"));
      }
      if (!gateways.contains(c.gatewayId())) {
        if (!exists("SELECT 1 FROM gateway WHERE gateway_id = ?", c.gatewayId())) {
          return fail(work, new DeskException("not_found", "/gateway_id", "gateway [" + c.gatewayId()
              + "] has never been connected to this cloud; GET /api/v1/gateways lists those that have"));
        }
        gateways.add(c.gatewayId());
      }
      long most = config.getLong("command.open.max");
      long waiting = openOf(c.gatewayId());
      if (waiting >= most) {
        return fail(work, new DeskException("too_many", "/gateway_id", "gateway [" + c.gatewayId() + "] has " + waiting
            + " commands that are not final, as many as command.open.max lets it; try again later or cancel some"));
      }
      open.put(c.gatewayId(), waiting + 1);
      Lane lane = lanes.get(c.gatewayId());
      boolean goes = c.expiresAtMs() > now && lane != null && lane.swept && lane.underWay.get() < UNDER_WAY && direct(c.gatewayId(), lane);
      elsewhere |= !goes;
      sql("INSERT INTO command (gateway_id, command_id, device_id, name, arguments, units, precondition, content_hash, origin, issued_by,"
          + " trace_context, status, created_at_ms, expires_at_ms, transmissions, transmitted_at_ms, updated_at_ms)"
          + " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'ACCEPTED', ?, ?, ?, ?, ?)",
          c.gatewayId(), c.id(), c.deviceId(), c.name(), c.arguments(), c.units(), c.precondition(), c.hash(), c.origin(), c.issuedBy(),
          c.traceContext(), c.createdAtMs(), c.expiresAtMs(), goes ? 1 : 0, goes ? now : null, now).executeUpdate();
      event(c.gatewayId(), c.id(), c.deviceId(), "ACCEPTED", null, null);
      if (goes) {
        parcel(c.gatewayId(), lane).commands.add(frame(c.id(), c.deviceId(), c.name(), c.arguments(), c.units(), c.precondition(),
            c.expiresAtMs(), c.expiresAtMs() - c.createdAtMs(), c.issuedBy(), c.traceContext()));
      }
      Command kept = load(c.gatewayId(), c.id());
      return () -> {
        meters.accepted("accepted");
        work.stage.complete(new Accepted(kept, false));
      };
    }

    private Runnable fail(Submit work, DeskException e) {
      return () -> {
        meters.accepted(e.error());
        work.stage.completeExceptionally(e);
      };
    }

    private long openOf(String gatewayId) throws SQLException {
      Long known = open.get(gatewayId);
      if (known != null) {
        return known;
      }
      try (ResultSet row = sql("SELECT count(*) FROM command WHERE gateway_id = ? AND final_at_ms IS NULL", gatewayId).executeQuery()) {
        row.next();
        return row.getLong(1);
      }
    }

    private boolean direct(String gatewayId, Lane lane) throws SQLException {
      Boolean known = direct.get(gatewayId);
      if (known == null) {
        known = exists("SELECT 1 FROM gateway WHERE gateway_id = ? AND session_id = ?", gatewayId, lane.session)
            && !exists("SELECT 1 FROM command WHERE gateway_id = ? AND final_at_ms IS NULL AND " + NEW + " LIMIT 1", gatewayId);
        direct.put(gatewayId, known);
      }
      return known;
    }

    Runnable ask(Ask work) throws SQLException {
      Command c = load(work.gatewayId, work.id);
      Outcome outcome;
      if (c == null) {
        outcome = Outcome.NOT_FOUND;
      } else if (c.status().equals("CANCELLED")) {
        outcome = Outcome.CANCELLED;
      } else if (c.finalAtMs() != null || c.status().equals("SENT") || c.status().equals("DELIVERED")) {
        outcome = Outcome.TOO_LATE;
      } else if (c.transmissions() == 0 && c.gatewayRevision() == 0) {
        finish(c.seq(), c.gatewayId(), c.id(), c.deviceId(), "CANCELLED", "cancelled", "by " + work.by);
        outcome = Outcome.CANCELLED;
      } else {
        sql("UPDATE command SET cancel_requested_at_ms = ?, cancel_requested_by = ? WHERE seq = ? AND cancel_requested_at_ms IS NULL",
            now, work.by, c.seq()).executeUpdate();
        Lane lane = lanes.get(c.gatewayId());
        elsewhere |= lane == null;
        if (lane != null && lane.underWay.get() < UNDER_WAY) {
          parcel(c.gatewayId(), lane).cancels.computeIfAbsent(work.by, b -> new ArrayList<>()).add(c.id());
          lane.asked.add(c.id());
        }
        outcome = Outcome.ASKED;
      }
      Optional<Command> after = c == null ? Optional.empty() : Optional.of(load(work.gatewayId, work.id));
      return () -> work.stage.complete(new Cancel(outcome, after));
    }

    /** Ends those whose time is over: EXPIRED where the gateway cannot have it, else it is not known what became of it. */
    void end() throws SQLException {
      finish("SELECT seq, gateway_id, command_id, device_id FROM command WHERE final_at_ms IS NULL AND " + NEW
          + " AND expires_at_ms <= ? ORDER BY seq", now, "EXPIRED", "expired",
          "the gateway did not connect before its time was over");
      finish("SELECT seq, gateway_id, command_id, device_id FROM command WHERE " + words.silent + " ORDER BY seq", now - silence(),
          "INDETERMINATE", "gateway_silent", "the gateway may have it and has not said what became of it");
    }

    private void finish(String select, long bound, String status, String reason, String detail) throws SQLException {
      List<Object[]> rows = new ArrayList<>();
      try (ResultSet row = sql(select, bound).executeQuery()) {
        while (row.next()) {
          rows.add(new Object[] {row.getLong(1), row.getString(2), row.getString(3), row.getString(4)});
        }
      }
      for (Object[] row : rows) {
        finish((Long) row[0], (String) row[1], (String) row[2], (String) row[3], status, reason, detail);
        meters.ended(status);
      }
    }

    private void finish(long seq, String gatewayId, String id, String deviceId, String status, String reason, String detail) throws SQLException {
      sql("UPDATE command SET status = ?, reason = ?, detail = ?, updated_at_ms = ?, final_at_ms = ? WHERE seq = ?",
          status, reason, detail, now, now, seq).executeUpdate();
      event(gatewayId, id, deviceId, status, reason, detail);
    }

    private void event(String gatewayId, String id, String deviceId, String status, String reason, String detail) throws SQLException {
      sql("INSERT INTO command_event (gateway_id, command_id, device_id, status, reason, detail, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
          gatewayId, id, deviceId, status, reason, detail, now).executeUpdate();
      told = true;
    }

    void dispatch() throws SQLException {
      Set<String> unsent = new HashSet<>();
      try (ResultSet row = sql(UNSENT).executeQuery()) {
        while (row.next()) {
          unsent.add(row.getString(1));
        }
      }
      for (Map.Entry<String, Lane> entry : lanes.entrySet()) {
        Lane lane = entry.getValue();
        lane.more = false;
        if (lane.underWay.get() >= UNDER_WAY) {
          lane.more = true;
          continue;
        }
        String gatewayId = entry.getKey();
        boolean again = lane.swept && lane.again(now, resend());
        if (again && getsOn(gatewayId, lane)) {
          lane.againAt = now + resend();
        } else if (again) {
          lane.swept = false;
          lane.sweptTo = 0;
          lane.sweepBefore = now - resend();
        }
        int count;
        if (lane.swept) {
          count = unsent.contains(gatewayId) ? hand(gatewayId, lane, NEW, 0, Long.MIN_VALUE) : 0;
        } else {
          count = hand(gatewayId, lane, "gateway_revision = 0", lane.sweptTo, lane.sweepBefore);
          if (count < CHUNK) {
            lane.swept = true;
            getsOn(gatewayId, lane);
            lane.againAt = now + resend();
            lane.asked.clear();
          }
        }
        lane.more = count == CHUNK;
      }
      cancels();
    }

    /**
     * Commands take one way, in their order: as long as the gateway gets on, what it has not spoken of is under way, and to hand that
     * over again would only keep a busy gateway busier.
     *
     * @return whether it has spoken since the last time of what was the oldest then, or there is nothing that it has not spoken of
     */
    private boolean getsOn(String gatewayId, Lane lane) throws SQLException {
      long before = lane.oldestSilent;
      try (ResultSet row = sql("SELECT coalesce(min(seq), 0) FROM command WHERE gateway_id = ? AND final_at_ms IS NULL AND transmissions > 0"
          + " AND gateway_revision = 0", gatewayId).executeQuery()) {
        row.next();
        lane.oldestSilent = row.getLong(1);
      }
      return lane.oldestSilent != before || before == 0;
    }

    /**
     * @param sentBefore what was handed over later than that, by a clock that is not ahead of now, is not taken
     * @return how many were taken
     */
    private int hand(String gatewayId, Lane lane, String which, long after, long sentBefore) throws SQLException {
      int count = 0;
      List<Object[]> taken = new ArrayList<>();
      try (ResultSet row = sql("SELECT seq, command_id, device_id, name, arguments, units, precondition, expires_at_ms, issued_by,"
          + " trace_context, cancel_requested_at_ms, created_at_ms FROM command WHERE gateway_id = ? AND final_at_ms IS NULL AND " + which
          + " AND seq > ? AND (transmissions = 0 OR transmitted_at_ms <= ? OR transmitted_at_ms > ?)"
          // The gateway has a newer connection, here or at another replica: they are that one's.
          + " AND EXISTS (SELECT 1 FROM gateway g WHERE g.gateway_id = command.gateway_id AND g.session_id = ?)"
          + " ORDER BY seq LIMIT " + CHUNK, gatewayId, after, sentBefore, now, lane.session).executeQuery()) {
        List<Frame> commands = new ArrayList<>();
        while (row.next()) {
          count++;
          lane.sweptTo = row.getLong(1);
          row.getLong(11);
          // What is over, or not wanted any more, is sent to be told what the gateway knows; what it does not know it must not do.
          long expiresAtMs = row.wasNull() ? row.getLong(8) : 0;
          commands.add(frame(row.getString(2), row.getString(3), row.getString(4), row.getString(5), row.getString(6), row.getString(7),
              expiresAtMs, row.getLong(8) - row.getLong(12), row.getString(9), row.getString(10)));
          taken.add(new Object[] {row.getLong(1)});
        }
        if (count > 0) {
          parcel(gatewayId, lane).commands.addAll(commands);
          meters.transmitted(count);
        }
      }
      for (Object[] seq : taken) {
        sql("UPDATE command SET transmissions = transmissions + 1, transmitted_at_ms = ? WHERE seq = ?", now, seq[0]).executeUpdate();
      }
      return count;
    }

    /** What was asked at another replica, or of another connection. */
    private void cancels() throws SQLException {
      Map<String, Set<String>> open = new HashMap<>();
      try (ResultSet row = sql(CANCELS).executeQuery()) {
        while (row.next()) {
          Lane lane = lanes.get(row.getString(1));
          if (lane != null && lane.swept && lane.underWay.get() < UNDER_WAY) {
            open.computeIfAbsent(row.getString(1), g -> new HashSet<>()).add(row.getString(2));
            if (!lane.asked.contains(row.getString(2))) {
              parcel(row.getString(1), lane).cancels.computeIfAbsent(row.getString(3), b -> new ArrayList<>()).add(row.getString(2));
            }
          }
        }
      }
      open.forEach((gatewayId, ids) -> lanes.get(gatewayId).asked = ids);
    }

    private Parcel parcel(String gatewayId, Lane lane) {
      return parcels.computeIfAbsent(gatewayId, g -> new Parcel(g, lane, new ArrayList<>(), new LinkedHashMap<>()));
    }

    private boolean exists(String sql, Object... values) throws SQLException {
      try (ResultSet row = sql(sql, values).executeQuery()) {
        return row.next();
      }
    }

    private Command load(String gatewayId, String id) throws SQLException {
      try (ResultSet row = sql(Views.COMMAND + "WHERE gateway_id = ? AND command_id = ?", gatewayId, id).executeQuery()) {
        return row.next() ? Views.command(row, List.of()) : null;
      }
    }

    @Override
    public void close() throws SQLException {
      for (PreparedStatement statement : statements.values()) {
        statement.close();
      }
    }
  }

  private static Frame frame(String id, String deviceId, String name, String arguments, String units, String precondition, long expiresAtMs,
      long ttlMs, String issuedBy, String traceContext) {
    ObjectNode node = Rules.JSON.createObjectNode().put("id", id).put("device_id", deviceId).put("name", name);
    node.putRawValue("arguments", new RawValue(arguments));
    if (units != null) {
      node.putRawValue("units", new RawValue(units));
    }
    if (precondition != null) {
      node.putRawValue("precondition", new RawValue(precondition));
    }
    node.put("issued_by", issuedBy);
    if (traceContext != null) {
      node.put("trace_context", traceContext);
    }
    String text = Views.text(node);
    return new Frame(text.substring(0, text.length() - 1) + ",\"ttl_ms\":", expiresAtMs, ttlMs);
  }

  @Override
  public Optional<Command> find(String gatewayId, String id) {
    return read(connection -> {
      List<Event> events = select(connection, Views.EVENT + "WHERE gateway_id = ? AND command_id = ? ORDER BY id LIMIT 1000", Views::event,
          gatewayId, id);
      return select(connection, Views.COMMAND + "WHERE gateway_id = ? AND command_id = ?", row -> Views.command(row, events), gatewayId, id)
          .stream().findFirst();
    });
  }

  @Override
  public Page list(Filter filter, long after, int limit) {
    StringBuilder where = new StringBuilder("WHERE seq < ?");
    List<Object> values = new ArrayList<>(List.of(after <= 0 ? Long.MAX_VALUE : after));
    and(where, values, "gateway_id", filter.gatewayId());
    and(where, values, "device_id", filter.deviceId());
    and(where, values, "status", filter.status());
    if (filter.open()) {
      where.append(" AND final_at_ms IS NULL");
    }
    values.addAll(List.of(limit + 1, limit, config.getLong("api.rows.bytes")));
    String sql = "SELECT p.* FROM (SELECT c.*, row_number() OVER (ORDER BY c.seq DESC) AS n, count(*) OVER () AS found, sum(length(c.arguments)"
        + " + coalesce(length(c.units), 0) + coalesce(length(c.precondition), 0) + coalesce(length(c.detail), 0) + coalesce(length(c.result), 0))"
        + " OVER (ORDER BY c.seq DESC) AS bytes FROM (" + Views.COMMAND + where + " ORDER BY seq DESC LIMIT ?) c) p"
        + " WHERE p.n = 1 OR p.n <= ? AND p.bytes <= ? ORDER BY p.seq DESC";
    long[] found = {0};
    List<Command> commands = read(connection -> select(connection, sql, row -> {
      found[0] = row.getLong("found");
      return Views.command(row, List.of());
    }, values.toArray()));
    return new Page(commands, found[0] > commands.size());
  }

  private static void and(StringBuilder where, List<Object> values, String column, String value) {
    if (value != null) {
      where.append(" AND ").append(column).append(" = ?");
      values.add(value);
    }
  }

  @Override
  public Optional<Twin> twin(String gatewayId, String deviceId) {
    return read(connection -> select(connection, Views.TWIN + "WHERE gateway_id = ? AND device_id = ?", Views::twin, gatewayId, deviceId)
        .stream().findFirst());
  }

  @Override
  public List<Twin> twins(String gatewayId) {
    return read(connection -> select(connection, Views.TWIN + "WHERE gateway_id = ? ORDER BY device_id LIMIT 10000", Views::twin, gatewayId));
  }

  @Override
  public AutoCloseable watch(Filter filter, long after, Consumer<Event> each) {
    return streams.watch(filter, after, each);
  }

  /** What is asked of the store. */
  interface Question<T> {
    T of(Connection connection) throws SQLException;
  }

  /** What a row is. */
  interface Row<T> {
    T of(ResultSet row) throws SQLException;
  }

  static <T> List<T> select(Connection connection, String sql, Row<T> each, Object... values) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      for (int i = 0; i < values.length; i++) {
        statement.setObject(i + 1, values[i]);
      }
      try (ResultSet row = statement.executeQuery()) {
        List<T> all = new ArrayList<>();
        while (row.next()) {
          all.add(each.of(row));
        }
        return all;
      }
    }
  }

  private <T> T read(Question<T> question) {
    try (Connection connection = reader.getConnection()) {
      return question.of(connection);
    } catch (SQLException e) {
      throw new StoreUnavailableException("the store cannot be read now: " + e.getMessage(), RETRY_S, e);
    }
  }

  /** Finishes what is under way; what waits fails as not kept. */
  @Override
  public void close() {
    List<Work> left;
    synchronized (lock) {
      stopping = true;
      left = new ArrayList<>(queue);
      queue.clear();
      lock.notifyAll();
    }
    left.forEach(w -> w.stage().completeExceptionally(new StoreUnavailableException("the desk of commands is closed", RETRY_S, null)));
    streams.close();
    try {
      thread.join(STOP_MS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    meters.close();
  }
}
