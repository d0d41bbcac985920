// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import io.caravan.it.Child;
import io.caravan.it.Distribution;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/**
 * The library that a gateway is started with to record and to break what it does to its store (test/native/caravan-shim.c), and
 * the page through which it is told what to do, while the gateway runs. Inert until told otherwise. Used by one thread.
 */
final class Shim implements AutoCloseable {
  /** What can be broken; to be added up. */
  static final int WRITE = 1;
  static final int SYNC = 2;
  static final int CREATE = 4;
  static final int LENGTH = 8;
  static final int NAMES = 16;
  static final int READ = 32;
  /** Whose; to be added up. 0: of every file in the folder. */
  static final int STORE = 1;
  static final int WAL = 2;

  /** Of Linux, on every processor that we run on. */
  static final int EIO = 5;
  static final int ENOSPC = 28;
  static final int EROFS = 30;

  private static final int PAGE = 4096;
  // As in caravan-shim.c.
  private static final int SYNC_DELAY_US = 0;
  private static final int LIE = 1;
  private static final int OPS = 2;
  private static final int ERROR = 3;
  private static final int FIRST = 4;
  private static final int COUNT = 5;
  private static final int KINDS = 6;
  private static final int SHORT = 7;
  private static final int CLOCK_NS = 8;
  private static final int RECORDING = 9;
  private static final int SEEN = 16;
  private static final int FIRED = 17;
  private static final int WRITES = 18;
  private static final int SYNCS = 19;
  private static final int LOG_ERROR = 22;

  private static Path library;

  private final Path page;
  private final MappedByteBuffer control;

  /** @param page is made where it is not there, all zero: nothing is broken */
  Shim(Path page) throws IOException {
    this.page = page;
    Files.createDirectories(page.getParent());
    try (FileChannel channel = FileChannel.open(page, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      control = channel.map(FileChannel.MapMode.READ_WRITE, 0, PAGE);
      control.order(ByteOrder.nativeOrder());
    }
  }

  /** Compiles it, once. */
  static synchronized Path library() {
    if (library == null) {
      try {
        Path source = Distribution.REPO.resolve("test-routes/src/test/native/caravan-shim.c");
        Path folder = Files.createDirectories(Distribution.REPO.resolve("test-routes/target/native"));
        // Of its own name: two test processes may do it at once.
        Path made = folder.resolve("caravan-shim-" + ProcessHandle.current().pid() + ".so");
        try (Child cc = Child.start("cc", List.of("cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", made.toString(), source.toString(),
            "-ldl", "-lpthread"), Map.of(), folder, folder.resolve("cc.log"))) {
          if (cc.awaitExit(Duration.ofSeconds(60)) != 0) {
            throw new AssertionError("[" + source + "] could not be compiled; it needs gcc and glibc (bin/install-deps): " + cc.output());
          }
        }
        made.toFile().deleteOnExit();
        library = made;
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }
    return library;
  }

  /**
   * The variables of a gateway's start.
   *
   * @param store the folder of the store
   * @param log   where to record what is done in that folder, when {@link #record} says so
   */
  Map<String, String> environment(Path store, Path log) {
    Map<String, String> variables = new java.util.LinkedHashMap<>();
    variables.put("LD_PRELOAD", library().toString());
    variables.put("SHIM_CONTROL", page.toString());
    variables.put("SHIM_DIR", store.toString());
    variables.put("SHIM_LOG", log.toString());
    return variables;
  }

  /**
   * Begins a new record, or ends one. Where the gateway runs, stop it meanwhile (SIGSTOP) and copy its folder: that is the base.
   *
   * @param log as told to {@link #environment}; emptied
   */
  Shim record(Path log, boolean on) throws IOException {
    set(RECORDING, 0);
    set(LOG_ERROR, 0);
    if (on) {
      Files.write(log, new byte[0]);
      set(RECORDING, System.nanoTime());
    }
    return this;
  }

  /** Every sync takes so much longer. */
  Shim syncDelay(Duration delay) {
    set(SYNC_DELAY_US, delay.toNanos() / 1_000);
    return this;
  }

  /** Syncs are answered at once, not done, and not recorded: what a disk with a cache does that says it has none. */
  Shim lie(boolean lies) {
    set(LIE, lies ? 1 : 0);
    return this;
  }

  /** The wall clock is wrong by so much, from now on. */
  Shim clock(Duration offset) {
    set(CLOCK_NS, offset.toNanos());
    return this;
  }

  /** By how much the wall clock is wrong. */
  Duration clock() {
    return Duration.ofNanos(control.getLong(CLOCK_NS * Long.BYTES));
  }

  /**
   * Calls fail from now on.
   *
   * @param ops   which calls, such as {@code WRITE | LENGTH}
   * @param kinds of which files; 0: all
   * @param error such as {@link #EIO}
   * @param first the how manieth from now on is the first to fail; 1: the next
   * @param count how many fail; 0: all from there on
   */
  Shim fail(int ops, int kinds, int error, long first, long count) {
    set(OPS, 0);
    set(SEEN, 0);
    set(ERROR, error);
    set(KINDS, kinds);
    set(FIRST, first);
    set(COUNT, count);
    set(FIRED, 0);
    set(OPS, ops);
    return this;
  }

  /** As {@link #fail}, of writes, the first of which takes so many bytes: a disk's last ones. */
  Shim failAfter(int bytes, int kinds, int error) {
    set(SHORT, bytes);
    return fail(WRITE, kinds, error, 1, 0);
  }

  /** Nothing fails any more; delays and clock stay as they are. */
  Shim mend() {
    set(OPS, 0);
    set(SHORT, 0);
    return this;
  }

  /** All as it was when this was made. */
  Shim reset() {
    return mend().syncDelay(Duration.ZERO).lie(false).clock(Duration.ZERO);
  }

  /** Calls that failed since {@link #fail}. */
  long fired() {
    return control.getLong(FIRED * Long.BYTES);
  }

  long writes() {
    return control.getLong(WRITES * Long.BYTES);
  }

  long syncs() {
    return control.getLong(SYNCS * Long.BYTES);
  }

  /** Whether something could not be recorded: then the record proves nothing. */
  boolean torn() {
    return control.getLong(LOG_ERROR * Long.BYTES) != 0;
  }

  private void set(int what, long value) {
    control.putLong(what * Long.BYTES, value);
  }

  /** What fails goes on failing in a process that still runs. */
  @Override
  public void close() {
    reset();
  }
}
