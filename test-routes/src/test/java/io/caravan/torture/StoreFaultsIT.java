// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.it.Child;
import io.caravan.it.Distribution;
import io.caravan.it.KeptEvidence;
import io.caravan.torture.StoreJudge.Findings;
import io.caravan.torture.WriteLog.Luck;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/**
 * Syncs and writes of a store that fail, at points spread at random: whatever was promised, before and after, is in what the disk has
 * for certain. {@code -Dsweep.points=100} looks at more points, {@code -Dseed=} repeats the choice, {@code -Dslow.seconds=10} measures for so long per delay.
 */
class StoreFaultsIT {
  @RegisterExtension
  static final KeptEvidence KEPT = new KeptEvidence("store-faults");

  private static final int POINTS = Integer.getInteger("sweep.points", 2);
  private static final int SLOW_S = Integer.getInteger("slow.seconds", 1);
  private static final long SEED = Long.getLong("seed", System.nanoTime());
  private static final Duration LIMIT = Duration.ofSeconds(90);
  private static final Duration SILENCE = Duration.ofSeconds(1);
  private static final int SOME = 300;

  private final Random random = new Random(SEED);
  private final Path folder = Distribution.REPO.resolve("test-routes/target/it/store-faults");

  @Test
  void noPromiseRestsOnASyncThatFailed() throws Exception {
    for (int i = 0; i < POINTS; i++) {
      int n = 1 + random.nextInt(60);
      try (Run run = new Run("sync-" + i)) {
        run.awaitAcks(SOME);
        run.shim.fail(Shim.SYNC, Shim.STORE | Shim.WAL, Shim.EIO, n, 1);
        await("sync " + n).atMost(LIMIT).until(() -> run.shim.fired() > 0);
        await("it says so").atMost(LIMIT).until(() -> run.lines().stream().anyMatch(l -> l.startsWith("state REFUSING")));
        int then = run.acks().size();
        assertTrue(run.lines().stream().anyMatch(l -> l.contains("failed fsync") || l.contains("IOERR_FSYNC")), () -> "seed " + SEED + ", sync " + n + ": " + run.child.tail());
        // There are always some hundred messages that wait for theirs.
        await("nothing is promised").pollInterval(Duration.ofMillis(20)).during(SILENCE).atMost(LIMIT).failFast("promised after a sync that failed, seed " + SEED + ", sync " + n,
            () -> run.acks().size() > then).until(run.child::alive);
        run.kill();
        assertEquals(then, run.acks().size(), "promised after a sync that failed, seed " + SEED + ", sync " + n);
        run.judge("sync " + n);
      }
    }
  }

  @Test
  void writesThatFailAreTriedAgainUntilTheySucceed() throws Exception {
    for (int i = 0; i < POINTS; i++) {
      for (int error : new int[] {Shim.EIO, Shim.ENOSPC}) {
        int n = 1 + random.nextInt(200);
        int count = 1 + random.nextInt(5);
        try (Run run = new Run("write-" + i + "-" + error)) {
          run.awaitAcks(SOME);
          run.shim.fail(Shim.WRITE | Shim.LENGTH, Shim.STORE | Shim.WAL, error, n, count);
          await("write " + n).atMost(LIMIT).until(() -> run.shim.fired() == count);
          run.awaitAcks(SOME);
          run.kill();
          run.judge("write " + n + ", " + count + " times, error " + error);
        }
      }
    }
  }

  /** The control: a disk that only says that it syncs. */
  @Test
  void controlSyncsThatMeanNothingAreFound() throws Exception {
    try (Run run = new Run("control")) {
      run.awaitAcks(SOME);
      run.shim.lie(true);
      run.awaitAcks(SOME);
      run.kill();
      assertTrue(run.findings().lost() > 0, "no sync was done, and nothing was found lost: the test is blind");
    }
  }

  @Test
  void aSlowDiskIsSlowAndNothingElse() throws Exception {
    try (Run run = new Run("slow")) {
      run.awaitAcks(SOME);
      for (int delay : new int[] {0, 1, 5, 20, 100}) {
        run.shim.syncDelay(Duration.ofMillis(delay));
        int before = run.acks().size();
        long syncs = run.shim.syncs();
        long begun = System.nanoTime();
        await("messages").atMost(LIMIT).until(() -> run.acks().size() > before + SOME && System.nanoTime() - begun > SLOW_S * 1_000_000_000L);
        double seconds = (System.nanoTime() - begun) / 1e9;
        List<String> acks = run.acks();
        List<Long> took = acks.subList(before, acks.size()).stream().map(l -> Long.parseLong(l.split(" ")[1])).sorted().toList();
        System.out.printf("slow disk: +%d ms a sync: %.0f msg/s, p50 %.1f ms, p99 %.1f ms, %.0f syncs/s (window of 200 messages, load %s)%n", delay,
            took.size() / seconds, took.get(took.size() / 2) / 1e6, took.get(took.size() * 99 / 100) / 1e6, (run.shim.syncs() - syncs) / seconds,
            Files.readString(Path.of("/proc/loadavg")).split(" ")[0]);
      }
      run.kill();
      run.judge("slow");
    }
  }

  /** One store in its own process, recorded from its beginning. */
  private final class Run implements AutoCloseable {
    final Path home;
    final Path store;
    final Path record;
    final Shim shim;
    final Child child;

    Run(String name) throws Exception {
      home = folder.resolve(name);
      Distribution.delete(home);
      store = home.resolve("store/gateway.db");
      record = home.resolve("record");
      Files.createDirectories(home);
      shim = new Shim(home.resolve("page")).record(record, true);
      // Its directory is made by the process, as a gateway's is.
      child = Child.start("store", List.of(Path.of(System.getProperty("java.home"), "bin/java").toString(), "-Xmx160m", "-XX:+UseSerialGC",
          "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-Drepo.dir=" + Distribution.REPO, "-cp",
          System.getProperty("java.class.path"), StoreChild.class.getName(), store.toString()),
          shim.environment(store.getParent(), record), home, home.resolve("acks"));
    }

    List<String> lines() {
      return child.output().lines().toList();
    }

    /** Lines that are whole. */
    List<String> acks() {
      String text = child.output();
      return text.substring(0, text.lastIndexOf('\n') + 1).lines().filter(l -> l.matches("\\d+ \\d+ d1/.*")).toList();
    }

    void awaitAcks(int more) {
      int from = acks().size();
      await("acks").atMost(LIMIT).until(() -> {
        assertTrue(child.alive(), child::tail);
        return acks().size() >= from + more;
      });
    }

    void kill() {
      child.kill();
    }

    /** Of what is on the disk for certain. */
    Findings findings() throws Exception {
      assertFalse(shim.torn(), "the record is not whole: is the disk full?");
      List<String> promised = new ArrayList<>();
      acks().forEach(line -> promised.add(line.split(" ")[2]));
      try (WriteLog log = new WriteLog(record, null, home.resolve("certain")); StoreJudge judge = new StoreJudge()) {
        log.advance(log.records());
        log.image(home.resolve("image"), random, new Luck(0, 512));
        return judge.judge(home.resolve("image/gateway.db"), promised);
      }
    }

    void judge(String what) throws Exception {
      Findings found = findings();
      System.out.printf("store faults: %s: promised %d, stored %d, wrong %s%n", what, acks().size(), found.rows(), found.wrong());
      assertTrue(found.ok(), () -> "seed " + SEED + ", " + what + ", see " + home + ": " + found.wrong());
    }

    @Override
    public void close() {
      child.close();
      shim.close();
    }
  }
}
