// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import org.junit.jupiter.api.Test;

/**
 * Commands from the cloud's API to devices and back on both distributions, while gateway, cloud, broker and network are
 * killed and cut; at the end what the devices did is compared with what cloud and gateway say of it.
 * {@code -Dcrash.rounds=50} goes on for longer, {@code -Dseed=} repeats the choices of a run.
 */
class CommandIT {
  private static final int ROUNDS = Integer.getInteger("crash.rounds", 3);
  private static final long SEED = Long.getLong("seed", System.nanoTime());
  private static final Duration SOON = Duration.ofSeconds(60);
  /** Until the longest of all commands is over, and nobody waits for evidence any more. */
  private static final Duration OVER = Duration.ofSeconds(120);
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final String[] MOODS = {"well", "well", "well", "slow", "late", "never", "twice", "contradict", "fail", "refuse", "rubbish"};
  private static final Set<String> FINAL = Set.of("SUCCEEDED", "FAILED", "REJECTED", "EXPIRED", "CANCELLED", "INDETERMINATE");
  /** What a device notes comes later than what the gateway counts, by how busy the machine is. */
  private static final long JITTER_MS = 1_500;

  private final Random random = new Random(SEED);
  private final List<Actor.Run> runs = Collections.synchronizedList(new ArrayList<>());
  private final Map<String, List<String>> said = Actor.answers();
  /** Command id to name of the command, of what the cloud accepted. */
  private final Map<String, String> accepted = new LinkedHashMap<>();

  private static Pair pair(String name) {
    Pair pair = new Pair(name);
    pair.cloud.with("command.resend.ms", 1_000).with("command.silence.ms", 20_000);
    return pair;
  }

  @Test
  void killsAndCutsBetweenPhonesAndDevicesOnTheOwnListener() throws Exception {
    try (Pair pair = pair("command-kill"); Cut uplink = new Cut(pair.uplinkPort)) {
      pair.gateway.with("uplink.url", "wss://localhost:" + uplink.port());
      pair.start();
      try (Actor one = new Actor("act-1", pair.mqttPort, runs, said).on(); Actor two = new Actor("act-2", pair.mqttPort, runs, said).on()) {
        List<Actor> actors = List.of(one, two);
        awaitCommandable(pair, actors);
        for (int round = 1; round <= ROUNDS; round++) {
          phones(pair, actors, 10 + random.nextInt(20));
          pair.gateway.kill();
          phones(pair, actors, 3);
          pair.gateway.start().awaitReady();
          phones(pair, actors, 10 + random.nextInt(20));
          pair.cloud.kill();
          pair.cloud.start().awaitReady();
          phones(pair, actors, random.nextInt(10));
          uplink.cut();
          phones(pair, actors, 5);
          uplink.mend();
          Actor actor = actors.get(random.nextInt(2));
          actor.off();
          phones(pair, actors, 5);
          actor.on();
        }
        // Both at once, as in a power cut.
        phones(pair, actors, 10);
        pair.cloud.kill();
        pair.gateway.kill();
        pair.start();
        phones(pair, actors, 10);
        judge("own listener", pair);
      }
    }
  }

  @Test
  void killsBetweenPhonesAndDevicesBehindABroker() throws Exception {
    try (Pair pair = pair("command-broker").viaBroker(); Mosquitto broker = new Mosquitto(pair.folder.resolve("mosquitto"), pair.brokerPort)) {
      broker.start();
      pair.start();
      try (Actor one = new Actor("act-1", pair.brokerPort, runs, said).on(); Actor two = new Actor("act-2", pair.brokerPort, runs, said).on()) {
        List<Actor> actors = List.of(one, two);
        awaitCommandable(pair, actors);
        for (int round = 1; round <= ROUNDS; round++) {
          phones(pair, actors, 10 + random.nextInt(20));
          pair.gateway.kill();
          phones(pair, actors, 3);
          pair.gateway.start().awaitReady();
          phones(pair, actors, 10);
          broker.kill();
          phones(pair, actors, 5);
          broker.start();
          phones(pair, actors, 5);
        }
        judge("broker", pair);
      }
    }
  }

