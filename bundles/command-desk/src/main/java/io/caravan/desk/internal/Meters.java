// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk.internal;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.composite.CompositeMeterRegistry;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** Thread-safe. */
final class Meters implements AutoCloseable {
  private final MeterRegistry registry;
  private final Map<String, Counter> counters = new ConcurrentHashMap<>();
  private final Counter transmitted;
  private final Gauge streaming;

  /** @param registry null: nobody counts */
  Meters(MeterRegistry registry, Streams streams) {
    this.registry = registry == null ? new CompositeMeterRegistry() : registry;
    List.of("accepted", "known", "conflict", "bad_request", "not_found", "too_many").forEach(this::acceptedCounter);
    List.of("EXPIRED", "INDETERMINATE").forEach(this::endedCounter);
    transmitted = Counter.builder("caravan.command.transmitted").description("Commands handed to connections of gateways again or late")
        .register(this.registry);
    streaming = Gauge.builder("caravan.command.streams", streams, Streams::size).description("Open live streams of command events")
        .register(this.registry);
  }

  void accepted(String outcome) {
    acceptedCounter(outcome).increment();
  }

  /** By this cloud, not by a gateway. */
  void ended(String status) {
    endedCounter(status).increment();
  }

  void transmitted(int count) {
    transmitted.increment(count);
  }

  private Counter acceptedCounter(String outcome) {
    return counter("caravan.command.accepted", "Commands that people gave", "outcome", outcome);
  }

  private Counter endedCounter(String status) {
    return counter("caravan.command.ended", "Commands whose end this cloud decided", "status", status);
  }

  private Counter counter(String name, String description, String tag, String value) {
    return counters.computeIfAbsent(name + ' ' + value, k -> Counter.builder(name).tag(tag, value).description(description).register(registry));
  }

  @Override
  public void close() {
    counters.values().forEach(registry::remove);
    registry.remove(transmitted);
    registry.remove(streaming);
  }
}
