// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import java.util.stream.LongStream;
import org.apache.camel.Exchange;
import org.apache.camel.Processor;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.component.seda.SedaEndpoint;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Gateway routes against cloud routes, real TLS, real stores, a proxy in between: what leaves arrives exactly once. */
@Timeout(240)
class UplinkRoutesTest {

    private static final Logger LOG = LoggerFactory.getLogger(UplinkRoutesTest.class);

    @TempDir static Path folder;
    static Certs certs;

    Map<String, String> cloudKeys;
    Map<String, String> gatewayKeys;
    Path here;
    Box cloud;
    Box gateway;
    Proxy proxy;

    @BeforeAll
    static void certificates() throws Exception {
        certs = new Certs(folder.resolve("pki"));
        certs.issue("server", "DNS:localhost");
    }

    @BeforeEach
    void keys() throws Exception {
        here = Files.createTempDirectory(folder, "case");
        Files.writeString(here.resolve("token"), "t0ken");
        Files.writeString(here.resolve("gateways"), "# test\ngw-1 = sha256:" + HexFormat.of().formatHex(
            MessageDigest.getInstance("SHA-256").digest("t0ken".getBytes())) + "\n");
        proxy = new Proxy(0);
        cloudKeys = new HashMap<>(Map.ofEntries(
            Map.entry("uplink.host", "127.0.0.1"), Map.entry("uplink.port", "" + free()),
            Map.entry("uplink.gateways.file", here.resolve("gateways").toString()),
            Map.entry("uplink.tls.cert", certs.cert("server")), Map.entry("uplink.tls.key", certs.key("server")),
            Map.entry("uplink.max.frame.bytes", "1048576"), Map.entry("uplink.max.inflated.bytes", "8388608"),
            Map.entry("uplink.max.batch.rows", "5000"), Map.entry("uplink.sessions.max", "100"),
            Map.entry("uplink.idle.timeout.ms", "60000"), Map.entry("uplink.tick.ms", "60000"),
            Map.entry("store.batch.rows", "1000"), Map.entry("store.tick.ms", "500"), Map.entry("inbox.keep.ms", "0"), Map.entry("http.port", "" + free())));
        gatewayKeys = new HashMap<>(Map.ofEntries(
            Map.entry("gateway.id", "gw-1"), Map.entry("uplink.enabled", "true"),
            Map.entry("uplink.url", "wss://localhost:" + proxy.port()),
            Map.entry("uplink.token.file", here.resolve("token").toString()),
            Map.entry("uplink.ca.file", certs.ca.toString()),
            Map.entry("uplink.client.cert.file", ""), Map.entry("uplink.client.key.file", ""),
            Map.entry("uplink.connect.timeout.ms", "2000"), Map.entry("uplink.ping.ms", "500"),
            Map.entry("uplink.reconnect.min.ms", "20"), Map.entry("uplink.reconnect.max.ms", "300"),
            Map.entry("uplink.send.timeout.ms", "2000"), Map.entry("uplink.ack.timeout.ms", "2000"),
            Map.entry("uplink.max.frame.bytes", "1048576"), Map.entry("uplink.readiness", "false"), Map.entry("uplink.ready.after.ms", "900000"),
            Map.entry("uplink.window.rows", "2000"), Map.entry("uplink.batch.rows", "500"),
            Map.entry("uplink.batch.bytes", "262144"), Map.entry("uplink.flush.ms", "50"),
            Map.entry("uplink.historical.rows", "5000"), Map.entry("outbox.tick.ms", "300")));
    }

    @AfterEach
    void stop() throws Exception {
        if (gateway != null) {
            gateway.close();
        }
        if (cloud != null) {
            cloud.close();
        }
        proxy.close();
    }

    static int free() throws Exception {
        try (ServerSocket s = new ServerSocket(0)) {
            return s.getLocalPort();
        }
    }

    void cloud(String... extraSql) throws Exception {
        cloud(Map.of(), extraSql);
    }

    void cloud(Map<String, String> edits, String... extraSql) throws Exception {
        cloud = new Box("cloud", here.resolve("cloud.db"), cloudKeys, extraSql);
        cloud.edits.putAll(edits);
        cloud.start("cloud/uplink", "cloud/inbox", "cloud/bus", "cloud/store");
        proxy.target(Integer.parseInt(cloudKeys.get("uplink.port")));
    }

    void gateway() throws Exception {
        gateway(Map.of(), e -> { });
    }

