// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import java.util.AbstractList;
import java.util.List;

/**
 * Rows of the log that are claimed for a sink: the body of {@code direct:deliver-<sink>}. A list, so that {@code split}
 * and {@code useIterator} take it as it is; converts to byte[], String and InputStream as NDJSON (a line per row, each
 * ended by a newline), so that {@code to: file:...} writes it as it is. Immutable, thread-safe.
 */
public final class Batch extends AbstractList<Row> {
    private final String sink;
    private final long firstSeq;
    private final long lastSeq;
    private final List<Row> rows;
    private byte[] ndjson;
    private String key;

    /**
     * @param firstSeq first sequence claimed
     * @param lastSeq  last sequence claimed; rows between them may be missing here (damaged, or dead letters already)
     * @param rows     in order of seq, not empty
     */
    public Batch(String sink, long firstSeq, long lastSeq, List<Row> rows) {
        this.sink = sink;
        this.firstSeq = firstSeq;
        this.lastSeq = lastSeq;
        this.rows = List.copyOf(rows);
    }

    @Override
    public Row get(int index) {
        return rows.get(index);
    }

    @Override
    public int size() {
        return rows.size();
    }

    /** @return name of the sink, without {@code sink-} */
    public String sink() {
        return sink;
    }

    public long firstSeq() {
        return firstSeq;
    }

    public long lastSeq() {
        return lastSeq;
    }

    /** @return all rows as NDJSON, UTF-8; do not write into it */
    public synchronized byte[] ndjson() {
        if (ndjson == null) {
            ndjson = RowJson.lines(rows);
        }
        return ndjson;
    }

    /**
     * Names the batch by what is in it: the same rows give the same key, other rows another one, also after the store
     * was replaced and counts from 1 again.
     *
     * @return {@code <first_seq>-<last_seq>-<hash>}: 16 digits each, 16 hexadecimal digits of the SHA-256 of {@link #ndjson()}
     */
    public synchronized String key() {
        if (key == null) {
            key = RowJson.key(firstSeq, lastSeq, ndjson());
        }
        return key;
    }

    /** @return UTC day on which the first row was received, {@code yyyy-MM-dd} */
    public String date() {
        return RowJson.date(rows.get(0).receivedAtMs());
    }
}
