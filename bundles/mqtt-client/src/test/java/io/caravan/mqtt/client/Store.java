// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client;

import java.util.BitSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.camel.Exchange;

/** Stands for the log: takes numbered messages, and completes on a thread of its own as the committer does. */
public final class Store implements AutoCloseable {
  private final ExecutorService committer = Executors.newSingleThreadExecutor();
  private final BitSet numbers = new BitSet();
  final AtomicInteger taken = new AtomicInteger();
  /** So many appends fail from now on. */
  final AtomicInteger failures = new AtomicInteger();
  volatile boolean stuck;

  /** Called by routes. */
  public CompletionStage<Void> append(Exchange exchange) {
    int number = Integer.parseInt(exchange.getMessage().getBody(String.class));
    CompletableFuture<Void> done = new CompletableFuture<>();
    committer.execute(() -> {
      if (failures.getAndUpdate(n -> Math.max(0, n - 1)) > 0) {
        done.completeExceptionally(new IllegalStateException("the store is away"));
        return;
      }
      synchronized (numbers) {
        numbers.set(number);
      }
      taken.incrementAndGet();
      if (!stuck) {
        done.complete(null);
      }
    });
    return done;
  }

  int missing(int from, int to) {
    synchronized (numbers) {
      return to - from - numbers.get(from, to).cardinality();
    }
  }

  @Override
  public void close() {
    committer.shutdownNow();
  }
}
