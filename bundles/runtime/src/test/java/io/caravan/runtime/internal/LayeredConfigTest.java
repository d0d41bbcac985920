// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.ConfigException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class LayeredConfigTest {

    private static final Path KEYS = Path.of("src/test/resources/keys");

    @TempDir
    Path etc;

    private LayeredConfig load(Map<String, String> environment, Map<String, String> arguments) {
        return new LayeredConfig(List.of(KEYS), etc, etc, environment, arguments);
    }

    private LayeredConfig load() {
        return load(Map.of(), Map.of());
    }

    private String problem(Map<String, String> environment, Map<String, String> arguments) {
        List<String> problems = assertThrows(ConfigException.class, () -> load(environment, arguments)).problems();
        assertEquals(1, problems.size(), problems::toString);
        return problems.get(0).replace(etc.toString(), "etc");
    }

    private String problem() {
        return problem(Map.of(), Map.of());
    }

    private void cfg(String pid, String text) throws IOException {
        Files.writeString(etc.resolve(pid + ".cfg"), text);
    }

    @Test
    void eachLayerOverridesTheOneBelow() throws IOException {
        assertEquals(1000, load().getLong("wal.max.bytes"));
        cfg("io.caravan.wal", "wal.max.bytes = 2000 \n");
        assertEquals(2000, load().getLong("wal.max.bytes"));
        Map<String, String> environment = Map.of("CARAVAN_WAL_MAX_BYTES", "3000", "PATH", "/bin");
        assertEquals(3000, load(environment, Map.of()).getLong("wal.max.bytes"));
        assertEquals(4000, load(environment, Map.of("caravan.wal.max.bytes", "4000")).getLong("wal.max.bytes"));
    }

    @Test
    void valuesAreTyped() throws IOException {
        Files.writeString(etc.resolve("token"), "s3cret\n");
        cfg("io.caravan.wal", "wal.lanes=bulk, live,\nwal.sync=false\nwal.token=file:token\n");
        LayeredConfig config = load();
        assertEquals(List.of("bulk", "live"), config.getList("wal.lanes"));
        assertFalse(config.getBoolean("wal.sync"));
        assertEquals(etc.resolve("data/wal.db").toAbsolutePath(), config.getPath("wal.path"));
        assertEquals("s3cret", config.get("wal.token"));
        assertFalse(config.toString().contains("s3cret"));
    }

    @Test
    void unsetKeyIsEmptyForJavaAndAbsentForPlaceholders() {
        assertEquals("", load().get("wal.unset"));
        assertNull(load().getProperty("wal.unset"));
        assertEquals("hello", load().getProperty("wal.greeting"));
    }

    @Test
    void undeclaredKeyCannotBeRead() {
        assertEquals("Configuration key [wal.max.byte] is not declared, did you mean wal.max.bytes?",
                assertThrows(IllegalArgumentException.class, () -> load().get("wal.max.byte")).getMessage());
    }

    @Test
    void operatorsOwnKeysAreFree() throws IOException {
        cfg("io.caravan.user", "user.site.name=Turin\n");
        LayeredConfig config = load(Map.of("CARAVAN_USER_SITE_AREA", "north"), Map.of());
        assertEquals("Turin", config.get("user.site.name"));
        assertEquals("north", config.getProperty("user.site.area"));
        cfg("io.caravan.user", "site.name=Turin\n");
        assertEquals("site.name in etc/io.caravan.user.cfg must start with \"user.\" (dotted lower case)", problem());
    }

    @Test
    void unknownKeyInFileIsRefused() throws IOException {
        cfg("io.caravan.wal", "wal.max.byte=1\n");
        assertEquals("Unknown configuration key [wal.max.byte] in etc/io.caravan.wal.cfg, did you mean wal.max.bytes?", problem());
        cfg("io.caravan.wal", "zzzzzzzz.qqqqqqqq=1\n");
        assertEquals("Unknown configuration key [zzzzzzzz.qqqqqqqq] in etc/io.caravan.wal.cfg: remove it", problem());
    }

    @Test
    void keyInTheWrongFileIsRefused() throws IOException {
        cfg("io.caravan.wal", "http.port=80\n");
        assertEquals("http.port stands in etc/io.caravan.wal.cfg but belongs into io.caravan.http.cfg: move it there", problem());
    }

    @Test
    void keyThatStandsTwiceIsRefused() throws IOException {
        cfg("io.caravan.http", "http.port=80\nhttp.port=81\n");
        assertEquals("http.port stands twice in etc/io.caravan.http.cfg: remove one", problem());
    }

    @Test
    void fileNobodyReadsIsRefused() throws IOException {
        cfg("io.caravan.wall", "");
        assertEquals("File etc/io.caravan.wall.cfg configures nothing: there is no io.caravan.wall, did you mean io.caravan.wal.cfg?",
                problem());
    }

    @Test
    void unknownVariableIsRefusedButTheLaunchersAreNot() {
        assertEquals("Unknown configuration key [http.prot] in environment variable CARAVAN_HTTP_PROT, did you mean CARAVAN_HTTP_PORT?",
                problem(Map.of("CARAVAN_HTTP_PROT", "1", "CARAVAN_HOME", "/x", "CARAVAN_JAVA_OPTS", "-Xmx1g"), Map.of()));
    }

    @Test
    void unknownArgumentIsRefused() {
        assertEquals("Unknown configuration key [http.prot] in argument --http.prot, did you mean --http.port?",
                problem(Map.of(), Map.of("caravan.http.prot", "1", "karaf.home", "/x")));
    }

    @Test
    void valueOutOfRangeIsRefusedWhereverItStands() throws IOException {
        cfg("io.caravan.http", "http.port=99999\n");
        assertEquals("http.port [99999] must be a whole number from 0 to 65535: change it in etc/io.caravan.http.cfg", problem());
        cfg("io.caravan.http", "");
        assertEquals("http.port [x] must be a whole number from 0 to 65535: change it in environment variable CARAVAN_HTTP_PORT",
                problem(Map.of("CARAVAN_HTTP_PORT", "x"), Map.of()));
        assertEquals("wal.sync [yes] must be true or false: change it in argument --wal.sync",
                problem(Map.of(), Map.of("caravan.wal.sync", "yes")));
        assertEquals("container.role [edge] must be one of gateway, cloud: change it in argument --container.role",
                problem(Map.of(), Map.of("caravan.container.role", "edge")));
        assertEquals("http.bind.host [a b] must be a host name or an IP address: change it in argument --http.bind.host",
                problem(Map.of(), Map.of("caravan.http.bind.host", "a b")));
        assertEquals("wal.lanes [live,slow] must be a comma-separated list out of live, historical, bulk: change it in argument --wal.lanes",
                problem(Map.of(), Map.of("caravan.wal.lanes", "live,slow")));
    }

    @Test
    void secretFileMustBeReadable() throws IOException {
        cfg("io.caravan.wal", "wal.token=file:none\n");
        assertEquals("wal.token must be a readable file [etc/none]: create it or change etc/io.caravan.wal.cfg (NoSuchFileException)",
                problem());
    }

    @Test
    void allProblemsAreToldAtOnce() {
        ConfigException e = assertThrows(ConfigException.class, () -> load(Map.of("CARAVAN_HTTP_PORT", "-1"),
                Map.of("caravan.http.prot", "1", "caravan.wal.sync", "maybe")));
        assertEquals(3, e.problems().size());
        assertEquals(String.join("\n", e.problems()), e.getMessage());
    }

    @Test
    void badDeclarationsAreRefused(@TempDir Path dir) throws IOException {
        Path file = Files.writeString(dir.resolve("io.caravan.x.yaml"), """
                x.a: {type: int, default: 5, min: 6}
                x.b: {type: bool}
                x.c: {type: string, unit: ms}
                X: {type: string}
                """);
        List<String> problems = assertThrows(ConfigException.class, () -> Keys.read(List.of(file))).problems();
        assertEquals(4, problems.size(), problems::toString);
        assertTrue(problems.get(0).startsWith("Key declaration x.a in " + file + ": default [5] must be a whole number from 6"));
    }

    @Test
    void changedFileIsTakenOverWhenItIsGood() throws IOException {
        List<Set<String>> heard = new ArrayList<>();
        LayeredConfig config = load();
        config.onChange(heard::add);
        ConfigWatch watch = new ConfigWatch(config, heard::add, p -> { });

        cfg("io.caravan.wal", "wal.greeting=ciao\nwal.path=elsewhere\n");
        watch.look();
        assertEquals("hello", config.get("wal.greeting"), "one look may have seen half a file");
        watch.look();
        assertEquals("ciao", config.get("wal.greeting"));
        assertEquals(etc.resolve("data/wal.db").toAbsolutePath(), config.getPath("wal.path"), "not hot");
        assertEquals(List.of(Set.of("wal.greeting"), Set.of("wal.greeting")), heard);
    }

    @Test
    void changedFileIsRefusedAsAWholeWhenItIsBad() throws IOException {
        LayeredConfig config = load();
        ConfigWatch watch = new ConfigWatch(config, keys -> { }, p -> { });
        cfg("io.caravan.wal", "wal.greeting=ciao\nwal.sync=perhaps\n");
        watch.look();
        watch.look();
        assertEquals("hello", config.get("wal.greeting"));
        assertEquals(1, watch.problems().size());

        cfg("io.caravan.wal", "wal.greeting=ciao\nwal.sync=false\n");
        watch.look();
        watch.look();
        assertEquals("ciao", config.get("wal.greeting"));
        assertEquals(List.of(), watch.problems());
    }

    /** A password is rotated in its file; the line that names the file stays as it is. */
    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void aChangedFileOfAValueIsTakenOver(boolean fromEnvironment) throws IOException {
        Path file = Files.writeString(etc.resolve("token"), "hunter2-hunter2\n");
        if (!fromEnvironment) {
            cfg("io.caravan.wal", "wal.password=file:token\n");
        }
        LayeredConfig config = load(fromEnvironment ? Map.of("CARAVAN_WAL_PASSWORD", "file:token") : Map.of(), Map.of());
        List<Set<String>> heard = new ArrayList<>();
        List<List<String>> refused = new ArrayList<>();
        ConfigWatch watch = new ConfigWatch(config, heard::add, refused::add);
        FileTime time = Files.getLastModifiedTime(file);
        Object changed = Files.getAttribute(file, "unix:ctime");

        // As a copy that keeps the time, and of the same length.
        do {
            Files.writeString(file, "hunter3-hunter3\n");
            Files.setLastModifiedTime(file, time);
        } while (Files.getAttribute(file, "unix:ctime").equals(changed));
        watch.look();
        assertEquals("hunter2-hunter2", config.get("wal.password"), "one look may have seen half a file");
        watch.look();
        assertEquals("hunter3-hunter3", config.get("wal.password"));

        Path other = Files.writeString(etc.resolve("other"), "hunter4-hunter4\n");
        Files.move(other, file, StandardCopyOption.REPLACE_EXISTING);
        looks(watch);
        assertEquals("hunter4-hunter4", config.get("wal.password"));

        Files.delete(file);
        looks(watch);
        assertEquals("hunter4-hunter4", config.get("wal.password"), "what was read counts");
        Files.writeString(file, "hunter5-hunter5\n");
        looks(watch);
        assertEquals("hunter5-hunter5", config.get("wal.password"));
        assertEquals(Collections.nCopies(3, Set.of("wal.password")), heard, "once each");
        assertEquals(List.of(), refused);
    }

    private static void looks(ConfigWatch watch) {
        for (int i = 0; i < 4; i++) {
            watch.look();
        }
    }

    /** It is the same trouble at each look, and told once. */
    @Test
    void aCfgFileThatCannotBeReadIsToldOnce() throws IOException {
        Files.writeString(etc.resolve("token"), "hunter2-hunter2\n");
        cfg("io.caravan.wal", "wal.password=file:token\n");
        List<List<String>> refused = new ArrayList<>();
        ConfigWatch watch = new ConfigWatch(load(), keys -> { }, refused::add);
        Files.createDirectory(etc.resolve("io.caravan.http.cfg"));
        looks(watch);
        assertEquals(1, refused.size(), refused.toString());
    }

    /** A line may name a file that comes later. */
    @Test
    void aValuesFileThatComesAfterItsLineIsTakenOver() throws IOException {
        LayeredConfig config = load();
        List<List<String>> refused = new ArrayList<>();
        ConfigWatch watch = new ConfigWatch(config, keys -> { }, refused::add);
        cfg("io.caravan.wal", "wal.password=file:token\n");
        looks(watch);
        assertEquals(1, refused.size(), "told once: " + refused);
        Files.writeString(etc.resolve("token"), "hunter2-hunter2");
        looks(watch);
        assertEquals("hunter2-hunter2", config.get("wal.password"));
        assertEquals(List.of(), watch.problems());
        Files.writeString(etc.resolve("token"), "hunter3-hunter3");
        looks(watch);
        assertEquals("hunter3-hunter3", config.get("wal.password"));
    }

    private LayeredConfig process(Map<String, String> environment, Map<String, String> arguments) {
        return new LayeredConfig(List.of(Path.of("src/test/resources/keys")), etc, etc, etc.resolve("var"), environment, arguments, true);
    }

    @Test
    void aSecretOnTheCommandLineOfAProcessIsRefusedAndNotRepeated() throws IOException {
        Path file = Files.writeString(etc.resolve("token"), "hunter2-hunter2");
        ConfigException e = assertThrows(ConfigException.class, () -> process(Map.of(), Map.of("caravan.wal.token", "hunter2-hunter2")));
        assertTrue(e.getMessage().contains("wal.token must not stand on the command line"), e.getMessage());
        assertFalse(e.getMessage().contains("hunter2"), e.getMessage());
        assertThrows(ConfigException.class, () -> process(Map.of(), Map.of("caravan.user.broker.password", "hunter2-hunter2")));
        assertEquals("hunter2-hunter2", process(Map.of(), Map.of("caravan.wal.token", "file:" + file)).get("wal.token"));
        assertEquals("hunter2-hunter2", process(Map.of("CARAVAN_WAL_TOKEN", "hunter2-hunter2"), Map.of()).get("wal.token"));
    }

    @Test
    void aSecretFileThatOthersCanReadRefusesTheStartWhereThatIsAskedFor() throws IOException {
        Path file = Files.writeString(etc.resolve("token"), "hunter2-hunter2");
        Map<String, String> arguments = Map.of("caravan.wal.token", "file:" + file, "caravan.secret.file.check", "refuse");
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rw-r-----"));
        ConfigException e = assertThrows(ConfigException.class, () -> process(Map.of(), arguments));
        assertTrue(e.getMessage().contains("chmod 600 " + file), e.getMessage());
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rw-------"));
        assertEquals("hunter2-hunter2", process(Map.of(), arguments).get("wal.token"));
        cfg("io.caravan.wal", "wal.token=in-the-file\n");
        Files.setPosixFilePermissions(etc.resolve("io.caravan.wal.cfg"), PosixFilePermissions.fromString("rw-r--r--"));
        assertThrows(ConfigException.class, () -> process(Map.of(), Map.of("caravan.secret.file.check", "refuse")));
        assertEquals("in-the-file", process(Map.of(), Map.of()).get("wal.token"), "by default it is only said");
    }

    @Test
    void whatIsBelowDataFollowsTheDataFolder() {
        assertEquals(etc.resolve("var/wal.db").toAbsolutePath(), process(Map.of(), Map.of()).getPath("wal.path"));
        assertEquals(etc.resolve("database/wal.db").toAbsolutePath(), process(Map.of(), Map.of("caravan.wal.path", "database/wal.db")).getPath("wal.path"));
        assertEquals(etc.resolve("passwd").toAbsolutePath(), process(Map.of(), Map.of("caravan.wal.path", "data/../passwd")).getPath("wal.path"));
    }
}
