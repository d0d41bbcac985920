// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import java.nio.file.Files;
import java.nio.file.Path;

/** A listener's options; set while the endpoint is made, only read after that. */
public final class Settings {
  public String host = "127.0.0.1";
  public int port = 1883;
  public int eventLoops = 2;
  public int receiveMaximum = 500;
  public int maxInFlight = 10_000;
  public long maxInFlightBytes = 32L << 20;
  public int maxConnections = 1000;
  public int maxPacketBytes = 69_632;
  public long connectTimeoutMs = 10_000;
  public int keepAliveSeconds = 300;
  public long failureDelayMs = 2000;
  public int maxPending = 500;
  public int maxPendingPerAddress = 100;
  public int connectsPerS = 50;
  public int maxConnectBytes = 4096;
  public int maxConnectionsPerDevice = 4;
  public boolean ownOnly;
  public String tlsCert;
  public String tlsKey;
  public String tlsClientCa;
  public String tlsCrl;
  /** Null: required if there is a tlsClientCa, else none. */
  public String tlsClientAuth;
  public String onReceiptsSubscribed;
  public String onSubscribed;
  /** Null or empty: no control topics. */
  public String gatewayId;

  /** @throws IllegalArgumentException names the option, its value and the rule */
  public void check(String name) {
    range(name, "port", port, 0, 65_535);
    range(name, "eventLoops", eventLoops, 1, 64);
    range(name, "receiveMaximum", receiveMaximum, 1, 65_535);
    range(name, "maxInFlight", maxInFlight, 1, 10_000_000);
    range(name, "maxInFlightBytes", maxInFlightBytes, 1, Long.MAX_VALUE);
    range(name, "maxConnections", maxConnections, 1, 1_000_000);
    range(name, "maxPacketBytes", maxPacketBytes, 128, 268_435_455);
    range(name, "connectTimeoutMs", connectTimeoutMs, 1, 3_600_000);
    range(name, "keepAliveSeconds", keepAliveSeconds, 1, 65_535);
    range(name, "failureDelayMs", failureDelayMs, 1, 3_600_000);
    range(name, "maxPending", maxPending, 1, Door.MAX_ADDRESSES / 2);
    range(name, "maxPendingPerAddress", maxPendingPerAddress, 1, Door.MAX_ADDRESSES / 2);
    range(name, "connectsPerS", connectsPerS, 0, 100_000);
    range(name, "maxConnectBytes", maxConnectBytes, 128, 268_435_455);
    range(name, "maxConnectionsPerDevice", maxConnectionsPerDevice, 1, 1_000_000);
    if (tls() && (blank(tlsCert) || blank(tlsKey))) {
      throw new IllegalArgumentException("mqtt-server:" + name + " needs both tlsCert [" + tlsCert + "] and tlsKey [" + tlsKey + "]");
    }
    if (!tls() && (!blank(tlsClientCa) || !blank(tlsCrl))) {
      throw new IllegalArgumentException("mqtt-server:" + name + " has tlsClientCa or tlsCrl but no tlsCert and tlsKey: without them it would not be encrypted");
    }
    if (!clientAuth().equals("none") && blank(tlsClientCa)) {
      throw new IllegalArgumentException("mqtt-server:" + name + " has tlsClientAuth [" + tlsClientAuth
          + "] but no tlsClientCa: give the authorities of client certificates, or none");
    }
    if (!blank(tlsCrl) && blank(tlsClientCa)) {
      throw new IllegalArgumentException("mqtt-server:" + name + " has tlsCrl [" + tlsCrl + "] but no tlsClientCa whose list it could be: give both");
    }
  }

  /**
   * Checked when the listener starts: one that is switched off needs no files.
   *
   * @throws IllegalArgumentException names the option, the file and the rule
   */
  void checkFiles(String name) {
    readable(name, "tlsCert", tlsCert);
    readable(name, "tlsKey", tlsKey);
    readable(name, "tlsClientCa", tlsClientCa);
    readable(name, "tlsCrl", tlsCrl);
  }

  /** none, optional or required. */
  String clientAuth() {
    return !blank(tlsClientAuth) ? tlsClientAuth : blank(tlsClientCa) ? "none" : "required";
  }

  boolean tls() {
    return !blank(tlsCert) || !blank(tlsKey);
  }

  static boolean blank(String value) {
    return value == null || value.isBlank();
  }

  private static void range(String name, String option, long value, long min, long max) {
    if (value < min || value > max) {
      throw new IllegalArgumentException("mqtt-server:" + name + " option " + option + " [" + value + "] must be " + min + " to " + max);
    }
  }

  private static void readable(String name, String option, String file) {
    if (!blank(file) && !Files.isReadable(Path.of(file))) {
      throw new IllegalArgumentException("mqtt-server:" + name + " option " + option + " [" + file
          + "] must be a readable PEM file: mosquitto/certs makes one, or correct the path");
    }
  }
}
