// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import java.util.List;
import java.util.Set;

/** The bean {@code users} as commands see it. Changes are on disk when a method returns. Thread-safe. */
public interface UserAdmin extends Users {

    /** The roles there are, each with all rights of those before it. */
    List<String> ROLES = List.of("viewer", "operator", "admin");

    /** @param role the highest one */
    record User(String name, String role) { }

    /** @return sorted by name */
    List<User> list();

    /**
     * Adds a user, or gives an existing one another password and role.
     *
     * @param password null: leaves that of an existing user; else at least 12 characters, cleared by the caller
     * @param role     one of {@link #ROLES}; null: leaves that of an existing user
     * @return the roles the user has now
     * @throws IllegalArgumentException name, password or role breaks its rule
     * @throws java.io.UncheckedIOException nothing was changed
     */
    Set<String> put(String name, char[] password, String role);

    /**
     * @return false: there is no such user
     * @throws IllegalStateException it is the last one with role admin
     * @throws java.io.UncheckedIOException nothing was changed
     */
    boolean remove(String name);

    /**
     * For who keeps a login for a while.
     *
     * @return a text that is another one as soon as password or role are; null: there is no such user
     */
    String credential(String name);

    /** @return a password nobody has used before, 144 random bits */
    char[] randomPassword();
}
