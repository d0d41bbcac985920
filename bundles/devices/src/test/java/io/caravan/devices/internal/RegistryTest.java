// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.devices.Devices.BrokerCredential;
import io.caravan.devices.Devices.Device;
import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.Devices.NewDevice;
import io.caravan.devices.Devices.Signing;
import io.caravan.devices.Devices.Status;
import io.caravan.devices.Gate.Outcome;
import io.caravan.devices.Gate.Transport;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.Base64;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import javax.crypto.Mac;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;
import javax.crypto.spec.SecretKeySpec;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The registry: what is kept, what a change does and when, what becomes of a file that is not as it should be. */
class RegistryTest {
  @TempDir
  Path folder;
  private Fixture box;

  @BeforeEach
  void open() throws Exception {
    box = new Fixture(folder);
  }

  @AfterEach
  void close() throws Exception {
    box.close();
  }

  private Device device(String id) {
    return box.devices.find(id).orElseThrow();
  }

  // ---------------------------------------------------------------------------------------------- enrolment

  @Test
  void everythingIsThereAfterARestart() throws Exception {
    Enrolment added = box.devices.add(new NewDevice("dev-1", List.of("10.0.0.0/8", "fd00::/16"), "{ \"valve\": {\"max\": 3} }", Signing.REQUIRE, 5, 0L,
        "M\u00fchle, \u00fcben", 1_000L, 1_800_000_000_000L));
    box.add("dev-2");
    box.devices.revoke("dev-2");
    box.from("dev-1", added.token());
    assertEquals(Outcome.ACCEPTED, box.mqtt("dev-1", added.token(), "10.1.2.3").outcome());
    List<Device> before = box.devices.list();
    assertEquals(List.of("dev-1", "dev-2"), before.stream().map(Device::id).toList());
    assertEquals("{\"valve\":{\"max\":3}}", before.get(0).capabilities());
    assertEquals(List.of("10.0.0.0/8", "fd00:0:0:0:0:0:0:0/16"), before.get(0).allow());
    assertEquals(box.nowMs.get(), before.get(0).lastSeenMs());
    assertEquals("10.1.2.3", before.get(0).lastAddress());
    assertEquals(Transport.MQTT, before.get(0).lastTransport());
    assertEquals(Status.REVOKED, before.get(1).status());
    box.reopen();
    assertEquals(before, box.devices.list());
    assertEquals(Outcome.ACCEPTED, box.mqtt("dev-1", added.token(), "10.1.2.3").outcome());
    assertArrayEquals(Base64.getUrlDecoder().decode(added.signingKey()), box.devices.signingPolicy("dev-1").orElseThrow().keys().get(0));
  }

