// SPDX-License-Identifier: Apache-2.0
package io.caravan.broker;

import io.caravan.broker.internal.Driver;
import io.caravan.broker.internal.Settings;
import io.caravan.devices.Devices;
import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import java.util.Map;
import org.apache.camel.CamelContext;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;

/**
 * With {@code broker.enabled} drives a mosquitto with its dynamic security plugin from the bean {@code devices}; readiness check
 * {@code broker}. Without it does nothing at all.
 *
 * <p>Java because the plugin is driven by questions and answers, and compared as a whole: no route could do either.
 */
public final class BrokerModule implements Module {
  private CamelContext context;
  private Config config;
  private Driver driver;
  private AbstractHealthCheck check;

  @Override
  public AutoCloseable start(CamelContext context, Config config) throws Exception {
    this.context = context;
    this.config = config;
    open();
    AutoCloseable listening = config.onChange(keys -> {
      if (keys.stream().anyMatch(key -> key.startsWith("broker.") || key.startsWith("mqtt.client.") || key.equals("gateway.id"))) {
        close();
        open();
      }
    });
    return () -> {
      listening.close();
      close();
    };
  }

  private synchronized void open() {
    if (!config.getBoolean("broker.enabled")) {
      return;
    }
    Driver made = new Driver(Settings.of(config), () -> context.getRegistry().lookupByNameAndType("devices", Devices.class),
        context.getRegistry().lookupByNameAndType("audit", Audit.class), context);
    driver = made;
    HealthCheckRegistry checks = HealthCheckRegistry.get(context);
    if (checks != null) {
      check = new Ready(made);
      checks.register(check);
    }
  }

  private synchronized void close() {
    if (check != null) {
      HealthCheckRegistry.get(context).unregister(check);
      check = null;
    }
    if (driver != null) {
      driver.close();
      driver = null;
    }
  }

  private static final class Ready extends AbstractHealthCheck {
    private final Driver driver;

    Ready(Driver driver) {
      super("caravan", "broker");
      this.driver = driver;
    }

    @Override
    public boolean isLiveness() {
      return false;
    }

    @Override
    protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
      String trouble = driver.trouble();
      if (trouble == null) {
        builder.message(driver.url() + " has the users and rights of the registry").up();
      } else {
        builder.message(driver.url() + " " + trouble).down();
      }
    }
  }
}
