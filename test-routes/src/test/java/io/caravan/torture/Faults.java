// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import com.hivemq.client.mqtt.mqtt5.message.publish.puback.Mqtt5PubAckReasonCode;
import io.caravan.it.Device;
import io.caravan.it.Distribution;
import io.caravan.it.Store;
import io.caravan.parts.HttpsPart.Answer;
import io.caravan.torture.Cycle.Kind;
import java.io.IOException;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicLong;

/** All faults, in the order of docs/torture.md. Each sees to it that it bites: one that nobody noticed proves nothing. */
public final class Faults {
  private interface Act {
    void on(World world, Random random, Cycle cycle) throws Exception;
  }

  private interface Heal {
    void on(World world, Cycle cycle) throws Exception;
  }

  private record Simple(String name, int number, String does, Act act, Heal end, String unavailable) implements Fault {
    @Override
    public void inject(World world, Random random, Cycle cycle) throws Exception {
      act.on(world, random, cycle);
    }

    @Override
    public void heal(World world, Cycle cycle) throws Exception {
      end.on(world, cycle);
    }
  }

  private static final Heal GATEWAY_RUNS = (world, cycle) -> {
    if (!world.gateway().running()) {
      world.restartGateway();
    }
  };
  private static final Heal CLOUD_RUNS = (world, cycle) -> {
    world.uplink().mend();
    if (!world.cloud().running()) {
      world.cloud().start();
    }
  };
  private static final Heal UPLINK_OPEN = (world, cycle) -> world.uplink().mend();

  private Faults() { }

  /** @return new ones */
  public static List<Fault> all() {
    List<Fault> all = new ArrayList<>();
    processes(all);
    network(all);
    sinks(all);
    configuration(all);
    input(all);
    all.addAll(StorageFaults.all());
    return all;
  }

  private static Fault fault(String name, int number, String does, Act act, Heal end) {
    return new Simple(name, number, does, act, end, null);
  }

  private static Duration between(Random random, int fromMs, int toMs) {
    return Duration.ofMillis(fromMs + random.nextInt(toMs - fromMs));
  }

  // ---- processes

