// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.Audit;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.ClientWebSocket;
import io.vertx.core.http.UpgradeRejectedException;
import io.vertx.core.http.WebSocketClientOptions;
import io.vertx.core.http.WebSocketConnectOptions;
import io.vertx.core.json.JsonArray;
import io.vertx.core.json.JsonObject;
import io.vertx.core.net.PemTrustOptions;
import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;
import java.util.zip.GZIPOutputStream;
import org.apache.camel.ConsumerTemplate;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The cloud's routes and its register of sessions, against a client that keeps no rule it does not want to keep. */
@Timeout(60)
class SessionsTest {

    static final int MAX_FRAME = 100_000;

    @TempDir static Path folder;
    static Certs certs;
    static Vertx vertx;

    Box cloud;
    Path gateways;
    Path store;
    String backlogRows = "600";
    int port;

    @BeforeAll
    static void certificates() throws Exception {
        certs = new Certs(folder.resolve("pki"));
        certs.issue("server", "DNS:localhost");
        vertx = Vertx.vertx();
    }

    @AfterAll
    static void close() throws Exception {
        vertx.close().toCompletionStage().toCompletableFuture().get(10, TimeUnit.SECONDS);
    }

    @BeforeEach
    void start() throws Exception {
        Path here = Files.createTempDirectory(folder, "case");
        gateways = here.resolve("gateways");
        cloud = null;
        allow("gw-1 = sha256:" + sha256("one"), "gw-2 = sha256:" + sha256("two").toUpperCase());
        port = UplinkRoutesTest.free();
        store = here.resolve("cloud.db");
        cloud = new Box("cloud", store, Map.ofEntries(
            Map.entry("uplink.host", "127.0.0.1"), Map.entry("uplink.port", "" + port),
            Map.entry("uplink.gateways.file", gateways.toString()),
            Map.entry("uplink.tls.cert", certs.cert("server")), Map.entry("uplink.tls.key", certs.key("server")),
            Map.entry("uplink.max.frame.bytes", "" + MAX_FRAME), Map.entry("uplink.max.inflated.bytes", "300000"),
            Map.entry("uplink.max.batch.rows", "100"), Map.entry("uplink.sessions.max", "2"),
            Map.entry("uplink.idle.timeout.ms", "30000"), Map.entry("uplink.tick.ms", "200"),
            Map.entry("uplink.backlog.rows", backlogRows), Map.entry("uplink.backlog.gateway.rows", "200"),
            Map.entry("store.batch.rows", "1000"), Map.entry("store.tick.ms", "500"), Map.entry("inbox.keep.ms", "0")));
        cloud.start("cloud/uplink", "cloud/inbox", "cloud/bus");
    }

    @AfterEach
    void stop() throws Exception {
        cloud.close();
    }

    private void allow(String... lines) throws Exception {
        Files.writeString(gateways, "# gateways\n\n" + String.join("\n", lines) + "\n");
        if (cloud != null) {
            double ids = List.of(lines).stream().map(l -> l.split("[ =]")[0]).distinct().count();
            await().atMost(Duration.ofSeconds(5)).until(() -> cloud.meters.get("caravan.uplink.gateways").gauge().value() == ids);
        }
    }

    /** Status with which the handshake was answered instead of an upgrade. */
    private int status(String pathAndQuery, String token, String protocol) {
        Exception error = assertThrows(ExecutionException.class, () -> new Client(pathAndQuery, token, protocol));
        assertTrue(error.getCause() instanceof UpgradeRejectedException, error::toString);
        return ((UpgradeRejectedException) error.getCause()).getStatus();
    }

