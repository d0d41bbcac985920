// SPDX-License-Identifier: Apache-2.0
package io.caravan.model;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.commands.Commands;
import io.caravan.commands.Status;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;

/**
 * A run: phones, a cloud, a gateway, devices, and a network between them that loses, doubles, delays and reorders, while any
 * of them dies and clocks are set. What happens is decided by the seed. Cloud and gateway are the real ones with their
 * stores; after each step the oracle looks at what was done. Used by one thread.
 */
final class World implements AutoCloseable {
  /**
   * @param broken      what is broken in the gateway on purpose; empty: nothing
   * @param cloudBroken in the cloud
   * @param until       the fault that ends the run; null: any
   */
  record Setup(long seed, int steps, String broken, String cloudBroken, Oracle.Fault until) {}

  static final String CAPABILITIES = """
      {"schema_version":1,"version":"1","commands":{
        "pulse":{"arguments":{"type":"object","properties":{"n":{"type":"integer","minimum":1,"maximum":9}},"additionalProperties":false},
          "idempotent":false,"timeout_ms":4000},
        "unlock":{"arguments":{"type":"object","additionalProperties":false},"idempotent":false,"timeout_ms":5000,
          "budget":[{"count":2,"per_ms":30000}]},
        "dose":{"arguments":{"type":"object","additionalProperties":false},"idempotent":false,"timeout_ms":2000,
          "budget":[{"count":1,"per_ms":5000},{"count":3,"per_ms":120000}]},
        "set":{"arguments":{"type":"object","properties":{"v":{"type":"number"}},"additionalProperties":false},"idempotent":true,"timeout_ms":3000}}}""";
  private static final List<Oracle.Ability> ABILITIES = List.of(
      new Oracle.Ability("pulse", false, List.of()),
      new Oracle.Ability("unlock", false, List.of(new Oracle.Budget(2, 30_000))),
      new Oracle.Ability("dose", false, List.of(new Oracle.Budget(1, 5_000), new Oracle.Budget(3, 120_000))),
      new Oracle.Ability("set", true, List.of()));
  private static final String[] NAMES = {"pulse", "pulse", "unlock", "unlock", "unlock", "dose", "dose", "set", "set"};
  private static final long[] TTL_MS = {500, 3_000, 3_000, 10_000, 10_000, 60_000, 60_000, 600_000};
  static final ObjectMapper JSON = new ObjectMapper();

  /** A command on its way to a device. */
  private record Packet(String commandId, int copy, SimDevice device, long until, Ack ack) {}

  /** What a device said on its way to the gateway. */
  private record Said(String deviceId, String json, int number) {}

  /** The gateway waits for the evidence of a publication. */
  private record Ack(String commandId, long until, CompletableFuture<String> evidence) {}

  final Setup setup;
  final SimTime time = new SimTime();
  final Oracle oracle = new Oracle(time, ABILITIES);
  final Map<String, SimDevice> devices = new LinkedHashMap<>();
  private final Random random;
  private final Object net = new Object();
  private final List<Packet> packets = new ArrayList<>();
  private final List<Ack> acks = new ArrayList<>();
  private final Map<String, Integer> attempts = new HashMap<>();
  private final List<Said> answers = new ArrayList<>();
  private final List<Commands.Request> sent = new ArrayList<>();
  /** What came to the gateway in this step, with how long it is good for. */
  private final Map<String, Long> arrived = new ConcurrentHashMap<>();
  private final List<CompletionStage<List<Commands.Command>>> asked = new ArrayList<>();
  private final List<String> story = new ArrayList<>();
  private final GatewaySide gateway;
  private final CloudSide cloud;
  private boolean calm;
  private int ids;
  private int said;
  private long outboxSeen;

  World(Setup setup, Path folder) throws Exception {
    this.setup = setup;
    random = new Random(setup.seed);
    for (SimDevice device : List.of(new SimDevice("own-1", false, true), new SimDevice("own-2", false, false),
        new SimDevice("broker-1", true, true), new SimDevice("broker-2", true, false))) {
      devices.put(device.id, device);
    }
    gateway = new GatewaySide(this, folder.resolve("gateway"));
    cloud = new CloudSide(this, gateway, folder.resolve("cloud"));
    gateway.start();
    cloud.start();
  }

  /** All steps, then peace until everything is over, then the verdict. */
  World run() throws Exception {
    for (int i = 0; i < setup.steps && !over(); i++) {
      step();
    }
    if (!over()) {
      peace();
    }
    return this;
  }