  private static void processes(List<Fault> all) {
    all.add(fault("kill-gateway", 1, "SIGKILL of the gateway at a random moment", (world, random, cycle) -> {
      world.awaitPromises(random.nextInt(400));
      world.pause(between(random, 0, 300));
      world.killGateway();
    }, GATEWAY_RUNS));
    all.add(fault("kill-at-point", 2, "the gateway ends at a named point of a message's way: " + String.join(", ", HaltPoints.names()),
        (world, random, cycle) -> {
          String point = HaltPoints.names().get(random.nextInt(HaltPoints.names().size()));
          List<String> woven = HaltPoints.woven(world.folder());
          if (!woven.containsAll(HaltPoints.names())) {
            cycle.fault(Kind.BROKEN, 1, "points that are not there any more: of " + HaltPoints.names() + " only " + woven);
          }
          world.awaitPromises(random.nextInt(100));
          cycle.note("point " + point);
          HaltPoints.arm(world.folder(), point);
          try {
            world.await("the gateway ends at " + point, () -> !world.gateway().running());
            cycle.figure(point, 1);
          } finally {
            HaltPoints.disarm(world.folder());
          }
        }, GATEWAY_RUNS));
    all.add(fault("stop-gateway", 1, "SIGSTOP of the gateway, SIGCONT a while later", (world, random, cycle) -> {
      world.gateway().signal("STOP");
      world.pause(between(random, 300, 3_000));
    }, (world, cycle) -> world.gateway().signal("CONT")));
    all.add(fault("restart-gateway", 1, "SIGTERM to the gateway under load; it must end by itself with 0", (world, random, cycle) -> {
      long begun = System.nanoTime();
      int exit = world.gateway().stop();
      cycle.figure("stop_ms", (System.nanoTime() - begun) / 1e6);
      if (exit != 0) {
        cycle.fault(Kind.BROKEN, 1, "the gateway ended with " + exit);
      }
    }, GATEWAY_RUNS));
    all.add(fault("kill-cloud", 1, "SIGKILL of the cloud", (world, random, cycle) -> {
      world.awaitPromises(random.nextInt(200));
      world.cloud().kill();
      world.pause(between(random, 0, 2_000));
    }, CLOUD_RUNS));
    all.add(fault("stop-cloud", 13, "SIGSTOP of the cloud: a peer that holds connections and says nothing", (world, random, cycle) -> {
      world.cloud().signal("STOP");
      world.pause(between(random, 500, 4_000));
    }, (world, cycle) -> world.cloud().signal("CONT")));
    all.add(fault("kill-both", 1, "SIGKILL of the cloud and of the gateway, as when one power line feeds both", (world, random, cycle) -> {
      world.awaitPromises(random.nextInt(200));
      world.cloud().kill();
      world.killGateway();
    }, (world, cycle) -> {
      CLOUD_RUNS.on(world, cycle);
      GATEWAY_RUNS.on(world, cycle);
    }));
    all.add(fault("cloud-before-ack", 12, "the cloud ends when it has stored a batch and the gateway does not know", (world, random, cycle) -> {
      Proxy uplink = world.uplink();
      AtomicLong before = new AtomicLong(inbox(world));
      AtomicLong connections = new AtomicLong(uplink.accepted());
      uplink.mode(Proxy.Mode.ANSWERS_HELD);
      world.await("the cloud stores what it cannot say", () -> {
        if (uplink.accepted() > connections.get()) {
          // The batch under way was stored a moment before, and the gateway gave its answer up: over a new connection nothing comes without answers.
          uplink.mode(Proxy.Mode.OPEN);
          world.await("the cloud stores again", () -> inbox(world) > before.get());
          before.set(inbox(world));
          connections.set(uplink.accepted());
          uplink.mode(Proxy.Mode.ANSWERS_HELD);
        }
        return inbox(world) > before.get();
      });
      cycle.figure("rows_unacked", inbox(world) - before.get());
      world.cloud().kill();
      world.uplink().reset();
    }, CLOUD_RUNS));
    all.add(fault("kill-broker", 14, "SIGKILL of the broker: what it had acknowledged and not handed over is gone from it", (world, random, cycle) -> {
      world.awaitPromises(random.nextInt(100));
      world.broker().kill();
      world.pause(between(random, 0, 2_000));
      world.broker().start();
    }, (world, cycle) -> { }));
    all.add(fault("restart-broker", 14, "SIGTERM of the broker, and a new one", (world, random, cycle) -> {
      world.broker().stop();
      world.pause(between(random, 0, 2_000));
      world.broker().start();
    }, (world, cycle) -> { }));
    all.add(fault("stop-broker", 14, "SIGSTOP of the broker, SIGCONT a while later", (world, random, cycle) -> {
      world.broker().signal("STOP");
      world.pause(between(random, 300, 4_000));
    }, (world, cycle) -> world.broker().signal("CONT")));
  }

  private static long inbox(World world) throws Exception {
    return Store.number(world.cloudDb(), "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'inbox'), 0)");
  }

  // ---- network

