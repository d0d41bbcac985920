// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk.internal;

import io.caravan.desk.CommandDesk.Event;
import io.caravan.desk.CommandDesk.Filter;
import io.caravan.runtime.Config;
import io.caravan.runtime.Grant;
import io.caravan.wal.StoreUnavailableException;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Tells command events to whoever follows them, in the order of their ids. One thread reads each new event once, for all; a
 * follower that cannot take more is left behind, with nothing but its place remembered, and is served from the store when it
 * can again. What another replica committed is found by looking.
 */
final class Streams implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Streams.class);
  private static final int READ = 1_000;
  private static final int RECENT = 4_096;
  /** Characters of results and details that are read, kept or told to a follower at once; one event may be longer by itself. */
  private static final int CHARS = 4_194_304;
  private static final int CHUNK = 200;
  /** Ids looked through for one follower at a time, so that one that asks for much does not hold up the others. */
  private static final long STRETCH = 20_000;
  private static final long STOP_MS = 5_000;
  private static final long ASK_NS = TimeUnit.MILLISECONDS.toNanos(500);
  /** Of who is a part of this cloud. */
  private static final Grant ALL = new Grant() {
    @Override
    public boolean valid() {
      return true;
    }

    @Override
    public boolean sees(String gatewayId) {
      return true;
    }
  };

  /** Somebody who follows. Called by the one thread, but {@link #isClosed}. */
  interface Follower {
    /** @return whether it takes more now; one that becomes ready says so with {@link Streams#wake} */
    boolean isReady();

    /** @param events may be empty: then only to say that all is well */
    void tell(List<Told> events);

    boolean isClosed();

    void end();
  }

  /** An event, and what goes over the wire, made once. */
  static final class Told {
    final Event event;
    private byte[] wire;

    Told(Event event) {
      this.event = event;
    }

    byte[] wire() {
      if (wire == null) {
        wire = ("id: " + event.id() + "\nevent: command\ndata: " + Views.text(Views.json(event)) + "\n\n").getBytes(StandardCharsets.UTF_8);
      }
      return wire;
    }
  }

  private static final class Place {
    final Follower follower;
    final Filter filter;
    final Grant grant;
    final long endsAtNs;
    long cursor;
    long toldAtNs = System.nanoTime();
    long askedAtNs = toldAtNs;

    Place(Follower follower, Filter filter, Grant grant, long cursor, long endsAtNs) {
      this.follower = follower;
      this.filter = filter;
      this.grant = grant;
      this.cursor = cursor;
      this.endsAtNs = endsAtNs;
    }
  }

  private final DataSource reader;
  private final Config config;
  private final Set<Place> places = ConcurrentHashMap.newKeySet();
  private final Thread thread = new Thread(this::run, "caravan-command-stream");
  private final Object lock = new Object();
  private boolean woken;
  private volatile boolean stopping;

  // Of the thread.
  private final ArrayDeque<Told> recent = new ArrayDeque<>();
  /** Every event behind it up to {@code tail} is in {@code recent}. */
  private long recentAfter;
  private long recentChars;
  private long tail = -1;

  Streams(DataSource reader, Config config) {
    this.reader = reader;
    this.config = config;
    thread.setDaemon(true);
  }

  void start() {
    thread.start();
  }

  int size() {
    return places.size();
  }

  /** There is something to tell, or somebody who takes more. */
  void wake() {
    synchronized (lock) {
      woken = true;
      lock.notifyAll();
    }
  }

  /**
   * @param grant what it may see, asked again and again; null: everything
   * @param after id of the last event it knows
   * @param maxMs it is ended after so long; {@link Long#MAX_VALUE}: never
   * @return false: as many as may follow already
   */
  boolean add(Follower follower, Filter filter, Grant grant, long after, long maxMs, int most) {
    synchronized (lock) {
      if (stopping || places.size() >= most) {
        return false;
      }
      long endsAt = maxMs == Long.MAX_VALUE ? Long.MAX_VALUE : System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(maxMs);
      places.add(new Place(follower, filter, grant == null ? ALL : grant, after, endsAt));
      woken = true;
      lock.notifyAll();
      return true;
    }
  }

  /** @return id of the newest event: who follows from there on is told all that is committed after this call */
  long newest() {
    try (Connection connection = reader.getConnection()) {
      return newest(connection);
    } catch (SQLException e) {
      throw new StoreUnavailableException("the store cannot be read now: " + e.getMessage(), 2, e);
    }
  }

  private static long newest(Connection connection) throws SQLException {
    return Desk.select(connection, "SELECT coalesce(max(id), 0) FROM command_event", row -> row.getLong(1)).get(0);
  }

  AutoCloseable watch(Filter filter, long after, Consumer<Event> each) {
    Watcher watcher = new Watcher(each);
    if (!add(watcher, filter, null, after < 0 ? newest() : after, Long.MAX_VALUE, Integer.MAX_VALUE)) {
      throw new IllegalStateException("the desk of commands is closed");
    }
    return () -> watcher.closed = true;
  }

  private static final class Watcher implements Follower {
    private final Consumer<Event> each;
    private volatile boolean closed;

    Watcher(Consumer<Event> each) {
      this.each = each;
    }

    @Override
    public boolean isReady() {
      return !closed;
    }

    @Override
    public void tell(List<Told> events) {
      for (Told told : events) {
        if (!closed) {
          each.accept(told.event);
        }
      }
    }

    @Override
    public boolean isClosed() {
      return closed;
    }

    @Override
    public void end() {
      closed = true;
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
        LOG.warn("command events cannot be read, followers wait: {}", e.toString());
        more = false;
      } catch (RuntimeException | Error e) {
        LOG.error("command events could not be told", e);
        more = false;
      }
    }
    places.forEach(p -> p.follower.end());
    places.clear();
  }

  private void pause() {
    synchronized (lock) {
      if (!woken && !stopping) {
        try {
          lock.wait(places.isEmpty() ? 0 : Math.max(10, config.getLong("command.tick.ms")));
        } catch (InterruptedException e) {
          stopping = true;
        }
      }
      woken = false;
    }
  }

  /** @return whether there is more to tell to somebody who is ready */
  private boolean round() throws SQLException {
    places.removeIf(p -> p.follower.isClosed());
    if (places.isEmpty()) {
      recent.clear();
      recentChars = 0;
      tail = -1;
      return false;
    }
    // Somebody's rights end although nothing happens.
    places.forEach(Streams::ask);
    boolean more = false;
    try (Connection connection = reader.getConnection()) {
      more = read(connection);
      long now = System.nanoTime();
      long heartbeat = TimeUnit.MILLISECONDS.toNanos(config.getLong("command.stream.heartbeat.ms"));
      for (Place place : places) {
        if (now - place.endsAtNs >= 0 && place.endsAtNs != Long.MAX_VALUE) {
          place.follower.end();
          continue;
        }
        if (!place.follower.isReady()) {
          continue;
        }
        if (place.cursor < tail) {
          List<Told> next = next(connection, place);
          if (!next.isEmpty()) {
            tell(place, next, now);
          }
          more |= place.cursor < tail && place.follower.isReady();
        }
        if (now - place.toldAtNs >= heartbeat && place.follower.isReady()) {
          tell(place, List.of(), now);
        }
      }
    }
    return more;
  }

  private static void ask(Place place) {
    long now = System.nanoTime();
    if (now - place.askedAtNs >= ASK_NS) {
      place.askedAtNs = now;
      if (!place.grant.valid()) {
        place.follower.end();
      }
    }
  }

  private void tell(Place place, List<Told> events, long now) {
    try {
      place.follower.tell(events);
      place.toldAtNs = now;
    } catch (RuntimeException e) {
      LOG.warn("a follower of command events failed and is ended: {}", e.toString());
      place.follower.end();
      places.remove(place);
    }
  }

  private boolean read(Connection connection) throws SQLException {
    if (tail < 0) {
      tail = newest(connection);
      recentAfter = tail;
      return false;
    }
    List<Event> news = Desk.select(connection, first("WHERE id > ?", READ), Views::event, tail);
    for (Event event : news) {
      recent.add(new Told(event));
      recentChars += chars(event);
      tail = event.id();
    }
    while (recent.size() > RECENT || recentChars > CHARS && recent.size() > 1) {
      Event oldest = recent.poll().event;
      recentChars -= chars(oldest);
      recentAfter = oldest.id();
    }
    return !news.isEmpty();
  }

  /** Events in order, so many and of so many characters that one look can hold them: at least one, if there is any. */
  private static String first(String where, int most) {
    return Views.EVENT.replace(" FROM command_event ", " FROM (SELECT t.*, row_number() OVER (ORDER BY t.id) AS n,"
        + " sum(length(coalesce(CAST(t.result AS TEXT), '')) + length(coalesce(t.detail, ''))) OVER (ORDER BY t.id) AS chars"
        + " FROM (SELECT * FROM command_event " + where + " ORDER BY id LIMIT " + most + ") t) e WHERE e.n = 1 OR e.chars <= " + CHARS + " ORDER BY e.id");
  }

  private static long chars(Event event) {
    return (event.result() == null ? 0 : event.result().length()) + (event.detail() == null ? 0 : event.detail().length());
  }

  private List<Told> next(Connection connection, Place place) throws SQLException {
    List<Told> next = new ArrayList<>();
    long chars = 0;
    if (place.cursor >= recentAfter) {
      for (Told told : recent) {
        if (told.event.id() > place.cursor) {
          place.cursor = told.event.id();
          if (matches(place, told.event)) {
            next.add(told);
            chars += chars(told.event);
            if (next.size() == CHUNK || chars >= CHARS) {
              return next;
            }
          }
        }
      }
      place.cursor = tail;
      return next;
    }
    // An id may be far behind: what the store does not have any more is skipped at once.
    long first = Desk.select(connection, "SELECT coalesce(min(id), 0) FROM command_event WHERE id > ?", row -> row.getLong(1), place.cursor).get(0);
    long to = Math.min(tail, Math.max(place.cursor, first - 1) + STRETCH);
    List<Event> old = Desk.select(connection, first("WHERE id > ? AND id <= ? AND gateway_id = coalesce(?, gateway_id)"
        + " AND device_id = coalesce(?, device_id)", CHUNK), Views::event, place.cursor, to, place.filter.gatewayId(),
        place.filter.deviceId());
    old.stream().filter(e -> place.grant.sees(e.gatewayId())).forEach(e -> next.add(new Told(e)));
    place.cursor = old.isEmpty() ? to : old.get(old.size() - 1).id();
    return next;
  }

  private static boolean matches(Place place, Event event) {
    Filter filter = place.filter;
    return (filter.gatewayId() == null || filter.gatewayId().equals(event.gatewayId()))
        && (filter.deviceId() == null || filter.deviceId().equals(event.deviceId()))
        && (filter.status() == null || filter.status().equals(event.status()))
        && place.grant.sees(event.gatewayId());
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
  }
}
