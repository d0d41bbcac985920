// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.Caravan;
import io.caravan.runtime.internal.RawClient.Answer;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The shipped admin route, and who sees what of it. */
class AdminAccessTest {

    private static final Path ROUTE = Path.of("../../routes/gateway/admin.camel.yaml");
    private static final String HOST = "Host: 127.0.0.1";
    /** What makes a client of this test one from elsewhere: somebody has forwarded it. */
    private static final String REMOTE = "X-Forwarded-For: 192.0.2.7";
    private static final String PASSWORD = "correct horse: battery";

    @TempDir
    Path dir;

    private Caravan start(String... settings) throws Exception {
        Caravan.Builder builder = Caravan.builder().keys(Path.of("src/test/resources/keys")).environment(Map.of()).withoutDiscovery()
                .home(dir).routes(ROUTE);
        for (int i = 0; i < settings.length; i += 2) {
            builder.set(settings[i], settings[i + 1]);
        }
        Caravan caravan = builder.start();
        assertTrue(caravan.awaitReady(Duration.ofSeconds(20)), () -> String.valueOf(caravan.checks()));
        caravan.bean("users", UserFile.class).orElseThrow().put("anna", PASSWORD.toCharArray(), "viewer");
        return caravan;
    }

    private static Answer get(Caravan caravan, String path, String... headers) throws IOException {
        try (RawClient client = new RawClient(caravan.httpPort())) {
            return client.send("GET " + path + " HTTP/1.1\r\n" + String.join("\r\n", headers) + "\r\n\r\n").read();
        }
    }

    private static String basic(String user, String password) {
        return "Authorization: Basic " + Base64.getEncoder().encodeToString((user + ":" + password).getBytes(StandardCharsets.UTF_8));
    }

    @Test
    void everybodyGetsTheStatusAndOnlySomeTheRest() throws Exception {
        try (Caravan caravan = start()) {
            for (String path : List.of("/readyz", "/healthz")) {
                assertEquals(200, get(caravan, path, HOST, REMOTE).status());
                assertFalse(get(caravan, path, HOST, REMOTE).body().contains("checks"));
                assertTrue(get(caravan, path, HOST).body().contains("\"checks\":["));
                assertTrue(get(caravan, path, HOST, REMOTE, basic("anna", PASSWORD)).body().contains("\"checks\":["));
                assertFalse(get(caravan, path, HOST, REMOTE, basic("anna", "wrong")).body().contains("checks"));
            }
            for (String path : List.of("/metrics", "/version")) {
                assertEquals(200, get(caravan, path, HOST).status());
                Answer refused = get(caravan, path, HOST, REMOTE);
                assertEquals(401, refused.status());
                assertEquals("Basic realm=\"caravan\", charset=\"UTF-8\"", refused.headers().get("WWW-Authenticate"));
                assertEquals("{\"error\":\"unauthorized\",\"message\":\"log in\"}", refused.body());
                assertEquals(200, get(caravan, path, HOST, REMOTE, basic("anna", PASSWORD)).status());
                for (String wrong : List.of(basic("anna", "wrong"), basic("nobody", PASSWORD), "Authorization: Bearer x", "Authorization: Basic",
                        "Authorization: Basic !!!", basic("anna", PASSWORD) + "\r\n" + basic("anna", PASSWORD))) {
                    Answer answer = get(caravan, path, HOST, REMOTE, wrong);
                    assertTrue(answer.status() == 401 || answer.status() == 429, wrong);
                    assertFalse(answer.body().contains("version\":") || answer.body().contains("jvm_"), answer.body());
                }
            }
        }
    }

    @Test
    void aForeignNameIsNotThisMachine() throws Exception {
        try (Caravan caravan = start()) {
            assertEquals(401, get(caravan, "/metrics", "Host: rebound.example:8080").status());
            assertEquals(200, get(caravan, "/metrics", "Host: localhost:8080").status());
        }
    }

    @Test
    void alwaysMeansThisMachineToo() throws Exception {
        try (Caravan caravan = start("admin.login", "always")) {
            assertEquals(401, get(caravan, "/metrics", HOST).status());
            assertFalse(get(caravan, "/readyz", HOST).body().contains("checks"));
            assertEquals(200, get(caravan, "/metrics", HOST, basic("anna", PASSWORD)).status());
        }
    }

