// SPDX-License-Identifier: Apache-2.0
package io.caravan.sinks;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.it.Ports;
import io.caravan.runtime.Caravan;
import io.caravan.runtime.Check;
import io.caravan.wal.Record;
import io.caravan.wal.Wal;
import io.caravan.wal.WalModule;
import io.micrometer.core.instrument.Meter;
import io.micrometer.core.instrument.MeterRegistry;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import java.util.stream.StreamSupport;
import javax.sql.DataSource;
import org.apache.camel.impl.DefaultCamelContext;

/** A gateway's log and fan-out in small: the real route files and store, sinks whose far end is a {@link ToldSink}. */
final class SinkBox implements AutoCloseable {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();

  private final Path home;
  private final Caravan caravan;
  private final Map<String, ToldSink> sinks = new TreeMap<>();
  private long keys;
  private boolean closed;

  SinkBox(Path temp) throws Exception {
    this(temp, null);
  }

  /** @param store a store to begin with, or null */
  SinkBox(Path temp, Path store) throws Exception {
    home = temp;
    Path etc = Files.createDirectories(home.resolve("etc"));
    if (store != null) {
      Files.createDirectories(home.resolve("data/caravan"));
      Files.copy(store, home.resolve("data/caravan/gateway.db"));
    }
    set(etc, "sink.retry.min.ms", "20");
    DefaultCamelContext context = new DefaultCamelContext();
    caravan = Caravan.builder().context(context).home(home).keys(REPO.resolve("config/gateway/keys"))
        .cfg(etc).set("container.role", "gateway").set("http.port", String.valueOf(Ports.free()))
        .withoutDiscovery().module("wal", new WalModule())
        .routes(REPO.resolve("routes/gateway/sink.camel.yaml"), REPO.resolve("routes/gateway/fanout.camel.yaml"))
        .set("fanout.tick.ms", "100").set("sink.retry.max.ms", "100").set("sink.probe.ms", "100").start();
    assertTrue(caravan.awaitReady(Duration.ofSeconds(30)), () -> caravan.checks() + " " + caravan.routes());
    if (store != null) {
      keys = Long.parseLong(text("SELECT max(seq) FROM wal"));
    }
  }

  /** Changes a key while it runs. */
  void set(String key, String value) throws Exception {
    set(home.resolve("etc"), key, value);
    await().until(() -> caravan.config().get(key).equals(value));
  }

  private static void set(Path etc, String key, String value) throws Exception {
    Path file = etc.resolve("io.caravan.sink.cfg");
    String before = Files.exists(file) ? Files.readString(file) : "";
    Files.writeString(file, before + key + " = " + value + "\n");
  }

  /** Deploys a sink as an author would write it. */
  ToldSink sink(String name, Map<String, String> parameters) throws Exception {
    ToldSink sink = sinks.computeIfAbsent(name, n -> new ToldSink());
    caravan.context().getRegistry().bind("told-" + name, sink);
    StringBuilder yaml = new StringBuilder("- templatedRoute:\n    routeTemplateRef: sink\n    routeId: sink-" + name
        + "\n    parameters:\n      - { name: sink, value: " + name + " }\n");
    parameters.forEach((k, v) -> yaml.append("      - { name: ").append(k).append(", value: \"").append(v).append("\" }\n"));
    yaml.append("- route:\n    id: deliver-" + name + "\n    errorHandler: { noErrorHandler: {} }\n    from:\n      uri: direct:deliver-" + name
        + "\n      steps:\n        - bean: { ref: told-" + name + ", method: deliver }\n");
    Path file = Files.createDirectories(home.resolve("drop")).resolve("sink-" + name + ".camel.yaml");
    Files.writeString(file, yaml);
    caravan.deploy(file);
    assertTrue(caravan.routes().stream().filter(f -> f.stem().equals("sink-" + name)).allMatch(f -> f.error() == null || f.error().isEmpty()),
        () -> caravan.routes().toString());
    return sink;
  }

  void remove(String name) throws Exception {
    caravan.undeploy("sink-" + name);
  }

