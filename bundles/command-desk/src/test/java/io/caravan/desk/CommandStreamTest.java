// SPDX-License-Identifier: Apache-2.0
package io.caravan.desk;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.desk.CommandDesk.Request;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The live stream, with clients that read, that do not, and that are gone. */
@Timeout(120)
class CommandStreamTest {
  private static final String STREAM = "/api/v1/commands/stream";

  @TempDir
  Path dir;

  /** Reads events line by line, as a browser does. */
  private static final class Client implements AutoCloseable {
    final HttpResponse<InputStream> response;
    private final BufferedReader lines;
    int comments;

    Client(Cloud cloud, String query, String... headers) throws Exception {
      response = Cloud.HTTP.send(cloud.request("GET", STREAM + query, null, headers), HttpResponse.BodyHandlers.ofInputStream());
      assertEquals(200, response.statusCode());
      assertEquals("text/event-stream", response.headers().firstValue("Content-Type").orElseThrow());
      lines = new BufferedReader(new InputStreamReader(response.body(), StandardCharsets.UTF_8));
    }

    /** @return null: the stream has ended */
    JsonNode next() throws IOException {
      String id = null;
      String data = null;
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        if (line.startsWith(":")) {
          comments++;
        } else if (line.startsWith("id: ")) {
          id = line.substring(4);
        } else if (line.startsWith("data: ")) {
          data = line.substring(6);
        } else if (line.isEmpty() && data != null) {
          JsonNode event = Cloud.JSON.readTree(data);
          assertEquals(id, event.get("id").asText());
          return event;
        }
      }
      return null;
    }

    List<Long> ids(int count) throws IOException {
      List<Long> ids = new ArrayList<>();
      for (int i = 0; i < count; i++) {
        ids.add(next().get("id").asLong());
      }
      return ids;
    }