  /** Who stands beside the machine is served without the cloud, and the cloud learns of it, in order. */
  @Test
  void peopleOnTheLanAreServedWhileTheCloudIsAway() throws Exception {
    try (Pair pair = pair("command-lan")) {
      pair.gateway.start().awaitReady();
      try (Actor actor = new Actor("act-1", pair.mqttPort, runs, said).on()) {
        await("the device's capabilities").atMost(SOON).pollInterval(Duration.ofMillis(200))
            .until(() -> Store.number(pair.gatewayDb, "SELECT count(*) FROM capability") == 1);
        String first = send(pair, "act-1 pulse");
        String second = send(pair, "act-1 unlock mood=fail");
        String never = send(pair, "act-1 fly");
        await("the ends").atMost(SOON).until(() -> Store.number(pair.gatewayDb, "SELECT count(*) FROM command WHERE final_at_ms IS NULL") == 0);
        assertEquals(List.of(first + ",SUCCEEDED,null,shell", second + ",FAILED,device_failed,shell", never + ",REJECTED,no_capability,shell"),
            Store.rows(pair.gatewayDb, "SELECT command_id, status, reason, origin FROM command ORDER BY seq"));
        assertEquals(2, runs.size(), runs::toString);

        pair.cloud.start().awaitReady();
        await("the cloud knows").atMost(SOON).until(() -> Store.number(pair.cloudDb, "SELECT count(*) FROM command WHERE final_at_ms IS NOT NULL") == 3);
        for (String id : List.of(first, second, never)) {
          assertEquals(events(pair.gatewayDb, id), events(pair.cloudDb, id));
        }
        assertEquals(5, events(pair.cloudDb, first).size(), () -> "ACCEPTED, QUEUED, SENT, DELIVERED, SUCCEEDED");
      }
    }
  }

  @Test
  void controlPlane() throws Exception {
    try (Pair pair = pair("command-control").start()) {
      JsonNode pong = control(pair, "ping", "{\"echo\":\"hello\"}");
      assertEquals("SUCCEEDED", pong.path("status").asText(), pong::toString);
      assertTrue(pong.path("result").toString().contains("hello"), pong::toString);

      JsonNode paused = control(pair, "sink.pause", "{\"sink\":\"rollup\"}");
      assertEquals("SUCCEEDED", paused.path("status").asText(), paused::toString);
      assertEquals(List.of("paused"), Store.rows(pair.gatewayDb, "SELECT state FROM sink WHERE name = 'rollup'"));
      JsonNode resumed = control(pair, "sink.resume", "{\"sink\":\"rollup\"}");
      assertEquals("SUCCEEDED", resumed.path("status").asText(), resumed::toString);
      assertEquals(List.of("running"), Store.rows(pair.gatewayDb, "SELECT state FROM sink WHERE name = 'rollup'"));

      JsonNode updated = control(pair, "config.update", "{\"changes\":{\"uplink.flush.ms\":301}}");
      assertEquals("SUCCEEDED", updated.path("status").asText(), updated::toString);
      // All of it or nothing of it.
      JsonNode wrong = control(pair, "config.update", "{\"changes\":{\"uplink.flush.ms\":401,\"outbox.tick.ms\":\"soon\"}}");
      assertEquals("FAILED", wrong.path("status").asText(), wrong::toString);
      JsonNode now = control(pair, "config.get", "{\"keys\":[\"uplink.flush.ms\"]}");
      assertTrue(now.path("result").toString().contains("301"), now::toString);
      // Nobody but the gateway's operator says where its data goes.
      JsonNode elsewhere = control(pair, "config.update", "{\"changes\":{\"uplink.url\":\"wss://evil.example\"}}");
      assertTrue(Set.of("FAILED", "REJECTED").contains(elsewhere.path("status").asText()), elsewhere::toString);
      // What it was told outlives it.
      pair.gateway.kill();
      pair.gateway.start().awaitReady();
      JsonNode after = control(pair, "config.get", "{\"keys\":[\"uplink.flush.ms\"]}");
      assertTrue(after.path("result").toString().contains("301"), after::toString);
    }
  }

  // ---- phones

  private JsonNode control(Pair pair, String name, String arguments) throws Exception {
    HttpResponse<String> answer = await("a gateway that the cloud knows").atMost(SOON).pollInterval(Duration.ofMillis(100)).until(
        () -> post(pair, "gateway", "{\"name\":\"" + name + "\",\"arguments\":" + arguments + ",\"ttl_ms\":60000}"), a -> a.statusCode() != 404);
    assertEquals(202, answer.statusCode(), answer::body);
    String id = JSON.readTree(answer.body()).path("id").asText();
    return await(name + " " + id).atMost(OVER).pollInterval(Duration.ofMillis(100))
        .until(() -> pair.cloud.json(Pair.api("gateway", "commands/" + id)), c -> FINAL.contains(c.path("status").asText()));
  }

