// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.Caravan;
import io.caravan.runtime.ConfigException;
import java.io.IOException;
import java.io.InputStream;
import java.math.BigInteger;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.KeyStore;
import java.security.Principal;
import java.security.PrivateKey;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509KeyManager;
import javax.net.ssl.X509TrustManager;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The HTTP server with TLS, certificates by openssl. */
class HttpTlsTest {

    private static final String ROUTE =
            "- route: {id: who, from: {uri: \"platform-http:/who\", steps: [{removeHeaders: {pattern: \"*\"}}, {bean: {ref: probe, method: who}}]}}\n";
    private static final String GET = "GET /who HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

    @TempDir
    static Path pki;
    @TempDir
    Path dir;

    @BeforeAll
    static void certificates() throws Exception {
        for (String ca : List.of("ca", "other")) {
            openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", ca + ".key", "-out", ca + ".crt", "-subj", "/CN=" + ca, "-days", "2");
            for (String name : List.of("d1", "gone")) {
                sign(ca, ca + "-" + name, "/O=pilot/CN=" + name);
            }
        }
        for (String server : List.of("server", "renewed")) {
            sign("ca", server, "/CN=127.0.0.1");
        }
        Files.writeString(pki.resolve("index.txt"), "");
        Files.writeString(pki.resolve("ca.cnf"), "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=2\n");
        Files.writeString(pki.resolve("number"), "01\n");
        crl("empty.crl");
        openssl("ca", "-config", "ca.cnf", "-keyfile", "ca.key", "-cert", "ca.crt", "-revoke", "ca-gone.crt");
        crl("gone.crl");
    }

    private static void crl(String out) throws Exception {
        openssl("ca", "-config", "ca.cnf", "-keyfile", "ca.key", "-cert", "ca.crt", "-gencrl", "-out", out);
    }

    private static void sign(String ca, String name, String subject) throws Exception {
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", name + ".key", "-out", name + ".csr", "-subj", subject);
        openssl("x509", "-req", "-in", name + ".csr", "-CA", ca + ".crt", "-CAkey", ca + ".key", "-CAcreateserial", "-out", name + ".crt", "-days", "2");
        openssl("pkcs12", "-export", "-in", name + ".crt", "-inkey", name + ".key", "-out", name + ".p12", "-passout", "pass:x");
    }

