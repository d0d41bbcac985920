// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.Devices.Imported;
import io.caravan.devices.Devices.NewDevice;
import io.caravan.devices.Devices.Signing;
import io.caravan.devices.Gate.Outcome;
import io.caravan.mqtt.server.Authenticator.Grant;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.zip.CRC32C;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Who may give commands, and that registries of before that can be used. */
class ControllerTest {
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

  private Grant grant(Enrolment enrolment) {
    return box.mqtt(enrolment.device().id(), enrolment.token(), Fixture.HOME).grant();
  }

  @Test
  void nobodyIsAControllerUntilSomebodySaysSo() throws Exception {
    Enrolment tablet = box.add("tablet");
    Grant grant = grant(tablet);
    assertFalse(tablet.device().controller());
    assertFalse(grant.controller());
    assertFalse(box.devices.isController("tablet"));
    assertFalse(box.devices.isController("unknown"));
    assertTrue(box.devices.controller("tablet", true).controller());
    assertTrue(grant.controller(), "on connections that stand, too");
    assertTrue(box.devices.isController("tablet"));
    assertTrue(box.audited.contains("device.controller tablet ok {controller=true}"), () -> box.audited.toString());
    box.reopen();
    assertTrue(box.devices.isController("tablet"));
    assertEquals(List.of(true), box.devices.brokerCredentials().stream().map(each -> each.controller()).toList());
    assertThrows(NoSuchElementException.class, () -> box.devices.controller("unknown", true));
  }

  @Test
  void aRightThatIsTakenAwayIsGoneThoughItCannotBeWritten() throws Exception {
    Enrolment tablet = box.devices.add(new NewDevice("tablet", null, null, null, null, null, null, null, null, true));
    Grant grant = grant(tablet);
    box.cut.clear();
    box.writable(false);
    assertThrows(IOException.class, () -> box.devices.controller("tablet", false));
    assertFalse(grant.controller());
    assertFalse(box.devices.isController("tablet"));
    assertEquals(List.of("revalidate tablet"), box.cut);
    // To give it is another matter: what could not be written is not in force.
    assertThrows(IOException.class, () -> box.devices.controller("tablet", true));
    assertFalse(grant.controller());
    box.writable(true);
  }

  @Test
  void whoIsRevokedControlsNothing() throws Exception {
    Enrolment tablet = box.add("tablet");
    box.devices.controller("tablet", true);
    Grant grant = grant(tablet);
    box.devices.revoke("tablet");
    assertFalse(grant.controller());
    assertFalse(box.devices.isController("tablet"));
    box.devices.restore("tablet");
    assertTrue(box.devices.isController("tablet"), "restored as it was");
  }

  @Test
  void signaturesThatCannotBeAreNotAskedFor() throws Exception {
    box.add("tablet");
    box.devices.controller("tablet", true);
    String message = assertThrows(IllegalArgumentException.class, () -> box.devices.signing("tablet", Signing.REQUIRE)).getMessage();
    assertTrue(message.contains("[require]") && message.contains("device:controller tablet off"), message);
    box.devices.signing("tablet", Signing.ACCEPT);
    box.devices.controller("tablet", false);
    box.devices.signing("tablet", Signing.REQUIRE);
    assertThrows(IllegalArgumentException.class, () -> box.devices.controller("tablet", true));
    assertThrows(IllegalArgumentException.class,
        () -> box.devices.add(new NewDevice("other", null, null, Signing.REQUIRE, null, null, null, null, null, true)));
    assertTrue(box.devices.find("other").isEmpty());
  }

  @Test
  void theImportSaysItToo() throws Exception {
    Path csv = Files.writeString(folder.resolve("a.csv"), "device_id,controller\na,true\nb,false\nc,\n");
    Imported imported = box.devices.importFile(csv, false);
    assertEquals(List.of(), imported.problems());
    Path json = Files.writeString(folder.resolve("a.json"), "[{\"device_id\":\"d\",\"controller\":true}]");
    box.devices.importFile(json, false);
    assertEquals(List.of("a", "d"), box.devices.list().stream().filter(each -> each.controller()).map(each -> each.id()).toList());
    Path bad = Files.writeString(folder.resolve("b.csv"), "device_id,controller\ne,yes\n");
    assertEquals(List.of("line 2: controller [yes] must be true or false"), box.devices.importFile(bad, false).problems());
  }

  @Test
  void theChecksumCoversIt() throws Exception {
    box.add("tablet");
    box.close();
    sql("UPDATE device SET controller = 1");
    assertTrue(assertThrows(IOException.class, () -> box.open()).getMessage().contains("checksum of device [tablet]"));
    sql("UPDATE device SET controller = 0");
    box.open();
  }

  @Test
  void aRegistryOfVersion1IsTakenOver() throws Exception {
    Enrolment plain = box.devices.add(new NewDevice("plain", List.of("192.168.0.0/16"), "{\"a\":1}", Signing.ACCEPT, 5, 0L, "note", null, null));
    Enrolment gone = box.add("gone");
    box.devices.revoke("gone");
    String before = box.devices.list().toString();
    box.close();
    toVersion1();
    box.open();
    assertEquals(before, box.devices.list().toString());
    assertEquals(Outcome.ACCEPTED, box.from("plain", plain.token()));
    assertEquals(Outcome.REVOKED, box.from("gone", gone.token()));
    box.devices.controller("plain", true);
    box.reopen();
    assertTrue(box.devices.isController("plain"));
    // The copy beside it is of the new version, too: it must be fit to take the file's place.
    Fixture.await("copy", () -> number(Registry.copyOf(box.file), "PRAGMA user_version") == 2);
  }

  @Test
  void whatIsDamagedInVersion1DoesNotGetAChecksumThatHolds() throws Exception {
    box.add("plain");
    box.devices.revoke("plain");
    box.close();
    toVersion1();
    sql("UPDATE device SET status = 'active'");
    assertTrue(assertThrows(IOException.class, () -> box.open()).getMessage().contains("checksum of device [plain]"));
    assertEquals(1, number(box.file, "PRAGMA user_version"), "left as it was");
    sql("UPDATE device SET status = 'revoked'");
    box.open();
  }

  /** Makes the file what version 1 wrote: no column, and a checksum without it. */
  private void toVersion1() throws Exception {
    try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + box.file); Statement statement = connection.createStatement();
        PreparedStatement update = connection.prepareStatement("UPDATE device SET crc = ? WHERE device_id = ?")) {
      statement.execute("ALTER TABLE device DROP COLUMN controller");
      try (ResultSet row = statement.executeQuery("SELECT device_id, status, allow, capabilities, signing, messages_per_s, bytes_per_s, note,"
          + " created_at_ms, revoked_at_ms FROM device")) {
        while (row.next()) {
          CRC32C crc = new CRC32C();
          for (int i = 1; i <= 10; i++) {
            String value = row.getString(i);
            byte[] bytes = value == null ? null : value.getBytes(StandardCharsets.UTF_8);
            crc.update(ByteBuffer.allocate(4).putInt(bytes == null ? -1 : bytes.length).flip());
            if (bytes != null) {
              crc.update(bytes);
            }
          }
          update.setLong(1, crc.getValue());
          update.setString(2, row.getString(1));
          update.addBatch();
        }
      }
      update.executeBatch();
      statement.execute("PRAGMA user_version = 1");
    }
  }

  private static long number(Path file, String sql) {
    try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + file); Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery(sql)) {
      return row.next() ? row.getLong(1) : -1;
    } catch (java.sql.SQLException e) {
      return -1;
    }
  }

  private void sql(String sql) throws Exception {
    try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + box.file); Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }
}
