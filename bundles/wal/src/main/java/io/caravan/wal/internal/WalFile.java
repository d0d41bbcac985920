// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * SQLite's -wal file, read without SQLite and without writing (https://sqlite.org/walformat.html). SQLite takes the first
 * frame that does not fit its checksum for the end, because that is what a crash leaves behind, and so drops without a
 * word what was committed after a damaged frame. A frame's checksum begins with its predecessor's, which is stored in it:
 * so frames behind a damaged one can still be verified, one by one. Immutable.
 */
final class WalFile {
    static final int PAGE = 4_096;
    private static final int HEADER = 32;
    private static final int FRAME_HEADER = 24;
    private static final int FRAME = FRAME_HEADER + PAGE;
    private static final int FORMAT = 3_007_000;

    private final Map<Integer, Long> pages = new HashMap<>();
    private byte[] salts;
    private boolean headerOk;
    private int frames;
    private int unbroken;
    private int committed;
    private int pageCount;
    /** What SQLite will take: up to the first frame that does not fit. Behind it may be the rest of a transaction that a crash tore. */
    private Set<Integer> taken = Set.of();
    private int takenPageCount;
    private String damage = "";
    private final List<Long> images = new ArrayList<>();
    /** Pages whose newest frame is damaged, and which frame that is. */
    private final Map<Integer, Integer> stale = new HashMap<>();
    private byte[] indexSalts; // null: there is no -shm file that can be believed
    private int indexed;
    private int moved;

    private WalFile() {}