    /** @param command stands for the gateway's direct:command and direct:command-cancel */
    void gateway(Map<String, String> edits, Processor command) throws Exception {
        gateway = new Box("gateway", here.resolve("gateway.db"), gatewayKeys);
        gateway.edits.putAll(edits);
        gateway.camel.addRoutes(new RouteBuilder() {
            @Override
            public void configure() {
                from("direct:command").errorHandler(noErrorHandler()).process(command);
                from("direct:command-cancel").errorHandler(noErrorHandler()).process(command);
            }
        });
        gateway.start("gateway/outbox", "gateway/uplink");
    }

    Sessions sessions() {
        return cloud.camel.getRegistry().lookupByNameAndType("sessions", Sessions.class);
    }

    /** Sends when there is a session; what is on its way while one ends may be lost, and is sent again by nobody here. */
    void command(List<String> commands) throws Exception {
        await().atMost(Duration.ofSeconds(20)).pollInterval(Duration.ofMillis(5)).until(() -> sessions().commandSessions().containsKey("gw-1"));
        List<Supplier<String>> texts = commands.stream().map(text -> (Supplier<String>) () -> text).toList();
        sessions().command("gw-1", sessions().commandSessions().get("gw-1"), texts).toCompletableFuture().get(20, TimeUnit.SECONDS);
    }

    static List<String> commands(long from, long to) {
        return LongStream.rangeClosed(from, to).mapToObj(n -> "{\"id\":\"c" + n + "\",\"device_id\":\"dev-" + n % 7 + "\",\"name\":\"led\","
            + "\"arguments\":{\"on\":true},\"ttl_ms\":10000,\"issued_by\":\"ann\"}").toList();
    }

    static List<String> ids(Exchange exchange) {
        return ((List<?>) exchange.getMessage().getBody(List.class)).stream().map(c -> String.valueOf(((Map<?, ?>) c).get("id"))).toList();
    }

    void said(String kind, long from, long to) throws Exception {
        gateway.execute("WITH RECURSIVE n(i) AS (SELECT " + from + " UNION ALL SELECT i + 1 FROM n WHERE i < " + to + ") "
            + "INSERT INTO outbox (kind, device_id, message_key, observed_at_ms, created_at_ms, body) SELECT '" + kind + "', 'dev-1', '" + kind + "/' || i, i, i, "
            + "json_object('n', i) FROM n");
        gateway.camel.createProducerTemplate().sendBody("seda:outbox?size=1&discardWhenFull=true", "");
    }

    /** Rows of kind event; the number is in the key and the body, so that order and content can be compared. */
    void rows(long from, long to) throws Exception {
        gateway.execute("INSERT INTO outbox (kind, device_id, message_key, observed_at_ms, created_at_ms, body) "
            + "WITH RECURSIVE n(i) AS (SELECT " + from + " UNION ALL SELECT i + 1 FROM n WHERE i < " + to + ") "
            + "SELECT 'event', 'dev-' || (i % 7), 'k/' || i, 1700000000000 + i, 0, "
            + "json_object('event', 'x', 'n', i, 'text', 'über ${body} {{x}} \"q\"') FROM n");
        gateway.camel.createProducerTemplate().sendBody("seda:outbox?size=1&discardWhenFull=true", "");
    }

    void drained() {
        await().atMost(Duration.ofSeconds(60)).pollInterval(Duration.ofMillis(20)).until(() ->
            gateway.number("SELECT backlog + inflight + (SELECT count(*) FROM outbox) FROM ledger WHERE sink = 'uplink'") == 0);
    }

    @Test
    void rows_arrive_once_in_order_and_leave_the_outbox() throws Exception {
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway();
        rows(1, 3000);
        drained();
        assertEquals(3000, cloud.number("SELECT count(*) FROM inbox"));
        assertEquals(0, cloud.number("SELECT count(*) FROM inbox i WHERE gateway_seq <> body->>'n' OR message_key <> 'k/' || gateway_seq"
            + " OR body->>'text' <> 'über ${body} {{x}} \"q\"' OR device_id <> 'dev-' || (gateway_seq % 7)"));
        assertEquals(0, cloud.number("SELECT count(*) FROM inbox a JOIN inbox b ON b.seq = a.seq + 1 AND b.gateway_seq <= a.gateway_seq"));
        assertEquals(3000, gateway.number("SELECT delivered FROM sink WHERE name = 'uplink'"));
        assertEquals(1, cloud.number("SELECT count(*) FROM gateway WHERE session_id IS NOT NULL"));
    }

