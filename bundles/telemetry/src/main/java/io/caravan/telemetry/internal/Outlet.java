// SPDX-License-Identifier: Apache-2.0
package io.caravan.telemetry.internal;

import io.opentelemetry.context.Context;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.trace.ReadWriteSpan;
import io.opentelemetry.sdk.trace.ReadableSpan;
import io.opentelemetry.sdk.trace.SpanProcessor;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Before and behind OpenTelemetry's queue: counts exactly what became of each span, and says what goes wrong in one line now and then;
 * the library counts drops in a metrics system of its own only, and logs stack traces. Thread-safe; nothing blocks.
 */
final class Outlet implements SpanProcessor {
  private static final Logger LOG = LoggerFactory.getLogger("io.caravan.telemetry");
  private static final long SAY_AGAIN_NS = TimeUnit.MINUTES.toNanos(5);
  /** Kept, or the filter would be gone with the logger. Not levels: log configurations that are read again reset them. */
  private static final List<java.util.logging.Logger> SILENT = List.of(
      java.util.logging.Logger.getLogger("io.opentelemetry.exporter.internal.http.HttpExporter"),
      java.util.logging.Logger.getLogger("io.opentelemetry.exporter.sender.jdk.internal.JdkHttpSender"),
      java.util.logging.Logger.getLogger("io.opentelemetry.sdk.trace.export.BatchSpanProcessor"));

  private final String endpoint;
  private final Meters meters;
  private final SpanProcessor queue;
  private final int room;
  private final AtomicInteger queued = new AtomicInteger();
  private boolean failing;        // guarded by this, as the next
  private boolean said;
  private long saidAt = System.nanoTime() - SAY_AGAIN_NS;
  private long lostBefore;

  /**
   * @param room  spans that may wait and be on their way; more than the queue holds never gets to it
   * @param queue made for the exporter that counts
   */
  Outlet(SpanExporter exporter, String endpoint, int room, Meters meters, Function<SpanExporter, SpanProcessor> queue) {
    this.endpoint = endpoint;
    this.meters = meters;
    this.room = room;
    this.queue = queue.apply(new Counted(exporter));
    SILENT.forEach(logger -> logger.setFilter(line -> false));
  }

  /** Waiting and being sent. */
  int queued() {
    return queued.get();
  }

  /** What is still here is lost. */
  void abandon() {
    meters.dropped.add(queued.getAndSet(0));
  }

  @Override
  public void onEnd(ReadableSpan span) {
    if (queued.incrementAndGet() > room) {
      queued.decrementAndGet();
      meters.dropped.increment();
      return;
    }
    queue.onEnd(span);
  }

  private void done(CompletableResultCode result, int count) {
    if (queued.addAndGet(-count) < 0) {
      queued.addAndGet(count);   // abandoned meanwhile, and counted
      return;
    }
    (result.isSuccess() ? meters.exported : meters.failed).add(count);
    say(result.isSuccess() ? null : reason(result.getFailureThrowable()));
  }

  private static String reason(Throwable failure) {
    if (failure == null) {
      return "no reason given";
    }
    Throwable cause = failure.getCause() == null ? failure : failure.getCause();
    return cause.getMessage() == null ? cause.getClass().getName() : cause.getMessage();
  }

  /** A receiver that comes and goes does not make more lines than one that is away. */
  private synchronized void say(String why) {
    long lost = meters.failed.sum() + meters.dropped.sum();
    if (why == null) {
      if (failing && said) {
        LOG.info("traces arrive again; {} spans were lost meanwhile", lost - lostBefore);
      }
      failing = false;
      said = false;
      lostBefore = lost;
      return;
    }
    failing = true;
    long now = System.nanoTime();
    if (now - saidAt >= SAY_AGAIN_NS) {
      said = true;
      saidAt = now;
      LOG.warn("traces do not arrive, spans are dropped, messages are not affected: traces.endpoint [{}]: {}; look whether the receiver runs"
          + " and takes OTLP over HTTP", endpoint, why);
    }
  }

  @Override
  public void onStart(Context parent, ReadWriteSpan span) {
    // Nothing is known of it yet.
  }

  @Override
  public boolean isStartRequired() {
    return false;
  }

  @Override
  public boolean isEndRequired() {
    return true;
  }

  /** Of the queue, which flushes and shuts down the exporter. */
  @Override
  public CompletableResultCode shutdown() {
    return queue.shutdown();
  }

  @Override
  public CompletableResultCode forceFlush() {
    return queue.forceFlush();
  }

  private final class Counted implements SpanExporter {
    private final SpanExporter exporter;

    Counted(SpanExporter exporter) {
      this.exporter = exporter;
    }

    @Override
    public CompletableResultCode export(Collection<SpanData> spans) {
      int count = spans.size();
      CompletableResultCode result = exporter.export(spans);
      return result.whenComplete(() -> done(result, count));
    }

    @Override
    public CompletableResultCode flush() {
      return exporter.flush();
    }

    @Override
    public CompletableResultCode shutdown() {
      return exporter.shutdown();
    }
  }
}
