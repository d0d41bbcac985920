// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import io.caravan.torture.WriteLog.Luck;
import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a disk can have of a record, above all after a sync that failed. */
class WriteLogTest {
  // As in caravan-shim.c.
  private static final int OPEN = 1;
  private static final int WRITE = 2;
  private static final int LENGTH = 3;
  private static final int SYNC_BEGIN = 7;
  private static final int SYNC_END = 8;
  private static final int SYNC_FAILED = 12;
  private static final int FOLDER = 1;
  private static final int FILE = 2;
  private static final Luck NONE = new Luck(0, 512);
  private static final Luck ALL = new Luck(1, 512);

  @TempDir
  Path folder;
  private final ByteArrayOutputStream record = new ByteArrayOutputStream();
  private int syncs;

  private WriteLogTest put(int type, int file, long offset, byte... data) {
    record.writeBytes(ByteBuffer.allocate(40).order(ByteOrder.nativeOrder()).putInt(type).putInt(1).putLong(record.size()).putLong(file).putLong(offset).putLong(data.length).array());
    record.writeBytes(data);
    return this;
  }

  private WriteLogTest made() {
    return put(OPEN, FOLDER, 4).put(OPEN, FILE, 1, "a.db".getBytes(StandardCharsets.US_ASCII)).synced(FOLDER);
  }

  private WriteLogTest synced(int file) {
    return put(SYNC_BEGIN, file, ++syncs).put(SYNC_END, file, syncs);
  }

  private WriteLogTest write(long offset, char what, int length) {
    byte[] data = new byte[length];
    Arrays.fill(data, (byte) what);
    return put(WRITE, FILE, offset, data);
  }

  /** @return a character for each sector of the file; a dot: zeros */
  private String image(Luck luck) throws Exception {
    Path log = Files.write(folder.resolve("record"), record.toByteArray());
    try (WriteLog all = new WriteLog(log, null, folder.resolve("work"))) {
      all.advance(all.records());
      all.image(folder.resolve("image"), new Random(1), luck);
    }
    byte[] bytes = Files.readAllBytes(folder.resolve("image/a.db"));
    assertEquals(0, bytes.length % 512);
    StringBuilder text = new StringBuilder();
    for (int at = 0; at < bytes.length; at += 512) {
      byte[] sector = new byte[512];
      Arrays.fill(sector, bytes[at]);
      assertArrayEquals(sector, Arrays.copyOfRange(bytes, at, at + 512), "sector at " + at);
      text.append(bytes[at] == 0 ? '.' : (char) bytes[at]);
    }
    return text.toString();
  }

  @Test
  void whatWasSyncedIsCertainAndNothingElse() throws Exception {
    made().write(0, 'a', 1024).synced(FILE).write(512, 'b', 1024);
    assertEquals("aa", image(NONE));
    assertEquals("abb", image(ALL));
  }

  @Test
  void aSyncThatSucceedsAfterOneThatFailedMakesNothingCertainOfWhatWasBefore() throws Exception {
    made().write(0, 'a', 1024).synced(FILE).write(1024, 'b', 1024).put(SYNC_FAILED, FILE, 0).synced(FILE);
    assertEquals("aa", image(NONE));
    assertEquals("aabb", image(ALL));
    write(2048, 'c', 512).synced(FILE);
    assertEquals("aa..c", image(NONE));
    assertEquals("aabbc", image(ALL));
  }

  @Test
  void whatIsWrittenAgainAndSyncedIsCertain() throws Exception {
    made().write(0, 'a', 512 * 6).put(SYNC_FAILED, FILE, 0).write(1024, 'b', 1024).synced(FILE);
    assertEquals("..bb", image(NONE));
    assertEquals("aabbaa", image(ALL));
    put(LENGTH, FILE, 2560).synced(FILE);
    assertEquals("..bb.", image(NONE));
    assertEquals("aabba", image(ALL));
  }

  @Test
  void aSyncThatFailedWhileAnotherOneRunsCountsForBoth() throws Exception {
    made().write(0, 'a', 512).put(SYNC_BEGIN, FILE, 99).put(SYNC_FAILED, FILE, 0).put(SYNC_END, FILE, 99);
    assertEquals("", image(NONE));
    assertEquals("a", image(ALL));
  }
}
