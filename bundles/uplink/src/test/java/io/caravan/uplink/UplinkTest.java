// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.HttpServer;
import io.vertx.core.http.HttpServerOptions;
import io.vertx.core.http.ServerWebSocket;
import io.vertx.core.net.PemKeyCertOptions;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.camel.Exchange;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The uplink: component against a scripted server, over real TLS sockets and a proxy that cuts and freezes. */
@Timeout(60)
class UplinkTest {

    @TempDir static Path folder;
    static Certs certs;

    final Vertx vertx = Vertx.vertx();
    final SimpleMeterRegistry meters = new SimpleMeterRegistry();
    final BlockingQueue<String> events = new LinkedBlockingQueue<>();
    final BlockingQueue<Object> bodies = new LinkedBlockingQueue<>();
    final BlockingQueue<String> failures = new LinkedBlockingQueue<>();
    final List<ServerWebSocket> sockets = new CopyOnWriteArrayList<>();
    final List<String> tokens = new CopyOnWriteArrayList<>();
    final BlockingQueue<Object> received = new LinkedBlockingQueue<>();
    volatile String session;
    volatile CompletableFuture<Void> hold;
    HttpServer server;
    Proxy proxy;
    DefaultCamelContext camel;
    Path token;

    @BeforeAll
    static void certificates() throws Exception {
        certs = new Certs(folder.resolve("pki"));
        certs.issue("server", "DNS:localhost,IP:127.0.0.1");
        certs.issue("elsewhere", "DNS:cloud.example.org");
    }

    @BeforeEach
    void start() throws Exception {
        server = listen("server");
        proxy = new Proxy(server.actualPort());
        token = Files.writeString(folder.resolve("token"), "secret-1\n");
        camel = new DefaultCamelContext();
        camel.getShutdownStrategy().setTimeout(5);
        camel.getRegistry().bind("vertx", vertx);
        camel.getRegistry().bind("metricsRegistry", meters);
    }

    @AfterEach
    void stop() throws Exception {
        camel.stop();
        proxy.close();
        vertx.close().toCompletionStage().toCompletableFuture().get(10, TimeUnit.SECONDS);
    }

    private HttpServer listen(String certificate) throws Exception {
        return vertx.createHttpServer(new HttpServerOptions().setSsl(true).setPort(0).setHost("127.0.0.1")
            .addEnabledSecureTransportProtocol("TLSv1.3").addWebSocketSubProtocol("caravan.v1")
            .setKeyCertOptions(new PemKeyCertOptions().addCertPath(certs.cert(certificate))
                .addKeyPath(certs.key(certificate))))
            .webSocketHandler(ws -> {
                sockets.add(ws);
                tokens.add(String.valueOf(ws.headers().get("Authorization")));
                ws.textMessageHandler(received::add);
                ws.binaryMessageHandler(b -> received.add(b.getBytes()));
            }).listen().toCompletionStage().toCompletableFuture().get(10, TimeUnit.SECONDS);
    }

    private void uplink(Map<String, Object> options) throws Exception {
        Map<String, Object> all = new HashMap<>(Map.of("url", "wss://localhost:" + proxy.port() + "/uplink/gw-1",
            "tokenFile", token, "caFile", certs.ca, "pingMs", 200, "reconnectMinMs", 50, "reconnectMaxMs", 400,
            "sendTimeoutMs", 2000, "ackTimeoutMs", 1000, "connectTimeoutMs", 2000));
        all.putAll(options);
        StringBuilder uri = new StringBuilder("uplink:cloud?");
        all.forEach((k, v) -> uri.append(k).append('=').append(v).append('&'));
        camel.addRoutes(new RouteBuilder() {
            @Override
            public void configure() {
                from(uri.substring(0, uri.length() - 1)).routeId("uplink").process(e -> {
                    CompletableFuture<Void> gate = hold;
                    if (gate != null) {
                        gate.get(20, TimeUnit.SECONDS);
                    }
                    String event = e.getMessage().getHeader("CaravanUplinkEvent", String.class);
                    if (event.equals("open")) {
                        session = e.getMessage().getHeader("CaravanSession", String.class);
                    }
                    if (event.equals("failed")) {
                        failures.add(String.valueOf(e.getMessage().getBody(Map.class).get("message")));
                        return;
                    }
                    if (e.getMessage().getBody() != null) {
                        bodies.add(e.getMessage().getBody());
                    }
                    events.add(event + (e.getMessage().getBody() instanceof Map<?, ?> m ? " " + m : ""));
                });
            }
        });
        camel.start();
    }

