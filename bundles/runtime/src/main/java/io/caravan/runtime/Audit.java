// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import java.util.Map;

/**
 * Bean {@code audit}: who did what, append-only, on disk before the call returns. For what people and peers do that matters
 * for trust (commands that change something, enrolment, revocation, lock-outs, sessions of gateways, configuration and route
 * changes, start and stop), not for messages. Thread-safe.
 */
public interface Audit {

    /**
     * Writes one entry. The actor is the user of the shell session this thread works for, else the container itself.
     *
     * @param action  area and verb, for example {@code device.revoke}
     * @param subject what it was done to, for example a device id
     * @param outcome {@code ok}, or why not
     * @param details never a secret; values as text
     * @throws java.io.UncheckedIOException the entry could not be written: what must be audited must then not be done, unless
     *                                      it takes rights away
     */
    void record(String action, String subject, String outcome, Map<String, ?> details);

    /**
     * As above, for what somebody asked for who has no shell session.
     *
     * @param actor who, as it was verified
     */
    default void recordAs(String actor, String action, String subject, String outcome, Map<String, ?> details) {
        Map<String, Object> with = new java.util.LinkedHashMap<>(details);
        with.put("by", actor);
        record(action, subject, outcome, with);
    }
}