    @Override
    public void close() throws IOException {
      response.body().close();
    }
  }

  private static void submit(Cloud cloud, String device, int count) throws Exception {
    for (int i = 0; i < count; i++) {
      cloud.desk().submit(new Request("gw-1", device, null, "unlock", null, null, null, 600_000L, null, "cloud", "anna", null))
          .toCompletableFuture().get();
    }
  }

  private static double metric(Cloud cloud, String name) {
    return cloud.caravan.metrics().lines().filter(l -> l.startsWith(name)).mapToDouble(l -> Double.parseDouble(l.substring(l.lastIndexOf(' ')))).sum();
  }

  @Test
  void everyEventOnceAndInOrderAlsoAfterABreak() throws Exception {
    try (Cloud cloud = Cloud.start(dir).gateway("gw-1")) {
      submit(cloud, "lock-1", 3);
      long last;
      try (Client client = new Client(cloud, "?gateway_id=gw-1&after=1")) {
        assertEquals(List.of(2L, 3L), client.ids(2));
        submit(cloud, "lock-1", 4);
        assertEquals(List.of(4L, 5L, 6L), client.ids(3));
        last = 6;
      }
      await().until(() -> metric(cloud, "caravan_command_streams") == 0);
      submit(cloud, "lock-2", 500);
      try (Client again = new Client(cloud, "?gateway_id=gw-1&after=1", "Last-Event-ID", String.valueOf(last));
          Client filtered = new Client(cloud, "?device_id=lock-1&after=0"); Client fresh = new Client(cloud, "")) {
        assertEquals(LongStream.rangeClosed(7, 507).boxed().toList(), again.ids(501), "the header counts, it is the newer one");
        assertEquals(LongStream.rangeClosed(1, 7).boxed().toList(), filtered.ids(7));
        // Only what comes from now on; it was open before.
        cloud.inbox("gw-1", "command", "lock-1", Cloud.event("elsewhere", 1, "ACCEPTED", ",\"name\":\"unlock\",\"origin\":\"mqtt\",\"issued_by\":\"mqtt:c\""));
        JsonNode event = fresh.next();
        assertEquals("elsewhere", event.get("command_id").asText());
        assertEquals("gateway", event.get("source").asText());
        assertEquals(1, event.get("revision").asInt());
        assertEquals("elsewhere", filtered.next().get("command_id").asText());
        assertEquals("elsewhere", again.next().get("command_id").asText());
      }
    }
  }

  /** 40 events of 250,000 characters: more than is read, or kept, at once; and one that is too long is none. */
  @Test
  void longResultsAreToldInPieces() throws Exception {
    try (Cloud cloud = Cloud.start(dir).gateway("gw-1"); Client live = new Client(cloud, "")) {
      String result = ",\"result\":{\"a\":\"" + "x".repeat(250_000) + "\"}";
      for (int i = 1; i <= 40; i++) {
        cloud.inbox("gw-1", "command", "lock-1", Cloud.event("c" + i, 1, "ACCEPTED", ",\"name\":\"unlock\",\"origin\":\"mqtt\",\"issued_by\":\"mqtt:c\"" + result));
      }
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("long", 1, "ACCEPTED", ",\"name\":\"unlock\"" + result + result.replace("result", "detail")));
      cloud.inbox("gw-1", "command", "lock-1", Cloud.event("after", 1, "ACCEPTED", ",\"name\":\"unlock\",\"origin\":\"mqtt\",\"issued_by\":\"mqtt:c\""));
      List<Long> all = live.ids(41);
      assertEquals(all.stream().sorted().distinct().toList(), all);
      try (Client behind = new Client(cloud, "?after=0")) {
        assertEquals(all, behind.ids(41));
      }
      assertEquals(List.of("1"), cloud.rows("SELECT dead FROM sink WHERE name = 'command'"));
      assertEquals(List.of("0"), cloud.rows("SELECT count(*) FROM command WHERE command_id = 'long'"));
    }
  }

  @Test
  void aStreamHasHeartbeatsAnEndAndANumber() throws Exception {
    try (Cloud cloud = Cloud.start(dir, "command.stream.max", "1", "command.stream.max.ms", "1500", "command.stream.heartbeat.ms", "100")) {
      try (Client client = new Client(cloud, "")) {
        HttpResponse<String> refused = cloud.send("GET", STREAM, null);
        assertEquals(503, refused.statusCode());
        assertTrue(refused.headers().firstValue("Retry-After").isPresent());
        assertEquals(null, client.next(), "it ends");
        assertTrue(client.comments > 3, client.comments + " comments");
      }
      await().until(() -> metric(cloud, "caravan_command_streams") == 0);
      new Client(cloud, "").close();
    }
  }

  @Test
  void whoDoesNotReadIsCutAndHoldsUpNobody() throws Exception {
    try (Cloud cloud = Cloud.start(dir, "http.request.timeout.ms", "1500", "command.open.max", "100000", "command.stream.heartbeat.ms", "100")) {
      cloud.gateway("gw-1");
      String detail = "x".repeat(400);
      int count = 30_000;
      cloud.execute("INSERT INTO command_event (gateway_id, command_id, device_id, status, detail, at_ms)"
          + " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " + count + ") SELECT 'gw-1', 'c' || i, 'lock-1', 'ACCEPTED', '" + detail
          + "', 1 FROM n");
      try (Socket silent = new Socket(); Client reader = new Client(cloud, "?after=0")) {
        silent.setReceiveBufferSize(4096);
        silent.connect(new InetSocketAddress("127.0.0.1", cloud.caravan.httpPort()));
        silent.getOutputStream().write(("GET " + STREAM + "?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").getBytes(StandardCharsets.US_ASCII));
        assertEquals(LongStream.rangeClosed(1, count).boxed().toList(), reader.ids(count), "the other one gets all, in order");
        await().until(() -> metric(cloud, "caravan_http_refused_total{reason=\"slow_reader\"}") == 1);
        await().until(() -> metric(cloud, "caravan_command_streams") == 1);
        // It was not the time that cut it: the other one is still served.
        submit(cloud, "lock-1", 1);
        assertEquals(count + 1, reader.next().get("id").asLong());
      }
    }
  }

  @Test
  void whoIsGoneIsForgotten() throws Exception {
    try (Cloud cloud = Cloud.start(dir, "command.stream.heartbeat.ms", "100")) {
      Socket client = new Socket("127.0.0.1", cloud.caravan.httpPort());
      client.getOutputStream().write(("GET " + STREAM + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").getBytes(StandardCharsets.US_ASCII));
      await().until(() -> metric(cloud, "caravan_command_streams") == 1);
      client.setSoLinger(true, 0);
      client.close();
      await().until(() -> metric(cloud, "caravan_command_streams") == 0);
      await().until(() -> metric(cloud, "caravan_http_connections") <= 1);
    }
  }
}
