// SPDX-License-Identifier: Apache-2.0
package io.caravan.telemetry.internal;

import io.micrometer.core.instrument.FunctionCounter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.IntSupplier;

/** What became of spans, over all tracers of this container; without a metricsRegistry Micrometer need not be there. Thread-safe. */
final class Meters {
  final LongAdder exported = new LongAdder();
  final LongAdder failed = new LongAdder();
  final LongAdder dropped = new LongAdder();
  private volatile IntSupplier queue = () -> 0;

  /** @param registry a MeterRegistry or null */
  static Meters of(Object registry) {
    Meters meters = new Meters();
    if (registry != null) {
      Micrometer.register(meters, (MeterRegistry) registry);
    }
    return meters;
  }

  void queue(IntSupplier now) {
    queue = now;
  }

  private static final class Micrometer {
    static void register(Meters meters, MeterRegistry registry) {
      counter("exported", meters.exported, registry);
      counter("failed", meters.failed, registry);
      counter("dropped", meters.dropped, registry);
      Gauge.builder("caravan.traces.queue.spans", meters, m -> m.queue.getAsInt())
          .description("Spans that wait to be sent, or are being sent").register(registry);
    }

    private static void counter(String outcome, LongAdder count, MeterRegistry registry) {
      FunctionCounter.builder("caravan.traces.spans", count, LongAdder::sum).tag("outcome", outcome)
          .description("Spans that were sent, that the receiver did not take, and for which there was no room in the queue").register(registry);
    }
  }
}
