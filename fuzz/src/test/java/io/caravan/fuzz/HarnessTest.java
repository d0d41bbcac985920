// SPDX-License-Identifier: Apache-2.0
package io.caravan.fuzz;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The negative controls: that the harness finds what is broken, and that every target has kept inputs. */
class HarnessTest {
  private static final int RUNS = 200_000;

  @TempDir
  Path folder;

  /** Each has one mistake, each invariant finds its own; and what is right passes. */
  @ParameterizedTest
  @CsvSource({"exception, dev:1, dev:, String index out of range", "roundTrip, =12, =012, written again it is", "reader, {}, {a}, Jackson does not take it",
      "memory, LEa, LEaa, bytes were allocated", "message, id=a, id=\u001b[2J, control character", "listener, a, lost, did not reach the route", "neighbour, a, quit, the neighbour"})
  void aBrokenParserIsFound(String target, String good, String bad, String finding) throws Exception {
    Broken.run(target, good.getBytes(StandardCharsets.ISO_8859_1));
    Throwable found = assertThrows(Throwable.class, () -> Broken.run(target, bad.getBytes(StandardCharsets.ISO_8859_1)));
    assertTrue(String.valueOf(found.getMessage()).contains(finding), found.toString());
  }

  /** On an input that is in no corpus: guided by what runs, the fuzzer gets to it, names it and keeps it. */
  @Test
  @Timeout(value = 300, unit = TimeUnit.SECONDS)
  void theFuzzerGetsToTheMistake() throws Exception {
    Path log = folder.resolve("log");
    Process fuzzer = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-XX:+UseSerialGC", "-Xmx256m", "-cp", System.getProperty("java.class.path"),
        "com.code_intelligence.jazzer.Jazzer", "--target_class=io.caravan.fuzz.Broken$Exception", "--instrumentation_includes=io.caravan.fuzz.Broken*", "--reproducer_path=" + folder,
        "-runs=" + RUNS, "-seed=1", "-rss_limit_mb=4000", "-artifact_prefix=" + folder + File.separator).redirectErrorStream(true).redirectOutput(log.toFile()).start();
    int status = fuzzer.waitFor();
    String told = Files.readString(log, StandardCharsets.ISO_8859_1);
    assertTrue(status != 0 && told.contains("StringIndexOutOfBoundsException"), "within " + RUNS + " runs it must be found: status " + status + "\n" + told);
    try (Stream<Path> files = Files.list(folder)) {
      assertEquals(1, files.filter(f -> f.getFileName().toString().matches("crash-[0-9a-f]{40}")).count(), "the input is kept");
    }
  }

  @Test
  void everyTargetHasKeptInputs() throws IOException {
    Path tests = Path.of(System.getProperty("repo.dir"), "fuzz/src/test");
    List<Path> classes;
    try (Stream<Path> files = Files.walk(tests.resolve("java"))) {
      classes = files.filter(f -> f.toString().endsWith("Fuzz.java")).toList();
    }
    assertTrue(classes.size() >= 8, "targets were found: " + classes);
    for (Path each : classes) {
      String source = Files.readString(each);
      Path inputs = tests.resolve("resources").resolve(tests.resolve("java").relativize(each).toString().replace(".java", "Inputs"));
      String[] parts = source.split("@FuzzTest");
      for (int i = 1; i < parts.length; i++) {
        String name = parts[i].replaceFirst("(?s).*?\\n  void (\\w+)\\(.*", "$1");
        try (Stream<Path> kept = Files.list(inputs.resolve(name))) {
          assertTrue(kept.count() >= 3, inputs.resolve(name) + " must have inputs to begin with");
        }
      }
    }
  }
}
