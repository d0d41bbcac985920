// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.Devices.NewDevice;
import io.caravan.devices.Gate.Attempt;
import io.caravan.devices.Gate.Outcome;
import io.caravan.devices.Gate.Transport;
import io.caravan.devices.Gate.Verdict;
import io.caravan.mqtt.server.Authenticator;
import io.caravan.mqtt.server.Authenticator.ConnectRequest;
import io.caravan.mqtt.server.Authenticator.Grant;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Who is let in, for how long, how fast, and who is locked out. */
class GateTest {
  @TempDir
  Path folder;
  private Fixture box;
  private String token;

  @BeforeEach
  void open() throws Exception {
    box = new Fixture(folder);
    token = box.add("dev-1").token();
  }

  @AfterEach
  void close() throws Exception {
    box.close();
  }

  private void settings(int lockFailures, int lockAddressFailures, int messagesPerS, long bytesPerS) {
    box.gate.settings(new Settings(false, lockFailures, lockAddressFailures, 60_000, messagesPerS, bytesPerS));
  }

  // ---------------------------------------------------------------------------------------------- identity

  @Test
  void onlyTheOwnTokenOpens() throws Exception {
    String other = box.add("dev-2").token();
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", token));
    assertEquals("dev-1", box.mqtt("dev-1", token, Fixture.HOME).deviceId());
    assertEquals(Outcome.WRONG_TOKEN, box.from("dev-1", other));
    assertEquals(Outcome.WRONG_TOKEN, box.from("dev-1", token.substring(0, token.length() - 1)));
    assertEquals(Outcome.WRONG_TOKEN, box.from("dev-1", token + "x"));
    assertEquals(Outcome.WRONG_TOKEN, box.from("dev-1", ""));
    assertEquals(Outcome.WRONG_TOKEN, box.from("dev-1", "x".repeat(100_000)));
    assertEquals(Outcome.NO_CREDENTIAL, box.from("dev-1", null));
    assertEquals(Outcome.UNKNOWN_DEVICE, box.from("dev-3", token));
    assertEquals(Outcome.UNKNOWN_DEVICE, box.from("DEV-1", token));
    assertEquals(Outcome.UNKNOWN_DEVICE, box.from(null, token));
    assertEquals(Outcome.UNKNOWN_DEVICE, box.from("x".repeat(100_000), token));
  }

  @Test
  void theHashOfNobodyIsNoKey() {
    // Whoever knew what unknown devices are compared with would still be nobody.
    assertEquals(Outcome.UNKNOWN_DEVICE, box.from("nobody", new String(Secrets.NOBODY, StandardCharsets.ISO_8859_1)));
  }

  @Test
  void aCertificateNeedsNoTokenButADevice() throws Exception {
    assertEquals("dev-1", box.certificate("dev-1", null, Fixture.HOME).deviceId());
    assertEquals(Outcome.ACCEPTED, box.certificate("dev-1", "dev-1", Fixture.HOME).outcome());
    assertEquals(Outcome.WRONG_TOKEN, box.certificate("dev-1", "dev-2", Fixture.HOME).outcome());
    assertEquals(Outcome.UNKNOWN_DEVICE, box.certificate("dev-2", null, Fixture.HOME).outcome());
    Grant grant = box.certificate("dev-1", null, Fixture.HOME).grant();
    box.devices.rotate("dev-1", 0, null);
    assertTrue(grant.valid(), "it does not hang on a token");
    box.devices.revoke("dev-1");
    assertFalse(grant.valid());
  }

  @Test
  void addressesAreAskedForAfterTheToken() throws Exception {
    box.devices.allow("dev-1", List.of("192.168.1.0/24", "fd00::/16"));
    assertEquals(Outcome.ACCEPTED, box.mqtt("dev-1", token, "192.168.1.99").outcome());
    assertEquals(Outcome.ACCEPTED, box.mqtt("dev-1", token, "::ffff:192.168.1.99").outcome());
    assertEquals(Outcome.ACCEPTED, box.mqtt("dev-1", token, "fd00::1").outcome());
    assertEquals(Outcome.ADDRESS, box.mqtt("dev-1", token, "192.168.2.1").outcome());
    assertEquals(Outcome.ADDRESS, box.mqtt("dev-1", token, "nonsense").outcome());
    assertEquals(Outcome.ADDRESS, box.mqtt("dev-1", token, null).outcome());
    assertEquals(Outcome.WRONG_TOKEN, box.mqtt("dev-1", "x", "192.168.2.1").outcome());
  }

