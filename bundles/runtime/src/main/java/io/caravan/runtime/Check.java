// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

/**
 * Outcome of one readiness check. Immutable.
 *
 * @param name    for example {@code route:sink-kafka}, {@code module:wal}
 * @param status  {@code UP}, {@code DOWN} or {@code UNKNOWN}
 * @param message what is wrong and where; the empty string where there is nothing to say
 * @param todo    what an operator does about it; empty: nothing, or the message has it
 * @param sinceMs since when the status is this one, as far as it was looked at (every few seconds); milliseconds since 1970, 0: not known
 * @param counts  whether the container is not ready for it; false: {@code admin.ready.ignore} names it
 */
public record Check(String name, String status, String message, String todo, long sinceMs, boolean counts) {

    /** One that counts, with nothing more known. */
    public Check(String name, String status, String message) {
        this(name, status, message, "", 0, true);
    }

    /** @return whether all is well with it */
    public boolean up() {
        return status.equals("UP");
    }

    /** @return whether the container is not ready for it */
    public boolean blocks() {
        return counts && !up();
    }
}
