// SPDX-License-Identifier: Apache-2.0
package io.caravan.model;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.commands.Commands;
import io.caravan.desk.CommandDesk;
import io.caravan.desk.DeskModule;
import io.caravan.desk.internal.Links;
import io.caravan.runtime.Caravan;
import io.caravan.wal.WalModule;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.function.Supplier;
import javax.sql.DataSource;
import org.apache.camel.Exchange;
import org.apache.camel.ProducerTemplate;

/**
 * The real cloud, as far as it has to do with commands: its store, its desk, its routes; and the connection between it and
 * the gateway, which breaks, repeats and brings newer rows before older ones. Used by one thread, but for what the desk calls.
 */
final class CloudSide implements AutoCloseable {
  static final String GATEWAY = "model";
  private static final Duration LIMIT = Duration.ofSeconds(60);

  /** A frame on its way to the gateway. */
  private record Frame(boolean cancel, List<String> what, String by, long at) {}

  /** A range of the gateway's outbox. */
  private static final class Range {
    final long first;
    Long last;
    long acked;
    long sent;

    Range(long first) {
      this.first = first;
      this.acked = first - 1;
      this.sent = first - 1;
    }
  }

  private final World world;
  private final GatewaySide gateway;
  private final Path home;
  private final Path store;
  private final Object net = new Object();
  private final List<Frame> frames = new ArrayList<>();
  private final List<Range> ranges = new ArrayList<>(List.of(new Range(1)));
  private final Set<String> posted = new LinkedHashSet<>();
  /** Told by the watch: revision by command, and the last id. */
  private Caravan caravan;
  private Crash crash;
  private CommandDesk desk;
  private Connection reader;
  private String session;
  private int sessions;
  private boolean calm;

  CloudSide(World world, GatewaySide gateway, Path home) throws Exception {
    this.world = world;
    this.gateway = gateway;
    this.home = home;
    this.store = home.resolve("data/cloud.db");
    Sides.configuration("cloud", home);
  }

  void start() throws Exception {
    caravan = Sides.builder("cloud", home).set("store.path", store.toString())
        .module("wal", new WalModule()).module("model", (context, config) -> {
          crash = Sides.wrap(context);
          context.getRegistry().bind("clock", Clock.class, new Wall(ZoneOffset.UTC));
          context.getRegistry().bind("sessions", new Connections());
          try (Connection c = context.getRegistry().lookupByNameAndType("writer", DataSource.class).getConnection(); Statement s = c.createStatement()) {
            s.executeUpdate("INSERT INTO gateway (gateway_id, log_id, first_seen_ms, last_seen_ms) VALUES ('" + GATEWAY + "', 'log-1', 1, 1) ON CONFLICT DO NOTHING");
          }
          return () -> { };
        }).module("desk", new DeskModule())
        .routes(Sides.route("cloud", "inbox"), Sides.route("cloud", "bus"), events()).start();
    if (!caravan.awaitReady(LIMIT)) {
      throw new AssertionError("the cloud does not get ready: " + caravan.checks() + caravan.routes());
    }
    desk = caravan.bean("commandDesk", CommandDesk.class).orElseThrow();
    reader = Sides.read(store);
    connect();
  }

  /** The route that applies what gateways say; broken on purpose, it takes events as they come. */
  private Path events() throws IOException {
    Path file = Sides.route("cloud", "command");
    if (world.setup.cloudBroken().isEmpty()) {
      return file;
    }
    String text = Files.readString(file);
    String broken = text.replace("WHERE r.missing = r.gateway_revision", "WHERE true");
    if (broken.equals(text)) {
      throw new AssertionError(file + " keeps events in order in another way: the control must break that one");
    }
    return Files.writeString(Files.createDirectories(home.resolve("broken")).resolve(file.getFileName()), broken);
  }

  void dieIn(int steps, boolean afterwards) {
    crash.in(steps, afterwards);
  }

  // ---- phones

