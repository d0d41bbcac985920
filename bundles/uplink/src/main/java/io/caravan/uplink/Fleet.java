// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import java.sql.SQLException;
import java.util.Collection;
import java.util.List;
import java.util.Optional;

/**
 * Bean {@code fleet} of the cloud: how each gateway is, as all replicas see it. Thread-safe; not to be called on an event loop.
 */
public interface Fleet {

    /**
     * What needs somebody's attention. A gateway may have several; none: all is well.
     *
     * <p>{@code NEW}: may connect and never did. {@code REVOKED}: may not connect any more. {@code LATE}: not heard for {@code fleet.late.ms}; of
     * what follows nothing is said then but what it said last. {@code BEHIND}: the oldest row that it has and the cloud has not is older
     * than {@code fleet.behind.ms}. {@code CLOCK}: its clock differs by more than {@code fleet.clock.ms}, whatever the round trip. {@code
     * OLD_VERSION}: older than {@code fleet.version.min}, or without that than the cloud. {@code STORE}: its own store is not DURABLE, or it is not
     * ready.
     */
    enum State { NEW, REVOKED, LATE, BEHIND, CLOCK, OLD_VERSION, STORE }

    /**
     * All but {@code id}, {@code states} and {@code connected} may be null: not known.
     *
     * @param connected     some replica had its connection a moment ago
     * @param seenMs        wall clock of the cloud, when a replica last had its connection
     * @param statsMs       when it last told what follows
     * @param lagMs         age of the oldest row that it has and the cloud has not
     * @param clockOffsetMs how far its clock is ahead, wrong by at most half of {@code roundTripMs}
     */
    record Member(String id, List<State> states, boolean connected, Long seenMs, Long connectedSinceMs, String address, String version, Long statsMs,
        Long backlogRows, Long lagMs, Long clockOffsetMs, Long roundTripMs, String storeState, Long storeBytes, Long storeLimitBytes, Boolean ready,
        String note) { }

    /**
     * @param sites only gateways of these sites; null: of all
     * @return sorted by id
     * @throws SQLException the store cannot be read
     */
    List<Member> list(Collection<String> sites) throws SQLException;

    /** @return empty: neither registered nor ever connected */
    default Optional<Member> show(String id) throws SQLException {
        return list(null).stream().filter(m -> m.id().equals(id)).findFirst();
    }
}
