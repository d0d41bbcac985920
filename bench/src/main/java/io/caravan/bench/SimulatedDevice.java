// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayDeque;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.hivemq.client.mqtt.MqttClientExecutorConfig;
import com.hivemq.client.mqtt.MqttClientState;
import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.lifecycle.MqttClientConnectedContext;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5PublishResult;

/**
 * One board and its connection; does what it is told ({@link Actuators}) and says so. A message is numbered when it enters the buffer and leaves it on its promise (PUBACK, or
 * receipt when a broker stands in between); until then it is published again, byte for byte, on the next connection or when
 * its receipt does not come. A full buffer drops the measurement before it gets a number, so that numbers have no holes.
 * Thread-safe: everything is done under the device's own lock, which no callback holds while it waits.
 */
final class SimulatedDevice {
    /** What the device did so far. */
    record Counts(boolean connected, long sent, long acked, long receipted, long refused, long bad, long again, long skipped, int buffered,
            long commands, long executed) { }

    /** So many answers more than measurements fit into the buffer: who is told to do something says what became of it. */
    private static final int ROOM_FOR_ANSWERS = 16;

    private static final class Message {
        final long seq;
        final String key;
        final String topic;
        final boolean retain;
        final byte[] body;
        boolean publishing;
        boolean acked;
        long publishedAt;

        Message(long seq, String key, String topic, boolean retain, byte[] body) {
            this.seq = seq;
            this.key = key;
            this.topic = topic;
            this.retain = retain;
            this.body = body;
        }
    }

    private final ObjectMapper json = new ObjectMapper();
    private final String id;
    private final String bootId = Keys.newBootId();
    private final long bootedAt = System.nanoTime();
    private final Simulator options;
    private final Board board;
    private final boolean noClock;
    private final boolean well;
    private final Ledger ledger;
    private final ScheduledExecutorService clock;
    private final Actuators actuators;
    private final Mqtt5AsyncClient client;
    private final ArrayDeque<Message> buffer = new ArrayDeque<>();
    private long seq;
    private long acked;
    private long receipted;
    private long refused;
    private long bad;
    private long again;
    private long skipped;
    private long commands;
    private long executed;
    private ScheduledFuture<?> sampling;

    /** @param well answers every command as it should */
    SimulatedDevice(String id, Simulator options, long seed, boolean noClock, boolean well, Ledger ledger, MqttClientExecutorConfig executor,
            ScheduledExecutorService clock) {
        this.id = id;
        this.options = options;
        this.board = new Board(seed);
        this.noClock = noClock;
        this.well = well;
        this.ledger = ledger;
        this.clock = clock;
        this.actuators = new Actuators(options.interval.toMillis());
        client = options.mqtt.client(id, executor).addConnectedListener(this::connected).buildAsync();
    }

    void connect() {
        // Each time: the library forgets it with a disconnection that was asked for.
        client.publishes(MqttGlobalPublishFilter.ALL, this::received);
        // A clean session: what was not promised is in our buffer, the library must not send it a second time by itself.
        client.connectWith().cleanStart(true).keepAlive(20).restrictions().receiveMaximum(10).applyRestrictions().send();
    }

    /**
     * Says what it can do and how it is, then measures every so often.
     *
     * @param delayNanos until the first reading
     */
    synchronized void start(long delayNanos) {
        enqueue("capabilities", "capabilities", true, Actuators.capabilities(), true);
        report();
        every(delayNanos);
    }

    private void every(long delayNanos) {
        if (sampling != null) {
            sampling.cancel(false);
        }
        sampling = clock.scheduleAtFixedRate(Simulator.guarded(this::sample), delayNanos, TimeUnit.MILLISECONDS.toNanos(actuators.intervalMs()), TimeUnit.NANOSECONDS);
    }

    void disconnect() {
        client.disconnect();
    }

    /** Measures, now and then notices something, now and then misbehaves. */
    synchronized void sample() {
        telemetry();
        String event = board.event(options.eventProbability);
        if (event != null) {
            enqueue("event", "events", false, event, false);
        }
        if (board.chance(options.badPayloads)) {
            misbehave();
        }
        pump();
    }

    /** As fast as the buffer allows, up to n. */
    synchronized void flood(int n) {
        for (int i = 0; i < n; i++) {
            telemetry();
        }
        pump();
    }

