// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.uplink.Gateways.Certificate;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Both ends' real routes: whom a gateway trusts, what it does when it is refused, and changes of credentials while rows flow. */
@Timeout(120)
class GatewayTrustTest {

    private static final Logger LOG = LoggerFactory.getLogger(GatewayTrustTest.class);

    @TempDir static Path folder;
    static Pki pki;
    static Pki strangers;

    final Map<String, String> cloudKeys = new HashMap<>();
    final Map<String, String> gatewayKeys = new HashMap<>();
    Path here;
    Box cloud;
    Box gateway;

    @BeforeAll
    static void certificates() throws Exception {
        pki = new Pki(folder.resolve("pki")).server("cloud").client("gw-1");
        pki.certs("server", "elsewhere", "cloud.example.org");
        pki.expired("late", "subjectAltName=DNS:localhost");
        strangers = new Pki(folder.resolve("strangers")).server("cloud").client("gw-1");
    }

    @BeforeEach
    void keys() throws Exception {
        here = Files.createTempDirectory(folder, "case");
        cloudKeys.putAll(Map.ofEntries(Map.entry("uplink.host", "127.0.0.1"), Map.entry("uplink.port", "" + UplinkRoutesTest.free()),
            Map.entry("uplink.gateways.file", here.resolve("gateways").toString()),
            Map.entry("uplink.tls.cert", pki.cert("cloud").toString()), Map.entry("uplink.tls.key", pki.key("cloud").toString()),
            Map.entry("uplink.max.frame.bytes", "1048576"), Map.entry("uplink.max.inflated.bytes", "8388608"),
            Map.entry("uplink.max.batch.rows", "5000"), Map.entry("uplink.sessions.max", "100"),
            Map.entry("uplink.idle.timeout.ms", "60000"), Map.entry("uplink.tick.ms", "60000")));
        gatewayKeys.putAll(Map.ofEntries(Map.entry("gateway.id", "gw-1"), Map.entry("uplink.enabled", "true"),
            Map.entry("uplink.url", "wss://localhost:" + cloudKeys.get("uplink.port")),
            Map.entry("uplink.token.file", here.resolve("token").toString()), Map.entry("uplink.ca.file", pki.ca().toString()),
            Map.entry("uplink.client.cert.file", ""), Map.entry("uplink.client.key.file", ""),
            Map.entry("uplink.connect.timeout.ms", "5000"), Map.entry("uplink.ping.ms", "1000"),
            Map.entry("uplink.reconnect.min.ms", "20"), Map.entry("uplink.reconnect.max.ms", "200"),
            Map.entry("uplink.send.timeout.ms", "2000"), Map.entry("uplink.ack.timeout.ms", "5000"),
            Map.entry("uplink.max.frame.bytes", "1048576"), Map.entry("uplink.readiness", "false"), Map.entry("uplink.ready.after.ms", "900000"),
            Map.entry("uplink.window.rows", "200"), Map.entry("uplink.batch.rows", "20"),
            Map.entry("uplink.batch.bytes", "262144"), Map.entry("uplink.flush.ms", "20"),
            Map.entry("uplink.historical.rows", "1000000"), Map.entry("outbox.tick.ms", "300")));
    }

    @AfterEach
    void stop() throws Exception {
        if (gateway != null) {
            gateway.close();
        }
        if (cloud != null) {
            cloud.close();
        }
    }

    private Gateways cloud() throws Exception {
        cloud = new Box("cloud", here.resolve("cloud.db"), cloudKeys, "DELETE FROM sink_range WHERE sink = 'store'")
            .start("cloud/uplink", "cloud/inbox", "cloud/bus");
        return cloud.camel.getRegistry().lookupByNameAndType("gateways", Gateways.class);
    }

    private void gateway() throws Exception {
        gateway = new Box("gateway", here.resolve("gateway.db"), gatewayKeys).start("gateway/outbox", "gateway/uplink");
    }