    @Test
    void whoKeepsGuessingIsLockedOutAndAudited() throws Exception {
        try (Caravan caravan = start("admin.login.failures", "3", "http.trusted.proxies", "127.0.0.1")) {
            for (int i = 0; i < 3; i++) {
                assertEquals(401, get(caravan, "/metrics", HOST, REMOTE, basic("anna", "guess" + i)).status());
            }
            Answer locked = get(caravan, "/metrics", HOST, REMOTE, basic("anna", PASSWORD));
            assertEquals(429, locked.status(), "also with the right one");
            assertTrue(Integer.parseInt(locked.headers().get("Retry-After")) <= 61);
            assertEquals(200, get(caravan, "/metrics", HOST, "X-Forwarded-For: 192.0.2.8", basic("anna", PASSWORD)).status(),
                    "somebody elsewhere is not locked out");
            assertTrue(caravan.metrics().contains("caravan_http_refused_total{reason=\"locked_out\"} 1.0"));
            try (var files = Files.walk(dir)) {
                String audit = Files.readString(files.filter(f -> f.endsWith("audit.log")).findFirst().orElseThrow());
                assertTrue(audit.lines().anyMatch(l -> l.contains("user.lockout") && l.contains("192.0.2.7")), audit);
                assertFalse(audit.contains("guess"), audit);
            }
        }
    }

    private static final String ROLES = """
            - route: {id: roles, from: {uri: "platform-http:/viewer", steps: [{bean: {ref: adminAccess, method: viewer}}, {to: "direct:roles-say"}]}}
            - route: {id: roles-operator, from: {uri: "platform-http:/operator", steps: [{bean: {ref: adminAccess, method: operator}}, {to: "direct:roles-say"}]}}
            - route: {id: roles-admin, from: {uri: "platform-http:/admin", steps: [{bean: {ref: adminAccess, method: admin}}, {to: "direct:roles-say"}]}}
            - route:
                id: roles-say
                from:
                  uri: direct:roles-say
                  steps:
                    - filter: {simple: "${variable.access} == 'granted'", steps: [{removeHeaders: {pattern: "*"}}, {setBody: {simple: "${variable.user}"}}]}
            """;

    @Test
    void aRouteMayAskForARoleAndLearnsWho() throws Exception {
        Path file = Files.writeString(dir.resolve("roles.camel.yaml"), ROLES);
        try (Caravan caravan = Caravan.builder().keys(Path.of("src/test/resources/keys")).environment(Map.of()).withoutDiscovery().home(dir)
                .routes(file).start()) {
            assertTrue(caravan.awaitReady(Duration.ofSeconds(20)), () -> String.valueOf(caravan.checks()));
            UserFile users = caravan.bean("users", UserFile.class).orElseThrow();
            List<String> roles = List.of("viewer", "operator", "admin");
            for (String role : roles) {
                users.put("u-" + role, PASSWORD.toCharArray(), role);
            }
            for (String asked : roles) {
                assertEquals("local", get(caravan, "/" + asked, HOST).body());
                assertEquals(401, get(caravan, "/" + asked, HOST, REMOTE).status());
                for (String role : roles) {
                    boolean may = roles.indexOf(role) >= roles.indexOf(asked);
                    for (String from : List.of(REMOTE, "X-Nothing: 1")) {
                        // Who is on this machine and says who they are is no more than that.
                        Answer answer = get(caravan, "/" + asked, HOST, from, basic("u-" + role, PASSWORD));
                        assertEquals(may ? 200 : 403, answer.status(), role + " " + asked);
                        assertTrue(answer.body().contains("u-" + role), answer.body());
                    }
                }
                assertEquals(401, get(caravan, "/" + asked, HOST, basic("u-admin", "wrong")).status());
            }
            try (RawClient client = new RawClient(caravan.httpPort())) {
                String post = "POST /operator HTTP/1.1\r\nContent-Length: 0\r\n" + HOST + "\r\n";
                assertEquals(403, client.send(post + "Origin: https://evil.example\r\n\r\n").read().status());
                assertEquals(403, client.send(post + "Origin: null\r\n\r\n").read().status());
                assertEquals(200, client.send(post + "Origin: http://127.0.0.1\r\n\r\n").read().status());
                assertEquals(200, client.send(post + "\r\n").read().status());
            }
        }
    }
}
