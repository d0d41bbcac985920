// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.devices.Devices.Enrolment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.LockSupport;
import org.eclipse.paho.mqttv5.client.MqttClientException;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The registry drives a mosquitto: what a device may, when it is cut, and how the broker's state is healed. */
@Timeout(180)
class BrokerTest {
  private static final int NOT_AUTHORIZED = 0x87;
  private static final int ADMINISTRATIVE_ACTION = 0x98;

  @TempDir
  Path folder;
  private Box box;

  @BeforeEach
  void make() throws Exception {
    box = new Box(folder);
  }

  @AfterEach
  void close() throws Exception {
    box.close();
  }

  @Test
  void aDeviceActsOnlyForItselfAndTheGatewayForAll() throws Exception {
    box.start();
    Enrolment one = box.add("dev-1");
    Enrolment two = box.add("dev-2");
    Client gateway = box.gateway("caravan-gateway");
    for (String kind : List.of("telemetry", "events", "capabilities", "command-status", "reported")) {
      assertEquals(1, gateway.subscribe("devices/+/" + kind));
    }
    Client device = box.comes("dev-1", one.token());
    Client other = box.comes("dev-2", two.token());

    for (String kind : List.of("telemetry", "events", "capabilities", "command-status", "reported")) {
      assertEquals(0, device.publish("devices/dev-1/" + kind, "x"));
      assertEquals("devices/dev-1/" + kind + " x", gateway.next());
      assertEquals(NOT_AUTHORIZED, device.publish("devices/dev-2/" + kind, "spoofed"));
    }
    assertEquals(1, device.subscribe("devices/dev-1/commands"));
    assertEquals(1, device.subscribe("devices/dev-1/receipts"));
    assertEquals(1, device.subscribe("devices/dev-1/desired"));
    for (String foreign : List.of("devices/dev-2/commands", "devices/dev-2/receipts", "devices/dev-2/desired", "devices/+/commands", "devices/#", "#", "$SYS/#",
        "devices/dev-2/telemetry", "devices/dev-1/telemetry", "$share/all/devices/+/commands", "$CONTROL/dynamic-security/v1/response")) {
      assertEquals(NOT_AUTHORIZED, device.subscribe(foreign), foreign);
    }
    for (String foreign : List.of("devices/dev-1/commands", "devices/dev-1/receipts", "devices/dev-1/desired", "devices/dev-1", "devices/dev-1/telemetry/x",
        "$CONTROL/dynamic-security/v1")) {
      assertEquals(NOT_AUTHORIZED, device.publish(foreign, "{\"commands\":[{\"command\":\"disableClient\",\"username\":\"dev-2\"}]}"), foreign);
    }

    assertEquals(1, other.subscribe("devices/dev-2/commands"));
    assertEquals(0, gateway.publish("devices/dev-2/commands", "two"));
    assertEquals(0, gateway.publish("devices/dev-1/commands", "one"));
    assertEquals(0, gateway.publish("devices/dev-1/receipts", "receipt"));
    assertEquals("devices/dev-1/commands one", device.next());
    assertEquals("devices/dev-1/receipts receipt", device.next());
    assertEquals(0, gateway.publish("devices/dev-1/desired", "state"));
    assertEquals("devices/dev-1/desired state", device.next());
    assertEquals("devices/dev-2/commands two", other.next());
    assertEquals(NOT_AUTHORIZED, gateway.publish("devices/dev-1/telemetry", "x"));
    assertTrue(gateway.received.isEmpty() && device.received.isEmpty() && other.received.isEmpty());
  }

