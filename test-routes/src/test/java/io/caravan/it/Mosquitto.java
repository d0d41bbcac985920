// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** A mosquitto of our own; by default without its persistence: after SIGKILL it knows nothing, the worst a broker can do. */
public final class Mosquitto implements AutoCloseable {
  public final int port;
  private final Path folder;
  private final Path binary;
  private Child child;

  public Mosquitto(Path folder, int port) throws IOException {
    this(folder, port, "allow_anonymous true", "persistence false", "max_queued_messages 0");
  }

  /** @param settings lines of mosquitto.conf, who may connect and what is kept; files are relative to the folder */
  public Mosquitto(Path folder, int port, String... settings) throws IOException {
    this.folder = Files.createDirectories(folder);
    this.port = port;
    this.binary = Stream.of("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto").map(Path::of)
        .filter(Files::isExecutable).findFirst()
        .orElseThrow(() -> new AssertionError("mosquitto is not installed: apt-get install -y mosquitto"));
    Files.writeString(folder.resolve("mosquitto.conf"), """
        listener %d 127.0.0.1
        user %s
        max_inflight_messages 0
        set_tcp_nodelay true
        %s
        """.formatted(port, System.getProperty("user.name"), String.join("\n", settings)));
  }

  public void start() {
    child = Child.start("mosquitto", List.of(binary.toString(), "-c", "mosquitto.conf"), Map.of(), folder, folder.resolve("mosquitto.log"));
    await("mosquitto on port " + port).atMost(Duration.ofSeconds(20)).until(() -> listens(port));
  }

  public static boolean listens(int port) {
    try (Socket socket = new Socket()) {
      socket.connect(new InetSocketAddress("127.0.0.1", port), 500);
      return true;
    } catch (IOException e) {
      return false;
    }
  }

  public void kill() {
    child.kill();
  }

  /** SIGTERM: it writes down what it keeps. */
  public void stop() {
    child.stop(Duration.ofSeconds(20));
  }

  /** @param name STOP, CONT, or HUP to read passwords and access list again */
  public void signal(String name) {
    child.signal(name);
  }

  @Override
  public void close() {
    if (child != null) {
      child.close();
    }
  }
}
