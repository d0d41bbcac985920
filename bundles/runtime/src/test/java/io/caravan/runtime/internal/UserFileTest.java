// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.Audit;
import io.caravan.runtime.UserAdmin.User;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class UserFileTest {

    private static final Set<String> ADMIN = Set.of("viewer", "operator", "admin");

    @TempDir
    Path folder;
    private final List<String> audited = Collections.synchronizedList(new ArrayList<>());
    private final Audit audit = (action, subject, outcome, details) -> audited.add(action + " " + subject + " " + outcome);
    private UserFile users;

    @BeforeEach
    void start() {
        users = users();
    }

    private UserFile users() {
        UserFile made = new UserFile(folder.resolve("users.properties"), audit, 0);
        made.retry();
        assertTrue(made.check().up(), made.check().message());
        return made;
    }

    private char[] firstPassword() throws IOException {
        return Files.readString(folder.resolve("admin.password")).strip().toCharArray();
    }

    @Test
    void theFirstStartMakesAnAdminWithAPasswordThatIsInNoOtherFile() throws IOException {
        assertEquals(Optional.of(ADMIN), users.roles("admin", firstPassword()));
        assertEquals(Optional.empty(), users.roles("admin", "admin".toCharArray()));
        assertEquals(Optional.empty(), users.roles("karaf", "karaf".toCharArray()));
        assertFalse(Files.readString(folder.resolve("users.properties")).contains(new String(firstPassword())));
        for (String file : List.of("users.properties", "admin.password")) {
            assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(folder.resolve(file))));
        }
        char[] before = firstPassword();
        users = users();
        assertEquals(Optional.of(ADMIN), users.roles("admin", before), "the second start leaves it alone");
    }

    @Test
    void aRememberedLoginEndsWithTheUserOrThePassword() throws IOException {
        users.put("anna", "a long enough one".toCharArray(), "operator");
        assertEquals(Optional.of(Set.of("viewer", "operator")), users.roles("anna", "a long enough one".toCharArray()));
        users.put("anna", "another long one".toCharArray(), null);
        assertEquals(Optional.empty(), users.roles("anna", "a long enough one".toCharArray()));
        assertEquals(Optional.of(Set.of("viewer", "operator")), users.roles("anna", "another long one".toCharArray()));
        users.put("anna", null, "viewer");
        assertEquals(Optional.of(Set.of("viewer")), users.roles("anna", "another long one".toCharArray()));
        assertTrue(users.remove("anna"));
        assertFalse(users.remove("anna"));
        assertEquals(Optional.empty(), users.roles("anna", "another long one".toCharArray()));
        assertEquals(List.of(new User("admin", "admin")), users.list());
        assertTrue(audited.contains("user.remove anna ok"), audited.toString());
    }

    @Test
    void aNewPasswordOfTheFirstUserTakesItsFileAway() {
        users.put("admin", "a long enough one".toCharArray(), null);
        assertFalse(Files.exists(folder.resolve("admin.password")));
        assertEquals(Optional.of(ADMIN), users.roles("admin", "a long enough one".toCharArray()));
    }

    @Test
    void theLastAdminStays() {
        assertThrows(IllegalStateException.class, () -> users.remove("admin"));
        assertThrows(IllegalStateException.class, () -> users.put("admin", null, "viewer"));
        users.put("anna", "a long enough one".toCharArray(), "admin");
        assertTrue(users.remove("admin"));
    }

    @Test
    void shortPasswordsBadNamesAndUnknownRolesAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> users.put("anna", "short".toCharArray(), "viewer"));
        assertThrows(IllegalArgumentException.class, () -> users.put("an=na", "a long enough one".toCharArray(), "viewer"));
        assertThrows(IllegalArgumentException.class, () -> users.put("anna\n", "a long enough one".toCharArray(), "viewer"));
        assertThrows(IllegalArgumentException.class, () -> users.put("anna", "a long enough one".toCharArray(), "root"));
        assertThrows(IllegalArgumentException.class, () -> users.put("nobody", "a long enough one".toCharArray(), null));
        assertEquals(1, users.list().size());
    }

    @Test
    void whatIsEditedByHandCountsAtOnceButNoPasswordInClear() throws IOException {
        users.put("anna", "a long enough one".toCharArray(), "viewer");
        String line = Files.readAllLines(folder.resolve("users.properties")).stream().filter(l -> l.startsWith("anna")).findFirst().orElseThrow();
        Files.writeString(folder.resolve("users.properties"), line.replace("anna", "berta") + "\nclear = secret,admin\nempty = ,admin\nhash = {CRYPT}{CRYPT},admin\nodd = {CRYPT}pbkdf2-sha512{CRYPT},admin\n");
        assertEquals(Optional.of(Set.of("viewer")), users.roles("berta", "a long enough one".toCharArray()));
        assertEquals(Optional.empty(), users.roles("clear", "secret".toCharArray()));
        assertEquals(Optional.empty(), users.roles("empty", "".toCharArray()));
        assertEquals(Optional.empty(), users.roles("hash", "".toCharArray()));
        assertEquals(Optional.empty(), users.roles("odd", "".toCharArray()));
        assertEquals(Optional.empty(), users.roles("anna", "a long enough one".toCharArray()));
    }

    @Test
    void nobodyIsAddedThatCannotBeAudited() {
        UserFile unaudited = new UserFile(folder.resolve("users.properties"), (action, subject, outcome, details) -> {
            throw new UncheckedIOException(new IOException("disk full"));
        }, 0);
        unaudited.retry();
        assertThrows(UncheckedIOException.class, () -> unaudited.put("anna", "a long enough one".toCharArray(), "admin"));
        users.put("berta", "a long enough one".toCharArray(), "viewer");
        assertEquals(List.of("admin", "berta"), unaudited.list().stream().map(User::name).toList());
        assertTrue(unaudited.remove("berta"), "taking rights away goes on");
    }

    @Test
    void guessingWaitsAndIsToldOnceButWhoIsKnownGetsIn() throws Exception {
        UserFile slow = new UserFile(folder.resolve("users.properties"), audit, 60_000);
        slow.retry();
        char[] right = firstPassword();
        assertEquals(Optional.of(ADMIN), slow.roles("admin", right));
        Thread guess = new Thread(() -> slow.roles("admin", "wrong guess".toCharArray()));
        guess.start();
        while (!audited.contains("user.login admin refused: wrong user or password")) {
            Thread.onSpinWait();
        }
        // The guess still serves its penalty.
        assertEquals(Optional.of(ADMIN), slow.roles("admin", right));
        assertTrue(guess.isAlive());
        guess.interrupt();
        guess.join();
        assertEquals(1, audited.stream().filter(a -> a.startsWith("user.login")).count());
    }
}