    private void opened() throws Exception {
        assertEquals("open", events.poll(10, TimeUnit.SECONDS));
        await().atMost(Duration.ofSeconds(5)).until(() -> !sockets.isEmpty());
    }

    private CompletableFuture<Exchange> sent(String session, Object body, Map<String, Object> headers) {
        return camel.createProducerTemplate().asyncSend("uplink:cloud", e -> {
            e.getMessage().setBody(body);
            e.getMessage().setHeaders(new HashMap<>(headers));
            e.getMessage().setHeader("CaravanSession", session);
        });
    }

    private static Map<String, Object> awaiting(long first, long last) {
        return Map.of("CaravanAwaitAck", true, "CaravanLogId", "log", "CaravanFirstSeq", first, "CaravanLastSeq", last,
            "CaravanRows", last);
    }

    private static Exception failure(CompletableFuture<Exchange> exchange) throws Exception {
        return exchange.get(20, TimeUnit.SECONDS).getException();
    }

    private ServerWebSocket cloud() {
        return sockets.get(sockets.size() - 1);
    }

    @Test
    void opens_sends_and_emits_in_order() throws Exception {
        uplink(Map.of());
        opened();
        assertEquals("Bearer secret-1", tokens.get(0));
        assertNull(failure(sent(session, Map.of("type", "hello"), Map.of())));
        assertEquals("{\"type\":\"hello\"}", received.poll(5, TimeUnit.SECONDS));
        assertNull(failure(sent(session, new byte[] {1, 2}, Map.of())));
        assertEquals(2, ((byte[]) received.poll(5, TimeUnit.SECONDS)).length);
        for (int i = 0; i < 1000; i++) {
            cloud().writeTextMessage("{\"n\":" + i + "}");
        }
        for (int i = 0; i < 1000; i++) {
            assertEquals("message {n=" + i + "}", events.poll(5, TimeUnit.SECONDS));
        }
        cloud().close();
        assertEquals("close", events.poll(5, TimeUnit.SECONDS));
        assertEquals("open", events.poll(5, TimeUnit.SECONDS));
        assertEquals(1, proxy.most(), "connections at one time");
        assertEquals(1, meters.get("caravan.uplink.connected").gauge().value());
    }

    private Map<?, ?> event() throws Exception {
        Object body = bodies.poll(5, TimeUnit.SECONDS);
        assertNotNull(body, "nothing came");
        return (Map<?, ?>) body;
    }

    private double refused(String reason) {
        var counter = meters.find("caravan.uplink.commands.refused").tag("reason", reason).counter();
        return counter == null ? 0 : counter.count();
    }

    /** Of an event, without when each came. */
    private static List<Map<Object, Object>> commands(Map<?, ?> event) {
        List<Map<Object, Object>> commands = new ArrayList<>();
        for (Object each : (List<?>) event.get("commands")) {
            Map<Object, Object> command = new HashMap<>((Map<?, ?>) each);
            long age = System.nanoTime() / 1_000_000 - (Long) command.remove("received_mono_ms");
            assertTrue(age >= 0 && age < 60_000, "came before " + age + " ms");
            commands.add(command);
        }
        return commands;
    }

