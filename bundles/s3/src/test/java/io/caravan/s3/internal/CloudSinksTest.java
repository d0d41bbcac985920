// SPDX-License-Identifier: Apache-2.0
package io.caravan.s3.internal;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.parts.KafkaPart;
import io.caravan.parts.S3Part;
import io.caravan.runtime.Caravan;
import io.caravan.s3.S3Module;
import io.caravan.wal.Recovery;
import io.caravan.wal.Recovery.SinkStatus;
import io.caravan.wal.WalModule;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The cloud's inbox with its store, sink kafka and sink s3: the gateway's route files, a real Kafka and a real S3 server. */
@Timeout(180)
class CloudSinksTest {
    private static final Path REPO = Path.of(System.getProperty("repo.dir", "../.."));
    private static final Duration LIMIT = Duration.ofSeconds(60);
    private static KafkaPart kafka;
    private static S3Part s3;

    @TempDir
    Path home;
    private String name;
    private Caravan cloud;

    @BeforeAll
    static void servers() {
        kafka = KafkaPart.start();
        s3 = S3Part.start();
    }

    @AfterAll
    static void noServers() {
        kafka.close();
        s3.close();
    }

    @BeforeEach
    void places(TestInfo test) {
        name = test.getTestMethod().orElseThrow().getName().toLowerCase();
        kafka.createTopic(name, 3, Map.of());
        s3.createBucket(name);
    }

    @AfterEach
    void stop() {
        if (cloud != null) {
            cloud.close();
        }
    }

    @Test
    void deadSinksHoldUpNeitherEachOtherNorTheStore() throws Exception {
        start(REPO.resolve("routes/cloud/bus.camel.yaml"));
        append(1, 100);
        await().atMost(LIMIT).until(() -> stored() == 100 && delivered() == 100 && archived().size() == 100);
        kafka.kill();
        try {
            append(101, 100);
            await().atMost(LIMIT).until(() -> stored() == 200 && archived().size() == 200);
            await().atMost(LIMIT).until(() -> sink("kafka").attempts() > 0);
            assertEquals(100, sink("kafka").backlog());
        } finally {
            kafka.restart();
        }
        await().atMost(LIMIT).until(() -> sink("kafka").backlog() == 0);
        s3.kill();
        try {
            append(201, 100);
            await().atMost(LIMIT).until(() -> stored() == 300 && sink("kafka").backlog() == 0);
            await().atMost(LIMIT).until(() -> sink("s3").attempts() > 0);
        } finally {
            s3.restart();
        }
        await().atMost(LIMIT).until(() -> sink("s3").backlog() == 0);
        assertEquals(300, archived().size(), "each row in one object");
        assertEquals(300, delivered());
    }

    /** The same cloud with the sink in front of the store, in one route: a dead sink is seen at the store. */
    @Test
    void aSinkInTheStoresWayWouldHoldItUp() throws Exception {
        String bus = Files.readString(REPO.resolve("routes/cloud/bus.camel.yaml"));
        int at = bus.indexOf("        - multicast:");
        Path chained = Files.writeString(home.resolve("bus.camel.yaml"), bus.substring(0, at) + """
                    - setBody:
                        simple: ${bean:oneRow}
                    - to: direct:deliver-kafka
            """ + bus.substring(at));
        kafka.kill();
        try {
            start(chained);
            append(1, 100);
            await().atMost(LIMIT).until(() -> number("SELECT attempts FROM sink WHERE name = 'kafka'") > 1);
            assertEquals(0, stored());
        } finally {
            kafka.restart();
        }
        append(101, 1);
        await().atMost(LIMIT).until(() -> stored() == 101);
    }

    @Test
    void anOperatorPausesResumesAndReplays() throws Exception {
        start(REPO.resolve("routes/cloud/bus.camel.yaml"));
        append(1, 50);
        await().atMost(LIMIT).until(() -> delivered() == 50 && archived().size() == 50);
        assertTrue(archived().get(0).contains("\"gateway_id\":\"gw-"), archived().get(0));
        assertTrue(s3.list(name, "").get(0).key().matches("date=\\d{4}-\\d\\d-\\d\\d/\\d{16}-\\d{16}-[0-9a-f]{16}\\.ndjson\\.gz"), s3.list(name, "").get(0).key());
        assertEquals(List.of("gw-0/d0", "gw-1/d1"), kafka.records(name).stream().map(r -> r.key()).distinct().sorted().limit(2).toList());
        recovery().pause("s3");
        append(51, 50);
        await().atMost(LIMIT).until(() -> delivered() == 100 && sink("s3").backlog() == 50);
        assertEquals("paused", sink("s3").state());
        recovery().resume("s3");
        await().atMost(LIMIT).until(() -> archived().size() == 100);
        assertEquals(30, recovery().replay("kafka", 11, 40, true).rows());
        assertEquals(30, recovery().replay("kafka", 11, 40, false).rows());
        await().atMost(LIMIT).until(() -> replayed() == 30);
        // Commands and twins are nobody's business outside.
        insert(101, "command");
        append(102, 1);
        await().atMost(LIMIT).until(() -> delivered() == 101 && sink("kafka").backlog() == 0);
        assertEquals(0, kafka.records(name).stream().filter(r -> "command".equals(r.headers().get("kind"))).count());
    }

