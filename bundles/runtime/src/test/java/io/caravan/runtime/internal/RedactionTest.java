// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class RedactionTest {

    @TempDir
    Path etc;

    @Test
    void knownSecretsAreTakenOutWhereverTheyStand() throws Exception {
        Files.writeString(etc.resolve("token"), "s3cret-of-the-file\n");
        Files.writeString(etc.resolve("io.caravan.wal.cfg"), "wal.token=file:token\nwal.max.bytes=2000\n");
        Files.writeString(etc.resolve("io.caravan.user.cfg"), "user.db.password=hunter22\nuser.site=north\nuser.url=http://me:pw@host/x\n");
        LayeredConfig config = new LayeredConfig(List.of(Path.of("src/test/resources/keys")), etc, etc, Map.of(), Map.of());
        Map<String, String> settings = config.settings();
        assertEquals("***", settings.get("wal.token"));
        assertEquals("***", settings.get("user.db.password"));
        assertEquals("north", settings.get("user.site"));
        assertEquals("http://***@host/x", settings.get("user.url"));
        assertEquals("2000", settings.get("wal.max.bytes"));
        assertFalse(settings.toString().contains("s3cret-of") || settings.toString().contains("hunter22"));
        assertEquals("GET /x?t=*** by *** failed", config.redaction().of("GET /x?t=s3cret-of-the-file by hunter22 failed"));
    }

    @Test
    void secretsInFilesThatKeysNameAreKnown() throws Exception {
        Redaction redaction = new Redaction();
        redaction.addFile(Files.writeString(etc.resolve("t"), "0123456789abcdef\n"));
        redaction.addFile(etc.resolve("absent"));
        assertEquals("sent *** to it", redaction.of("sent 0123456789abcdef to it"));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "password: abc123                              | password: ***",
        "\"clientSecret\": \"abc123\"                  | \"clientSecret\": \"***\"",
        "sasl password=\"abc123\" required             | sasl password=\"***\" required",
        "Authorization: Bearer abc.def-123             | Authorization: Bearer ***",
        "with Bearer abcdefgh123                       | with Bearer ***",
        "https://user:pa55@host/path                   | https://***@host/path",
        "accessKey=AKIA123&x=1                         | accessKey=***&x=1",
        "token: \"{{uplink.token}}\"                   | token: \"{{uplink.token}}\"",
        "uplink.token.file = /etc/token                | uplink.token.file = /etc/token",
        "tokens are fine, and so is 5 keys             | tokens are fine, and so is 5 keys"})
    void whatStandsWhereASecretWouldIsTakenOut(String text, String expected) {
        assertEquals(expected, new Redaction().of(text));
    }

    @Test
    void privateKeysAreTakenOut() {
        assertEquals("a\n***\nb", new Redaction().of("a\n-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nb"));
    }
}
