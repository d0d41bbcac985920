// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk;

import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.accounts.AccountsModule;
import io.caravan.desk.internal.Links;
import io.caravan.postgres.PostgresModule;
import io.caravan.postgres.test.PostgresServer;
import io.caravan.runtime.Caravan;
import io.caravan.uplink.UplinkModule;
import io.caravan.wal.SqlWords;
import io.caravan.wal.WalModule;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;
import javax.sql.DataSource;
import org.apache.camel.impl.DefaultCamelContext;

/** A replica of the cloud: the real container, store, routes and HTTP server; gateways are lists of what they were sent. */
final class Cloud implements AutoCloseable {
  static final Path REPO = Path.of(System.getProperty("repo.dir", "../..")).toAbsolutePath().normalize();
  static final ObjectMapper JSON = new ObjectMapper();
  static final HttpClient HTTP = HttpClient.newHttpClient();
  private static final AtomicLong GATEWAY_SEQ = new AtomicLong();

  /** Time that stands still until it is moved. */
  static final class Wall extends Clock {
    volatile long ms = System.currentTimeMillis();

    @Override
    public ZoneId getZone() {
      return ZoneOffset.UTC;
    }

    @Override
    public Clock withZone(ZoneId zone) {
      return this;
    }

    @Override
    public Instant instant() {
      return Instant.ofEpochMilli(ms);
    }
  }

  /** The connections of one replica. */
  static final class Net implements Links {
    final Map<String, String> sessions = new ConcurrentHashMap<>();
    final List<JsonNode> sent = new CopyOnWriteArrayList<>();
    final List<String> cancelled = new CopyOnWriteArrayList<>();
    /** What a send comes to; null: it is done at once. */
    volatile CompletableFuture<Void> held;
    /** Before anything is written to the socket. */
    volatile Runnable onItsWay = () -> { };

    @Override
    public Map<String, String> sessions() {
      return Map.copyOf(sessions);
    }

    @Override
    public CompletionStage<Void> command(String gatewayId, String sessionId, List<Supplier<String>> commands) {
      if (!sessionId.equals(sessions.get(gatewayId))) {
        return CompletableFuture.failedFuture(new IllegalStateException("gone"));
      }
      onItsWay.run();
      for (Supplier<String> command : commands) {
        try {
          sent.add(JSON.readTree(command.get()));
        } catch (java.io.IOException e) {
          throw new java.io.UncheckedIOException(e);
        }
      }
      return held == null ? CompletableFuture.completedFuture(null) : held;
    }

    @Override
    public CompletionStage<Void> cancel(String gatewayId, String sessionId, List<String> ids, String by) {
      ids.forEach(id -> cancelled.add(id + " by " + by));
      return CompletableFuture.completedFuture(null);
    }

    List<String> ids() {
      return sent.stream().map(c -> c.get("id").asText()).toList();
    }
  }

  /** Where all of a test have their store; null: each its file, a replica the one's it is made of. */
  static PostgresServer.Database postgres;

  final Net net = new Net();
  final Wall wall;
  final Caravan caravan;

  private Cloud(Path home, Cloud other, Wall wall, Map<String, String> edits, String... settings) throws Exception {
    // With an uplink: its sessions in place of the lists.
    boolean uplink = List.of(settings).contains("uplink.port");
    this.wall = wall;
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX(); // two of one name in one process
    if (!uplink) {
      context.getRegistry().bind("sessions", net);
    }
    if (wall != null) {
      context.getRegistry().bind("clock", wall);
    }
    Path routes = Files.createDirectories(home.resolve("routes"));
    List<String> stems = new ArrayList<>(List.of("bus", "command", "store", "api-command"));
    stems.addAll(uplink ? List.of("uplink", "inbox") : List.of());
    for (String stem : stems) {
      String text = Files.readString(REPO.resolve("routes/cloud/" + stem + ".camel.yaml"));
      for (Map.Entry<String, String> edit : edits.entrySet()) {
        text = text.replace(edit.getKey(), edit.getValue());
      }
      Files.writeString(routes.resolve(stem + ".camel.yaml"), text);
    }
    Caravan.Builder builder = Caravan.builder().context(context).home(home).keys(REPO.resolve("config/cloud/keys")).environment(Map.of())
        .withoutDiscovery().set("container.role", "cloud").set("http.port", "0").set("command.tick.ms", "20").set("store.tick.ms", "100")
        .set("inbox.keep.ms", "0");
    for (int i = 0; i < settings.length; i += 2) {
      builder.set(settings[i], settings[i + 1]);
    }
    if (postgres != null) {
      builder.set("store.type", "postgresql").set("store.url", postgres.url()).set("store.user", postgres.user()).set("store.password", postgres.password())
          .set("store.pool.writers", "4").set("store.pool.readers", "2").module("postgres", new PostgresModule());
    } else if (other == null) {
      builder.module("wal", new WalModule());
    } else {
      SqlWords.use(context, WalModule.class, "sql-sqlite.properties");
      for (String bean : List.of("writer", "reader", "transaction", "sinks")) {
        context.getRegistry().bind(bean, other.caravan.context().getRegistry().lookupByName(bean));
      }
    }
    if (uplink) {
      builder.module("uplink", new UplinkModule());
    }
    caravan = builder.module("accounts", new AccountsModule()).module("desk", new DeskModule()).routes(routes).start();
    assertTrue(caravan.awaitReady(Duration.ofSeconds(40)), () -> String.valueOf(caravan.checks()));
  }

