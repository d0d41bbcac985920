// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import io.caravan.bench.Verdict;
import io.caravan.it.Distribution;
import io.caravan.torture.Cycle.Kind;
import io.caravan.torture.Judge.Arrival;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;

/**
 * What must be found: evidence of the campaign itself, spoilt on purpose in one record. A campaign in which one of these finds nothing
 * has failed, whatever else it says.
 */
final class Controls {
  /** @param found how many findings of the kind that must be there */
  record Control(String name, String does, long found) {
    boolean ok() {
      return found > 0;
    }
  }

  /** A control that has not failed after so many kills would not notice a mistake either. */
  private static final int KILLS = 20;
  /** So many of evidence there are. */
  static final int COUNT = 3 * World.SINKS.size() + Evidence.ONCE.size();

  /** Names of those of {@link #ofProduct}. */
  static final Set<String> OF_PRODUCT = Set.of("ack-before-commit", "no-dedupe");

  private Controls() { }

  /** @param evidence of a world in which nothing was found; @param random chooses sinks and records */
  static List<Control> ofEvidence(Evidence evidence, Random random) {
    List<Control> controls = new ArrayList<>();
    for (String sink : World.SINKS) {
      List<Arrival> arrived = evidence.arrivals().get(sink);
      String key = arrived.get(random.nextInt(arrived.size())).key();
      List<Arrival> without = arrived.stream().filter(a -> !a.key().equals(key)).toList();
      controls.add(control("lost-" + sink, "one record is taken out of what " + sink + " has", evidence.with(sink, without), Kind.LOST));

      List<Arrival> swapped = swapped(arrived);
      controls.add(control("order-" + sink, "two records of a device change places in what " + sink + " has", evidence.with(sink, swapped), Kind.ORDER));

      Arrival one = arrived.get(0);
      List<Arrival> altered = new ArrayList<>(arrived);
      altered.set(0, new Arrival(one.seq(), one.key(), one.device(), one.bodyHash() + 1));
      controls.add(control("altered-" + sink, "one record of " + sink + " has another body", evidence.with(sink, altered), Kind.ALTERED));

      if (Evidence.ONCE.contains(sink)) {
        List<Arrival> doubled = new ArrayList<>(arrived);
        doubled.add(arrived.get(random.nextInt(arrived.size())));
        controls.add(control("doubled-" + sink, "one record is twice in what " + sink + " has", evidence.with(sink, doubled), Kind.DOUBLED));
      }
    }
    return controls;
  }

  /**
   * Gateways in which a promise is broken on purpose, in worlds of their own; the same load, the same kills, the same comparison.
   * Takes minutes: not part of the short campaign.
   *
   * @param base gets their folders, which are deleted again
   */
  static List<Control> ofProduct(Path base, Parts parts, Random random) throws Exception {
    List<Control> controls = new ArrayList<>();
    long lost = 0;
    int kills = 0;
    try (World world = new World(base, "control-ack", parts, Map.of(),
        Map.of("wal.unsafe.ack", "before-commit", "wal.commit.max", "10000", "mqtt.server.inflight.max", "16000"), World.FLOOD)) {
      for (; lost == 0 && kills < KILLS; kills++) {
        world.awaitPromises(2_000 + random.nextInt(10_000));
        world.killGateway();
        // Before the devices are there again: what was lost is not sent again, a device keeps nothing that was acknowledged.
        lost = world.missing().size();
        if (lost == 0) {
          world.restartGateway();
        }
      }
    }
    controls.add(new Control("ack-before-commit", "wal.unsafe.ack=before-commit, killed " + kills + " times: promised and not in the log", lost));
    try (World world = new World(base, "control-dedupe", parts, Map.of(), Map.of("wal.unsafe.dedupe", "off"), 50)) {
      world.awaitPromises(500);
      // Boards that wait for receipts would wait for ever: what is stored twice does not count as progress.
      world.abandon();
      long doubled = world.oracle().judge().faults(Verdict.Fault.DOUBLED);
      controls.add(new Control("no-dedupe", "wal.unsafe.dedupe=off, devices that repeat themselves: in the log twice", doubled));
    }
    Distribution.delete(base);
    return controls;
  }

  private static Control control(String name, String does, Evidence spoilt, Kind kind) {
    return new Control(name, does, spoilt.judge(new HashMap<>()).stream().filter(f -> f.kind() == kind).count());
  }

  /** The first two records of the device of the first one, where neither came twice. */
  private static List<Arrival> swapped(List<Arrival> arrived) {
    List<Arrival> swapped = new ArrayList<>(arrived);
    for (int i = 0; i < arrived.size(); i++) {
      Arrival one = arrived.get(i);
      for (int j = i + 1; j < arrived.size(); j++) {
        Arrival other = arrived.get(j);
        boolean repeated = Collections.frequency(arrived.subList(0, j), other) > 0;
        if (other.device().equals(one.device()) && other.seq() > one.seq() && !repeated) {
          Collections.swap(swapped, i, j);
          return swapped;
        }
      }
    }
    throw new IllegalStateException("no device has two records: too little was sent for a control");
  }
}
