// SPDX-License-Identifier: Apache-2.0
package io.caravan.parts;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.SaslAuthenticationException;
import org.apache.kafka.common.serialization.StringSerializer;
import org.junit.jupiter.api.Test;

class KafkaPartTest {
    @Test
    void keepsItsDataAndPortsOverAKillAndAnswersAfterAPause() throws Exception {
        try (KafkaPart kafka = KafkaPart.start()) {
            kafka.createTopic("t", 2, Map.of());
            send(Map.of("bootstrap.servers", kafka.brokers()), "one");
            kafka.kill();
            kafka.restart();
            kafka.pause();
            kafka.resume();
            send(Map.of("bootstrap.servers", kafka.brokers(), "compression.type", "lz4"), "two");
            assertEquals(List.of("one", "two"), kafka.records("t").stream().map(r -> new String(r.value())).toList());
            assertEquals(2, kafka.count("t"));

            Map<String, Object> sasl = Map.of("bootstrap.servers", kafka.saslBrokers(), "security.protocol", "SASL_PLAINTEXT",
                    "sasl.mechanism", "PLAIN");
            send(with(sasl, KafkaPart.PASSWORD), "three");
            ExecutionException refused = assertThrows(ExecutionException.class, () -> send(with(sasl, "wrong"), "four"));
            assertEquals(SaslAuthenticationException.class, refused.getCause().getClass());
            assertEquals(3, kafka.count("t"));
        }
    }

    private static Map<String, Object> with(Map<String, Object> sasl, String password) {
        Map<String, Object> all = new java.util.HashMap<>(sasl);
        all.put("sasl.jaas.config", "org.apache.kafka.common.security.plain.PlainLoginModule required username=\""
                + KafkaPart.USER + "\" password=\"" + password + "\";");
        return all;
    }

    private static void send(Map<String, Object> properties, String value) throws Exception {
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
            producer.send(new ProducerRecord<>("t", "key", value)).get(30, TimeUnit.SECONDS);
        }
    }
}