  private boolean over() {
    return oracle.violations().stream().anyMatch(v -> setup.until == null || v.fault() == setup.until);
  }

  List<String> story() {
    return story;
  }

  void tell(String what) {
    synchronized (story) {
      story.add(time.now() + " " + what);
    }
  }

  private void step() throws Exception {
    arrived.clear();
    asked.clear();
    if (random.nextInt(100) < 5) {
      gateway.dieIn(random.nextInt(30), random.nextBoolean());
    }
    if (random.nextInt(100) < 3) {
      cloud.dieIn(random.nextInt(20), random.nextBoolean());
    }
    int dice = random.nextInt(100);
    if (dice < 14) {
      submit();
    } else if (dice < 18) {
      cancel();
    } else if (dice < 50) {
      network();
    } else if (dice < 68) {
      time.pass(random.nextInt(5) == 0 ? random.nextInt(60_000) : random.nextInt(2_000));
      tell("time passes");
    } else if (dice < 70) {
      time.jump((random.nextBoolean() ? 1 : -1) * (long) random.nextInt(random.nextBoolean() ? 86_400_000 : 5_000));
      tell("the wall clock is set");
    } else if (dice < 75) {
      device();
    } else if (dice < 77) {
      tell("the gateway dies");
      gateway.die();
    } else if (dice < 78) {
      tell("the gateway's machine starts anew");
      gateway.die();
      time.reboot(1_000 + random.nextInt(20_000));
    } else {
      cloud.step(random);
    }
    settle();
  }

  private void settle() throws Exception {
    expireAcks();
    gateway.settle();
    if (gateway.dead()) {
      tell("the gateway starts again");
      List<Ack> lost;
      synchronized (net) {
        lost = List.copyOf(acks);
        acks.clear();
      }
      // A process that is dead does nothing with it; its remains need not wait for them.
      lost.forEach(a -> a.evidence.complete("unknown"));
      gateway.restart();
      gateway.settle();
    }
    gateway.disarm();
    cloud.settle();
    observe();
  }

  // ---- phones and people

  private void submit() {
    List<Commands.Request> requests = new ArrayList<>();
    for (int i = random.nextInt(10) == 0 ? 1 + random.nextInt(6) : 1; i > 0; i--) {
      requests.add(request());
    }
    if (random.nextInt(100) < 70) {
      requests.forEach(cloud::post);
      return;
    }
    tell("LAN sends " + requests.stream().map(r -> r.id() + " " + r.name() + " to " + r.deviceId() + " ttl " + r.ttlMs()).toList());
    arrive(requests);
  }

  private Commands.Request request() {
    int dice = random.nextInt(100);
    if (dice < 12 && !sent.isEmpty()) {
      Commands.Request again = sent.get(random.nextInt(sent.size()));
      // The same id for something else: now and then.
      return random.nextInt(4) > 0 ? again
          : new Commands.Request(again.id(), again.deviceId(), "set", "{\"v\":42}", null, null, 60_000L, again.origin(), again.issuedBy(), null);
    }
    // Chance alone seldom brings one budget to its limit: who looks for that asks one device for one thing.
    boolean pressed = setup.until == Oracle.Fault.BUDGET && dice >= 26;
    SimDevice device = List.copyOf(devices.values()).get(pressed ? 0 : random.nextInt(devices.size()));
    String deviceId = dice < 14 ? "nobody" : dice < 16 ? "revoked" : device.id;
    String name = dice < 20 ? "fly" : pressed ? "dose" : NAMES[random.nextInt(NAMES.length)];
    String arguments = dice < 24 ? "{\"n\":99}" : name.equals("pulse") ? "{\"n\":" + (1 + random.nextInt(9)) + "}" : name.equals("set") ? "{\"v\":1.5}" : "{}";
    Commands.Request request = new Commands.Request("c" + ++ids, deviceId, name, arguments, null, null,
        dice < 26 ? 0L : TTL_MS[random.nextInt(TTL_MS.length)], "shell", "model", null);
    sent.add(request);
    return request;
  }

  /** Commands come to the gateway, from the LAN. */
  private void arrive(List<Commands.Request> requests) {
    requests.forEach(r -> arrived.putIfAbsent(r.id(), r.ttlMs()));
    CompletionStage<List<Commands.Command>> stage = gateway.submit(requests);
    asked.add(stage);
  }

  /** Commands come to the gateway in a frame. */
  void arrived(String id, long ttlMs) {
    arrived.putIfAbsent(id, ttlMs);
  }