    private void start(Path bus) throws Exception {
        DefaultCamelContext context = new DefaultCamelContext();
        context.disableJMX();
        context.getRegistry().bind("oneRow", new OneRow());
        Caravan.Builder builder = Caravan.builder().context(context).home(home).keys(REPO.resolve("config/cloud/keys")).environment(Map.of())
                .withoutDiscovery().module("wal", new WalModule()).module("s3", new S3Module())
                .routes(REPO.resolve("routes/gateway/sink.camel.yaml"), REPO.resolve("routes/gateway/sink-kafka.camel.yaml"),
                        REPO.resolve("routes/gateway/sink-s3.camel.yaml"), bus, REPO.resolve("routes/cloud/store.camel.yaml"));
        Stream.of("container.role=cloud", "http.port=0", "bus.tick.ms=100", "store.tick.ms=600000", "sink.retry.min.ms=20", "sink.retry.max.ms=200",
                "sink.probe.ms=100", "sink.kafka.brokers=" + kafka.brokers(), "sink.kafka.topic=" + name, "sink.kafka.connect.timeout.ms=1500",
                "sink.kafka.request.timeout.ms=3000", "sink.kafka.delivery.timeout.ms=6000", "s3.endpoint=" + s3.endpoint(),
                "s3.access.key=" + S3Part.ACCESS_KEY, "s3.secret.key=" + S3Part.SECRET_KEY, "s3.connect.timeout.ms=500", "s3.socket.timeout.ms=700",
                "s3.attempt.timeout.ms=800", "s3.call.timeout.ms=1500", "sink.s3.bucket=" + name, "sink.s3.linger.ms=0")
                .forEach(setting -> builder.set(setting.substring(0, setting.indexOf('=')), setting.substring(setting.indexOf('=') + 1)));
        cloud = builder.start();
        assertTrue(cloud.awaitReady(LIMIT), () -> cloud.checks() + " " + cloud.routes());
    }

    /** A batch of one row. */
    public static final class OneRow {
        public Object row() {
            return Batches.of("gw-0", 1, 1, java.time.Instant.EPOCH);
        }
    }

    private void append(int from, int rows) throws Exception {
        for (int i = from; i < from + rows; i++) {
            insert(i, "telemetry");
        }
        cloud.context().createFluentProducerTemplate().to("seda:bus?size=1&discardWhenFull=true").withBody("").send();
    }

    private void insert(int number, String kind) throws Exception {
        try (Connection c = cloud.bean("writer", DataSource.class).orElseThrow().getConnection();
                PreparedStatement s = c.prepareStatement("INSERT INTO inbox (gateway_id, log_id, gateway_seq, kind, device_id, message_key, observed_at_ms,"
                        + " received_at_ms, body) VALUES (?, 'log-1', ?, ?, ?, ?, 1, ?, '{\"metrics\":{\"t\":1}}')")) {
            s.setString(1, "gw-" + number % 2);
            s.setLong(2, number);
            s.setString(3, kind);
            s.setString(4, "d" + number % 2);
            s.setString(5, "k-" + number);
            s.setLong(6, System.currentTimeMillis());
            s.executeUpdate();
        }
    }

    /** At least once: a record that comes twice is no failure. */
    private long delivered() {
        return kafka.records(name).stream().map(r -> r.headers().get("message_key")).distinct().count();
    }

    private long replayed() {
        return kafka.records(name).stream().filter(r -> "historical".equals(r.headers().get("lane"))).map(r -> r.headers().get("message_key")).distinct().count();
    }

    private List<String> archived() {
        return Box.lines(s3, name, "");
    }

    private Recovery recovery() {
        return cloud.bean("recovery", Recovery.class).orElseThrow();
    }

    private SinkStatus sink(String sink) {
        return recovery().sinks().stream().filter(s -> s.name().equals(sink)).collect(Collectors.toList()).get(0);
    }

    private long stored() throws Exception {
        return number("SELECT count(*) FROM message");
    }

    private long number(String sql) throws Exception {
        try (Connection c = cloud.bean("reader", DataSource.class).orElseThrow().getConnection(); Statement s = c.createStatement();
                ResultSet r = s.executeQuery(sql)) {
            return r.next() ? r.getLong(1) : -1;
        }
    }
}