  void append(int rows) throws Exception {
    List<CompletionStage<?>> stages = new ArrayList<>();
    for (int i = 0; i < rows; i++) {
      stages.add(submit("{\"metrics\":{\"t\":" + i + "}}"));
    }
    for (CompletionStage<?> stage : stages) {
      stage.toCompletableFuture().get(30, TimeUnit.SECONDS);
    }
  }

  void append(String body) throws Exception {
    submit(body).toCompletableFuture().get(30, TimeUnit.SECONDS);
  }

  private CompletionStage<?> submit(String body) {
    long now = System.currentTimeMillis();
    String key = "d" + keys % 7 + "//k/" + keys++;
    return caravan.context().getRegistry().lookupByNameAndType("wal", Wal.class).submit(new Record(key, "c-" + key, key.substring(0, 2),
        "telemetry", "live", null, 0, now, now, now, 1, "application/json", null, body.getBytes(StandardCharsets.UTF_8)), "http", "/ingest");
  }

  /** appended,acked,dead,discarded,backlog */
  String ledger(String sink) throws SQLException {
    return text("SELECT appended || ',' || acked || ',' || dead || ',' || discarded || ',' || backlog FROM ledger WHERE sink = '" + sink + "'");
  }

  /** How many messages are where, as the view says. */
  Map<String, Long> status(String sink) throws SQLException {
    Map<String, Long> status = new TreeMap<>();
    try (Connection c = source("reader").getConnection(); Statement s = c.createStatement();
        ResultSet r = s.executeQuery("SELECT status, count(*) FROM message_status WHERE sink = '" + sink + "' GROUP BY status")) {
      while (r.next()) {
        status.put(r.getString(1), r.getLong(2));
      }
    }
    return status;
  }

  Map<String, Long> statusOnceNotInFlight(String sink) {
    return await().until(() -> status(sink), status -> !status.containsKey("InFlight"));
  }

  /** The invariant, for every sink: the books add up, the view says the same, and what the far end has is what is acked. */
  void checkLedger() throws Exception {
    if (closed) {
      return;
    }
    assertEquals("", text("SELECT coalesce(group_concat(sink || ' ' || unaccounted), '') FROM ledger WHERE unaccounted <> 0"));
    for (Map.Entry<String, ToldSink> sink : sinks.entrySet()) {
      await().until(() -> !status(sink.getKey()).containsKey("InFlight"));
      String[] books = ledger(sink.getKey()).split(",");
      assertEquals(Long.parseLong(books[1]), sink.getValue().distinct(), "acked by " + sink.getKey() + " and taken");
      Map<String, Long> status = status(sink.getKey());
      assertEquals(Long.parseLong(books[2]), status.getOrDefault("Dead", 0L));
      assertEquals(Long.parseLong(books[4]), status.getOrDefault("Enqueued", 0L));
    }
  }

  Path copyOfStore() throws Exception {
    Path copy = home.resolve("copy.db");
    execute("VACUUM INTO '" + copy + "'");
    return copy;
  }

  String text(String query) throws SQLException {
    try (Connection c = source("reader").getConnection(); Statement s = c.createStatement(); ResultSet r = s.executeQuery(query)) {
      return r.next() ? String.valueOf(r.getString(1)) : "";
    }
  }

  void execute(String sql) throws SQLException {
    try (Connection c = source("writer").getConnection(); Statement s = c.createStatement()) {
      s.execute(sql);
    }
  }

  boolean ready() {
    return caravan.ready();
  }

  String check(String name) {
    return caravan.checks().stream().filter(c -> c.name().equals(name)).map(Check::message).findFirst().orElse("");
  }

  double metric(String name, String sink) {
    MeterRegistry registry = caravan.context().getRegistry().lookupByNameAndType("metricsRegistry", MeterRegistry.class);
    return registry.find(name).tag("sink", sink).meters().stream().map(Meter::measure)
        .flatMap(m -> StreamSupport.stream(m.spliterator(), false)).mapToDouble(m -> m.getValue()).sum();
  }

  private DataSource source(String bean) {
    return caravan.context().getRegistry().lookupByNameAndType(bean, DataSource.class);
  }

  @Override
  public void close() throws Exception {
    if (!closed) {
      closed = true;
      caravan.close();
    }
  }
}