  @Test
  void aControllerHasControlTopicsOfItsOwn() throws Exception {
    box.start();
    Enrolment boss = box.add("boss");
    Enrolment one = box.add("dev-1");
    Client gateway = box.gateway("caravan-gateway");
    assertEquals(1, gateway.subscribe("gateways/gateway-1/control/+"));
    assertEquals(NOT_AUTHORIZED, gateway.subscribe("gateways/gateway-2/control/+"));
    Client device = box.comes("dev-1", one.token());
    Client controller = box.comes("boss", boss.token());
    assertEquals(NOT_AUTHORIZED, controller.publish("gateways/gateway-1/control/boss", "not yet"), "negative control");
    assertEquals(NOT_AUTHORIZED, controller.subscribe("gateways/gateway-1/control-status/boss"));

    box.devices().controller("boss", true);
    await().until(() -> controller.publish("gateways/gateway-1/control/boss", "now") == 0);
    assertEquals("gateways/gateway-1/control/boss now", gateway.next());
    assertEquals(1, controller.subscribe("gateways/gateway-1/control-status/boss"));
    assertEquals(0, gateway.publish("gateways/gateway-1/control-status/boss", "done"));
    assertEquals("gateways/gateway-1/control-status/boss done", controller.next());
    for (String foreign : List.of("gateways/gateway-1/control", "gateways/gateway-1/control/dev-1", "gateways/gateway-2/control/boss",
        "gateways/gateway-1/control-status/boss")) {
      assertEquals(NOT_AUTHORIZED, controller.publish(foreign, "x"), foreign);
    }
    for (String foreign : List.of("gateways/gateway-1/control-status/dev-1", "gateways/gateway-1/control-status/+", "gateways/#",
        "gateways/gateway-1/control/boss")) {
      assertEquals(NOT_AUTHORIZED, controller.subscribe(foreign), foreign);
    }
    assertEquals(NOT_AUTHORIZED, device.publish("gateways/gateway-1/control/boss", "spoofed"));
    assertEquals(NOT_AUTHORIZED, device.publish("gateways/gateway-1/control/dev-1", "not mine"));
    assertEquals(NOT_AUTHORIZED, device.subscribe("gateways/gateway-1/control-status/dev-1"));

    box.devices().controller("boss", false);
    await().until(() -> controller.publish("gateways/gateway-1/control/boss", "late") == NOT_AUTHORIZED);
    assertEquals(0, gateway.publish("gateways/gateway-1/control-status/boss", "hidden"));
    assertEquals(0, controller.publish("devices/boss/events", "still a device"));
    assertTrue(controller.received.isEmpty());
  }

  @Test
  void noDeviceTakesAnotherClientsSessionByItsClientId() throws Exception {
    box.start();
    Enrolment one = box.add("dev-1");
    Enrolment two = box.add("dev-2");
    Client gateway = box.gateway("caravan-gateway");
    assertEquals(1, gateway.subscribe("devices/+/telemetry"));
    Client victim = box.comes("dev-1", one.token());
    box.comes("dev-2", two.token()).close();
    Client rogue = box.keep(Client.connect("tcp://127.0.0.1:" + box.plainPort, "caravan-gateway", "dev-2", two.token(), null, false));
    assertEquals(0, rogue.publish("devices/dev-2/telemetry", "mine"));
    assertEquals("devices/dev-2/telemetry mine", gateway.next());
    Client again = box.keep(Client.connect("tcp://127.0.0.1:" + box.plainPort, "dev-1", "dev-2", two.token(), null, false));
    assertEquals(0, again.publish("devices/dev-2/telemetry", "mine too"));
    assertEquals("devices/dev-2/telemetry mine too", gateway.next());
    assertEquals(0, victim.publish("devices/dev-1/telemetry", "still here"));
    assertFalse(gateway.gone.isDone() || victim.gone.isDone());

    // Negative control: on the listener without use_username_as_clientid the same device throws the gateway out.
    box.local("dev-2", two.token(), "caravan-gateway");
    gateway.cut();
  }

  @Test
  void wrongRevokedAndOldTokensAreRefused() throws Exception {
    box.start();
    Enrolment one = box.add("dev-1");
    Client device = box.comes("dev-1", one.token());
    for (String[] credential : new String[][] {{"dev-1", one.token() + "x"}, {"dev-1", ""}, {"dev-1", null}, {"nobody", one.token()},
        {null, null}, {"gateway", one.token()}, {"_admin", one.token()}}) {
      refused(credential[0], credential[1]);
    }
    assertFalse(device.gone.isDone());

    Enrolment rotated = box.devices().rotate("dev-1", 3_600_000, null);
    assertEquals(ADMINISTRATIVE_ACTION, device.cut());
    refused("dev-1", one.token());
    device = box.comes("dev-1", rotated.token());

    // Queued for it after its revocation: nothing.
    assertEquals(1, device.subscribe("devices/dev-1/commands"));
    box.devices().revoke("dev-1");
    assertEquals(ADMINISTRATIVE_ACTION, device.cut());
    refused("dev-1", rotated.token());

    Enrolment restored = box.devices().restore("dev-1");
    box.comes("dev-1", restored.token());
    refused("dev-1", rotated.token());

    Client last = box.comes("dev-1", restored.token());
    box.devices().remove("dev-1");
    assertEquals(ADMINISTRATIVE_ACTION, last.cut());
    refused("dev-1", restored.token());
    Enrolment added = box.add("dev-1");
    assertEquals(0, box.comes("dev-1", added.token()).publish("devices/dev-1/telemetry", "x"));
    box.settled();
    assertTrue(box.audited.stream().noneMatch(line -> line.startsWith("broker.")), box.audited.toString());
  }

