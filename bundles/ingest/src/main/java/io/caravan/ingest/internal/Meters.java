// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest.internal;

import io.caravan.ingest.Reason;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.EnumMap;
import java.util.Map;

/** What is counted; without a metricsRegistry nothing is, and Micrometer need not be there. */
public class Meters {

  /** @param registry a MeterRegistry or null */
  public static Meters of(Object registry) {
    return registry == null ? new Meters() : new Micrometer(registry);
  }

  public void rejected(Reason reason) {}

  public void clockImplausible() {}

  private static final class Micrometer extends Meters {
    private final Map<Reason, Counter> rejected = new EnumMap<>(Reason.class);
    private final Counter clockImplausible;

    Micrometer(Object registry) {
      MeterRegistry meters = (MeterRegistry) registry;
      for (Reason each : Reason.values()) {
        rejected.put(each, Counter.builder("caravan.ingest.rejected").description("Messages refused because of what they are")
            .tag("reason", each.toString()).register(meters));
      }
      clockImplausible = Counter.builder("caravan.ingest.clock.implausible")
          .description("Messages whose observed_at was not plausible; the gateway's time was used").register(meters);
    }

    @Override
    public void rejected(Reason reason) {
      rejected.get(reason).increment();
    }

    @Override
    public void clockImplausible() {
      clockImplausible.increment();
    }
  }
}
