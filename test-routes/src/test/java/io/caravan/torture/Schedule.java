// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;

/**
 * What a campaign does, in which order, with which random numbers: a function of the seed and of what was asked for, and of nothing
 * else. Cycle 0 of a fault has the campaign's own seed, so that the seed of any cycle repeats it as a campaign of one.
 */
final class Schedule {
  /** So many cycles share a world: what was stored is compared as a whole at its end. */
  static final int WORLD_CYCLES = 50;
  /** ... and of different faults so many: a cycle that fails ends its world, and takes those that come after it along. */
  static final int SHARED_CYCLES = 20;
  /** So many cycles each fault has in a turn. */
  private static final int[] TURNS = {2, 8, WORLD_CYCLES};

  /** @param cycles how often in the full campaign */
  record Asked(String fault, boolean alone, int cycles) { }

  record Step(String fault, int index, long seed) { }

  private Schedule() { }

  /** @return each fault once, in an order of the seed's choice; those that can share a world do */
  static List<List<Step>> brief(List<Asked> faults, long seed) {
    List<Asked> order = new ArrayList<>(faults);
    Collections.shuffle(order, new Random(seed));
    List<Step> together = new ArrayList<>();
    List<List<Step>> worlds = new ArrayList<>();
    for (Asked asked : order) {
      Step step = new Step(asked.fault, 0, seed);
      if (asked.alone) {
        worlds.add(List.of(step));
      } else {
        together.add(step);
      }
    }
    if (!together.isEmpty()) {
      worlds.add(0, List.copyOf(together));
    }
    return List.copyOf(worlds);
  }

  /**
   * @return turns, in each of which every fault has some cycles, in an order of the seed's choice: a few at first, faults side by side in a world, so that
   *         a campaign that is ended early has some of each; then worlds of one fault each, of so many cycles that starting them costs little
   */
  static List<List<Step>> full(List<Asked> faults, long seed) {
    List<List<Step>> worlds = new ArrayList<>();
    List<Asked> order = new ArrayList<>(faults);
    Random random = new Random(seed);
    int most = faults.stream().mapToInt(Asked::cycles).max().orElse(0);
    int from = 0;
    for (int turn = 0; from < most; turn++) {
      int size = faults.size() == 1 ? WORLD_CYCLES : TURNS[Math.min(turn, TURNS.length - 1)];
      Collections.shuffle(order, random);
      List<Step> together = new ArrayList<>();
      for (Asked asked : order) {
        List<Step> steps = new ArrayList<>();
        for (int i = from; i < Math.min(from + size, asked.cycles); i++) {
          steps.add(new Step(asked.fault, i, seedOf(seed, i)));
        }
        if (asked.alone) {
          steps.forEach(step -> worlds.add(List.of(step)));
          continue;
        }
        together.addAll(steps);
        if (turn > 0 || together.size() >= SHARED_CYCLES) {
          together = next(worlds, together);
        }
      }
      next(worlds, together);
      from += size;
    }
    return List.copyOf(worlds);
  }

  private static List<Step> next(List<List<Step>> worlds, List<Step> world) {
    if (!world.isEmpty()) {
      worlds.add(List.copyOf(world));
    }
    return new ArrayList<>();
  }

  /** @return that of a cycle; of the first one the campaign's */
  static long seedOf(long seed, int index) {
    if (index == 0) {
      return seed;
    }
    // SplitMix64; positive, as it is typed by people.
    long z = seed + index * 0x9E3779B97F4A7C15L;
    z = (z ^ z >>> 30) * 0xBF58476D1CE4E5B9L;
    z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
    return (z ^ z >>> 31) & Long.MAX_VALUE;
  }

  /** @return the random numbers of a cycle: of two faults with one seed others */
  static Random random(Step step) {
    return new Random(step.seed * 31 + step.fault.hashCode());
  }
}
