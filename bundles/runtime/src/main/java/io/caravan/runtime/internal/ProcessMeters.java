// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.micrometer.core.instrument.FunctionCounter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What Linux counts of this process and Micrometer's binders leave out: resident memory and what went to and from disks. Thread-safe. */
final class ProcessMeters {

    private static final Logger LOG = LoggerFactory.getLogger(ProcessMeters.class);

    private final Path status;
    private final Path io;
    private volatile Map<String, Long> values = Map.of();

    ProcessMeters() {
        this(Path.of("/proc/self"));
    }

    ProcessMeters(Path proc) {
        status = proc.resolve("status");
        io = proc.resolve("io");
    }

    /** Without a file there is no meter: 0 would be a lie. */
    void bindTo(MeterRegistry registry) {
        look();
        if (values.containsKey("VmRSS")) {
            Gauge.builder("caravan.process.resident.bytes", () -> values.getOrDefault("VmRSS", 0L)).description("Resident memory").register(registry);
        }
        if (values.containsKey("read_bytes")) {
            String bytes = "What the process had read from and written to disks";
            counter(registry, "caravan.process.io.bytes", bytes, "read", "read_bytes");
            counter(registry, "caravan.process.io.bytes", bytes, "write", "write_bytes");
            String calls = "Read and write calls of the process, sockets included";
            counter(registry, "caravan.process.io.calls", calls, "read", "syscr");
            counter(registry, "caravan.process.io.calls", calls, "write", "syscw");
        } else {
            LOG.info("[{}] cannot be read: there are no metrics of disk I/O", io);
        }
    }

    private void counter(MeterRegistry registry, String name, String about, String direction, String key) {
        FunctionCounter.builder(name, this, self -> self.values.getOrDefault(key, 0L)).description(about).tag("direction", direction).register(registry);
    }

    /** @param data need not be there yet: its nearest parent that is */
    static void disk(MeterRegistry registry, Path data) {
        File folder = data.toAbsolutePath().toFile();
        while (!folder.exists() && folder.getParentFile() != null) {
            folder = folder.getParentFile();
        }
        File disk = folder;
        Gauge.builder("caravan.disk.free.bytes", disk::getUsableSpace).description("Free space on the disk of the data folder").register(registry);
        Gauge.builder("caravan.disk.size.bytes", disk::getTotalSpace).description("Size of the disk of the data folder").register(registry);
    }

    /** Reads them anew, for all meters of a scrape at once. */
    void look() {
        Map<String, Long> found = new HashMap<>();
        read(status, found);
        read(io, found);
        values = found;
    }

    private static void read(Path file, Map<String, Long> into) {
        try {
            for (String line : Files.readAllLines(file)) {
                String[] words = line.split("[:\\s]+");
                if (words.length >= 2 && words[1].matches("\\d{1,18}")) {
                    into.put(words[0], Long.parseLong(words[1]) * (words.length > 2 && words[2].equals("kB") ? 1_024 : 1));
                }
            }
        } catch (IOException | RuntimeException e) {
            LOG.debug("[{}] cannot be read: {}", file, e.toString());
        }
    }
}
