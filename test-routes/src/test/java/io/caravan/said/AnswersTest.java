// SPDX-License-Identifier: Apache-2.0
package io.caravan.said;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.hivemq.client.mqtt.mqtt5.message.publish.puback.Mqtt5PubAckReasonCode;
import io.caravan.commands.Capabilities.Declared;
import io.caravan.commands.Commands;
import io.caravan.commands.Commands.Command;
import io.caravan.commands.Status;
import io.caravan.commands.Twins.Twin;
import io.caravan.devices.Devices;
import io.caravan.it.Device;
import io.caravan.wal.Record;
import io.caravan.wal.Wal;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** From what a device publishes to commands, capabilities and reported state: once, in order, whatever else is in the log. */
class AnswersTest {
  private static final String LED = "{\"schema_version\":1,\"version\":\"%s\",\"commands\":{\"led\":{\"arguments\":{\"properties\":{\"on\":{\"type\":\"boolean\"}}},\"idempotent\":true}}}";
  @TempDir Path home;
  private final Map<String, String> keys = new HashMap<>();
  private SaidBox box;

  private SaidBox open() throws Exception {
    box = new SaidBox(home, keys);
    return box;
  }

  @AfterEach
  void close() throws Exception {
    if (box != null) {
      box.settled();
      box.close();
    }
  }

  private void publish(Device device, String what, String json) throws Exception {
    assertEquals(Mqtt5PubAckReasonCode.SUCCESS, device.publish(what, json));
  }

  private String version(String device) {
    return box.capabilities().of(device).map(Declared::version).orElse(null);
  }

  @Test
  void whatADeviceAnnouncesIsInForceAndAgainCostsNothing() throws Exception {
    open();
    try (Device device = box.connect("d-1")) {
      assertTrue(box.capabilities().of("d-1").isEmpty());
      publish(device, "capabilities", LED.formatted("1"));
      await().until(() -> "1".equals(version("d-1")));
      assertEquals("announced", box.capabilities().of("d-1").orElseThrow().source());
      assertTrue(box.capabilities().find("d-1", "led").orElseThrow().idempotent());
      assertTrue(box.capabilities().find("d-1", "unlock").isEmpty());
      String row = box.text("SELECT wal_seq || ' ' || updated_at_ms FROM capability WHERE device_id = 'd-1'");

      // Numbered as a device with a buffer does: it says nothing new.
      for (int i = 1; i <= 5; i++) {
        publish(device, "capabilities", LED.formatted("1").replaceFirst("\\{", "{\"device_id\":\"d-1\",\"boot_id\":\"b\",\"device_seq\":" + i + ","));
      }
      await().until(() -> box.counted("capabilities", "unchanged") == 5);
      assertEquals(row, box.text("SELECT wal_seq || ' ' || updated_at_ms FROM capability WHERE device_id = 'd-1'"));

      publish(device, "capabilities", LED.formatted("2"));
      await().until(() -> "2".equals(version("d-1")));
      assertEquals(2, box.counted("capabilities", "taken"));
    }
    box.settled();
    box.restart();
    assertEquals("2", version("d-1"));
  }

  @Test
  void anAnnouncementThatIsOfNoUseLeavesTheOldOneInForceAndHoldsUpNobody() throws Exception {
    open();
    try (Device device = box.connect("d-1")) {
      publish(device, "capabilities", LED.formatted("1"));
      await().until(() -> "1".equals(version("d-1")));
      for (String wrong : List.of("{\"valve\":{\"max\":3}}", "{\"schema_version\":1,\"commands\":{\"a\":{\"arguments\":{\"pattern\":\"(a+)+$\"}}}}",
          "{\"schema_version\":1,\"commands\":{\"a\":{\"idempotant\":true}}}", "{\"schema_version\":1,\"version\":\"9\",\"commands\":null}")) {
        publish(device, "capabilities", wrong);
      }
      await().until(() -> box.counted("capabilities", "refused") == 4);
      assertEquals("1", version("d-1"));
      publish(device, "capabilities", LED.formatted("2"));
      await().until(() -> "2".equals(version("d-1")));
    }
  }

