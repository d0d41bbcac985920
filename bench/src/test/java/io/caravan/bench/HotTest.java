// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import jdk.jfr.Recording;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class HotTest {
    @TempDir Path dir;

    private double burnt;

    private void burn(long until) {
        while (System.nanoTime() < until) {
            for (int i = 0; i < 1000; i++) {
                burnt += Math.sqrt(burnt + i);
            }
        }
    }

    private Path record() throws IOException {
        Path file = dir.resolve("hot.jfr");
        try (Recording recording = new Recording()) {
            recording.enable("jdk.ExecutionSample").withPeriod(Duration.ofMillis(10));
            recording.start();
            burn(System.nanoTime() + Duration.ofSeconds(1).toNanos());
            recording.stop();
            recording.dump(file);
        }
        assertTrue(burnt > 0);
        return file;
    }

    @Test
    void namesTheMethodThatBurns() throws Exception {
        long from = System.currentTimeMillis();
        Hot hot = new Hot();
        hot.jfr = record();
        hot.toMs = Long.MAX_VALUE;
        hot.top = 25;
        hot.read();
        ByteArrayOutputStream text = new ByteArrayOutputStream();
        hot.print(new PrintStream(text, true, StandardCharsets.UTF_8));
        assertTrue(text.toString(StandardCharsets.UTF_8).contains("io.caravan.bench.HotTest.burn"), text::toString);
        Hot early = new Hot();
        early.jfr = hot.jfr;
        early.toMs = from - 60_000;
        // What has no samples is no profile.
        assertThrows(IOException.class, early::read);
    }

    @Test
    void librariesAreTheirPackages() {
        assertEquals("java", Hot.library("java.util.HashMap.get"));
        assertEquals("org.apache.camel", Hot.library("org.apache.camel.processor.Pipeline.process"));
        assertEquals("io.caravan.wal", Hot.library("io.caravan.wal.internal.GroupCommit.run"));
        assertEquals("io.netty", Hot.library("io.netty.channel.nio.NioEventLoop.run"));
        assertEquals("Main", Hot.library("Main.main"));
    }
}
