// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/** TCP in between two ends that can be cut, or frozen: connections stay, new ones are taken, and nothing moves. */
final class Proxy implements AutoCloseable {

    final AtomicInteger accepted = new AtomicInteger();
    private final ServerSocket server;
    private final Set<Socket> sockets = ConcurrentHashMap.newKeySet();
    private final AtomicInteger open = new AtomicInteger();
    private final ReentrantLock lock = new ReentrantLock();
    private final Condition thawed = lock.newCondition();
    private final AtomicInteger most = new AtomicInteger();
    private boolean frozen;
    private boolean deafBack;
    private volatile boolean refusing;
    private volatile boolean closed;
    private volatile int target;

    Proxy(int target) throws IOException {
        this.target = target;
        server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        daemon(this::accept);
    }

    int port() {
        return server.getLocalPort();
    }

    int open() {
        return open.get();
    }

    /** @return the most connections that were open at one time */
    int most() {
        return most.get();
    }

    void freeze(boolean on) {
        gate(() -> frozen = on);
    }

    /** What comes from the target is swallowed: a peer that takes everything and answers nothing. */
    void mute(boolean on) {
        gate(() -> deafBack = on);
    }

    void refuse(boolean on) {
        refusing = on;
    }

    void target(int port) {
        target = port;
    }

    void cut() {
        sockets.forEach(Proxy::quietly);
    }

    private void gate(Runnable change) {
        lock.lock();
        try {
            change.run();
            thawed.signalAll();
        } finally {
            lock.unlock();
        }
    }

    private void accept() {
        while (!closed) {
            try {
                Socket near = server.accept();
                if (refusing) {
                    near.setSoLinger(true, 0);
                    near.close();
                    continue;
                }
                accepted.incrementAndGet();
                most.accumulateAndGet(open.incrementAndGet(), Math::max);
                Socket far = new Socket(InetAddress.getLoopbackAddress(), target);
                sockets.add(near);
                sockets.add(far);
                daemon(() -> pump(near, far, false));
                daemon(() -> {
                    pump(far, near, true);
                    open.decrementAndGet();
                });
            } catch (IOException e) {
                if (!closed) {
                    open.decrementAndGet();
                }
            }
        }
    }

    private void pump(Socket from, Socket to, boolean back) {
        byte[] buffer = new byte[16_384];
        try {
            for (int n = from.getInputStream().read(buffer); n >= 0; n = from.getInputStream().read(buffer)) {
                lock.lock();
                try {
                    while (frozen && !closed && !from.isClosed()) {
                        thawed.awaitUninterruptibly();
                    }
                    if (back && deafBack) {
                        continue;
                    }
                } finally {
                    lock.unlock();
                }
                to.getOutputStream().write(buffer, 0, n);
            }
        } catch (IOException gone) {
            // One end went: take the other one along.
        }
        quietly(from);
        quietly(to);
        sockets.remove(from);
        sockets.remove(to);
    }

    private static void quietly(Socket socket) {
        try {
            socket.close();
        } catch (IOException ignored) {
            // Nothing left to close.
        }
    }

    private static void daemon(Runnable task) {
        Thread thread = new Thread(task, "proxy");
        thread.setDaemon(true);
        thread.start();
    }

    @Override
    public void close() throws IOException {
        closed = true;
        server.close();
        gate(() -> frozen = false);
        cut();
    }
}
