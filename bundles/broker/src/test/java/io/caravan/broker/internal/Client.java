// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttAsyncClient;
import org.eclipse.paho.mqttv5.client.MqttCallback;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.MqttDisconnectResponse;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;

/** A device, or the gateway, as its broker sees it: MQTT 5. */
final class Client implements AutoCloseable, MqttCallback {
  private static final long WAIT_MS = 20_000;
  private static final int NO_SUBSCRIBER = 0x10;

  final CompletableFuture<Integer> gone = new CompletableFuture<>();
  /** Nano time at which the broker's end of the connection was noticed. */
  volatile long goneAt;
  final BlockingQueue<String> received = new LinkedBlockingQueue<>();
  private final MqttAsyncClient client;
  private boolean closed;

  private Client(String url, String clientId) throws MqttException {
    client = new MqttAsyncClient(url, clientId, new MemoryPersistence());
    client.setCallback(this);
  }

  /** @return connected. @throws MqttException with the broker's reason code, or for TLS's sake */
  static Client connect(String url, String clientId, String user, String password, SSLContext tls) throws MqttException {
    return connect(url, clientId, user, password, tls, true);
  }

  static Client connect(String url, String clientId, String user, String password, SSLContext tls, boolean clean) throws MqttException {
    Client made = new Client(url, clientId);
    MqttConnectionOptions options = new MqttConnectionOptions();
    options.setCleanStart(clean);
    options.setSessionExpiryInterval(clean ? 0L : 3_600L);
    options.setAutomaticReconnect(false);
    options.setConnectionTimeout(10);
    if (user != null) {
      options.setUserName(user);
    }
    if (password != null) {
      options.setPassword(password.getBytes(StandardCharsets.UTF_8));
    }
    if (tls != null) {
      options.setSocketFactory(tls.getSocketFactory());
      options.setHttpsHostnameVerificationEnabled(true);
    }
    boolean connected = false;
    try {
      made.client.connect(options).waitForCompletion(WAIT_MS);
      connected = true;
      return made;
    } finally {
      if (!connected) {
        made.close();
      }
    }
  }

  /** @return reason code of the PUBACK; 0 also where nobody had subscribed */
  int publish(String topic, String payload) throws MqttException {
    IMqttToken token = client.publish(topic, payload.getBytes(StandardCharsets.UTF_8), 1, false);
    token.waitForCompletion(WAIT_MS);
    return code(token) == NO_SUBSCRIBER ? 0 : code(token);
  }

  /** @return reason code of the SUBACK */
  int subscribe(String filter) throws MqttException {
    IMqttToken token = client.subscribe(filter, 1);
    token.waitForCompletion(WAIT_MS);
    return code(token);
  }

  private static int code(IMqttToken token) {
    int[] codes = token.getReasonCodes();
    return codes == null || codes.length == 0 ? 0 : codes[0];
  }

  /** @return {@code topic payload} */
  String next() throws InterruptedException {
    String message = received.poll(WAIT_MS, TimeUnit.MILLISECONDS);
    if (message == null) {
      throw new AssertionError("no message came");
    }
    return message;
  }

  /** Waits until the broker has ended the connection. */
  int cut() throws Exception {
    return gone.get(WAIT_MS, TimeUnit.MILLISECONDS);
  }

  @Override
  public void disconnected(MqttDisconnectResponse response) {
    goneAt = System.nanoTime();
    gone.complete(response.getReturnCode());
  }

  @Override
  public void messageArrived(String topic, MqttMessage message) {
    received.add(topic + " " + new String(message.getPayload(), StandardCharsets.UTF_8));
  }

  @Override
  public void close() {
    if (closed) {
      return;
    }
    closed = true;
    try {
      client.disconnectForcibly(0, 500, client.isConnected());
      client.close(true);
    } catch (MqttException e) {
      // It is gone, which is what was wanted.
    }
  }

  @Override
  public void mqttErrorOccurred(MqttException e) {}

  @Override
  public void deliveryComplete(IMqttToken token) {}

  @Override
  public void connectComplete(boolean reconnect, String url) {}

  @Override
  public void authPacketArrived(int reasonCode, MqttProperties properties) {}

  static Path repo() {
    return Path.of("../..").toAbsolutePath().normalize();
  }
}
