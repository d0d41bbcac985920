// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.hivemq.client.mqtt.MqttClientExecutorConfig;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5PublishResult;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.Recorder;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * Publishes numbered telemetry as fast as acknowledgements allow (closed loop: a window per connection), or at a rate (open
 * loop). In open loop a latency runs from the moment the message was due, not from the moment it could be sent, so that a
 * gateway that stalls cannot hide the messages that had to wait (coordinated omission).
 */
@Command(name = "load", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Load generator: numbered telemetry at QoS 1; one JSON object with the result on stdout.")
final class Load implements Callable<Integer> {
    @Mixin MqttOptions mqtt;

    @Option(names = "--connections", defaultValue = "8", description = "connections, one device each (${DEFAULT-VALUE})")
    int connections;

    @Option(names = "--window", defaultValue = "200", description = "unacknowledged messages per connection (${DEFAULT-VALUE}); the server's receive maximum, if that is less")
    int window;

    @Option(names = "--rate", defaultValue = "0", description = "messages per second over all connections; 0: as fast as acks allow")
    double rate;

    @Option(names = "--tick", defaultValue = "0s",
            description = "with --rate: look only so often for what is due, so that the generator leaves more of the cores; a latency still runs from when"
                    + " the message was due (${DEFAULT-VALUE}: each at its own time)")
    Duration tick;

    @Option(names = "--warmup", defaultValue = "0s", description = "published but not measured (${DEFAULT-VALUE})")
    Duration warmup;

    @Option(names = "--seconds", defaultValue = "0s", description = "measure this long; 0: until --messages or SIGTERM")
    Duration seconds;

    @Option(names = "--messages", defaultValue = "0", description = "publish this many, warm-up included; 0: no limit")
    long messages;

    @Option(names = "--metrics", defaultValue = "8", description = "metrics per message, 1 to 12; 8 make about 300 bytes (${DEFAULT-VALUE})")
    int metrics;

    @Option(names = "--prefix", defaultValue = "load", description = "device ids are PREFIX-1, PREFIX-2, ... (${DEFAULT-VALUE})")
    String prefix;

    @Option(names = "--ack-log", paramLabel = "FILE", description = "append the key of every acknowledged message")
    Path ackLogFile;

    @Option(names = "--flush-ms", defaultValue = "5", description = "flush the ack log every so many ms (${DEFAULT-VALUE})")
    long flushMs;

    @Option(names = "--latency-log", paramLabel = "FILE", description = "also write the latencies of each second, for quantiles")
    Path latencyLogFile;

    @Option(names = "--subscribe", description = "also subscribe to devices/+/telemetry and count what arrives (a broker's own rate)")
    boolean subscribe;

    @Option(names = "--drain", defaultValue = "10s", description = "wait so long for outstanding acks at the end (${DEFAULT-VALUE})")
    Duration drain;

    @Option(names = "--marks", description = "say 'measuring' and 'measured' on stdout when the measured time begins and ends")
    boolean marks;

    @Option(names = "--quiet", description = "no progress on stderr")
    boolean quiet;

    private final List<Connection> all = new ArrayList<>();
    private final Recorder latencies = new Recorder(TimeUnit.MINUTES.toNanos(10), 3);
    private final Histogram total = new Histogram(TimeUnit.MINUTES.toNanos(10), 3);
    private final AtomicLong acked = new AtomicLong();
    private final AtomicLong delivered = new AtomicLong();
    private final AtomicLong failures = new AtomicLong();
    private final Map<String, Long> refused = new TreeMap<>();
    private volatile boolean stopping;
    private volatile long measureFrom = Long.MAX_VALUE;
    private volatile long measureTo = Long.MAX_VALUE;
    private volatile Thread sender;
    private AckLog ackLog;
    private LatencyLog latencyLog;
    private int bodyBytes;

    @Override
    public Integer call() throws Exception {
        CountDownLatch finished = new CountDownLatch(1);
        Stop.onSignal(() -> {
            stopping = true;
            LockSupport.unpark(sender);
        }, finished, drain.plusSeconds(5));
        try {
            return run();
        } finally {
            finished.countDown();
        }
    }

    private int run() throws Exception {
        ackLog = ackLogFile == null ? null : new AckLog(ackLogFile, flushMs);
        // One network thread drives every connection: a second one would only take turns with the gateway's.
        MqttClientExecutorConfig executor = MqttOptions.executor(1);
        Mqtt5AsyncClient subscriber = subscribe ? subscriber() : null;
        String bootId = Keys.newBootId();
        for (int i = 1; i <= connections; i++) {
            all.add(new Connection(prefix + "-" + i, bootId, executor));
        }
        for (Connection c : all) {
            // All have the same server: the least is everybody's.
            window = c.client.connect(window);
        }

        long started = System.nanoTime();
        measureFrom = started + warmup.toNanos();
        long end = seconds.isZero() ? Long.MAX_VALUE : measureFrom + seconds.toNanos();
        measureTo = end;
        sender = Thread.currentThread();
        ScheduledExecutorService everySecond = Executors.newSingleThreadScheduledExecutor();
        if (latencyLogFile != null) {
            latencyLog = new LatencyLog(latencyLogFile);
            everySecond.scheduleAtFixedRate(this::collect, 1, 1, TimeUnit.SECONDS);
        }
        if (marks) {
            everySecond.schedule(() -> System.out.println("measuring"), warmup.toNanos(), TimeUnit.NANOSECONDS);
            everySecond.schedule(() -> System.out.println("measured"), warmup.plus(seconds).toNanos(), TimeUnit.NANOSECONDS);
        }
        if (rate > 0) {
            openLoop(started, end);
        } else {
            closedLoop(end);
        }
        drain();
        if (System.nanoTime() < end) {
            // Stopped by a signal or by --messages: the measurement ends with the last acknowledgement.
            end = System.nanoTime();
        }

        everySecond.shutdown();
        everySecond.awaitTermination(10, TimeUnit.SECONDS);
        collect();
        Histogram h = total;
        long unacked = all.stream().mapToLong(Connection::outstanding).sum();
        for (Connection c : all) {
            c.client.disconnect();
        }
        if (subscriber != null) {
            subscriber.disconnect();
        }
        if (ackLog != null) {
            ackLog.close();
        }
        if (latencyLog != null) {
            latencyLog.close();
        }
        print(h, (end - measureFrom) / 1e9, unacked);
        return unacked == 0 && refused.isEmpty() ? 0 : 1;
    }

    private void collect() {
        Histogram second = latencies.getIntervalHistogram();
        total.add(second);
        if (latencyLog != null) {
            latencyLog.write("ingest", second);
        }
    }

    private void print(Histogram h, double measuredSeconds, long unacked) throws Exception {
        ObjectNode out = new ObjectMapper().createObjectNode();
        out.put("acked", h.getTotalCount());
        synchronized (refused) {
            out.put("bad", refused.values().stream().mapToLong(Long::longValue).sum());
            refused.forEach((code, n) -> out.withObject("/refused").put(code, n));
        }
        out.put("unacked", unacked).put("resent", failures.get());
        out.put("seconds", round(measuredSeconds)).put("rate", round(h.getTotalCount() / measuredSeconds));
        out.put("p50_ms", ms(h, 50)).put("p90_ms", ms(h, 90)).put("p99_ms", ms(h, 99)).put("p999_ms", ms(h, 99.9));
        out.put("max_ms", round(h.getMaxValue() / 1e6));
        out.put("total_acked", acked.get()).put("connections", connections).put("window", window).put("target_rate", rate);
        out.put("body_bytes", bodyBytes).put("metrics", metrics);
        if (subscribe) {
            out.put("delivered", delivered.get());
        }
        if (ManagementFactory.getOperatingSystemMXBean() instanceof com.sun.management.OperatingSystemMXBean os) {
            out.put("generator_cpu_seconds", round(os.getProcessCpuTime() / 1e9));
        }
        System.out.println(out);
    }

    private static double ms(Histogram h, double percentile) {
        return round(h.getValueAtPercentile(percentile) / 1e6);
    }

    private static double round(double d) {
        return Math.round(d * 1000) / 1000.0;
    }

    /** Keeps every connection's window full; sleeps until an acknowledgement makes room. */
    private void closedLoop(long end) {
        long published = 0;
        long nextReport = System.nanoTime() + 5_000_000_000L;
        while (!stopping && System.nanoTime() < end && (messages == 0 || published < messages)) {
            boolean idle = true;
            for (Connection c : all) {
                while (c.room() && System.nanoTime() < end && (messages == 0 || published < messages)) {
                    if (!c.resend()) {
                        c.publishNew(System.nanoTime());
                        published++;
                    }
                    idle = false;
                }
            }
            nextReport = report(nextReport);
            if (idle) {
                // An ack that comes between the check and the park leaves its permit: the park returns at once.
                LockSupport.parkNanos(50_000_000L);
            }
        }
    }

    /** Message i is due at start + i / rate, whatever became of those before it. */
    private void openLoop(long start, long end) {
        double nanosEach = 1e9 / rate;
        long due = 0;
        long nextReport = System.nanoTime() + 5_000_000_000L;
        while (!stopping && (messages == 0 || due < messages)) {
            long intended = start + (long) (due * nanosEach);
            if (intended >= end) {
                break;
            }
            long now = System.nanoTime();
            if (intended > now) {
                for (Connection c : all) {
                    c.pump();
                }
                LockSupport.parkNanos(Math.max(intended - now, tick.toNanos()));
                continue;
            }
            Connection next = all.get((int) (due % connections));
            next.waiting.add(intended);
            due++;
            next.pump();
            nextReport = report(nextReport);
        }
    }

    private long report(long nextReport) {
        long now = System.nanoTime();
        if (quiet || now < nextReport) {
            return nextReport;
        }
        System.err.printf("load: acked %d, outstanding %d%s%n", acked.get(), all.stream().mapToLong(Connection::outstanding).sum(),
                now < measureFrom ? " (warm-up)" : "");
        return now + 5_000_000_000L;
    }

    private void drain() {
        long until = System.nanoTime() + drain.toNanos();
        while (System.nanoTime() < until && all.stream().mapToLong(Connection::outstanding).sum() > 0) {
            all.forEach(Connection::pump);
            LockSupport.parkNanos(5_000_000L);
        }
    }

    private Mqtt5AsyncClient subscriber() throws Exception {
        Mqtt5AsyncClient client = mqtt.client(prefix + "-subscriber", MqttOptions.executor(1)).buildAsync();
        client.connectWith().cleanStart(true).send().get(60, TimeUnit.SECONDS);
        client.subscribeWith().topicFilter("devices/+/telemetry").qos(MqttQos.AT_LEAST_ONCE).callback(p -> {
            long now = System.nanoTime();
            if (now >= measureFrom && now < measureTo) {
                delivered.incrementAndGet();
            }
        }).send().get(60, TimeUnit.SECONDS);
        return client;
    }

    /** One device. The sender thread publishes; the network thread completes. */
    private final class Connection {
        final MqttLink client;
        final ArrayDeque<Long> waiting = new ArrayDeque<>();
        private final String deviceId;
        private final String bootId;
        private final String keyPrefix;
        private final String topic;
        private final LoadBody bodies;
        private final ArrayDeque<Message> again = new ArrayDeque<>();
        private final AtomicLong inFlight = new AtomicLong();
        private long seq;
        private long announced;

        Connection(String deviceId, String bootId, MqttClientExecutorConfig executor) {
            this.deviceId = deviceId;
            this.bootId = bootId;
            keyPrefix = deviceId + "/" + bootId + "/";
            topic = "devices/" + deviceId + "/telemetry";
            bodies = new LoadBody(deviceId, bootId, metrics);
            client = MqttLink.publisher(mqtt, deviceId, executor);
        }

        boolean room() {
            return inFlight.get() < window && client.connected();
        }

        long outstanding() {
            synchronized (again) {
                return inFlight.get() + again.size() + waiting.size();
            }
        }

        /** Open loop and drain: what failed first, then what is due. */
        void pump() {
            while (room()) {
                if (!resend()) {
                    Long intended = waiting.poll();
                    if (intended == null) {
                        return;
                    }
                    publishNew(intended);
                }
            }
        }

        boolean resend() {
            Message m;
            synchronized (again) {
                m = again.poll();
            }
            if (m != null) {
                publish(m);
            }
            return m != null;
        }

        void publishNew(long intended) {
            seq++;
            if (ackLog != null && seq > announced) {
                announced += AckLog.SPAN;
                ackLog.sent(deviceId, bootId, announced);
            }
            byte[] body = bodies.compose(seq, System.currentTimeMillis());
            bodyBytes = body.length;
            publish(new Message(seq, intended, body));
        }

        private void publish(Message m) {
            inFlight.incrementAndGet();
            client.publish(topic, m.body).whenComplete((result, e) -> completed(m, result, e));
        }

        private void completed(Message m, Mqtt5PublishResult result, Throwable e) {
            long now = System.nanoTime();
            String refusal = Acks.refusal(result, e);
            if (refusal != null) {
                synchronized (refused) {
                    refused.merge(refusal, 1L, Long::sum);
                }
            } else if (e != null) {
                // The connection went away: the same bytes again on the next one, in order.
                failures.incrementAndGet();
                synchronized (again) {
                    again.add(m);
                }
            } else {
                acked.incrementAndGet();
                if (ackLog != null) {
                    ackLog.acked(keyPrefix, m.seq);
                }
                if (now >= measureFrom && now < measureTo) {
                    latencies.recordValue(Math.max(0, now - m.intended));
                }
            }
            // Waking the sender for each ack would cost more than the message: it is woken when a quarter of a window is free.
            if (inFlight.decrementAndGet() <= window - Math.max(1, window / 4)) {
                LockSupport.unpark(sender);
            }
        }
    }

    private record Message(long seq, long intended, byte[] body) { }
}
