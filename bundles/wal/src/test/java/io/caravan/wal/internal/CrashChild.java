// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Record;
import java.io.OutputStream;
import java.nio.file.Path;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.slf4j.LoggerFactory;

/**
 * Appends for a minute and prints the number of each acknowledged message; to be killed. Arguments: store, first number,
 * wal.unsafe.ack.
 */
final class CrashChild {
    private static final int WINDOW = 500;
    private static final int DEVICES = 3;

    private CrashChild() {}

    public static void main(String[] args) {
        try {
            run(args);
        } catch (Throwable e) {
            LoggerFactory.getLogger(CrashChild.class).error("ended", e);
            Runtime.getRuntime().halt(1);
        }
    }

    static Record record(long i) {
        return Fixture.numbered("d" + i % DEVICES, "b", i / DEVICES + 1, "{\"n\":" + i + ",\"pad\":\"" + "x".repeat((int) (i % 700)) + "\"}");
    }

    private static void run(String[] args) throws Exception {
        Fixture fixture = new Fixture(TestConfig.at(Path.of(args[0])).with("wal.unsafe.ack", args[2]));
        OutputStream out = new java.io.FileOutputStream(java.io.FileDescriptor.out); // unbuffered: a line is out when written
        Semaphore window = new Semaphore(WINDOW);
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60); // a child nobody killed must not fill the disk
        for (long i = Long.parseLong(args[1]); System.nanoTime() < end; i++) {
            window.acquire();
            long number = i;
            fixture.wal.submit(record(i), "mqtt-server", "t").whenComplete((result, error) -> {
                try {
                    out.write((number + " " + (error == null ? result.outcome() : error) + "\n").getBytes(java.nio.charset.StandardCharsets.US_ASCII));
                } catch (java.io.IOException e) {
                    Runtime.getRuntime().halt(2);
                }
                window.release();
            });
        }
        Runtime.getRuntime().halt(3);
    }
}
