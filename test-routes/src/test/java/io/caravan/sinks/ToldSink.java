// SPDX-License-Identifier: Apache-2.0
package io.caravan.sinks;

import static org.awaitility.Awaitility.await;

import io.caravan.wal.Batch;
import io.caravan.wal.Row;
import io.caravan.wal.SinkException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.apache.camel.Exchange;

/** The far end of a sink: does as it is told, and remembers what it took. Thread-safe. */
public final class ToldSink {
  /** What to do with a batch; throwing is refusing all of it. */
  interface Behaviour {
    void take(Batch batch) throws Exception;
  }

  private final List<String> keys = new ArrayList<>();
  private final List<Long> seqs = new ArrayList<>();
  private final List<Batch> all = new ArrayList<>();
  private volatile Behaviour behaviour = batch -> { };

  void behave(Behaviour how) {
    behaviour = how;
  }

  /** Bean method of the deliver route. */
  public void deliver(Exchange exchange) throws Exception {
    Batch batch = exchange.getMessage().getBody(Batch.class);
    synchronized (this) {
      all.add(batch);
      keys.add(String.valueOf(exchange.getMessage().getHeader("CaravanBatchKey")));
    }
    try {
      behaviour.take(batch);
    } catch (SinkException e) {
      if (!e.refused().isEmpty()) {
        took(batch, e.refused().keySet());
      }
      throw e;
    }
    took(batch, Set.of());
  }

  private synchronized void took(Batch batch, Set<Long> refused) {
    batch.stream().map(Row::seq).filter(seq -> !refused.contains(seq)).forEach(seqs::add);
  }

  /** Sequences taken, in order, repeated ones included. */
  synchronized List<Long> seqs() {
    return List.copyOf(seqs);
  }

  synchronized List<Batch> batches() {
    return List.copyOf(all);
  }

  /** Of each call, failed ones included. */
  synchronized List<String> keys() {
    return List.copyOf(keys);
  }

  synchronized int calls() {
    return all.size();
  }

  synchronized long distinct() {
    return new TreeSet<>(seqs).size();
  }

  /** How many of {@code rows} were not in the first batch. */
  synchronized long missed(int rows) {
    return rows - all.get(0).size();
  }

  void awaitDistinct(long rows) {
    await().atMost(Duration.ofSeconds(30)).until(() -> distinct() >= rows);
  }
}
