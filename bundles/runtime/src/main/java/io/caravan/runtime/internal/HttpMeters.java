// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Timer;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReferenceArray;

/** What one route from {@code platform-http:} has answered, by its id and never by a path. Thread-safe. */
final class HttpMeters {

    private static final int LEAST = 100;
    private static final int MOST = 599;

    private final MeterRegistry registry;
    private final String route;
    private final Timer timer;
    private final AtomicReferenceArray<Counter> statuses = new AtomicReferenceArray<>(MOST - LEAST + 2);

    HttpMeters(MeterRegistry registry, String route) {
        this.registry = registry;
        this.route = route;
        this.timer = Timer.builder("caravan.http.request").description("From the request's header to the beginning of its answer").tag("route", route)
                .register(registry);
    }

    void answered(int status, long begunNanos) {
        timer.record(System.nanoTime() - begunNanos, TimeUnit.NANOSECONDS);
        int index = status >= LEAST && status <= MOST ? status - LEAST : statuses.length() - 1;
        Counter counter = statuses.get(index);
        if (counter == null) {
            counter = Counter.builder("caravan.http.requests").description("Requests that a route answered").tag("route", route)
                    .tag("status", index == statuses.length() - 1 ? "other" : String.valueOf(status)).register(registry);
            statuses.set(index, counter);
        }
        counter.increment();
    }
}
