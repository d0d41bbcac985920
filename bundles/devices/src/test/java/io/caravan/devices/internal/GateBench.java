// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.Devices.Imported;
import io.caravan.devices.Gate.Attempt;
import io.caravan.devices.Gate.Outcome;
import io.caravan.devices.Gate.Transport;
import io.caravan.mqtt.server.Authenticator.Grant;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.function.IntConsumer;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * What the gate costs, in one thread and 10,000 devices: {@code mvn -pl bundles/devices test-compile exec:java
 * -Dexec.mainClass=io.caravan.devices.internal.GateBench -Dexec.classpathScope=test}. No test: figures of a loaded machine
 * prove nothing.
 */
final class GateBench {
  private static final int DEVICES = 10_000;
  private static final int CALLS = 400_000;
  private static final int ROUNDS = 7;

  private GateBench() {}

  public static void main(String[] arguments) throws Exception {
    Path folder = Files.createTempDirectory("gate-bench");
    Fixture box = new Fixture(folder);
    Path file = Files.writeString(folder.resolve("devices.csv"), "device_id,allow\n"
        + IntStream.range(0, DEVICES).mapToObj(i -> "dev-" + i + ",192.168.0.0/16").collect(Collectors.joining("\n")));
    long before = System.nanoTime();
    Imported imported = box.devices.importFile(file, false);
    said("import of 10,000 devices", before, "ms");
    List<byte[]> tokens = imported.created().stream().map(Enrolment::token).map(t -> t.getBytes(StandardCharsets.US_ASCII)).toList();
    box.close();
    System.out.printf(Locale.ROOT, "file: %.1f MB%n", Files.size(box.file) / 1e6);
    box.devices = null;
    box.gate = null;
    imported = null;
    long empty = used();
    before = System.nanoTime();
    box.open();
    said("open and check 10,000 devices", before, "ms");
    System.out.printf(Locale.ROOT, "heap of 10,000 devices: %.1f MB%n", (used() - empty) / 1e6);
    before = System.nanoTime();
    box.registry.copy();
    said("verified copy of 10,000 devices", before, "ms");
    before = System.nanoTime();
    for (int i = 0; i < 20; i++) {
      box.devices.revoke("dev-" + i);
    }
    System.out.printf(Locale.ROOT, "revoke with 10,000 devices, on the disk: %.1f ms%n", (System.nanoTime() - before) / 20e6);

    Grant[] grants = new Grant[DEVICES];
    measure("check, right token", i -> {
      int device = 100 + i % (DEVICES - 100);
      grants[device] = check(box, "dev-" + device, tokens.get(device), Outcome.ACCEPTED).grant();
    });
    measure("check, right token, IPv6 peer of an IPv4 list", i -> {
      int device = 100 + i % (DEVICES - 100);
      box.gate.check(new Attempt(Transport.HTTP, "dev-" + device, tokens.get(device).clone(), null, "::ffff:192.168.1.10"));
    });
    box.gate.settings(new Settings(false, 0, 0, 60_000, 0, 0));
    measure("check, wrong token", i -> check(box, "dev-5000", tokens.get(1), Outcome.WRONG_TOKEN));
    measure("check, unknown device", i -> check(box, "nobody-x", tokens.get(1), Outcome.UNKNOWN_DEVICE));
    box.gate.settings(new Settings(false, 1, 0, 60_000, 0, 0));
    check(box, "nobody-x", tokens.get(1), Outcome.UNKNOWN_DEVICE);
    measure("check, locked out", i -> check(box, "nobody-x", tokens.get(1), Outcome.LOCKED_OUT));
    box.gate.settings(new Settings(false, 10, 100, 60_000, 1_000_000, 1L << 40));
    measure("grant.take, one message", i -> grants[100 + i % (DEVICES - 100)].take(200));
    measure("grant.valid", i -> {
      if (!grants[100 + i % (DEVICES - 100)].valid()) {
        throw new IllegalStateException();
      }
    });
    measure("signingPolicy, off", i -> box.devices.signingPolicy("dev-" + (100 + i % 9_900)));
    box.close();
  }

  private static io.caravan.devices.Gate.Verdict check(Fixture box, String id, byte[] token, Outcome expected) {
    var verdict = box.gate.check(new Attempt(Transport.MQTT, id, token.clone(), null, "192.168.1.10"));
    if (verdict.outcome() != expected) {
      throw new IllegalStateException(verdict.toString());
    }
    return verdict;
  }

  private static void measure(String what, IntConsumer call) {
    double best = Double.MAX_VALUE;
    double worst = 0;
    for (int round = 0; round < ROUNDS; round++) {
      long before = System.nanoTime();
      for (int i = 0; i < CALLS; i++) {
        call.accept(i);
      }
      double each = (System.nanoTime() - before) / (double) CALLS;
      if (round > 1) {
        best = Math.min(best, each);
        worst = Math.max(worst, each);
      }
    }
    System.out.printf(Locale.ROOT, "%-48s %6.0f to %6.0f ns%n", what, best, worst);
  }

  private static void said(String what, long before, String unit) {
    System.out.printf(Locale.ROOT, "%s: %.0f %s%n", what, (System.nanoTime() - before) / 1e6, unit);
  }

  private static long used() {
    for (int i = 0; i < 3; i++) {
      System.gc();
    }
    return Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory();
  }
}
