// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.micrometer.core.instrument.MeterRegistry;
import io.vertx.core.Vertx;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import org.apache.camel.CamelContext;
import org.apache.camel.CamelExecutionException;
import org.apache.camel.Route;
import org.apache.camel.component.direct.DirectConsumerNotAvailableException;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CaravanTest {

    private static final Path KEYS = Path.of("src/test/resources/keys");
    private static final String HTTP = """
            - route:
                id: http-%s
                from:
                  uri: platform-http:/%s
                  steps:
                    - bean: {ref: adminAccess, method: identify}
                    - bean: {ref: %s, method: %s}
            """;

    @TempDir
    Path dir;

    private Caravan.Builder builder() {
        return Caravan.builder().keys(KEYS).environment(Map.of()).withoutDiscovery();
    }

    private Path file(String name, String text) throws IOException {
        return Files.writeString(dir.resolve(name), text);
    }

    private Path healthRoutes() throws IOException {
        return file("http-health.camel.yaml", HTTP.formatted("live", "healthz", "health", "live")
                + HTTP.formatted("ready", "readyz", "health", "ready") + HTTP.formatted("version", "version", "health", "version")
                + HTTP.formatted("metrics", "metrics", "metrics", "scrape"));
    }

    private static HttpResponse<String> get(Caravan caravan, String path) throws Exception {
        return HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + caravan.httpPort() + path))
                .header("X-Secret", "token").timeout(Duration.ofSeconds(10)).build(), HttpResponse.BodyHandlers.ofString());
    }

    @Test
    void auditsStartConfigurationRoutesAndStop() throws Exception {
        Path cfg = Files.createDirectory(dir.resolve("etc"));
        Path log = dir.resolve("audit/audit.log");
        Files.writeString(cfg.resolve("io.caravan.user.cfg"), "user.token = first-secret\nuser.site = north\n");
        String route = "- route: {id: hello, from: {uri: \"direct:hello\", steps: [{setBody: {constant: %s}}]}}\n";
        try (Caravan caravan = builder().cfg(cfg).set("audit.file", log.toString()).routes(file("hello.camel.yaml", route.formatted("one"))).start()) {
            AuditTrail audit = caravan.bean("audit", AuditTrail.class).orElseThrow();
            List<AuditTrail.Entry> entries = Collections.synchronizedList(new ArrayList<>());
            Runnable read = () -> {
                entries.clear();
                audit.read(e -> true, entries::add);
            };
            await(() -> {
                read.run();
                return entries.stream().anyMatch(e -> e.action().equals("route.inventory") && e.details().get("hello").startsWith("feature "));
            });
            Files.writeString(cfg.resolve("io.caravan.user.cfg"), "user.token = second-secret\nuser.site = south\n");
            await(() -> {
                read.run();
                return entries.stream().anyMatch(e -> e.action().equals("config.change") && e.subject().equals("user.site user.token")
                        && e.details().equals(Map.of("user.site", "[north] -> [south]", "user.token", "[***] -> [***]")));
            });
            Files.writeString(cfg.resolve("io.caravan.user.cfg"), "nonsense = 1\n");
            await(() -> {
                read.run();
                return entries.stream().anyMatch(e -> e.action().equals("config.change") && e.outcome().equals("refused"));
            });
            caravan.deploy(file("hello.camel.yaml", route.formatted("two")));
            caravan.undeploy("hello");
            read.run();
            assertEquals(List.of("route.replace hello", "route.replace hello"), entries.stream().filter(e -> e.subject().equals("hello"))
                    .map(e -> e.action() + " " + e.subject()).toList(), "the file of the start comes back");
        }
        String text = Files.readString(log);
        assertTrue(text.lines().findFirst().orElseThrow().contains("\"container.start\""));
        assertTrue(text.lines().reduce((a, b) -> b).orElseThrow().contains("\"container.stop\""));
        assertFalse(text.contains("-secret"), text);
    }

    @Test
    void answersHealthVersionAndMetrics() throws Exception {
        try (Caravan caravan = builder().routes(healthRoutes()).start()) {
            assertTrue(caravan.awaitReady(Duration.ofSeconds(10)), () -> String.valueOf(caravan.checks()));
            assertEquals("gateway", caravan.role());
            assertEquals("gateway", caravan.context().getName());

            HttpResponse<String> ready = get(caravan, "/readyz");
            assertEquals(200, ready.statusCode(), ready.body());
            assertTrue(ready.body().startsWith("{\"status\":\"ready\",\"checks\":[{\"name\":\"audit\",\"status\":\"UP\""), ready.body());
            assertTrue(ready.headers().firstValue("X-Secret").isEmpty(), "the request's headers do not come back");
            assertEquals(200, get(caravan, "/healthz").statusCode());
            assertTrue(get(caravan, "/version").body().contains("\"version\":\"" + caravan.version() + "\""));
            HttpResponse<String> metrics = get(caravan, "/metrics");
            assertEquals("text/plain; version=0.0.4; charset=utf-8", metrics.headers().firstValue("Content-Type").orElseThrow());
            assertTrue(metrics.body().contains("jvm_memory_used_bytes{"));

            caravan.deploy(file("sink-x.camel.yaml", "- route: ["));
            HttpResponse<String> broken = get(caravan, "/readyz");
            assertEquals(503, broken.statusCode());
            assertTrue(broken.body().contains("{\"name\":\"route:sink-x\",\"status\":\"DOWN\",\"message\":\"deploy\\/sink-x.camel.yaml, line 2:")
                    || broken.body().contains("\"message\":\"deploy/sink-x.camel.yaml, line 2:"), broken.body());
            assertEquals(200, get(caravan, "/healthz").statusCode(), "restarting would not mend a file");
            caravan.undeploy("sink-x");
            assertTrue(caravan.ready());
        }
    }

    @Test
    void sharesItsBeans() throws Exception {
        try (Caravan caravan = builder().set("container.role", "cloud").start()) {
            var registry = caravan.context().getRegistry();
            assertEquals(1, registry.findByType(Vertx.class).size());
            assertNotNull(registry.lookupByNameAndType("metricsRegistry", MeterRegistry.class));
            assertEquals("cloud", registry.lookupByNameAndType("config", Config.class).get("container.role"));
            assertEquals("cloud", caravan.context().resolvePropertyPlaceholders("{{container.role}}"));
        }
    }

    @Test
    void failingModuleIsReportedAndTriedAgainWhileTheRestRuns() throws Exception {
        AtomicInteger attempts = new AtomicInteger();
        AtomicBoolean away = new AtomicBoolean(true);
        Module shy = (context, config) -> {
            attempts.incrementAndGet();
            if (away.get()) {
                throw new IOException("disk is away");
            }
            context.getRegistry().bind("shy", "here");
            return () -> context.getRegistry().unbind("shy");
        };
        Path waiting = file("waiting.camel.yaml",
                "- route: {id: waiting, from: {uri: \"direct:waiting\", steps: [{bean: {ref: shy, method: toString}}]}}\n");
        try (Caravan caravan = builder().module("shy", shy).routes(waiting).start()) {
            assertFalse(caravan.ready());
            assertTrue(caravan.checks().stream().anyMatch(c -> c.name().equals("module:shy") && c.blocks() && c.message().equals("does not start: disk is away")
                    && !c.todo().isEmpty() && c.sinceMs() > 0),
                    () -> String.valueOf(caravan.checks()));
            assertEquals("pending", caravan.routes().get(0).state());
            away.set(false);
            assertTrue(caravan.awaitReady(Duration.ofSeconds(20)), () -> String.valueOf(caravan.checks()));
            assertEquals("here", caravan.context().createProducerTemplate().requestBody("direct:waiting", "", String.class));
        }
        assertTrue(attempts.get() > 1, attempts::toString);
    }

    @Test
    void moduleThatNeverStartsDoesNotHoldUpTheStop() throws Exception {
        Caravan caravan = builder().module("broken", (context, config) -> {
            throw new IOException("never");
        }).start();
        long before = System.nanoTime();
        caravan.close();
        assertTrue(System.nanoTime() - before < TimeUnit.SECONDS.toNanos(5));
    }

    @Test
    void aModulesOwnHealthCheckCounts() throws Exception {
        Module module = (context, config) -> {
            HealthCheckRegistry.get(context).register(new AbstractHealthCheck("caravan", "wal") {
                @Override
                protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
                    builder.message("97 % full").down();
                }
            });
            return () -> { };
        };
        try (Caravan caravan = builder().module("wal", module).start()) {
            assertTrue(caravan.checks().stream().anyMatch(c -> c.name().equals("wal") && c.blocks() && c.message().equals("97 % full")),
                    () -> String.valueOf(caravan.checks()));
            assertFalse(caravan.awaitReady(Duration.ofMillis(200)));
        }
        try (Caravan caravan = builder().module("wal", module).set("admin.ready.ignore", "sink:*, w*l").routes(healthRoutes()).start()) {
            assertTrue(caravan.awaitReady(Duration.ofSeconds(10)), () -> String.valueOf(caravan.checks()));
            assertTrue(caravan.checks().stream().anyMatch(c -> c.name().equals("wal") && !c.up() && !c.blocks()));
            HttpResponse<String> ready = get(caravan, "/readyz");
            assertEquals(200, ready.statusCode());
            assertTrue(ready.body().contains("\"message\":\"97 % full\",\"todo\":\"") && ready.body().contains("\"counts\":false"), ready.body());
        }
    }

    @Test
    void stopsRoutesBeforeModulesAndModulesLastInFirstOut() throws Exception {
        List<String> order = Collections.synchronizedList(new ArrayList<>());
        Path file = file("a.camel.yaml", "- route: {id: a, from: {uri: \"timer:a\", steps: [{log: a}]}}\n");
        CamelContext context;
        try (Caravan caravan = builder().module("first", module("first", order)).module("second", module("second", order))
                .routes(file).start()) {
            context = caravan.context();
            assertTrue(caravan.ready());
        }
        assertEquals(List.of("second after Stopped", "first after Stopped"), order);
        assertTrue(context.getStatus().isStopped());
    }

    private static Module module(String name, List<String> order) {
        return (context, config) -> () -> order.add(name + " after " + context.getStatus());
    }

    @Test
    void takenPortRefusesTheStart() throws Exception {
        try (ServerSocket other = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            String port = String.valueOf(other.getLocalPort());
            ConfigException e = assertThrows(ConfigException.class, () -> builder().set("http.port", port).start());
            assertEquals("http.port [" + port + "] cannot be listened on at http.bind.host [127.0.0.1]: Address already in use;"
                    + " stop what uses the port, or change http.port (io.caravan.http.cfg, CARAVAN_HTTP_PORT or --http.port)",
                    e.getMessage());
        }
    }

    @Test
    void badConfigurationRefusesTheStart() {
        assertThrows(ConfigException.class, () -> builder().set("http.prot", "1").start());
    }

    @Test
    void changedCfgFileRedeploysTheFilesThatUseTheKey() throws Exception {
        String answer = "- route: {id: %s, from: {uri: \"direct:%s\", steps: [{setBody: {constant: \"{{wal.%s}}\"}}]}}\n";
        Path greeting = file("greeting.camel.yaml", answer.formatted("greeting", "greeting", "greeting"));
        Path other = file("other.camel.yaml", answer.formatted("other", "other", "other"));
        try (Caravan caravan = builder().cfg(dir).routes(greeting, other).start()) {
            Route untouched = caravan.context().getRoute("other");
            assertEquals("hello", ask(caravan, "greeting"));

            file("io.caravan.wal.cfg", "wal.greeting=ciao\n");
            await(() -> caravan.config().get("wal.greeting").equals("ciao"));
            await(() -> answers(caravan, "greeting", "ciao"));
            assertEquals(untouched, caravan.context().getRoute("other"));

            file("io.caravan.wal.cfg", "wal.greetings=ciao\n");
            await(() -> caravan.checks().stream().anyMatch(c -> c.name().equals("config") && c.status().equals("DOWN")
                    && c.message().contains("did you mean wal.greeting?")));
            assertEquals("ciao", ask(caravan, "greeting"));

            file("io.caravan.wal.cfg", "wal.greeting=salve\n");
            await(() -> answers(caravan, "greeting", "salve"));
        }
    }

    @Test
    void requestBodyIsLimited() throws Exception {
        Path file = file("in.camel.yaml", "- route: {id: in, from: {uri: \"platform-http:/in\", steps: [{setBody: {constant: ok}}]}}\n");
        try (Caravan caravan = builder().set("http.max.bytes", "100").routes(file).start()) {
            URI uri = URI.create("http://127.0.0.1:" + caravan.httpPort() + "/in");
            for (var expected : Map.of(100, 200, 101, 413).entrySet()) {
                HttpRequest post = HttpRequest.newBuilder(uri).POST(HttpRequest.BodyPublishers.ofByteArray(new byte[expected.getKey()])).build();
                assertEquals(expected.getValue(), HttpClient.newHttpClient().send(post, HttpResponse.BodyHandlers.discarding()).statusCode());
            }
        }
    }

    private static String ask(Caravan caravan, String name) {
        return caravan.context().createProducerTemplate().requestBody("direct:" + name, "", String.class);
    }

    /** False also while the route is being replaced: the new value is in force before its routes are told. */
    private static boolean answers(Caravan caravan, String name, String expected) {
        try {
            return caravan.ready() && expected.equals(ask(caravan, name));
        } catch (CamelExecutionException e) {
            if (e.getCause() instanceof DirectConsumerNotAvailableException) {
                return false;
            }
            throw e;
        }
    }

    private static void await(BooleanSupplier condition) throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
        while (!condition.getAsBoolean()) {
            assertTrue(System.nanoTime() < deadline, "not within 10 s");
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }
}
