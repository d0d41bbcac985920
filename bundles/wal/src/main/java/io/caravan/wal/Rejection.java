// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import java.util.Objects;

/**
 * One message that was refused and is kept as it came; the columns of table {@code rejected} apart from {@code id}.
 *
 * @param receivedAtMs  time of receipt, wall-clock milliseconds
 * @param correlationId UUIDv7
 * @param source        mqtt-server, mqtt or http
 * @param topic         topic or path as received
 * @param deviceId      sender, null if unknown
 * @param contentType   media type as received, or null
 * @param reason        one of the closed vocabulary, docs/contract.md section 6
 * @param field         JSON pointer of the offending field, or null
 * @param error         what broke which rule
 * @param body          bytes as received
 */
public record Rejection(long receivedAtMs, String correlationId, String source, String topic, String deviceId,
        String contentType, String reason, String field, String error, byte[] body) {

    /** @throws NullPointerException if a column that may not be NULL is null */
    public Rejection {
        Objects.requireNonNull(correlationId, "correlationId");
        Objects.requireNonNull(source, "source");
        Objects.requireNonNull(topic, "topic");
        Objects.requireNonNull(reason, "reason");
        Objects.requireNonNull(error, "error");
        Objects.requireNonNull(body, "body");
    }
}
