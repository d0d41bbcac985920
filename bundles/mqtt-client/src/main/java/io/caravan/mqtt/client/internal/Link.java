// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client.internal;

import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttActionListener;
import org.eclipse.paho.mqttv5.client.MqttAsyncClient;
import org.eclipse.paho.mqttv5.client.MqttCallback;
import org.eclipse.paho.mqttv5.client.MqttDisconnectResponse;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Keeps one connection to a broker, and makes a new one, with exponential backoff and jitter, whenever it is gone. Thread-safe;
 * everything that changes state happens on one thread of its own, and no caller waits for the broker.
 */
public final class Link {
  private static final Logger LOG = LoggerFactory.getLogger(Link.class);
  private static final long CHECK_MS = 500;
  /** A connection that lived longer than this was good: the next attempt begins with the shortest delay again. */
  private static final long STABLE_NS = TimeUnit.SECONDS.toNanos(10);
  private static final long CLOSE_MS = 3_000;
  private static final long CLOSE_QUIESCE_MS = 1_000;

  /** What is done with each connection. Called on Paho's or the link's thread: must not block. */
  public interface Use {
    /** A message came. */
    default void received(Line line, String topic, MqttMessage message) {}

    /** The connection stands; must lead to {@link Link#ready} or {@link Link#broken}. */
    void connected(Line line) throws MqttException;

    /** The connection is gone. */
    default void lost(Line line) {}
  }

  private final Settings settings;
  private final Use use;
  private final Meters meters;
  private final ScheduledThreadPoolExecutor loop;
  private Line current;
  private int attempts;
  private boolean stopped;
  private volatile String trouble = "not connected yet";
  private volatile boolean refused;

  public Link(Settings settings, Use use, Meters meters) {
    this.settings = settings;
    this.meters = meters;
    this.use = use;
    loop = new ScheduledThreadPoolExecutor(1, task -> daemon(task, "caravan-mqtt-" + settings.clientId));
    loop.setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
  }

  /** Starts to connect and returns at once. */
  public void start() {
    loop.execute(this::open);
    loop.scheduleWithFixedDelay(this::check, CHECK_MS, CHECK_MS, TimeUnit.MILLISECONDS);
  }

