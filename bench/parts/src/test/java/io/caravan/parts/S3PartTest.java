// SPDX-License-Identifier: Apache-2.0
package io.caravan.parts;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class S3PartTest {
    private static final Duration LIMIT = Duration.ofSeconds(30);

    @Test
    void keepsObjectsAcrossAKillAndRefusesWhatS3Refuses() {
        try (S3Part s3 = S3Part.start()) {
            byte[] body = "hello".getBytes(StandardCharsets.UTF_8);
            assertEquals(404, s3.request("PUT", "/nowhere/a", Map.of(), Map.of(), body, LIMIT).status());
            s3.createBucket("bucket");
            assertEquals(200, s3.request("PUT", "/bucket/date=2026-11-21/a~b c.gz", Map.of(), Map.of("if-none-match", "*", "x-amz-meta-rows", "7"), body, LIMIT).status());
            assertEquals(412, s3.request("PUT", "/bucket/date=2026-11-21/a~b c.gz", Map.of(), Map.of("if-none-match", "*"), body, LIMIT).status());
            s3.kill();
            assertThrows(UncheckedIOException.class, () -> s3.list("bucket", ""));
            s3.restart();
            List<S3Part.Listed> listed = s3.list("bucket", "date=");
            assertEquals(List.of("date=2026-11-21/a~b c.gz"), listed.stream().map(S3Part.Listed::key).toList());
            S3Part.Answer answer = s3.get("bucket", listed.get(0).key());
            assertEquals("hello", answer.text());
            assertEquals("7", answer.header("x-amz-meta-rows"));
            s3.pause();
            assertThrows(UncheckedIOException.class, () -> s3.request("GET", "/", Map.of(), Map.of(), new byte[0], Duration.ofSeconds(1)));
            s3.resume();
            s3.delete("bucket", listed.get(0).key());
            assertEquals(List.of(), s3.list("bucket", ""));
            assertEquals(List.of(), s3.uploads("bucket"));
            assertEquals(404, s3.get("bucket", "gone").status());
            assertNull(s3.get("bucket", "gone").header("x-amz-meta-rows"));
        }
    }
}
