// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.launcher.Upgrade;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What becomes of an operator's files, links and modes: the program by itself, with two folders that are just enough of an installation. */
@Timeout(120)
class UpgradeFilesTest {
  private static final Duration SOON = Duration.ofSeconds(60);

  @TempDir
  Path temp;
  private Path folder;
  private Path old;
  private Path next;

  @BeforeEach
  void installations() throws Exception {
    folder = temp.toRealPath();
    old = installation("caravan-1", "");
    next = installation("caravan-2", ", was: uplink.address");
  }

  private Path installation(String name, String was) throws IOException {
    Path home = folder.resolve(name);
    write(home.resolve("bin/caravan"), "");
    write(home.resolve("VERSION"), name);
    String key = was.isEmpty() ? "uplink.address" : "uplink.url";
    write(home.resolve("etc/keys/io.caravan.uplink.yaml"), key + ": {type: string" + was + "}\nuplink.flush.ms: {type: long}\n");
    write(home.resolve("etc/keys/io.caravan.wal.yaml"), "wal.fsync: {type: string}\n");
    write(home.resolve("etc/io.caravan.uplink.cfg"), "# nothing is set\n");
    write(home.resolve("etc/data-policy.json"), "{}");
    Files.createDirectories(home.resolve("deploy"));
    Files.writeString(home.resolve("etc.sha256"), "");
    return home;
  }

  private static void write(Path file, String text) throws IOException {
    Files.createDirectories(file.getParent());
    Files.writeString(file, text);
  }

  private void link(String name, String target) throws IOException {
    Path link = old.resolve(name);
    Files.createDirectories(link.getParent());
    Files.deleteIfExists(link);
    Files.createSymbolicLink(link, Path.of(target));
  }

  private String leads(String name) throws IOException {
    assertTrue(Files.isSymbolicLink(next.resolve(name)), () -> name + " is no link");
    return Files.readSymbolicLink(next.resolve(name)).toString();
  }

  /** As an owner who may do what modes allow: root without its right to pass them over. */
  private Child caravan(String... arguments) throws Exception {
    List<String> command = new ArrayList<>();
    if ("root".equals(System.getProperty("user.name"))) {
      command.addAll(List.of("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-dac_override,-dac_read_search"));
    }
    command.addAll(List.of(Path.of(System.getProperty("java.home"), "bin/java").toString(), "-cp",
        Path.of(Upgrade.class.getProtectionDomain().getCodeSource().getLocation().toURI()).toString(), "-Dkaraf.home=" + next, Upgrade.class.getName()));
    command.addAll(List.of(arguments));
    return Child.start("caravan", command, Map.of("KARAF_DATA", ""), folder, folder.resolve("log-" + System.nanoTime()));
  }

  private String done(String... arguments) throws Exception {
    Child child = caravan(arguments);
    assertEquals(0, child.awaitExit(SOON), child::output);
    return child.output();
  }