  private static HttpResponse<String> post(Pair pair, String device, String json) throws IOException {
    return pair.cloud.send(HttpRequest.newBuilder(pair.cloud.uri(Pair.api(device, "commands"))).header("Content-Type", "application/json")
        .POST(HttpRequest.BodyPublishers.ofString(json)));
  }

  /** Until a command to each of them succeeds: what a device says it can do has to get to the gateway first. */
  private void awaitCommandable(Pair pair, List<Actor> actors) throws Exception {
    for (Actor actor : actors) {
      await("capabilities of " + actor.id).atMost(SOON).pollInterval(Duration.ofMillis(200)).until(() ->
          Store.number(pair.gatewayDb, "SELECT count(*) FROM capability WHERE device_id = '" + actor.id + "'") == 1);
      String id = "first-" + actor.id;
      // 404: the gateway has not been heard of yet.
      await("a gateway that the cloud knows").atMost(SOON).pollInterval(Duration.ofMillis(100))
          .until(() -> post(pair, actor.id, "{\"id\":\"" + id + "\",\"name\":\"pulse\",\"ttl_ms\":60000}").statusCode() == 202);
      accepted.put(id, "pulse");
      await(id).atMost(SOON).pollInterval(Duration.ofMillis(50)).until(() -> status(pair, actor.id, id).equals("SUCCEEDED"));
    }
  }

  private static String status(Pair pair, String device, String id) throws IOException {
    return pair.cloud.json(Pair.api(device, "commands/" + id)).path("status").asText();
  }

  /** Phones send what they want, as long as the cloud takes it, some of it twice, and take some of it back. */
  private void phones(Pair pair, List<Actor> actors, int commands) throws Exception {
    for (int i = 0; i < commands; i++) {
      String id = "c" + (accepted.size() + 1) + "-" + random.nextInt(1_000_000);
      String name = List.of("pulse", "unlock", "set").get(random.nextInt(3));
      String device = actors.get(random.nextInt(actors.size())).id;
      String body = "{\"id\":\"" + id + "\",\"name\":\"" + name + "\",\"arguments\":{\"mood\":\"" + MOODS[random.nextInt(MOODS.length)] + "\"},\"ttl_ms\":"
          + List.of(300, 2_000, 20_000, 40_000).get(random.nextInt(4)) + "}";
      for (int copies = 1 + random.nextInt(10) / 8; copies > 0; copies--) {
        try {
          int status = post(pair, device, body).statusCode();
          if (status == 202 || status == 200) {
            accepted.put(id, name);
          }
        } catch (IOException away) {
          // Nothing was promised; that it was kept is possible all the same.
        }
      }
      if (random.nextInt(12) == 0) {
        try {
          pair.cloud.send(HttpRequest.newBuilder(pair.cloud.uri(Pair.api(device, "commands/" + id + "/cancel"))).POST(HttpRequest.BodyPublishers.noBody()));
        } catch (IOException away) {
          // it goes on
        }
      }
      if (random.nextInt(4) == 0) {
        java.util.concurrent.locks.LockSupport.parkNanos(random.nextInt(200) * 1_000_000L);
      }
    }
  }

  private static String send(Pair pair, String arguments) {
    String out;
    try {
      out = pair.gateway.shell("command:send " + arguments + " --json");
    } catch (AssertionError rejected) {
      // The shell fails with the command; what it printed is in the message.
      out = rejected.getMessage();
    }
    try {
      JsonNode json = JSON.readTree(out.substring(out.indexOf('{')));
      String id = json.path("command_id").asText();
      assertFalse(id.isEmpty(), out);
      return id;
    } catch (IOException e) {
      throw new AssertionError(out, e);
    }
  }

  // ---- the verdict

  private static List<String> events(Path db, String id) throws Exception {
    boolean gateway = db.toString().endsWith("gateway.db");
    return Store.rows(db, gateway
        ? "SELECT e.revision, e.status, e.reason FROM command_event e JOIN command c ON c.seq = e.command_seq WHERE c.command_id = '" + id + "' ORDER BY e.revision"
        : "SELECT revision, status, reason FROM command_event WHERE command_id = '" + id + "' AND revision IS NOT NULL ORDER BY id");
  }