    @Test
    void commands_are_checked_bounded_and_handed_on_as_they_were_written() throws Exception {
        uplink(Map.of());
        opened();
        bodies.clear();
        cloud().writeTextMessage("{\"type\":\"command\",\"later\":1,\"commands\":[{\"id\":\"_c-1\",\"device_id\":\"d\",\"name\":\"led\","
            + "\"arguments\":{\"a\":1.10,\"b\":1e2,\"c\":12345678901234567890.5,\"d\":\"ü\\u0000\"},\"units\":{\"a\":\"V\"},\"precondition\":null,\"ttl_ms\":-5,"
            + "\"issued_by\":\"ann\\n\",\"trace_context\":\"00-1\",\"new\":[]}]}");
        Map<?, ?> event = event();
        assertEquals(Set.of("type", "commands"), event.keySet());
        assertEquals("command", event.get("type"));
        assertEquals(List.of(Map.of("id", "_c-1", "device_id", "d", "name", "led",
            "arguments", "{\"a\":1.10,\"b\":1E+2,\"c\":12345678901234567890.5,\"d\":\"ü\\u0000\"}", "units", "{\"a\":\"V\"}", "ttl_ms", -5L,
            "issued_by", "ann", "trace_context", "00-1")), commands(event));
        cloud().writeTextMessage("{\"type\":\"command-cancel\",\"ids\":[\"a\",7,\"b/c\",\"\",\"d\"],\"by\":7}");
        assertEquals(Map.of("type", "command-cancel", "ids", List.of("a", "d"), "by", "cloud"), event());
        assertEquals(1, refused("bad_id"));

        // A command nobody can speak of is dropped, the others of the frame are not.
        String good = "{\"id\":\"good\",\"device_id\":\"d\",\"name\":\"n\",\"ttl_ms\":1}";
        for (String bad : List.of("1", "null", "[]", "{}", "{\"id\":1,\"device_id\":\"d\"}", "{\"id\":\"x\"}", "{\"id\":\"x\",\"device_id\":\"../d\"}",
                "{\"id\":\"x y\",\"device_id\":\"d\"}", "{\"id\":\"" + "x".repeat(65) + "\",\"device_id\":\"d\"}", "{\"id\":\"x\",\"device_id\":{}}")) {
            cloud().writeTextMessage("{\"type\":\"command\",\"commands\":[" + bad + "," + good + "]}");
            assertEquals(List.of(Map.of("id", "good", "device_id", "d", "name", "n", "ttl_ms", 1L, "issued_by", "cloud")), commands(event()), bad);
        }
        assertEquals(11, refused("bad_id"));

        // What is wrong otherwise is for the gateway to keep as rejected.
        for (String bad : List.of("\"name\":1", "\"name\":\"" + "x".repeat(65) + "\"", "\"ttl_ms\":\"1\"", "\"ttl_ms\":1.5", "\"ttl_ms\":null",
                "\"ttl_ms\":99999999999999999999", "\"arguments\":[]", "\"arguments\":\"{}\"", "\"units\":1", "\"precondition\":true",
                "\"arguments\":{\"a\":" + "[".repeat(32) + "]".repeat(32) + "}")) {
            String name = bad.substring(1, bad.indexOf('"', 1));
            cloud().writeTextMessage("{\"type\":\"command\",\"commands\":[{\"id\":\"b\",\"device_id\":\"d\",\"name\":\"n\",\"ttl_ms\":1," + bad + "}]}");
            Map<?, ?> command = (Map<?, ?>) ((List<?>) event().get("commands")).get(0);
            assertTrue(String.valueOf(command.get("problem")).startsWith(name), bad + " " + command);
        }
        cloud().writeTextMessage("{\"type\":\"command\",\"commands\":[{\"id\":\"b\",\"device_id\":\"d\",\"name\":\"n\",\"ttl_ms\":1,\"arguments\":{\"a\":"
            + "[".repeat(31) + "]".repeat(31) + "}}]}");
        assertNull(((Map<?, ?>) ((List<?>) event().get("commands")).get(0)).get("problem"), "32 levels");

        // Frames that are no such thing are dropped, and the connection stays.
        for (String bad : List.of("{\"type\":\"command\"}", "{\"type\":\"command\",\"commands\":{}}", "{\"type\":\"command\",\"commands\":[]}",
                "{\"type\":\"command-cancel\",\"ids\":\"a\"}", "{\"type\":\"command\",\"commands\":[" + (good + ",").repeat(256) + good + "]}",
                "{\"type\":\"command\",\"commands\":[" + good + "],\"x\":\"" + "x".repeat(65_536) + "\"}",
                "{\"type\":\"command\",\"commands\":[" + good + "],\"x\":\"" + "ü".repeat(40_000) + "\"}")) {
            cloud().writeTextMessage(bad);
        }
        cloud().writeTextMessage("{\"type\":\"command\",\"commands\":[" + (good + ",").repeat(255) + good + "]}");
        assertEquals(256, ((List<?>) event().get("commands")).size());
        assertEquals(List.of(3.0, 1.0, 2.0), List.of(refused("malformed"), refused("too_many"), refused("too_large")));
        assertEquals(1, meters.get("caravan.uplink.connected").gauge().value());
        assertEquals(1, sockets.size());
    }

