// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.io.IOException;
import java.io.OutputStream;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;

/** A small file system of its own. Needs root, mount and mkfs.ext4; a machine without them fails the test, loudly. */
final class TestDisk implements AutoCloseable {
    private final Path path;
    private final Path device;

    private TestDisk(Path path, Path device) {
        this.path = path;
        this.device = device;
    }

    static TestDisk tmpfs(Path path, int mib) throws Exception {
        Files.createDirectories(path);
        run("mount", "-t", "tmpfs", "-o", "size=" + mib + "m", "caravan-test", path.toString());
        return new TestDisk(path, null);
    }

    /** On an image file. Do not fill the disk below it to get I/O errors: the loop device calls a short write a success (Linux 6.18). */
    static TestDisk ext4(Path image, Path path, int mib, String... features) throws Exception {
        Files.createDirectories(path);
        try (RandomAccessFile file = new RandomAccessFile(image.toFile(), "rw")) {
            file.setLength((long) mib << 20);
        }
        String[] mkfs = new String[features.length + 5];
        System.arraycopy(new String[] {"mkfs.ext4", "-q", "-F", "-m", "0"}, 0, mkfs, 0, 5);
        System.arraycopy(features, 0, mkfs, 5, features.length);
        String[] command = java.util.Arrays.copyOf(mkfs, mkfs.length + 1);
        command[mkfs.length] = image.toString();
        run(command);
        TestDisk disk = new TestDisk(path, image);
        disk.mount();
        return disk;
    }

    void mount() throws Exception {
        run("mount", "-o", "loop", device.toString(), path.toString());
    }

    void unmount() throws Exception {
        run("umount", path.toString());
    }

    Path path() {
        return path;
    }

    long usable() {
        return path.toFile().getUsableSpace();
    }

    /** To the last byte. */
    void fill() throws IOException {
        fill(4_096);
        fill(1);
    }

    private void fill(int block) throws IOException {
        try (OutputStream out = Files.newOutputStream(path.resolve("filler"), java.nio.file.StandardOpenOption.CREATE,
                java.nio.file.StandardOpenOption.APPEND)) {
            for (byte[] bytes = new byte[block];;) {
                out.write(bytes);
            }
        } catch (IOException full) {
            if (!full.getMessage().contains("No space left")) {
                throw full;
            }
        }
    }

    void free() throws IOException {
        Files.delete(path.resolve("filler"));
    }

    static void run(String... command) throws Exception {
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().merge("PATH", ":/usr/sbin:/sbin", String::concat);
        String said;
        int code;
        try {
            Process process = builder.start();
            process.getOutputStream().close();
            said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            code = process.waitFor(30, TimeUnit.SECONDS) ? process.exitValue() : -1;
        } catch (IOException e) {
            said = e.toString();
            code = -1;
        }
        if (code != 0) {
            throw new AssertionError(String.join(" ", command) + " failed [" + code + "]: " + said
                    + "; this test needs small file systems of its own: run it as root, with util-linux, e2fsprogs and gcc (bin/install-deps)");
        }
    }

    @Override
    public void close() throws Exception {
        unmount();
    }
}
