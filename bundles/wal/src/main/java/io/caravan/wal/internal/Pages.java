// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The pages of a store as they were committed last: images in the -wal file supersede those in the store. Read only,
 * believes nothing that a page says about another one, and never fails for what a page contains. Not thread-safe.
 */
final class Pages implements AutoCloseable {
    static final int SIZE = WalFile.PAGE;
    static final int TABLE_LEAF = 0x0d;
    static final int TABLE_INTERIOR = 0x05;
    static final int INDEX_LEAF = 0x0a;
    static final int INDEX_INTERIOR = 0x02;
    /** What SQLite allows a record here: far above the largest message, far below what a damaged length could ask for. */
    private static final int MAX_PAYLOAD = 64 << 20;

    private final WalFile wal;
    private final FileChannel store;
    private final FileChannel log;
    private final int count;
    private final ByteBuffer overflow = ByteBuffer.allocate(SIZE);

    /** @param store may be missing: its pages are zero then */
    Pages(Path store) throws IOException {
        wal = WalFile.of(store);
        this.store = open(store);
        this.log = wal.images().isEmpty() ? null : open(store.resolveSibling(store.getFileName() + "-wal"));
        // The length, not what page 1 says: checkpoints make it exact, and it cannot be damaged into a small number.
        int inStore = this.store == null ? 0 : (int) ((this.store.size() + SIZE - 1) / SIZE);
        count = wal.pageCount() > 0 ? wal.pageCount() : inStore;
    }

    private static FileChannel open(Path file) throws IOException {
        try {
            return FileChannel.open(file, StandardOpenOption.READ);
        } catch (NoSuchFileException e) {
            return null;
        }
    }

    WalFile wal() {
        return wal;
    }

    int count() {
        return count;
    }

    /** @param into gets the page, zero where the file has none, position 0 */
    void page(int number, ByteBuffer into) throws IOException {
        Long inLog = wal.pages().get(number);
        read(inLog != null ? log : store, inLog != null ? inLog : (long) (number - 1) * SIZE, into);
    }

    /** The page as it stands in the store, whatever the -wal file has. */
    void pageInStore(int number, ByteBuffer into) throws IOException {
        read(store, (long) (number - 1) * SIZE, into);
    }

    /** @param position one of {@link WalFile#images()} */
    void image(long position, ByteBuffer into) throws IOException {
        read(log, position, into);
    }

    private static void read(FileChannel from, long position, ByteBuffer into) throws IOException {
        into.clear();
        while (from != null && into.hasRemaining()) {
            int read = from.read(into, position + into.position());
            if (read < 0) {
                break;
            }
        }
        while (into.hasRemaining()) {
            into.put((byte) 0);
        }
        into.flip();
    }

    /** One row, in a page that was read. */
    interface Cells {
        /**
         * @param rowid  of a table; 0 in an index
         * @param values Long, Double, String, byte[], null; strings as they stand there
         */
        void row(long rowid, Object[] values) throws IOException;
    }

    static int header(int number) {
        return number == 1 ? 100 : 0;
    }

    static int type(int number, ByteBuffer page) {
        return page.get(header(number)) & 0xff;
    }

    /**
     * Gives each cell of a leaf, and of an interior page of an index, that can be read.
     *
     * @param broken counts cells that cannot; a page that says nonsense about itself counts as one
     */
    void cells(int number, ByteBuffer page, Cells to, int[] broken) throws IOException {
        int type = type(number, page);
        int head = header(number);
        int cells = page.getShort(head + 3) & 0xffff;
        int pointers = head + (type == INDEX_INTERIOR || type == TABLE_INTERIOR ? 12 : 8);
        if (pointers + 2 * cells > SIZE) {
            broken[0]++;
            return;
        }
        Record record = new Record(this);
        Object[] before = null;
        long rowidBefore = Long.MIN_VALUE;
        for (int i = 0; i < cells; i++) {
            int at = page.getShort(pointers + 2 * i) & 0xffff;
            if (at < pointers + 2 * cells || at >= SIZE) {
                broken[0]++;
                continue;
            }
            if (!record.read(page, type == INDEX_INTERIOR ? at + 4 : at, type == TABLE_LEAF)) {
                broken[0]++;
                continue;
            }
            if (type == TABLE_LEAF ? record.rowid <= rowidBefore : before != null && compare(before, record.values) >= 0) {
                broken[0]++; // out of order: this one or the one before is not what it was
            }
            rowidBefore = record.rowid;
            before = record.values;
            to.row(record.rowid, record.values);
        }
    }

