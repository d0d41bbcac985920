// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.Devices.NewDevice;
import io.caravan.devices.Gate.Attempt;
import io.caravan.devices.Gate.Outcome;
import io.caravan.devices.Gate.Transport;
import io.caravan.devices.Gate.Verdict;
import io.caravan.runtime.Audit;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Statement;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BooleanSupplier;

/** Registry and gate over a real file, with clocks that a test turns. */
final class Fixture implements AutoCloseable {
  static final Settings STRICT = new Settings(/* open= */ false, 10, 100, 60_000, 0, 0);
  static final String HOME = "192.168.1.10";
  private static final long WAIT_S = 20;

  final AtomicLong nowMs = new AtomicLong(1_790_000_000_000L);
  final AtomicLong nanos = new AtomicLong(5_000_000_000L);
  final List<String> audited = new CopyOnWriteArrayList<>();
  final List<String> cut = new CopyOnWriteArrayList<>();
  final List<String> lockedOut = new CopyOnWriteArrayList<>();
  final Path file;
  volatile boolean auditFails;
  volatile Runnable whileAuditing = () -> { };
  Registry registry;
  DeviceBook devices;
  Doorkeeper gate;

  Fixture(Path folder) throws IOException {
    file = folder.resolve("registry.db");
    open();
  }

  void open() throws IOException {
    registry = Registry.open(file);
    Audit audit = (action, subject, outcome, details) -> {
      whileAuditing.run();
      if (auditFails) {
        throw new UncheckedIOException(new IOException("no space for the audit log"));
      }
      audited.add(action + " " + subject + " " + outcome + (details.isEmpty() ? "" : " " + new java.util.TreeMap<>(details)));
    };
    DeviceBook.Sessions sessions = new DeviceBook.Sessions() {
      @Override
      public void disconnect(String deviceId) {
        cut.add("disconnect " + deviceId);
      }

      @Override
      public void revalidate(String deviceId) {
        cut.add("revalidate " + deviceId);
      }
    };
    boolean opened = false;
    try {
      devices = new DeviceBook(registry, audit, sessions, nowMs::get, nanos::get, DevicesService.thread("worker"),
          DevicesService.thread("announcer"));
      opened = true;
    } finally {
      if (!opened) {
        registry.close();
      }
    }
    gate = new Doorkeeper(devices, STRICT, new Meters(), nowMs::get, nanos::get, (subject, details) -> lockedOut.add(subject + " " + details));
  }

  void reopen() throws Exception {
    close();
    open();
  }

  Enrolment add(String id) throws IOException {
    return devices.add(device(id));
  }

  static NewDevice device(String id) {
    return new NewDevice(id, null, null, null, null, null, null, null, null);
  }

  Verdict mqtt(String id, String token, String address) {
    return gate.check(new Attempt(Transport.MQTT, id, token == null ? null : token.getBytes(StandardCharsets.UTF_8), null, address));
  }

  Verdict http(String id, String token, String address) {
    return gate.check(new Attempt(Transport.HTTP, id, token == null ? null : token.getBytes(StandardCharsets.UTF_8), null, address));
  }

  Verdict certificate(String name, String user, String address) {
    return gate.check(new Attempt(Transport.MQTTS, user, null, name, address));
  }

  Outcome from(String id, String token) {
    return mqtt(id, token, HOME).outcome();
  }

  void later(long ms) {
    nowMs.addAndGet(ms);
    nanos.addAndGet(ms * 1_000_000);
  }

  /** Writes fail as on a file system that became read-only, or do no longer. */
  void writable(boolean writable) throws Exception {
    synchronized (registry) {
      try (Statement statement = registry.connection().createStatement()) {
        statement.execute("PRAGMA query_only = " + (writable ? "OFF" : "ON"));
      }
    }
  }

  static void await(String what, BooleanSupplier condition) throws InterruptedException {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_S);
    while (!condition.getAsBoolean()) {
      if (System.nanoTime() > deadline) {
        throw new AssertionError("not within " + WAIT_S + " s: " + what);
      }
      TimeUnit.MILLISECONDS.sleep(5);
    }
  }

  @Override
  public void close() throws Exception {
    devices.close();
  }

}
