// SPDX-License-Identifier: Apache-2.0
package io.caravan.api;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.api.ApiBox.Kind;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The live stream of values, events and gateways, with clients that read, that do not, and that come back. */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class LiveStreamTest {
  @TempDir
  Path dir;

  private record Told(String event, JsonNode data) {}

  /** Reads as a browser does: a block without data changes the last id and is no event. */
  private static final class Client implements AutoCloseable {
    final HttpResponse<InputStream> response;
    private final BufferedReader lines;
    private final Map<String, Deque<JsonNode>> kept = new HashMap<>();
    String lastId;
    int comments;
    int ids;

    Client(ApiBox box, String query, String... headers) throws Exception {
      HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + box.caravan.httpPort() + "/api/v1/stream" + query));
      if (headers.length > 0) {
        request.headers(headers);
      }
      response = ApiBox.HTTP.send(request.build(), HttpResponse.BodyHandlers.ofInputStream());
      assertEquals(200, response.statusCode());
      assertEquals("text/event-stream", response.headers().firstValue("Content-Type").orElseThrow());
      lines = new BufferedReader(new InputStreamReader(response.body(), StandardCharsets.UTF_8));
    }

    /** @return null: the stream has ended */
    Told next() throws IOException {
      String event = null;
      String data = null;
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        if (line.startsWith(":")) {
          comments++;
        } else if (line.startsWith("id: ")) {
          lastId = line.substring(4);
          ids++;
        } else if (line.startsWith("event: ")) {
          event = line.substring(7);
        } else if (line.startsWith("data: ")) {
          data = line.substring(6);
        } else if (line.isEmpty() && data != null) {
          return new Told(event, ApiBox.JSON.readTree(data));
        }
      }
      return null;
    }

    /** The next of that kind; others are kept for who asks for them. */
    JsonNode next(String event) throws IOException {
      while (kept.computeIfAbsent(event, e -> new ArrayDeque<>()).isEmpty()) {
        Told told = next();
        if (told == null) {
          return null;
        }
        kept.computeIfAbsent(told.event(), e -> new ArrayDeque<>()).add(told.data());
      }
      return kept.get(event).poll();
    }

    /** Until a value of that metric is that. */
    void value(String metric, double value) throws IOException {
      while (true) {
        for (JsonNode each : next("last")) {
          assertEquals("[gateway_id, device_id, metric, value, observed_at_ms]", names(each));
          if (each.get("metric").asText().equals(metric) && each.get("value").asDouble() == value) {
            return;
          }
        }
      }
    }

    private static String names(JsonNode object) {
      List<String> names = new ArrayList<>();
      object.fieldNames().forEachRemaining(names::add);
      return names.toString();
    }

    /** Keys of the next events, each a different one. */
    List<String> names(int count) throws IOException {
      List<String> names = new ArrayList<>();
      for (int i = 0; i < count; i++) {
        names.add(next("event").get("event").asText());
      }
      return names;
    }

    /** Reads on until an id was told. */
    String id() throws IOException {
      String before = lastId;
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        if (line.startsWith("id: ") && !line.substring(4).equals(before)) {
          lastId = line.substring(4);
          return lastId;
        }
      }
      return null;
    }

    @Override
    public void close() throws IOException {
      response.body().close();
    }
  }

  private static ApiBox box(Kind kind, Path dir, String... settings) throws Exception {
    ApiBox box = ApiBox.start(kind, dir.resolve(kind.name()), settings);
    box.gateway("gw-1", "default", true);
    box.gateway("gw-2", "north", true);
    box.device("gw-1", "a");
    box.device("gw-1", "b");
    box.device("gw-2", "c");
    return box;
  }

  private static void event(ApiBox box, String gateway, String device, String name) throws Exception {
    box.message(gateway, device, name, "event", 1000, "{\"event\":\"" + name + "\"}");
  }

  private static double metric(ApiBox box, String name) {
    return box.caravan.metrics().lines().filter(l -> l.startsWith(name)).mapToDouble(l -> Double.parseDouble(l.substring(l.lastIndexOf(' ')))).sum();
  }

  @ParameterizedTest
  @EnumSource
  void whatIsNewIsToldOnceAndAfterABreakWhatWasMissed(Kind kind) throws Exception {
    try (ApiBox box = box(kind, dir)) {
      box.last("gw-1", "a", "t", 1, 1000);
      event(box, "gw-1", "a", "old");
      String id;
      try (Client all = new Client(box, ""); Client north = new Client(box, "?site=north"); Client one = new Client(box, "?gateway_id=gw-1&device_id=b")) {
        box.last("gw-1", "a", "t", 2, 2000);
        event(box, "gw-1", "a", "first");
        all.value("t", 2);
        JsonNode event = all.next("event");
        assertEquals("first", event.get("event").asText());
        assertEquals("info", event.get("severity").asText());
        event(box, "gw-2", "c", "second");
        event(box, "gw-1", "b", "third");
        assertEquals(List.of("second", "third"), all.names(2));
        assertEquals(List.of("second"), north.names(1), "the first one it is told");
        assertEquals(List.of("third"), one.names(1));
        box.execute("UPDATE gateway SET replica_id = 'dead' WHERE gateway_id = 'gw-2'");
        JsonNode gone = all.next("gateway");
        assertEquals("gw-2", gone.get("gateway_id").asText());
        assertEquals(false, gone.get("connected").asBoolean());
        assertEquals("gw-2", north.next("gateway").get("gateway_id").asText());
        box.last("gw-1", "b", "t", 3, 3000);
        one.value("t", 3);
        all.value("t", 3);
        id = all.id();
      }
      await().until(() -> metric(box, "caravan_api_streams") == 0);
      box.last("gw-1", "a", "t", 4, 4000);
      box.last("gw-1", "a", "t", 5, 5000);
      List<String> missed = IntStream.range(0, 40).mapToObj(i -> "missed" + i).toList();
      for (String name : missed) {
        event(box, "gw-1", "a", name);
      }
      box.execute("UPDATE gateway SET replica_id = 'lives' WHERE gateway_id = 'gw-2'");
      try (Client again = new Client(box, "", "Last-Event-ID", id)) {
        List<String> names = new ArrayList<>();
        Set<String> gateways = new TreeSet<>();
        double value = 0;
        while (!names.contains("missed39") || gateways.size() < 2 || value < 5) {
          Told told = again.next();
          switch (told.event()) {
            case "event" -> names.add(told.data().get("event").asText());
            case "gateway" -> gateways.add(told.data().get("gateway_id").asText() + told.data().get("connected"));
            default -> value = Math.max(value, told.data().findValues("value").stream().mapToDouble(JsonNode::asDouble).max().orElse(0));
          }
        }
        assertEquals(missed, names.subList(names.size() - 40, names.size()), "all, in order");
        assertTrue(kind == Kind.POSTGRESQL || names.size() == 40, names::toString);
        assertTrue(names.stream().distinct().count() == names.size() && !names.contains("old"), names::toString);
        assertEquals(Set.of("gw-1true", "gw-2true"), gateways);
      }
      assertEquals(400, box.get("/api/v1/stream", "Last-Event-ID", "4711").statusCode());
    }
  }

  /** Two connections that write: what is committed later has the smaller id and the earlier time. */
  @Test
  void whatBecomesVisibleLaterIsToldToo() throws Exception {
    try (ApiBox box = box(Kind.POSTGRESQL, dir); Client client = new Client(box, ""); Connection slow = box.writer().getConnection()) {
      String id;
      slow.setAutoCommit(false);
      box.message(slow, "gw-1", "a", "slow", "event", 1000, "{\"event\":\"slow\"}");
      box.last(slow, "gw-1", "a", "t", 1, 1000);
      event(box, "gw-2", "c", "fast");
      box.last("gw-2", "c", "t", 2, 2000);
      assertEquals(List.of("fast"), client.names(1));
      client.value("t", 2);
      try (Client broken = new Client(box, "")) {
        event(box, "gw-2", "c", "faster");
        assertEquals(List.of("faster"), broken.names(1));
        box.last("gw-2", "c", "t", 3, 3000);
        broken.value("t", 3);
        id = broken.lastId;
      }
      slow.commit();
      slow.setAutoCommit(true);
      assertEquals(List.of("faster", "slow"), client.names(2));
      client.value("t", 1);
      try (Client again = new Client(box, "", "Last-Event-ID", id)) {
        List<String> names = new ArrayList<>();
        boolean value = false;
        while (!names.contains("slow") || !value) {
          Told told = again.next();
          if (told.event().equals("event")) {
            names.add(told.data().get("event").asText());
          } else if (told.event().equals("last")) {
            value |= told.data().findValues("value").stream().anyMatch(v -> v.asDouble() == 1);
          }
        }
        assertEquals(names.stream().distinct().toList(), names);
      }
      // Later none of them comes again.
      event(box, "gw-1", "b", "end");
      assertEquals(List.of("end"), client.names(1));
    }
  }

  @ParameterizedTest
  @EnumSource
  void manyLargeEventsAreToldInPieces(Kind kind) throws Exception {
    try (ApiBox box = box(kind, dir); Client client = new Client(box, "")) {
      event(box, "gw-1", "a", "begin");
      assertEquals(List.of("begin"), client.names(1));
      int before = client.ids;
      String filler = "x".repeat(60_000);
      List<String> expected = IntStream.range(0, 200).mapToObj(i -> "e" + i).toList();
      try (Connection c = box.writer().getConnection()) {
        c.setAutoCommit(false);
        for (String name : expected) {
          box.message(c, "gw-1", "a", name, "event", 1000, "{\"event\":\"" + name + "\",\"data\":\"" + filler + "\"}");
        }
        c.commit();
        c.setAutoCommit(true);
      }
      assertEquals(expected, client.names(200));
      // 12 MB; of the first and of the last piece the mark may be missing.
      assertTrue(client.ids - before >= 2, client.ids - before + " pieces");
    }
  }

  /** One event cannot be read: who has it before them waits, all others do not, and nobody loses anything. */
  @Test
  void whatCannotBeReadForOneHoldsUpNobodyAndIsToldLater() throws Exception {
    try (ApiBox box = box(Kind.SQLITE, dir)) {
      event(box, "gw-1", "a", "begin");
      String id;
      try (Client before = new Client(box, "")) {
        event(box, "gw-1", "a", "known");
        assertEquals(List.of("known"), before.names(1));
        id = before.id();
      }
      await().until(() -> metric(box, "caravan_api_streams") == 0);
      event(box, "gw-1", "a", "broken");
      box.execute("UPDATE message SET body = '{' WHERE message_key = 'broken'");
      List<Client> others = new ArrayList<>();
      try {
        others.add(new Client(box, ""));
        try (Client again = new Client(box, "", "Last-Event-ID", id)) {
          // In which order they are told is chance.
          for (int i = 0; i < 8; i++) {
            others.add(new Client(box, ""));
          }
          event(box, "gw-1", "a", "next");
          box.last("gw-1", "b", "t", 1, 1000);
          for (Client other : others) {
            assertEquals(List.of("next"), other.names(1));
            other.value("t", 1);
          }
          box.execute("UPDATE message SET body = '{\"event\":\"mended\"}' WHERE message_key = 'broken'");
          assertEquals(List.of("mended", "next"), again.names(2));
          again.value("t", 1);
          assertEquals(Set.of("gw-1", "gw-2"), Set.of(again.next("gateway").get("gateway_id").asText(), again.next("gateway").get("gateway_id").asText()));
        }
      } finally {
        for (Client other : others) {
          other.close();
        }
      }
    }
  }

  /** The common reader had the values already when the rest of its round failed. */
  @Test
  void whatWasReadInARoundThatFailedIsTold() throws Exception {
    try (ApiBox box = box(Kind.POSTGRESQL, dir); Client client = new Client(box, ""); Connection hold = box.writer().getConnection()) {
      event(box, "gw-1", "a", "first");
      assertEquals(List.of("first"), client.names(1));
      hold.setAutoCommit(false);
      box.execute(hold, "LOCK TABLE gateway_site IN ACCESS EXCLUSIVE MODE");
      String empty = waits(box, "");
      box.last("gw-1", "a", "t", 1, 1000);
      cancel(box, empty);
      cancel(box, waits(box, empty));
      hold.rollback();
      hold.setAutoCommit(true);
      client.value("t", 1);
    }
  }

  /** @return which query of the stream waits for the lock, another one than that */
  private static String waits(ApiBox box, String other) throws Exception {
    String sql = "SELECT pid || ' ' || query_start FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%gateway_site%'"
        + " AND datname = current_database()";
    return await().until(() -> box.rows(sql).stream().filter(each -> !each.equals(other)).findFirst(), Optional::isPresent).orElseThrow();
  }

  private static void cancel(ApiBox box, String query) throws Exception {
    box.execute("SELECT pg_cancel_backend(?)", Integer.valueOf(query.substring(0, query.indexOf(' '))));
  }

  @Test
  void aStreamHasHeartbeatsAnEndANumberAndMayBeTakenAway() throws Exception {
    try (ApiBox box = box(Kind.SQLITE, dir, "api.stream.max", "1", "api.stream.max.ms", "3000", "api.stream.heartbeat.ms", "100")) {
      try (Client client = new Client(box, "")) {
        assertEquals("unavailable", box.problem(503, "/api/v1/stream").get("error").asText());
        assertNull(client.next(), "it ends");
        assertTrue(client.comments > 1, client.comments + " comments");
      }
      await().until(() -> metric(box, "caravan_api_streams") == 0);
      box.gate.hidden = List.of("gw-1");
      try (Client client = new Client(box, "")) {
        event(box, "gw-1", "a", "hidden");
        event(box, "gw-2", "c", "seen");
        assertEquals(List.of("seen"), client.names(1));
        box.gate.valid = false;
        assertNull(client.next());
      }
    }
  }

  @Test
  void whoDoesNotReadHoldsUpNobodyAndGetsTheNewestWhenItDoes() throws Exception {
    try (ApiBox box = box(Kind.SQLITE, dir); Socket silent = new Socket(); Client reader = new Client(box, "")) {
      silent.setReceiveBufferSize(4096);
      silent.connect(new InetSocketAddress("127.0.0.1", box.caravan.httpPort()));
      silent.getOutputStream().write("GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
      await().until(() -> metric(box, "caravan_api_streams") == 2);
      String filler = "x".repeat(4000);
      int rounds = 100;
      for (int i = 0; i < rounds; i++) {
        try (Connection c = box.writer().getConnection()) {
          c.setAutoCommit(false);
          for (int e = 0; e < 20; e++) {
            box.message(c, "gw-1", "a", i + "-" + e, "event", 1000, "{\"event\":\"" + i + "-" + e + "\",\"data\":\"" + filler + "\"}");
          }
          box.last(c, "gw-1", "a", "t", i, i);
          c.commit();
          c.setAutoCommit(true);
        }
      }
      List<String> expected = IntStream.range(0, rounds * 20).mapToObj(n -> n / 20 + "-" + n % 20).toList();
      assertEquals(expected, reader.names(rounds * 20));
      // 8 MB were waiting for it; all events come, and of the values those there are by then.
      BufferedReader lines = new BufferedReader(new InputStreamReader(silent.getInputStream(), StandardCharsets.UTF_8));
      List<String> names = new ArrayList<>();
      List<Double> values = new ArrayList<>();
      while (names.size() < rounds * 20 || values.isEmpty() || values.get(values.size() - 1) < rounds - 1) {
        String line = lines.readLine();
        if (line.startsWith("data: [")) {
          values.add(ApiBox.JSON.readTree(line.substring(6)).get(0).get("value").asDouble());
        } else if (line.startsWith("data: {")) {
          names.add(ApiBox.JSON.readTree(line.substring(6)).get("event").asText());
        }
      }
      assertEquals(expected, names);
      assertTrue(values.size() < rounds / 2, values.size() + " values of " + rounds);
    }
  }
}
