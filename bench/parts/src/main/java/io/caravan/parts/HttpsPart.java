// SPDX-License-Identifier: Apache-2.0
package io.caravan.parts;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsParameters;
import com.sun.net.httpserver.HttpsServer;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.GZIPInputStream;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManagerFactory;

/**
 * A receiver of NDJSON over HTTPS that misbehaves as it is told, in this JVM, with an authority of its own.
 *
 * <p>It is the receiver the documentation asks for: it drops a request whose {@code Idempotency-Key} it has, and a row
 * whose {@code message_key} it has. What it took is counted when it decides to take it, before it answers, so that an
 * answer that never arrives is a delivery that took place. Thread-safe.
 */
public final class HttpsPart implements AutoCloseable {

    /** Which certificate the server shows from its next start on. */
    public enum Identity { VALID, WRONG_HOST, EXPIRED }

    /**
     * What becomes of a request.
     *
     * @param take whether the rows count as taken
     */
    public record Answer(int status, Map<String, String> headers, String body, boolean take, Manner manner, Duration delay) {

        enum Manner { NORMAL, HANG, CUT, ENDLESS, DRIP }

        /** Answers at once; a 2xx takes the rows. */
        public static Answer status(int status) {
            return new Answer(status, Map.of(), "{\"status\":" + status + "}", status / 100 == 2, Manner.NORMAL, Duration.ZERO);
        }

        /** Reads the request, takes nothing and says nothing until {@link HttpsPart#release()} or the end. */
        public static Answer hang() {
            return new Answer(200, Map.of(), "", false, Manner.HANG, Duration.ZERO);
        }

        /** Takes the rows and says so only after {@link HttpsPart#release()}: later than any client waits. */
        public static Answer late() {
            return new Answer(200, Map.of(), "", true, Manner.HANG, Duration.ZERO);
        }

        /** Takes the rows, begins to answer 200 and closes the connection in the middle of it. */
        public static Answer cut() {
            return new Answer(200, Map.of(), "", true, Manner.CUT, Duration.ZERO);
        }

        /** Takes the rows and answers 200 with a body that does not end before the client goes. */
        public static Answer endless() {
            return new Answer(200, Map.of(), "", true, Manner.ENDLESS, Duration.ZERO);
        }

        /** Takes the rows and answers 200 with a byte at a time, so slowly that it never ends. */
        public static Answer drip() {
            return new Answer(200, Map.of(), "", true, Manner.DRIP, Duration.ofMillis(20));
        }

        /** Answers as it would, that much later. */
        public Answer slow(Duration later) {
            return new Answer(status, headers, body, take, manner, later);
        }

        public Answer header(String name, String value) {
            Map<String, String> all = new LinkedHashMap<>(headers);
            all.put(name, value);
            return new Answer(status, all, body, take, manner, delay);
        }

        public Answer body(String text) {
            return new Answer(status, headers, text, take, manner, delay);
        }
    }

    /**
     * A request as it came.
     *
     * @param headers names in lower case, values of a repeated one joined by a comma
     * @param body    unpacked, if it came as gzip
     * @param answer  status that was meant for it
     */
    public record Request(String method, String uri, Map<String, String> headers, String body, int wireBytes, int answer) {

        /** @return header {@code Idempotency-Key}, or null */
        public String key() {
            return headers.get("idempotency-key");
        }

        public List<String> messageKeys() {
            return fields(MESSAGE_KEY, body);
        }

        public List<Long> seqs() {
            return fields(SEQ, body).stream().map(Long::valueOf).toList();
        }
    }

    private static final Pattern MESSAGE_KEY = Pattern.compile("^\\{\"seq\":\\d+,.*?\"message_key\":\"([^\"]*)\"", Pattern.MULTILINE);
    private static final Pattern SEQ = Pattern.compile("^\\{\"seq\":(\\d+)", Pattern.MULTILINE);
    private static final String PASSWORD = "test-store";

