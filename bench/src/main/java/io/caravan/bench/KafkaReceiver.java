// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.parts.KafkaPart;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** A Kafka with a topic of three partitions. */
final class KafkaReceiver implements Receiver {
    private static final String TOPIC = "telemetry";
    private static final int PARTITIONS = 3;
    private static final int IN_MEMORY = 100_000;

    private final KafkaPart kafka;
    private boolean dead;

    KafkaReceiver(Path dir) {
        kafka = new KafkaPart.Builder().folder(dir).start();
        kafka.createTopic(TOPIC, PARTITIONS, Map.of());
    }

    @Override
    public ObjectNode address() {
        return new ObjectMapper().createObjectNode().put("brokers", kafka.brokers()).put("topic", TOPIC).put("pid", kafka.pid());
    }

    @Override
    public void trouble(Trouble trouble) {
        switch (trouble) {
            case NONE -> {
                if (dead) {
                    kafka.restart();
                } else {
                    kafka.resume();
                }
            }
            case HANG -> kafka.pause();
            case DEAD -> kafka.kill();
            default -> throw new IllegalArgumentException("kafka cannot be told [" + trouble + "]");
        }
        dead = trouble == Trouble.DEAD;
    }

    /** With the settings of sink-kafka, and without its pause at the end of each batch. */
    @Override
    public ObjectNode bare(Path db, int rows) throws Exception {
        List<SinkLine> lines = SinkLine.first(db, Math.min(rows, IN_MEMORY));
        String topic = "bare";
        kafka.createTopic(topic, PARTITIONS, Map.of());
        Map<String, Object> settings = Map.of("bootstrap.servers", kafka.brokers(), "acks", "all", "enable.idempotence", true,
                "compression.type", "lz4", "batch.size", 131_072, "linger.ms", 20);
        double seconds;
        try (KafkaProducer<String, byte[]> producer = new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer())) {
            send(producer, topic, lines, lines.size());
            long begun = System.nanoTime();
            send(producer, topic, lines, rows);
            seconds = (System.nanoTime() - begun) / 1e9;
        }
        kafka.deleteTopic(topic);
        return new ObjectMapper().createObjectNode().put("rows", rows).put("seconds", seconds).put("rate", Math.round(rows / seconds));
    }

    private static void send(KafkaProducer<String, byte[]> producer, String topic, List<SinkLine> lines, int rows) throws Exception {
        AtomicReference<Exception> failure = new AtomicReference<>();
        for (int i = 0; i < rows; i++) {
            SinkLine line = lines.get(i % lines.size());
            List<Header> headers = List.of(header("message_key", line.messageKey()), header("kind", line.kind()),
                    header("device_id", line.deviceId()), header("lane", line.lane()));
            producer.send(new ProducerRecord<>(topic, null, null, line.deviceId(), line.json(), headers), (sent, e) -> {
                if (e != null) {
                    failure.set(e);
                }
            });
        }
        producer.flush();
        if (failure.get() != null) {
            throw failure.get();
        }
    }

    private static Header header(String name, String value) {
        return new RecordHeader(name, value.getBytes(UTF_8));
    }

    @Override
    public void keys(Consumer<String> each) {
        kafka.forEach(TOPIC, record -> each.accept(new String(record.headers().lastHeader("message_key").value(), UTF_8)));
    }

    @Override
    public void close() {
        kafka.close();
    }
}
