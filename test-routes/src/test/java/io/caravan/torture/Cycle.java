// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** One injection of one fault: who, with which seed, what was measured and what was found. Used by one thread. */
public final class Cycle {
  /** What can be wrong after it. */
  public enum Kind {
    /** Promised to a device, and not where it must be. */
    LOST,
    /** Has its effect twice at a receiver that does what the contract asks of it. */
    DOUBLED,
    /** A device's messages in another order than they were stored in. */
    ORDER,
    /** There, with another content, or sent by nobody. */
    ALTERED,
    /** Neither delivered nor a dead letter in the time given, or the books do not balance. */
    UNSETTLED,
    /** Did not come back by itself. */
    STUCK,
    /** An invariant of the fault itself. */
    BROKEN
  }

  /** @param text with an example */
  public record Found(Kind kind, long count, String text) { }

  private final String fault;
  private final long seed;
  private final int index;
  private final Map<String, Double> figures = new LinkedHashMap<>();
  private final List<Found> found = new ArrayList<>();
  private final List<String> story = new ArrayList<>();
  private long firstSeq;
  private long lastSeq;
  private long promises;
  private double seconds;
  private double recoverySeconds = Double.NaN;

  Cycle(String fault, long seed, int index) {
    this.fault = fault;
    this.seed = seed;
    this.index = index;
  }

  /** @return the fault's name */
  public String fault() {
    return fault;
  }

  /** @return that of this cycle alone: {@code bin/torture --seed <it> --only <fault> --cycles 1} repeats it */
  public long seed() {
    return seed;
  }

  /** @return its number among those of its fault, from 0 */
  public int index() {
    return index;
  }

  /**
   * A figure of this cycle for the report, where it is summed up over cycles.
   *
   * @param name such as {@code images}; with a unit at the end where it has one, such as {@code down_ms}
   */
  public void figure(String name, double value) {
    figures.merge(name, value, Double::sum);
  }

  /** Something that must not be. The cycle has failed. */
  public void fault(Kind kind, long count, String text) {
    found.add(new Found(kind, count, text));
  }

  /** A line of what was done, for the evidence folder. */
  public void note(String what) {
    story.add(what);
  }

  /** @return whether nothing was found */
  public boolean ok() {
    return found.isEmpty();
  }

  long count(Kind kind) {
    return found.stream().filter(f -> f.kind() == kind).mapToLong(Found::count).sum();
  }

  List<Found> found() {
    return found;
  }

  Map<String, Double> figures() {
    return figures;
  }

  List<String> story() {
    return story;
  }

  /** Rows of the log that came into being during it: whose loss is its loss. */
  void rows(long first, long last) {
    firstSeq = first;
    lastSeq = last;
  }

  boolean has(long seq) {
    return seq >= firstSeq && seq <= lastSeq;
  }

  void promised(long n) {
    promises = n;
  }

  long promises() {
    return promises;
  }

  void took(double all, double recovery) {
    seconds = all;
    recoverySeconds = recovery;
  }

  double seconds() {
    return seconds;
  }

  /** From the end of the fault (or the restart) to the first promise to a device; NaN: none came. */
  double recoverySeconds() {
    return recoverySeconds;
  }

  /** @return all that a report says of it */
  ObjectNode json() {
    ObjectNode json = JsonNodeFactory.instance.objectNode().put("fault", fault).put("index", index).put("seed", seed).put("promised", promises).put("seconds", seconds);
    if (!Double.isNaN(recoverySeconds)) {
      json.put("first_promise_s", recoverySeconds);
    }
    figures.forEach((name, value) -> json.withObject("/figures").put(name, value));
    found.forEach(f -> json.withArray("/found").addObject().put("kind", f.kind().name()).put("count", f.count()).put("text", f.text()));
    return json;
  }

  /** @param json as {@link #json} made it */
  static Cycle of(JsonNode json) {
    Cycle cycle = new Cycle(json.path("fault").asText(), json.path("seed").asLong(), json.path("index").asInt());
    cycle.promised(json.path("promised").asLong());
    cycle.took(json.path("seconds").asDouble(), json.path("first_promise_s").asDouble(Double.NaN));
    json.path("figures").properties().forEach(e -> cycle.figure(e.getKey(), e.getValue().asDouble()));
    json.path("found").forEach(f -> cycle.fault(Kind.valueOf(f.path("kind").asText()), f.path("count").asLong(), f.path("text").asText()));
    return cycle;
  }
}
