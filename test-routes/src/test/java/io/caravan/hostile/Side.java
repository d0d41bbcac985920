// SPDX-License-Identifier: Apache-2.0
package io.caravan.hostile;

import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.accounts.AccountsModule;
import io.caravan.api.ApiModule;
import io.caravan.devices.DevicesModule;
import io.caravan.ingest.IngestModule;
import io.caravan.it.Ports;
import io.caravan.runtime.Caravan;
import io.caravan.wal.WalModule;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.apache.camel.impl.DefaultCamelContext;

/** A gateway or a cloud in this process: the real route files, modules and store, real listeners, and a watch on its steps. */
final class Side implements AutoCloseable {
  static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  static final Duration LIMIT = Duration.ofSeconds(60);

  final HeaderWatch watch = new HeaderWatch();
  final Caravan caravan;

  private Side(Caravan.Builder builder, DefaultCamelContext context, List<Path> routes) throws Exception {
    context.getCamelContextExtension().addInterceptStrategy(watch);
    caravan = builder.context(context).routes(routes.toArray(Path[]::new)).start();
    assertTrue(caravan.awaitReady(LIMIT), () -> "not ready: " + caravan.checks() + caravan.routes());
  }

  static Builder gateway(Path home) {
    return new Builder("gateway", home);
  }

  static Builder cloud(Path home) {
    return new Builder("cloud", home);
  }

  /** Which routes, with which keys, and what is broken in them on purpose. */
  static final class Builder {
    private final String side;
    private final Path home;
    private final Map<String, String> keys = new HashMap<>();
    private final Map<String, UnaryOperator<String>> edits = new HashMap<>();

    private Builder(String side, Path home) {
      this.side = side;
      this.home = home;
    }

    Builder set(String key, String value) {
      keys.put(key, value);
      return this;
    }

    /** Runs a changed copy of a route file. */
    Builder edit(String stem, UnaryOperator<String> edit) {
      edits.put(stem, edit);
      return this;
    }

    Side start(String... stems) throws Exception {
      Path etc = Files.createDirectories(home.resolve("etc"));
      for (String from : List.of("common", side)) {
        Path folder = REPO.resolve("config").resolve(from);
        try (Stream<Path> files = Files.walk(folder)) {
          for (Path file : files.filter(Files::isRegularFile).toList()) {
            Path to = etc.resolve(folder.relativize(file).toString());
            Files.createDirectories(to.getParent());
            Files.copy(file, to);
          }
        }
      }
      List<Path> routes = new ArrayList<>();
      for (String stem : stems) {
        Path file = REPO.resolve("routes/" + side + "/" + stem + ".camel.yaml");
        if (edits.containsKey(stem)) {
          String text = Files.readString(file);
          String changed = edits.get(stem).apply(text);
          assertTrue(!changed.equals(text), () -> "the edit of " + stem + " changes nothing");
          file = Files.writeString(Files.createDirectories(home.resolve("edited")).resolve(stem + ".camel.yaml"), changed);
        }
        routes.add(file);
      }
      DefaultCamelContext context = new DefaultCamelContext();
      context.disableJMX(); // its names are those of one container per JVM
      Caravan.Builder builder = Caravan.builder().home(home).keys(etc.resolve("keys")).set("container.role", side)
          .set("http.port", String.valueOf(Ports.free())).withoutDiscovery().module("wal", new WalModule());
      if (side.equals("gateway")) {
        builder.set("mqtt.server.port", String.valueOf(Ports.free())).set("device.access", "open")
            .module("ingest", new IngestModule()).module("devices", new DevicesModule());
      } else {
        builder.module("accounts", new AccountsModule()).module("api", new ApiModule());
      }
      keys.forEach(builder::set);
      return new Side(builder, context, routes);
    }
  }

  int port(String key) {
    return (int) caravan.config().getLong(key);
  }

  <T> T bean(String name, Class<T> type) {
    return caravan.context().getRegistry().lookupByNameAndType(name, type);
  }

  /** @return a row per element, its columns joined by a comma */
  List<String> rows(String sql) throws SQLException {
    try (Connection c = bean("reader", DataSource.class).getConnection(); Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
      List<String> rows = new ArrayList<>();
      while (r.next()) {
        List<String> row = new ArrayList<>();
        for (int i = 1; i <= r.getMetaData().getColumnCount(); i++) {
          row.add(r.getString(i));
        }
        rows.add(String.join(",", row));
      }
      return rows;
    }
  }

  @Override
  public void close() {
    caravan.close();
  }
}
