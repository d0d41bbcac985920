// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.DistributionSummary;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.Meter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Timer;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import org.apache.camel.CamelContext;

/** What is counted; without a metricsRegistry nothing is, and Micrometer need not be there. Thread-safe. */
public class Meters implements AutoCloseable {

  /** Meters of the context's bean metricsRegistry, if there is one. */
  public static Meters of(CamelContext context) {
    Object registry = context.getRegistry().lookupByName("metricsRegistry");
    return registry == null ? new Meters() : new Micrometer(registry);
  }

  /** @param tags name, value, ...; of a bounded set */
  public void count(String name, String description, String... tags) {}

  public void gauge(String name, String description, Supplier<Number> value) {}

  void turn(long nanos, int commands) {}

  @Override
  public void close() {}

  private static final class Micrometer extends Meters {
    private final MeterRegistry registry;
    private final Map<List<String>, Counter> counters = new ConcurrentHashMap<>();
    private final List<Meter> meters = new CopyOnWriteArrayList<>();
    private final Timer turn;
    private final DistributionSummary size;

    Micrometer(Object registry) {
      this.registry = (MeterRegistry) registry;
      turn = Timer.builder("caravan.command.turn").description("How long a transaction of the commands held the turn to write, COMMIT included")
          .register(this.registry);
      size = DistributionSummary.builder("caravan.command.turn.commands").description("Commands that changed in one transaction").register(this.registry);
      meters.add(turn);
      meters.add(size);
    }

    @Override
    public void count(String name, String description, String... tags) {
      List<String> key = Arrays.asList((name + '\0' + String.join("\0", tags)).split("\0", -1));
      counters.computeIfAbsent(key, k -> {
        Counter counter = Counter.builder(name).description(description).tags(tags).register(registry);
        meters.add(counter);
        return counter;
      }).increment();
    }

    @Override
    public void gauge(String name, String description, Supplier<Number> value) {
      meters.add(Gauge.builder(name, value).description(description).register(registry));
    }

    @Override
    void turn(long nanos, int commands) {
      turn.record(nanos, TimeUnit.NANOSECONDS);
      size.record(commands);
    }

    @Override
    public void close() {
      meters.forEach(registry::remove);
    }
  }
}
