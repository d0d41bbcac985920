// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres;

import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.postgres.test.PostgresServer;
import io.caravan.runtime.Caravan;
import io.caravan.wal.WalModule;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import javax.sql.DataSource;
import org.apache.camel.Exchange;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.impl.DefaultCamelContext;

/** The real container with the store's routes, over either store. */
final class Box implements AutoCloseable {
  static final Path REPO = Path.of(System.getProperty("repo.dir", "../..")).toAbsolutePath().normalize();

  /** The stores that everything must work on. */
  enum Kind {
    SQLITE, POSTGRESQL
  }

  final Caravan caravan;

  /** @param settings keys and values; keys {@code routes}: stems of routes/cloud, comma-separated */
  static Box open(Kind kind, Path home, String... settings) throws Exception {
    return new Box(kind, home, kind == Kind.POSTGRESQL ? PostgresServer.shared().database() : null, settings);
  }

  Box(Kind kind, Path home, PostgresServer.Database database, String... settings) throws Exception {
    Map<String, String> keys = new LinkedHashMap<>(Map.of("container.role", "cloud", "http.port", "0", "store.tick.ms", "100", "inbox.keep.ms", "0"));
    if (kind == Kind.POSTGRESQL) {
      keys.putAll(Map.of("store.type", "postgresql", "store.url", database.url(), "store.user", database.user(), "store.password", database.password(),
          "store.pool.writers", "4", "store.pool.readers", "2"));
    }
    for (int i = 0; i < settings.length; i += 2) {
      keys.put(settings[i], settings[i + 1]);
    }
    String routes = keys.remove("routes");
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    Files.createDirectories(home);
    Caravan.Builder builder = Caravan.builder().context(context).home(home).keys(REPO.resolve("config/cloud/keys")).environment(Map.of())
        .withoutDiscovery().module("wal", new WalModule()).module("postgres", new PostgresModule());
    keys.forEach(builder::set);
    for (String stem : routes == null ? new String[] {} : routes.split(",")) {
      builder.routes(REPO.resolve("routes/cloud/" + stem + ".camel.yaml"));
    }
    caravan = builder.start();
  }

  Box ready() throws Exception {
    assertTrue(caravan.awaitReady(Duration.ofSeconds(30)), () -> String.valueOf(caravan.checks().stream().filter(c -> !c.up()).toList()));
    return this;
  }

  DataSource writer() {
    return caravan.bean("writer", DataSource.class).orElseThrow();
  }

  /** Words resolved, as in a route. */
  String sql(String sql) {
    return caravan.context().resolvePropertyPlaceholders(sql);
  }

  int execute(String sql, Object... values) throws Exception {
    try (Connection c = writer().getConnection(); PreparedStatement s = c.prepareStatement(sql(sql))) {
      for (int i = 0; i < values.length; i++) {
        s.setObject(i + 1, values[i]);
      }
      s.execute();
      return s.getUpdateCount();
    }
  }

  List<String> rows(String sql, Object... values) throws Exception {
    try (Connection c = caravan.bean("reader", DataSource.class).orElseThrow().getConnection(); PreparedStatement s = c.prepareStatement(sql(sql))) {
      for (int i = 0; i < values.length; i++) {
        s.setObject(i + 1, values[i]);
      }
      try (ResultSet r = s.executeQuery()) {
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
  }

  String one(String sql, Object... values) throws Exception {
    return rows(sql, values).get(0);
  }

  /** Sends to an endpoint with variables set; the exchange's exception is thrown. */
  Exchange send(String uri, Map<String, Object> variables) throws Exception {
    try (ProducerTemplate template = caravan.context().createProducerTemplate()) {
      Exchange exchange = template.send(uri, e -> variables.forEach(e::setVariable));
      if (exchange.getException() != null) {
        throw exchange.getException();
      }
      return exchange;
    }
  }

  @Override
  public void close() {
    caravan.close();
  }
}