    /** @param store its -wal and -shm may be missing: no frames then */
    static WalFile of(Path store) throws IOException {
        WalFile wal = new WalFile();
        wal.readIndex(store.resolveSibling(store.getFileName() + "-shm"));
        Path file = store.resolveSibling(store.getFileName() + "-wal");
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            wal.scan(channel);
        } catch (NoSuchFileException e) {
            // A store that was closed has none.
        }
        if (wal.isSameLife()) {
            // What was damaged after it had been moved into the store is in the store.
            wal.stale.forEach((page, frame) -> {
                if (frame < wal.moved) {
                    wal.pages.remove(page);
                }
            });
        }
        return wal;
    }

    private void scan(FileChannel channel) throws IOException {
        frames = (int) Math.min(Integer.MAX_VALUE, Math.max(0, channel.size() - HEADER) / FRAME);
        ByteBuffer header = ByteBuffer.allocate(HEADER);
        if (!fill(channel, header, 0)) {
            return;
        }
        int magic = header.getInt(0);
        ByteOrder order = magic == 0x377f0682 ? ByteOrder.LITTLE_ENDIAN : ByteOrder.BIG_ENDIAN;
        int[] sum = new int[2];
        checksum(header.array(), 0, 24, order, sum);
        headerOk = (magic & ~1) == 0x377f0682 && header.getInt(4) == FORMAT && header.getInt(8) == PAGE
                && sum[0] == header.getInt(24) && sum[1] == header.getInt(28);
        if (headerOk) {
            salts = Arrays.copyOfRange(header.array(), 16, 24);
        } else if (frames == 0 || !guessed(channel)) {
            return;
        } else {
            order = null;
        }
        frames(channel, order, new int[] {header.getInt(24), header.getInt(28)});
    }

    /** The header is damaged: the salts that two frames share. */
    private boolean guessed(FileChannel channel) throws IOException {
        byte[] before = null;
        ByteBuffer head = ByteBuffer.allocate(FRAME_HEADER);
        for (int i = 0; i < Math.min(frames, 16); i++) {
            if (!fill(channel, head, at(i))) {
                return false;
            }
            byte[] found = Arrays.copyOfRange(head.array(), 8, 16);
            if (frames == 1 || Arrays.equals(found, before)) {
                salts = found;
                return true;
            }
            before = found;
        }
        return false;
    }

    private void frames(FileChannel channel, ByteOrder known, int[] seed) throws IOException {
        ByteOrder order = known;
        Map<Integer, Long> open = new HashMap<>();
        int commitsBehind = 0;
        int framesBehind = 0; // after the last of those commits
        boolean broken = !headerOk;
        int lastCommit = -1;
        ByteBuffer frame = ByteBuffer.allocate(FRAME);
        for (int i = 0; i < frames; i++) {
            if (!fill(channel, frame, at(i))) {
                break;
            }
            boolean ours = Arrays.equals(frame.array(), 8, 16, salts, 0, 8);
            boolean whole = false;
            int number = frame.getInt(0);
            if (ours && number > 0) {
                for (ByteOrder candidate : order != null ? new ByteOrder[] {order}
                        : new ByteOrder[] {ByteOrder.LITTLE_ENDIAN, ByteOrder.BIG_ENDIAN}) {
                    int[] sum = seed.clone();
                    checksum(frame.array(), 0, 8, candidate, sum);
                    checksum(frame.array(), FRAME_HEADER, PAGE, candidate, sum);
                    if (sum[0] == frame.getInt(16) && sum[1] == frame.getInt(20)) {
                        whole = true;
                        order = candidate;
                        break;
                    }
                }
            }
            if (!whole && !broken) {
                broken = true;
                taken = Set.copyOf(pages.keySet());
                unbroken = i; // or the file's former life begins, with other salts: none of its frames is ours
            }
            if (!whole && ours && number > 0) {
                stale.put(number, i);
            }
            if (whole) {
                stale.remove(number);
                open.put(number, at(i) + FRAME_HEADER);
                images.add(at(i) + FRAME_HEADER);
                int size = frame.getInt(4);
                if (size > 0) {
                    pages.putAll(open);
                    open.clear();
                    pageCount = size;
                    lastCommit = i;
                    committed = i + 1;
                    if (broken) {
                        commitsBehind++;
                        framesBehind = 0;
                    } else {
                        takenPageCount = size;
                    }
                }
            }
            if (broken && commitsBehind > 0 && ours && lastCommit != i) {
                framesBehind++;
            }
            seed[0] = frame.getInt(16);
            seed[1] = frame.getInt(20);
        }
        if (!broken) {
            unbroken = frames;
            taken = Set.copyOf(pages.keySet());
        }
        if (!headerOk && commitsBehind > 0) {
            damage = "its header is damaged and " + commitsBehind + " committed transactions are behind it";
        } else if (commitsBehind > 1 || commitsBehind == 1 && framesBehind > 0) {
            // A crash tears the last transaction only: each is synced before the next one is written.
            damage = "frame " + (unbroken + 1) + " is damaged and " + commitsBehind + " committed transactions are behind it";
        }
        pages.keySet().removeIf(page -> page > pageCount); // given back by a later transaction
    }

    private static long at(int frame) {
        return HEADER + (long) frame * FRAME;
    }

    static boolean fill(FileChannel channel, ByteBuffer into, long position) throws IOException {
        into.clear();
        while (into.hasRemaining()) {
            int read = channel.read(into, position + into.position());
            if (read < 0) {
                return false;
            }
        }
        into.flip();
        return true;
    }

    private static void checksum(byte[] bytes, int from, int length, ByteOrder order, int[] sum) {
        ByteBuffer words = ByteBuffer.wrap(bytes, from, length).order(order);
        int a = sum[0];
        int b = sum[1];
        while (words.hasRemaining()) {
            a += words.getInt() + b;
            b += words.getInt() + a;
        }
        sum[0] = a;
        sum[1] = b;
    }

    /** Whether frames are lost of which it is certain that they had been committed; empty: not that one could know. */
    String damage() {
        return damage;
    }

    private void readIndex(Path shm) throws IOException {
        ByteBuffer index = ByteBuffer.allocate(136).order(ByteOrder.nativeOrder());
        try (FileChannel channel = FileChannel.open(shm, StandardOpenOption.READ)) {
            if (!fill(channel, index, 0)) {
                return;
            }
        } catch (NoSuchFileException e) {
            return;
        }
        int[] sum = new int[2];
        checksum(index.array(), 0, 40, ByteOrder.nativeOrder(), sum);
        if (index.getInt(0) == FORMAT && index.get(12) == 1 && sum[0] == index.getInt(40) && sum[1] == index.getInt(44)
                && Arrays.equals(index.array(), 0, 48, index.array(), 48, 96)) {
            indexSalts = Arrays.copyOfRange(index.array(), 32, 40);
            indexed = index.getInt(16);
            moved = index.getInt(96);
        }
    }

    private boolean isSameLife() {
        return indexSalts != null && Arrays.equals(indexSalts, salts);
    }

    /**
     * What the -shm file says was committed and is not here. While the system runs it is exact, since it is changed after
     * the sync; after a power cut it may be older.
     *
     * @param sameBoot whether the system has run since the store was open last
     * @return empty, or what is missing
     */
    String missing(boolean sameBoot) {
        // Where nothing can be read SQLite takes the store alone, which is whole if all had been moved into it. Where the
        // beginning can be read, its older pages would cover newer ones in the store.
        if (indexSalts == null || indexed <= readable() || readable() == 0 && indexed <= moved || !isSameLife() && !sameBoot) {
            return "";
        }
        return "the index says that " + indexed + " frames were committed, " + readable() + " can be read";
    }

    /** As {@link #missing}, of what cannot be found behind the damage either. */
    String gone() {
        if (indexSalts == null || indexed <= committed || indexed <= moved && committed == 0) {
            return "";
        }
        return "the index says that " + indexed + " frames were committed, " + committed + " are there";
    }

    /** Whether the newest image of a page is damaged, or that of an unknown one. */
    boolean isStale(int page) {
        return stale.containsKey(page) || stale.keySet().stream().anyMatch(number -> number > pageCount);
    }

    /** Positions of all page images that were committed, superseded ones too; oldest first. */
    List<Long> images() {
        return images;
    }

    /** Frames up to the last commit that SQLite would take. */
    private int readable() {
        return headerOk ? Math.min(committed, unbroken) : 0;
    }

    /** Page number to position of its newest committed image. */
    Map<Integer, Long> pages() {
        return pages;
    }

    /** Pages of which SQLite will take an image from here. */
    Set<Integer> taken() {
        return taken;
    }

    /** Pages of the database after the last commit that SQLite will take; 0: it will take none. */
    int takenPageCount() {
        return takenPageCount;
    }

    /** Pages of the database after the last commit; 0: nothing is committed here. */
    int pageCount() {
        return pageCount;
    }
}
