// SPDX-License-Identifier: Apache-2.0
package io.caravan.model;

import java.util.ArrayList;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

import io.caravan.commands.Status;

/**
 * What was promised about commands, judged by what the devices did and what was really said to and by them; it shares nothing
 * with what it judges but the events that are told. What breaks a promise is collected. Thread-safe.
 */
final class Oracle {
  /** A broken promise. */
  enum Fault {
    /** A command that is not idempotent was carried out, or published, more than once. */
    TWICE,
    /** Carried out, or published, after its time was over. */
    STALE,
    /** More within a window than its budget allows. */
    BUDGET,
    /** A status that nobody gave evidence for, or against evidence. */
    LIE,
    /** A status that does not follow from the one before, or a gap in revisions. */
    ORDER,
    /** Published before it was on disk that it may be, or promised and not kept. */
    NOT_DURABLE,
    /** Cloud and gateway do not agree in the end. */
    DISAGREE,
    /** Not final in the end. */
    OPEN,
    /** Something that must not be: another device's command, other content. */
    WRONG
  }

  record Violation(Fault fault, String text) {}

  record Budget(int count, long perMs) {}

  /** What the model knows of a capability. */
  record Ability(String name, boolean idempotent, List<Budget> budgets) {}

  record Event(long revision, Status status, String reason) {}

  private static final Map<Status, Set<Status>> NEXT = Map.of(
      Status.ACCEPTED, EnumSet.of(Status.QUEUED, Status.REJECTED, Status.EXPIRED),
      Status.QUEUED, EnumSet.of(Status.SENT, Status.REJECTED, Status.EXPIRED, Status.CANCELLED, Status.INDETERMINATE, Status.FAILED),
      Status.SENT, EnumSet.of(Status.DELIVERED, Status.FAILED, Status.INDETERMINATE),
      Status.DELIVERED, EnumSet.of(Status.SUCCEEDED, Status.FAILED, Status.INDETERMINATE),
      Status.INDETERMINATE, EnumSet.of(Status.SUCCEEDED, Status.FAILED));
  /** MQTT's message expiry counts whole seconds, rounded up. */
  private static final long EXPIRY_ROUNDING_MS = 1_000;

  /** One command, as the world sees it. */
  private final class Tracked {
    final String id;
    String device;
    String name;
    long deadline;
    long acceptedWall;
    long expiresWall;
    String boot;
    /** In which boot the gateway counts its time, and until when. */
    String countedIn;
    long countedUntil;
    /** When it may have left, each time; those that certainly did not are taken out again. */
    final List<Long> published = new ArrayList<>();
    boolean written;
    boolean got;
    boolean refused;
    final Set<String> said = new java.util.HashSet<>();
    final List<Long> ran = new ArrayList<>();
    final List<Event> events = new ArrayList<>();

    Tracked(String id) {
      this.id = id;
    }

    Status status() {
      return events.isEmpty() ? null : events.get(events.size() - 1).status;
    }

    @Override
    public String toString() {
      return id + " (" + name + " for " + device + ", deadline " + deadline + ", published " + published + ", ran " + ran + ", said " + said + ", " + events + ")";
    }
  }

  private final SimTime time;
  private final Map<String, Ability> abilities = new HashMap<>();
  private final Map<String, Tracked> commands = new LinkedHashMap<>();
  private final List<Violation> violations = new ArrayList<>();
  private final Map<String, Integer> counts = new java.util.TreeMap<>();

  Oracle(SimTime time, List<Ability> abilities) {
    this.time = time;
    abilities.forEach(a -> this.abilities.put(a.name, a));
  }

  synchronized void fault(Fault fault, String text) {
    violations.add(new Violation(fault, "at " + time.now() + " ms: " + text));
  }

  synchronized List<Violation> violations() {
    return List.copyOf(violations);
  }

  synchronized void count(String what) {
    counts.merge(what, 1, Integer::sum);
  }

  synchronized Map<String, Integer> counts() {
    return Map.copyOf(counts);
  }

  private Tracked of(String id) {
    return commands.computeIfAbsent(id, Tracked::new);
  }

  /**
   * The gateway begins in another boot than the one in which it counted the time of these: only the wall clock, as it is now, is left to
   * count it anew. What is done to that clock later changes nothing.
   */
  synchronized void countedAnew(List<String> ids) {
    for (String id : ids) {
      Tracked c = of(id);
      long wall = time.wallMs();
      c.countedIn = time.bootId();
      c.countedUntil = time.now() + (wall < c.acceptedWall ? 0 : c.expiresWall - wall);
    }
  }

  // ---- what happens between gateway and device