  private static void network(List<Fault> all) {
    all.add(fault("uplink-cut", 12, "connections between gateway and cloud end, new ones are refused", (world, random, cycle) -> {
      long tries = world.uplink().accepted();
      world.uplink().mode(Proxy.Mode.CUT);
      world.await("the gateway tries again", () -> world.uplink().accepted() > tries);
      world.pause(between(random, 0, 3_000));
    }, UPLINK_OPEN));
    all.add(fault("uplink-half-open", 12, "the connection stays, nothing arrives on either side, until the gateway gives it up", (world, random, cycle) -> {
      long tries = world.uplink().accepted();
      long begun = System.nanoTime();
      world.uplink().mode(Proxy.Mode.SILENT);
      world.await("the gateway gives the connection up", () -> world.uplink().accepted() > tries);
      cycle.figure("noticed_ms", (System.nanoTime() - begun) / 1e6);
    }, UPLINK_OPEN));
    all.add(fault("uplink-stalled", 13, "the peer reads nothing: what is sent fills buffers; nothing of it may count as delivered", (world, random, cycle) -> {
      world.uplink().mode(Proxy.Mode.STALLED);
      world.pause(between(random, 1_000, 4_000));
      long acked = Store.number(world.gatewayDb(), "SELECT acked FROM ledger WHERE sink = 'uplink'");
      long there = inbox(world);
      if (acked > there) {
        cycle.fault(Kind.BROKEN, acked - there, "rows count as delivered that the cloud has not stored");
      }
    }, UPLINK_OPEN));
    all.add(fault("uplink-flapping", 12, "the connection ends again and again, after random times", (world, random, cycle) -> {
      for (int i = 0, n = 3 + random.nextInt(4); i < n; i++) {
        long tries = world.uplink().accepted();
        world.uplink().reset();
        world.await("the gateway connects again", () -> world.uplink().accepted() > tries);
        world.pause(between(random, 0, 400));
      }
    }, UPLINK_OPEN));
    all.add(fault("uplink-late-and-lossy", 12, "600 ms round trip and 2 % of segments lost, on new and on old connections", (world, random, cycle) -> {
      world.uplink().bad(300, 0.02, 0);
      if (random.nextBoolean()) {
        world.uplink().reset();
      }
      long passed = world.uplink().passed();
      long losses = world.uplink().losses();
      world.pause(between(random, 2_000, 4_000));
      world.await("a segment is lost", () -> world.uplink().losses() > losses);
      world.await("bytes get through all the same", () -> world.uplink().passed() > passed);
      cycle.figure("segments_lost", world.uplink().losses() - losses);
    }, UPLINK_OPEN));
    all.add(fault("uplink-narrow", 12, "16 KB/s in each direction", (world, random, cycle) -> {
      world.uplink().bad(20, 0, 16_000);
      long passed = world.uplink().passed();
      world.pause(between(random, 1_000, 4_000));
      world.await("bytes get through all the same", () -> world.uplink().passed() > passed);
    }, UPLINK_OPEN));
    all.add(new Simple("uplink-dropped", 12, "the kernel (nftables) drops every packet to and from the cloud: no reset, no answer", (world, random, cycle) -> {
      cycle.note("nftables table " + Nft.table(world.uplinkPort()));
      Nft.drop(world.uplinkPort());
      world.pause(between(random, 500, 4_000));
      world.await("a packet is dropped", () -> Nft.dropped(world.uplinkPort()) > 0);
      cycle.figure("packets_dropped", Nft.dropped(world.uplinkPort()));
    }, (world, cycle) -> Nft.clear(world.uplinkPort()), Nft.missing()));
  }

  // ---- sinks

  private static void sinks(List<Fault> all) {
    all.add(sink("sink-down", 9, "a sink's far end is not there: Kafka by SIGKILL, S3 and HTTPS refuse connections", List.of("kafka", "s3", "analytics"),
        (world, target, random) -> {
          if (target.equals("kafka")) {
            world.kafka().kill();
          } else {
            proxy(world, target).mode(Proxy.Mode.CUT);
          }
        }, (world, target) -> {
          if (target.equals("kafka")) {
            world.kafka().restart();
          }
        }));
    all.add(sink("sink-hangs", 10, "a sink's far end takes connections and never answers: Kafka by SIGSTOP, S3 and HTTPS behind a black hole",
        List.of("kafka", "s3", "analytics"), (world, target, random) -> {
          if (target.equals("kafka")) {
            world.kafka().pause();
          } else {
            proxy(world, target).mode(Proxy.Mode.SILENT);
          }
        }, (world, target) -> {
          if (target.equals("kafka")) {
            world.kafka().resume();
          }
        }));
    all.add(sink("sink-garbage", 11, "what S3 and HTTPS answer is noise, after they have taken the rows", List.of("s3", "analytics"),
        (world, target, random) -> proxy(world, target).mode(Proxy.Mode.ANSWERS_GARBLED), (world, target) -> { }));
    all.add(sink("sink-ack-lost", 11, "the far end takes the rows, and its answer does not come before the gateway's time is up", List.of("s3", "analytics"),
        (world, target, random) -> {
          if (target.equals("analytics")) {
            world.https().next(Answer.late(), Answer.cut());
          } else {
            proxy(world, target).mode(Proxy.Mode.ANSWERS_HELD);
          }
        }, (world, target) -> world.https().release()));
    all.add(sink("sink-5xx", 11, "HTTPS answers 500, 502 or 503 and takes nothing", List.of("analytics"),
        (world, target, random) -> world.https().answer(Answer.status(List.of(500, 502, 503).get(random.nextInt(3)))),
        (world, target) -> world.https().answer(Answer.status(200))));
    all.add(fault("sink-slow", 11, "HTTPS takes its time for each request, S3 is behind a slow network", (world, random, cycle) -> {
      Duration late = between(random, 200, 1_000);
      world.https().answer(Answer.status(200).slow(late));
      world.toS3().bad(late.toMillis() / 2, 0, 0);
      cycle.note("late by " + late.toMillis() + " ms");
      world.pause(between(random, 500, 3_000));
      world.awaitDelivered(Set.of("kafka", "file"));
    }, (world, cycle) -> {
      world.https().answer(Answer.status(200));
      world.toS3().mend();
    }));
    all.add(fault("sink-4xx", 11, "HTTPS answers 401, 403, 404 or 429 to everything", (world, random, cycle) -> {
      int status = List.of(401, 403, 404, 429).get(random.nextInt(4));
      cycle.note("status " + status);
      Answer answer = Answer.status(status);
      world.https().answer(status == 429 ? answer.header("Retry-After", "1") : answer);
      world.await("the sink notices", () -> !world.state("analytics").equals("running,"));
      cycle.note("sink analytics is " + world.state("analytics"));
      world.awaitDelivered(Set.of("kafka", "file", "s3"));
    }, (world, cycle) -> world.https().answer(Answer.status(200))));
    all.add(new RefusedRow());
  }

