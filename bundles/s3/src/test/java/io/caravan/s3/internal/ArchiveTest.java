// SPDX-License-Identifier: Apache-2.0
package io.caravan.s3.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.parts.S3Part;
import io.caravan.wal.Batch;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.LongStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import software.amazon.awssdk.services.s3.S3Client;

class ArchiveTest {
    private static final String OFFLOAD = "telemetry-offload";
    private static final String ARCHIVE = "telemetry-archive";
    private static final String DAY = "2026-11-20";
    private static final Instant TIME = Instant.parse("2026-11-20T10:00:00Z");
    private static final Clock LATER = Clock.fixed(Instant.parse("2026-11-21T02:00:00Z"), ZoneOffset.UTC);
    private static S3Part s3;

    @TempDir
    Path folder;

    @BeforeAll
    static void start() {
        s3 = S3Part.start();
        s3.createBucket(OFFLOAD);
        s3.createBucket(ARCHIVE);
    }

    @AfterAll
    static void stop() {
        s3.close();
    }

    @BeforeEach
    void empty() {
        for (String bucket : List.of(OFFLOAD, ARCHIVE)) {
            s3.list(bucket, "").forEach(object -> s3.delete(bucket, object.key()));
        }
    }

    @Test
    void aDayIsJoinedOnceAndWhatComesLateGetsAFurtherObject() throws Exception {
        try (Box box = new Box(folder, s3.endpoint(), "archive.s3.prefix=all/")) {
            deliver(box, 1, 5, 100, TIME);
            s3.put(OFFLOAD, "date=" + DAY + "/gateway=other/" + Batches.of("other", 1, 10, TIME).key() + ".ndjson.gz",
                    S3Objects.gzip(Batches.of("other", 1, 10, TIME).ndjson(), 1));
            s3.put(OFFLOAD, "date=" + DAY + "/gateway=gateway-1/notes.txt", "keep".getBytes(StandardCharsets.UTF_8));
            assertEquals(500, archive(box).archive(DAY));
            assertEquals(0, archive(box).archive(DAY));
            List<S3Part.Listed> objects = s3.list(ARCHIVE, "all/date=");
            assertEquals(1, objects.size());
            assertTrue(objects.get(0).key().matches("all/date=2026-11-20/gateway=gateway-1/0000000000000001-0000000000000500-[0-9a-f]{16}\\.ndjson\\.gz"),
                    objects.get(0).key());
            deliver(box, 501, 1, 40, TIME);
            assertEquals(40, archive(box).archive(DAY));
            assertEquals(2, s3.list(ARCHIVE, "all/date=").size());
            assertSeqs(Box.lines(s3, ARCHIVE, "all/date="), 540);
            assertEquals(8, s3.list(OFFLOAD, "").size(), "nothing is deleted unless it is said");
            assertEquals(2, s3.list(ARCHIVE, "all/_plan/").size());
        }
    }

    @Test
    void onlyFinishedDaysAreTaken() throws Exception {
        try (Box box = new Box(folder, s3.endpoint(), "archive.s3.days=2", "archive.s3.grace.ms=3600000")) {
            for (String day : List.of("2026-11-17", "2026-11-18", "2026-11-19", DAY, "2026-11-21")) {
                deliver(box, 1, 1, 5, Instant.parse(day + "T23:00:00Z"));
            }
            assertEquals(List.of("2026-11-19", DAY), archive(box).days(null));
            Clock inGrace = Clock.fixed(Instant.parse("2026-11-21T00:59:59Z"), ZoneOffset.UTC);
            assertEquals(List.of("2026-11-18", "2026-11-19"), new Archive(client(box), box.caravan.config(), inGrace).days(null));
            assertEquals(List.of("2026-11-21"), archive(box).days("2026-11-21"));
            assertThrows(IllegalArgumentException.class, () -> archive(box).days("yesterday"));
        }
    }

    @Test
    void byHandThroughTheRoute() throws Exception {
        try (Box box = new Box(folder, s3.endpoint())) {
            deliver(box, 1, 3, 10, TIME);
            box.caravan.context().createProducerTemplate().sendBodyAndHeader("direct:archive-s3", null, "CaravanDate", DAY);
            assertSeqs(Box.lines(s3, ARCHIVE, "date="), 30);
        }
    }

    @Test
    void largeDaysAreSeveralObjectsInParts() throws Exception {
        try (Box box = new Box(folder, s3.endpoint(), "archive.s3.part.bytes=5242880", "archive.s3.object.bytes=7000000")) {
            deliver(box, 1, 6, 20_000, TIME);
            assertEquals(120_000, archive(box).archive(DAY));
            List<S3Part.Listed> objects = s3.list(ARCHIVE, "date=");
            assertEquals(2, objects.size());
            assertTrue(objects.get(0).etag().endsWith("-2"), "in parts: " + objects);
            assertSeqs(Box.lines(s3, ARCHIVE, "date="), 120_000);
            assertEquals(List.of(), s3.uploads(ARCHIVE));
        }
    }

