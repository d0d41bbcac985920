// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import io.caravan.runtime.Config;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * How to reach the broker, as whom, and where its state is kept. Immutable.
 *
 * @param gatewayId    name of this gateway in the topics of controllers
 * @param user         of the driver
 * @param passwordFile of the driver; null: by certificate
 * @param gatewayUser  of the gateway's other connections
 * @param gatewayPasswordFile, gatewayPassword of that user, the file before the text; null: by certificate
 * @param caFile, certFile, keyFile empty: none
 */
public record Settings(String url, String gatewayId, String clientId, String user, Path passwordFile, String gatewayUser, Path gatewayPasswordFile,
    String gatewayPassword, String caFile, String certFile, String keyFile, int keepAliveSeconds, long connectTimeoutMs,
    long reconnectMinMs, long reconnectMaxMs, Path stateFile, long reconcileMs) {

  private static final String GATEWAY = "gateway";

  public static Settings of(Config config) {
    String own = config.get("broker.url");
    String url = own.isEmpty() ? config.get("mqtt.client.url") : own;
    String ca = config.get("broker.ca.file");
    String gateway = config.get("mqtt.client.user");
    return new Settings(url, config.get("gateway.id"), config.get("mqtt.client.id") + "-broker", config.get("broker.user"), path(config, "broker.password.file"),
        gateway.isEmpty() ? GATEWAY : gateway, path(config, "mqtt.client.password.file"),
        config.get("mqtt.client.password").isEmpty() ? null : config.get("mqtt.client.password"),
        text(config, !ca.isEmpty() || !own.isEmpty() ? "broker.ca.file" : "mqtt.client.ca.file"), text(config, "broker.cert.file"),
        text(config, "broker.key.file"), (int) config.getLong("mqtt.client.keepalive.s"), config.getLong("mqtt.client.connect.timeout.ms"),
        config.getLong("mqtt.client.reconnect.min.ms"), config.getLong("mqtt.client.reconnect.max.ms"), config.getPath("broker.state.file"),
        config.getLong("broker.reconcile.ms"));
  }

  private static Path path(Config config, String key) {
    return config.get(key).isEmpty() ? null : config.getPath(key);
  }

  private static String text(Config config, String key) {
    Path path = path(config, key);
    return path == null ? "" : path.toString();
  }

  /** @throws IOException the file cannot be read; the message names it and says who makes it */
  String readPassword() throws IOException {
    if (passwordFile == null) {
      return null;
    }
    try {
      return Files.readString(passwordFile).strip();
    } catch (IOException e) {
      throw new IOException("broker.password.file [" + passwordFile + "] cannot be read (" + e.getClass().getSimpleName()
          + "): mosquitto/run makes it when it starts the broker for the first time", e);
    }
  }

  String readGatewayPassword() throws IOException {
    if (gatewayPasswordFile == null) {
      return gatewayPassword;
    }
    try {
      return Files.readString(gatewayPasswordFile).strip();
    } catch (IOException e) {
      throw new IOException("mqtt.client.password.file [" + gatewayPasswordFile + "] cannot be read (" + e.getClass().getSimpleName()
          + "): mosquitto/run makes gateway.password beside broker.state.file", e);
    }
  }

  /** Its presence asks mosquitto/run to start the broker anew. */
  Path restartFile() {
    return stateFile.resolveSibling("restart");
  }

  /** Leaves the secret out. */
  @Override
  public String toString() {
    return "Settings[" + url + ", " + user + "]";
  }
}
