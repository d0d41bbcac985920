// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import io.caravan.commands.Capabilities;
import io.caravan.commands.Commands;
import io.caravan.commands.Twins;
import io.caravan.devices.Devices;
import io.caravan.devices.Presence;
import io.caravan.runtime.Config;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import javax.sql.DataSource;
import org.apache.camel.CamelContext;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.health.HealthCheckResultBuilder;
import org.apache.camel.impl.health.AbstractHealthCheck;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What is known of devices beyond their messages: beans {@code capabilities}, {@code twins}, {@code answers}, with all they need. */
public final class DeviceState implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(DeviceState.class);
  private static final long LOOK_EVERY_MS = 1_000;
  /** As in docs/contract.md section 1. */
  private static final Pattern DEVICE_ID = Pattern.compile("(?!.*\\.\\.)[A-Za-z0-9][A-Za-z0-9._-]{0,63}");

  private final CamelContext context;
  private final Config config;
  private final Deque<AutoCloseable> opened = new ArrayDeque<>();
  private volatile Presence presence;
  private AutoCloseable appearances;
  private volatile TwinBook twins;

  private DeviceState(CamelContext context, Config config) {
    this.context = context;
    this.config = config;
  }

  /**
   * @param turns takes work already
   * @throws Exception nothing stays bound
   */
  public static DeviceState start(CamelContext context, Config config, Turns turns, Meters meters, Time time) throws Exception {
    DeviceState state = new DeviceState(context, config);
    boolean started = false;
    try {
      state.open(turns, meters, time);
      started = true;
      return state;
    } finally {
      if (!started) {
        state.close();
      }
    }
  }

  private void open(Turns turns, Meters meters, Time time) throws Exception {
    DataSource reader = context.getRegistry().lookupByNameAndType("reader", DataSource.class);
    if (reader == null) {
      throw new IllegalStateException("bean [reader] is missing: without the store nothing is known of devices; module wal binds it");
    }
    WatchedFile<Policy> policy = new WatchedFile<>(config.getPath("config.dir").resolve("command-policy.json"), Policy.NONE,
        Policy.NOTHING_ALLOWED, Policy::parse);
    WatchedFile<CapabilityForm> own = new WatchedFile<>(config.getPath("config.dir").resolve("control-capabilities.json"), null, null,
        CapabilityBook::file);
    CapabilityBook capabilities = new CapabilityBook(this::devices, policy, own);
    capabilities.load(reader);
    ProducerTemplate template = context.createProducerTemplate();
    opened.push(template);
    twins = new TwinBook(reader, turns, this::mayHaveTwin, this::path, () -> signal(template));
    AnswerIntake answers = new AnswerIntake(turns, capabilities, twins, meters, time, (int) config.getLong("answers.lag.rows"),
        config.getLong("answers.lag.ms"));
    bind("capabilities", Capabilities.class, capabilities);
    bind("twins", Twins.class, twins);
    bind("answers", AnswerIntake.class, answers);
    meters.gauge("caravan.capabilities.devices", "Devices that have announced what they can do", capabilities::announcedCount);
    meters.gauge("caravan.twins.waiting", "Devices that are to be told what is desired of them", twins::waiting);
    HealthCheckRegistry health = HealthCheckRegistry.get(context);
    if (health != null) {
      Files check = new Files(List.of(policy, own));
      health.register(check);
      opened.push(() -> health.unregister(check));
    }
    ScheduledThreadPoolExecutor looker = new ScheduledThreadPoolExecutor(1, task -> {
      Thread made = new Thread(task, "caravan-device-state");
      made.setDaemon(true);
      return made;
    });
    opened.push(() -> {
      looker.shutdownNow();
      looker.awaitTermination(5, TimeUnit.SECONDS);
      forget();
    });
    looker.execute(() -> guarded(twins::requestAll));
    looker.scheduleWithFixedDelay(() -> {
      guarded(policy::poll);
      guarded(own::poll);
      guarded(this::listen);
    }, 0, LOOK_EVERY_MS, TimeUnit.MILLISECONDS);
  }

  /** The registry's module may come, go, and come again as another bean. */
  private void listen() {
    Presence now = context.getRegistry().lookupByNameAndType("presence", Presence.class);
    if (now == presence) {
      return;
    }
    forget();
    presence = now;
    if (now != null) {
      appearances = now.onAppeared((deviceId, channel) -> {
        if (channel.equals(Presence.DESIRED)) {
          twins.requested(deviceId);
        }
      });
      guarded(twins::requestAll); // who came before we listened
    }
  }

  private void forget() {
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

  private void signal(ProducerTemplate template) {
    try {
      template.sendBody("seda:twin?size=1&discardWhenFull=true", "");
    } catch (RuntimeException e) {
      LOG.debug("nobody tells devices what is desired of them at the moment; the next signal or tick does", e);
    }
  }

  private String path(String deviceId) {
    Presence now = presence;
    return (now == null ? Presence.Path.NONE : now.desiredPath(deviceId)).name();
  }

  private static void guarded(Runnable look) {
    try {
      look.run();
    } catch (RuntimeException e) {
      LOG.warn("{}; tried again", e.toString());
    }
  }

  private Devices devices() {
    return context.getRegistry().lookupByNameAndType("devices", Devices.class);
  }

  private boolean mayHaveTwin(String deviceId) {
    if (deviceId == null || deviceId.equals(Commands.GATEWAY) || !DEVICE_ID.matcher(deviceId).matches()) {
      return false;
    }
    Devices registry = devices();
    Devices.Status status = registry == null ? null : registry.find(deviceId).map(Devices.Device::status).orElse(null);
    return status == Devices.Status.ACTIVE || status == null && config.get("device.access").equals("open");
  }

  private <T> void bind(String name, Class<T> type, T bean) {
    context.getRegistry().bind(name, type, bean);
    opened.push(() -> context.getRegistry().unbind(name));
  }

  @Override
  public void close() {
    while (!opened.isEmpty()) {
      try {
        opened.pop().close();
      } catch (Exception e) {
        LOG.warn("closing what is known of devices: {}", e.toString());
      }
    }
  }

  /** Readiness {@code command-files}: DOWN while a file that says what may be commanded cannot be used. */
  private static final class Files extends AbstractHealthCheck {
    private final List<WatchedFile<?>> files;

    Files(List<WatchedFile<?>> files) {
      super("caravan", "command-files");
      this.files = files;
    }

    @Override
    public boolean isLiveness() {
      return false;
    }

    @Override
    protected void doCall(HealthCheckResultBuilder builder, Map<String, Object> options) {
      List<String> problems = files.stream().map(WatchedFile::problem).filter(p -> p != null).toList();
      if (problems.isEmpty()) {
        builder.up();
      } else {
        builder.message(String.join("; ", problems));
        builder.down();
      }
    }
  }
}