  /** Ends the connection, the session stays with the broker. Waits for it, a few seconds at most. */
  public void stop() {
    Thread[] closing = new Thread[1];
    execute(() -> {
      stopped = true;
      trouble = "stopped";
      if (current != null) {
        current.over = true;
        use.lost(current);
        closing[0] = close(current);
      }
    });
    loop.shutdown();
    try {
      if (loop.awaitTermination(CLOSE_MS, TimeUnit.MILLISECONDS) && closing[0] != null) {
        closing[0].join(CLOSE_MS);
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /** @return null: connected and ready, else why not */
  public String trouble() {
    return trouble;
  }

  /** @return whether the broker refused user, password or certificate at the last attempt */
  public boolean refused() {
    return refused;
  }

  /** The connection does now what it is for. */
  public void ready(Line line) {
    execute(() -> {
      if (line == current && !line.over) {
        line.ready = true;
        trouble = null;
        refused = false;
        meters.connects(true);
        LOG.info("{} is connected to {}", settings.clientId, settings.url);
      }
    });
  }

  /** The connection is of no use: makes another one. */
  public void broken(Line line, Throwable cause) {
    execute(() -> lose(line, text(cause)));
  }

  /** Takes nothing more from this connection, and makes another one, on which the broker sends again what was not acknowledged. */
  public void redeliver(Line line, long delayMs) {
    if (line.paused) {
      return;
    }
    line.paused = true;
    schedule(() -> {
      if (line == current && !line.over) {
        end(line, "connects anew to be sent unacknowledged messages again");
        open();
      }
    }, delayMs);
  }

  /** Runs it on the link's thread; not at all when the link has stopped. */
  private void execute(Runnable task) {
    schedule(task, 0);
  }

  private void schedule(Runnable task, long delayMs) {
    try {
      loop.schedule(guarded(task), delayMs, TimeUnit.MILLISECONDS);
    } catch (RejectedExecutionException e) {
      LOG.debug("{} has stopped", settings.clientId);
    }
  }

  private static Runnable guarded(Runnable task) {
    return () -> {
      try {
        task.run();
      } catch (RuntimeException e) {
        LOG.error("The MQTT client's own thread", e);
      }
    };
  }

  private void open() {
    if (stopped) {
      return;
    }
    Line line = new Line();
    current = line;
    try {
      MqttAsyncClient client = new MqttAsyncClient(settings.url, settings.clientId, new MemoryPersistence());
      line.client = client;
      client.setManualAcks(true);
      // Before CONNECT: what a broker sends right after its CONNACK would be dropped without a callback.
      client.setCallback(new Ear(line));
      client.connect(settings.options(), null, new MqttActionListener() {
        @Override
        public void onSuccess(IMqttToken token) {
          execute(() -> connected(line, token));
        }

        @Override
        public void onFailure(IMqttToken token, Throwable cause) {
          refused = cause instanceof MqttException e && (e.getReasonCode() == ReasonCode.NOT_AUTHORIZED || e.getReasonCode() == 0x86);
          broken(line, cause);
        }
      });
    } catch (MqttException | RuntimeException e) {
      lose(line, text(e));
    }
  }

  private void connected(Line line, IMqttToken token) {
    if (line != current || line.over) {
      return;
    }
    if (settings.durable) {
      LOG.info("{} {}", settings.clientId, token.getSessionPresent() ? "goes on with its session"
          : "has a new session: nothing was kept for it by the broker before now");
    }
    try {
      use.connected(line);
    } catch (MqttException | RuntimeException e) {
      lose(line, text(e));
    }
  }

  /** Paho does not tell of every end, and of a broker that accepts and says nothing it never tells. */
  private void check() {
    Line line = current;
    if (line == null || line.over) {
      return;
    }
    long ageMs = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - line.openedAt);
    if (line.ready && !line.client.isConnected()) {
      lose(line, "the connection is gone");
    } else if (!line.ready && ageMs > 2 * settings.connectTimeoutMs) {
      lose(line, "the broker did not answer within " + ageMs + " ms");
    }
  }

  private void lose(Line line, String why) {
    if (stopped || line != current || line.over) {
      return;
    }
    attempts = line.ready && System.nanoTime() - line.openedAt > STABLE_NS ? 0 : Math.min(attempts + 1, 30);
    if (!line.ready) {
      meters.connects(false);
    }
    boolean news = line.ready || !why.equals(trouble);
    end(line, why);
    long delay = delay();
    if (news) {
      LOG.warn("{} has no connection to {}: {}; tries again, now in {} ms", settings.clientId, settings.url, why, delay);
    }
    schedule(this::open, delay);
  }

  /** Between half and all of the exponential delay, so that gateways do not come back to a broker in step. */
  private long delay() {
    long full = Math.min(settings.reconnectMaxMs, settings.reconnectMinMs << Math.max(0, Math.min(attempts - 1, 20)));
    return full / 2 + ThreadLocalRandom.current().nextLong(full / 2 + 1);
  }

  private void end(Line line, String why) {
    line.over = true;
    trouble = why;
    use.lost(line);
    close(line);
  }

  private Thread close(Line line) {
    return line.client == null ? null : Closing.start(line.client, CLOSE_QUIESCE_MS);
  }

  private static Thread daemon(Runnable task, String name) {
    Thread thread = new Thread(task, name);
    thread.setDaemon(true);
    return thread;
  }

  private static String text(Throwable cause) {
    Throwable root = cause;
    while (root.getCause() != null && root.getCause() != root) {
      root = root.getCause();
    }
    String code = root instanceof MqttException e && e.getReasonCode() >= 0x80 && e.getReasonCode() <= 0xA2
        ? " [0x" + Integer.toHexString(e.getReasonCode()) + "]" : "";
    return (root instanceof MqttException || root instanceof IllegalArgumentException ? "" : root.getClass().getSimpleName() + ": ")
        + root.getMessage() + code;
  }

  /** What Paho tells about one connection. */
  private final class Ear implements MqttCallback {
    private final Line line;

    Ear(Line line) {
      this.line = line;
    }

    @Override
    public void messageArrived(String topic, MqttMessage message) {
      if (line.open()) {
        use.received(line, topic, message);
      }
    }

    @Override
    public void disconnected(MqttDisconnectResponse response) {
      execute(() -> lose(line, response.getException() != null ? text(response.getException())
          : "the broker ended the connection [0x" + Integer.toHexString(response.getReturnCode()) + "]"
              + (response.getReturnCode() == 0x8E ? ": another client uses the client id [" + settings.clientId + "]" : "")));
    }

    @Override
    public void mqttErrorOccurred(MqttException e) {
      LOG.debug("{}", settings.clientId, e);
    }

    @Override
    public void deliveryComplete(IMqttToken token) {}

    @Override
    public void connectComplete(boolean reconnect, String url) {}

    @Override
    public void authPacketArrived(int reasonCode, MqttProperties properties) {}
  }
}
