// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.caravan.it.Distribution;
import io.caravan.torture.Schedule.Asked;
import io.caravan.torture.Schedule.Step;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.LocalTime;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;
import sun.misc.Signal;

/** The command line of the campaign runner. */
@Command(name = "bin/torture", mixinStandardHelpOptions = true, sortOptions = false, usageHelpWidth = 120, description = {
    "Breaks the gateway and what surrounds it, again and again, and compares what devices were promised with what is in every sink and in the cloud."
        + " docs/torture.md.",
    "Exit 0: nothing was found and every negative control was; 1: something was found; 2: it could not be done."})
public final class Torture implements Callable<Integer> {
  /** What is asked of a full campaign, beside 50 of every fault. */
  private static final Map<String, Integer> FULL = Map.of("kill-gateway", 500, "power-loss", 100);
  private static final int FULL_OTHERS = 50;
  private static final int RATE = 100;

  @Spec
  private CommandSpec spec;

  @Option(names = "--short", description = "each fault once, most of them in one world (the default)")
  boolean brief;

  @Option(names = "--full", description = "500 kills, 100 power losses, 50 of each other fault: a night or two")
  boolean full;

  @Option(names = "--seed", paramLabel = "N", description = "chooses moments, places and order; the same seed, the same schedule (chosen and printed)")
  Long seed;

  @Option(names = "--only", split = ",", paramLabel = "FAULT", description = "these faults only; see --list")
  List<String> only = new ArrayList<>();

  @Option(names = "--cycles", paramLabel = "N", description = "so many cycles of each fault")
  Integer cycles;

  @Option(names = "--minutes", paramLabel = "N", description = "begin no cycle after that time; what was planned and what was done is in the report")
  Integer minutes;

  @Option(names = "--controls", description = "also gateways that break their promise on purpose, which must be found (with --full always)")
  boolean controls;

  @Option(names = "--jobs", paramLabel = "N", description = "so many worlds side by side, each with servers of its own: many faults are waited for (1)")
  int jobs = 1;

  @Option(names = "--resume", description = "goes on with the campaign of --out, with its seed and what it was asked for; worlds that were not compared to their end are done again")
  boolean resume;

  @Option(names = "--rate", paramLabel = "N", description = "messages per second of the numbered devices (" + RATE + ")")
  Integer rate;

  @Option(names = "--out", paramLabel = "DIR", description = "gets torture.json, torture.html and the folders of what failed (test-routes/target/torture)")
  Path out = Distribution.REPO.resolve("test-routes/target/torture");

  @Option(names = "--list", description = "the faults, and whether this machine can do them")
  boolean list;

  private volatile Campaign campaign;
  private volatile boolean ending;

  /** @param args see --help */
  public static void main(String[] args) {
    Torture torture = new Torture();
    // What was done is compared and reported before it goes; asked a second time, it goes at once. No shutdown hook: that of Child takes the world away.
    Signal.handle(new Signal("TERM"), signal -> torture.end());
    System.exit(new CommandLine(torture).setExecutionExceptionHandler((e, line, parsed) -> {
      if (e instanceof IllegalArgumentException || e instanceof IllegalStateException) {
        System.err.println("bin/torture: " + e.getMessage());
      } else {
        e.printStackTrace();
      }
      return 2;
    }).execute(args));
  }

  private void end() {
    Campaign running = campaign;
    if (running == null || ending) {
      System.exit(2);
    }
    ending = true;
    System.out.println("the cycles that run come to their end, and their worlds are compared: that takes minutes; a second SIGTERM ends it at once");
    running.end();
  }

  @Override
  public Integer call() throws Exception {
    if (list) {
      for (Fault fault : Faults.all()) {
        System.out.printf("%-24s (%d) %s%s%n", fault.name(), fault.number(), fault.does(), fault.unavailable() == null ? "" : " [" + fault.unavailable() + "]");
      }
      return 0;
    }
    if (brief && (full || cycles != null)) {
      throw new CommandLine.ParameterException(spec.commandLine(), "--short is one cycle of each fault: leave out --full and --cycles");
    }
    atLeastOne("--jobs", jobs);
    atLeastOne("--cycles", cycles);
    atLeastOne("--minutes", minutes);
    atLeastOne("--rate", rate);
    if (resume && (brief || full || controls || cycles != null || seed != null || rate != null || !only.isEmpty())) {
      throw new CommandLine.ParameterException(spec.commandLine(), "--resume goes on with what was asked for before: beside it only --minutes, --jobs and --out");
    }
    ObjectNode report = run(line -> System.out.println(LocalTime.now().truncatedTo(ChronoUnit.SECONDS) + " " + line));
    System.out.print(Report.table(report));
    System.out.println("report: " + out.resolve("torture.html") + " and torture.json");
    return report.path("ok").asBoolean() ? 0 : 1;
  }

  private void atLeastOne(String option, Integer value) {
    if (value != null && value < 1) {
      throw new CommandLine.ParameterException(spec.commandLine(), option + " [" + value + "] must be 1 or more");
    }
  }