  private void judge(String what, Pair pair) throws Exception {
    await("every command is over, in the cloud and at the gateway").atMost(OVER).pollInterval(Duration.ofMillis(500)).until(() ->
        Store.number(pair.cloudDb, "SELECT count(*) FROM command WHERE final_at_ms IS NULL") == 0
            && Store.number(pair.gatewayDb, "SELECT count(*) FROM command WHERE final_at_ms IS NULL") == 0
            && Store.number(pair.gatewayDb, "SELECT count(*) FROM outbox WHERE kind = 'command' AND seq > (SELECT max(acked_seq) FROM sink_range WHERE sink = 'uplink')") == 0
            && Store.number(pair.cloudDb, "SELECT count(*) FROM inbox WHERE kind = 'command' AND seq > (SELECT max(acked_seq) FROM sink_range WHERE sink = 'command')") == 0);
    List<String> faults = new ArrayList<>();
    Map<String, Integer> ends = new TreeMap<>();
    Map<String, String> gateway = table(pair.gatewayDb, "SELECT command_id, status || coalesce(' ' || reason, '') FROM command");
    Map<String, String> cloud = table(pair.cloudDb, "SELECT command_id, status || coalesce(' ' || reason, '') FROM command");
    Map<String, List<Actor.Run>> ran = new ConcurrentHashMap<>();
    List.copyOf(runs).forEach(r -> ran.computeIfAbsent(r.commandId(), i -> new ArrayList<>()).add(r));
    accepted.keySet().stream().filter(id -> !cloud.containsKey(id)).forEach(id -> faults.add(id + " was accepted and is not kept"));
    gateway.keySet().stream().filter(id -> !cloud.containsKey(id)).forEach(id -> faults.add(id + " is not known in the cloud"));
    for (Map.Entry<String, String> c : cloud.entrySet()) {
      String id = c.getKey();
      String status = c.getValue().split(" ")[0];
      ends.merge(c.getValue(), 1, Integer::sum);
      List<Actor.Run> done = ran.getOrDefault(id, List.of());
      List<String> told = said.getOrDefault(id, List.of());
      String all = id + ": cloud " + c.getValue() + ", gateway " + gateway.get(id) + ", ran " + done + ", said " + told;
      if (gateway.containsKey(id) && (!gateway.get(id).equals(c.getValue()) || !events(pair.gatewayDb, id).equals(events(pair.cloudDb, id)))) {
        faults.add("cloud and gateway do not agree: " + all + ", events " + events(pair.cloudDb, id) + " and " + events(pair.gatewayDb, id));
      }
      if (done.size() > 1 && !done.get(0).name().equals("set")) {
        faults.add("carried out " + done.size() + " times: " + all);
      }
      if (Set.of("REJECTED", "EXPIRED", "CANCELLED").contains(status) && !done.isEmpty()) {
        faults.add("said not to be sent, and was: " + all);
      }
      if (status.equals("SUCCEEDED") && !told.contains("succeeded") || c.getValue().equals("FAILED device_failed") && !told.contains("failed")
          || c.getValue().equals("FAILED device_rejected") && !told.contains("rejected")) {
        faults.add("without evidence: " + all);
      }
      if (events(pair.cloudDb, id).stream().anyMatch(e -> e.contains("DELIVERED")) && done.isEmpty()) {
        faults.add("DELIVERED without evidence: " + all);
      }
      done.stream().filter(r -> r.atMs() > r.expiresAtMs() + JITTER_MS).forEach(r -> faults.add("carried out after its time: " + all));
    }
    // Three within eight seconds, whichever eight.
    Map<String, List<Long>> unlocks = new TreeMap<>();
    List.copyOf(runs).stream().filter(r -> r.name().equals("unlock")).forEach(r -> unlocks.computeIfAbsent(r.deviceId(), d -> new ArrayList<>()).add(r.atMs()));
    unlocks.forEach((device, times) -> {
      Collections.sort(times);
      for (int i = 3; i < times.size(); i++) {
        if (times.get(i) - times.get(i - 3) < 8_000 - JITTER_MS) {
          faults.add(device + ": four unlocks within " + (times.get(i) - times.get(i - 3)) + " ms");
        }
      }
    });
    System.out.printf("commands, %s: seed %d, accepted %d, carried out %d, %s%n", what, SEED, accepted.size(), runs.size(), ends);
    assertTrue(faults.isEmpty(), () -> "seed " + SEED + ": " + faults.size() + " faults:\n" + String.join("\n", faults));
    assertTrue(accepted.size() > 20L * ROUNDS && ends.keySet().stream().anyMatch(e -> e.startsWith("SUCCEEDED"))
        && ends.keySet().stream().anyMatch(e -> e.startsWith("INDETERMINATE")), () -> "too little happened to prove anything: " + ends);
  }

  private static Map<String, String> table(Path db, String sql) throws Exception {
    Map<String, String> table = new LinkedHashMap<>();
    for (String row : Store.rows(db, sql)) {
      table.put(row.substring(0, row.indexOf(',')), row.substring(row.indexOf(',') + 1));
    }
    return table;
  }
}
