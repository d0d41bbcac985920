// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** A cloud and a gateway that know each other, each on a store of its own; neither is started yet. Used by one thread. */
public final class Pair implements AutoCloseable {
  public static final String GATEWAY_ID = "it";
  /** Short, so that a test sees windows soon. */
  static final long WINDOW_MS = 1_000;

  public final Distribution cloud;
  public final Distribution gateway;
  public final int mqttPort = Ports.free();
  public final int brokerPort = Ports.free();
  public final int uplinkPort = Ports.free();
  public final Path folder;
  public final Path gatewayDb;
  public final Path cloudDb;

  /** @param name of the folders below target/it */
  public Pair(String name) {
    this(Distribution.REPO.resolve("test-routes/target/it"), name);
  }

  /** @param base where folders {@code <name>}, {@code <name>-cloud} and {@code <name>-gateway} are made */
  public Pair(Path base, String name) {
    try {
      cloud = Distribution.unpack("cloud", base.resolve(name + "-cloud"));
      gateway = Distribution.unpack("gateway", base.resolve(name + "-gateway"));
      folder = base.resolve(name);
      Distribution.delete(folder);
      Files.createDirectories(folder);
      gatewayDb = folder.resolve("gateway/gateway.db");
      cloudDb = folder.resolve("cloud/cloud.db");

      Path certs = folder.resolve("certs");
      certs("init", certs.toString());
      certs("server", certs.toString(), "cloud", "localhost", "127.0.0.1");
      byte[] random = new byte[32];
      new SecureRandom().nextBytes(random);
      String token = HexFormat.of().formatHex(random);
      Path tokenFile = Files.writeString(folder.resolve("gateway.token"), token + "\n");
      String hash = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(token.getBytes(StandardCharsets.US_ASCII)));
      Path gateways = Files.writeString(folder.resolve("gateways"), GATEWAY_ID + " = sha256:" + hash + "\n");

      cloud.with("store.path", cloudDb).with("uplink.port", uplinkPort).with("uplink.tls.cert", certs.resolve("cloud.crt"))
          .with("uplink.tls.key", certs.resolve("cloud.key")).with("uplink.gateways.file", gateways);
      gateway.with("wal.path", gatewayDb).with("mqtt.server.port", mqttPort).with("gateway.id", GATEWAY_ID)
          .with("uplink.url", "wss://localhost:" + uplinkPort).with("uplink.token.file", tokenFile)
          .with("uplink.ca.file", certs.resolve("ca.crt"))
          .with("rollup.window.ms", WINDOW_MS).with("rollup.grace.ms", 200).with("rollup.emit.ms", 200).with("receipt.interval.ms", 100)
          // After a kill the other side must not wait longer than the test's own start does.
          .with("uplink.reconnect.min.ms", 100).with("uplink.reconnect.max.ms", 1_000);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    } catch (GeneralSecurityException e) {
      throw new IllegalStateException(e);
    }
  }

  /** The gateway takes messages from a broker on {@link #brokerPort}, and not by itself. */
  public Pair viaBroker() {
    gateway.with("ingest.direct.enabled", false).with("ingest.mqtt.enabled", true).with("mqtt.client.url", "tcp://127.0.0.1:" + brokerPort)
        .with("mqtt.client.reconnect.min.ms", 100).with("mqtt.client.reconnect.max.ms", 1_000).with("mqtt.client.redelivery.delay.ms", 500);
    return this;
  }

  /** Runs mosquitto/certs. */
  public void certs(String... arguments) {
    List<String> command = Stream.concat(Stream.of(Distribution.REPO.resolve("mosquitto/certs").toString()), Arrays.stream(arguments)).toList();
    Child certs = Child.start("certs", command, Map.of(), folder, folder.resolve("certs.log"));
    if (certs.awaitExit(Duration.ofSeconds(60)) != 0) {
      throw new AssertionError("certificates could not be made: " + certs.output());
    }
  }

  /** Both at once, and waits for both; neither runs when one does not get ready. */
  public Pair start() {
    try {
      cloud.start();
      gateway.start();
      cloud.awaitReady();
      gateway.awaitReady();
      return this;
    } catch (RuntimeException | Error e) {
      close();
      throw e;
    }
  }

  /** The address of one of the gateway's devices in the cloud's API. */
  static String api(String deviceId, String what) {
    return "/api/v1/devices/" + GATEWAY_ID + "/" + deviceId + "/" + what;
  }

  @Override
  public void close() {
    gateway.close();
    cloud.close();
  }
}
