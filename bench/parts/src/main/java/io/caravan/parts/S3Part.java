// SPDX-License-Identifier: Apache-2.0
package io.caravan.parts;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/**
 * A real S3 server (s3proxy, objects in a folder) in its own JVM on a free port of 127.0.0.1: path style, signature
 * version 4, conditional and multipart uploads. Buckets are not created by writing to them.
 *
 * <p>Speaks to it with plain signed requests, so that a test does not judge the gateway's client by the same client.
 * Not thread-safe.
 */
public final class S3Part implements AutoCloseable {
    /** An object as it is listed. */
    public record Listed(String key, long bytes, String etag) {
    }

    /** What the server answered. Header names in lower case. */
    public record Answer(int status, Map<String, List<String>> headers, byte[] body) {
        /** @return the body as text */
        public String text() {
            return new String(body, StandardCharsets.UTF_8);
        }

        /** @return first value of a header, or null */
        public String header(String name) {
            List<String> values = headers.get(name);
            return values == null ? null : values.get(0);
        }
    }

    /** Access key id that the server knows. */
    public static final String ACCESS_KEY = "gateway";
    /** Its secret. */
    public static final String SECRET_KEY = "gateway-secret";
    /** Region it is signed for; the server takes any. */
    public static final String REGION = "us-east-1";

