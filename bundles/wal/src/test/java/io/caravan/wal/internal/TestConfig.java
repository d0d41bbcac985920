// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Config;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;

/** The defaults of this module's keys and what a test says otherwise. */
final class TestConfig implements Config {
    private final Map<String, String> values = new HashMap<>(Map.ofEntries(
            Map.entry("container.role", "gateway"),
            Map.entry("store.type", "sqlite"),
            Map.entry("wal.synchronous", "full"),
            Map.entry("wal.commit.max", "1000"),
            Map.entry("wal.commit.max.bytes", "4194304"),
            Map.entry("wal.commit.gather.ms", "4"),
            Map.entry("wal.queue.max", "20000"),
            Map.entry("wal.queue.max.bytes", "33554432"),
            Map.entry("wal.checkpoint.bytes", "16777216"),
            Map.entry("wal.unsafe.ack", "after-commit"),
            Map.entry("wal.unsafe.dedupe", "on"),
            Map.entry("wal.max.bytes", "0"),
            Map.entry("wal.ready.after.ms", "30000"),
            Map.entry("sink.ready.after.ms", "900000"),
            Map.entry("wal.degraded.percent", "80"),
            Map.entry("wal.min.free.bytes", "0"),
            Map.entry("wal.ballast.bytes", "0"),
            Map.entry("wal.retention.min.ms", "0"),
            Map.entry("wal.retention.ms", "604800000"),
            Map.entry("wal.retention.bytes", "1073741824"),
            Map.entry("wal.dedupe.ms", "604800000"),
            Map.entry("ingest.dedupe.window.ms", "60000"),
            Map.entry("wal.progress.retention.ms", "7776000000"),
            Map.entry("dead.retention.ms", "2592000000"),
            Map.entry("rejected.retention.ms", "2592000000"),
            Map.entry("rejected.retention.bytes", "67108864"),
            Map.entry("rollup.retention.ms", "604800000"),
            Map.entry("receipt.interval.ms", "50")));

    static TestConfig at(Path file) {
        return new TestConfig().with("wal.path", file.toString()).with("store.path", file.toString());
    }

    TestConfig with(String key, String value) {
        values.put(key, value);
        return this;
    }

    @Override
    public String get(String key) {
        String value = values.get(key);
        if (value == null) {
            throw new IllegalArgumentException("key [" + key + "] is not declared");
        }
        return value;
    }

    @Override
    public long getLong(String key) {
        return Long.parseLong(get(key));
    }

    @Override
    public boolean getBoolean(String key) {
        return Boolean.parseBoolean(get(key));
    }

    @Override
    public Path getPath(String key) {
        return Path.of(get(key));
    }

    @Override
    public List<String> getList(String key) {
        return List.of(get(key).split(","));
    }

    @Override
    public AutoCloseable onChange(Consumer<Set<String>> listener) {
        return () -> { };
    }
}
