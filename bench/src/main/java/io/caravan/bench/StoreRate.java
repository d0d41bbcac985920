// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.concurrent.Callable;
import java.util.concurrent.locks.LockSupport;

import com.fasterxml.jackson.databind.ObjectMapper;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Rows per second that reach the gateway's log, read from the log itself: the only honest rate when a broker in between
 * acknowledges whether or not anything was stored.
 */
@Command(name = "store-rate", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Rows per second that a gateway stores, read from its database.")
final class StoreRate implements Callable<Integer> {
    @Option(names = "--db", required = true, description = "the gateway's database")
    Path db;

    @Option(names = "--warmup", defaultValue = "0s", description = "wait before measuring (${DEFAULT-VALUE})")
    Duration warmup;

    @Option(names = "--seconds", defaultValue = "60s", description = "measure this long (${DEFAULT-VALUE})")
    Duration seconds;

    @Override
    public Integer call() throws Exception {
        try (Connection c = Databases.readOnly(db)) {
            pause(warmup);
            long t0 = System.nanoTime();
            long first = last(c);
            pause(seconds);
            long rows = last(c) - first;
            double s = (System.nanoTime() - t0) / 1e9;
            System.out.println(new ObjectMapper().createObjectNode().put("rows", rows).put("seconds", s).put("rate", Math.round(rows / s)));
        }
        return 0;
    }

    private static void pause(Duration d) {
        for (long end = System.nanoTime() + d.toNanos(), left; (left = end - System.nanoTime()) > 0;) {
            LockSupport.parkNanos(left);
        }
    }

    private static long last(Connection c) throws SQLException {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT coalesce(max(seq), 0) FROM wal")) {
            return r.getLong(1);
        }
    }
}
