// SPDX-License-Identifier: Apache-2.0
package io.caravan.path;

import io.caravan.accounts.AccountsModule;
import io.caravan.api.ApiModule;
import io.caravan.app.AppModule;
import io.caravan.commands.CommandsModule;
import io.caravan.desk.DeskModule;
import io.caravan.devices.Devices;
import io.caravan.devices.DevicesModule;
import io.caravan.ingest.IngestModule;
import io.caravan.it.Ports;
import io.caravan.runtime.Caravan;
import io.caravan.telemetry.TelemetryModule;
import io.caravan.uplink.Gateways;
import io.caravan.uplink.UplinkModule;
import io.caravan.wal.WalModule;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.Statement;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.apache.camel.impl.DefaultCamelContext;

/** A gateway and a cloud in this process: real modules, routes, stores with fsync, TLS and MQTT sockets. */
final class Pair implements AutoCloseable {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final Duration LIMIT = Duration.ofSeconds(60);

  final Path home;
  final int uplinkPort = Ports.free();
  final int httpPort = Ports.free();
  final int mqttPort = Ports.free();
  final int gatewayHttpPort = Ports.free();
  final Map<String, Trace> traces = new java.util.HashMap<>();
  /** Stems besides those that the path needs. */
  List<String> moreAtCloud = List.of();
  List<String> moreAtGateway = List.of();
  /** Camel counts its routes only with JMX; names there are those of one container per role and JVM. */
  boolean jmx;
  Caravan cloud;
  Caravan gateway;

  Pair(Path home) throws Exception {
    this.home = home;
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost", "-keyout", "cloud.key", "-out", "cloud.crt");
    for (String side : List.of("gateway", "cloud")) {
      Path etc = Files.createDirectories(home.resolve(side + "/etc"));
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
    }
  }

  private void openssl(String... args) throws IOException, InterruptedException {
    List<String> command = Stream.concat(Stream.of("openssl"), Stream.of(args)).toList();
    Process process = new ProcessBuilder(command).directory(home.toFile()).redirectErrorStream(true)
        .redirectOutput(home.resolve("openssl.log").toFile()).start();
    if (!process.waitFor(30, TimeUnit.SECONDS) || process.exitValue() != 0) {
      throw new IOException("openssl failed: " + Files.readString(home.resolve("openssl.log")));
    }
  }

  private Caravan.Builder builder(String side) {
    DefaultCamelContext context = new DefaultCamelContext();
    if (Boolean.getBoolean("path.trace")) {
      context.getCamelContextExtension().addInterceptStrategy(traces.computeIfAbsent(side, Trace::new));
    }
    if (!jmx) {
      context.disableJMX();
    }
    return Caravan.builder().context(context).home(home.resolve(side)).keys(home.resolve(side + "/etc/keys")).environment(Map.of())
        .set("container.role", side).withoutDiscovery().module("telemetry", new TelemetryModule())
        .module("wal", new WalModule());
  }

  private Path[] routes(String side, List<String> more, String... stems) {
    return Stream.concat(Stream.of(stems), more.stream()).map(stem -> REPO.resolve("routes/" + side + "/" + stem + ".camel.yaml")).toArray(Path[]::new);
  }

  void startCloud(Map<String, String> keys) throws Exception {
    Caravan.Builder builder = builder("cloud").set("http.port", String.valueOf(httpPort)).set("uplink.port", String.valueOf(uplinkPort))
        .set("uplink.tls.cert", home.resolve("cloud.crt").toString()).set("uplink.tls.key", home.resolve("cloud.key").toString());
    keys.forEach(builder::set);
    cloud = builder.module("uplink", new UplinkModule()).module("accounts", new AccountsModule()).module("desk", new DeskModule())
        .module("api", new ApiModule()).module("app", new AppModule())
        .routes(routes("cloud", moreAtCloud, "uplink", "inbox", "bus", "store", "command", "session", "api", "api-device", "api-event", "api-series", "api-command", "stream",
            "downsample", "app")).start();
    if (!cloud.awaitReady(LIMIT)) {
      throw new AssertionError("the cloud does not get ready: " + cloud.checks() + cloud.routes());
    }
  }

  /** Enrols the gateway at the cloud, which must run. */
  void enrol() throws Exception {
    Gateways gateways = cloud.bean("gateways", Gateways.class).orElseThrow();
    Files.writeString(home.resolve("uplink.token"), gateways.add("gw-1", Gateways.Certificate.NO, true, null, null).token());
  }

  void startGateway(Map<String, String> keys) throws Exception {
    Caravan.Builder builder = builder("gateway").set("http.port", String.valueOf(gatewayHttpPort)).set("mqtt.server.port", String.valueOf(mqttPort))
        .set("device.access", "open").set("gateway.id", "gw-1").set("uplink.url", "wss://localhost:" + uplinkPort)
        .set("uplink.token.file", home.resolve("uplink.token").toString()).set("uplink.ca.file", home.resolve("cloud.crt").toString())
        .set("uplink.reconnect.min.ms", "50");
    keys.forEach(builder::set);
    gateway = builder.module("ingest", new IngestModule()).module("devices", new DevicesModule()).module("uplink", new UplinkModule())
        .module("commands", new CommandsModule())
        .routes(routes("gateway", moreAtGateway, "ingest", "ingest-direct", "ingest-http", "wal-append", "rejected", "fanout", "answers", "command", "twin", "passthrough", "rollup",
            "outbox", "uplink")).start();
    if (!gateway.awaitReady(LIMIT)) {
      throw new AssertionError("the gateway does not get ready: " + gateway.checks() + gateway.routes());
    }
  }

  Devices devices() {
    return gateway.bean("devices", Devices.class).orElseThrow();
  }

  static long number(Caravan side, String sql) throws Exception {
    try (Connection c = side.bean("reader", DataSource.class).orElseThrow().getConnection(); Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
      r.next();
      return r.getLong(1);
    }
  }

  @Override
  public void close() {
    if (gateway != null) {
      gateway.close();
    }
    if (cloud != null) {
      cloud.close();
    }
  }
}
