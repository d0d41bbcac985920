// SPDX-License-Identifier: Apache-2.0
package io.caravan.api;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.postgres.PostgresModule;
import io.caravan.postgres.test.PostgresServer;
import io.caravan.runtime.Caravan;
import io.caravan.runtime.Grant;
import io.caravan.wal.WalModule;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
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
import org.apache.camel.impl.DefaultCamelContext;

/** The API's routes in the real container, over either store; who asks is told by {@link Gate}. */
final class ApiBox implements AutoCloseable {
  static final Path REPO = Path.of(System.getProperty("repo.dir", "../..")).toAbsolutePath().normalize();
  static final ObjectMapper JSON = new ObjectMapper();
  static final HttpClient HTTP = HttpClient.newHttpClient();
  private static final List<String> ROUTES = List.of("api", "api-device", "api-series", "api-event", "stream", "downsample");

  enum Kind {
    SQLITE, POSTGRESQL
  }

  /** In place of bean apiAccess: lets in, for these sites, and as long as it is said. */
  public static final class Gate implements Grant {
    volatile String sites = "[\"*\"]";
    volatile boolean valid = true;
    volatile List<String> hidden = List.of();

    public void viewer(Exchange exchange) {
      exchange.setVariable("access", "granted");
      exchange.setVariable("sites", sites);
      exchange.setVariable("grant", this);
    }

    @Override
    public boolean valid() {
      return valid;
    }

    @Override
    public boolean sees(String gatewayId) {
      return !hidden.contains(gatewayId);
    }
  }

  final Gate gate = new Gate();
  final Caravan caravan;
  final Kind kind;
  private final PostgresServer.Database database;

  static ApiBox start(Kind kind, Path home, String... settings) throws Exception {
    return new ApiBox(kind, home, kind == Kind.POSTGRESQL ? PostgresServer.shared().database() : null, settings);
  }

  /** Another replica over the same PostgreSQL. */
  ApiBox replica(Path home, String... settings) throws Exception {
    return new ApiBox(kind, home, database, settings);
  }

  private ApiBox(Kind kind, Path home, PostgresServer.Database database, String... settings) throws Exception {
    this.kind = kind;
    this.database = database;
    Map<String, String> keys = new LinkedHashMap<>(Map.of("container.role", "cloud", "http.port", "0", "api.stream.tick.ms", "20",
        "downsample.tick.ms", "50"));
    if (kind == Kind.POSTGRESQL) {
      keys.putAll(Map.of("store.type", "postgresql", "store.url", database.url(), "store.user", database.user(), "store.password", database.password(),
          "store.pool.writers", "3", "store.pool.readers", "3"));
    }
    for (int i = 0; i < settings.length; i += 2) {
      keys.put(settings[i], settings[i + 1]);
    }
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    context.getRegistry().bind("apiAccess", gate);
    Caravan.Builder builder = Caravan.builder().context(context).home(Files.createDirectories(home)).keys(REPO.resolve("config/cloud/keys"))
        .environment(Map.of()).withoutDiscovery().module("wal", new WalModule()).module("postgres", new PostgresModule()).module("api", new ApiModule());
    keys.forEach(builder::set);
    ROUTES.forEach(stem -> builder.routes(REPO.resolve("routes/cloud/" + stem + ".camel.yaml")));
    caravan = builder.start();
    assertTrue(caravan.awaitReady(Duration.ofSeconds(60)), () -> String.valueOf(caravan.checks().stream().filter(c -> !c.up()).toList()));
  }

  String sql(String sql) {
    return caravan.context().resolvePropertyPlaceholders(sql);
  }

  DataSource writer() {
    return caravan.bean("writer", DataSource.class).orElseThrow();
  }

  void execute(String sql, Object... values) throws Exception {
    try (Connection c = writer().getConnection()) {
      execute(c, sql, values);
    }
  }

  void execute(Connection c, String sql, Object... values) throws Exception {
    try (PreparedStatement s = c.prepareStatement(sql(sql))) {
      for (int i = 0; i < values.length; i++) {
        s.setObject(i + 1, values[i]);
      }
      s.execute();
    }
  }

