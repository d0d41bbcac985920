// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.TreeMap;

/** Sequences as bits in blocks: a few bytes per page of the log, whatever its first number. Not thread-safe. */
final class SeqSet {
    private static final int BLOCK = 1 << 16;

    private final TreeMap<Long, BitSet> blocks = new TreeMap<>();

    void add(long seq) {
        blocks.computeIfAbsent(seq / BLOCK, b -> new BitSet()).set((int) (seq % BLOCK));
    }

    void addAll(long first, long last) {
        for (long from = first; from <= last; ) {
            long end = Math.min(last, from / BLOCK * BLOCK + BLOCK - 1);
            blocks.computeIfAbsent(from / BLOCK, b -> new BitSet()).set((int) (from % BLOCK), (int) (end % BLOCK) + 1);
            from = end + 1;
        }
    }

    void remove(long seq) {
        BitSet bits = blocks.get(seq / BLOCK);
        if (bits != null) {
            bits.clear((int) (seq % BLOCK));
        }
    }

    void removeAll(SeqSet other) {
        other.blocks.forEach((block, bits) -> {
            BitSet mine = blocks.get(block);
            if (mine != null) {
                mine.andNot(bits);
            }
        });
    }

    boolean contains(long seq) {
        BitSet bits = blocks.get(seq / BLOCK);
        return bits != null && bits.get((int) (seq % BLOCK));
    }

    long size() {
        return blocks.values().stream().mapToLong(BitSet::cardinality).sum();
    }

    /** @return 0: empty */
    long first() {
        return blocks.entrySet().stream().filter(e -> !e.getValue().isEmpty()).findFirst()
                .map(e -> e.getKey() * BLOCK + e.getValue().nextSetBit(0)).orElse(0L);
    }

    /** @return 0: empty */
    long last() {
        return blocks.descendingMap().entrySet().stream().filter(e -> !e.getValue().isEmpty()).findFirst()
                .map(e -> e.getKey() * BLOCK + e.getValue().length() - 1).orElse(0L);
    }

    /** @return first and last of each run, ascending */
    List<long[]> ranges() {
        List<long[]> ranges = new ArrayList<>();
        blocks.forEach((block, bits) -> {
            for (int from = bits.nextSetBit(0); from >= 0; ) {
                int to = bits.nextClearBit(from);
                long first = block * BLOCK + from;
                long[] before = ranges.isEmpty() ? null : ranges.get(ranges.size() - 1);
                if (before != null && before[1] == first - 1) {
                    before[1] = block * BLOCK + to - 1;
                } else {
                    ranges.add(new long[] {first, block * BLOCK + to - 1});
                }
                from = bits.nextSetBit(to);
            }
        });
        return ranges;
    }
}
