// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.it.Child;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The kernel drops what it is told to, for as long as it is told to, and no longer than who told it is there. As root. */
class NftIT {
  private static final int PATIENCE_MS = 30_000;

  @TempDir
  Path folder;

  /** A campaign in the middle of a drop. */
  public static void main(String[] args) throws Exception {
    Nft.drop(Integer.parseInt(args[0]));
    System.out.println("dropping");
    Thread.currentThread().join();
  }

  private static boolean connects(int port, int limitMs) throws IOException {
    try (Socket socket = new Socket()) {
      socket.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), limitMs);
      return true;
    } catch (SocketTimeoutException dropped) {
      return false;
    }
  }

  @Test
  void packetsAreDroppedCountedAndDroppedNoMore() throws Exception {
    assertNull(Nft.missing());
    try (ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
      int port = server.getLocalPort();
      Nft.drop(port);
      try {
        assertEquals(0, Nft.dropped(port));
        assertTrue(!connects(port, 300));
        assertTrue(Nft.dropped(port) > 0);
        Nft.clean();
        assertTrue(!connects(port, 300), "who dropped it is there");
      } finally {
        Nft.clear(port);
      }
      assertTrue(connects(port, PATIENCE_MS));
    }
  }

  @Test
  void nothingIsDroppedForAProcessThatIsGone() throws Exception {
    try (ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
      int port = server.getLocalPort();
      Child ended = dropper("ended", port);
      assertTrue(!connects(port, 300));
      ended.stop(Duration.ofSeconds(30));
      assertTrue(connects(port, PATIENCE_MS), "SIGTERM, and the kernel goes on dropping");

      dropper("killed", port).kill();
      assertTrue(!connects(port, 300), "a process that is killed can do nothing about it: what is cleaned?");
      Nft.clean();
      assertTrue(connects(port, PATIENCE_MS), "the next campaign does not remove it");
    }
  }

  private Child dropper(String name, int port) {
    Child child = Child.start(name, List.of(Path.of(System.getProperty("java.home"), "bin/java").toString(), "-Drepo.dir=" + System.getProperty("repo.dir"), "-cp",
        System.getProperty("java.class.path"), NftIT.class.getName(), Integer.toString(port)), Map.of(), folder, folder.resolve(name));
    await().atMost(Duration.ofMillis(PATIENCE_MS)).until(() -> child.output().contains("dropping"));
    return child;
  }
}
