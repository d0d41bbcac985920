// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.desk.Cloud.Wall;
import io.caravan.desk.CommandDesk.Accepted;
import io.caravan.desk.CommandDesk.Event;
import io.caravan.desk.CommandDesk.Filter;
import io.caravan.desk.CommandDesk.Request;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** To gateways and back: what is handed over when, what their events make of it, several replicas. */
@Timeout(120)
class CommandRoutesTest {
  private static final String LIFE = "ACCEPTED QUEUED SENT DELIVERED SUCCEEDED";

  @TempDir
  Path dir;

  private static Request request(String gateway, String id) {
    return new Request(gateway, "lock-1", id, "unlock", "{\"door\":1}", "{\"door\":\"1\"}", null, 60_000L, null, "cloud", "anna", null);
  }

  private static Accepted submit(Cloud cloud, String gateway, String id) throws Exception {
    return cloud.desk().submit(request(gateway, id)).toCompletableFuture().get();
  }

  private static Accepted submit(Cloud cloud, String id) throws Exception {
    return submit(cloud, "gw-1", id);
  }

  private static void pass(Cloud cloud) throws Exception {
    cloud.desk().pass().toCompletableFuture().get();
  }

  private static String status(Cloud cloud, String id) throws Exception {
    return cloud.one("SELECT status || ' ' || coalesce(reason, '-') FROM command WHERE command_id = '" + id + "'");
  }

  private void applied(Cloud cloud) {
    await().until(() -> cloud.one("SELECT count(*) FROM inbox WHERE seq > (SELECT min(acked_seq) FROM sink_range)").equals("0"));
  }

  @Test
  void aNewConnectionGetsEverythingThatItsGatewayHasNotSpokenOf() throws Exception {
    Wall wall = new Wall();
    try (Cloud cloud = Cloud.start(dir, wall, Map.of())) {
      cloud.gateway("gw-1");
      for (int i = 0; i < 600; i++) {
        submit(cloud, "c" + i);
      }
      cloud.connect("gw-1", "s1");
      await().until(() -> cloud.net.sent.size() == 600);
      assertEquals("c0", cloud.net.sent.get(0).get("id").asText());
      assertEquals("c599", cloud.net.sent.get(599).get("id").asText());
      assertEquals("{\"id\":\"c0\",\"device_id\":\"lock-1\",\"name\":\"unlock\",\"arguments\":{\"door\":1},\"units\":{\"door\":\"1\"},"
          + "\"issued_by\":\"anna\",\"ttl_ms\":60000}", cloud.net.sent.get(0).toString());
      submit(cloud, "d0");
      await().until(() -> cloud.net.sent.size() == 601);

      // It says something of the first; the others go again to its next connection, with what is left of their time.
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c0", 1, "ACCEPTED", ""));
      applied(cloud);
      cloud.net.sent.clear();
      wall.ms += 1_000;
      pass(cloud);
      assertEquals(0, cloud.net.sent.size(), "not to the same one again so soon");
      cloud.connect("gw-1", "s2");
      await().until(() -> cloud.net.sent.size() == 600);
      assertEquals("c1", cloud.net.sent.get(0).get("id").asText());
      assertEquals(59_000, cloud.net.sent.get(0).get("ttl_ms").asLong());
      assertEquals("1|600", cloud.one("SELECT count(*) FILTER (WHERE transmissions = 1), count(*) FILTER (WHERE transmissions = 2) FROM command"));

      // The same connection, silent for long: again. What is over by then, or unwanted, only to ask.
      cloud.net.sent.clear();
      cloud.desk().cancel("gw-1", "c2", "anna").toCompletableFuture().get();
      wall.ms += 30_000;
      pass(cloud);
      await().until(() -> cloud.net.sent.size() == 600);
      assertEquals(29_000, cloud.net.sent.get(0).get("ttl_ms").asLong());
      assertEquals(0, cloud.net.sent.get(1).get("ttl_ms").asLong(), "c2 must not be carried out any more");
      assertTrue(cloud.net.cancelled.contains("c2 by anna"));
      cloud.net.sent.clear();
      wall.ms += 40_000;
      pass(cloud);
      await().until(() -> cloud.net.sent.size() == 600);
      assertTrue(cloud.net.sent.stream().allMatch(c -> c.get("ttl_ms").asLong() == 0));
    }
  }

