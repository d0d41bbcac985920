// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.bench.Verdict;
import io.caravan.it.Distribution;
import io.caravan.it.Store;
import io.caravan.torture.Controls.Control;
import io.caravan.torture.Cycle.Kind;
import io.caravan.torture.Schedule.Step;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Queue;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.Consumer;
import java.util.stream.Collectors;

/**
 * Does what the schedule says: a world, faults in it one after the other, and at its end the comparison of everything with everything.
 * A world in which something was found keeps its folder. Worlds may be side by side, each of one thread.
 */
final class Campaign {
  private static final Duration DRAIN = Duration.ofSeconds(120);

  /** What a campaign came to. */
  static final class Result {
    final List<Cycle> cycles = new ArrayList<>();
    final List<Control> controls = new ArrayList<>();
    /** By sink: records that came once more. */
    final Map<String, Long> again = new TreeMap<>();
    /** Of the bench's oracle, summed up over worlds. */
    final Map<String, Long> counts = new LinkedHashMap<>();
    final List<Path> evidence = new ArrayList<>();
    /** Runs of the program: one, and one more for each time that it was gone on with. */
    final List<ObjectNode> parts = new ArrayList<>();
    int worlds;
    int planned;
    double seconds;
    /** Names of controls. */
    final Set<String> mustBeFound = new TreeSet<>(Controls.NAMES);

    boolean ok() {
      return !cycles.isEmpty() && cycles.stream().allMatch(Cycle::ok) && names().equals(mustBeFound) && controls.stream().allMatch(Control::ok);
    }

    private Set<String> names() {
      return controls.stream().map(Control::name).collect(Collectors.toSet());
    }
  }

  private interface Task {
    void with(Parts parts) throws Exception;
  }

  private final Path out;
  private final int rate;
  private volatile long endsAt;
  private final Consumer<String> progress;
  private final Consumer<Result> reporter;
  private final Journal journal;
  private final Result result;

  /**
   * @param out     gets a folder per world
   * @param rate    messages per second of the numbered devices
   * @param endsAt  nanoTime; no cycle begins after it
   * @param journal gets each world when it was compared; what it has is not done again
   * @param reporter gets the result after each world, and at the end
   */
  Campaign(Path out, int rate, long endsAt, Journal journal, Consumer<String> progress, Consumer<Result> reporter) throws IOException {
    this.out = out;
    this.rate = rate;
    this.endsAt = endsAt;
    this.progress = progress;
    this.reporter = reporter;
    this.journal = journal;
    this.result = journal.result();
  }

  /**
   * @param worlds   as {@link Schedule} made them, all of them
   * @param controls whether gateways that break their promise are tried, too
   * @param jobs     so many worlds side by side
   */
  Result run(List<List<Step>> worlds, long seed, boolean controls, int jobs) throws Exception {
    long begun = System.nanoTime();
    result.planned = worlds.stream().mapToInt(List::size).sum();
    Queue<Task> tasks = new ConcurrentLinkedQueue<>();
    if (controls) {
      result.mustBeFound.addAll(Controls.OF_PRODUCT);
      if (!result.names().containsAll(Controls.OF_PRODUCT)) {
        tasks.add(parts -> ofProduct(parts, seed));
      }
    }
    Set<String> done = result.cycles.stream().map(c -> c.fault() + " " + c.index()).collect(Collectors.toSet());
    for (List<Step> world : worlds) {
      List<Step> left = world.stream().filter(step -> !done.contains(step.fault() + " " + step.index())).toList();
      if (!left.isEmpty()) {
        tasks.add(parts -> world(parts, left, new Random(seed)));
      }
    }
    ExecutorService workers = Executors.newFixedThreadPool(jobs);
    try {
      List<Callable<Void>> all = new ArrayList<>();
      for (int i = 1; i <= Math.min(jobs, tasks.size()); i++) {
        Path folder = out.resolve("parts-" + i);
        all.add(() -> work(folder, tasks));
      }
      for (Future<Void> worker : workers.invokeAll(all)) {
        worker.get();
      }
    } finally {
      workers.shutdownNow();
    }
    synchronized (result) {
      double seconds = (System.nanoTime() - begun) / 1e9;
      result.seconds += seconds;
      journal.ended(seconds);
      reporter.accept(result);
      return result;
    }
  }

  /** From now on no cycle begins: those that run come to their end, and their worlds are compared. Of any thread. */
  void end() {
    endsAt = System.nanoTime();
  }

  private Void work(Path folder, Queue<Task> tasks) throws Exception {
    try (Parts parts = new Parts(folder)) {
      for (Task task = tasks.poll(); task != null && System.nanoTime() < endsAt; task = tasks.poll()) {
        task.with(parts);
      }
    } catch (Exception e) {
      end();   // the others compare what they have, and it is said now and not at the end of the night
      throw e;
    }
    Distribution.delete(folder);
    return null;
  }