  @Test
  void whatIsConfiguredCountsBeforeWhatIsAnnounced() throws Exception {
    open();
    box.devices().add(new Devices.NewDevice("d-1", null, LED.formatted("set"), null, null, null, null, null, null));
    try (Device device = box.connect("d-1")) {
      publish(device, "capabilities", LED.formatted("1").replace("led", "unlock"));
      await().until(() -> box.counted("capabilities", "taken") == 1);
      assertEquals("set", version("d-1"));
      assertEquals("configured", box.capabilities().of("d-1").orElseThrow().source());
      assertTrue(box.capabilities().find("d-1", "unlock").isEmpty(), "announced and not configured");
      // Was meant to say something and says nothing that can be used: nothing is allowed, least of all what the device says itself.
      box.devices().capabilities("d-1", "{\"valve\":1}");
      assertTrue(box.capabilities().find("d-1", "led").isEmpty());
      assertTrue(box.capabilities().find("d-1", "unlock").isEmpty());
      assertEquals(List.of(), box.capabilities().of("d-1").orElseThrow().commands());
      box.devices().capabilities("d-1", null);
      assertEquals("announced", box.capabilities().of("d-1").orElseThrow().source());
      assertTrue(box.capabilities().find("d-1", "unlock").isPresent());
      assertEquals(List.of("d-1", "gateway"), box.capabilities().list().stream().map(Declared::deviceId).toList());
      assertEquals("gateway", box.capabilities().of(Commands.GATEWAY).orElseThrow().source());
    }
  }

  @Test
  void thePolicyFileIsReadAgainWhenItChangesAndABrokenOneIsSeen() throws Exception {
    open();
    Path file = home.resolve("etc/command-policy.json");
    try (Device device = box.connect("d-1")) {
      publish(device, "capabilities", LED.formatted("1"));
      await().until(() -> box.capabilities().find("d-1", "led").isPresent());
      assertTrue(box.capabilities().find("d-1", "led").orElseThrow().allowed());
      Files.writeString(file, "{\"forbid\":[{\"device\":\"d-*\",\"command\":\"led\"}],\"budget\":[]}");
      await().until(() -> !box.capabilities().find("d-1", "led").orElseThrow().allowed());
      Command refused = box.commands().submit(List.of(request("c-1", "d-1", "{}"))).toCompletableFuture().get(30, TimeUnit.SECONDS).get(0);
      assertEquals("REJECTED not_allowed", refused.status() + " " + refused.reason());
      Files.writeString(file, "{\"forbid\":[");
      await().until(() -> box.check("command-files").contains("command-policy.json"));
      assertFalse(box.ready());
      assertFalse(box.capabilities().find("d-1", "led").orElseThrow().allowed(), "the old one is in force");
      Files.writeString(file, "{\"forbid\":[],\"budget\":[]}");
      await().until(() -> box.capabilities().find("d-1", "led").orElseThrow().allowed());
      await().until(() -> box.ready());
    }
  }

  private static Commands.Request request(String id, String device, String arguments) {
    return new Commands.Request(id, device, "led", arguments, null, null, 60_000L, "shell", "a test", null);
  }

  @Test
  void answersToACommandAreOfTheDeviceThatGotIt() throws Exception {
    open();
    try (Device device = box.connect("d-1"); Device other = box.connect("d-2")) {
      publish(device, "capabilities", LED.formatted("1"));
      publish(other, "capabilities", LED.formatted("1"));
      await().until(() -> version("d-2") != null);
      device.subscribe("commands");
      box.commands().submit(List.of(request("c-1", "d-1", "{\"on\":true}"))).toCompletableFuture().get(30, TimeUnit.SECONDS);
      assertTrue(device.next().contains("\"c-1\""));
      await().until(() -> status("c-1") == Status.DELIVERED);
      // None of these is an answer of the device to the command.
      publish(other, "command-status", "{\"command_id\":\"c-1\",\"status\":\"failed\"}");
      publish(device, "command-status", "{\"command_id\":\"c-2\",\"status\":\"failed\"}");
      publish(device, "command-status", "{\"command_id\":\"c-1\"}");
      publish(device, "command-status", "{\"command_id\":\"c-1\",\"status\":\"exploded\"}");
      publish(device, "command-status", "{\"command_id\":1,\"status\":\"failed\"}");
      publish(device, "command-status", "{\"id\":\"c-1\",\"state\":\"FAILED\"}");
      box.settled();
      assertEquals(Status.DELIVERED, status("c-1"));
      publish(device, "command-status", "{\"command_id\":\"c-1\",\"status\":\"succeeded\",\"result\":{\"on\":true},\"message\":\"a\\u0000b\",\"more\":1}");
      await().until(() -> status("c-1") == Status.SUCCEEDED);
      Command command = box.commands().find("c-1").orElseThrow();
      assertEquals("{\"on\":true}", command.result());
      // Later ones change nothing.
      publish(device, "command-status", "{\"command_id\":\"c-1\",\"status\":\"failed\"}");
      box.settled();
      assertEquals(Status.SUCCEEDED, status("c-1"));
      assertEquals(command.revision(), box.commands().find("c-1").orElseThrow().revision());
    }
  }

