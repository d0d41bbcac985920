// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.Arrays;
import java.util.List;

/**
 * The line a sink gets for a row. Written by hand because it is the hottest code of a drain: the body is copied as the
 * bytes it has, and ids are checked at the door to need no escaping, so that there is nothing for a JSON library to do.
 */
final class RowJson {
    private static final byte[] HEX = "0123456789abcdef".getBytes(StandardCharsets.US_ASCII);

    private byte[] buffer;
    private int size;

    private RowJson(int capacity) {
        buffer = new byte[capacity];
    }

    static byte[] line(Row row) {
        RowJson json = new RowJson(row.body().length + 512);
        json.row(row);
        return Arrays.copyOf(json.buffer, json.size);
    }

    static byte[] lines(List<Row> rows) {
        long bytes = 0;
        for (Row row : rows) {
            bytes += row.body().length + 400;
        }
        RowJson json = new RowJson((int) Math.min(bytes, Integer.MAX_VALUE - 16));
        for (Row row : rows) {
            json.row(row);
            json.add('\n');
        }
        return json.size == json.buffer.length ? json.buffer : Arrays.copyOf(json.buffer, json.size);
    }

    static String key(long firstSeq, long lastSeq, byte[] ndjson) {
        byte[] hash;
        try {
            hash = MessageDigest.getInstance("SHA-256").digest(ndjson);
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java has SHA-256", e);
        }
        StringBuilder key = new StringBuilder(50);
        key.append(String.format("%016d-%016d-", firstSeq, lastSeq));
        for (int i = 0; i < 8; i++) {
            key.append(Character.forDigit(hash[i] >> 4 & 0xf, 16)).append(Character.forDigit(hash[i] & 0xf, 16));
        }
        return key.toString();
    }

    static String date(long epochMs) {
        return Instant.ofEpochMilli(epochMs).atZone(ZoneOffset.UTC).toLocalDate().toString();
    }

    private void row(Row row) {
        raw("{\"seq\":");
        number(row.seq());
        field(",\"gateway_id\":", row.gatewayId());
        field(",\"message_key\":", row.messageKey());
        if (row.correlationId() != null) {
            field(",\"correlation_id\":", row.correlationId());
        }
        field(",\"device_id\":", row.deviceId());
        field(",\"kind\":", row.kind());
        field(",\"lane\":", row.lane());
        if (row.bootId() != null) {
            field(",\"boot_id\":", row.bootId());
        }
        if (row.deviceSeq() > 0) {
            raw(",\"device_seq\":");
            number(row.deviceSeq());
        }
        raw(",\"observed_at_ms\":");
        number(row.observedAtMs());
        raw(",\"received_at_ms\":");
        number(row.receivedAtMs());
        if (row.schemaVersion() > 0) {
            raw(",\"schema_version\":");
            number(row.schemaVersion());
        }
        if (row.traceContext() != null) {
            field(",\"trace_context\":", row.traceContext());
        }
        raw(",\"body\":");
        room(row.body().length);
        System.arraycopy(row.body(), 0, buffer, size, row.body().length);
        size += row.body().length;
        add('}');
    }

    private void field(String name, String value) {
        raw(name);
        add('"');
        room(value.length());
        for (int i = 0; i < value.length(); i++) {
            char c = value.charAt(i);
            if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
                buffer[size++] = (byte) c;
            } else {
                escape(value, i);
                return;
            }
        }
        add('"');
    }

    /** From the first character on that is not plain ASCII: as \\uXXXX, so that surrogates need no pairing. */
    private void escape(String value, int from) {
        room(6 * (value.length() - from) + 1);
        for (int i = from; i < value.length(); i++) {
            char c = value.charAt(i);
            if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
                buffer[size++] = (byte) c;
            } else {
                buffer[size++] = '\\';
                buffer[size++] = 'u';
                for (int shift = 12; shift >= 0; shift -= 4) {
                    buffer[size++] = HEX[c >> shift & 0xf];
                }
            }
        }
        buffer[size++] = '"';
    }

    private void number(long value) {
        raw(Long.toString(value));
    }

    private void raw(String ascii) {
        int length = ascii.length();
        room(length);
        for (int i = 0; i < length; i++) {
            buffer[size + i] = (byte) ascii.charAt(i);
        }
        size += length;
    }

    private void add(char ascii) {
        room(1);
        buffer[size++] = (byte) ascii;
    }

    private void room(int bytes) {
        if (size + bytes > buffer.length) {
            buffer = Arrays.copyOf(buffer, Math.max(size + bytes, buffer.length + (buffer.length >> 1)));
        }
    }
}