    private static final String HEAP = "256m";
    private static final Duration CALL = Duration.ofSeconds(30);
    private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC);
    private static final Pattern CONTENTS = Pattern.compile("<Contents>(.*?)</Contents>", Pattern.DOTALL);

    private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(Duration.ofSeconds(5)).build();
    private final int port;
    private final Path folder;
    private final boolean temporary;
    private final ServerProcess server;

    private S3Part(Builder builder) {
        this.port = builder.port > 0 ? builder.port : ServerProcess.freePort();
        this.temporary = builder.folder == null;
        try {
            this.folder = temporary ? Files.createTempDirectory("s3-part") : Files.createDirectories(builder.folder);
            Path data = Files.createDirectories(folder.resolve("data"));
            Properties p = new Properties();
            p.put("s3proxy.endpoint", endpoint());
            p.put("s3proxy.authorization", "aws-v4");
            p.put("s3proxy.identity", ACCESS_KEY);
            p.put("s3proxy.credential", SECRET_KEY);
            p.put("s3proxy.v4-max-non-chunked-request-size", "134217728");
            p.put("jclouds.provider", "filesystem-nio2");
            p.put("jclouds.identity", "remote");
            p.put("jclouds.credential", "remote");
            p.put("jclouds.filesystem.basedir", data.toString());
            p.putAll(builder.properties);
            Path file = folder.resolve("s3proxy.conf");
            try (Writer out = Files.newBufferedWriter(file)) {
                p.store(out, null);
            }
            Path logging = folder.resolve("logback.xml");
            Files.writeString(logging, """
                <configuration>
                  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
                    <encoder><pattern>%d{HH:mm:ss.SSS} %level %logger{0} %m%n</pattern></encoder>
                  </appender>
                  <root level="WARN"><appender-ref ref="out"/></root>
                </configuration>
                """);
            List<String> command = ServerProcess.java(HEAP);
            command.addAll(List.of("-Dlogback.configurationFile=" + logging, "-jar", ServerProcess.classPath("s3proxy"),
                    "--properties", file.toString()));
            this.server = new ServerProcess("s3proxy", command, folder.resolve("s3proxy.log"), () -> request("GET", "/", Map.of(), Map.of(), new byte[0], Duration.ofSeconds(5)));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        server.start();
    }

    /** @return a server with a folder of its own, that answers; its data are deleted when it is closed */
    public static S3Part start() {
        return new Builder().start();
    }

    /** How a server is started. */
    public static final class Builder {
        private final Map<String, String> properties = new HashMap<>();
        private Path folder;
        private int port;

        /** @param folder for data and {@code s3proxy.log}; kept when the part is closed, and continued by the next part there */
        public Builder folder(Path folder) {
            this.folder = folder;
            return this;
        }

        /** @param port to listen on; 0: a free one */
        public Builder port(int port) {
            this.port = port;
            return this;
        }

        /** A line of s3proxy.conf, over those set here. */
        public Builder property(String name, String value) {
            properties.put(name, value);
            return this;
        }

        /** @return a server that answers */
        public S3Part start() {
            return new S3Part(this);
        }
    }

    /** @return URL of the server, without a slash at the end; the same after a restart */
    public String endpoint() {
        return "http://127.0.0.1:" + port;
    }

    /** @return process id of the server as it runs now */
    public long pid() {
        return server.pid();
    }

    /** Ends the server at once (SIGKILL). */
    public void kill() {
        server.kill();
    }

    /** SIGSTOP: connections stay open, nothing is answered. */
    public void pause() {
        server.pause();
    }

    /** SIGCONT. */
    public void resume() {
        server.resume();
    }

    /** Starts the server again, on the same port and data, after {@link #kill}; kills it if it still runs. */
    public void restart() {
        server.kill();
        server.start();
    }

    /** @throws IllegalStateException the server did not create it */
    public void createBucket(String bucket) {
        expect(200, request("PUT", "/" + bucket, Map.of(), Map.of(), new byte[0], CALL), "bucket " + bucket);
    }

    /** Deletes an empty bucket. */
    public void deleteBucket(String bucket) {
        expect(204, request("DELETE", "/" + bucket, Map.of(), Map.of(), new byte[0], CALL), "bucket " + bucket);
    }

    /** @return all objects whose key begins so, in the order of keys */
    public List<Listed> list(String bucket, String prefix) {
        List<Listed> objects = new ArrayList<>();
        String next = null;
        do {
            Map<String, String> query = new TreeMap<>(Map.of("list-type", "2", "prefix", prefix));
            if (next != null) {
                query.put("continuation-token", next);
            }
            String page = expect(200, request("GET", "/" + bucket, query, Map.of(), new byte[0], CALL), "list of " + bucket).text();
            for (Matcher m = CONTENTS.matcher(page); m.find();) {
                String etag = element(m.group(1), "ETag");
                // An object that is being written has none yet: it is not there.
                if (etag != null) {
                    objects.add(new Listed(element(m.group(1), "Key"), Long.parseLong(element(m.group(1), "Size")), etag.replace("\"", "")));
                }
            }
            next = element(page, "NextContinuationToken");
        } while (next != null);
        return objects;
    }

    /** @return an object with its headers (user metadata as {@code x-amz-meta-...}); status 404: it is not there */
    public Answer get(String bucket, String key) {
        return request("GET", "/" + bucket + "/" + key, Map.of(), Map.of(), new byte[0], CALL);
    }

    /** Stores an object, over what is there. */
    public void put(String bucket, String key, byte[] body) {
        expect(200, request("PUT", "/" + bucket + "/" + key, Map.of(), Map.of(), body, CALL), key);
    }

    /** Deletes an object. */
    public void delete(String bucket, String key) {
        expect(204, request("DELETE", "/" + bucket + "/" + key, Map.of(), Map.of(), new byte[0], CALL), key);
    }

    /** @return keys of multipart uploads that were begun and neither completed nor aborted */
    public List<String> uploads(String bucket) {
        String page = expect(200, request("GET", "/" + bucket, Map.of("uploads", ""), Map.of(), new byte[0], CALL), "uploads of " + bucket).text();
        List<String> keys = new ArrayList<>();
        for (Matcher m = Pattern.compile("<Upload>(.*?)</Upload>", Pattern.DOTALL).matcher(page); m.find();) {
            keys.add(element(m.group(1), "Key"));
        }
        return keys;
    }

    /**
     * A signed request.
     *
     * @param path    begins with a slash, not encoded
     * @param headers further ones, names in lower case
     */
    public Answer request(String method, String path, Map<String, String> query, Map<String, String> headers, byte[] body, Duration limit) {
        try {
            String time = TIME.format(Instant.now());
            String scope = time.substring(0, 8) + "/" + REGION + "/s3/aws4_request";
            String payload = hex(MessageDigest.getInstance("SHA-256").digest(body));
            TreeMap<String, String> signed = new TreeMap<>(headers);
            signed.put("host", "127.0.0.1:" + port);
            signed.put("x-amz-content-sha256", payload);
            signed.put("x-amz-date", time);
            String names = String.join(";", signed.keySet());
            String encodedPath = java.util.Arrays.stream(path.split("/", -1)).map(S3Part::encode).collect(Collectors.joining("/"));
            String encodedQuery = new TreeMap<>(query).entrySet().stream().map(e -> encode(e.getKey()) + "=" + encode(e.getValue()))
                    .collect(Collectors.joining("&"));
            String canonical = method + "\n" + encodedPath + "\n" + encodedQuery + "\n"
                    + signed.entrySet().stream().map(e -> e.getKey() + ":" + e.getValue() + "\n").collect(Collectors.joining())
                    + "\n" + names + "\n" + payload;
            String toSign = "AWS4-HMAC-SHA256\n" + time + "\n" + scope + "\n"
                    + hex(MessageDigest.getInstance("SHA-256").digest(canonical.getBytes(StandardCharsets.UTF_8)));
            byte[] key = ("AWS4" + SECRET_KEY).getBytes(StandardCharsets.UTF_8);
            for (String part : scope.split("/")) {
                key = hmac(key, part);
            }
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(endpoint() + encodedPath + (encodedQuery.isEmpty() ? "" : "?" + encodedQuery)))
                    .timeout(limit).method(method, HttpRequest.BodyPublishers.ofByteArray(body))
                    .header("Authorization", "AWS4-HMAC-SHA256 Credential=" + ACCESS_KEY + "/" + scope + ", SignedHeaders=" + names
                            + ", Signature=" + hex(hmac(key, toSign)));
            signed.forEach((name, value) -> {
                if (!name.equals("host")) {
                    request.header(name, value);
                }
            });
            HttpResponse<byte[]> response = http.send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
            return new Answer(response.statusCode(), response.headers().map(), response.body());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(method + " " + path + " was interrupted", e);
        }
    }

    @Override
    public void close() {
        server.close();
        if (temporary) {
            ServerProcess.delete(folder);
        }
    }

    /**
     * Runs a server until the JVM is told to end; prints its URL, access key and secret when it answers.
     *
     * @param args {@code [--port N] [--folder DIR] [--bucket NAME]...}
     */
    public static void main(String[] args) throws Exception {
        Builder builder = new Builder();
        List<String> buckets = new ArrayList<>();
        for (int i = 0; i + 1 < args.length; i += 2) {
            switch (args[i]) {
                case "--port" -> builder.port(Integer.parseInt(args[i + 1]));
                case "--folder" -> builder.folder(Path.of(args[i + 1]));
                case "--bucket" -> buckets.add(args[i + 1]);
                default -> throw new IllegalArgumentException("[" + args[i] + "] is none of --port, --folder, --bucket");
            }
        }
        try (S3Part s3 = builder.start()) {
            for (String bucket : buckets) {
                Answer answer = s3.request("PUT", "/" + bucket, Map.of(), Map.of(), new byte[0], CALL);
                if (answer.status() != 409) {
                    expect(200, answer, "bucket " + bucket);
                }
            }
            System.out.println(s3.endpoint() + " " + ACCESS_KEY + " " + SECRET_KEY);
            new CountDownLatch(1).await();
        }
    }

    private static Answer expect(int status, Answer answer, String what) {
        if (answer.status() != status) {
            throw new IllegalStateException("s3proxy answered [" + answer.status() + "], not [" + status + "], for " + what + ": " + answer.text());
        }
        return answer;
    }

    private static String element(String xml, String name) {
        Matcher m = Pattern.compile("<" + name + ">(.*?)</" + name + ">", Pattern.DOTALL).matcher(xml);
        return m.find() ? m.group(1).replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") : null;
    }

    private static String encode(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20").replace("%7E", "~").replace("*", "%2A");
    }

    private static byte[] hmac(byte[] key, String text) throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }
}