  private interface Break {
    void on(World world, String target, Random random) throws Exception;
  }

  private interface Mend {
    void on(World world, String target) throws Exception;
  }

  /** Breaks one sink of the seed's choice; the sink must notice, and the others must go on. */
  private static Fault sink(String name, int number, String does, List<String> targets, Break break_, Mend mend) {
    String[] target = new String[1];
    return fault(name, number, does, (world, random, cycle) -> {
      target[0] = targets.get(random.nextInt(targets.size()));
      cycle.note("sink " + target[0]);
      cycle.figure(target[0], 1);
      int again = world.https().repeatedRequests();
      break_.on(world, target[0], random);
      // An answer that was lost may be followed at once by one that says that the rows are there.
      world.await("sink " + target[0] + " notices", () -> world.attempts(target[0]) > 0 || world.https().repeatedRequests() > again);
      Set<String> others = new TreeSet<>(World.SINKS);
      others.remove(target[0]);
      world.awaitDelivered(others);
      world.pause(between(random, 0, 1_500));
    }, (world, cycle) -> {
      if (target[0] != null) {
        world.toS3().mend();
        world.toHttps().mend();
        mend.on(world, target[0]);
      }
    });
  }

  private static Proxy proxy(World world, String sink) {
    return sink.equals("s3") ? world.toS3() : world.toHttps();
  }

  /** One row is refused and becomes a dead letter, nothing else waits for it; sent again by an operator it is taken. */
  private static final class RefusedRow implements Fault {
    private String key;

    @Override
    public String name() {
      return "sink-refuses-row";
    }

    @Override
    public int number() {
      return 11;
    }

    @Override
    public String does() {
      return "HTTPS answers 400 to batches with one certain row: a dead letter, and nothing else; then it is requeued";
    }

    @Override
    public void inject(World world, Random random, Cycle cycle) throws Exception {
      String device = "refused-" + cycle.index();
      String boot = Long.toString(cycle.seed(), 36);
      key = device + "/" + boot + "/" + KeySet.padded(1);
      world.https().refuse(key);
      Path log = world.folder().resolve(device + ".acks");
      Files.writeString(log, "#sent " + device + " " + boot + " 1\n");
      String body = "{\"schema_version\":1,\"boot_id\":\"" + boot + "\",\"device_seq\":1,\"metrics\":{\"t\":" + random.nextInt(100) + "}}";
      HttpResponse<String> answer = world.gateway().post("/ingest/" + device, "application/json", body.getBytes(StandardCharsets.UTF_8));
      if (answer.statusCode() != 202) {
        throw new IllegalStateException("POST /ingest must answer 202, was " + answer.statusCode() + " " + answer.body());
      }
      Files.writeString(log, Files.readString(log) + key + "\n");
      world.alsoPromised(log);
      world.await("a dead letter", () -> dead(world) == 1);
      world.awaitDelivered(Set.copyOf(World.SINKS));
      if (world.https().taken().contains(key)) {
        cycle.fault(Kind.BROKEN, 1, key + " was refused and counts as taken");
      }
    }

    private static long dead(World world) throws Exception {
      return Store.number(world.gatewayDb(), "SELECT dead FROM ledger WHERE sink = 'analytics'");
    }

    @Override
    public void heal(World world, Cycle cycle) throws Exception {
      world.https().accept(key);
      if (dead(world) > 0) {
        world.gateway().shell("dead:requeue --sink analytics --yes");
      }
    }

    @Override
    public void check(World world, Cycle cycle) throws Exception {
      world.await("the requeued row is taken", () -> dead(world) == 0 && world.https().taken().contains(key));
    }
  }

  // ---- configuration

