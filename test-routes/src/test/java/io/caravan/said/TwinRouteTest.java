// SPDX-License-Identifier: Apache-2.0
package io.caravan.said;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.commands.Twins.Twin;
import io.caravan.devices.Devices;
import io.caravan.it.Device;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Desired state: durable, merged, and told to the device at once or when it is there again. */
class TwinRouteTest {
  @TempDir Path home;
  private SaidBox box;

  @BeforeEach
  void open() throws Exception {
    box = new SaidBox(home, Map.of());
  }

  @AfterEach
  void close() throws Exception {
    box.settled();
    box.close();
  }

  private Twin desire(String device, String patch, Long expected) throws Exception {
    return box.twins().desire(device, patch, expected, "a test").toCompletableFuture().get(30, TimeUnit.SECONDS);
  }

  private static Throwable cause(org.junit.jupiter.api.function.Executable call) {
    return assertThrows(ExecutionException.class, call).getCause();
  }

  @Test
  void aConnectedDeviceIsToldAtOnceAndWhatItReportsClosesTheDelta() throws Exception {
    try (Device device = box.connect("d-1")) {
      device.subscribe("desired");
      Twin twin = desire("d-1", "{\"led\":true,\"mode\":{\"speed\":3}}", 0L);
      assertEquals("1 0 {\"led\":true,\"mode\":{\"speed\":3}}", twin.desiredVersion() + " " + twin.reportedVersion() + " " + twin.delta());
      assertEquals("{\"desired\":{\"led\":true,\"mode\":{\"speed\":3}},\"version\":1,\"delta\":{\"led\":true,\"mode\":{\"speed\":3}}}", device.next());
      device.publish("reported", "{\"led\":true,\"mode\":{\"speed\":1}}");
      await().until(() -> box.twins().find("d-1").orElseThrow().delta().equals("{\"mode\":{\"speed\":3}}"));
      desire("d-1", "{\"mode\":{\"speed\":1},\"name\":\"x\"}", 1L);
      assertEquals("{\"desired\":{\"led\":true,\"mode\":{\"speed\":1},\"name\":\"x\"},\"version\":2,\"delta\":{\"name\":\"x\"}}", device.next());
      desire("d-1", "{\"name\":null}", null);
      assertTrue(device.next().contains("\"version\":3,\"delta\":{}"));
    }
    assertEquals("1-0 1-1 2-1 3-1", box.text("SELECT group_concat(substr(message_key, 8), ' ') FROM (SELECT message_key FROM outbox WHERE kind = 'twin' ORDER BY seq)"));
    assertEquals("a test", box.text("SELECT desired_by FROM twin"));
  }

  @Test
  void aDeviceThatIsAwayIsToldWhenItReturnsAlsoAfterARestart() throws Exception {
    desire("d-1", "{\"led\":true}", null);
    desire("d-1", "{\"led\":false}", null);
    try (Device device = box.connect("d-1")) {
      device.subscribe("desired");
      assertTrue(device.next().contains("{\"led\":false},\"version\":2"));
    }
    box.settled();
    box.restart();
    try (Device device = box.connect("d-1")) {
      device.subscribe("desired");
      assertEquals("{\"desired\":{\"led\":false},\"version\":2,\"delta\":{\"led\":false}}", device.next());
    }
    // Who was never told anything is told nothing.
    try (Device device = box.connect("d-2")) {
      device.subscribe("desired");
      desire("d-2", "{\"first\":1}", null);
      assertTrue(device.next().contains("\"first\""));
    }
  }

  @Test
  void whoIsNotConnectedHereIsToldThroughTheBroker() throws Exception {
    desire("d-1", "{\"led\":true}", null);
    await().until(() -> box.broker.contains("d-1 {\"desired\":{\"led\":true},\"version\":1,\"delta\":{\"led\":true}}"));
    try (Device device = box.connect("d-2")) {
      device.subscribe("desired");
      desire("d-2", "{\"led\":true}", null);
      assertTrue(device.next().contains("\"led\""));
    }
    assertTrue(box.broker.stream().noneMatch(told -> told.startsWith("d-2 ")), box.broker.toString());
  }

  @Test
  void whatBreaksARuleChangesNothing() throws Exception {
    desire("d-1", "{\"a\":1}", null);
    assertInstanceOf(IllegalStateException.class, cause(() -> desire("d-1", "{\"a\":2}", 7L)));
    for (String patch : new String[] {"[]", "1", "{", "{\"a\":1,\"a\":2}", "{\"a\":\"" + "x".repeat(17_000) + "\"}", "{\"a\":1e999}", "{\"a\":" + "[".repeat(40) + "]".repeat(40) + "}"}) {
      assertInstanceOf(IllegalArgumentException.class, cause(() -> desire("d-1", patch, null)), patch);
    }
    desire("d-1", "{\"pad\":\"" + "x".repeat(16_000) + "\"}", null);
    assertInstanceOf(IllegalArgumentException.class, cause(() -> desire("d-1", "{\"more\":\"" + "x".repeat(1_000) + "\"}", null)));
    box.devices().add(new Devices.NewDevice("d-2", null, null, null, null, null, null, null, null));
    desire("d-2", "{\"a\":1}", null);
    box.devices().revoke("d-2");
    for (String id : new String[] {"gateway", "d-2", "../x", "", "a b"}) {
      assertInstanceOf(IllegalArgumentException.class, cause(() -> desire(id, "{\"a\":2}", null)), id);
    }
    assertEquals("d-1 2, d-2 1", box.text("SELECT group_concat(device_id || ' ' || desired_version, ', ') FROM (SELECT * FROM twin ORDER BY device_id)"));
    // The same again is no new version.
    assertEquals(2, desire("d-1", "{\"a\":1.0}", 2L).desiredVersion());
    assertEquals(3, box.number("SELECT count(*) FROM outbox WHERE kind = 'twin'"));
  }
}