  void post(Commands.Request r) {
    if (crash.dead()) {
      return;
    }
    world.tell("phone sends " + r.id() + " " + r.name() + " to " + r.deviceId() + " ttl " + r.ttlMs());
    CompletableFuture<CommandDesk.Accepted> answer;
    try {
      answer = Sides.settled(desk.submit(new CommandDesk.Request(GATEWAY, r.deviceId(), r.id(), r.name(), r.arguments(), r.units(), r.precondition(),
          r.ttlMs() <= 0 ? Long.valueOf(1) : r.ttlMs(), null, "cloud", "phone", null)), crash).toCompletableFuture();
    } catch (RuntimeException e) {
      if (!crash.dead()) {
        throw e;
      }
      return;
    }
    if (answer.isDone() && !answer.isCompletedExceptionally()) {
      posted.add(r.id());
    }
  }

  void cancel(String id) {
    if (crash.dead()) {
      return;
    }
    world.tell("phone cancels " + id);
    Sides.settled(desk.cancel(GATEWAY, id, "phone"), crash).toCompletableFuture().exceptionally(e -> null);
  }

  // ---- the connection

  /** One thing that happens to it. */
  void step(Random random) throws Exception {
    int dice = random.nextInt(100);
    if (dice < 5) {
      world.tell("the cloud dies");
      crash.die();
    } else if (session == null ? dice < 60 : dice < 13) {
      world.tell(session == null ? "the uplink is there" : "the uplink breaks");
      if (session == null) {
        connect();
        split();
      } else {
        disconnect();
      }
    } else if (dice < 50) {
      frame(random);
    } else {
      batch(random);
    }
  }

  private void connect() throws SQLException {
    String next = "s" + ++sessions;
    // As route uplink does with its hello: the fence of the batches, and of what the desk hands over.
    try (Connection c = Sides.write(store); Statement s = c.createStatement()) {
      s.executeUpdate("UPDATE gateway SET session_id = '" + next + "' WHERE gateway_id = '" + GATEWAY + "'");
    }
    synchronized (net) {
      session = next;
      frames.clear();
    }
    // What the cloud has is what was sent.
    for (Range range : ranges) {
      range.sent = Math.max(range.acked, number("SELECT coalesce((SELECT acked_seq FROM gateway_range WHERE gateway_id = '" + GATEWAY
          + "' AND first_seq = " + range.first + "), " + (range.first - 1) + ")"));
      range.acked = range.sent;
    }
  }

  private void disconnect() {
    synchronized (net) {
      session = null;
      frames.clear();
    }
  }

  /** Live first: what is not sent yet becomes a backlog. */
  private void split() throws SQLException {
    long newest = gateway.number("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0)");
    Range open = ranges.get(ranges.size() - 1);
    if (newest > open.sent) {
      open.last = newest;
      ranges.add(new Range(newest + 1));
      world.tell("backlog up to " + newest);
    }
  }

  private void frame(Random random) throws Exception {
    Frame frame;
    synchronized (net) {
      if (frames.isEmpty() || session == null) {
        return;
      }
      frame = frames.remove(0);
    }
    if (!calm && random.nextInt(100) < 10) {
      // It was written and never read, with all that is behind it.
      world.tell("frame lost with its connection");
      disconnect();
      return;
    }
    deliver(frame);
    if (!calm && random.nextInt(100) < 10) {
      deliver(frame);
    }
  }

