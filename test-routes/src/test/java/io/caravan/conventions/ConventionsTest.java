// SPDX-License-Identifier: Apache-2.0
package io.caravan.conventions;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/** The repository keeps the rules of {@link Conventions}; each rule is shown to report what breaks it. */
class ConventionsTest {
  private static final Path ROOT = Path.of(System.getProperty("repo.dir", ".."));
  /** A small repository without a fault, and per rule the files that make one. */
  private static final Path FIXTURES = Path.of("src/test/conventions");

  @TempDir
  Path temp;

  @TestFactory
  Stream<DynamicTest> theRepositoryKeepsTheRule() throws IOException {
    Conventions conventions = new Conventions(new Repo(ROOT));
    Map<String, List<Finding>> findings = conventions.check().stream().collect(Collectors.groupingBy(Finding::rule));
    return Stream.concat(conventions.ruleNames().stream(), Stream.of("allow")).map(rule -> dynamicTest(rule, () -> {
      List<Finding> broken = findings.getOrDefault(rule, List.of());
      assertTrue(broken.isEmpty(), () -> "\n" + broken.stream().map(Finding::toString).collect(Collectors.joining("\n")));
    }));
  }

  @Test
  void theSmallRepositoryIsWithoutFault() throws IOException {
    copy(FIXTURES.resolve("good"), temp);
    assertEquals(List.of(), new Conventions(new Repo(temp)).check());
  }

  @TestFactory
  Stream<DynamicTest> theRuleReportsWhatBreaksIt() throws IOException {
    return cases("bad").map(name -> dynamicTest(name, () -> {
      String rule = name.replaceFirst("\\..*", "");
      List<Finding> findings = check(name, "bad");
      assertFalse(findings.isEmpty(), "nothing was reported");
      for (Finding f : findings) {
        assertEquals(rule, f.rule(), f::toString);
        assertTrue(Files.exists(temp.resolve(name).resolve(f.file())), f::toString);
        assertTrue(f.message().contains("["), () -> "must show the [value]: " + f);
      }
    }));
  }

  @TestFactory
  Stream<DynamicTest> whatIsAllowedIsNotReported() throws IOException {
    return cases("allowed").map(name -> dynamicTest(name, () -> assertEquals(List.of(), check(name, "allowed"))));
  }

  @Test
  void everyRuleHasAFixtureThatBreaksIt() throws IOException {
    var rules = new TreeSet<>(new Conventions(new Repo(ROOT)).ruleNames());
    rules.add("allow");
    assertEquals(rules, cases("bad").map(n -> n.replaceFirst("\\..*", "")).collect(Collectors.toCollection(TreeSet::new)));
  }

  private List<Finding> check(String name, String kind) throws IOException {
    Path root = temp.resolve(name);
    copy(FIXTURES.resolve("good"), root);
    copy(FIXTURES.resolve(kind).resolve(name), root);
    return new Conventions(new Repo(root)).check();
  }

  private static Stream<String> cases(String kind) throws IOException {
    try (Stream<Path> folders = Files.list(FIXTURES.resolve(kind))) {
      return folders.map(p -> p.getFileName().toString()).sorted().toList().stream();
    }
  }

  /** Lays a folder over another; an empty file takes the one below it away. */
  private static void copy(Path from, Path to) throws IOException {
    try (Stream<Path> files = Files.walk(from)) {
      for (Path p : files.filter(Files::isRegularFile).toList()) {
        Path target = to.resolve(from.relativize(p).toString());
        Files.createDirectories(target.getParent());
        if (Files.size(p) == 0) {
          Files.deleteIfExists(target);
        } else {
          Files.copy(p, target, StandardCopyOption.REPLACE_EXISTING);
        }
      }
    }
  }
}
