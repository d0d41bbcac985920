// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import java.util.Objects;

/**
 * One accepted message on its way into the log; the columns of table {@code wal} apart from {@code seq} and
 * {@code crc}. Immutable; the body is not copied, so nobody may write to it after the record was made.
 *
 * @param messageKey    idempotency key, unique in the log; for a numbered message {@code device/boot/} and
 *                      {@code deviceSeq} as 16 decimal digits, so that text order is numeric order
 * @param correlationId UUIDv7
 * @param deviceId      sender
 * @param kind          telemetry, event, capabilities, command-status or reported
 * @param lane          live or historical, as the device flagged it
 * @param bootId        the device's boot, null where the device does not number its messages
 * @param deviceSeq     number within the boot, from 1; 0: none
 * @param observedAtMs  event time, wall-clock milliseconds
 * @param receivedAtMs  time of receipt, wall-clock milliseconds
 * @param monoMs        time of receipt on the monotonic clock, milliseconds
 * @param schemaVersion version of the payload's schema
 * @param contentType   media type as received
 * @param traceContext  W3C traceparent, or null
 * @param body          canonical JSON, UTF-8
 * @param replayWindow  0: not signed. Else its signature was verified, and it is kept as {@code replayed} instead, if its
 *                      number is this much, or more, below the highest signed one of its boot
 */
public record Record(String messageKey, String correlationId, String deviceId, String kind, String lane, String bootId,
        long deviceSeq, long observedAtMs, long receivedAtMs, long monoMs, int schemaVersion, String contentType,
        String traceContext, byte[] body, long replayWindow) {

    /**
     * @throws NullPointerException     if a column that may not be NULL is null
     * @throws IllegalArgumentException if it is signed and not numbered: it could be replayed
     */
    public Record {
        Objects.requireNonNull(messageKey, "messageKey");
        Objects.requireNonNull(correlationId, "correlationId");
        Objects.requireNonNull(deviceId, "deviceId");
        Objects.requireNonNull(kind, "kind");
        Objects.requireNonNull(lane, "lane");
        Objects.requireNonNull(contentType, "contentType");
        Objects.requireNonNull(body, "body");
        if (replayWindow < 0 || replayWindow > 0 && (bootId == null || deviceSeq < 1)) {
            throw new IllegalArgumentException("replayWindow [" + replayWindow + "] must be 0, or with a boot and a number positive");
        }
    }

    /** A record that is not signed. */
    public Record(String messageKey, String correlationId, String deviceId, String kind, String lane, String bootId,
            long deviceSeq, long observedAtMs, long receivedAtMs, long monoMs, int schemaVersion, String contentType,
            String traceContext, byte[] body) {
        this(messageKey, correlationId, deviceId, kind, lane, bootId, deviceSeq, observedAtMs, receivedAtMs, monoMs, schemaVersion,
                contentType, traceContext, body, /* replayWindow= */ 0);
    }

    /** The key of a numbered message: {@code device/boot/} and 16 decimal digits, which the log's index relies on. */
    public static String numberedKey(String deviceId, String bootId, long deviceSeq) {
        StringBuilder key = new StringBuilder(deviceId.length() + bootId.length() + 18);
        key.append(deviceId).append('/').append(bootId).append('/');
        String digits = Long.toString(deviceSeq);
        for (int i = digits.length(); i < 16; i++) {
            key.append('0');
        }
        return key.append(digits).toString();
    }

    /** Whether the device numbers its messages: then the log keeps its progress and sends receipts. */
    public boolean numbered() {
        return bootId != null && deviceSeq > 0;
    }

    /** Whether a signature of its device was verified. */
    public boolean signed() {
        return replayWindow > 0;
    }
}
