// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.Caravan;
import io.caravan.runtime.HttpCall;
import io.caravan.runtime.HttpFeed;
import io.caravan.runtime.HttpGuard;
import io.caravan.runtime.HttpStream;
import io.caravan.runtime.internal.RawClient.Answer;
import java.io.EOFException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import org.apache.camel.Exchange;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class HttpServerTest {

    private static final String ROUTES = """
            - route: {id: in, from: {uri: "platform-http:/in", steps: [{bean: {ref: probe, method: echo}}]}}
            - route: {id: in-slow, from: {uri: "platform-http:/slow", steps: [{bean: {ref: probe, method: slow}}]}}
            - route: {id: in-big, from: {uri: "platform-http:/big", steps: [{bean: {ref: probe, method: big}}]}}
            - route: {id: in-later, from: {uri: "platform-http:/later", steps: [{bean: {ref: probe, method: later}}]}}
            - route: {id: in-fail, from: {uri: "platform-http:/fail", steps: [{bean: {ref: probe, method: fail}}]}}
            - route: {id: in-feed-late, from: {uri: "platform-http:/feed-late", steps: [{removeHeaders: {pattern: "*"}}, {bean: {ref: probe, method: lateFeed}}]}}
            - route: {id: in-feed, from: {uri: "platform-http:/feed", steps: [{removeHeaders: {pattern: "*"}}, {bean: {ref: probe, method: feed}}]}}
            - route: {id: in-who, from: {uri: "platform-http:/who", steps: [{removeHeaders: {pattern: "*"}}, {bean: {ref: probe, method: who}}]}}
            """;
    private static final String HOST = "Host: 127.0.0.1\r\n";

    @TempDir
    Path dir;

    private final Probe probe = new Probe();

    /** Bean of the routes. */
    public static final class Probe {
        final CountDownLatch release = new CountDownLatch(1);

        public void echo(Exchange exchange) {
            byte[] body = exchange.getMessage().getBody(byte[].class);
            exchange.getMessage().removeHeaders("*");
            exchange.getMessage().setBody("got " + (body == null ? 0 : body.length));
        }

        public void slow(Exchange exchange) throws InterruptedException {
            release.await(20, TimeUnit.SECONDS);
            echo(exchange);
        }

        final CompletableFuture<String> answer = new CompletableFuture<>();
        final List<HttpStream> streams = new CopyOnWriteArrayList<>();
        final AtomicInteger waiting = new AtomicInteger();

        public CompletionStage<String> later(Exchange exchange) {
            exchange.getMessage().removeHeaders("*");
            waiting.incrementAndGet();
            return answer;
        }

        public void fail() {
            throw new IllegalStateException("secret");
        }

        public void feed(Exchange exchange) {
            exchange.getMessage().setHeader("X-Kind", "feed");
            exchange.getMessage().setBody((HttpFeed) streams::add);
        }

        public void lateFeed(Exchange exchange) throws Exception {
            waiting.incrementAndGet();
            answer.get(20, TimeUnit.SECONDS);
            feed(exchange);
        }

        public void big(Exchange exchange) {
            exchange.getMessage().setBody(new byte[64 << 20]);
        }

        public void who(Exchange exchange) {
            HttpCall call = HttpCall.of(exchange);
            exchange.getMessage().setBody(call.address() + " " + call.local() + " " + call.exposed() + " " + call.certificateName());
        }
    }

    private Caravan.Builder builder() throws IOException {
        DefaultCamelContext context = new DefaultCamelContext();
        context.getRegistry().bind("probe", probe);
        return Caravan.builder().keys(Path.of("src/test/resources/keys")).environment(Map.of()).withoutDiscovery().context(context)
                .home(dir).routes(Files.writeString(dir.resolve("in.camel.yaml"), ROUTES));
    }

    private static double refused(Caravan caravan, String reason) {
        String name = "caravan_http_refused_total{reason=\"" + reason + "\"} ";
        return caravan.metrics().lines().filter(l -> l.startsWith(name)).mapToDouble(l -> Double.parseDouble(l.substring(name.length())))
                .sum();
    }

    private static double gauge(Caravan caravan) {
        return caravan.metrics().lines().filter(l -> l.startsWith("caravan_http_connections ")).mapToDouble(
                l -> Double.parseDouble(l.substring(l.indexOf(' ')))).sum();
    }

    private static void await(BooleanSupplier condition) throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        while (!condition.getAsBoolean()) {
            assertTrue(System.nanoTime() < deadline, "not within 20 s");
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }

    private static String get(String path) {
        return "GET " + path + " HTTP/1.1\r\n" + HOST + "\r\n";
    }

    private static Answer ask(Caravan caravan, String request) throws IOException {
        try (RawClient client = new RawClient(caravan.httpPort())) {
            return client.send(request).read();
        }
    }

    @Test
    void aRouteThatWaitsHoldsNoWorker() throws Exception {
        try (Caravan caravan = builder().start()) {
            List<RawClient> waiting = new ArrayList<>();
            // Vert.x has 20 workers.
            for (int i = 0; i < 50; i++) {
                waiting.add(new RawClient(caravan.httpPort()).send(get("/later")));
            }
            await(() -> probe.waiting.get() == 50);
            assertEquals(200, ask(caravan, get("/in")).status());
            probe.answer.complete("done");
            for (RawClient client : waiting) {
                assertEquals("done", client.read().body());
                client.close();
            }
        }
    }

    @Test
    void aRouteThatFailsTellsNothing() throws Exception {
        try (Caravan caravan = builder().start()) {
            Answer answer = ask(caravan, get("/fail"));
            assertEquals(500, answer.status());
            assertEquals("{\"error\":\"internal_error\",\"message\":\"the request failed; the log says why\"}", answer.body());
        }
    }

    @Test
    void anAnswerMayGoOn() throws Exception {
        try (Caravan caravan = builder().set("http.request.timeout.ms", "700").set("http.idle.timeout.ms", "700").start();
                RawClient client = new RawClient(caravan.httpPort())) {
            client.send(get("/feed"));
            await(() -> probe.streams.size() == 1);
            HttpStream stream = probe.streams.get(0);
            AtomicInteger pieces = new AtomicInteger();
            AtomicBoolean closed = new AtomicBoolean();
            stream.onClose(() -> closed.set(true));
            // Longer than any timeout, for its client reads.
            stream.onReady(() -> {
                if (pieces.incrementAndGet() == 20) {
                    stream.close();
                } else {
                    CompletableFuture.delayedExecutor(100, TimeUnit.MILLISECONDS).execute(() -> stream.write(new byte[] {'x'}));
                }
            });
            assertTrue(stream.isReady());
            stream.write("begin ".getBytes());
            Answer answer = client.read();
            assertEquals("feed", answer.headers().get("X-Kind"));
            assertEquals("begin " + "x".repeat(19), answer.body());
            await(closed::get);
            assertEquals(200, client.send(get("/in")).read().status(), "the connection is as good as new");
        }
    }

    /** Its feed has made room for it by then. */
    @Test
    void whoGoesBeforeTheAnswerIsToldToItsFeed() throws Exception {
        try (Caravan caravan = builder().start()) {
            try (RawClient client = new RawClient(caravan.httpPort())) {
                client.send(get("/feed-late"));
                await(() -> probe.waiting.get() == 1);
            }
            await(() -> gauge(caravan) == 0);
            probe.answer.complete("now");
            await(() -> probe.streams.size() == 1);
            AtomicBoolean closed = new AtomicBoolean();
            probe.streams.get(0).onClose(() -> closed.set(true));
            assertTrue(closed.get());
            probe.streams.get(0).write(new byte[1]);
            probe.streams.get(0).close();
        }
    }

    @Test
    void whoDoesNotReadWhatGoesOnIsCut() throws Exception {
        try (Caravan caravan = builder().set("http.request.timeout.ms", "700").start(); RawClient client = new RawClient(caravan.httpPort())) {
            client.send(get("/feed"));
            await(() -> probe.streams.size() == 1);
            HttpStream stream = probe.streams.get(0);
            AtomicBoolean closed = new AtomicBoolean();
            AtomicInteger pieces = new AtomicInteger();
            stream.onClose(() -> closed.set(true));
            stream.onReady(() -> {
                pieces.incrementAndGet();
                stream.write(new byte[1 << 20]);
            });
            stream.write(new byte[1 << 20]);
            await(closed::get);
            assertFalse(stream.isReady());
            assertTrue(pieces.get() < 64, pieces + " MiB for one who reads nothing");
            assertEquals(1, refused(caravan, "slow_reader"));
        }
    }

    @Test
    void aHeaderThatTricklesIsCut() throws Exception {
        String request = "GET /in HTTP/1.1\r\n" + HOST + "X-Slow: 1234567890\r\n\r\n";
        try (Caravan caravan = builder().set("http.header.timeout.ms", "500").start();
                RawClient slow = new RawClient(caravan.httpPort()); RawClient other = new RawClient(caravan.httpPort())) {
            slow.trickle(request, 100);
            assertEquals(200, other.send(get("/in")).read().status(), "others are not disturbed");
            Answer answer = slow.read();
            assertEquals(408, answer.status());
            assertTrue(answer.body().startsWith("{\"error\":\"timeout\",\"message\":\""), answer.body());
            assertTrue(slow.closed());
            assertEquals(1, refused(caravan, "header_timeout"));
            assertEquals(0, refused(caravan, "request_timeout"));
        }
        // The same client with the limit out of reach: it was the limit that cut it.
        try (Caravan caravan = builder().set("http.header.timeout.ms", "60000").start(); RawClient slow = new RawClient(caravan.httpPort())) {
            slow.trickle(request, 10);
            assertEquals(200, slow.read().status());
        }
    }

    @Test
    void aBodyThatTricklesIsCutHoweverItIsFramed() throws Exception {
        try (Caravan caravan = builder().set("http.request.timeout.ms", "500").start()) {
            for (String head : List.of("Content-Length: 1000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n3e8\r\n")) {
                try (RawClient slow = new RawClient(caravan.httpPort())) {
                    slow.send("POST /in HTTP/1.1\r\n" + HOST + head).trickle("x".repeat(900), 20);
                    assertEquals(408, slow.read().status());
                    assertTrue(slow.closed());
                }
            }
            assertEquals(2, refused(caravan, "request_timeout"));
            await(() -> gauge(caravan) == 0);
        }
        try (Caravan caravan = builder().set("http.request.timeout.ms", "60000").start(); RawClient slow = new RawClient(caravan.httpPort())) {
            slow.send("POST /in HTTP/1.1\r\n" + HOST + "Content-Length: 60\r\n\r\n").trickle("x".repeat(60), 10);
            assertEquals("got 60", slow.read().body());
        }
    }

    @Test
    void theTimeOfTheRouteIsNotTheClients() throws Exception {
        try (Caravan caravan = builder().set("http.header.timeout.ms", "100").set("http.request.timeout.ms", "100")
                .set("http.idle.timeout.ms", "100").start();
                RawClient client = new RawClient(caravan.httpPort()); RawClient idle = new RawClient(caravan.httpPort())) {
            client.send(get("/slow") + "GET /in HTTP");
            // Cut on the same clock that would have cut the other one.
            assertTrue(idle.closed());
            await(() -> refused(caravan, "idle") == 1);
            probe.release.countDown();
            assertEquals(200, client.read().status());
            // Now it is the client again that has a header open.
            assertEquals(408, client.read().status());
        }
    }

    @Test
    void anIdleConnectionIsClosedAndNotCounted() throws Exception {
        try (Caravan caravan = builder().set("http.idle.timeout.ms", "300").start(); RawClient client = new RawClient(caravan.httpPort())) {
            for (int i = 0; i < 3; i++) {
                assertEquals(200, client.send(get("/in")).read().status(), "one connection, several requests");
            }
            assertTrue(client.closed());
            assertEquals(0, refused(caravan, "idle"));
        }
    }

    @Test
    void anAnswerThatIsNotReadIsCut() throws Exception {
        try (Caravan caravan = builder().set("http.request.timeout.ms", "500").start(); RawClient client = new RawClient(caravan.httpPort())) {
            client.send(get("/big"));
            await(() -> refused(caravan, "slow_reader") == 1);
            await(() -> gauge(caravan) == 0);
        }
        try (Caravan caravan = builder().set("http.request.timeout.ms", "60000").start(); RawClient client = new RawClient(caravan.httpPort())) {
            assertEquals(64 << 20, client.send(get("/big")).read().body().length());
        }
    }

    @Test
    void connectionsAreLimitedInAllAndPerAddress() throws Exception {
        try (Caravan caravan = builder().set("http.connections.max", "3").set("http.address.connections.max", "2").start()) {
            int port = caravan.httpPort();
            try (RawClient a = new RawClient(port); RawClient b = new RawClient(port)) {
                assertEquals(200, a.send(get("/in")).read().status());
                assertEquals(200, b.send(get("/in")).read().status());
                try (RawClient third = new RawClient(port)) {
                    Answer answer = third.read();
                    assertEquals(503, answer.status());
                    assertEquals("5", answer.headers().get("Retry-After"));
                    assertTrue(third.closed());
                }
                assertEquals(1, refused(caravan, "address_connections"));
                await(() -> gauge(caravan) == 2);
                try (RawClient elsewhere = new RawClient(port, "127.0.0.2")) {
                    assertEquals(200, elsewhere.send(get("/in")).read().status(), "another address has its own");
                    try (RawClient fourth = new RawClient(port, "127.0.0.3")) {
                        assertEquals(503, fourth.read().status());
                    }
                    assertEquals(1, refused(caravan, "connections"));
                }
                assertEquals(200, a.send(get("/in")).read().status(), "who is in stays in");
            }
            await(() -> gauge(caravan) == 0);
            assertEquals(200, ask(caravan, get("/in")).status(), "and there is room again");
        }
    }

    @Test
    void whatIsNotHttpIsAnsweredInOurForm() throws Exception {
        try (Caravan caravan = builder().set("http.line.max.bytes", "1024").set("http.header.max.bytes", "2048").start()) {
            for (var expected : Map.of("RUBBISH\r\n\r\n", 400, "GET /in HTTP/1.1\r\nno colon\r\n\r\n", 400,
                    "GET /" + "a".repeat(2000) + " HTTP/1.1\r\n\r\n", 414,
                    "GET /in HTTP/1.1\r\nX: " + "a".repeat(4000) + "\r\n\r\n", 431,
                    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "GET /in nHTTP/1.1\r\nHost: a\r\n\r\n", 400, "GET /in nHTTP/1.1\r\nno colon\r\n\r\n", 400, "GET /in HTTP/1.1\r\nX: a\0b\r\n\r\n", 400).entrySet()) {
                Answer answer = ask(caravan, expected.getKey());
                assertEquals(expected.getValue(), answer.status(), expected.getKey());
                assertTrue(answer.body().startsWith("{\"error\":\"bad_request\",\"message\":\""), answer.body());
            }
            assertEquals(1, refused(caravan, "line_too_long"));
            assertEquals(1, refused(caravan, "header_too_large"));
            assertEquals(6, refused(caravan, "bad_request"));
            assertEquals("{\"error\":\"not_found\",\"message\":\"there is nothing at this path\"}", ask(caravan, get("/nothing")).body());
        }
    }

    @Test
    void aLengthThatCanBeReadInTwoWaysIsRefused() throws Exception {
        String smuggled = get("/who");
        try (Caravan caravan = builder().start()) {
            for (String headers : List.of(
                    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
                    "Transfer-Encoding: chunked\r\nContent-Length: " + (5 + smuggled.length()) + "\r\n\r\n0\r\n\r\n" + smuggled,
                    "Content-Length: 0\r\nContent-Length: " + smuggled.length() + "\r\n\r\n" + smuggled,
                    "Content-Length: 0, " + smuggled.length() + "\r\n\r\n" + smuggled,
                    "Content-Length: +0\r\n\r\n" + smuggled,
                    "Content-Length: 0x10\r\n\r\n" + smuggled,
                    "Content-Length: -1\r\n\r\n" + smuggled,
                    "Transfer-Encoding: xchunked\r\n\r\n" + smuggled,
                    "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + smuggled,
                    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
                    "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled,
                    "Transfer-Encoding:\u000bchunked\r\n\r\n0\r\n\r\n" + smuggled)) {
                try (RawClient client = new RawClient(caravan.httpPort())) {
                    client.send("POST /in HTTP/1.1\r\n" + HOST + headers);
                    assertEquals(400, client.read().status(), headers);
                    assertTrue(client.closed(), () -> "nothing after it is a request: " + headers);
                }
            }
            try (RawClient client = new RawClient(caravan.httpPort())) {
                client.send("POST /in HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
                assertEquals(400, client.read().status());
            }
            assertEquals(13, refused(caravan, "ambiguous") + refused(caravan, "bad_request"));
            // Each of the two alone is fine.
            assertEquals("got 3", ask(caravan, "POST /in HTTP/1.1\r\n" + HOST + "Content-Length: 3\r\n\r\nabc").body());
            assertEquals("got 3", ask(caravan, "POST /in HTTP/1.1\r\n" + HOST + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").body());
        }
    }

    @Test
    void aBrokenChunkIsAnswered() throws Exception {
        try (Caravan caravan = builder().start(); RawClient client = new RawClient(caravan.httpPort())) {
            client.send("POST /in HTTP/1.1\r\n" + HOST + "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n");
            assertEquals(400, client.read().status());
            assertTrue(client.closed());
            assertEquals(1, refused(caravan, "bad_request"));
        }
    }

    @Test
    void aBodyIsLimitedHoweverItIsFramed() throws Exception {
        int tenMegabytes = 10 << 20;
        try (Caravan caravan = builder().set("http.max.bytes", "1000").start()) {
            try (RawClient client = new RawClient(caravan.httpPort())) {
                assertEquals(413, client.send("POST /in HTTP/1.1\r\n" + HOST + "Content-Length: 1001\r\n\r\n").read().status(),
                        "answered before there is a body");
            }
            try (RawClient client = new RawClient(caravan.httpPort())) {
                client.send("POST /in HTTP/1.1\r\n" + HOST + "Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + "x".repeat(1000) + "\r\n1\r\nx\r\n");
                Answer answer = client.read();
                assertEquals(413, answer.status());
                assertEquals("{\"error\":\"invalid_payload\",\"reason\":\"too_large\",\"message\":\"the body exceeds http.max.bytes\"}", answer.body());
                client.send("0\r\n\r\n");
                assertTrue(client.closed());
            }
            for (String framing : List.of("Content-Length: " + tenMegabytes + "\r\n\r\n",
                    "Transfer-Encoding: chunked\r\n\r\n" + Integer.toHexString(tenMegabytes) + "\r\n")) {
                try (RawClient client = new RawClient(caravan.httpPort())) {
                    // A client that sends all of it before it looks gets its answer too.
                    client.send("POST /in HTTP/1.1\r\n" + HOST + framing).send(new byte[tenMegabytes]);
                    assertEquals(413, client.read().status());
                }
            }
            assertEquals(4, refused(caravan, "too_large"));
            try (RawClient client = new RawClient(caravan.httpPort())) {
                assertThrows(IOException.class, () -> {
                    client.send("POST /in HTTP/1.1\r\n" + HOST + "Transfer-Encoding: chunked\r\n\r\n40000000\r\n");
                    for (int i = 0; i < 1024; i++) {
                        client.send(new byte[1 << 20]);
                    }
                }, "not for ever");
            }
            assertEquals("got 1000", ask(caravan, "POST /in HTTP/1.1\r\n" + HOST + "Content-Length: 1000\r\n\r\n" + "x".repeat(1000)).body());
        }
    }

    @Test
    void aFormIsABodyLikeAnyOther() throws Exception {
        try (Caravan caravan = builder().start()) {
            for (String type : List.of("application/x-www-form-urlencoded", "multipart/form-data; boundary=b")) {
                Answer answer = ask(caravan, "POST /in HTTP/1.1\r\n" + HOST + "Content-Type: " + type + "\r\nContent-Length: 7\r\n\r\nCamel=1");
                assertEquals(200, answer.status());
            }
        }
    }

    @Test
    void pipeliningIsBounded() throws Exception {
        try (Caravan caravan = builder().set("http.pipeline.max", "4").start()) {
            try (RawClient client = new RawClient(caravan.httpPort())) {
                client.send(get("/in") + get("/nothing") + get("/in") + get("/in"));
                List<Integer> answers = new ArrayList<>();
                for (int i = 0; i < 4; i++) {
                    answers.add(client.read().status());
                }
                assertEquals(List.of(200, 404, 200, 200), answers);
            }
            try (RawClient client = new RawClient(caravan.httpPort())) {
                client.send(get("/slow") + get("/in").repeat(100));
                assertThrows(EOFException.class, client::read);
                assertEquals(1, refused(caravan, "pipeline"));
            }
            probe.release.countDown();
        }
    }

    @Test
    void continueIsSaidToWhoMaySend() throws Exception {
        try (Caravan caravan = builder().set("http.max.bytes", "10").start(); RawClient client = new RawClient(caravan.httpPort())) {
            client.send("POST /in HTTP/1.1\r\n" + HOST + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
            assertEquals(100, client.read().status());
            assertEquals("got 3", client.send("abc").read().body());
            client.send("POST /in HTTP/1.1\r\n" + HOST + "Expect: 100-continue\r\nContent-Length: 11\r\n\r\n");
            assertEquals(413, client.read().status());
            assertEquals(417, ask(caravan, "POST /in HTTP/1.1\r\n" + HOST + "Expect: more\r\nContent-Length: 3\r\n\r\n").status());
        }
    }

    @Test
    void aPathThatCanBeReadInTwoWaysIsRefused() throws Exception {
        List<String> bad = List.of("/../in", "/in/..", "/./in", "//in", "/in/%2e%2e/in", "/in%2fx", "/in%5cx", "/in\\x", "/in%00", "/in%252fx",
                "/in%", "/in%zz", "/in%0d%0aX:y", "/" + "a".repeat(2000), "/in#x", "/in/\u00e4");
        try (Caravan caravan = builder().start()) {
            for (String path : bad) {
                Answer answer = ask(caravan, "GET " + path + " HTTP/1.1\r\n" + HOST + "\r\n");
                assertEquals(400, answer.status(), path);
                assertTrue(answer.body().startsWith("{\"error\":\"bad_request\""), answer.body());
            }
            assertEquals(bad.size(), refused(caravan, "bad_path"));
            assertEquals(200, ask(caravan, get("/in?a=%2e%2e%2f")).status(), "a query may say what it likes");
            assertEquals(200, ask(caravan, get("/%69n")).status());
            assertEquals(404, ask(caravan, get("/in..x")).status());
        }
    }

    @Test
    void answersAreNotForBrowsers() throws Exception {
        try (Caravan caravan = builder().start()) {
            Answer answer = ask(caravan, "GET /in HTTP/1.1\r\n" + HOST + "Origin: http://evil\r\nCookie: a=b\r\n\r\n");
            assertEquals("nosniff", answer.headers().get("X-Content-Type-Options"));
            assertEquals("no-store", answer.headers().get("Cache-Control"));
            assertTrue(answer.headers().keySet().stream().noneMatch(h -> h.matches("(?i)access-control-.*|set-cookie|server|x-powered-by")),
                    () -> String.valueOf(answer.headers()));
            Answer preflight = ask(caravan, "OPTIONS /nothing HTTP/1.1\r\n" + HOST + "Origin: http://evil\r\nAccess-Control-Request-Method: POST\r\n\r\n");
            assertEquals(404, preflight.status());
            assertFalse(preflight.headers().containsKey("Access-Control-Allow-Origin"));
        }
    }

    @Test
    void noMoreThanHttp11() throws Exception {
        try (Caravan caravan = builder().start()) {
            Answer answer = ask(caravan, "GET /in HTTP/1.1\r\n" + HOST + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                    + "HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n");
            assertEquals(200, answer.status(), "an upgrade may be ignored");
            Answer webSocket = ask(caravan, "GET /in HTTP/1.1\r\n" + HOST + "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                    + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
            assertEquals(200, webSocket.status());
        }
    }

    /** Refuses everybody. */
    private static final class Nobody implements HttpGuard {
        volatile int asked;

        @Override
        public String prefix() {
            return "/in";
        }

        @Override
        public boolean admit(HttpCall call) {
            asked++;
            return false;
        }
    }

    @Test
    void theBodyOfWhoIsNotAdmittedIsNotWaitedFor() throws Exception {
        try (Caravan caravan = builder().start()) {
            Nobody nobody = new Nobody();
            caravan.context().getRegistry().bind("httpAccess", nobody);
            try (RawClient client = new RawClient(caravan.httpPort())) {
                client.send("POST /in HTTP/1.1\r\n" + HOST + "Content-Length: 1000\r\n\r\n");
                assertEquals("got 0", client.read().body(), "the route answers, without a body");
                client.send("x".repeat(1000)).send(get("/who"));
                assertEquals(200, client.read().status(), "what comes is dropped, and the connection goes on");
            }
            assertEquals(1, nobody.asked);
        }
    }

    @Test
    void aClientsAddressIsThePeersUnlessATrustedProxySaysOtherwise() throws Exception {
        try (Caravan caravan = builder().set("http.trusted.proxies", "127.0.0.2, 10.0.0.0/8").start()) {
            assertEquals("127.0.0.1 true false null", ask(caravan, get("/who")).body());
            assertEquals("127.0.0.1 false false null", who(caravan, "127.0.0.1", "X-Forwarded-For: 192.0.2.7"), "nobody's word counts");
            for (String header : List.of("Forwarded: for=192.0.2.7", "X-Real-IP: 192.0.2.7", "Via: 1.1 x", "Host: evil.example")) {
                assertEquals("127.0.0.1 false false null", who(caravan, "127.0.0.1", header));
            }
            assertEquals("192.0.2.7 false false null", who(caravan, "127.0.0.2", "X-Forwarded-For: 192.0.2.7"));
            assertEquals("192.0.2.7 false false null", who(caravan, "127.0.0.2", "X-Forwarded-For: 127.0.0.1, 6.6.6.6, 192.0.2.7, 10.1.2.3"));
            assertEquals("192.0.2.7 false false null", who(caravan, "127.0.0.2", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.7"));
            assertEquals("2001:db8:0:0:0:0:0:7 false false null", who(caravan, "127.0.0.2", "X-Forwarded-For: 2001:db8::7"));
            assertEquals("10.1.2.3 false false null", who(caravan, "127.0.0.2", "X-Forwarded-For: evil.example, 10.1.2.3"), "no name is looked up");
            assertEquals("127.0.0.2 false false null", who(caravan, "127.0.0.2", "X-Forwarded-For: unknown"));
            assertEquals("127.0.0.2 false false null", who(caravan, "127.0.0.2", "X: y"), "a proxy is never local");
        }
        assertThrows(io.caravan.runtime.ConfigException.class, () -> builder().set("http.trusted.proxies", "10.0.0.0/33").start());
    }

    private static String who(Caravan caravan, String from, String header) throws IOException {
        try (RawClient client = new RawClient(caravan.httpPort(), from)) {
            return client.send("GET /who HTTP/1.1\r\n" + (header.startsWith("Host") ? "" : HOST) + header + "\r\n\r\n").read().body();
        }
    }

    @Test
    void onlyAnExchangeOfTheServerHasACall() throws Exception {
        try (Caravan caravan = builder().start()) {
            Exchange exchange = new org.apache.camel.support.DefaultExchange(caravan.context());
            assertThrows(IllegalStateException.class, () -> HttpCall.of(exchange));
            assertNull(exchange.getMessage().getBody());
        }
    }
}
