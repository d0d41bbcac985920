// SPDX-License-Identifier: Apache-2.0
package io.caravan.model;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * Commands from phone to device and back against a model of what was promised: partitions, duplicates, reordering, deaths of
 * device, gateway and cloud between any two of their statements, clocks that are set. {@code -Dmodel.seconds=} goes on for so
 * long, {@code -Dmodel.seed=} repeats a run, {@code -Dmodel.steps=} makes runs longer or shorter.
 */
class CommandModelTest {
  private static final int SECONDS = Integer.getInteger("model.seconds", 0);
  private static final int RUNS = Integer.getInteger("model.runs", 1);
  private static final int STEPS = Integer.getInteger("model.steps", 200);
  private static final long SEED = Long.getLong("model.seed", 0);
  /** A control that has not failed after so many runs would not notice a mistake either. */
  private static final int CONTROL_RUNS = 15;

  @TempDir Path folder;
  private final Map<String, Integer> counts = new TreeMap<>();
  private int folders;

  @Test
  void promisesHold() throws Exception {
    Random seeds = new Random();
    long end = System.nanoTime() + SECONDS * 1_000_000_000L;
    int runs = 0;
    do {
      long seed = SEED != 0 ? SEED : 1 + seeds.nextInt(Integer.MAX_VALUE - 1);
      List<Oracle.Violation> found = run(new World.Setup(seed, STEPS, "", "", null));
      assertTrue(found.isEmpty(), () -> "-Dmodel.seed=" + seed + " -Dmodel.steps=" + STEPS + ": " + found);
      runs++;
    } while (SEED == 0 && (runs < RUNS || runs < RUNS + 3 && !enough() || System.nanoTime() < end));
    System.out.printf("command model: %d runs of %d steps, %s%n", runs, STEPS, counts);
    if (SEED == 0) {
      assertTrue(enough(), () -> "too little happened to prove anything: " + counts);
    }
  }

  private boolean enough() {
    long ends = counts.keySet().stream().filter(c -> c.matches("[A-Z]+( [a-z_]+)?")).count();
    return counts.getOrDefault("published", 0) > 5 * RUNS && counts.getOrDefault("ran", 0) > 2 * RUNS && counts.getOrDefault("SUCCEEDED", 0) > 0 && ends >= 5;
  }

  /** Each guard is taken away, and the model must notice. */
  @ParameterizedTest
  @CsvSource({
      "publish-before-commit,      '',       NOT_DURABLE",
      "forget-ids,                 '',       TWICE",
      "republish,                  '',       TWICE",
      "ignore-expiry,              '',       STALE",
      "ignore-budget,              '',       BUDGET",
      "delivered-without-evidence, '',       LIE",
      "'',                         no-order, ORDER"})
  void controlIsFound(String gateway, String cloud, Oracle.Fault expected) throws Exception {
    Map<Oracle.Fault, Integer> all = new EnumMap<>(Oracle.Fault.class);
    for (int seed = 1; seed <= CONTROL_RUNS; seed++) {
      for (Oracle.Violation v : run(new World.Setup(seed, STEPS, gateway, cloud, expected))) {
        all.merge(v.fault(), 1, Integer::sum);
        if (v.fault() == expected) {
          System.out.printf("command model control %s%s: found in run %d: %s%n", gateway, cloud, seed, v.text());
          return;
        }
      }
    }
    throw new AssertionError(gateway + cloud + " is broken, and " + CONTROL_RUNS + " runs did not find " + expected + ": the model is blind; found was " + all);
  }

  private List<Oracle.Violation> run(World.Setup setup) throws Exception {
    World world = new World(setup, folder.resolve("run" + ++folders));
    try (world) {
      world.run();
    } catch (Throwable e) {
      throw new AssertionError("seed " + setup.seed() + ", steps " + setup.steps() + ": " + String.join("\n  ", last(world)), e);
    }
    world.oracle.counts().forEach((k, v) -> counts.merge(k, v, Integer::sum));
    List<Oracle.Violation> found = world.oracle.violations();
    if (!found.isEmpty() && setup.broken().isEmpty() && setup.cloudBroken().isEmpty()) {
      System.out.printf("command model, seed %d, steps %d:%n  %s%n", setup.seed(), setup.steps(), String.join("\n  ", last(world)));
    }
    return found;
  }

  private static List<String> last(World world) {
    List<String> story = world.story();
    return story.subList(Math.max(0, story.size() - Integer.getInteger("model.story", 60)), story.size());
  }
}
