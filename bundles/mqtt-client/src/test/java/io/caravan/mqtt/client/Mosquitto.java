// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** A mosquitto of the test's own on a free port, with the shipped mosquitto.conf but for what its first block says. */
final class Mosquitto implements AutoCloseable {
  private static final Path SHIPPED = Path.of("../../mosquitto").toAbsolutePath().normalize();

  final int port;
  private final Path folder;
  private Process process;

  /** @param more lines of configuration after the shipped ones */
  Mosquitto(Path folder, boolean anonymous, String... more) throws IOException {
    this.folder = Files.createDirectories(folder);
    port = freePort();
    String conf = Files.readString(SHIPPED.resolve("mosquitto.conf"))
        .replaceFirst("(?m)^user .*", "user " + System.getProperty("user.name"))
        .replaceFirst("(?m)^persistence_location .*", "persistence_location " + folder + "/")
        .replaceFirst("(?m)^listener 1883 .*", "listener " + port + " 127.0.0.1")
        .replaceFirst("(?m)^plugin .*", anonymous ? "" : "password_file " + folder.resolve("passwords"))
        .replaceFirst("(?m)^plugin_opt_config_file .*", anonymous ? "" : "acl_file " + SHIPPED.resolve("caravan.acl"))
        .replaceFirst("(?m)^allow_anonymous .*", "allow_anonymous " + anonymous);
    Files.writeString(folder.resolve("mosquitto.conf"), conf + "\n" + String.join("\n", more) + "\n");
    Files.writeString(folder.resolve("passwords"), "");
  }

  void password(String user, String password) throws Exception {
    run("mosquitto_passwd", "-b", folder.resolve("passwords").toString(), user, password);
  }

  String url() {
    return "tcp://127.0.0.1:" + port;
  }

  Mosquitto start() throws Exception {
    process = new ProcessBuilder(binary(), "-c", folder.resolve("mosquitto.conf").toString())
        .redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(folder.resolve("log").toFile())).start();
    Until.true_("mosquitto listens", 10_000, () -> {
      if (!process.isAlive()) {
        throw new IllegalStateException("mosquitto ended: " + read(folder.resolve("log")));
      }
      try (Socket probe = new Socket(InetAddress.getLoopbackAddress(), port)) {
        return true;
      } catch (IOException e) {
        return false;
      }
    });
    return this;
  }

  void stop() throws Exception {
    process.destroy();
    if (!process.waitFor(10, TimeUnit.SECONDS)) {
      process.destroyForcibly().waitFor(5, TimeUnit.SECONDS);
    }
  }

  /** An access list instead of the shipped one. */
  void acl(String... lines) throws Exception {
    Path acl = Files.writeString(folder.resolve("acl"), String.join("\n", lines) + "\n");
    Path conf = folder.resolve("mosquitto.conf");
    Files.writeString(conf, Files.readString(conf).replaceFirst("(?m)^acl_file .*", "acl_file " + acl));
  }

  /** Halts it: connections stay, nothing answers. */
  void pause() throws Exception {
    run("kill", "-STOP", Long.toString(process.pid()));
  }

  void resume() throws Exception {
    run("kill", "-CONT", Long.toString(process.pid()));
  }

  void kill() throws Exception {
    process.destroyForcibly().waitFor(5, TimeUnit.SECONDS);
  }

  @Override
  public void close() throws Exception {
    if (process != null) {
      stop();
    }
  }

  static int freePort() throws IOException {
    for (int i = 0; i < 100; i++) {
      int port = ThreadLocalRandom.current().nextInt(20_001, 31_000);
      try (ServerSocket probe = new ServerSocket(port, 1, InetAddress.getLoopbackAddress())) {
        return port;
      } catch (IOException e) {
        continue;
      }
    }
    throw new IOException("no free port from 20001 to 31000");
  }

  static void run(String... command) throws Exception {
    Process p = new ProcessBuilder(command).redirectErrorStream(true).start();
    p.getOutputStream().close();
    String said = new String(p.getInputStream().readAllBytes());
    if (!p.waitFor(20, TimeUnit.SECONDS) || p.exitValue() != 0) {
      throw new IllegalStateException(String.join(" ", command) + " failed: " + said);
    }
  }

  private static String binary() {
    return Stream.concat(List.of("/usr/sbin", "/usr/local/sbin").stream(), Stream.of(System.getenv("PATH").split(":")))
        .map(folder -> Path.of(folder, "mosquitto")).filter(Files::isExecutable).map(Path::toString).findFirst()
        .orElseThrow(() -> new IllegalStateException("mosquitto is missing: apt-get install mosquitto mosquitto-clients"));
  }

  /** What it has logged so far. */
  String log() {
    return read(folder.resolve("log"));
  }

  private static String read(Path file) {
    try {
      return Files.readString(file);
    } catch (IOException e) {
      return e.toString();
    }
  }
}
