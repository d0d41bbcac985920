// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt3.Mqtt3AsyncClient;
import com.hivemq.client.mqtt.mqtt3.Mqtt3Client;
import com.hivemq.client.mqtt.mqtt3.message.publish.Mqtt3Publish;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.locks.LockSupport;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * When a system that starts first keeps a message. It is started before the system, so that its own JVM is not part of the time; every peer and the
 * gateway speak MQTT 3.1.1.
 */
@Command(name = "first-ack", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Tries until a message is acknowledged, or is in a file; prints when that was.")
final class FirstAck implements Callable<Integer> {
    private static final long PAUSE_NS = 20_000_000;

    @Mixin MqttOptions mqtt;

    @Option(names = "--file", description = "wait until this file has a line, because the acknowledgement is another's")
    Path file;

    @Option(names = "--limit", defaultValue = "90s", description = "give up after (${DEFAULT-VALUE})")
    Duration limit;

    @Override
    public Integer call() throws Exception {
        long end = System.nanoTime() + limit.toNanos();
        LoadBody bodies = new LoadBody("first", "b1", 8);
        System.err.println("ready");
        for (int seq = 1; System.nanoTime() < end; seq++) {
            Mqtt3AsyncClient client = Mqtt3Client.builder().identifier("first").serverHost(mqtt.host).serverPort(mqtt.port)
                    .executorConfig(MqttOptions.executor(1)).buildAsync();
            try {
                client.connect().get(2, TimeUnit.SECONDS);
                client.publish(Mqtt3Publish.builder().topic("devices/first/telemetry").qos(MqttQos.AT_LEAST_ONCE)
                        .payload(bodies.compose(seq, System.currentTimeMillis())).build()).get(5, TimeUnit.SECONDS);
                if (file == null || hasLine()) {
                    System.out.println(new ObjectMapper().createObjectNode().put("at_ms", System.currentTimeMillis()).put("tries", seq));
                    return 0;
                }
            } catch (ExecutionException | TimeoutException notYet) {
                // Nobody listens, or nobody answers yet.
            } finally {
                client.disconnect();
            }
            LockSupport.parkNanos(PAUSE_NS);
        }
        throw new IOException("nothing was acknowledged at port [" + mqtt.port + "] within " + limit.toSeconds() + " s");
    }

    private boolean hasLine() throws IOException {
        return Files.exists(file) && Files.size(file) > 0;
    }
}