    /** As SQLite orders keys: NULL, numbers, text, blobs; as far as our keys need it. */
    private static int compare(Object[] a, Object[] b) {
        for (int i = 0; i < Math.min(a.length, b.length); i++) {
            int order = rank(a[i]) - rank(b[i]);
            if (order == 0 && a[i] instanceof Long && b[i] instanceof Long) {
                order = Long.compare((Long) a[i], (Long) b[i]);
            } else if (order == 0 && a[i] instanceof String && b[i] instanceof String) {
                order = Arrays.compareUnsigned(((String) a[i]).getBytes(StandardCharsets.UTF_8),
                        ((String) b[i]).getBytes(StandardCharsets.UTF_8));
            }
            if (order != 0) {
                return order;
            }
        }
        return a.length - b.length;
    }

    private static int rank(Object value) {
        return value == null ? 0 : value instanceof Number ? 1 : value instanceof byte[] ? 3 : 2;
    }

    /** Children of an interior page. */
    static int[] children(int number, ByteBuffer page) {
        int head = header(number);
        int cells = page.getShort(head + 3) & 0xffff;
        if (head + 12 + 2 * cells > SIZE) {
            return new int[0];
        }
        int[] children = new int[cells + 1];
        for (int i = 0; i < cells; i++) {
            int at = page.getShort(head + 12 + 2 * i) & 0xffff;
            children[i] = at >= 12 && at <= SIZE - 4 ? page.getInt(at) : 0;
        }
        children[cells] = page.getInt(head + 8);
        return children;
    }

    /**
     * Walks a b-tree from its root.
     *
     * @return how many pages and cells of it cannot be read; 0: all of it was
     */
    int walk(int root, boolean table, Cells to) throws IOException {
        int[] broken = new int[1];
        walk(root, table, to, broken, new HashSet<>(), 0);
        return broken[0];
    }

    private void walk(int number, boolean table, Cells to, int[] broken, Set<Integer> seen, int depth) throws IOException {
        if (number < 1 || number > count || depth > 20 || !seen.add(number)) {
            broken[0]++;
            return;
        }
        ByteBuffer page = ByteBuffer.allocate(SIZE);
        page(number, page);
        int type = type(number, page);
        if (type == (table ? TABLE_LEAF : INDEX_LEAF)) {
            leaf(number, page, to, broken);
        } else if (type == (table ? TABLE_INTERIOR : INDEX_INTERIOR)) {
            if (!table) {
                leaf(number, page, to, broken);
            }
            int[] children = children(number, page);
            if (children.length == 0) {
                broken[0]++;
            }
            for (int child : children) {
                walk(child, table, to, broken, seen, depth + 1);
            }
        } else {
            broken[0]++;
        }
    }

    /** All of its rows or none: these rows have no checksum, so where one is damaged none is believed. */
    void leaf(int number, ByteBuffer page, Cells to, int[] broken) throws IOException {
        int before = broken[0];
        List<Map.Entry<Long, Object[]>> rows = new ArrayList<>();
        cells(number, page, (rowid, values) -> rows.add(Map.entry(rowid, values)), broken);
        if (broken[0] > before) {
            return;
        }
        for (Map.Entry<Long, Object[]> row : rows) {
            to.row(row.getKey(), row.getValue());
        }
    }

    /** A cell: https://sqlite.org/fileformat2.html section 1.6 and 2. */
    private static final class Record {
        private final Pages pages;
        private ByteBuffer page;
        private int at;
        long rowid;
        Object[] values;

        Record(Pages pages) {
            this.pages = pages;
        }

