// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;

/** What a listener counts; without a metricsRegistry it counts nothing, and Micrometer need not be there. */
class Meters implements AutoCloseable {

  /** What became of a published message: tag outcome, and reason out of docs/contract.md section 6 where it is refused. */
  enum Outcome {
    DURABLE("durable", ""),
    DUPLICATE("duplicate", ""),
    /** Kept with its reason, which the route counts. */
    REJECTED("rejected", ""),
    FAILED("failed", ""),
    BAD_TOPIC("refused", "bad_topic"),
    BAD_DEVICE_ID("refused", "bad_device_id"),
    NOT_AUTHORIZED("not_authorized", ""),
    PROTOCOL("protocol_error", "");

    final String outcome;
    final String reason;

    Outcome(String outcome, String reason) {
      this.outcome = outcome;
      this.reason = reason;
    }
  }

  /** @param registry a MeterRegistry or null */
  static Meters of(Object registry, String listener, Supplier<Number> connections, Supplier<Number> inFlight) {
    return registry == null ? new Meters() : new Micrometer(registry, listener, connections, inFlight);
  }

  void published(Outcome outcome) {}

  @Override
  public void close() {}

  private static final class Micrometer extends Meters {
    private final MeterRegistry registry;
    private final Map<Outcome, Counter> published = new EnumMap<>(Outcome.class);
    private final List<Gauge> gauges = new ArrayList<>();

    Micrometer(Object registry, String listener, Supplier<Number> connections, Supplier<Number> inFlight) {
      this.registry = (MeterRegistry) registry;
      for (Outcome each : Outcome.values()) {
        published.put(each, Counter.builder("caravan.mqtt.messages")
            .description("Messages devices published to the own listener, by what became of them")
            .tag("listener", listener).tag("outcome", each.outcome).tag("reason", each.reason).register(this.registry));
      }
      gauges.add(Gauge.builder("caravan.mqtt.connections", connections).description("Connected devices")
          .tag("listener", listener).register(this.registry));
      gauges.add(Gauge.builder("caravan.mqtt.in.flight", inFlight).description("Published messages not answered yet")
          .tag("listener", listener).register(this.registry));
    }

    @Override
    void published(Outcome outcome) {
      published.get(outcome).increment();
    }

    @Override
    public void close() {
      // The counters stay: a route that starts again goes on counting.
      gauges.forEach(registry::remove);
    }
  }
}
