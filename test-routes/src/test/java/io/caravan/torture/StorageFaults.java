// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import io.caravan.it.Distribution;
import io.caravan.it.Store;
import io.caravan.torture.Cycle.Kind;
import io.caravan.torture.WriteLog.Luck;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;

/** What disks and clocks do to a gateway. All through {@link Shim}: no root, no file system of its own. */
final class StorageFaults {
  private static final Duration STAYS = Duration.ofSeconds(2);

  private StorageFaults() { }

  static List<Fault> all() {
    return List.of(new PowerLoss(), new SlowSync(), new FailedSync(), new BrokenCalls("disk-error", 5, Shim.EIO, Shim.WRITE | Shim.LENGTH),
        new BrokenCalls("disk-full-for-a-moment", 6, Shim.ENOSPC, Shim.WRITE | Shim.LENGTH), new BrokenCalls("disk-unreadable", 5, Shim.EIO, Shim.READ),
        new Unwritable("disk-full", 6, Shim.ENOSPC, Shim.WRITE | Shim.LENGTH | Shim.CREATE),
        new Unwritable("disk-read-only", 6, Shim.EROFS, Shim.WRITE | Shim.LENGTH | Shim.CREATE | Shim.NAMES),
        new IndexGone(), new TornTail(), new DamagedCopy(), new ClockJump(), new ClockOf1970());
  }

  /** What all have in common: the shim is there from the first start, and does nothing before it is told to. */
  private abstract static class OnStore implements Fault {
    private final String name;
    private final int number;
    private final String does;

    OnStore(String name, int number, String does) {
      this.name = name;
      this.number = number;
      this.does = does;
    }

    @Override
    public String name() {
      return name;
    }

    @Override
    public int number() {
      return number;
    }

    @Override
    public String does() {
      return does;
    }

    @Override
    public Map<String, String> environment(Path folder) {
      try (Shim shim = new Shim(page(folder))) {
        return shim.environment(folder.resolve("gateway"), record(folder));
      } catch (IOException e) {
        throw new java.io.UncheckedIOException(e);
      }
    }

    @Override
    public void heal(World world, Cycle cycle) throws Exception {
      mend(world);
      if (!world.gateway().running()) {
        world.restartGateway();
      }
    }

    /** Beside the world's folder, which is emptied after the environment was asked for. */
    static Path beside(Path folder) {
      return folder.resolveSibling(folder.getFileName() + "-shim");
    }

    static Path page(Path folder) {
      return beside(folder).resolve("page");
    }

    static Path record(Path folder) {
      return beside(folder).resolve("record");
    }

    static Shim shim(World world) throws IOException {
      return new Shim(page(world.folder()));
    }

    /** All but the clock, which must not be set back by what is no fault of the clock. */
    static void mend(World world) throws IOException {
      shim(world).mend().syncDelay(Duration.ZERO).lie(false);
    }

    static Path store(World world) {
      return world.gatewayDb().getParent();
    }

    static List<String> damaged(World world) throws IOException {
      try (Stream<Path> files = Files.list(store(world))) {
        return files.map(f -> f.getFileName().toString()).filter(n -> n.contains(".damaged-")).toList();
      }
    }

    /** What a crash leaves is not damage: nothing is moved aside for it. */
    static void intact(World world, Cycle cycle) throws IOException {
      List<String> damaged = damaged(world);
      if (!damaged.isEmpty()) {
        cycle.fault(Kind.BROKEN, damaged.size(), "an intact store was taken for damaged: " + damaged);
      }
    }

    /** Nothing is promised while nothing can be kept. */
    static void silent(World world, Cycle cycle, Duration time) throws Exception {
      // What was acknowledged before is noted by devices a moment later.
      world.pause(Duration.ofMillis(500));
      long before = world.promises();
      world.pause(time);
      long after = world.promises();
      if (after != before) {
        cycle.fault(Kind.BROKEN, after - before, (after - before) + " messages were promised that could not be kept");
      }
    }
  }