  /** The registry has only a hash of the older token: the broker gets it by a start from the state file. */
  @Test
  void whenTheNewestTokenIsRevokedTheOneBeforeCountsAgain() throws Exception {
    box.start();
    Enrolment one = box.add("dev-1");
    Enrolment other = box.add("dev-2");
    box.comes("dev-1", one.token()).close();
    Enrolment two = box.devices().rotate("dev-1", 3_600_000, null);
    Client device = box.comes("dev-1", two.token());
    box.devices().revokeToken("dev-1", two.tokenId());
    device.cut();
    refused("dev-1", two.token());
    box.comes("dev-1", one.token());
    box.comes("dev-2", other.token());
    box.settled();
    assertTrue(box.log().contains("mosquitto is started anew"), box.log());
    assertTrue(box.audited.stream().anyMatch(line -> line.startsWith("broker.restart") && line.contains("dev-1")), box.audited.toString());
  }

  @Test
  void aRevocationCutsWithinASecond() throws Exception {
    int rounds = Integer.getInteger("broker.test.revocations", 50);
    box.start();
    Enrolment enrolment = box.add("dev-1");
    List<Double> ms = new ArrayList<>();
    for (int i = 0; i < rounds; i++) {
      Client device = box.comes("dev-1", enrolment.token());
      long before = System.nanoTime();
      box.devices().revoke("dev-1");
      device.cut();
      ms.add((device.goneAt - before) / 1e6);
      device.close();
      enrolment = box.devices().restore("dev-1");
    }
    Collections.sort(ms);
    System.out.printf("revoke to cut connection at mosquitto, %d rounds: p50 %.1f ms, max %.1f ms%n", rounds, ms.get(ms.size() / 2), ms.get(ms.size() - 1));
  }

  @Test
  void theStateFileHealsABrokerThatStartsWithoutTheGateway() throws Exception {
    box.start();
    Enrolment one = box.add("dev-1");
    Enrolment two = box.add("dev-2");
    box.comes("dev-1", one.token()).close();
    box.comes("dev-2", two.token()).close();
    box.devices().revoke("dev-2");
    await().until(() -> !Files.readString(box.state.resolve("dynamic-security.json")).contains("dev-2"));
    assertEquals("rw-r-----", PosixFilePermissions.toString(Files.getPosixFilePermissions(box.state.resolve("dynamic-security.json"))));
    String state = Files.readString(box.state.resolve("dynamic-security.json"));
    assertFalse(state.contains(one.token()) || state.contains(Files.readString(box.state.resolve("admin.password")).strip()));
    box.stopDriver();
    box.stopBroker();

    // Wiped, and made anew by somebody who lets everybody in.
    Files.writeString(box.pluginFile(), "{\"defaultACLAccess\":{\"publishClientSend\":true,\"publishClientReceive\":true,\"subscribe\":true,"
        + "\"unsubscribe\":true},\"clients\":[{\"username\":\"dev-2\"}],\"groups\":[],\"roles\":[]}");
    box.startBroker();
    Client device = box.comes("dev-1", one.token());
    assertEquals(0, device.publish("devices/dev-1/telemetry", "x"));
    assertEquals(NOT_AUTHORIZED, device.publish("devices/dev-2/telemetry", "x"));
    refused("dev-2", two.token());
    assertEquals(1, box.gateway("caravan-gateway").subscribe("devices/+/telemetry"));

    box.startDriver().settled();
    assertFalse(device.gone.isDone(), "nothing was wrong, so nothing is changed and nobody is cut");
    assertTrue(box.audited.stream().noneMatch(line -> line.startsWith("broker.")), box.audited.toString());
  }

