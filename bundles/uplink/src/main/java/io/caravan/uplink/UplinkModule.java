// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.composite.CompositeMeterRegistry;
import org.apache.camel.CamelContext;
import org.apache.camel.support.CamelContextHelper;

/**
 * Gateway: beans {@code uplinkBatch} and {@code uplinkCredit}. Cloud: beans {@code sessions}, {@code gateways},
 * {@code fleet}, {@code gatewayApi} and {@code uplinkServerOptions}, over the beans {@code writer} and {@code reader}; component
 * {@code uplink-server}. The uplink: component itself needs no module.
 */
public final class UplinkModule implements Module {

    @Override
    public AutoCloseable start(CamelContext context, Config config) throws Exception {
        if (!config.get("container.role").equals("cloud")) {
            context.getRegistry().bind("uplinkBatch", new Batch());
            context.getRegistry().bind("uplinkCredit", new Credit());
            return () -> {
                context.getRegistry().unbind("uplinkBatch");
                context.getRegistry().unbind("uplinkCredit");
            };
        }
        MeterRegistry meters = CamelContextHelper.lookup(context, "metricsRegistry", MeterRegistry.class);
        return new CloudSide(context, config, meters == null ? new CompositeMeterRegistry() : meters);
    }
}
