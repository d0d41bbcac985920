// SPDX-License-Identifier: Apache-2.0
package io.caravan.accounts;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.postgres.PostgresModule;
import io.caravan.postgres.test.PostgresServer;
import io.caravan.runtime.AuditTrail;
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
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import javax.sql.DataSource;
import org.apache.camel.Exchange;
import org.apache.camel.impl.DefaultCamelContext;

/** A replica of the cloud: real container, store, HTTP server and route session, and a few routes that ask {@code apiAccess}. */
final class Box implements AutoCloseable {
  static final Path REPO = Path.of(System.getProperty("repo.dir", "../..")).toAbsolutePath().normalize();
  static final ObjectMapper JSON = new ObjectMapper();
  static final HttpClient HTTP = HttpClient.newHttpClient();
  static final String PASSWORD = "correct horse battery";
  /** A proxy says that the client is elsewhere, over TLS. */
  static final String[] AWAY = {"X-Forwarded-For", "192.0.2.7", "X-Forwarded-Proto", "https"};

  private static final String ROUTE = """
      - route:
          id: testing%5$s
          from:
            uri: platform-http:/api/v1/test/%1$s%2$s
            parameters: { httpMethodRestrict: "%3$s" }
            steps:
              - removeHeaders: { pattern: "*", excludePattern: gateway_id }
              - bean: { ref: apiAccess, method: %4$s }
              - filter:
                  simple: ${variable.access} == 'granted'
                  steps:
                    - bean: { ref: seen, method: show }
      """;

  enum Kind {
    SQLITE, POSTGRESQL
  }

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

  /** What a route behind the access gets. */
  public static final class Seen {
    final Map<String, Grant> grants = new ConcurrentHashMap<>();

    public void show(Exchange exchange) {
      grants.put(exchange.getVariable("user", String.class), exchange.getVariable("grant", Grant.class));
      exchange.getMessage().removeHeaders("*");
      exchange.getMessage().setHeader(Exchange.CONTENT_TYPE, "application/json");
      exchange.getMessage().setBody("{\"user\":\"" + exchange.getVariable("user") + "\",\"role\":\"" + exchange.getVariable("role") + "\",\"sites\":"
          + exchange.getVariable("sites") + ",\"from\":\"" + exchange.getVariable("from") + "\"}");
    }
  }

  final Wall wall;
  final Seen seen = new Seen();
  final Caravan caravan;

  /** @param settings keys and values */
  static Box open(Kind kind, Path home, String... settings) throws Exception {
    return new Box(new Wall(), home, kind == Kind.SQLITE ? null : PostgresServer.shared().database(), settings);
  }

  Box(Wall wall, Path home, PostgresServer.Database database, String... settings) throws Exception {
    this.wall = wall;
    Map<String, String> keys = new LinkedHashMap<>(Map.of("container.role", "cloud", "http.port", "0", "http.trusted.proxies", "127.0.0.1",
        "api.rate.per.s", "0", "api.rate.stranger.per.s", "0", "admin.login.failures", "1000"));
    if (database != null) {
      keys.putAll(Map.of("store.type", "postgresql", "store.url", database.url(), "store.user", database.user(), "store.password", database.password(),
          "store.pool.writers", "2", "store.pool.readers", "2"));
    }
    for (int i = 0; i < settings.length; i += 2) {
      keys.put(settings[i], settings[i + 1]);
    }
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    context.getRegistry().bind("clock", wall);
    context.getRegistry().bind("seen", seen);
    Path routes = Files.createDirectories(home.resolve("routes"));
    Files.writeString(routes.resolve("session.camel.yaml"), Files.readString(REPO.resolve("routes/cloud/session.camel.yaml")));
    StringBuilder test = new StringBuilder();
    for (String role : List.of("viewer", "operator", "admin", "everywhere")) {
      test.append(ROUTE.formatted(role, "", "GET,POST", role, "-" + role)).append(ROUTE.formatted(role, "/{gateway_id}", "GET,POST", role, "-" + role + "-gateway"));
    }
    test.append(ROUTE.formatted("operator", "/{gateway_id}/commands", "POST", "operator", ""));
    Files.writeString(routes.resolve("testing.camel.yaml"), test.toString());
    Caravan.Builder builder = Caravan.builder().context(context).home(home).keys(REPO.resolve("config/cloud/keys")).environment(Map.of())
        .withoutDiscovery().module("wal", new WalModule()).module("postgres", new PostgresModule()).module("accounts", new AccountsModule()).routes(routes);
    keys.forEach(builder::set);
    caravan = builder.start();
    assertTrue(caravan.awaitReady(Duration.ofSeconds(30)), () -> String.valueOf(caravan.checks().stream().filter(c -> !c.up()).toList()));
  }

