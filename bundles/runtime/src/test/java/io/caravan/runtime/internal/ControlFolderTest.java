// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.internal.ControlFolder.Outcome;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ControlFolderTest {

    private static final String OLD = ControlFolder.text(Map.of("a.b", "1", "c.d", "1"));
    private static final String NEW = ControlFolder.text(Map.of("a.b", "2", "c.d", "2"));
    private static final Outcome APPLIED = new Outcome(ControlFolder.APPLIED, "", "{\"x\":1}");
    private static final Outcome UNDONE = new Outcome(ControlFolder.ROLLED_BACK, "it died", "{}");

    /** What a process that is killed does not survive either. */
    private static final class Died extends Error {
        private static final long serialVersionUID = 1L;
    }

    @TempDir
    Path temp;

    private ControlFolder dyingAt(String step) {
        return new ControlFolder(temp.resolve("control"), at -> {
            if (at.equals(step)) {
                throw new Died();
            }
        });
    }

    private void change(ControlFolder folder, boolean confirm) throws IOException {
        folder.begin("c-1", ControlFolder.CONFIG, NEW, UNDONE);
        folder.apply();
        if (confirm) {
            folder.confirm(APPLIED);
        } else {
            folder.rollBack(new Outcome(ControlFolder.ROLLED_BACK, "not ready", "{}"));
        }
    }

    private void old(boolean there) throws IOException {
        if (there) {
            ControlFolder folder = dyingAt("");
            folder.begin("c-0", ControlFolder.CONFIG, OLD, UNDONE);
            folder.apply();
            folder.confirm(APPLIED);
        }
    }

    private static Set<String> steps(boolean confirm) {
        return confirm ? new LinkedHashSet<>(List.of("outcome", "copies", "journal", "applied", "confirmed"))
                : new LinkedHashSet<>(List.of("outcome", "copies", "journal", "applied", "restored", "told"));
    }

    /** Every step is met: one that was added to the class is missing here, or the other way round. */
    @Test
    void thereAreNoOtherSteps() throws IOException {
        for (boolean confirm : new boolean[] {true, false}) {
            List<String> met = new ArrayList<>();
            change(new ControlFolder(temp.resolve("steps" + confirm), met::add), confirm);
            assertEquals(new ArrayList<>(steps(confirm)), met);
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void whereverTheProcessDiesAllOfItIsInForceOrNothing(boolean there) throws IOException {
        for (boolean confirm : new boolean[] {true, false}) {
            for (String step : steps(confirm)) {
                for (boolean again : new boolean[] {false, true}) {
                    String what = there + " " + confirm + " " + step + " " + again;
                    try (var files = Files.walk(temp)) {
                        files.sorted(java.util.Comparator.reverseOrder()).filter(f -> !f.equals(temp)).forEach(f -> f.toFile().delete());
                    }
                    old(there);
                    ControlFolder dying = dyingAt(step);
                    assertThrows(Died.class, () -> change(dying, confirm), what);
                    if (again) {
                        // The next process dies while it mends.
                        ControlFolder next = dyingAt("recovered");
                        try {
                            next.recover();
                        } catch (Died e) {
                            assertFalse(step.equals("confirmed"), what);
                        }
                    }
                    ControlFolder next = dyingAt("");
                    boolean stays = step.equals("confirmed");
                    assertEquals(stays ? Map.of("a.b", "2", "c.d", "2") : there ? Map.of("a.b", "1", "c.d", "1") : Map.of(), next.config(), what + ", unmended");
                    next.recover();
                    assertEquals(stays ? NEW : there ? OLD : null, next.read(ControlFolder.CONFIG), what);
                    assertFalse(Files.exists(next.path(ControlFolder.JOURNAL)), what);
                    Optional<Outcome> outcome = next.outcome("c-1");
                    assertEquals(stays ? ControlFolder.APPLIED : ControlFolder.ROLLED_BACK, outcome.orElseThrow().status(), what);
                    assertEquals(Optional.empty(), next.recover(), what);
                    // And it takes further changes.
                    next.begin("c-2", ControlFolder.CONFIG, NEW, UNDONE);
                    next.apply();
                    next.confirm(APPLIED);
                    assertEquals(NEW, next.read(ControlFolder.CONFIG), what);
                }
            }
        }
    }

    /** Negative control: without the journal a change that was never confirmed would stay. */
    @Test
    void withoutItsJournalAnUnconfirmedChangeWouldStay() throws IOException {
        old(true);
        ControlFolder dying = dyingAt("applied");
        assertThrows(Died.class, () -> change(dying, true));
        Files.delete(dying.path(ControlFolder.JOURNAL));
        ControlFolder next = dyingAt("");
        assertEquals(Optional.empty(), next.recover());
        assertEquals(NEW, next.read(ControlFolder.CONFIG));
    }

    @Test
    void anUnconfirmedChangeIsNotInForceWhileItCannotBeUndone() throws IOException {
        old(true);
        ControlFolder dying = dyingAt("applied");
        assertThrows(Died.class, () -> change(dying, true));
        ControlFolder next = dyingAt("");
        assertEquals(NEW, next.read(ControlFolder.CONFIG));
        assertEquals(Map.of("a.b", "1", "c.d", "1"), next.config());
        assertEquals(OLD, next.inForce(ControlFolder.CONFIG));
    }

    @Test
    void whatCannotBeUndoneOnDiskIsNotInForceAndIsDoneLater() throws IOException {
        old(true);
        boolean[] full = {true};
        ControlFolder folder = new ControlFolder(temp.resolve("control"), at -> {
            if (full[0] && at.equals("restored")) {
                throw new IOException("disk is away");
            }
        });
        assertThrows(IOException.class, () -> change(folder, false));
        assertEquals(Map.of("a.b", "1", "c.d", "1"), folder.config());
        assertTrue(Files.exists(folder.path(ControlFolder.JOURNAL)));
        full[0] = false;
        assertEquals(Optional.of("c-1"), folder.recover());
        assertEquals(OLD, folder.read(ControlFolder.CONFIG));
        assertEquals(UNDONE, folder.outcome("c-1").orElseThrow());
    }

    @Test
    void aDamagedJournalIsSaidAndNothingIsGuessed() throws IOException {
        old(true);
        Files.writeString(temp.resolve("control").resolve(ControlFolder.JOURNAL), "{\"id\":\"x\",\"file\":\"../../etc/passwd\",\"existed\":false}");
        IOException e = assertThrows(IOException.class, () -> dyingAt("").recover());
        assertTrue(e.getMessage().contains("no command writes"), e.getMessage());
        Files.writeString(temp.resolve("control").resolve(ControlFolder.JOURNAL), "{\"id\":");
        e = assertThrows(IOException.class, () -> dyingAt("").recover());
        assertTrue(e.getMessage().contains("is damaged"), e.getMessage());
        assertEquals(OLD, Files.readString(temp.resolve("control").resolve(ControlFolder.CONFIG)));
    }

    @Test
    void onlyItsOwnerReadsItAndOutcomesAreBounded() throws IOException {
        ControlFolder folder = dyingAt("");
        for (int i = 0; i < 300; i++) {
            folder.begin("c-" + i, ControlFolder.POLICY, "{}", UNDONE);
            folder.apply();
            folder.confirm(APPLIED);
        }
        assertEquals(Optional.empty(), folder.outcome("c-0"));
        assertEquals(APPLIED, folder.outcome("c-299").orElseThrow());
        assertEquals("rwx------", PosixFilePermissions.toString(Files.getPosixFilePermissions(temp.resolve("control"))));
        assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(folder.path(ControlFolder.POLICY))));
        assertNull(folder.read(ControlFolder.CONFIG));
    }
}
