// SPDX-License-Identifier: Apache-2.0
package io.caravan.mqtt.client.internal;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.BooleanSupplier;
import org.apache.camel.CamelContext;

/**
 * What a client of a broker counts, tag {@code connection} says which one; without a {@code metricsRegistry} nothing, and
 * Micrometer need not be there. Thread-safe.
 */
public class Meters implements AutoCloseable {
  /** Counts nothing. */
  public static final Meters NONE = new Meters();

  Meters() {}

  /** @param connected asked when metrics are read; must not block */
  public static Meters of(CamelContext context, String connection, BooleanSupplier connected) {
    Object registry = context == null ? null : context.getRegistry().lookupByName("metricsRegistry");
    return registry == null ? NONE : new Micrometer(registry, connection, connected);
  }

  /** An attempt to connect: the first, and each that became necessary after it. */
  public void connects(boolean succeeded) {}

  /** @param outcome acknowledged, refused, unsent (certainly nobody has it), or lost (no answer before the connection was given up; it may have arrived) */
  public void published(String outcome) {}

  /** @param outcome taken, or failed (not acknowledged to the broker, comes again) */
  public void received(String outcome) {}

  /** The gauge goes; counters stay, so that a route that starts again goes on counting. */
  @Override
  public void close() {}

  private static final class Micrometer extends Meters {
    private final MeterRegistry registry;
    private final String connection;
    private final Gauge gauge;
    private final Map<String, Counter> counters = new ConcurrentHashMap<>();

    Micrometer(Object registry, String connection, BooleanSupplier connected) {
      this.registry = (MeterRegistry) registry;
      this.connection = connection;
      gauge = Gauge.builder("caravan.mqttclient.connected", () -> connected.getAsBoolean() ? 1 : 0)
          .description("Whether the connection to the broker stands").tag("connection", connection).register(this.registry);
      // There from the beginning, so that a rate can be taken of the first one.
      count("caravan.mqttclient.connects", "connected");
      count("caravan.mqttclient.connects", "failed");
    }

    @Override
    public void connects(boolean succeeded) {
      count("caravan.mqttclient.connects", succeeded ? "connected" : "failed").increment();
    }

    @Override
    public void published(String outcome) {
      count("caravan.mqttclient.published.messages", outcome).increment();
    }

    @Override
    public void received(String outcome) {
      count("caravan.mqttclient.received.messages", outcome).increment();
    }

    private Counter count(String name, String outcome) {
      return counters.computeIfAbsent(name + " " + outcome, k -> Counter.builder(name).description(switch (name) {
        case "caravan.mqttclient.connects" -> "Attempts to connect to the broker";
        case "caravan.mqttclient.published.messages" -> "Messages published to the broker, by what became of them";
        default -> "Messages taken out of the broker's session, by what became of them";
      }).tag("connection", connection).tag("outcome", outcome).register(registry));
    }

    @Override
    public void close() {
      registry.remove(gauge);
    }
  }
}
