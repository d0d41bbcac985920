// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.AppendResult;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * A gateway of its own on a disk that breaks: appends as many messages as the last line of its input says, says
 * "acked N" after each acknowledgement, and answers each line, empty ones too, with the state and the reason.
 */
final class DiskChild {
    private static int most; // guarded by the class

    private DiskChild() {}

    public static void main(String[] args) throws Exception {
        Fixture fixture = new Fixture(TestConfig.at(Path.of(args[0])).with("wal.max.bytes", "1073741824"));
        Thread device = new Thread(() -> {
            try {
                for (int i = 1;; i++) {
                    synchronized (DiskChild.class) {
                        while (i > most) {
                            DiskChild.class.wait();
                        }
                    }
                    CompletableFuture<AppendResult> stage = fixture.wal.submit(Fixture.numbered("d1", "b1", i, "{\"i\":" + i + ",\"pad\":\"" + "x".repeat(2_000) + "\"}"),
                            "mqtt-server", "t").toCompletableFuture();
                    while (!stage.isDone()) {
                        try {
                            stage.get(1, TimeUnit.SECONDS);
                        } catch (TimeoutException e) {
                            continue;
                        }
                    }
                    System.out.println("acked " + i);
                }
            } catch (Exception e) {
                System.out.println("failed " + e);
            }
        });
        device.setDaemon(true);
        device.start();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null; ) {
            if (!line.isEmpty()) {
                synchronized (DiskChild.class) {
                    most = Integer.parseInt(line);
                    DiskChild.class.notifyAll();
                }
            }
            System.out.println("state " + fixture.wal.state() + " " + fixture.wal.reason());
        }
        fixture.close();
        System.out.println("closed");
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }
}
