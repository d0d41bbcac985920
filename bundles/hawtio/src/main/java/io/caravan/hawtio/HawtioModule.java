// SPDX-License-Identifier: Apache-2.0
package io.caravan.hawtio;

import io.caravan.hawtio.internal.Console;
import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import org.apache.camel.CamelContext;
import org.apache.camel.ManagementMBeansLevel;
import org.apache.camel.ManagementStatisticsLevel;
import org.apache.camel.spi.ManagementAgent;

/**
 * Bean {@code hawtio}: its pages, logins, and what they ask of JMX. While it is here, each step of a route is managed and counted, and
 * messages can be traced, which routes pay for: that is why they are built anew when it comes and when it goes.
 */
public final class HawtioModule implements Module {
  @Override
  public boolean rebuildsRoutes() {
    return true;
  }

  @Override
  public AutoCloseable start(CamelContext context, Config config) throws Exception {
    Console console = Console.open(context, config);
    ManagementAgent agent = context.getManagementStrategy().getManagementAgent();
    ManagementMBeansLevel managed = agent == null ? null : agent.getMBeansLevel();
    ManagementStatisticsLevel counted = agent == null ? null : agent.getStatisticsLevel();
    Boolean always = agent == null ? null : agent.getRegisterAlways();
    boolean traced = context.isBacklogTracingStandby();
    if (agent != null) {
      agent.setMBeansLevel(ManagementMBeansLevel.Default);
      agent.setStatisticsLevel(ManagementStatisticsLevel.Default);
      // Ours are built after the context has started, and their steps would not be registered.
      agent.setRegisterAlways(true);
    }
    context.setBacklogTracingStandby(true);
    context.getRegistry().bind("hawtio", console);
    return () -> {
      context.getRegistry().unbind("hawtio");
      context.setBacklogTracingStandby(traced);
      if (agent != null) {
        agent.setMBeansLevel(managed);
        agent.setStatisticsLevel(counted);
        agent.setRegisterAlways(always);
      }
      console.close();
    };
  }
}
