// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/**
 * A fleet comes back at once, each gateway with a backlog and live rows, to a cloud with the memory it has by default (256 MB): every row is stored once, live
 * rows are not behind the backlogs of others, and what the cloud takes at a time is bounded. {@code -Dfleet.gateways=2000} for more.
 */
class ReconnectIT {
  private static final int GATEWAYS = Integer.getInteger("fleet.gateways", 500);
  private static final int BACKLOG = 300;
  private static final int WINDOW = 2_000;
  private static final Duration DONE = Duration.ofMinutes(10);

  @Test
  void fleetComesBackAtOnceAndLiveRowsAreNotBehindItsBacklogs() throws Exception {
    try (Pair pair = new Pair("reconnect")) {
      Path gateways = pair.folder.resolve("fleet");
      assertEquals(0, Bench.start(pair.folder.resolve("write.log"), "fleet", "--gateways", GATEWAYS, "--prefix", "credited-", "--write-gateways", gateways).awaitExit(DONE));
      Path others = pair.folder.resolve("others");
      assertEquals(0, Bench.start(pair.folder.resolve("write.log"), "fleet", "--gateways", GATEWAYS, "--prefix", "free-", "--write-gateways", others).awaitExit(DONE));
      Files.writeString(gateways, Files.readString(gateways) + Files.readString(others));
      pair.cloud.with("uplink.gateways.file", gateways).with("uplink.backlog.rows", WINDOW).with("uplink.backlog.gateway.rows", BACKLOG)
          .with("uplink.sessions.max", 2 * GATEWAYS).start().awaitReady();

      JsonNode credited = fleet(pair, "credited", true);
      assertEquals(GATEWAYS, credited.path("most_connected").asInt());
      assertTrue(credited.path("credited").asLong() >= (long) GATEWAYS * BACKLOG, credited.toString());
      assertTrue(credited.path("most_credit").asLong() <= WINDOW, credited.toString());
      assertTrue(credited.path("most_sessions").asLong() <= GATEWAYS, credited.toString());

      // Control: the same fleet as older gateways, which send backlogs as they can: far more of them pass a live batch.
      JsonNode free = fleet(pair, "free", false);
      assertEquals(0, free.path("credited").asLong());
      assertTrue(credited.path("passed_max_rows").asLong() * 2 < free.path("passed_max_rows").asLong(),
          "rows that passed a live batch: " + credited.path("passed_max_rows") + " with credit, " + free.path("passed_max_rows") + " without");
      assertTrue(pair.cloud.running(), "the cloud had not memory enough");
      assertEquals(List.of(), pair.cloud.console().lines().filter(l -> l.contains("OutOfMemory")).toList());
    }
  }

  /** Exit 1 of the fleet: a row was lost, doubled, altered or never acked. */
  private static JsonNode fleet(Pair pair, String prefix, boolean credit) throws Exception {
    Path log = pair.folder.resolve(prefix + ".log");
    List<Object> arguments = new ArrayList<>(List.of("fleet", "--url", "wss://localhost:" + pair.uplinkPort, "--ca", pair.folder.resolve("certs/ca.crt"),
        "--gateways", GATEWAYS, "--prefix", prefix + "-", "--backlog", BACKLOG, "--rate", 1, "--seconds", "8s", "--cuts", 20, "--reconnect-max", "4s", "--drain", "5m",
        "--store", "jdbc:sqlite:" + pair.cloudDb, "--metrics", pair.cloud.uri("/metrics")));
    if (!credit) {
      arguments.add("--no-credit");
    }
    try (Child child = Bench.start(log, arguments.toArray())) {
      int exit = child.awaitExit(DONE);
      assertEquals(0, exit, () -> child.output());
    }
    return new ObjectMapper().readTree(Files.readAllLines(log).stream().filter(l -> l.startsWith("{")).reduce((a, b) -> b).orElseThrow());
  }
}
