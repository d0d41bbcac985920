// SPDX-License-Identifier: Apache-2.0
package io.caravan.s3.internal;

import io.caravan.parts.S3Part;
import io.caravan.runtime.Caravan;
import io.caravan.s3.S3Module;
import io.caravan.wal.Batch;
import io.caravan.wal.SinkException;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.zip.GZIPInputStream;

/** The bundle and its routes in plain Camel, configured by a file that can be changed; batches come from the test. */
final class Box implements AutoCloseable {
    private static final Path REPO = Path.of(System.getProperty("repo.dir", "../.."));

    final Caravan caravan;
    private final Path cfg;
    private final Map<String, String> keys = new TreeMap<>();

    Box(Path folder, String endpoint, String... settings) throws Exception {
        keys.put("s3.endpoint", endpoint);
        keys.put("s3.access.key", S3Part.ACCESS_KEY);
        keys.put("s3.secret.key", S3Part.SECRET_KEY);
        for (String setting : settings) {
            keys.put(setting.substring(0, setting.indexOf('=')), setting.substring(setting.indexOf('=') + 1));
        }
        cfg = Files.createDirectories(folder.resolve("etc"));
        write();
        // Without the template's use: its part is the log's, and tested there and in SinkS3IT.
        String text = Files.readString(REPO.resolve("routes/gateway/sink-s3.camel.yaml"));
        Path deliver = folder.resolve("deliver-s3.camel.yaml");
        Files.writeString(deliver, text.substring(text.indexOf("- route:")));
        caravan = Caravan.builder().keys(REPO.resolve("config/gateway/keys")).cfg(cfg).home(folder).set("http.port", "0")
                .withoutDiscovery().module("s3", new S3Module())
                .routes(deliver, REPO.resolve("routes/gateway/archive-s3.camel.yaml")).start();
        if (!caravan.ready()) {
            caravan.close();
            throw new AssertionError(caravan.checks().toString());
        }
    }

    /** Changes a key; takes effect when the container sees the file. */
    void set(String key, String value) {
        keys.put(key, value);
        write();
    }

    /** @throws SinkException as the sink would get it */
    void deliver(Batch batch) throws Exception {
        Map<String, Object> headers = new HashMap<>();
        headers.put("CaravanBatchKey", batch.key());
        headers.put("CaravanBatchDate", batch.date());
        headers.put("CaravanBatchPlace", "gateway=" + keys.getOrDefault("gateway.id", "gateway-1") + "/");
        Exception failed = caravan.context().createProducerTemplate().send("direct:deliver-s3", exchange -> {
            exchange.getMessage().setBody(batch);
            exchange.getMessage().setHeaders(headers);
        }).getException();
        if (failed != null) {
            throw failed;
        }
    }

    /** @return all lines of all objects below a prefix, in the order of keys */
    static List<String> lines(S3Part s3, String bucket, String prefix) {
        List<String> lines = new ArrayList<>();
        for (S3Part.Listed object : s3.list(bucket, prefix)) {
            try (GZIPInputStream in = new GZIPInputStream(new ByteArrayInputStream(s3.get(bucket, object.key()).body()))) {
                lines.addAll(new String(in.readAllBytes(), StandardCharsets.UTF_8).lines().toList());
            } catch (IOException e) {
                throw new UncheckedIOException(object.key(), e);
            }
        }
        return lines;
    }

    @Override
    public void close() {
        caravan.close();
    }

    private void write() {
        try {
            for (String pid : List.of("s3", "sink.s3", "archive.s3", "uplink")) {
                StringBuilder text = new StringBuilder();
                keys.forEach((key, value) -> {
                    String owner = key.startsWith("gateway.") ? "uplink" : key.startsWith("s3.") ? "s3" : key.substring(0, key.indexOf(".s3") + 3);
                    if (owner.equals(pid)) {
                        text.append(key).append(" = ").append(value).append('\n');
                    }
                });
                Path next = cfg.resolve("next");
                Files.writeString(next, text);
                Files.move(next, cfg.resolve("io.caravan." + pid + ".cfg"), java.nio.file.StandardCopyOption.ATOMIC_MOVE);
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
