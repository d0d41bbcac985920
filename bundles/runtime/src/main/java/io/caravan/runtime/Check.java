// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

/**
 * Outcome of one readiness check. Immutable.
 *
 * @param name    for example {@code route:sink-kafka}, {@code module:wal}
 * @param status  {@code UP}, {@code DOWN} or {@code UNKNOWN}
 * @param message what is wrong and where; the empty string where there is nothing to say
 */
public record Check(String name, String status, String message) {

    /** @return whether this check lets the container be ready */
    public boolean up() {
        return status.equals("UP");
    }
}
