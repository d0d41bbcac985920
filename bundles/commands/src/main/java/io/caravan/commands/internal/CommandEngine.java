// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.commands.Capabilities;
import io.caravan.commands.Capabilities.Budget;
import io.caravan.commands.Capabilities.Capability;
import io.caravan.commands.Capabilities.Problem;
import io.caravan.commands.Commands;
import io.caravan.commands.Status;
import io.caravan.commands.internal.Publisher.Evidence;
import io.caravan.commands.internal.Publisher.Outcome;
import io.caravan.commands.internal.Publisher.Publication;
import io.caravan.commands.internal.Reach.Way;
import io.caravan.devices.Devices;
import io.caravan.wal.Density;
import io.caravan.wal.StoreUnavailableException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Iterator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BiConsumer;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import java.util.function.Supplier;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.sqlite.SQLiteException;

/**
 * The life of commands; bean {@code commands}. One thread changes commands: what arrived meanwhile, what is due and what can be
 * published share one transaction, and devices, callers and the cloud are told after its COMMIT. Java, because no route can
 * keep a deadline by the monotonic clock, count publications against a budget and write all of that for many commands at once.
 *
 * <p>In memory are the commands that are not final. Memory is thrown away and read again whenever a transaction was rolled back, so
 * it never says more than the store. Thread-safe.
 */
