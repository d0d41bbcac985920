// SPDX-License-Identifier: Apache-2.0
package io.caravan.model;

import io.caravan.commands.Commands;
import io.caravan.commands.CommandsModule;
import io.caravan.commands.Status;
import io.caravan.commands.internal.CommandEngine;
import io.caravan.commands.internal.Time;
import io.caravan.devices.Devices;
import io.caravan.devices.DevicesModule;
import io.caravan.devices.Presence;
import io.caravan.runtime.Caravan;
import io.caravan.wal.Record;
import io.caravan.wal.Wal;
import io.caravan.wal.WalModule;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.BiConsumer;
import org.apache.camel.AsyncCallback;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.Message;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.support.AsyncProcessorSupport;

/** The real gateway, as far as it has to do with commands: its store, its engine, its routes; dies and starts again. */
final class GatewaySide implements AutoCloseable {
  private static final Duration LIMIT = Duration.ofSeconds(60);

  record Row(long seq, String kind, String deviceId, String messageKey, String body) {}

  private final World world;
  private final Path home;
  private final Path store;
  private final List<BiConsumer<String, String>> watchers = new CopyOnWriteArrayList<>();
  private Caravan caravan;
  private Crash crash;
  private CommandEngine engine;
  private Connection reader;

  GatewaySide(World world, Path home) throws Exception {
    this.world = world;
    this.home = home;
    this.store = home.resolve("data/gateway.db");
    Sides.configuration("gateway", home);
  }

  void start() throws Exception {
    watchers.clear();
    Caravan.Builder builder = Sides.builder("gateway", home).set("wal.path", store.toString()).set("gateway.id", "model").set("wal.ballast.bytes", "0")
        .set("command.unsafe", world.setup.broken()).set("command.presence.ms", "600000");
    builder.module("wal", new WalModule()).module("model", (context, config) -> {
      crash = Sides.wrap(context);
      crash.onDeath(() -> { });
      context.getRegistry().bind("time", Time.class, new Time() {
        @Override
        public long monoMs() {
          return world.time.monoMs();
        }

        @Override
        public long wallMs() {
          return world.time.wallMs();
        }

        @Override
        public String bootId() {
          return world.time.bootId();
        }
      });
      return () -> { };
    }).module("devices", new DevicesModule()).module("enrolled", (context, config) -> {
      context.getRegistry().bind("presence", Presence.class, new Reach());
      enrol(context.getRegistry().lookupByNameAndType("devices", Devices.class));
      return () -> { };
    }).module("commands", new CommandsModule());
    caravan = builder.routes(Sides.route("gateway", "command"), Sides.route("gateway", "answers")).start();
    caravan.context().addRoutes(new Network());
    for (String route : List.of("model-failed", "model-direct", "model-mqtt")) {
      caravan.context().getRouteController().startRoute(route);
    }
    if (!caravan.awaitReady(LIMIT)) {
      throw new AssertionError("the gateway does not get ready: " + caravan.checks() + caravan.routes());
    }
    engine = (CommandEngine) caravan.bean("commands", Commands.class).orElseThrow();
    reader = Sides.read(store);
  }

  private static void enrol(Devices devices) throws Exception {
    if (devices.find("own-1").isPresent()) {
      return;
    }
    for (String id : List.of("own-1", "own-2", "broker-1", "broker-2", "revoked")) {
      devices.add(new Devices.NewDevice(id, null, World.CAPABILITIES, null, null, null, null, null, null));
    }
    devices.revoke("revoked");
  }

  void die() {
    crash.die();
  }

  void dieIn(int steps, boolean afterwards) {
    crash.in(steps, afterwards);
  }

  void disarm() {
    crash.disarm();
  }

  boolean dead() {
    return crash.dead();
  }

