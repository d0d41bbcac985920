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
import io.caravan.uplink.Gateways.Certificate;
import io.caravan.uplink.Gateways.Gateway;
import io.caravan.uplink.Gateways.Status;
import io.caravan.uplink.internal.GatewaysFile;
import io.vertx.core.Vertx;
import io.vertx.core.http.ClientWebSocket;
import io.vertx.core.http.UpgradeRejectedException;
import io.vertx.core.http.WebSocketClientOptions;
import io.vertx.core.http.WebSocketConnectOptions;
import io.vertx.core.json.JsonObject;
import io.vertx.core.net.PemKeyCertOptions;
import io.vertx.core.net.PemTrustOptions;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Who gets into the cloud, who does not, and how fast somebody is out again. Real TLS, the pilot's certificates, raw sockets. */
@Timeout(120)
class TrustTest {

    private static final Logger LOG = LoggerFactory.getLogger(TrustTest.class);

    @TempDir static Path folder;
    static Pki pki;
    static Pki strangers;
    static Vertx vertx;

    final Map<String, String> keys = new HashMap<>();
    final List<String> audited = new CopyOnWriteArrayList<>();
    Path here;
    Box cloud;
    int port;

    @BeforeAll
    static void certificates() throws Exception {
        pki = new Pki(folder.resolve("pki")).server("cloud").server("cloud2").client("gw-1").client("gw-2").client("gw-3");
        pki.expired("late", "extendedKeyUsage=clientAuth");
        // For servers only: no gateway.
        pki.certs("server", "gw-4", "localhost");
        strangers = new Pki(folder.resolve("strangers")).client("gw-1");
        vertx = Vertx.vertx();
    }

    @AfterAll
    static void close() throws Exception {
        vertx.close().toCompletionStage().toCompletableFuture().get(10, TimeUnit.SECONDS);
    }

    @BeforeEach
    void files() throws Exception {
        here = Files.createTempDirectory(folder, "case");
        for (String file : List.of("ca.crt", "ca.crl")) {
            Files.copy(pki.folder.resolve(file), here.resolve(file));
        }
        install("cloud");
        port = UplinkRoutesTest.free();
        keys.putAll(Map.ofEntries(Map.entry("uplink.host", "127.0.0.1"), Map.entry("uplink.port", "" + port),
            Map.entry("uplink.gateways.file", here.resolve("gateways").toString()),
            Map.entry("uplink.tls.cert", here.resolve("tls.crt").toString()), Map.entry("uplink.tls.key", here.resolve("tls.key").toString()),
            Map.entry("uplink.max.frame.bytes", "100000"), Map.entry("uplink.max.inflated.bytes", "300000"),
            Map.entry("uplink.max.batch.rows", "100"), Map.entry("uplink.sessions.max", "100"),
            Map.entry("uplink.idle.timeout.ms", "60000"), Map.entry("uplink.tick.ms", "60000")));
    }

    @AfterEach
    void stop() throws Exception {
        if (cloud != null) {
            cloud.close();
        }
    }

    private void install(String name) throws IOException {
        Files.copy(pki.key(name), here.resolve("tls.key"), StandardCopyOption.REPLACE_EXISTING);
        Files.copy(pki.cert(name), here.resolve("tls.crt"), StandardCopyOption.REPLACE_EXISTING);
    }

    private void start(String... lines) throws Exception {
        Files.writeString(here.resolve("gateways"), String.join("\n", lines) + "\n");
        cloud = new Box("cloud", here.resolve("cloud.db"), keys);
        cloud.camel.getRegistry().bind("audit", (Audit) (action, subject, outcome, details) -> audited.add(action + " " + subject + " " + outcome));
        cloud.start("cloud/uplink", "cloud/inbox", "cloud/bus");
    }

    private void certificates(String auth) {
        keys.put("uplink.tls.client.auth", auth);
        keys.put("uplink.tls.client.ca.file", here.resolve("ca.crt").toString());
        keys.put("uplink.tls.crl.file", here.resolve("ca.crl").toString());
    }

    private Gateways gateways() {
        return cloud.camel.getRegistry().lookupByNameAndType("gateways", Gateways.class);
    }

    private Gateway gateway(String id) {
        return gateways().list().stream().filter(g -> g.id().equals(id)).findFirst().orElseThrow();
    }

