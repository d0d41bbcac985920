// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Moves what is in the -wal file into the store, in a thread and on a connection of its own. PASSIVE runs beside the
 * writer; once the file is above {@code wal.checkpoint.bytes} a TRUNCATE follows, which needs the writer's turn but finds
 * little left to move. SQLite's own checkpoint stays far behind as a net: it would stop a commit for all of it at once.
 */
final class Checkpointer implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Checkpointer.class);
    private static final long PAGES_PER_COMMIT = 6;
    private static final long LOOK_MS = 1_000;
    private static final long TURN_TIMEOUT_MS = 5_000;
    private static final long COMPLAIN_NANOS = TimeUnit.MINUTES.toNanos(1);

    private final Database database;
    private final long limit;
    private final WalMetrics metrics;
    private final Thread thread = new Thread(this::run, "caravan-wal-checkpoint");
    private final Object lock = new Object();
    private long written;
    private boolean due;
    private boolean stopping;
    private Connection connection;
    private long complainedAt = System.nanoTime() - COMPLAIN_NANOS;
    private volatile String failure = "";

    Checkpointer(Database database, long limit, WalMetrics metrics) {
        this.database = database;
        this.limit = limit;
        this.metrics = metrics;
        thread.setDaemon(true);
    }

    void start() {
        thread.start();
    }

    /** Empty while checkpoints succeed. */
    String failure() {
        return failure;
    }

    /** A commit with so many bytes of messages; by the committer, cheap. */
    void written(long bytes) {
        // A lone message dirties about six pages. Not exact, and it need not be: the file's size decides.
        written += bytes + PAGES_PER_COMMIT * 4_096;
        if (written >= limit / 4) {
            written = 0;
            synchronized (lock) {
                due = true;
                lock.notify();
            }
        }
    }

    /** Now, whatever was written. */
    void wake() {
        synchronized (lock) {
            due = true;
            lock.notify();
        }
    }

    private void run() {
        long seen = 0;
        while (true) {
            synchronized (lock) {
                try {
                    if (!due && !stopping) {
                        lock.wait(LOOK_MS);
                    }
                } catch (InterruptedException e) {
                    return;
                }
                if (stopping) {
                    return;
                }
                if (!due && Database.size(database.walFile()) == seen && failure.isEmpty()) {
                    continue;
                }
                due = false;
            }
            long begun = System.nanoTime();
            try {
                checkpoint();
                metrics.checkpoint.record(System.nanoTime() - begun, TimeUnit.NANOSECONDS);
                failure = "";
            } catch (SQLException | RuntimeException e) {
                metrics.checkpointFailures.increment();
                database.noticed(e);
                if (failure.isEmpty()) {
                    LOG.warn("checkpoint failed, the -wal file grows: {}", StorageError.describe(e, database.file()));
                }
                failure = "checkpoint: " + StorageError.describe(e, database.file());
                closeConnection();
            }
            seen = Database.size(database.walFile());
        }
    }

    private void checkpoint() throws SQLException {
        database.gate().checkWritable();
        if (connection == null) {
            connection = database.checkpointConnection();
        }
        pragma("PASSIVE");
        if (Database.size(database.walFile()) <= limit) {
            return;
        }
        boolean blocked;
        database.gate().enter(TURN_TIMEOUT_MS);
        try {
            blocked = pragma("TRUNCATE");
        } finally {
            database.gate().leave();
        }
        if (blocked) {
            metrics.checkpointFailures.increment();
            long size = Database.size(database.walFile());
            if (size > 4 * limit && System.nanoTime() - complainedAt > COMPLAIN_NANOS) {
                complainedAt = System.nanoTime();
                LOG.warn("{} has {} bytes and cannot shrink: a reader keeps a transaction open; end it", database.walFile(), size);
            }
        }
    }

    private boolean pragma(String mode) throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet result = statement.executeQuery("PRAGMA wal_checkpoint(" + mode + ")")) {
            return result.next() && result.getInt(1) != 0;
        }
    }

    private void closeConnection() {
        try {
            if (connection != null) {
                connection.close();
            }
        } catch (SQLException e) {
            LOG.debug("closing the checkpointer's connection", e);
        }
        connection = null;
    }

    @Override
    public void close() {
        synchronized (lock) {
            stopping = true;
            lock.notify();
        }
        try {
            thread.join(10_000);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        closeConnection();
    }
}
