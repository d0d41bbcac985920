// SPDX-License-Identifier: Apache-2.0
package io.caravan.api.internal;

import io.caravan.api.internal.News.Mark;
import io.caravan.runtime.Config;
import io.caravan.runtime.Grant;
import io.caravan.runtime.Problem;
import io.caravan.runtime.Sse;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Tells whoever follows what the store took in: last values, events, gateways that come and go. One thread reads each change once,
 * for all; who cannot take more is left behind with nothing but a mark remembered, and is brought up to date from the tables when it
 * can again, where many values of a metric have become the last one. What other replicas stored is found by looking. Thread-safe.
 */
public final class LiveStream implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(LiveStream.class);
  private static final long GATEWAYS_MS = 1_000;
  private static final long STOP_MS = 5_000;
  private static final int RETRY_S = 5;

  private static final class Client {
    final Sse sse;
    final Grant grant;
    final String site;
    final String gateway;
    final String device;
    final long endsAtNs;
    /** Of the thread; those above {@code mark} that were told already. */
    final Set<Long> told = new HashSet<>();
    Mark mark;
    /** Null: nothing yet; the first thing it is told is where it begins. */
    Mark written;
    boolean behind = true;
    /** It was away, or was not told: gateways may have come and gone. */
    boolean returned;
    long toldAtNs = System.nanoTime();

    Client(Sse sse, Exchange exchange, Mark mark, List<Long> told, boolean returned, long endsAtNs) {
      this.sse = sse;
      this.grant = Objects.requireNonNull(exchange.getVariable("grant", Grant.class), "variable grant, which apiAccess sets");
      this.site = exchange.getVariable("site", String.class);
      this.gateway = exchange.getVariable("gateway_id", String.class);
      this.device = exchange.getVariable("device_id", String.class);
      this.mark = mark;
      this.told.addAll(told);
      this.returned = returned;
      this.endsAtNs = endsAtNs;
    }

    /** What this round found was not told, and the next one does not find it again. */
    void left() {
      behind = true;
      returned = true;
    }
  }

  private final DataSource reader;
  private final Config config;
  private final News news;
  private final MeterRegistry registry;
  private final Gauge gauge;
  private final Set<Client> clients = ConcurrentHashMap.newKeySet();
  private final Thread thread = new Thread(this::run, "caravan-api-stream");
  private final Object lock = new Object();
  private boolean woken;
  private volatile boolean stopping;

  // Of the thread.
  private Mark head;
  private Map<String, News.Gateway> gateways = Map.of();
  private long gatewaysAtNs;

  /** @param registry null: nobody counts */
  public LiveStream(DataSource reader, CamelContext context, Config config, MeterRegistry registry) {
    this.reader = reader;
    this.config = config;
    this.registry = registry;
    this.news = new News(context);
    gauge = registry == null ? null : Gauge.builder("caravan.api.streams", clients, Set::size).description("Open live streams of values and events")
        .register(registry);
    thread.setDaemon(true);
    thread.start();
  }

  /** Makes the answer: the stream, or why not. Parameters are variables, as {@link Api#check} leaves them. */
  void follow(Exchange exchange) {
    // What a browser adds by itself when it connects again, so it is the newer one.
    String last = exchange.getMessage().getHeader("Last-Event-ID", String.class);
    String after = last == null || last.isEmpty() ? exchange.getVariable("after", String.class) : last;
    Mark mark = Mark.of(after);
    if (after != null && mark == null) {
      Problem.answer(exchange, 400, "bad_request", "/after", "after, or the header Last-Event-ID, must be an id that this stream told");
      return;
    }
    boolean returned = mark != null;
    List<Long> told = List.of();
    if (!returned) {
      try (Connection connection = reader.getConnection()) {
        News.Start start = news.start(connection);
        mark = start.mark();
        told = start.told();
      } catch (SQLException e) {
        unavailable(exchange, "the store cannot be read now: " + e.getMessage());
        return;
      }
    }
    Sse sse = new Sse(this::wake);
    long endsAt = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(config.getLong("api.stream.max.ms"));
    synchronized (lock) {
      if (stopping || clients.size() >= config.getLong("api.stream.max")) {
        unavailable(exchange, "as many follow as api.stream.max lets (" + config.getLong("api.stream.max") + ")");
        return;
      }
      clients.add(new Client(sse, exchange, mark, told, returned, endsAt));
    }
    exchange.getMessage().removeHeaders("*");
    exchange.getMessage().setHeader(Exchange.CONTENT_TYPE, "text/event-stream");
    exchange.getMessage().setHeader("X-Accel-Buffering", "no");
    exchange.getMessage().setBody(sse);
    wake();
  }

  private static void unavailable(Exchange exchange, String detail) {
    Problem.answer(exchange, 503, "unavailable", null, detail);
    exchange.getMessage().setHeader("Retry-After", RETRY_S);
  }

  private void wake() {
    synchronized (lock) {
      woken = true;
      lock.notifyAll();
    }
  }

  private void run() {
    boolean more = false;
    while (!stopping) {
      if (!more) {
        pause();
      }
      try {
        more = round();
      } catch (SQLException e) {
        LOG.warn("what is new cannot be read, those who follow wait: {}", e.toString());
        more = false;
      } catch (RuntimeException | Error e) {
        LOG.error("what is new could not be told", e);
        more = false;
      }
    }
    clients.forEach(c -> c.sse.end());
    clients.clear();
  }

  private void pause() {
    synchronized (lock) {
      try {
        if (clients.isEmpty() && !woken && !stopping) {
          lock.wait();
        } else if (!stopping) {
          // Also when woken: many that become ready one after the other are one round.
          lock.wait(woken ? 10 : config.getLong("api.stream.tick.ms"));
        }
      } catch (InterruptedException e) {
        stopping = true;
      }
      woken = false;
    }
  }

  /** @return whether there is more to tell to somebody who is ready */
  private boolean round() throws SQLException {
    long now = System.nanoTime();
    for (Client client : clients) {
      if (now - client.endsAtNs >= 0 || !client.sse.isClosed() && !client.grant.valid()) {
        client.sse.end();
      }
    }
    clients.removeIf(c -> c.sse.isClosed());
    if (clients.isEmpty()) {
      head = null;
      gateways = Map.of();
      news.forget();
      return false;
    }
    Set<Client> left = new LinkedHashSet<>(clients);
    try (Connection connection = reader.getConnection()) {
      News.Batch batch = head == null ? new News.Batch(List.of(), List.of(), news.start(connection).mark(), false, false) : news.next(connection, head);
      List<News.Gateway> changed = gateways(connection, now);
      head = batch.mark();
      boolean more = batch.more();
      SQLException failed = null;
      for (Client client : List.copyOf(left)) {
        if (!client.sse.isReady()) {
          client.behind = true;
          client.returned |= !changed.isEmpty();
        } else if (client.behind) {
          News.Batch missed;
          try {
            missed = news.since(connection, client.mark);
          } catch (SQLException e) {
            // What cannot be read for this one is no reason to let the others wait.
            failed = e;
            continue;
          }
          tell(client, missed, client.returned ? gateways.values() : changed, now);
          client.returned = false;
          client.behind = missed.more();
          more |= missed.more();
        } else {
          tell(client, batch, changed, now);
        }
        left.remove(client);
      }
      if (failed != null) {
        throw failed;
      }
      return more;
    } finally {
      left.forEach(Client::left);
    }
  }

  /** @return those that came, went or changed since they were read last */
  private List<News.Gateway> gateways(Connection connection, long now) throws SQLException {
    if (!gateways.isEmpty() && now - gatewaysAtNs < TimeUnit.MILLISECONDS.toNanos(GATEWAYS_MS)) {
      return List.of();
    }
    Map<String, News.Gateway> read = news.gateways(connection);
    List<News.Gateway> changed = new ArrayList<>();
    if (gatewaysAtNs != 0 && !gateways.isEmpty()) {
      read.values().stream().filter(g -> !g.same(gateways.get(g.id()))).forEach(changed::add);
    }
    gateways = read;
    gatewaysAtNs = now;
    return changed;
  }

  private void tell(Client client, News.Batch batch, Iterable<News.Gateway> changed, long now) {
    StringBuilder text = new StringBuilder();
    List<String> values = batch.values().stream().filter(v -> sees(client, v.gatewayId(), v.deviceId())).map(News.Value::json).toList();
    if (!values.isEmpty()) {
      text.append("event: last\ndata: [").append(String.join(",", values)).append("]\n\n");
    }
    for (News.Event event : batch.events()) {
      if (event.id() > client.mark.eventId() && client.told.add(event.id()) && sees(client, event.gatewayId(), event.deviceId())) {
        text.append("event: event\ndata: ").append(event.json()).append("\n\n");
      }
    }
    for (News.Gateway gateway : changed) {
      if (client.device == null && sees(client, gateway.id(), null)) {
        text.append("event: gateway\ndata: ").append(gateway.json()).append("\n\n");
      }
    }
    client.mark = batch.mark();
    client.told.removeIf(id -> id <= client.mark.eventId());
    boolean silent = now - client.toldAtNs >= TimeUnit.MILLISECONDS.toNanos(config.getLong("api.stream.heartbeat.ms"));
    if (text.length() == 0 && !silent && client.written != null) {
      return;
    }
    // A comment although there may be a new mark: marks move with the time, and whoever waits for a comment waits for that.
    boolean nothing = text.length() == 0 && silent;
    if (!client.mark.equals(client.written)) {
      // A block of its own behind all it stands for: a break before it repeats them, and loses none.
      text.append("id: ").append(client.mark).append("\n\n");
      client.written = client.mark;
    }
    try {
      if (nothing) {
        client.sse.heartbeat();
      }
      if (text.length() > 0) {
        client.sse.write(text.toString().getBytes(StandardCharsets.UTF_8));
      }
      client.toldAtNs = now;
    } catch (RuntimeException e) {
      LOG.warn("a live stream failed and is ended: {}", e.toString());
      client.sse.end();
    }
  }

  private boolean sees(Client client, String gatewayId, String deviceId) {
    if (client.gateway != null && !client.gateway.equals(gatewayId) || client.device != null && deviceId != null && !client.device.equals(deviceId)) {
      return false;
    }
    if (client.site != null) {
      News.Gateway gateway = gateways.get(gatewayId);
      if (gateway == null || !gateway.site().equals(client.site)) {
        return false;
      }
    }
    return client.grant.sees(gatewayId);
  }

  @Override
  public void close() {
    synchronized (lock) {
      stopping = true;
      lock.notifyAll();
    }
    try {
      thread.join(STOP_MS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    if (gauge != null) {
      registry.remove(gauge);
    }
  }
}
