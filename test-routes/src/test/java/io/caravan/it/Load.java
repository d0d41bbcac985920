// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.bench.Oracle;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/**
 * Devices in processes of their own that go on through every crash of what they talk to, keep what was not promised to them
 * and note what was. Used by one thread.
 */
public final class Load implements AutoCloseable {
  private static final Duration PROGRESS = Duration.ofSeconds(90);
  /** A line of the ack log. */
  private static final int ACK_BYTES = 36;
  private static final int DRAIN_S = 60;

  private final Path folder;
  private final int port;
  private final List<Child> running = new ArrayList<>();
  private Path ackLog;
  private Path ledger;

  /** @param folder of what is noted */
  public Load(Path folder, int port) {
    this.folder = folder;
    this.port = port;
  }

  /** A few boards with readings, events, rubbish, duplicates, and one without a clock. */
  public Load devices(Object... more) {
    ledger = folder.resolve("devices.ledger");
    List<Object> arguments = new ArrayList<>(List.of("simulate", "--port", port, "--events", 0.3,
        "--bad-payloads", 0.05, "--duplicates", 0.1, "--clock-1970", "--drain", DRAIN_S + "s", "--report", "0s", "--ledger", ledger));
    arguments.addAll(List.of(more));
    if (!arguments.contains("--devices")) {
      arguments.addAll(List.of("--devices", 4));
    }
    if (!arguments.contains("--interval")) {
      arguments.addAll(List.of("--interval", "50ms"));
    }
    running.add(Bench.start(folder.resolve("devices.log"), arguments.toArray()));
    return this;
  }

  /** Numbered telemetry at a rate that leaves the machine some air. */
  public Load numbered() {
    return numbered(1_000);
  }

  /** @param rate messages per second of four devices together */
  public Load numbered(int rate) {
    return load("--connections", 4, "--window", 100, "--rate", rate);
  }

  /** As much as is acknowledged. */
  public Load flood() {
    return load("--connections", 32, "--window", 500);
  }

  private Load load(Object... more) {
    ackLog = folder.resolve("load.acks");
    List<Object> arguments = new ArrayList<>(List.of("load", "--port", port, "--metrics", 2, "--drain", DRAIN_S + "s", "--quiet", "--ack-log", ackLog));
    arguments.addAll(List.of(more));
    running.add(Bench.start(folder.resolve("load.log"), arguments.toArray()));
    return this;
  }

  /** Waits until about so many more promises were noted, at least one: a moment under load, of the caller's choice. */
  public void awaitProgress(int promises) {
    Path file = ackLog == null ? ledger : ackLog;
    long from = size(file);
    await("progress in " + file).atMost(PROGRESS).pollDelay(Duration.ZERO).pollInterval(Duration.ofMillis(1))
        .until(() -> size(file) > from + (long) promises * ACK_BYTES);
  }

  private static long size(Path file) {
    try {
      return Files.exists(file) ? Files.size(file) : 0;
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  public Oracle evidence(Oracle oracle) {
    if (ledger != null) {
      oracle.ledger(ledger);
    }
    if (ackLog != null) {
      oracle.ackLog(ackLog);
    }
    return oracle;
  }

  /** What {@link #numbered} and {@link #flood} were promised; null: neither runs. */
  public Path ackLog() {
    return ackLog;
  }

  /** What {@link #devices} noted; null: they do not run. */
  public Path ledger() {
    return ledger;
  }

  /** Nothing new any more; every device gets rid of what it still holds. */
  public Load finish() {
    for (Child child : running) {
      child.stop(Duration.ofSeconds(DRAIN_S + 20));
      String output = child.output();
      assertTrue(output.contains("\"unacked\":0,") || output.contains("buffered 0,"), () -> "not everything was promised in the end:\n" + child.tail());
    }
    return this;
  }

  @Override
  public void close() {
    running.forEach(Child::close);
  }
}
