// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import java.io.IOException;
import java.util.List;
import java.util.Map;

/**
 * Bean {@code gateways} of the cloud: the registry of gateways as the shell and the API change it. It is in the store, the same for all
 * replicas (a change is in force at the others within a second), and in {@code uplink.gateways.file}; a gateway is changed where it is, a new
 * one is kept as {@code uplink.registry} says.
 *
 * <p>The file stays what people may edit as well: a change rewrites one line, keeps all others with their comments. A change is on
 * disk when the method returns. What takes rights away is in force at once, live connections included, also when it could
 * not be written; the method then throws. Of a token only its SHA-256 is kept. Every change is in the audit log. Methods
 * that change something throw IllegalArgumentException when the id breaks its rule or the gateway is not (or already) there,
 * and IOException when the file cannot be written. Thread-safe; not to be called on an event loop.
 */
public interface Gateways {

    /** ACTIVE, REVOKED, or INVALID: its line breaks a rule, so it is refused ({@link Gateway#problem}). */
    enum Status { ACTIVE, REVOKED, INVALID }

    /** What a client certificate with the gateway's id as CN is worth: nothing, as good as a token, compulsory. */
    enum Certificate { NO, ACCEPTED, REQUIRED }

    /**
     * @param id          first 8 hex digits of its SHA-256: names it, and is no secret
     * @param notBeforeMs null: valid already
     * @param notAfterMs  null: does not expire
     */
    record Token(String id, Long notBeforeMs, Long notAfterMs) { }

    /**
     * @param note             free text for people; null: none
     * @param problem          which rule its line breaks; null: none
     * @param connectedSinceMs wall-clock milliseconds; null, and so are the next three: not connected
     * @param credential       what it showed: {@code token 1a2b3c4d}, {@code certificate 0F1E...}, or both
     * @param version          of its software; null before hello
     */
    record Gateway(String id, Status status, List<Token> tokens, Certificate certificate, String note, String problem,
        Long connectedSinceMs, String address, String credential, String version) { }

    /**
     * @param token the new token, to be seen here only; null: the gateway has none
     */
    record Enrolment(Gateway gateway, String token) {

        /** Leaves the token out. */
        @Override
        public String toString() {
            return "Enrolment[gateway=" + gateway.id() + "]";
        }
    }

    /**
     * @param token   the enrolment token, to be seen here only; for {@link #enrol}
     * @param untilMs when it ends, unless it was used before
     */
    record Invitation(Gateway gateway, String token, long untilMs) {

        /** Leaves the token out. */
        @Override
        public String toString() {
            return "Invitation[gateway=" + gateway.id() + "]";
        }
    }

    /** @return sorted by id */
    List<Gateway> list();

    /**
     * @param withToken   make a token; without one the certificate must be allowed
     * @param note        null: none
     * @param notAfterMs  of the token; null: does not expire
     */
    Enrolment add(String id, Certificate certificate, boolean withToken, String note, Long notAfterMs) throws IOException;

    /**
     * Gives a gateway a new token. The newest valid one stays valid for {@code overlapMs}, all others end at once.
     *
     * @param overlapMs  0: connections made with the old token are cut
     * @param notAfterMs of the new token; null: does not expire
     */
    Enrolment rotate(String id, long overlapMs, Long notAfterMs) throws IOException;

    /** Refuses the gateway and cuts its connection. Undone by {@link #restore}. */
    Gateway revoke(String id) throws IOException;

    /** Makes a revoked gateway active again, with a new token if it had one; the old ones are gone. */
    Enrolment restore(String id) throws IOException;

    /** Forgets the gateway, valid line or not, and cuts its connection; its data stays. */
    void remove(String id) throws IOException;

    /**
     * Makes a one-time enrolment token for a gateway, known or not; one that waits ends. Until it is used nothing changes for a gateway that
     * is connected.
     *
     * @param note    null: none, or as it is
     * @param validMs 1 s to 30 days
     * @throws IllegalStateException also: there is only the file ({@code uplink.registry = file})
     */
    Invitation invite(String id, String note, long validMs) throws IOException;

    /**
     * Takes an enrolment token: the gateway made a token of its own and tells its hash; the token itself never travels before it is used. All
     * older tokens of the gateway end. The same request again is answered as before, so a lost answer does no harm.
     *
     * @param credentialHash SHA-256 of the gateway's new token, 64 lower case hex digits
     * @param address        who asks, for the audit log
     * @return the gateway's id; null: no such enrolment token, used, over, or the gateway is revoked
     */
    String enrol(String token, String credentialHash, String address) throws IOException;

    /** @return gateway id to the end of its enrolment token that waits, wall-clock milliseconds */
    Map<String, Long> invitations() throws IOException;

    /** Takes the valid lines of the file over into the store, and out of the file. @return the ids that were */
    List<String> importFile() throws IOException;

    /** @return whether there is a registry in the store */
    boolean shared();

    /** @return what is wrong with the registry, one sentence each; empty: nothing */
    List<String> problems();
}
