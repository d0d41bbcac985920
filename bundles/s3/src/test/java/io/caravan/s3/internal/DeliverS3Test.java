// SPDX-License-Identifier: Apache-2.0
package io.caravan.s3.internal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.net.httpserver.HttpServer;
import io.caravan.parts.S3Part;
import io.caravan.wal.Batch;
import io.caravan.wal.SinkException;
import io.caravan.wal.SinkException.Kind;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class DeliverS3Test {
    private static final String OFFLOAD = "telemetry-offload";
    private static final Instant TIME = Instant.parse("2026-11-20T10:00:00Z");
    private static S3Part s3;

    @TempDir
    Path folder;

    @BeforeAll
    static void start() {
        s3 = S3Part.start();
    }

    @AfterAll
    static void stop() {
        s3.close();
    }

    @BeforeEach
    void emptyBucket() {
        if (s3.get(OFFLOAD, "").status() == 404) {
            s3.createBucket(OFFLOAD);
        }
        s3.list(OFFLOAD, "").forEach(object -> s3.delete(OFFLOAD, object.key()));
    }

    @Test
    void aBatchIsOneObjectNamedByItsContentAndStoredOnce() throws Exception {
        try (Box box = new Box(folder, s3.endpoint(), "sink.s3.prefix=raw/", "gateway.id=gw-7")) {
            Batch batch = Batches.of("gw-7", 101, 50, TIME);
            box.deliver(batch);
            box.deliver(Batches.of("gw-7", 101, 50, TIME));
            List<S3Part.Listed> objects = s3.list(OFFLOAD, "");
            assertEquals(List.of("raw/date=2026-11-20/gateway=gw-7/" + batch.key() + ".ndjson.gz"), objects.stream().map(S3Part.Listed::key).toList());
            S3Part.Answer object = s3.get(OFFLOAD, objects.get(0).key());
            assertEquals("101", object.header("x-amz-meta-caravan-first-seq"));
            assertEquals("150", object.header("x-amz-meta-caravan-last-seq"));
            assertEquals("50", object.header("x-amz-meta-caravan-rows"));
            assertEquals(S3Objects.sha256(object.body()), object.header("x-amz-meta-caravan-sha256"));
            assertEquals("application/gzip", object.header("content-type"));
            assertArrayEquals(S3Objects.gzip(batch.ndjson(), 1), object.body());
            assertEquals(new String(batch.ndjson(), StandardCharsets.UTF_8), String.join("\n", Box.lines(s3, OFFLOAD, "")) + "\n");
        }
    }

    @Test
    void aLargeObjectGoesInPartsOnce() throws Exception {
        Batch batch = Batches.noise("gateway-1", 1, 200, 60_000, TIME);
        try (Box box = new Box(folder, s3.endpoint(), "sink.s3.multipart.bytes=5242880")) {
            box.deliver(batch);
            box.deliver(batch);
        }
        List<S3Part.Listed> objects = s3.list(OFFLOAD, "");
        assertEquals(1, objects.size());
        assertTrue(objects.get(0).etag().matches(".*-[23]"), "in parts: " + objects);
        assertEquals("200", s3.get(OFFLOAD, objects.get(0).key()).header("x-amz-meta-caravan-rows"));
        assertEquals(200, Box.lines(s3, OFFLOAD, "").size());
        assertEquals(List.of(), s3.uploads(OFFLOAD));
    }

    @Test
    void aServerThatIsAwayOrHangsIsTransientAndTheSameBatchArrivesOnce() throws Exception {
        try (Box box = new Box(folder, s3.endpoint(), "s3.connect.timeout.ms=500", "s3.socket.timeout.ms=700", "s3.attempt.timeout.ms=800",
                "s3.call.timeout.ms=1500")) {
            Batch batch = Batches.of("gateway-1", 1, 20, TIME);
            s3.kill();
            failure(box, batch, Kind.TRANSIENT, "unavailable");
            s3.restart();
            box.deliver(batch);
            s3.pause();
            failure(box, batch, Kind.TRANSIENT, "timeout");
            failure(box, Batches.of("gateway-1", 21, 20, TIME), Kind.TRANSIENT, "timeout");
            s3.resume();
            box.deliver(batch);
            box.deliver(Batches.of("gateway-1", 21, 20, TIME));
            assertEquals(2, s3.list(OFFLOAD, "").size());
            assertEquals(40, Box.lines(s3, OFFLOAD, "").size());
        }
    }

    @Test
    void aWrongSecretIsToldAndTheRightOneTakesEffectWithoutARestart() throws Exception {
        Path secret = folder.resolve("secret");
        Files.writeString(secret, "not-the-secret\n");
        try (Box box = new Box(folder, s3.endpoint(), "s3.secret.key=file:" + secret)) {
            Batch batch = Batches.of("gateway-1", 1, 20, TIME);
            SinkException failure = failure(box, batch, Kind.CONFIGURATION, "unauthorized");
            assertFalse(failure.getMessage().contains("not-the-secret"), failure.getMessage());
            box.set("s3.secret.key", S3Part.SECRET_KEY);
            awaitDelivered(box, batch);
            box.set("s3.access.key", "");
            Awaitility.await().atMost(Duration.ofSeconds(20)).until(() -> reason(box, batch).equals("misconfigured"));
        }
    }

    @Test
    void aCredentialsFileIsReadAgainWhenItChanges() throws Exception {
        Path file = folder.resolve("credentials");
        Files.writeString(file, "[edge]\naws_access_key_id=" + S3Part.ACCESS_KEY + "\naws_secret_access_key=old\n");
        try (Box box = new Box(folder, s3.endpoint(), "s3.access.key=", "s3.secret.key=", "s3.credentials.file=" + file,
                "s3.credentials.profile=edge")) {
            Batch batch = Batches.of("gateway-1", 1, 20, TIME);
            failure(box, batch, Kind.CONFIGURATION, "unauthorized");
            Files.writeString(file, "[edge]\naws_access_key_id=" + S3Part.ACCESS_KEY + "\naws_secret_access_key=" + S3Part.SECRET_KEY + "\n");
            awaitDelivered(box, batch);
        }
    }

    @Test
    void aMissingBucketIsToldAndCreatedOnlyIfSo() throws Exception {
        try (Box box = new Box(folder, s3.endpoint(), "sink.s3.bucket=other-" + System.nanoTime())) {
            Batch batch = Batches.of("gateway-1", 1, 20, TIME);
            SinkException failure = failure(box, batch, Kind.CONFIGURATION, "not_found");
            assertTrue(failure.getMessage().contains("[other-"), failure.getMessage());
            box.set("s3.bucket.create", "true");
            awaitDelivered(box, batch);
        }
    }

    @Test
    void whatMakesNoClientIsToldByTheSink() throws Exception {
        try (Box box = new Box(folder, "ftp://nowhere")) {
            Batch batch = Batches.of("gateway-1", 1, 20, TIME);
            SinkException failure = failure(box, batch, Kind.CONFIGURATION, "misconfigured");
            assertTrue(failure.getMessage().contains("s3.endpoint [ftp://nowhere]"), failure.getMessage());
            box.set("s3.endpoint", s3.endpoint());
            awaitDelivered(box, batch);
        }
    }

    @Test
    void aServerWithoutConditionalWritesIsAskedOnce() throws Exception {
        List<String> conditions = new CopyOnWriteArrayList<>();
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.createContext("/", exchange -> {
            exchange.getRequestBody().readAllBytes();
            String condition = exchange.getRequestHeaders().getFirst("If-None-Match");
            conditions.add(String.valueOf(condition));
            byte[] body = (condition == null ? "" : "<Error><Code>NotImplemented</Code></Error>").getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(condition == null ? 200 : 501, body.length == 0 ? -1 : body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
        String endpoint = "http://127.0.0.1:" + server.getAddress().getPort();
        try (Box box = new Box(folder, endpoint)) {
            box.deliver(Batches.of("gateway-1", 1, 20, TIME));
            int asked = conditions.size();
            assertTrue(conditions.contains("*"), conditions.toString());
            box.deliver(Batches.of("gateway-1", 21, 20, TIME));
            assertEquals(List.of("null"), conditions.subList(asked, conditions.size()));
            box.set("sink.s3.conditional", "on");
            Awaitility.await().atMost(Duration.ofSeconds(20)).until(() -> reason(box, Batches.of("gateway-1", 41, 20, TIME)).equals("misconfigured"));
        } finally {
            server.stop(0);
        }
    }

    @ParameterizedTest
    @CsvSource({"400, RequestTimeout, TRANSIENT, timeout", "400, BadDigest, TRANSIENT, error", "503, SlowDown, TRANSIENT, throttled",
        "409, ConditionalRequestConflict, TRANSIENT, server_error", "500, InternalError, TRANSIENT, server_error",
        "301, PermanentRedirect, CONFIGURATION, misconfigured", "400, AuthorizationHeaderMalformed, CONFIGURATION, misconfigured",
        "403, RequestTimeTooSkewed, CONFIGURATION, misconfigured", "403, AccessDenied, CONFIGURATION, unauthorized",
        "404, NoSuchBucket, CONFIGURATION, not_found", "400, EntityTooLarge, RECORD, too_large"})
    void anAnswerMeans(int status, String code, Kind kind, String reason) throws Exception {
        byte[] body = ("<Error><Code>" + code + "</Code><Message>said so</Message></Error>").getBytes(StandardCharsets.UTF_8);
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.createContext("/", exchange -> {
            exchange.getRequestBody().readAllBytes();
            exchange.sendResponseHeaders(status, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
        try (Box box = new Box(folder, "http://127.0.0.1:" + server.getAddress().getPort())) {
            failure(box, Batches.of("gateway-1", 1, 20, TIME), kind, reason);
        } finally {
            server.stop(0);
        }
    }

    private static void awaitDelivered(Box box, Batch batch) {
        Awaitility.await().atMost(Duration.ofSeconds(20)).until(() -> reason(box, batch).isEmpty());
    }

    /** @return empty: delivered */
    private static String reason(Box box, Batch batch) throws Exception {
        try {
            box.deliver(batch);
            return "";
        } catch (SinkException e) {
            return e.reason();
        } catch (org.apache.camel.component.direct.DirectConsumerNotAvailableException e) {
            return "replaced"; // the route's file is just being replaced
        }
    }

    private static SinkException failure(Box box, Batch batch, Kind kind, String reason) {
        SinkException failure = assertThrows(SinkException.class, () -> box.deliver(batch));
        assertEquals(kind + " " + reason, failure.kind() + " " + failure.reason(), failure.getMessage());
        return failure;
    }
}
