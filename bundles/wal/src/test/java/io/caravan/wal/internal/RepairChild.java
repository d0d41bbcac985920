// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.slf4j.LoggerFactory;

/** Opens a store and waits to be killed. Argument: store. Prints {@code opening}, then {@code open}. */
final class RepairChild {
    private RepairChild() {}

    public static void main(String[] args) {
        try {
            System.out.println("opening");
            System.out.flush();
            new Fixture(TestConfig.at(Path.of(args[0])));
            System.out.println("open");
            System.out.flush();
            Object timer = new Object();
            synchronized (timer) {
                timer.wait(TimeUnit.SECONDS.toMillis(30));
            }
        } catch (Throwable e) {
            LoggerFactory.getLogger(RepairChild.class).error("ended", e);
        }
        Runtime.getRuntime().halt(1);
    }
}
