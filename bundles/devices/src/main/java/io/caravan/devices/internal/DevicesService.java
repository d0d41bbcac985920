// SPDX-License-Identifier: Apache-2.0
package io.caravan.devices.internal;

import io.caravan.devices.Devices;
import io.caravan.devices.Gate;
import io.caravan.devices.HttpAccess;
import io.caravan.devices.Presence;
import io.caravan.devices.Signatures;
import io.caravan.mqtt.server.Authenticator;
import io.caravan.mqtt.server.Connections;
import io.caravan.runtime.Audit;
import io.caravan.runtime.Config;
import java.io.UncheckedIOException;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import org.apache.camel.CamelContext;
import org.apache.camel.Processor;
import org.apache.camel.health.HealthCheckRegistry;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Registry and gate of one container, with all they need around them. */
public final class DevicesService implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(DevicesService.class);
  private static final int ADMINISTRATIVE_ACTION = 0x98;
  private static final String PRESENCE_MS = "command.presence.ms";
  private static final long PRESENCE_MS_DEFAULT = 600_000;
  /** A minute; what is more is counted in the next entry. */
  private static final int MAX_AUDITED_LOCKOUTS = 60;

  private final CamelContext context;
  private final Audit audit;
  private final Deque<AutoCloseable> opened = new ArrayDeque<>();
  private final ScheduledExecutorService worker = thread("caravan-devices");
  private long minute;
  private int audited;
  private int notAudited;

  private DevicesService(CamelContext context, Audit audit) {
    this.context = context;
    this.audit = audit;
  }

  /** @throws Exception the registry cannot be used: then no bean is bound, and nobody may connect */
  public static DevicesService start(CamelContext context, Config config) throws Exception {
    Audit audit = context.getRegistry().lookupByNameAndType("audit", Audit.class);
    if (audit == null) {
      throw new IllegalStateException("bean [audit] is missing: without it no change of the registry may be made; the runtime binds it");
    }
    DevicesService service = new DevicesService(context, audit);
    boolean started = false;
    try {
      service.start(config);
      started = true;
      return service;
    } finally {
      if (!started) {
        service.close();
      }
    }
  }

  private void start(Config config) throws Exception {
    Registry registry = Registry.open(config.getPath("device.registry.file"));
    ScheduledExecutorService announcer = thread("caravan-devices-changes");
    opened.push(registry);
    opened.push(announcer::shutdown);
    opened.push(worker::shutdown);
    DeviceBook devices = keep(new DeviceBook(registry, audit, new MqttSessions(), System::currentTimeMillis, System::nanoTime,
        worker, announcer));
    Meters meters = keep(Meters.of(context.getRegistry().lookupByName("metricsRegistry")));
    Doorkeeper gate = new Doorkeeper(devices, Settings.of(config), meters, System::currentTimeMillis, System::nanoTime, this::lockedOut);
    for (Devices.Status status : Devices.Status.values()) {
      meters.gauge("caravan.devices", "Devices in the registry", "status", status.name().toLowerCase(java.util.Locale.ROOT),
          () -> devices.count(status));
    }
    meters.gauge("caravan.auth.locked", "Addresses, and pairs of address and claimed id, that are locked out", null, null, gate::locked);
    keep(config.onChange(keys -> {
      if (keys.stream().anyMatch(key -> key.startsWith("device."))) {
        gate.settings(Settings.of(config));
        // Who came in while it was open does not stay.
        connections(all -> all.revalidate(null));
      }
    }));
    HealthCheckRegistry health = HealthCheckRegistry.get(context);
    if (health != null) {
      DevicesHealthCheck check = new DevicesHealthCheck(devices, () -> Settings.of(config).open());
      health.register(check);
      keep(() -> health.unregister(check));
    }
    PresenceBoard presence = new PresenceBoard(() -> context.getRegistry().lookupByNameAndType("mqttConnections", Connections.class),
        System::nanoTime, presenceMs(config));
    keep(config.onChange(keys -> {
      if (keys.contains(PRESENCE_MS)) {
        presence.presence(presenceMs(config));
      }
    }));
    bind("devices", Devices.class, devices);
    bind("presence", Presence.class, presence);
    bind("gate", Gate.class, gate);
    bind("deviceAuthenticator", Authenticator.class, new DeviceAuthenticator(gate));
    bind("httpAccess", HttpAccess.class, new HttpAccess(gate, config));
    Signatures signatures = new Signatures(devices, () -> config.getLong("device.signature.window"));
    bind("signatures", Signatures.class, signatures);
    bind("signaturesVerify", Processor.class, signatures::verify);
    LOG.info("registry of devices [{}] is open: {} active, {} revoked{}", registry.file(), devices.count(Devices.Status.ACTIVE),
        devices.count(Devices.Status.REVOKED), Settings.of(config).open()
            ? "; device.access=open: whoever is on this machine may act for any device" : "");
  }

  /** The key is that of who sends commands; where nobody does it is not declared. */
  private static long presenceMs(Config config) {
    try {
      return config.getLong(PRESENCE_MS);
    } catch (IllegalArgumentException e) {
      return PRESENCE_MS_DEFAULT;
    }
  }

  /** The listeners of this container; there may be none yet, or any more. */
  private final class MqttSessions implements DeviceBook.Sessions {
    @Override
    public void disconnect(String deviceId) {
      connections(all -> all.disconnect(deviceId, ADMINISTRATIVE_ACTION));
    }

    @Override
    public void revalidate(String deviceId) {
      connections(all -> all.revalidate(deviceId));
    }
  }

  private void connections(java.util.function.Consumer<Connections> what) {
    try {
      Connections connections = context.getRegistry().lookupByNameAndType("mqttConnections", Connections.class);
      if (connections != null) {
        what.accept(connections);
      }
    } catch (RuntimeException e) {
      // They ask their grants by themselves, twice a second; the change itself must go on.
      LOG.error("connections could not be told of a change of a device's rights", e);
    }
  }

  /** On the thread of an attempt: handed over. An attacker must not fill the disk with his own lock-outs. */
  private synchronized void lockedOut(String subject, Map<String, String> details) {
    long now = System.nanoTime() / 60_000_000_000L;
    if (now != minute) {
      minute = now;
      audited = 0;
    }
    if (audited == MAX_AUDITED_LOCKOUTS) {
      notAudited++;
      return;
    }
    audited++;
    Map<String, String> all = new LinkedHashMap<>(details);
    if (notAudited > 0) {
      all.put("not_listed", Integer.toString(notAudited));
      notAudited = 0;
    }
    try {
      worker.execute(() -> {
        LOG.warn("locked out: [{}] {}", subject, all);
        try {
          audit.record("device.lockout", subject, "locked", all);
        } catch (UncheckedIOException e) {
          LOG.error("a lock-out of [{}] is not in the audit log: {}", subject, e.getMessage());
        }
      });
    } catch (RejectedExecutionException e) {
      LOG.debug("not any more, the registry is closed");
    }
  }

  private <T extends AutoCloseable> T keep(T closeable) {
    opened.push(closeable);
    return closeable;
  }

  private <T> void bind(String name, Class<T> type, T bean) {
    context.getRegistry().bind(name, type, bean);
    opened.push(() -> context.getRegistry().unbind(name));
  }

  static ScheduledExecutorService thread(String name) {
    ScheduledThreadPoolExecutor thread = new ScheduledThreadPoolExecutor(1, task -> {
      Thread made = new Thread(task, name);
      made.setDaemon(true);
      return made;
    });
    thread.setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
    return thread;
  }

  @Override
  public void close() {
    while (!opened.isEmpty()) {
      try {
        opened.pop().close();
      } catch (Exception e) {
        LOG.warn("closing the registry of devices: {}", e.toString());
      }
    }
    worker.shutdown();
  }
}
