// SPDX-License-Identifier: Apache-2.0
package io.caravan.launcher;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;

/** The folder of all that the container writes: one process at a time, and a bundle registry that is whole or absent. */
final class DataFolder {

    private static final String FEATURE_STATE = "state.json";
    private static final Set<String> REGISTRY_FILES = Set.of("bundle.info", FEATURE_STATE);

    private final Path data;
    private FileChannel lock;   // a channel nobody holds is closed, and the lock released, by the garbage collector

    DataFolder(Path data) {
        this.data = data;
    }

    /**
     * Takes the folder for the life of this process, however that ends.
     *
     * @return false: another process has it
     */
    boolean lock() throws IOException {
        lock = FileChannel.open(data.resolve("lock"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
        return lock.tryLock() != null;
    }

    /**
     * Deletes a bundle registry that would stay incomplete for ever, so that this start builds it anew from the
     * distribution's features: one whose first start was cut off before the feature service had written its state (Karaf
     * installs bundles only into an empty registry), or one with an empty file, as a power cut leaves it (Felix would
     * drop that bundle silently).
     *
     * @return whether there was one
     */
    boolean discardIncompleteRegistry() throws IOException {
        Path registry = data.resolve("cache");
        if (!Files.isDirectory(registry)) {
            return false;
        }
        List<Path> files;
        try (Stream<Path> tree = Files.walk(registry)) {
            files = tree.filter(file -> REGISTRY_FILES.contains(file.getFileName().toString())).toList();
        }
        boolean complete = files.stream().anyMatch(file -> file.endsWith(FEATURE_STATE))
            && files.stream().noneMatch(file -> file.toFile().length() == 0);
        if (complete) {
            return false;
        }
        try (Stream<Path> tree = Files.walk(registry)) {
            tree.sorted(Comparator.reverseOrder()).forEach(DataFolder::delete);
        }
        return true;
    }

    private static void delete(Path file) {
        try {
            Files.delete(file);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
