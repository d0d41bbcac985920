// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker.internal;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.EnumMap;
import java.util.Map;
import java.util.function.IntSupplier;
import org.apache.camel.CamelContext;

/** What the driver counts; without a {@code metricsRegistry} nothing, and Micrometer need not be there. Thread-safe. */
class Meters implements AutoCloseable {

  Meters() {}

  /** @param unset asked when metrics are read; must not block */
  static Meters of(CamelContext context, IntSupplier unset) {
    Object registry = context == null ? null : context.getRegistry().lookupByName("metricsRegistry");
    return registry == null ? new Meters() : new Micrometer((MeterRegistry) registry, unset);
  }

  /** Something at the broker was not as the registry says, found when both were compared. */
  void repaired(Plan.What what) {}

  void restartAsked() {}

  @Override
  public void close() {}

  private static final class Micrometer extends Meters {
    private final MeterRegistry registry;
    private final Gauge gauge;
    private final Counter restarts;
    private final Map<Plan.What, Counter> repairs = new EnumMap<>(Plan.What.class);

    Micrometer(MeterRegistry registry, IntSupplier unset) {
      this.registry = registry;
      gauge = Gauge.builder("caravan.broker.unset.devices", unset::getAsInt)
          .description("Devices whose password the broker gets only when it starts anew").register(registry);
      restarts = Counter.builder("caravan.broker.restarts.asked").description("Times mosquitto/run was asked to start the broker anew").register(registry);
      for (Plan.What what : Plan.What.values()) {
        repairs.put(what, Counter.builder("caravan.broker.repairs").description("Differences between broker and registry that were mended")
            .tag("what", what.toString()).register(registry));
      }
    }

    @Override
    void repaired(Plan.What what) {
      repairs.get(what).increment();
    }

    @Override
    void restartAsked() {
      restarts.increment();
    }

    @Override
    public void close() {
      registry.remove(gauge);
    }
  }
}