    private final Path folder;
    private final KeyStore store;
    private final List<Request> requests = new ArrayList<>();
    private final Deque<Answer> next = new ArrayDeque<>();
    private final Set<String> refused = new HashSet<>();
    private final Map<String, String> bodies = new HashMap<>();
    private final Map<String, Integer> rows = new HashMap<>();
    private final Set<String> keys = new HashSet<>();
    private final Set<String> conflicts = new HashSet<>();
    private Answer answer = Answer.status(200);
    private Identity identity = Identity.VALID;
    private boolean clientCertificate;
    private String token;
    private int repeatedRequests;
    private int repeatedRows;
    private long releases;
    private boolean paused;
    private HttpsServer server;
    private ExecutorService workers;
    private int port;

    /** Makes authority and certificates (valid for localhost and 127.0.0.1) and listens on a free port of the loopback. */
    public HttpsPart() throws Exception {
        folder = Files.createTempDirectory("https-part");
        Path file = folder.resolve("store.p12");
        keytool(file, "ca", "-dname", "CN=test authority", "-ext", "bc:c");
        keytool(file, "valid", "-dname", "CN=receiver", "-signer", "ca", "-ext", "san=dns:localhost,ip:127.0.0.1");
        keytool(file, "wrong_host", "-dname", "CN=receiver", "-signer", "ca", "-ext", "san=dns:other.example");
        keytool(file, "expired", "-dname", "CN=receiver", "-signer", "ca", "-ext", "san=dns:localhost,ip:127.0.0.1",
            "-startdate", "-2d", "-validity", "1");
        keytool(file, "client", "-dname", "CN=gateway-1", "-signer", "ca", "-ext", "eku=clientAuth");
        store = KeyStore.getInstance(file.toFile(), PASSWORD.toCharArray());
        pem("ca.pem", "CERTIFICATE", store.getCertificate("ca").getEncoded());
        pem("client.pem", "CERTIFICATE", store.getCertificate("client").getEncoded());
        pem("client.key", "PRIVATE KEY", store.getKey("client", PASSWORD.toCharArray()).getEncoded());
        start();
    }

    // -- where and who ------------------------------------------------------------------------------------------------

    public int port() {
        return port;
    }

    /** @return {@code https://localhost:<port>/rows} */
    public String url() {
        return "https://localhost:" + port + "/rows";
    }

    /** @return PEM file of the authority that signed the server's certificate, and trusts {@link #clientCert()} */
    public Path ca() {
        return folder.resolve("ca.pem");
    }

    public Path clientCert() {
        return folder.resolve("client.pem");
    }

    /** @return PEM file, PKCS#8 */
    public Path clientKey() {
        return folder.resolve("client.key");
    }

    // -- what it does -------------------------------------------------------------------------------------------------

    /** Forgets what it was told and what it has seen; certificates and port stay. */
    public synchronized void reset() throws Exception {
        release();
        next.clear();
        refused.clear();
        requests.clear();
        bodies.clear();
        rows.clear();
        keys.clear();
        conflicts.clear();
        repeatedRequests = 0;
        repeatedRows = 0;
        answer = Answer.status(200);
        token = null;
        paused = false;
        if (server == null || identity != Identity.VALID || clientCertificate) {
            identity = Identity.VALID;
            clientCertificate(false);
        }
    }

    /** Answers so until told otherwise. */
    public synchronized void answer(Answer always) {
        answer = always;
    }

    /** Answers the next requests so, one each, and then as before. */
    public synchronized void next(Answer... each) {
        next.addAll(List.of(each));
    }

    /** Answers 400 to every request that holds a row with this key, and takes nothing of it. */
    public synchronized void refuse(String messageKey) {
        refused.add(messageKey);
    }

    /** Takes back {@link #refuse}. */
    public synchronized void accept(String messageKey) {
        refused.remove(messageKey);
    }

    /** Answers 401 to every request without {@code Authorization: Bearer <token>}; null asks for none. */
    public synchronized void token(String expected) {
        token = expected;
    }

    /** Lets everything that hangs now be answered. */
    public synchronized void release() {
        releases++;
        notifyAll();
    }

    /** Connections are still taken, but no request is read or answered until {@link #resume()}. */
    public synchronized void pause() {
        paused = true;
    }

    public synchronized void resume() {
        paused = false;
        notifyAll();
    }

    /** Shows another certificate, on the same port. */
    public synchronized void identity(Identity other) throws Exception {
        stop();
        identity = other;
        start();
    }

