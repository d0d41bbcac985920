// SPDX-License-Identifier: Apache-2.0
package io.caravan.telemetry.internal;

import io.caravan.runtime.Traces;
import java.io.IOException;
import java.io.UncheckedIOException;

/**
 * Holds the tracer while tracing is on. OpenTelemetry's classes are only touched from {@link OtlpTracer} on, so that a container in
 * which it is off loads none of them. Thread-safe.
 */
public final class Telemetry implements AutoCloseable {
  private final Traces traces;
  private final Meters meters;
  private OtlpTracer tracer;
  private Settings settings;

  /** @param metricsRegistry a MeterRegistry or null */
  public Telemetry(Traces traces, Object metricsRegistry) {
    this.traces = traces;
    this.meters = Meters.of(metricsRegistry);
  }

  /**
   * @throws UncheckedIOException     a file that the settings name cannot be read
   * @throws IllegalArgumentException its content is not what it should be; what was in force stays
   */
  public synchronized void apply(Settings now) {
    if (now.equals(settings)) {
      return;
    }
    OtlpTracer next;
    try {
      next = now.enabled() ? new OtlpTracer(now, meters) : null;
    } catch (IOException e) {
      throw new UncheckedIOException(e.getMessage(), e);
    }
    OtlpTracer before = tracer;
    settings = now;
    tracer = next;
    traces.use(next);
    meters.queue(next == null ? () -> 0 : next::queued);
    if (before != null) {
      before.close();
    }
  }

  @Override
  public synchronized void close() {
    traces.use(null);
    meters.queue(() -> 0);
    if (tracer != null) {
      tracer.close();
      tracer = null;
    }
    settings = null;
  }
}
