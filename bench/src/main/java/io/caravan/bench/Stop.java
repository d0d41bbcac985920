// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** SIGTERM and Ctrl-C: tells the command to stop and keeps the JVM until it has said its last line. */
final class Stop {
    private Stop() { }

    /**
     * @param stop called once, on the JVM's shutdown thread
     * @param finished counted down by the command when its result is out
     * @param patience the JVM ends after this time in any case
     */
    static void onSignal(Runnable stop, CountDownLatch finished, Duration patience) {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            if (finished.getCount() == 0) {
                return;
            }
            stop.run();
            try {
                finished.await(patience.toMillis(), TimeUnit.MILLISECONDS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }, "stop"));
    }
}
