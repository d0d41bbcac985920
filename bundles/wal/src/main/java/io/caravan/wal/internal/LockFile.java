// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * {@code <store>.lock}, held as long as the store is open: SQLite lets two processes write in turns; two committers would
 * both believe their memory of the log. It also remembers that there was a store, and in which life of the system it was
 * open last. Not thread-safe.
 */
final class LockFile implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(LockFile.class);
    private static final Path BOOT_ID = Path.of("/proc/sys/kernel/random/boot_id");
    private static final String MADE = "a store was made";
    private static final int MAX_BYTES = 4_096;

    private static final Set<Path> OPEN = ConcurrentHashMap.newKeySet();

    private final Path store;
    private final Path file;
    private final FileChannel channel;
    private final boolean sameBoot;
    private boolean made;

    /** @throws IOException with advice, if another process has it, or this one */
    LockFile(Path store) throws IOException {
        this.store = store;
        file = store.resolveSibling(store.getFileName() + ".lock");
        String pid = Long.toString(ProcessHandle.current().pid());
        // Asked before the file is opened: closing any descriptor of it gives up every lock this process has on it (POSIX).
        if (!OPEN.add(file)) {
            throw inUse(pid);
        }
        boolean mine = false;
        try {
            channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
            mine = true;
        } catch (IOException e) {
            throw new IOException("store [" + store + "] cannot be locked: " + e + "; free space, or make " + file + " writable", e);
        } finally {
            if (!mine) {
                OPEN.remove(file);
            }
        }
        List<String> before = lines();
        try {
            if (channel.tryLock() == null) {
                close();
                throw inUse(before.isEmpty() ? "?" : before.get(0));
            }
        } catch (OverlappingFileLockException e) {
            OPEN.remove(file);
            throw inUse(pid); // this class, loaded twice; the channel stays open for the reason above
        }
        made = before.contains(MADE);
        String boot = bootId();
        sameBoot = !boot.isEmpty() && before.contains(boot);
        write();
    }

    /** Whether a store was open here once. */
    boolean made() {
        return made;
    }

    /** Whether the system has run since then. */
    boolean sameBoot() {
        return sameBoot;
    }

    void made(boolean now) {
        made = now;
        write();
    }

    private List<String> lines() throws IOException {
        ByteBuffer bytes = ByteBuffer.allocate(MAX_BYTES);
        while (bytes.hasRemaining() && channel.read(bytes, bytes.position()) > 0) {
            continue;
        }
        return new String(bytes.array(), 0, bytes.position(), StandardCharsets.US_ASCII).lines().toList();
    }

    private void write() {
        String text = ProcessHandle.current().pid() + "\n" + (made ? MADE + "\n" + bootId() + "\n" : "");
        try {
            ByteBuffer bytes = ByteBuffer.wrap(text.getBytes(StandardCharsets.US_ASCII));
            while (bytes.hasRemaining()) {
                channel.write(bytes, bytes.position());
            }
            channel.truncate(text.length());
        } catch (IOException e) {
            // A full disk must not keep a store closed that could be drained.
            LOG.debug("{} does not say who holds it", file, e);
        }
    }

    private static String bootId() {
        try {
            return Files.readString(BOOT_ID).trim();
        } catch (IOException e) {
            return "";
        }
    }

    private IOException inUse(String process) {
        return new IOException("store [" + store + "] is in use by process [" + process + "] (lock " + file
                + "): one process per store; stop the other one, or give this one a store of its own");
    }

    @Override
    public void close() throws IOException {
        OPEN.remove(file);
        channel.close();
    }
}