  @Test
  void theTokenIsClearedAndInNoText() {
    byte[] bytes = token.getBytes(StandardCharsets.US_ASCII);
    Attempt attempt = new Attempt(Transport.MQTT, "dev-1", bytes, null, Fixture.HOME);
    assertFalse(attempt.toString().contains(token));
    assertEquals(Outcome.ACCEPTED, box.gate.check(attempt).outcome());
    assertArrayEquals(new byte[bytes.length], bytes);
    assertEquals("cvn_...", loggedName());
  }

  private String loggedName() {
    settings(1, 0, 0, 0);
    // Pasted where the user name belongs; ids of that form cannot be enrolled.
    box.mqtt(token, null, "10.7.7.7");
    return box.lockedOut.get(0).split(" ")[0];
  }

  @Test
  void mqttIsToldOneThingForAllOfIt() throws Exception {
    box.add("dev-2");
    String late = box.devices.add(new NewDevice("dev-3", null, null, null, null, null, null, box.nowMs.get() + 60_000, null)).token();
    String gone = box.add("dev-4").token();
    box.devices.revoke("dev-4");
    box.devices.allow("dev-2", List.of("10.0.0.0/8"));
    Authenticator authenticator = new DeviceAuthenticator(box.gate);
    List<Authenticator.Decision> refusals = new ArrayList<>();
    for (String[] who : new String[][] {{"dev-1", "x"}, {"nobody", token}, {"dev-1", null}, {null, null}, {"dev-3", late}, {"dev-4", gone}}) {
      refusals.add(decision(authenticator, who[0], who[1]));
    }
    assertEquals(1, refusals.stream().distinct().count(), refusals.toString());
    assertEquals(0x87, refusals.get(0).reasonCode());
    Authenticator.Decision accepted = decision(authenticator, "dev-1", token);
    assertEquals(0, accepted.reasonCode());
    assertEquals("dev-1", accepted.deviceId());
    assertTrue(accepted.grant().valid());
    settings(1, 0, 0, 0);
    decision(authenticator, "dev-1", "x");
    assertEquals(0x9F, decision(authenticator, "dev-1", token).reasonCode());
  }

  private static Authenticator.Decision decision(Authenticator authenticator, String user, String password) {
    return authenticator.authenticate(new ConnectRequest("devices", "client", user, password == null ? null
        : password.getBytes(StandardCharsets.UTF_8), null, false, Fixture.HOME, 5)).toCompletableFuture().join();
  }

  // ---------------------------------------------------------------------------------------------- grants

  @Test
  void aGrantEndsWithWhatItWasGivenFor() throws Exception {
    box.devices.rotate("dev-1", 5_000, null);
    Grant old = box.mqtt("dev-1", token, Fixture.HOME).grant();
    assertTrue(old.valid());
    box.later(4_999);
    assertTrue(old.valid());
    box.later(1);
    assertFalse(old.valid(), "the very token expired");

    Enrolment two = box.devices.rotate("dev-1", 0, null);
    Grant grant = box.mqtt("dev-1", two.token(), Fixture.HOME).grant();
    box.devices.allow("dev-1", List.of("192.168.1.0/24"));
    assertTrue(grant.valid());
    box.devices.allow("dev-1", List.of("10.0.0.0/8"));
    assertFalse(grant.valid());
    box.devices.allow("dev-1", List.of());
    assertTrue(grant.valid());
    Enrolment three = box.devices.rotate("dev-1", 60_000, null);
    assertTrue(grant.valid());
    box.devices.revokeToken("dev-1", two.tokenId());
    assertFalse(grant.valid());

    Grant last = box.mqtt("dev-1", three.token(), Fixture.HOME).grant();
    box.devices.revoke("dev-1");
    assertFalse(last.valid());
    String four = box.devices.restore("dev-1").token();
    assertFalse(last.valid());
    Grant removed = box.mqtt("dev-1", four, Fixture.HOME).grant();
    box.devices.remove("dev-1");
    assertFalse(removed.valid());
    box.add("dev-1");
    assertFalse(removed.valid(), "another device of that name");
    assertEquals(0, removed.take(1));
  }