    @Test
    void exactly_once_while_connections_are_cut() throws Exception {
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway();
        LOG.warn("{} cuts", cutWhileSending(new Random(1), 12_000));
        assertEquals(12_000, cloud.number("SELECT count(DISTINCT gateway_seq) FROM inbox"), "lost");
        assertEquals(12_000, cloud.number("SELECT count(*) FROM inbox"), "twice");
        assertEquals(12_000, gateway.number("SELECT delivered FROM sink WHERE name = 'uplink'"));
        assertEquals(1, gateway.number("SELECT count(*) FROM sink_range WHERE sink = 'uplink'"));
        assertEquals(1, proxy.most(), "connections at one time");
    }

    @Test
    void what_is_said_about_commands_does_not_wait_for_more_rows() throws Exception {
        gatewayKeys.put("uplink.flush.ms", "600000");
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway();
        rows(1, 5);
        await().during(Duration.ofMillis(700)).atMost(Duration.ofSeconds(5)).until(() -> cloud.number("SELECT count(*) FROM inbox") == 0);
        said("command", 6, 6);
        drained();
        assertEquals(6, cloud.number("SELECT count(*) FROM inbox WHERE seq = gateway_seq"), "with what waited before it, in order");
        said("twin", 7, 7);
        drained();
        assertEquals(1, cloud.number("SELECT count(*) FROM inbox WHERE kind = 'twin'"));
    }

    /** Negative control: what is not marked waits. */
    @Test
    void what_is_said_about_commands_waits_when_nobody_marks_it() throws Exception {
        gatewayKeys.put("uplink.flush.ms", "600000");
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway(Map.of(" || ${header.CaravanFlush} == 1", ""), e -> { });
        said("command", 1, 1);
        await().during(Duration.ofMillis(700)).atMost(Duration.ofSeconds(5)).until(() -> cloud.number("SELECT count(*) FROM inbox") == 0);
    }

    @Test
    void commands_of_the_cloud_arrive_in_order_and_one_that_is_refused_stops_nothing() throws Exception {
        BlockingQueue<Object> taken = new LinkedBlockingQueue<>();
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway(Map.of(), e -> {
            taken.add(e.getMessage().getHeaders() + " " + e.getMessage().getBody());
            if (String.valueOf(e.getMessage().getBody()).contains("c2")) {
                throw new IllegalStateException("the store is away");
            }
        });
        command(commands(1, 1));
        command(commands(2, 2));
        command(commands(3, 3));
        sessions().cancel("gw-1", sessions().commandSessions().get("gw-1"), List.of("c3"), "bob").toCompletableFuture().get(20, TimeUnit.SECONDS);
        for (int n = 1; n <= 3; n++) {
            String one = String.valueOf(taken.poll(10, TimeUnit.SECONDS));
            assertTrue(one.startsWith("{CaravanOrigin=cloud} [{") && one.contains("id=c" + n) && one.contains("arguments={\"on\":true}"), one);
        }
        assertEquals("{CaravanBy=bob} [c3]", taken.poll(10, TimeUnit.SECONDS));
        assertEquals(1, proxy.accepted.get(), "one connection, and it held");
    }

    @Test
    void gateway_that_cannot_keep_commands_keeps_its_connection_and_bounds_them() throws Exception {
        CountDownLatch release = new CountDownLatch(1);
        BlockingQueue<String> taken = new LinkedBlockingQueue<>();
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway(Map.of(), e -> {
            taken.addAll(ids(e));
            release.await();
        });
        for (int n = 1; n <= 800; n++) {
            command(commands(n, n));
        }
        rows(1, 1000);
        drained();
        proxy.cut();
        rows(1001, 2000);
        drained();
        assertEquals(2000, cloud.number("SELECT count(*) FROM inbox"));
        assertEquals(List.of("c1"), List.copyOf(taken));
        release.countDown();
        await().atMost(Duration.ofSeconds(10)).until(() -> taken.size() == 513);
        command(commands(801, 801));
        await().atMost(Duration.ofSeconds(10)).until(() -> taken.contains("c801"));
        assertEquals(514, taken.size(), "what waited, and no more than that");
    }

