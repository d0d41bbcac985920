// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import io.caravan.devices.Gate.Outcome;
import io.caravan.devices.Gate.Transport;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.Meter;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Supplier;

/** What is counted; without a metricsRegistry nothing is, and Micrometer need not be there. */
class Meters implements AutoCloseable {

  /** @param registry a MeterRegistry or null */
  static Meters of(Object registry) {
    return registry == null ? new Meters() : new Micrometer(registry);
  }

  void decided(Transport transport, Outcome outcome) {}

  void gauge(String name, String description, String tag, String value, Supplier<Number> number) {}

  @Override
  public void close() {}

  private static final class Micrometer extends Meters {
    private final MeterRegistry registry;
    private final Counter[][] decided = new Counter[Transport.values().length][Outcome.values().length];
    private final List<Meter> meters = new ArrayList<>();

    Micrometer(Object registry) {
      this.registry = (MeterRegistry) registry;
      for (Transport transport : Transport.values()) {
        for (Outcome outcome : Outcome.values()) {
          Counter counter = Counter.builder("caravan.auth.total").description("Decisions about connections and requests of devices")
              .tag("transport", transport.toString()).tag("outcome", outcome.toString()).register(this.registry);
          decided[transport.ordinal()][outcome.ordinal()] = counter;
          meters.add(counter);
        }
      }
    }

    @Override
    void decided(Transport transport, Outcome outcome) {
      decided[transport.ordinal()][outcome.ordinal()].increment();
    }

    @Override
    void gauge(String name, String description, String tag, String value, Supplier<Number> number) {
      Gauge.Builder<Supplier<Number>> gauge = Gauge.builder(name, number).description(description);
      meters.add((tag == null ? gauge : gauge.tag(tag, value)).register(registry));
    }

    @Override
    public void close() {
      meters.forEach(registry::remove);
    }
  }
}