    private double refused(String reason) {
        var counter = cloud.meters.find("caravan.uplink.refused").tag("reason", reason).counter();
        return counter == null ? 0 : counter.count();
    }

    private void counted(String reason, double times) {
        await().atMost(Duration.ofSeconds(10)).until(() -> refused(reason) >= times);
        assertEquals(times, refused(reason), reason);
    }

    /** A gateway that does as little as it can. */
    final class Client {

        final BlockingQueue<JsonObject> received = new LinkedBlockingQueue<>();
        final CompletableFuture<Long> closed = new CompletableFuture<>();
        final ClientWebSocket socket;

        Client(String id, String token, Pki from, String certificate) throws Exception {
            WebSocketClientOptions options = new WebSocketClientOptions().setSsl(true).setConnectTimeout(5_000)
                .setTrustOptions(new PemTrustOptions().addCertPath(pki.ca().toString()));
            if (certificate != null) {
                options.setKeyCertOptions(new PemKeyCertOptions().addCertPath(from.cert(certificate).toString()).addKeyPath(from.key(certificate).toString()));
            }
            socket = vertx.createWebSocketClient(options).webSocket();
            socket.textMessageHandler(t -> received.add(new JsonObject(t)));
            socket.closeHandler(v -> closed.complete(System.nanoTime()));
            socket.exceptionHandler(e -> { });
            WebSocketConnectOptions to = new WebSocketConnectOptions().setHost("localhost").setPort(port).setURI("/uplink/" + id)
                .addSubProtocol("caravan.v1");
            if (token != null) {
                to.addHeader("Authorization", "Bearer " + token);
            }
            socket.connect(to).toCompletionStage().toCompletableFuture().get(10, TimeUnit.SECONDS);
        }

        void cut(String reason) throws Exception {
            JsonObject error = received.poll(10, TimeUnit.SECONDS);
            assertNotNull(error, "no error frame");
            assertEquals(reason, error.getString("reason"), error.encode());
            closed.get(10, TimeUnit.SECONDS);
        }
    }

    private Client connect(String id, String token) throws Exception {
        Client client = new Client(id, token, null, null);
        await().atMost(Duration.ofSeconds(5)).until(() -> gateway(id).connectedSinceMs() != null);
        return client;
    }

    private Client connect(String id, String token, String certificate) throws Exception {
        Client client = new Client(id, token, pki, certificate);
        await().atMost(Duration.ofSeconds(5)).until(() -> gateway(id).connectedSinceMs() != null);
        return client;
    }

    private int status(String id, String token, Pki from, String certificate) {
        Exception error = assertThrows(ExecutionException.class, () -> new Client(id, token, from, certificate));
        assertTrue(error.getCause() instanceof UpgradeRejectedException, error::toString);
        return ((UpgradeRejectedException) error.getCause()).getStatus();
    }

    private void noTls(String id, Pki from, String certificate) {
        Exception error = assertThrows(ExecutionException.class, () -> new Client(id, null, from, certificate));
        assertFalse(error.getCause() instanceof UpgradeRejectedException, error::toString);
    }