  /** @return the report, which is also written */
  ObjectNode run(Consumer<String> progress) throws Exception {
    Path folder = Files.createDirectories(out.toAbsolutePath());
    Journal journal = resume ? Journal.open(folder) : null;
    if (resume) {
      asBefore(journal.what());
    }
    long chosen = seed != null ? seed : ThreadLocalRandom.current().nextLong(1, 1_000_000);
    List<Fault> faults = new ArrayList<>(Faults.all());
    List<String> names = faults.stream().map(Fault::name).toList();
    for (String name : only) {
      if (!names.contains(name)) {
        throw new IllegalArgumentException("--only [" + name + "] must be one of " + names);
      }
    }
    faults.removeIf(fault -> !only.isEmpty() && !only.contains(fault.name()));
    Map<String, String> missing = new LinkedHashMap<>();
    List<Asked> asked = new ArrayList<>();
    for (Fault fault : faults) {
      String why = fault.unavailable();
      if (why != null) {
        missing.put(fault.name(), why);
        progress.accept(fault.name() + " is not injected: " + why);
      } else {
        asked.add(new Asked(fault.name(), fault.alone(), cycles != null ? cycles : full ? FULL.getOrDefault(fault.name(), FULL_OTHERS) : 1));
      }
    }
    if (!only.isEmpty() && !missing.isEmpty()) {
      throw new IllegalStateException("asked for by name, and not possible here: " + missing);
    }
    int perSecond = rate == null ? RATE : rate;
    boolean one = !full && cycles == null;
    List<List<Step>> worlds = one ? Schedule.brief(asked, chosen) : Schedule.full(asked, chosen);
    Map<String, Object> what = new LinkedHashMap<>();
    what.put("campaign", full ? "full" : one ? "short" : "chosen");
    what.put("seed", chosen);
    what.put("only", only);
    what.put("cycles_each", cycles == null ? 0 : cycles);
    what.put("product_controls", full || controls);
    what.put("rate", perSecond);
    if (!resume) {
      clear(folder);
      journal = Journal.begin(folder, what);
    }
    ObjectNode part = new ObjectMapper().createObjectNode().put("date", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString())
        .put("commit", System.getProperty("build.commit", "unknown")).put("jobs", jobs);
    part.set("environment", new ObjectMapper().valueToTree(environment(folder)));
    journal.part(part);
    if (Nft.missing() == null) {
      Nft.clean();
    }
    long endsAt = System.nanoTime() + (minutes == null ? TimeUnit.DAYS.toNanos(365) : TimeUnit.MINUTES.toNanos(minutes));
    campaign = new Campaign(folder, perSecond, endsAt, journal, progress, result -> {
      try {
        Report.write(Report.json(what, faults, missing, result), folder);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    });
    progress.accept("seed " + chosen + ": " + worlds.stream().mapToInt(List::size).sum() + " cycles in " + worlds.size() + " worlds"
        + (resume ? ", of which " + journal.result().cycles.size() + " cycles were done before" : ""));
    return Report.json(what, faults, missing, campaign.run(worlds, chosen, full || controls, jobs));
  }

  private void asBefore(JsonNode what) {
    full = what.path("campaign").asText().equals("full");
    seed = what.path("seed").asLong();
    what.path("only").forEach(name -> only.add(name.asText()));
    cycles = what.path("cycles_each").asInt() == 0 ? null : Integer.valueOf(what.path("cycles_each").asInt());
    controls = what.path("product_controls").asBoolean();
    rate = what.path("rate").asInt();
  }

  /** Only what an earlier campaign left: the folder may be anybody's. */
  private static void clear(Path folder) throws IOException {
    try (DirectoryStream<Path> left = Files.newDirectoryStream(folder, "{torture.json,torture.jsonl,torture.html,parts*,controls,world-*}")) {
      for (Path p : left) {
        Distribution.delete(p);
      }
    }
  }

  private static Map<String, Object> environment(Path folder) throws IOException {
    Map<String, Object> environment = new LinkedHashMap<>();
    environment.put("cores", Runtime.getRuntime().availableProcessors());
    environment.put("cpu", Files.lines(Path.of("/proc/cpuinfo")).filter(l -> l.startsWith("model name")).findFirst().map(l -> l.replaceFirst(".*: ", "")).orElse("unknown"));
    environment.put("memory_mb", Long.parseLong(Files.readAllLines(Path.of("/proc/meminfo")).get(0).replaceAll("\\D", "")) / 1024);
    environment.put("kernel", System.getProperty("os.version"));
    environment.put("java", System.getProperty("java.version"));
    environment.put("fs", Files.getFileStore(folder).type());
    environment.put("user", "root".equals(System.getProperty("user.name")) ? "root" : "not root");
    environment.put("load_at_begin", Files.readString(Path.of("/proc/loadavg")).split(" ")[0]);
    return environment;
  }
}
