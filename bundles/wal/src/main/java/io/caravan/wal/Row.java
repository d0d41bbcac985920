// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import java.nio.charset.StandardCharsets;

/**
 * One row of the log (a gateway's, or the cloud's inbox) as a sink gets it. Immutable as long as nobody writes into {@code body}.
 *
 * <p>In a route: {@code ${body.deviceId}}, {@code ${body.json}}. Converts to byte[] and String as {@link #json()}.
 *
 * @param seq          position in this gateway's log, without holes; in the cloud in its inbox, with holes
 * @param gatewayId    {@code gateway.id}; in the cloud the gateway it came from
 * @param messageKey   identity of the message: equal keys are the same message, delivered again
 * @param correlationId null in the cloud
 * @param lane         {@code live} or {@code historical}: flagged by the device, or part of a backlog
 * @param bootId       null if the device does not number its messages
 * @param deviceSeq    0 if it does not
 * @param traceContext W3C traceparent, or null
 * @param schemaVersion 0 in the cloud: it is in the body where the kind has one
 * @param body         canonical JSON, UTF-8
 */
public record Row(long seq, String gatewayId, String messageKey, String correlationId, String deviceId, String kind, String lane,
        String bootId, long deviceSeq, long observedAtMs, long receivedAtMs, int schemaVersion, String contentType,
        String traceContext, byte[] body) {

    /** @return the row as one line of NDJSON without the newline, UTF-8; fields as docs/contract.md section "What sinks get" */
    public byte[] json() {
        return RowJson.line(this);
    }

    /** @return {@link #body} as text */
    public String bodyText() {
        return new String(body, StandardCharsets.UTF_8);
    }
}
