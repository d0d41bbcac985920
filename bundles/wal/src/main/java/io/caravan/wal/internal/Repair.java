// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Tasks;
import java.io.IOException;
import java.sql.SQLException;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Replaces a damaged store by what can be salvaged of it, when it is opened or while it is in use: nobody gets a
 * connection, the write gate is taken, the file is moved aside with what belongs to it, its connections are closed, a new
 * file is made, opened, and the world goes on. What fails in between is tried again for ever; nothing is ever deleted.
 * Thread-safe.
 */
final class Repair implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Repair.class);
    private static final long TURN_TIMEOUT_MS = 5_000;
    private static final long AGAIN_MS = 10_000;

    private final Database database;
    private final Tasks tasks;
    private final ClassLoader classes = Thread.currentThread().getContextClassLoader();
    private final List<Runnable> listeners = new CopyOnWriteArrayList<>();
    private final Object lock = new Object();
    private volatile boolean closing;
    private volatile String trouble;
    private Thread thread;
    private Quarantine quarantine;
    private boolean made;

    Repair(Database database, Tasks tasks) {
        this.database = database;
        this.tasks = tasks;
    }

    /** Null, or why there are no connections. */
    String trouble() {
        String now = trouble;
        return now == null ? null : now + tasks.running("salvage").map(salvage -> "; salvaged are " + salvage.text()).orElse("");
    }

    AutoCloseable listen(Runnable listener) {
        listeners.add(listener);
        return () -> listeners.remove(listener);
    }

    // ---- at the start

    /** Opens the store; goes on with what a process before this one left, and repairs what can be seen to be damaged. */
    void open(boolean made, boolean sameBoot) throws IOException, SQLException {
        this.made = made;
        quarantine = Quarantine.unfinished(database.file());
        String damage = quarantine != null ? null : Damage.look(database.file(), made, sameBoot);
        if (damage != null) {
            aside(damage);
        }
        restore();
        try {
            database.openFile();
        } catch (SQLException e) {
            if (quarantine == null) {
                throw e;
            }
            restore();
            database.openFile();
        }
    }

    /** A connection that opens the store found damage; called while it is still open. A file that is not a store stays. */
    void aside(SQLException e) throws SQLException {
        try {
            if (made || Damage.isOurs(database.file())) {
                aside(e.getMessage());
            }
        } catch (IOException failed) {
            e.addSuppressed(failed);
            throw e;
        }
    }

    private void aside(String cause) throws IOException {
        if (quarantine == null) {
            quarantine = Quarantine.of(database.file(), System.currentTimeMillis(), cause);
        }
        quarantine.move();
        LOG.error("store [{}] is damaged: {}; moved to {}, what is intact is being salvaged", database.file(), cause, quarantine.directory());
    }

    private void restore() throws IOException, SQLException {
        if (quarantine == null) {
            return;
        }
        quarantine.move();
        if (quarantine.isReplaced()) {
            quarantine.end();
        } else {
            // Nobody may cancel it: without a store nothing is taken.
            Salvage.Result result = salvage(quarantine);
            quarantine.replace();
            LOG.error("store [{}] was damaged and is replaced: {}; the damaged one is kept in {}; wal:verify, then wal:acknowledge",
                    database.file(), result.detail(), quarantine.directory());
        }
        quarantine = null;
    }

    private Salvage.Result salvage(Quarantine from) throws IOException, SQLException {
        try {
            return tasks.run("salvage", database.file().toString(), "pages", null, task -> Salvage.run(from, () -> closing, task));
        } catch (IOException | SQLException | RuntimeException e) {
            throw e;
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    // ---- in use

    /** Never blocks; does nothing while a repair is under way. */
    void start(Throwable error) {
        synchronized (lock) {
            if (trouble != null || closing) {
                return;
            }
            String cause = String.valueOf(error.getMessage());
            trouble = "store [" + database.file() + "] is damaged (" + cause + ") and is being repaired: nothing is taken until that is done";
            thread = new Thread(() -> run(cause), "caravan-wal-repair");
            thread.setContextClassLoader(classes);
            thread.setDaemon(true);
            thread.start();
        }
    }

    private void run(String cause) {
        String before = trouble;
        boolean closed = false;
        while (!closing) {
            try {
                if (!closed) {
                    takeAside(cause);
                    closed = true;
                }
                restore();
                database.openFile();
                trouble = null;
                listeners.forEach(this::tell);
                return;
            } catch (IOException | SQLException | RuntimeException e) {
                String why = before + "; at the moment that fails: " + e.getMessage();
                if (!why.equals(trouble)) {
                    LOG.error("store [{}] cannot be repaired yet, tried again every {} s", database.file(), AGAIN_MS / 1_000, e);
                }
                trouble = why;
                pause();
            }
        }
    }

    /** With the turn to write: a commit that went to a file which has been read already would be lost. */
    private void takeAside(String cause) throws IOException, SQLException {
        database.gate().seize(TURN_TIMEOUT_MS);
        try {
            aside(cause);
            database.closePools(); // after the move: SQLite leaves a file alone that is not where it was
        } finally {
            database.gate().leave();
        }
    }

    private void tell(Runnable listener) {
        try {
            listener.run();
        } catch (RuntimeException e) {
            LOG.warn("after the repair of the store", e);
        }
    }

    private void pause() {
        synchronized (lock) {
            long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(AGAIN_MS);
            try {
                for (long left; !closing && (left = until - System.nanoTime()) > 0; ) {
                    lock.wait(left / 1_000_000 + 1);
                }
            } catch (InterruptedException e) {
                closing = true;
            }
        }
    }

    /** A repair that is under way ends; the next start goes on with it. */
    @Override
    public void close() {
        Thread running;
        synchronized (lock) {
            closing = true;
            lock.notifyAll();
            running = thread;
        }
        try {
            if (running != null && running != Thread.currentThread()) {
                running.join(TimeUnit.SECONDS.toMillis(10));
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
