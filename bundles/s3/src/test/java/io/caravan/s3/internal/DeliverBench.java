// SPDX-License-Identifier: Apache-2.0
package io.caravan.s3.internal;

import io.caravan.parts.S3Part;
import io.caravan.wal.Batch;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;

/**
 * Rows per second of {@code deliver-s3} with batches that are ready, one after the other, as the sink gives them, server on
 * the same machine. Not a test: run it by hand, with the gateway's JVM flags.
 * Arguments: rows per batch, then {@code key=value}.
 */
final class DeliverBench {
    private static final int ROWS = 400_000;
    private static final int ROUNDS = 3;

    private DeliverBench() {
    }

    public static void main(String[] arguments) throws Exception {
        int size = Integer.parseInt(arguments[0]);
        String[] settings = java.util.Arrays.copyOfRange(arguments, 1, arguments.length);
        Path folder = Files.createTempDirectory("deliver-bench");
        try (S3Part s3 = S3Part.start(); Box box = new Box(folder, s3.endpoint(), settings)) {
            s3.createBucket("telemetry-offload");
            long seq = 1;
            for (int round = 1; round <= ROUNDS; round++) {
                long nanos = 0;
                for (int i = 0; i < ROWS / size; i++) {
                    Batch batch = Batches.of("gateway-1", seq, size, Instant.parse("2026-11-20T10:00:00Z"));
                    seq += size;
                    long begin = System.nanoTime();
                    box.deliver(batch);
                    nanos += System.nanoTime() - begin;
                }
                System.out.printf("round %d: %.2f us per row, %,.0f rows/s (NDJSON, key, gzip, PUT)%n", round, nanos / 1e3 / ROWS, ROWS * 1e9 / nanos);
            }
        }
    }
}
