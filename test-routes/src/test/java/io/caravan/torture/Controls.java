// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import io.caravan.bench.Verdict;
import io.caravan.it.Distribution;
import io.caravan.torture.Cycle.Kind;
import io.caravan.torture.Evidence.Request;
import io.caravan.torture.Judge.Arrival;
import io.caravan.torture.Judge.Row;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;

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
  private static final String WINDOW = "gateway_id, device_id, metric, start_ms, width_ms, part";
  private static final String ONE_WINDOW = " WHERE (" + WINDOW + ") IN (SELECT " + WINDOW + " FROM rollup_window LIMIT 1)";
  private static final String ONE_MESSAGE = " WHERE id = (SELECT min(id) FROM message)";

  /** A change of one record of the cloud, and what the oracle must say of it. */
  private record Spoilt(String name, String does, Verdict.Fault fault, String... sql) { }

  private static final List<Spoilt> OF_CLOUD = List.of(
      new Spoilt("lost-message", "one message is taken out of the cloud", Verdict.Fault.LOST, "DELETE FROM message" + ONE_MESSAGE),
      new Spoilt("doubled-message", "one message is twice in the cloud", Verdict.Fault.DOUBLED, "DROP INDEX message_key",
          "INSERT INTO message (gateway_id, device_id, message_key, kind, observed_at_ms, received_at_ms, body)"
              + " SELECT gateway_id, device_id, message_key, kind, observed_at_ms, received_at_ms, body FROM message" + ONE_MESSAGE),
      new Spoilt("altered-message", "one message has another body in the cloud", Verdict.Fault.ALTERED, "UPDATE message SET body = '{}'" + ONE_MESSAGE),
      new Spoilt("lost-window", "one window is taken out of the cloud", Verdict.Fault.WINDOW, "DELETE FROM rollup_window" + ONE_WINDOW),
      new Spoilt("doubled-window", "one window is twice in the cloud, as another part of it", Verdict.Fault.WINDOW,
          "INSERT INTO rollup_window (" + WINDOW + ", revision, count, min, max, sum, mean, last, last_observed_ms)"
              + " SELECT gateway_id, device_id, metric, start_ms, width_ms, 1 + (SELECT max(part) FROM rollup_window), revision, count, min, max, sum, mean, last,"
              + " last_observed_ms FROM rollup_window" + ONE_WINDOW),
      new Spoilt("altered-window", "one window has another sum in the cloud", Verdict.Fault.WINDOW, "UPDATE rollup_window SET sum = sum + 1" + ONE_WINDOW));

  /** Names of all that a campaign must have found, whatever was asked for: those of {@link #ofEvidence} and of {@link #ofStores}. */
  static final Set<String> NAMES = names();

  /** Names of those of {@link #ofProduct}. */
  static final Set<String> OF_PRODUCT = Set.of("ack-before-commit", "no-dedupe");

  private Controls() { }

  private static Set<String> names() {
    Set<String> names = new TreeSet<>(List.of("order-log", "order-analytics-behind-refused", "lost-promised"));
    OF_CLOUD.forEach(spoilt -> names.add(spoilt.name));
    for (String sink : World.SINKS) {
      names.addAll(List.of("lost-" + sink, "order-" + sink, "altered-" + sink));
    }
    Evidence.ONCE.forEach(sink -> names.add("doubled-" + sink));
    return names;
  }

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
    List<Arrival> taken = evidence.arrivals().get("analytics");
    controls.add(control("order-analytics-behind-refused", "two records of a device change places, behind a request that was refused and had them in order",
        evidence.with("analytics", Evidence.taken(List.of(new Request(503, taken), new Request(200, swapped(taken))))), Kind.ORDER));
    controls.add(new Control("order-log", "two rows of a board change places in the log",
        new Judge(swappedRows(evidence.rows())).order(Evidence.BOARDS).findings().stream().filter(f -> f.kind() == Kind.ORDER).count()));
    return controls;
  }

  /** The first two numbered rows of a board; each keeps its place and gets the other's key. */
  private static List<Row> swappedRows(List<Row> rows) {
    List<Row> swapped = new ArrayList<>(rows);
    for (int i = 0; i < rows.size(); i++) {
      Row one = rows.get(i);
      if (!one.device().startsWith(Evidence.BOARDS) || !KeySet.isNumbered(one.key())) {
        continue;
      }
      String boot = one.key().substring(0, one.key().lastIndexOf('/') + 1);
      for (int j = i + 1; j < rows.size(); j++) {
        Row other = rows.get(j);
        if (other.key().startsWith(boot) && KeySet.isNumbered(other.key())) {
          swapped.set(i, new Row(one.seq(), other.key(), one.device(), one.bodyHash()));
          swapped.set(j, new Row(other.seq(), one.key(), other.device(), other.bodyHash()));
          return swapped;
        }
      }
    }
    throw new IllegalStateException("no board has two rows: too little was sent for a control");
  }

  /**
   * Copies of both stores of a world in which nothing was found, spoilt in one record each, and judged by the oracle as they were.
   *
   * @param random chooses the message that is taken out of the log
   */
  static List<Control> ofStores(World world, Random random) throws Exception {
    Path folder = Files.createDirectories(world.folder().resolve("controls"));
    Path gateway = snapshot(world.gatewayDb(), folder.resolve("gateway.db"));
    Path cloud = snapshot(world.cloudDb(), folder.resolve("cloud.db"));
    Path spoilt = folder.resolve("spoilt.db");
    List<Control> controls = new ArrayList<>();
    List<String> promised = world.promisedKeys().stream().filter(KeySet::isNumbered).sorted().toList();
    spoil(gateway, spoilt, "DELETE FROM wal WHERE message_key = '" + promised.get(random.nextInt(promised.size())) + "'");
    controls.add(new Control("lost-promised", "one message that a device was promised is taken out of the log",
        world.oracle(spoilt, cloud).judge().faults(Verdict.Fault.LOST)));
    for (Spoilt one : OF_CLOUD) {
      spoil(cloud, spoilt, one.sql);
      controls.add(new Control(one.name, one.does, world.oracle(gateway, spoilt).judge().faults(one.fault)));
    }
    Distribution.delete(folder);
    return controls;
  }

  private static Path snapshot(Path store, Path to) throws SQLException {
    try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + store); Statement statement = connection.createStatement()) {
      statement.execute("PRAGMA busy_timeout = 10000");
      statement.execute("VACUUM INTO '" + to + "'");
    }
    return to;
  }

  private static void spoil(Path sound, Path spoilt, String... sql) throws IOException, SQLException {
    Files.copy(sound, spoilt, StandardCopyOption.REPLACE_EXISTING);
    try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + spoilt); Statement statement = connection.createStatement()) {
      int rows = 0;
      for (String one : sql) {
        rows += statement.executeUpdate(one);
      }
      if (rows != 1) {
        throw new IllegalStateException("a control must change one record, changed " + rows + ", too little was sent: " + String.join("; ", sql));
      }
    }
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
