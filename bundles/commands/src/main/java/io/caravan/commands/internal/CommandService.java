// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import io.caravan.commands.Capabilities;
import io.caravan.commands.Commands;
import io.caravan.commands.internal.CommandEngine.Parts;
import io.caravan.commands.internal.Reach.Way;
import io.caravan.devices.Devices;
import io.caravan.devices.Presence;
import io.caravan.runtime.Config;
import io.caravan.wal.Wal;
import io.caravan.wal.WalState;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.health.HealthCheckRegistry;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Everything a started module has open; closed in the reverse order. */
public final class CommandService implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(CommandService.class);
  private static final String MQTT = "mqtt:";

  private final CamelContext context;
  private final Deque<AutoCloseable> opened = new ArrayDeque<>();
  private volatile Presence presence;
  private AutoCloseable appearances;

  private CommandService(CamelContext context) {
    this.context = context;
  }

  /** See {@link io.caravan.commands.CommandsModule#start}. */
  public static AutoCloseable start(CamelContext context, Config config) throws Exception {
    CommandService service = new CommandService(context);
    boolean started = false;
    try {
      service.open(config);
      started = true;
      return service;
    } finally {
      if (!started) {
        service.close();
      }
    }
  }

  private void open(Config config) throws Exception {
    for (String bean : new String[] {"writer", "reader"}) {
      if (context.getRegistry().lookupByName(bean) == null) {
        throw new IllegalStateException("bean [" + bean + "] is missing: commands are kept in the store; module wal binds it");
      }
    }
    Time injected = context.getRegistry().findSingleByType(Time.class);
    Time time = injected != null ? injected : Time.system();
    Meters meters = keep(Meters.of(context));
    ProducerTemplate template = context.createProducerTemplate();
    keep(template::stop);
    RoutePublisher publisher = new RoutePublisher(context, time, () -> config.getLong("command.ack.ms"));
    CommandEngine engine = new CommandEngine(new Parts(time, () -> bean("writer", DataSource.class), () -> bean("reader", DataSource.class),
        () -> bean("devices", Devices.class), this::way, publisher, meters, this::refusing,
        () -> signal(template), (controller, body) -> tell(template, controller, body)), Settings.of(config));
    keep(engine);
    keep(config.onChange(keys -> {
      if (keys.stream().anyMatch(key -> key.startsWith("command.") || key.equals("device.access"))) {
        engine.settings(Settings.of(config));
      }
    }));
    keep(DeviceState.start(context, config, engine, meters, time));
    engine.start(bean("capabilities", Capabilities.class));
    bind("commands", engine);
    bind("commandIntake", new CommandIntake(engine));
    HealthCheckRegistry health = HealthCheckRegistry.get(context);
    if (health != null) {
      CommandsHealthCheck check = new CommandsHealthCheck(engine);
      health.register(check);
      keep(() -> health.unregister(check));
    }
    listen(engine);
    ScheduledExecutorService looker = Executors.newSingleThreadScheduledExecutor(work -> CommandEngine.daemon(work, "caravan-commands-presence"));
    keep(() -> {
      looker.shutdownNow();
      looker.awaitTermination(5, TimeUnit.SECONDS);
      forget();
    });
    looker.scheduleWithFixedDelay(() -> listen(engine), 1, 1, TimeUnit.SECONDS);
    LOG.info("commands: {} are open", engine.openCount());
  }

  private <T> T bean(String name, Class<T> type) {
    return context.getRegistry().lookupByNameAndType(name, type);
  }

  private Way way(String deviceId) {
    Presence now = presence;
    return now == null ? Way.NONE : switch (now.path(deviceId)) {
      case LISTENER -> Way.LISTENER;
      case BROKER -> Way.BROKER;
      case NONE -> Way.NONE;
    };
  }

  /** The registry's module may come, go, and come again as another bean. */
  private synchronized void listen(CommandEngine engine) {
    try {
      Presence now = bean("presence", Presence.class);
      if (now != presence) {
        forget();
        presence = now;
        if (now != null) {
          appearances = now.onAppeared((deviceId, channel) -> {
            if (channel.equals(Presence.COMMANDS)) {
              engine.appeared(deviceId);
            }
          });
        }
      }
    } catch (RuntimeException e) {
      LOG.warn("who is there is not known: {}; tried again", e.toString());
    }
  }

  private synchronized void forget() {
    AutoCloseable before = appearances;
    appearances = null;
    presence = null;
    if (before != null) {
      try {
        before.close();
      } catch (Exception e) {
        LOG.debug("presence", e);
      }
    }
  }

  private boolean refusing() {
    Wal wal = bean("wal", Wal.class);
    return wal != null && wal.state() == WalState.REFUSING;
  }

  private static void signal(ProducerTemplate template) {
    try {
      template.sendBody("seda:outbox?size=1&discardWhenFull=true", null);
    } catch (RuntimeException e) {
      LOG.debug("nobody sends to the cloud now; the outbox looks by itself later", e);
    }
  }

  private static void tell(ProducerTemplate template, String issuedBy, String body) {
    try {
      template.sendBodyAndHeader("seda:command-told?size=10000&discardWhenFull=true", body, "CaravanDeviceId",
          issuedBy.startsWith(MQTT) ? issuedBy.substring(MQTT.length()) : issuedBy);
    } catch (RuntimeException e) {
      LOG.debug("nobody tells controllers now", e);
    }
  }

  private <T extends AutoCloseable> T keep(T closeable) {
    opened.push(closeable);
    return closeable;
  }

  private void bind(String name, Object bean) {
    context.getRegistry().bind(name, bean);
    opened.push(() -> context.getRegistry().unbind(name));
  }

  @Override
  public void close() {
    while (!opened.isEmpty()) {
      try {
        opened.pop().close();
      } catch (Exception e) {
        LOG.warn("closing the commands: {}", e.toString());
      }
    }
  }
}
