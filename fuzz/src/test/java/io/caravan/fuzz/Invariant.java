// SPDX-License-Identifier: Apache-2.0
package io.caravan.fuzz;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.util.concurrent.Callable;

/** What must hold for every input, whatever it is. A broken one is an AssertionError, which Jazzer reports with the input. */
public final class Invariant {
  /** Jackson as strict as it gets by itself: what the product's own readers are compared with. */
  public static final ObjectMapper STRICT = JsonMapper.builder(JsonFactory.builder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
          .streamReadConstraints(StreamReadConstraints.builder().maxNestingDepth(1_000).maxNumberLength(100_000).build()).build())
      .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS, DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS).build();

  /** What any call may allocate besides. */
  private static final long BASE_BYTES = 16L << 20;
  private static final ThreadMXBean THREADS = (ThreadMXBean) ManagementFactory.getThreadMXBean();

  private Invariant() {}

  public static void that(boolean holds, String broken) {
    if (!holds) {
      throw new AssertionError(broken);
    }
  }

  public static void same(Object one, Object other, String what) {
    that(one == null ? other == null : one.equals(other), what + ": [" + one + "] is not [" + other + "]");
  }

  /** A message for a person: it says something, on one line, within limits, and cannot steer a terminal. */
  public static void message(String text, int max) {
    that(text != null && !text.isBlank(), "a refusal must say why");
    that(text.length() <= max, "a refusal of " + text.length() + " characters exceeds " + max + ": " + text);
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      that(!Character.isISOControl(c), "a refusal has control character " + (int) c + " at " + i + ": " + text);
    }
  }

  /**
   * Runs it, and bounds what its thread allocates: a measure of memory and work that no busy machine changes. One that takes too much is
   * run again, because the first time includes loading and instrumenting classes.
   *
   * @param perByte bytes for each byte of the input
   */
  public static <T> T bounded(int inputBytes, long perByte, Callable<T> call) throws Exception {
    long most = BASE_BYTES + perByte * inputBytes;
    long before = THREADS.getCurrentThreadAllocatedBytes();
    Callable<T> ended = once(call);
    if (THREADS.getCurrentThreadAllocatedBytes() - before > most) {
      before = THREADS.getCurrentThreadAllocatedBytes();
      ended = once(call);
      long took = THREADS.getCurrentThreadAllocatedBytes() - before;
      that(took <= most, took + " bytes were allocated for an input of " + inputBytes);
    }
    return ended.call();
  }

  /** @return what returns, or throws, what the call did */
  private static <T> Callable<T> once(Callable<T> call) {
    try {
      T result = call.call();
      return () -> result;
    } catch (Exception e) {
      return () -> {
        throw e;
      };
    }
  }

  /** Whether a text has half of a character. */
  public static boolean loneSurrogate(String text) {
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (Character.isHighSurrogate(c) && i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))) {
        i++;
      } else if (Character.isSurrogate(c)) {
        return true;
      }
    }
    return false;
  }
}