  private Status status(String id) {
    return box.commands().find(id).orElseThrow().status();
  }

  @Test
  void aResultThatIsTooLargeIsLeftOutAndTheAnswerCounts() throws Exception {
    open();
    try (Device device = box.connect("d-1")) {
      publish(device, "capabilities", LED.formatted("1"));
      await().until(() -> version("d-1") != null);
      device.subscribe("commands");
      box.commands().submit(List.of(request("c-1", "d-1", "{}"))).toCompletableFuture().get(30, TimeUnit.SECONDS);
      assertTrue(device.next().contains("\"c-1\""));
      publish(device, "command-status", "{\"command_id\":\"c-1\",\"status\":\"succeeded\",\"result\":\"" + "x".repeat(20_000) + "\"}");
      await().until(() -> status("c-1") == Status.SUCCEEDED);
      assertNull(box.commands().find("c-1").orElseThrow().result());
    }
  }

  @Test
  void reportsAreMergedAndLeaveOncePerTransaction() throws Exception {
    open();
    try (Device device = box.connect("d-1")) {
      publish(device, "reported", "{\"device_id\":\"d-1\",\"boot_id\":\"b\",\"device_seq\":1,\"schema_version\":1,\"led\":false,\"mode\":{\"a\":1,\"b\":2}}");
      await().until(() -> box.twins().find("d-1").isPresent());
      Twin twin = box.twins().find("d-1").orElseThrow();
      assertEquals("{\"led\":false,\"mode\":{\"a\":1,\"b\":2}}", twin.reported());
      assertEquals("0 1", twin.desiredVersion() + " " + twin.reportedVersion());
      publish(device, "reported", "{\"led\":true,\"mode\":{\"b\":null}}");
      await().until(() -> box.twins().find("d-1").orElseThrow().reportedVersion() == 2);
      assertEquals("{\"led\":true,\"mode\":{\"a\":1}}", box.twins().find("d-1").orElseThrow().reported());
      assertEquals("[\"d-1//t/0-1\",\"d-1//t/0-2\"]", box.text("SELECT json_group_array(message_key) FROM (SELECT message_key FROM outbox WHERE kind = 'twin' ORDER BY seq)"));
      assertEquals("{\"desired\":{},\"desired_version\":0,\"reported\":{\"led\":true,\"mode\":{\"a\":1}},\"reported_version\":2,\"delta\":{}}",
          box.text("SELECT body FROM outbox WHERE kind = 'twin' ORDER BY seq DESC"));
      // Nothing new: known to be so at that time, and nothing for the cloud.
      publish(device, "reported", "{\"led\":true,\"observed_at\":" + (System.currentTimeMillis() - 3_600_000) + "}");
      await().until(() -> box.counted("reported", "taken") == 3);
      await().until(() -> box.twins().find("d-1").orElseThrow().reportedAtMs() < System.currentTimeMillis() - 3_500_000);
      assertEquals(2, box.number("SELECT count(*) FROM outbox WHERE kind = 'twin'"));
      // Too large a state is not taken, and what was is kept.
      publish(device, "reported", "{\"pad\":\"" + "x".repeat(17_000) + "\"}");
      await().until(() -> box.counted("reported", "refused") == 1);
      assertEquals(2, box.twins().find("d-1").orElseThrow().reportedVersion());
    }
  }

  @Test
  void whatItSaysIsAppliedInOneTransactionWithTheCursorOrNotAtAll() throws Exception {
    open();
    try (Device device = box.connect("d-1")) {
      publish(device, "reported", "{\"n\":0}");
      await().until(() -> box.twins().find("d-1").isPresent());
      box.settled();
      box.execute("CREATE TRIGGER stop BEFORE UPDATE ON sink_range WHEN new.sink = 'answers' BEGIN SELECT raise(ABORT, 'as told'); END");
      publish(device, "reported", "{\"n\":1}");
      publish(device, "capabilities", LED.formatted("1"));
      await().until(() -> box.number("SELECT attempts FROM sink WHERE name = 'answers'") > 1);
      assertEquals("error", box.text("SELECT reason FROM sink WHERE name = 'answers'"));
      assertEquals("{\"n\":0}", box.twins().find("d-1").orElseThrow().reported());
      assertEquals(0, box.number("SELECT count(*) FROM capability"));
      assertTrue(box.capabilities().of("d-1").isEmpty());
      box.execute("DROP TRIGGER stop");
      await().until(() -> version("d-1") != null);
      assertEquals("{\"n\":1} 2", box.twins().find("d-1").map(t -> t.reported() + " " + t.reportedVersion()).orElseThrow());
      box.settled();
      assertEquals("null 0", box.text("SELECT coalesce(reason, 'null') || ' ' || attempts FROM sink WHERE name = 'answers'"));
    }
  }

