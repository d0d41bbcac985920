// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Record;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.LongAdder;
import org.apache.camel.AsyncProcessor;
import org.apache.camel.Exchange;
import org.apache.camel.Producer;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.support.DefaultExchange;
import org.sqlite.SQLiteConnection;

/**
 * How many rows per second the real schema takes: by JDBC alone, in groups of a given size, and through the log with a
 * number of messages under way, directly and as a route's bean. Arguments: directory, "keys" for messages that the
 * device does not number. Prints; asserts nothing.
 */
public final class WalBench {
    private static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();
    private static final byte[] BODY = new byte[300];

    private WalBench() {}

    public static void main(String[] args) throws Exception {
        new Random(1).nextBytes(BODY);
        Path directory = Files.createDirectories(Path.of(args.length > 0 ? args[0] : "target/bench"));
        boolean numbered = args.length < 2 || !"keys".equals(args[1]);
        jdbc(directory, 1000, 300_000, numbered); // JIT
        for (int size : new int[] {1, 10, 100, 1000}) {
            jdbc(directory, size, size == 1 ? 5_000 : size == 10 ? 40_000 : 300_000, numbered);
        }
        for (boolean route : new boolean[] {false, true}) {
            for (int window : new int[] {1, 10, 100, 1000, 10_000}) {
                log(directory, window, window == 1 ? 3_000 : window == 10 ? 20_000 : window == 100 ? 100_000 : 400_000, numbered, route);
            }
        }
    }

    private static Record record(long i, boolean numbered) {
        String device = "stm32-" + i % 50;
        String digits = String.format("%012d", i);
        return new Record(numbered ? Record.numberedKey(device, "b7", i / 50 + 1) : device + "/k/" + digits, "01931234-0000-7000-8000-" + digits,
                device, "telemetry", "live", numbered ? "b7" : null, numbered ? i / 50 + 1 : 0, 1L << 40, 1L << 40, i, 1, "application/json", null, BODY);
    }

    private static Path fresh(Path directory) throws Exception {
        Path file = directory.resolve("bench.db");
        for (String suffix : new String[] {"", "-wal", "-shm", ".lock"}) {
            Files.deleteIfExists(directory.resolve("bench.db" + suffix));
        }
        return file;
    }

    private static void jdbc(Path directory, int size, int rows, boolean numbered) throws Exception {
        try (Database database = Database.open(Schema.GATEWAY, TestConfig.at(fresh(directory)))) {
            LogWriter log = new LogWriter(true);
            long begun = System.nanoTime();
            long cpu = THREADS.getCurrentThreadCpuTime();
            long user = THREADS.getCurrentThreadUserTime();
            long commit = 0;
            List<Pending> group = new ArrayList<>();
            for (long i = 0; i < rows; ) {
                group.clear();
                for (int n = 0; n < size; n++) {
                    group.add(new Pending(record(i++, numbered), null, null, "mqtt-server", "t"));
                }
                Connection pooled = database.borrow();
                Connection connection = pooled.unwrap(SQLiteConnection.class);
                connection.setAutoCommit(false);
                log.write(connection, group, false);
                long before = System.nanoTime();
                connection.setAutoCommit(true);
                commit += System.nanoTime() - before;
                pooled.close();
                log.committed();
                log.reset();
            }
            long took = System.nanoTime() - begun;
            cpu = THREADS.getCurrentThreadCpuTime() - cpu;
            user = THREADS.getCurrentThreadUserTime() - user;
            System.out.printf("jdbc group %5d: %8.0f rows/s, %4.1f us CPU per row (%4.1f user), %3d %% of the time in COMMIT%n", size,
                    rows / (took / 1e9), cpu / 1e3 / rows, user / 1e3 / rows, 100 * commit / took);
        }
    }

    private static void log(Path directory, int window, int rows, boolean numbered, boolean route) throws Exception {
        try (Fixture fixture = new Fixture(TestConfig.at(fresh(directory)))) {
            fixture.context.addRoutes(new RouteBuilder() {
                @Override
                public void configure() {
                    from("direct:append").errorHandler(noErrorHandler()).bean("ref:wal", "append");
                }
            });
            AsyncProcessor append = fixture.context.getEndpoint("direct:append").createAsyncProducer();
            ((Producer) append).start();
            Semaphore permits = new Semaphore(window);
            CountDownLatch all = new CountDownLatch(rows);
            LongAdder latency = new LongAdder();
            long begun = System.nanoTime();
            long main = THREADS.getCurrentThreadCpuTime();
            long walMax = 0;
            for (int i = 0; i < rows; i++) {
                permits.acquire();
                Record record = record(i, numbered);
                long at = System.nanoTime();
                Runnable done = () -> {
                    latency.add(System.nanoTime() - at);
                    permits.release();
                    all.countDown();
                };
                if (route) {
                    Exchange exchange = new DefaultExchange(fixture.context);
                    exchange.setVariable("record", record);
                    append.process(exchange, doneSync -> done.run());
                } else {
                    fixture.wal.submit(record, "mqtt-server", "t").whenComplete((result, error) -> done.run());
                }
                if ((i & 0xfff) == 0) {
                    walMax = Math.max(walMax, Database.size(directory.resolve("bench.db-wal")));
                }
            }
            all.await(120, TimeUnit.SECONDS);
            long took = System.nanoTime() - begun;
            StringBuilder cpu = new StringBuilder();
            for (long id : THREADS.getAllThreadIds()) {
                var info = THREADS.getThreadInfo(id);
                if (info != null && (info.getThreadName().startsWith("caravan-wal") || info.getThreadName().equals("main"))) {
                    cpu.append(String.format(", %s %d ms", info.getThreadName(), 
                            (THREADS.getThreadCpuTime(id) - (id == Thread.currentThread().getId() ? main : 0)) / 1_000_000));
                }
            }
            System.out.printf((route ? "route" : "log  ") + " window %5d: %8.0f rows/s, mean ack %6.2f ms, -wal at most %d MiB; CPU%s%n", window, rows / (took / 1e9),
                    latency.sum() / 1e6 / rows, walMax >> 20, cpu);
        }
    }
}
