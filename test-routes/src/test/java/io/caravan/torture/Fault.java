// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import java.nio.file.Path;
import java.util.Map;
import java.util.Random;

/**
 * One way in which a gateway's surroundings fail. A fault is made once and used for many cycles, one after the other, in one
 * thread; what belongs to a cycle is in {@link Cycle}, what it all happens to in {@link World}. All that is chosen is chosen by
 * the random numbers given, so that the seed repeats it.
 */
public interface Fault {
  /** @return such as {@code kill-gateway}; of lower-case letters, digits and hyphens, unique */
  String name();

  /** @return row of the list of faults in docs/torture.md */
  int number();

  /** @return one sentence: what is done, to what */
  String does();

  /**
   * @return why this machine cannot do it, such as {@code needs root}; null: it can. A fault that cannot be injected is named in
   *         the report and fails a campaign that was asked for it by name
   */
  default String unavailable() {
    return null;
  }

  /**
   * @return whether its cycles need a world of their own (fresh stores, nothing of it used afterwards), as faults do that damage
   *         the store on purpose
   */
  default boolean alone() {
    return false;
  }

  /**
   * @return whether what it leaves must be whole as always; false of a fault that destroys what was stored, which says in
   *         {@link #check} by itself what must be there
   */
  default boolean keepsEverything() {
    return true;
  }

  /**
   * Variables of the gateway's every start in a world in which this fault is planned, such as LD_PRELOAD. Those of all faults of
   * a world are put together; of one name all must have the same value.
   *
   * @param folder of the world, for files through which the process is told what to do
   */
  default Map<String, String> environment(Path folder) {
    return Map.of();
  }

  /** As {@link #environment}: settings of the gateway, such as {@code wal.checkpoint.bytes}. */
  default Map<String, String> settings(Path folder) {
    return Map.of();
  }

  /**
   * Brings it about, under load, and returns when it has been there for as long as it should. Both sides run and are ready when
   * this is called, and nothing else is broken.
   *
   * @throws Exception the cycle ends with {@link #heal} and counts as failed
   */
  void inject(World world, Random random, Cycle cycle) throws Exception;

  /**
   * Takes it away; also called when {@link #inject} threw, and may then find nothing to do. Afterwards nobody helps: the world
   * waits until both sides are ready, a device was promised something, and every sink has what was promised until then.
   */
  default void heal(World world, Cycle cycle) throws Exception { }

  /** What else must be true after recovery; finds by {@link Cycle#fault}. */
  default void check(World world, Cycle cycle) throws Exception { }
}