    private static void openssl(String... arguments) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of("openssl"));
        command.addAll(List.of(arguments));
        Process process = new ProcessBuilder(command).directory(pki.toFile()).redirectErrorStream(true).start();
        String said = new String(process.getInputStream().readAllBytes());
        assertEquals(0, process.waitFor(), () -> command + ": " + said);
    }

    private Caravan start(String... settings) throws Exception {
        for (String each : List.of("server.crt", "server.key")) {
            Files.copy(pki.resolve(each), dir.resolve(each));
        }
        Files.copy(pki.resolve("empty.crl"), dir.resolve("ca.crl"));
        DefaultCamelContext context = new DefaultCamelContext();
        context.getRegistry().bind("probe", new HttpServerTest.Probe());
        Caravan.Builder builder = Caravan.builder().keys(Path.of("src/test/resources/keys")).environment(Map.of()).withoutDiscovery()
                .home(dir).context(context).routes(Files.writeString(dir.resolve("who.camel.yaml"), ROUTE))
                .set("http.tls.enabled", "true").set("http.tls.cert.file", "server.crt").set("http.tls.key.file", "server.key");
        for (int i = 0; i < settings.length; i += 2) {
            builder.set(settings[i], settings[i + 1]);
        }
        return builder.start();
    }

    /** @param client name of its certificate, null: none */
    private static RawClient connect(Caravan caravan, String client, String... protocols) throws Exception {
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream in = client == null ? null : Files.newInputStream(pki.resolve(client + ".p12"))) {
            store.load(in, "x".toCharArray());
        }
        keys.init(store, "x".toCharArray());
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(client == null ? null : new KeyManager[] {new Stubborn((X509KeyManager) keys.getKeyManagers()[0])}, new TrustManager[] {new Anybody()}, null);
        SSLSocket socket = (SSLSocket) tls.getSocketFactory().createSocket("127.0.0.1", caravan.httpPort());
        if (protocols.length > 0) {
            socket.setEnabledProtocols(protocols);
        }
        socket.startHandshake();
        presented.set(((X509Certificate) socket.getSession().getPeerCertificates()[0]).getSerialNumber());
        return new RawClient(socket, 0, null);
    }

    /** Serial number of the certificate that the server presented last. */
    private static final ThreadLocal<BigInteger> presented = new ThreadLocal<>();

    private static String who(Caravan caravan, String client, String... protocols) throws Exception {
        try (RawClient raw = connect(caravan, client, protocols)) {
            return raw.send(GET).read().body();
        }
    }

    /** Presents its certificate whoever the server says it trusts. */
    private record Stubborn(X509KeyManager keys) implements X509KeyManager {
        @Override
        public String chooseClientAlias(String[] types, Principal[] issuers, Socket socket) {
            return keys.getClientAliases("RSA", null)[0];
        }

        @Override
        public String[] getClientAliases(String type, Principal[] issuers) {
            return keys.getClientAliases(type, null);
        }

        @Override
        public X509Certificate[] getCertificateChain(String alias) {
            return keys.getCertificateChain(alias);
        }

        @Override
        public PrivateKey getPrivateKey(String alias) {
            return keys.getPrivateKey(alias);
        }

        @Override
        public String[] getServerAliases(String type, Principal[] issuers) {
            return null;
        }

        @Override
        public String chooseServerAlias(String type, Principal[] issuers, Socket socket) {
            return null;
        }
    }

    /** The client's own check is not what is tested here. */
    private static final class Anybody implements X509TrustManager {
        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type) {
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type) {
        }

        @Override
        public X509Certificate[] getAcceptedIssuers() {
            return new X509Certificate[0];
        }
    }

    @Test
    void onlyTls12AndNewer() throws Exception {
        try (Caravan caravan = start()) {
            for (String protocol : List.of("TLSv1.2", "TLSv1.3")) {
                assertEquals("127.0.0.1 true false null", who(caravan, null, protocol));
            }
            assertTrue(openssl11(caravan).contains("alert protocol version"), () -> "a client that only speaks TLS 1.1");
            try (RawClient plain = new RawClient(caravan.httpPort())) {
                // Whatever comes back is TLS' alert, or nothing, but no HTTP.
                plain.send(GET);
                assertThrows(Exception.class, plain::read);
            }
        }
    }

    private static String openssl11(Caravan caravan) throws Exception {
        Process process = new ProcessBuilder("openssl", "s_client", "-connect", "127.0.0.1:" + caravan.httpPort(), "-tls1_1",
                "-cipher", "ALL:@SECLEVEL=0").redirectErrorStream(true).redirectInput(ProcessBuilder.Redirect.from(Path.of("/dev/null").toFile())).start();
        String said = new String(process.getInputStream().readAllBytes());
        assertTrue(process.waitFor(20, TimeUnit.SECONDS) && process.exitValue() != 0, said);
        return said;
    }

    @Test
    void aClientCertificateSaysWhoItIs() throws Exception {
        try (Caravan caravan = start("http.tls.client.ca.file", pki.resolve("ca.crt").toString(), "http.tls.crl.file", "ca.crl")) {
            for (String protocol : List.of("TLSv1.2", "TLSv1.3")) {
                assertEquals("127.0.0.1 true false d1", who(caravan, "ca-d1", protocol));
                assertEquals("127.0.0.1 true false null", who(caravan, null, protocol), "a token will do as well");
                assertThrows(IOException.class, () -> who(caravan, "other-d1", protocol), "same name, another authority");
                assertEquals("127.0.0.1 true false gone", who(caravan, "ca-gone", protocol));
            }
            try (RawClient live = connect(caravan, "ca-gone")) {
                assertEquals("127.0.0.1 true false gone", live.send(GET).read().body());
                replace("gone.crl", "ca.crl");
                await(() -> {
                    try {
                        who(caravan, "ca-gone");
                        return false;
                    } catch (IOException e) {
                        return true;
                    }
                });
                assertEquals("127.0.0.1 true false null", live.send(GET).read().body(), "the connection stays, its certificate says nothing any more");
            }
            assertEquals("127.0.0.1 true false d1", who(caravan, "ca-d1"), "the others go on");
        }
    }

    @Test
    void aRenewedCertificateIsTakenAndABrokenOneIsNot() throws Exception {
        try (Caravan caravan = start(); RawClient open = connect(caravan, null)) {
            BigInteger before = presented.get();
            Files.writeString(dir.resolve("server.crt"), "rubbish");
            // Looked at again and again: the old one stays in force also for new connections.
            for (int i = 0; i < 20; i++) {
                who(caravan, null);
                assertEquals(before, presented.get());
                TimeUnit.MILLISECONDS.sleep(50);
            }
            assertEquals(200, open.send(GET).read().status());
            // The mended pair, in the two steps in which an operator does it.
            replace("renewed.key", "server.key");
            replace("renewed.crt", "server.crt");
            await(() -> {
                who(caravan, null);
                return !before.equals(presented.get());
            });
            assertEquals(200, open.send(GET).read().status(), "an open connection stays");
        }
    }

    @Test
    void filesThatAreMissingRefuseTheStart() {
        ConfigException missing = assertThrows(ConfigException.class, () -> start("http.tls.key.file", "absent.key"));
        assertTrue(missing.getMessage().contains("absent.key"), missing.getMessage());
    }

    private void replace(String from, String to) throws IOException {
        Files.copy(pki.resolve(from), dir.resolve(to + ".new"), StandardCopyOption.REPLACE_EXISTING);
        Files.move(dir.resolve(to + ".new"), dir.resolve(to), StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void await(Condition condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        while (!condition.holds()) {
            assertTrue(System.nanoTime() < deadline, "not within 20 s");
            TimeUnit.MILLISECONDS.sleep(50);
        }
    }
}
