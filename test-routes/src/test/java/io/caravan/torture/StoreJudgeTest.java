// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** What the judge of damaged stores lets pass, and what not. */
class StoreJudgeTest {
  private static final Map<Long, String> SOUND = Map.of(1L, "a", 2L, "b", 3L, "c");

  private static String wrong(Map<Long, String> now, Set<Long> said, List<String> incidents, boolean verified) {
    return StoreJudge.compared(SOUND, now, said, incidents, true, verified).wrong();
  }

  @Test
  void whatIsGoneMustBeSaid() {
    Map<Long, String> now = Map.of(1L, "a", 3L, "c");
    assertEquals("", wrong(SOUND, Set.of(), List.of(), true));
    assertEquals("row 2 is gone, and nothing says so", wrong(now, Set.of(), List.of(), true));
    assertEquals("", wrong(now, Set.of(2L), List.of(), true));
    assertEquals("row 2 is gone, and nothing says so", wrong(now, Set.of(3L), List.of("1 lost"), true));
  }

  @Test
  void ofTransactionsThatAreGoneFromTheEndItIsSaidBehindWhichSequenceTheyWere() {
    String said = "the -wal file is damaged; 1 rows of the log salvaged, 0 lost; transactions behind sequence %d are gone from the -wal file without a trace, how many rows they had cannot be known";
    Map<Long, String> now = Map.of(1L, "a");
    assertEquals("", wrong(now, Set.of(), List.of("another one", said.formatted(1)), true));
    assertEquals(2, StoreJudge.compared(SOUND, now, Set.of(), List.of(said.formatted(1)), true, true).lost());
    assertEquals("row 2 is gone, and nothing says so", wrong(now, Set.of(), List.of(said.formatted(2)), true));
  }

  @Test
  void anotherRowMustBeFoundByTheVerification() {
    Map<Long, String> now = Map.of(1L, "a", 2L, "x", 3L, "c");
    assertEquals("row 2 is another one, and nothing says so", wrong(now, Set.of(2L), List.of(), true));
    assertEquals("", wrong(now, Set.of(), List.of(), false));
  }
}
