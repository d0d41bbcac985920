// SPDX-License-Identifier: Apache-2.0
package io.caravan.parts;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.net.InetAddress;
import java.net.Socket;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A real Kafka (KRaft, one node) in its own JVM on free ports of 127.0.0.1. Topics are not created by writing to them.
 * Listeners: {@link #brokers} without, {@link #saslBrokers} with SASL: PLAIN ({@link #USER},
 * {@link #PASSWORD}) and SCRAM-SHA-512 ({@link #scramUser}); and {@link #tlsBrokers}, with
 * {@link Builder#tls}.
 *
 * <p>Not thread-safe.
 */
public final class KafkaPart implements AutoCloseable {
    /** A record of a topic, in the order of its partition. */
    public record Received(int partition, long offset, String key, byte[] value, Map<String, String> headers) {
    }

    /** Who may connect to {@link #saslBrokers}. */
    public static final String USER = "gateway";
    /** Password of {@link #USER}. */
    public static final String PASSWORD = "gateway-secret";

    private static final String STORE_PASSWORD = "test-store";
    private static final String HEAP = "256m";
    private static final Duration CALL = Duration.ofSeconds(20);

    private final int port;
    private final int saslPort;
    private final int tlsPort;
    private final Path folder;
    private final boolean temporary;
    private final ServerProcess server;

    private KafkaPart(Builder builder) {
        this.port = builder.port > 0 ? builder.port : ServerProcess.freePort();
        this.saslPort = ServerProcess.freePort();
        this.tlsPort = builder.tls ? ServerProcess.freePort() : 0;
        this.temporary = builder.folder == null;
        try {
            this.folder = temporary ? Files.createTempDirectory("kafka-part") : Files.createDirectories(builder.folder);
            Path file = folder.resolve("server.properties");
            Path data = folder.resolve("data");
            Properties properties = properties(ServerProcess.freePort(), data);
            if (builder.tls) {
                certificates();
                properties.merge("listeners", ",TLS://127.0.0.1:" + tlsPort, (a, b) -> a + b.toString());
                properties.merge("advertised.listeners", ",TLS://127.0.0.1:" + tlsPort, (a, b) -> a + b.toString());
                properties.put("listener.name.tls.ssl.keystore.type", "PKCS12");
                properties.put("listener.name.tls.ssl.keystore.location", folder.resolve("server.p12").toString());
                properties.put("listener.name.tls.ssl.keystore.password", STORE_PASSWORD);
                properties.put("listener.name.tls.ssl.truststore.type", "PEM");
                properties.put("listener.name.tls.ssl.truststore.location", clientCert().toString());
                properties.put("listener.name.tls.ssl.client.auth", "required");
            }
            properties.putAll(builder.properties);
            try (Writer out = Files.newBufferedWriter(file)) {
                properties.store(out, null);
            }
            List<String> command = ServerProcess.java(HEAP);
            // Native libraries are unpacked there, and left behind by a kill.
            command.add("-Djava.io.tmpdir=" + Files.createDirectories(folder.resolve("tmp")));
            command.addAll(List.of("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
                    "-cp", ServerProcess.classPath("kafka") + File.pathSeparator + own(), KafkaServer.class.getName(),
                    Uuid.randomUuid().toString(), file.toString(), data.toString()));
            this.server = new ServerProcess("Kafka", command, folder.resolve("kafka.log"), this::check);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        server.start();
    }

    /** @return a Kafka with a folder of its own, that answers; its data are deleted when it is closed */
    public static KafkaPart start() {
        return new Builder().start();
    }

    /** How a Kafka is started. */
    public static final class Builder {
        private final Map<String, String> properties = new HashMap<>();
        private Path folder;
        private int port;
        private boolean tls;

        /** @param folder for data and {@code kafka.log}; kept when the part is closed, and continued by the next part there */
        public Builder folder(Path folder) {
            this.folder = folder;
            return this;
        }

        /** @param port of the listener without SASL; 0: a free one */
        public Builder port(int port) {
            this.port = port;
            return this;
        }

        /** Adds a listener {@link KafkaPart#tlsBrokers} that asks for a client certificate. */
        public Builder tls() {
            tls = true;
            return this;
        }

        /** A line of server.properties, over those set here. */
        public Builder property(String name, String value) {
            properties.put(name, value);
            return this;
        }

        /** @return a Kafka that answers */
        public KafkaPart start() {
            return new KafkaPart(this);
        }
    }

    /** @return bootstrap servers, without authentication; the same after a restart */
    public String brokers() {
        return "127.0.0.1:" + port;
    }

    /** @return bootstrap servers, SASL without TLS; the same after a restart */
    public String saslBrokers() {
        return "127.0.0.1:" + saslPort;
    }

    /** @return bootstrap servers, TLS with client certificates, of a part built with {@link Builder#tls} */
    public String tlsBrokers() {
        return "127.0.0.1:" + tlsPort;
    }

    /** @return PEM file of what a client of {@link #tlsBrokers} must trust */
    public Path ca() {
        return folder.resolve("ca.crt");
    }

    /** @return PEM file of the one client that {@link #tlsBrokers} takes */
    public Path clientCert() {
        return folder.resolve("client.crt");
    }

    /** @return PEM file (PKCS#8) of its key */
    public Path clientKey() {
        return folder.resolve("client.key");
    }

    /** @return process id of the server as it runs now */
    public long pid() {
        return server.pid();
    }

    /** Stops the server in order (SIGTERM). */
    public void stop() {
        server.stop();
    }

    /** Ends the server at once (SIGKILL). */
    public void kill() {
        server.kill();
    }

    /** SIGSTOP: connections stay open, nothing is answered. */
    public void pause() {
        server.pause();
    }

    /** SIGCONT. */
    public void resume() {
        server.resume();
    }

    /** Starts the server again, on the same ports and data, after {@link #stop} or {@link #kill}; kills it if it still runs. */
    public void restart() {
        server.kill();
        server.start();
    }

    /** @param config topic properties, as {@code max.message.bytes} */
    public void createTopic(String topic, int partitions, Map<String, String> config) {
        admin(admin -> admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(config))).all()
                .get(CALL.toSeconds(), TimeUnit.SECONDS));
    }

    /** Deletes a topic with all that is in it. */
    public void deleteTopic(String topic) {
        admin(admin -> admin.deleteTopics(List.of(topic)).all().get(CALL.toSeconds(), TimeUnit.SECONDS));
    }

    /** Creates a user of {@link #saslBrokers} for SCRAM-SHA-512, or changes its password; it may connect a moment later. */
    public void scramUser(String user, String password) {
        admin(admin -> admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(user,
                new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), password))).all().get(CALL.toSeconds(), TimeUnit.SECONDS));
    }

    /** @return of each member of a consumer group, how many partitions it has; sorted */
    public List<Integer> members(String group) {
        List<Integer> members = new ArrayList<>();
        admin(admin -> admin.describeConsumerGroups(List.of(group)).all().get(CALL.toSeconds(), TimeUnit.SECONDS).get(group).members()
                .forEach(member -> members.add(member.assignment().topicPartitions().size())));
        members.sort(null);
        return members;
    }

    /** @return how many records were ever written to a topic */
    public long count(String topic) {
        return ends(topic).values().stream().mapToLong(Long::longValue).sum();
    }

    /** @return all records of a topic at the time of the call; those of a partition are in order */
    public List<Received> records(String topic) {
        List<Received> records = new ArrayList<>();
        forEach(topic, record -> {
            Map<String, String> headers = new HashMap<>();
            for (Header header : record.headers()) {
                headers.put(header.key(), new String(header.value(), StandardCharsets.UTF_8));
            }
            records.add(new Received(record.partition(), record.offset(), record.key(), record.value(), headers));
        });
        return records;
    }

    /** Calls for each record of a topic that is there at the time of the call, in order of its partition. */
    public void forEach(String topic, Consumer<ConsumerRecord<String, byte[]>> each) {
        Map<TopicPartition, Long> ends = ends(topic);
        try (KafkaConsumer<String, byte[]> consumer = new KafkaConsumer<>(client(), new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(ends.keySet());
            consumer.seekToBeginning(ends.keySet());
            long deadline = System.nanoTime() + TimeUnit.MINUTES.toNanos(5);
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("Topic [" + topic + "] could not be read up to " + ends + " within 5 minutes");
                }
                consumer.poll(Duration.ofMillis(200)).forEach(each);
            }
        }
    }

    @Override
    public void close() {
        server.close();
        if (temporary) {
            ServerProcess.delete(folder);
        }
    }

    /**
     * Runs a Kafka until the JVM is told to end; prints its bootstrap servers when it answers.
     *
     * @param args {@code [--port N] [--folder DIR] [--topic NAME[:PARTITIONS]]...}
     */
    public static void main(String[] args) throws Exception {
        Builder builder = new Builder();
        List<String> topics = new ArrayList<>();
        for (int i = 0; i + 1 < args.length; i += 2) {
            switch (args[i]) {
                case "--port" -> builder.port(Integer.parseInt(args[i + 1]));
                case "--folder" -> builder.folder(Path.of(args[i + 1]));
                case "--topic" -> topics.add(args[i + 1]);
                default -> throw new IllegalArgumentException("[" + args[i] + "] is none of --port, --folder, --topic");
            }
        }
        try (KafkaPart kafka = builder.start()) {
            for (String topic : topics) {
                String[] parts = topic.split(":");
                try {
                    kafka.createTopic(parts[0], parts.length > 1 ? Integer.parseInt(parts[1]) : 1, Map.of());
                } catch (IllegalStateException e) {
                    if (!(e.getCause() instanceof TopicExistsException)) {
                        throw e;
                    }
                }
            }
            System.out.println(kafka.brokers());
            new CountDownLatch(1).await();
        }
    }

    private Properties properties(int controllerPort, Path data) {
        Properties p = new Properties();
        p.put("process.roles", "broker,controller");
        p.put("node.id", "1");
        p.put("controller.quorum.voters", "1@127.0.0.1:" + controllerPort);
        p.put("controller.listener.names", "CONTROLLER");
        p.put("inter.broker.listener.name", "PLAINTEXT");
        p.put("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL");
        p.put("listeners", "PLAINTEXT://127.0.0.1:" + port + ",SASL://127.0.0.1:" + saslPort + ",CONTROLLER://127.0.0.1:" + controllerPort);
        p.put("advertised.listeners", "PLAINTEXT://127.0.0.1:" + port + ",SASL://127.0.0.1:" + saslPort);
        p.put("listener.name.sasl.sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-512");
        p.put("listener.name.sasl.scram-sha-512.sasl.jaas.config", "org.apache.kafka.common.security.scram.ScramLoginModule required;");
        p.put("listener.name.sasl.plain.sasl.jaas.config", "org.apache.kafka.common.security.plain.PlainLoginModule required user_"
                + USER + "=\"" + PASSWORD + "\";");
        p.put("log.dirs", data.toString());
        p.put("auto.create.topics.enable", "false");
        p.put("offsets.topic.replication.factor", "1");
        p.put("offsets.topic.num.partitions", "1");
        p.put("transaction.state.log.replication.factor", "1");
        p.put("transaction.state.log.min.isr", "1");
        p.put("share.coordinator.state.topic.replication.factor", "1");
        p.put("share.coordinator.state.topic.min.isr", "1");
        p.put("group.initial.rebalance.delay.ms", "0");
        p.put("log.cleaner.dedupe.buffer.size", "2097152");
        // The default, one per core and at least 8, costs start-up time and memory for nothing.
        p.put("num.io.threads", "4");
        p.put("num.network.threads", "2");
        return p;
    }

    private Map<String, Object> client() {
        return Map.of("bootstrap.servers", brokers(), "request.timeout.ms", 5000, "default.api.timeout.ms", (int) CALL.toMillis());
    }

    private void check() throws Exception {
        // First, because Kafka's client writes a warning for every connection that is refused.
        new Socket(InetAddress.getLoopbackAddress(), port).close();
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", brokers(), "request.timeout.ms", 1000, "default.api.timeout.ms", 1000))) {
            // A broker is listed when it may take records.
            if (admin.describeCluster().nodes().get(2, TimeUnit.SECONDS).isEmpty()) {
                throw new IllegalStateException("Kafka has no broker yet");
            }
        }
    }

    private Map<TopicPartition, Long> ends(String topic) {
        Map<TopicPartition, Long> ends = new HashMap<>();
        admin(admin -> {
            Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
            admin.describeTopics(List.of(topic)).allTopicNames().get(CALL.toSeconds(), TimeUnit.SECONDS).get(topic).partitions()
                    .forEach(partition -> asked.put(new TopicPartition(topic, partition.partition()), OffsetSpec.latest()));
            admin.listOffsets(asked).all().get(CALL.toSeconds(), TimeUnit.SECONDS)
                    .forEach((partition, end) -> ends.put(partition, end.offset()));
        });
        return ends;
    }

    private void certificates() throws IOException {
        try {
            pem(ca(), null, key("server", "san=ip:127.0.0.1,dns:localhost"));
            pem(clientCert(), clientKey(), key("client", "eku=clientAuth"));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(e);
        }
    }

    /** A key with a certificate it signed itself, made by the JDK's tool because the JDK has no API for it. */
    private KeyStore key(String name, String extension) throws IOException, InterruptedException, GeneralSecurityException {
        Path file = folder.resolve(name + ".p12");
        Path log = folder.resolve("keytool.log");
        if (!Files.exists(file) && new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "keytool").toString(), "-genkeypair",
                "-alias", name, "-dname", "CN=" + name, "-keyalg", "EC", "-validity", "3650", "-ext", extension, "-storetype", "PKCS12",
                "-keystore", file.toString(), "-storepass", STORE_PASSWORD).redirectErrorStream(true).redirectOutput(log.toFile())
                .start().waitFor() != 0) {
            throw new IOException("keytool failed: " + Files.readString(log));
        }
        try (InputStream in = Files.newInputStream(file)) {
            KeyStore store = KeyStore.getInstance("PKCS12");
            store.load(in, STORE_PASSWORD.toCharArray());
            return store;
        }
    }

    private static void pem(Path cert, Path key, KeyStore store) throws IOException, GeneralSecurityException {
        String alias = store.aliases().nextElement();
        Files.writeString(cert, pem("CERTIFICATE", store.getCertificate(alias).getEncoded()));
        if (key != null) {
            Files.writeString(key, pem("PRIVATE KEY", store.getKey(alias, STORE_PASSWORD.toCharArray()).getEncoded()));
        }
    }

    private static String pem(String type, byte[] der) {
        return "-----BEGIN " + type + "-----\n" + Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der) + "\n-----END " + type + "-----\n";
    }

    private interface Call {
        void on(Admin admin) throws Exception;
    }

    private void admin(Call call) {
        try (Admin admin = Admin.create(client())) {
            call.on(admin);
        } catch (ExecutionException e) {
            throw new IllegalStateException(e.getCause().toString(), e.getCause());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted", e);
        } catch (Exception e) {
            throw new IllegalStateException(e.toString(), e);
        }
    }

    private static String own() {
        try {
            return Path.of(KafkaPart.class.getProtectionDomain().getCodeSource().getLocation().toURI()).toString();
        } catch (URISyntaxException e) {
            throw new IllegalStateException(e);
        }
    }
}