  void restart() throws Exception {
    List<String> anew = new ArrayList<>();
    try (PreparedStatement s = reader.prepareStatement("SELECT command_id FROM command WHERE final_at_ms IS NULL AND os_boot_id <> ? ORDER BY seq")) {
      s.setString(1, world.time.bootId());
      try (ResultSet r = s.executeQuery()) {
        while (r.next()) {
          anew.add(r.getString(1));
        }
      }
    }
    world.oracle.countedAnew(anew);
    reader.close();
    caravan.close();
    start();
  }

  /** Whatever is due is done, and done again until nothing more comes of it. */
  void settle() throws Exception {
    long before = -1;
    for (int calm = 0, rounds = 0; calm < 2 && !crash.dead(); rounds++) {
      if (rounds > 500) {
        throw new AssertionError("the gateway does not come to rest");
      }
      try {
        engine.pass();
        awaitAnswers();
      } catch (RuntimeException | SQLException e) {
        if (!crash.dead()) {
          throw e;
        }
      }
      long now = number("SELECT coalesce((SELECT sum(seq) FROM sqlite_sequence), 0) * 1000003 + coalesce((SELECT sum(attempts * 31 + revision) FROM command), 0)")
          + world.oracle.counts().getOrDefault("published", 0);
      calm = now == before ? calm + 1 : 0;
      before = now;
    }
  }

