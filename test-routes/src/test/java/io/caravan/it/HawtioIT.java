// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.TestMethodOrder;

/** hawtio of a real gateway: what it refuses, to whom; then its pages in real Chromium (app/test/hawtio.test.mjs). */
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
class HawtioIT {
  private static final Duration SOON = Duration.ofSeconds(60);
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
  private static final String SECRET = "correct-horse-battery-99";
  private static final String TICK = """
      - route:
          id: tick
          description: Something to look at.
          from:
            uri: timer:tick
            parameters:
              period: 500
            steps:
              - setBody:
                  id: say-tick
                  constant: "tick password=%s"
      """.formatted(SECRET);
  private static Distribution gateway;
  private static final Map<String, String> COOKIES = new HashMap<>();
  private static final Map<String, String> PASSWORDS = new HashMap<>();

  @BeforeAll
  static void start() throws Exception {
    gateway = Distribution.unpack("gateway", "hawtio-gateway");
    gateway.with("mqtt.server.port", Ports.free()).with("uplink.enabled", false).start().awaitReady();
    assertEquals(404, send("GET", "/hawtio/", null).statusCode(), "it is off until it is installed");
    gateway.shell("feature:install caravan-hawtio");
    await().atMost(SOON).pollInterval(Duration.ofMillis(200)).until(() -> send("GET", "/hawtio/", null).statusCode() == 200 && gateway.status("/readyz") == 200);
    for (String role : List.of("viewer", "operator", "admin")) {
      String said = gateway.shell("user:add " + role + "1 " + role);
      var password = Pattern.compile("has the password (\\S+) ").matcher(said);
      assertTrue(password.find(), said);
      PASSWORDS.put(role, password.group(1));
    }
    Files.writeString(gateway.home.resolve("deploy/tick.camel.yaml"), TICK);
  }

  @AfterAll
  static void stop() {
    if (gateway != null) {
      gateway.close();
    }
  }