  private void cancel() {
    if (sent.isEmpty()) {
      return;
    }
    String id = sent.get(Math.max(0, sent.size() - 1 - random.nextInt(8)) ).id();
    if (random.nextBoolean()) {
      cloud.cancel(id);
    } else {
      tell("LAN cancels " + id);
      gateway.cancel(id);
    }
  }

  // ---- the network between gateway and devices

  /** The gateway publishes. @return the evidence, sooner or later, as the routes of the listener and of the broker tell it */
  CompletableFuture<String> publish(String commandId, String deviceId, long ttlMs, long ackMs, boolean broker, int qos, Integer attemptsOnDisk, Status stored) {
    CompletableFuture<String> evidence = new CompletableFuture<>();
    synchronized (net) {
      if (gateway.dead()) {
        return evidence;
      }
      oracle.published(commandId, deviceId, attemptsOnDisk, stored);
      int attempt = attempts.merge(commandId, 1, Integer::sum);
      SimDevice device = devices.get(deviceId);
      if (device == null) {
        oracle.fault(Oracle.Fault.WRONG, "published to the unknown device " + deviceId);
        return evidence;
      }
      // Not from the run's own dice: publications to several devices come in any order.
      Random fate = new Random(setup.seed * 31 + commandId.hashCode() * 17L + attempt);
      fate.nextInt();
      int dice = calm ? 99 : fate.nextInt(100);
      long until = time.now() + (ttlMs + 999) / 1000 * 1000;
      if (!device.connected || dice < 8) {
        oracle.notWritten(commandId);
        evidence.complete("none");
      } else if (broker) {
        oracle.written(commandId);
        if (dice >= 16) {
          packets.add(new Packet(commandId, attempt * 10, device, until, null));
        }
        if (qos > 0 && dice > 60) {
          packets.add(new Packet(commandId, attempt * 10 + 1, device, until, null));
        }
        evidence.complete(dice < 12 || dice > 95 && dice < 99 ? "unknown" : "sent");
      } else if (dice < 12) {
        oracle.refused(commandId);
        oracle.written(commandId);
        evidence.complete("refused");
      } else {
        oracle.written(commandId);
        Ack ack = new Ack(commandId, time.now() + ackMs, evidence);
        acks.add(ack);
        if (dice >= 20) {
          packets.add(new Packet(commandId, attempt * 10, device, until, ack));
        }
      }
      return evidence;
    }
  }

  private void expireAcks() {
    List<Ack> over = new ArrayList<>();
    synchronized (net) {
      for (Ack ack : acks) {
        if (time.now() >= ack.until) {
          over.add(ack);
        }
      }
      acks.removeAll(over);
    }
    over.forEach(a -> a.evidence.complete("unknown"));
  }

  private void network() throws Exception {
    boolean down = random.nextBoolean();
    if (down || answers.isEmpty()) {
      Packet packet;
      synchronized (net) {
        if (packets.isEmpty()) {
          return;
        }
        packets.sort(Comparator.comparing(Packet::commandId).thenComparing(Packet::copy));
        packet = packets.remove(random.nextInt(packets.size()));
      }
      hand(packet);
    } else {
      Said next = answers.remove(random.nextInt(answers.size()));
      int dice = calm ? 99 : random.nextInt(100);
      if (dice < 5) {
        tell("lost: " + next);
        return;
      }
      if (dice < 15) {
        answers.add(next);
      }
      hear(next);
    }
  }

  private void hand(Packet packet) {
    if (!packet.device.connected || time.now() > packet.until || !calm && random.nextInt(100) < 3) {
      tell(packet.device.id + " does not get " + packet.commandId);
      return;
    }
    for (String json : packet.device.take(packet.commandId, oracle, random)) {
      answers.add(new Said(packet.device.id, json, ++said));
    }
    tell(packet.device.id + " gets " + packet.commandId);
    if (packet.ack != null) {
      synchronized (net) {
        acks.remove(packet.ack);
      }
      packet.ack.evidence.complete(!calm && random.nextInt(100) < 10 ? "unknown" : "delivered");
    }
  }

  private void hear(Said what) throws Exception {
    tell("the gateway hears " + what);
    JsonNode json = JSON.readTree(what.json);
    oracle.said(json.path("command_id").asText(), json.path("status").asText());
    if (!calm && random.nextInt(100) < 5) {
      // Somebody else says it as well: it counts for nothing.
      gateway.hear(what.deviceId.equals("own-1") ? "own-2" : "own-1", "{\"command_id\":\"c" + (1 + random.nextInt(ids)) + "\",\"status\":\"failed\"}", "evil-" + ++said);
    }
    gateway.hear(what.deviceId, what.json, "n" + what.number);
  }