  /**
   * The gateway gives a command away.
   *
   * @param attempts what its store says, committed; null: the store does not know it
   */
  synchronized void published(String id, String device, Integer attempts, Status stored) {
    Tracked c = of(id);
    long now = time.now();
    count("published");
    if (attempts == null || attempts < 1) {
      fault(Fault.NOT_DURABLE, "published, and the store says attempts " + attempts + ": " + c);
    }
    if (stored != null && stored.isFinal()) {
      fault(Fault.LIE, "published although the store says " + stored + ": " + c);
    }
    if (c.device != null && !c.device.equals(device)) {
      fault(Fault.WRONG, "published to " + device + ": " + c);
    }
    if (c.boot != null && (!time.bootId().equals(c.countedIn) || now >= c.countedUntil)) {
      fault(Fault.STALE, "published after its time: " + c);
    }
    Ability ability = abilities.get(c.name);
    if (ability == null) {
      fault(Fault.WRONG, "published, and no device can do it: " + c);
      return;
    }
    if (!ability.idempotent && !c.published.isEmpty()) {
      fault(Fault.TWICE, "published again: " + c);
    }
    c.published.add(now);
    if (!ability.idempotent) {
      for (Budget budget : ability.budgets) {
        long used = commands.values().stream().filter(o -> device.equals(o.device) && ability.name.equals(o.name))
            .flatMap(o -> o.published.stream()).filter(t -> t > now - budget.perMs).count();
        if (used > budget.count) {
          fault(Fault.BUDGET, used + " within " + budget.perMs + " ms, allowed are " + budget.count + ": " + c);
        }
      }
    }
  }

  /** The last publication certainly did not leave, and the gateway was told so. */
  synchronized void notWritten(String id) {
    Tracked c = of(id);
    if (!c.published.isEmpty()) {
      c.published.remove(c.published.size() - 1);
    }
  }

  synchronized void written(String id) {
    of(id).written = true;
  }

  synchronized void refused(String id) {
    of(id).refused = true;
  }

  /** The device has it in hand. */
  synchronized void got(String id) {
    of(id).got = true;
  }

  synchronized void ran(String id, String device) {
    Tracked c = of(id);
    long now = time.now();
    count("ran");
    c.ran.add(now);
    Ability ability = abilities.get(c.name);
    if (ability != null && !ability.idempotent && c.ran.size() > 1) {
      fault(Fault.TWICE, "carried out again: " + c);
    }
    if (c.device != null && !c.device.equals(device)) {
      fault(Fault.WRONG, "carried out by " + device + ": " + c);
    }
    if (c.boot != null && c.boot.equals(time.bootId()) && now > c.deadline + EXPIRY_ROUNDING_MS) {
      fault(Fault.STALE, "carried out after its time: " + c);
    }
    refuseUndone(c);
  }

  synchronized void said(String id, String status) {
    of(id).said.add(status);
  }

  // ---- what the gateway tells

  /** An event of the gateway's, committed. @param ttlMs of the request that came in this very step, for the first one; null: unknown */
  synchronized void event(String id, String device, String name, long revision, Status status, String reason, Long ttlMs) {
    Tracked c = of(id);
    Status before = c.status();
    if (revision != c.events.size() + 1) {
      fault(Fault.ORDER, "revision " + revision + " " + status + " follows " + c.events.size() + ": " + c);
    }
    if (before == null ? status != Status.ACCEPTED : !NEXT.getOrDefault(before, Set.of()).contains(status)) {
      fault(Fault.ORDER, before + " -> " + status + ": " + c);
    }
    if (c.events.isEmpty()) {
      c.device = device;
      c.name = name;
      c.boot = time.bootId();
      c.acceptedWall = time.wallMs();
      long ttl = ttlMs == null ? 0 : ttlMs;
      c.deadline = time.now() + ttl;
      c.expiresWall = time.wallMs() + ttl;
      c.countedIn = c.boot;
      c.countedUntil = c.deadline;
    }
    c.events.add(new Event(revision, status, reason));
    if (status.isFinal()) {
      count(status + (reason == null ? "" : " " + reason));
    }
    boolean control = "gateway".equals(c.device);
    boolean ok = control || switch (status) {
      case SENT -> c.written || c.got || c.refused;
      case DELIVERED -> c.got;
      case SUCCEEDED -> c.said.contains("succeeded");
      case FAILED -> "device_rejected".equals(reason) ? c.said.contains("rejected") || c.refused : c.said.contains("failed");
      default -> true;
    };
    if (!ok) {
      fault(Fault.LIE, status + " without evidence: " + c);
    }
    refuseUndone(c);
  }

  private void refuseUndone(Tracked c) {
    Status status = c.status();
    if ((status == Status.REJECTED || status == Status.EXPIRED || status == Status.CANCELLED) && (!c.ran.isEmpty() || !c.published.isEmpty())) {
      fault(Fault.LIE, status + " promises that it was never sent: " + c);
    }
  }

  // ---- in the end

  synchronized void finish() {
    for (Tracked c : commands.values()) {
      if (c.events.isEmpty()) {
        if (!c.published.isEmpty() || !c.ran.isEmpty()) {
          fault(Fault.NOT_DURABLE, "nobody ever told of it: " + c);
        }
      } else if (!c.status().isFinal()) {
        fault(Fault.OPEN, c.toString());
      }
    }
  }

  synchronized List<Event> events(String id) {
    return commands.containsKey(id) ? List.copyOf(commands.get(id).events) : List.of();
  }

  synchronized Set<String> known() {
    Set<String> ids = new java.util.LinkedHashSet<>();
    commands.values().stream().filter(c -> !c.events.isEmpty()).forEach(c -> ids.add(c.id));
    return ids;
  }

  synchronized int runs(String id) {
    return commands.containsKey(id) ? commands.get(id).ran.size() : 0;
  }

  synchronized String describe(String id) {
    return commands.containsKey(id) ? commands.get(id).toString() : id + " (unknown)";
  }
}
