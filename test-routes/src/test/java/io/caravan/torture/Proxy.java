// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;

/**
 * A network between clients and a port of this machine, in user space: it can refuse, be silent, stand still, be late, narrow or
 * lossy, in one direction or both. What TCP does about a lost segment (the stream stands still until it is sent again) is what
 * loss looks like here. Thread-safe; a mode holds for connections that exist, too.
 */
public final class Proxy implements AutoCloseable {
  /** What it does with what it reads. */
  public enum Mode {
    /** Passes everything on. */
    OPEN,
    /** Ends all connections and every new one. */
    CUT,
    /** Takes connections and all that is sent, passes nothing on and says nothing: both ends believe that the other is there. */
    SILENT,
    /** Reads nothing: what is sent fills the buffers of both ends, until it fits no more. */
    STALLED,
    /** Passes on what clients send, and holds what the server answers. */
    ANSWERS_HELD,
    /** Passes on what clients send, and of what the server answers only its length. */
    ANSWERS_GARBLED
  }

  private static final int PIECE = 16 * 1024;
  /** What a sender's retransmission timer makes of a lost segment. */
  private static final long RETRANSMISSION_MS = 200;

  private record Piece(byte[] bytes, long dueNs) { }

  private final ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
  private final Set<Socket> sockets = ConcurrentHashMap.newKeySet();
  private final int target;
  private final AtomicLong passed = new AtomicLong();
  private final AtomicLong accepted = new AtomicLong();
  private final AtomicLong losses = new AtomicLong();
  private volatile Random random = new Random(1);
  private volatile Mode mode = Mode.OPEN;
  private volatile long delayMs;
  private volatile double loss;
  private volatile long bytesPerSecond;

  /** @param target port of the loopback */
  public Proxy(int target) throws IOException {
    this.target = target;
    daemon(this::accept);
  }

  /** @return where clients connect to */
  public int port() {
    return server.getLocalPort();
  }

  /** @return bytes that were passed on so far, both ways */
  public long passed() {
    return passed.get();
  }

  /** @return connections so far, those that were refused, too */
  public long accepted() {
    return accepted.get();
  }

  /** @return segments that were lost and sent again so far */
  public long losses() {
    return losses.get();
  }

  /** What is lost, and what is made of an answer, is this seed's choice from now on. */
  public void seed(long seed) {
    random = new Random(seed);
  }

  /** From now on; {@link Mode#CUT} ends what is connected. */
  public void mode(Mode other) {
    synchronized (this) {
      mode = other;
      notifyAll();
    }
    if (other == Mode.CUT) {
      reset();
    }
  }

  /** Ends all connections; new ones are as the mode says. */
  public void reset() {
    sockets.forEach(Proxy::quietly);
  }

  /**
   * From now on, in both directions each.
   *
   * @param oneWayMs half of what the round trip takes longer
   * @param lost     share of segments that are lost and sent again
   * @param rate     bytes per second, 0: any
   */
  public void bad(long oneWayMs, double lost, long rate) {
    delayMs = oneWayMs;
    loss = lost;
    bytesPerSecond = rate;
  }

  /** As it was made: what was held is passed on; connections of which something was swallowed or garbled end. */
  public void mend() {
    bad(0, 0, 0);
    boolean swallowed = mode == Mode.SILENT || mode == Mode.ANSWERS_GARBLED;
    mode(Mode.OPEN);
    if (swallowed) {
      reset();
    }
  }

  private void accept() {
    while (!server.isClosed()) {
      try {
        Socket near = server.accept();
        accepted.incrementAndGet();
        sockets.add(near);
        if (mode == Mode.CUT) {
          gone(near);
          continue;
        }
        Socket far;
        try {
          far = new Socket(InetAddress.getLoopbackAddress(), target);
        } catch (IOException away) {
          gone(near);
          continue;
        }
        sockets.add(far);
        near.setTcpNoDelay(true);
        far.setTcpNoDelay(true);
        if (mode == Mode.CUT) {
          gone(near);
          gone(far);
          continue;
        }
        pump(near, far, /* answers= */ false);
        pump(far, near, /* answers= */ true);
      } catch (IOException closed) {
        // this end is closed
      }
    }
  }

  /** Two threads: one reads and says when it is due, one writes when it is, so that a delay is no limit to the rate. */
  private void pump(Socket from, Socket to, boolean answers) {
    Deque<Piece> under = new ArrayDeque<>();
    daemon(() -> {
      try (InputStream in = from.getInputStream()) {
        byte[] buffer = new byte[PIECE];
        long lineFreeNs = System.nanoTime();
        while (true) {
          awaitReading(from);
          int n = in.read(buffer);
          if (n < 0) {
            break;
          }
          if (mode == Mode.SILENT) {
            continue;
          }
          long now = System.nanoTime();
          long rate = bytesPerSecond;
          lineFreeNs = Math.max(now, lineFreeNs) + (rate == 0 ? 0 : n * 1_000_000_000L / rate) + (lost() ? (RETRANSMISSION_MS + 2 * delayMs) * 1_000_000L : 0);
          Piece piece = new Piece(Arrays.copyOf(buffer, n), lineFreeNs + delayMs * 1_000_000L);
          synchronized (under) {
            under.add(piece);
            under.notifyAll();
            while (under.size() > 256 && !from.isClosed()) {
              under.wait(100);
            }
          }
        }
      } catch (IOException | InterruptedException gone) {
        // takes the other one along
      }
      synchronized (under) {
        under.add(new Piece(null, System.nanoTime()));
        under.notifyAll();
      }
    });
    daemon(() -> {
      try (OutputStream out = to.getOutputStream()) {
        while (true) {
          Piece piece;
          synchronized (under) {
            while (under.isEmpty()) {
              under.wait();
            }
            piece = under.poll();
            under.notifyAll();
          }
          awaitDue(piece, answers, to);
          if (piece.bytes == null) {
            break;
          }
          if (mode != Mode.SILENT) {
            if (answers && mode == Mode.ANSWERS_GARBLED) {
              garble(piece.bytes);
            }
            out.write(piece.bytes);
            out.flush();
            passed.addAndGet(piece.bytes.length);
          }
        }
      } catch (IOException | InterruptedException gone) {
        // as above
      }
      gone(from);
      gone(to);
    });
  }

  private synchronized void garble(byte[] bytes) {
    random.nextBytes(bytes);
  }

  private synchronized boolean lost() {
    boolean is = loss > 0 && random.nextDouble() < loss;
    if (is) {
      losses.incrementAndGet();
    }
    return is;
  }

  private synchronized void awaitReading(Socket from) throws InterruptedException {
    while (mode == Mode.STALLED && !from.isClosed()) {
      wait(100);
    }
  }

  private void awaitDue(Piece piece, boolean answers, Socket to) throws InterruptedException {
    synchronized (this) {
      while (answers && mode == Mode.ANSWERS_HELD && !to.isClosed()) {
        wait(100);
      }
    }
    for (long left; (left = piece.dueNs - System.nanoTime()) > 0 && !to.isClosed();) {
      LockSupport.parkNanos(Math.min(left, 100_000_000L));
    }
  }

  private void gone(Socket socket) {
    quietly(socket);
    sockets.remove(socket);
  }

  private static void quietly(Socket socket) {
    try {
      socket.close();
    } catch (IOException ignored) {
      // nothing left to close
    }
  }

  private static void daemon(Runnable task) {
    Thread thread = new Thread(task, "proxy");
    thread.setDaemon(true);
    thread.start();
  }

  @Override
  public void close() throws IOException {
    server.close();
    mode(Mode.CUT);
  }
}