  /** Recorded under load, killed, and what the disk would have kept is put in the store's place. */
  private static final class PowerLoss extends OnStore {
    PowerLoss() {
      super("power-loss", 3, "the power of the gateway's machine fails: of its writes those that were synced are left, and some of the others, torn");
    }

    @Override
    public void inject(World world, Random random, Cycle cycle) throws Exception {
      Path folder = beside(world.folder());
      Path record = record(world.folder());
      Path store = store(world);
      Path base = folder.resolve("base");
      long pid = world.gateway().pid();
      Shim shim = shim(world);
      Distribution.delete(base);
      signal("STOP", pid);
      try {
        copy(store, base);
        shim.record(record, true);
      } finally {
        signal("CONT", pid);
      }
      world.awaitPromises(50 + random.nextInt(400));
      world.killGateway();
      shim.record(record, false);
      if (shim.torn()) {
        throw new IllegalStateException("the record of what was written is not whole: is the disk full?");
      }
      Path image = folder.resolve("image");
      Luck luck = Luck.of(random);
      try (WriteLog log = new WriteLog(record, base, folder.resolve("certain"))) {
        log.advance(log.records());
        int unsynced = log.image(image, random, luck);
        cycle.note(log.records() + " records, " + log.syncs() + " syncs, " + unsynced + " writes not synced; kept " + luck);
        cycle.figure("syncs", log.syncs());
        cycle.figure("unsynced_writes", unsynced);
      }
      Distribution.delete(base);
      Distribution.delete(store);
      Files.move(image, store);
      world.restartGateway();
    }

    @Override
    public void check(World world, Cycle cycle) throws Exception {
      intact(world, cycle);
    }
  }

  private static void signal(String name, long pid) throws IOException, InterruptedException {
    if (new ProcessBuilder("kill", "-" + name, Long.toString(pid)).start().waitFor() != 0) {
      throw new IllegalStateException("signal " + name + " to [" + pid + "] failed");
    }
    if (name.equals("STOP")) {
      // The signal is sent; that every thread has stopped is another matter.
      while (!Files.readString(Path.of("/proc/" + pid + "/stat")).replaceFirst("(?s).*\\) ", "").startsWith("T")) {
        Thread.onSpinWait();
      }
    }
  }

  static void copy(Path from, Path to) throws IOException {
    try (Stream<Path> files = Files.walk(from)) {
      for (Path file : files.toList()) {
        Files.copy(file, to.resolve(from.relativize(file).toString()));
      }
    }
  }

  /** Like a memory card, or a disk that somebody else keeps busy. */
  private static final class SlowSync extends OnStore {
    private static final int[] DELAYS_MS = {1, 5, 20, 100};

    SlowSync() {
      super("slow-sync", 4, "each sync of the store takes 1, 5, 20 or 100 ms longer");
    }

    @Override
    public void inject(World world, Random random, Cycle cycle) throws Exception {
      int delay = DELAYS_MS[random.nextInt(DELAYS_MS.length)];
      Shim shim = shim(world).syncDelay(Duration.ofMillis(delay));
      long begun = System.nanoTime();
      long before = world.promises();
      long syncs = shim.syncs();
      world.pause(STAYS);
      world.await("syncs", () -> shim.syncs() > syncs);
      world.awaitPromises(1);
      cycle.note("+" + delay + " ms, " + (shim.syncs() - syncs) + " syncs");
      cycle.figure("promised_at_" + delay + "ms", world.promises() - before);
      cycle.figure("seconds_at_" + delay + "ms", (System.nanoTime() - begun) / 1e9);
    }
  }

  /** The kernel may have dropped what it could not write: nothing is promised any more until the process starts anew. */
  private static final class FailedSync extends OnStore {
    FailedSync() {
      super("failed-sync", 5, "a sync of the store fails once with EIO; the gateway is restarted");
    }

