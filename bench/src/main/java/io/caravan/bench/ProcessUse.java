// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * What a process has used so far, from /proc.
 *
 * @param rssKb         resident now
 * @param cpuMs         user and system
 * @param writtenBytes  sent to the disk, or to be sent: counted when a page is dirtied
 * @param cancelledBytes of those, never sent because the file was truncated before
 */
record ProcessUse(long rssKb, long cpuMs, long writtenBytes, long cancelledBytes) {
    private static final long TICK_MS = 10; // USER_HZ is 100 on every Linux that Java runs on

    static ProcessUse of(long pid) throws IOException {
        Path proc = Path.of("/proc", Long.toString(pid));
        String stat = Files.readString(proc.resolve("stat"));
        String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
        return new ProcessUse(field(proc.resolve("status"), "VmRSS:"), (Long.parseLong(fields[11]) + Long.parseLong(fields[12])) * TICK_MS,
                field(proc.resolve("io"), "write_bytes:"), field(proc.resolve("io"), "cancelled_write_bytes:"));
    }

    private static long field(Path file, String name) throws IOException {
        for (String line : Files.readAllLines(file)) {
            if (line.startsWith(name)) {
                return Long.parseLong(line.substring(name.length()).trim().split("\\s+")[0]);
            }
        }
        throw new IOException("[" + file + "] has no line " + name);
    }
}