  Accounts accounts() {
    return caravan.bean("accounts", Accounts.class).orElseThrow();
  }

  Box account(String name, String... siteAndRole) {
    accounts().addAccount(name, PASSWORD.toCharArray(), roles(siteAndRole), "test");
    return this;
  }

  String token(String name, String... siteAndRole) {
    return accounts().addToken(name, null, roles(siteAndRole), null, "test").secret();
  }

  static Map<String, String> roles(String... siteAndRole) {
    Map<String, String> roles = new LinkedHashMap<>();
    for (int i = 0; i < siteAndRole.length; i += 2) {
      roles.put(siteAndRole[i], siteAndRole[i + 1]);
    }
    return roles;
  }

  /** A gateway that was here once. */
  Box gateway(String id) throws Exception {
    try (Connection c = caravan.bean("writer", DataSource.class).orElseThrow().getConnection(); PreparedStatement s = c.prepareStatement(
        "INSERT INTO gateway (gateway_id, log_id, first_seen_ms, last_seen_ms) VALUES (?, 'log-1', 0, 0)")) {
      s.setString(1, id);
      s.executeUpdate();
    }
    return this;
  }

  HttpResponse<String> send(String method, String path, String body, String... headers) throws Exception {
    HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + caravan.httpPort() + path)).method(method,
        body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body));
    if (body != null) {
      request.header("Content-Type", "application/json");
    }
    if (headers.length > 0) {
      request.headers(headers);
    }
    return HTTP.send(request.build(), HttpResponse.BodyHandlers.ofString());
  }

  /** From elsewhere. */
  HttpResponse<String> away(String method, String path, String body, String... headers) throws Exception {
    List<String> all = new ArrayList<>(List.of(AWAY));
    all.addAll(List.of(headers));
    return send(method, path, body, all.toArray(String[]::new));
  }

  HttpResponse<String> bearer(String token, String method, String path) throws Exception {
    return away(method, path, null, "Authorization", "Bearer " + token);
  }

  /** @return {@code name=value} of the cookie */
  String login(String user) throws Exception {
    HttpResponse<String> in = away("POST", "/api/v1/session", "{\"user\":\"" + user + "\",\"password\":\"" + PASSWORD + "\"}");
    assertEquals(200, in.statusCode(), in.body());
    return cookie(in, "caravan_session");
  }

  static String cookie(HttpResponse<String> response, String name) {
    return response.headers().allValues("Set-Cookie").stream().filter(c -> c.startsWith("__Host-" + name + "=")).map(c -> c.split(";")[0]).findFirst()
        .orElseThrow(() -> new AssertionError(response.headers().map() + " " + response.body()));
  }

  String origin() {
    return "http://127.0.0.1:" + caravan.httpPort();
  }

  List<String> audited(String action) {
    List<String> all = new ArrayList<>();
    caravan.bean("audit", AuditTrail.class).orElseThrow().read(e -> e.action().equals(action), e -> all.add(e.actor() + " " + e.subject() + " " + e.outcome() + " " + e.details()));
    return all;
  }

  static JsonNode json(HttpResponse<String> response) throws Exception {
    return JSON.readTree(response.body());
  }

  @Override
  public void close() {
    caravan.close();
  }
}
