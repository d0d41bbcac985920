// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.torture.Schedule.Asked;
import io.caravan.torture.Schedule.Step;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** The schedule is the seed's, and a cycle's own seed repeats it. */
class ScheduleTest {
  private static final List<Asked> FAULTS = List.of(new Asked("one", false, 60), new Asked("two", false, 3), new Asked("damage", true, 2),
      new Asked("four", false, 1), new Asked("five", false, 1), new Asked("six", false, 1));

  @Test
  void sameSeedSameScheduleAnotherSeedAnother() {
    assertEquals(Schedule.brief(FAULTS, 7), Schedule.brief(FAULTS, 7));
    assertEquals(Schedule.full(FAULTS, 7), Schedule.full(FAULTS, 7));
    assertTrue(IntStream.range(8, 20).anyMatch(seed -> !order(Schedule.brief(FAULTS, seed)).equals(order(Schedule.brief(FAULTS, 7)))), "the order is never another");
    assertNotEquals(Schedule.seedOf(7, 1), Schedule.seedOf(8, 1));
  }

  private static List<String> order(List<List<Step>> worlds) {
    return worlds.get(0).stream().map(Step::fault).toList();
  }

  @Test
  void briefHasEachOnceAndThoseThatDamageByThemselves() {
    List<List<Step>> worlds = Schedule.brief(FAULTS, 3);
    assertEquals(List.of("damage", "five", "four", "one", "six", "two"), worlds.stream().flatMap(List::stream).map(Step::fault).sorted().toList());
    assertEquals(2, worlds.size());
    assertEquals(List.of("damage"), worlds.get(1).stream().map(Step::fault).toList());
  }

  @Test
  void fullHasAsManyAsAskedOfEachInWorldsThatAreNotTooLarge() {
    List<List<Step>> worlds = Schedule.full(FAULTS, 3);
    for (Asked asked : FAULTS) {
      List<Integer> indexes = worlds.stream().flatMap(List::stream).filter(s -> s.fault().equals(asked.fault())).map(Step::index).toList();
      assertEquals(IntStream.range(0, asked.cycles()).boxed().toList(), indexes);
    }
    for (List<Step> world : worlds) {
      assertTrue(world.size() <= (world.get(0).fault().equals("damage") ? 1 : Schedule.WORLD_CYCLES), world::toString);
    }
  }

  /** As many as there are, as often as they are asked for. */
  private static List<Asked> many() {
    return IntStream.range(0, 42).mapToObj(i -> new Asked("fault-" + i, false, i == 0 ? 500 : 50)).toList();
  }

  @Test
  void aFullCampaignThatIsEndedEarlyHasSomeOfEachAndNotAlwaysTheSame() {
    List<List<Step>> worlds = Schedule.full(many(), 3);
    List<Step> all = worlds.stream().flatMap(List::stream).toList();
    assertEquals(42, all.subList(0, 84).stream().map(Step::fault).distinct().count(), "two of each before the third of any");
    assertEquals(42 * 10, all.subList(0, 42 * 10).stream().filter(s -> s.index() < 10).count(), "ten of each before more of any");
    assertTrue(worlds.stream().allMatch(w -> w.size() <= Schedule.SHARED_CYCLES || w.stream().map(Step::fault).distinct().count() == 1));
    assertTrue(worlds.size() < 42 / 10 + 1 + 42 + 42 + 500 / Schedule.WORLD_CYCLES, () -> worlds.size() + " worlds: each costs half a minute to start");
    assertNotEquals(all.get(0).fault(), Schedule.full(many(), 4).get(0).get(0).fault());
  }

  /** Nobody waits for a second start where there is nothing to take turns with. */
  @Test
  void oneFaultAloneHasOneWorld() {
    assertEquals(1, Schedule.full(List.of(new Asked("one", false, 50)), 3).size());
  }

  @Test
  void theSeedOfAnyCycleRepeatsItAsACampaignOfOne() {
    for (Step step : Schedule.full(FAULTS, 99).stream().flatMap(List::stream).toList()) {
      Step again = Schedule.full(List.of(new Asked(step.fault(), false, 1)), step.seed()).get(0).get(0);
      assertEquals(step.seed(), again.seed());
      assertEquals(Schedule.random(step).nextLong(), Schedule.random(again).nextLong());
      assertTrue(step.seed() >= 0, "a seed is typed by people");
    }
  }

  @Test
  void twoFaultsOfOneSeedHaveOtherRandomNumbers() {
    assertNotEquals(Schedule.random(new Step("one", 0, 5)).nextLong(), Schedule.random(new Step("two", 0, 5)).nextLong());
  }
}
