// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * What the gateways of this replica said of themselves last, until route {@code fleet} writes it down: one row per gateway, however often it
 * speaks, so a gateway cannot make the store busy. This class is thread-safe.
 */
public final class Presence {

    private record Said(Stats stats, long atMs) { }

    private final Map<String, Said> said = new ConcurrentHashMap<>();
    private final Map<String, Long> gone = new ConcurrentHashMap<>();

    /** @return the answer to send at once, as JSON text; null: the frame has no number, and is kept all the same */
    public String stats(String gateway, JsonNode frame, long nowMs) {
        Stats stats = Stats.of(frame);
        said.put(gateway, new Said(stats, nowMs));
        return stats.number() == null ? null : "{\"type\":\"stats-ack\",\"number\":" + stats.number() + ",\"received_ms\":" + nowMs
            + ",\"sent_ms\":" + System.currentTimeMillis() + "}";
    }

    /** The gateway's last session here is over. */
    public void gone(String gateway, long nowMs) {
        gone.put(gateway, nowMs);
    }

    /** @return gateways that went since the last call and are not among the connected, with when */
    public Map<String, Long> left(Set<String> connected) {
        Map<String, Long> left = new HashMap<>();
        for (String gateway : Set.copyOf(gone.keySet())) {
            Long at = gone.remove(gateway);
            if (at != null && !connected.contains(gateway)) {
                left.put(gateway, at);
            }
        }
        return left;
    }

    /** Puts the columns of what the gateway said into a row of {@code gateway_health}; null in each where it said nothing. */
    public void fill(String gateway, Map<String, Object> row) {
        Said last = said.get(gateway);
        Stats s = last == null ? new Stats(null, null, null, null, null, null, null, null, null) : last.stats;
        row.put("stats_at_ms", last == null ? null : last.atMs);
        row.put("backlog_rows", s.backlogRows());
        row.put("lag_ms", s.lagMs());
        row.put("clock_offset_ms", s.offsetMs());
        row.put("round_trip_ms", s.roundTripMs());
        row.put("store_state", s.storeState());
        row.put("store_bytes", s.storeBytes());
        row.put("store_limit_bytes", s.storeLimitBytes());
        row.put("ready", s.ready() == null ? null : s.ready() ? 1 : 0);
    }

    /** Forgets what gateways said that are not connected here any more. */
    public void keep(Set<String> connected) {
        said.keySet().retainAll(connected);
    }
}