    @Test
    void aGatewayIsAddedRotatedRevokedRestoredAndRemoved() throws Exception {
        start("# ours", "old = sha256:" + GatewaysFile.sha256("x") + "  # stays");
        Gateways.Enrolment added = gateways().add("gw-1", Certificate.NO, true, "hall 3", null);
        assertTrue(added.token().matches("cvn_[A-Za-z0-9_-]{43}"), "256 bits");
        Client first = connect("gw-1", added.token());
        assertTrue(gateway("gw-1").credential().matches("token [0-9a-f]{8}"));
        assertEquals("127.0.0.1", gateway("gw-1").address());
        assertThrows(IllegalArgumentException.class, () -> gateways().add("gw-1", Certificate.NO, true, null, null));
        assertThrows(IllegalArgumentException.class, () -> gateways().add("gw/1", Certificate.NO, true, null, null));
        assertThrows(IllegalArgumentException.class, () -> gateways().add("gw-2", Certificate.NO, true, "two\nlines = sha256:", null));

        Gateways.Enrolment rotated = gateways().rotate("gw-1", 60_000, null);
        assertEquals(2, gateway("gw-1").tokens().size());
        assertNotNull(gateway("gw-1").tokens().get(1).notAfterMs());
        assertFalse(first.closed.isDone(), "the old token is valid for a while");
        Client second = connect("gw-1", rotated.token());
        first.cut("replaced");
        gateways().rotate("gw-1", 0, null);
        second.cut("not_authorized");
        assertEquals(401, status("gw-1", added.token(), null, null));
        Gateways.Enrolment third = gateways().rotate("gw-1", 0, null);
        Client live = connect("gw-1", third.token());

        assertEquals(Status.REVOKED, gateways().revoke("gw-1").status());
        live.cut("not_authorized");
        assertEquals(401, status("gw-1", third.token(), null, null));
        assertThrows(IllegalArgumentException.class, () -> gateways().rotate("gw-1", 0, null));
        Gateways.Enrolment restored = gateways().restore("gw-1");
        assertEquals(401, status("gw-1", third.token(), null, null));
        Client back = connect("gw-1", restored.token());
        gateways().remove("gw-1");
        back.cut("not_authorized");
        assertThrows(IllegalArgumentException.class, () -> gateways().revoke("gw-1"));
        assertEquals("# ours\nold = sha256:" + GatewaysFile.sha256("x") + "  # stays\n", Files.readString(here.resolve("gateways")));
        await().atMost(Duration.ofSeconds(5)).until(() -> audited.stream().filter(a -> a.startsWith("gateway.disconnect")).count() >= 1);
        assertEquals(List.of("gateway.add gw-1 ok", "gateway.connect gw-1 ok", "gateway.rotate gw-1 ok", "gateway.connect gw-1 ok", "gateway.replaced gw-1 ok",
            "gateway.rotate gw-1 ok", "gateway.cut gw-1 wrong_token", "gateway.rotate gw-1 ok", "gateway.connect gw-1 ok", "gateway.cut gw-1 revoked",
            "gateway.revoke gw-1 ok", "gateway.restore gw-1 ok", "gateway.connect gw-1 ok", "gateway.cut gw-1 revoked", "gateway.remove gw-1 ok"),
            audited.stream().filter(a -> !a.startsWith("gateway.disconnect")).toList());
    }

    /** A figure for the report, and that nobody is forgotten; how fast is not asserted. */
    @Test
    void revokedGatewaysAreCutAtOnce() throws Exception {
        start();
        List<Client> live = new ArrayList<>();
        for (int i = 0; i < 50; i++) {
            live.add(connect("gw-" + i, gateways().add("gw-" + i, Certificate.NO, true, null, null).token()));
        }
        long[] took = new long[50];
        for (int i = 0; i < 50; i++) {
            long from = System.nanoTime();
            gateways().revoke("gw-" + i);
            took[i] = live.get(i).closed.get(10, TimeUnit.SECONDS) - from;
        }
        Arrays.sort(took);
        LOG.warn("uplink:revoke to cut socket, 50 times: p50 {} ms, max {} ms", took[25] / 1e6, took[49] / 1e6);
        assertEquals(50, refused("not_authorized"));
    }

    @Test
    void revocationHoldsWhenTheFileCannotBeWritten() throws Exception {
        // The path leaves no room for the name of the file beside it: it can be read and not replaced, also by root.
        Path deep = here;
        while (deep.toString().length() < 3_800) {
            deep = deep.resolve("d".repeat(200));
        }
        deep = deep.resolve("d".repeat(4_080 - deep.toString().length()));
        Files.createDirectories(deep);
        keys.put("uplink.gateways.file", deep.resolve("gateways").toString());
        Files.writeString(deep.resolve("gateways"), "gw-1 = sha256:" + GatewaysFile.sha256("one") + "\n");
        cloud = new Box("cloud", here.resolve("cloud.db"), keys).start("cloud/uplink", "cloud/inbox", "cloud/bus");
        Client live = connect("gw-1", "one");
        assertTrue(assertThrows(IOException.class, () -> gateways().revoke("gw-1")).getMessage().contains("only until this cloud is restarted"));
        live.cut("not_authorized");
        assertEquals(401, status("gw-1", "one", null, null));
        assertFalse(Files.readString(deep.resolve("gateways")).contains("revoked"));
    }

