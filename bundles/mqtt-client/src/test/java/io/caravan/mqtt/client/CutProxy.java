// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** A cable between client and broker that can be pulled. */
final class CutProxy implements AutoCloseable {
  final int port;
  private final ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
  private final Set<Socket> sockets = ConcurrentHashMap.newKeySet();
  private final int target;
  private volatile boolean open = true;

  CutProxy(int target) throws IOException {
    this.target = target;
    port = server.getLocalPort();
    daemon(this::accept);
  }

  void cut() {
    open = false;
    sockets.forEach(CutProxy::shut);
    sockets.clear();
  }

  void mend() {
    open = true;
  }

  private void accept() {
    while (!server.isClosed()) {
      try {
        Socket near = server.accept();
        if (!open) {
          shut(near);
          continue;
        }
        Socket far = new Socket(InetAddress.getLoopbackAddress(), target);
        sockets.add(near);
        sockets.add(far);
        daemon(() -> copy(near, far));
        daemon(() -> copy(far, near));
      } catch (IOException e) {
        // The broker is away or the proxy is closed.
      }
    }
  }

  private static void copy(Socket from, Socket to) {
    try {
      from.getInputStream().transferTo(to.getOutputStream());
    } catch (IOException e) {
      // Cut.
    }
    shut(from);
    shut(to);
  }

  private static void daemon(Runnable task) {
    Thread thread = new Thread(task, "cut-proxy");
    thread.setDaemon(true);
    thread.start();
  }

  private static void shut(Socket socket) {
    try {
      socket.close();
    } catch (IOException e) {
      // It is of no use any more.
    }
  }

  @Override
  public void close() throws IOException {
    cut();
    server.close();
  }
}