        boolean read(ByteBuffer in, int from, boolean table) throws IOException {
            page = in;
            at = from;
            long length = varint(in);
            if (length < 1 || length > MAX_PAYLOAD) {
                return false;
            }
            rowid = table ? varint(in) : 0;
            if (at > SIZE) {
                return false;
            }
            byte[] payload = payload((int) length, table);
            return payload != null && decode(payload);
        }

        private long varint(ByteBuffer in) {
            long value = 0;
            for (int i = 0; i < 9; i++) {
                if (at >= in.limit()) {
                    at = SIZE + 1;
                    return 0;
                }
                int b = in.get(at++) & 0xff;
                if (i == 8) {
                    return value << 8 | b;
                }
                value = value << 7 | b & 0x7f;
                if (b < 0x80) {
                    return value;
                }
            }
            return value;
        }

        private byte[] payload(int length, boolean table) throws IOException {
            int max = table ? SIZE - 35 : (SIZE - 12) * 64 / 255 - 23;
            int local = length;
            if (length > max) {
                int min = (SIZE - 12) * 32 / 255 - 23;
                int fit = min + (length - min) % (SIZE - 4);
                local = fit <= max ? fit : min;
            }
            if (at + local + (local < length ? 4 : 0) > SIZE) {
                return null;
            }
            if (length > local && (long) pages.count * SIZE < length) {
                return null;
            }
            byte[] payload = new byte[length];
            page.get(at, payload, 0, local);
            int next = local < length ? page.getInt(at + local) : 0;
            for (int have = local; have < length; ) {
                if (next < 2 || next > pages.count) {
                    return null;
                }
                pages.page(next, pages.overflow);
                int part = Math.min(SIZE - 4, length - have);
                pages.overflow.get(4, payload, have, part);
                have += part;
                next = pages.overflow.getInt(0);
                if (have == length != (next == 0)) {
                    return null;
                }
            }
            return payload;
        }

        private boolean decode(byte[] payload) {
            ByteBuffer in = ByteBuffer.wrap(payload);
            at = 0;
            long header = varint(in);
            if (header < 1 || header > payload.length || header > 400) {
                return false;
            }
            long[] types = new long[64];
            int columns = 0;
            long content = header;
            while (at < header) {
                if (columns == types.length) {
                    return false;
                }
                long type = varint(in);
                if (at > header || type < 0 || type == 10 || type == 11) {
                    return false;
                }
                types[columns++] = type;
                content += length(type);
            }
            if (content != payload.length) {
                return false; // lengths that do not add up: nothing in it is to be believed
            }
            values = new Object[columns];
            int from = (int) header;
            for (int i = 0; i < columns; i++) {
                int length = (int) length(types[i]);
                values[i] = value(payload, from, length, types[i]);
                if (values[i] == DAMAGED) {
                    return false;
                }
                from += length;
            }
            return true;
        }

        private static long length(long type) {
            if (type >= 12) {
                return (type - 12) / 2;
            }
            return type < 5 ? type : type == 5 ? 6 : type <= 7 ? 8 : 0;
        }

        private static Object value(byte[] payload, int from, int length, long type) {
            if (type == 0) {
                return null;
            }
            if (type >= 12) {
                byte[] bytes = Arrays.copyOfRange(payload, from, from + length);
                return (type & 1) == 0 ? bytes : text(bytes);
            }
            if (type >= 8) {
                return type - 8;
            }
            long number = payload[from];
            for (int i = 1; i < length; i++) {
                number = number << 8 | payload[from + i] & 0xff;
            }
            return type == 7 ? (Object) Double.longBitsToDouble(number) : (Object) number;
        }
    }

    /** Stands for a text that is not UTF-8: the gateway writes no other. */
    private static final Object DAMAGED = new Object();

    private static Object text(byte[] bytes) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
        } catch (CharacterCodingException e) {
            return DAMAGED;
        }
    }

    @Override
    public void close() throws IOException {
        if (store != null) {
            store.close();
        }
        if (log != null) {
            log.close();
        }
    }
}
