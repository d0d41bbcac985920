// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Config;
import org.apache.camel.CamelContext;
import org.apache.camel.ManagementMBeansLevel;
import org.apache.camel.ManagementStatisticsLevel;
import org.apache.camel.StartupSummaryLevel;
import org.apache.camel.component.direct.DirectComponent;
import org.apache.camel.component.properties.PropertiesComponent;
import org.apache.camel.component.seda.SedaComponent;
import org.apache.camel.spi.ManagementAgent;
import org.apache.camel.spi.SupervisingRouteController;

/** How the one CamelContext is set up, the same in Karaf and in plain Java. */
final class Contexts {

    /** Below the launcher's limit for the whole process: modules stop after the routes, and the store wants to be closed. */
    private static final int SHUTDOWN_S = 4;
    private static final int QUEUE_POLL_MS = 100;

    private Contexts() {
    }

    static void configure(CamelContext context, Config config, LayeredConfig placeholders) {
        context.getCamelContextExtension().setName(config.get("container.role"));
        // Resolved when it is set, and the context had another name then.
        context.getExecutorServiceManager().setThreadNamePattern("Camel (#camelId#) thread ##counter# - #name#");
        context.getManagementNameStrategy().setNamePattern("#name#");
        context.setStartupSummaryLevel(StartupSummaryLevel.Oneline);
        context.setLoadHealthChecks(false);
        // Bodies are byte[]: there is no stream that could be read only once.
        context.setStreamCaching(false);
        context.setTracing(false);
        context.setMessageHistory(false);
        context.setTypeConverterStatisticsEnabled(false);
        context.setSourceLocationEnabled(true);
        context.getShutdownStrategy().setTimeout(SHUTDOWN_S);

        // {{http.port}} must be what Config says: by default Camel asks HTTP_PORT and -Dhttp.port before its sources.
        PropertiesComponent properties = (PropertiesComponent) context.getPropertiesComponent();
        properties.setEnvironmentVariableMode(PropertiesComponent.ENVIRONMENT_VARIABLES_MODE_NEVER);
        properties.setSystemPropertiesMode(PropertiesComponent.SYSTEM_PROPERTIES_MODE_NEVER);
        properties.addPropertiesSource(placeholders);

        // A route that is not there (its store is away, its file is being replaced) is said at once: by default the caller's
        // thread, an event loop perhaps, would wait half a minute for it.
        context.getComponent("direct", DirectComponent.class).setBlock(false);
        // Stopping waits for the poll of one queue after the other, and there are a dozen: at the default of a second that was
        // all the time the process had.
        context.getComponent("seda", SedaComponent.class).setDefaultPollTimeout(QUEUE_POLL_MS);

        SupervisingRouteController controller = context.getRouteController().supervising();
        controller.setInitialDelay(0);
        controller.setBackOffDelay(2_000);
        controller.setBackOffMultiplier(2);
        controller.setBackOffMaxDelay(30_000);

        ManagementAgent agent = context.getManagementStrategy().getManagementAgent();
        if (agent != null) {
            agent.setMBeansLevel(ManagementMBeansLevel.RoutesOnly);
            agent.setStatisticsLevel(ManagementStatisticsLevel.RoutesOnly);
            agent.setLoadStatisticsEnabled(false);
            agent.setEndpointRuntimeStatisticsEnabled(false);
        }
    }
}
