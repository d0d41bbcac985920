// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import io.caravan.it.Distribution;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.UUID;
import java.util.stream.Stream;

/**
 * What a gateway did to the files of one folder, in order, as {@code caravan-shim.c} recorded it; and what a power cut at a point
 * of it can leave. A write is certain to be there once a sync of its file that began after it has ended; before that each of its
 * sectors may or may not be, whatever became of others: nothing orders what lies between two syncs. What was written before a sync that
 * failed is never certain, whatever a later sync says: Linux may have called it clean. So are changes of a file's
 * length; but these are the file system's own, and it tries again. Names (a file made, renamed, deleted) are certain once their folder was synced; of those after that a first part is
 * there, in their order, as file systems with a journal keep it. Mapped memory is not seen; SQLite's index (-shm) is what was
 * noted of it at an earlier sync of the log, or empty, or not there.
 *
 * <p>Goes forward only. Used by one thread.
 */
final class WriteLog implements AutoCloseable {
  private static final int HEADER = 40;
  private static final int SECTOR = 512;
  private static final int PAGE = 4096;
  private static final int OPEN = 1;
  private static final int WRITE = 2;
  private static final int CHANGE_LENGTH = 3;
  private static final int UNLINK = 4;
  private static final int RENAME = 5;
  private static final int MKDIR = 6;
  private static final int SYNC_BEGIN = 7;
  private static final int SYNC_END = 8;
  private static final int MAPPED = 9;
  private static final int INDEX = 10;
  private static final int GROW = 11;
  private static final int SYNC_FAILED = 12;
  private static final double[] KEPT = {0, 0.02, 0.3, 0.5, 0.7, 0.98, 1};
  private static final int[] UNITS = {SECTOR, SECTOR, PAGE, Integer.MAX_VALUE};
  private static final int SHM_BYTES = 32_768;

  /** @param dropped whether a sync failed after it */
  private record Op(int type, long offset, long length, int at, boolean dropped) {
    Op(int type, long offset, long length, int at) {
      this(type, offset, length, at, false);
    }

    /** @return what is left of this write beside a range of the file */
    Stream<Op> without(long from, long to) {
      long end = offset + length;
      long behind = Math.max(offset, to);
      return Stream.of(new Op(type, offset, Math.min(end, from) - offset, at, dropped), new Op(type, behind, end - behind, at + (int) (behind - offset), dropped))
          .filter(op -> op.length > 0);
    }
  }

  /** A change of names; what is null is not changed. */
  private record Change(String gone, String made, Inode inode) { }

  /** A file, whatever it is called. On disk: what is certain of it. */
  private static final class Inode {
    final Path certain;
    final boolean folder;
    final List<Op> pending = new ArrayList<>();
    /** Writes before a sync that failed, older than all that is pending; without what was written over them for certain. */
    List<Op> dropped = new ArrayList<>();
    long applied;
    String name;

    Inode(Path certain, boolean folder, String name) {
      this.certain = certain;
      this.folder = folder;
      this.name = name;
    }
  }

  private final Path work;
  private final MappedByteBuffer log;
  private final int[] starts;
  private final Map<String, Inode> names = new LinkedHashMap<>();
  private final Map<String, Inode> certainNames = new LinkedHashMap<>();
  private final List<Change> changes = new ArrayList<>();
  private final Map<Long, Inode> files = new HashMap<>();
  private final Map<Long, Long> marks = new HashMap<>();
  private final List<byte[]> indexes = new ArrayList<>();
  private final boolean begunBefore;
  private int next;
  private int inodes;
  private long syncs;