  @Test
  void whoAsksWhileTheDeviceIsRevokedGetsNothingThatStays() throws Exception {
    for (int round = 0; round < 200; round++) {
      String id = "dev-r" + round;
      String key = box.add(id).token();
      AtomicBoolean revoked = new AtomicBoolean();
      AtomicReference<String> wrong = new AtomicReference<>();
      List<Grant> grants = new ArrayList<>();
      Thread asking = new Thread(() -> {
        boolean last;
        do {
          last = revoked.get();
          Verdict verdict = box.mqtt(id, key, Fixture.HOME);
          if (last && verdict.outcome() != Outcome.REVOKED && verdict.outcome() != Outcome.LOCKED_OUT) {
            wrong.set("after the revocation: " + verdict);
          }
          if (verdict.grant() != null) {
            grants.add(verdict.grant());
          }
        } while (!last);
      });
      asking.start();
      box.devices.revoke(id);
      revoked.set(true);
      asking.join();
      assertNull(wrong.get());
      assertTrue(grants.stream().noneMatch(Grant::valid));
    }
  }

  // ---------------------------------------------------------------------------------------------- lock-outs

  @Test
  void tenFailuresLockTheTwo() {
    for (int i = 0; i < 10; i++) {
      assertEquals(Outcome.WRONG_TOKEN, box.from("dev-1", "guess-" + i));
    }
    Verdict locked = box.mqtt("dev-1", token, Fixture.HOME);
    assertEquals(Outcome.LOCKED_OUT, locked.outcome(), "the right token does not open it either, else it would be told apart");
    assertEquals(60_000, locked.retryAfterMs());
    assertEquals(1, box.gate.locked());
    assertEquals(1, box.lockedOut.size());
    assertTrue(box.lockedOut.get(0).startsWith("dev-1 {") && box.lockedOut.get(0).contains("192.168.1.10"), box.lockedOut.toString());
    assertEquals(Outcome.ACCEPTED, box.mqtt("dev-1", token, "192.168.1.11").outcome(), "the device itself, elsewhere");
    box.later(59_999);
    assertEquals(1, box.mqtt("dev-1", token, Fixture.HOME).retryAfterMs());
    box.later(1);
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", token));
    assertEquals(0, box.gate.locked());
  }

  @Test
  void anUnknownIdIsLockedAsAKnownOne() {
    for (String id : List.of("dev-1", "nobody")) {
      List<Outcome> outcomes = new ArrayList<>();
      for (int i = 0; i < 11; i++) {
        outcomes.add(box.from(id, "guess"));
      }
      assertEquals(Outcome.LOCKED_OUT, outcomes.get(10));
      assertEquals(10, outcomes.stream().filter(o -> o != Outcome.LOCKED_OUT).count());
    }
  }

  @Test
  void aSuccessOrTimeForgetsFailures() {
    for (int round = 0; round < 5; round++) {
      for (int i = 0; i < 9; i++) {
        assertEquals(Outcome.WRONG_TOKEN, box.from("dev-1", "guess"));
      }
      assertEquals(Outcome.ACCEPTED, box.from("dev-1", token));
    }
    for (int i = 0; i < 9; i++) {
      box.from("dev-1", "guess");
    }
    box.later(60_000);
    assertEquals(Outcome.WRONG_TOKEN, box.from("dev-1", "guess"));
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", token));
  }

  @Test
  void aHundredFailuresLockTheAddress() {
    for (int i = 0; i < 100; i++) {
      assertEquals(Outcome.UNKNOWN_DEVICE, box.from("guess-" + i, "x"), "attempt " + i);
    }
    assertEquals(Outcome.LOCKED_OUT, box.from("dev-1", token));
    assertEquals(1, box.lockedOut.size());
    assertTrue(box.lockedOut.get(0).startsWith("192.168.1.10/32 "), box.lockedOut.toString());
    assertEquals(Outcome.ACCEPTED, box.mqtt("dev-1", token, "192.168.1.11").outcome());
    for (int i = 0; i < 100; i++) {
      box.mqtt("guess-" + i, "x", "2001:db8::" + Integer.toHexString(i + 1));
    }
    assertEquals(Outcome.LOCKED_OUT, box.mqtt("dev-1", token, "2001:db8::ffff").outcome(), "one household");
    assertEquals(Outcome.ACCEPTED, box.mqtt("dev-1", token, "2001:db8:0:1::1").outcome());
  }

