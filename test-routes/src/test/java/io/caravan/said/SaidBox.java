// SPDX-License-Identifier: Apache-2.0
package io.caravan.said;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;

import io.caravan.commands.Capabilities;
import io.caravan.commands.Commands;
import io.caravan.commands.CommandsModule;
import io.caravan.commands.Twins;
import io.caravan.devices.Devices;
import io.caravan.devices.DevicesModule;
import io.caravan.ingest.IngestModule;
import io.caravan.it.Device;
import io.caravan.it.Ports;
import io.caravan.runtime.Caravan;
import io.caravan.runtime.Check;
import io.caravan.wal.WalModule;
import io.micrometer.core.instrument.MeterRegistry;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.apache.camel.impl.DefaultCamelContext;

/** The gateway's way from a device's message to what is known of the device: real listener, routes, modules and store. */
final class SaidBox implements AutoCloseable {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();

  final int port = Ports.free();
  final Path home;
  /** What went to the broker's side of twin, as device id and payload. */
  final ConcurrentLinkedQueue<String> broker = new ConcurrentLinkedQueue<>();
  private final Map<String, String> keys;
  private Caravan caravan;

  SaidBox(Path home, Map<String, String> keys) throws Exception {
    this.home = home;
    this.keys = keys;
    Path etc = Files.createDirectories(home.resolve("etc"));
    for (String from : new String[] {"common", "gateway"}) {
      Path folder = REPO.resolve("config").resolve(from);
      try (Stream<Path> files = Files.walk(folder)) {
        for (Path file : files.filter(Files::isRegularFile).toList()) {
          Path to = etc.resolve(folder.relativize(file).toString());
          Files.createDirectories(to.getParent());
          Files.copy(file, to);
        }
      }
    }
    start();
  }

  void start() throws Exception {
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX(); // its names are those of one container per JVM
    Caravan.Builder builder = Caravan.builder().context(context).home(home).keys(REPO.resolve("config/gateway/keys")).environment(Map.of())
        .set("container.role", "gateway").set("http.port", String.valueOf(Ports.free())).set("mqtt.server.port", String.valueOf(port))
        .set("device.access", "open").set("answers.lag.ms", "50").set("fanout.tick.ms", "100").set("twin.tick.ms", "100");
    keys.forEach(builder::set);
    Path told = Files.createDirectories(home.resolve("drop")).resolve("told-broker.camel.yaml");
    Files.writeString(told, "- route:\n    id: told-broker\n    from:\n      uri: direct:twin-mqtt\n      steps:\n        - bean: { ref: toldBroker, method: accept }\n");
    context.getRegistry().bind("toldBroker", new Told(broker));
    caravan = builder.withoutDiscovery().module("wal", new WalModule()).module("ingest", new IngestModule()).module("devices", new DevicesModule())
        .module("commands", new CommandsModule())
        .routes(Stream.concat(Stream.of("ingest", "ingest-direct", "wal-append", "rejected", "fanout", "answers", "command", "twin")
            .map(stem -> REPO.resolve("routes/gateway/" + stem + ".camel.yaml")), Stream.of(told)).toArray(Path[]::new)).start();
    if (!caravan.awaitReady(Duration.ofSeconds(60))) {
      throw new AssertionError("not ready: " + caravan.checks() + caravan.routes());
    }
  }

  /** What the broker's side would get. */
  public static final class Told {
    private final ConcurrentLinkedQueue<String> told;

    Told(ConcurrentLinkedQueue<String> told) {
      this.told = told;
    }

    public void accept(org.apache.camel.Exchange exchange) {
      told.add(exchange.getMessage().getHeader("CaravanDeviceId") + " " + exchange.getMessage().getBody(String.class));
    }
  }

  void restart() throws Exception {
    caravan.close();
    start();
  }

  Device connect(String id) throws Exception {
    return Device.connect(id, port);
  }

  <T> T bean(String name, Class<T> type) {
    return caravan.bean(name, type).orElseThrow();
  }

  Capabilities capabilities() {
    return bean("capabilities", Capabilities.class);
  }

  Twins twins() {
    return bean("twins", Twins.class);
  }

  Commands commands() {
    return bean("commands", Commands.class);
  }

  Devices devices() {
    return bean("devices", Devices.class);
  }

  String check(String name) {
    return caravan.checks().stream().filter(c -> c.name().equals(name)).map(Check::message).findFirst().orElse("");
  }

  boolean ready() {
    return caravan.ready();
  }

  String text(String query) throws SQLException {
    try (Connection c = bean("reader", DataSource.class).getConnection(); Statement s = c.createStatement(); ResultSet r = s.executeQuery(query)) {
      return r.next() ? String.valueOf(r.getString(1)) : "";
    }
  }

  long number(String query) throws SQLException {
    return Long.parseLong(text(query));
  }

  void execute(String sql) throws SQLException {
    try (Connection c = bean("writer", DataSource.class).getConnection(); Statement s = c.createStatement()) {
      s.execute(sql);
    }
  }

  double counted(String kind, String outcome) {
    var counter = bean("metricsRegistry", MeterRegistry.class).find("caravan.answers.messages").tags("kind", kind, "outcome", outcome).counter();
    return counter == null ? 0 : counter.count();
  }

  /** Until everything in the log was looked at and the cursor stands at its end; then the books must add up. */
  void settled() throws Exception {
    await().until(() -> number("SELECT r.acked_seq >= (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'wal') FROM sink_range r WHERE r.sink = 'answers'") == 1);
    assertEquals("", text("SELECT coalesce(group_concat(sink || ' ' || unaccounted), '') FROM ledger WHERE unaccounted <> 0"));
  }

  @Override
  public void close() {
    caravan.close();
  }
}
