// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/**
 * The load generator's record of what was promised to it: one line per acknowledged message, its key. A line starting with
 * {@code #sent device boot seq} says up to where that connection has published; it is in the file before any message of the
 * span it covers is published. Lines are flushed to the operating system every few milliseconds: the file is evidence about
 * a gateway that is killed, not about a generator that is. Thread-safe.
 */
final class AckLog implements AutoCloseable {
    /** Sent marks are written ahead in spans, so that publishing does not wait for the file. */
    static final int SPAN = 1000;

    private final Writer out;
    private final ScheduledExecutorService flusher;
    private IOException failure;

    AckLog(Path file, long flushMs) throws IOException {
        out = Files.newBufferedWriter(file, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        flusher = Executors.newSingleThreadScheduledExecutor(r -> {
            Thread t = new Thread(r, "ack-log");
            t.setDaemon(true);
            return t;
        });
        flusher.scheduleWithFixedDelay(this::flush, flushMs, flushMs, TimeUnit.MILLISECONDS);
    }

    synchronized void acked(String prefix, long deviceSeq) {
        line(prefix + Keys.padded(deviceSeq));
    }

    /** From now on messages up to {@code deviceSeq} may be published. Returns when the line is with the operating system. */
    synchronized void sent(String deviceId, String bootId, long deviceSeq) {
        line("#sent " + deviceId + " " + bootId + " " + deviceSeq);
        flush();
    }

    private void line(String text) {
        try {
            out.write(text);
            out.write('\n');
        } catch (IOException e) {
            failure = e;
        }
    }

    private synchronized void flush() {
        try {
            out.flush();
        } catch (IOException e) {
            failure = e;
        }
    }

    @Override
    public void close() {
        flusher.shutdown();
        synchronized (this) {
            try {
                out.close();
            } catch (IOException e) {
                failure = e;
            }
            if (failure != null) {
                throw new UncheckedIOException("ack log could not be written: it proves nothing", failure);
            }
        }
    }
}
