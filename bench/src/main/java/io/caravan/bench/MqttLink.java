// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import com.hivemq.client.mqtt.MqttClientExecutorConfig;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt3.Mqtt3AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5PublishResult;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/** What a load needs of a client, in the version of MQTT that the server speaks: not every peer speaks version 5. Thread-safe. */
interface MqttLink {
    /** A session that outlives its connection and the server's restart; seconds, more than any run here. */
    long KEPT_SECONDS = 86_400;

    /**
     * Connects; from then on it connects again by itself.
     *
     * @param window unacknowledged messages at most
     * @return what the server lets be unacknowledged, if that is less; a publish beyond it would block
     */
    int connect(int window) throws Exception;

    boolean connected();

    /** At QoS 1; completes with the acknowledgement. The result is null in version 3, whose acknowledgement says nothing else. */
    CompletableFuture<Mqtt5PublishResult> publish(String topic, byte[] body);

    void disconnect();

    static MqttLink publisher(MqttOptions options, String clientId, MqttClientExecutorConfig executor) {
        return options.version == 3 ? new Three(options.client3(clientId, executor)) : new Five(options.client(clientId, executor).buildAsync());
    }

    /** Subscribes in a session that is kept, or takes up the one that is; each message is acknowledged after {@code each} returned. */
    static MqttLink subscriber(MqttOptions options, String clientId, String filter, Consumer<byte[]> each) throws Exception {
        if (options.version == 3) {
            Mqtt3AsyncClient client = options.client3(clientId, MqttOptions.executor(1));
            client.publishes(com.hivemq.client.mqtt.MqttGlobalPublishFilter.ALL, p -> each.accept(p.getPayloadAsBytes()));
            client.connectWith().cleanSession(false).send().get(60, TimeUnit.SECONDS);
            client.subscribeWith().topicFilter(filter).qos(MqttQos.AT_LEAST_ONCE).send().get(60, TimeUnit.SECONDS);
            return new Three(client);
        }
        Mqtt5AsyncClient client = options.client(clientId, MqttOptions.executor(1)).buildAsync();
        client.publishes(com.hivemq.client.mqtt.MqttGlobalPublishFilter.ALL, p -> each.accept(p.getPayloadAsBytes()));
        client.connectWith().cleanStart(false).sessionExpiryInterval(KEPT_SECONDS).send().get(60, TimeUnit.SECONDS);
        client.subscribeWith().topicFilter(filter).qos(MqttQos.AT_LEAST_ONCE).send().get(60, TimeUnit.SECONDS);
        return new Five(client);
    }

    /** Version 5. */
    record Five(Mqtt5AsyncClient client) implements MqttLink {
        @Override
        public int connect(int window) throws Exception {
            return Math.min(window, client.connectWith().cleanStart(true).restrictions().receiveMaximum(10).sendMaximum(window).applyRestrictions().send()
                    .get(60, TimeUnit.SECONDS).getRestrictions().getReceiveMaximum());
        }

        @Override
        public boolean connected() {
            return client.getState().isConnected();
        }

        @Override
        public CompletableFuture<Mqtt5PublishResult> publish(String topic, byte[] body) {
            return client.publish(Mqtt5Publish.builder().topic(topic).qos(MqttQos.AT_LEAST_ONCE).payload(body).build());
        }

        @Override
        public void disconnect() {
            client.disconnect();
        }
    }

    /** Version 3.1.1. */
    record Three(Mqtt3AsyncClient client) implements MqttLink {
        @Override
        public int connect(int window) throws Exception {
            client.connectWith().cleanSession(true).send().get(60, TimeUnit.SECONDS);
            return window;
        }

        @Override
        public boolean connected() {
            return client.getState().isConnected();
        }

        @Override
        public CompletableFuture<Mqtt5PublishResult> publish(String topic, byte[] body) {
            return client.publishWith().topic(topic).qos(MqttQos.AT_LEAST_ONCE).payload(body).send().thenApply(p -> null);
        }

        @Override
        public void disconnect() {
            client.disconnect();
        }
    }
}
