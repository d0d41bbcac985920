// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;

/**
 * A damaged store moved aside whole, and where its repair has come to. The file {@code <store>.repair} says so on disk
 * before anything is moved and until the salvaged store is in its place: a crash in between is gone on from at the next
 * start, and no start ever finds nothing and makes an empty store. Not thread-safe.
 */
final class Quarantine {
    private static final String[] SUFFIXES = {"", "-wal", "-shm"};
    private static final DateTimeFormatter NAME = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss.SSS'Z'").withZone(ZoneOffset.UTC);

    private final Path store;
    private final Path directory;
    private final long atMs;
    private final String cause;
    private boolean moved;

    private Quarantine(Path store, Path directory, long atMs, String cause, boolean moved) {
        this.store = store;
        this.directory = directory;
        this.atMs = atMs;
        this.cause = cause;
        this.moved = moved;
    }

    /** A new one. On disk nothing has happened yet. */
    static Quarantine of(Path store, long atMs, String cause) {
        Path directory;
        long at = atMs;
        do {
            directory = store.resolveSibling(store.getFileName() + ".damaged-" + NAME.format(Instant.ofEpochMilli(at++)));
        } while (Files.exists(directory));
        return new Quarantine(store, directory, atMs, cause.replaceAll("\\s+", " "), false);
    }

    /** @return the one that a process before this one did not end, or null */
    static Quarantine unfinished(Path store) throws IOException {
        List<String> lines;
        try {
            lines = Files.readAllLines(marker(store));
        } catch (NoSuchFileException e) {
            return null;
        }
        if (lines.size() < 5 || !lines.get(4).equals("end")) {
            throw new IOException("[" + marker(store) + "] must have five lines, the last one [end]: it says how far the repair of the store"
                    + " has come. Look which folder " + store + ".damaged-* is the newest, and move its files back if the store is missing;"
                    + " then delete the marker");
        }
        return new Quarantine(store, store.resolveSibling(lines.get(1)), Long.parseLong(lines.get(2)), lines.get(3), lines.get(0).equals("moved"));
    }

    static Path marker(Path store) {
        return store.resolveSibling(store.getFileName() + ".repair");
    }

    /** Where the salvaged store is made. */
    Path salvaged() {
        return store.resolveSibling(store.getFileName() + ".salvaged");
    }

    Path directory() {
        return directory;
    }

    /** The damaged store, once it has been moved. */
    Path damaged() {
        return directory.resolve(store.getFileName().toString());
    }

    long atMs() {
        return atMs;
    }

    String cause() {
        return cause;
    }

    /** Whether the damaged file is aside and a whole one has taken its place: only the marker is left. */
    boolean isReplaced() {
        return moved && Files.exists(store);
    }

    /**
     * Moves store, -wal and -shm aside. What has them open can go on reading; SQLite folds nothing into a store that it
     * finds moved when it closes it. May be called again after it failed.
     */
    void move() throws IOException {
        if (moved) {
            return;
        }
        mark("moving");
        if (!Files.isDirectory(directory)) {
            Files.createDirectory(directory, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
        }
        for (String suffix : SUFFIXES) {
            Path from = store.resolveSibling(store.getFileName() + suffix);
            if (Files.exists(from)) {
                Files.move(from, directory.resolve(from.getFileName()), StandardCopyOption.ATOMIC_MOVE);
            }
        }
        sync(directory);
        sync(store.getParent());
        mark("moved");
        moved = true;
    }

    /** Puts the salvaged store, which is whole and synced, into the place; then the repair is over. */
    void replace() throws IOException {
        Files.move(salvaged(), store, StandardCopyOption.ATOMIC_MOVE);
        end();
    }

    /** The marker goes; what is in quarantine stays, for reading only. */
    void end() throws IOException {
        sync(store.getParent()); // the store's new name before the marker's end
        for (String suffix : SUFFIXES) {
            Path file = directory.resolve(store.getFileName() + suffix);
            if (Files.exists(file)) {
                Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("r--------"));
            }
        }
        Files.deleteIfExists(marker(store));
        sync(store.getParent());
    }

    private void mark(String step) throws IOException {
        Path temporary = store.resolveSibling(store.getFileName() + ".repair.new");
        String text = String.join("\n", step, directory.getFileName().toString(), Long.toString(atMs), cause, "end", "");
        try (FileChannel channel = FileChannel.open(temporary, StandardOpenOption.CREATE, StandardOpenOption.WRITE,
                StandardOpenOption.TRUNCATE_EXISTING)) {
            ByteBuffer bytes = ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
            while (bytes.hasRemaining()) {
                channel.write(bytes);
            }
            channel.force(true);
        }
        Files.move(temporary, marker(store), StandardCopyOption.ATOMIC_MOVE);
        sync(store.getParent());
    }

    /** Makes names in a directory durable. */
    static void sync(Path directory) throws IOException {
        try (FileChannel channel = FileChannel.open(directory, StandardOpenOption.READ)) {
            channel.force(true);
        }
    }

    /** Directories of damaged stores that are kept beside this one, oldest first. */
    static List<Path> kept(Path store) throws IOException {
        List<Path> found = new ArrayList<>();
        try (var files = Files.newDirectoryStream(store.getParent(), store.getFileName() + ".damaged-*")) {
            files.forEach(found::add);
        }
        found.sort(null);
        return found;
    }
}
