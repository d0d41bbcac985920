// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.camel.CamelContext;
import org.apache.camel.health.HealthCheck;
import org.apache.camel.health.HealthCheckHelper;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.support.CamelContextHelper;

/**
 * What frame {@code stats} says of this gateway beyond its outbox: how the store is, and whether all is ready. Java, because it stands in health
 * checks and meters, where no EIP reads. A container without them says nothing of it. Stateless.
 */
final class StatsFacts {

    private StatsFacts() {
    }

    static Map<String, Object> of(CamelContext context) {
        Map<String, Object> facts = new LinkedHashMap<>();
        facts.put("version", UplinkConsumer.version());
        HealthCheckRegistry checks = HealthCheckRegistry.get(context);
        HealthCheck wal = checks == null ? null : checks.getCheck("wal").orElse(null);
        if (wal != null) {
            Object state = wal.call().getDetails().get("state");
            facts.put("store_state", state == null ? null : state.toString());
            facts.put("ready", HealthCheckHelper.invokeReadiness(context).stream().allMatch(r -> r.getState() == HealthCheck.State.UP));
        }
        MeterRegistry meters = CamelContextHelper.lookup(context, "metricsRegistry", MeterRegistry.class);
        gauge(facts, meters, "store_bytes", "caravan.wal.bytes");
        gauge(facts, meters, "store_limit_bytes", "caravan.wal.limit.bytes");
        return facts;
    }

    private static void gauge(Map<String, Object> facts, MeterRegistry meters, String name, String meter) {
        Gauge gauge = meters == null ? null : meters.find(meter).gauge();
        double value = gauge == null ? Double.NaN : gauge.value();
        if (value >= 0 && value < Long.MAX_VALUE / 2.0) {
            facts.put(name, (long) value);
        }
    }
}