    private void token(String token) throws IOException {
        Path made = Files.writeString(here.resolve("token.new"), token + "\n");
        Files.move(made, here.resolve("token"), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    }

    private double connected(Box box) {
        var gauge = box.meters.find("caravan.uplink.connected").gauge();
        return gauge == null ? 0 : gauge.value();
    }

    private double failures(String reason) {
        var counter = gateway.meters.find("caravan.uplink.connect.failures").tag("reason", reason).counter();
        return counter == null ? 0 : counter.count();
    }

    private double opened() {
        return gateway.meters.get("caravan.uplink.sessions.opened").counter().count();
    }

    private String lastError() throws Exception {
        return String.valueOf(gateway.rows("SELECT last_error FROM sink WHERE name = 'uplink'").get(0).get(0));
    }

    private void upAndRunning() {
        await().atMost(Duration.ofSeconds(20)).until(() -> connected(gateway) == 1);
    }

    /** The gateway does not send its token to this server, nor anything else, and says why. */
    private void notTrusted(String words) throws Exception {
        Gateways gateways = cloud();
        token(gateways.add("gw-1", Certificate.NO, true, null, null).token());
        gateway();
        await().atMost(Duration.ofSeconds(20)).until(() -> failures("tls") >= 2);
        await().atMost(Duration.ofSeconds(20)).untilAsserted(() -> assertTrue(lastError().contains(words), lastError()));
        LOG.warn("last_error: {}", lastError());
        assertEquals(0, opened());
        assertEquals(0, cloud.meters.get("caravan.sessions.open").gauge().value());
        // Negative control: as it should be, and with nothing but the certificate changed, it connects.
        cloudKeys.put("uplink.tls.cert", pki.cert("cloud").toString());
        cloudKeys.put("uplink.tls.key", pki.key("cloud").toString());
        cloud.close();
        cloud();
        upAndRunning();
        await().atMost(Duration.ofSeconds(10)).until(() -> lastError().equals("null"));
    }

    private void serve(Pki from, String name) {
        cloudKeys.put("uplink.tls.cert", from.cert(name).toString());
        cloudKeys.put("uplink.tls.key", from.key(name).toString());
    }

    @Test
    void aCloudOfAnotherAuthorityIsNotTrusted() throws Exception {
        serve(strangers, "cloud");
        // Both authorities have the same name, as two pilots would: it is the key that counts.
        notTrusted("Path does not chain with any of the trust anchors");
    }

    @Test
    void aCloudOfAnotherNameIsNotTrusted() throws Exception {
        serve(pki, "elsewhere");
        notTrusted("No subject alternative DNS name matching localhost found");
    }

    @Test
    void aCloudWithAnExpiredCertificateIsNotTrusted() throws Exception {
        try (InputStream in = Files.newInputStream(pki.cert("late"))) {
            Instant end = ((X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(in)).getNotAfter().toInstant();
            await().atMost(Duration.ofSeconds(5)).until(() -> Instant.now().isAfter(end));
        }
        serve(pki, "late");
        notTrusted("NotAfter");
    }

    @Test
    void plaintextIsAConfigurationError() {
        for (String url : new String[] {"ws://localhost:8443", "http://localhost:8443", "localhost:8443", ""}) {
            gatewayKeys.put("uplink.url", url);
            Exception error = assertThrows(Exception.class, this::gateway);
            Throwable root = error;
            while (root.getCause() != null) {
                root = root.getCause();
            }
            assertTrue(root.getMessage().contains("must start with wss://"), root.getMessage());
        }
    }

    /** A new token every time some rows have arrived, the old one valid for a minute more: nothing is lost, nothing twice. */
    @Test
    void tokensAreRotatedWhileRowsFlow() throws Exception {
        Gateways gateways = cloud();
        token(gateways.add("gw-1", Certificate.NO, true, null, null).token());
        gateway();
        upAndRunning();
        whileRowsFlow(5, () -> token(gateways.rotate("gw-1", 60_000, null).token()));
        assertEquals(6, opened());
        assertEquals(0, failures("not_authorized"));
    }

    @Test
    void certificatesAreRotatedWhileRowsFlow() throws Exception {
        cloudKeys.put("uplink.tls.client.auth", "required");
        cloudKeys.put("uplink.tls.client.ca.file", pki.ca().toString());
        Gateways gateways = cloud();
        gateways.add("gw-1", Certificate.REQUIRED, false, null, null);
        Pki own = pki;
        gatewayKeys.put("uplink.client.cert.file", here.resolve("own.crt").toString());
        gatewayKeys.put("uplink.client.key.file", here.resolve("own.key").toString());
        Files.copy(own.cert("gw-1"), here.resolve("own.crt"));
        Files.copy(own.key("gw-1"), here.resolve("own.key"));
        gateway();
        upAndRunning();
        AtomicInteger number = new AtomicInteger();
        whileRowsFlow(3, () -> {
            // As the docs say: the old one is put aside, not revoked, until the gateway has the new one.
            for (String kind : new String[] {".crt", ".key"}) {
                Files.move(own.folder.resolve("gw-1" + kind), own.folder.resolve("gw-1." + number.get() + kind));
            }
            number.incrementAndGet();
            own.client("gw-1");
            Files.copy(own.key("gw-1"), here.resolve("own.key"), StandardCopyOption.REPLACE_EXISTING);
            Files.copy(own.cert("gw-1"), here.resolve("own.crt"), StandardCopyOption.REPLACE_EXISTING);
        });
        assertEquals(4, opened());
    }

    private interface Rotation {
        void next() throws Exception;
    }

    private void whileRowsFlow(int times, Rotation rotation) throws Exception {
        AtomicBoolean enough = new AtomicBoolean();
        AtomicInteger made = new AtomicInteger();
        Thread writer = new Thread(() -> {
            try {
                while (!enough.get()) {
                    int i = made.addAndGet(10);
                    gateway.execute("INSERT INTO outbox (kind, device_id, message_key, observed_at_ms, created_at_ms, body) "
                        + "WITH RECURSIVE n(i) AS (SELECT " + (i - 9) + " UNION ALL SELECT i + 1 FROM n WHERE i < " + i + ") "
                        + "SELECT 'event', 'dev', 'k/' || i, 1700000000000 + i, 0, json_object('event', 'x', 'n', i) FROM n");
                    gateway.camel.createProducerTemplate().sendBody("seda:outbox?size=1&discardWhenFull=true", "");
                }
            } catch (Exception e) {
                LOG.error("writer", e);
            }
        });
        writer.start();
        for (int i = 0; i < times; i++) {
            long before = cloud.number("SELECT count(*) FROM inbox");
            await().atMost(Duration.ofSeconds(20)).pollInterval(Duration.ofMillis(5)).until(() -> cloud.number("SELECT count(*) FROM inbox") > before);
            double sessions = opened();
            rotation.next();
            await().atMost(Duration.ofSeconds(20)).until(() -> opened() == sessions + 1 && connected(gateway) == 1);
        }
        enough.set(true);
        writer.join(10_000);
        await().atMost(Duration.ofSeconds(30)).until(() -> gateway.number("SELECT count(*) FROM outbox") == 0);
        LOG.warn("{} rows over {} rotations", made.get(), times);
        assertEquals(made.get(), cloud.number("SELECT count(DISTINCT message_key) FROM inbox"), "lost");
        assertEquals(made.get(), cloud.number("SELECT count(*) FROM inbox"), "twice");
    }

    @Test
    void credentialsThatCannotBeUsedDoNotEndTheConnection() throws Exception {
        Gateways gateways = cloud();
        token(gateways.add("gw-1", Certificate.NO, true, null, null).token());
        gateway();
        upAndRunning();
        token("two words");
        await().atMost(Duration.ofSeconds(10)).until(() -> failures("credentials") == 1);
        assertEquals(1, connected(gateway));
        assertEquals(1, opened());
        token(gateways.rotate("gw-1", 60_000, null).token());
        await().atMost(Duration.ofSeconds(10)).until(() -> opened() == 2);
    }

    @Test
    void aRefusedGatewaySaysSoWaitsAndComesBackWithItsNewToken() throws Exception {
        gatewayKeys.put("uplink.reconnect.max.ms", "600000");
        Gateways gateways = cloud();
        String token = gateways.add("gw-1", Certificate.NO, true, null, null).token();
        token(token);
        gateway();
        upAndRunning();
        gateways.revoke("gw-1");
        await().atMost(Duration.ofSeconds(10)).until(() -> lastError().contains("not_authorized"));
        // Five minutes at least: whoever was refused once is not going to be let in a second later.
        await().atMost(Duration.ofSeconds(10)).until(() -> gateway.meters.get("caravan.uplink.backoff.seconds").gauge().value() >= 300);
        assertEquals(1, failures("not_authorized"));
        token(gateways.restore("gw-1").token());
        upAndRunning();
        await().atMost(Duration.ofSeconds(10)).until(() -> lastError().equals("null"));
        // The handshake itself refused.
        token("wrong");
        await().atMost(Duration.ofSeconds(10)).until(() -> lastError().contains("401"));
        assertTrue(lastError().contains("gateway id [gw-1] and credential do not match"), lastError());
        assertTrue(gateway.meters.get("caravan.uplink.backoff.seconds").gauge().value() >= 300);
        assertFalse(lastError().contains(token));
    }

    /** A copied gateway: both are told, and wait longer each time. */
    @Test
    void twoGatewaysWithOneIdGiveWayMoreAndMoreSlowly() throws Exception {
        Gateways gateways = cloud();
        token(gateways.add("gw-1", Certificate.NO, true, null, null).token());
        gateway();
        upAndRunning();
        Box copy = new Box("gateway", here.resolve("copy.db"), gatewayKeys);
        try {
            copy.start("gateway/outbox", "gateway/uplink");
            await().atMost(Duration.ofSeconds(10)).until(() -> lastError().contains("replaced"));
            // Above 200 ms, the longest pause there is otherwise; the upper half of 16 times that in the end.
            await().atMost(Duration.ofSeconds(60)).until(() -> gateway.meters.get("caravan.uplink.backoff.seconds").gauge().value() >= 1.6);
        } finally {
            copy.close();
        }
        upAndRunning();
    }
}