    @Test
    void tokensEndByThemselvesAndSoDoTheirConnections() throws Exception {
        start();
        String token = gateways().add("gw-1", Certificate.NO, true, null, System.currentTimeMillis() + 3_000).token();
        Client live = connect("gw-1", token);
        live.cut("not_authorized");
        assertEquals(401, status("gw-1", token, null, null));
        assertEquals(1, refused("expired"));
    }

    @Test
    void anEditedFileCutsAndABadLineCutsItsGatewayOnly() throws Exception {
        start();
        String one = gateways().add("gw-1", Certificate.NO, true, null, null).token();
        String two = gateways().add("gw-2", Certificate.NO, true, null, null).token();
        Client first = connect("gw-1", one);
        Client second = connect("gw-2", two);
        Path file = here.resolve("gateways");
        Files.writeString(file, Files.readString(file).replace("gw-1 = ", "gw-1 = oops "));
        first.cut("not_authorized");
        assertFalse(second.closed.isDone());
        assertEquals(1, gateways().problems().size());
        assertEquals(1, cloud.meters.get("caravan.uplink.gateways.problems").gauge().value());
        assertEquals(Status.INVALID, gateway("gw-1").status());
        assertEquals(401, status("gw-1", one, null, null));
        gateways().remove("gw-1");
        assertEquals(List.of(), gateways().problems());
        Files.delete(file);
        second.cut("not_authorized");
    }

    @Test
    void certificatesAreAsGoodAsTheFileSays() throws Exception {
        certificates("optional");
        String token = GatewaysFile.sha256("one");
        start("gw-1 = certificate:accepted", "gw-2 = certificate:required sha256:" + token, "gw-3 = sha256:" + token, "gw-4 = certificate:accepted",
            "late = certificate:accepted");
        connect("gw-1", null, "gw-1");
        assertTrue(gateway("gw-1").credential().startsWith("certificate "), gateway("gw-1").credential());
        connect("gw-2", "one", "gw-2");
        assertTrue(gateway("gw-2").credential().matches("token [0-9a-f]{8}, certificate .*"), gateway("gw-2").credential());
        connect("gw-3", "one");
        assertEquals(401, status("gw-2", null, pki, "gw-2"));
        assertEquals(401, status("gw-2", "one", null, null));
        assertEquals(401, status("gw-3", null, pki, "gw-3"));
        assertEquals(401, status("gw-1", null, pki, "gw-2"));
        assertEquals(401, status("gw-1", null, null, null));
        counted("wrong_certificate", 2);
        counted("no_certificate", 1);
        counted("no_credential", 2);
        noTls("gw-1", strangers, "gw-1");
        counted("certificate_untrusted", 1);
        noTls("gw-4", pki, "gw-4");
        counted("certificate_untrusted", 2);
        await().atMost(Duration.ofSeconds(5)).until(() -> Instant.now().isAfter(notAfter("late")));
        noTls("late", pki, "late");
        counted("certificate_expired", 1);
        // Their connections are not disturbed by any of it.
        assertEquals(3, gateways().list().stream().filter(g -> g.connectedSinceMs() != null).count());
    }

