// SPDX-License-Identifier: Apache-2.0
package io.caravan.https;

import com.google.protobuf.CodedInputStream;
import com.google.protobuf.CodedOutputStream;
import io.caravan.wal.Batch;
import io.caravan.wal.Row;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;

/** The messages of {@code telemetry-ingest.proto}, by hand: two of them are no reason for 2,000 lines of generated code. */
final class PushMessages {
    private static final int ACCEPTED_TAG = 1 << 3; // field 1, varint

    private PushMessages() {}

    /** @return PushRequest; the same for the same arguments, byte for byte */
    static byte[] request(String gatewayId, Batch batch) {
        try {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream(batch.ndjson().length);
            CodedOutputStream out = CodedOutputStream.newInstance(bytes);
            text(out, 1, gatewayId);
            text(out, 2, batch.key());
            for (Row row : batch) {
                out.writeByteArray(3, row(row));
            }
            out.flush();
            return bytes.toByteArray();
        } catch (IOException e) {
            throw new UncheckedIOException(e); // an array takes everything
        }
    }

    private static byte[] row(Row row) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(row.body().length + 256);
        CodedOutputStream out = CodedOutputStream.newInstance(bytes);
        number(out, 1, row.seq());
        text(out, 2, row.gatewayId());
        text(out, 3, row.messageKey());
        text(out, 4, row.correlationId());
        text(out, 5, row.deviceId());
        text(out, 6, row.kind());
        text(out, 7, row.lane());
        text(out, 8, row.bootId());
        number(out, 9, row.deviceSeq());
        number(out, 10, row.observedAtMs());
        number(out, 11, row.receivedAtMs());
        number(out, 12, row.schemaVersion());
        text(out, 13, row.traceContext());
        out.writeByteArray(14, row.body());
        out.flush();
        return bytes.toByteArray();
    }

    private static void text(CodedOutputStream out, int field, String value) throws IOException {
        if (value != null && !value.isEmpty()) {
            out.writeString(field, value);
        }
    }

    /** All our numbers are varints, signed and unsigned the same. */
    private static void number(CodedOutputStream out, int field, long value) throws IOException {
        if (value != 0) {
            out.writeUInt64(field, value);
        }
    }

    /** @return {@code accepted} of a PushReply
     *  @throws IOException it is not one */
    static long accepted(byte[] bytes, int offset, int length) throws IOException {
        CodedInputStream in = CodedInputStream.newInstance(bytes, offset, length);
        long accepted = 0;
        for (int tag = in.readTag(); tag != 0; tag = in.readTag()) {
            if (tag == ACCEPTED_TAG) {
                accepted = in.readUInt64();
            } else if (!in.skipField(tag)) {
                throw new IOException("a group that is not open ends");
            }
        }
        return accepted;
    }
}
