// SPDX-License-Identifier: Apache-2.0
package io.caravan.openapi;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.networknt.schema.JsonSchemaFactory;
import com.networknt.schema.SpecVersion;
import io.caravan.accounts.Accounts;
import io.caravan.accounts.AccountsModule;
import io.caravan.api.ApiModule;
import io.caravan.desk.DeskModule;
import io.caravan.runtime.Caravan;
import io.caravan.uplink.UplinkModule;
import io.caravan.wal.WalModule;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.snakeyaml.engine.v2.api.Load;
import org.snakeyaml.engine.v2.api.LoadSettings;

/** The API's document against the route files, and against what the routes answer. */
@Timeout(300)
class OpenApiTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final String JSON_TYPE = "application/json";
  private static final List<String> ROUTES = List.of("session", "api", "api-device", "api-event", "api-series", "api-command", "stream", "fleet", "enrol");
  /** Set by a client's library, of a request's body, or of no interest to a reader. */
  private static final Set<String> OF_HTTP = Set.of("Content-Type");

  @TempDir
  Path dir;

  /** @param parameters names that reach the route, of path, query and header */
  private record Operation(String method, String path, String id, Set<String> parameters) {
    @Override
    public String toString() {
      return method + " " + path + " (" + id + ") " + parameters;
    }
  }

  private static JsonNode document() throws Exception {
    try (InputStream in = ApiModule.class.getResourceAsStream("openapi.yaml")) {
      return JSON.valueToTree(new Load(LoadSettings.builder().build()).loadFromInputStream(in));
    }
  }

  private static Set<String> documented(JsonNode document) {
    Set<String> all = new TreeSet<>();
    document.get("paths").fields().forEachRemaining(path -> path.getValue().fields().forEachRemaining(method -> {
      Set<String> parameters = new TreeSet<>();
      method.getValue().path("parameters").forEach(p -> parameters.add(resolved(document, p).get("name").asText()));
      all.add(new Operation(method.getKey().toUpperCase(), path.getKey(), method.getValue().get("operationId").asText(), parameters).toString());
    }));
    return all;
  }

  private static JsonNode resolved(JsonNode document, JsonNode node) {
    return node.has("$ref") ? document.at(node.get("$ref").asText().substring(1)) : node;
  }

  /** @param edit of the text of a route file */
  private static Set<String> routes(UnaryOperator<String> edit) throws Exception {
    Set<String> all = new TreeSet<>();
    try (Stream<Path> files = Files.list(REPO.resolve("routes/cloud"))) {
      for (Path file : files.sorted().toList()) {
        if (!Files.readString(file).contains("platform-http:/api/")) {
          continue;
        }
        JsonNode routes = JSON.valueToTree(new Load(LoadSettings.builder().build()).loadFromString(edit.apply(Files.readString(file))));
        for (JsonNode each : routes) {
          JsonNode from = each.path("route").path("from");
          String uri = from.path("uri").asText();
          if (!uri.startsWith("platform-http:/api/")) {
            continue;
          }
          Set<String> parameters = new TreeSet<>(List.of(from.get("steps").get(0).path("removeHeaders").path("excludePattern").asText().split("\\|")));
          parameters.removeAll(OF_HTTP);
          parameters.remove("");
          for (String method : from.path("parameters").path("httpMethodRestrict").asText().split(",")) {
            all.add(new Operation(method, uri.substring("platform-http:".length()), each.get("route").get("id").asText(), parameters).toString());
          }
        }
      }
    }
    return all;
  }

  @Test
  void everyRouteHasItsOperationAndEveryOperationItsRoute() throws Exception {
    assertEquals(String.join("\n", routes(text -> text)), String.join("\n", documented(document())));
  }

  /** Negative controls of the comparison. */
  @Test
  void aDifferenceIsFound() throws Exception {
    Set<String> documented = documented(document());
    assertFalse(documented.equals(routes(text -> text.replace("/api/v1/events", "/api/v1/happenings"))));
    assertFalse(documented.equals(routes(text -> text.replace("id: api-gateway\n", "id: api-gate\n"))));
    assertFalse(documented.equals(routes(text -> text.replace("excludePattern: site|after|limit", "excludePattern: site|after|limit|more"))));
    assertFalse(documented.equals(routes(text -> text.replace("httpMethodRestrict: PATCH", "httpMethodRestrict: PUT"))));
    assertFalse(documented.equals(routes(text -> text.contains("id: stream\n") ? "[]" : text)));
  }

  @Test
  void everyReferenceLeadsSomewhere() throws Exception {
    JsonNode document = document();
    List<String> lost = new ArrayList<>();
    document.findValues("$ref").forEach(ref -> {
      if (document.at(ref.asText().substring(1)).isMissingNode()) {
        lost.add(ref.asText());
      }
    });
    assertEquals(List.of(), lost);
  }

  /** What was asked, and what is wrong with the answers. */
  private static final class Asker {
    final JsonNode document;
    final String base;
    final Map<String, Integer> answered = new LinkedHashMap<>();
    final List<String> wrong = new ArrayList<>();
    String cookie;
    private final HttpClient http = HttpClient.newHttpClient();

    Asker(JsonNode document, int port) {
      this.document = document;
      this.base = "http://127.0.0.1:" + port;
    }

    JsonNode ask(String id, String method, String path, String body, String... headers) throws Exception {
      HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(base + path)).method(method,
          body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body));
      if (body != null) {
        request.header("Content-Type", JSON_TYPE);
      }
      for (int i = 0; i < headers.length; i += 2) {
        request.header(headers[i], headers[i + 1]);
      }
      HttpResponse<InputStream> response = http.send(request.build(), HttpResponse.BodyHandlers.ofInputStream());
      String type = response.headers().firstValue("Content-Type").orElse("");
      cookie = response.headers().firstValue("Set-Cookie").map(c -> c.split(";")[0]).orElse(cookie);
      try (InputStream in = response.body()) {
        // A stream does not end.
        String text = type.equals("text/event-stream") ? "" : new String(in.readAllBytes(), StandardCharsets.UTF_8);
        answered.merge(id, response.statusCode(), Math::min);
        check(document, id, response.statusCode(), type, text).forEach(w -> wrong.add(method + " " + path + ": " + w + ": " + text));
        return type.endsWith("json") ? JSON.readTree(text) : null;
      }
    }
  }

  /** @return what of the answer the document does not have so */
  private static List<String> check(JsonNode document, String id, int status, String type, String text) throws Exception {
    JsonNode operation = null;
    for (JsonNode path : document.get("paths")) {
      for (JsonNode each : path) {
        operation = each.path("operationId").asText().equals(id) ? each : operation;
      }
    }
    if (operation == null) {
      return List.of("there is no operation " + id);
    }
    JsonNode responses = operation.get("responses");
    JsonNode response = resolved(document, responses.has("" + status) || status < 400 ? responses.path("" + status) : responses.path("default"));
    if (response.isMissingNode()) {
      return List.of("status " + status + " is not there");
    }
    JsonNode content = response.path("content");
    if (content.isMissingNode() || content.isEmpty()) {
      return text.isEmpty() ? List.of() : List.of("a body where there should be none");
    }
    String plain = type.split(";")[0];
    if (!content.has(plain)) {
      return List.of("content type [" + type + "] is not there");
    }
    if (!plain.endsWith("json")) {
      return List.of();
    }
    ObjectNode schema = JSON.createObjectNode().put("$schema", "https://json-schema.org/draft/2020-12/schema");
    schema.set("components", document.get("components"));
    schema.set("allOf", JSON.createArrayNode().add(content.get(plain).get("schema")));
    return JsonSchemaFactory.getInstance(SpecVersion.VersionFlag.V202012).getSchema(schema).validate(JSON.readTree(text)).stream().map(Object::toString).toList();
  }

  @Test
  void everyOperationAnswersAsTheDocumentSays() throws Exception {
    Process openssl = new ProcessBuilder("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
        "/CN=localhost", "-keyout", "cloud.key", "-out", "cloud.crt").directory(dir.toFile()).redirectErrorStream(true)
        .redirectOutput(dir.resolve("openssl.log").toFile()).start();
    assertEquals(0, openssl.waitFor(), () -> dir.resolve("openssl.log").toString());
    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX();
    Caravan.Builder builder = Caravan.builder().context(context).home(dir).keys(REPO.resolve("config/cloud/keys")).environment(Map.of()).withoutDiscovery()
        .set("container.role", "cloud").set("http.port", "0").set("uplink.tls.cert", dir.resolve("cloud.crt").toString())
        .set("uplink.tls.key", dir.resolve("cloud.key").toString()).module("wal", new WalModule()).module("uplink", new UplinkModule())
        .module("accounts", new AccountsModule()).module("desk", new DeskModule()).module("api", new ApiModule());
    ROUTES.forEach(stem -> builder.routes(REPO.resolve("routes/cloud/" + stem + ".camel.yaml")));
    try (Caravan cloud = builder.start()) {
      assertTrue(cloud.awaitReady(Duration.ofSeconds(60)), () -> String.valueOf(cloud.checks().stream().filter(c -> !c.up()).toList()));
      try (Connection c = cloud.bean("writer", DataSource.class).orElseThrow().getConnection(); Statement s = c.createStatement()) {
        for (String sql : List.of("INSERT INTO gateway (gateway_id, log_id, version, first_seen_ms, last_seen_ms) VALUES ('gw-1', 'log', '1', 1, 2)",
            "INSERT INTO device (gateway_id, device_id, first_seen_ms, last_seen_ms, last_observed_ms) VALUES ('gw-1', 'd', 1, 2, 3)",
            "INSERT INTO last_value (gateway_id, device_id, metric, value, observed_at_ms) VALUES ('gw-1', 'd', 't', 1.5, 3)",
            "INSERT INTO rollup_window (gateway_id, device_id, metric, start_ms, width_ms, part, revision, count, min, max, sum, mean, last, last_observed_ms)"
                + " VALUES ('gw-1', 'd', 't', 60000, 60000, 0, 1, 2, 1, 2, 3, 1.5, 2, 60001)",
            "INSERT INTO message (gateway_id, device_id, message_key, kind, observed_at_ms, received_at_ms, body)"
                + " VALUES ('gw-1', 'd', 'k', 'event', 1, 2, '{\"event\":\"door\",\"data\":{\"a\":1}}')",
            "INSERT INTO capability (gateway_id, device_id, body, observed_at_ms, received_at_ms) VALUES ('gw-1', 'd', '{\"version\":1}', 1, 2)",
            "INSERT INTO twin (gateway_id, device_id, log_id, desired, desired_version, reported, reported_version, delta, updated_at_ms)"
                + " VALUES ('gw-1', 'd', 'log', '{}', 1, '{}', 2, '{}', 3)")) {
          s.execute(sql);
        }
      }
      Asker api = new Asker(document(), cloud.httpPort());
      String d = "/api/v1/devices/gw-1/d";
      assertEquals(api.document, api.ask("api-document", "GET", "/api/v1/openapi.json", null));
      Map<String, String> reads = new HashMap<>(Map.of("api", "/api/v1/gateways", "api-gateway", "/api/v1/gateways/gw-1", "api-site", "/api/v1/sites", "api-device",
          "/api/v1/devices?include=last", "api-device-one", d, "api-device-last", d + "/last", "api-device-capability", d + "/capabilities", "api-series-window",
          d + "/windows?from_ms=0", "api-series", d + "/series?metric=t&from_ms=0&to_ms=600000", "api-event", "/api/v1/events?severity=info,alarm"));
      reads.putAll(Map.of("api-event-device", d + "/events", "api-event-message", d + "/messages", "stream", "/api/v1/stream", "api-command-stream",
          "/api/v1/commands/stream", "api-command-twin", d + "/twin", "session-me", "/api/v1/me", "fleet-list", "/api/v1/fleet", "enrol-list",
          "/api/v1/admin/gateways"));
      for (Map.Entry<String, String> read : reads.entrySet()) {
        JsonNode answer = api.ask(read.getKey(), "GET", read.getValue(), null);
        assertTrue(answer == null || !answer.isArray() || !answer.isEmpty() || read.getKey().matches("enrol-list|fleet-list"), () -> read + " shows nothing");
      }
      api.ask("api-command", "POST", d + "/commands", "{\"id\":\"c1\",\"name\":\"unlock\",\"arguments\":{\"door\":1}}");
      api.ask("api-command", "POST", d + "/commands", "{\"id\":\"c1\",\"name\":\"unlock\",\"arguments\":{\"door\":1}}");
      api.ask("api-command", "POST", d + "/commands", "{\"id\":\"c1\",\"name\":\"lock\"}");
      api.ask("api-command", "POST", d + "/commands", "{\"nam\":\"lock\"}");
      api.ask("api-command-list", "GET", d + "/commands?status=open", null);
      api.ask("api-command-list", "GET", d + "/commands?status=closed", null);
      api.ask("api-command-show", "GET", d + "/commands/c1", null);
      api.ask("api-command-show", "GET", d + "/commands/c2", null);
      api.ask("api-command-cancel", "POST", d + "/commands/c1/cancel", null);
      api.ask("api-command-cancel", "POST", d + "/commands/c1/cancel", null);
      api.ask("api-command-desire", "PATCH", d + "/twin", "{\"led\":true}");
      JsonNode made = api.ask("enrol-add", "POST", "/api/v1/admin/gateways", "{\"gateway_id\":\"gw-2\",\"note\":\"hall\"}");
      api.ask("enrol-add", "POST", "/api/v1/admin/gateways", "{\"gateway_id\":\"gw-2\"}");
      api.ask("enrol-add", "POST", "/api/v1/admin/gateways", "{\"gateway\":\"gw-2\"}");
      api.ask("enrol", "POST", "/api/v1/enrol", "{\"token\":\"" + made.get("enrolment_token").asText() + "\",\"token_sha256\":\"" + "ab".repeat(32) + "\"}");
      api.ask("enrol", "POST", "/api/v1/enrol", "{\"token\":\"wrong\",\"token_sha256\":\"" + "ab".repeat(32) + "\"}");
      api.ask("enrol-list", "GET", "/api/v1/admin/gateways", null);
      api.ask("enrol-show", "GET", "/api/v1/admin/gateways/gw-2", null);
      api.ask("enrol-rotate", "POST", "/api/v1/admin/gateways/gw-2/rotate", "{\"overlap_ms\":1000}");
      api.ask("enrol-invite", "POST", "/api/v1/admin/gateways/gw-2/enrol", "{}");
      api.ask("fleet-list", "GET", "/api/v1/fleet", null);
      api.ask("fleet-show", "GET", "/api/v1/fleet/gw-2", null);
      api.ask("enrol-revoke", "POST", "/api/v1/admin/gateways/gw-2/revoke", null);
      api.ask("enrol-restore", "POST", "/api/v1/admin/gateways/gw-2/restore", null);
      api.ask("enrol-remove", "DELETE", "/api/v1/admin/gateways/gw-2", null);
      api.ask("enrol-remove", "DELETE", "/api/v1/admin/gateways/gw-2", null);
      cloud.bean("accounts", Accounts.class).orElseThrow().addAccount("anna", "a good long password".toCharArray(), Map.of("*", "viewer"), "test");
      api.ask("session", "POST", "/api/v1/session", "{\"user\":\"anna\",\"password\":\"wrong\"}");
      api.ask("session", "POST", "/api/v1/session", "{\"user\":\"anna\",\"password\":\"a good long password\"}");
      String[] login = {"Cookie", api.cookie, "Origin", api.base};
      api.ask("session-me", "GET", "/api/v1/me", null, login);
      api.ask("session-password", "POST", "/api/v1/me/password", "{\"password\":\"wrong\",\"new_password\":\"another long password\"}", login);
      api.ask("session-password", "POST", "/api/v1/me/password", "{\"password\":\"a good long password\",\"new_password\":\"another long password\"}", login);
      api.ask("session-end", "DELETE", "/api/v1/session", null, login);
      api.ask("session-oidc", "GET", "/api/v1/session/oidc", null);
      api.ask("session-oidc-back", "GET", "/api/v1/session/oidc/callback?code=x&state=y", null);
      for (String path : List.of("/api/v1/gateways?limit=0", "/api/v1/gateways?limit=1&limit=2")) {
        api.ask("api", "GET", path, null);
      }
      for (String what : List.of("-one ", "-last /last", "-capability /capabilities")) {
        api.ask("api-device" + what.split(" ", -1)[0], "GET", "/api/v1/devices/gw-1/nobody" + what.split(" ", -1)[1], null);
      }
      // Somebody who has to say who they are, and somebody who says it wrong.
      api.ask("api", "GET", "/api/v1/gateways", null, "Authorization", "Basic eDp5");
      api.ask("session-me", "GET", "/api/v1/me", null, "Authorization", "Basic eDp5");
      String tag = null;
      HttpResponse<String> first = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(api.base + "/api/v1/sites")).build(), HttpResponse.BodyHandlers.ofString());
      tag = first.headers().firstValue("ETag").orElseThrow();
      api.ask("api-site", "GET", "/api/v1/sites", null, "If-None-Match", tag);

      assertEquals("", String.join("\n", api.wrong));
      Set<String> unasked = new TreeSet<>();
      api.document.get("paths").forEach(path -> path.forEach(o -> unasked.add(o.get("operationId").asText())));
      unasked.removeAll(api.answered.keySet());
      assertEquals(Set.of(), unasked, "every operation was asked");
      // No OpenID provider here: that it is refused was looked at.
      List<String> refused = api.answered.entrySet().stream().filter(e -> e.getValue() >= 400).map(Map.Entry::getKey).sorted().toList();
      assertEquals(List.of("session-oidc"), refused, "every other one was served once");
    }
  }

  /** Negative controls of the check of answers. */
  @Test
  void anAnswerThatBreaksItsSchemaIsFound() throws Exception {
    JsonNode document = document();
    String good = "[{\"site_id\":\"s\",\"name\":\"S\",\"gateways\":1,\"gateways_connected\":0,\"devices\":2}]";
    assertEquals(List.of(), check(document, "api-site", 200, JSON_TYPE, good));
    assertFalse(check(document, "api-site", 200, JSON_TYPE, good.replace("\"devices\":2", "\"devices\":\"2\"")).isEmpty());
    assertFalse(check(document, "api-site", 200, JSON_TYPE, good.replace(",\"devices\":2", "")).isEmpty());
    assertFalse(check(document, "api-site", 200, JSON_TYPE, good.replace("\"devices\":2", "\"devices\":2,\"more\":1")).isEmpty());
    assertFalse(check(document, "api-site", 201, JSON_TYPE, good).isEmpty());
    assertFalse(check(document, "api-site", 200, "text/plain", good).isEmpty());
    assertFalse(check(document, "api-site", 404, "application/problem+json", "{\"error\":\"not_found\"}").isEmpty());
    assertFalse(check(document, "nothing", 200, JSON_TYPE, good).isEmpty());
  }
}
