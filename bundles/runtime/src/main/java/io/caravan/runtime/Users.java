// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import java.util.Optional;
import java.util.Set;

/**
 * Bean {@code users}: the people of this container, for logins over the network. Thread-safe; may be slow on purpose
 * (password hashing), so callers do not ask it on an event loop.
 */
public interface Users {

    /**
     * Takes the same time for a user that does not exist as for a wrong password.
     *
     * @param user     as presented; anything
     * @param password as presented; the caller clears it
     * @return names of the roles the user has ({@code viewer}, {@code operator}, {@code admin}); empty if there is no such
     *         user or the password is not theirs
     */
    Optional<Set<String>> roles(String user, char[] password);
}