    @Test
    void ack_completes_the_send_it_belongs_to_and_no_other() throws Exception {
        uplink(Map.of("ackTimeoutMs", 5000));
        opened();
        var one = sent(session, new byte[10], awaiting(1, 10));
        var two = sent(session, new byte[10], awaiting(1, 20));
        var other = sent(session, new byte[10], awaiting(100, 5));
        for (int i = 0; i < 3; i++) {
            received.poll(5, TimeUnit.SECONDS);
        }
        cloud().writeTextMessage("{\"type\":\"ack\",\"log_id\":\"another\",\"first_seq\":1,\"last\":20}");
        cloud().writeTextMessage("{\"type\":\"ack\",\"log_id\":\"log\",\"first_seq\":1,\"last\":9}");
        assertTrue(events.poll(5, TimeUnit.SECONDS).contains("another"));
        assertTrue(events.poll(5, TimeUnit.SECONDS).contains("last=9"));
        assertTrue(!one.isDone() && !two.isDone());
        cloud().writeTextMessage("{\"type\":\"ack\",\"log_id\":\"log\",\"first_seq\":1,\"last\":10}");
        assertNull(failure(one));
        assertTrue(!two.isDone());
        cloud().writeTextMessage("{\"type\":\"ack\",\"log_id\":\"log\",\"first_seq\":1,\"last\":25}");
        assertNull(failure(two));
        assertTrue(!other.isDone());
        cloud().close();
        assertInstanceOf(UplinkClosedException.class, failure(other));
        assertEquals(30, meters.get("caravan.uplink.acked.rows").counter().count());
        assertEquals("close", events.poll(5, TimeUnit.SECONDS), "acks that completed a send are not emitted");
    }

    @Test
    void ack_that_does_not_come_ends_the_connection() throws Exception {
        uplink(Map.of("ackTimeoutMs", 300));
        opened();
        String first = session;
        assertInstanceOf(AckTimeoutException.class, failure(sent(first, new byte[10], awaiting(1, 10))));
        assertEquals("close", events.poll(5, TimeUnit.SECONDS));
        assertEquals("open", events.poll(5, TimeUnit.SECONDS));
        assertInstanceOf(UplinkClosedException.class, failure(sent(first, "{}", Map.of())), "frame of the old session");
        assertNull(failure(sent(session, "{}", Map.of())));
        assertEquals(1, proxy.most(), "connections at one time");
    }

    /** A cloud that lost the hello, and is otherwise well. */
    @Test
    void reply_that_does_not_come_ends_the_connection() throws Exception {
        uplink(Map.of("ackTimeoutMs", 500));
        opened();
        assertNull(failure(greeted()));
        assertEquals("close", events.poll(5, TimeUnit.SECONDS));
        assertEquals("open", events.poll(5, TimeUnit.SECONDS));
        await().atMost(Duration.ofSeconds(5)).until(() -> sockets.size() == 2);
        assertNull(failure(greeted()));
        cloud().writeTextMessage("{\"type\":\"credit\"}");
        cloud().writeTextMessage("{\"type\":\"welcome\"}");
        assertEquals("message {type=credit}", events.poll(5, TimeUnit.SECONDS));
        assertEquals("message {type=welcome}", events.poll(5, TimeUnit.SECONDS));
        await().during(Duration.ofMillis(1_000)).atMost(Duration.ofSeconds(10)).until(() -> events.isEmpty() && sockets.size() == 2);
        assertEquals(1, proxy.most(), "connections at one time");
    }