  private void ofProduct(Parts parts, long seed) throws Exception {
    List<Control> found = Controls.ofProduct(out.resolve("controls"), parts, new Random(seed));
    found.forEach(control -> progress.accept("control " + control.name() + ": found " + control.found()));
    controls(found);
  }

  private void controls(List<Control> found) throws IOException {
    synchronized (result) {
      Set<String> before = result.names();
      for (Control control : found) {
        if (!before.contains(control.name())) {   // two worlds may have ended at once
          result.controls.add(control);
          journal.control(control);
        }
      }
    }
  }

  private void world(Parts parts, List<Step> steps, Random random) throws Exception {
    int number;
    synchronized (result) {
      number = ++result.worlds;
    }
    // States of a fault are of one cycle at a time.
    Map<String, Fault> faults = Faults.all().stream().collect(Collectors.toMap(Fault::name, fault -> fault));
    String name = "world-" + number;
    Path base = out.resolve(name);
    Distribution.delete(base);   // of a run that was cut off
    Files.createDirectories(base);
    Map<String, String> environment = new HashMap<>();
    Map<String, String> settings = new HashMap<>();
    boolean whole = true;
    for (Fault fault : steps.stream().map(step -> faults.get(step.fault())).distinct().toList()) {
      together(environment, fault.environment(base.resolve(name)), fault);
      together(settings, fault.settings(base.resolve(name)), fault);
      whole &= fault.keepsEverything();
    }
    List<Cycle> cycles = new ArrayList<>();
    Map<String, Long> again = new TreeMap<>();
    Map<String, Long> counts = new LinkedHashMap<>();
    boolean judged = false;
    try (World world = new World(base, name, parts, environment, settings, rate)) {
      for (Step step : steps) {
        if (System.nanoTime() > endsAt) {
          break;
        }
        Cycle cycle = new Cycle(step.fault(), step.seed(), step.index());
        cycles.add(cycle);
        cycle(world, faults.get(step.fault()), step, cycle);
        if (!cycle.ok()) {
          break;   // what comes after it would be blamed for it
        }
      }
      if (!cycles.isEmpty() && whole) {
        judge(world, cycles, random, again, counts);
      }
      judged = true;
    } catch (Exception | AssertionError e) {
      if (cycles.isEmpty()) {
        cycles.add(new Cycle(steps.get(0).fault(), steps.get(0).seed(), steps.get(0).index()));
      }
      cycles.get(cycles.size() - 1).fault(judged ? Kind.BROKEN : Kind.STUCK, 1, name + ": " + text(e));
    }
    if (cycles.isEmpty()) {
      // It was to end while the world started: nothing was done.
      Distribution.delete(base);
      synchronized (result) {
        result.worlds--;
      }
      return;
    }
    boolean ok = cycles.stream().allMatch(Cycle::ok);
    if (ok) {
      Distribution.delete(base);
    } else {
      evidence(base, cycles);
    }
    synchronized (result) {
      result.cycles.addAll(cycles);
      again.forEach((sink, n) -> result.again.merge(sink, n, Long::sum));
      counts.forEach((what, n) -> result.counts.merge(what, n, Long::sum));
      if (!ok) {
        result.evidence.add(base);
      }
    }
    journal.world(number, cycles, again, counts, ok ? null : base);
    synchronized (result) {
      reporter.accept(result);
    }
  }

  /** Two faults of a world must not want different things of the gateway. */
  private static void together(Map<String, String> all, Map<String, String> more, Fault fault) {
    more.forEach((key, value) -> {
      String before = all.putIfAbsent(key, value);
      if (before != null && !before.equals(value)) {
        throw new IllegalStateException("fault " + fault.name() + " needs " + key + " [" + value + "], another one of its world [" + before + "]");
      }
    });
  }

  private void cycle(World world, Fault fault, Step step, Cycle cycle) throws Exception {
    long begun = System.nanoTime();
    long promises = world.promises();
    long firstSeq = world.highestSeq() + 1;
    double recovery = Double.NaN;
    try {
      try {
        world.seed(step.seed());
        fault.inject(world, Schedule.random(step), cycle);
      } finally {
        fault.heal(world, cycle);
      }
      recovery = world.settle(begun, System.nanoTime());
      fault.check(world, cycle);
      if (fault.keepsEverything()) {
        List<String> missing = world.missing();
        if (!missing.isEmpty()) {
          cycle.fault(Kind.LOST, missing.size(), "promised to a device, not in the log: " + missing.subList(0, Math.min(5, missing.size())));
        }
      }
    } catch (Exception | AssertionError e) {
      cycle.fault(Kind.STUCK, 1, text(e));
    }
    cycle.rows(firstSeq, world.highestSeq());
    cycle.promised(world.promises() - promises);
    cycle.took((System.nanoTime() - begun) / 1e9, recovery);
    progress.accept(String.format(Locale.ROOT, "%-22s #%d  %5.1f s, first promise after %.2f s, %d promises%s", cycle.fault(), cycle.index(),
        cycle.seconds(), recovery, cycle.promises(), cycle.ok() ? "" : "  FAILED: " + cycle.found().get(0).text()));
  }

