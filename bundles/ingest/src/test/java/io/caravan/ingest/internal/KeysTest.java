// SPDX-License-Identifier: Apache-2.0
package io.caravan.ingest.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class KeysTest {
  private static final long WINDOW_MS = 60_000;

  private static String key(long receivedAtMs, long monoMs, String boot) {
    Draft draft = new Draft("c", receivedAtMs, monoMs, "mqtt", "devices/d1/events", "{\"event\":\"door_open\"}".getBytes(StandardCharsets.UTF_8));
    draft.deviceId = "d1";
    return Keys.unnumbered(draft, null, WINDOW_MS, boot);
  }

  /** The door opens at 12:00:30 and, after the clock was set back by an hour, at what is called 12:00:30 again. */
  @Test
  void aClockThatIsSetBackMakesNoDuplicates() {
    assertNotEquals(key(1_790_000_030_000L, 100_000, "b"), key(1_790_000_030_000L, 3_700_000, "b"));
    assertEquals(key(1_790_000_030_000L, 100_000, "b"), key(1_790_000_030_000L - 3_600_000, 101_000, "b"), "sent again around the step");
  }

  /** Each start of a box without a battery is at the same time of 1970, and its monotonic clock begins anew. */
  @Test
  void eachStartOfTheMachineHasWindowsOfItsOwn() {
    assertNotEquals(key(30_000, 30_000, "b"), key(30_000, 30_000, "c"));
  }
}