    /** Publishes what is due again. */
    synchronized void pump() {
        if (client.getState() != MqttClientState.CONNECTED) {
            return;
        }
        long now = System.nanoTime();
        // A copy: a publish that fails at once completes in here.
        for (Message m : List.copyOf(buffer)) {
            boolean receiptOverdue = m.acked && now - m.publishedAt > options.receiptTimeout.toNanos();
            if (!m.publishing && (!m.acked || receiptOverdue)) {
                publish(m, now);
            }
        }
    }

    synchronized Counts counts() {
        return new Counts(client.getState() == MqttClientState.CONNECTED, seq, acked, receipted, refused, bad, again, skipped, buffer.size(),
                commands, executed);
    }

    private void telemetry() {
        enqueue("telemetry", "telemetry", false, "\"metrics\":" + board.metrics(), false);
    }

    private void report() {
        enqueue("reported", "reported", false, actuators.reported(), true);
    }

    private void enqueue(String kind, String topic, boolean retain, String content, boolean important) {
        if (buffer.size() >= options.buffer + (important ? ROOM_FOR_ANSWERS : 0)) {
            skipped++;
            return;
        }
        seq++;
        String body = "{\"schema_version\":1,\"device_id\":\"" + id + "\",\"boot_id\":\"" + bootId + "\",\"device_seq\":" + seq
                + ",\"observed_at\":\"" + time() + "\"," + content + "}";
        Message m = new Message(seq, Keys.numbered(id, bootId, seq), "devices/" + id + "/" + topic, retain, body.getBytes(StandardCharsets.UTF_8));
        ledger.sent(m.key, kind, m.body);
        buffer.add(m);
    }

    /** A board without a battery counts from 1970 until it has heard from a time server. */
    private String time() {
        Instant now = noClock ? Instant.EPOCH.plusNanos(System.nanoTime() - bootedAt) : Instant.now();
        return now.truncatedTo(ChronoUnit.MILLIS).toString();
    }

    private void publish(Message m, long now) {
        if (m.publishedAt != 0) {
            again++;
            ledger.again(m.key);
        }
        m.publishing = true;
        m.publishedAt = now;
        send(m.topic, m.retain, m.body).whenComplete((result, e) -> completed(m, result, e));
    }

    private synchronized void completed(Message m, Mqtt5PublishResult result, Throwable e) {
        m.publishing = false;
        int code = Acks.code(result, e);
        if (code < 0) {
            return;   // the connection is gone; pump() publishes it on the next one
        }
        ledger.ack(m.key, code);
        if (code >= 0x80) {
            // Sending it again will not help (docs/contract.md section 2).
            refused++;
            buffer.remove(m);
            return;
        }
        if (!m.acked) {
            m.acked = true;
            acked++;
        }
        if (!options.requireReceipts) {
            buffer.remove(m);
        }
        if (board.chance(options.duplicates)) {
            again++;
            ledger.again(m.key);
            send(m.topic, m.retain, m.body);
        }
    }

    private void misbehave() {
        bad++;
        BadPayload payload = BadPayload.of(board.pick(BadPayload.KINDS), id, bad * 1_000_000 + System.currentTimeMillis() % 1_000_000);
        String badId = id + "/bad/" + bootId + "/" + bad;
        ledger.bad(badId, id, payload.reason(), payload.body());
        send("devices/" + id + "/telemetry", false, payload.body()).whenComplete((result, e) -> {
            int code = Acks.code(result, e);
            if (code >= 0) {
                ledger.ack(badId, code);
            }
        });
    }

    private CompletableFuture<Mqtt5PublishResult> send(String topic, boolean retain, byte[] body) {
        return client.publish(Mqtt5Publish.builder().topic(topic).qos(MqttQos.AT_LEAST_ONCE).retain(retain).contentType("application/json").payload(body).build());
    }

    private void connected(MqttClientConnectedContext context) {
        // No waiting here: this is the network thread, and it has to read the SUBACKs.
        for (String topic : List.of("receipts", "commands", "desired")) {
            client.subscribeWith().topicFilter("devices/" + id + "/" + topic).qos(MqttQos.AT_LEAST_ONCE).send();
        }
    }

    private void received(Mqtt5Publish publish) {
        JsonNode body;
        try {
            body = json.readTree(publish.getPayloadAsBytes());
        } catch (IOException e) {
            throw new UncheckedIOException("message on [" + publish.getTopic() + "] must be JSON", e);
        }
        String topic = publish.getTopic().toString();
        switch (topic.substring(topic.lastIndexOf('/') + 1)) {
            case "commands" -> command(body);
            case "desired" -> desired(body);
            default -> receipt(body);
        }
    }

