// SPDX-License-Identifier: Apache-2.0
package io.caravan.console;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.UserPrincipal;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AccessTest {

    private record User(String getName) implements UserPrincipal {
        @Override
        public String toString() {
            return getName;
        }
    }

    private static final User OWNER = new User("caravan");
    private static final User ROOT = new User("root");

    @TempDir
    Path etc;

    private Access access(String text) throws IOException {
        return new Access(Files.writeString(etc.resolve("shell.access"), text), user -> user.equals("anna") ? Set.of("ops", "users") : Set.of("users"));
    }

    private static Set<String> roles(Access access, String user) {
        return access.roles(new User(user), OWNER, ROOT);
    }

    @Test
    void withoutAFileOnlyTheOwnerAndRootHaveRoles() {
        Access none = new Access(etc.resolve("absent"));
        assertTrue(roles(none, "caravan").containsAll(Access.ROLES));
        assertTrue(roles(none, "root").containsAll(Access.ROLES));
        assertEquals(Set.of(), roles(none, "anna"));
        assertNull(none.socketGroup());
    }

    @Test
    void theHighestRoleOfNameAndGroupsCounts() throws IOException {
        Access access = access("# who\nanna = viewer\n@ops = operator   # the shift\nberta = admin\nsocket.group = ops\n");
        assertEquals(Set.of("viewer", "operator"), roles(access, "anna"));
        assertTrue(roles(access, "berta").contains("admin"));
        assertEquals(Set.of(), roles(access, "carla"));
        assertEquals(Set.of(), roles(access, "ops"), "a user is not a group");
        assertEquals("ops", access.socketGroup());
    }

    @Test
    void whatIsNotUnderstoodGivesNobodyAnything() throws IOException {
        Access access = access("anna = Admin\nanna operator\n= admin\n@ = admin\nberta = viewer admin\n* = admin\n");
        assertEquals(Set.of(), roles(access, "anna"));
        assertEquals(Set.of(), roles(access, "berta"));
        assertFalse(roles(access, "root").isEmpty());
        Files.delete(etc.resolve("shell.access"));
        Files.createDirectory(etc.resolve("shell.access"));
        assertEquals(Set.of(), roles(access, "anna"));
    }

    @Test
    void groupsAreThoseOfTheSystem() throws IOException {
        Files.writeString(etc.resolve("shell.access"), "@root = viewer\n");
        Access access = new Access(etc.resolve("shell.access"));
        // root as anybody: neither owner nor root of this call.
        assertEquals(Set.of("viewer"), access.roles(new User("root"), new User("x"), new User("y")));
        assertEquals(Set.of(), access.roles(new User("no-such-user-here"), OWNER, ROOT));
        assertEquals(Set.of(), access.roles(new User("--help"), OWNER, ROOT));
    }
}
