// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import java.util.Set;

/**
 * The bean {@code adminAccess} as modules see it that know more ways to log in: this machine, HTTP Basic of the container's users, and
 * addresses that failed too often, whatever they tried. Thread-safe; {@link #whoIs} blocks while a password is checked.
 */
public interface Logins {

    /** The outcome of who may. */
    String GRANTED = "granted";

    /**
     * @param outcome     {@link #GRANTED}, {@code unauthorized}, {@code exposed} (a secret would be readable on the way) or {@code locked_out}
     * @param retryAfterS seconds until a locked-out address may try again
     * @param user        null: nobody
     * @param roles       all that the user has, of {@code viewer}, {@code operator}, {@code admin}
     * @param local       on this machine, without saying who
     */
    record Login(String outcome, long retryAfterS, String user, Set<String> roles, boolean local) { }

    /** Decides by {@code Authorization: Basic}, or by where the request comes from ({@code admin.login}). */
    Login whoIs(HttpCall call);

    /** @return seconds until that address may try again; 0: now */
    long lockedS(String address);

    /** A credential was wrong. Writes log line and audit entry when that locks the address out. @param user as presented */
    void failed(String address, String user);

    void succeeded(String address);
}
