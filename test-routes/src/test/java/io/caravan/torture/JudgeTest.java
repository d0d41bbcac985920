// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.torture.Controls.Control;
import io.caravan.torture.Cycle.Kind;
import io.caravan.torture.Evidence.Request;
import io.caravan.torture.Judge.Arrival;
import io.caravan.torture.Judge.Finding;
import io.caravan.torture.Judge.Row;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;

/** Each gate of the judge: with evidence that is whole it finds nothing, with one record spoilt it finds that and nothing else. */
class JudgeTest {
  private static String key(String device, int number) {
    return device + "/b1/" + KeySet.padded(number);
  }

  /** Two devices, in turns. */
  private static List<Row> log() {
    List<Row> rows = new ArrayList<>();
    for (int n = 1; n <= 20; n++) {
      String device = n % 2 == 0 ? "sim-1" : "sim-2";
      rows.add(new Row(n, key(device, (n + 1) / 2), device, n * 31));
    }
    return rows;
  }

  private static List<Arrival> arrived() {
    return new ArrayList<>(log().stream().map(r -> new Arrival(r.seq(), r.key(), r.device(), r.bodyHash())).toList());
  }

  private static List<Kind> judge(List<Arrival> arrived, boolean once, Set<Long> dead) {
    Judge judge = new Judge(log()).order("sim-");
    judge.sink("s", arrived, once, dead);
    return judge.findings().stream().map(Finding::kind).toList();
  }

  @Test
  void wholeEvidenceIsWhole() {
    assertEquals(List.of(), judge(arrived(), true, Set.of()));
  }

  @Test
  void aRecordThatIsMissingIsLostUnlessItIsADeadLetter() {
    List<Arrival> arrived = arrived();
    arrived.remove(6);
    assertEquals(List.of(Kind.LOST), judge(arrived, true, Set.of()));
    assertEquals(List.of(), judge(arrived, true, Set.of(7L)));
  }

  @Test
  void aRecordThatIsThereTwiceIsDoubledWhereTheReceiverDoesNotTell() {
    List<Arrival> arrived = arrived();
    arrived.add(arrived.get(3));
    assertEquals(List.of(Kind.DOUBLED), judge(arrived, true, Set.of()));
    assertEquals(List.of(), judge(arrived, false, Set.of()));
    assertEquals(1, new Judge(log()).sink("s", arrived, false, Set.of()));
  }

  @Test
  void twoOfADeviceInTheWrongOrderAreFoundTwoOfDifferentDevicesAreNot() {
    List<Arrival> arrived = arrived();
    Collections.swap(arrived, 4, 6);
    assertEquals(List.of(Kind.ORDER), judge(arrived, true, Set.of()));
    arrived = arrived();
    Collections.swap(arrived, 4, 5);
    assertEquals(List.of(), judge(arrived, true, Set.of()));
  }

  @Test
  void aRecordThatCameAgainLaterBreaksNoOrder() {
    List<Arrival> arrived = arrived();
    arrived.addAll(6, arrived().subList(0, 6));
    assertEquals(List.of(), judge(arrived, false, Set.of()));
  }

  @Test
  void aRequestThatWasRefusedHasNotArrived() {
    List<Arrival> disorder = arrived();
    Collections.swap(disorder, 4, 6);
    List<Arrival> taken = Evidence.taken(List.of(new Request(503, arrived()), new Request(200, disorder)));
    assertEquals(List.of(Kind.ORDER), judge(taken, false, Set.of()));
    assertEquals(0, new Judge(log()).sink("s", taken, false, Set.of()));
    assertEquals(1, new Judge(log()).sink("s", Evidence.taken(List.of(new Request(200, arrived()), new Request(204, arrived().subList(0, 1)))), false, Set.of()));
  }

  @Test
  void anotherBodyAnotherDeviceAndAnInventedRecordAreFound() {
    List<Arrival> arrived = arrived();
    arrived.set(2, new Arrival(3, arrived.get(2).key(), arrived.get(2).device(), 0));
    assertEquals(List.of(Kind.ALTERED), judge(arrived, true, Set.of()));
    arrived.set(2, new Arrival(3, arrived.get(2).key(), "other", 93));
    assertEquals(List.of(Kind.ALTERED, Kind.LOST), judge(arrived, true, Set.of()));
    arrived = arrived();
    arrived.add(new Arrival(21, key("sim-1", 11), "sim-1", 1));
    assertEquals(List.of(Kind.ALTERED), judge(arrived, true, Set.of()));
  }

  @Test
  void aLogInWhichADevicesNumbersFallIsFound() {
    List<Row> log = log();
    Row four = log.get(3);
    log.set(3, new Row(4, log.get(5).key(), four.device(), four.bodyHash()));
    log.set(5, new Row(6, four.key(), four.device(), log.get(5).bodyHash()));
    assertEquals(List.of(Kind.ORDER), new Judge(log).order("sim-").findings().stream().map(Finding::kind).toList());
    assertEquals(List.of(), new Judge(log).order("disorder-").findings());
  }

  @Test
  void aLineOfASinkIsReadAsTheContractSaysAndNothingElse() {
    Arrival a = Judge.arrival("{\"seq\":4711,\"gateway_id\":\"g\",\"message_key\":\"d/b/0000000000000042\",\"correlation_id\":\"c\",\"device_id\":\"d\","
        + "\"kind\":\"event\",\"body\":{\"data\":{\"body\":1}}}");
    assertEquals(new Arrival(4711, "d/b/0000000000000042", "d", "{\"data\":{\"body\":1}}".hashCode()), a);
    assertThrows(IllegalArgumentException.class, () -> Judge.arrival("{\"gateway_id\":\"g\"}"));
  }

  /** The controls of a campaign find what they spoil; with gates that find nothing they would say so. */
  @Test
  void controlsFindWhatTheySpoil() {
    Map<String, List<Arrival>> arrivals = new TreeMap<>();
    Map<String, Set<Long>> dead = new HashMap<>();
    World.SINKS.forEach(sink -> {
      arrivals.put(sink, arrived());
      dead.put(sink, Set.of());
    });
    Evidence evidence = new Evidence(log(), arrivals, dead);
    assertEquals(List.of(), evidence.judge(new HashMap<>()));
    List<Control> controls = Controls.ofEvidence(evidence, new Random(1));
    Set<String> names = new TreeSet<>(controls.stream().map(Control::name).toList());
    assertEquals(controls.size(), names.size());
    assertTrue(Controls.NAMES.containsAll(names) && names.containsAll(Set.of("order-log", "order-analytics-behind-refused", "lost-file")), names::toString);
    assertTrue(controls.stream().allMatch(Control::ok), controls::toString);
    assertTrue(!new Control("blind", "nothing", 0).ok());
  }
}