  @Test
  void lockOutsCanBeSwitchedOff() {
    settings(0, 0, 0, 0);
    for (int i = 0; i < 1_000; i++) {
      assertEquals(Outcome.WRONG_TOKEN, box.from("dev-1", "guess"));
    }
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", token));
    assertEquals(0, box.gate.remembered());
  }

  @Test
  void inventedIdsAndAddressesAreNotKept() {
    settings(10, 0, 0, 0);
    for (int i = 0; i < 60_000; i++) {
      box.mqtt("guess-" + i, "x", "10." + (i >> 16) + "." + (i >> 8 & 255) + "." + (i & 255));
    }
    for (int i = 0; i < 1_000; i++) {
      box.mqtt("/".repeat(10_000) + i, "x", "10.0.0.1");
    }
    assertTrue(box.gate.remembered() <= 2 * Lockouts.MAX_KEYS, box.gate.remembered() + "");
    settings(10, 1_000_000, 0, 0);
    for (int i = 0; i < 60_000; i++) {
      box.mqtt("x", "x", "2001:db8:" + Integer.toHexString(i >> 16) + ":" + Integer.toHexString(i & 0xFFFF) + "::1");
    }
    assertTrue(box.gate.remembered() <= 2 * Lockouts.MAX_KEYS, box.gate.remembered() + "");
    box.later(60_000);
    assertEquals(0, box.gate.locked());
    assertEquals(0, box.gate.remembered(), "over is over");
  }

  // ---------------------------------------------------------------------------------------------- limits

  @Test
  void aDeviceHasOneRateForAllItsConnections() throws Exception {
    settings(10, 100, 10, 0);
    Grant one = box.mqtt("dev-1", token, Fixture.HOME).grant();
    Grant two = box.mqtt("dev-1", token, "192.168.1.11").grant();
    for (int i = 0; i < 5; i++) {
      assertEquals(0, one.take(100));
      assertEquals(0, two.take(100));
    }
    assertEquals(100, one.take(100));
    assertEquals(200, two.take(100));
    Verdict request = box.http("dev-1", token, Fixture.HOME);
    assertEquals(Outcome.TOO_FAST, request.outcome());
    assertEquals(200, request.retryAfterMs());
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", token), "a connection is let in and pauses by itself");
    box.later(200);
    assertEquals(Outcome.ACCEPTED, box.http("dev-1", token, Fixture.HOME).outcome());
    for (int i = 0; i < 100; i++) {
      assertEquals(Outcome.TOO_FAST, afterTaking(one).outcome());
    }
    assertEquals(Outcome.ACCEPTED, box.from("dev-1", token), "too fast is no failure that locks out");
    assertEquals(10_000, one.take(0), "who owes more than ten seconds pauses longer than one");
    // A day of silence does not save up more than one second's worth.
    box.later(86_400_000);
    for (int i = 0; i < 10; i++) {
      assertEquals(0, one.take(100));
    }
    assertEquals(100, one.take(100));
  }

  private Verdict afterTaking(Grant grant) {
    grant.take(1);
    return box.http("dev-1", token, Fixture.HOME);
  }

  @Test
  void bytesCountToo() throws Exception {
    settings(10, 100, 0, 1_000);
    Grant grant = box.mqtt("dev-1", token, Fixture.HOME).grant();
    assertEquals(0, grant.take(1_000));
    assertEquals(500, grant.take(500));
    box.devices.limits("dev-1", null, 0L);
    assertEquals(0, grant.take(1 << 30), "its own limit, at once");
    box.devices.limits("dev-1", 1, 0L);
    assertEquals(0, grant.take(0));
    assertEquals(1_000, grant.take(0));
    settings(10, 100, 0, 0);
    box.devices.limits("dev-1", null, null);
    assertEquals(0, grant.take(1 << 30));
  }

