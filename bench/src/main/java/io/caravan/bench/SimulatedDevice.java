// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayDeque;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CompletableFuture;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.hivemq.client.mqtt.MqttClientExecutorConfig;
import com.hivemq.client.mqtt.MqttClientState;
import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.lifecycle.MqttClientConnectedContext;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5PublishResult;

/**
 * One board and its connection. A message is numbered when it enters the buffer and leaves it on its promise (PUBACK, or
 * receipt when a broker stands in between); until then it is published again, byte for byte, on the next connection or when
 * its receipt does not come. A full buffer drops the measurement before it gets a number, so that numbers have no holes.
 * Thread-safe: everything is done under the device's own lock, which no callback holds while it waits.
 */
final class SimulatedDevice {
    /** What the device did so far. */
    record Counts(boolean connected, long sent, long acked, long receipted, long refused, long bad, long again, long skipped, int buffered) { }

    private static final class Message {
        final long seq;
        final String key;
        final String topic;
        final byte[] body;
        boolean publishing;
        boolean acked;
        long publishedAt;

        Message(long seq, String key, String topic, byte[] body) {
            this.seq = seq;
            this.key = key;
            this.topic = topic;
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
    private final Ledger ledger;
    private final Mqtt5AsyncClient client;
    private final ArrayDeque<Message> buffer = new ArrayDeque<>();
    private long seq;
    private long acked;
    private long receipted;
    private long refused;
    private long bad;
    private long again;
    private long skipped;

    SimulatedDevice(String id, Simulator options, long seed, boolean noClock, Ledger ledger, MqttClientExecutorConfig executor) {
        this.id = id;
        this.options = options;
        this.board = new Board(seed);
        this.noClock = noClock;
        this.ledger = ledger;
        client = options.mqtt.client(id, executor).addConnectedListener(this::connected).buildAsync();
    }

    void connect() {
        // A clean session: what was not promised is in our buffer, the library must not send it a second time by itself.
        client.connectWith().cleanStart(true).keepAlive(20).restrictions().receiveMaximum(10).applyRestrictions().send();
        client.publishes(MqttGlobalPublishFilter.ALL, this::receipt);
    }

    void disconnect() {
        client.disconnect();
    }

    /** Measures, now and then notices something, now and then misbehaves. */
    synchronized void sample() {
        telemetry();
        String event = board.event(options.eventProbability);
        if (event != null) {
            enqueue("event", "events", event);
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
        return new Counts(client.getState() == MqttClientState.CONNECTED, seq, acked, receipted, refused, bad, again, skipped, buffer.size());
    }

    private void telemetry() {
        enqueue("telemetry", "telemetry", "\"metrics\":" + board.metrics());
    }

    private void enqueue(String kind, String topic, String content) {
        if (buffer.size() >= options.buffer) {
            skipped++;
            return;
        }
        seq++;
        String body = "{\"schema_version\":1,\"device_id\":\"" + id + "\",\"boot_id\":\"" + bootId + "\",\"device_seq\":" + seq
                + ",\"observed_at\":\"" + time() + "\"," + content + "}";
        Message m = new Message(seq, Keys.numbered(id, bootId, seq), "devices/" + id + "/" + topic, body.getBytes(StandardCharsets.UTF_8));
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
        send(m.topic, m.body).whenComplete((result, e) -> completed(m, result, e));
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
            send(m.topic, m.body);
        }
    }

    private void misbehave() {
        bad++;
        BadPayload payload = BadPayload.of(board.pick(BadPayload.KINDS), id, bad * 1_000_000 + System.currentTimeMillis() % 1_000_000);
        String badId = id + "/bad/" + bootId + "/" + bad;
        ledger.bad(badId, id, payload.reason(), payload.body());
        send("devices/" + id + "/telemetry", payload.body()).whenComplete((result, e) -> {
            int code = Acks.code(result, e);
            if (code >= 0) {
                ledger.ack(badId, code);
            }
        });
    }

    private CompletableFuture<Mqtt5PublishResult> send(String topic, byte[] body) {
        return client.publish(Mqtt5Publish.builder().topic(topic).qos(MqttQos.AT_LEAST_ONCE).contentType("application/json").payload(body).build());
    }

    private void connected(MqttClientConnectedContext context) {
        // No waiting here: this is the network thread, and it has to read the SUBACK.
        client.subscribeWith().topicFilter("devices/" + id + "/receipts").qos(MqttQos.AT_LEAST_ONCE).send();
    }

    private void receipt(Mqtt5Publish publish) {
        JsonNode receipt;
        try {
            receipt = json.readTree(publish.getPayloadAsBytes());
        } catch (IOException e) {
            throw new UncheckedIOException("receipt on [" + publish.getTopic() + "] must be JSON", e);
        }
        String boot = receipt.path("boot_id").asText();
        long upTo = receipt.path("device_seq").asLong();
        ledger.receipt(id, boot, upTo);
        if (boot.equals(bootId)) {
            received(upTo);
        }
    }

    private synchronized void received(long upTo) {
        receipted = Math.max(receipted, upTo);
        for (Iterator<Message> i = buffer.iterator(); i.hasNext();) {
            if (i.next().seq <= upTo) {
                i.remove();
            }
        }
    }
}