    @Override
    public void inject(World world, Random random, Cycle cycle) throws Exception {
      int n = 1 + random.nextInt(20);
      Shim shim = shim(world).fail(Shim.SYNC, Shim.STORE | Shim.WAL, Shim.EIO, n, 1);
      world.await("sync " + n + " fails", () -> shim.fired() > 0);
      world.await("the gateway says that a sync failed", () -> String.valueOf(world.gateway().down("wal")).contains("failed fsync"));
      cycle.note("sync " + n);
      silent(world, cycle, Duration.ofSeconds(1));
    }

    @Override
    public void heal(World world, Cycle cycle) throws Exception {
      mend(world);
      world.killGateway();
      world.restartGateway();
    }

    @Override
    public void check(World world, Cycle cycle) throws Exception {
      intact(world, cycle);
    }
  }

  /** A few calls fail, and nobody helps: the same messages are tried again. */
  private static final class BrokenCalls extends OnStore {
    private final int error;
    private final int ops;

    BrokenCalls(String name, int number, int error, int ops) {
      super(name, number, "one to five " + (ops == Shim.READ ? "reads" : "writes") + " of the store in a row fail with " + word(error));
      this.error = error;
      this.ops = ops;
    }

    @Override
    public void inject(World world, Random random, Cycle cycle) throws Exception {
      int first = 1 + random.nextInt(40);
      int count = 1 + random.nextInt(5);
      Shim shim = shim(world).fail(ops, Shim.STORE | Shim.WAL, error, first, count);
      world.await("call " + first + " fails", () -> shim.fired() >= count);
      cycle.note("calls " + first + " to " + (first + count - 1));
      world.awaitPromises(10);
    }

    /** SQLite says of some reads that fail that the file is malformed: then it is put aside and salvaged, and somebody has to know of it. */
    @Override
    public void heal(World world, Cycle cycle) throws Exception {
      super.heal(world, cycle);
      if (ops != Shim.READ) {
        return;
      }
      // That it comes to nothing cannot be awaited.
      world.pause(Duration.ofSeconds(1));
      if (!damaged(world).isEmpty()) {
        world.await("repair of the store", () -> world.gateway().get("/readyz").body().contains("wal:acknowledge"));
        cycle.note("put aside: " + damaged(world));
        world.gateway().shell("wal:acknowledge --by torture");
        Path aside = Files.createDirectories(beside(world.folder()).resolve("damaged"));
        for (String file : damaged(world)) {
          Files.move(store(world).resolve(file), aside.resolve(file));
        }
      }
    }

    @Override
    public void check(World world, Cycle cycle) throws Exception {
      if (ops != Shim.READ) {
        intact(world, cycle);
      }
    }
  }

  private static String word(int error) {
    return switch (error) {
      case Shim.EIO -> "EIO";
      case Shim.ENOSPC -> "ENOSPC";
      case Shim.EROFS -> "EROFS";
      default -> "error " + error;
    };
  }

  /** For as long as it lasts nothing is promised; when it is over the gateway goes on unaided. */
  private static final class Unwritable extends OnStore {
    private final int error;
    private final int ops;

    Unwritable(String name, int number, int error, int ops) {
      super(name, number, "all that would change the store's files fails with " + word(error));
      this.error = error;
      this.ops = ops;
    }

    @Override
    public void inject(World world, Random random, Cycle cycle) throws Exception {
      Shim shim = shim(world);
      if (error == Shim.ENOSPC) {
        int last = 1 + random.nextInt(5_000);
        cycle.note("the disk takes another " + last + " bytes");
        shim.failAfter(last, 0, error);
      }
      shim.fail(ops, 0, error, 1, 0);
      long begun = System.nanoTime();
      world.await("the gateway says that the store cannot be written", () -> world.gateway().down("wal") != null);
      cycle.figure("seconds_to_refuse", (System.nanoTime() - begun) / 1e9);
      silent(world, cycle, STAYS);
    }

