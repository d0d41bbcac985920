// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.uplink.Gateways.Certificate;
import io.caravan.uplink.internal.GatewaysFile.Entry;
import io.caravan.uplink.internal.GatewaysFile.Shown;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class GatewaysFileTest {

    private static final String ONE = GatewaysFile.sha256("one");
    private static final String TWO = GatewaysFile.sha256("two");
    private static final Instant NOW = Instant.parse("2026-11-22T12:00:00Z");

    @TempDir Path folder;

    private GatewaysFile file(String text) throws IOException {
        Path path = folder.resolve("gateways");
        Files.writeString(path, text);
        return new GatewaysFile(path);
    }

    private static String refusal(GatewaysFile file, String id, String token, String cn) {
        return file.decide(id, Shown.of(token, cn, cn == null ? null : "0f"), NOW).refusal();
    }

    @Test
    void theOldFormIsStillOne() throws IOException {
        GatewaysFile file = file("# old\ngw-1 = sha256:" + ONE.toUpperCase() + "\r\ngw-2=sha256:" + TWO);
        assertNull(refusal(file, "gw-1", "one", null));
        assertNull(refusal(file, "gw-2", "two", null));
        assertEquals("wrong_token", refusal(file, "gw-1", "two", null));
        assertEquals("wrong_token", refusal(file, "gw-1", ONE, null));
        assertEquals("no_credential", refusal(file, "gw-1", null, null));
        assertEquals("unknown_gateway", refusal(file, "gw-3", "one", null));
        assertEquals(List.of(), file.problems());
    }

    @Test
    void tokensHaveABeginningAndAnEnd() throws IOException {
        GatewaysFile file = file("gw-1 = sha256:" + ONE + ",until=2026-11-22T12:00:00Z sha256:" + TWO + ",from=2026-11-22T13:00:01+01:00 # both\n"
            + "gw-2 = sha256:" + ONE + ",from=2026-11-22T12:00:00Z,until=2026-11-22T12:00:01Z\n");
        assertEquals("expired", refusal(file, "gw-1", "one", null));
        assertEquals("not_yet_valid", refusal(file, "gw-1", "two", null));
        assertNull(file.decide("gw-1", Shown.of("one", null, null), NOW.minusMillis(1)).refusal());
        assertNull(file.decide("gw-1", Shown.of("two", null, null), NOW.plusSeconds(1)).refusal());
        assertNull(refusal(file, "gw-2", "one", null));
        assertEquals("both", file.entries().get("gw-1").note());
    }

    @Test
    void whatACertificateIsWorth() throws IOException {
        GatewaysFile file = file("no = sha256:" + ONE + "\naccepted = sha256:" + ONE + " certificate:accepted\nonly = certificate:accepted\n"
            + "required = certificate:required\nboth = certificate:required sha256:" + ONE + "\ngone = certificate:accepted sha256:" + ONE + " revoked\n");
        assertEquals("wrong_certificate", refusal(file, "no", null, "no"));
        assertNull(refusal(file, "no", "one", "somebody else"));
        assertNull(refusal(file, "accepted", null, "accepted"));
        assertNull(refusal(file, "accepted", "one", null));
        assertNull(refusal(file, "accepted", "wrong", "accepted"));
        assertEquals("wrong_token", refusal(file, "accepted", "wrong", "required"));
        assertEquals("wrong_certificate", refusal(file, "accepted", null, "required"));
        assertEquals("wrong_token", refusal(file, "only", "one", null));
        assertNull(refusal(file, "required", null, "required"));
        assertEquals("no_certificate", refusal(file, "required", "one", null));
        assertNull(refusal(file, "both", "one", "both"));
        assertEquals("no_credential", refusal(file, "both", null, "both"));
        assertEquals("wrong_token", refusal(file, "both", "two", "both"));
        assertEquals("no_certificate", refusal(file, "both", "one", null));
        assertEquals("wrong_certificate", refusal(file, "both", "one", "required"));
        assertEquals("revoked", refusal(file, "gone", "one", "gone"));
        // What did not count is not kept: it must not keep a connection open either.
        assertEquals(new Shown(null, "accepted", "0f"), file.decide("accepted", Shown.of("wrong", "accepted", "0f"), NOW).used());
        assertEquals(new Shown(ONE, null, null), file.decide("no", Shown.of("one", "no", "0f"), NOW).used());
    }

    @Test
    void aBadLineRefusesItsGatewayAndNoOther() throws IOException {
        String many = " sha256:" + "0".repeat(63);
        GatewaysFile file = file("good = sha256:" + ONE + "\n"
            + "a = sha256:" + ONE.substring(1) + "\nb = one\nc =\nd = sha256:" + ONE + ",until=tomorrow\ne = sha256:" + ONE + " sha256:" + ONE + "\n"
            + "f = sha256:" + ONE + ",until=2026-01-01T00:00:00Z,from=2026-01-02T00:00:00Z\ng = sha256:" + ONE + " certificate:maybe\n"
            + "h = sha256:" + ONE + ",from=2026-01-02T00:00:00Z,from=2026-01-02T00:00:00Z\ni = sha256:" + ONE + " admin\n"
            + "j =" + many + "1" + many + "2" + many + "3" + many + "4" + many + "5\n"
            + "k = sha256:" + ONE + "\nk = sha256:" + TWO + "\nl = certificate:accepted certificate:required\n"
            + "m = sha256:" + ONE + ",until=2027-01-01T00:00:00Z,\n"
            + "sha256:" + ONE + "\n.. = sha256:" + ONE + "\na/b = sha256:" + ONE + "\n");
        assertNull(refusal(file, "good", "one", null));
        for (String id : List.of("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m")) {
            assertEquals("invalid_entry", refusal(file, id, "one", id), id);
            assertEquals("invalid_entry", refusal(file, id, "two", id), id);
        }
        assertEquals("unknown_gateway", refusal(file, "..", "one", null));
        assertEquals(16, file.problems().size(), () -> String.join("\n", file.problems()));
        assertTrue(file.problems().stream().noneMatch(p -> p.contains("one") && p.contains(ONE)), () -> String.join("\n", file.problems()));
    }

    @Test
    void aTokenInTheFileIsNotLogged() throws IOException {
        GatewaysFile file = file("gw-1 = cvn_verysecret\ncvn_verysecret\n");
        assertEquals(2, file.problems().size());
        assertFalse(String.join(" ", file.problems()).contains("verysecret"));
    }

    @Test
    void bytesThatAreNoTextRefuseTheirLine() throws IOException {
        Path path = folder.resolve("gateways");
        byte[] text = ("gw-1 = sha256:" + ONE + "\ngw-2 = sha256:" + TWO + "X\n").getBytes(StandardCharsets.US_ASCII);
        text[text.length - 2] = (byte) 0xff;
        Files.write(path, text);
        GatewaysFile file = new GatewaysFile(path);
        assertNull(refusal(file, "gw-1", "one", null));
        assertEquals("invalid_entry", refusal(file, "gw-2", "two", null));
    }

    @Test
    void changesAreSeenAlsoWithTheSameSizeAndTime() throws IOException {
        GatewaysFile file = file("gw-1 = sha256:" + ONE + "\n");
        Path path = folder.resolve("gateways");
        var time = Files.getLastModifiedTime(path);
        Files.writeString(path, "gw-1 = sha256:" + TWO + "\n");
        Files.setLastModifiedTime(path, time);
        assertTrue(file.look());
        assertFalse(file.look());
        assertNull(refusal(file, "gw-1", "two", null));
        Files.delete(path);
        assertTrue(file.look());
        assertFalse(file.look());
        assertEquals("unknown_gateway", refusal(file, "gw-1", "two", null));
        Files.createDirectory(path);
        assertTrue(file.look());
        assertEquals(1, file.problems().size());
    }

    @Test
    void anEditKeepsEverythingElse() throws IOException {
        String before = "# our gateways\n\n  gw-1   =   sha256:" + ONE + "   # hall 3\n# gw-1 = old\ngw-2 = nonsense\nnot a line\n";
        GatewaysFile file = file(before);
        Path path = folder.resolve("gateways");
        Files.setPosixFilePermissions(path, PosixFilePermissions.fromString("rw-r-----"));
        file.edit("gw-1", old -> new Entry("gw-1", old.tokens(), Certificate.ACCEPTED, true, old.note(), null));
        assertEquals(before.replace("  gw-1   =   sha256:" + ONE + "   # hall 3", "gw-1 = sha256:" + ONE + " certificate:accepted revoked  # hall 3"),
            Files.readString(path));
        assertEquals("rw-r-----", PosixFilePermissions.toString(Files.getPosixFilePermissions(path)));
        assertEquals("revoked", refusal(file, "gw-1", "one", null));
        file.edit("gw-2", old -> null);
        assertFalse(Files.readString(path).contains("gw-2"));
        file.edit("gw-3", old -> new Entry("gw-3", List.of(new GatewaysFile.Token(TWO, NOW, NOW.plusSeconds(60))), Certificate.NO, false, null, null));
        assertTrue(Files.readString(path).endsWith("gw-3 = sha256:" + TWO + ",from=2026-11-22T12:00:00Z,until=2026-11-22T12:01:00Z\n"));
        assertNull(refusal(file, "gw-3", "two", null));
        try (var left = Files.list(folder)) {
            assertEquals(List.of(path), left.toList());
        }
        assertThrows(IllegalArgumentException.class, () -> file.edit("a b", old -> null));
    }

    @Test
    void anEditorThatSavesInBetweenLosesNothing() throws IOException {
        GatewaysFile file = file("gw-1 = sha256:" + ONE + "\n");
        Path path = folder.resolve("gateways");
        int[] times = {0};
        file.edit("gw-1", old -> {
            if (times[0]++ == 0) {
                try {
                    Files.writeString(path, "# somebody was here\ngw-1 = sha256:" + TWO + "\n");
                } catch (IOException e) {
                    throw new java.io.UncheckedIOException(e);
                }
            }
            return new Entry("gw-1", old.tokens(), Certificate.NO, true, null, null);
        });
        assertEquals(2, times[0]);
        assertEquals("# somebody was here\ngw-1 = sha256:" + TWO + " revoked\n", Files.readString(path));
    }

    @Test
    void aLinkIsFollowedAndStays() throws IOException {
        Path real = Files.writeString(Files.createDirectory(folder.resolve("etc")).resolve("real"), "gw-1 = sha256:" + ONE + "\n");
        Path link = Files.createSymbolicLink(folder.resolve("link"), real);
        GatewaysFile file = new GatewaysFile(link);
        file.edit("gw-1", old -> null);
        assertTrue(Files.isSymbolicLink(link));
        assertEquals("", Files.readString(real));
    }

    @Test
    void whatWasDeniedStaysDeniedWhenTheFileCannotBeWritten() throws IOException {
        GatewaysFile file = file("gw-1 = sha256:" + ONE + "\n");
        file.deny("gw-1");
        assertEquals("revoked", refusal(file, "gw-1", "one", null));
        file.look();
        assertEquals("revoked", refusal(file, "gw-1", "one", null));
        file.allow("gw-1");
        assertNull(refusal(file, "gw-1", "one", null));
    }
}
