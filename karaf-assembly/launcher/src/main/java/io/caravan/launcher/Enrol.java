// SPDX-License-Identifier: Apache-2.0
package io.caravan.launcher;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * {@code caravan enrol}: makes this gateway's token, tells the cloud its hash together with the one-time enrolment token, and puts what came of
 * it into {@code etc/}. The token itself goes nowhere but into its file, mode 0600.
 *
 * <p>Can be repeated after any failure: the token is on disk before it is told, and the cloud answers the same request again.
 */
public final class Enrol {

    private static final int REFUSED = 1;
    private static final int USAGE = 2;
    private static final Duration LIMIT = Duration.ofSeconds(30);
    private static final Set<PosixFilePermission> OWNER_ONLY = PosixFilePermissions.fromString("rw-------");

    /** Why it did not work, for people. */
    static final class Failure extends Exception {
        private static final long serialVersionUID = 1L;
        final int status;

        Failure(int status, String message) {
            super(message);
            this.status = status;
        }
    }

    private Enrol() {
    }

    public static void main(String[] args) {
        try {
            System.out.println(run(Path.of(System.getProperty("karaf.etc")), List.of(args)));
        } catch (Failure e) {
            System.err.println("caravan: " + e.getMessage());
            System.exit(e.status);
        } catch (IOException e) {
            System.err.println("caravan: " + e);
            System.exit(REFUSED);
        }
    }

    private static String run(Path etc, List<String> args) throws Failure, IOException {
        String cloud = null;
        Map<String, String> options = new LinkedHashMap<>();
        for (int i = 0; i < args.size(); i++) {
            String argument = args.get(i);
            if (argument.matches("--(uplink|ca|as)") && i + 1 < args.size()) {
                options.put(argument.substring(2), args.get(++i));
            } else if (argument.startsWith("-") || cloud != null) {
                throw new Failure(USAGE, "argument [" + argument + "] is not known: caravan enrol URL [--uplink wss://HOST:PORT] [--ca FILE] [--as USER]");
            } else {
                cloud = argument;
            }
        }
        if (cloud == null) {
            throw new Failure(USAGE, "the cloud's address is missing: caravan enrol https://HOST[:PORT]");
        }
        URI address = address(cloud);
        String uplink = options.get("uplink");
        if (uplink != null && !uplink.startsWith("wss://")) {
            throw new Failure(USAGE, "--uplink [" + uplink + "] must begin with wss://");
        }
        Path ca = options.containsKey("ca") ? Path.of(options.get("ca")).toAbsolutePath().normalize() : null;
        SSLContext trust = trust(ca);
        return enrol(etc, address, uplink, ca, trust, options.get("as"), question());
    }

    private static URI address(String cloud) throws Failure, IOException {
        URI address;
        try {
            address = URI.create(cloud.replaceFirst("/+$", ""));
        } catch (IllegalArgumentException e) {
            throw new Failure(USAGE, "[" + cloud + "] must be a URL like https://cloud.example.org");
        }
        boolean plain = "http".equalsIgnoreCase(address.getScheme());
        if (address.getHost() == null || !plain && !"https".equalsIgnoreCase(address.getScheme()) || address.getUserInfo() != null || address.getQuery() != null) {
            throw new Failure(USAGE, "[" + cloud + "] must be a URL like https://cloud.example.org");
        }
        if (plain && !InetAddress.getByName(address.getHost()).isLoopbackAddress()) {
            throw new Failure(USAGE, "[" + cloud + "] must begin with https://: an enrolment token must not be readable on the way");
        }
        return address;
    }

