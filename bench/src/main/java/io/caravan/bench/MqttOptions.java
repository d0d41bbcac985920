// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;

import com.hivemq.client.mqtt.MqttClientExecutorConfig;
import com.hivemq.client.mqtt.mqtt3.Mqtt3AsyncClient;
import com.hivemq.client.mqtt.mqtt3.Mqtt3Client;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.Mqtt5ClientBuilder;
import io.reactivex.schedulers.Schedulers;
import picocli.CommandLine.Option;

/** Where the broker or gateway listens and how a client shows who it is. Client id = user name = device id. */
final class MqttOptions {
    @Option(names = "--host", defaultValue = "127.0.0.1", description = "MQTT host (${DEFAULT-VALUE})")
    String host;

    @Option(names = "--port", defaultValue = "1883", description = "MQTT port (${DEFAULT-VALUE})")
    int port;

    @Option(names = "--token-file", paramLabel = "FILE",
            description = "lines 'device_id,token' as device:import --out writes them, or one line with a token for all; sent as user name and password")
    Path tokenFile;

    @Option(names = "--mqtt", defaultValue = "5", paramLabel = "3|5", description = "version of MQTT; 3 for servers that speak no other (${DEFAULT-VALUE})")
    int version;

    private Map<String, String> tokens;

    /**
     * A client that reconnects by itself (100 ms, doubling to 2 s) until it is disconnected. Its callbacks run on its one
     * network thread: they must not block.
     */
    Mqtt5ClientBuilder client(String deviceId, MqttClientExecutorConfig executor) {
        var builder = Mqtt5Client.builder().identifier(deviceId).serverHost(host).serverPort(port).executorConfig(executor)
                .transportConfig().mqttConnectTimeout(10, TimeUnit.SECONDS).applyTransportConfig()
                .automaticReconnect().initialDelay(100, TimeUnit.MILLISECONDS).maxDelay(2, TimeUnit.SECONDS).applyAutomaticReconnect();
        String token = token(deviceId);
        if (token != null) {
            builder = builder.simpleAuth().username(deviceId).password(token.getBytes(StandardCharsets.UTF_8)).applySimpleAuth();
        }
        return builder;
    }

    /** The same in MQTT 3.1.1, without a name and a password: only servers that anybody may use are spoken to so. */
    Mqtt3AsyncClient client3(String clientId, MqttClientExecutorConfig executor) {
        return Mqtt3Client.builder().identifier(clientId).serverHost(host).serverPort(port).executorConfig(executor)
                .transportConfig().mqttConnectTimeout(10, TimeUnit.SECONDS).applyTransportConfig()
                .automaticReconnect().initialDelay(100, TimeUnit.MILLISECONDS).maxDelay(2, TimeUnit.SECONDS).applyAutomaticReconnect().buildAsync();
    }

    /** Few threads on purpose: the load shares its cores with what it measures. */
    static MqttClientExecutorConfig executor(int threads) {
        return MqttClientExecutorConfig.builder().nettyThreads(threads).applicationScheduler(Schedulers.trampoline()).build();
    }

    private synchronized String token(String deviceId) {
        if (tokenFile == null) {
            return null;
        }
        if (tokens == null) {
            tokens = new HashMap<>();
            try {
                for (String line : Files.readAllLines(tokenFile)) {
                    String[] cells = line.trim().split(",");
                    if (!cells[0].isEmpty()) {
                        tokens.put(cells.length == 1 ? "*" : cells[0], cells.length == 1 ? cells[0] : cells[1]);
                    }
                }
            } catch (IOException e) {
                throw new UncheckedIOException("token file [" + tokenFile + "] must be readable", e);
            }
        }
        return tokens.getOrDefault(deviceId, tokens.get("*"));
    }
}
