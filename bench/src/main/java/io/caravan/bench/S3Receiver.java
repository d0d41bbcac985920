// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.zip.Deflater;
import java.util.zip.GZIPInputStream;
import java.util.zip.GZIPOutputStream;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.parts.S3Part;

/** An S3 server with a bucket. */
final class S3Receiver implements Receiver {
    private static final String BUCKET = "telemetry-offload";
    private static final String BARE = "bare";
    /** Rows of an object, as sink-s3 has them. */
    private static final int OBJECT_ROWS = 20_000;
    private static final int IN_MEMORY = 100_000;

    private final S3Part s3;
    private boolean dead;

    S3Receiver(Path dir) {
        s3 = new S3Part.Builder().folder(dir).start();
        s3.createBucket(BUCKET);
    }

    @Override
    public ObjectNode address() {
        return new ObjectMapper().createObjectNode().put("endpoint", s3.endpoint()).put("bucket", BUCKET)
                .put("access_key", S3Part.ACCESS_KEY).put("secret_key", S3Part.SECRET_KEY).put("pid", s3.pid());
    }

    @Override
    public void trouble(Trouble trouble) {
        switch (trouble) {
            case NONE -> {
                if (dead) {
                    s3.restart();
                } else {
                    s3.resume();
                }
            }
            case HANG -> s3.pause();
            case DEAD -> s3.kill();
            default -> throw new IllegalArgumentException("s3 cannot be told [" + trouble + "]");
        }
        dead = trouble == Trouble.DEAD;
    }

    /** Objects of as many rows as the sink's, packed before: only requests and the server are measured. {@code gzip_rate} is packing alone. */
    @Override
    public ObjectNode bare(Path db, int rows) throws Exception {
        List<SinkLine> lines = SinkLine.first(db, Math.min(rows, IN_MEMORY));
        int objectRows = Math.min(OBJECT_ROWS, lines.size());
        pack(lines.subList(0, objectRows));
        long begun = System.nanoTime();
        List<byte[]> objects = new ArrayList<>();
        for (int from = 0; from + objectRows <= lines.size(); from += objectRows) {
            objects.add(pack(lines.subList(from, from + objectRows)));
        }
        double gzipSeconds = (System.nanoTime() - begun) / 1e9;
        s3.createBucket(BARE);
        for (int i = 0; i < objects.size(); i++) {
            s3.put(BARE, "warm-" + i, objects.get(i));
        }
        long sent = 0;
        long bytes = 0;
        begun = System.nanoTime();
        for (int i = 0; sent < rows; i++) {
            byte[] object = objects.get(i % objects.size());
            s3.put(BARE, "object-" + i, object);
            sent += objectRows;
            bytes += object.length;
        }
        double seconds = (System.nanoTime() - begun) / 1e9;
        s3.list(BARE, "").forEach(object -> s3.delete(BARE, object.key()));
        s3.deleteBucket(BARE);
        return new ObjectMapper().createObjectNode().put("rows", sent).put("seconds", seconds).put("rate", Math.round(sent / seconds))
                .put("object_rows", objectRows).put("object_bytes", bytes * objectRows / sent)
                .put("gzip_rate", Math.round(objects.size() * objectRows / gzipSeconds));
    }

    private static byte[] pack(List<SinkLine> lines) throws Exception {
        ByteArrayOutputStream packed = new ByteArrayOutputStream();
        try (OutputStream gzip = new GZIPOutputStream(packed, 65_536) { {
                def.setLevel(Deflater.BEST_SPEED);
            } }) {
            for (SinkLine line : lines) {
                gzip.write(line.json());
                gzip.write('\n');
            }
        }
        return packed.toByteArray();
    }

    @Override
    public void keys(Consumer<String> each) throws Exception {
        for (S3Part.Listed object : s3.list(BUCKET, "")) {
            try (BufferedReader lines = new BufferedReader(new InputStreamReader(
                    new GZIPInputStream(new ByteArrayInputStream(s3.get(BUCKET, object.key()).body())), StandardCharsets.UTF_8))) {
                for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                    each.accept(SinkLine.messageKey(line));
                }
            }
        }
    }

    @Override
    public void close() {
        s3.close();
    }
}