  @Test
  void whatChangesWhileTheBrokerIsDownIsThereWhenItIsBack() throws Exception {
    box.start();
    Enrolment one = box.add("dev-1");
    Enrolment two = box.add("dev-2");
    box.comes("dev-1", one.token()).close();
    box.stopBroker();
    box.devices().revoke("dev-1");
    Enrolment three = box.add("dev-3");
    Enrolment rotated = box.devices().rotate("dev-2", 0, null);
    await().until(() -> Files.readString(box.state.resolve("dynamic-security.json")).contains("dev-3"));
    box.startBroker();
    assertEquals(0, box.comes("dev-3", three.token()).publish("devices/dev-3/telemetry", "x"));
    box.comes("dev-2", rotated.token());
    refused("dev-1", one.token());
    refused("dev-2", two.token());
    box.settled();
  }

  /** As with a mosquitto that is not started by mosquitto/run: it begins with the state it had. */
  @Test
  void aBrokerWithAnOldStateIsBroughtUpToDateByCommands() throws Exception {
    box.start();
    Enrolment one = box.add("dev-1");
    Enrolment two = box.add("dev-2");
    Client device = box.comes("dev-1", one.token());
    box.comes("dev-2", two.token()).close();
    box.settled();
    String old = Files.readString(box.pluginFile());
    box.devices().revoke("dev-1");
    device.cut();
    Enrolment three = box.add("dev-3");
    box.stopBroker();
    Path state = box.state.resolve("dynamic-security.json");
    await().until(() -> Files.readString(state).contains("dev-3"));
    Files.writeString(state, old);
    box.startBroker();
    box.comes("dev-3", three.token());
    refused("dev-1", one.token());
    assertEquals(0, box.comes("dev-2", two.token()).publish("devices/dev-2/telemetry", "x"));
    box.settled();
    assertTrue(box.audited.stream().anyMatch(line -> line.startsWith("broker.repair") && line.contains("user_unknown=dev-1")), box.audited.toString());
  }

  /** Somebody changes users with mosquitto_ctrl: each kind of drift is found and mended. */
  @Test
  void driftIsMended() throws Exception {
    box.start();
    Enrolment one = box.add("dev-1");
    Enrolment two = box.add("dev-2");
    box.comes("dev-1", one.token()).close();
    box.comes("dev-2", two.token()).close();
    box.settled();
    box.stopDriver();

    // mosquitto_ctrl 2.0.11 has a command for this that does nothing.
    box.local("_admin", Files.readString(box.state.resolve("admin.password")), "somebody").publish("$CONTROL/dynamic-security/v1",
        "{\"commands\":[{\"command\":\"setDefaultACLAccess\",\"acls\":[{\"acltype\":\"publishClientSend\",\"allow\":true}]}]}");
    box.ctrl("addRoleACL", "device:dev-1", "publishClientSend", "devices/dev-2/telemetry", "allow", "5");
    box.ctrl("createRole", "backdoor");
    box.ctrl("addRoleACL", "backdoor", "subscribePattern", "#", "allow", "9");
    box.ctrl("createClient", "intruder", "-p", "secret");
    box.ctrl("addClientRole", "intruder", "backdoor");
    box.ctrl("addClientRole", "dev-1", "backdoor");
    box.ctrl("createGroup", "friends");
    box.ctrl("addGroupRole", "friends", "backdoor");
    box.ctrl("addGroupClient", "friends", "dev-1");
    box.ctrl("disableClient", "dev-2");
    box.ctrl("setClientId", "dev-2", "somebody");
    Client intruder = box.local("intruder", "secret", "intruder");
    assertEquals(1, intruder.subscribe("#"));
    assertEquals(0, box.plain("dev-1", one.token()).publish("devices/dev-2/telemetry", "the drift is there"));

    box.startDriver().settled();
    assertEquals(ADMINISTRATIVE_ACTION, intruder.cut());
    assertThrows(MqttException.class, () -> box.local("intruder", "secret", "intruder"));
    Client device = box.plain("dev-1", one.token());
    assertEquals(NOT_AUTHORIZED, device.publish("devices/dev-2/telemetry", "x"));
    assertEquals(NOT_AUTHORIZED, device.subscribe("#"));
    assertEquals(0, device.publish("devices/dev-1/telemetry", "x"));
    assertEquals(0, box.plain("dev-2", two.token()).publish("devices/dev-2/telemetry", "x"));
    assertFalse(box.ctrl("listRoles").contains("backdoor"));
    assertFalse(box.ctrl("listGroups").contains("friends"));
    String repair = box.audited.toString();
    for (String what : List.of("defaults=defaults", "user_unknown=intruder", "role_unknown=backdoor", "role_changed=device:dev-1",
        "group_unknown=friends", "user_changed=dev-1, dev-2")) {
      assertTrue(repair.contains(what), repair);
    }
  }