  private void awaitAnswers() throws SQLException {
    long deadline = System.nanoTime() + LIMIT.toNanos();
    String behind = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'wal'), 0) - max(acked_seq) FROM sink_range WHERE sink = 'answers'";
    while (!crash.dead() && number(behind) > 0) {
      if (System.nanoTime() > deadline) {
        throw new AssertionError("what devices said is not read: " + caravan.routes());
      }
      signal();
      Thread.onSpinWait();
    }
  }

  private void signal() {
    try (ProducerTemplate template = caravan.context().createProducerTemplate()) {
      template.sendBody("seda:answers?size=1&discardWhenFull=true&waitForTaskToComplete=Never", null);
    } catch (java.io.IOException e) {
      throw new java.io.UncheckedIOException(e);
    }
  }

  // ---- what comes in

  CompletionStage<List<Commands.Command>> submit(List<Commands.Request> requests) {
    try {
      return Sides.settled(engine.submit(requests), crash);
    } catch (RuntimeException e) {
      if (crash.dead()) {
        return CompletableFuture.failedFuture(e);
      }
      throw e;
    }
  }

  void cancel(String id) {
    CompletionStage<Optional<Commands.Command>> stage = Sides.settled(engine.cancel(id, "model"), crash);
    stage.toCompletableFuture().exceptionally(e -> null);
  }

  /** What a device said gets into the log, and is acknowledged to it. */
  void hear(String deviceId, String json, String key) throws Exception {
    Wal wal = caravan.bean("wal", Wal.class).orElseThrow();
    long now = world.time.wallMs();
    wal.submit(new Record(deviceId + "//k/" + key, UUID.randomUUID().toString(), deviceId, "command-status", "live", null, 0, now, now,
        world.time.monoMs(), 1, "application/json", null, json.getBytes(StandardCharsets.UTF_8)), "mqtt-server", "devices/" + deviceId + "/command-status")
        .toCompletableFuture().get(LIMIT.toSeconds(), TimeUnit.SECONDS);
  }

  void appeared(String deviceId) {
    if (!crash.dead()) {
      watchers.forEach(w -> w.accept(deviceId, "commands"));
    }
  }

  // ---- what is seen from outside

  synchronized List<Row> outbox(long after) throws SQLException {
    List<Row> rows = new ArrayList<>();
    try (PreparedStatement s = reader.prepareStatement("SELECT seq, kind, device_id, message_key, body FROM outbox WHERE seq > ? ORDER BY seq")) {
      s.setLong(1, after);
      try (ResultSet r = s.executeQuery()) {
        while (r.next()) {
          rows.add(new Row(r.getLong(1), r.getString(2), r.getString(3), r.getString(4), r.getString(5)));
        }
      }
    }
    return rows;
  }

  long number(String sql) throws SQLException {
    try (ResultSet r = reader.createStatement().executeQuery(sql)) {
      r.next();
      return r.getLong(1);
    }
  }

  long open() throws SQLException {
    return number("SELECT count(*) FROM command WHERE final_at_ms IS NULL");
  }

  /** The tables say what was told. */
  void audit(Oracle oracle) throws SQLException {
    try (ResultSet r = reader.createStatement().executeQuery("SELECT c.command_id, c.status, c.revision, c.reason, c.attempts,"
        + " (SELECT group_concat(e.revision || ' ' || e.status, ', ') FROM (SELECT * FROM command_event WHERE command_seq = c.seq ORDER BY revision) e)"
        + " FROM command c ORDER BY c.seq")) {
      while (r.next()) {
        String id = r.getString(1);
        List<Oracle.Event> told = oracle.events(id);
        String events = String.join(", ", told.stream().map(e -> e.revision() + " " + e.status()).toList());
        if (!events.equals(r.getString(6)) || told.size() != r.getLong(3) || !told.get(told.size() - 1).status().name().equals(r.getString(2))) {
          oracle.fault(Oracle.Fault.DISAGREE, "gateway: command " + id + " is " + r.getString(2) + " revision " + r.getLong(3) + ", events [" + r.getString(6)
              + "], told was [" + events + "]");
        }
      }
    }
  }

  private final class Reach implements Presence {
    @Override
    public Path path(String deviceId) {
      SimDevice device = world.devices.get(deviceId);
      return device == null || !device.connected ? Path.NONE : device.viaBroker ? Path.BROKER : Path.LISTENER;
    }

    @Override
    public Path desiredPath(String deviceId) {
      return path(deviceId);
    }

    @Override
    public AutoCloseable onAppeared(BiConsumer<String, String> watcher) {
      watchers.add(watcher);
      return () -> watchers.remove(watcher);
    }

    @Override
    public void subscribed(Exchange exchange) {
      throw new UnsupportedOperationException();
    }

    @Override
    public void heard(Exchange exchange) {
      throw new UnsupportedOperationException();
    }
  }

  /** In place of the listener and the broker. */
  private final class Network extends RouteBuilder {
    @Override
    public void configure() {
      from("direct:fanout-failed").routeId("model-failed").process(e -> { });
      from("direct:command-direct").routeId("model-direct").process(new Publish(false));
      from("direct:command-mqtt").routeId("model-mqtt").process(new Publish(true));
    }
  }

  private final class Publish extends AsyncProcessorSupport {
    private final boolean broker;

    Publish(boolean broker) {
      this.broker = broker;
    }

    @Override
    public boolean process(Exchange exchange, AsyncCallback callback) {
      Message message = exchange.getMessage();
      String id = message.getHeader("CaravanCorrelationData", String.class);
      Integer attempts = null;
      Status status = null;
      try (Connection now = Sides.read(store); PreparedStatement s = now.prepareStatement("SELECT attempts, status FROM command WHERE command_id = ?")) {
        s.setString(1, id);
        try (ResultSet r = s.executeQuery()) {
          if (r.next()) {
            attempts = r.getInt(1);
            status = Status.valueOf(r.getString(2));
          }
        }
        world.listen();
      } catch (Exception e) {
        exchange.setException(e);
        callback.done(true);
        return true;
      }
      CompletableFuture<String> evidence = world.publish(id, message.getHeader("CaravanDeviceId", String.class),
          message.getHeader("CaravanTtlMs", 0L, Long.class), message.getHeader("CaravanAckMs", 10_000L, Long.class), broker,
          message.getHeader("CaravanQos", 0, Integer.class), attempts, status);
      evidence.thenAccept(e -> {
        message.setHeader("CaravanEvidence", e);
        callback.done(false);
      });
      return false;
    }
  }

  CamelContext context() {
    return caravan.context();
  }

  Crash crash() {
    return crash;
  }

  @Override
  public void close() throws Exception {
    reader.close();
    caravan.close();
  }
}
