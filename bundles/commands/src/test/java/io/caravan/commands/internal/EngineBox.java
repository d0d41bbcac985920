// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.commands.Capabilities;
import io.caravan.commands.Commands.Command;
import io.caravan.commands.Commands.Event;
import io.caravan.commands.Commands.Request;
import io.caravan.commands.internal.CommandEngine.Parts;
import io.caravan.commands.internal.Publisher.Evidence;
import io.caravan.commands.internal.Publisher.Outcome;
import io.caravan.commands.internal.Publisher.Publication;
import io.caravan.commands.internal.SchemaSubset.Bad;
import io.caravan.devices.Devices;
import io.caravan.wal.Wal;
import io.caravan.wal.WalModule;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;
import org.apache.camel.impl.DefaultCamelContext;

/** The engine on the real store, with clocks, devices and the way to them in the test's hands. */
final class EngineBox implements AutoCloseable {

  static class Clocks implements Time {
    private static final long FROM = 1_800_000_000_000L;
    final AtomicLong mono = new AtomicLong(5_000_000);
    final AtomicLong wall = new AtomicLong(FROM);
    volatile String boot = "boot-1";

    @Override
    public long monoMs() {
      return mono.get();
    }

    @Override
    public long wallMs() {
      return wall.get();
    }

    @Override
    public String bootId() {
      return boot;
    }
  }

  /** What left for a device, and how to say what became of it. */
  record Sent(Publication publication, Publisher.Listener listener, Time time) {
    void outcome(Evidence evidence) {
      outcome(evidence, null);
    }

    void outcome(Evidence evidence, Answer answer) {
      listener.outcome(publication, new Outcome(evidence, null, answer), time.monoMs());
    }
  }

  final Path file;
  final Clocks clocks;
  final Map<String, Capability> declared = new ConcurrentHashMap<>();
  final Map<String, Devices.Status> registry = new ConcurrentHashMap<>();
  final Map<String, Reach.Way> there = new ConcurrentHashMap<>();
  final List<Sent> sent = new CopyOnWriteArrayList<>();
  final List<String> told = new CopyOnWriteArrayList<>();
  final AtomicInteger signals = new AtomicInteger();
  final AtomicInteger commits = new AtomicInteger();
  /** Which JDBC call on the writer fails, counted down; 0: none. */
  final AtomicInteger failAt = new AtomicInteger();
  volatile Evidence at = null;
  volatile boolean refusing;
  /** Measure, and do not count calls. */
  boolean plain;
  Settings settings = new Settings(60_000, 3_600_000, 10, 1_000, 4_096, 4, 5_000, 86_400_000, 1_000, false, Set.of());
  CommandEngine engine;
  CamelContext context;
  private AutoCloseable store;

  record Capability(boolean idempotent, long timeoutMs, boolean allowed, List<Capabilities.Budget> budgets) {}

  EngineBox(Path file) {
    this(file, new Clocks());
  }

  EngineBox(Path file, Clocks clocks) {
    this.file = file;
    this.clocks = clocks;

    for (String device : List.of("d1", "d2", "d3")) {
      registry.put(device, Devices.Status.ACTIVE);
      there.put(device, Reach.Way.LISTENER);
    }
    declared.put("relay", new Capability(false, 5_000, true, List.of()));
    declared.put("led", new Capability(true, 3_000, true, List.of()));
    declared.put("unlock", new Capability(false, 5_000, true, List.of(new Capabilities.Budget(3, 60_000))));
  }

  EngineBox open() throws Exception {
    context = new DefaultCamelContext();
    context.start();
    store = new WalModule().start(context, TestConfig.at(file));
    DataSource writer = failing(context.getRegistry().lookupByNameAndType("writer", DataSource.class));
    DataSource reader = context.getRegistry().lookupByNameAndType("reader", DataSource.class);
    engine = new CommandEngine(new Parts(clocks, () -> writer, () -> reader, this::devices, device -> there.getOrDefault(device, Reach.Way.NONE),
        new Wire(), new Meters(), () -> refusing, signals::incrementAndGet, (by, body) -> told.add(by + " " + body)), settings);
    engine.start(new Declared());
    return this;
  }

  Wal wal() {
    return context.getRegistry().lookupByNameAndType("wal", Wal.class);
  }

  /** The process ends and comes back: nothing is written at the end, what was on its way is not told any more. */
  EngineBox restart() throws Exception {
    close();
    sent.clear();
    return open();
  }

  /** And the machine with it. */
  EngineBox reboot() throws Exception {
    close();
    sent.clear();
    clocks.boot = clocks.boot + "x";
    clocks.mono.set(1_000);
    return open();
  }