    /** Each request in turn is the last one of a process: not sent, or sent and its answer not seen. */
    @Test
    void afterACrashAtAnyPointEachRowIsThereOnceAndNothingUnverifiedIsDeleted() throws Exception {
        try (Box box = new Box(folder, s3.endpoint(), "archive.s3.part.bytes=5242880", "archive.s3.object.bytes=6500000", "archive.s3.delete.offload=true")) {
            // Incompressible, so that few rows make parts.
            List<Batch> batches = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                batches.add(Batches.noise("gateway-1", 1 + i * 40L, 40, 80_000, TIME));
            }
            batches.add(Batches.of("gateway-1", 121, 10, TIME));
            Map<String, byte[]> objects = new LinkedHashMap<>();
            batches.forEach(b -> objects.put("date=" + DAY + "/gateway=gateway-1/" + b.key() + ".ndjson.gz", S3Objects.gzip(b.ndjson(), 1)));
            Batch late = Batches.of("gateway-1", 131, 10, TIME);
            int points = 0;
            for (boolean sent : new boolean[] {false, true}) {
                for (int point = 1;; point++) {
                    empty();
                    objects.forEach((key, bytes) -> s3.put(OFFLOAD, key, bytes));
                    boolean crashed = crash(box, point, sent);
                    // What is in the archive and what is left add up at any moment.
                    List<String> both = Box.lines(s3, OFFLOAD, "");
                    both.addAll(Box.lines(s3, ARCHIVE, "date="));
                    assertEquals(130, both.stream().distinct().count(), "after a crash at request " + point + ", sent: " + sent);
                    box.deliver(late);
                    archive(box).archive(DAY);
                    assertSeqs(Box.lines(s3, ARCHIVE, "date="), 140);
                    assertEquals(List.of(), s3.list(OFFLOAD, ""), "all is deleted in the end");
                    if (!crashed) {
                        points += point - 1;
                        break;
                    }
                }
            }
            assertTrue(points > 40, "points of failure tried: " + points);
        }
    }

    @Test
    void aDamagedObjectIsNamedAndKeptAndTheRestIsArchived() throws Exception {
        try (Box box = new Box(folder, s3.endpoint(), "archive.s3.delete.offload=true")) {
            deliver(box, 1, 3, 10, TIME);
            String key = s3.list(OFFLOAD, "").get(1).key();
            s3.put(OFFLOAD, key, S3Objects.gzip("{\"seq\":11}\n".getBytes(StandardCharsets.UTF_8), 1));
            IllegalStateException told = assertThrows(IllegalStateException.class, () -> archive(box).archive(DAY));
            assertTrue(told.getMessage().contains(key), told.getMessage());
            assertEquals(List.of(key), s3.list(OFFLOAD, "").stream().map(S3Part.Listed::key).toList());
            assertEquals(20, Box.lines(s3, ARCHIVE, "date=").size());
        }
    }

    @Test
    void anArchiveThatIsNotWhatWasVerifiedProtectsTheOffload() throws Exception {
        try (Box box = new Box(folder, s3.endpoint())) {
            deliver(box, 1, 3, 10, TIME);
            archive(box).archive(DAY);
            String key = s3.list(ARCHIVE, "date=").get(0).key();
            byte[] bytes = s3.get(ARCHIVE, key).body();
            bytes[bytes.length - 1] ^= 1;
            s3.put(ARCHIVE, key, bytes);
            box.set("archive.s3.delete.offload", "true");
            org.awaitility.Awaitility.await().until(() -> box.caravan.config().getBoolean("archive.s3.delete.offload"));
            archive(box).archive(DAY);
            assertEquals(3, s3.list(OFFLOAD, "").size());
        }
    }

    private static boolean crash(Box box, int point, boolean sent) throws Exception {
        AtomicInteger calls = new AtomicInteger();
        S3Client real = client(box);
        S3Client dying = (S3Client) Proxy.newProxyInstance(S3Client.class.getClassLoader(), new Class<?>[] {S3Client.class}, (self, method, arguments) -> {
            // Paginators call the client they are given, once per page; nothing is sent when they are made.
            if (method.getName().endsWith("Paginator")) {
                return java.lang.reflect.InvocationHandler.invokeDefault(self, method, arguments);
            }
            int call = calls.incrementAndGet();
            if (call > point || call == point && !sent) {
                throw new Crash();
            }
            Object answer;
            try {
                answer = method.invoke(real, arguments);
            } catch (InvocationTargetException e) {
                throw e.getCause();
            }
            if (call == point) {
                throw new Crash();
            }
            return answer;
        });
        try {
            new Archive(dying, box.caravan.config(), LATER).archive(DAY);
            return false;
        } catch (Crash e) {
            return true;
        }
    }

    private static final class Crash extends Error {
        private static final long serialVersionUID = 1L;
    }

    private static Archive archive(Box box) {
        return new Archive(client(box), box.caravan.config(), LATER);
    }

    private static S3Client client(Box box) {
        return box.caravan.context().getRegistry().lookupByNameAndType("s3", S3Client.class);
    }

    private static void deliver(Box box, long first, int batches, int rows, Instant time) throws Exception {
        for (int i = 0; i < batches; i++) {
            box.deliver(Batches.of("gateway-1", first + (long) i * rows, rows, time));
        }
    }

    private static void assertSeqs(List<String> lines, int rows) {
        List<Long> seqs = lines.stream().map(line -> Long.parseLong(line.substring("{\"seq\":".length(), line.indexOf(',')))).sorted().toList();
        assertEquals(LongStream.rangeClosed(1, rows).boxed().toList(), seqs);
    }
}
