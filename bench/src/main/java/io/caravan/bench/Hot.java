// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordedFrame;
import jdk.jfr.consumer.RecordingFile;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** A flight recording as text that can be kept and compared: where the CPU was, and what was allocated. */
@Command(name = "hot", mixinStandardHelpOptions = true, sortOptions = false,
        description = "Top methods, libraries, threads and allocated classes of a flight recording, as text.")
final class Hot implements Callable<Integer> {
    @Option(names = "--jfr", required = true, paramLabel = "FILE", description = "flight recording")
    Path jfr;

    @Option(names = "--from", defaultValue = "0", description = "wall clock, ms: what was before is left out")
    long fromMs;

    @Option(names = "--to", defaultValue = "9223372036854775807", description = "wall clock, ms: what was after is left out")
    long toMs;

    @Option(names = "--top", defaultValue = "25", description = "lines of a table (${DEFAULT-VALUE})")
    int top;

    private final Map<String, Double> methods = new HashMap<>();
    private final Map<String, Double> libraries = new HashMap<>();
    private final Map<String, Double> owners = new HashMap<>();
    private final Map<String, Double> threads = new HashMap<>();
    private final Map<String, Double> classes = new HashMap<>();

    @Override
    public Integer call() throws IOException {
        read();
        print(System.out);
        return 0;
    }

    void read() throws IOException {
        try (RecordingFile file = new RecordingFile(jfr)) {
            while (file.hasMoreEvents()) {
                RecordedEvent event = file.readEvent();
                long ms = event.getStartTime().toEpochMilli();
                if (ms < fromMs || ms >= toMs || event.getStackTrace() == null || event.getStackTrace().getFrames().isEmpty()) {
                    continue;
                }
                List<RecordedFrame> frames = event.getStackTrace().getFrames();
                switch (event.getEventType().getName()) {
                    case "jdk.ExecutionSample" -> sampled(event, frames);
                    case "jdk.ObjectAllocationSample" -> classes.merge(event.getClass("objectClass").getName(), (double) event.getLong("weight"), Double::sum);
                    default -> { }
                }
            }
        }
        if (methods.isEmpty()) {
            throw new IOException("[" + jfr + "] has no samples between [" + fromMs + "] and [" + toMs + "]: record longer, or with settings=profile");
        }
    }

    private void sampled(RecordedEvent event, List<RecordedFrame> frames) {
        String method = name(frames.get(0));
        methods.merge(method, 1.0, Double::sum);
        libraries.merge(library(method), 1.0, Double::sum);
        threads.merge(event.getThread("sampledThread") == null ? "?" : thread(event.getThread("sampledThread").getJavaName()), 1.0, Double::sum);
        // Whose doing it is: the topmost frame that is not the JDK's.
        owners.merge(frames.stream().map(Hot::name).filter(n -> !library(n).equals("java")).findFirst().map(Hot::library).orElse("java"), 1.0, Double::sum);
    }

    void print(PrintStream out) {
        out.printf("%.0f samples of running Java code (native code, SQLite, the kernel and the collector are not among them)%n",
                methods.values().stream().mapToDouble(Double::doubleValue).sum());
        table(out, "libraries, by the method that ran", libraries);
        table(out, "libraries, by the topmost frame outside the JDK", owners);
        table(out, "threads", threads);
        table(out, "methods", methods);
        table(out, "allocated bytes, by class", classes);
    }

    private void table(PrintStream out, String title, Map<String, Double> counts) {
        double sum = counts.values().stream().mapToDouble(Double::doubleValue).sum();
        out.printf("%n%s%n", title);
        counts.entrySet().stream().sorted(Map.Entry.<String, Double>comparingByValue(Comparator.reverseOrder()).thenComparing(Map.Entry.comparingByKey()))
                .limit(top).forEach(e -> out.printf("%6.1f %%  %s%n", 100 * e.getValue() / sum, e.getKey()));
    }

    private static String name(RecordedFrame frame) {
        return frame.getMethod().getType().getName() + "." + frame.getMethod().getName();
    }

    private static String thread(String name) {
        // Threads of a pool are one.
        return name == null ? "?" : name.replaceAll("[0-9]+", "N");
    }

    /** The first packages that tell who wrote it; of this project one more, since that is where it can be changed. */
    static String library(String method) {
        String[] parts = method.split("\\.");
        if (parts[0].equals("java") || parts[0].equals("jdk") || parts[0].equals("sun")) {
            return "java";
        }
        int packages = method.startsWith("org.apache.") || method.startsWith("io.caravan.") || method.startsWith("com.fasterxml.") ? 3 : 2;
        return String.join(".", List.of(parts).subList(0, Math.min(packages, Math.max(1, parts.length - 2))));
    }
}
