// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** A network between a client and a port of this machine that can be cut: connections end, new ones are refused, until it is mended. */
final class Cut implements AutoCloseable {
  private final ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
  private final Set<Socket> sockets = ConcurrentHashMap.newKeySet();
  private final int target;
  private volatile boolean cut;

  Cut(int target) throws IOException {
    this.target = target;
    daemon(this::accept);
  }

  int port() {
    return server.getLocalPort();
  }

  void cut() {
    cut = true;
    sockets.forEach(Cut::quietly);
  }

  void mend() {
    cut = false;
  }

  private void accept() {
    while (!server.isClosed()) {
      try {
        Socket near = server.accept();
        sockets.add(near);
        if (cut) {
          quietly(near);
          continue;
        }
        Socket far = new Socket(InetAddress.getLoopbackAddress(), target);
        sockets.add(far);
        if (cut) {
          sockets.forEach(Cut::quietly);
        }
        daemon(() -> pump(near, far));
        daemon(() -> pump(far, near));
      } catch (IOException away) {
        // Nobody listens at the other end, or this end is closed: whoever came sees a closed connection.
        sockets.stream().filter(s -> s.getLocalPort() == port()).forEach(Cut::quietly);
      }
    }
  }

  private void pump(Socket from, Socket to) {
    try (from; to) {
      from.getInputStream().transferTo(to.getOutputStream());
    } catch (IOException gone) {
      // one end went, and takes the other one along
    }
    sockets.remove(from);
    sockets.remove(to);
  }

  private static void quietly(Socket socket) {
    try {
      socket.close();
    } catch (IOException ignored) {
      // nothing left to close
    }
  }

  private static void daemon(Runnable task) {
    Thread thread = new Thread(task, "cut");
    thread.setDaemon(true);
    thread.start();
  }

  @Override
  public void close() throws IOException {
    server.close();
    cut();
  }
}