  private void deliver(Frame frame) throws Exception {
    if (gateway.dead()) {
      return;
    }
    try (ProducerTemplate template = gateway.context().createProducerTemplate()) {
      Exchange exchange;
      if (frame.cancel) {
        world.tell("the gateway is asked to cancel " + frame.what);
        exchange = Sides.exchange(gateway.context(), frame.what, Map.of("CaravanBy", frame.by));
        Sides.settled(template.asyncSend("direct:command-cancel", exchange), gateway.crash());
      } else {
        List<Map<String, Object>> commands = new ArrayList<>();
        for (String text : frame.what) {
          JsonNode json = World.JSON.readTree(text);
          Map<String, Object> command = new HashMap<>();
          for (String field : List.of("id", "device_id", "name", "issued_by", "trace_context")) {
            if (json.path(field).isTextual()) {
              command.put(field, json.path(field).asText());
            }
          }
          for (String field : List.of("arguments", "units", "precondition")) {
            if (json.path(field).isObject()) {
              command.put(field, json.path(field).toString());
            }
          }
          command.put("ttl_ms", json.path("ttl_ms").asLong());
          commands.add(command);
          world.arrived(json.path("id").asText(), json.path("ttl_ms").asLong());
        }
        world.tell("the gateway gets " + commands.stream().map(c -> c.get("id") + " ttl " + c.get("ttl_ms")).toList());
        exchange = Sides.exchange(gateway.context(), commands, Map.of("CaravanOrigin", "cloud"));
        Sides.settled(template.asyncSend("direct:command", exchange), gateway.crash());
      }
      if (exchange.getException() != null && !gateway.dead()) {
        throw exchange.getException();
      }
    }
  }

  private void batch(Random random) throws Exception {
    if (session == null || crash.dead()) {
      return;
    }
    List<Range> some = ranges.stream().filter(r -> r.last == null || r.sent < r.last).toList();
    if (some.isEmpty()) {
      return;
    }
    Range range = calm ? some.get(some.size() - 1) : some.get(random.nextInt(some.size()));
    if (calm && rows(range, 1).isEmpty()) {
      range = some.get(0);
    }
    List<GatewaySide.Row> rows = rows(range, calm ? 500 : 1 + random.nextInt(12));
    if (rows.isEmpty()) {
      return;
    }
    long after = range.sent;
    range.sent = rows.get(rows.size() - 1).seq();
    int dice = calm ? 99 : random.nextInt(100);
    if (dice < 8) {
      world.tell("batch lost with its connection");
      disconnect();
      return;
    }
    send(range, after, rows);
    if (dice < 16) {
      // The acknowledgement does not come, so it is sent again, by the next connection.
      world.tell("ack lost with its connection");
      disconnect();
    }
  }

  private List<GatewaySide.Row> rows(Range range, int limit) throws SQLException {
    return gateway.outbox(range.sent).stream().filter(r -> range.last == null || r.seq() <= range.last).limit(limit).toList();
  }

  private void send(Range range, long after, List<GatewaySide.Row> rows) throws Exception {
    ObjectNode batch = World.JSON.createObjectNode();
    ArrayNode list = batch.putArray("rows");
    for (GatewaySide.Row row : rows) {
      list.addObject().put("seq", row.seq()).put("kind", row.kind()).put("device_id", row.deviceId()).put("message_key", row.messageKey())
          .put("observed_at_ms", world.time.wallMs()).set("body", World.JSON.readTree(row.body()));
    }
    world.tell("the cloud gets rows " + rows.get(0).seq() + " to " + range.sent);
    try (ProducerTemplate template = caravan.context().createProducerTemplate()) {
      Exchange exchange = Sides.exchange(caravan.context(), null, Map.of());
      exchange.setVariable("gatewayId", GATEWAY);
      exchange.setVariable("sessionId", session);
      exchange.setVariable("logId", "log-1");
      exchange.setVariable("firstSeq", range.first);
      exchange.setVariable("after", after);
      exchange.setVariable("last", range.sent);
      exchange.setVariable("rows", batch.toString());
      Sides.settled(template.asyncSend("direct:inbox", exchange), crash);
      if (exchange.getException() != null) {
        if (!crash.dead()) {
          throw exchange.getException();
        }
        return;
      }
    }
    range.acked = range.sent;
  }

  // ---- as of now

  /** Whatever is due is done, until nothing more comes of it. */
  void settle() throws Exception {
    rest();
    if (crash.dead()) {
      world.tell("the cloud starts again");
      disconnect();
      reader.close();
      caravan.close();
      start();
      rest();
    }
    crash.disarm();
    watch();
  }

