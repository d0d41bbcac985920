// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.io.IOException;
import java.io.BufferedOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * The application behind a broker: its session is made before the load, so that the broker owes it every message, and takes up again after the
 * broker was killed. What it then gets is what a broker's acknowledgements were worth.
 */
@Command(name = "consume", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Durable subscriber of a broker: makes its session and goes, or writes what comes until nothing more does.")
final class Consume implements Callable<Integer> {
    @Mixin MqttOptions mqtt;

    @Option(names = "--client", defaultValue = "bench-consumer", description = "client id of the session (${DEFAULT-VALUE})")
    String client;

    @Option(names = "--filter", defaultValue = "devices/+/telemetry", description = "topic filter (${DEFAULT-VALUE})")
    String filter;

    @Option(names = "--to", paramLabel = "FILE", description = "write each body as a line; without it the session is only made")
    Path to;

    @Option(names = "--idle", defaultValue = "3s", description = "ends when nothing came for so long (${DEFAULT-VALUE})")
    Duration idle;

    private final AtomicLong received = new AtomicLong();
    private volatile long last = System.nanoTime();

    @Override
    public Integer call() throws Exception {
        try (OutputStream out = to == null ? OutputStream.nullOutputStream() : new BufferedOutputStream(Files.newOutputStream(to), 1 << 16)) {
            MqttLink link = MqttLink.subscriber(mqtt, client, filter, body -> write(out, body));
            last = System.nanoTime();
            while (to != null && System.nanoTime() - last < idle.toNanos()) {
                LockSupport.parkNanos(10_000_000);
            }
            link.disconnect();
            synchronized (this) {
                out.flush();
            }
        }
        System.out.println(new ObjectMapper().createObjectNode().put("received", received.get()));
        return 0;
    }

    private synchronized void write(OutputStream out, byte[] body) {
        try {
            out.write(body);
            out.write('\n');
        } catch (IOException e) {
            throw new UncheckedIOException("[" + to + "] could not be written", e);
        }
        received.incrementAndGet();
        last = System.nanoTime();
    }
}