  @Test
  void manyThreadsTakeNoMoreThanThereIs() throws Exception {
    settings(10, 100, 1_000, 0);
    Grant grant = box.mqtt("dev-1", token, Fixture.HOME).grant();
    AtomicInteger free = new AtomicInteger();
    List<Thread> threads = new ArrayList<>();
    for (int t = 0; t < 4; t++) {
      threads.add(new Thread(() -> {
        for (int i = 0; i < 1_000; i++) {
          if (grant.take(1) == 0) {
            free.incrementAndGet();
          }
        }
      }));
    }
    threads.forEach(Thread::start);
    for (Thread thread : threads) {
      thread.join();
    }
    assertEquals(1_000, free.get());
  }

  // ---------------------------------------------------------------------------------------------- open, closed, counted

  @Test
  void openIsForThisMachineOnly() {
    box.gate.settings(new Settings(true, 1, 1, 60_000, 1, 1));
    for (String address : List.of("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")) {
      Verdict verdict = box.mqtt(null, null, address);
      assertEquals(Outcome.ACCEPTED, verdict.outcome(), address);
      assertNull(verdict.deviceId(), "any device");
      assertEquals(0, verdict.grant().take(1 << 30));
    }
    for (String address : List.of("192.168.1.10", "10.0.0.1", "::2", "::", "0.0.0.0", "localhost", "::127.0.0.1")) {
      assertEquals(Outcome.ADDRESS, box.mqtt("dev-1", token, address).outcome(), address);
    }
    Grant grant = box.mqtt(null, null, "127.0.0.1").grant();
    assertTrue(grant.valid());
    box.gate.settings(Fixture.STRICT);
    assertFalse(grant.valid(), "shut again");
    assertEquals(Outcome.NO_CREDENTIAL, box.mqtt("dev-1", null, "127.0.0.1").outcome());
  }

  @Test
  void afterTheStopNobodyIsLetIn() throws Exception {
    Grant grant = box.mqtt("dev-1", token, Fixture.HOME).grant();
    box.close();
    assertEquals(Outcome.UNAVAILABLE, box.from("dev-1", token));
    assertFalse(grant.valid());
    box.open();
  }

  @Test
  void everyDecisionIsCounted() throws Exception {
    MeterRegistry registry = new SimpleMeterRegistry();
    try (Meters meters = Meters.of(registry)) {
      Doorkeeper gate = new Doorkeeper(box.devices, Fixture.STRICT, meters, box.nowMs::get, box.nanos::get, (subject, details) -> { });
      for (int i = 0; i < 12; i++) {
        gate.check(new Attempt(Transport.HTTPS, "dev-1", null, null, Fixture.HOME));
      }
      assertEquals(10, counted(registry, "no_credential"));
      assertEquals(2, counted(registry, "locked_out"));
      assertEquals(0, counted(registry, "accepted"));
      assertEquals(Transport.values().length * Outcome.values().length, registry.getMeters().size(), "tags are bounded");
    }
    assertEquals(0, registry.getMeters().size());
  }

  private static double counted(MeterRegistry registry, String outcome) {
    return registry.get("caravan.auth.total").tag("transport", "https").tag("outcome", outcome).counter().count();
  }

  @Test
  void lastSeenIsNotWrittenEachTime() throws Exception {
    box.http("dev-1", token, Fixture.HOME);
    Grant grant = box.mqtt("dev-1", token, "fd00::1").grant();
    box.later(5_000);
    grant.take(1);
    assertEquals(box.nowMs.get(), box.devices.find("dev-1").orElseThrow().lastSeenMs());
    assertEquals("fd00::1", box.devices.find("dev-1").orElseThrow().lastAddress());
    assertFalse(box.registry.load().get(0).seenMs() > 0, "only in memory");
    long seen = box.nowMs.get();
    box.reopen();
    assertEquals(seen, box.devices.find("dev-1").orElseThrow().lastSeenMs());
    assertEquals(Transport.MQTT, box.devices.find("dev-1").orElseThrow().lastTransport());
  }
}
