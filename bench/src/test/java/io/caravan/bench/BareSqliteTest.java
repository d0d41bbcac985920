// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.stream.Stream;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class BareSqliteTest {
    @TempDir Path dir;

    @Test
    void countsWholeGroupsAndLeavesNothingBehind() throws Exception {
        BareSqlite bare = new BareSqlite();
        bare.dir = dir;
        bare.group = 50;
        bare.bytes = 300;
        bare.warmup = Duration.ofMillis(50);
        bare.seconds = Duration.ofMillis(300);
        BareSqlite.Result r = bare.run();
        assertTrue(r.rows() > 0 && r.rows() % 50 == 0, "rows " + r.rows());
        assertEquals(r.rows() / 50, r.commits().getTotalCount());
        assertTrue(r.seconds() >= 0.3 && r.seconds() < 30, "seconds " + r.seconds());
        try (Stream<Path> left = Files.list(dir)) {
            assertEquals(0, left.count());
        }
    }
}
