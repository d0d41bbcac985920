// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;

import com.fasterxml.jackson.databind.ObjectMapper;
import org.HdrHistogram.Histogram;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** The floor of latency: append one page and fdatasync, one at a time. No durable acknowledgement can come sooner. */
@Command(name = "bare-fsync", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Baseline: time of one append of 4 KiB with fdatasync.")
final class BareFsync implements Callable<Integer> {
    @Option(names = "--dir", required = true, description = "folder on the disk to measure; its file is deleted afterwards")
    Path dir;

    @Option(names = "--seconds", defaultValue = "10s", description = "measure this long (${DEFAULT-VALUE})")
    Duration seconds;

    @Override
    public Integer call() throws Exception {
        Files.createDirectories(dir);
        Path file = Files.createTempFile(dir, "bare-fsync", ".dat");
        Histogram h = new Histogram(TimeUnit.MINUTES.toNanos(1), 3);
        try (FileChannel out = FileChannel.open(file, StandardOpenOption.WRITE)) {
            ByteBuffer page = ByteBuffer.allocateDirect(4096);
            long end = System.nanoTime() + seconds.toNanos();
            for (long now = System.nanoTime(); now < end;) {
                page.clear();
                out.write(page);
                out.force(/* metaData= */ false);
                long done = System.nanoTime();
                h.recordValue(done - now);
                now = done;
            }
        } finally {
            Files.delete(file);
        }
        var out = new ObjectMapper().createObjectNode();
        out.put("syncs", h.getTotalCount()).put("rate", Math.round(h.getTotalCount() / (seconds.toNanos() / 1e9)));
        out.put("p50_ms", h.getValueAtPercentile(50) / 1e6).put("p90_ms", h.getValueAtPercentile(90) / 1e6);
        out.put("p99_ms", h.getValueAtPercentile(99) / 1e6).put("max_ms", h.getMaxValue() / 1e6);
        System.out.println(out);
        return 0;
    }
}