    @Override
    public void check(World world, Cycle cycle) throws Exception {
      intact(world, cycle);
    }
  }

  /** SQLite makes it anew; it is how the product knows of a -wal file that was cut. */
  private static final class IndexGone extends OnStore {
    IndexGone() {
      super("index-gone", 8, "the gateway is killed, and its store's -shm file is deleted");
    }

    @Override
    public void inject(World world, Random random, Cycle cycle) throws Exception {
      world.killGateway();
      Files.delete(store(world).resolve(world.gatewayDb().getFileName() + "-shm"));
      world.restartGateway();
    }

    @Override
    public void check(World world, Cycle cycle) throws Exception {
      intact(world, cycle);
    }
  }

  /** What was being written when it was killed. */
  private static final class TornTail extends OnStore {
    TornTail() {
      super("torn-tail", 8, "the gateway is killed, and rubbish is added to its store's -wal file");
    }

    @Override
    public void inject(World world, Random random, Cycle cycle) throws Exception {
      world.killGateway();
      byte[] rubbish = new byte[1 + random.nextInt(20_000)];
      random.nextBytes(rubbish);
      Path wal = store(world).resolve(world.gatewayDb().getFileName() + "-wal");
      Files.write(wal, rubbish, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
      cycle.note(rubbish.length + " bytes");
      world.restartGateway();
    }

    @Override
    public void check(World world, Cycle cycle) throws Exception {
      intact(world, cycle);
    }
  }

  /** The gateway's own files go on as they are: what cannot be mended would be lost. */
  private static final class DamagedCopy extends OnStore {
    private static final int COPIES = 5;
    private static final List<String> WAYS = List.of("bytes of the store flipped", "a page of the store zeroed", "the store's header flipped", "the store cut",
        "a byte of the -wal file flipped", "the -wal file cut", "the -wal file deleted");

    DamagedCopy() {
      super("damaged-copy", 8, "the store of a gateway that was killed is copied, five copies are damaged, opened as a gateway does, and verified");
    }

    @Override
    public void inject(World world, Random random, Cycle cycle) throws Exception {
      Path sound = beside(world.folder()).resolve("sound");
      Path copy = sound.resolveSibling("damaged");
      world.killGateway();
      Distribution.delete(sound);
      copy(store(world), sound);
      world.restartGateway();
      Distribution.delete(copy);
      copy(sound, copy);
      String name = world.gatewayDb().getFileName().toString();
      Map<Long, String> rows = StoreJudge.contents(copy.resolve(name));
      int found = 0;
      int lost = 0;
      int first = random.nextInt(WAYS.size());
      try (StoreJudge judge = new StoreJudge()) {
        for (int i = 0; i < COPIES; i++) {
          Distribution.delete(copy);
          copy(sound, copy);
          int way = (first + i) % WAYS.size();
          String where = damage(copy.resolve(name), way, random);
          StoreJudge.Mended mended = judge.mended(copy.resolve(name), rows);
          cycle.note(WAYS.get(way) + where + ": " + mended);
          found += mended.found() ? 1 : 0;
          lost += mended.lost();
          if (!mended.wrong().isEmpty()) {
            cycle.fault(Kind.BROKEN, 1, WAYS.get(way) + where + ": " + mended.wrong());
          }
        }
      }
      cycle.figure("copies", COPIES);
      cycle.figure("damage_found", found);
      cycle.figure("rows_lost_and_named", lost);
      Distribution.delete(copy);
      Distribution.delete(sound);
    }