    /** Whether a client must show a certificate of this authority. To one that does not the JDK's server says nothing: it hangs up. */
    public synchronized void clientCertificate(boolean required) throws Exception {
        stop();
        clientCertificate = required;
        start();
    }

    /** Closes the port and every connection. */
    public synchronized void stop() {
        if (server != null) {
            release();
            server.stop(0);
            workers.shutdownNow();
            server = null;
        }
    }

    /** Listens again, on the same port; what was recorded stays. */
    public synchronized void start() throws Exception {
        if (server != null) {
            return;
        }
        server = HttpsServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        boolean required = clientCertificate;
        SSLContext tls = tls();
        server.setHttpsConfigurator(new HttpsConfigurator(tls) {
            @Override
            public void configure(HttpsParameters parameters) {
                SSLParameters ssl = tls.getDefaultSSLParameters();
                ssl.setNeedClientAuth(required);
                parameters.setSSLParameters(ssl);
            }
        });
        workers = Executors.newCachedThreadPool(task -> {
            Thread thread = new Thread(task, "https-part");
            thread.setDaemon(true);
            return thread;
        });
        server.setExecutor(workers);
        server.createContext("/", this::handle);
        server.start();
        port = server.getAddress().getPort();
    }

    /** Stops, and deletes keys and certificates. */
    @Override
    public void close() throws IOException {
        stop();
        try (var files = Files.list(folder)) {
            for (Path file : files.toList()) {
                Files.delete(file);
            }
        }
        Files.delete(folder);
    }

    // -- what it has seen ---------------------------------------------------------------------------------------------

    /** @return all requests so far, those that were refused, too */
    public synchronized List<Request> requests() {
        return List.copyOf(requests);
    }

    /** @return message keys that were taken, each once, whatever arrived how often */
    public synchronized Set<String> taken() {
        return Set.copyOf(rows.keySet());
    }

    /** @return requests whose key had been taken before; their rows were dropped */
    public synchronized int repeatedRequests() {
        return repeatedRequests;
    }

    /** @return rows taken before, in a request with a new key; they were dropped */
    public synchronized int repeatedRows() {
        return repeatedRows;
    }

    /** @return Idempotency-Keys that were used for two different bodies; must be empty */
    public synchronized Set<String> conflicts() {
        return Set.copyOf(conflicts);
    }

    // -----------------------------------------------------------------------------------------------------------------

