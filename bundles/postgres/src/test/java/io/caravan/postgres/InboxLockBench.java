// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres;

import io.caravan.postgres.internal.SchemaForBench;
import io.caravan.postgres.test.PostgresServer;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;

/** What the inbox' lock costs and what it prevents; docs/adr/0010. Not a test: run its main. */
public final class InboxLockBench {
  private static final int SECONDS = Integer.getInteger("seconds", 8);

  /** How rows get their place in the inbox. */
  enum Way {
    /** Nothing: what a cursor would miss is counted. */
    NONE,
    /** The advisory lock, last thing before the insert. */
    LOCK,
    /** The same, first thing in the transaction. */
    LOCK_FIRST,
    /** A row that counts, updated before the insert. */
    COUNTER,
    /** The lock; it is given back before the disk has the rows, whoever sent them hears of it after. */
    LOCK_FLUSH_LATER
  }

  private InboxLockBench() {
  }

  public static void main(String[] args) throws Exception {
    try (PostgresServer server = PostgresServer.start("fsync=on", "synchronous_commit=on", "full_page_writes=on")) {
      System.out.println("way connections rows/batch batches/s rows/s p50 ms p99 ms rows a cursor would miss");
      for (int rows : new int[] {10, 100}) {
        for (int connections : new int[] {1, 8, 32}) {
          for (Way way : Way.values()) {
            run(server.database(), way, connections, rows);
          }
        }
      }
    }
  }

  private static void run(PostgresServer.Database database, Way way, int connections, int rows) throws Exception {
    try (Connection connection = database.connect(); Statement statement = connection.createStatement()) {
      SchemaForBench.apply(connection);
      connection.setAutoCommit(true);
      statement.execute("CREATE TABLE counter (one INTEGER PRIMARY KEY, seq BIGINT NOT NULL)");
      statement.execute("INSERT INTO counter VALUES (1, 0)");
      statement.execute("DROP INDEX inbox_gateway_seq");
    }
    AtomicBoolean stop = new AtomicBoolean();
    AtomicLong missed = new AtomicLong();
    ConcurrentLinkedQueue<Long> times = new ConcurrentLinkedQueue<>();
    CountDownLatch ready = new CountDownLatch(connections);
    List<Thread> threads = new ArrayList<>();
    for (int i = 0; i < connections; i++) {
      String gateway = "g" + i;
      threads.add(new Thread(() -> batches(database, way, gateway, rows, stop, ready, times)));
    }
    Thread cursor = new Thread(() -> cursor(database, stop, missed));
    threads.forEach(Thread::start);
    ready.await();
    cursor.start();
    long begun = System.nanoTime();
    times.clear();
    Thread.sleep(SECONDS * 1000L);
    stop.set(true);
    double took = (System.nanoTime() - begun) / 1e9;
    for (Thread thread : threads) {
      thread.join();
    }
    cursor.join();
    long[] sorted = times.stream().mapToLong(Long::longValue).sorted().toArray();
    System.out.printf(Locale.ROOT, "%s %d %d %.0f %.0f %.1f %.1f %d%n", way, connections, rows, sorted.length / took, sorted.length * rows / took,
        sorted[sorted.length / 2] / 1e6, sorted[(int) (sorted.length * 0.99)] / 1e6, missed.get());
  }

  private static void batches(PostgresServer.Database database, Way way, String gateway, int rows, AtomicBoolean stop, CountDownLatch ready,
      ConcurrentLinkedQueue<Long> times) {
    char[] padding = new char[250];
    Arrays.fill(padding, 'x');
    StringBuilder json = new StringBuilder("[");
    for (int i = 0; i < rows; i++) {
      json.append(i > 0 ? "," : "").append("{\"seq\":").append(i).append(",\"body\":{\"metric\":\"").append(padding).append("\"}}");
    }
    String batch = json.append(']').toString();
    try (Connection connection = database.connect()) {
      connection.setAutoCommit(false);
      long last = 0;
      ready.countDown();
      while (!stop.get()) {
        long begun = System.nanoTime();
        if (way == Way.LOCK_FIRST) {
          execute(connection, "SELECT 1 FROM caravan_inbox_lock()");
        }
        execute(connection, "INSERT INTO gateway_range VALUES (?, 'l', 1, ?) ON CONFLICT (gateway_id, log_id, first_seq) DO UPDATE SET acked_seq ="
            + " excluded.acked_seq", gateway, last += rows);
        if (way == Way.LOCK_FLUSH_LATER) {
          execute(connection, "SET LOCAL synchronous_commit = off");
        }
        if (way == Way.LOCK || way == Way.LOCK_FLUSH_LATER) {
          execute(connection, "SELECT 1 FROM caravan_inbox_lock()");
        }
        String seq = "nextval('inbox_seq_seq')";
        if (way == Way.COUNTER) {
          execute(connection, "UPDATE counter SET seq = seq + ?", (long) rows);
          seq = "(SELECT seq FROM counter) - r.key";
        }
        execute(connection, "INSERT INTO inbox SELECT " + seq + ", ?, 'l', r.key, 'window', 'd', 'k', 1, 1, NULL, r.value->'body'"
            + " FROM caravan_json_each(?) r ORDER BY r.key", gateway, batch);
        connection.commit();
        if (way == Way.LOCK_FLUSH_LATER) {
          execute(connection, "SELECT pg_logical_emit_message(true, 'caravan', '')"); // its commit waits for all before it
          connection.commit();
        }
        times.add(System.nanoTime() - begun);
      }
    } catch (Exception e) {
      throw new IllegalStateException(e);
    }
  }

  /** Reads as a consumer does: all behind its cursor, then the cursor is at the last. What appears before it is never read. */
  private static void cursor(PostgresServer.Database database, AtomicBoolean stop, AtomicLong missed) {
    try (Connection connection = database.connect(); Statement statement = connection.createStatement()) {
      long at = 0;
      long read = 0;
      boolean last = false;
      while (!last) {
        last = stop.get();
        try (ResultSet row = statement.executeQuery("SELECT count(*), coalesce(max(seq), " + at + ") FROM inbox WHERE seq > " + at)) {
          row.next();
          read += row.getLong(1);
          at = row.getLong(2);
        }
        Thread.sleep(5);
      }
      try (ResultSet row = statement.executeQuery("SELECT count(*) FROM inbox WHERE seq <= " + at)) {
        row.next();
        missed.set(row.getLong(1) - read);
      }
    } catch (Exception e) {
      throw new IllegalStateException(e);
    }
  }

  private static void execute(Connection connection, String sql, Object... values) throws Exception {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      for (int i = 0; i < values.length; i++) {
        statement.setObject(i + 1, values[i]);
      }
      statement.execute();
    }
  }
}