  @Test
  void aTokenIs256BitsAndKeptNowhere() throws Exception {
    Enrolment one = box.add("dev-1");
    Enrolment two = box.add("dev-2");
    assertTrue(one.token().matches("cvn_[A-Za-z0-9_-]{43}"), one.token());
    assertNotEquals(one.token(), two.token());
    assertEquals(8, one.tokenId().length());
    assertFalse(one.toString().contains(one.token()) || one.toString().contains(one.signingKey()));
    Mac mac = Mac.getInstance("HmacSHA256");
    mac.init(new SecretKeySpec(one.token().getBytes(StandardCharsets.US_ASCII), "HmacSHA256"));
    assertEquals(one.signingKey(), Base64.getUrlEncoder().withoutPadding()
        .encodeToString(mac.doFinal("caravan message signature v1".getBytes(StandardCharsets.US_ASCII))));
    BrokerCredential broker = box.devices.brokerCredentials().get(0);
    assertArrayEquals(SecretKeyFactory.getInstance("PBKDF2WithHmacSHA512")
        .generateSecret(new PBEKeySpec(one.token().toCharArray(), broker.salt(), broker.iterations(), 512)).getEncoded(), broker.hash());
    box.close();
    try (Stream<Path> files = Files.list(folder)) {
      for (Path file : files.toList()) {
        String bytes = Files.readString(file, StandardCharsets.ISO_8859_1);
        assertFalse(bytes.contains(one.token()) || bytes.contains(one.token().substring(4)), file.toString());
        assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(file)), file.toString());
      }
    }
    box.open();
  }

  @Test
  void valuesThatBreakTheirRulesAreRefused() throws Exception {
    box.add("dev-1");
    for (String id : List.of("", ".a", "-a", "a/b", "a+", "#", "a..b", "a b", "a\nb", "a\u0000", "\u00e4", "a".repeat(65), "gateway",
        "cvn_" + "x".repeat(43), "dev-1", "x'; DROP TABLE device; --")) {
      String message = assertThrows(IllegalArgumentException.class, () -> box.add(id), id).getMessage();
      assertTrue(message.contains("[") && !message.contains("\n") && !message.contains("xxxxx"), message);
    }
    assertThrows(IllegalArgumentException.class, () -> box.add(null));
    assertThrows(IllegalArgumentException.class, () -> box.devices.add(new NewDevice("d", List.of("10.0.0.0/33"), null, null, null, null, null, null, null)));
    for (String capabilities : List.of("[]", "1", "{", "{} {}", "{\"a\":1,\"a\":2}", "[".repeat(10_000), "{\"a\":" + "[".repeat(40) + "]".repeat(40) + "}",
        "{\"a\":\"" + "x".repeat(20_000) + "\"}")) {
      assertThrows(IllegalArgumentException.class, () -> box.devices.capabilities("dev-1", capabilities), capabilities.substring(0, 1));
    }
    assertThrows(IllegalArgumentException.class, () -> box.devices.limits("dev-1", -1, null));
    assertThrows(IllegalArgumentException.class, () -> box.devices.limits("dev-1", null, -1L));
    assertThrows(IllegalArgumentException.class, () -> box.devices.rotate("dev-1", -1, null));
    assertThrows(IllegalArgumentException.class, () -> box.devices.rotate("dev-1", 0, box.nowMs.get()));
    assertThrows(IllegalArgumentException.class, () -> box.devices.restore("dev-1"));
    assertThrows(IllegalArgumentException.class, () -> box.devices.revokeToken("dev-1", "' OR '1'='1"));
    assertThrows(IllegalArgumentException.class, () -> box.devices.add(new NewDevice("d", null, null, null, null, null, "two\nlines", null, null)));
    assertThrows(NoSuchElementException.class, () -> box.devices.revoke("nobody"));
    assertThrows(NoSuchElementException.class, () -> box.devices.remove("' OR '1'='1"));
    assertEquals(List.of("dev-1"), box.devices.list().stream().map(Device::id).toList());
  }

  @Test
  void sqlInAFieldIsText() throws Exception {
    String sql = "'); DROP TABLE device; -- \" ? ?1 :a $b";
    box.devices.add(new NewDevice("dev-1", null, "{\"a\":\"'); DROP TABLE token; --\"}", null, null, null, sql, null, null));
    Enrolment two = box.add("dev-2");
    box.devices.capabilities("dev-2", "{\"' OR 1=1 --\":\"'); DELETE FROM token\"}");
    for (String id : List.of(sql, "' OR '1'='1", "dev-2' --", "dev-2\u0000", "dev-2\" OR \"\"=\"", "%", "dev-_")) {
      assertEquals(Outcome.UNKNOWN_DEVICE, box.mqtt(id, two.token(), "10.9." + Math.floorMod(id.hashCode(), 200) + ".1").outcome(), id);
      assertTrue(box.devices.find(id).isEmpty());
      assertTrue(box.devices.signingPolicy(id).isEmpty());
    }
    // An address that is none is noted as it came: text from outside that reaches SQL.
    assertEquals(Outcome.ACCEPTED, box.mqtt("dev-2", two.token(), "'); DROP TABLE seen; --").outcome());
    box.devices.flushSeen();
    List<Device> before = box.devices.list();
    assertEquals(sql, before.get(0).note());
    box.reopen();
    assertEquals(before, box.devices.list());
    assertEquals("'); DROP TABLE seen; --", device("dev-2").lastAddress());
  }

  // ---------------------------------------------------------------------------------------------- rotation

  @Test
  void twoTokensAreValidInARotation() throws Exception {
    String one = box.add("dev-1").token();
    String two = box.devices.rotate("dev-1", 60_000, null).token();
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", one));
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", two));
    box.devices.signing("dev-1", Signing.ACCEPT);
    assertEquals(2, box.devices.signingPolicy("dev-1").orElseThrow().keys().size());
    String three = box.devices.rotate("dev-1", 60_000, null).token();
    assertEquals(Outcome.REVOKED, box.from("dev-1", one), "only two are valid");
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", two));
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", three));
    box.later(59_999);
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", two));
    box.later(1);
    assertEquals(Outcome.EXPIRED, box.from("dev-1", two));
    assertEquals(1, box.devices.signingPolicy("dev-1").orElseThrow().keys().size());
    String four = box.devices.rotate("dev-1", 0, null).token();
    assertEquals(Outcome.REVOKED, box.from("dev-1", three));
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", four));
  }

  @Test
  void theLastOfManyRotationsIsKept() throws Exception {
    String token = box.add("dev-1").token();
    for (int i = 0; i < 30; i++) {
      token = box.devices.rotate("dev-1", 1_000, null).token();
    }
    assertEquals(Entry.MAX_TOKENS, device("dev-1").tokens().size());
    box.reopen();
    assertEquals(Entry.MAX_TOKENS, device("dev-1").tokens().size());
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", token));
  }

  @Test
  void validityHasABeginningAndAnEnd() throws Exception {
    long now = box.nowMs.get();
    String token = box.devices.add(new NewDevice("dev-1", null, null, null, null, null, null, now + 1_000, now + 2_000)).token();
    assertEquals(Outcome.NOT_YET_VALID, box.from("dev-1", token));
    assertNull(box.devices.brokerCredentials().get(0).hash());
    box.later(1_000);
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", token));
    box.later(1_000);
    assertEquals(Outcome.EXPIRED, box.from("dev-1", token));
    assertNull(box.devices.brokerCredentials().get(0).hash());
    // A box that has lost its clock starts in 1970: what has no beginning is valid then too.
    String plain = box.add("dev-2").token();
    box.nowMs.set(5_000);
    assertEquals(Outcome.ACCEPTED, box.from("dev-2", plain));
  }

  // ---------------------------------------------------------------------------------------------- revocation

  @Test
  void aRevokedDeviceComesBackOnlyWithANewToken() throws Exception {
    String one = box.add("dev-1").token();
    String two = box.devices.rotate("dev-1", 600_000, null).token();
    box.devices.revoke("dev-1");
    assertEquals(Outcome.REVOKED, box.from("dev-1", one));
    assertEquals(Outcome.REVOKED, box.from("dev-1", two));
    assertEquals(Outcome.REVOKED, box.certificate("dev-1", null, Fixture.HOME).outcome());
    assertTrue(box.devices.signingPolicy("dev-1").isEmpty());
    assertThrows(IllegalArgumentException.class, () -> box.devices.rotate("dev-1", 0, null));
    box.reopen();
    assertEquals(Outcome.REVOKED, box.from("dev-1", two));
    String three = box.devices.restore("dev-1").token();
    assertEquals(Outcome.REVOKED, box.from("dev-1", two));
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", three));
    box.devices.remove("dev-1");
    assertEquals(Outcome.UNKNOWN_DEVICE, box.from("dev-1", three));
    String four = box.add("dev-1").token();
    assertEquals(Outcome.WRONG_TOKEN, box.from("dev-1", three));
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", four));
    assertEquals(List.of("device.add", "device.rotate", "device.revoke", "device.restore", "device.remove", "device.add"),
        box.audited.stream().map(a -> a.split(" ")[0]).toList());
    assertEquals(List.of("revalidate dev-1", "disconnect dev-1", "revalidate dev-1", "disconnect dev-1"), box.cut);
  }

  @Test
  void oneTokenCanBeRevoked() throws Exception {
    Enrolment one = box.add("dev-1");
    Enrolment two = box.devices.rotate("dev-1", 600_000, null);
    box.cut.clear();
    box.devices.revokeToken("dev-1", two.tokenId());
    assertEquals(List.of("revalidate dev-1"), box.cut);
    assertEquals(Outcome.REVOKED, box.from("dev-1", two.token()));
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", one.token()));
    BrokerCredential broker = box.devices.brokerCredentials().get(0);
    assertArrayEquals(SecretKeyFactory.getInstance("PBKDF2WithHmacSHA512")
        .generateSecret(new PBEKeySpec(one.token().toCharArray(), broker.salt(), broker.iterations(), 512)).getEncoded(), broker.hash());
    box.devices.signing("dev-1", Signing.REQUIRE);
    assertEquals(1, box.devices.signingPolicy("dev-1").orElseThrow().keys().size());
  }

  @Test
  void aRevocationIsInForceThoughItCannotBeWritten() throws Exception {
    String token = box.add("dev-1").token();
    String other = box.add("dev-2").token();
    box.writable(false);
    String message = assertThrows(IOException.class, () -> box.devices.revoke("dev-1")).getMessage();
    assertTrue(message.contains("is in force, but could not be written"), message);
    assertEquals(Outcome.REVOKED, box.from("dev-1", token));
    assertTrue(box.cut.contains("disconnect dev-1"));
    assertTrue(box.devices.problem().contains("[dev-1]"), box.devices.problem());
    assertTrue(box.audited.contains("device.revoke dev-1 in force but not written"), box.audited.toString());
    // Restrictions of other kinds too, gifts not.
    assertThrows(IOException.class, () -> box.devices.allow("dev-2", List.of("10.0.0.0/8")));
    assertEquals(Outcome.ADDRESS, box.from("dev-2", other));
    assertThrows(IOException.class, () -> box.devices.signing("dev-2", Signing.REQUIRE));
    assertEquals(Signing.REQUIRE, device("dev-2").signing());
    assertTrue(assertThrows(IOException.class, () -> box.devices.allow("dev-2", List.of())).getMessage().contains("nothing was changed"));
    assertEquals(List.of("10.0.0.0/8"), device("dev-2").allow());
    assertThrows(IOException.class, () -> box.add("dev-3"));
    assertThrows(IOException.class, () -> box.devices.rotate("dev-2", 0, null));
    assertThrows(IOException.class, () -> box.devices.restore("dev-1"));
    assertEquals(Outcome.REVOKED, box.from("dev-1", token));
    assertTrue(box.devices.find("dev-3").isEmpty());
    assertEquals(1, device("dev-2").tokens().size());
    // The negative control: what was not written is not in the file, so that only the retry can bring it there.
    box.writable(true);
    Fixture.await("written by itself", () -> box.devices.problem().isEmpty());
    box.reopen();
    assertEquals(Outcome.REVOKED, box.from("dev-1", token));
    assertEquals(List.of("10.0.0.0/8"), device("dev-2").allow());
    assertEquals(Outcome.ADDRESS, box.from("dev-2", other));
  }

  @Test
  void aRemovalThatCannotBeWrittenIsMadeUpFor() throws Exception {
    box.add("dev-1");
    box.writable(false);
    assertThrows(IOException.class, () -> box.devices.remove("dev-1"));
    assertTrue(box.devices.find("dev-1").isEmpty());
    box.writable(true);
    box.reopen();
    assertTrue(box.devices.find("dev-1").isEmpty(), "written at the stop at the latest");
  }

  @Test
  void aRevocationDoesNotWaitForAnotherChange() throws Exception {
    String token = box.add("dev-1").token();
    CountDownLatch writing = new CountDownLatch(1);
    CountDownLatch goOn = new CountDownLatch(1);
    box.whileAuditing = () -> {
      writing.countDown();
      try {
        goOn.await(20, TimeUnit.SECONDS);
      } catch (InterruptedException e) {
        throw new IllegalStateException(e);
      }
    };
    Thread slow = new Thread(() -> {
      try {
        box.devices.rotate("dev-1", 600_000, null);
      } catch (IOException | IllegalArgumentException expectedOnceRevoked) {
        // Made anew on top of the revocation, a rotation is not allowed any more.
      }
    });
    slow.start();
    assertTrue(writing.await(20, TimeUnit.SECONDS));
    Thread revoke = new Thread(() -> {
      try {
        box.devices.revoke("dev-1");
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    });
    revoke.start();
    Fixture.await("revoked while the other change is being written", () -> box.from("dev-1", token) == Outcome.REVOKED);
    goOn.countDown();
    slow.join();
    revoke.join();
    assertEquals(Status.REVOKED, device("dev-1").status());
    box.whileAuditing = () -> { };
    box.reopen();
    assertEquals(Status.REVOKED, device("dev-1").status());
    assertEquals(1, device("dev-1").tokens().size(), "the rotation was never in force");
  }

  @Test
  void whatCannotBeAuditedIsNotDoneUnlessItTakesAway() throws Exception {
    String token = box.add("dev-1").token();
    box.auditFails = true;
    assertThrows(UncheckedIOException.class, () -> box.add("dev-2"));
    assertThrows(UncheckedIOException.class, () -> box.devices.rotate("dev-1", 0, null));
    assertTrue(box.devices.find("dev-2").isEmpty());
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", token));
    box.devices.revoke("dev-1");
    assertEquals(Outcome.REVOKED, box.from("dev-1", token));
    assertThrows(UncheckedIOException.class, () -> box.devices.restore("dev-1"));
    box.reopen();
    assertEquals(List.of("dev-1"), box.devices.list().stream().map(Device::id).toList());
    assertEquals(Status.REVOKED, device("dev-1").status());
    assertEquals(1, device("dev-1").tokens().size());
  }

  @Test
  void changesAreAnnouncedInOrder() throws Exception {
    List<String> seen = new CopyOnWriteArrayList<>();
    AutoCloseable failing = box.devices.onChange(change -> {
      throw new IllegalStateException("a listener's own problem");
    });
    AutoCloseable listening = box.devices.onChange(change -> seen.add(change + (change.token() == null ? "" : " with token")));
    box.add("dev-1");
    Fixture.await("announced although another listener fails", () -> seen.size() == 1);
    failing.close();
    box.devices.rotate("dev-1", 0, null);
    box.devices.allow("dev-1", List.of("10.0.0.0/8"));
    box.devices.revoke("dev-1");
    box.devices.revoke("dev-1");
    box.devices.restore("dev-1");
    box.devices.remove("dev-1");
    List<String> expected = List.of("Change[dev-1 ADDED] with token", "Change[dev-1 ROTATED] with token", "Change[dev-1 CHANGED]",
        "Change[dev-1 REVOKED]", "Change[dev-1 RESTORED] with token", "Change[dev-1 REMOVED]");
    Fixture.await("all announced", () -> seen.size() == expected.size());
    assertEquals(expected, seen);
    listening.close();
  }

  // ---------------------------------------------------------------------------------------------- the file

  @Test
  void aDamagedFileLetsNobodyInAndSaysHowToRestore() throws Exception {
    String token = box.add("dev-1").token();
    box.devices.revoke("dev-1");
    String restored = box.devices.restore("dev-1").token();
    Fixture.await("a copy with all of it", () -> copied("SELECT count(*) FROM token") == 2);
    box.close();
    byte[] good = Files.readAllBytes(box.file);
    // A revoked token made valid again by hand: the file is sound for SQLite, the checksum says otherwise.
    sql(box.file, "UPDATE token SET revoked_at_ms = NULL WHERE revoked_at_ms IS NOT NULL");
    String message = assertThrows(IOException.class, () -> box.open()).getMessage();
    assertTrue(message.contains("no device may connect") && message.contains("a token of device [dev-1]") && message.contains("cp -p "
        + Registry.copyOf(box.file)), message);
    Files.write(box.file, good);
    sql(box.file, "UPDATE device SET status = 'active', allow = '0.0.0.0/0'");
    assertTrue(assertThrows(IOException.class, () -> box.open()).getMessage().contains("checksum of device [dev-1]"));
    Files.write(box.file, good);
    try (RandomAccessFile file = new RandomAccessFile(box.file.toFile(), "rw")) {
      file.seek(4096);
      file.write(new byte[4096]);
    }
    assertThrows(IOException.class, () -> box.open());
    Files.write(box.file, "this is no database, and has been none for as long as anybody remembers".getBytes(StandardCharsets.UTF_8));
    assertThrows(IOException.class, () -> box.open());
    // As the message says.
    String advice = message.substring(message.indexOf("mkdir -p"), message.indexOf(" (it is read"));
    Process restore = new ProcessBuilder("sh", "-c", advice).inheritIO().start();
    assertTrue(restore.waitFor(20, TimeUnit.SECONDS));
    box.open();
    assertEquals(Outcome.REVOKED, box.from("dev-1", token));
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", restored));
    assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(box.file)));
  }

  @Test
  void aFileThatIsGoneIsNotMadeAnew() throws Exception {
    box.add("dev-1");
    Fixture.await("copy", () -> copied("SELECT count(*) FROM device") == 1);
    box.close();
    Path elsewhere = folder.resolve("elsewhere");
    Files.move(box.file, elsewhere);
    assertTrue(assertThrows(IOException.class, () -> box.open()).getMessage().contains("is gone, but its copy is there"));
    Files.createFile(box.file);
    assertTrue(assertThrows(IOException.class, () -> box.open()).getMessage().contains("is gone, but its copy is there"));
    Files.move(elsewhere, box.file, StandardCopyOption.REPLACE_EXISTING);
    box.open();
    assertEquals(1, box.devices.list().size());
  }

  @Test
  void otherFilesAreLeftAlone() throws Exception {
    box.close();
    Path newer = folder.resolve("newer.db");
    Files.copy(box.file, newer);
    sql(newer, "PRAGMA user_version = 3");
    assertTrue(assertThrows(IOException.class, () -> Registry.open(newer)).getMessage().contains("reads up to 2"));
    Path foreign = folder.resolve("foreign.db");
    sql(foreign, "CREATE TABLE mine (a)");
    assertTrue(assertThrows(IOException.class, () -> Registry.open(foreign)).getMessage().contains("another program's file"));
    box.open();
  }

  @Test
  void theFileIsOnesOwn() throws Exception {
    box.add("dev-1");
    assertTrue(assertThrows(IOException.class, () -> Registry.open(box.file)).getMessage().contains("another process has it open"));
  }

  @Test
  void aChangeIsOnTheDiskWhenItReturns() throws Exception {
    Enrolment added = box.add("dev-1");
    box.devices.allow("dev-1", List.of("192.168.0.0/16"));
    // As after a power cut: file and -wal file as they are, without the close.
    Path other = Files.createDirectories(folder.resolve("other"));
    for (String name : List.of("registry.db", "registry.db-wal")) {
      Files.copy(folder.resolve(name), other.resolve(name));
    }
    try (Fixture after = new Fixture(other)) {
      assertEquals(Outcome.ACCEPTED, after.from("dev-1", added.token()));
      assertEquals(List.of("192.168.0.0/16"), after.devices.find("dev-1").orElseThrow().allow());
    }
  }

  private int copied(String sql) {
    Path copy = Registry.copyOf(box.file);
    if (!Files.exists(copy)) {
      return -1;
    }
    try (Connection connection = DriverManager.getConnection("jdbc:sqlite:file:" + copy + "?immutable=1");
        Statement statement = connection.createStatement(); ResultSet row = statement.executeQuery(sql)) {
      return row.next() ? row.getInt(1) : -1;
    } catch (java.sql.SQLException beingReplaced) {
      return -1;
    }
  }

  private static void sql(Path file, String sql) throws Exception {
    try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + file); Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }
}