  private void rest() throws Exception {
    long before = -1;
    for (int same = 0, rounds = 0; same < 2 && !crash.dead(); rounds++) {
      if (rounds > 500) {
        throw new AssertionError("the cloud does not come to rest");
      }
      try {
        Sides.settled(desk.pass(), crash).toCompletableFuture();
        awaitEvents();
      } catch (RuntimeException | SQLException e) {
        if (!crash.dead()) {
          throw e;
        }
      }
      long now = number("SELECT coalesce((SELECT sum(seq) FROM sqlite_sequence), 0) * 1000003 + coalesce((SELECT sum(transmissions * 31 + gateway_revision) FROM command), 0)");
      same = now == before ? same + 1 : 0;
      before = now;
    }
  }

  private void awaitEvents() throws SQLException {
    long deadline = System.nanoTime() + LIMIT.toNanos();
    String behind = "SELECT (SELECT count(*) FROM inbox WHERE seq > (SELECT max(acked_seq) FROM sink_range WHERE sink = 'command'))";
    while (!crash.dead() && number(behind) > 0) {
      if (System.nanoTime() > deadline) {
        throw new AssertionError("what the gateway says is not read: " + caravan.routes());
      }
      try (ProducerTemplate template = caravan.context().createProducerTemplate()) {
        template.sendBody("seda:command-event?size=1&discardWhenFull=true&waitForTaskToComplete=Never", null);
      } catch (java.io.IOException e) {
        throw new java.io.UncheckedIOException(e);
      }
      Thread.onSpinWait();
    }
  }

  private long seen;
  private final Map<String, Long> revisions = new HashMap<>();

  /** What is told comes in order, each once. */
  private void watch() throws SQLException {
    try (ResultSet r = reader.createStatement().executeQuery("SELECT id, command_id, revision, status FROM command_event WHERE id > " + seen + " ORDER BY id")) {
      while (r.next()) {
        seen = r.getLong(1);
        if (r.getString(3) != null) {
          long last = revisions.getOrDefault(r.getString(2), 0L);
          if (r.getLong(3) != last + 1) {
            world.oracle.fault(Oracle.Fault.ORDER, "the cloud tells revision " + r.getLong(3) + " " + r.getString(4) + " of " + r.getString(2) + " after " + last);
          }
          revisions.put(r.getString(2), r.getLong(3));
        }
      }
    }
  }

  void calm() throws Exception {
    calm = true;
    if (session == null) {
      connect();
    }
  }

  /** All frames and rows there are arrive. */
  void flow() throws Exception {
    if (session == null) {
      connect();
    }
    Random none = new Random(0);
    for (int i = 0; i < 200; i++) {
      int waiting;
      synchronized (net) {
        waiting = frames.size();
      }
      if (waiting == 0) {
        break;
      }
      frame(none);
    }
    for (int i = 0; i < 200; i++) {
      batch(none);
    }
  }

  long open() throws SQLException {
    long rows = gateway.number("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0)");
    Range last = ranges.get(ranges.size() - 1);
    return number("SELECT count(*) FROM command WHERE final_at_ms IS NULL") + (rows > last.sent ? 1 : 0);
  }

  private long number(String sql) throws SQLException {
    try (Statement s = reader.createStatement(); ResultSet r = s.executeQuery(sql)) {
      r.next();
      return r.getLong(1);
    }
  }

