// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.bench.Oracle;
import io.caravan.bench.Verdict;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/**
 * Another version takes the place of a gateway that was killed with a backlog, and is killed itself and rolled back with a backlog of its
 * own, while devices go on sending: what either acknowledged is stored once and in the cloud once.
 */
class UpgradeIT {
  private static final Duration DELIVERY = Duration.ofSeconds(120);

  private final List<Distribution> homes = new ArrayList<>();
  private Path folder;
  private Path link;

  /** Also those that a failed assertion left running: the next run's folders are the same. */
  @AfterEach
  void stop() {
    homes.forEach(Distribution::close);
  }

  @Test
  void backlogSurvivesTheUpgradeAndTheWayBack() throws Exception {
    try (Pair pair = new Pair("upgrade")) {
      folder = pair.folder;
      Path oldHome = folder.resolve("caravan-0.1.0");
      Path newHome = folder.resolve("caravan-" + NextVersion.VERSION);
      NextVersion.make(pair.gateway.home, newHome);
      Files.move(pair.gateway.home, oldHome);
      link = Files.createSymbolicLink(folder.resolve("caravan"), oldHome.getFileName());
      Distribution old = settle(pair, oldHome);
      homes.add(old);
      pair.cloud.start();

      try (Load load = new Load(folder, pair.mqttPort).devices("--interval", "20ms")) {
        old.start().awaitLive();
        old.shell("feature:install caravan-sink-file");
        load.awaitProgress(200);
        assertEquals(5, caravan(newHome, "upgrade", link.toString()).awaitExit(Distribution.START), "while the old one runs");
        old.kill();

        Child refused = caravan(newHome, "upgrade", link.toString(), "--check");
        assertEquals(78, refused.awaitExit(Distribution.START), refused::output);
        assertTrue(refused.output().contains("sink.analytics.historical.rows"), refused::output);
        assertTrue(Files.isDirectory(oldHome.resolve("data")) && !Files.exists(newHome.resolve("data")), "nothing is changed by --check");
        String said = done(newHome, "upgrade", link.toString(), "--drop-unknown");
        for (String part : List.of("sink.mqtt.keepalive.s is called sink.mqtt.keepalive.seconds", "sink.analytics.historical.rows is no key",
            "rollup.camel.yaml is taken over; it overrides a route that this version CHANGED", "own.camel.yaml is taken over: a route of your own",
            "data-policy.json is taken over")) {
          assertTrue(said.contains(part), () -> "not told: " + part + "\n" + said);
        }
        assertEquals(newHome.toRealPath(), link.toRealPath());
        assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(newHome.resolve("etc/uplink.token"))));
        long version = Store.number(newHome.resolve("data/caravan/gateway.db"), "PRAGMA user_version");

        uplink(newHome, true);
        Distribution next = old.in(newHome);
        homes.add(next);
        next.start().awaitLive();
        assertEquals(version + 1, Store.number(newHome.resolve("data/caravan/gateway.db"), "PRAGMA user_version"));
        pair.cloud.awaitReady();
        await("sink file, installed before").atMost(DELIVERY).until(() -> next.shell("sink:list").contains("file"));
        next.awaitReady();
        assertEquals(200, next.status("/own"), "the route of its own: ready means that deploy/ was taken, too");
        judgeWhile(pair, newHome, "after the upgrade");

        // Cloud away again; what is acknowledged from here on is in the new version's store only.
        uplink(newHome, false);
        // The gauge goes with the route: 0 is seen for a moment only, or never.
        await("no uplink").atMost(DELIVERY).until(() -> next.get("/metrics").body().contains("caravan_ingest") && !next.get("/metrics").body().contains("caravan_uplink_connected 1"));
        load.awaitProgress(200);
        next.kill();
        done(newHome, "rollback");
        assertEquals(oldHome.toRealPath(), link.toRealPath());

        uplink(oldHome, true);
        Distribution again = old.start().awaitLive();
        assertEquals(version, Store.number(oldHome.resolve("data/caravan/gateway.db"), "PRAGMA user_version"));
        load.awaitProgress(50);
        await("sink file, installed before").atMost(DELIVERY).until(() -> again.shell("sink:list").contains("file"));
        Verdict verdict = load.finish().evidence(Oracle.of(oldHome.resolve("data/caravan/gateway.db"), pair.cloudDb)).waiting(DELIVERY).judge();
        assertTrue(verdict.ok(), verdict::toString);

        // Control: the way back is what the old version needs; without it in the store it must refuse, and say so.
        assertEquals(0, again.stop());
        Path db = oldHome.resolve("data/caravan/gateway.db");
        try (var c = java.sql.DriverManager.getConnection("jdbc:sqlite:" + db); var s = c.createStatement()) {
          s.execute("PRAGMA user_version = " + (version + 1));
        }
        again.start().awaitLive();
        await("refusal").atMost(DELIVERY).until(() -> again.get("/readyz").body().contains("there is no way back from version " + (version + 1)));
      }
    }
  }

  /** Nothing that was sent so far may be missing in the cloud while devices go on: rows of the log as of now are delivered. */
  private static void judgeWhile(Pair pair, Path home, String when) throws Exception {
    long end = Store.number(home.resolve("data/caravan/gateway.db"), "SELECT max(seq) FROM outbox");
    assertTrue(end > 0, when);
    await("everything until " + end + " in the cloud, " + when).atMost(DELIVERY)
        .until(() -> Store.number(home.resolve("data/caravan/gateway.db"), "SELECT min(acked_seq) FROM sink_range WHERE sink = 'uplink'") >= end);
  }

  private Distribution settle(Pair pair, Path home) throws IOException {
    Distribution old = pair.gateway.in(home).without("wal.path").without("uplink.token.file");
    Files.copy(folder.resolve("gateway.token"), home.resolve("etc/uplink.token"));
    Files.setPosixFilePermissions(home.resolve("etc/uplink.token"), PosixFilePermissions.fromString("rw-------"));
    uplink(home, false);
    add(home.resolve("etc/io.caravan.sink.mqtt.cfg"), "sink.mqtt.keepalive.s = 31\n");
    add(home.resolve("etc/io.caravan.sink.analytics.cfg"), "sink.analytics.historical.rows = 7\n");
    add(home.resolve("etc/data-policy.json"), "\n");
    Files.copy(Distribution.REPO.resolve("routes/gateway/rollup.camel.yaml"), home.resolve("deploy/rollup.camel.yaml"));
    Files.writeString(home.resolve("deploy/own.camel.yaml"), """
        - route:
            id: own
            from:
              uri: platform-http:/own
              steps:
                - setBody:
                    constant: mine
        """);
    return old;
  }

  private static void uplink(Path home, boolean enabled) throws IOException {
    Path file = home.resolve("etc/io.caravan.uplink.cfg");
    String text = Files.readString(file).replaceAll("(?m)^uplink\\.enabled = .*\\n", "");
    Path beside = Files.writeString(file.resolveSibling("uplink.tmp"), text + "uplink.enabled = " + enabled + "\n");
    Files.move(beside, file, java.nio.file.StandardCopyOption.ATOMIC_MOVE, java.nio.file.StandardCopyOption.REPLACE_EXISTING);
  }

  private static void add(Path file, String text) throws IOException {
    Files.writeString(file, Files.readString(file) + text);
  }

  private String done(Path home, String... arguments) {
    Child child = caravan(home, arguments);
    assertEquals(0, child.awaitExit(Distribution.START), child::output);
    assertFalse(child.output().contains("Exception"), child::output);
    return child.output();
  }

  private Child caravan(Path home, String... arguments) {
    List<String> command = new ArrayList<>(List.of(home.resolve("bin/caravan").toString()));
    command.addAll(List.of(arguments));
    return Child.start("caravan", command, Map.of(), folder, folder.resolve("caravan-" + System.nanoTime() + ".log"));
  }
}
