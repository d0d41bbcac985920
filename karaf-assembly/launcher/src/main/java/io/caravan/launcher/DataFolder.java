// SPDX-License-Identifier: Apache-2.0
package io.caravan.launcher;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/** The folder of all that the container writes: one process at a time, and a bundle registry that is whole or absent. */
final class DataFolder {

    private static final String FEATURE_STATE = "state.json";
    /** What the registry was made from. */
    private static final String STAMP = "cache.of";
    static final String KEPT = "features.kept";
    private static final Pattern ROOTS = Pattern.compile("\"features\"\\s*:\\s*\\{(.*?)\\}", Pattern.DOTALL);
    private static final Pattern FEATURE = Pattern.compile("\"feature:([^/\"]+)");
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
        deleteRegistry();
        return true;
    }

    /**
     * Deletes a bundle registry that was made from another distribution, or from this one in another place: its bundles are those files.
     * What an operator had installed beyond the distribution's features is noted in {@link #KEPT}, to be installed again.
     *
     * @param home of the distribution that is to start
     * @return whether there was one
     */
    boolean discardForeignRegistry(Path home) throws IOException {
        String mine = home + "\n" + sha256(bytes(home.resolve("sbom.cdx.json"))) + "\n" + sha256(bytes(home.resolve("etc/startup.properties"))) + "\n";
        Path stamp = data.resolve(STAMP);
        if (Files.exists(stamp) && Files.readString(stamp).equals(mine)) {
            return false;
        }
        boolean was = Files.isDirectory(data.resolve("cache"));
        forgetRegistry(home);
        Files.writeString(stamp, mine);
        return was;
    }

    /** As {@link #discardForeignRegistry}, whatever it was made from. */
    void forgetRegistry(Path home) throws IOException {
        Set<String> kept = keptFeatures();
        if (Files.isDirectory(data.resolve("cache"))) {
            String boot = new String(bytes(home.resolve("etc/org.apache.karaf.features.cfg")), StandardCharsets.ISO_8859_1);
            try (Stream<Path> tree = Files.walk(data.resolve("cache"))) {
                for (Path state : tree.filter(file -> file.endsWith(FEATURE_STATE)).toList()) {
                    Matcher roots = ROOTS.matcher(Files.readString(state));
                    Matcher name = FEATURE.matcher(roots.find() ? roots.group(1) : "");
                    while (name.find()) {
                        if (!Pattern.compile("(?m)^\\s*" + Pattern.quote(name.group(1)) + "/").matcher(boot).find()) {
                            kept.add(name.group(1));
                        }
                    }
                }
            }
        }
        keep(kept);
        deleteRegistry();
        Files.deleteIfExists(data.resolve(STAMP));
    }

    /** @return names of features that are to be installed again; may be changed */
    Set<String> keptFeatures() throws IOException {
        Path file = data.resolve(KEPT);
        return new TreeSet<>(Files.exists(file) ? Files.readAllLines(file) : List.of());
    }

    void keep(Set<String> features) throws IOException {
        Path file = data.resolve(KEPT);
        if (features.isEmpty()) {
            Files.deleteIfExists(file);
            return;
        }
        Path beside = data.resolve(KEPT + ".new");
        // On disk before the registry goes, which is the other place that knows them.
        Files.write(beside, features, StandardOpenOption.CREATE, StandardOpenOption.TRUNCATE_EXISTING, StandardOpenOption.WRITE, StandardOpenOption.SYNC);
        Files.move(beside, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    }

    private void deleteRegistry() throws IOException {
        Path registry = data.resolve("cache");
        if (Files.isDirectory(registry)) {
            try (Stream<Path> tree = Files.walk(registry)) {
                tree.sorted(Comparator.reverseOrder()).forEach(DataFolder::delete);
            }
        }
    }

    private static byte[] bytes(Path file) throws IOException {
        return Files.exists(file) ? Files.readAllBytes(file) : new byte[0];
    }

    static String sha256(byte[] bytes) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    private static void delete(Path file) {
        try {
            Files.delete(file);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