  /** Everything that the gateway told is here as it said; what it never had is final here. */
  void audit(Oracle oracle) throws SQLException {
    Map<String, String> here = new HashMap<>();
    try (ResultSet r = reader.createStatement().executeQuery("SELECT command_id, status, gateway_revision, coalesce(reason, ''), transmissions, final_at_ms FROM command ORDER BY seq")) {
      while (r.next()) {
        String id = r.getString(1);
        here.put(id, r.getString(2));
        List<Oracle.Event> told = oracle.events(id);
        if (r.getString(6) == null) {
          oracle.fault(Oracle.Fault.OPEN, "cloud: " + id + " is " + r.getString(2));
        }
        if (told.isEmpty()) {
          oracle.count("cloud " + r.getString(2) + " " + r.getString(4));
          boolean expected = r.getString(2).equals("CANCELLED") || r.getString(2).equals("EXPIRED") || r.getString(2).equals("REJECTED")
              || r.getString(2).equals("INDETERMINATE") && r.getInt(5) > 0;
          if (!expected) {
            oracle.fault(Oracle.Fault.LIE, "cloud: " + id + " is " + r.getString(2) + ", and the gateway never said anything");
          }
        } else {
          Oracle.Event end = told.get(told.size() - 1);
          if (!end.status().name().equals(r.getString(2)) || end.revision() != r.getLong(3) || !String.valueOf(end.reason() == null ? "" : end.reason()).equals(r.getString(4))) {
            oracle.fault(Oracle.Fault.DISAGREE, "cloud: " + id + " is " + r.getString(2) + " " + r.getString(4) + " revision " + r.getLong(3) + ", the gateway's " + oracle.describe(id));
          }
        }
      }
    }
    for (String id : posted) {
      if (!here.containsKey(id)) {
        oracle.fault(Oracle.Fault.NOT_DURABLE, "cloud: accepted and not kept: " + id);
      }
    }
    for (String id : oracle.known()) {
      if (!here.containsKey(id)) {
        oracle.fault(Oracle.Fault.DISAGREE, "cloud: does not know " + oracle.describe(id));
      }
    }
    if (number("SELECT count(*) FROM command_early") > 0) {
      oracle.fault(Oracle.Fault.DISAGREE, "cloud: events wait for ever");
    }
  }

  /** The gateways' connections that this cloud holds. */
  public final class Connections implements Links {
    @Override
    public Map<String, String> sessions() {
      synchronized (net) {
        return session == null || crash.dead() ? Map.of() : Map.of(GATEWAY, session);
      }
    }

    @Override
    public CompletionStage<Void> command(String gatewayId, String sessionId, List<Supplier<String>> commands) {
      return send(sessionId, new Frame(false, commands.stream().map(Supplier::get).toList(), null, world.time.now()));
    }

    @Override
    public CompletionStage<Void> cancel(String gatewayId, String sessionId, List<String> ids, String by) {
      return send(sessionId, new Frame(true, List.copyOf(ids), by, world.time.now()));
    }

    private CompletionStage<Void> send(String sessionId, Frame frame) {
      synchronized (net) {
        if (!sessionId.equals(session) || crash.dead()) {
          return CompletableFuture.failedFuture(new java.io.IOException("that connection is not here any more"));
        }
        frames.add(frame);
        return CompletableFuture.completedFuture(null);
      }
    }

    /** Of route inbox: is this still the gateway's newest connection? */
    public void current(Exchange exchange) {
      if (session == null) {
        throw new IllegalStateException("that connection is not here any more");
      }
    }

    /** Of route inbox: the store has another one. */
    public void fenced() {
      throw new IllegalStateException("a newer connection is known to the store");
    }

    public void gap(Exchange exchange) {
      throw new IllegalStateException("gap: after " + exchange.getVariable("after") + ", acked " + exchange.getVariable("acked"));
    }
  }

  private final class Wall extends Clock {
    private final ZoneId zone;

    Wall(ZoneId zone) {
      this.zone = zone;
    }

    @Override
    public ZoneId getZone() {
      return zone;
    }

    @Override
    public Clock withZone(ZoneId other) {
      return new Wall(other);
    }

    @Override
    public long millis() {
      return world.time.cloudMs();
    }

    @Override
    public Instant instant() {
      return Instant.ofEpochMilli(millis());
    }
  }

  @Override
  public void close() throws Exception {
    reader.close();
    caravan.close();
  }
}