  @Test
  void whatBeganAtAGatewayIsNotHandedDownToIt() throws Exception {
    Wall wall = new Wall();
    try (Cloud cloud = Cloud.start(dir, wall, Map.of(), "command.resend.ms", "600000")) {
      cloud.gateway("gw-1");
      for (String id : List.of("lan", "over")) {
        cloud.inbox("gw-1", "command", "lock-1", Cloud.event(id, 1, "ACCEPTED", ",\"name\":\"unlock\",\"arguments\":{},\"origin\":\"shell\",\"issued_by\":\"otto\","
            + "\"created_at_ms\":7,\"expires_at_ms\":" + (id.equals("over") ? wall.ms - 1 : wall.ms + 60_000)));
      }
      applied(cloud);
      cloud.connect("gw-1", "s1");
      pass(cloud);
      // While they are open there is nothing to do, and nobody waits for the store.
      try (Connection holder = cloud.caravan.bean("writer", DataSource.class).orElseThrow().getConnection()) {
        holder.setAutoCommit(false);
        try (Statement lock = holder.createStatement()) {
          lock.execute(cloud.caravan.context().resolvePropertyPlaceholders("{{sql.command.lock}}"));
        }
        cloud.desk().pass().toCompletableFuture().get(10, TimeUnit.SECONDS);
        holder.rollback();
      }
      assertEquals(1, submit(cloud, "c1").command().transmissions(), "nothing is before it");
      cloud.connect("gw-1", "s2");
      await().until(() -> cloud.net.sent.size() == 2);
      assertEquals(List.of("c1", "c1"), cloud.net.ids());
      assertEquals("0|0", cloud.one("SELECT min(transmissions), max(transmissions) FROM command WHERE origin = 'shell'"));
    }
  }

  @Test
  void aGatewayThatGetsOnIsNotHandedTheSameAgain() throws Exception {
    Wall wall = new Wall();
    try (Cloud cloud = Cloud.start(dir, wall, Map.of())) {
      cloud.connect("gw-1", "s1");
      for (int i = 0; i < 10; i++) {
        submit(cloud, "c" + i);
      }
      await().until(() -> cloud.net.sent.size() == 10);
      cloud.net.sent.clear();
      for (int i = 0; i < 2; i++) {
        cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c" + i, 1, "ACCEPTED", ""));
        applied(cloud);
        wall.ms += 10_000;
        pass(cloud);
        assertEquals(0, cloud.net.sent.size(), "it is busy, and has spoken of c" + i);
      }
      wall.ms += 10_000;
      pass(cloud);
      await().until(() -> cloud.net.sent.size() == 8);
      assertEquals("c2", cloud.net.sent.get(0).get("id").asText(), "it has said nothing more");
    }
  }

  @Test
  void aConnectionThatDoesNotTakeMoreIsNotGivenMore() throws Exception {
    try (Cloud cloud = Cloud.start(dir, new Wall(), Map.of())) {
      cloud.connect("gw-1", "s1");
      cloud.net.held = new CompletableFuture<>();
      for (int i = 0; i < 50; i++) {
        submit(cloud, "c" + i);
      }
      int given = cloud.net.sent.size();
      assertTrue(given < 50, given + " were given");
      assertEquals("50", cloud.one("SELECT count(*) FROM command"), "they are kept");
      CompletableFuture<Void> held = cloud.net.held;
      cloud.net.held = null;
      held.complete(null);
      await().until(() -> cloud.net.sent.size() == 50);
      assertEquals(cloud.rows("SELECT command_id FROM command ORDER BY seq"), cloud.net.ids());
    }
  }