  void advance(long ms) {
    clocks.mono.addAndGet(ms);
    clocks.wall.addAndGet(ms);
    engine.pass();
  }

  static Request request(String id, String device, String name) {
    return new Request(id, device, name, null, null, null, null, "cloud", "ann", null);
  }

  static Request request(String id, String device, String name, long ttlMs) {
    return new Request(id, device, name, null, null, null, ttlMs, "cloud", "ann", null);
  }

  Command submit(Request request) throws Exception {
    return get(engine.submit(List.of(request))).get(0);
  }

  Command submit(String id, String device, String name) throws Exception {
    return submit(request(id, device, name));
  }

  void answer(String device, String id, String status) throws Exception {
    answer(device, id, status, null);
  }

  void answer(String device, String id, String status, String result) throws Exception {
    get(engine.write(turn -> {
      turn.answer(new Answer(device, id, status, null, result, null));
      return null;
    }));
  }

  /** Status, reason and attempts. */
  String state(String id) {
    Command command = engine.find(id).orElseThrow();
    return command.status() + (command.reason() == null ? "" : " " + command.reason()) + " " + command.attempts();
  }

  /** The events in their order, whose revisions count from 1. */
  String events(String id) {
    List<Event> events = engine.find(id).orElseThrow().events();
    for (int i = 0; i < events.size(); i++) {
      if (events.get(i).revision() != i + 1) {
        throw new AssertionError("revisions have a hole: " + events);
      }
    }
    return events.stream().map(e -> e.status().name()).collect(Collectors.joining(" "));
  }

  List<String> outbox(String id) throws SQLException {
    return told("e.value ->> 'device_id' || ' ' || (e.value ->> 'revision')", id);
  }

  /** What the rows for the cloud say of a command, an expression of the event {@code e}, in their order. */
  List<String> told(String expression, String id) throws SQLException {
    return rows("SELECT " + expression + " FROM outbox o, json_each(o.body, '$.events') e WHERE o.kind = 'command' AND e.value ->> 'command_id' = '" + id
        + "' ORDER BY o.seq, e.key");
  }

  Sent last() {
    return sent.get(sent.size() - 1);
  }

  List<String> ids() {
    return sent.stream().map(each -> each.publication().commandId()).toList();
  }