    /** @return the enrolment token, typed unseen or from standard input; never an argument, which others on this machine could see */
    private static String question() throws Failure, IOException {
        String token;
        if (System.console() != null) {
            char[] typed = System.console().readPassword("Enrolment token: ");
            token = typed == null ? "" : new String(typed);
        } else {
            token = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)).readLine();
        }
        if (token == null || !token.strip().matches("cve_[A-Za-z0-9_-]{43}")) {
            throw new Failure(USAGE, "an enrolment token begins with cve_ and has 47 characters: gateway:enrol in the cloud's shell makes one");
        }
        return token.strip();
    }

    private static SSLContext trust(Path ca) throws Failure, IOException {
        try {
            if (ca == null) {
                return SSLContext.getDefault();
            }
            KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
            store.load(null, null);
            int number = 0;
            try (InputStream in = Files.newInputStream(ca)) {
                for (Certificate certificate : CertificateFactory.getInstance("X.509").generateCertificates(in)) {
                    store.setCertificateEntry("ca" + number++, certificate);
                }
            }
            TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
            factory.init(store);
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(null, factory.getTrustManagers(), null);
            return context;
        } catch (GeneralSecurityException e) {
            throw new Failure(USAGE, "--ca [" + ca + "] must hold certificates in PEM: " + e.getMessage());
        }
    }

    /** @return what was done, for people */
    static String enrol(Path etc, URI cloud, String uplink, Path ca, SSLContext trust, String user, String enrolment) throws Failure, IOException {
        Path cfg = etc.resolve("io.caravan.uplink.cfg");
        if (!Files.isRegularFile(cfg)) {
            throw new Failure(USAGE, "[" + cfg + "] is not there: give the command in a gateway's installation");
        }
        List<String> lines = new ArrayList<>(Files.readAllLines(cfg, StandardCharsets.ISO_8859_1));
        if (lines.stream().anyMatch(l -> l.matches("#? ?uplink\\.registry\\b.*"))) {
            throw new Failure(USAGE, "[" + etc.getParent() + "] is a cloud's installation: a gateway is enrolled where it runs");
        }
        Path file = etc.getParent().resolve(value(lines, "uplink.token.file", "etc/uplink.token"));
        Path made = file.resolveSibling(file.getFileName() + ".enrol");
        if (!Files.exists(made)) {
            byte[] random = new byte[32];
            new SecureRandom().nextBytes(random);
            write(made, ("cvn_" + Base64.getUrlEncoder().withoutPadding().encodeToString(random) + "\n").getBytes(StandardCharsets.US_ASCII), OWNER_ONLY);
        }
        String token = Files.readString(made).strip();
        String id = post(cloud, trust, "{\"token\":\"" + enrolment + "\",\"token_sha256\":\"" + sha256(token) + "\"}");

        Map<String, String> keys = new LinkedHashMap<>();
        keys.put("gateway.id", id);
        if (uplink != null) {
            keys.put("uplink.url", uplink);
        }
        if (ca != null) {
            keys.put("uplink.ca.file", ca.toString());
        }
        keys.forEach((key, value) -> set(lines, key, value));
        // The id first: a token under another gateway's id would be refused, and this one's is not in use before it is there.
        write(cfg, (String.join("\n", lines) + "\n").getBytes(StandardCharsets.ISO_8859_1), Files.getPosixFilePermissions(cfg));
        if (user != null) {
            Files.setOwner(made, made.getFileSystem().getUserPrincipalLookupService().lookupPrincipalByName(user));
        }
        Files.move(made, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        return "This is gateway " + id + " now. Its token is in [" + file + "], and nowhere else; " + String.join(", ", keys.keySet()) + " set in [" + cfg
            + "]. A gateway that runs connects by itself.";
    }

    private static String post(URI cloud, SSLContext trust, String body) throws Failure, IOException {
        HttpResponse<String> answer;
        try {
            answer = HttpClient.newBuilder().sslContext(trust).connectTimeout(LIMIT).version(HttpClient.Version.HTTP_1_1).build().send(
                HttpRequest.newBuilder(URI.create(cloud + "/api/v1/enrol")).timeout(LIMIT).header("Content-Type", "application/json")
                    .POST(HttpRequest.BodyPublishers.ofString(body)).build(), HttpResponse.BodyHandlers.ofString());
        } catch (IOException e) {
            throw new Failure(REFUSED, "[" + cloud + "] could not be asked: " + e + "; give the command again, with the same enrolment token");
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new Failure(REFUSED, "interrupted; give the command again, with the same enrolment token");
        }
        Matcher id = Pattern.compile("\"gateway_id\"\\s*:\\s*\"([A-Za-z0-9][A-Za-z0-9._-]{0,63})\"").matcher(answer.body());
        if (answer.statusCode() != 200 || !id.find()) {
            Matcher detail = Pattern.compile("\"detail\"\\s*:\\s*\"((?:[^\"\\\\]|\\\\.)*)\"").matcher(answer.body());
            throw new Failure(REFUSED, "[" + cloud + "] answered " + answer.statusCode() + (detail.find() ? ": " + detail.group(1).replaceAll("\\p{Cntrl}", "?") : ""));
        }
        return id.group(1);
    }

    private static String value(List<String> lines, String key, String otherwise) {
        String environment = System.getenv("CARAVAN_" + key.toUpperCase(Locale.ROOT).replace('.', '_'));
        if (environment != null && !environment.isBlank()) {
            return environment;
        }
        return lines.stream().filter(l -> l.matches(Pattern.quote(key) + "\\s*=.*")).reduce((a, b) -> b).map(l -> l.substring(l.indexOf('=') + 1).strip())
            .filter(v -> !v.isEmpty()).orElse(otherwise);
    }

    /** In the place of the line that sets it, or of the one that shows its default. */
    private static void set(List<String> lines, String key, String value) {
        String line = key + " = " + value;
        for (String shape : List.of(Pattern.quote(key) + "\\s*=.*", "#\\s?" + Pattern.quote(key) + "\\s*=.*")) {
            for (int i = lines.size() - 1; i >= 0; i--) {
                if (lines.get(i).matches(shape)) {
                    lines.set(i, line);
                    return;
                }
            }
        }
        lines.add(line);
    }

    private static void write(Path file, byte[] content, Set<PosixFilePermission> permissions) throws IOException {
        Path made = Files.createTempFile(file.toAbsolutePath().getParent(), ".enrol", ".new", PosixFilePermissions.asFileAttribute(OWNER_ONLY));
        try {
            try (FileChannel out = FileChannel.open(made, StandardOpenOption.WRITE)) {
                ByteBuffer bytes = ByteBuffer.wrap(content);
                while (bytes.hasRemaining()) {
                    out.write(bytes);
                }
                out.force(true);
            }
            Files.setPosixFilePermissions(made, permissions);
            if (Files.exists(file)) {
                Files.setOwner(made, Files.getOwner(file));
            }
            Files.move(made, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } finally {
            Files.deleteIfExists(made);
        }
    }

    private static String sha256(String text) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8)));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }
}
