// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.torture.Proxy.Mode;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** The network in user space, in front of a server that says what it hears. */
class ProxyTest {
  private ServerSocket echo;
  private Proxy proxy;

  @BeforeEach
  void start() throws IOException {
    echo = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    Thread thread = new Thread(() -> {
      try {
        while (true) {
          Socket socket = echo.accept();
          Thread one = new Thread(() -> {
            try (socket) {
              socket.getInputStream().transferTo(socket.getOutputStream());
            } catch (IOException gone) {
              // the test is over
            }
          });
          one.setDaemon(true);
          one.start();
        }
      } catch (IOException closed) {
        // the test is over
      }
    });
    thread.setDaemon(true);
    thread.start();
    proxy = new Proxy(echo.getLocalPort());
  }

  @AfterEach
  void stop() throws IOException {
    proxy.close();
    echo.close();
  }

  private Socket connect() throws IOException {
    Socket socket = new Socket(InetAddress.getLoopbackAddress(), proxy.port());
    socket.setSoTimeout(10_000);
    return socket;
  }

  private static byte[] ask(Socket socket, byte[] bytes) throws IOException {
    socket.getOutputStream().write(bytes);
    return socket.getInputStream().readNBytes(bytes.length);
  }

  private static void expectSilence(Socket socket) throws IOException {
    socket.setSoTimeout(300);
    assertThrows(SocketTimeoutException.class, () -> socket.getInputStream().read());
    socket.setSoTimeout(10_000);
  }

  @Test
  void openPassesEverythingUnchangedAlsoWhenLateAndLossy() throws IOException {
    byte[] bytes = new byte[300_000];
    new Random(1).nextBytes(bytes);
    try (Socket socket = connect()) {
      assertArrayEquals(new byte[] {1, 2, 3}, ask(socket, new byte[] {1, 2, 3}));
      proxy.bad(5, 0.1, 0);
      Thread writer = new Thread(() -> {
        try {
          socket.getOutputStream().write(bytes);
        } catch (IOException e) {
          throw new IllegalStateException(e);
        }
      });
      writer.start();
      assertArrayEquals(bytes, socket.getInputStream().readNBytes(bytes.length));
    }
  }

  @Test
  void delayIsAtLeastWhatWasAskedFor() throws IOException {
    try (Socket socket = connect()) {
      ask(socket, new byte[1]);
      proxy.bad(100, 0, 0);
      long begun = System.nanoTime();
      ask(socket, new byte[1]);
      assertTrue(System.nanoTime() - begun >= 200_000_000L, "both ways");
    }
  }

  @Test
  void cutEndsWhatIsThereAndWhatComesUntilItIsMended() throws IOException {
    try (Socket socket = connect()) {
      ask(socket, new byte[1]);
      proxy.mode(Mode.CUT);
      assertTrue(ended(socket));
      try (Socket other = connect()) {
        assertTrue(ended(other));
      }
    }
    proxy.mend();
    try (Socket socket = connect()) {
      assertArrayEquals(new byte[] {7}, ask(socket, new byte[] {7}));
    }
    assertEquals(3, proxy.accepted());
  }

  private static boolean ended(Socket socket) {
    try {
      return socket.getInputStream().read() < 0;
    } catch (IOException reset) {
      return true;
    }
  }

  @Test
  void silentKeepsTheConnectionAndSwallows() throws IOException {
    try (Socket socket = connect()) {
      ask(socket, new byte[1]);
      proxy.mode(Mode.SILENT);
      socket.getOutputStream().write(1);
      expectSilence(socket);
      proxy.mend();
      assertTrue(ended(socket), "a stream of which something is missing must not go on");
    }
  }

  @Test
  void heldAnswersComeWhenItIsMended() throws IOException {
    try (Socket socket = connect()) {
      ask(socket, new byte[1]);
      proxy.mode(Mode.ANSWERS_HELD);
      socket.getOutputStream().write(9);
      expectSilence(socket);
      proxy.mend();
      assertEquals(9, socket.getInputStream().read());
    }
  }

  @Test
  void stalledTakesNoMoreThanBuffersHold() throws Exception {
    try (Socket socket = connect()) {
      ask(socket, new byte[1]);
      proxy.mode(Mode.STALLED);
      Thread writer = new Thread(() -> {
        try {
          byte[] piece = new byte[65_536];
          for (int i = 0; i < 1_000; i++) {
            socket.getOutputStream().write(piece);
          }
        } catch (IOException closed) {
          // the test is over
        }
      });
      writer.setDaemon(true);
      writer.start();
      long passed = proxy.passed();
      await().until(() -> writer.getState() == Thread.State.RUNNABLE || writer.getState() == Thread.State.TERMINATED);
      writer.join(500);
      assertTrue(writer.isAlive(), "64 MB fit into buffers");
      assertTrue(proxy.passed() - passed <= 65_536, "something was passed on");
    }
  }

  @Test
  void garbledAnswersHaveTheirLengthAndNothingElse() throws IOException {
    byte[] bytes = new byte[64];
    try (Socket socket = connect()) {
      ask(socket, new byte[1]);
      proxy.mode(Mode.ANSWERS_GARBLED);
      assertFalse(Arrays.equals(bytes, ask(socket, bytes)));
      proxy.mend();
      assertTrue(ended(socket));
    }
  }

  private byte[] garbled(long seed) throws IOException {
    proxy.seed(seed);
    try (Socket socket = connect()) {
      proxy.mode(Mode.OPEN);
      ask(socket, new byte[1]);
      proxy.mode(Mode.ANSWERS_GARBLED);
      return ask(socket, new byte[64]);
    }
  }

  @Test
  void chanceIsTheSeeds() throws IOException {
    byte[] noise = garbled(7);
    assertArrayEquals(noise, garbled(7));
    assertFalse(Arrays.equals(noise, garbled(8)));
  }

  @Test
  void lossesAreCounted() throws IOException {
    try (Socket socket = connect()) {
      ask(socket, new byte[10]);
      assertEquals(0, proxy.losses());
      proxy.bad(0, 1, 0);
      ask(socket, new byte[10]);
      assertTrue(proxy.losses() >= 2, "there and back");
    }
  }
}
