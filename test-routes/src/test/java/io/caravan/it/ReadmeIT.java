// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/**
 * The commands of README.md, in their order, in a copy of the repository as a newcomer has it after the build. What the README shows as
 * their output is compared, numbers aside. A block is left out only with {@code <!-- not run: why -->} before it.
 */
class ReadmeIT {
  private static final Pattern BLOCK = Pattern.compile("(?m)(?:^<!-- not run: (.+?) -->\\n)?^```sh\\n((?:(?!^```).*\\n)*)^```\\n(?:\\n?^```\\n((?:(?!^```).*\\n)*)^```$)?");
  private static final Duration LIMIT = Duration.ofMinutes(8);
  private static final int MAY_BE_LEFT_OUT = 2;
  private static final Set<String> NOT_COPIED = Set.of("target", "node_modules", ".git", "demo");

  private record Block(String why, String commands, List<String> shown) { }

  @Test
  void commandsOfTheReadmeDoWhatItSays() throws Exception {
    List<Block> blocks = blocks(Files.readString(Distribution.REPO.resolve("README.md")));
    assertTrue(blocks.stream().filter(b -> b.why == null).count() >= 2, "too few commands to prove anything");
    assertTrue(blocks.stream().filter(b -> b.why != null).count() <= MAY_BE_LEFT_OUT, "too many blocks are left out");
    assertTrue(blocks.stream().anyMatch(b -> b.why == null && !b.shown.isEmpty()), "no output is compared");
    Path copy = copy();
    for (Block block : blocks) {
      if (block.why == null) {
        run(block, copy);
      }
    }
  }

  @Test
  void aBrokenCommandAndAnotherOutputAreFound() throws Exception {
    Path folder = Distribution.REPO.resolve("test-routes/target/it/readme-control");
    Distribution.delete(folder);
    Files.createDirectories(folder);
    String text = "```sh\necho one 1   # said\n```\n\n```\none 7\n```\n<!-- not run: needs root -->\n```sh\nexit 1\n```\n\n```sh\nno-such-command\ntrue\n```\n\n```sh\necho two\n```\n\n```\nthree\n```\n";
    List<Block> blocks = blocks(text);
    assertEquals(4, blocks.size());
    run(blocks.get(0), folder);
    assertEquals("needs root", blocks.get(1).why);
    assertTrue(assertThrows(AssertionError.class, () -> run(blocks.get(2), folder)).getMessage().contains("no-such-command"));
    assertTrue(assertThrows(AssertionError.class, () -> run(blocks.get(3), folder)).getMessage().contains("three"));
  }

  private static List<Block> blocks(String text) {
    List<Block> blocks = new ArrayList<>();
    Matcher block = BLOCK.matcher(text);
    while (block.find()) {
      blocks.add(new Block(block.group(1), block.group(2), block.group(3) == null ? List.of() : block.group(3).lines().filter(l -> !l.isBlank()).toList()));
    }
    return blocks;
  }

  private static void run(Block block, Path folder) {
    Map<String, String> environment = new HashMap<>(Map.of("DEMO_SECONDS", "5", "DEMO_DEVICES", "2", "DEMO_EDIT_MS", "60000"));
    for (String port : List.of("MQTT", "BROKER", "HTTP", "CLOUD", "UPLINK")) {
      environment.put("DEMO_" + port + "_PORT", String.valueOf(Ports.free()));
    }
    try (Child child = Child.start("README", List.of("bash", "-e", "-o", "pipefail", "-c", block.commands), environment, folder, folder.resolve("readme-" + System.nanoTime() + ".log"))) {
      int exit = child.awaitExit(LIMIT);
      if (exit != 0) {
        throw new AssertionError("README.md: this ended with " + exit + ":\n" + block.commands + child.output());
      }
      List<String> printed = child.output().lines().map(ReadmeIT::withoutNumbers).toList();
      for (String line : block.shown) {
        if (printed.stream().noneMatch(p -> p.contains(withoutNumbers(line)))) {
          throw new AssertionError("README.md shows [" + line + "], which this does not print:\n" + block.commands + child.output());
        }
      }
    }
  }

  private static String withoutNumbers(String line) {
    return line.replaceAll("[0-9]+", "N").replaceAll("  +", " ").strip();
  }

  /** With what the build has made, so that it is not built again here. */
  private static Path copy() throws IOException {
    Path to = Distribution.REPO.resolve("test-routes/target/it/readme");
    Distribution.delete(to);
    Files.walkFileTree(Distribution.REPO, new SimpleFileVisitor<>() {
      @Override
      public FileVisitResult preVisitDirectory(Path folder, BasicFileAttributes attributes) throws IOException {
        String name = folder.getFileName().toString();
        if (NOT_COPIED.contains(name) && !folder.equals(Distribution.REPO)) {
          return FileVisitResult.SKIP_SUBTREE;
        }
        Files.createDirectories(to.resolve(Distribution.REPO.relativize(folder)));
        return FileVisitResult.CONTINUE;
      }

      @Override
      public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) throws IOException {
        if (attributes.isRegularFile()) {
          Files.copy(file, to.resolve(Distribution.REPO.relativize(file)), StandardCopyOption.COPY_ATTRIBUTES);
        }
        return FileVisitResult.CONTINUE;
      }
    });
    for (String built : List.of("karaf-assembly/gateway/target", "karaf-assembly/cloud/target")) {
      Files.createSymbolicLink(to.resolve(built), Distribution.REPO.resolve(built));
    }
    Path bench = Files.createDirectories(to.resolve("bench/target"));
    for (String built : List.of("lib", "caravan-bench-0.1.0.jar")) {
      Files.createSymbolicLink(bench.resolve(built), Distribution.REPO.resolve("bench/target").resolve(built));
    }
    // What bin/build leaves when it has built: newer than all sources.
    Files.createFile(bench.resolve("built"));
    return to;
  }
}
