// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import java.util.function.BiConsumer;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttCallback;
import org.eclipse.paho.mqttv5.client.MqttDisconnectResponse;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;

/** Only listens. */
record Listener(BiConsumer<String, MqttMessage> to) implements MqttCallback {
  @Override
  public void messageArrived(String topic, MqttMessage message) {
    to.accept(topic, message);
  }

  @Override
  public void disconnected(MqttDisconnectResponse response) {}

  @Override
  public void mqttErrorOccurred(MqttException e) {}

  @Override
  public void deliveryComplete(IMqttToken token) {}

  @Override
  public void connectComplete(boolean reconnect, String url) {}

  @Override
  public void authPacketArrived(int reasonCode, MqttProperties properties) {}
}