    private static String damage(Path store, int way, Random random) throws IOException {
      Path file = way < 4 ? store : store.resolveSibling(store.getFileName() + "-wal");
      if (way == 6) {
        Files.deleteIfExists(file);
        return "";
      }
      if (!Files.exists(file) || Files.size(file) == 0) {
        return " (there is none)";
      }
      try (RandomAccessFile bytes = new RandomAccessFile(file.toFile(), "rw")) {
        long length = bytes.length();
        long at = (long) (random.nextDouble() * (way == 2 ? 100 : length));
        switch (way) {
          case 1 -> {
            at -= at % 4096;
            bytes.seek(at);
            bytes.write(new byte[4096]);
          }
          case 3, 5 -> bytes.setLength(at);
          default -> {
            bytes.seek(at);
            int old = bytes.read();
            bytes.seek(at);
            bytes.write(old ^ 1 + random.nextInt(255));
          }
        }
        return " at " + at + " of " + length;
      }
    }
  }

  /** Rows are neither older nor younger for it. */
  private static final class ClockJump extends OnStore {
    /** A day crosses midnight at any hour: sinks that sort by day see days change places. Ten years: behind every certificate's end. */
    private static final List<Duration> JUMPS = List.of(Duration.ofDays(1), Duration.ofMinutes(-5), Duration.ofDays(3_650), Duration.ofHours(-1),
        Duration.ofDays(-3_650), Duration.ofMinutes(5), Duration.ofDays(-1), Duration.ofHours(1));
    private Kept before;

    ClockJump() {
      super("clock-jump", 16, "the gateway's wall clock is set forth or back by minutes, an hour, a day or ten years, and later set right");
    }

    @Override
    public void inject(World world, Random random, Cycle cycle) throws Exception {
      before = Kept.of(world);
      Duration jump = JUMPS.get(random.nextInt(JUMPS.size()));
      shim(world).clock(jump);
      cycle.note("by " + jump);
      // Nearer to the moment that it was set to than to that which is.
      world.await("the gateway says that it received something at another time", () -> {
        long received = Store.number(world.gatewayDb(), "SELECT received_at_ms FROM wal ORDER BY seq DESC LIMIT 1");
        return Math.abs(received - System.currentTimeMillis() - jump.toMillis()) < jump.abs().toMillis() / 2;
      });
      world.awaitPromises(100);
      world.pause(STAYS);
    }

    @Override
    public void heal(World world, Cycle cycle) throws Exception {
      shim(world).clock(Duration.ZERO);
      super.heal(world, cycle);
    }

    @Override
    public void check(World world, Cycle cycle) throws Exception {
      before.check(world, cycle);
    }
  }

  /** A box without a battery for its clock: it says 1970 until the network tells it the time. */
  private static final class ClockOf1970 extends OnStore {
    private Kept before;

    ClockOf1970() {
      super("clock-of-1970", 16, "the gateway starts with a clock that says 1970, takes messages, and the clock is set right later");
    }

    @Override
    public void inject(World world, Random random, Cycle cycle) throws Exception {
      before = Kept.of(world);
      world.killGateway();
      shim(world).clock(Duration.ofMillis(random.nextInt(3_600_000) - System.currentTimeMillis()));
      world.restartGateway();
      world.awaitPromises(100);
      // What has that time would be older than the topic's retention when it arrives.
      world.await("sink kafka sends nothing", () -> world.state("kafka").equals("failed,misconfigured"));
    }

    @Override
    public void heal(World world, Cycle cycle) throws Exception {
      shim(world).clock(Duration.ZERO);
      super.heal(world, cycle);
    }

    @Override
    public void check(World world, Cycle cycle) throws Exception {
      before.check(world, cycle);
    }
  }

  /** What must not change by a clock: the oldest row, and how many could not be delivered. */
  private record Kept(long first, long dead) {
    static Kept of(World world) throws Exception {
      return new Kept(Store.number(world.gatewayDb(), "SELECT coalesce(min(seq), 0) FROM wal"),
          Store.number(world.gatewayDb(), "SELECT count(*) FROM dead_letter"));
    }

    void check(World world, Cycle cycle) throws Exception {
      Kept now = of(world);
      if (!now.equals(this)) {
        cycle.fault(Kind.BROKEN, 1, "the clock made rows old: oldest row and dead letters were " + this + ", are " + now);
      }
    }
  }
}