    private static Instant notAfter(String name) throws Exception {
        try (InputStream in = Files.newInputStream(pki.cert(name))) {
            return ((java.security.cert.X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(in)).getNotAfter().toInstant();
        }
    }

    @Test
    void withoutACertificateThereIsNoTlsWhereItIsRequired() throws Exception {
        certificates("required");
        start("gw-1 = certificate:accepted sha256:" + GatewaysFile.sha256("one"));
        connect("gw-1", null, "gw-1");
        assertThrows(ExecutionException.class, () -> new Client("gw-1", "one", null, null));
        counted("tls", 1);
    }

    @Test
    void aRevokedCertificateIsCutOffByTheNewList() throws Exception {
        certificates("optional");
        Pki own = new Pki(here.resolve("own")).client("gw-1").client("gw-2");
        Files.copy(own.ca(), here.resolve("ca.crt"), StandardCopyOption.REPLACE_EXISTING);
        Files.copy(own.crl(), here.resolve("ca.crl"), StandardCopyOption.REPLACE_EXISTING);
        Path kept = Files.createDirectory(here.resolve("kept"));
        for (String name : List.of("gw-1.crt", "gw-1.key")) {
            Files.copy(own.folder.resolve(name), kept.resolve(name));
        }
        start("gw-1 = certificate:accepted", "gw-2 = certificate:accepted");
        Client first = new Client("gw-1", null, own, "gw-1");
        Client second = new Client("gw-2", null, own, "gw-2");
        await().atMost(Duration.ofSeconds(5)).until(() -> gateways().list().stream().allMatch(g -> g.connectedSinceMs() != null));
        own.certs("revoke", "gw-1");
        // Half a change first: it must not open or close anything.
        Files.writeString(here.resolve("ca.crl"), Files.readString(own.crl()).substring(0, 200));
        await().atMost(Duration.ofSeconds(5)).until(() -> down() != null);
        assertFalse(first.closed.isDone());
        Files.copy(own.crl(), here.resolve("ca.crl"), StandardCopyOption.REPLACE_EXISTING);
        first.cut("not_authorized");
        assertFalse(second.closed.isDone());
        assertNull(down());
        Files.copy(kept.resolve("gw-1.crt"), own.cert("gw-1"));
        Files.copy(kept.resolve("gw-1.key"), own.key("gw-1"));
        noTls("gw-1", own, "gw-1");
        counted("certificate_revoked", 1);
    }

    /** What /readyz would say of the uplink's files; null: nothing. */
    private String down() {
        var tls = cloud.camel.getRegistry().lookupByNameAndType("uplink-server", io.caravan.uplink.internal.Listener.class);
        return tls.tlsProblem();
    }

    @Test
    void aListThatIsOutOfDateLetsNoCertificateIn() throws Exception {
        certificates("optional");
        Pki own = new Pki(here.resolve("own")).client("gw-1");
        Files.copy(own.ca(), here.resolve("ca.crt"), StandardCopyOption.REPLACE_EXISTING);
        // One hour in the past.
        Process made = new ProcessBuilder("openssl", "ca", "-config", own.folder.resolve("ca.cnf").toString(), "-gencrl", "-crl_lastupdate",
            "20260101000000Z", "-crl_nextupdate", "20260102000000Z", "-out", here.resolve("ca.crl").toString()).redirectErrorStream(true)
            .redirectOutput(here.resolve("log").toFile()).start();
        assertTrue(made.waitFor(20, TimeUnit.SECONDS) && made.exitValue() == 0, Files.readString(here.resolve("log")));
        start("gw-1 = certificate:accepted");
        noTls("gw-1", own, "gw-1");
        counted("certificate_unknown_status", 1);
        assertTrue(down().contains("out of date"), down());
        Files.copy(own.crl(), here.resolve("ca.crl"), StandardCopyOption.REPLACE_EXISTING);
        await().atMost(Duration.ofSeconds(5)).until(() -> down() == null);
        await().atMost(Duration.ofSeconds(5)).ignoreExceptions().until(() -> new Client("gw-1", null, own, "gw-1") != null);
    }

    @Test
    void theCloudsCertificateIsReplacedWhileItServes() throws Exception {
        start("gw-1 = sha256:" + GatewaysFile.sha256("one"));
        Client live = connect("gw-1", "one");
        assertEquals("cloud", served());
        // One file after the other, as people do.
        Files.copy(pki.cert("cloud2"), here.resolve("tls.crt"), StandardCopyOption.REPLACE_EXISTING);
        await().atMost(Duration.ofSeconds(5)).until(() -> down() != null);
        assertEquals("cloud", served());
        install("cloud2");
        await().atMost(Duration.ofSeconds(5)).until(() -> served().equals("cloud2"));
        assertFalse(live.closed.isDone());
        assertNull(down());
    }

    private String served() throws Exception {
        try (SSLSocket socket = tls("TLSv1.3")) {
            return io.caravan.uplink.internal.ServerTls.commonName((java.security.cert.X509Certificate) socket.getSession().getPeerCertificates()[0]);
        }
    }

    /** A TLS socket to the cloud after its handshake. */
    private SSLSocket tls(String... protocols) throws Exception {
        KeyStore anchors = KeyStore.getInstance(KeyStore.getDefaultType());
        anchors.load(null, null);
        try (InputStream in = Files.newInputStream(pki.ca())) {
            anchors.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(anchors);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket("127.0.0.1", port);
        socket.setSoTimeout(20_000);
        socket.setEnabledProtocols(protocols);
        socket.startHandshake();
        return socket;
    }

    @Test
    void plaintextAndOldTlsAreRefused() throws Exception {
        start();
        try (Socket plain = new Socket("127.0.0.1", port)) {
            plain.setSoTimeout(20_000);
            plain.getOutputStream().write("GET /uplink/gw-1 HTTP/1.1\r\nHost: x\r\n\r\n".getBytes());
            String answer = new String(plain.getInputStream().readAllBytes(), StandardCharsets.ISO_8859_1);
            assertFalse(answer.contains("HTTP"), answer);
        }
        counted("plaintext", 1);
        // The JDK's client would not even try 1.1.
        for (String version : List.of("-tls1", "-tls1_1")) {
            Process old = new ProcessBuilder("openssl", "s_client", version, "-cipher", "DEFAULT@SECLEVEL=0", "-connect", "127.0.0.1:" + port)
                .redirectErrorStream(true).redirectInput(ProcessBuilder.Redirect.from(Path.of("/dev/null").toFile())).start();
            String said = new String(old.getInputStream().readAllBytes());
            assertTrue(old.waitFor(20, TimeUnit.SECONDS) && old.exitValue() != 0, said);
            assertTrue(said.contains("alert protocol version"), said);
        }
        counted("tls", 2);
        tls("TLSv1.2").close();
        tls("TLSv1.3").close();
    }

    @Test
    void whoIsSlowIsCutOffAtEachStage() throws Exception {
        keys.put("uplink.handshake.timeout.ms", "500");
        start("gw-1 = sha256:" + GatewaysFile.sha256("one"));
        Client live = connect("gw-1", "one");
        try (Socket silent = new Socket("127.0.0.1", port)) {
            silent.setSoTimeout(20_000);
            assertEquals(-1, silent.getInputStream().read());
        }
        counted("handshake_timeout", 1);
        try (SSLSocket slow = tls("TLSv1.3")) {
            slow.getOutputStream().write("GET /uplink/gw-1 HTTP/1.1\r\nHost: x\r\n".getBytes());
            CompletableFuture<Void> over = new CompletableFuture<>();
            Thread drip = new Thread(() -> {
                try {
                    // A byte now and then: no idle timeout sees that.
                    while (!over.isDone()) {
                        slow.getOutputStream().write('x');
                        TimeUnit.MILLISECONDS.sleep(20);
                    }
                } catch (IOException | InterruptedException e) {
                    over.complete(null);
                }
            });
            drip.start();
            assertEquals(-1, readQuietly(slow));
            over.complete(null);
            drip.join(5_000);
        }
        counted("handshake_timeout", 2);
        assertEquals(0, cloud.meters.get("caravan.uplink.strangers").gauge().value());
        assertFalse(live.closed.isDone(), "a gateway has no deadline");
    }

    private static int readQuietly(Socket socket) {
        try {
            return socket.getInputStream().read();
        } catch (IOException reset) {
            return -1;
        }
    }

    @Test
    void strangersAreBounded() throws Exception {
        keys.put("uplink.strangers.max", "3");
        start("gw-1 = sha256:" + GatewaysFile.sha256("one"));
        Client live = connect("gw-1", "one");
        List<SSLSocket> open = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            open.add(tls("TLSv1.3"));
        }
        await().atMost(Duration.ofSeconds(5)).until(() -> cloud.meters.get("caravan.uplink.strangers").gauge().value() == 3);
        try (SSLSocket more = tls("TLSv1.3")) {
            assertEquals(-1, readQuietly(more));
        }
        counted("too_many_connections", 1);
        assertFalse(live.closed.isDone());
        open.get(0).close();
        await().atMost(Duration.ofSeconds(5)).until(() -> cloud.meters.get("caravan.uplink.strangers").gauge().value() == 2);
        connect("gw-1", "one");
        for (SSLSocket socket : open) {
            socket.close();
        }
    }

    @Test
    void handshakesAreLimited() throws Exception {
        keys.put("uplink.handshake.address.per.s", "1");
        start("gw-1 = sha256:" + GatewaysFile.sha256("one"));
        Set<Integer> answers = new java.util.TreeSet<>();
        for (int i = 0; i < 12; i++) {
            answers.add(status("gw-1", "wrong", null, null));
        }
        assertEquals(Set.of(401, 429), answers);
        assertTrue(refused("rate") > 0);
    }

    @Test
    void bruteForceIsLockedOutAlsoWithTheRightTokenAndWithoutASecretInTheLog() throws Exception {
        keys.put("uplink.lock.failures", "5");
        PrintStream err = System.err;
        ByteArrayOutputStream log = new ByteArrayOutputStream();
        System.setErr(new PrintStream(log, true, StandardCharsets.UTF_8));
        try {
            start("gw-1 = sha256:" + GatewaysFile.sha256("cvn_right"), "gw-2 = sha256:"
                + GatewaysFile.sha256("cvn_other"));
            for (int i = 0; i < 5; i++) {
                assertEquals(401, status("gw-1", "cvn_wrong" + i, null, null));
            }
            assertEquals(429, status("gw-1", "cvn_wrong", null, null));
            assertEquals(429, status("gw-1", "cvn_right", null, null));
            connect("gw-2", "cvn_other");
            counted("wrong_token", 5);
            counted("locked_out", 2);
            await().atMost(Duration.ofSeconds(5)).until(() -> audited.contains("gateway.lockout gw-1 ok"));
        } finally {
            System.setErr(err);
        }
        String text = log.toString(StandardCharsets.UTF_8);
        assertTrue(text.contains("wrong_token") && text.contains("locked out"), "nothing was logged: the next line would prove nothing");
        assertFalse(text.contains("cvn_"), text);
        assertFalse(text.contains(GatewaysFile.sha256("cvn_right")), "hash");
    }

    @Test
    void theAnswerIsTheSameWhateverWasWrong() throws Exception {
        start("gw-1 = sha256:" + GatewaysFile.sha256("one"), "gw-2 = sha256:"
            + GatewaysFile.sha256("one") + " revoked", "gw-3 = sha256:"
            + GatewaysFile.sha256("one") + ",until=2026-01-01T00:00:00Z", "gw-4 = bad");
        Set<String> answers = new java.util.TreeSet<>();
        for (String id : List.of("gw-1", "gw-2", "gw-3", "gw-4", "gw-5", "%00", "a..b", "..", "%2e%2e", "a%2fb")) {
            for (String header : List.of("Authorization: Bearer two", "Authorization: Basic b25lOm9uZQ==", "X: y", "Authorization: Bearer one\r\nAuthorization: Bearer one")) {
                if (id.equals("gw-1") || !header.contains("Bearer one")) {
                    answers.add(upgrade(id, header));
                }
            }
        }
        for (String id : List.of("gw-2", "gw-3", "gw-4", "gw-5")) {
            answers.add(upgrade(id, "Authorization: Bearer one"));
        }
        assertEquals(1, answers.size(), answers::toString);
        String answer = answers.iterator().next();
        assertTrue(answer.startsWith("HTTP/1.1 401 ") && answer.toLowerCase().contains("www-authenticate: bearer")
            && answer.endsWith("{\"error\":\"unauthorized\",\"message\":\"gateway id and credential do not match\"}"), answer);
        assertTrue(upgrade("gw-1", "Authorization: Bearer one").startsWith("HTTP/1.1 101 "), "control: the right one gets in");
    }

    private String upgrade(String id, String header) throws Exception {
        try (SSLSocket socket = tls("TLSv1.3")) {
            socket.getOutputStream().write(handshake(id, header));
            if (header.equals("Authorization: Bearer one") && id.equals("gw-1")) {
                return new java.io.BufferedReader(new java.io.InputStreamReader(socket.getInputStream())).readLine();
            }
            return new String(socket.getInputStream().readAllBytes(), StandardCharsets.ISO_8859_1);
        }
    }

    private static byte[] handshake(String id, String header) {
        return ("GET /uplink/" + id + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: caravan.v1\r\n" + header + "\r\n\r\n").getBytes();
    }

    /** Frames by hand: a WebSocket library would not send these. */
    @Test
    void framesThatAreTooLargeInAnyWayEndTheSession() throws Exception {
        start("gw-1 = sha256:" + GatewaysFile.sha256("one"));
        record Attack(String name, int opcode, boolean fin, long claimed, int sent, int continuations, boolean masked) { }
        for (Attack attack : List.of(
                new Attack("10 MB announced", 2, true, 10_000_000, 1_000, 0, true),
                new Attack("2^62 announced", 2, true, 1L << 62, 0, 0, true),
                new Attack("many fragments", 2, false, 1_000, 1_000, 200, true),
                new Attack("many text fragments", 1, false, 1_000, 1_000, 200, true),
                new Attack("not masked", 2, true, 10, 10, 0, false),
                new Attack("reserved opcode", 3, true, 10, 10, 0, true),
                new Attack("ping of 200 bytes", 9, true, 200, 200, 0, true))) {
            try (SSLSocket socket = tls("TLSv1.3")) {
                socket.getOutputStream().write(handshake("gw-1", "Authorization: Bearer one"));
                InputStream in = socket.getInputStream();
                StringBuilder head = new StringBuilder();
                while (!head.toString().endsWith("\r\n\r\n")) {
                    head.append((char) in.read());
                }
                assertTrue(head.toString().startsWith("HTTP/1.1 101"), attack + " " + head);
                await().atMost(Duration.ofSeconds(5)).until(() -> gateway("gw-1").connectedSinceMs() != null);
                try {
                    DataOutputStream out = new DataOutputStream(socket.getOutputStream());
                    frame(out, attack.opcode, attack.fin, attack.claimed, attack.sent, attack.masked);
                    for (int i = 0; i < attack.continuations; i++) {
                        frame(out, 0, false, attack.claimed, attack.sent, attack.masked);
                    }
                    in.readAllBytes();
                } catch (IOException closed) {
                    LOG.debug("closed while writing", closed);
                }
                await(attack.name).atMost(Duration.ofSeconds(10)).until(() -> gateway("gw-1").connectedSinceMs() == null);
            }
        }
        assertTrue(refused("bad_frame") >= 4, "bad_frame " + refused("bad_frame"));
        assertFalse(connect("gw-1", "one").closed.isDone());
    }

    private static void frame(DataOutputStream out, int opcode, boolean fin, long claimed, int sent, boolean masked) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream frame = new DataOutputStream(bytes);
        frame.write((fin ? 0x80 : 0) | opcode);
        int mask = masked ? 0x80 : 0;
        if (claimed < 126) {
            frame.write(mask | (int) claimed);
        } else if (claimed < 65_536) {
            frame.write(mask | 126);
            frame.writeShort((int) claimed);
        } else {
            frame.write(mask | 127);
            frame.writeLong(claimed);
        }
        if (masked) {
            frame.writeInt(0);
        }
        frame.write(new byte[sent]);
        out.write(bytes.toByteArray());
        out.flush();
    }

    @Test
    void theFileOfANewCloudIsForItsUserOnly() throws Exception {
        start();
        Files.delete(here.resolve("gateways"));
        gateways().add("gw-1", Certificate.REQUIRED, false, null, null);
        assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(here.resolve("gateways"))));
        assertEquals("gw-1 = certificate:required\n", Files.readString(here.resolve("gateways")));
        assertThrows(IllegalArgumentException.class, () -> gateways().add("gw-2", Certificate.NO, false, null, null));
    }

    @Test
    void tlsThatCannotBeServedIsNotServed() throws Exception {
        keys.put("uplink.tls.key", pki.key("cloud2").toString());
        Exception wrong = assertThrows(IllegalArgumentException.class, this::start);
        assertTrue(wrong.getMessage().contains("is not the key of") && wrong.getMessage().contains("never served without TLS"), wrong.getMessage());
        cloud.close();
        keys.put("uplink.tls.key", here.resolve("nothing").toString());
        assertTrue(assertThrows(IllegalArgumentException.class, this::start).getMessage().contains("uplink.tls.key"));
        cloud.close();
        install("cloud");
        keys.put("uplink.tls.key", here.resolve("tls.key").toString());
        keys.put("uplink.tls.client.auth", "required");
        assertTrue(assertThrows(IllegalArgumentException.class, this::start).getMessage().contains("uplink.tls.client.ca.file"));
    }
}
