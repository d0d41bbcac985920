// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.Comparator;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

import com.fasterxml.jackson.databind.ObjectMapper;
import org.HdrHistogram.Histogram;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * The ceiling of ingest: how many rows like the gateway's this disk and JVM commit durably with nothing in front. Same file
 * mode (WAL, synchronous=FULL), same columns and unique key as the gateway's table, one index more for what the gateway
 * does beside the insert; groups of a fixed size, one connection.
 */
@Command(name = "bare-sqlite", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Baseline: durable group commits per second of plain JDBC and SQLite.")
final class BareSqlite implements Callable<Integer> {
    @Option(names = "--dir", required = true, description = "folder on the disk to measure; its database is deleted afterwards")
    Path dir;

    @Option(names = "--group", defaultValue = "200", description = "rows per commit (${DEFAULT-VALUE})")
    int group;

    @Option(names = "--seconds", defaultValue = "15s", description = "measure this long (${DEFAULT-VALUE})")
    Duration seconds;

    @Option(names = "--warmup", defaultValue = "5s", description = "run this long before (${DEFAULT-VALUE})")
    Duration warmup;

    @Option(names = "--bytes", defaultValue = "300", description = "bytes of a row's body (${DEFAULT-VALUE})")
    int bytes;

    record Result(long rows, double seconds, Histogram commits) {
        double rate() {
            return rows / seconds;
        }
    }

    @Override
    public Integer call() throws Exception {
        Result r = run();
        var out = new ObjectMapper().createObjectNode();
        out.put("rows", r.rows).put("seconds", r.seconds).put("rate", Math.round(r.rate())).put("group", group);
        out.put("commit_p50_ms", r.commits.getValueAtPercentile(50) / 1e6).put("commit_p99_ms", r.commits.getValueAtPercentile(99) / 1e6);
        System.out.println(out);
        return 0;
    }

    Result run() throws SQLException, IOException {
        Files.createDirectories(dir);
        Path work = Files.createTempDirectory(dir, "bare-sqlite");
        try (Connection c = open(work.resolve("bare.db"))) {
            return insert(c);
        } finally {
            try (Stream<Path> files = Files.walk(work)) {
                for (Path p : files.sorted(Comparator.reverseOrder()).toList()) {
                    Files.delete(p);
                }
            }
        }
    }

    static final String INSERT = "INSERT INTO wal (message_key, correlation_id, device_id, kind, observed_at_ms,"
            + " received_at_ms, body, crc) VALUES (?, ?, ?, 'telemetry', ?, ?, ?, ?)";

    /** @return a new store, with autocommit off */
    static Connection open(Path file) throws SQLException {
        Connection c = DriverManager.getConnection("jdbc:sqlite:" + file);
        try (Statement s = c.createStatement()) {
            s.execute("PRAGMA journal_mode=WAL");
            s.execute("PRAGMA synchronous=FULL");
            s.execute("CREATE TABLE wal (seq INTEGER PRIMARY KEY AUTOINCREMENT, message_key TEXT NOT NULL, correlation_id TEXT NOT NULL,"
                    + " device_id TEXT NOT NULL, kind TEXT NOT NULL, observed_at_ms INTEGER NOT NULL, received_at_ms INTEGER NOT NULL,"
                    + " body BLOB NOT NULL, crc INTEGER NOT NULL) STRICT");
            s.execute("CREATE UNIQUE INDEX wal_message_key ON wal (message_key)");
            s.execute("CREATE INDEX wal_received ON wal (received_at_ms)");
        } catch (SQLException e) {
            c.close();
            throw e;
        }
        c.setAutoCommit(false);
        return c;
    }

    /** Adds a row to the batch of a statement of {@link #INSERT}. */
    static void bind(PreparedStatement s, long seq, String device, byte[] body) throws SQLException {
        long now = System.currentTimeMillis();
        s.setString(1, Keys.numbered(device, "b1", seq));
        s.setString(2, String.format("%016x-7000-8000", now * 4096 + seq % 4096));
        s.setString(3, device);
        s.setLong(4, now);
        s.setLong(5, now);
        s.setBytes(6, body);
        s.setLong(7, seq);
        s.addBatch();
    }

    private Result insert(Connection c) throws SQLException {
        byte[] body = "x".repeat(bytes).getBytes(StandardCharsets.US_ASCII);
        Histogram commits = new Histogram(TimeUnit.MINUTES.toNanos(1), 3);
        long warmUntil = System.nanoTime() + warmup.toNanos();
        long from = 0;
        long seq = 0;
        long counted = 0;
        long last = System.nanoTime();
        try (PreparedStatement s = c.prepareStatement(INSERT)) {
            while (from == 0 || last - from < seconds.toNanos()) {
                for (int i = 0; i < group; i++) {
                    seq++;
                    bind(s, seq, "load-" + seq % 8, body);
                }
                s.executeBatch();
                long beforeCommit = System.nanoTime();
                c.commit();
                long now = System.nanoTime();
                if (from != 0) {
                    counted += group;
                    commits.recordValue(now - beforeCommit);
                } else if (now >= warmUntil) {
                    from = now;
                }
                last = now;
            }
        }
        return new Result(counted, (last - from) / 1e9, commits);
    }
}