  @Test
  void itsTimeEndsWhatNobodyFetchedAndWhatNobodyAnswered() throws Exception {
    Wall wall = new Wall();
    try (Cloud cloud = Cloud.start(dir, wall, Map.of(), "command.silence.ms", "5000")) {
      cloud.gateway("gw-1");
      submit(cloud, "c1");
      wall.ms += 60_000;
      pass(cloud);
      assertEquals("EXPIRED expired", status(cloud, "c1"));
      cloud.connect("gw-1", "s1");
      assertEquals(0, cloud.net.sent.size(), "an expired one never leaves");

      submit(cloud, "c2");
      submit(cloud, "c3");
      await().until(() -> cloud.net.sent.size() == 2);
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c3", 1, "ACCEPTED", ""));
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c3", 2, "QUEUED", ""));
      applied(cloud);
      wall.ms += 60_000;
      pass(cloud);
      assertEquals("ACCEPTED -", status(cloud, "c2"), "the gateway may have it");
      wall.ms += 10_000;
      pass(cloud);
      assertEquals("INDETERMINATE gateway_silent", status(cloud, "c2"));
      assertEquals("INDETERMINATE gateway_silent", status(cloud, "c3"), "it said something once, and no more");
      // What it says later counts, when it is an end.
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c2", 1, "ACCEPTED", ""));
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c2", 2, "QUEUED", ""));
      applied(cloud);
      assertEquals("INDETERMINATE gateway_silent", status(cloud, "c2"));
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c2", 3, "SUCCEEDED", ",\"result\":{\"door\":\"open\"}"));
      applied(cloud);
      assertEquals("SUCCEEDED -", status(cloud, "c2"));
      assertEquals(Cloud.JSON.readTree("{\"door\":\"open\"}"), Cloud.JSON.readTree(cloud.desk().find("gw-1", "c2").orElseThrow().result()));
    }
  }

  @Test
  void whatExpiredWhileTheStoreWasTakenNeverLeaves() throws Exception {
    Wall wall = new Wall();
    try (Cloud cloud = Cloud.start(dir, wall, Map.of())) {
      cloud.connect("gw-1", "s1");
      cloud.gateway("gw-2");
      submit(cloud, "gw-2", "waits");
      cloud.execute("UPDATE gateway SET session_id = 's2' WHERE gateway_id = 'gw-2'");
      CompletableFuture<Accepted> direct;
      try (Connection holder = cloud.caravan.bean("writer", DataSource.class).orElseThrow().getConnection()) {
        holder.setAutoCommit(false);
        try (Statement lock = holder.createStatement()) {
          lock.execute(cloud.caravan.context().resolvePropertyPlaceholders("{{sql.command.lock}}"));
        }
        // One that would go at once, and one that a pass hands over.
        cloud.net.sessions.put("gw-2", "s2");
        direct = cloud.desk().submit(request("gw-1", "direct")).toCompletableFuture();
        await().until(() -> Thread.getAllStackTraces().entrySet().stream().anyMatch(thread -> thread.getKey().getName().equals("caravan-command-desk")
            && Stream.of(thread.getValue()).anyMatch(at -> at.getMethodName().equals("begin") || at.getClassName().endsWith(".WriterDataSource"))));
        wall.ms += 60_000;
        holder.rollback();
      }
      assertEquals("direct", direct.get().command().id());
      pass(cloud);
      await().until(() -> status(cloud, "direct").equals("EXPIRED expired") && status(cloud, "waits").equals("EXPIRED expired"));
      assertEquals(List.of(), cloud.net.sent);
    }
  }

  @Test
  void whatIsLeftOfItsTimeIsCountedWhenACommandIsWritten() throws Exception {
    Wall wall = new Wall();
    try (Cloud cloud = Cloud.start(dir, wall, Map.of(), "command.resend.ms", "600000")) {
      cloud.connect("gw-1", "s1");
      cloud.net.onItsWay = () -> wall.ms += 50_000;
      submit(cloud, "c1");
      await().until(() -> cloud.net.sent.size() == 1);
      cloud.net.onItsWay = () -> wall.ms += 70_000;
      submit(cloud, "c2");
      await().until(() -> cloud.net.sent.size() == 2);
      assertEquals(10_000, cloud.net.sent.get(0).get("ttl_ms").asLong());
      assertEquals(0, cloud.net.sent.get(1).get("ttl_ms").asLong(), "only to be asked what it knows of it");
    }
  }

  @Test
  void aClockThatIsSetBackGivesNobodyMoreTimeAndKeepsNobodyWaiting() throws Exception {
    Wall wall = new Wall();
    try (Cloud cloud = Cloud.start(dir, wall, Map.of())) {
      cloud.gateway("gw-1");
      submit(cloud, "c1");
      wall.ms -= 3_600_000;
      cloud.connect("gw-1", "s1");
      await().until(() -> cloud.net.sent.size() == 1);
      submit(cloud, "c2");
      await().until(() -> cloud.net.sent.size() == 2);
      wall.ms -= 3_600_000;
      // At once, as nobody knows how long it has been, and from then on as ever.
      await().until(() -> cloud.net.sent.size() == 4);
      pass(cloud);
      assertEquals(4, cloud.net.sent.size());
      wall.ms += 10_000;
      await().until(() -> cloud.net.sent.size() == 6);
      assertEquals(List.of("c1", "c2", "c1", "c2", "c1", "c2"), cloud.net.ids());
      assertTrue(cloud.net.sent.stream().allMatch(c -> c.get("ttl_ms").asLong() == 60_000), cloud.net.sent.toString());
    }
  }

  @Test
  void aPageOfCommandsHasNotMoreBytesThanItMay() throws Exception {
    String path = "/api/v1/devices/gw-1/lock-1/commands";
    try (Cloud cloud = Cloud.start(dir, "api.rows.bytes", "65536", "command.max.bytes", "60000").gateway("gw-1")) {
      for (int i = 0; i < 5; i++) {
        cloud.json(202, "POST", path, "{\"id\":\"c" + i + "\",\"name\":\"show\",\"arguments\":{\"text\":\"" + "x".repeat(30_000) + "\"}}");
      }
      cloud.execute("UPDATE command SET result = ? WHERE command_id = 'c2'", "\"" + "x".repeat(100_000) + "\"");
      for (int limit : new int[] {2, 5}) {
        List<String> pages = new ArrayList<>();
        for (String next = path + "?limit=" + limit; next != null;) {
          HttpResponse<String> page = cloud.send("GET", next, null);
          pages.add(Cloud.JSON.readTree(page.body()).findValuesAsText("id").toString());
          next = page.headers().firstValue("Link").map(link -> link.substring(1, link.indexOf('>'))).orElse(null);
        }
        assertEquals(List.of("[c4, c3]", "[c2]", "[c1, c0]"), pages);
      }
    }
  }

  /** Events of many commands in any order, some twice, in batches of any size. @return the statuses as told, of each command */
  private List<String> shuffled(Cloud cloud, long seed, int commands) throws Exception {
    List<Event> told = new CopyOnWriteArrayList<>();
    cloud.gateway("gw-1");
    cloud.desk().watch(Filter.ALL, 0, told::add);
    Random random = new Random(seed);
    List<String[]> events = new ArrayList<>();
    for (int c = 0; c < commands; c++) {
      String[] life = LIFE.split(" ");
      for (int r = 1; r <= life.length; r++) {
        String more = r == 1 ? ",\"name\":\"unlock\",\"arguments\":{\"door\":" + c + "},\"origin\":\"shell\",\"issued_by\":\"otto\",\"created_at_ms\":7,"
            + "\"expires_at_ms\":9007199254740991" : r == 5 ? ",\"result\":" + c : "";
        events.add(new String[] {"c" + c, Cloud.event("c" + c, r, life[r - 1], more)});
        if (random.nextInt(5) == 0) {
          events.add(events.get(events.size() - 1));
        }
      }
    }
    Collections.shuffle(events, random);
    for (String[] event : events) {
      cloud.inbox("gw-1", "command", "lock-1", event[1]);
    }
    applied(cloud);
    await().until(() -> told.size() == Integer.parseInt(cloud.one("SELECT count(*) FROM command_event")));
    List<String> lives = new ArrayList<>();
    for (int c = 0; c < commands; c++) {
      String id = "c" + c;
      lives.add(String.join(" ", told.stream().filter(e -> e.commandId().equals(id)).map(Event::status).toList()));
    }
    return lives;
  }

  @Test
  void eventsAreToldInTheirOrderHoweverTheyCome() throws Exception {
    try (Cloud cloud = Cloud.start(dir, new Wall(), Map.of(), "command.batch.rows", "7")) {
      assertEquals(Collections.nCopies(20, LIFE), shuffled(cloud, 1, 20));
      assertEquals(List.of("20|5|5"), cloud.rows("SELECT count(*), min(gateway_revision), max(gateway_revision) FROM command WHERE status = 'SUCCEEDED'"));
      assertEquals("shell|otto|{\"door\":3}|3|7",
          cloud.one("SELECT origin, issued_by, replace(arguments, ' ', ''), result, created_at_ms FROM command WHERE command_id = 'c3'"));
      assertEquals("0", cloud.one("SELECT count(*) FROM command_early"));
      assertEquals(List.of(), cloud.rows("SELECT id FROM message"), "they are no messages of devices");
      assertEquals(List.of(), cloud.rows("SELECT device_id FROM device"));
    }
  }

  @Test
  void withoutTheRuleTheirOrderWouldBeLost() throws Exception {
    try (Cloud cloud = Cloud.start(dir, new Wall(), Map.of("WHERE r.missing = r.gateway_revision", "WHERE true"), "command.batch.rows", "7")) {
      assertTrue(shuffled(cloud, 1, 20).stream().anyMatch(life -> !life.equals(LIFE)));
    }
  }

  @Test
  void whatIsMissingForLongIsGivenUpAndWhatIsOfNoUseIsCounted() throws Exception {
    try (Cloud cloud = Cloud.start(dir, "command.early.ms", "1000")) {
      cloud.connect("gw-1", "s1");
      submit(cloud, "c1");
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c1", 3, "SENT", ""));
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("orphan", 2, "SENT", ""));
      for (String bad : List.of("{}", "[]", "\"x\"", "{\"command_id\":\"c1\",\"revision\":\"1\",\"status\":\"SENT\",\"at_ms\":1}", "{\"command_id\":7,\"revision\":1}")) {
        cloud.inbox("gw-1", "command", "lock-1", bad);
        cloud.inbox("gw-1", "twin", "lock-1", bad);
      }
      await().until(() -> status(cloud, "c1").equals("SENT -"));
      await().until(() -> cloud.one("SELECT count(*) FROM command_early").equals("0"));
      applied(cloud);
      assertEquals("1", cloud.one("SELECT count(*) FROM command"));
      assertEquals("5", cloud.one("SELECT dead FROM sink WHERE name = 'command'"));
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c1", 1, "ACCEPTED", ""));
      applied(cloud);
      assertEquals("SENT -", status(cloud, "c1"), "what comes after it was given up is old");
    }
  }

  /** What does not fit into an index is its gateway's own loss. */
  @Test
  void aHostileGatewayStopsNobody() throws Exception {
    String noise = new Random(1).ints(54_000, 'a', 'z').collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append).toString();
    try (Cloud cloud = Cloud.start(dir)) {
      cloud.gateway("gw-1");
      List<String> bad = List.of(Cloud.event("c1", 1, "ACCEPTED", ",\"device_id\":\"" + noise + "\""), Cloud.event("c2", 1, "ACCEPTED", ",\"device_id\":\"\""),
          Cloud.event(noise, 1, "ACCEPTED", ""), Cloud.event("c3", 0, "ACCEPTED", ""), Cloud.event("c4", 1, "DONE", ""));
      for (String event : bad) {
        cloud.inbox("gw-2", "command", "lock-1", event);
      }
      cloud.inbox("gw-1", "command", "gateway", Cloud.event("c5", 1, "ACCEPTED", ",\"device_id\":\"" + "d".repeat(64) + "\""));
      applied(cloud);
      assertEquals(List.of("c5"), cloud.rows("SELECT command_id FROM command"));
      assertEquals("1|" + bad.size(), cloud.one("SELECT delivered, dead FROM sink WHERE name = 'command'"));
    }
  }

  @Test
  void aGatewayWhoseClockIsYearsAheadDoesNotKeepItsCommandsForEver() throws Exception {
    try (Cloud cloud = Cloud.start(dir, "command.keep.ms", "60000")) {
      long ahead = 4_000_000_000_000L;
      cloud.gateway("gw-1");
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c1", 1, "ACCEPTED", ",\"expires_at_ms\":" + (ahead + 60_000)).replace(":1001", ":" + ahead));
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c1", 2, "SUCCEEDED", "").replace(":1002", ":" + (ahead + 1)));
      await().until(() -> cloud.rows("SELECT status, final_at_ms FROM command").equals(List.of("SUCCEEDED|" + (ahead + 1))));
      assertEquals("1", cloud.one("SELECT count(*) FROM command WHERE expires_at_ms <= updated_at_ms + 604800000"));
      cloud.execute("UPDATE command SET updated_at_ms = updated_at_ms - 60000");
      await().until(() -> cloud.one("SELECT (SELECT count(*) FROM command) + (SELECT count(*) FROM command_event)").equals("0"));
    }
  }

  @Test
  void oldOnesGoWithTheirEvents() throws Exception {
    Wall wall = new Wall();
    try (Cloud cloud = Cloud.start(dir, wall, Map.of(), "command.keep.ms", "60000", "command.silence.ms", "3600000")) {
      wall.ms -= 3_600_000;
      cloud.gateway("gw-1");
      submit(cloud, "old");
      cloud.connect("gw-1", "s1");
      submit(cloud, "open");
      cloud.net.sessions.clear();
      wall.ms += 600_000;
      cloud.execute("UPDATE command SET final_at_ms = updated_at_ms, status = 'SUCCEEDED' WHERE command_id = 'old'");
      await().until(() -> cloud.rows("SELECT command_id FROM command").equals(List.of("open")));
      assertEquals(List.of("open"), cloud.rows("SELECT command_id FROM command_event"));
    }
  }

  @Test
  void replicasOverOneStoreEachServeTheirOwnConnections() throws Exception {
    String[] settings = {"command.resend.ms", "600000"};
    try (Cloud one = Cloud.start(dir.resolve("one"), settings); Cloud two = one.replica(dir.resolve("two"), settings)) {
      one.connect("gw-1", "s1");
      two.connect("gw-2", "s2");
      List<Event> told = new CopyOnWriteArrayList<>();
      try (AutoCloseable watch = one.desk().watch(new Filter("gw-2", null, null, false), 0, told::add)) {
        // Given at one, for the gateway of the other, and the other way round; in a store that both write to.
        List<CompletableFuture<Accepted>> all = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
          for (Cloud cloud : List.of(one, two)) {
            for (String gateway : List.of("gw-1", "gw-2")) {
              all.add(cloud.desk().submit(new Request(gateway, "lock-1", (cloud == one ? "a" : "b") + i, "unlock", null, null, null, 60_000L, null,
                  "cloud", "anna", null)).toCompletableFuture());
            }
          }
        }
        for (CompletableFuture<Accepted> each : all) {
          each.get();
        }
        await().atMost(40, TimeUnit.SECONDS).until(() -> one.net.sent.size() == 200 && two.net.sent.size() == 200);
        assertEquals(one.rows("SELECT command_id FROM command WHERE gateway_id = 'gw-1' ORDER BY command_id"), one.net.ids().stream().sorted().toList());
        assertEquals(one.rows("SELECT command_id FROM command WHERE gateway_id = 'gw-2' ORDER BY command_id"), two.net.ids().stream().sorted().toList());
        assertEquals("1|1", one.one("SELECT min(transmissions), max(transmissions) FROM command"), "each handed over once");

        // The same id again at the other replica is the same command.
        assertTrue(two.desk().submit(new Request("gw-1", "lock-1", "a0", "unlock", null, null, null, 60_000L, null, "cloud", "anna", null))
            .toCompletableFuture().get().known());

        // Events come in at two, both consumers run; the stream at one tells them.
        for (int r = 1; r <= 5; r++) {
          two.inbox("gw-2", "command", "lock-1", Cloud.event("a7", r, LIFE.split(" ")[r - 1], ""));
          one.inbox("gw-2", "command", "lock-1", Cloud.event("b7", r, LIFE.split(" ")[r - 1], ""));
        }
        await().until(() -> told.stream().filter(e -> e.status().equals("SUCCEEDED")).count() == 2);
        for (String id : List.of("a7", "b7")) {
          assertEquals("ACCEPTED " + LIFE, String.join(" ", told.stream().filter(e -> e.commandId().equals(id)).map(Event::status).toList()));
        }
        List<Long> ids = told.stream().map(Event::id).toList();
        assertEquals(ids.stream().sorted().distinct().toList(), ids);
      }

      // The gateway moves: what it has not spoken of goes to its new connection, by the other replica.
      one.net.sessions.clear();
      two.net.sent.clear();
      two.connect("gw-1", "s3");
      await().until(() -> two.net.sent.size() == 200);
      assertTrue(two.net.sent.stream().allMatch(c -> c.get("ttl_ms").asLong() > 0));
    }
  }

  @Test
  void whatTheStoreHadIsServedAfterACrash() throws Exception {
    try (Cloud cloud = Cloud.start(dir)) {
      cloud.connect("gw-1", "s1");
      submit(cloud, "c1");
      await().until(() -> cloud.net.sent.size() == 1);
      cloud.net.sessions.clear();
      submit(cloud, "c2");
      // Events are in, and the consumer was not: as if the process had ended between the two transactions.
      cloud.execute("UPDATE sink SET state = 'paused' WHERE name = 'command'");
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c1", 1, "ACCEPTED", ""));
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c1", 2, "REJECTED", ",\"reason\":\"no_capability\",\"detail\":\"x\""));
    }
    try (Cloud cloud = Cloud.start(dir)) {
      assertEquals("2", cloud.one("SELECT count(*) FROM inbox"), "not deleted before every consumer has it");
      cloud.execute("UPDATE sink SET state = 'running' WHERE name = 'command'");
      await().until(() -> status(cloud, "c1").equals("REJECTED no_capability"));
      applied(cloud);
      cloud.connect("gw-1", "s9");
      assertEquals(List.of("c2"), cloud.net.ids());
      assertEquals("1", cloud.one("SELECT count(*) FROM command_event WHERE command_id = 'c1' AND status = 'REJECTED'"));
    }
  }
}
