// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest.internal;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.UUID;

/** Idempotency keys, docs/contract.md section 3. */
public final class Keys {
  private static final int MAX_GIVEN = 128;
  private static final int SEQ_DIGITS = 16;
  private static final HexFormat HEX = HexFormat.of();
  private static final String BOOT = boot();

  private Keys() {}

  /** The number has 16 digits, so that text order is numeric order. */
  public static String numbered(String deviceId, String bootId, long deviceSeq) {
    String digits = Long.toString(deviceSeq);
    return new StringBuilder(deviceId.length() + bootId.length() + SEQ_DIGITS + 2).append(deviceId).append('/').append(bootId)
        .append('/').append("0000000000000000", digits.length(), SEQ_DIGITS).append(digits).toString();
  }

  /**
   * By the key the device gave, else by content. Equal content is the same message within one window of the monotonic clock, for
   * the wall clock may be set back, or begin in 1970 with each start; two that arrive to the left and right of a window's edge are
   * both kept. No boot id is empty, so no numbered key looks like one of these.
   */
  public static String unnumbered(Draft draft, String given, long windowMs) {
    return unnumbered(draft, given, windowMs, BOOT);
  }

  static String unnumbered(Draft draft, String given, long windowMs, String boot) {
    if (given != null && !given.isEmpty()) {
      return draft.deviceId + "//k/" + (plain(given) ? given : "sha256-" + hash(given.getBytes(StandardCharsets.UTF_8), new byte[0]));
    }
    return draft.deviceId + "//h/" + boot + '.' + Long.toString(draft.monoMs / windowMs, 36) + '-'
        + hash(draft.topic.getBytes(StandardCharsets.UTF_8), draft.original);
  }

  /** Which start of the operating system the monotonic clock counts from; where it does not tell, each process is one of its own. */
  private static String boot() {
    Path file = Path.of("/proc/sys/kernel/random/boot_id");
    try {
      String id = Files.isReadable(file) ? Files.readString(file).trim() : UUID.randomUUID().toString();
      return hash(id.getBytes(StandardCharsets.UTF_8), new byte[0]).substring(0, 12);
    } catch (IOException e) {
      throw new UncheckedIOException("[" + file + "] cannot be read, so it is not known which monotonic clock counts", e);
    }
  }

  private static boolean plain(String given) {
    return given.length() <= MAX_GIVEN && given.chars().allMatch(c -> c > ' ' && c < 127);
  }

  /** 128 bits of SHA-256. */
  private static String hash(byte[] first, byte[] second) {
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      digest.update(first);
      digest.update((byte) 0);
      return HEX.formatHex(digest.digest(second), 0, 16);
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java has SHA-256", e);
    }
  }
}
