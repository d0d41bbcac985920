// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.ThreadLocalRandom;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Disk space that is taken while there is some, to be given up when there is none: on a full disk SQLite refuses the
 * very deletes and checkpoints that would make room. Written with bytes that no file system compresses, and synced, so
 * that the space is really there. Not thread-safe.
 */
final class Ballast {
    /** Below this much free space the disk counts as full. */
    static final long FULL_BYTES = 1 << 20;
    private static final Logger LOG = LoggerFactory.getLogger(Ballast.class);
    private static final int BLOCK = 1 << 20;

    private final Path path;

    Ballast(Path store) {
        path = store.resolveSibling(store.getFileName() + ".ballast");
    }

    /** A store on a full disk cannot even be opened; by the ballast of the last run it can. */
    static void makeRoomToOpen(Path store) {
        Ballast ballast = new Ballast(store.toAbsolutePath().normalize());
        if (ballast.size() > 0 && store.toAbsolutePath().getParent().toFile().getUsableSpace() < FULL_BYTES) {
            try {
                ballast.giveUp();
            } catch (IOException e) {
                LOG.warn("the disk of store [{}] is full and its ballast cannot be given up: {}", store, e.toString());
            }
        }
    }

    long size() {
        return Database.size(path);
    }

    /**
     * Makes it larger or smaller, by at most {@code step} bytes when larger.
     *
     * @throws IOException the disk does not take it; what was there before is still there
     */
    void resize(long target, long step) throws IOException {
        if (target == 0) {
            giveUp();
            return;
        }
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
            long size = channel.size();
            if (size > target) {
                channel.truncate(target);
                return;
            }
            byte[] bytes = new byte[BLOCK];
            long until = Math.min(target, size + step);
            try {
                for (long at = size; at < until; ) {
                    ThreadLocalRandom.current().nextBytes(bytes);
                    at += channel.write(ByteBuffer.wrap(bytes, 0, (int) Math.min(BLOCK, until - at)), at);
                }
                channel.force(true);
            } catch (IOException e) {
                channel.truncate(size);
                throw e;
            }
        }
    }

    /** Gives the space back. */
    void giveUp() throws IOException {
        if (Files.exists(path)) {
            try (FileChannel channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
                channel.truncate(0); // first: some file systems need space to remove a name
            }
            Files.delete(path);
        }
    }

    @Override
    public String toString() {
        return path.toString();
    }
}
