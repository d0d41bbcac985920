// SPDX-License-Identifier: Apache-2.0
package io.caravan.postgres.internal;

import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;
import org.apache.camel.ProducerTemplate;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Hears what other replicas say on channel {@code caravan} and passes it on to the queue of that name, for which no SQL serves: a
 * notification comes to a connection that waits for it. One that gets lost is no harm: the routes behind the queues have timers. So
 * after each new connection all queues are signalled.
 */
final class Signals implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Signals.class);
  /** A payload is a queue's name, but only of these. */
  private static final Set<String> QUEUES = Set.of("command", "command-told", "live");
  private static final int WAIT_MS = 10_000;
  private static final long AGAIN_MS = 1_000;
  private static final long STOP_MS = 5_000;

  private final DataSource source;
  private final CamelContext context;
  private final ProducerTemplate producer;
  private final CountDownLatch closed = new CountDownLatch(1);
  private final Thread thread = new Thread(this::run, "caravan-store-signals");
  private volatile Connection listening;

  Signals(DataSource source, CamelContext context) {
    this.source = source;
    this.context = context;
    producer = context.createProducerTemplate();
    thread.setDaemon(true);
    thread.start();
  }

  private void run() {
    boolean told = false;
    while (closed.getCount() > 0) {
      try (Connection connection = source.getConnection(); Statement statement = connection.createStatement()) {
        listening = connection;
        statement.execute("LISTEN caravan");
        if (told) {
          LOG.info("signals of other replicas are heard again");
          told = false;
        }
        QUEUES.forEach(this::pass);
        PGConnection notices = connection.unwrap(PGConnection.class);
        while (closed.getCount() > 0) {
          PGNotification[] some = notices.getNotifications(WAIT_MS);
          if (some == null || some.length == 0) {
            // A connection that broke without a word would be waited at for ever.
            statement.execute("SELECT 1");
            continue;
          }
          for (PGNotification one : some) {
            pass(one.getParameter());
          }
        }
      } catch (SQLException e) {
        if (closed.getCount() > 0 && !told) {
          told = true;
          LOG.warn("signals of other replicas are not heard, timers do their work meanwhile: {}", e.toString());
        }
      } finally {
        listening = null;
      }
      rest();
    }
  }

  private void rest() {
    try {
      closed.await(AGAIN_MS, TimeUnit.MILLISECONDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      closed.countDown();
    }
  }

  private void pass(String queue) {
    if (QUEUES.contains(queue) && context.isStarted()) {
      try {
        producer.sendBody("seda:" + queue + "?size=1&discardWhenFull=true", "");
      } catch (RuntimeException e) {
        LOG.debug("signal [{}] found nobody", queue, e);
      }
    }
  }

  @Override
  public void close() throws Exception {
    closed.countDown();
    Connection connection = listening;
    if (connection != null) {
      connection.abort(Runnable::run);
    }
    thread.join(STOP_MS);
    producer.stop();
  }
}