    private void handle(HttpExchange exchange) throws IOException {
        try (exchange) {
            awaitResume();
            Request request;
            Answer chosen;
            long seen;
            byte[] wire = exchange.getRequestBody().readAllBytes();
            synchronized (this) {
                seen = releases;
                Map<String, String> headers = new TreeMap<>();
                exchange.getRequestHeaders().forEach((k, v) -> headers.put(k.toLowerCase(Locale.ROOT), String.join(",", v)));
                String body = text(headers, wire);
                chosen = choose(headers, body);
                request = new Request(exchange.getRequestMethod(), exchange.getRequestURI().toString(), headers, body, wire.length,
                    chosen.status());
                requests.add(request);
                if (request.key() != null && !body.equals(bodies.computeIfAbsent(request.key(), k -> body))) {
                    conflicts.add(request.key());
                }
                if (chosen.take()) {
                    take(request);
                }
                notifyAll();
            }
            respond(exchange, chosen, seen);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private synchronized void awaitResume() throws InterruptedException {
        while (paused) {
            wait();
        }
    }

    private static String text(Map<String, String> headers, byte[] wire) throws IOException {
        if ("gzip".equals(headers.get("content-encoding"))) {
            try (InputStream in = new GZIPInputStream(new ByteArrayInputStream(wire))) {
                return new String(in.readAllBytes(), StandardCharsets.UTF_8);
            }
        }
        return new String(wire, StandardCharsets.UTF_8);
    }

    private Answer choose(Map<String, String> headers, String body) {
        if (token != null && !("Bearer " + token).equals(headers.get("authorization"))) {
            return Answer.status(401);
        }
        Answer chosen = next.isEmpty() ? answer : next.poll();
        if (!chosen.take()) {
            return chosen;
        }
        List<String> bad = fields(MESSAGE_KEY, body).stream().filter(refused::contains).toList();
        return bad.isEmpty() ? chosen : Answer.status(400).body("{\"error\":\"cannot take " + bad.get(0) + "\"}");
    }

    private void take(Request request) {
        if (request.key() != null && !keys.add(request.key())) {
            repeatedRequests++;
            return;
        }
        for (String key : request.messageKeys()) {
            if (rows.merge(key, 1, Integer::sum) > 1) {
                repeatedRows++;
            }
        }
    }

    private void respond(HttpExchange exchange, Answer chosen, long seen) throws IOException, InterruptedException {
        if (!chosen.delay().isZero() && chosen.manner() == Answer.Manner.NORMAL) {
            TimeUnit.MILLISECONDS.sleep(chosen.delay().toMillis());
        }
        if (chosen.manner() == Answer.Manner.HANG) {
            synchronized (this) {
                while (releases == seen) {
                    wait();
                }
            }
        }
        chosen.headers().forEach(exchange.getResponseHeaders()::set);
        byte[] body = chosen.body().getBytes(StandardCharsets.UTF_8);
        switch (chosen.manner()) {
            case CUT -> {
                exchange.sendResponseHeaders(chosen.status(), 1_000);
                exchange.getResponseBody().write('{');
                exchange.getResponseBody().flush();
                // Closed with 999 bytes owed: the JDK's server closes the connection.
            }
            case ENDLESS, DRIP -> {
                exchange.sendResponseHeaders(chosen.status(), 0);
                byte[] piece = new byte[chosen.manner() == Answer.Manner.DRIP ? 1 : 65_536];
                OutputStream out = exchange.getResponseBody();
                while (!Thread.currentThread().isInterrupted()) {
                    out.write(piece);
                    out.flush();
                    TimeUnit.MILLISECONDS.sleep(chosen.delay().toMillis());
                }
            }
            default -> {
                exchange.sendResponseHeaders(chosen.status(), body.length == 0 ? -1 : body.length);
                if (body.length > 0) {
                    exchange.getResponseBody().write(body);
                }
            }
        }
    }

    private static List<String> fields(Pattern field, String body) {
        List<String> found = new ArrayList<>();
        Matcher matcher = field.matcher(body);
        while (matcher.find()) {
            found.add(matcher.group(1));
        }
        return found;
    }

    // -- keys and certificates ----------------------------------------------------------------------------------------

    /** @return what the server shows and trusts, for a server of the test's own */
    public SSLContext tls() throws GeneralSecurityException, IOException {
        KeyStore own = KeyStore.getInstance("PKCS12");
        own.load(null, null);
        String alias = identity.name().toLowerCase(Locale.ROOT);
        char[] password = PASSWORD.toCharArray();
        own.setKeyEntry("server", (PrivateKey) store.getKey(alias, password), password, store.getCertificateChain(alias));
        KeyManagerFactory keyManagers = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keyManagers.init(own, password);
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, null);
        Certificate authority = store.getCertificate("ca");
        trusted.setCertificateEntry("ca", authority);
        TrustManagerFactory trustManagers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trustManagers.init(trusted);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keyManagers.getKeyManagers(), trustManagers.getTrustManagers(), null);
        return context;
    }

    private void pem(String name, String what, byte[] der) throws IOException {
        Files.writeString(folder.resolve(name), "-----BEGIN " + what + "-----\n"
            + Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der) + "\n-----END " + what + "-----\n");
    }

    /** The JDK has no public API to sign a certificate; its own tool does it (option -signer: Java 17). */
    private static void keytool(Path store, String alias, String... more) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "keytool").toString(),
            "-J-XX:TieredStopAtLevel=1", "-genkeypair", "-alias", alias, "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30",
            "-keystore", store.toString(), "-storetype", "PKCS12", "-storepass", PASSWORD));
        command.addAll(List.of(more));
        Path log = store.resolveSibling("keytool.log");
        Process process = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log.toFile()).start();
        if (!process.waitFor(60, TimeUnit.SECONDS) || process.exitValue() != 0) {
            process.destroyForcibly();
            throw new IOException("keytool failed: " + Files.readString(log));
        }
    }
}