    /** Whoever keeps it counts its time from there. */
    @Test
    void command_that_waits_in_the_gateway_says_when_it_came() throws Exception {
        CountDownLatch release = new CountDownLatch(1);
        BlockingQueue<Long> ages = new LinkedBlockingQueue<>();
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway(Map.of(), e -> {
            release.await();
            Map<?, ?> one = (Map<?, ?>) e.getMessage().getBody(List.class).get(0);
            ages.add(System.nanoTime() / 1_000_000 - (Long) one.get("received_mono_ms"));
        });
        command(commands(1, 1));
        command(commands(2, 2));
        await().atMost(Duration.ofSeconds(10)).until(() -> gateway.camel.getEndpoint("seda:uplink-command", SedaEndpoint.class).getCurrentQueueSize() == 1);
        // Nothing to wait for: the time that both grow older by.
        Thread.sleep(700);
        release.countDown();
        for (int n = 1; n <= 2; n++) {
            long age = ages.poll(10, TimeUnit.SECONDS);
            assertTrue(age >= 700 && age < 30_000, "c" + n + " is " + age + " ms old");
        }
    }

    /** A gateway that says it knows less, and knows nothing of credit. */
    private static Map<String, String> older(String features, String fewer) {
        return Map.of(features, fewer, "simple: ${body[features]}", "constant: none");
    }

    @Test
    void older_gateway_works_and_is_sent_no_commands() throws Exception {
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway(older("'features', json_array('command', 'credit'),", ""), e -> { });
        rows(1, 10);
        drained();
        assertEquals(Map.of(), sessions().commandSessions());
    }

