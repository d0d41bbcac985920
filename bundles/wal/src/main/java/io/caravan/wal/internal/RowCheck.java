// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Record;
import java.nio.charset.StandardCharsets;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.zip.CRC32C;

/**
 * The checksums of a row of the log: {@code crc} of the body, {@code row_crc} of all the rest and the sequence. SQLite
 * has none of its own: a flipped bit in a value is served as it is and passes PRAGMA integrity_check. Not thread-safe.
 */
final class RowCheck {
    private final CRC32C crc = new CRC32C();
    private final byte[] number = new byte[8];

    /** CRC-32C of a body. */
    static long of(byte[] body) {
        CRC32C crc = new CRC32C();
        crc.update(body, 0, body.length);
        return crc.getValue();
    }

    long of(long seq, Record r) {
        return of(seq, r.messageKey(), r.correlationId(), r.deviceId(), r.kind(), r.lane(), r.bootId(),
                r.deviceSeq() > 0 ? r.deviceSeq() : null, r.observedAtMs(), r.receivedAtMs(), r.monoMs(), r.schemaVersion(),
                r.contentType(), r.traceContext());
    }

    /** @param values message_key to trace_context, in the table's order: text, whole numbers, null */
    long of(long seq, Object... values) {
        crc.reset();
        update(seq);
        for (Object value : values) {
            if (value == null) {
                crc.update(0);
            } else if (value instanceof Number) {
                crc.update(1);
                update(((Number) value).longValue());
            } else {
                byte[] text = value.toString().getBytes(StandardCharsets.UTF_8);
                crc.update(2);
                update(text.length);
                crc.update(text, 0, text.length);
            }
        }
        return crc.getValue();
    }

    private void update(long value) {
        for (int i = 0; i < 8; i++) {
            number[i] = (byte) (value >>> 56 - 8 * i);
        }
        crc.update(number, 0, 8);
    }

    /**
     * Checks a row of {@code SELECT * FROM wal}, or of any query with its columns.
     *
     * @return null: it is as it was written; else what is wrong, for an error text
     */
    String fault(ResultSet row) throws SQLException {
        byte[] body = row.getBytes("body");
        Object rest = row.getObject("row_crc");
        return fault(row.getLong("seq"), body, row.getLong("crc"), rest == null ? null : ((Number) rest).longValue(),
                row.getString("message_key"), row.getString("correlation_id"), row.getString("device_id"), row.getString("kind"),
                row.getString("lane"), row.getString("boot_id"), row.getObject("device_seq"), row.getObject("observed_at_ms"),
                row.getObject("received_at_ms"), row.getObject("mono_ms"), row.getObject("schema_version"), row.getString("content_type"),
                row.getString("trace_context"));
    }

    /** @param rest null: written by version 1, only the body is checked */
    String fault(long seq, byte[] body, long crcOfBody, Long rest, Object... values) {
        long is = of(body == null ? new byte[0] : body);
        if (is != crcOfBody) {
            return "the body's CRC-32C is " + is + ", written was " + crcOfBody;
        }
        if (rest != null && (is = of(seq, values)) != rest) {
            return "the CRC-32C of the other columns is " + is + ", written was " + rest;
        }
        return null;
    }
}
