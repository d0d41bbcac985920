// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.nio.file.Path;
import java.time.Duration;
import java.time.LocalTime;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

import com.hivemq.client.mqtt.MqttClientExecutorConfig;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** A room full of boards. Runs until SIGTERM or {@code --seconds}; then waits for what is still unpromised. */
@Command(name = "simulate", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Simulated devices: one MQTT 5 connection each, a reading every --interval, and a ledger of it all.")
final class Simulator implements Callable<Integer> {
    @Mixin MqttOptions mqtt;

    @Option(names = "--devices", defaultValue = "5", description = "number of devices (${DEFAULT-VALUE})")
    int devices;

    @Option(names = "--prefix", defaultValue = "sim", description = "device ids are PREFIX-1, PREFIX-2, ... (${DEFAULT-VALUE})")
    String prefix;

    @Option(names = "--interval", defaultValue = "1s", description = "time between two readings of a device (${DEFAULT-VALUE})")
    Duration interval;

    @Option(names = "--seconds", defaultValue = "0s", description = "run this long; 0: until SIGTERM")
    Duration seconds;

    @Option(names = "--seed", defaultValue = "1", description = "same seed, same readings (${DEFAULT-VALUE})")
    long seed;

    @Option(names = "--ledger", paramLabel = "FILE", required = true, description = "append what was sent, acknowledged and receipted")
    Path ledgerFile;

    @Option(names = "--buffer", defaultValue = "64", description = "messages a device can hold; a board has 128 KB of RAM (${DEFAULT-VALUE})")
    int buffer;

    @Option(names = "--require-receipts", description = "a PUBACK is not enough (a broker in between gives it): wait for the gateway's receipt")
    boolean requireReceipts;

    @Option(names = "--receipt-timeout", defaultValue = "15s", description = "send again when no receipt has come for so long (${DEFAULT-VALUE})")
    Duration receiptTimeout;

    @Option(names = "--events", paramLabel = "P", defaultValue = "0.05", description = "chance of an event per reading (${DEFAULT-VALUE})")
    double eventProbability;

    @Option(names = "--bad-payloads", paramLabel = "P", defaultValue = "0", description = "chance of a bad message per reading")
    double badPayloads;

    @Option(names = "--duplicates", paramLabel = "P", defaultValue = "0", description = "chance that an acknowledged message is sent again")
    double duplicates;

    @Option(names = "--flood", paramLabel = "N", defaultValue = "0", description = "the first device sends N messages a second more")
    int flood;

    @Option(names = "--clock-1970", paramLabel = "N", arity = "0..1", defaultValue = "0", fallbackValue = "1",
            description = "the last N devices have no clock (1 when N is left out)")
    int clock1970;

    @Option(names = "--command-faults", paramLabel = "FAULT=P", split = ",",
            description = "chance per command that a device answers badly (late, never, twice, garbage, other-id, contradict, offline), of several"
                    + " devices the first never does; for example late=0.1,never=0.05")
    Map<CommandFault, Double> commandFaults = new EnumMap<>(CommandFault.class);

    @Option(names = "--late", defaultValue = "2s", description = "how late a late answer is (${DEFAULT-VALUE})")
    Duration late;

    @Option(names = "--offline", defaultValue = "3s", description = "how long a device is gone (${DEFAULT-VALUE})")
    Duration offline;

    @Option(names = "--drain", defaultValue = "20s", description = "wait so long for outstanding promises at the end (${DEFAULT-VALUE})")
    Duration drain;

    @Option(names = "--report", defaultValue = "5s", description = "time between two summary lines; 0: none (${DEFAULT-VALUE})")
    Duration report;

    private final List<SimulatedDevice> all = new ArrayList<>();

    @Override
    public Integer call() throws Exception {
        CountDownLatch stop = new CountDownLatch(1);
        CountDownLatch finished = new CountDownLatch(1);
        Stop.onSignal(stop::countDown, finished, drain.plusSeconds(10));
        try (Ledger ledger = new Ledger(ledgerFile)) {
            return run(ledger, stop);
        } finally {
            finished.countDown();
        }
    }

    int run(Ledger ledger, CountDownLatch stop) throws InterruptedException {
        ledger.run(requireReceipts, devices, seed);
        MqttClientExecutorConfig executor = MqttOptions.executor(1);
        ScheduledExecutorService clock = Executors.newScheduledThreadPool(1);
        for (int i = 1; i <= devices; i++) {
            boolean well = i == 1 && devices > 1;
            all.add(new SimulatedDevice(prefix + "-" + i, this, seed * 1000 + i, i > devices - clock1970, well, ledger, executor, clock));
        }
        all.forEach(SimulatedDevice::connect);
        for (int i = 0; i < devices; i++) {
            // Boards are not switched on in step.
            all.get(i).start(interval.toNanos() * i / devices);
        }
        if (flood > 0) {
            int ticks = Math.min(flood, 100);
            clock.scheduleAtFixedRate(guarded(() -> all.get(0).flood(flood / ticks)), 0, 1_000_000_000L / ticks, TimeUnit.NANOSECONDS);
        }
        ScheduledExecutorService helper = Executors.newScheduledThreadPool(1);
        helper.scheduleWithFixedDelay(guarded(() -> all.forEach(SimulatedDevice::pump)), 200, 200, TimeUnit.MILLISECONDS);
        if (!report.isZero()) {
            helper.scheduleAtFixedRate(guarded(() -> System.out.println(summary())), report.toNanos(), report.toNanos(), TimeUnit.NANOSECONDS);
        }

        if (seconds.isZero()) {
            stop.await();
        } else {
            stop.await(seconds.toNanos(), TimeUnit.NANOSECONDS);
        }
        // What is due later is still done: late answers, coming back.
        clock.shutdown();
        clock.awaitTermination(5 + Math.max(late.toSeconds(), offline.toSeconds()), TimeUnit.SECONDS);
        boolean drained = awaitEmptyBuffers(helper);
        helper.shutdown();
        all.forEach(SimulatedDevice::disconnect);
        System.out.println("final: " + summary());
        return drained ? 0 : 1;
    }

    /** A task that throws would silently never run again. */
    static Runnable guarded(Runnable task) {
        return () -> {
            try {
                task.run();
            } catch (RuntimeException e) {
                System.err.println("simulate: " + e + ": the run is void");
                Runtime.getRuntime().halt(2);
            }
        };
    }

    private boolean awaitEmptyBuffers(ScheduledExecutorService helper) throws InterruptedException {
        CountDownLatch empty = new CountDownLatch(1);
        helper.scheduleWithFixedDelay(() -> {
            if (all.stream().allMatch(d -> d.counts().buffered() == 0)) {
                empty.countDown();
            }
        }, 0, 50, TimeUnit.MILLISECONDS);
        return empty.await(drain.toMillis(), TimeUnit.MILLISECONDS);
    }

    private String summary() {
        int connected = 0;
        long sent = 0;
        long acked = 0;
        long receipted = 0;
        long refused = 0;
        long bad = 0;
        long again = 0;
        long skipped = 0;
        int buffered = 0;
        long commands = 0;
        long executed = 0;
        for (SimulatedDevice d : all) {
            SimulatedDevice.Counts c = d.counts();
            connected += c.connected() ? 1 : 0;
            sent += c.sent();
            acked += c.acked();
            receipted += c.receipted();
            refused += c.refused();
            bad += c.bad();
            again += c.again();
            skipped += c.skipped();
            buffered += c.buffered();
            commands += c.commands();
            executed += c.executed();
        }
        return LocalTime.now().truncatedTo(ChronoUnit.SECONDS) + " devices " + connected + "/" + devices + ", sent " + sent + ", acked " + acked
                + ", receipted " + receipted + ", buffered " + buffered + ", again " + again + ", bad " + bad + ", refused " + refused
                + ", skipped " + skipped + ", commands " + commands + ", executed " + executed;
    }
}
