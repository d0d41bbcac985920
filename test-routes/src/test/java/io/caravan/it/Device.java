// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5PubAckException;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5PublishResult;
import com.hivemq.client.mqtt.mqtt5.message.publish.puback.Mqtt5PubAckReasonCode;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** One device on MQTT 5 that waits for each answer. Used by one thread. */
public final class Device implements AutoCloseable {
  public static final int WAIT_SECONDS = 30;

  private final Mqtt5BlockingClient client;
  private final BlockingQueue<String> received = new LinkedBlockingQueue<>();
  private final String deviceId;

  private Device(String deviceId, Mqtt5BlockingClient client) {
    this.deviceId = deviceId;
    this.client = client;
  }

  public static Device connect(String deviceId, int port) throws Exception {
    Mqtt5BlockingClient client = Mqtt5Client.builder().identifier(deviceId).serverHost("127.0.0.1").serverPort(port).buildBlocking();
    client.toAsync().connectWith().cleanStart(true).send().get(WAIT_SECONDS, TimeUnit.SECONDS);
    return new Device(deviceId, client);
  }

  /** What the listener answered to a QoS 1 publication on {@code devices/<id>/<what>}. */
  public Mqtt5PubAckReasonCode publish(String what, String json) throws Exception {
    return publish(Mqtt5Publish.builder().topic("devices/" + deviceId + "/" + what).qos(MqttQos.AT_LEAST_ONCE)
        .payload(json.getBytes(StandardCharsets.UTF_8)).build());
  }

  public Mqtt5PubAckReasonCode publish(Mqtt5Publish publish) throws Exception {
    try {
      Mqtt5PublishResult result = client.toAsync().publish(publish).get(WAIT_SECONDS, TimeUnit.SECONDS);
      return ((Mqtt5PublishResult.Mqtt5Qos1Result) result).getPubAck().getReasonCode();
    } catch (ExecutionException e) {
      if (e.getCause() instanceof Mqtt5PubAckException refused) {
        return refused.getMqttMessage().getReasonCode();
      }
      throw e;
    }
  }

  public void subscribe(String what) throws Exception {
    client.toAsync().subscribeWith().topicFilter("devices/" + deviceId + "/" + what).qos(MqttQos.AT_LEAST_ONCE)
        .callback(p -> received.add(new String(p.getPayloadAsBytes(), StandardCharsets.UTF_8))).send().get(WAIT_SECONDS, TimeUnit.SECONDS);
  }

  /** The next message on what was subscribed to; null when none came. */
  public String next() throws InterruptedException {
    return received.poll(WAIT_SECONDS, TimeUnit.SECONDS);
  }

  @Override
  public void close() {
    client.toAsync().disconnect();
  }
}
