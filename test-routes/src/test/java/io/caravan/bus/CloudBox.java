// SPDX-License-Identifier: Apache-2.0
package io.caravan.bus;

import static org.awaitility.Awaitility.await;

import io.caravan.postgres.PostgresModule;
import io.caravan.postgres.test.PostgresServer;
import io.caravan.runtime.Caravan;
import io.caravan.wal.Recovery;
import io.caravan.wal.WalModule;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import javax.sql.DataSource;
import org.apache.camel.impl.DefaultCamelContext;

/** A cloud from the inbox to the store: the real routes, store and bus. Its bus.type can be changed while it runs. */
final class CloudBox implements AutoCloseable {
  static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  static final Duration LIMIT = Duration.ofSeconds(60);

  final Caravan caravan;
  private final Path etc;
  private final Map<String, String> bus = new TreeMap<>();

  /** @param database null: SQLite below home */
  CloudBox(Path home, PostgresServer.Database database, Map<String, String> settings) throws Exception {
    etc = Files.createDirectories(home.resolve("etc"));
    Map<String, String> keys = new TreeMap<>(Map.of("container.role", "cloud", "http.port", "0", "store.tick.ms", "100", "bus.tick.ms", "100",
        "inbox.keep.ms", "0", "sink.retry.min.ms", "20", "sink.retry.max.ms", "200", "sink.probe.ms", "100"));
    if (database != null) {
      keys.putAll(Map.of("store.type", "postgresql", "store.url", database.url(), "store.user", database.user(), "store.password", database.password()));
    }
    keys.putAll(settings);
    keys.keySet().stream().filter(key -> key.startsWith("bus.")).toList().forEach(key -> bus.put(key, keys.remove(key)));
    write();
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    Caravan.Builder builder = Caravan.builder().context(context).home(home).cfg(etc).keys(REPO.resolve("config/cloud/keys")).environment(Map.of())
        .withoutDiscovery().module("wal", new WalModule()).module("postgres", new PostgresModule())
        .routes(REPO.resolve("routes/gateway/sink.camel.yaml"), REPO.resolve("routes/cloud/bus.camel.yaml"),
            REPO.resolve("routes/cloud/bus-kafka.camel.yaml"), REPO.resolve("routes/cloud/store.camel.yaml"));
    keys.forEach(builder::set);
    caravan = builder.start();
    if (!caravan.awaitReady(LIMIT)) {
      String why = caravan.checks() + " " + caravan.routes();
      caravan.close();
      throw new AssertionError(why);
    }
  }

  /** Changes a key of the bus; returns when the route that uses it runs with the new value. */
  void set(String key, String value) throws IOException {
    bus.put(key, value);
    write();
    await().atMost(LIMIT).until(() -> caravan.config().get(key).equals(value));
    await().atMost(LIMIT).until(() -> caravan.awaitReady(Duration.ofSeconds(1)));
  }

  private void write() throws IOException {
    StringBuilder text = new StringBuilder();
    bus.forEach((key, value) -> text.append(key).append(" = ").append(value).append('\n'));
    Path next = etc.resolve("next");
    Files.writeString(next, text);
    Files.move(next, etc.resolve("io.caravan.bus.cfg"), StandardCopyOption.ATOMIC_MOVE);
  }

  Recovery recovery() {
    return caravan.bean("recovery", Recovery.class).orElseThrow();
  }

  int execute(String sql, Object... values) throws Exception {
    try (Connection c = caravan.bean("writer", DataSource.class).orElseThrow().getConnection(); PreparedStatement s = c.prepareStatement(words(sql))) {
      for (int i = 0; i < values.length; i++) {
        s.setObject(i + 1, values[i]);
      }
      s.execute();
      return s.getUpdateCount();
    }
  }

  List<String> rows(String sql) throws Exception {
    try (Connection c = caravan.bean("reader", DataSource.class).orElseThrow().getConnection();
        PreparedStatement s = c.prepareStatement(words(sql)); ResultSet r = s.executeQuery()) {
      List<String> all = new ArrayList<>();
      while (r.next()) {
        StringBuilder row = new StringBuilder();
        for (int i = 1; i <= r.getMetaData().getColumnCount(); i++) {
          row.append(i > 1 ? "|" : "").append(r.getString(i));
        }
        all.add(row.toString());
      }
      return all;
    }
  }

  long number(String sql) throws Exception {
    return Long.parseLong(rows(sql).get(0));
  }

  private String words(String sql) {
    return caravan.context().resolvePropertyPlaceholders(sql);
  }

  /** As route inbox does it: a row, and a signal. */
  void append(int from, int rows) throws Exception {
    long now = System.currentTimeMillis();
    try (Connection c = caravan.bean("writer", DataSource.class).orElseThrow().getConnection();
        PreparedStatement s = c.prepareStatement(words("INSERT INTO inbox (gateway_id, log_id, gateway_seq, kind, device_id, message_key, observed_at_ms,"
            + " received_at_ms, body) VALUES (?, 'log-1', ?, 'telemetry', ?, ?, ?, ?, {{sql.json}}(?))"))) {
      c.setAutoCommit(false);
      for (int i = from; i < from + rows; i++) {
        s.setString(1, "gw-" + i % 3);
        s.setLong(2, i);
        s.setString(3, "d" + i % 20);
        s.setString(4, "k-" + i);
        s.setLong(5, now);
        s.setLong(6, now);
        s.setString(7, "{\"metrics\":{\"t\":" + i + "}}");
        s.addBatch();
      }
      s.executeBatch();
      c.commit();
      c.setAutoCommit(true);
    }
    caravan.context().createFluentProducerTemplate().to("seda:bus?size=1&discardWhenFull=true").withBody("").send();
  }

  long stored() throws Exception {
    return number("SELECT count(DISTINCT message_key) FROM message");
  }

  long cursor(String sink) throws Exception {
    return number("SELECT coalesce(max(acked_seq), -1) FROM sink_range WHERE sink = '" + sink + "' AND last_seq IS NULL");
  }

  @Override
  public void close() {
    caravan.close();
  }
}
