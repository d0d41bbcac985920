// SPDX-License-Identifier: Apache-2.0
package io.caravan.kafka;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.caravan.wal.Batch;
import io.caravan.wal.Row;
import io.caravan.wal.SinkException;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.Metric;
import org.apache.kafka.common.config.ConfigException;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Sends the batches of one sink to one Kafka topic: a bean step with the method {@code send}. Key of a record is the
 * device id (with its gateway's before it, if so set), its value the row's JSON line, its headers {@code message_key},
 * {@code kind}, {@code device_id}, {@code lane} and, if the row has one, {@code traceparent}; {@code gateway_id} with such a
 * key. The producer is idempotent and asks for {@code acks=all}.
 *
 * <p>Why not camel-kafka, which serves other routes (docs/adr/0006-kafka-batch-producer.md): with a list as body it
 * waits {@code maxBlockMs} for each record of a batch in turn when the topic or the broker is not there, does not say
 * which records of the list were refused, and keeps a producer that can never send again after an authentication error.
 *
 * <p>Connects with the first batch. Thread-safe; batches are sent one at a time, so that a device's rows stay in order.
 */
public final class KafkaBatchProducer extends KafkaSettings implements AutoCloseable {
    /** A box without a battery starts in 1970, or in the year its firmware was made. */
    private static final long YEAR_2020_MS = 1_577_836_800_000L;
    private static final Logger LOG = LoggerFactory.getLogger(KafkaBatchProducer.class);

    private boolean gatewayInKey;
    private KafkaProducer<String, byte[]> producer;
    private Metric splits;
    private boolean closed;

    /** Does nothing until the first batch. */
    public KafkaBatchProducer() {
        properties.put("acks", "all");
        properties.put("enable.idempotence", "true");
        // A record may be as long as the broker likes: what it refuses is known by record. The template has its own limit.
        properties.put("max.request.size", "104857600");
    }

    /** @param gatewayInKey the key is {@code <gateway id>/<device id>}: for a topic with rows of several gateways */
    public void setGatewayInKey(boolean gatewayInKey) {
        this.gatewayInKey = gatewayInKey;
    }

    /** @param compression none, gzip or lz4 */
    public void setCompression(String compression) {
        properties.put("compression.type", compression);
    }

    /** @param bytes of records for one partition that go to the broker together, before compression */
    public void setRequestBytes(int bytes) {
        properties.put("batch.size", bytes);
    }

    /** @param ms a record waits for others of its partition; the end of a batch of rows ends the waiting, so it delays nothing */
    public void setLingerMs(int ms) {
        properties.put("linger.ms", ms);
    }

    /** @param ms for the cluster to be reached and to say where the topic is */
    public void setMaxBlockMs(long ms) {
        properties.put("max.block.ms", ms);
    }

    /** @param ms for a record to be acknowledged, with all of the client's own retries */
    public void setDeliveryTimeoutMs(int ms) {
        properties.put("delivery.timeout.ms", ms);
    }

    /**
     * Sends all rows of a batch, in order, and returns when all are acknowledged by all in-sync replicas.
     *
     * @throws SinkException all rows but those named are acknowledged, and Kafka will never take those
     * @throws Exception what Kafka says of the first row that was not acknowledged; some rows may be in the topic, none will
     *     get there later
     */
    public void send(Batch batch) throws Exception {
        publish(batch);
    }

    /**
     * As {@link #send}.
     *
     * @return of each partition that took rows, the offset behind the last one; Long.MAX_VALUE: it has them, and did not say where
     * @throws Exception as {@link #send}
     */
    public synchronized Map<Integer, Long> publish(Batch batch) throws Exception {
        long now = System.currentTimeMillis();
        if (now < YEAR_2020_MS) {
            throw new SinkException(SinkException.Kind.CONFIGURATION, "misconfigured", "this machine's clock says [" + Instant.ofEpochMilli(now)
                    + "]: Kafka would take records of that time for older than its retention, and delete them; set the clock", 0, null);
        }
        boolean settled = false;
        double splitsBefore = splits();
        try {
            KafkaProducer<String, byte[]> kafka = producer();
            // Once per batch, and from memory as a rule: a topic that is not there would be waited for with every record.
            kafka.partitionsFor(topic);
            Sending sending = new Sending(batch.size());
            for (Row row : batch) {
                if (sending.broken == null) {
                    kafka.send(record(row), (sent, error) -> sending.done(row, sent, error));
                } else {
                    sending.done(row, null, null);
                }
            }
            kafka.flush();
            // Flush is not enough: what the broker finds too large is split and sent again, and flush does not wait for that.
            sending.open.await();
            settled = true;
            sending.judge();
            return sending.ends;
        } catch (SinkException e) {
            throw e;
        } catch (Exception e) {
            Exception meant = splits() > splitsBefore ? new SinkException(SinkException.Kind.CONFIGURATION, "misconfigured", "topic [" + topic + "] takes less at once"
                    + " than batch.size [" + properties.get("batch.size") + "]: make it smaller than the topic's max.message.bytes", 0, e) : meant(e);
            // Settled and worth trying again: the same producer can. Else something of the batch may still be waiting to
            // be sent, and would arrive behind its own repetition; or the producer is done for, as after an
            // authentication error.
            if (!settled || meant != e || !(e instanceof RetriableException)) {
                drop();
            }
            throw meant;
        }
    }

    @Override
    public synchronized void close() {
        closed = true;
        drop();
    }

    /** What became of the rows of a batch; written by Kafka's thread, read when all have been judged. */
    private static final class Sending {
        private final CountDownLatch open;
        private final Map<Long, String> refused = Collections.synchronizedMap(new TreeMap<>());
        private final Map<Integer, Long> ends = new ConcurrentHashMap<>();
        private volatile Exception refusal;
        private volatile Exception broken;

        Sending(int rows) {
            open = new CountDownLatch(rows);
        }

        void done(Row row, RecordMetadata sent, Exception error) {
            if (error != null) {
                failed(row, error);
            } else if (sent != null) {
                ends.merge(sent.partition(), sent.hasOffset() ? sent.offset() + 1 : Long.MAX_VALUE, Math::max);
            }
            open.countDown();
        }

        private void failed(Row row, Exception error) {
            if (error instanceof RecordTooLargeException || error instanceof SerializationException) {
                refused.put(row.seq(), String.valueOf(error.getMessage()));
                if (refusal == null) {
                    refusal = error;
                }
            } else if (broken == null) {
                broken = error;
            }
        }

        void judge() throws Exception {
            if (broken != null) {
                throw broken;
            }
            if (!refused.isEmpty()) {
                throw new SinkException(refusal instanceof RecordTooLargeException ? "too_large" : "refused", refused);
            }
        }
    }

    private ProducerRecord<String, byte[]> record(Row row) {
        List<Header> headers = new ArrayList<>(5);
        headers.add(new RecordHeader("message_key", row.messageKey().getBytes(UTF_8)));
        headers.add(new RecordHeader("kind", row.kind().getBytes(UTF_8)));
        headers.add(new RecordHeader("device_id", row.deviceId().getBytes(UTF_8)));
        headers.add(new RecordHeader("lane", row.lane().getBytes(UTF_8)));
        if (gatewayInKey) {
            headers.add(new RecordHeader("gateway_id", row.gatewayId().getBytes(UTF_8)));
        }
        if (row.traceContext() != null) {
            headers.add(new RecordHeader("traceparent", row.traceContext().getBytes(UTF_8)));
        }
        // The time of a record is that of sending: with the time of the message, a backlog would be older than the topic's
        // retention and gone as soon as it arrived.
        return new ProducerRecord<>(topic, null, null, gatewayInKey ? row.gatewayId() + "/" + row.deviceId() : row.deviceId(), row.json(), headers);
    }

    private KafkaProducer<String, byte[]> producer() throws IOException {
        if (closed) {
            throw new IllegalStateException("The producer of topic [" + topic + "] is closed: its route was stopped");
        }
        if (producer == null) {
            Thread thread = Thread.currentThread();
            ClassLoader before = thread.getContextClassLoader();
            // Kafka loads login modules and its own classes by name through the context class loader, and its thread keeps it.
            thread.setContextClassLoader(KafkaProducer.class.getClassLoader());
            try {
                producer = new KafkaProducer<>(configuration(), new StringSerializer(), new ByteArraySerializer());
            } finally {
                thread.setContextClassLoader(before);
            }
            splits = producer.metrics().values().stream().filter(m -> m.metricName().name().equals("batch-split-total")).findFirst().orElse(null);
        }
        return producer;
    }

    /** How often the broker found a request too large: the client cuts it into pieces of batch.size, again and again. */
    private double splits() {
        return splits == null ? 0 : (Double) splits.metricValue();
    }

    /** Ends the producer without waiting: what it still holds is not sent. */
    private void drop() {
        if (producer == null) {
            return;
        }
        try {
            producer.close(Duration.ZERO);
        } catch (KafkaException e) {
            // Interrupted: closing goes on without us, and what it holds is not sent.
            LOG.debug("closing the producer of topic [{}]", topic, e);
        }
        producer = null;
        splits = null;
    }

    /** A name that cannot be resolved now may be later; Kafka calls that a mistake in the configuration. */
    private static Exception meant(Exception e) {
        for (Throwable cause = e; cause != null; cause = cause.getCause()) {
            if (cause instanceof ConfigException && String.valueOf(cause.getMessage()).startsWith("No resolvable bootstrap urls")) {
                return new SinkException(SinkException.Kind.TRANSIENT, "unavailable", cause.getMessage(), 0, e);
            }
            if (cause instanceof InvalidTimestampException) {
                // The time is that of sending, so no record is at fault: with a clock that is right they are taken.
                return new SinkException(SinkException.Kind.CONFIGURATION, "misconfigured", cause.getMessage() + ": that is when it was sent, so this machine's clock"
                        + " or the broker's is wrong, or the topic's message.timestamp.after.max.ms or before.max.ms too narrow", 0, e);
            }
        }
        return e;
    }
}
