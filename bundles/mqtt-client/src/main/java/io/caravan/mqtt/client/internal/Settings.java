// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client.internal;

import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import javax.net.ssl.SSLContext;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;

/** How to reach the broker and as whom. Not thread-safe while it is filled; not changed afterwards. */
public final class Settings {
  private static final Set<String> SCHEMES = Set.of("tcp", "ssl");

  public String url = "tcp://127.0.0.1:1883";
  public String clientId;
  public String userName;
  public String password;
  public String passwordFile;
  public String caFile;
  public String certFile;
  public String keyFile;
  public boolean durable;
  public long sessionExpirySeconds = 604_800;
  public int receiveMaximum = 1_000;
  public int keepAliveSeconds = 10;
  public long connectTimeoutMs = 10_000;
  public long reconnectMinMs = 500;
  public long reconnectMaxMs = 30_000;

  /**
   * Reads the files anew, so that a renewed certificate or token is used from the next connection on.
   *
   * @throws IllegalArgumentException a value breaks its rule, or a file cannot be read; the message names it
   */
  public MqttConnectionOptions options() {
    if (clientId == null || clientId.isEmpty()) {
      throw new IllegalArgumentException("clientId is empty: the broker keeps the session under it, give it a fixed one");
    }
    URI broker = broker();
    MqttConnectionOptions options = new MqttConnectionOptions();
    // Paho's own reconnect has no jitter, reuses the state of the broken connection and subscribes on the thread that it blocks.
    options.setAutomaticReconnect(false);
    options.setCleanStart(!durable);
    options.setSessionExpiryInterval(durable ? sessionExpirySeconds : 0L);
    options.setReceiveMaximum(receiveMaximum);
    options.setKeepAliveInterval(keepAliveSeconds);
    options.setConnectionTimeout((int) Math.max(1, connectTimeoutMs / 1_000));
    if (given(userName)) {
      options.setUserName(userName);
    }
    byte[] secret = secret();
    if (secret != null) {
      options.setPassword(secret);
    }
    if (broker.getScheme().equals("ssl")) {
      options.setSocketFactory(tls().getSocketFactory());
      options.setHttpsHostnameVerificationEnabled(true);
    }
    return options;
  }

  /** @throws IllegalArgumentException the url breaks its rule */
  public void checkUrl() {
    broker();
  }

  /** @return whether a password would cross a network in the clear */
  public boolean exposesPassword() {
    URI broker = broker();
    return (given(password) || given(passwordFile)) && broker.getScheme().equals("tcp")
        && !Set.of("localhost", "127.0.0.1", "[::1]").contains(broker.getHost());
  }

  private URI broker() {
    URI broker;
    try {
      broker = URI.create(url);
    } catch (IllegalArgumentException e) {
      throw new IllegalArgumentException("url [" + url + "] is no URL: write tcp://host:port or ssl://host:port", e);
    }
    if (broker.getScheme() == null || !SCHEMES.contains(broker.getScheme()) || broker.getHost() == null
        || !"".equals(broker.getPath())) {
      throw new IllegalArgumentException("url [" + url + "] must be tcp://host:port or ssl://host:port");
    }
    return broker;
  }

  private byte[] secret() {
    if (!given(passwordFile)) {
      return given(password) ? password.getBytes(StandardCharsets.UTF_8) : null;
    }
    if (!given(userName)) {
      throw new IllegalArgumentException("passwordFile [" + passwordFile + "] without a user name: set userName");
    }
    try {
      return Files.readString(Path.of(passwordFile)).strip().getBytes(StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new IllegalArgumentException("passwordFile [" + passwordFile + "] cannot be read: " + e, e);
    }
  }

  private SSLContext tls() {
    if (given(certFile) != given(keyFile)) {
      throw new IllegalArgumentException("certFile [" + certFile + "] and keyFile [" + keyFile + "] must be set together");
    }
    try {
      return Pem.context(given(caFile) ? Path.of(caFile) : null, given(certFile) ? Path.of(certFile) : null,
          given(keyFile) ? Path.of(keyFile) : null);
    } catch (IOException | GeneralSecurityException e) {
      throw new IllegalArgumentException("TLS for [" + url + "] cannot be set up: " + e.getMessage(), e);
    }
  }

  private static boolean given(String value) {
    return value != null && !value.isEmpty();
  }

  /** @return the elements of a comma-separated list */
  public static List<String> list(String text) {
    List<String> elements = new ArrayList<>();
    for (String element : text.split(",")) {
      if (!element.isBlank()) {
        elements.add(element.strip());
      }
    }
    return elements;
  }
}