  private void device() {
    SimDevice device = List.copyOf(devices.values()).get(random.nextInt(devices.size()));
    if (random.nextBoolean()) {
      tell(device.id + " starts anew");
      device.restart();
    } else {
      connect(device, !device.connected);
    }
  }

  private void connect(SimDevice device, boolean connected) {
    tell(device.id + (connected ? " is there" : " is away"));
    device.connected = connected;
    if (!connected) {
      List<Ack> lost = new ArrayList<>();
      synchronized (net) {
        acks.stream().filter(a -> packets.stream().anyMatch(p -> p.ack == a && p.device == device)).forEach(lost::add);
        acks.removeAll(lost);
        packets.removeIf(p -> p.device == device && !device.viaBroker);
      }
      lost.forEach(a -> a.evidence.complete("unknown"));
    } else {
      gateway.appeared(device.id);
    }
  }

  // ---- what is seen

  /** What the gateway has told since: read when it is needed, which may be within a step, on a thread of the gateway. */
  void listen() throws Exception {
    synchronized (net) {
      for (GatewaySide.Row row : gateway.outbox(outboxSeen)) {
        outboxSeen = row.seq();
        if (!row.kind().equals("command")) {
          continue;
        }
        JsonNode events = JSON.readTree(row.body()).path("events");
        for (JsonNode event : events) {
          String id = event.path("command_id").asText();
          long revision = event.path("revision").asLong();
          String reason = event.path("reason").isTextual() ? event.path("reason").asText() : null;
          oracle.event(id, event.path("device_id").asText(), event.path("name").asText(), revision, Status.valueOf(event.path("status").asText()), reason,
              arrived.get(id));
          tell("event " + id + " " + revision + " " + event.path("status").asText() + (reason == null ? "" : " " + reason));
        }
        JsonNode first = events.path(0);
        if (!row.messageKey().equals("gateway//c/" + first.path("command_id").asText() + "/" + first.path("revision").asLong())) {
          oracle.fault(Oracle.Fault.WRONG, "message key " + row.messageKey() + " of " + row.body());
        }
      }
    }
  }

  private void observe() throws Exception {
    listen();
    for (CompletionStage<List<Commands.Command>> stage : asked) {
      CompletableFuture<List<Commands.Command>> future = stage.toCompletableFuture();
      if (future.isDone() && !future.isCompletedExceptionally()) {
        for (Commands.Command told : future.join()) {
          if (!"conflict".equals(told.reason()) && oracle.events(told.id()).size() < told.revision()) {
            oracle.fault(Oracle.Fault.NOT_DURABLE, "told " + told.status() + " revision " + told.revision() + ", kept: " + oracle.describe(told.id()));
          }
        }
      }
    }
  }

  // ---- the end

  /** Everything works from now on; time goes on until nothing more is to come. */
  private void peace() throws Exception {
    tell("peace");
    calm = true;
    for (SimDevice device : devices.values()) {
      connect(device, true);
    }
    cloud.calm();
    // Longer than any command is good for, and what was cut off has its time to be noticed.
    for (int i = 0; i < 400 && !over(); i++) {
      for (int n = 0; n < 1_000; n++) {
        Packet packet;
        synchronized (net) {
          packets.sort(Comparator.comparing(Packet::commandId).thenComparing(Packet::copy));
          packet = packets.isEmpty() ? null : packets.remove(0);
        }
        if (packet != null) {
          hand(packet);
        } else if (!answers.isEmpty()) {
          hear(answers.remove(0));
        } else {
          break;
        }
      }
      cloud.flow();
      arrived.clear();
      asked.clear();
      if (i > 3) {
        time.pass(5_000);
      }
      settle();
      if (i > 10 && gateway.open() == 0 && cloud.open() == 0 && quiet()) {
        break;
      }
    }
    oracle.finish();
    gateway.audit(oracle);
    cloud.audit(oracle);
  }

  private boolean quiet() {
    synchronized (net) {
      return packets.isEmpty() && acks.isEmpty() && answers.isEmpty();
    }
  }

  Set<String> ids() {
    Set<String> all = new HashSet<>();
    sent.forEach(r -> all.add(r.id()));
    return all;
  }

  @Override
  public void close() throws Exception {
    acks.forEach(a -> a.evidence.complete("unknown"));
    gateway.close();
    cloud.close();
  }
}