  /**
   * @param log  what was recorded; not longer than 2 GiB
   * @param base what was in the folder when the recording began, all of it certain; null: nothing
   * @param work for what is certain; emptied
   */
  WriteLog(Path log, Path base, Path work) throws IOException {
    this.work = work;
    begunBefore = base != null;
    Distribution.delete(work);
    Files.createDirectories(work);
    try (FileChannel channel = FileChannel.open(log, StandardOpenOption.READ)) {
      if (channel.size() > Integer.MAX_VALUE) {
        throw new IOException("record [" + log + "] has " + channel.size() + " bytes, it must be below 2 GiB: record for a shorter time");
      }
      this.log = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size());
      this.log.order(ByteOrder.nativeOrder());
    }
    List<Integer> found = new ArrayList<>();
    int at = 0;
    // A process that is killed may leave half of its last record.
    while (at + HEADER <= this.log.limit() && at + HEADER + length(at) <= this.log.limit()) {
      found.add(at);
      at += HEADER + (int) length(at);
    }
    starts = found.stream().mapToInt(Integer::intValue).toArray();
    Inode top = new Inode(work.resolve("top"), true, "");
    names.put("", top);
    certainNames.put("", top);
    if (base != null) {
      try (Stream<Path> all = Files.walk(base)) {
        for (Path file : all.filter(f -> !f.equals(base)).toList()) {
          String name = base.relativize(file).toString();
          Inode inode = inode(name, Files.isDirectory(file));
          if (!inode.folder) {
            Files.copy(file, inode.certain, StandardCopyOption.REPLACE_EXISTING);
          }
          names.put(name, inode);
          certainNames.put(name, inode);
        }
      }
    }
  }

  private Inode inode(String name, boolean folder) throws IOException {
    Inode inode = new Inode(work.resolve("inode-" + ++inodes), folder, name);
    if (!folder) {
      Files.createFile(inode.certain);
    }
    return inode;
  }

  int records() {
    return starts.length;
  }

  int position() {
    return next;
  }

  /** Syncs that ended so far. */
  long syncs() {
    return syncs;
  }

  /** Before this moment (System.nanoTime) nothing more has happened than what was read so far. */
  long stamp() {
    return next < starts.length ? log.getLong(starts[next] + 8) : Long.MAX_VALUE;
  }

  /** The stamp of a record. */
  long stamp(int record) {
    return log.getLong(starts[record] + 8);
  }

  /** Goes on to so many records. */
  void advance(int records) throws IOException {
    while (next < Math.min(records, starts.length)) {
      read(starts[next++]);
    }
  }

  private long length(int at) {
    return log.getLong(at + 32);
  }

  private String text(int at, long from, long length) {
    byte[] bytes = new byte[(int) length];
    log.get(at + HEADER + (int) from, bytes);
    return new String(bytes, StandardCharsets.UTF_8);
  }

  private void read(int at) throws IOException {
    long process = (long) log.getInt(at + 4) << 32;
    long file = process | log.getLong(at + 16);
    long offset = log.getLong(at + 24);
    long length = length(at);
    switch (log.getInt(at)) {
      case OPEN -> open(file, text(at, 0, length), offset);
      case WRITE -> of(file).pending.add(new Op(WRITE, offset, length, at + HEADER));
      case CHANGE_LENGTH, GROW -> of(file).pending.add(new Op(log.getInt(at), offset, 0, 0));
      case UNLINK -> change(new Change(text(at, 0, length), null, null));
      case RENAME -> {
        String from = text(at, 0, offset);
        String to = text(at, offset, length - offset);
        if (from.isEmpty() || to.isEmpty()) {
          throw new IOException("a file was renamed into or out of the folder, as [" + from + "], [" + to + "]: that cannot be replayed");
        }
        change(new Change(from, to, names.get(from)));
      }
      case MKDIR -> change(new Change(null, text(at, 0, length), inode(text(at, 0, length), true)));
      case SYNC_BEGIN -> {
        Inode inode = of(file);
        marks.put(process | offset, inode.folder ? changes.size() : inode.applied + inode.pending.size());
      }
      case SYNC_END -> synced(of(file), marks.remove(process | offset));
      case SYNC_FAILED -> of(file).pending.replaceAll(op -> op.type == WRITE ? new Op(WRITE, op.offset, op.length, op.at, true) : op);
      case MAPPED -> {
        if (!of(file).name.endsWith("-shm")) {
          throw new IOException("file [" + of(file).name + "] is mapped for writing: what is written there cannot be seen");
        }
      }
      case INDEX -> {
        byte[] bytes = new byte[(int) length];
        log.get(at + HEADER, bytes);
        indexes.add(bytes);
      }
      default -> throw new IOException("record " + next + " has an unknown type [" + log.getInt(at) + "]");
    }
  }

  private Inode of(long file) throws IOException {
    Inode inode = files.get(file);
    if (inode == null) {
      throw new IOException("record " + next + " is of a file that was never opened: the record is not whole");
    }
    return inode;
  }

  private void open(long file, String name, long how) throws IOException {
    Inode inode = names.get(name);
    if (inode == null) {
      if ((how & 1) == 0 && (how & 4) == 0) {
        throw new IOException("file [" + name + "] was there before the recording began, and no base was given that has it");
      }
      inode = inode(name, (how & 4) != 0);
      change(new Change(null, name, inode));
    }
    if ((how & 2) != 0) {
      inode.pending.add(new Op(CHANGE_LENGTH, 0, 0, 0));
    }
    files.put(file, inode);
  }

  private void change(Change change) {
    apply(names, change);
    if (change.made != null) {
      change.inode.name = change.made;
    }
    changes.add(change);
  }

  private static void apply(Map<String, Inode> names, Change change) {
    if (change.gone != null) {
      names.remove(change.gone);
    }
    if (change.made != null) {
      names.put(change.made, change.inode);
    }
  }

  private int committed; // of changes

  private void synced(Inode inode, Long mark) throws IOException {
    if (mark == null && begunBefore) {
      return; // it began before the recording did
    }
    if (mark == null) {
      throw new IOException("record " + next + " ends a sync that never began: the record is not whole");
    }
    syncs++;
    if (inode.folder) {
      while (committed < mark) {
        apply(certainNames, changes.get(committed++));
      }
      return;
    }
    int some = (int) Math.max(0, mark - inode.applied);
    if (some > 0) {
      try (FileChannel channel = FileChannel.open(inode.certain, StandardOpenOption.WRITE)) {
        for (Op op : inode.pending.subList(0, some)) {
          if (op.dropped) {
            inode.dropped.add(op);
          } else {
            apply(channel, op);
            over(inode, op);
          }
        }
      }
      inode.pending.subList(0, some).clear();
      inode.applied += some;
    }
  }

  private static void over(Inode inode, Op op) {
    if (op.type != GROW && !inode.dropped.isEmpty()) {
      long to = op.type == WRITE ? op.offset + op.length : Long.MAX_VALUE;
      inode.dropped = new ArrayList<>(inode.dropped.stream().flatMap(old -> old.without(op.offset, to)).toList());
    }
  }

  private void apply(FileChannel channel, Op op) throws IOException {
    switch (op.type) {
      case WRITE -> write(channel, op.offset, op.at, (int) op.length);
      case CHANGE_LENGTH -> length(channel, op.offset);
      default -> length(channel, Math.max(channel.size(), op.offset));
    }
  }

  private void write(FileChannel channel, long offset, int at, int length) throws IOException {
    ByteBuffer data = log.slice(at, length);
    while (data.hasRemaining()) {
      channel.write(data, offset + data.position());
    }
  }

  private static void length(FileChannel channel, long length) throws IOException {
    if (channel.size() > length) {
      channel.truncate(length);
    } else if (channel.size() < length) {
      channel.write(ByteBuffer.allocate(1), length - 1);
    }
  }

  /** Of what is not certain, how much is kept, and in which pieces. */
  record Luck(double kept, int unit) {
    static Luck of(Random random) {
      return new Luck(KEPT[random.nextInt(KEPT.length)], UNITS[random.nextInt(UNITS.length)]);
    }

    @Override
    public String toString() {
      return kept + " of the unsynced in units of " + (unit == Integer.MAX_VALUE ? "a write" : unit + " B");
    }
  }

  /**
   * What the folder looks like after the power comes back.
   *
   * @param folder is made; what is in it is deleted
   * @return how many writes were not certain
   */
  int image(Path folder, Random random, Luck luck) throws IOException {
    Distribution.delete(folder);
    Files.createDirectories(folder);
    Map<String, Inode> there = new LinkedHashMap<>(certainNames);
    int unsynced = changes.size() - committed;
    int more = luck.kept == 1 ? unsynced : luck.kept == 0 ? 0 : random.nextInt(unsynced + 1);
    changes.subList(committed, committed + more).forEach(change -> apply(there, change));
    int uncertain = 0;
    for (Map.Entry<String, Inode> entry : there.entrySet()) {
      Path file = folder.resolve(entry.getKey());
      Inode inode = entry.getValue();
      if (inode.folder) {
        Files.createDirectories(file);
      } else if (entry.getKey().endsWith("-shm")) {
        index(file, random);
      } else {
        Files.createDirectories(file.getParent()); // a name whose folder's was not synced is there with it, or not at all
        Files.copy(inode.certain, file);
        uncertain += inode.dropped.size() + inode.pending.size();
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
          for (Op op : Stream.concat(inode.dropped.stream(), inode.pending.stream()).toList()) {
            lucky(channel, op, random, luck);
          }
        }
        if (entry.getKey().endsWith(".lock")) {
          otherBoot(file);
        }
      }
    }
    return uncertain;
  }

  private void lucky(FileChannel channel, Op op, Random random, Luck luck) throws IOException {
    if (op.type != WRITE || luck.unit == Integer.MAX_VALUE) {
      if (random.nextDouble() < luck.kept) {
        apply(channel, op);
      }
      return;
    }
    for (long from = op.offset; from < op.offset + op.length; ) {
      long to = Math.min(op.offset + op.length, (from / luck.unit + 1) * luck.unit);
      if (random.nextDouble() < luck.kept) {
        write(channel, from, op.at + (int) (from - op.offset), (int) (to - from));
      }
      from = to;
    }
  }

  private void index(Path file, Random random) throws IOException {
    int which = random.nextInt(3);
    if (which == 0) {
      return;
    }
    byte[] bytes = new byte[SHM_BYTES];
    if (which == 2 && !indexes.isEmpty()) {
      byte[] noted = indexes.get(random.nextBoolean() ? indexes.size() - 1 : random.nextInt(indexes.size()));
      System.arraycopy(noted, 0, bytes, 0, noted.length);
    }
    Files.write(file, bytes);
  }

  /** The gateway tells by it that the system was down. */
  private static void otherBoot(Path lock) throws IOException {
    Path boot = Path.of("/proc/sys/kernel/random/boot_id");
    String text = Files.readString(lock, StandardCharsets.ISO_8859_1);
    Files.writeString(lock, text.replace(Files.readString(boot).trim(), new UUID(0, text.length()).toString()), StandardCharsets.ISO_8859_1);
  }

  @Override
  public void close() throws IOException {
    Distribution.delete(work);
  }
}
