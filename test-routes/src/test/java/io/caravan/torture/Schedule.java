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

  /** @return worlds of one fault each, the faults taking turns, so that a campaign that is ended early has some of each */
  static List<List<Step>> full(List<Asked> faults, long seed) {
    List<List<Step>> worlds = new ArrayList<>();
    int[] done = new int[faults.size()];
    boolean more = true;
    while (more) {
      more = false;
      for (int f = 0; f < done.length; f++) {
        Asked asked = faults.get(f);
        int size = Math.min(asked.alone ? 1 : WORLD_CYCLES, asked.cycles - done[f]);
        if (size > 0) {
          List<Step> world = new ArrayList<>();
          for (int i = 0; i < size; i++, done[f]++) {
            world.add(new Step(asked.fault, done[f], seedOf(seed, done[f])));
          }
          worlds.add(List.copyOf(world));
          more = true;
        }
      }
    }
    return List.copyOf(worlds);
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