    private void receipt(JsonNode receipt) {
        String boot = receipt.path("boot_id").asText();
        long upTo = receipt.path("device_seq").asLong();
        ledger.receipt(id, boot, upTo);
        if (boot.equals(bootId)) {
            receipted(upTo);
        }
    }

    private synchronized void receipted(long upTo) {
        receipted = Math.max(receipted, upTo);
        for (Iterator<Message> i = buffer.iterator(); i.hasNext();) {
            if (i.next().seq <= upTo) {
                i.remove();
            }
        }
    }

    // --- doing what it is told ---------------------------------------------------------------------------------------

    /** Noted before the PUBACK, which the library sends when this returns. */
    private synchronized void command(JsonNode command) {
        commands++;
        String commandId = command.path("command_id").asText();
        ledger.command("got", id, commandId, command.path("name").asText());
        Actuators.Done done = actuators.command(command, !noClock && System.currentTimeMillis() > command.path("expires_at_ms").asLong(Long.MAX_VALUE));
        ledger.command(done.what(), id, commandId, command.path("name").asText());
        if (done.what().equals("ran")) {
            executed++;
        }
        answer(done.answer(), done.what().equals("refused") ? null : fault());
        if (done.changed()) {
            changed(command.path("name").asText().equals("sampling"));
        }
        pump();
    }

    private synchronized void desired(JsonNode body) {
        long before = actuators.intervalMs();
        if (actuators.follow(body.path("delta"))) {
            changed(actuators.intervalMs() != before);
            pump();
        }
    }

    private void changed(boolean interval) {
        report();
        if (interval && sampling != null && !sampling.isCancelled() && !clock.isShutdown()) {
            every(TimeUnit.MILLISECONDS.toNanos(actuators.intervalMs()));
        }
    }

    /** At most one. */
    private CommandFault fault() {
        for (CommandFault f : CommandFault.values()) {
            if (!well && board.chance(options.commandFaults.getOrDefault(f, 0.0))) {
                return f;
            }
        }
        return null;
    }

    private void answer(Actuators.Answer a, CommandFault fault) {
        if (fault == null) {
            say(a.commandId(), a.status(), a.result(), a.message());
            return;
        }
        switch (fault) {
            case LATE -> {
                if (board.chance(0.5)) {
                    say(a.commandId(), "received", null, null);
                }
                later(options.late, () -> say(a.commandId(), a.status(), a.result(), a.message()));
            }
            case NEVER -> { }
            case TWICE -> {
                say(a.commandId(), a.status(), a.result(), a.message());
                say(a.commandId(), a.status(), a.result(), a.message());
            }
            case GARBAGE -> enqueue("command-status", "command-status", false, board.chance(0.5) ? "\"done\":\"" + a.commandId() + "\""
                    : "\"command_id\":\"" + a.commandId() + "\",\"status\":\"perhaps\",\"result\":" + Long.MAX_VALUE, true);
            case OTHER_ID -> say("none-" + a.commandId().substring(0, Math.min(40, a.commandId().length())), a.status(), a.result(), a.message());
            case CONTRADICT -> {
                say(a.commandId(), a.status(), a.result(), a.message());
                say(a.commandId(), a.status().equals("succeeded") ? "failed" : "succeeded", null, "no, the other way round");
            }
            case OFFLINE -> {
                client.disconnect();
                say(a.commandId(), a.status(), a.result(), a.message());
                later(options.offline, this::connect);
            }
        }
    }

    private void say(String commandId, String status, JsonNode result, String message) {
        ObjectNode answer = json.createObjectNode().put("command_id", commandId).put("status", status);
        if (result != null) {
            answer.set("result", result);
        }
        if (message != null) {
            answer.put("message", message);
        }
        String text = answer.toString();
        ledger.answer(id, commandId, status);
        enqueue("command-status", "command-status", false, text.substring(1, text.length() - 1), true);
    }

    private void later(Duration delay, Runnable task) {
        if (!clock.isShutdown()) {
            clock.schedule(Simulator.guarded(() -> {
                synchronized (this) {
                    task.run();
                    pump();
                }
            }), delay.toNanos(), TimeUnit.NANOSECONDS);
        } else {
            task.run();
        }
    }
}
