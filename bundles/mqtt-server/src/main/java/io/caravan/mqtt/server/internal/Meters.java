// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.server.internal;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Timer;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.TimeUnit;
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

  enum Subscription { GRANTED, NOT_AUTHORIZED, REFUSED }

  /** @param registry a MeterRegistry or null */
  static Meters of(Object registry, String listener, Supplier<Number> connections, Supplier<Number> pending,
      Supplier<Number> inFlight) {
    return registry == null ? new Meters() : new Micrometer(registry, listener, connections, pending, inFlight);
  }

  void published(Outcome outcome) {}

  /** @return messages that were answered; NaN, which is unequal to itself: not counted */
  double answered() {
    return Double.NaN;
  }

  /** A connection was not read for some time because its device sent faster than it may. */
  void throttled(long ms) {}

  @Override
  public void close() {}

  void refused(Refusal refusal) {}

  /** A topic filter of a SUBSCRIBE. */
  void subscribed(Subscription outcome) {}

  private static final class Micrometer extends Meters {
    private final MeterRegistry registry;
    private final Map<Outcome, Counter> published = new EnumMap<>(Outcome.class);
    private final Map<Refusal, Counter> refused = new EnumMap<>(Refusal.class);
    private final Map<Subscription, Counter> subscribed = new EnumMap<>(Subscription.class);
    private final Timer throttled;
    private final List<Gauge> gauges = new ArrayList<>();

    Micrometer(Object registry, String listener, Supplier<Number> connections, Supplier<Number> pending, Supplier<Number> inFlight) {
      this.registry = (MeterRegistry) registry;
      for (Outcome each : Outcome.values()) {
        published.put(each, Counter.builder("caravan.mqtt.messages")
            .description("Messages devices published to the own listener, by what became of them")
            .tag("listener", listener).tag("outcome", each.outcome).tag("reason", each.reason).register(this.registry));
      }
      for (Refusal each : Refusal.values()) {
        refused.put(each, Counter.builder("caravan.mqtt.refused").description("Connections refused or ended, by why")
            .tag("listener", listener).tag("reason", each.tag()).register(this.registry));
      }
      for (Subscription each : Subscription.values()) {
        subscribed.put(each, Counter.builder("caravan.mqtt.subscriptions").description("Topic filters devices asked for, by what became of them")
            .tag("listener", listener).tag("outcome", each.name().toLowerCase(Locale.ROOT)).register(this.registry));
      }
      throttled = Timer.builder("caravan.mqtt.throttled").description("Times a connection was not read because its device sent too fast")
          .tag("listener", listener).register(this.registry);
      gauges.add(Gauge.builder("caravan.mqtt.connections", connections).description("Connected devices")
          .tag("listener", listener).register(this.registry));
      gauges.add(Gauge.builder("caravan.mqtt.pending", pending).description("Connections that are not accepted yet")
          .tag("listener", listener).register(this.registry));
      gauges.add(Gauge.builder("caravan.mqtt.in.flight", inFlight).description("Published messages not answered yet")
          .tag("listener", listener).register(this.registry));
    }

    @Override
    void published(Outcome outcome) {
      published.get(outcome).increment();
    }

    @Override
    double answered() {
      return published.values().stream().mapToDouble(Counter::count).sum();
    }

    @Override
    void refused(Refusal refusal) {
      refused.get(refusal).increment();
    }

    @Override
    void subscribed(Subscription outcome) {
      subscribed.get(outcome).increment();
    }

    @Override
    void throttled(long ms) {
      throttled.record(ms, TimeUnit.MILLISECONDS);
    }

    @Override
    public void close() {
      // The counters stay: a route that starts again goes on counting.
      gauges.forEach(registry::remove);
    }
  }
}