  List<String> rows(String sql) throws SQLException {
    List<String> found = new ArrayList<>();
    try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + file); Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery(sql)) {
      while (row.next()) {
        StringBuilder text = new StringBuilder();
        for (int i = 1; i <= row.getMetaData().getColumnCount(); i++) {
          text.append(i == 1 ? "" : " ").append(row.getString(i));
        }
        found.add(text.toString());
      }
    }
    return found;
  }

  void execute(String sql) throws SQLException {
    try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + file); Statement statement = connection.createStatement()) {
      statement.execute("PRAGMA busy_timeout = 10000");
      statement.executeUpdate(sql);
    }
  }

  static <T> T get(CompletionStage<T> stage) throws Exception {
    return stage.toCompletableFuture().get(20, TimeUnit.SECONDS);
  }

  static void await(String what, BooleanSupplier condition) throws InterruptedException {
    long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
    Object timer = new Object();
    while (!condition.getAsBoolean()) {
      if (System.nanoTime() > until) {
        throw new AssertionError("not within 20 s: " + what);
      }
      synchronized (timer) {
        timer.wait(5);
      }
    }
  }

  @Override
  public void close() throws Exception {
    if (engine != null) {
      engine.close();
      store.close();
      context.stop();
      engine = null;
    }
  }

  private Devices devices() {
    return (Devices) Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {Devices.class}, (proxy, method, args) -> {
      if (!method.getName().equals("find")) {
        throw new UnsupportedOperationException(method.getName());
      }
      String id = (String) args[0];
      return Optional.ofNullable(registry.get(id)).map(status -> new Devices.Device(id, status, List.of(), List.of(), null, Devices.Signing.OFF, null,
          null, null, 0, null, null, null, null, false));
    });
  }

  /** Dies at the n-th call: as if the process, or the disk, had ended there. */
  private DataSource failing(DataSource real) {
    return plain ? real : (DataSource) wrap(DataSource.class, real);
  }

  private Object wrap(Class<?> type, Object real) {
    return Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {type}, (proxy, method, args) -> {
      String name = method.getName();
      boolean end = name.equals("close") || name.equals("rollback") || name.startsWith("set") && !name.equals("setAutoCommit");
      if (!end && failAt.get() > 0 && failAt.decrementAndGet() == 0) {
        failAt.set(0);
        throw new SQLException("this call was to fail: " + method.getName());
      }
      if (method.getName().equals("commit")) {
        commits.incrementAndGet();
      }
      Object result;
      try {
        result = method.invoke(real, args);
      } catch (InvocationTargetException e) {
        throw e.getCause();
      }
      if (result instanceof Connection) {
        return wrap(Connection.class, result);
      }
      return result instanceof PreparedStatement ? wrap(PreparedStatement.class, result) : result;
    });
  }

  private final class Wire implements Publisher {
    @Override
    public void publish(Publication publication, Listener listener) {
      Sent one = new Sent(publication, listener, clocks);
      if (clocks.monoMs() >= publication.deadlineMono()) {
        one.outcome(Evidence.NONE);
        return;
      }
      sent.add(one);
      if (at != null) {
        one.outcome(at);
      }
    }

    @Override
    public void settle() {}

    @Override
    public void close() {}
  }

  private final class Declared implements Capabilities {
    @Override
    public Optional<Capabilities.Declared> of(String deviceId) {
      return Optional.of(new Capabilities.Declared(deviceId, "7", "announced", List.of()));
    }

    @Override
    public Optional<Capabilities.Capability> find(String deviceId, String name) {
      return Optional.ofNullable(declared.get(name))
          .map(c -> new Capabilities.Capability(name, Json.MAPPER.createObjectNode(), c.idempotent(), c.timeoutMs(), c.budgets(), c.allowed()));
    }

    @Override
    public Optional<Problem> check(Capabilities.Capability capability, JsonNode arguments, JsonNode units) {
      return arguments.has("wrong") ? Optional.of(new Problem("bad_arguments", "/wrong", "must not be there")) : Optional.empty();
    }

    @Override
    public Optional<Problem> matches(JsonNode schema, JsonNode value) {
      try {
        SchemaSubset.form(schema, "", "bad_command");
        SchemaSubset.check(schema, value, "precondition_failed", false);
        return Optional.empty();
      } catch (Bad e) {
        return Optional.of(e.problem());
      }
    }

    @Override
    public List<Capabilities.Declared> list() {
      return List.of();
    }

    @Override
    public Optional<Problem> valid(String json) {
      return Optional.empty();
    }
  }

  /** The defaults of keys that the store reads, and what a test says otherwise. */
  static final class TestConfig implements io.caravan.runtime.Config {
    private final Map<String, String> values = new HashMap<>(Map.ofEntries(
        Map.entry("container.role", "gateway"), Map.entry("wal.synchronous", "full"), Map.entry("wal.commit.max", "1000"),
        Map.entry("wal.commit.max.bytes", "4194304"), Map.entry("wal.commit.gather.ms", "4"), Map.entry("wal.queue.max", "20000"), Map.entry("wal.queue.max.bytes", "33554432"),
        Map.entry("wal.checkpoint.bytes", "16777216"), Map.entry("wal.unsafe.ack", "after-commit"), Map.entry("wal.unsafe.dedupe", "on"),
        Map.entry("wal.max.bytes", "0"), Map.entry("wal.degraded.percent", "80"), Map.entry("wal.min.free.bytes", "0"),
        Map.entry("wal.ballast.bytes", "0"), Map.entry("wal.retention.min.ms", "0"), Map.entry("wal.retention.ms", "604800000"),
        Map.entry("wal.retention.bytes", "1073741824"), Map.entry("wal.dedupe.ms", "604800000"), Map.entry("gateway.id", "gw"),
        Map.entry("wal.progress.retention.ms", "7776000000"), Map.entry("dead.retention.ms", "2592000000"),
        Map.entry("rejected.retention.ms", "2592000000"), Map.entry("rejected.retention.bytes", "67108864"),
        Map.entry("rollup.retention.ms", "604800000"), Map.entry("receipt.interval.ms", "50")));

    static TestConfig at(Path file) {
      return new TestConfig().with("wal.path", file.toString());
    }

    TestConfig with(String key, String value) {
      values.put(key, value);
      return this;
    }

    @Override
    public String get(String key) {
      String value = values.get(key);
      if (value == null) {
        throw new IllegalArgumentException("key [" + key + "] is not declared");
      }
      return value;
    }

    @Override
    public long getLong(String key) {
      return Long.parseLong(get(key));
    }

    @Override
    public boolean getBoolean(String key) {
      return Boolean.parseBoolean(get(key));
    }

    @Override
    public Path getPath(String key) {
      return Path.of(get(key));
    }

    @Override
    public List<String> getList(String key) {
      return get(key).isEmpty() ? List.of() : List.of(get(key).split(","));
    }

    @Override
    public AutoCloseable onChange(java.util.function.Consumer<Set<String>> listener) {
      return () -> { };
    }
  }
}