public final class CommandEngine implements Commands, Turns, AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(CommandEngine.class);
  /** Commands that change in one transaction: about 10 ms of the one writer. */
  private static final int TURN_MAX = 400;
  /** Pieces of work a second, three or four for a command, from which on a turn waits for more. */
  private static final int DENSE = 600;
  private static final long GATHER_NS = 3_000_000;
  private static final int WAITING_MAX = 10_000;
  private static final long POLL_MS = 1_000;
  private static final long BLOCKED_MS = 1_000;
  private static final long TIDY_MS = 60_000;
  private static final int TIDY_ROWS = 300;
  /** Looked at for that. */
  private static final int TIDY_SCAN_ROWS = 2_000;
  private static final long BACKOFF_MIN_MS = 100;
  private static final long BACKOFF_MAX_MS = 5_000;
  /** An outcome may be on its way when its time is over. */
  private static final long OUTCOME_GRACE_MS = 2_000;
  /** For routes of control commands that come later than this bundle. */
  private static final long CONTROL_GRACE_MS = 60_000;
  private static final int TEXT_MAX = 500;
  private static final int RESULT_MAX = 32_768;
  private static final int KEPT_ARGUMENTS = 1_024;
  private static final String CHANGES = "Changes of status of commands";
  private static final String ANSWERS = "Answers to commands";

  /** What the engine needs of others. Replaced in tests. */
  public record Parts(Time time, Supplier<DataSource> writer, Supplier<DataSource> reader, Supplier<Devices> devices, Reach reach, Publisher publisher, Meters meters,
      BooleanSupplier refusing, Runnable outbox, BiConsumer<String, String> controllers) {}

  private interface Task<T> {
    T run(Transaction turn) throws SQLException;
  }

  /** A piece of work that waits for its transaction. */
  private abstract static class Item {
    /** Roughly how many commands it changes. */
    int weight() {
      return 1;
    }

    abstract void run(Transaction turn) throws SQLException;

    void done() {}

    void failed(Throwable why) {}

    /** Must not be lost: it is tried again until it succeeds. */
    boolean stays() {
      return false;
    }
  }

  private final Time time;
  private final Supplier<DataSource> writer;
  private final Supplier<DataSource> reader;
  private final Supplier<Devices> devices;
  private final Reach reach;
  private final Publisher publisher;
  private final Meters meters;
  private final Parts parts;
  private volatile Settings settings;
  private volatile Capabilities capabilities;
  private final Thread thread = new Thread(this::run, "caravan-commands");
  private final ExecutorService telling = Executors.newSingleThreadExecutor(work -> daemon(work, "caravan-commands-told"));
  private final List<Consumer<Command>> listeners = new CopyOnWriteArrayList<>();

  private final Object lock = new Object();
  /** Guarded by lock. */
  private final Deque<Item> arrived = new ArrayDeque<>();
  private final Set<String> appeared = new LinkedHashSet<>();
  private final List<CompletableFuture<Void>> passes = new ArrayList<>();
  private int waiting;
  private boolean stopping;
  private boolean woken;

  // ---- the engine's thread only
  private final Map<String, Entry> open = new HashMap<>();
  private final Map<String, Line> lines = new HashMap<>();
  private final TreeSet<Entry> agenda = new TreeSet<>(Comparator.<Entry>comparingLong(e -> e.due).thenComparingLong(e -> e.seq));
  private final Set<String> ready = new LinkedHashSet<>();
  /** Publications without an outcome, by command id; committed, so it survives a roll-back. */
  private final Map<String, Publication> outstanding = new HashMap<>();
  /** Those of them whose outcome is not in the open transaction either. */
  private final Set<String> flying = new HashSet<>();
  /** Published by an earlier process, so that nobody waits for their outcome. */
  private final Set<String> recovered = new HashSet<>();
  private final Budgets budgets;
  private long nextSeq;
  private boolean dirty = true;
  /** Of which store memory is: a damaged one is replaced while the gateway runs. */
  private String store = "";
  /** Memory has what is to be written although nothing happened. */
  private boolean rebased;
  private boolean first = true;
  private long startedMono;
  private long nextPoll;
  private long nextTidy;
  /** Up to here, in the order of their end, nothing of what are too many may be deleted yet; 0: not known. */
  private long thinnedMs;
  private long thinnedSeq;
  private long finals;
  private long backoff;
  private volatile String failure = "";
  private volatile int openCount;
  private volatile int waitingCount;

  public CommandEngine(Parts parts, Settings settings) {
    this.parts = parts;
    time = parts.time();
    writer = parts.writer();
    reader = parts.reader();
    devices = parts.devices();
    reach = parts.reach();
    publisher = parts.publisher();
    meters = parts.meters();
    this.settings = settings;
    budgets = new Budgets(time.bootId());
    thread.setDaemon(true);
  }

  static Thread daemon(Runnable work, String name) {
    Thread made = new Thread(work, name);
    made.setDaemon(true);
    return made;
  }

  /** @throws SQLException the store cannot be read now; nothing runs then */
  public void start(Capabilities capabilities) throws SQLException {
    this.capabilities = capabilities;
    startedMono = time.monoMs();
    nextPoll = startedMono;
    nextTidy = startedMono;
    reload();
    meters.gauge("caravan.command.open", "Commands that are not final", () -> openCount);
    meters.gauge("caravan.command.waiting", "Commands that wait for their device", () -> waitingCount);
    thread.start();
  }

  public void settings(Settings settings) {
    this.settings = settings;
  }

  /** Empty: all is well; else why nothing can be written. */
  public String failure() {
    return failure;
  }

  public int openCount() {
    return openCount;
  }

  public int waitingCount() {
    return waitingCount;
  }

  public boolean isAlive() {
    return thread.isAlive();
  }

  // ------------------------------------------------------------------------------------------------ asked by others

  @Override
  public CompletionStage<List<Command>> submit(List<Request> requests) {
    return submit(requests, null, null);
  }

  /**
   * @param problems what is wrong with each request as it came; null, or null for one: nothing known
   * @param received when each came to this machine, by {@link Time#monoMs}; null, or null for one: now
   */
  CompletionStage<List<Command>> submit(List<Request> requests, List<String> problems, List<Long> received) {
    if (requests.isEmpty()) {
      return CompletableFuture.completedFuture(List.of());
    }
    if (parts.refusing().getAsBoolean()) {
      return CompletableFuture.failedFuture(unavailable("the store refuses messages: see /readyz", null));
    }
    List<Draft> drafts = new ArrayList<>(requests.size());
    Settings now = settings;
    Devices registry = devices.get();
    if (registry == null) {
      return CompletableFuture.failedFuture(unavailable("the registry of devices is not open", null));
    }
    for (int i = 0; i < requests.size(); i++) {
      drafts.add(new Draft(requests.get(i), problems == null ? null : problems.get(i), received == null ? null : received.get(i), now, capabilities,
          registry, time));
    }
    CompletableFuture<List<Command>> result = new CompletableFuture<>();
    // Pieces, so that a long list does not hold the writer long; a list of usual length is one transaction.
    List<CompletionStage<List<Command>>> pieces = new ArrayList<>();
    for (int from = 0; from < drafts.size(); from += TURN_MAX) {
      List<Draft> piece = drafts.subList(from, Math.min(drafts.size(), from + TURN_MAX));
      pieces.add(enqueue(piece.size(), /* limited= */ true, turn -> {
        List<Command> kept = new ArrayList<>(Arrays.asList(new Command[piece.size()]));
        for (int i = 0; i < piece.size(); i++) {
          accept(turn, piece.get(i), i, kept);
        }
        return kept;
      }));
    }
    List<Command> all = new ArrayList<>(drafts.size());
    CompletionStage<Void> chain = CompletableFuture.completedFuture(null);
    for (CompletionStage<List<Command>> piece : pieces) {
      chain = chain.thenCombine(piece, (none, list) -> {
        all.addAll(list);
        return null;
      });
    }
    chain.whenComplete((none, error) -> {
      if (error == null) {
        result.complete(all);
      } else {
        result.completeExceptionally(error instanceof CompletionException && error.getCause() != null ? error.getCause() : error);
      }
    });
    return result;
  }

  @Override
  public CompletionStage<Optional<Command>> cancel(String id, String by) {
    if (id == null || !Draft.ID.matcher(id).matches()) {
      return CompletableFuture.completedFuture(Optional.empty());
    }
    List<Command> found = new ArrayList<>(1);
    return enqueue(/* weight= */ 1, /* limited= */ true, turn -> {
      found.clear();
      Entry entry = known(turn, id);
      if (entry != null) {
        whole(turn, entry);
        if (entry.waiting()) {
          change(turn, entry, Status.CANCELLED, "cancelled", by == null ? null : cut("by " + by, TEXT_MAX));
        }
        turn.afterCommit(() -> found.add(entry.describe(List.of())));
      }
      return found;
    }).thenApply(list -> list.stream().findFirst());
  }

  @Override
  public Optional<Command> find(String id) {
    return read(connection -> Optional.ofNullable(Rows.find(connection, id)));
  }

  @Override
  public List<Command> list(Filter filter, int limit) {
    return read(connection -> Rows.list(connection, filter, limit));
  }

  private interface Query<T> {
    T run(Connection connection) throws SQLException;
  }

  private <T> T read(Query<T> query) {
    try (Connection connection = reader.get().getConnection()) {
      return query.run(connection);
    } catch (SQLException e) {
      throw unavailable("commands cannot be read: " + e.getMessage(), e);
    }
  }

  @Override
  public AutoCloseable onChange(Consumer<Command> listener) {
    listeners.add(listener);
    return () -> listeners.remove(listener);
  }

  @Override
  public <T> CompletionStage<T> write(Work<T> work) {
    return enqueue(/* weight= */ 10, /* limited= */ false, work::run); // what devices say is never turned away for what people ask
  }

  /** A device can be reached again. Does not block. */
  public void appeared(String deviceId) {
    synchronized (lock) {
      appeared.add(deviceId);
      lock.notifyAll();
    }
  }

  /** The clock was changed: look again what is due. */
  public void wake() {
    synchronized (lock) {
      woken = true;
      lock.notifyAll();
    }
  }

  /**
   * Returns when everything that is due, and everything that can be published, is committed and handed over.
   *
   * @throws StoreUnavailableException the store cannot take it now
   */
  public void pass() {
    CompletableFuture<Void> pass = new CompletableFuture<>();
    synchronized (lock) {
      if (stopping) {
        throw unavailable("commands have stopped", null);
      }
      passes.add(pass);
      lock.notifyAll();
    }
    try {
      pass.get();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw unavailable("interrupted", e);
    } catch (ExecutionException e) {
      throw unavailable(String.valueOf(e.getCause().getMessage()), e.getCause());
    }
    publisher.settle();
  }

  private <T> CompletionStage<T> enqueue(int weight, boolean limited, Task<T> work) {
    CompletableFuture<T> result = new CompletableFuture<>();
    Item item = new Item() {
      private T value;

      @Override
      int weight() {
        return weight;
      }

      @Override
      void run(Transaction turn) throws SQLException {
        value = work.run(turn);
      }

      @Override
      void done() {
        tell(() -> result.complete(value));
      }

      @Override
      void failed(Throwable why) {
        Throwable shown = why instanceof SQLException ? unavailable("the store cannot take it now: " + why.getMessage(), why) : why;
        tell(() -> result.completeExceptionally(shown));
      }
    };
    synchronized (lock) {
      if (stopping) {
        return CompletableFuture.failedFuture(unavailable("commands have stopped", null));
      }
      if (limited && waiting + weight > WAITING_MAX && waiting > 0) {
        return CompletableFuture.failedFuture(unavailable("[" + waiting + "] commands wait for their transaction already", null));
      }
      arrived.add(item);
      waiting += weight;
      lock.notifyAll();
    }
    return result;
  }

  private static StoreUnavailableException unavailable(String message, Throwable cause) {
    return new StoreUnavailableException(message, 1, cause);
  }

  private void tell(Runnable work) {
    try {
      telling.execute(work);
    } catch (RejectedExecutionException e) {
      work.run(); // the engine has ended; nobody may wait for ever
    }
  }

  // ------------------------------------------------------------------------------------------------ the thread

  private void run() {
    List<Item> kept = new ArrayList<>();
    Density density = new Density(DENSE);
    while (true) {
      if (density.dense()) {
        // A transaction costs the same for one piece of work as for ten.
        LockSupport.parkNanos(GATHER_NS);
      }
      List<Item> items = new ArrayList<>(kept);
      List<CompletableFuture<Void>> asked;
      kept.clear();
      if (!take(items)) {
        items.forEach(item -> item.failed(unavailable("commands have stopped", null)));
        return;
      }
      density.add(items.size());
      synchronized (lock) {
        asked = new ArrayList<>(passes);
      }
      Throwable why = null;
      try {
        turn(items, kept);
        backoff = 0;
        failure = "";
      } catch (SQLException | RuntimeException | Error e) {
        why = e;
        dirty = true;
        if (failure.isEmpty()) {
          LOG.warn("commands cannot be written, trying again until they can: {}", e.toString(), e instanceof SQLException ? null : e);
        }
        failure = "commands cannot be written: " + e.getMessage();
        for (Item item : items) {
          if (item.stays()) {
            kept.add(item);
          } else {
            item.failed(e);
          }
        }
        backoff = Math.min(BACKOFF_MAX_MS, Math.max(BACKOFF_MIN_MS, 2 * backoff));
      }
      settle(asked, why);
    }
  }

  private void settle(List<CompletableFuture<Void>> asked, Throwable why) {
    if (asked.isEmpty()) {
      return;
    }
    boolean more;
    synchronized (lock) {
      more = !arrived.isEmpty() || !appeared.isEmpty();
    }
    long mono = time.monoMs();
    if (why == null && (more || !agenda.isEmpty() && agenda.first().due <= mono || publishable(mono))) {
      return;
    }
    synchronized (lock) {
      passes.removeAll(asked);
    }
    asked.forEach(pass -> {
      if (why == null) {
        pass.complete(null);
      } else {
        pass.completeExceptionally(why);
      }
    });
  }

  private boolean publishable(long mono) {
    for (String device : ready) {
      Line line = lines.get(device);
      if (line != null && room(line, mono) && reach(device) != Way.NONE) {
        return true;
      }
    }
    return false;
  }

  /** Waits for something to do. @return false: it is over */
  private boolean take(List<Item> items) {
    boolean again = !items.isEmpty() || backoff > 0;
    long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(backoff);
    synchronized (lock) {
      while (true) {
        if (stopping) {
          items.addAll(arrived);
          arrived.clear();
          return false;
        }
        long left;
        if (again && backoff > 0) {
          left = TimeUnit.NANOSECONDS.toMillis(until - System.nanoTime()) + 1;
          if (!passes.isEmpty() || left <= 1) {
            break;
          }
        } else {
          if (!arrived.isEmpty() || !appeared.isEmpty() || !passes.isEmpty() || again || !ready.isEmpty() || dirty) {
            break;
          }
          long mono = time.monoMs();
          long next = Math.min(agenda.isEmpty() ? Long.MAX_VALUE : agenda.first().due, lines.isEmpty() ? nextTidy : Math.min(nextPoll, nextTidy));
          left = next - mono;
          if (left <= 0) {
            break;
          }
        }
        try {
          woken = false;
          lock.wait(Math.min(left, TIDY_MS));
          if (woken) {
            break;
          }
        } catch (InterruptedException e) {
          LOG.debug("interrupted, goes on: it ends by close()");
        }
      }
      int weight = 0;
      for (Item next; (next = arrived.peek()) != null && (weight == 0 || weight + next.weight() <= TURN_MAX); arrived.remove()) {
        items.add(next);
        weight += next.weight();
      }
      waiting -= weight;
      ready.addAll(appeared);
      appeared.forEach(device -> {
        Line line = lines.get(device);
        if (line != null) {
          line.blockedUntil = Long.MIN_VALUE;
        }
      });
      appeared.clear();
      if (!passes.isEmpty()) {
        nextPoll = Long.MIN_VALUE;
      }
    }
    return true;
  }

  private void turn(List<Item> items, List<Item> kept) throws SQLException {
    try {
      transaction(items);
    } catch (SQLException | RuntimeException e) {
      if (e instanceof SQLException && !isPoison((SQLException) e) || items.isEmpty()) {
        throw e;
      }
      // One of them is at fault, not the store: each alone.
      dirty = true;
      for (Item item : items) {
        try {
          transaction(List.of(item));
        } catch (SQLException | RuntimeException alone) {
          dirty = true;
          if (alone instanceof SQLException && !isPoison((SQLException) alone) && item.stays()) {
            kept.add(item);
          } else {
            LOG.warn("a piece of work failed alone, nothing of it is kept: {}", alone.toString(), alone instanceof SQLException ? null : alone);
            item.failed(alone);
          }
        }
      }
    }
  }

  private static boolean isPoison(SQLException e) {
    for (Throwable cause = e; cause != null; cause = cause.getCause()) {
      if (cause instanceof SQLiteException) {
        int primary = ((SQLiteException) cause).getResultCode().code & 0xff;
        return primary == 1 || primary == 18 || primary == 19 || primary == 20; // ERROR (SQL), TOOBIG, CONSTRAINT, MISMATCH
      }
    }
    return false;
  }

  private void transaction(List<Item> items) throws SQLException {
    if (dirty) {
      reload();
    }
    long mono = time.monoMs();
    if (mono >= nextPoll) {
      nextPoll = mono + POLL_MS;
      int count = 0;
      for (Line line : lines.values()) {
        if (!line.waiting.isEmpty()) {
          ready.add(line.deviceId);
          count += line.waiting.size();
        }
      }
      waitingCount = count;
    }
    boolean tidy = mono >= nextTidy;
    if (items.isEmpty() && !tidy && !first && !rebased && (agenda.isEmpty() || agenda.first().due > mono) && !publishable(mono)) {
      ready.clear();
      return;
    }
    long began;
    Transaction turn = new Transaction(this, writer.get(), time);
    boolean other;
    try (turn) {
      began = System.nanoTime();
      other = !store(turn.connection()).equals(store);
      if (!other) {
        work(turn, items, tidy);
      }
    }
    if (other) {
      dirty = true;
      transaction(items);
      return;
    }
    first = false;
    rebased = false;
    openCount = open.size();
    meters.turn(System.nanoTime() - began, turn.size());
    turn.afterCommit().forEach(Runnable::run);
    items.forEach(Item::done);
    if (turn.hasOutbox()) {
      parts.outbox().run();
    }
  }

  private void work(Transaction turn, List<Item> items, boolean tidy) throws SQLException {
    if (rebased) {
      open.values().forEach(entry -> {
        if (entry.changed) {
          turn.touch(entry);
        }
      });
    }
    for (Item item : items) {
      item.run(turn);
    }
    due(turn);
    publish(turn);
    if (tidy) {
      tidy(turn);
    }
    turn.commit();
  }

  // ------------------------------------------------------------------------------------------------ memory

  /** What the store says. */
  private void reload() throws SQLException {
    List<Entry> rows;
    try (Connection connection = reader.get().getConnection(); Statement statement = connection.createStatement()) {
      store = store(connection);
      rows = Rows.open(connection);
      try (ResultSet row = statement.executeQuery("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'command'), 0),"
          + " (SELECT count(*) FROM command WHERE final_at_ms IS NOT NULL)")) {
        nextSeq = row.getLong(1) + 1;
        finals = row.getLong(2);
      }
    }
    thinnedMs = 0;
    thinnedSeq = 0;
    open.clear();
    lines.clear();
    agenda.clear();
    budgets.clear();
    flying.clear();
    outstanding.values().forEach(publication -> {
      flying.add(publication.commandId());
      line(publication.deviceId()).inFlight++;
    });
    long mono = time.monoMs();
    long wall = time.wallMs();
    for (Entry entry : rows) {
      if (first && settings.unsafe().contains("republish")) {
        entry.attempts = 0;
        entry.status = Status.QUEUED;
      }
      if (!time.bootId().equals(entry.bootId)) {
        rebase(entry, mono, wall);
      }
      remember(entry);
      ready.add(entry.deviceId);
      if (first && entry.attempts > 0) {
        recovered.add(entry.id);
      }
    }
    openCount = open.size();
    dirty = false;
  }

  /** The monotonic clock began anew: only the wall clock is left to judge by. Written with the next transaction. */
  private void rebase(Entry entry, long mono, long wall) {
    boolean believable = wall >= entry.acceptedAtMs;
    entry.deadlineMono = believable ? mono + entry.expiresAtMs - wall : mono - 1;
    if (!believable && entry.waiting()) {
      entry.reason = "clock"; // taken up by expire
    }
    if (entry.attempts > 0) {
      entry.attemptedMono = 0L;
      entry.answerUntilMono = mono + entry.timeoutMs;
    }
    entry.bootId = time.bootId();
    entry.changed = true;
    rebased = true;
  }

  /** Which store it is: another one after a repair, which has an incident more. */
  private static String store(Connection connection) throws SQLException {
    try (Statement statement = connection.createStatement(); ResultSet row = statement.executeQuery(
        "SELECT log_id || '/' || coalesce((SELECT max(id) || '/' || max(at_ms) FROM incident), '') FROM meta")) {
      return row.next() ? row.getString(1) : "";
    }
  }

  private void remember(Entry entry) {
    open.put(entry.id, entry);
    Line line = line(entry.deviceId);
    line.open++;
    if (entry.waiting()) {
      line.waiting.put(entry.seq, entry);
    }
    schedule(entry);
  }

  private Line line(String deviceId) {
    return lines.computeIfAbsent(deviceId, Line::new);
  }

  private void forget(Entry entry) {
    agenda.remove(entry);
    recovered.remove(entry.id);
    if (open.remove(entry.id) != null) {
      Line line = line(entry.deviceId);
      line.open--;
      line.waiting.remove(entry.seq);
      if (line.open == 0 && line.inFlight == 0) {
        lines.remove(entry.deviceId);
      }
    }
  }

  private void schedule(Entry entry) {
    agenda.remove(entry);
    entry.due = dueAt(entry);
    agenda.add(entry);
  }

  private long dueAt(Entry entry) {
    if (entry.waiting()) {
      return settings.unsafe().contains("ignore-expiry") ? Entry.NEVER : entry.deadlineMono;
    }
    if (entry.attempts == 0) {
      return entry.deadlineMono;
    }
    boolean gateway = GATEWAY.equals(entry.deviceId);
    if (entry.idempotent && entry.unproven() && !flying.contains(entry.id)) {
      if (gateway) {
        return Long.MIN_VALUE; // was begun before this process: its outcome is kept, so it is asked for, also when it has expired
      }
      long again = entry.answerUntilMono - entry.timeoutMs + Math.max(200, entry.timeoutMs / 3);
      return again < entry.deadlineMono ? again : Math.max(entry.answerUntilMono, entry.deadlineMono);
    }
    return entry.answerUntilMono;
  }

  /** @return null: not known */
  private Entry known(Transaction turn, String id) throws SQLException {
    Entry entry = open.get(id);
    if (entry == null) {
      entry = turn.touched(id);
    }
    return entry != null ? entry : turn.stored(id);
  }

  // ------------------------------------------------------------------------------------------------ in a transaction

  private void accept(Transaction turn, Draft draft, int index, List<Command> kept) throws SQLException {
    Entry known = draft.keepable ? known(turn, draft.id) : null;
    if (known != null && settings.unsafe().contains("forget-ids")) {
      forget(known);
      PreparedStatement delete = turn.statement("DELETE FROM command WHERE command_id = ?");
      delete.setString(1, draft.id);
      delete.executeUpdate();
      known = null;
    }
    if (known != null && Arrays.equals(known.hash, draft.hash)) {
      Entry entry = known;
      whole(turn, entry);
      turn.afterCommit(() -> kept.set(index, entry.describe(List.of())));
      return;
    }
    Entry entry = entry(turn, draft);
    if (known != null || !draft.keepable) {
      entry.status = Status.REJECTED;
      entry.reason = known != null ? "conflict" : "bad_command";
      entry.detail = known != null ? "id [" + draft.id + "] is known with other content: take a new id" : cut(draft.detail, TEXT_MAX);
      entry.finalAtMs = turn.nowMs();
      meters.count("caravan.command.changes", CHANGES, "status", "REJECTED", "reason", entry.reason);
      turn.afterCommit(() -> kept.set(index, entry.describe(List.of())));
      return;
    }
    entry.seq = nextSeq++;
    entry.fresh = true;
    turn.event(entry, Status.ACCEPTED, null, null);
    String[] refusal = refusal(turn, draft, entry);
    if (refusal == null) {
      turn.event(entry, Status.QUEUED, null, null);
      remember(entry);
      ready.add(entry.deviceId);
    } else {
      change(turn, entry, "expired".equals(refusal[0]) ? Status.EXPIRED : Status.REJECTED, refusal[0], refusal[1]);
    }
    turn.afterCommit(() -> {
      kept.set(index, entry.describe(List.of()));
      slim(entry);
    });
  }

  /** Long arguments of open commands are read when they are needed. */
  private static void slim(Entry entry) {
    if (entry.arguments.length() > KEPT_ARGUMENTS) {
      entry.arguments = null;
    }
  }

  private static void whole(Transaction turn, Entry entry) throws SQLException {
    if (entry.arguments == null) {
      entry.arguments = turn.stored(entry.id).arguments;
      turn.afterCommit(() -> slim(entry));
    }
  }

  private Entry entry(Transaction turn, Draft draft) {
    Entry entry = new Entry();
    entry.id = draft.id;
    entry.deviceId = draft.deviceId;
    entry.name = draft.name;
    entry.arguments = draft.arguments;
    entry.units = draft.units;
    entry.precondition = draft.precondition;
    entry.hash = draft.hash;
    entry.origin = draft.origin;
    entry.issuedBy = draft.issuedBy;
    entry.traceContext = draft.traceContext;
    entry.capabilityVersion = draft.capabilityVersion;
    if (draft.capability != null) {
      entry.idempotent = draft.capability.idempotent();
      entry.timeoutMs = draft.capability.timeoutMs();
    }
    long ttl = Math.max(0, Math.min(draft.ttlMs, settings.ttlMaxMs()));
    entry.acceptedAtMs = turn.nowMs();
    entry.expiresAtMs = draft.madeMs + ttl;
    entry.bootId = time.bootId();
    // From when it came: it may have waited in a queue of the gateway, and for the writer.
    entry.deadlineMono = draft.madeMono + ttl;
    return entry;
  }

  /** @return reason and detail; null: it may wait for its device */
  private String[] refusal(Transaction turn, Draft draft, Entry entry) throws SQLException {
    if (draft.reason != null) {
      return new String[] {draft.reason, cut(draft.detail, TEXT_MAX)};
    }
    if (draft.ttlMs <= 0) {
      return new String[] {"expired", "its time was over when it came"};
    }
    // Before it takes the place of one whose time is not over.
    if (turn.monoMs() >= entry.deadlineMono && !settings.unsafe().contains("ignore-expiry")) {
      return new String[] {"expired", "its time was over before the gateway could keep it"};
    }
    Line line = lines.get(entry.deviceId);
    if (line != null && line.open >= settings.queueMax()) {
      return new String[] {"queue_full", "[" + line.open + "] commands of device [" + entry.deviceId + "] are open (command.queue.max)"};
    }
    if (open.size() >= settings.openMax()) {
      return new String[] {"queue_full", "[" + open.size() + "] commands are open (command.open.max)"};
    }
    if (!settings.unsafe().contains("ignore-budget")) {
      int more = line == null || draft.capability.budgets().isEmpty() ? 0 : line.waiting(entry.name);
      Budget budget = budgets.exceeded(turn, entry, draft.capability, more);
      if (budget != null) {
        return new String[] {"budget_exceeded", exceeded(budget)};
      }
    }
    return null;
  }

  private static String exceeded(Budget budget) {
    return "at most " + budget.count() + " within " + budget.perMs() + " ms";
  }

  private void change(Transaction turn, Entry entry, Status status, String reason, String detail) {
    if (status.isFinal()) {
      if (entry.finalAtMs == null) {
        finals++;
      }
      entry.finalAtMs = turn.nowMs();
    }
    turn.event(entry, status, reason, detail);
    if (status.isFinal()) {
      forget(entry);
      ready.add(entry.deviceId);
    } else if (open.containsKey(entry.id)) {
      schedule(entry);
    }
  }

  /** Called for each event; what it was is told after COMMIT. */
  void changed(Transaction turn, Entry entry, Event event, String body) {
    boolean told = "mqtt".equals(entry.origin);
    Command snapshot = listeners.isEmpty() ? null : entry.describe(List.of(event));
    turn.afterCommit(() -> {
      meters.count("caravan.command.changes", CHANGES, "status", event.status().name(), "reason", event.reason() == null ? "none" : event.reason());
      if (told) {
        parts.controllers().accept(entry.issuedBy, body);
      }
      if (snapshot != null) {
        tell(() -> listeners.forEach(listener -> {
          try {
            listener.accept(snapshot);
          } catch (RuntimeException e) {
            LOG.warn("a listener of commands failed", e);
          }
        }));
      }
    });
  }

  /** Expiry, time-outs, and publications that are repeated. */
  private void due(Transaction turn) throws SQLException {
    for (int n = 0; n < TURN_MAX && !agenda.isEmpty() && agenda.first().due <= turn.monoMs(); n++) {
      Entry entry = agenda.first();
      if (entry.waiting()) {
        expire(turn, entry);
      } else if (entry.idempotent && entry.unproven() && !flying.contains(entry.id)
          && (GATEWAY.equals(entry.deviceId) || turn.monoMs() < entry.deadlineMono)) {
        again(turn, entry);
      } else if (flying.contains(entry.id) && turn.monoMs() < entry.answerUntilMono + OUTCOME_GRACE_MS && entry.unproven()) {
        later(entry, entry.answerUntilMono + OUTCOME_GRACE_MS);
      } else if (turn.monoMs() < entry.answerUntilMono) {
        later(entry, entry.answerUntilMono);
      } else {
        boolean restarted = recovered.contains(entry.id);
        if (entry.status == Status.DELIVERED) {
          change(turn, entry, Status.INDETERMINATE, "no_result", "the device has it and has not said how it ended within "
              + entry.timeoutMs + " ms" + (restarted ? "; the gateway was restarted meanwhile" : ""));
        } else {
          change(turn, entry, Status.INDETERMINATE, restarted ? "restarted" : "no_evidence", restarted
              ? "the gateway was restarted while it was being published: look at the device"
              : "nothing says that the device has it: look at the device");
        }
      }
    }
  }

  private void later(Entry entry, long due) {
    agenda.remove(entry);
    entry.due = due;
    agenda.add(entry);
  }

  private void expire(Transaction turn, Entry entry) {
    boolean clock = "clock".equals(entry.reason);
    change(turn, entry, Status.EXPIRED, clock ? "clock" : "expired", clock
        ? "the machine was restarted and its clock is before the time at which the command came, so how old it is is not known"
        : "it was not published in time: the device was away, or others were first");
  }

  private void publish(Transaction turn) throws SQLException {
    int room = TURN_MAX;
    for (Iterator<String> each = ready.iterator(); each.hasNext() && room > 0;) {
      Line line = lines.get(each.next());
      Way way = line == null || !room(line, turn.monoMs()) ? Way.NONE : reach(line.deviceId);
      while (way != Way.NONE && room > 0 && room(line, turn.monoMs())) {
        room--;
        attempt(turn, line, line.waiting.firstEntry().getValue(), way);
      }
      if (room > 0) {
        each.remove();
      }
    }
  }

  private boolean room(Line line, long mono) {
    return !line.waiting.isEmpty() && line.blockedUntil <= mono
        && line.inFlight < (GATEWAY.equals(line.deviceId) ? 1 : settings.window());
  }

  private Way reach(String deviceId) {
    return GATEWAY.equals(deviceId) ? Way.LISTENER : reach.way(deviceId);
  }

  private void attempt(Transaction turn, Line line, Entry entry, Way way) throws SQLException {
    Set<String> unsafe = settings.unsafe();
    if (turn.monoMs() >= entry.deadlineMono && !unsafe.contains("ignore-expiry")) {
      expire(turn, entry);
      return;
    }
    Capability capability = capabilities.find(entry.deviceId, entry.name).orElse(null);
    if (capability == null || !capability.allowed()) {
      change(turn, entry, Status.REJECTED, capability == null ? "no_capability" : "not_allowed", "it was when the command came and is not any more");
      return;
    }
    Budget budget = unsafe.contains("ignore-budget") ? null : budgets.exceeded(turn, entry, capability, 0);
    if (budget != null) {
      change(turn, entry, Status.REJECTED, "budget_exceeded", exceeded(budget));
      return;
    }
    String failed = entry.precondition == null ? null : precondition(turn, entry);
    if (failed != null) {
      change(turn, entry, Status.REJECTED, "precondition_failed", cut(failed, TEXT_MAX));
      return;
    }
    line.waiting.remove(entry.seq);
    send(turn, line, entry, way);
  }

  /** Once more, with the same id: there is no evidence and the capability says that it may. */
  private void again(Transaction turn, Entry entry) throws SQLException {
    Line line = line(entry.deviceId);
    Capability capability = capabilities.find(entry.deviceId, entry.name).filter(Capability::allowed).orElse(null);
    if (GATEWAY.equals(entry.deviceId)) {
      if (capability == null) {
        change(turn, entry, Status.INDETERMINATE, "restarted", "it was begun, and the gateway cannot do it any more");
      } else if (line.inFlight > 0 || line.blockedUntil > turn.monoMs()) {
        later(entry, Math.max(line.blockedUntil, turn.monoMs() + BLOCKED_MS));
      } else {
        send(turn, line, entry, Way.LISTENER);
      }
      return;
    }
    Way way = reach(entry.deviceId);
    // A precondition that does not hold now, as after the first one did its work: it may be out there, so that is no rejection.
    if (way == Way.NONE || line.inFlight >= settings.window() || line.blockedUntil > turn.monoMs() || capability == null
        || !settings.unsafe().contains("ignore-budget") && budgets.exceeded(turn, entry, capability, 0) != null
        || entry.precondition != null && precondition(turn, entry) != null) {
      later(entry, Math.max(turn.monoMs() + 1, Math.min(turn.monoMs() + POLL_MS, entry.deadlineMono)));
    } else {
      send(turn, line, entry, way);
    }
  }

  private void send(Transaction turn, Line line, Entry entry, Way way) throws SQLException {
    Set<String> unsafe = settings.unsafe();
    whole(turn, entry);
    entry.attempts++;
    entry.answerUntilMono = turn.monoMs() + entry.timeoutMs;
    if (entry.attemptedMono == null) {
      entry.attemptedAtMs = turn.nowMs();
      entry.attemptedMono = turn.monoMs();
    }
    budgets.published(entry, turn.monoMs());
    line.inFlight++;
    flying.add(entry.id);
    // Its outcome is not there yet, also if this transaction is rolled back: then memory is read again.
    Publication publication = new Publication(entry.id, entry.deviceId, entry.name, entry.arguments, entry.origin, entry.issuedBy, entry.attempts,
        entry.idempotent, way, entry.acceptedAtMs, entry.expiresAtMs,
        unsafe.contains("ignore-expiry") || GATEWAY.equals(entry.deviceId) && entry.attempts > 1 ? Entry.NEVER : entry.deadlineMono,
        entry.timeoutMs, entry.traceContext);
    long recorded = turn.monoMs();
    if (unsafe.contains("publish-before-commit")) {
      entry.attempts--; // not on disk
      turn.afterCommit(() -> entry.attempts++);
      outstanding.put(entry.id, publication);
      publisher.publish(publication, (sent, outcome, at) -> came(sent, recorded, outcome, at));
    } else {
      turn.touch(entry);
      turn.afterCommit(() -> {
        outstanding.put(entry.id, publication);
        publisher.publish(publication, (sent, outcome, at) -> came(sent, recorded, outcome, at));
      });
    }
    later(entry, entry.answerUntilMono);
  }

  /** @return why it does not hold; null: it does */
  private String precondition(Transaction turn, Entry entry) throws SQLException {
    JsonNode wanted = Json.object(entry.precondition, "precondition", Integer.MAX_VALUE);
    String reported = "{}";
    Long reportedAt = null;
    PreparedStatement select = turn.statement("SELECT reported, reported_at_ms FROM twin WHERE device_id = ?");
    select.setString(1, entry.deviceId);
    try (ResultSet row = select.executeQuery()) {
      if (row.next()) {
        reported = row.getString(1);
        long at = row.getLong(2);
        reportedAt = row.wasNull() ? null : at;
      }
    }
    JsonNode maxAge = wanted.get("max_age_ms");
    if (maxAge != null) {
      if (reportedAt == null) {
        return "the device has reported nothing yet";
      }
      long age = turn.nowMs() - reportedAt;
      if (age < 0 || age > maxAge.longValue()) {
        return "what the device reported is [" + age + "] ms old, which must be 0 to " + maxAge.longValue();
      }
    }
    try {
      Problem problem = capabilities.matches(wanted.get("reported"), Json.object(reported, "reported", Integer.MAX_VALUE)).orElse(null);
      return problem == null ? null : "reported" + (problem.field() == null ? "" : problem.field()) + ": " + problem.message();
    } catch (RuntimeException e) {
      LOG.warn("command [{}]: its precondition cannot be judged", entry.id, e);
      return "it cannot be judged: " + e.getMessage();
    }
  }

  // ------------------------------------------------------------------------------------------------ evidence

  /** On the publisher's thread. */
  private void came(Publication publication, long recorded, Outcome outcome, long atMono) {
    Item item = new Item() {
      @Override
      void run(Transaction turn) throws SQLException {
        outcome(turn, publication, recorded, outcome, atMono);
      }

      @Override
      boolean stays() {
        return true;
      }

      @Override
      void failed(Throwable why) {
        // It ends: what is not known by then is INDETERMINATE, unless the device answers.
        LOG.debug("command [{}]: its outcome [{}] is not written any more: {}", publication.commandId(), outcome.evidence(), why.toString());
      }
    };
    synchronized (lock) {
      if (!stopping) {
        arrived.add(item);
        waiting++;
        lock.notifyAll();
      }
    }
  }

  private void outcome(Transaction turn, Publication publication, long recorded, Outcome outcome, long atMono) throws SQLException {
    Line line = line(publication.deviceId());
    line.inFlight--;
    flying.remove(publication.commandId());
    turn.afterCommit(() -> outstanding.remove(publication.commandId(), publication));
    ready.add(publication.deviceId());
    Evidence evidence = outcome.evidence();
    budgets.left(publication.deviceId(), publication.name(), recorded, evidence == Evidence.NONE ? null : Long.valueOf(atMono));
    Entry entry = open.get(publication.commandId());
    if (settings.unsafe().contains("delivered-without-evidence") && (evidence == Evidence.SENT || evidence == Evidence.UNKNOWN)) {
      evidence = Evidence.DELIVERED;
    }
    if (evidence == Evidence.ANSWERED) {
      answer(turn, outcome.answer());
    } else if (entry != null) {
      switch (evidence) {
        case DELIVERED -> delivered(turn, entry);
        case SENT -> {
          if (entry.status == Status.QUEUED) {
            change(turn, entry, Status.SENT, null, null);
          }
        }
        case REFUSED -> change(turn, entry, Status.FAILED, "device_rejected", cut(outcome.detail(), TEXT_MAX));
        case NONE -> {
          // Only if no earlier publication of it may be out there.
          if (entry.attempts == 1 && entry.status == Status.QUEUED) {
            entry.attempts = 0;
            entry.attemptedAtMs = null;
            entry.attemptedMono = null;
            entry.answerUntilMono = null;
            turn.touch(entry);
            line.waiting.put(entry.seq, entry);
          }
          line.blockedUntil = turn.monoMs() + BLOCKED_MS;
          unanswerable(turn, entry, outcome);
        }
        default -> {
          LOG.debug("command [{}]: {}", entry.id, outcome.detail());
          if (GATEWAY.equals(entry.deviceId)) {
            line.blockedUntil = turn.monoMs() + BLOCKED_MS;
            unanswerable(turn, entry, outcome);
          }
        }
      }
    }
    if (entry != null && open.containsKey(entry.id)) {
      schedule(entry);
    }
    if (line.open == 0 && line.inFlight == 0) {
      lines.remove(line.deviceId);
    }
  }

  /** Ends a command of the gateway itself that was begun, and whose outcome nobody can say however often it is asked for. */
  private void unanswerable(Transaction turn, Entry entry, Outcome outcome) {
    if (GATEWAY.equals(entry.deviceId) && entry.attempts > 1 && entry.unproven()) {
      // Not only by its own time: after a long stop it must have been asked for.
      long own = Math.max(entry.deadlineMono, (entry.attemptedMono == null ? 0 : entry.attemptedMono) + entry.timeoutMs);
      if (turn.monoMs() >= Math.max(own, startedMono) + CONTROL_GRACE_MS) {
        change(turn, entry, Status.INDETERMINATE, "restarted", cut("it was begun, and how it ended cannot be asked for: " + outcome.detail(), TEXT_MAX));
      }
    }
  }

  private void delivered(Transaction turn, Entry entry) {
    if (entry.status == Status.QUEUED) {
      change(turn, entry, Status.SENT, null, null);
    }
    if (entry.status == Status.SENT) {
      change(turn, entry, Status.DELIVERED, null, null);
    }
  }

  void answer(Transaction turn, Answer answer) throws SQLException {
    String what = apply(turn, answer);
    turn.afterCommit(() -> meters.count("caravan.command.answers", ANSWERS, "outcome", what));
  }

  private String apply(Transaction turn, Answer answer) throws SQLException {
    Entry entry = answer.commandId() == null || !Draft.ID.matcher(answer.commandId()).matches() ? null : known(turn, answer.commandId());
    if (entry == null) {
      return "unknown_command";
    }
    if (!entry.deviceId.equals(answer.deviceId())) {
      return "other_device";
    }
    if (entry.attempts == 0) {
      return "not_published";
    }
    Status status = entry.status;
    switch (String.valueOf(answer.status())) {
      case "received":
        if (entry.unproven()) {
          delivered(turn, entry);
          return "received";
        }
        return status == Status.INDETERMINATE ? "late_received" : "duplicate";
      case "succeeded":
        return ended(turn, entry, Status.SUCCEEDED, null, answer);
      case "failed":
        return ended(turn, entry, Status.FAILED, answer.reason() == null ? "device_failed" : answer.reason(), answer);
      case "rejected":
        return ended(turn, entry, Status.FAILED, answer.reason() == null ? "device_rejected" : answer.reason(), answer);
      default:
        return "unknown_status";
    }
  }

  private String ended(Transaction turn, Entry entry, Status status, String reason, Answer answer) {
    if (entry.status.isFinal() && entry.status != Status.INDETERMINATE) {
      return entry.status == status ? "duplicate" : "contradicting";
    }
    boolean late = entry.status == Status.INDETERMINATE;
    if (!late) {
      delivered(turn, entry);
    }
    String detail = cut(answer.message(), TEXT_MAX);
    if (answer.result() != null && answer.result().length() > RESULT_MAX) {
      detail = cut((detail == null ? "" : detail + "; ") + "result of " + answer.result().length() + " characters left out", TEXT_MAX);
    } else {
      entry.result = answer.result();
    }
    if (late) {
      detail = cut("late, after INDETERMINATE" + (detail == null ? "" : ": " + detail), TEXT_MAX);
    }
    change(turn, entry, status, reason, detail);
    return late ? "late" : answer.status();
  }

  // ------------------------------------------------------------------------------------------------ retention

  private void tidy(Transaction turn) throws SQLException {
    Settings now = settings;
    // By the wall clock, and where it can be told by the monotonic one too: a step of the wall clock must not forget ids.
    PreparedStatement old = turn.statement("DELETE FROM command WHERE seq IN (SELECT seq FROM command WHERE final_at_ms < ?"
        + " AND (os_boot_id <> ? OR deadline_mono_ms < ?) ORDER BY final_at_ms LIMIT " + TIDY_ROWS + ")");
    old.setLong(1, turn.nowMs() - now.keepMs());
    old.setString(2, time.bootId());
    old.setLong(3, turn.monoMs() - now.keepMs());
    int deleted = old.executeUpdate();
    boolean more = deleted > 0;
    if (finals - deleted > now.keepRows()) {
      List<Long> many = new ArrayList<>();
      more |= surplus(turn, Math.min(TIDY_ROWS, finals - deleted - now.keepRows()), many);
      PreparedStatement delete = turn.statement("DELETE FROM command WHERE seq = ?");
      for (long seq : many) {
        delete.setLong(1, seq);
        deleted += delete.executeUpdate();
      }
    }
    finals -= deleted;
    nextTidy = turn.monoMs() + (more ? 50 : TIDY_MS);
  }

  /**
   * Chooses of too many final ones the oldest that cannot be carried out any more though they come again, because their time is over,
   * and that no budget counts: after a restart, or a transaction that failed, nobody else knows of their publication.
   *
   * @param most  of them at a time
   * @param found gets their seq
   * @return whether there may be more, so that it is worth to go on soon
   */
  private boolean surplus(Transaction turn, long most, List<Long> found) throws SQLException {
    PreparedStatement oldest = turn.statement("SELECT " + Budgets.COLUMNS + ", device_id, name, seq, final_at_ms FROM command WHERE final_at_ms >= ?1"
        + " AND (final_at_ms > ?1 OR seq > ?2) AND expires_at_ms < ?3 AND (os_boot_id <> ?4 OR deadline_mono_ms < ?5)"
        + " ORDER BY final_at_ms, seq LIMIT " + TIDY_SCAN_ROWS);
    oldest.setLong(1, thinnedMs);
    oldest.setLong(2, thinnedSeq);
    oldest.setLong(3, turn.nowMs());
    oldest.setString(4, time.bootId());
    oldest.setLong(5, turn.monoMs());
    int looked = 0;
    try (ResultSet row = oldest.executeQuery()) {
      while (found.size() < most && row.next()) {
        looked++;
        thinnedMs = row.getLong(8);
        thinnedSeq = row.getLong(7);
        Capability capability = capabilities.find(row.getString(5), row.getString(6)).orElse(null);
        if (capability == null || !budgets.counts(row, capability.budgets(), turn.monoMs())) {
          found.add(thinnedSeq);
        }
      }
    }
    if (found.isEmpty() && looked == TIDY_SCAN_ROWS) {
      return true; // behind these the next time
    }
    thinnedMs = 0; // else from the oldest again: what was kept may be deletable by then
    thinnedSeq = 0;
    return !found.isEmpty();
  }

  private static String cut(String text, int max) {
    if (text == null || text.length() <= max) {
      return text;
    }
    int end = Character.isHighSurrogate(text.charAt(max - 1)) ? max - 1 : max;
    return text.substring(0, end);
  }

  /** Ends without writing: what was not committed is as if it had not come. */
  @Override
  public void close() {
    List<CompletableFuture<Void>> asked;
    synchronized (lock) {
      stopping = true;
      asked = new ArrayList<>(passes);
      passes.clear();
      lock.notifyAll();
    }
    asked.forEach(pass -> pass.completeExceptionally(unavailable("commands have stopped", null)));
    try {
      if (thread.isAlive()) {
        thread.join(10_000);
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    if (thread.isAlive()) {
      LOG.warn("the thread of the commands did not end: a disk that hangs?");
    }
    publisher.close();
    telling.shutdown();
  }
}