    private CompletableFuture<Exchange> greeted() {
        return camel.createProducerTemplate().asyncSend("uplink:cloud?reply=welcome", e -> {
            e.getMessage().setBody("{\"type\":\"hello\"}");
            e.getMessage().setHeader("CaravanSession", session);
        });
    }

    @Test
    void half_open_connection_is_noticed_within_two_missed_pings() throws Exception {
        uplink(Map.of("pingMs", 200));
        opened();
        long frozen = System.nanoTime();
        proxy.freeze(true);
        assertEquals("close", events.poll(10, TimeUnit.SECONDS));
        long ms = (System.nanoTime() - frozen) / 1_000_000;
        assertTrue(ms <= 3 * 200 + 300, "noticed after " + ms + " ms");
    }

    @Test
    void frozen_cloud_gets_one_connection_at_a_time_and_one_session_when_it_thaws() throws Exception {
        uplink(Map.of("connectTimeoutMs", 400));
        opened();
        proxy.freeze(true);
        assertEquals("close", events.poll(10, TimeUnit.SECONDS));
        await().atMost(Duration.ofSeconds(10)).until(() -> proxy.accepted.get() >= 4);
        assertInstanceOf(UplinkClosedException.class, failure(sent(session, "{}", Map.of())), "fails at once");
        proxy.freeze(false);
        assertEquals("open", events.poll(10, TimeUnit.SECONDS));
        await().atMost(Duration.ofSeconds(10)).until(() -> proxy.open() == 1);
        await().during(Duration.ofMillis(800)).atMost(Duration.ofSeconds(10))
            .until(() -> proxy.open() == 1 && events.isEmpty());
        assertNull(failure(sent(session, "{}", Map.of())));
    }

    @Test
    void the_next_address_is_tried_after_a_failure() throws Exception {
        try (Proxy second = new Proxy(server.actualPort())) {
            List<Proxy> both = List.of(proxy, second);
            uplink(Map.of("url", "wss://localhost:" + proxy.port() + ", wss://localhost:" + second.port(), "path", "/uplink/gw-1"));
            opened();
            Proxy here = both.stream().filter(p -> p.accepted.get() > 0).findFirst().orElseThrow();
            Proxy there = both.get(1 - both.indexOf(here));
            assertEquals(0, there.accepted.get(), "one connection at a time");
            here.refuse(true);
            here.cut();
            assertEquals("close", events.poll(10, TimeUnit.SECONDS));
            assertEquals("open", events.poll(10, TimeUnit.SECONDS));
            assertEquals(1, there.accepted.get());
            here.refuse(false);
            there.refuse(true);
            there.cut();
            assertEquals("close", events.poll(10, TimeUnit.SECONDS));
            assertEquals("open", events.poll(10, TimeUnit.SECONDS));
            assertEquals("/uplink/gw-1", cloud().path());
        }
    }

    /** The ack and the pings would take a minute each to tell. */
    @Test
    void silence_after_a_frame_is_probed_and_a_frozen_replica_left() throws Exception {
        try (Proxy second = new Proxy(server.actualPort())) {
            List<Proxy> both = List.of(proxy, second);
            uplink(Map.of("url", "wss://localhost:" + proxy.port() + ",wss://localhost:" + second.port(), "path", "/uplink/gw-1", "pingMs", 60_000,
                "ackTimeoutMs", 60_000, "probeMs", 300));
            opened();
            // No ack, but pongs: the cloud is busy, and the connection stays.
            CompletableFuture<Exchange> busy = sent(session, new byte[] {1}, awaiting(1, 5));
            await().during(Duration.ofMillis(1500)).atMost(Duration.ofSeconds(5)).until(() -> !busy.isDone() && events.isEmpty());
            Proxy here = both.stream().filter(p -> p.accepted.get() > 0).findFirst().orElseThrow();
            here.freeze(true);
            assertTrue(failure(busy) instanceof UplinkClosedException);
            assertEquals("close", events.poll(10, TimeUnit.SECONDS));
            assertEquals("open", events.poll(10, TimeUnit.SECONDS));
            assertEquals(1, both.get(1 - both.indexOf(here)).accepted.get());
        }
    }