  private static HttpResponse<String> send(String method, String path, String body, String... headers) throws Exception {
    HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + gateway.httpPort + path)).header("Content-Type", "application/json")
        .method(method, body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body));
    if (headers.length > 0) {
      request.headers(headers);
    }
    return HTTP.send(request.build(), HttpResponse.BodyHandlers.ofString());
  }

  private static String cookie(String role) throws Exception {
    if (!COOKIES.containsKey(role)) {
      HttpResponse<String> answer = send("POST", "/hawtio/auth/login", JSON.writeValueAsString(Map.of("username", role + "1", "password", PASSWORDS.get(role))));
      assertEquals(200, answer.statusCode(), answer.body());
      String cookie = answer.headers().firstValue("Set-Cookie").orElseThrow();
      assertTrue(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict") && cookie.contains("; Path=/hawtio/"), cookie);
      COOKIES.put(role, cookie.substring(0, cookie.indexOf(';')));
    }
    return COOKIES.get(role);
  }

  private static JsonNode ask(String role, Object request) throws Exception {
    HttpResponse<String> answer = send("POST", "/hawtio/jolokia", JSON.writeValueAsString(request), "Cookie", cookie(role));
    assertEquals(200, answer.statusCode(), answer.body());
    return JSON.readTree(answer.body());
  }

  private static Map<String, Object> exec(String mbean, String operation, Object... arguments) {
    return Map.of("type", "exec", "mbean", mbean, "operation", operation, "arguments", arguments);
  }

  private static void refused(String role, Object request) throws Exception {
    JsonNode answer = ask(role, request);
    assertTrue(answer.path("status").asInt() >= 400 && !answer.has("value"), request + " -> " + answer);
    assertFalse(answer.has("stacktrace"), answer.toString());
  }

  private static final String CONTEXT = "org.apache.camel:context=gateway,type=context,name=\"gateway\"";
  private static final String RECOVERY = "io.caravan:type=Recovery";

  @Test
  @Order(1)
  void nobodyComesInWithoutALoginOrFromElsewhere() throws Exception {
    String version = "{\"type\":\"version\"}";
    assertEquals(401, send("POST", "/hawtio/jolokia", version).statusCode());
    assertEquals(401, send("GET", "/hawtio/jolokia", null).statusCode());
    assertEquals(401, send("POST", "/hawtio/jolokia", version, "Cookie", cookie("viewer") + "x").statusCode());
    assertEquals(401, send("POST", "/hawtio/auth/login", "{\"username\":\"viewer1\",\"password\":\"wrong\"}").statusCode());
    assertEquals(200, send("POST", "/hawtio/jolokia", version, "Cookie", cookie("viewer")).statusCode());
    for (String[] header : List.of(new String[] {"Origin", "http://127.0.0.1:1"}, new String[] {"Origin", "null"}, new String[] {"Sec-Fetch-Site", "same-site"},
        new String[] {"X-Forwarded-For", "203.0.113.9"})) {
      assertEquals(403, send("POST", "/hawtio/jolokia", version, "Cookie", cookie("viewer"), header[0], header[1]).statusCode(), header[0]);
    }
    assertEquals(403, send("GET", "/hawtio/", null, "Forwarded", "for=203.0.113.9").statusCode());
    assertEquals("false", send("GET", "/hawtio/proxy/enabled", null).body());
    for (String path : List.of("/hawtio/proxy/http/example.org/jolokia", "/hawtio/jolokia/version", "/hawtio/jolokia/list", "/jolokia", "/jolokia/list")) {
      String body = send("GET", path, null, "Cookie", cookie("admin")).body();
      assertFalse(body.contains("\"value\"") || body.contains("\"protocol\""), path + " " + body);
    }
  }

  @Test
  @Order(2)
  void whatIsNotOnTheListIsRefusedToAdminsToo() throws Exception {
    List<String> others = List.of("java.lang:type=Runtime", "java.lang:type=Memory", "com.sun.management:type=DiagnosticCommand", "com.sun.management:type=HotSpotDiagnostic",
        "JMImplementation:type=MBeanServerDelegate", "java.util.logging:type=Logging", "org.apache.karaf:type=bundle,name=root", "org.apache.karaf:type=config,name=root",
        "org.apache.karaf:type=feature,name=root", "osgi.core:type=framework", "jolokia:type=Config", "org.apache.logging.log4j2:type=*", "*:*", "*:type=context,*",
        "org.apache.camel:*", "org.apache.camel:type=tracer,name=BacklogDebugger");
    for (String name : others) {
      refused("admin", Map.of("type", "read", "mbean", name));
      refused("admin", Map.of("type", "write", "mbean", name, "attribute", "Verbose", "value", true));
      refused("admin", exec(name, "gc"));
    }
    refused("admin", exec("com.sun.management:type=DiagnosticCommand", "vmSystemProperties"));
    refused("admin", exec("com.sun.management:type=DiagnosticCommand", "jvmtiAgentLoad([Ljava.lang.String;)", "/tmp/x.so"));
    refused("admin", exec("org.apache.karaf:type=bundle,name=root", "install(java.lang.String)", "file:/tmp/x.jar"));
    for (String[] call : new String[][] {{"addOrUpdateRoutesFromXml", "<routes/>"}, {"addOrUpdateRoutesFromXml(java.lang.String)", "<routes/>"}, {"sendBody", "direct:ingest", "x"},
        {"requestBody", "direct:ingest", "x"}, {"sendStringBody", "direct:ingest", "x"}, {"createEndpoint", "exec:id"}, {"removeEndpoints", "*"}, {"stop"}, {"suspend"}, {"startAllRoutes"},
        {"setGlobalOption", "a", "b"}, {"dumpRoutesAsXmlx"}}) {
      refused("admin", exec(CONTEXT, call[0], (Object[]) java.util.Arrays.copyOfRange(call, 1, call.length)));
    }
    String route = "org.apache.camel:context=gateway,type=routes,name=\"tick\"";
    refused("admin", exec(route, "remove"));
    refused("admin", exec(route, "updateRouteFromXml", "<route/>"));
    refused("admin", Map.of("type", "write", "mbean", route, "attribute", "TracingEnabled", "value", true));
    refused("admin", exec("org.apache.camel:context=*,type=routes,*", "stop"));
    refused("admin", Map.of("type", "write", "mbean", "org.apache.camel:context=gateway,type=tracer,name=BacklogTracer", "attribute", "TraceFilter", "value", "${body}"));
    refused("admin", Map.of("type", "notification", "command", "register"));
    refused("admin", Map.of("type", "config", "key", "debug", "value", true));
    refused("admin", Map.of("type", "read", "mbean", RECOVERY, "target", Map.of("url", "service:jmx:rmi:///jndi/rmi://127.0.0.1:1099/x")));

    JsonNode found = ask("admin", Map.of("type", "search", "mbean", "*:*")).path("value");
    assertTrue(found.size() > 20, found.toString());
    found.forEach(name -> assertTrue(name.asText().matches("(org\\.apache\\.camel|io\\.caravan):.*") && !name.asText().contains("Debugger"), name.asText()));
    JsonNode listed = ask("admin", Map.of("type", "list")).path("value");
    assertEquals(List.of("io.caravan", "org.apache.camel"), iterable(listed));
    for (String path : List.of("java.lang", "java.lang/type=Runtime", "com.sun.management/type=DiagnosticCommand", "org.apache.karaf")) {
      assertEquals(0, ask("admin", Map.of("type", "list", "path", path)).path("value").size(), path);
    }
    JsonNode bulk = ask("admin", List.of(Map.of("type", "version"), Map.of("type", "read", "mbean", "java.lang:type=Runtime")));
    assertEquals(200, bulk.path(0).path("status").asInt());
    assertEquals(403, bulk.path(1).path("status").asInt());
  }

  private static List<String> iterable(JsonNode object) {
    List<String> names = new ArrayList<>();
    object.fieldNames().forEachRemaining(names::add);
    return names.stream().sorted().toList();
  }

  @Test
  @Order(3)
  void rolesAreThoseOfTheShellAndWhatChangesIsAudited() throws Exception {
    assertEquals(200, ask("viewer", Map.of("type", "read", "mbean", RECOVERY, "attribute", "Status")).path("status").asInt());
    assertEquals(200, ask("viewer", exec(RECOVERY, "discrepancies", false)).path("status").asInt());
    refused("viewer", exec(RECOVERY, "pauseSink", "outbox"));
    refused("viewer", exec(RECOVERY, "compact"));
    refused("operator", exec(RECOVERY, "compact"));
    refused("operator", exec(RECOVERY, "resetSink", "outbox", "now", true));
    refused("operator", exec("org.apache.camel:context=gateway,type=routes,name=\"tick\"", "stop()"));
    assertFalse(gateway.shell("audit:list").contains("hawtio.exec"));

    JsonNode listed = ask("viewer", Map.of("type", "list", "path", "io.caravan/type=Recovery")).path("value").path("op");
    assertTrue(listed.has("peek") && !listed.has("pauseSink") && !listed.has("compact"), listed.toString());
    assertEquals(200, ask("admin", exec(RECOVERY, "compact")).path("status").asInt());
    String audit = Files.readString(gateway.home.resolve("data/audit/audit.log"));
    for (String outcome : List.of("started", "ok")) {
      assertTrue(audit.lines().anyMatch(l -> l.contains("\"hawtio.exec\"") && l.contains(RECOVERY) && l.contains("compact") && l.contains("admin1") && l.contains('"' + outcome + '"')), audit);
    }
  }

  @Test
  @Order(4)
  void secretsInRoutesAreMasked() throws Exception {
    await().atMost(SOON).until(() -> ask("viewer", exec(CONTEXT, "dumpRoutesAsXml()")).toString().contains("say-tick"));
    String all = ask("viewer", exec(CONTEXT, "dumpRoutesAsXml()")).toString() + ask("viewer", Map.of("type", "list")) + ask("viewer", Map.of("type", "search", "mbean", "*:*"))
        + ask("viewer", Map.of("type", "read", "mbean", "org.apache.camel:type=endpoints,*")) + ask("viewer", Map.of("type", "read", "mbean", "org.apache.camel:type=processors,*"));
    assertTrue(all.contains("tick password=***"), "the control: the text is shown");
    assertFalse(all.contains(SECRET), () -> all.substring(Math.max(0, all.indexOf(SECRET) - 200), all.indexOf(SECRET)));
  }

  @TestFactory
  @Order(5)
  List<DynamicTest> pages() throws Exception {
    ProcessBuilder builder = new ProcessBuilder("node", "test/hawtio.test.mjs").directory(Distribution.REPO.resolve("app").toFile()).redirectErrorStream(true);
    Path shots = Distribution.REPO.resolve("test-routes/target/hawtio");
    builder.environment().putAll(Map.of("HAWTIO_URL", "http://127.0.0.1:" + gateway.httpPort + "/hawtio/", "HAWTIO_USER", "admin1", "HAWTIO_PASSWORD", PASSWORDS.get("admin"),
        "HAWTIO_ROUTE", "tick", "HAWTIO_STEP", "say-tick", "HAWTIO_SHOTS", shots.toString()));
    Process node = builder.start();
    List<DynamicTest> cases = new ArrayList<>();
    StringBuilder rest = new StringBuilder();
    try (var lines = node.inputReader(StandardCharsets.UTF_8)) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        if (line.startsWith("ok ")) {
          cases.add(DynamicTest.dynamicTest(line.substring(3), () -> { }));
        } else if (line.startsWith("not ok ")) {
          String[] part = line.substring(7).split(": ", 2);
          cases.add(DynamicTest.dynamicTest(part[0], () -> fail(part[1] + "\n" + rest)));
        } else {
          rest.append(line).append('\n');
        }
      }
    } finally {
      node.descendants().forEach(ProcessHandle::destroy);
      node.destroy();
    }
    cases.add(DynamicTest.dynamicTest("all cases ran", () -> assertTrue(rest.indexOf("# all ran") >= 0, rest.toString())));
    return cases;
  }

  @Test
  @Order(6)
  void aLoginEndsWithTheUserAndTheFeatureWithItsPages() throws Exception {
    gateway.shell("user:role operator1 viewer");
    assertEquals(401, send("POST", "/hawtio/jolokia", "{\"type\":\"version\"}", "Cookie", cookie("operator")).statusCode(), "another role, another login");
    gateway.shell("feature:uninstall caravan-hawtio");
    await().atMost(SOON).pollInterval(Duration.ofMillis(200)).until(() -> send("GET", "/hawtio/", null).statusCode() == 404 && gateway.status("/readyz") == 200);
    assertEquals(List.of(), gateway.errors());
  }
}