  static Cloud start(Path home, String... settings) throws Exception {
    return new Cloud(home, null, null, Map.of(), settings);
  }

  static Cloud start(Path home, Wall wall, Map<String, String> edits, String... settings) throws Exception {
    return new Cloud(home, null, wall, edits, settings);
  }

  /** A second replica over the store of this one. */
  Cloud replica(Path home, String... settings) throws Exception {
    return replica(home, Map.of(), settings);
  }

  Cloud replica(Path home, Map<String, String> edits, String... settings) throws Exception {
    return new Cloud(home, this, wall, edits, settings);
  }

  /** A gateway that was here once. */
  Cloud gateway(String id) throws Exception {
    execute("INSERT INTO gateway (gateway_id, log_id, first_seen_ms, last_seen_ms) VALUES (?, 'log-1', 0, 0) ON CONFLICT (gateway_id) DO NOTHING", id);
    return this;
  }

  void connect(String gateway, String session) throws Exception {
    gateway(gateway);
    execute("UPDATE gateway SET session_id = ? WHERE gateway_id = ?", session, gateway);
    net.sessions.put(gateway, session);
    desk().pass().toCompletableFuture().get();
  }

  CommandDesk desk() {
    return caravan.bean("commandDesk", CommandDesk.class).orElseThrow();
  }

  /** A row of a gateway's outbox, as inbox.camel.yaml stores it; the bus is told. */
  void inbox(String gateway, String kind, String device, String body) throws Exception {
    inboxOf(gateway, "log-1", kind, device, body);
  }

  void inboxOf(String gateway, String log, String kind, String device, String body) throws Exception {
    execute("INSERT INTO inbox (gateway_id, log_id, gateway_seq, kind, device_id, message_key, observed_at_ms, received_at_ms, body)"
        + " VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?)", gateway, log, GATEWAY_SEQ.incrementAndGet(), kind, device, "key-" + GATEWAY_SEQ.get(),
        System.currentTimeMillis(), body);
    caravan.context().createProducerTemplate().sendBody("seda:bus?size=1&discardWhenFull=true", "");
  }

  static String event(String id, long revision, String status, String more) {
    return "{\"command_id\":\"" + id + "\",\"revision\":" + revision + ",\"status\":\"" + status + "\",\"at_ms\":" + (1000 + revision) + more + "}";
  }

  void execute(String sql, Object... values) throws Exception {
    try (Connection c = caravan.bean("writer", DataSource.class).orElseThrow().getConnection(); PreparedStatement s = c.prepareStatement(sql)) {
      for (int i = 0; i < values.length; i++) {
        s.setObject(i + 1, values[i]);
      }
      s.executeUpdate();
    }
  }

  List<String> rows(String sql) throws Exception {
    try (Connection c = caravan.bean("reader", DataSource.class).orElseThrow().getConnection(); PreparedStatement s = c.prepareStatement(sql);
        ResultSet r = s.executeQuery()) {
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

  String one(String sql) throws Exception {
    return rows(sql).get(0);
  }

  URI uri(String path) {
    return URI.create("http://127.0.0.1:" + caravan.httpPort() + path);
  }

  HttpResponse<String> send(String method, String path, String body, String... headers) throws Exception {
    return HTTP.send(request(method, path, body, headers), HttpResponse.BodyHandlers.ofString());
  }

  HttpRequest request(String method, String path, String body, String... headers) {
    HttpRequest.Builder request = HttpRequest.newBuilder(uri(path)).method(method,
        body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body, StandardCharsets.UTF_8));
    if (body != null && !String.join(" ", headers).contains("Content-Type")) {
      request.header("Content-Type", "application/json");
    }
    if (headers.length > 0) {
      request.headers(headers);
    }
    return request.build();
  }

  JsonNode json(int status, String method, String path, String body, String... headers) throws Exception {
    HttpResponse<String> response = send(method, path, body, headers);
    assertTrue(response.statusCode() == status, () -> path + ": " + response.statusCode() + " " + response.body());
    String type = status < 400 ? "application/json" : "application/problem+json";
    assertTrue(response.headers().firstValue("Content-Type").orElse("").equals(type), () -> String.valueOf(response.headers()));
    return JSON.readTree(response.body());
  }

  @Override
  public void close() {
    caravan.close();
  }
}