    private static String sha256(String token) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(token.getBytes()));
    }

    /** A WebSocket client without manners. */
    final class Client {

        final BlockingQueue<JsonObject> received = new LinkedBlockingQueue<>();
        final CompletableFuture<Void> closed = new CompletableFuture<>();
        final ClientWebSocket socket;

        Client(String pathAndQuery, String token, String protocol) throws Exception {
            socket = vertx.createWebSocketClient(new WebSocketClientOptions().setSsl(true).setMaxMessageSize(10_000_000)
                .setTrustOptions(new PemTrustOptions().addCertPath(certs.ca.toString()))).webSocket();
            socket.textMessageHandler(t -> received.add(new JsonObject(t)));
            socket.closeHandler(v -> closed.complete(null));
            socket.exceptionHandler(e -> { });
            WebSocketConnectOptions to = new WebSocketConnectOptions().setHost("localhost").setPort(port).setURI(pathAndQuery);
            if (token != null) {
                to.addHeader("Authorization", "Bearer " + token);
            }
            if (protocol != null) {
                to.addSubProtocol(protocol);
            }
            socket.connect(to).toCompletionStage().toCompletableFuture().get(10, TimeUnit.SECONDS);
        }

        Client hello(String ranges) throws Exception {
            text("{\"type\":\"hello\",\"protocol\":\"caravan.v1\",\"gateway_id\":\"gw-1\",\"log_id\":\"log\",\"version\":\"1\","
                + "\"time_ms\":1,\"ranges\":" + ranges + "}");
            return this;
        }

        void text(String text) throws Exception {
            socket.writeTextMessage(text).toCompletionStage().toCompletableFuture().get(10, TimeUnit.SECONDS);
        }

        void binary(byte[] bytes) {
            socket.writeBinaryMessage(Buffer.buffer(bytes));
        }

        JsonObject next() throws Exception {
            JsonObject next = received.poll(10, TimeUnit.SECONDS);
            assertNotNull(next, "nothing came");
            return next;
        }

        void refused(String reason) throws Exception {
            JsonObject error = next();
            assertEquals("error", error.getString("type"), error.encode());
            assertEquals(reason, error.getString("reason"), error.encode());
            closed.get(10, TimeUnit.SECONDS);
        }
    }

    private Client client() throws Exception {
        return new Client("/uplink/gw-1", "one", "caravan.v1");
    }

    private Client welcomed() throws Exception {
        Client client = client().hello("[{\"first_seq\":1,\"acked_seq\":0}]");
        assertEquals("welcome", client.next().getString("type"));
        return client;
    }

    private static byte[] gzip(String text) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        try (OutputStream gzip = new GZIPOutputStream(out)) {
            gzip.write(text.getBytes(StandardCharsets.UTF_8));
        }
        return out.toByteArray();
    }

    private static String row(long seq) {
        return "{\"seq\":" + seq + ",\"kind\":\"event\",\"device_id\":\"d\",\"message_key\":\"k" + seq
            + "\",\"observed_at_ms\":1,\"body\":{\"n\":" + seq + "},\"trace_context\":null}";
    }

    private static String batch(long first, long after, long last) {
        StringBuilder rows = new StringBuilder();
        for (long seq = after + 1; seq <= last; seq++) {
            rows.append(rows.length() == 0 ? "" : ",").append(row(seq));
        }
        return batch(first, after, last, rows.toString());
    }

    private static String batch(long first, long after, long last, String rows) {
        return "{\"type\":\"batch\",\"log_id\":\"log\",\"lane\":\"live\",\"first_seq\":" + first + ",\"after\":" + after
            + ",\"last\":" + last + ",\"rows\":[" + rows + "]}";
    }

    private long inbox() throws Exception {
        return cloud.number("SELECT count(*) FROM inbox");
    }

    private double refusals(String reason) {
        var counter = cloud.meters.find("caravan.uplink.refused").tag("reason", reason).counter();
        return counter == null ? 0 : counter.count();
    }

    /** Holds up the audit log, and with it the OPEN of whoever connects, while it is there. */
    private CountDownLatch slowOpen() {
        CountDownLatch open = new CountDownLatch(1);
        cloud.camel.getRegistry().bind("audit", (Audit) (action, subject, outcome, details) -> {
            if (action.equals("gateway.connect")) {
                try {
                    open.await();
                } catch (InterruptedException e) {
                    throw new IllegalStateException(e);
                }
            }
        });
        return open;
    }

    private int inside() {
        return cloud.camel.getInflightRepository().size("uplink");
    }

    @Test
    void a_hello_waits_until_its_connection_is_taken() throws Exception {
        CountDownLatch open = slowOpen();
        Client client = client().hello("[{\"first_seq\":1,\"acked_seq\":0}]");
        await().atMost(Duration.ofSeconds(10)).until(() -> inside() == 2);
        open.countDown();
        assertEquals("welcome", client.next().getString("type"));
    }

    /** Its hello is lost: without this a gateway would wait for its welcome, and the cloud for the hello, as long as pings are answered. */
    @Test
    void a_connection_that_is_taken_too_late_is_ended_at_once() throws Exception {
        cloud.camel.getRegistry().lookupByNameAndType("sessions", Sessions.class).openWaitMs = 1_000;
        CountDownLatch open = slowOpen();
        Client client = client().hello("[{\"first_seq\":1,\"acked_seq\":0}]");
        await().atMost(Duration.ofSeconds(10)).until(() -> inside() == 2);
        await().atMost(Duration.ofSeconds(10)).until(() -> inside() == 1);
        open.countDown();
        client.refused("not_current");
        await().atMost(Duration.ofSeconds(10)).until(() -> inside() == 0);
        welcomed();
    }

    /** The disk of the audit log was slow, and the gateway has come back by another connection before. */
    @Test
    void a_connection_that_is_over_when_it_is_taken_replaces_nobody() throws Exception {
        Client lives = welcomed();
        CountDownLatch open = slowOpen();
        Client late = client();
        await().atMost(Duration.ofSeconds(10)).until(() -> inside() == 1);
        late.socket.close();
        late.closed.get(10, TimeUnit.SECONDS);
        open.countDown();
        await().atMost(Duration.ofSeconds(10)).until(() -> inside() == 0);
        lives.binary(gzip(batch(1, 0, 1)));
        assertEquals("ack", lives.next().getString("type"));
        assertEquals(1, sessions().list().size());
    }

    @Test
    void batch_is_acked_when_committed_and_stored_once() throws Exception {
        Client gateway = welcomed();
        gateway.binary(gzip(batch(1, 0, 10)));
        JsonObject ack = gateway.next();
        assertEquals(new JsonObject().put("type", "ack").put("log_id", "log").put("first_seq", 1).put("last", 10), ack);
        assertEquals(10, inbox());
        gateway.binary(gzip(batch(1, 0, 10)));
        assertEquals(10, gateway.next().getInteger("last"));
        gateway.binary(gzip(batch(1, 5, 15)));
        assertEquals(15, gateway.next().getInteger("last"));
        assertEquals(15, inbox());
        assertEquals(15, cloud.meters.get("caravan.sessions.duplicate.rows").counter().count());
        // Also when the inbox has handed its rows on and forgotten them.
        cloud.execute("DELETE FROM inbox");
        gateway.binary(gzip(batch(1, 0, 15)));
        assertEquals(15, gateway.next().getInteger("last"));
        assertEquals(0, inbox());
        gateway.text("{\"type\":\"not-yet-invented\"}");
        gateway.binary(gzip(batch(1, 15, 16)));
        assertEquals(16, gateway.next().getInteger("last"));
    }

    @Test
    void whoever_has_not_the_token_gets_no_websocket_and_one_answer_for_all() throws Exception {
        assertEquals(401, status("/uplink/gw-1", "two", "caravan.v1"));
        assertEquals(401, status("/uplink/gw-1", null, "caravan.v1"));
        assertEquals(401, status("/uplink/gw-9", "one", "caravan.v1"));
        assertEquals(401, status("/uplink/gw-1", "", "caravan.v1"));
        assertEquals(401, status("/uplink/..%2fgw-1", "one", "caravan.v1"));
        assertEquals(401, status("/uplink/gw-1", sha256("one"), "caravan.v1"));
        assertEquals(0, cloud.number("SELECT count(*) FROM gateway"));
        assertEquals(2, refusals("wrong_token"));
        assertEquals(2, refusals("no_credential"));
        assertEquals(2, refusals("unknown_gateway"));
    }

    @Test
    void without_the_gateways_file_nobody_connects_and_a_bad_line_lets_nobody_in() throws Exception {
        Files.delete(gateways);
        await().atMost(Duration.ofSeconds(5)).until(() -> cloud.meters.get("caravan.uplink.gateways").gauge().value() == 0);
        assertEquals(401, status("/uplink/gw-1", "one", "caravan.v1"));
        allow("gw-1 = one", "gw-1 sha256:" + sha256("one"), "gw-1 = sha256:" + sha256("one").substring(1));
        assertEquals(401, status("/uplink/gw-1", "one", "caravan.v1"));
        allow("gw-1 = sha256:" + sha256("two"), "gw-1 = sha256:" + sha256("one"), "gw-2 = sha256:" + sha256("two"));
        assertEquals(401, status("/uplink/gw-1", "one", "caravan.v1"));
        allow("gw-1 = sha256:" + sha256("one"));
        welcomed();
    }

    @Test
    void token_that_is_taken_away_ends_the_session_in_a_second() throws Exception {
        Client gateway = welcomed();
        gateway.binary(gzip(batch(1, 0, 1)));
        gateway.next();
        allow("gw-1 = sha256:" + sha256("new"));
        gateway.refused("not_authorized");
        assertEquals(1, inbox());
    }

    @Test
    void newest_session_wins() throws Exception {
        Client old = welcomed();
        old.binary(gzip(batch(1, 0, 1)));
        old.next();
        Client young = client();
        old.refused("replaced");
        young.hello("[{\"first_seq\":1,\"acked_seq\":0}]");
        JsonObject welcome = young.next();
        assertEquals(new JsonArray().add(new JsonObject().put("first_seq", 1).put("acked_seq", 1)), welcome.getJsonArray("ranges"));
        assertEquals(100, welcome.getInteger("max_batch_rows"));
        assertEquals(MAX_FRAME, welcome.getInteger("max_frame_bytes"));
        young.binary(gzip(batch(1, 1, 2)));
        assertEquals(2, young.next().getInteger("last"));
        assertEquals(2, inbox());
        await().during(Duration.ofMillis(500)).atMost(Duration.ofSeconds(5)).until(() ->
            cloud.number("SELECT session_id IS NOT NULL FROM gateway WHERE gateway_id = 'gw-1'") == 1);
    }

    @Test
    void batch_of_a_session_that_was_replaced_while_it_waited_is_not_stored() throws Exception {
        Client old = welcomed();
        try (var lock = cloud.writer.getConnection()) {
            old.binary(gzip(batch(1, 0, 5)));
            // The frame is now waiting for the writer, in the middle of its transaction.
            await().atMost(Duration.ofSeconds(5)).until(() -> cloud.writer.getHikariPoolMXBean().getThreadsAwaitingConnection() == 1);
            client();
            old.refused("replaced");
            assertFalse(lock.isClosed());
        }
        await().during(Duration.ofMillis(300)).atMost(Duration.ofSeconds(5)).until(() -> inbox() == 0);
    }

    @Test
    void gap_is_refused() throws Exception {
        Client gateway = welcomed();
        gateway.binary(gzip(batch(1, 3, 5)));
        gateway.refused("gap");
        Client again = welcomed();
        // A range that hello did not name begins at its first row.
        again.binary(gzip(batch(100, 99, 101)));
        assertEquals(101, again.next().getInteger("last"));
        again.binary(gzip(batch(200, 200, 201)));
        again.refused("gap");
        assertEquals(2, inbox());
        assertEquals(2, refusals("gap"));
    }

    @Test
    void frames_that_break_the_contract_are_refused() throws Exception {
        String good = batch(1, 0, 1);
        for (byte[] bad : List.of(new byte[0], new byte[] {1, 2, 3}, good.getBytes(), gzip(""), gzip("[]"), gzip("{"), gzip(good + "x"),
                gzip(good.replace("\"rows\"", "\"zeilen\"")), gzip(good.replace("{\"type\"", "{\"x\":1,\"type\"")),
                gzip(good.replace("{\"type\"", "{\"lane\":\"live\",\"type\"")),
                gzip(good.replace("\"live\"", "\"fast\"")), gzip(good.replace("\"last\":1", "\"last\":2")),
                gzip(good.replace("\"after\":0", "\"after\":-1")), gzip(good.replace("\"after\":0", "\"after\":\"0\"")),
                gzip(good.replace("\"after\":0", "\"after\":0.0")), gzip(good.replace("\"seq\":1", "\"seq\":1e0")),
                gzip(good.replace("\"body\"", "\"Body\"")), gzip(good.replace("\"device_id\":\"d\"", "\"device_id\":\"../d\"")),
                gzip(good.replace("\"kind\":\"event\"", "\"kind\":\"'; DROP TABLE inbox\"")),
                gzip(good.replace("\"observed_at_ms\":1,", "\"observed_at_ms\":1000000000000000000,")),
                gzip(good.replace("{\"n\":1}", "{\"n\":NaN}")), gzip(good.replace("{\"n\":1}", "{\"n\":1,\"n\":2}")),
                gzip(good.replace("{\"n\":1}", "[".repeat(80) + "]".repeat(80))),
                gzip(good.replace("\"log_id\":\"log\"", "\"log_id\":\"other\"")),
                gzip(batch(1, 0, 2, row(2) + "," + row(1))), gzip(batch(1, 0, 2, row(2) + "," + row(2))),
                gzip(batch(1, 0, 0, "")), gzip(batch(1, 0, 101)), gzip(batch(5, 0, 1)))) {
            Client gateway = welcomed();
            gateway.binary(bad);
            gateway.refused("bad_frame");
        }
        for (String bad : List.of("", "x", "{}", "{\"type\":1}", good, "{\"type\":\"hello\"}", "null", "1")) {
            Client gateway = client();
            gateway.text(bad);
            gateway.refused("bad_frame");
        }
        Client twice = welcomed();
        twice.hello("[]");
        twice.refused("bad_frame");
        for (String ranges : List.of("{}", "[1]", "[{\"first_seq\":0,\"acked_seq\":0}]", "[{\"first_seq\":5,\"acked_seq\":3}]",
                "[{\"first_seq\":1,\"acked_seq\":0},{\"first_seq\":1,\"acked_seq\":0}]")) {
            client().hello(ranges).refused("bad_frame");
        }
        for (String features : List.of("{}", "\"command\"", "[1]", "[null]", "[\"" + "x".repeat(65) + "\"]", "[" + "\"x\",".repeat(32) + "\"x\"]")) {
            client().hello("[],\"features\":" + features).refused("bad_frame");
        }
        Client early = client();
        early.binary(gzip(good));
        early.refused("bad_frame");
        assertEquals(0, inbox());
    }

    @Test
    void frame_above_the_limit_ends_the_session() throws Exception {
        Client gateway = welcomed();
        gateway.binary(new byte[MAX_FRAME + 1]);
        gateway.refused("bad_frame");
        Client chatty = welcomed();
        chatty.socket.writeTextMessage("x".repeat(MAX_FRAME + 1));
        chatty.refused("bad_frame");
    }

    @Test
    void gzip_bomb_is_refused_and_takes_no_memory() throws Exception {
        byte[] bomb;
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        try (OutputStream gzip = new GZIPOutputStream(out)) {
            byte[] zeros = new byte[1_000_000];
            for (int i = 0; i < 90; i++) {
                gzip.write(zeros);
            }
        }
        bomb = out.toByteArray();
        assertTrue(bomb.length < MAX_FRAME, "bomb of " + bomb.length);
        Client gateway = welcomed();
        gateway.binary(bomb);
        gateway.refused("bad_frame");
    }

    /** CVE-2026-46726: the consumer would make headers of the query. It never sees one. */
    @Test
    void query_and_missing_subprotocol_are_refused() throws Exception {
        assertEquals(400, status("/uplink/gw-1?gatewayId=gw-2", "one", "caravan.v1"));
        Client victim = welcomed();
        for (String query : List.of("CamelVertxWebsocket.connectionKey=x", "camelvertxwebsocket.event=CLOSE", "CamelSqlQuery=x")) {
            assertEquals(400, status("/uplink/gw-1?" + query, "one", "caravan.v1"));
        }
        assertEquals(404, status("/uplink", "one", "caravan.v1"));
        assertEquals(404, status("/uplink/gw-1/x", "one", "caravan.v1"));
        assertEquals(404, status("/", "one", "caravan.v1"));
        new Client("/uplink/gw-1", "one", null).refused("bad_frame");
        victim.binary(gzip(batch(1, 0, 1)));
        assertEquals("ack", victim.next().getString("type"));
        assertEquals(7, refusals("bad_request"));
        assertEquals(1, refusals("bad_frame"));
    }

    @Test
    void store_that_is_away_is_told_and_nothing_is_acked() throws Exception {
        Client gateway = welcomed();
        cloud.storeDown = true;
        gateway.binary(gzip(batch(1, 0, 5)));
        gateway.refused("store_unavailable");
        client().hello("[]").refused("store_unavailable");
        cloud.storeDown = false;
        assertEquals(0, inbox());
        Client again = welcomed();
        again.binary(gzip(batch(1, 0, 5)));
        assertEquals(5, again.next().getInteger("last"));
    }

    @Test
    void frames_sent_all_at_once_are_all_stored() throws Exception {
        Client gateway = welcomed();
        for (int i = 0; i < 100; i++) {
            gateway.binary(gzip(batch(1000 * i + 1, 1000 * i, 1000 * i + 10)));
        }
        Set<Integer> acked = new HashSet<>();
        for (int i = 0; i < 100; i++) {
            JsonObject ack = gateway.next();
            assertEquals("ack", ack.getString("type"), ack.encode());
            acked.add(ack.getInteger("first_seq"));
        }
        assertEquals(100, acked.size());
        assertEquals(1000, inbox());
    }

    @Test
    void connections_above_the_limit_are_refused() throws Exception {
        cloud.close();
        start();
        allow("gw-1 = sha256:" + sha256("one"), "gw-2 = sha256:" + sha256("two"), "gw-3 = sha256:" + sha256("three"));
        welcomed();
        Client second = new Client("/uplink/gw-2", "two", "caravan.v1");
        new Client("/uplink/gw-3", "three", "caravan.v1").refused("store_unavailable");
        second.socket.close();
        await().atMost(Duration.ofSeconds(5)).until(() -> cloud.meters.get("caravan.sessions.open").gauge().value() == 1);
        assertFalse(new Client("/uplink/gw-3", "three", "caravan.v1").closed.isDone());
    }

    @Test
    void who_is_connected_is_written_down() throws Exception {
        cloud.execute("INSERT INTO gateway (gateway_id, log_id, version, first_seen_ms, last_seen_ms, replica_id, session_id)"
            + " SELECT 'ghost', 'l', '1', 0, 0, replica_id, 'none' FROM replica");
        Client gateway = welcomed();
        await().atMost(Duration.ofSeconds(5)).until(() -> cloud.number("SELECT session_id IS NOT NULL FROM gateway WHERE gateway_id = 'ghost'") == 0);
        assertEquals(1, cloud.number("SELECT session_id IS NOT NULL FROM gateway WHERE gateway_id = 'gw-1'"));
        gateway.socket.close();
        await().atMost(Duration.ofSeconds(5)).until(() -> cloud.number("SELECT session_id IS NOT NULL FROM gateway WHERE gateway_id = 'gw-1'") == 0);
    }

    @Test
    void who_was_connected_before_a_crash_is_not_connected() throws Exception {
        String connected = "SELECT count(*) FROM gateway g JOIN replica p ON p.replica_id = g.replica_id AND p.until_ms > unixepoch() * 1000";
        welcomed();
        assertEquals(1, cloud.number(connected));
        // A crash writes nothing: what stands here is the session of a process that is gone.
        cloud.execute("CREATE TABLE before AS SELECT replica_id, session_id FROM gateway");
        cloud.close();
        cloud = new Box("cloud", store, cloud.keys, "UPDATE gateway SET replica_id = (SELECT replica_id FROM before), session_id = (SELECT session_id FROM before)");
        assertEquals(1, cloud.number(connected), "nobody has looked yet");
        cloud.start("cloud/uplink", "cloud/inbox", "cloud/bus");
        await().atMost(Duration.ofSeconds(5)).until(() -> cloud.number(connected) == 0);
        assertEquals(1, cloud.number("SELECT count(*) FROM replica"));
        welcomed();
        assertEquals(1, cloud.number(connected));
    }

    private Sessions sessions() {
        return cloud.camel.getRegistry().lookupByNameAndType("sessions", Sessions.class);
    }

    /** A gateway that takes commands, and is known to the cloud as one. */
    private Client commanded() throws Exception {
        Client client = client();
        client.text("{\"type\":\"hello\",\"protocol\":\"caravan.v1\",\"gateway_id\":\"gw-1\",\"log_id\":\"log\",\"version\":\"9\","
            + "\"time_ms\":1,\"ranges\":[],\"features\":[\"command\",\"from-the-future\"],\"unheard_of\":{}}");
        assertEquals(new JsonArray().add("command").add("credit"), client.next().getJsonArray("features"));
        await().atMost(Duration.ofSeconds(5)).until(() -> sessions().commandSessions().containsKey("gw-1"));
        return client;
    }

    private static Throwable failure(CompletionStage<Void> stage) throws Exception {
        return assertThrows(ExecutionException.class, () -> stage.toCompletableFuture().get(20, TimeUnit.SECONDS)).getCause();
    }

    private static String command(long n, int size) {
        return "{\"id\":\"c" + n + "\",\"device_id\":\"d\",\"name\":\"" + "x".repeat(size) + "\"}";
    }

    @Test
    void commands_leave_in_order_in_frames_that_every_gateway_takes() throws Exception {
        Client gateway = commanded();
        String session = sessions().commandSessions().get("gw-1");
        List<CompletionStage<Void>> sent = new ArrayList<>();
        int n = 0;
        for (int size : new int[] {0, 10, 64_900, 30_000, 0}) {
            List<Supplier<String>> list = new ArrayList<>();
            for (int i = 0; i < (size < 100 ? 700 : 3); i++) {
                String text = command(n++, size);
                list.add(() -> text);
            }
            sent.add(sessions().command("gw-1", session, list));
        }
        for (CompletionStage<Void> one : sent) {
            one.toCompletableFuture().get(20, TimeUnit.SECONDS);
        }
        for (int next = 0; next < n;) {
            JsonObject frame = gateway.next();
            assertEquals("command", frame.getString("type"));
            assertTrue(frame.encode().length() <= 65_536 && frame.getJsonArray("commands").size() <= 256, "frame of " + frame.encode().length());
            for (int i = 0; i < frame.getJsonArray("commands").size(); i++) {
                assertEquals("c" + next++, frame.getJsonArray("commands").getJsonObject(i).getString("id"));
            }
        }
        sessions().cancel("gw-1", session, List.of("c1", "\"c2"), "a \"b\"").toCompletableFuture().get(20, TimeUnit.SECONDS);
        assertEquals(new JsonObject("{\"type\":\"command-cancel\",\"by\":\"a \\\"b\\\"\",\"ids\":[\"c1\",\"\\\"c2\"]}"), gateway.next());
        assertTrue(failure(sessions().command("gw-1", session, List.of(() -> command(0, 66_000)))) instanceof IllegalArgumentException);
        assertEquals(n + 2, cloud.meters.get("caravan.sessions.commands").tag("outcome", "written").counter().count());
        assertNull(gateway.received.poll());
    }

    /** What is left of a command's time is less when those before it have left. */
    @Test
    void a_command_says_what_holds_when_its_turn_to_be_written_comes() throws Exception {
        Client gateway = commanded();
        String session = sessions().commandSessions().get("gw-1");
        AtomicInteger asked = new AtomicInteger();
        CountDownLatch writing = new CountDownLatch(1);
        Semaphore go = new Semaphore(0);
        CompletionStage<Void> before = sessions().command("gw-1", session, List.of(() -> {
            if (asked.incrementAndGet() > 1) {
                writing.countDown();
                go.acquireUninterruptibly();
            }
            return command(1, 1);
        }));
        assertTrue(writing.await(20, TimeUnit.SECONDS));
        AtomicLong now = new AtomicLong(10);
        CompletionStage<Void> sent = sessions().command("gw-1", session, List.of(() -> command(now.get(), 1)));
        now.set(20);
        go.release();
        before.toCompletableFuture().get(20, TimeUnit.SECONDS);
        sent.toCompletableFuture().get(20, TimeUnit.SECONDS);
        assertEquals("c1", gateway.next().getJsonArray("commands").getJsonObject(0).getString("id"));
        assertEquals("c20", gateway.next().getJsonArray("commands").getJsonObject(0).getString("id"));
    }

    @Test
    void commands_are_not_sent_to_who_is_not_here_and_not_to_an_older_gateway() throws Exception {
        Client old = welcomed();
        assertEquals(Map.of(), sessions().commandSessions());
        String key = "no-such-session";
        assertTrue(failure(sessions().command("gw-1", key, List.of(() -> command(1, 1)))) instanceof UplinkClosedException);
        assertTrue(failure(sessions().command("gw-2", key, List.of(() -> command(1, 1)))) instanceof UplinkClosedException);
        Client gateway = commanded();
        old.refused("replaced");
        String session = sessions().commandSessions().get("gw-1");
        assertTrue(failure(sessions().command("gw-1", key, List.of(() -> command(1, 1)))) instanceof UplinkClosedException, "of another session");
        sessions().command("gw-1", session, List.of(() -> command(2, 1))).toCompletableFuture().get(20, TimeUnit.SECONDS);
        assertEquals("c2", gateway.next().getJsonArray("commands").getJsonObject(0).getString("id"));
        gateway.socket.close();
        await().atMost(Duration.ofSeconds(5)).until(() -> sessions().commandSessions().isEmpty());
        assertTrue(failure(sessions().command("gw-1", session, List.of(() -> command(1, 1)))) instanceof UplinkClosedException);
        assertNull(old.received.poll());
    }

    @Test
    void gateway_that_does_not_read_costs_bounded_memory_and_holds_up_nobody() throws Exception {
        Client gateway = commanded();
        gateway.socket.pause();
        String session = sessions().commandSessions().get("gw-1");
        List<CompletionStage<Void>> sent = new ArrayList<>();
        // The sockets' buffers take some, how much is the system's affair.
        do {
            sent.add(send(session, sent.size()));
        } while (written(sent.get(sent.size() - 1)));
        for (int i = 0; i < 200; i++) {
            sent.add(send(session, sent.size()));
        }
        List<CompletionStage<Void>> refused = sent.stream().filter(s -> s.toCompletableFuture().isCompletedExceptionally()).toList();
        assertTrue(refused.size() > 50, "refused at once: " + refused.size());
        assertTrue(failure(refused.get(0)).getMessage().contains("reads too slowly"), failure(refused.get(0)).getMessage());
        Client other = new Client("/uplink/gw-2", "two", "caravan.v1");
        other.text("{\"type\":\"hello\",\"protocol\":\"caravan.v1\",\"gateway_id\":\"gw-2\",\"log_id\":\"log2\",\"version\":\"9\","
            + "\"time_ms\":1,\"ranges\":[],\"features\":[\"command\"]}");
        assertEquals("welcome", other.next().getString("type"));
        await().atMost(Duration.ofSeconds(5)).until(() -> sessions().commandSessions().containsKey("gw-2"));
        sessions().command("gw-2", sessions().commandSessions().get("gw-2"), List.of(() -> command(1, 1))).toCompletableFuture().get(5, TimeUnit.SECONDS);
        assertEquals("command", other.next().getString("type"));
        // After 10 s it is cut off, and whoever waited is told.
        for (CompletionStage<Void> one : sent) {
            one.handle((done, error) -> null).toCompletableFuture().get(20, TimeUnit.SECONDS);
        }
        await().atMost(Duration.ofSeconds(20)).until(() -> !sessions().commandSessions().containsKey("gw-1"));
        assertEquals(sent.size(), cloud.meters.get("caravan.sessions.commands").tag("outcome", "written").counter().count()
            + cloud.meters.get("caravan.sessions.commands").tag("outcome", "failed").counter().count() - 1);
        gateway.socket.resume();
    }

    /** Vert.x answers a ping by itself and at once. */
    @Test
    void gateway_that_pings_and_does_not_read_is_ended() throws Exception {
        // Pongs alone would not fill the socket: a client that is paused still takes them.
        Client gateway = stuck();
        for (int i = 0; i < 1_500; i++) {
            gateway.socket.writePing(Buffer.buffer(new byte[125]));
        }
        await().atMost(Duration.ofSeconds(20)).until(() -> cloud.meters.get("caravan.sessions.open").gauge().value() == 0);
        gateway.socket.resume();
        assertEquals(1, refusals("bad_frame"));
    }

    /** A gateway with commands under way, whose socket is full, and nearly ten seconds until it is closed for that. */
    private Client stuck() throws Exception {
        Client gateway = client();
        gateway.text("{\"type\":\"hello\",\"protocol\":\"caravan.v1\",\"gateway_id\":\"gw-1\",\"log_id\":\"log\",\"version\":\"9\","
            + "\"time_ms\":1,\"ranges\":[],\"features\":[\"command\",\"credit\"]}");
        assertEquals("welcome", gateway.next().getString("type"));
        await().atMost(Duration.ofSeconds(5)).until(() -> sessions().commandSessions().containsKey("gw-1"));
        gateway.socket.pause();
        String session = sessions().commandSessions().get("gw-1");
        int id = 0;
        CompletionStage<Void> last;
        do {
            last = send(session, id++);
        } while (written(last));
        // The first of them may be on its way in part.
        for (int i = 0; i < 10; i++) {
            send(session, id++);
        }
        return gateway;
    }

    /** Behind what waits it would come late and say nothing, and a gateway can ask for it as often as it likes. */
    @Test
    void stats_are_not_answered_as_long_as_the_socket_is_full() throws Exception {
        Client gateway = stuck();
        double before = cloud.meters.get("caravan.sessions.frames").counter().count();
        for (int i = 1; i <= 200; i++) {
            gateway.socket.writeTextMessage("{\"type\":\"stats\",\"number\":" + i + "}");
        }
        await().atMost(Duration.ofSeconds(6)).until(() -> cloud.meters.get("caravan.sessions.frames").counter().count() == before + 200 && inside() == 0);
        gateway.socket.resume();
        List<String> answers = new ArrayList<>();
        for (JsonObject frame = gateway.next(); frame != null; frame = gateway.received.poll(1, TimeUnit.SECONDS)) {
            if (!frame.getString("type").equals("command")) {
                answers.add(frame.encode());
            }
        }
        assertEquals(List.of(), answers);
        gateway.text("{\"type\":\"stats\",\"number\":201}");
        assertEquals(201, gateway.next().getInteger("number"), "answered again when it reads");
    }

    @Test
    void gateway_that_asks_for_credit_and_does_not_read_is_ended() throws Exception {
        Client gateway = stuck();
        for (int i = 0; i < 5_000; i++) {
            gateway.socket.writeTextMessage("{\"type\":\"backlog\",\"rows\":200}");
            gateway.socket.writeTextMessage("{\"type\":\"backlog\",\"rows\":0}");
        }
        await().atMost(Duration.ofSeconds(20)).until(() -> cloud.meters.get("caravan.sessions.open").gauge().value() == 0);
        gateway.socket.resume();
        assertEquals(1, refusals("bad_frame"));
    }

    private CompletionStage<Void> send(String session, int id) {
        String text = command(id, 64_000);
        return sessions().command("gw-1", session, List.of(() -> text));
    }

    /** False: its socket is full. */
    private static boolean written(CompletionStage<Void> sent) throws Exception {
        try {
            sent.toCompletableFuture().get(2, TimeUnit.SECONDS);
            return true;
        } catch (TimeoutException e) {
            return false;
        }
    }

    @Test
    void welcome_signals_that_commands_may_be_sent() throws Exception {
        try (ConsumerTemplate consumer = cloud.camel.createConsumerTemplate()) {
            client().hello("[]").next();
            assertNotNull(consumer.receive("seda:command?size=1", 10_000));
        }
    }

    @Test
    void rows_the_cloud_lost_are_counted_and_do_not_stop_the_rest() throws Exception {
        Client gateway = client().hello("[{\"first_seq\":1,\"acked_seq\":70},{\"first_seq\":101,\"acked_seq\":100}]");
        assertEquals(70, gateway.next().getJsonArray("ranges").getJsonObject(0).getInteger("acked_seq"));
        assertEquals(70, cloud.meters.get("caravan.sessions.missing.rows").counter().count());
        gateway.binary(gzip(batch(1, 70, 80)));
        assertEquals(80, gateway.next().getInteger("last"));
    }

    /** Welcomed, with feature credit. */
    private Client credited(String id, String token) throws Exception {
        Client client = new Client("/uplink/" + id, token, "caravan.v1");
        client.text("{\"type\":\"hello\",\"protocol\":\"caravan.v1\",\"gateway_id\":\"" + id + "\",\"log_id\":\"log\",\"version\":\"9\","
            + "\"time_ms\":1,\"ranges\":[],\"features\":[\"credit\"]}");
        assertEquals("welcome", client.next().getString("type"));
        return client;
    }

    private static int credit(Client client) throws Exception {
        JsonObject frame = client.next();
        assertEquals("credit", frame.getString("type"), frame.encode());
        return frame.getInteger("rows");
    }

    private static String historical(long first, long after, long last) {
        return batch(first, after, last).replace("\"live\"", "\"historical\"");
    }

    /** 600 rows for both, 200 for one: the store does nothing here, so what is committed is not applied. */
    @Test
    void backlogIsSharedAndStopsWithTheStore() throws Exception {
        Client first = credited("gw-1", "one");
        first.text("{\"type\":\"backlog\",\"rows\":1000}");
        assertEquals(100, credit(first));
        assertEquals(100, credit(first));
        Client second = credited("gw-2", "two");
        second.text("{\"type\":\"backlog\",\"rows\":130}");
        assertEquals(100, credit(second));
        assertEquals(30, credit(second));
        for (int sent = 0; sent < 400; sent += 100) {
            first.binary(gzip(historical(1, sent, sent + 100)));
            List<String> types = new ArrayList<>();
            // What 130 rows of the other leave of 600: four pieces, two of which it had.
            for (int i = 0; i < (sent < 200 ? 2 : 1); i++) {
                types.add(first.next().getString("type"));
            }
            assertTrue(types.contains("ack") && (sent >= 200 || types.contains("credit")), types.toString());
        }
        assertEquals(400, inbox());
        // Live rows need none.
        first.binary(gzip(batch(10_000, 9_999, 10_050)));
        assertEquals("ack", first.next().getString("type"));
        assertEquals(0, cloud.meters.get("caravan.sessions.uncredited.rows").counter().count());
        assertEquals(130, cloud.meters.get("caravan.sessions.credit.rows").gauge().value());
        // The other one goes, and what it had is free; then the store gets on.
        second.socket.close();
        assertEquals(100, credit(first));
        assertNull(first.received.poll(300, TimeUnit.MILLISECONDS));
        cloud.execute("UPDATE sink_range SET acked_seq = 450, inflight_seq = 450 WHERE sink = 'store'");
        assertEquals(100, credit(first));
        first.binary(gzip(historical(1, 400, 500)));
        List<JsonObject> two = List.of(first.next(), first.next());
        assertEquals(Set.of("ack", "credit"), Set.of(two.get(0).getString("type"), two.get(1).getString("type")));
    }

    @Test
    void backlogThatBreaksTheContractIsRefused() throws Exception {
        Client old = welcomed();
        old.text("{\"type\":\"backlog\",\"rows\":1}");
        old.refused("bad_frame");
        Client early = client();
        early.text("{\"type\":\"backlog\",\"rows\":1}");
        early.refused("bad_frame");
        for (String rows : List.of("-1", "\"1\"", "1.5", "9223372036854775807", "null")) {
            Client gateway = credited("gw-1", "one");
            gateway.text("{\"type\":\"backlog\",\"rows\":" + rows + "}");
            gateway.refused("bad_frame");
        }
        Client gateway = credited("gw-1", "one");
        gateway.binary(gzip(historical(1, 0, 5)));
        assertEquals("ack", gateway.next().getString("type"), "rows are never refused for want of credit");
        gateway.text("{\"type\":\"backlog\",\"rows\":10}");
        assertEquals(10, credit(gateway));
        gateway.binary(gzip(historical(1, 5, 20)));
        gateway.next();
        assertEquals(5, cloud.meters.get("caravan.sessions.uncredited.rows").counter().count());
    }
}
