// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.netty.channel.Channel;
import io.netty.channel.ChannelPipeline;
import io.netty.handler.codec.mqtt.MqttDecoder;
import io.netty.handler.codec.mqtt.MqttEncoder;
import io.netty.handler.ssl.SslHandler;
import io.vertx.core.AbstractVerticle;
import io.vertx.core.Promise;
import io.vertx.core.net.NetServer;
import io.vertx.core.net.NetServerOptions;
import io.vertx.core.net.NetSocket;
import io.vertx.core.net.impl.NetSocketInternal;
import java.net.InetSocketAddress;
import java.util.HashSet;
import java.util.List;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;

/** One event loop's share of a listener: its socket, its sessions, its clock. Fields are of the loop's thread unless said. */
final class Loop extends AbstractVerticle {
  private static final long SWEEP_MS = 500;

  private final Listener listener;
  private final NetServerOptions options;
  private final Set<Session> sessions = new HashSet<>();
  /** Sessions with answers to send; filled by any thread. */
  private final Queue<Session> awake = new ConcurrentLinkedQueue<>();
  private final AtomicBoolean scheduled = new AtomicBoolean();
  private NetServer server;
  private long nowMs;

  Loop(Listener listener, NetServerOptions options) {
    this.listener = listener;
    this.options = options;
  }

  @Override
  public void start(Promise<Void> started) {
    nowMs = monotonicMs();
    vertx.setPeriodic(Math.min(SWEEP_MS, listener.settings().connectTimeoutMs), id -> sweep());
    server = vertx.createNetServer(options).connectHandler(this::accept);
    server.listen().onSuccess(s -> listener.listening(s.actualPort())).<Void>mapEmpty().onComplete(started);
  }

  private void accept(NetSocket socket) {
    NetSocketInternal internal = (NetSocketInternal) socket;
    Channel channel = internal.channelHandlerContext().channel();
    if (!(channel.remoteAddress() instanceof InetSocketAddress remote) || !listener.admit(remote.getAddress())) {
      channel.close();
      return;
    }
    SslHandler ssl = listener.tls() == null ? null : listener.tls().handler(channel.alloc());
    Session session = new Session(listener, this, internal, remote.getAddress(), ssl);
    sessions.add(session);
    ChannelPipeline pipeline = channel.pipeline();
    if (ssl != null) {
      pipeline.addFirst("ssl", ssl);
    }
    // The same three as in vertx-mqtt's server, whose endpoint hides the socket: it cannot pause reading, tell a
    // server keep-alive, answer many messages in one write, or see a user name without a password.
    pipeline.addBefore("handler", "mqttEncoder", MqttEncoder.INSTANCE);
    pipeline.addBefore("handler", "mqttFraming", new Framing(session));
    pipeline.addBefore("handler", "mqttDecoder", new MqttDecoder(listener.settings().maxPacketBytes));
    session.start();
  }

  void ended(Session session) {
    if (sessions.remove(session)) {
      session.leftDoor();
    }
  }

  /** Milliseconds of a monotonic clock, as of the last sweep. */
  long nowMs() {
    return nowMs;
  }

  private void sweep() {
    nowMs = monotonicMs();
    for (Session each : List.copyOf(sessions)) {
      each.sweep(nowMs);
    }
  }

  /** Any thread: the session has answers to send. One task on the loop serves all sessions that woke until it runs. */
  void wake(Session session) {
    awake.add(session);
    if (scheduled.compareAndSet(false, true)) {
      context.runOnContext(none -> {
        scheduled.set(false);
        for (Session next = awake.poll(); next != null; next = awake.poll()) {
          next.answer();
        }
      });
    }
  }

  /** Any thread. */
  void run(Runnable task) {
    context.runOnContext(none -> task.run());
  }

  /** Any thread. */
  void each(Consumer<Session> action) {
    run(() -> List.copyOf(sessions).forEach(action));
  }

  void after(long delayMs, Runnable task) {
    vertx.setTimer(delayMs, id -> task.run());
  }

  static long monotonicMs() {
    return TimeUnit.NANOSECONDS.toMillis(System.nanoTime());
  }
}
