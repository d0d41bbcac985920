// SPDX-License-Identifier: Apache-2.0
package io.caravan.kafka;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.caravan.wal.Batch;
import io.caravan.wal.SinkException;
import java.io.IOException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLNonTransientConnectionException;
import java.sql.SQLRecoverableException;
import java.sql.SQLTransientException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Deque;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.sql.DataSource;
import org.apache.camel.Exchange;
import org.apache.camel.util.json.DeserializationException;
import org.apache.camel.util.json.JsonObject;
import org.apache.camel.util.json.Jsoner;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.InvalidOffsetException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Bean {@code kafkaBus} of route {@code bus-kafka}: the topic that carries the inbox's rows to the store, both ends of it.
 *
 * <p>Guarantee: {@link #poll} gives the records of each partition in order and none twice as long as the caller writes
 * {@code offsets} in the transaction that applies the rows; the store says where reading goes on, so neither a rebalance nor
 * a crash between COMMIT and the group's commit repeats or loses one. The group's offsets follow after COMMIT, for whoever
 * watches the lag. What one bad record does ends with that record: a batch the store refuses is halved.
 *
 * <p>Why not camel-kafka's consumer (docs/adr/0012-bus-offsets-in-the-store.md): with {@code batching} in 4.14 a batch that
 * failed is logged and passed over, and one commit covers one partition of many.
 *
 * <p>Connects with the first use, and anew after every failure of Kafka. Thread-safe: one call at a time.
 */
public final class KafkaBus extends KafkaSettings implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(KafkaBus.class);
    private static final long IDENTITY_MS = 5_000;
    private static final int ADMIN_S = 5;
    private static final int ERROR_CHARS = 500;
    /** So often is tried what is neither plainly the store's state nor plainly the record's fault. */
    private static final int UNCLEAR_MAX = 5;
    /** Of a row: what the store cannot do without. */
    private static final List<String> TEXTS = List.of("gateway_id", "device_id", "message_key", "kind");
    private static final List<String> NUMBERS = List.of("seq", "observed_at_ms", "received_at_ms");
    private static final Pattern OF_THE_RECORD = Pattern.compile("\\[SQLITE_(CONSTRAINT|MISMATCH|TOOBIG|RANGE)|malformed JSON");
    private static final Pattern OF_THE_STORE = Pattern.compile("\\[SQLITE_|(?s)^(08|25|40|42|53|55|57|58|F0|XX).*");

    private final KafkaBatchProducer producer = new KafkaBatchProducer();
    private final Properties consuming = new Properties();
    private final Deque<ConsumerRecord<String, byte[]>> held = new ArrayDeque<>();
    private final Map<TopicPartition, Long> positions = new HashMap<>();
    private DataSource reader;
    private DataSource writer;
    private long pollMs = 500;
    private long retryMinMs = 500;
    private long retryMaxMs = 30_000;
    private int deadBurst = 100;
    private KafkaConsumer<String, byte[]> consumer;
    private String topicId;
    private long identifiedAt;
    private int taken;                 // of held, in the batch that is being applied
    private int limit;                 // 0: all
    private String refused;            // why the first of held, alone, is refused
    private int refusedInARow;
    private int attempts;
    private long due;
    private boolean gap;
    private boolean waiting;           // for the publisher to begin with this topic
    private boolean producing;         // guarded by producer
    private Admin admin;               // guarded by consuming
    private boolean closed;

    /** Does nothing until it is used. */
    public KafkaBus() {
        producer.setGatewayInKey(true);
        consuming.put("enable.auto.commit", "false");
        consuming.put("auto.offset.reset", "none");
        consuming.put("isolation.level", "read_committed");
        consuming.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
    }

    public void setReader(DataSource reader) {
        this.reader = reader;
    }

    public void setWriter(DataSource writer) {
        this.writer = writer;
    }

    /** @param compression none, gzip or lz4 */
    public void setCompression(String compression) {
        producer.setCompression(compression);
    }

    /** @param bytes of records for one partition that go to the broker together, before compression */
    public void setRequestBytes(int bytes) {
        producer.setRequestBytes(bytes);
    }

    /** @param ms for the cluster to be reached and to say where the topic is */
    public void setMaxBlockMs(long ms) {
        producer.setMaxBlockMs(ms);
    }

    /** @param ms for a record to be acknowledged, with all of the client's own retries */
    public void setDeliveryTimeoutMs(int ms) {
        producer.setDeliveryTimeoutMs(ms);
    }

    public void setGroup(String group) {
        consuming.put("group.id", group);
    }

    /** @param rows most in one transaction of the store */
    public void setBatchRows(int rows) {
        consuming.put("max.poll.records", rows);
    }

    /** @param ms a poll waits for records */
    public void setPollMs(long ms) {
        pollMs = ms;
    }

    /** @param ms without a word after which a replica's partitions go to the others */
    public void setSessionMs(int ms) {
        consuming.put("session.timeout.ms", ms);
        consuming.put("heartbeat.interval.ms", Math.max(100, ms / 4));
    }

    /** @param ms first pause after the store failed */
    public void setRetryMinMs(long ms) {
        retryMinMs = ms;
    }

    /** @param ms longest pause between two attempts */
    public void setRetryMaxMs(long ms) {
        retryMaxMs = ms;
    }

    /** @param records refused one after the other, after which it waits for somebody to look */
    public void setDeadBurst(int records) {
        deadBurst = records;
    }

    // ---- to the topic

    /**
     * Variable {@code topicId}: which topic this is. One of the same name that was made anew is another one.
     *
     * @throws Exception what Kafka says: away, no such topic, no right
     */
    public void identify(Exchange exchange) throws Exception {
        exchange.setVariable("topicId", describe().topicId().toString());
    }

    /** Variable {@code ends}: where each partition ends now (a list of maps topic_id, partition_id, next_offset). */
    public void ends(Exchange exchange) throws Exception {
        TopicDescription now = describe();
        List<Map<String, Object>> ends = new ArrayList<>();
        ends(now).forEach((partition, offset) -> ends.add(position(now.topicId().toString(), partition, offset)));
        exchange.setVariable("ends", ends);
    }

    /**
     * Sends the batch that is the body to topic {@code topicId}. Variable {@code marks}: where it ends in each partition (a
     * list of maps topic_id, partition_id, next_offset, first_seq).
     *
     * @throws Exception as {@link KafkaBatchProducer#send}; or the topic is another one by now, then nothing counts as sent
     */
    public void publish(Exchange exchange) throws Exception {
        Batch batch = exchange.getMessage().getBody(Batch.class);
        String id = exchange.getVariable("topicId", String.class);
        synchronized (producer) {
            if (!producing) {
                producer.like(this);
                producing = true;
            }
        }
        Map<Integer, Long> ends = new TreeMap<>(producer.publish(batch));
        TopicDescription now = describe();
        if (!now.topicId().toString().equals(id)) {
            throw new SinkException(SinkException.Kind.TRANSIENT, "unavailable", "topic [" + topic + "] was made anew while rows were sent: they are sent again",
                    0, null);
        }
        if (ends.containsValue(Long.MAX_VALUE)) {
            Map<Integer, Long> all = ends(now);
            ends.replaceAll((partition, offset) -> offset == Long.MAX_VALUE ? all.get(partition) : offset);
        }
        List<Map<String, Object>> marks = new ArrayList<>();
        ends.forEach((partition, offset) -> {
            Map<String, Object> mark = position(id, partition, offset);
            mark.put("first_seq", batch.firstSeq());
            marks.add(mark);
        });
        exchange.setVariable("marks", marks);
    }

    private Admin admin() throws IOException {
        synchronized (consuming) {
            if (admin == null) {
                Properties all = configuration();
                all.keySet().removeIf(key -> !key.toString().matches("(bootstrap|security|sasl|ssl|request|enable\\.metrics|client)\\..*"));
                all.put("default.api.timeout.ms", String.valueOf(TimeUnit.SECONDS.toMillis(ADMIN_S)));
                // Kafka refuses a client whose requests may take longer than the whole call.
                long request = Long.parseLong(String.valueOf(all.getOrDefault("request.timeout.ms", 0)));
                all.put("request.timeout.ms", String.valueOf(request > 0 ? Math.min(request, TimeUnit.SECONDS.toMillis(ADMIN_S)) : TimeUnit.SECONDS.toMillis(ADMIN_S)));
                admin = inLoader(() -> Admin.create(all));
            }
            return admin;
        }
    }

    /** After a failure: with what is in the files then. */
    private void dropAdmin() {
        synchronized (consuming) {
            if (admin != null) {
                admin.close(Duration.ZERO);
                admin = null;
            }
        }
    }

    private TopicDescription describe() throws Exception {
        return asked(() -> admin().describeTopics(List.of(topic)).allTopicNames()).get(topic);
    }

    private interface Asking<T> {
        KafkaFuture<T> ask() throws Exception;
    }

    private <T> T asked(Asking<T> asking) throws Exception {
        try {
            return asking.ask().get(ADMIN_S, TimeUnit.SECONDS);
        } catch (ExecutionException e) {
            dropAdmin();
            throw e.getCause() instanceof Exception cause ? cause : e;
        } catch (Exception e) {
            dropAdmin();
            throw e;
        }
    }

    private Map<Integer, Long> ends(TopicDescription topic) throws Exception {
        Map<TopicPartition, OffsetSpec> asked = topic.partitions().stream()
                .collect(Collectors.toMap(p -> new TopicPartition(topic.name(), p.partition()), p -> OffsetSpec.latest()));
        Map<Integer, Long> ends = new TreeMap<>();
        asked(() -> admin().listOffsets(asked).all()).forEach((partition, info) -> ends.put(partition.partition(), info.offset()));
        return ends;
    }

    private static Map<String, Object> position(String topicId, int partition, long offset) {
        Map<String, Object> position = new LinkedHashMap<>();
        position.put("topic_id", topicId);
        position.put("partition_id", partition);
        position.put("next_offset", offset);
        return position;
    }

    // ---- from the topic

    /**
     * Waits for records. Variables: {@code count}, how many are to be written down (0: none); {@code rows}, those that are
     * rows, as a JSON array, and {@code rowCount}; {@code offsets}, from where to where in each partition (maps topic_id,
     * partition_id, from_offset, next_offset); {@code strange}, records that are no rows, and {@code letters}, a row that the
     * store refused (maps of the columns of bus_dead and dead_letter); {@code gap}: the topic has lost records that the store
     * does not have.
     *
     * @throws Exception what Kafka or the store says; the next call begins anew where the store is
     */
    public synchronized void poll(Exchange exchange) throws Exception {
        exchange.setVariable("count", 0);
        exchange.setVariable("gap", false);
        if (consumer == null && attempts > 0 && System.nanoTime() - due < 0) {
            return; // what failed was Kafka, or the store before anything could be read
        }
        if (closed) {
            throw new IllegalStateException("The consumer of topic [" + topic + "] is closed: its route was stopped");
        }
        try {
            connect();
            fetch();
        } catch (InvalidOffsetException e) {
            LOG.warn("topic [{}] does not have what comes next any more: {}", topic, e.getMessage());
            drop();
            return;
        } catch (Exception e) {
            drop();
            throw e;
        }
        exchange.setVariable("topicId", topicId);
        if (gap) {
            gap = false;
            exchange.setVariable("gap", true);
            return;
        }
        if (!held.isEmpty() && (attempts == 0 || System.nanoTime() - due >= 0)) {
            take(exchange);
        }
    }

    private void connect() throws Exception {
        if (consumer == null || System.nanoTime() - identifiedAt > TimeUnit.MILLISECONDS.toNanos(IDENTITY_MS)) {
            String id = describe().topicId().toString();
            if (consumer != null && !id.equals(topicId)) {
                LOG.warn("topic [{}] was made anew: what the store does not have is sent again", topic);
                drop();
            }
            topicId = id;
            identifiedAt = System.nanoTime();
        }
        if (consumer == null) {
            Properties all = new Properties();
            all.putAll(consuming);
            all.putAll(configuration());
            consumer = inLoader(() -> new KafkaConsumer<>(all, new StringDeserializer(), new ByteArrayDeserializer()));
            consumer.subscribe(List.of(topic), new Assigned());
        } else if (waiting) {
            locate(consumer.assignment());
        }
    }

    private void fetch() throws SQLException {
        try {
            if (held.isEmpty() && !positions.isEmpty()) {
                consumer.resume(consumer.assignment());
                consumer.poll(Duration.ofMillis(pollMs)).forEach(held::add);
            } else {
                // Keeps this member in its group while the store is away.
                consumer.pause(consumer.assignment());
                consumer.poll(Duration.ofMillis(held.isEmpty() || attempts > 0 ? Math.min(pollMs, 200) : 0)).forEach(held::add);
            }
        } catch (KafkaException e) {
            if (e.getCause() instanceof SQLException cause) {
                throw cause; // of the listener
            }
            throw e;
        }
        held.removeIf(record -> !positions.containsKey(partition(record)) || record.offset() < positions.get(partition(record)));
    }

    /** Partitions come and go; the store says how far each was applied, by whomever. */
    private final class Assigned implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            try {
                locate(partitions);
            } catch (SQLException e) {
                throw new KafkaException("the store does not say how far it is", e);
            }
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            partitions.forEach(positions::remove);
            held.removeIf(record -> partitions.contains(partition(record)));
            refused = null;
            limit = 0;
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            onPartitionsRevoked(partitions);
        }
    }

    private void locate(Collection<TopicPartition> partitions) throws SQLException {
        Map<Integer, Long> stored = stored();
        if (stored == null) {
            // The publisher has not begun with this topic. Nothing of what is in it is meant for the store.
            consumer.pause(partitions);
            consumer.seekToEnd(partitions);
            identifiedAt = System.nanoTime() - TimeUnit.MILLISECONDS.toNanos(2 * IDENTITY_MS);
            waiting = true;
            return;
        }
        waiting = false;
        Map<TopicPartition, Long> begins = consumer.beginningOffsets(partitions);
        for (TopicPartition partition : partitions) {
            long begin = begins.get(partition);
            Long next = stored.get(partition.partition());
            if (next == null || next < begin) {
                // New since the publisher began, or the topic's retention was faster than the store.
                gap |= next != null;
                next = begin;
                place(partition.partition(), next);
            }
            consumer.seek(partition, next);
            positions.put(partition, next);
        }
    }

    /** @return by partition; null: the bus is another topic, or none yet */
    private Map<Integer, Long> stored() throws SQLException {
        try (Connection connection = reader.getConnection();
                PreparedStatement query = connection.prepareStatement("SELECT b.topic_id, o.partition_id, o.next_offset FROM bus b"
                        + " LEFT JOIN bus_offset o ON o.topic_id = b.topic_id WHERE b.topic_id = ?")) {
            query.setString(1, topicId);
            try (ResultSet row = query.executeQuery()) {
                Map<Integer, Long> stored = null;
                while (row.next()) {
                    stored = stored == null ? new HashMap<>() : stored;
                    if (row.getObject(2) != null) {
                        stored.put(row.getInt(2), row.getLong(3));
                    }
                }
                return stored;
            }
        }
    }

    private void place(int partition, long offset) throws SQLException {
        try (Connection connection = writer.getConnection();
                PreparedStatement insert = connection.prepareStatement("INSERT INTO bus_offset (topic_id, partition_id, next_offset) VALUES (?, ?, ?)"
                        + " ON CONFLICT (topic_id, partition_id) DO UPDATE SET next_offset = excluded.next_offset"
                        + " WHERE excluded.next_offset > bus_offset.next_offset")) {
            insert.setString(1, topicId);
            insert.setInt(2, partition);
            insert.setLong(3, offset);
            insert.executeUpdate();
        }
    }

    private void take(Exchange exchange) {
        List<String> rows = new ArrayList<>();
        List<Map<String, Object>> strange = new ArrayList<>();
        List<Map<String, Object>> letters = new ArrayList<>();
        Map<TopicPartition, Long> ends = new LinkedHashMap<>();
        taken = 0;
        for (ConsumerRecord<String, byte[]> record : held) {
            if (limit > 0 && taken == limit) {
                break;
            }
            taken++;
            ends.put(partition(record), record.offset() + 1);
            String text = record.value() == null ? "" : new String(record.value(), UTF_8);
            JsonObject row = null;
            String fault = null;
            try {
                row = row(text);
            } catch (DeserializationException | IllegalArgumentException | ClassCastException e) {
                fault = "not a row: " + e.getMessage();
            }
            if (fault == null && refused == null) {
                rows.add(text);
            } else if (fault == null) {
                letters.add(letter(row, refused));
            } else {
                strange.add(strange(record, fault));
            }
        }
        List<Map<String, Object>> offsets = new ArrayList<>();
        ends.forEach((partition, end) -> {
            Map<String, Object> offset = position(topicId, partition.partition(), end);
            offset.put("from_offset", positions.get(partition));
            offsets.add(offset);
        });
        exchange.setVariable("count", taken);
        exchange.setVariable("rowCount", rows.size());
        exchange.setVariable("rows", "[" + String.join(",", rows) + "]");
        exchange.setVariable("offsets", offsets);
        exchange.setVariable("strange", strange);
        exchange.setVariable("letters", letters);
        exchange.setVariable("deadCount", strange.size() + letters.size());
        exchange.setVariable("nowMs", System.currentTimeMillis());
    }

    private static JsonObject row(String text) throws DeserializationException {
        if (!(Jsoner.deserialize(text) instanceof JsonObject row)) {
            throw new IllegalArgumentException("no JSON object");
        }
        for (String name : TEXTS) {
            if (!(row.get(name) instanceof String value) || value.isEmpty()) {
                throw new IllegalArgumentException("[" + name + "] must be text that is not empty");
            }
        }
        for (String name : NUMBERS) {
            if (!(row.get(name) instanceof Number)) {
                throw new IllegalArgumentException("[" + name + "] must be a number");
            }
        }
        if (!(row.get("body") instanceof JsonObject)) {
            throw new IllegalArgumentException("[body] must be an object");
        }
        return row;
    }

    private static Map<String, Object> letter(JsonObject row, String error) {
        Map<String, Object> letter = new LinkedHashMap<>();
        letter.put("seq", ((Number) row.get("seq")).longValue());
        letter.put("error", error);
        letter.put("at_ms", System.currentTimeMillis());
        return letter;
    }

    private Map<String, Object> strange(ConsumerRecord<String, byte[]> record, String fault) {
        LOG.warn("topic [{}] partition {} offset {}: {}; kept, dead:list --sink topic", topic, record.partition(), record.offset(), fault);
        Map<String, Object> letter = position(topicId, record.partition(), record.offset());
        letter.put("error", fault.length() > ERROR_CHARS ? fault.substring(0, ERROR_CHARS) : fault);
        letter.put("record_key", record.key());
        letter.put("body", record.value());
        letter.put("at_ms", System.currentTimeMillis());
        return letter;
    }

    /** What {@link #poll} gave is committed in the store: tells the group, and goes on behind it. */
    public synchronized void applied() {
        Map<TopicPartition, OffsetAndMetadata> ends = new HashMap<>();
        boolean wasRefused = refused != null;
        for (; taken > 0 && !held.isEmpty(); taken--) {
            ConsumerRecord<String, byte[]> record = held.poll();
            positions.put(partition(record), record.offset() + 1);
            ends.put(partition(record), new OffsetAndMetadata(record.offset() + 1));
        }
        refused = null;
        refusedInARow = wasRefused ? refusedInARow : 0;
        limit = limit == 0 || held.isEmpty() ? 0 : limit * 2;
        if (attempts > 0) {
            LOG.info("topic [{}]: the store takes rows again after {} attempts", topic, attempts);
            attempts = 0;
        }
        // The store knows; whoever has the partition next asks it, so nothing waits for this.
        consumer.commitAsync(ends, (offsets, error) -> {
            if (error != null) {
                LOG.debug("topic [{}]: the group does not know yet that {} are applied", topic, offsets, error);
            }
        });
    }

    /**
     * What {@link #poll} gave was not committed. Tells the store's trouble from a record's: the one waits, the other is looked
     * for by halving. Variable {@code error}: what to show.
     */
    public synchronized void failed(Exchange exchange) {
        Exception error = exchange.getProperty(Exchange.EXCEPTION_CAUGHT, Exception.class);
        String text = text(error);
        exchange.setVariable("error", text);
        exchange.setVariable("nowMs", System.currentTimeMillis());
        boolean record = taken > 0 && ofTheRecord(error, attempts);
        if (record && refused == null && taken > 1) {
            limit = Math.max(1, taken / 2);
            due = System.nanoTime();
            return;
        }
        if (record && refused == null && refusedInARow < deadBurst) {
            refusedInARow++;
            refused = text;
            limit = 1;
            due = System.nanoTime();
            LOG.warn("topic [{}]: the store refuses one record, it is a dead letter: {}", topic, text);
            return;
        }
        if (attempts == 0) {
            LOG.warn("topic [{}]: rows could not be stored, tried again with backoff: {}", topic, text);
        }
        refused = null;
        attempts++;
        // Another replica may have the partition, and be further.
        if (error instanceof IllegalStateException) {
            drop();
        }
        long pause = Math.min(retryMaxMs, retryMinMs << Math.min(attempts - 1, 20));
        due = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(pause / 2 + ThreadLocalRandom.current().nextLong(pause / 2 + 1));
    }

    /** Only what the store says can be a record's fault: a route that is being replaced, for one, is nobody's. */
    private static boolean ofTheRecord(Throwable error, int attempts) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof SQLException e) {
                String state = String.valueOf(e.getSQLState());
                String message = String.valueOf(e.getMessage());
                if (state.startsWith("22") || state.startsWith("23") || OF_THE_RECORD.matcher(message).find()) {
                    return true;
                }
                return !(e instanceof SQLTransientException || e instanceof SQLRecoverableException || e instanceof SQLNonTransientConnectionException
                        || OF_THE_STORE.matcher(state).find() || OF_THE_STORE.matcher(message).find()) && attempts >= UNCLEAR_MAX;
            }
        }
        return false;
    }

    private static String text(Throwable error) {
        Throwable last = error;
        while (last.getCause() != null) {
            last = last.getCause();
        }
        String text = String.valueOf(last.getMessage());
        return text.length() > ERROR_CHARS ? text.substring(0, ERROR_CHARS) : text;
    }

    private static TopicPartition partition(ConsumerRecord<?, ?> record) {
        return new TopicPartition(record.topic(), record.partition());
    }

    private interface Making<T> {
        T make();
    }

    /** Kafka loads login modules and its own classes by name through the context class loader, and its threads keep it. */
    private static <T> T inLoader(Making<T> making) {
        Thread thread = Thread.currentThread();
        ClassLoader before = thread.getContextClassLoader();
        thread.setContextClassLoader(KafkaConsumer.class.getClassLoader());
        try {
            return making.make();
        } finally {
            thread.setContextClassLoader(before);
        }
    }

    private void drop() {
        held.clear();
        positions.clear();
        taken = 0;
        limit = 0;
        refused = null;
        KafkaConsumer<?, ?> closing = consumer;
        consumer = null;
        if (closing != null) {
            try {
                closing.close(Duration.ofSeconds(2));
            } catch (KafkaException e) {
                LOG.debug("closing the consumer of topic [{}]", topic, e);
            }
        }
    }

    /** Leaves the group: its partitions go to the others at once. */
    @Override
    public synchronized void close() {
        closed = true;
        drop();
        dropAdmin();
        producer.close();
    }
}
