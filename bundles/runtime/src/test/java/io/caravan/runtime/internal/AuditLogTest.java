// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.AuditTrail.Entry;
import io.caravan.runtime.AuditTrail.Verification;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.Principal;
import java.security.PrivilegedAction;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.UnaryOperator;
import javax.security.auth.Subject;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AuditLogTest {

    @TempDir
    Path folder;
    private Path file;

    @BeforeEach
    void file() {
        file = folder.resolve("audit/audit.log");
    }

    private AuditLog open() {
        return new AuditLog(file, 1_000_000);
    }

    private static List<Entry> read(AuditLog audit) {
        List<Entry> entries = new ArrayList<>();
        audit.read(e -> true, entries::add);
        return entries;
    }

    private void write(int entries) {
        try (AuditLog audit = open()) {
            for (int i = 0; i < entries; i++) {
                audit.record("device.revoke", "dev-" + i, "ok", Map.of("reason", "\"stolen\"\n\u2028"));
            }
        }
    }

    private Verification verified() {
        try (AuditLog audit = open()) {
            return audit.verify();
        }
    }

    private void edit(UnaryOperator<List<String>> change) throws IOException {
        Files.write(file, change.apply(new ArrayList<>(Files.readAllLines(file))));
    }

    @Test
    void whatIsRecordedIsReadBackWholeAndOnlyItsOwnerCan() throws IOException {
        write(2);
        write(1);
        try (AuditLog audit = open()) {
            List<Entry> entries = read(audit);
            assertEquals(List.of(1L, 2L, 3L), entries.stream().map(Entry::seq).toList());
            assertEquals("\"stolen\"\n\u2028", entries.get(0).details().get("reason"));
            assertEquals("container", entries.get(0).actor());
            assertEquals(List.of(), audit.verify().problems());
            assertEquals(3, audit.verify().entries());
        }
        assertEquals(3, Files.readAllLines(file).size());
        assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(file)));
        assertEquals("rwx------", PosixFilePermissions.toString(Files.getPosixFilePermissions(file.getParent())));
    }

    @Test
    void theActorIsTheUserOfTheShellSessionAlsoInItsThreads() {
        record UserPrincipal(String getName) implements Principal { }
        Subject subject = new Subject(true, Set.of(new UserPrincipal("anna")), Set.of(), Set.of());
        assertEquals("container", AuditLog.actor());
        assertEquals("anna", Subject.doAs(subject, (PrivilegedAction<String>) AuditLog::actor));
        assertEquals("anna", Subject.doAs(subject, (PrivilegedAction<String>) () -> {
            CompletableFuture<String> answer = new CompletableFuture<>();
            new Thread(() -> answer.complete(AuditLog.actor())).start();
            return answer.join();
        }));
    }

    @Test
    void anAlteredLineIsNamed() throws IOException {
        write(5);
        edit(lines -> {
            lines.set(2, lines.get(2).replace("dev-2", "dev-9"));
            return lines;
        });
        List<String> problems = verified().problems();
        assertEquals(1, problems.size(), problems.toString());
        assertTrue(problems.get(0).startsWith("audit.log line 4 (entry 4)"), problems.toString());
    }

    @Test
    void aLineThatWasTakenOutOrPutInIsNamed() throws IOException {
        write(5);
        List<String> all = Files.readAllLines(file);
        edit(lines -> {
            lines.remove(1);
            return lines;
        });
        assertTrue(verified().problems().get(0).startsWith("audit.log line 2 (entry 3)"), verified().problems().toString());
        Files.write(file, all);
        assertEquals(List.of(), verified().problems());
        edit(lines -> {
            lines.add(3, lines.get(2));
            return lines;
        });
        assertTrue(verified().problems().get(0).startsWith("audit.log line 4 (entry 3)"), verified().problems().toString());
    }

    @Test
    void anEndThatWasCutOffIsNoticedByTheProcessThatWroteIt() throws IOException {
        try (AuditLog audit = open()) {
            audit.record("a.b", "1", "ok", Map.of());
            audit.record("a.b", "2", "ok", Map.of());
            edit(lines -> lines.subList(0, 1));
            List<String> problems = audit.verify().problems();
            assertEquals(1, problems.size());
            assertTrue(problems.get(0).contains("has written entry 2"), problems.toString());
        }
    }

    @Test
    void aTornLastLineIsKeptNamedAndContinuedFrom() throws IOException {
        write(2);
        byte[] whole = Files.readAllBytes(file);
        byte[] torn = java.util.Arrays.copyOf(whole, whole.length - 40);
        Files.write(file, torn);
        try (AuditLog audit = open()) {
            audit.record("a.b", "next", "ok", Map.of());
            Verification verification = audit.verify();
            assertEquals(List.of(), verification.problems());
            assertEquals(List.of("audit.log line 2"), verification.torn());
            assertEquals(List.of("device.revoke", "audit.torn", "a.b"), read(audit).stream().map(Entry::action).toList());
            assertEquals(List.of(1L, 2L, 3L), read(audit).stream().map(Entry::seq).toList());
        }
        // Appended to, not rewritten.
        assertEquals(new String(torn), new String(Files.readAllBytes(file), 0, torn.length));
    }

    @Test
    void theChainGoesOnThroughFilesThatAreNeverDeleted() throws IOException {
        try (AuditLog audit = new AuditLog(file, 1_000)) {
            for (int i = 0; i < 20; i++) {
                audit.record("a.b", "s" + i, "ok", Map.of());
            }
            Verification verification = audit.verify();
            assertEquals(List.of(), verification.problems());
            assertEquals(20, verification.entries());
            assertTrue(verification.files() > 3);
            assertEquals("s0", read(audit).get(0).subject());
            assertEquals("s19", read(audit).get(19).subject());
        }
        // A restart in the moment in which the new file is empty, or not there yet.
        try (AuditLog audit = new AuditLog(file, 1_000)) {
            Files.move(file, file.resolveSibling("audit.009999.log"));
        }
        try (AuditLog audit = new AuditLog(file, 1_000)) {
            audit.record("a.b", "s20", "ok", Map.of());
            assertEquals(21, read(audit).get(20).seq());
            // The gap in the numbers of the files is told; the chain itself holds.
            assertEquals(1, audit.verify().problems().size(), audit.verify().problems().toString());
        }
        Files.delete(file.resolveSibling("audit.000002.log"));
        try (AuditLog audit = new AuditLog(file, 1_000)) {
            assertTrue(audit.verify().problems().stream().anyMatch(p -> p.startsWith("audit.000003.log line 1")), audit.verify().problems().toString());
        }
    }

    @Test
    void whatCannotBeWrittenIsRefusedShownAndNotedLater() throws IOException {
        Files.writeString(folder.resolve("audit"), "a file where the folder should be");
        try (AuditLog audit = open()) {
            assertFalse(audit.check().up());
            UncheckedIOException e = assertThrows(UncheckedIOException.class, () -> audit.record("device.add", "dev-1", "ok", Map.of()));
            assertTrue(e.getMessage().contains("[device.add] must not be done"), e.getMessage());
            audit.note("device.revoke", "dev-2", "ok", Map.of());
            audit.retry();
            assertFalse(audit.check().up());
            Files.delete(folder.resolve("audit"));
            audit.retry();
            assertTrue(audit.check().up());
            assertEquals(List.of("audit.missed dev-1", "audit.missed dev-2"),
                    read(audit).stream().map(x -> x.action() + " " + x.subject()).toList());
            audit.record("device.add", "dev-1", "ok", Map.of());
            assertEquals(List.of(), audit.verify().problems());
        }
    }

    @Test
    void aSecondWriterIsRefused() {
        try (AuditLog first = open(); AuditLog second = open()) {
            first.record("a.b", "1", "ok", Map.of());
            assertThrows(UncheckedIOException.class, () -> second.record("a.b", "2", "ok", Map.of()));
            assertEquals(List.of(), first.verify().problems());
        }
    }

    @Test
    void aDiskThatIsFullInTheMiddleOfALineLeavesAWholeChain() throws IOException {
        // What write(2) leaves when only a part found room; the process lives on and goes on behind it.
        try (AuditLog audit = open()) {
            audit.record("a.b", "1", "ok", Map.of());
            Files.writeString(file, "{\"seq\":2,\"ti", StandardOpenOption.APPEND);
            audit.failed(new IOException("No space left on device"));
            assertFalse(audit.check().up());
            audit.record("a.b", "2", "ok", Map.of());
            assertTrue(audit.check().up());
            assertEquals(List.of(), audit.verify().problems());
            assertEquals(List.of("audit.log line 2"), audit.verify().torn());
            assertEquals(List.of(1L, 2L, 3L), read(audit).stream().map(Entry::seq).toList());
        }
    }

    @Test
    void whatComesInMassesIsOneLineASecondInTheOtherLog() {
        List<String> copies = new ArrayList<>();
        AtomicLong now = new AtomicLong();
        AuditLog audit = new AuditLog(file, 1_000_000, copies::add, now::get);
        for (int i = 1; i <= 50; i++) {
            audit.record("api.command", "dev-" + i, "ok", Map.of());
        }
        assertEquals(20, copies.size());
        assertTrue(copies.get(19).contains("[dev-20]"), copies.get(19));
        audit.retry();
        assertEquals(20, copies.size(), "the second is not over");
        now.addAndGet(1_000_000_000);
        audit.retry();
        String head = audit.verify().head();
        assertEquals(21, copies.size());
        assertTrue(copies.get(20).startsWith("30 entries more, the last one: 50 ") && copies.get(20).endsWith(head), copies.get(20));
        for (int i = 51; i <= 72; i++) {
            audit.record("api.command", "dev-" + i, "ok", Map.of());
        }
        assertEquals(41, copies.size());
        audit.close();
        assertEquals(42, copies.size(), "nothing is left out at the end");
        assertTrue(copies.get(41).startsWith("2 entries more, the last one: 72 "), copies.get(41));
    }
}