  List<String> rows(String sql) throws Exception {
    try (Connection c = caravan.bean("reader", DataSource.class).orElseThrow().getConnection(); PreparedStatement s = c.prepareStatement(sql(sql));
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

  /** A gateway that was here; connected: of a replica that lives. */
  void gateway(String id, String site, boolean connected) throws Exception {
    execute("INSERT INTO replica (replica_id, started_at_ms, seen_at_ms, until_ms) VALUES ('lives', 0, 0, 9000000000000) ON CONFLICT DO NOTHING");
    execute("INSERT INTO gateway (gateway_id, log_id, version, first_seen_ms, last_seen_ms, replica_id) VALUES (?, 'log-1', '1.0', 1000, 2000, ?)", id,
        connected ? "lives" : "dead");
    if (!site.equals("default")) {
      execute("INSERT INTO site (site_id, name, created_at_ms) VALUES (?, ?, 0) ON CONFLICT DO NOTHING", site, "Site " + site);
      execute("INSERT INTO gateway_site (gateway_id, site_id) VALUES (?, ?)", id, site);
    }
  }

  void device(String gateway, String device) throws Exception {
    execute("INSERT INTO device (gateway_id, device_id, first_seen_ms, last_seen_ms, last_observed_ms, changed_at_ms) VALUES (?, ?, 1000, 2000, 1990, 0)",
        gateway, device);
  }

  /** What the store does with a window's last value. */
  void last(String gateway, String device, String metric, double value, long observedMs) throws Exception {
    try (Connection c = writer().getConnection()) {
      c.setAutoCommit(false);
      last(c, gateway, device, metric, value, observedMs);
      c.commit();
      c.setAutoCommit(true);
    }
  }

  void last(Connection c, String gateway, String device, String metric, double value, long observedMs) throws Exception {
    execute(c, "INSERT INTO last_value (gateway_id, device_id, metric, value, observed_at_ms, changed_at_ms) VALUES (?, ?, ?, ?, ?, {{sql.now.ms}})"
        + " ON CONFLICT (gateway_id, device_id, metric) DO UPDATE SET value = excluded.value, observed_at_ms = excluded.observed_at_ms,"
        + " changed_at_ms = excluded.changed_at_ms", gateway, device, metric, value, observedMs);
    execute(c, "UPDATE device SET changed_at_ms = {{sql.now.ms}} WHERE gateway_id = ? AND device_id = ?", gateway, device);
  }

  void message(String gateway, String device, String key, String kindOf, long observedMs, String body) throws Exception {
    try (Connection c = writer().getConnection()) {
      message(c, gateway, device, key, kindOf, observedMs, body);
    }
  }

  void message(Connection c, String gateway, String device, String key, String kindOf, long observedMs, String body) throws Exception {
    execute(c, "INSERT INTO message (gateway_id, device_id, message_key, kind, observed_at_ms, received_at_ms, body) VALUES (?, ?, ?, ?, ?, ?, {{sql.json}}(?))",
        gateway, device, key, kindOf, observedMs, observedMs + 5, body);
  }

  HttpResponse<String> get(String path, String... headers) throws Exception {
    HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + caravan.httpPort() + path));
    if (headers.length > 0) {
      request.headers(headers);
    }
    return HTTP.send(request.build(), HttpResponse.BodyHandlers.ofString());
  }

  JsonNode json(String path) throws Exception {
    HttpResponse<String> response = get(path);
    assertEquals(200, response.statusCode(), () -> path + ": " + response.body());
    assertEquals("application/json", response.headers().firstValue("Content-Type").orElse(""));
    return JSON.readTree(response.body());
  }

  /** Of a refusal, whose form is checked. */
  JsonNode problem(int status, String path) throws Exception {
    HttpResponse<String> response = get(path);
    assertEquals(status, response.statusCode(), () -> path + ": " + response.body());
    assertEquals("application/problem+json", response.headers().firstValue("Content-Type").orElse(""));
    JsonNode problem = JSON.readTree(response.body());
    assertEquals(status, problem.get("status").asInt());
    return problem;
  }

  /** All elements of a list, page by page as Link says. */
  List<JsonNode> pages(String path, int most) throws Exception {
    List<JsonNode> pages = pages(path);
    List<JsonNode> all = new ArrayList<>();
    for (JsonNode page : pages) {
      assertTrue(page.size() <= most, page.size() + " of " + most);
      assertTrue(page == pages.get(pages.size() - 1) || page.size() == most, "a page with a next one is full");
      page.forEach(all::add);
    }
    return all;
  }

  /** A list, page by page as Link says. */
  List<JsonNode> pages(String path) throws Exception {
    List<JsonNode> all = new ArrayList<>();
    String next = path;
    while (next != null) {
      HttpResponse<String> response = get(next);
      assertEquals(200, response.statusCode(), () -> response.uri() + ": " + response.body());
      all.add(JSON.readTree(response.body()));
      String link = response.headers().firstValue("Link").orElse(null);
      next = link == null ? null : link.substring(1, link.indexOf('>'));
    }
    return all;
  }

  @Override
  public void close() {
    caravan.close();
  }
}
