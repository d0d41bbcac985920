// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.it.Distribution;
import io.caravan.it.KeptEvidence;
import io.caravan.it.Ports;
import io.caravan.torture.Stamped.Ack;
import io.caravan.torture.StoreJudge.Findings;
import io.caravan.torture.WriteLog.Luck;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/**
 * The power fails at many points of what one gateway did under load: of its writes all that were synced are there, and some of
 * the others (see {@link WriteLog}). Opened as a gateway opens it, the store is whole and has whatever a device was promised before
 * that point. Two controls: syncs that mean nothing, and promises that were made a moment too early. {@code -Dpower.cuts=1000}
 * cuts more often, {@code -Dseed=} repeats the choice.
 */
class PowerLossIT {
  @RegisterExtension
  static final KeptEvidence KEPT = new KeptEvidence("power-loss");

  private static final int CUTS = Integer.getInteger("power.cuts", 100);
  private static final long SEED = Long.getLong("seed", System.nanoTime());
  private static final Duration LOAD = Duration.ofSeconds(90);
  private static final int MESSAGES = 6_000 + 20 * CUTS;
  private static final int CONTROL_MESSAGES = 2_000;
  private static final int CONTROL_CUTS = 10;
  /** So much earlier is a promise from before its commit. */
  private static final long EARLY_NS = 50_000_000;

  private final Random random = new Random(SEED);

  @Test
  void whatWasPromisedSurvivesEveryCut() throws Exception {
    Path folder = Distribution.REPO.resolve("test-routes/target/it/power-loss-record");
    Distribution.delete(folder);
    Files.createDirectories(folder);
    Path record = folder.resolve("store.log");
    List<Ack> acks;
    long lies;
    try (Shim shim = new Shim(folder.resolve("shim.page")); Distribution gateway = Distribution.unpack("gateway", "power-loss")) {
      int port = Ports.free();
      Path store = gateway.home.resolve("data/store");
      gateway.with("wal.path", store.resolve("gateway.db")).with("mqtt.server.port", port).with("uplink.enabled", false)
          // What happens in an hour is to happen in seconds.
          .with("wal.checkpoint.bytes", 1 << 20).with("rollup.window.ms", 1_000).with("rollup.grace.ms", 200);
      shim.record(record, true).environment(store, record).forEach(gateway::withEnvironment);
      gateway.start().awaitReady();
      try (Stamped devices = new Stamped(port, 4)) {
        await("messages").atMost(LOAD).until(() -> devices.count() > MESSAGES);
        lies = System.nanoTime();
        shim.lie(true);
        int then = devices.count();
        await("messages on a disk that lies").atMost(LOAD).until(() -> devices.count() > then + CONTROL_MESSAGES);
        gateway.kill();
        acks = devices.acks();
      }
      assertFalse(shim.torn(), "the record is not whole: is the disk full?");
    }

    Path work = folder.resolve("certain");
    try (StoreJudge judge = new StoreJudge()) {
      List<Integer> points;
      long begun = System.nanoTime();
      List<String> wrong = new ArrayList<>();
      long uncertain = 0;
      int early = 0;
      try (WriteLog log = new WriteLog(record, null, work)) {
        int end = (int) IntStream.range(0, log.records()).filter(i -> log.stamp(i) < lies).count();
        points = points(1, end, CUTS);
        for (int point : points) {
          log.advance(point);
          Luck luck = Luck.of(random);
          Path image = folder.resolve("image");
          uncertain += log.image(image, random, luck);
          Findings found = judge.judge(image.resolve("gateway.db"), until(acks, log.stamp()));
          if (!found.ok()) {
            wrong.add("record " + point + " of " + log.records() + ", " + luck + ": " + found.wrong());
            keep(image, folder.resolve("wrong-" + point));
          }
          if (early == 0 && point > end / 2) {
            early += control(log, judge, acks, image, log.stamp() + EARLY_NS);
          }
        }
        System.out.printf("power loss: cuts %d, seed %d, records %d, syncs %d, acks %d, unsynced at the cuts %d, failed %d, ms/cut %d%n", points.size(),
            SEED, log.records(), log.syncs(), acks.size(), uncertain, wrong.size(), (System.nanoTime() - begun) / 1_000_000 / points.size());
        assertTrue(wrong.isEmpty(), () -> "seed " + SEED + ", images are kept in " + folder + "\n" + String.join("\n", wrong));
        assertTrue(log.syncs() > 100 && uncertain > points.size(), "too little was recorded to prove anything");
        assertTrue(early > 0, "promised 50 ms before the commit, and nothing was found lost: the test is blind");

        int lost = 0;
        for (int point : points(end, log.records(), CONTROL_CUTS)) {
          log.advance(point);
          lost += control(log, judge, acks, folder.resolve("image"), log.stamp());
        }
        System.out.printf("power loss controls: lost when promised before the commit %d, when syncs mean nothing %d%n", early, lost);
        assertTrue(lost > 0, "no sync was done, and nothing was found lost: the test is blind");
      }
    }
  }

  private static int control(WriteLog log, StoreJudge judge, List<Ack> acks, Path image, long until) throws Exception {
    log.image(image, new Random(1), new Luck(0, 512));
    return judge.judge(image.resolve("gateway.db"), until(acks, until)).lost();
  }

  /** In order, spread at random; a fifth of them among the first, when the store is made. */
  private List<Integer> points(int from, int to, int n) {
    return IntStream.concat(random.ints(n / 5, from, from + Math.max(1, (to - from) / 20)), random.ints(n - n / 5, from, to)).sorted().boxed().toList();
  }

  private static List<String> until(List<Ack> acks, long stamp) {
    return acks.stream().takeWhile(ack -> ack.stamp() < stamp).map(Ack::key).toList();
  }

  private static void keep(Path image, Path as) throws Exception {
    Distribution.delete(as);
    Files.move(image, as);
  }
}