    @Test
    void starts_without_the_cloud_and_backs_off_with_jitter() throws Exception {
        proxy.refuse(true);
        List<Long> delays = new ArrayList<>();
        uplink(Map.of("reconnectMinMs", 40, "reconnectMaxMs", 160));
        assertInstanceOf(UplinkClosedException.class, failure(sent("none", "{}", Map.of())));
        double before = 0;
        long at = System.nanoTime();
        while (delays.size() < 12) {
            double from = before;
            await().pollInterval(Duration.ofMillis(1)).atMost(Duration.ofSeconds(5)).until(() -> count() > from);
            before = count();
            delays.add((System.nanoTime() - at) / 1_000_000);
            at = System.nanoTime();
        }
        List<Long> late = delays.subList(5, 12);
        assertTrue(late.stream().allMatch(ms -> ms >= 75 && ms < 500), "delays in ms " + delays);
        assertTrue(late.stream().distinct().count() > 2, "delays without jitter " + delays);
        proxy.refuse(false);
        assertEquals("open", events.poll(10, TimeUnit.SECONDS));
    }

    /** Sixteen times 50 ms are the longest pause after a fight with another gateway of this id, and 1.6 s without one its end. */
    @Test
    void pauses_after_a_fight_end_with_a_session_that_held() throws Exception {
        uplink(Map.of("reconnectMinMs", 10, "reconnectMaxMs", 50));
        for (int fights = 1; fights <= 5; fights++) {
            int now = fights;
            await().atMost(Duration.ofSeconds(10)).until(() -> sockets.size() == now);
            cloud().writeTextMessage("{\"type\":\"error\",\"reason\":\"replaced\",\"message\":\"m\"}");
            cloud().close();
        }
        await().atMost(Duration.ofSeconds(10)).until(() -> sockets.size() == 6 && backoff() >= 0.4);
        cloud().close();
        await().atMost(Duration.ofSeconds(10)).until(() -> sockets.size() == 7);
        assertTrue(backoff() >= 0.4, "a short one is no evidence: " + backoff());
        await().during(Duration.ofMillis(1_800)).atMost(Duration.ofSeconds(10)).until(() -> sockets.size() == 7);
        cloud().close();
        await().atMost(Duration.ofSeconds(10)).until(() -> sockets.size() == 8);
        assertTrue(backoff() <= 0.05, "paused for " + backoff() + " s");
    }

    private double backoff() {
        return meters.get("caravan.uplink.backoff.seconds").gauge().value();
    }

    private double count() {
        var counter = meters.find("caravan.uplink.connect.attempts").counter();
        return counter == null ? 0 : counter.count();
    }

    @Test
    void token_is_read_at_each_connect() throws Exception {
        uplink(Map.of());
        opened();
        Files.writeString(token, "secret-2");
        cloud().close();
        assertEquals("close", events.poll(5, TimeUnit.SECONDS));
        assertEquals("open", events.poll(5, TimeUnit.SECONDS));
        assertEquals(List.of("Bearer secret-1", "Bearer secret-2"), tokens);
        Files.delete(token);
        cloud().close();
        assertEquals("close", events.poll(5, TimeUnit.SECONDS));
        await().atMost(Duration.ofSeconds(5)).until(() -> health().contains("token file"));
        Files.writeString(token, "secret-3");
        assertEquals("open", events.poll(5, TimeUnit.SECONDS));
    }

    private String health() {
        var check = HealthCheckRegistry.get(camel).getCheck("uplink").orElseThrow();
        assertTrue(check.isReadiness() && !check.isLiveness());
        return String.valueOf(check.call().getMessage().orElse(""));
    }