  /** What no message should do: the store refuses what comes of it. The others are applied and it is passed over. */
  @Test
  void aRowThatCanNeverBeAppliedHoldsUpNobody() throws Exception {
    open();
    try (Device good = box.connect("d-good"); Device bad = box.connect("d-bad")) {
      box.execute("CREATE TRIGGER poison BEFORE INSERT ON twin WHEN new.device_id = 'd-bad' BEGIN SELECT raise(ABORT, 'as told'); END");
      box.execute("UPDATE sink SET state = 'paused' WHERE name = 'answers'"); // so that all are in one batch
      publish(good, "reported", "{\"n\":1}");
      publish(bad, "reported", "{\"n\":2}");
      publish(good, "reported", "{\"n\":3}");
      publish(bad, "capabilities", LED.formatted("1"));
      box.execute("UPDATE sink SET state = 'running' WHERE name = 'answers'");
      await().until(() -> version("d-bad") != null);
      box.settled();
      assertEquals("{\"n\":3} 2", box.twins().find("d-good").map(t -> t.reported() + " " + t.reportedVersion()).orElseThrow());
      assertTrue(box.twins().find("d-bad").isEmpty());
      assertEquals(1, box.counted("reported", "error"));
      assertEquals(4, box.number("SELECT delivered FROM sink WHERE name = 'answers'"));
    }
  }

  @Test
  void telemetryAloneMovesTheCursorSeldom() throws Exception {
    keys.put("answers.lag.ms", "60000");
    keys.put("answers.lag.rows", "100");
    open();
    append(60);
    await().until(() -> box.bean("answers", io.caravan.commands.internal.AnswerIntake.class).seen() == 60);
    assertEquals(0, box.number("SELECT acked_seq FROM sink_range WHERE sink = 'answers'"));
    append(60);
    await().until(() -> box.number("SELECT acked_seq FROM sink_range WHERE sink = 'answers'") >= 100);
    // Something in it is applied at once, wherever the cursor is.
    append(30);
    try (Device device = box.connect("d-1")) {
      publish(device, "reported", "{\"n\":1}");
      await().until(() -> box.twins().find("d-1").isPresent());
      box.settled();
      assertEquals(151, box.number("SELECT delivered FROM sink WHERE name = 'answers'"));
    }
  }

  private void append(int rows) throws Exception {
    List<CompletionStage<?>> stages = new ArrayList<>();
    long now = System.currentTimeMillis();
    for (int i = 0; i < rows; i++) {
      String key = "t//k/" + System.nanoTime() + "-" + i;
      stages.add(box.bean("wal", Wal.class).submit(new Record(key, "c-" + key, "t", "telemetry", "live", null, 0, now, now, now, 1, "application/json", null,
          "{\"metrics\":{\"t\":1}}".getBytes(StandardCharsets.UTF_8)), "http", "/ingest"));
    }
    for (CompletionStage<?> stage : stages) {
      stage.toCompletableFuture().get(30, TimeUnit.SECONDS);
    }
  }

  @Test
  void rowsThatADamagedFileHasLostAreCounted() throws Exception {
    open();
    try (Device device = box.connect("d-1")) {
      box.execute("UPDATE sink SET state = 'paused' WHERE name = 'answers'");
      for (int i = 1; i <= 5; i++) {
        publish(device, "reported", "{\"n\":" + i + "}");
      }
      box.execute("DELETE FROM wal WHERE seq IN (2, 3)");
      box.execute("UPDATE sink SET state = 'running' WHERE name = 'answers'");
      await().until(() -> box.twins().find("d-1").map(t -> t.reported().equals("{\"n\":5}")).orElse(false));
      box.settled();
      assertEquals(2, box.number("SELECT row_count FROM discarded WHERE sink = 'answers' AND reason = 'lost'"));
    }
  }
}