  @Test
  void linksStayLinks() throws Exception {
    Path live = folder.resolve("acme/live");
    write(live.resolve("cert.pem"), "first");
    write(live.resolve("policy.json"), "{\"mine\":true}");
    write(live.resolve("flush.cfg"), "uplink.flush.ms = 7\n");
    write(live.resolve("own.camel.yaml"), "- route: {}\n");
    write(old.resolve("etc/tls/own.pem"), "own");
    write(old.resolve("data/x"), "");
    link("etc/cert.pem", live + "/cert.pem");
    link("etc/live", live.toString());
    link("etc/tls/now.pem", "own.pem");
    link("etc/tls/up.pem", "../cert.pem");
    link("etc/spool", "../data/spool");
    link("etc/beside.pem", "../../acme/live/cert.pem");
    link("etc/nothing.pem", "/nowhere/cert.pem");
    link("etc/into.pem", old + "/etc/tls/own.pem");
    link("etc/loop", ".");
    write(old.resolve("secrets/server.key"), "secret");
    link("etc/server.key", "../secrets/server.key");
    link("etc/data-policy.json", live + "/policy.json");
    link("etc/io.caravan.uplink.cfg", live + "/flush.cfg");
    link("deploy/own.camel.yaml", live + "/own.camel.yaml");

    String before = done("upgrade", old.toString(), "--check");
    assertFalse(Files.exists(next.resolve("etc/cert.pem"), LinkOption.NOFOLLOW_LINKS), before);
    for (int time = 1; time <= 2; time++) { // again, as after a power cut
      String said = done("upgrade", old.toString());
      assertEquals(live + "/cert.pem", leads("etc/cert.pem"));
      assertEquals(live.toString(), leads("etc/live"));
      assertEquals("own.pem", leads("etc/tls/now.pem"));
      assertEquals("own", Files.readString(next.resolve("etc/tls/now.pem")));
      assertFalse(Files.isSymbolicLink(next.resolve("etc/tls/own.pem")));
      assertEquals("../cert.pem", leads("etc/tls/up.pem"));
      assertEquals("../data/spool", leads("etc/spool"));
      assertEquals(live + "/cert.pem", leads("etc/beside.pem"));
      assertEquals("/nowhere/cert.pem", leads("etc/nothing.pem"));
      assertEquals(old + "/etc/tls/own.pem", leads("etc/into.pem"));
      assertEquals(".", leads("etc/loop"));
      assertEquals(old + "/secrets/server.key", leads("etc/server.key"));
      assertEquals(live + "/policy.json", leads("etc/data-policy.json"));
      assertEquals("{}", Files.readString(next.resolve("etc/data-policy.json.new")));
      assertEquals(live + "/flush.cfg", leads("etc/io.caravan.uplink.cfg"));
      assertEquals(live + "/own.camel.yaml", leads("deploy/own.camel.yaml"));
      for (String part : List.of("etc/cert.pem is taken over as a link to " + live + "/cert.pem\n", "etc/nothing.pem is taken over as a link to /nowhere/cert.pem, where nothing is\n",
          "etc/into.pem is taken over as a link to " + old + "/etc/tls/own.pem; that is in the old installation",
          "etc/server.key is taken over as a link to " + old + "/secrets/server.key; that is in the old installation")) {
        assertTrue(said.contains(part), () -> "not told: " + part + "\n" + said);
      }
    }
    assertEquals("{}", Files.readString(next.resolve("etc/data-policy.json.new")), "not what the first time had made");

    // Renewed: that is no change that the old installation does not have.
    write(live.resolve("cert.pem.tmp"), "second");
    Files.move(live.resolve("cert.pem.tmp"), live.resolve("cert.pem"), StandardCopyOption.REPLACE_EXISTING);
    Files.setLastModifiedTime(live.resolve("cert.pem"), FileTime.fromMillis(System.currentTimeMillis() + 3_600_000));
    assertEquals("second", Files.readString(next.resolve("etc/cert.pem")));
    String back = done("rollback");
    assertFalse(back.contains("was changed here"), back);
  }

  @Test
  void aLinkedSettingsFileThatMustBeChangedBecomesAFileAndWhatItLedToStays() throws Exception {
    Path shared = folder.resolve("shared.cfg");
    write(shared, "uplink.address = wss://x\n");
    link("etc/io.caravan.uplink.cfg", shared.toString());
    String said = done("upgrade", old.toString());
    assertTrue(said.contains("etc/io.caravan.uplink.cfg was a link to " + shared), said);
    assertFalse(Files.isSymbolicLink(next.resolve("etc/io.caravan.uplink.cfg")));
    assertEquals("uplink.url = wss://x\n", Files.readString(next.resolve("etc/io.caravan.uplink.cfg")));
    assertEquals("uplink.address = wss://x\n", Files.readString(shared));
  }

  @Test
  void aSecretThatNobodyMayWriteIsTakenOverWithItsMode() throws Exception {
    Path secret = old.resolve("etc/uplink.token");
    write(secret, "secret");
    Files.setPosixFilePermissions(secret, PosixFilePermissions.fromString("r--------"));
    for (int time = 1; time <= 2; time++) {
      done("upgrade", old.toString());
      Path here = next.resolve("etc/uplink.token");
      assertEquals("secret", Files.readString(here));
      assertEquals("r--------", PosixFilePermissions.toString(Files.getPosixFilePermissions(here)));
      assertFalse(Files.exists(here.resolveSibling(".uplink.token.upgrade")));
      Files.delete(here);
    }
  }
}
