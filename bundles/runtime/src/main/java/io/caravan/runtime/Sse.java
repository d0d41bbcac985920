// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import java.nio.charset.StandardCharsets;

/**
 * A client that follows with Server-Sent Events. It is given a piece when it has read the one before. Thread-safe; no method
 * blocks.
 */
public final class Sse implements HttpFeed {
    /** What a client does when the connection ends: wait so long, connect again with Last-Event-ID. */
    private static final byte[] HELLO = "retry: 2000\n: caravan\n\n".getBytes(StandardCharsets.UTF_8);
    private static final byte[] HEARTBEAT = ":\n\n".getBytes(StandardCharsets.UTF_8);

    private final Runnable wake;
    private volatile HttpStream stream;
    private volatile boolean closed;

    /** @param wake called when it takes more, or has ended, on an event loop: must not block */
    public Sse(Runnable wake) {
        this.wake = wake;
    }

    @Override
    public void open(HttpStream to) {
        to.onClose(() -> {
            closed = true;
            wake.run();
        });
        to.onReady(wake);
        to.write(HELLO);
        stream = to;
        if (closed) {
            to.close();
        }
        wake.run();
    }

    /** @return whether it has read all that was written, and is there */
    public boolean isReady() {
        HttpStream to = stream;
        return !closed && to != null && to.isReady();
    }

    /** @param events in the format of Server-Sent Events; to be called when {@link #isReady} */
    public void write(byte[] events) {
        stream.write(events);
    }

    /** Says that all is well, so that a client that is gone is noticed. To be called when {@link #isReady}. */
    public void heartbeat() {
        stream.write(HEARTBEAT);
    }

    public boolean isClosed() {
        return closed;
    }

    /** Ends the answer; the client connects again. */
    public void end() {
        closed = true;
        HttpStream to = stream;
        if (to != null) {
            to.close();
        }
    }
}