  private static void configuration(List<Fault> all) {
    all.add(fault("redeploy-route", 29, "a route file that messages go through is replaced in deploy/ under load, and taken back", (world, random, cycle) -> {
      String stem = List.of("ingest", "sink-file", "rollup", "ingest-direct").get(random.nextInt(4));
      cycle.note("route file " + stem);
      Path shipped = Distribution.REPO.resolve("routes/gateway/" + stem + ".camel.yaml");
      String mark = "# seed " + cycle.seed();
      Path saved = Files.writeString(world.gateway().home.resolve("redeployed"), Files.readString(shipped) + mark + "\n");
      Files.move(saved, world.gateway().home.resolve("deploy/" + stem + ".camel.yaml"), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
      world.await("the new text of " + stem + " is in force", () -> world.gateway().shell("route:show " + stem).contains(mark));
      world.awaitPromises(20);
    }, (world, cycle) -> {
      try (DirectoryStream<Path> files = Files.newDirectoryStream(world.gateway().home.resolve("deploy"), "*.camel.yaml")) {
        for (Path file : files) {
          Files.delete(file);
        }
      }
    }));
    all.add(fault("change-configuration", 29, "keys change under load; then a wrong one, which must be named and leave the old value", (world, random, cycle) -> {
      world.write("io.caravan.sink.file.cfg", Map.of("sink.file.directory", world.files().toString(), "sink.file.linger.ms",
          String.valueOf(50 + random.nextInt(400)), "sink.file.batch.rows", String.valueOf(10 + random.nextInt(500))));
      world.write("io.caravan.ingest.cfg", Map.of("ingest.max.bytes", String.valueOf(60_000 + random.nextInt(5_000))));
      world.awaitPromises(50);
      world.awaitDelivered(Set.of("file"));
      world.write("io.caravan.ingest.cfg", Map.of("ingest.max.bytes", "some"));
      world.await("the mistake is named", () -> {
        String why = world.gateway().down("config");
        return why != null && why.contains("ingest.max.bytes [some]");
      });
      world.awaitPromises(50);
    }, (world, cycle) -> {
      world.write("io.caravan.ingest.cfg", Map.of());
      world.write("io.caravan.sink.file.cfg", Map.of("sink.file.directory", world.files().toString(), "sink.file.linger.ms", "200"));
    }));
  }

  // ---- input

  private static void input(List<Fault> all) {
    all.add(fault("input-disorder", 17, "a device sends each message one to four times, in no order, some measured hours ago or in an hour",
        (world, random, cycle) -> {
          String device = "disorder-" + cycle.index();
          String boot = Long.toString(cycle.seed(), 36);
          int messages = 50;
          List<Integer> order = new ArrayList<>();
          for (int n = 1; n <= messages; n++) {
            for (int i = 0, copies = 1 + random.nextInt(4); i < copies; i++) {
              order.add(n);
            }
          }
          Collections.shuffle(order, random);
          Path log = world.folder().resolve(device + ".acks");
          StringBuilder acks = new StringBuilder("#sent " + device + " " + boot + " " + messages + "\n");
          Instant now = Instant.now();
          long[] late = random.longs(messages + 1, -6 * 3_600, 3_600).toArray();
          try (Device sender = Device.connect(device, world.mqttPort())) {
            for (int n : order) {
              String body = "{\"schema_version\":1,\"boot_id\":\"" + boot + "\",\"device_seq\":" + n + ",\"observed_at\":\""
                  + now.plusSeconds(n % 3 == 0 ? late[n] : 0) + "\",\"metrics\":{\"t\":" + n + "}}";
              Mqtt5PubAckReasonCode code = sender.publish("telemetry", body);
              if (code != Mqtt5PubAckReasonCode.SUCCESS) {
                cycle.fault(Kind.BROKEN, 1, device + " message " + n + " was answered " + code);
              }
              acks.append(device).append('/').append(boot).append('/').append(KeySet.padded(n)).append('\n');
            }
          }
          Files.writeString(log, acks);
          world.alsoPromised(log);
          cycle.figure("copies", order.size());
          long rows = Store.number(world.gatewayDb(), "SELECT count(*) FROM wal WHERE device_id = '" + device + "'");
          if (rows != messages) {
            cycle.fault(rows < messages ? Kind.LOST : Kind.DOUBLED, Math.abs(rows - messages), device + " sent " + messages + ", the log has " + rows);
          }
        }, (world, cycle) -> { }));
  }
}
