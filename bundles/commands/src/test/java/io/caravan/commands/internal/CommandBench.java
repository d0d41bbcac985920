// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import io.caravan.commands.Commands.Command;
import io.caravan.commands.Commands.Request;
import io.caravan.commands.internal.Publisher.Evidence;
import io.caravan.wal.AppendResult;
import io.caravan.wal.Record;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * No test: commands from acceptance to SUCCEEDED while telemetry is appended to the same store.
 *
 * <p>Arguments: commands per second, messages per second, seconds, devices.
 */
final class CommandBench {
  private CommandBench() {}

  public static void main(String[] args) throws Exception {
    int commands = Integer.parseInt(args.length > 0 ? args[0] : "1000");
    int messages = Integer.parseInt(args.length > 1 ? args[1] : "5000");
    int seconds = Integer.parseInt(args.length > 2 ? args[2] : "15");
    int devices = Integer.parseInt(args.length > 3 ? args[3] : "100");
    Path folder = Files.createTempDirectory(Path.of(System.getProperty("bench.dir", "/tmp")), "command-bench");
    try (EngineBox box = new EngineBox(folder.resolve("gateway.db"), new Running())) {
      for (int i = 0; i < devices; i++) {
        box.registry.put("dev" + i, io.caravan.devices.Devices.Status.ACTIVE);
        box.there.put("dev" + i, Reach.Way.LISTENER);
      }
      box.settings = new Settings(60_000, 3_600_000, 1_000, 20_000, 4_096, 16, 5_000, 86_400_000, 200_000, false, java.util.Set.of());
      box.plain = true;
      box.at = Evidence.DELIVERED;
      box.open();
      run(box, commands, messages, seconds, devices);
    }
    try (var files = Files.walk(folder)) {
      files.sorted(java.util.Comparator.reverseOrder()).forEach(p -> p.toFile().delete());
    }
  }

  private static final class Running extends EngineBox.Clocks {
    @Override
    public long monoMs() {
      return System.nanoTime() / 1_000_000;
    }

    @Override
    public long wallMs() {
      return System.currentTimeMillis();
    }
  }

  private static void run(EngineBox box, int commands, int messages, int seconds, int devices) throws Exception {
    ConcurrentLinkedQueue<Long> accepted = new ConcurrentLinkedQueue<>();
    ConcurrentLinkedQueue<Long> appended = new ConcurrentLinkedQueue<>();
    ConcurrentLinkedQueue<Long> ended = new ConcurrentLinkedQueue<>();
    java.util.Map<String, Long> begun = new java.util.concurrent.ConcurrentHashMap<>();
    AtomicLong failures = new AtomicLong();
    box.engine.onChange(command -> {
      switch (command.events().get(0).status()) {
        case DELIVERED -> box.engine.write(turn -> {
          turn.answer(new Answer(command.deviceId(), command.id(), "succeeded", null, "{\"on\":true}", null));
          return null;
        });
        case SUCCEEDED -> ended.add(System.nanoTime() - begun.remove(command.id()));
        default -> { }
      }
    });
    long[] command = {0};
    long[] message = {0};
    ScheduledExecutorService load = Executors.newScheduledThreadPool(2);
    int tick = 10;
    int warm = 5;
    long from = System.nanoTime();
    load.scheduleAtFixedRate(() -> {
      List<Request> list = new ArrayList<>();
      long now = System.nanoTime();
      for (int i = 0; i < commands * tick / 1_000; i++) {
        String id = String.format("%012x", command[0]);
        begun.put(id, now);
        list.add(new Request(id, "dev" + command[0] % devices, "relay", "{\"on\":true}", null, null, 30_000L, "cloud", "bench", null));
        command[0]++;
      }
      box.engine.submit(list).whenComplete((List<Command> done, Throwable e) -> {
        if (e == null) {
          accepted.add(System.nanoTime() - now);
        } else {
          failures.incrementAndGet();
        }
      });
    }, 0, tick, TimeUnit.MILLISECONDS);
    load.scheduleAtFixedRate(() -> {
      for (int i = 0; i < messages * tick / 1_000; i++) {
        long now = System.nanoTime();
        String device = "dev" + message[0] % devices;
        long number = ++message[0];
        Record record = new Record(Record.numberedKey(device, "b", number), "c-" + number, device, "telemetry", "live", "b", number, 1, 2, 3, 1,
            "application/json", null, "{\"schema_version\":1,\"metrics\":{\"temperature_c\":21.5,\"humidity_pct\":40.2}}".getBytes(StandardCharsets.UTF_8));
        box.wal().submit(record, "mqtt-server", "t").whenComplete((AppendResult done, Throwable e) -> appended.add(System.nanoTime() - now));
      }
    }, 0, tick, TimeUnit.MILLISECONDS);
    Thread.sleep(warm * 1_000L);
    accepted.clear();
    appended.clear();
    ended.clear();
    var cpu = (com.sun.management.OperatingSystemMXBean) java.lang.management.ManagementFactory.getOperatingSystemMXBean();
    long used = cpu.getProcessCpuTime();
    long began = System.nanoTime();
    Thread.sleep(seconds * 1_000L);
    double took = (System.nanoTime() - began) / 1e9;
    System.out.printf("commands/s ended %.0f (asked %d), messages/s %.0f (asked %d), CPU %.2f cores, open %d, failures %d%n",
        ended.size() / took, commands, appended.size() / took, messages, (cpu.getProcessCpuTime() - used) / 1e9 / took, box.engine.openCount(), failures.get());
    print("accepted", accepted);
    print("submit to SUCCEEDED", ended);
    print("append", appended);
    load.shutdownNow();
    load.awaitTermination(5, TimeUnit.SECONDS);
    System.out.println("from the start " + TimeUnit.NANOSECONDS.toSeconds(System.nanoTime() - from) + " s");
  }

  private static void print(String what, ConcurrentLinkedQueue<Long> nanos) {
    long[] sorted = nanos.stream().mapToLong(Long::longValue).toArray();
    Arrays.sort(sorted);
    if (sorted.length > 0) {
      System.out.printf("%s: p50 %.1f ms, p99 %.1f ms, max %.1f ms%n", what, sorted[sorted.length / 2] / 1e6, sorted[(int) (sorted.length * 0.99)] / 1e6,
          sorted[sorted.length - 1] / 1e6);
    }
  }
}