    /** A thousand commands a second, with what is said about each, beside five thousand rows of telemetry a second. */
    @Test
    void commands_and_telemetry_flow_side_by_side() throws Exception {
        gatewayKeys.put("uplink.ack.timeout.ms", "60000");
        gatewayKeys.put("uplink.ping.ms", "10000");
        int seconds = 3;
        long[] at = new long[1000 * seconds + 1];
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway(Map.of(), e -> {
            StringBuilder rows = new StringBuilder("INSERT INTO outbox (kind, device_id, message_key, observed_at_ms, created_at_ms, body) VALUES ");
            for (String id : ids(e)) {
                for (int revision = 1; revision <= 4; revision++) {
                    rows.append("('command','dev-1','").append(id).append('/').append(revision).append("',0,0,'{\"command_id\":\"").append(id).append("\"}'),");
                }
            }
            gateway.execute(rows.substring(0, rows.length() - 1));
            e.getContext().createProducerTemplate().sendBody("seda:outbox?size=1&discardWhenFull=true", "");
        });
        command(commands(0, 0));
        long begin = System.nanoTime();
        Thread telemetry = new Thread(() -> {
            for (int i = 0; i < seconds * 10; i++) {
                try {
                    rows(500L * i + 1, 500L * i + 500);
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
                pace(begin, (i + 1) * 100L);
            }
        });
        telemetry.start();
        List<Long> latencies = new ArrayList<>();
        Thread watch = new Thread(() -> {
            long next = 1;
            try {
                while (next < at.length) {
                    long last = next;
                    long there = await().pollDelay(Duration.ZERO).pollInterval(Duration.ofMillis(2)).atMost(Duration.ofMinutes(2)).until(
                        () -> cloud.number("SELECT coalesce(max(CAST(substr(message_key, 2, instr(message_key, '/') - 2) AS INTEGER)), 0) FROM (SELECT message_key FROM inbox"
                            + " WHERE kind = 'command' ORDER BY seq DESC LIMIT 1)"), n -> n >= last);
                    for (; next <= there; next++) {
                        latencies.add((System.nanoTime() - at[(int) next]) / 1_000);
                    }
                }
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        });
        watch.start();
        for (int i = 0; i < seconds * 100; i++) {
            for (int n = 10 * i + 1; n <= 10 * i + 10; n++) {
                at[n] = System.nanoTime();
            }
            command(commands(10L * i + 1, 10L * i + 10));
            pace(begin, (i + 1) * 10L);
        }
        long sent = System.nanoTime();
        telemetry.join();
        watch.join();
        drained();
        latencies.sort(null);
        LOG.warn("{} commands in {} ms beside {} rows; sent to first words in the inbox: p50 {} us, p99 {} us; all there {} ms after the last; {} frames",
            1000 * seconds, (sent - begin) / 1_000_000, 5000 * seconds, latencies.get(latencies.size() / 2), latencies.get(latencies.size() * 99 / 100),
            (System.nanoTime() - sent) / 1_000_000, cloud.meters.get("caravan.sessions.frames").counter().count());
        assertEquals(4L * (1000 * seconds + 1), cloud.number("SELECT count(DISTINCT message_key) FROM inbox WHERE kind = 'command'"));
        assertEquals(5000L * seconds, cloud.number("SELECT count(*) FROM inbox WHERE kind = 'event'"));
        assertEquals(1, proxy.accepted.get(), "one connection, and it held");
    }

    private static void pace(long begin, long ms) {
        java.util.concurrent.locks.LockSupport.parkNanos(begin + ms * 1_000_000 - System.nanoTime());
    }

    /** The welcome says nothing of what the cloud has, so what was committed and not acked comes again each time. */
    static final Map<String, String> BLIND_WELCOME = Map.of(
        "'ranges', coalesce({{sql.json.agg}}({{sql.json.object}}('first_seq', first_seq, 'acked_seq', acked_seq)\n"
            + "                    ORDER BY first_seq), {{sql.json.empty}})) AS TEXT)",
        "'ranges', iif(count(*) >= 0, json('[]'), NULL)) AS TEXT)");

    @Test
    void exactly_once_when_the_gateway_sends_again_what_was_committed() throws Exception {
        cloud(BLIND_WELCOME, "DELETE FROM sink_range WHERE sink = 'store'");
        gateway();
        LOG.warn("{} cuts", cutWhileSending(new Random(2), 12_000));
        assertEquals(12_000, cloud.number("SELECT count(DISTINCT gateway_seq) FROM inbox"), "lost");
        assertEquals(12_000, cloud.number("SELECT count(*) FROM inbox"), "twice");
        double again = cloud.meters.get("caravan.sessions.duplicate.rows").counter().count();
        LOG.warn("{} rows came again", again);
        assertTrue(again > 0, "nothing came again: the test proves nothing");
    }

    /** Negative control: with the same cuts, and a cloud that does not look, rows are there twice. */
    @Test
    void twice_when_the_cloud_does_not_look() throws Exception {
        Map<String, String> edits = new HashMap<>(BLIND_WELCOME);
        edits.put("WHERE CAST(r.value->>'seq' AS BIGINT) > CAST(:#${variable.acked} AS BIGINT) AND", "WHERE true AND");
        edits.put("NOT EXISTS (SELECT 1 FROM inbox i", "NOT EXISTS (SELECT 1 FROM (SELECT * FROM inbox WHERE false) i");
        cloud(edits, "DELETE FROM sink_range WHERE sink = 'store'", "DROP INDEX inbox_gateway_seq");
        gateway();
        LOG.warn("{} cuts", cutWhileSending(new Random(2), 12_000));
        assertEquals(12_000, cloud.number("SELECT count(DISTINCT gateway_seq) FROM inbox"), "lost");
        long twice = cloud.number("SELECT count(*) FROM inbox") - 12_000;
        LOG.warn("control: {} rows twice", twice);
        assertTrue(twice > 0, "the control did not double anything: the test above is blind");
    }

    /** A gateway with 30,000 rows of backlog and ten that are new, and a cloud whose store applies nothing. */
    private void backlogAndStoreThatStandsStill(Map<String, String> gatewayEdits) throws Exception {
        proxy.refuse(true);
        cloud("UPDATE sink SET state = 'paused' WHERE name = 'store'");
        gateway(gatewayEdits, e -> { });
        rows(1, 30_000);
        proxy.refuse(false);
        await().atMost(Duration.ofSeconds(20)).pollInterval(Duration.ofMillis(5)).until(() ->
            gateway.number("SELECT count(*) FROM sink_range WHERE sink = 'uplink'") == 2);
        rows(30_001, 30_010);
        await().atMost(Duration.ofSeconds(20)).pollInterval(Duration.ofMillis(5)).until(() ->
            cloud.number("SELECT count(*) FROM inbox WHERE gateway_seq > 30000") == 10);
    }

    @Test
    void backlog_comes_as_far_as_it_is_credited_and_live_rows_need_none() throws Exception {
        cloudKeys.put("uplink.backlog.rows", "2000");
        backlogAndStoreThatStandsStill(Map.of());
        await().atMost(Duration.ofSeconds(20)).until(() -> cloud.number("SELECT count(*) FROM inbox WHERE gateway_seq <= 30000") >= 1500);
        rows(30_011, 30_020);
        await().atMost(Duration.ofSeconds(20)).until(() -> cloud.number("SELECT count(*) FROM inbox WHERE gateway_seq > 30000") == 20);
        await().during(Duration.ofMillis(500)).atMost(Duration.ofSeconds(5)).until(() ->
            cloud.number("SELECT count(*) FROM inbox WHERE gateway_seq <= 30000") <= 2000);
        cloud.execute("UPDATE sink SET state = 'running' WHERE name = 'store'");
        drained();
        await().atMost(Duration.ofSeconds(60)).until(() -> cloud.number("SELECT count(*) FROM message") == 30_020);
        assertEquals(30_020, gateway.number("SELECT delivered FROM sink WHERE name = 'uplink'"));
        assertEquals(0, cloud.meters.get("caravan.sessions.uncredited.rows").counter().count());
        assertEquals(0, cloud.meters.get("caravan.sessions.backlog.rows").gauge().value());
        assertEquals(1, proxy.accepted.get(), "one connection, and it held");
    }

    /** Negative control: with room for everything, all of the backlog comes and waits for the store here. */
    @Test
    void backlog_comes_whatever_the_store_does_when_there_is_room_for_everything() throws Exception {
        cloudKeys.put("uplink.backlog.rows", "1000000000");
        backlogAndStoreThatStandsStill(Map.of());
        await().atMost(Duration.ofSeconds(60)).until(() -> cloud.number("SELECT count(*) FROM inbox") == 30_010);
    }

    @Test
    void older_gateway_and_older_cloud_send_backlogs_without_credit() throws Exception {
        cloudKeys.put("uplink.backlog.rows", "2000");
        backlogAndStoreThatStandsStill(older("json_array('command', 'credit')", "json_array('command')"));
        drained();
        assertEquals(30_010, cloud.number("SELECT count(*) FROM inbox"));
        gateway.close();
        cloud.close();
        cloud(Map.of("{{sql.json.array}}('command', 'credit')", "{{sql.json.array}}('command')"), "UPDATE sink SET state = 'paused' WHERE name = 'store'");
        proxy.refuse(true);
        gateway();
        rows(30_011, 50_000);
        proxy.refuse(false);
        drained();
        assertEquals(50_000, cloud.number("SELECT count(*) FROM inbox"));
    }

    @Test
    void backlog_becomes_historical_and_new_rows_overtake_it() throws Exception {
        proxy.refuse(true);
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway();
        rows(1, 30_000);
        await().atMost(Duration.ofSeconds(5)).until(() -> proxy.accepted.get() == 0);
        assertEquals(0, gateway.number("SELECT inflight_seq FROM sink_range WHERE sink = 'uplink'"), "claimed without a session");
        long start = System.nanoTime();
        proxy.refuse(false);
        await().atMost(Duration.ofSeconds(20)).pollInterval(Duration.ofMillis(1)).until(() -> cloud.number("SELECT count(*) FROM inbox") > 0);
        assertEquals(List.of(List.of(1, 30_000, "historical"), List.of(30_001, "live")), gateway.rows(
            "SELECT first_seq, last_seq, lane FROM sink_range WHERE sink = 'uplink' ORDER BY first_seq").stream()
            .map(r -> r.stream().filter(v -> v != null).toList()).toList());
        rows(30_001, 30_010);
        drained();
        LOG.warn("30,000 rows of backlog in {} ms", (System.nanoTime() - start) / 1_000_000);
        assertEquals(30_010, cloud.number("SELECT count(*) FROM inbox"));
        assertTrue(cloud.number("SELECT (SELECT max(seq) FROM inbox WHERE gateway_seq > 30000) < (SELECT max(seq) FROM inbox WHERE gateway_seq <= 30000)") == 1,
            "new rows came after all of the backlog");
        assertEquals(List.of(List.of(30_001, 30_010)), gateway.rows("SELECT first_seq, acked_seq FROM sink_range WHERE sink = 'uplink'"));
        assertEquals(30_010, gateway.number("SELECT delivered FROM sink WHERE name = 'uplink'"));
        assertEquals(0, cloud.number("SELECT count(*) FROM inbox a JOIN inbox b ON b.seq > a.seq AND b.gateway_seq = a.gateway_seq - 1"
            + " AND a.gateway_seq <> 30001"), "order within a range");
    }

    @Test
    void either_side_may_restart_in_the_middle() throws Exception {
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway();
        for (int i = 0; i < 6; i++) {
            rows(2000 * i + 1, 2000 * i + 2000);
            long before = cloud.number("SELECT count(*) FROM inbox");
            await().atMost(Duration.ofSeconds(20)).pollInterval(Duration.ofMillis(1)).until(() ->
                cloud.number("SELECT count(*) FROM inbox") > before);
            if (i % 2 == 0) {
                gateway.close();
                gateway();
            } else {
                cloud.close();
                cloud();
            }
        }
        drained();
        assertEquals(12_000, cloud.number("SELECT count(DISTINCT gateway_seq) FROM inbox"), "lost");
        assertEquals(12_000, cloud.number("SELECT count(*) FROM inbox"), "twice");
        assertEquals(12_000, gateway.number("SELECT delivered FROM sink WHERE name = 'uplink'"));
    }

    @Test
    void cloud_whose_store_is_down_gets_everything_when_it_is_up_again() throws Exception {
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway();
        rows(1, 100);
        drained();
        cloud.storeDown = true;
        rows(101, 5000);
        await().atMost(Duration.ofSeconds(20)).until(() ->
            gateway.number("SELECT count(*) FROM sink WHERE name = 'uplink' AND attempts > 1 AND last_error LIKE '%store_unavailable%'") == 1);
        cloud.storeDown = false;
        drained();
        assertEquals(5000, cloud.number("SELECT count(*) FROM inbox"));
        assertEquals(0, gateway.number("SELECT attempts FROM sink WHERE name = 'uplink'"));
    }

    @Test
    void store_that_went_back_in_time_gets_a_new_log_and_loses_nothing() throws Exception {
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway();
        rows(1, 100);
        drained();
        String log = String.valueOf(gateway.rows("SELECT log_id FROM meta").get(0).get(0));
        gateway.execute("UPDATE sqlite_sequence SET seq = 50 WHERE name = 'outbox'");
        gateway.execute("UPDATE sink_range SET acked_seq = 50, inflight_seq = 50 WHERE sink = 'uplink'");
        proxy.cut();
        rows(1001, 1010);
        await().atMost(Duration.ofSeconds(20)).until(() -> cloud.number("SELECT count(*) FROM inbox WHERE message_key LIKE 'k/10__'") == 10);
        drained();
        assertFalse(log.equals(gateway.rows("SELECT log_id FROM meta").get(0).get(0)));
        assertEquals(110, cloud.number("SELECT count(*) FROM inbox"));
    }

    @Test
    void paused_uplink_claims_nothing() throws Exception {
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway();
        rows(1, 10);
        drained();
        gateway.execute("UPDATE sink SET state = 'paused' WHERE name = 'uplink'");
        rows(11, 20);
        await().during(Duration.ofMillis(700)).atMost(Duration.ofSeconds(5)).until(() -> cloud.number("SELECT count(*) FROM inbox") == 10);
        gateway.execute("UPDATE sink SET state = 'running' WHERE name = 'uplink'");
        drained();
        assertEquals(20, cloud.number("SELECT count(*) FROM inbox"));
    }

    /** A welcome can end a range whose ack was lost: its rows are in none any more. */
    @Test
    void rows_of_a_range_that_is_gone_leave_the_outbox() throws Exception {
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        proxy.refuse(true);
        gateway();
        rows(1, 150);
        gateway.execute("UPDATE sink_range SET first_seq = 101, acked_seq = 100, inflight_seq = 100 WHERE sink = 'uplink'");
        gateway.execute("UPDATE sink SET delivered = 100 WHERE name = 'uplink'");
        proxy.refuse(false);
        drained();
        assertEquals(List.of(List.of(101, 150)), gateway.rows("SELECT first_seq, acked_seq FROM sink_range WHERE sink = 'uplink'"));
        assertEquals(50, cloud.number("SELECT count(*) FROM inbox"));
    }

    /** Whoever edits the file takes the rows with it that wait in its memory for a batch to become full. */
    @Test
    void rows_that_were_packed_when_the_file_is_replaced_are_sent_without_waiting_for_others() throws Exception {
        gatewayKeys.put("uplink.flush.ms", "600000");
        cloud("DELETE FROM sink_range WHERE sink = 'store'");
        gateway();
        await().atMost(Duration.ofSeconds(20)).until(() -> cloud.number("SELECT count(*) FROM gateway WHERE session_id IS NOT NULL") == 1);
        rows(1, 3);
        await().atMost(Duration.ofSeconds(20)).until(() -> gateway.number("SELECT inflight_seq FROM sink_range WHERE sink = 'uplink'") == 3);
        gateway.edits.put("{{uplink.flush.ms}}", "50");
        gateway.replace("gateway/outbox");
        drained();
        assertEquals(3, cloud.number("SELECT count(*) FROM inbox"));
    }

    private int cutWhileSending(Random random, int total) throws Exception {
        int cuts = 0;
        for (int at = 0; at < total; at += 400) {
            rows(at + 1, at + 400);
            int choice = random.nextInt(6);
            long before = cloud.number("SELECT coalesce(max(gateway_seq), 0) FROM inbox");
            if (choice < 3) {
                // Cut when something new has arrived: acks are on their way.
                await().atMost(Duration.ofSeconds(20)).pollInterval(Duration.ofMillis(1)).until(() ->
                    cloud.number("SELECT coalesce(max(gateway_seq), 0) FROM inbox") > before);
                proxy.cut();
                cuts++;
            } else if (choice == 3) {
                proxy.mute(true);
                await().pollDelay(Duration.ofMillis(random.nextInt(400) + 1)).until(() -> true);
                proxy.cut();
                proxy.mute(false);
                cuts++;
            } else if (choice == 4) {
                proxy.cut();
                cuts++;
            }
        }
        drained();
        return cuts;
    }

    @Test
    void store() throws Exception {
        cloud();
        gateway();
        gateway.execute("INSERT INTO outbox (kind, device_id, message_key, observed_at_ms, created_at_ms, body) VALUES "
            + "('window','d1','w1',10,0,'" + window("t", 0, 1, 5.0, 900) + "'),"
            + "('window','d1','w2',10,0,'" + window("t", 0, 3, 7.5, 950) + "'),"
            + "('window','d1','w3',10,0,'" + window("t", 0, 2, 6.0, 950) + "'),"
            + "('window','d1','w4',10,0,'" + window("t", 1000, 1, 8, 1900) + "'),"
            + "('window','d1','w5',10,0,'{\"metric\":\"t\",\"start_ms\":\"x\"}'),"
            + "('window','d1','w6',10,0,'not json'),"
            + "('window','d1','w7',10,0,'" + window("big", 99, 1, 1, 1900).replace("\"max\":1", "\"max\":1e999") + "'),"
            + "('event','d2','e1',20,0,'{\"event\":\"door\",\"data\":{\"a\":[1,2]}}'),"
            + "('event','d2','e1',20,0,'{\"event\":\"door\",\"data\":{\"a\":[1,2]}}')");
        drained();
        await().atMost(Duration.ofSeconds(20)).until(() -> cloud.number("SELECT count(*) FROM inbox") == 0);
        assertEquals(List.of(List.of("t", 0, 3, 7.5), List.of("t", 1000, 1, 8.0)),
            cloud.rows("SELECT metric, start_ms, revision, last FROM rollup_window ORDER BY start_ms"));
        assertEquals(List.of(List.of("t", 8.0, 1900)), cloud.rows("SELECT metric, value, observed_at_ms FROM last_value"));
        assertEquals(List.of(List.of(6, 3)), cloud.rows("SELECT delivered, dead FROM sink WHERE name = 'store'"));
        assertEquals(List.of(List.of("w5"), List.of("w6"), List.of("w7"), List.of("e1")),
            cloud.rows("SELECT message_key FROM message ORDER BY id"));
        // The uplink is on its own port only.
        try (Socket plain = new Socket("127.0.0.1", Integer.parseInt(cloudKeys.get("http.port")))) {
            plain.getOutputStream().write(("GET /uplink/gw-1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: caravan.v1\r\n"
                + "Authorization: Bearer t0ken\r\n\r\n").getBytes());
            assertTrue(new BufferedReader(new InputStreamReader(plain.getInputStream())).readLine().startsWith("HTTP/1.1 404"));
        }
    }

    private static String window(String metric, long start, int revision, double last, long at) {
        return "{\"device_id\":\"d1\",\"metric\":\"" + metric + "\",\"start_ms\":" + start + ",\"width_ms\":1000,\"part\":0,\"revision\":"
            + revision + ",\"count\":2,\"min\":1,\"max\":1,\"sum\":2.0,\"mean\":1.0,\"last\":" + last + ",\"last_observed_ms\":" + at + "}";
    }
}
