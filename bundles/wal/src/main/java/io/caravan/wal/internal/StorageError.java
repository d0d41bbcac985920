// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.nio.file.Path;
import java.sql.SQLException;
import org.sqlite.SQLiteErrorCode;
import org.sqlite.SQLiteException;

/** What a storage error means and what to do about it. */
final class StorageError {
    private StorageError() {}

    /** Whether the data is at fault and not the store: trying the same again cannot help. */
    static boolean isPoison(Throwable error) {
        if (error instanceof SQLException) {
            switch (primary(error)) {
                case 18: // TOOBIG
                case 19: // CONSTRAINT
                case 20: // MISMATCH
                    return true;
                default:
                    return false;
            }
        }
        return error instanceof RuntimeException;
    }

    /**
     * Whether fsync failed. The kernel may then drop what it could not write and call it written: the next fsync succeeds,
     * and what is in the page cache is not what is on the disk.
     */
    static boolean isSyncFailure(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof SQLiteException) {
                SQLiteErrorCode code = ((SQLiteException) cause).getResultCode();
                return code == SQLiteErrorCode.SQLITE_IOERR_FSYNC || code == SQLiteErrorCode.SQLITE_IOERR_DIR_FSYNC;
            }
        }
        return false;
    }

    /** No space: on the disk, or within max_page_count. */
    static boolean isFull(Throwable error) {
        return primary(error) == 13;
    }

    /** Whether the file is damaged: what SQLite says, extended codes included, or this program found. */
    static boolean isCorrupt(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof Damaged) {
                return true;
            }
        }
        int code = primary(error);
        return code == 11 || code == 26; // CORRUPT, NOTADB
    }

    /** The file is damaged in a way that SQLite would not mind. */
    static final class Damaged extends SQLException {
        private static final long serialVersionUID = 1L;

        Damaged(String message) {
            super(message);
        }
    }

    static boolean isKeyTwice(Throwable error) {
        return error instanceof SQLiteException
                && ((SQLiteException) error).getResultCode() == SQLiteErrorCode.SQLITE_CONSTRAINT_UNIQUE;
    }

    /** One line: what happened, where, what to do next. */
    static String describe(Throwable error, Path file) {
        String advice;
        switch (primary(error)) {
            case 5:  // BUSY
            case 6:  // LOCKED
                advice = "another process holds the write lock: end it (fuser " + file + ")";
                break;
            case 8:  // READONLY
                advice = "make " + file.getParent() + " and the store's files writable for the gateway's user";
                break;
            case 10: // IOERR
                advice = "look for disk errors (dmesg) and for free space under " + file.getParent();
                break;
            case 11: // CORRUPT
            case 26: // NOTADB
                advice = "the file is damaged: it is moved aside and what is intact in it salvaged; see /readyz and wal:verify";
                break;
            case 13: // FULL
                advice = "free space under " + file.getParent() + " or raise the quota; what waits is kept and committed then";
                break;
            case 14: // CANTOPEN
                advice = "check that " + file.getParent() + " exists and is a writable directory";
                break;
            default:
                advice = "see the log for the cause";
        }
        return "store [" + file + "]: " + error.getMessage() + "; " + advice;
    }

    private static int primary(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof SQLiteException) {
                return ((SQLiteException) cause).getResultCode().code & 0xff;
            }
        }
        return -1;
    }
}
