// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.sql.SQLTransientConnectionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

/**
 * The turn to write. Hikari hands a connection to whoever comes at the right moment, and a committer under load always
 * does: routes would starve. This gate is first come, first served, for routes, committer and checkpointer alike.
 *
 * <p>Nobody gets a connection while the store's file cannot be written. SQLite would find out as well, but not always first: when
 * the kernel takes a broken file system read-only, a write to the mapped -shm file can end the whole process (SIGBUS).
 */
final class WriteGate implements AutoCloseable {
    private final File file;
    private final File shm;
    private final File probeFile;
    private RandomAccessFile probe; // no FileChannel: an interrupted thread would close it
    private final Semaphore turn = new Semaphore(1, /* fair= */ true);
    private volatile String distrusted;
    private volatile Thread holder;
    private volatile long since;

    WriteGate(File file) {
        this.file = file;
        shm = new File(file.getPath() + "-shm");
        probeFile = new File(file.getPath() + ".probe");
    }

    /** @throws SQLTransientConnectionException the file system is read-only, or the file is */
    void checkWritable() throws SQLTransientConnectionException {
        if (distrusted != null) {
            throw new SQLTransientConnectionException(distrusted);
        }
        if (!file.canWrite()) { // one system call, which knows of the file system too
            if (!file.exists()) {
                throw new SQLTransientConnectionException("[" + file + "] is not there: it is being repaired, or was deleted;"
                        + " in that case stop the gateway before more is lost");
            }
            throw readOnly(file, "");
        }
        if (!shm.canWrite() && shm.exists()) {
            throw readOnly(shm, "");
        }
        probe();
    }

    /** Newer kernels call a file system writable that they have stopped (ext4: emergency_ro); only a write tells. */
    private synchronized void probe() throws SQLTransientConnectionException {
        if (probe == null) {
            try {
                probe = new RandomAccessFile(probeFile, "rw");
                probe.write(1);
            } catch (IOException full) {
                closeProbe(); // a disk that takes no new file; one that is broken shows in the first commit
            }
            return;
        }
        try {
            probe.seek(0);
            probe.write(1);
        } catch (IOException e) {
            if (!String.valueOf(e.getMessage()).contains("No space left")) {
                throw readOnly(probeFile, " (" + e.getMessage() + ")");
            }
        }
    }

    private SQLTransientConnectionException readOnly(File which, String why) {
        return new SQLTransientConnectionException("[" + which + "] is read-only" + why + ": look for disk errors (dmesg), make the file"
                + " system writable (after a fault it must be mounted again and the gateway restarted)");
    }

    /** Nobody gets a connection from now on: what the file system says about this file cannot be believed any more. */
    void distrust(String why) {
        distrusted = why;
    }

    boolean isWritable() {
        try {
            checkWritable();
            return true;
        } catch (SQLTransientConnectionException e) {
            return false;
        }
    }

    private synchronized void closeProbe() {
        try {
            if (probe != null) {
                probe.close();
            }
        } catch (IOException ignored) {
            // it held one byte
        }
        probe = null;
    }

    @Override
    public void close() {
        closeProbe();
        probeFile.delete();
    }

    void enter(long timeoutMs) throws SQLTransientConnectionException {
        seize(timeoutMs);
        try {
            checkWritable();
        } catch (SQLTransientConnectionException e) {
            leave();
            throw e;
        }
    }

    /** {@link #enter} whether the file can be written or not, is there or not: to replace it. */
    void seize(long timeoutMs) throws SQLTransientConnectionException {
        try {
            if (!turn.tryAcquire(timeoutMs, TimeUnit.MILLISECONDS)) {
                Thread thread = holder;
                throw new SQLTransientConnectionException("no turn to write within " + timeoutMs + " ms: the writer is held by thread ["
                        + (thread == null ? "-" : thread.getName()) + "] for " + heldMs() + " ms; a route must not wait inside a transaction");
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new SQLTransientConnectionException("interrupted while waiting for the turn to write", e);
        }
        since = System.nanoTime();
        holder = Thread.currentThread();
    }

    void leave() {
        holder = null;
        turn.release();
    }

    boolean isMine() {
        return holder == Thread.currentThread();
    }

    private long heldMs() {
        return (System.nanoTime() - since) / 1_000_000;
    }
}