  private static String text(Throwable e) {
    Throwable cause = e.getCause() != null && (e instanceof ExecutionException) ? e.getCause() : e;
    String said = cause.getMessage() == null ? cause.toString() : cause.getMessage();
    return said.length() > 4_000 ? said.substring(0, 4_000) : said;
  }

  // ---- the comparison

  private void judge(World world, List<Cycle> cycles, Random random, Map<String, Long> again, Map<String, Long> counts) throws Exception {
    world.finish();
    Verdict verdict = world.oracle().waiting(DRAIN).judge();
    for (String what : List.of("stored", "promised (acked or receipted)", "windows in the cloud", "messages in the cloud", "rejected")) {
      counts.put(what, verdict.count(what));
    }
    Cycle last = cycles.get(cycles.size() - 1);
    for (Verdict.Fault fault : Verdict.Fault.values()) {
      if (verdict.faults(fault) > 0) {
        last.fault(kind(fault), verdict.faults(fault), "oracle: " + fault + " " + verdict.examples(fault));
      }
    }
    long open = Store.number(world.gatewayDb(), "SELECT count(*) FROM message_status WHERE status NOT IN ('Acked', 'Dead')");
    long unaccounted = Store.number(world.gatewayDb(), "SELECT coalesce(sum(abs(unaccounted)), 0) FROM ledger");
    if (open + unaccounted > 0) {
      last.fault(Kind.UNSETTLED, open + unaccounted, open + " messages have no final state at some sink, " + unaccounted + " are not accounted for");
    }
    if (!world.https().conflicts().isEmpty()) {
      last.fault(Kind.ALTERED, world.https().conflicts().size(), "analytics: one Idempotency-Key, two contents: " + world.https().conflicts());
    }
    Evidence evidence = Evidence.of(world);
    Map<Cycle, Map<Kind, List<String>>> found = new LinkedHashMap<>();
    for (Judge.Finding finding : evidence.judge(again)) {
      Cycle whose = cycles.stream().filter(c -> c.has(finding.seq())).findFirst().orElse(last);
      found.computeIfAbsent(whose, c -> new TreeMap<>()).computeIfAbsent(finding.kind(), k -> new ArrayList<>()).add(finding.text());
    }
    found.forEach((cycle, kinds) -> kinds.forEach((kind, texts) -> cycle.fault(kind, texts.size(), texts.get(0))));
    boolean controlled;
    synchronized (result) {
      controlled = result.names().containsAll(Controls.NAMES);
    }
    if (!controlled && cycles.stream().allMatch(Cycle::ok)) {
      controls(Controls.ofEvidence(evidence, random));
      controls(Controls.ofStores(world, random));
    }
    progress.accept(String.format(Locale.ROOT, "%s: %d cycles, %d rows, again %s: %s", world.name(), cycles.size(), evidence.rows().size(), again,
        cycles.stream().allMatch(Cycle::ok) ? "ok" : "FAILED"));
  }

  private static Kind kind(Verdict.Fault fault) {
    return switch (fault) {
      case LOST -> Kind.LOST;
      case DOUBLED -> Kind.DOUBLED;
      case INVENTED, ALTERED, WINDOW, REFUSED -> Kind.ALTERED;
      case LEDGER, BACKLOG, COMMAND -> Kind.UNSETTLED;
    };
  }

  private void evidence(Path base, List<Cycle> cycles) throws IOException {
    StringBuilder story = new StringBuilder();
    for (Cycle cycle : cycles) {
      story.append(cycle.fault()).append(" #").append(cycle.index()).append(", seed ").append(cycle.seed()).append(": ").append(cycle.story()).append('\n');
      cycle.found().forEach(f -> story.append("  ").append(f.kind()).append(' ').append(f.count()).append(": ").append(f.text()).append('\n'));
      if (!cycle.ok()) {
        story.append("  again: ").append(again(cycle)).append('\n');
      }
    }
    Files.writeString(base.resolve("story.txt"), story);
    cycles.stream().filter(cycle -> !cycle.ok()).forEach(cycle -> progress.accept("again: " + again(cycle) + "   evidence: " + base));
  }

  /** @return the command that repeats it */
  static String again(Cycle cycle) {
    return "bin/torture --seed " + cycle.seed() + " --only " + cycle.fault() + " --cycles 1";
  }
}