    @Test
    void certificate_for_another_host_is_refused() throws Exception {
        proxy.target(listen("elsewhere").actualPort());
        uplink(Map.of());
        await().atMost(Duration.ofSeconds(10)).until(() -> health().contains("localhost"));
        assertTrue(sockets.isEmpty() && events.isEmpty());
    }

    @Test
    void certificate_of_another_authority_is_refused() throws Exception {
        Certs strangers = new Certs(folder.resolve("strangers"));
        uplink(Map.of("caFile", strangers.ca));
        await().atMost(Duration.ofSeconds(10)).until(() -> health().contains("not connected:") && count() > 1);
        assertTrue(sockets.isEmpty() && events.isEmpty());
    }

    @Test
    void plain_websocket_is_refused_also_for_localhost() {
        Exception error = assertThrows(Exception.class, () -> uplink(Map.of("url", "ws://localhost:1/uplink/gw-1")));
        assertTrue(error.toString().contains("must start with wss://") || String.valueOf(error.getCause())
            .contains("must start with wss://"), error.toString());
    }

    @Test
    void frame_that_is_too_large_is_refused_before_it_is_sent() throws Exception {
        uplink(Map.of("maxFrameBytes", 1000));
        opened();
        assertInstanceOf(IllegalArgumentException.class, failure(sent(session, new byte[1001], Map.of())));
        assertNull(failure(sent(session, new byte[1000], Map.of())));
        cloud().writeBinaryMessage(Buffer.buffer(new byte[2000]));
        assertEquals("close", events.poll(5, TimeUnit.SECONDS), "a frame from the cloud above the limit ends the session");
    }

    @Test
    void sends_in_flight_are_bounded() throws Exception {
        uplink(Map.of("maxInFlight", 2, "ackTimeoutMs", 5000));
        opened();
        var one = sent(session, "{}", awaiting(1, 1));
        var two = sent(session, "{}", awaiting(1, 2));
        // Each is sent by a thread of its own: the third is the one too many only when both have arrived.
        assertEquals("{}", received.poll(5, TimeUnit.SECONDS));
        assertEquals("{}", received.poll(5, TimeUnit.SECONDS));
        assertInstanceOf(IllegalStateException.class, failure(sent(session, "{}", awaiting(1, 3))));
        cloud().writeTextMessage("{\"type\":\"ack\",\"log_id\":\"log\",\"first_seq\":1,\"last\":2}");
        assertNull(failure(one));
        assertNull(failure(two));
    }

    @Test
    void slow_route_pauses_reading_and_is_no_dead_peer() throws Exception {
        uplink(Map.of("pingMs", 100));
        opened();
        hold = new CompletableFuture<>();
        for (int i = 0; i < 3000; i++) {
            cloud().writeTextMessage("{\"n\":" + i + "}");
        }
        await().during(Duration.ofMillis(1000)).atMost(Duration.ofSeconds(5))
            .until(() -> meters.get("caravan.uplink.connected").gauge().value() == 1);
        double taken = meters.get("caravan.uplink.frames").tag("direction", "in").counter().count();
        assertTrue(taken < 600, "read ahead of the route: " + taken);
        hold.complete(null);
        for (int i = 0; i < 3000; i++) {
            assertEquals("message {n=" + i + "}", events.poll(5, TimeUnit.SECONDS));
        }
    }

    @Test
    void second_consumer_of_a_name_is_refused() throws Exception {
        uplink(Map.of());
        opened();
        assertThrows(Exception.class, () -> camel.addRoutes(new RouteBuilder() {
            @Override
            public void configure() {
                from("uplink:cloud?url=wss://localhost:1/x").routeId("second").log("never");
            }
        }));
    }

    @Test
    void stopping_the_route_closes_the_connection_for_good() throws Exception {
        uplink(Map.of());
        opened();
        camel.getRouteController().stopRoute("uplink");
        await().atMost(Duration.ofSeconds(5)).until(() -> proxy.open() == 0);
        assertInstanceOf(UplinkClosedException.class, failure(sent(session, "{}", Map.of())));
        camel.getRouteController().startRoute("uplink");
        events.clear();
        await().atMost(Duration.ofSeconds(5)).until(() -> proxy.open() == 1);
    }
}
