// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.Set;

/**
 * A gateway's frame {@code stats}: how it is, as it says. A member that is missing or breaks its rule is null, because a newer or a broken
 * gateway must stay connected.
 *
 * @param number        of the frame within its session, for the answer
 * @param backlogRows   rows of its outbox that this cloud has not acked
 * @param lagMs         age of the oldest of them, by the gateway's clock
 * @param offsetMs      how far its clock is ahead of the cloud's, wrong by at most half of {@code roundTripMs}
 * @param storeState    DURABLE, DEGRADED, REFUSING or UNKNOWN
 * @param ready         whether all its readiness checks are up
 */
public record Stats(Long number, Long backlogRows, Long lagMs, Long offsetMs, Long roundTripMs, String storeState, Long storeBytes,
    Long storeLimitBytes, Boolean ready) {

    private static final Set<String> STATES = Set.of("DURABLE", "DEGRADED", "REFUSING");

    static Stats of(JsonNode frame) {
        String state = frame.path("store_state").asText(null);
        return new Stats(whole(frame, "number", 0), whole(frame, "backlog_rows", 0), whole(frame, "lag_ms", 0),
            whole(frame, "clock_offset_ms", Long.MIN_VALUE), whole(frame, "round_trip_ms", 0), state == null ? null : STATES.contains(state) ? state : "UNKNOWN",
            whole(frame, "store_bytes", 0), whole(frame, "store_limit_bytes", 0), frame.path("ready").isBoolean() ? frame.path("ready").booleanValue() : null);
    }

    private static Long whole(JsonNode frame, String member, long min) {
        JsonNode value = frame.path(member);
        return value.isIntegralNumber() && value.canConvertToLong() && value.longValue() >= min ? value.longValue() : null;
    }
}
