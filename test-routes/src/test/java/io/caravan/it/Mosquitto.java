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

/** A mosquitto of our own, without its persistence: after SIGKILL it knows nothing, the worst a broker can do. */
final class Mosquitto implements AutoCloseable {
  final int port;
  private final Path folder;
  private final Path binary;
  private Child child;

  Mosquitto(Path folder, int port) throws IOException {
    this.folder = Files.createDirectories(folder);
    this.port = port;
    this.binary = Stream.of("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto").map(Path::of)
        .filter(Files::isExecutable).findFirst()
        .orElseThrow(() -> new AssertionError("mosquitto is not installed: apt-get install -y mosquitto"));
    Files.writeString(folder.resolve("mosquitto.conf"), """
        listener %d 127.0.0.1
        allow_anonymous true
        persistence false
        max_queued_messages 0
        max_inflight_messages 0
        set_tcp_nodelay true
        """.formatted(port));
  }

  void start() {
    child = Child.start("mosquitto", List.of(binary.toString(), "-c", "mosquitto.conf"), Map.of(), folder, folder.resolve("mosquitto.log"));
    await("mosquitto on port " + port).atMost(Duration.ofSeconds(20)).until(() -> listens(port));
  }

  static boolean listens(int port) {
    try (Socket socket = new Socket()) {
      socket.connect(new InetSocketAddress("127.0.0.1", port), 500);
      return true;
    } catch (IOException e) {
      return false;
    }
  }

  void kill() {
    child.kill();
  }

  @Override
  public void close() {
    if (child != null) {
      child.close();
    }
  }
}