  /** What no command mends, because only hashes are kept or because the plugin cannot: a start from the state file. */
  @Test
  void aStateThatNoCommandMendsIsMendedByAStart() throws Exception {
    box.start();
    Enrolment one = box.add("dev-1");
    box.comes("dev-1", one.token()).close();
    box.settled();
    box.stopDriver();
    box.ctrl("deleteClient", "dev-1");
    box.ctrl("createGroup", "everybody");
    box.ctrl("setAnonymousGroup", "everybody");
    box.startDriver();
    box.comes("dev-1", one.token());
    box.settled();
    assertFalse(box.ctrl("listGroups").contains("everybody"));
    assertTrue(box.log().contains("mosquitto is started anew"), box.log());
  }

  @Test
  void manyNewDevicesComeByOneStart() throws Exception {
    box.startRegistry();
    box.startBroker();
    Enrolment last = null;
    for (int i = 1; i <= 120; i++) {
      last = box.add("dev-" + i);
    }
    box.startDriver();
    assertEquals(0, box.comes("dev-120", last.token()).publish("devices/dev-120/telemetry", "x"));
    box.settled();
    assertTrue(box.log().contains("started anew") && box.log().contains("it lacks 121 users"), box.log());
  }

  /** Somebody made the plugin's state anew: the driver's own password does not count any more. */
  @Test
  void aBrokerThatDoesNotKnowTheDriverIsStartedFromTheStateFile() throws Exception {
    box.start();
    Enrolment one = box.add("dev-1");
    box.comes("dev-1", one.token()).close();
    box.settled();
    box.ctrl("setClientPassword", "_admin", "another");
    box.comes("dev-1", one.token());
    await().atMost(Box.WAIT).until(() -> box.log().contains("mosquitto is started anew"));
    box.settled();
  }

  @Test
  void noSecretIsInTheBrokersLog() throws Exception {
    box.start();
    Enrolment one = box.add("dev-1");
    box.comes("dev-1", one.token());
    refused("dev-1", "a-wrong-secret");
    String log = Files.readString(folder.resolve("broker.log"), StandardCharsets.UTF_8);
    for (String secret : List.of(one.token(), "a-wrong-secret", Files.readString(box.state.resolve("admin.password")).strip(),
        Files.readString(box.state.resolve("gateway.password")).strip())) {
      assertFalse(log.contains(secret));
    }
  }

  /** A broker that is just being started anew says nothing, and is asked again. */
  private void refused(String user, String password) {
    await().until(() -> {
      MqttException e = assertThrows(MqttException.class, () -> box.plain(user == null ? "" : user, password).close());
      if (e.getReasonCode() == MqttClientException.REASON_CODE_CONNECTION_LOST
          || e.getReasonCode() == MqttClientException.REASON_CODE_SERVER_CONNECT_ERROR) {
        return false;
      }
      assertEquals(NOT_AUTHORIZED, e.getReasonCode(), e.toString());
      return true;
    });
  }

  /** Whatever keeps its thread: a registry or a disk that hangs, and that no interrupt ends. */
  @Test
  void aDriverThatIsStuckLeavesNoConnectionBehindWhenItIsClosed() throws Exception {
    box.start();
    box.stopDriver();
    CountDownLatch stuck = new CountDownLatch(1);
    CountDownLatch release = new CountDownLatch(1);
    AtomicBoolean hang = new AtomicBoolean();
    box.driver = new Driver(box.settings(), () -> {
      if (hang.get()) {
        stuck.countDown();
        while (release.getCount() > 0) {
          LockSupport.parkNanos(10_000_000);
          Thread.interrupted();
        }
      }
      return box.devices();
    }, (action, subject, outcome, details) -> { }, null);
    try {
      box.settled();
      hang.set(true);
      assertTrue(stuck.await(30, TimeUnit.SECONDS));
      box.driver.close();
      Client next = box.local("_admin", Files.readString(box.state.resolve("admin.password")), "caravan-gateway-broker");
      // Nobody takes its place: the old one would be back within 100 ms.
      await().during(3, TimeUnit.SECONDS).atMost(20, TimeUnit.SECONDS).until(() -> next.publish("$CONTROL/dynamic-security/v1", "{\"commands\":[]}") == 0);
    } finally {
      release.countDown();
    }
  }
}
