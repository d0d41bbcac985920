// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.bench.Oracle;
import io.caravan.bench.Verdict;
import io.caravan.bench.Verdict.Fault;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/**
 * SIGKILL under load, restart on the same data, and at the end the oracle's question: is what was promised stored once, and
 * in the cloud once? {@code -Dcrash.rounds=50} kills longer, {@code -Dseed=} repeats the moments of a run.
 */
class CrashIT {
  @RegisterExtension
  static final KeptEvidence KEPT = new KeptEvidence("crash-");

  private static final int ROUNDS = Integer.getInteger("crash.rounds", 3);
  private static final long SEED = Long.getLong("seed", System.nanoTime());
  /** A control that has not failed after so many kills would not notice either when the promise is broken by mistake. */
  private static final int CONTROL_KILLS = 20;
  private static final Duration PROGRESS = Duration.ofSeconds(90);
  private static final Duration DRAIN = Duration.ofSeconds(90);

  private final Random random = new Random(SEED);

  @Test
  void killedGatewayKeepsWhatItAcknowledged() throws Exception {
    Pair made = new Pair("crash-gateway");
    largeGroups(made.gateway);
    try (Pair pair = made.start(); Load load = new Load(pair.folder, pair.mqttPort).devices().flood()) {
      for (int round = 1; round <= ROUNDS; round++) {
        load.awaitProgress(2_000 + random.nextInt(10_000));
        pair.gateway.kill();
        pair.gateway.start().awaitReady();
      }
      judge("gateway", pair, load.finish());
    }
  }

  @Test
  void killedCloudHasEverythingOnceInTheEnd() throws Exception {
    try (Pair pair = new Pair("crash-cloud").start(); Load load = new Load(pair.folder, pair.mqttPort).devices().numbered()) {
      for (int round = 1; round <= ROUNDS; round++) {
        // Windows and events leave the gateway all the time; the moment is that of a frame, its commit or its ack.
        long inCloud = inbox(pair);
        await("progress in the cloud").atMost(PROGRESS).pollInterval(Duration.ofMillis(5)).until(() -> inbox(pair) > inCloud);
        load.awaitProgress(random.nextInt(1_000));
        pair.cloud.kill();
        pair.cloud.start().awaitReady();
      }
      // Both at once, as in a power cut.
      load.awaitProgress(random.nextInt(1_000));
      pair.cloud.kill();
      pair.gateway.kill();
      pair.start();
      judge("cloud", pair, load.finish());
    }
  }

  @Test
  void killedBrokerAndGatewayBehindItKeepWhatWasReceipted() throws Exception {
    try (Pair pair = new Pair("crash-broker").viaBroker(); Mosquitto broker = new Mosquitto(pair.folder.resolve("mosquitto"), pair.brokerPort)) {
      broker.start();
      pair.start();
      // The broker's PUBACK says nothing about disk: a device keeps a message until the gateway's receipt.
      try (Load load = new Load(pair.folder, broker.port).devices("--interval", "15ms", "--require-receipts", "--receipt-timeout", "3s")) {
        for (int round = 1; round <= ROUNDS; round++) {
          awaitStored(pair, 100 + random.nextInt(500));
          broker.kill();
          broker.start();
        }
        // What the broker holds meanwhile is in the gateway's session.
        awaitStored(pair, 100 + random.nextInt(500));
        pair.gateway.kill();
        pair.gateway.start().awaitReady();
        awaitStored(pair, 1);
        judge("broker", pair, load.finish());
      }
    }
  }

  @Test
  void controlAcknowledgedBeforeTheCommitIsFoundLost() throws Exception {
    try (Distribution gateway = Distribution.unpack("gateway", "crash-control-ack")) {
      Path folder = Files.createDirectories(gateway.home.resolve("control"));
      Path db = folder.resolve("gateway.db");
      int port = Ports.free();
      largeGroups(gateway).with("wal.unsafe.ack", "before-commit").with("wal.path", db).with("mqtt.server.port", port)
          .with("uplink.enabled", false).start().awaitReady();
      try (Load load = new Load(folder, port).flood()) {
        long lost = 0;
        int kills = 0;
        while (lost == 0 && kills < CONTROL_KILLS) {
          load.awaitProgress(2_000 + random.nextInt(10_000));
          gateway.kill();
          kills++;
          // Before the devices are there again: what was lost is not sent again, a device keeps nothing that was acknowledged.
          lost = load.evidence(Oracle.of(db, null)).judge().faults(Fault.LOST);
          gateway.start().awaitReady();
        }
        System.out.printf("crash control ack before commit: kills %d, lost %d%n", kills, lost);
        assertTrue(lost > 0, "acknowledged before the commit, killed " + kills + " times, and nothing was found lost: the test is blind");
      }
    }
  }

  @Test
  void controlStoredWithoutDedupeIsFoundDoubled() throws Exception {
    try (Distribution gateway = Distribution.unpack("gateway", "crash-control-dedupe")) {
      Path folder = Files.createDirectories(gateway.home.resolve("control"));
      Path db = folder.resolve("gateway.db");
      int port = Ports.free();
      gateway.with("wal.unsafe.dedupe", "off").with("wal.path", db).with("mqtt.server.port", port).with("uplink.enabled", false)
          .start().awaitReady();
      try (Load load = new Load(folder, port).devices()) {
        await("messages").atMost(PROGRESS).until(() -> Store.number(db, "SELECT count(*) FROM wal") > 300);
        Verdict verdict = load.finish().evidence(Oracle.of(db, null)).judge();
        System.out.printf("crash control no dedupe: doubled %d%n", verdict.faults(Fault.DOUBLED));
        assertTrue(verdict.faults(Fault.DOUBLED) > 0, verdict::toString);
      }
    }
  }

  /** Under such a load a kill is most likely to hit between what belongs together: the control loses at nearly every second one. */
  private static Distribution largeGroups(Distribution gateway) {
    return gateway.with("wal.commit.max", 10_000).with("mqtt.server.inflight.max", 16_000);
  }

  private static void awaitStored(Pair pair, int more) throws Exception {
    String sql = "SELECT coalesce(max(seq), 0) FROM wal";
    long from = Store.number(pair.gatewayDb, sql);
    await("messages that arrive by the broker").atMost(PROGRESS).pollInterval(Duration.ofMillis(5))
        .until(() -> Store.number(pair.gatewayDb, sql) >= from + more);
  }

  private static long inbox(Pair pair) throws Exception {
    return Store.number(pair.cloudDb, "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'inbox'), 0)");
  }

  private static void judge(String victim, Pair pair, Load load) throws Exception {
    Verdict verdict = load.evidence(Oracle.of(pair.gatewayDb, pair.cloudDb)).waiting(DRAIN).judge();
    System.out.printf("crash of %s: kills %d, seed %d%n%s", victim, ROUNDS, SEED, verdict);
    assertTrue(verdict.ok(), () -> "seed " + SEED + "\n" + verdict);
    assertTrue(verdict.count("promised (acked or receipted)") > 200L * ROUNDS, () -> "too little was sent to prove anything\n" + verdict);
    assertEquals(verdict.count("windows expected"), verdict.count("windows in the cloud"));
  }
}
