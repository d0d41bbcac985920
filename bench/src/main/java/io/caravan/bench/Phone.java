// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.hivemq.client.mqtt.MqttClientExecutorConfig;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.lang.management.ManagementFactory;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.Recorder;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * Commands from phones to devices and back: posts them to the cloud's API, has devices that carry them out and answer, and waits
 * in the cloud's stream until each is over. In open loop time runs from when a command was due. With {@code --bare} phone and
 * devices talk over one broker and nothing else: what the way itself takes.
 */
@Command(name = "phone", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Commands through the cloud to devices and back; one JSON object with the result on stdout.")
final class Phone implements Callable<Integer> {
    private static final String COMMAND = "echo";
    private static final String CAPABILITIES = "{\"schema_version\":1,\"version\":\"1\",\"commands\":{\"" + COMMAND + "\":{\"arguments\":{\"type\":\"object\","
            + "\"properties\":{\"n\":{\"type\":\"integer\",\"minimum\":0}},\"additionalProperties\":false},\"idempotent\":false,\"timeout_ms\":30000}}}";

    @Mixin MqttOptions mqtt;

    @Option(names = "--cloud", paramLabel = "URL", description = "the cloud's HTTP, http://host:port")
    URI cloud;

    @Option(names = "--gateway", defaultValue = "bench", description = "gateway id (${DEFAULT-VALUE})")
    String gateway;

    @Option(names = "--bare", description = "no cloud and no gateway: the phone is one more client of the devices' broker")
    boolean bare;

    @Option(names = "--devices", defaultValue = "20", description = "devices phone-1, phone-2, ... (${DEFAULT-VALUE})")
    int devices;

    @Option(names = "--rate", defaultValue = "0", description = "commands per second; 0: one after the other, the next when the last is over")
    double rate;

    @Option(names = "--connections", defaultValue = "32", description = "HTTP connections of the phones, with --rate (${DEFAULT-VALUE})")
    int connections;

    @Option(names = "--ttl", defaultValue = "60s", description = "how long a command is good for (${DEFAULT-VALUE})")
    Duration ttl;

    @Option(names = "--warmup", defaultValue = "0s", description = "sent but not measured (${DEFAULT-VALUE})")
    Duration warmup;

    @Option(names = "--seconds", defaultValue = "20s", description = "measure this long (${DEFAULT-VALUE})")
    Duration seconds;

    @Option(names = "--drain", defaultValue = "60s", description = "wait so long for the end of what was sent (${DEFAULT-VALUE})")
    Duration drain;

    private static final ObjectMapper JSON = new ObjectMapper();
    /** Four of five events, which nobody here waits for: not worth parsing. */
    private static final Pattern UNDER_WAY = Pattern.compile("\"status\":\"(ACCEPTED|QUEUED|SENT|DELIVERED)\"");
    private static final long MAX_NS = TimeUnit.MINUTES.toNanos(10);

    private final Recorder accepted = new Recorder(MAX_NS, 3);
    /** Of whatever was due when: what the cloud keeps up. */
    private final AtomicLong acceptedMeanwhile = new AtomicLong();
    private final Recorder roundTrips = new Recorder(MAX_NS, 3);
    private final Map<String, Pending> pending = new ConcurrentHashMap<>();
    private final Map<String, Long> answers = new TreeMap<>();
    private final Map<String, Long> ends = new TreeMap<>();
    private final Map<String, Integer> runs = new ConcurrentHashMap<>();
    private final AtomicLong twice = new AtomicLong();
    private final BlockingQueue<Pending> due = new LinkedBlockingQueue<>();
    private final List<Mqtt5AsyncClient> clients = new ArrayList<>();
    private Mqtt5AsyncClient phone;
    private volatile long measureFrom = Long.MAX_VALUE;
    private volatile long measureTo = Long.MAX_VALUE;
    private volatile boolean over;
    private long made;

    private static final class Pending {
        final String id;
        final String device;
        final long intended;
        volatile boolean done;

        Pending(String id, String device, long intended) {
            this.id = id;
            this.device = device;
            this.intended = intended;
        }
    }

    @Override
    public Integer call() throws Exception {
        if (bare == (cloud != null)) {
            throw new IllegalArgumentException("either --cloud URL or --bare must be given");
        }
        MqttClientExecutorConfig executor = MqttOptions.executor(1);
        for (int i = 1; i <= devices; i++) {
            clients.add(device("phone-" + i, executor));
        }
        if (bare) {
            phone = mqtt.client("phone", executor).buildAsync();
            phone.connectWith().cleanStart(true).send().get(60, TimeUnit.SECONDS);
            phone.subscribeWith().topicFilter("devices/+/command-status").qos(MqttQos.AT_LEAST_ONCE)
                    .callback(p -> bareAnswer(p.getPayloadAsBytes())).send().get(60, TimeUnit.SECONDS);
        } else {
            Thread stream = new Thread(this::stream, "stream");
            stream.setDaemon(true);
            stream.start();
        }
        List<Thread> posters = new ArrayList<>();
        for (int i = 0; i < (bare ? 1 : connections); i++) {
            Thread poster = new Thread(this::post, "phone-" + i);
            poster.setDaemon(true);
            poster.start();
            posters.add(poster);
        }
        if (!bare) {
            awaitDevices();
        }
        long started = System.nanoTime();
        measureFrom = started + warmup.toNanos();
        measureTo = measureFrom + seconds.toNanos();
        if (rate > 0) {
            openLoop(started);
        } else {
            oneByOne();
        }
        long until = System.nanoTime() + drain.toNanos();
        while (System.nanoTime() < until && !pending.isEmpty()) {
            LockSupport.parkNanos(5_000_000L);
        }
        over = true;
        print();
        clients.forEach(Mqtt5AsyncClient::disconnect);
        if (phone != null) {
            phone.disconnect();
        }
        boolean good = pending.isEmpty() && twice.get() == 0;
        synchronized (answers) {
            // 429: too many are open, nothing was kept and the phone was told so. How many is in the result.
            good &= answers.keySet().stream().allMatch(answer -> answer.equals("202") || answer.equals("429")) || bare;
        }
        return good ? 0 : 1;
    }

    // ---- devices

    private Mqtt5AsyncClient device(String id, MqttClientExecutorConfig executor) throws Exception {
        Mqtt5AsyncClient client = mqtt.client(id, executor).buildAsync();
        client.connectWith().cleanStart(true).send().get(60, TimeUnit.SECONDS);
        client.publishWith().topic("devices/" + id + "/capabilities").qos(MqttQos.AT_LEAST_ONCE).payload(CAPABILITIES.getBytes(StandardCharsets.UTF_8))
                .send().get(60, TimeUnit.SECONDS);
        client.subscribeWith().topicFilter("devices/" + id + "/commands").qos(MqttQos.AT_LEAST_ONCE)
                .callback(p -> carryOut(client, id, p)).send().get(60, TimeUnit.SECONDS);
        return client;
    }

    private void carryOut(Mqtt5AsyncClient client, String device, Mqtt5Publish publish) {
        String command;
        try {
            command = JSON.readTree(publish.getPayloadAsBytes()).path("command_id").asText();
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
        if (runs.merge(command, 1, Integer::sum) > 1) {
            twice.incrementAndGet();
        }
        client.publish(Mqtt5Publish.builder().topic("devices/" + device + "/command-status").qos(MqttQos.AT_LEAST_ONCE)
                .payload(("{\"command_id\":\"" + command + "\",\"status\":\"succeeded\"}").getBytes(StandardCharsets.UTF_8)).build());
    }

    /** Until each device's declaration is in force: a command of each has succeeded. */
    private void awaitDevices() throws InterruptedException {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        for (int i = 1; i <= devices; i++) {
            while (true) {
                if (System.nanoTime() > until) {
                    throw new IllegalStateException("device phone-" + i + " does not succeed with a command within a minute: answers " + answers + ", ends " + ends);
                }
                Pending probe = send("phone-" + i, System.nanoTime());
                long patience = Math.min(until, System.nanoTime() + TimeUnit.SECONDS.toNanos(5));
                while (!probe.done && System.nanoTime() < patience) {
                    LockSupport.parkNanos(1_000_000L);
                }
                if (probe.done && runs.containsKey(probe.id)) {
                    break;
                }
                pending.remove(probe.id);
                Thread.sleep(50);
            }
        }
        synchronized (answers) {
            answers.clear();
        }
        synchronized (ends) {
            ends.clear();
        }
    }

    // ---- phones

    private Pending send(String device, long intended) {
        Pending command = new Pending("p" + Long.toString(System.currentTimeMillis(), 36) + "-" + made++, device, intended);
        pending.put(command.id, command);
        due.add(command);
        return command;
    }

    private void oneByOne() {
        for (int i = 0; System.nanoTime() < measureTo; i++) {
            Pending command = send("phone-" + (1 + i % devices), System.nanoTime());
            long until = System.nanoTime() + drain.toNanos();
            while (!command.done) {
                if (System.nanoTime() > until) {
                    return;
                }
                LockSupport.parkNanos(20_000L);
            }
        }
    }

    private void openLoop(long start) {
        double each = 1e9 / rate;
        for (long n = 0; ; n++) {
            long intended = start + (long) (n * each);
            if (intended >= measureTo) {
                return;
            }
            for (long now = System.nanoTime(); now < intended; now = System.nanoTime()) {
                LockSupport.parkNanos(intended - now);
            }
            send("phone-" + (1 + n % devices), intended);
        }
    }

    /** One connection of phones, kept alive. The client of the JDK would take more of the cores than what is measured. */
    private void post() {
        Wire wire = null;
        while (!over) {
            Pending command;
            try {
                command = due.poll(100, TimeUnit.MILLISECONDS);
            } catch (InterruptedException e) {
                return;
            }
            if (command == null) {
                continue;
            }
            String body = "{\"id\":\"" + command.id + "\",\"name\":\"" + COMMAND + "\",\"arguments\":{\"n\":1},\"ttl_ms\":" + ttl.toMillis() + "}";
            if (bare) {
                phone.publish(Mqtt5Publish.builder().topic("devices/" + command.device + "/commands").qos(MqttQos.AT_LEAST_ONCE)
                        .payload(("{\"command_id\":\"" + command.id + "\"," + body.substring(1)).getBytes(StandardCharsets.UTF_8)).build());
                continue;
            }
            String answer;
            try {
                if (wire == null) {
                    wire = new Wire(cloud);
                }
                answer = String.valueOf(wire.post("/api/v1/devices/" + gateway + "/" + command.device + "/commands", body));
            } catch (IOException e) {
                wire = null;
                answer = e.getClass().getSimpleName();
            }
            long now = System.nanoTime();
            if (answer.equals("202") && now >= measureFrom && now < measureTo) {
                acceptedMeanwhile.incrementAndGet();
            }
            if (answer.equals("202") && command.intended >= measureFrom && command.intended < measureTo) {
                accepted.recordValue(Math.max(0, now - command.intended));
            }
            synchronized (answers) {
                answers.merge(answer, 1L, Long::sum);
            }
            if (!answer.equals("202")) {
                end(command, "not accepted");
            }
        }
    }

    private void stream() {
        HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        String last = null;
        while (!over) {
            HttpRequest.Builder request = HttpRequest.newBuilder(cloud.resolve("/api/v1/commands/stream?after=0&gateway_id=" + gateway))
                    .header("Accept", "text/event-stream");
            if (last != null) {
                request.header("Last-Event-ID", last);
            }
            try {
                HttpResponse<Stream<String>> response = http.send(request.build(), HttpResponse.BodyHandlers.ofLines());
                try (Stream<String> lines = response.body()) {
                    for (var i = lines.iterator(); i.hasNext();) {
                        String line = i.next();
                        if (line.startsWith("id:")) {
                            last = line.substring(3).trim();
                        } else if (line.startsWith("data:") && !UNDER_WAY.matcher(line).find()) {
                            event(JSON.readTree(line.substring(5)));
                        }
                    }
                }
            } catch (IOException | java.io.UncheckedIOException e) {
                LockSupport.parkNanos(100_000_000L);
            } catch (InterruptedException e) {
                return;
            }
        }
    }

    private void event(JsonNode event) {
        Pending command = pending.get(event.path("command_id").asText());
        if (command == null) {
            return;
        }
        switch (event.path("status").asText()) {
            case "SUCCEEDED", "FAILED", "REJECTED", "EXPIRED", "CANCELLED", "INDETERMINATE" ->
                end(command, event.path("status").asText() + (event.path("reason").isTextual() ? " " + event.path("reason").asText() : ""));
            default -> { }
        }
    }

    private void bareAnswer(byte[] body) {
        try {
            Pending command = pending.get(JSON.readTree(body).path("command_id").asText());
            if (command != null) {
                end(command, "SUCCEEDED");
            }
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
    }

    private void end(Pending command, String how) {
        if (pending.remove(command.id) == null) {
            return;
        }
        long now = System.nanoTime();
        if (how.equals("SUCCEEDED") && command.intended >= measureFrom && command.intended < measureTo) {
            roundTrips.recordValue(Math.max(0, now - command.intended));
        }
        synchronized (ends) {
            ends.merge(how, 1L, Long::sum);
        }
        command.done = true;
    }

    private void print() {
        Histogram a = accepted.getIntervalHistogram();
        Histogram r = roundTrips.getIntervalHistogram();
        ObjectNode out = JSON.createObjectNode();
        out.put("accepted", a.getTotalCount()).put("accepted_rate", round(acceptedMeanwhile.get() / (seconds.toNanos() / 1e9)));
        out.put("accept_p50_ms", ms(a, 50)).put("accept_p99_ms", ms(a, 99)).put("accept_max_ms", round(a.getMaxValue() / 1e6));
        out.put("succeeded", r.getTotalCount()).put("rate", round(r.getTotalCount() / (seconds.toNanos() / 1e9)));
        out.put("p50_ms", ms(r, 50)).put("p90_ms", ms(r, 90)).put("p99_ms", ms(r, 99)).put("max_ms", round(r.getMaxValue() / 1e6));
        out.put("open", pending.size()).put("twice", twice.get()).put("target_rate", rate).put("devices", devices);
        synchronized (answers) {
            answers.forEach((k, v) -> out.withObject("/answers").put(k, v));
        }
        synchronized (ends) {
            ends.forEach((k, v) -> out.withObject("/ends").put(k, v));
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

    /** As much HTTP as a POST needs. */
    private static final class Wire {
        private final Socket socket;
        private final InputStream in;
        private final String host;

        Wire(URI uri) throws IOException {
            socket = new Socket(uri.getHost(), uri.getPort());
            socket.setTcpNoDelay(true);
            socket.setSoTimeout(60_000);
            in = new BufferedInputStream(socket.getInputStream(), 8192);
            host = uri.getAuthority();
        }

        int post(String path, String json) throws IOException {
            byte[] body = json.getBytes(StandardCharsets.UTF_8);
            byte[] head = ("POST " + path + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: application/json\r\nContent-Length: " + body.length + "\r\n\r\n")
                    .getBytes(StandardCharsets.US_ASCII);
            byte[] all = java.util.Arrays.copyOf(head, head.length + body.length);
            System.arraycopy(body, 0, all, head.length, body.length);
            socket.getOutputStream().write(all);
            String status = line();
            int length = 0;
            boolean chunked = false;
            boolean close = false;
            for (String header = line(); !header.isEmpty(); header = line()) {
                String lower = header.toLowerCase(java.util.Locale.ROOT);
                if (lower.startsWith("content-length:")) {
                    length = Integer.parseInt(lower.substring(15).trim());
                } else if (lower.startsWith("transfer-encoding:")) {
                    chunked = true;
                } else if (lower.startsWith("connection:") && lower.contains("close")) {
                    close = true;
                }
            }
            if (chunked) {
                for (int n = Integer.parseInt(line(), 16); n > 0; n = Integer.parseInt(line(), 16)) {
                    in.skipNBytes(n);
                    line();
                }
                line();
            } else {
                in.skipNBytes(length);
            }
            int code = Integer.parseInt(status.split(" ")[1]);
            if (close) {
                socket.close();
                if (code == 202) {
                    throw new IOException("the cloud closes the connection after each request");
                }
            }
            return code;
        }

        private String line() throws IOException {
            StringBuilder line = new StringBuilder();
            for (int c = in.read(); c != '\n'; c = in.read()) {
                if (c < 0) {
                    throw new EOFException("the cloud closed the connection");
                }
                if (c != '\r') {
                    line.append((char) c);
                }
            }
            return line.toString();
        }
    }
}
