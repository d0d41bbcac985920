// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.internal;

import com.zaxxer.hikari.HikariPoolMXBean;
import io.caravan.postgres.PostgresModule;
import io.caravan.runtime.Config;
import io.caravan.runtime.Tasks;
import io.caravan.wal.InboxSinks;
import io.caravan.wal.SqlWords;
import io.caravan.wal.Transactions;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.Meter;
import io.micrometer.core.instrument.MeterRegistry;
import java.io.IOException;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.function.ToDoubleFunction;
import org.apache.camel.CamelContext;
import org.apache.camel.health.HealthCheckRegistry;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Everything the started module has open; closed in the reverse order. */
public final class PostgresStore implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(PostgresStore.class);
  private static final long LOOK_MS = 2_000;
  private static final long CLOSE_S = 5;

  private final CamelContext context;
  private final Config config;
  private final Settings settings;
  private final Trouble trouble;
  private final Deque<AutoCloseable> opened = new ArrayDeque<>();
  private final ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor(r -> {
    Thread thread = new Thread(r, "caravan-store");
    thread.setDaemon(true);
    return thread;
  });
  private Pool writer;
  private Partitions partitions;
  private long maintainedAt;
  private String told;
  private volatile String problem;
  private volatile long bytes;
  private volatile long partitionCount;

  private PostgresStore(CamelContext context, Config config) throws IOException {
    this.context = context;
    this.config = config;
    settings = new Settings(config);
    trouble = new Trouble(settings.place());
  }

  /** See {@link PostgresModule#start}. */
  public static AutoCloseable start(CamelContext context, Config config) throws Exception {
    PostgresStore store = new PostgresStore(context, config);
    try {
      store.open();
      return store;
    } catch (SQLException e) {
      store.close();
      IOException said = new IOException(store.trouble.describe(e));
      said.addSuppressed(e); // no cause: of several the last would be shown, "Connection refused"
      throw said;
    } catch (Exception | Error e) {
      store.close();
      throw e;
    }
  }

  /** Nobody can do anything here before that is done; cancelled it is begun anew with the next attempt to open the store. */
  private void takeOver(Connection into, Path file) throws SQLException, IOException {
    Tasks bound = context.getRegistry().lookupByNameAndType("tasks", Tasks.class);
    try {
      (bound != null ? bound : new Tasks()).run("store.import", file.toString(), "rows",
          "nothing is taken over; it begins anew with the next attempt to open the store, unless store.import is emptied", task -> {
            Move.into(into, file, task);
            return null;
          });
    } catch (SQLException | IOException | RuntimeException e) {
      throw e;
    } catch (Exception e) {
      throw new IllegalStateException(e);
    }
  }

  private void open() throws Exception {
    opened.push(() -> {
      clock.shutdownNow();
      clock.awaitTermination(CLOSE_S, TimeUnit.SECONDS);
    });
    try (Connection connection = settings.source().getConnection()) {
      Path file = config.get("store.import").isEmpty() ? null : config.getPath("store.import");
      Schema.apply(connection, settings.place(), file == null ? null : into -> takeOver(into, file));
    }
    writer = keep(new Pool(settings.pool("writer", "store.pool.writers", /* readOnly= */ false, null, trouble), trouble));
    Pool reader = keep(new Pool(settings.pool("reader", "store.pool.readers", /* readOnly= */ true, null, trouble), trouble));
    Pool apiReader = keep(new Pool(settings.pool("api-reader", "store.pool.api", /* readOnly= */ true,
        "SET statement_timeout = " + config.getLong("store.api.timeout.ms"), trouble), trouble));
    partitions = new Partitions(writer, config.getLong("store.partition.days"));
    try {
      maintain();
    } catch (SQLException e) { // another replica is at it, for example; rows go into _rest meanwhile
      LOG.warn("partitions: {}; tried again", trouble.describe(e));
    }
    meters(writer, "writer");
    meters(reader, "reader");
    meters(apiReader, "api-reader");
    gauge("caravan.store.up", "Whether the database took the last write that was tried", store -> store.problem == null ? 1 : 0);
    gauge("caravan.store.bytes", "Size of the database", store -> store.bytes);
    gauge("caravan.store.partitions", "Time partitions", store -> store.partitionCount);
    keep(SqlWords.use(context, PostgresModule.class, "sql-postgresql.properties"));
    bind("writer", writer);
    bind("reader", reader);
    bind("apiReader", apiReader);
    bind("transaction", Transactions.policy(writer));
    bind("storeVersions", versions());
    keep(InboxSinks.start(context, config, reader, writer));
    HealthCheckRegistry health = HealthCheckRegistry.get(context);
    if (health != null) {
      StoreHealthCheck check = new StoreHealthCheck(() -> problem);
      health.register(check);
      keep(() -> health.unregister(check));
    }
    keep(new Signals(settings.source(), context));
    clock.scheduleWithFixedDelay(this::look, LOOK_MS, LOOK_MS, TimeUnit.MILLISECONDS);
    LOG.info("store [{}] is open", settings);
  }

  /** For /version. */
  private Map<String, String> versions() throws SQLException {
    try (Connection connection = writer.getConnection(); Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery("SELECT current_setting('server_version'), version FROM caravan_schema")) {
      row.next();
      return Map.of("postgresql", row.getString(1), "schema", row.getString(2));
    }
  }

  /** Writes one row: only that tells that the database takes what is written. */
  private void look() {
    String found;
    try (Connection connection = writer.getConnection(); Statement statement = connection.createStatement()) {
      statement.executeUpdate("UPDATE caravan_schema SET checked_at = now()");
      trouble.gone();
      found = null;
    } catch (SQLException e) {
      found = trouble.refusing() != null ? trouble.refusing() : trouble.describe(e);
    }
    problem = found;
    if (found == null && System.nanoTime() - maintainedAt > TimeUnit.MILLISECONDS.toNanos(config.getLong("store.retain.ms"))) {
      try {
        maintain();
      } catch (SQLException e) {
        found = "partitions: " + trouble.describe(e); // not the store's state: it takes rows, into _rest
      }
    }
    if (found != null && !found.equals(told)) {
      LOG.error("{}; tried again", found);
    } else if (found == null && told != null) {
      LOG.info("store [{}] works again", settings.place());
    }
    told = found;
  }

  private void maintain() throws SQLException {
    partitions.maintain(System.currentTimeMillis(), config.getLong("store.keep.ms"));
    long count = 0;
    for (Partitions.Table table : Partitions.Table.values()) {
      count += partitions.list(table).size();
    }
    partitionCount = count;
    try (Connection connection = writer.getConnection(); Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery("SELECT pg_database_size(current_database())")) {
      row.next();
      bytes = row.getLong(1);
    }
    maintainedAt = System.nanoTime();
  }

  private void meters(Pool pool, String name) {
    HikariPoolMXBean state = pool.pool().getHikariPoolMXBean();
    String about = "Connections to the database";
    gauge("caravan.store.connections", about, s -> state == null ? 0 : state.getActiveConnections(), "pool", name, "state", "active");
    gauge("caravan.store.connections", about, s -> state == null ? 0 : state.getIdleConnections(), "pool", name, "state", "idle");
    gauge("caravan.store.waiting", "Threads that wait for a connection", s -> state == null ? 0 : state.getThreadsAwaitingConnection(), "pool", name);
  }

  private void gauge(String name, String about, ToDoubleFunction<PostgresStore> value, String... tags) {
    MeterRegistry registry = context.getRegistry().lookupByNameAndType("metricsRegistry", MeterRegistry.class);
    if (registry != null) {
      Meter meter = Gauge.builder(name, this, value).description(about).tags(tags).register(registry);
      keep(() -> registry.remove(meter));
    }
  }

  private <T extends AutoCloseable> T keep(T closeable) {
    opened.push(closeable);
    return closeable;
  }

  private void bind(String name, Object bean) {
    context.getRegistry().bind(name, bean);
    opened.push(() -> context.getRegistry().unbind(name));
  }

  @Override
  public void close() {
    while (!opened.isEmpty()) {
      try {
        opened.pop().close();
      } catch (Exception e) {
        LOG.warn("closing the store: {}", e.toString());
      }
    }
  }
}
