// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.jar.JarFile;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.maven.artifact.versioning.DefaultArtifactVersion;
import org.apache.maven.artifact.versioning.VersionRange;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.snakeyaml.engine.v2.api.Load;
import org.snakeyaml.engine.v2.api.LoadSettings;

/** security/advisories.yaml is true for what is shipped. */
class AdvisoriesIT {
  private static final Set<String> ANSWERS = Set.of("fixed", "mitigated", "not-affected", "absent");
  private static final Set<String> KEYS = Set.of("id", "aliases", "component", "inside", "affected", "do", "note", "tests");
  private static final List<Path> HOMES = new ArrayList<>();
  private static List<Sbom> shipped;
  private static List<Map<String, Object>> advisories;

  @BeforeAll
  static void read() throws Exception {
    shipped = new ArrayList<>();
    for (String side : List.of("gateway", "cloud")) {
      Path home = Distribution.unpack(side, "advisories-" + side).home;
      HOMES.add(home);
      shipped.addAll(Sbom.read(home.resolve(Sbom.FILE)));
    }
    advisories = load(Files.readString(Distribution.REPO.resolve("security/advisories.yaml")));
  }

  @Test
  void everyAdvisoryIsAnsweredTruthfully() throws Exception {
    assertTrue(advisories.size() > 30, advisories::toString);
    assertEquals(List.of(), problems(advisories, shipped));
  }

  /** What the check above must find, one mistake each. */
  @Test
  void untrueAnswersAreFound() throws Exception {
    Sbom netty = new Sbom("pkg:maven/io.netty/netty-codec@4.1.120.Final", "netty-codec", "4.1.120.Final", "", 1, "a.jar", List.of());
    Sbom inner = new Sbom("pkg:maven/io.netty/netty-codec@4.1.120.Final", "netty-codec", "4.1.120.Final", "", 1, "b.jar",
        List.of("pkg:maven/a/b@1"));
    String entry = "- {id: X-1, component: pkg:maven/io.netty/netty-codec, affected: '[0,4.1.133.Final)', do: %s, note: n%s}";
    String tested = ", tests: [io.caravan.it.AdvisoriesIT#untrueAnswersAreFound]";
    assertEquals(List.of(), problems(load(entry.formatted("mitigated", tested)), List.of(netty)));
    assertProblem("is affected", entry.formatted("fixed", ""), netty);
    assertProblem("needs a test", entry.formatted("mitigated", ""), netty);
    assertProblem("needs a test", entry.formatted("not-affected", ""), netty);
    assertProblem("there is no such test", entry.formatted("mitigated", ", tests: [io.caravan.it.AdvisoriesIT#nothing]"), netty);
    assertProblem("there is no such test", entry.formatted("mitigated", ", tests: [io.caravan.it.NoSuchIT#a]"), netty);
    assertProblem("there is no such test", entry.formatted("mitigated", ", tests: [io.caravan.it.AdvisoriesIT#read]"), netty);
    assertProblem("is shipped", entry.formatted("absent", ""), netty);
    assertProblem("not shipped any more", entry.formatted("fixed", ""));
    assertProblem("no shipped version is affected any more",
        entry.formatted("mitigated", tested).replace("4.1.133", "4.1.100"), netty);
    assertProblem("is affected", entry.formatted("fixed", ", inside: pkg:maven/a/b"), inner);
    // An answer about one copy is none about the others.
    assertProblem("has no answer", entry.formatted("mitigated", tested + ", inside: pkg:maven/a/b"), netty, inner);
    assertProblem("not [fixt]", entry.formatted("fixt", ""), netty);
  }

  private static void assertProblem(String words, String yaml, Sbom... shipped) throws Exception {
    List<String> found = problems(load(yaml), List.of(shipped));
    assertTrue(found.stream().anyMatch(p -> p.contains(words)), () -> words + " not in " + found);
  }

  private static List<String> problems(List<Map<String, Object>> advisories, List<Sbom> shipped) throws Exception {
    List<String> problems = new ArrayList<>();
    Map<String, List<Map<String, Object>>> byIdAndComponent = advisories.stream()
        .collect(Collectors.groupingBy(a -> a.get("id") + " " + a.get("component")));
    for (Map<String, Object> a : advisories) {
      String what = a.get("id") + " of " + a.get("component") + (a.containsKey("inside") ? " inside " + a.get("inside") : "");
      String answer = String.valueOf(a.get("do"));
      if (!KEYS.containsAll(a.keySet()) || !ANSWERS.contains(answer) || a.get("note") == null || a.get("affected") == null) {
        problems.add(what + ": keys must be of " + new TreeSet<>(KEYS) + " and do one of " + new TreeSet<>(ANSWERS) + ", not [" + answer + "]");
        continue;
      }
      List<Map<String, Object>> siblings = byIdAndComponent.get(a.get("id") + " " + a.get("component"));
      List<Sbom> instances = shipped.stream().filter(c -> c.component().equals(a.get("component"))).toList();
      List<Sbom> mine = instances.stream().filter(c -> a == answerFor(c, siblings)).toList();
      List<Sbom> affected = mine.stream().filter(c -> in(c.version(), (String) a.get("affected"))).toList();
      List<?> tests = (List<?>) a.getOrDefault("tests", List.of());
      for (Object test : tests) {
        if (!exists((String) test)) {
          problems.add(what + ": there is no such test: " + test);
        }
      }
      for (Sbom c : instances) {
        if (answerFor(c, siblings) == null && in(c.version(), (String) a.get("affected"))) {
          problems.add(what + ": " + c.purl() + " in " + c.path() + " has no answer");
        }
      }
      switch (answer) {
        case "absent" -> mine.forEach(c -> problems.add(what + ": is shipped, as " + c.purl() + " in " + c.path()));
        case "fixed" -> {
          if (mine.isEmpty()) {
            problems.add(what + ": is not shipped any more: remove the entry");
          }
          affected.forEach(c -> problems.add(what + ": " + c.purl() + " in " + c.path() + " is affected"));
        }
        default -> {
          if (affected.isEmpty()) {
            problems.add(what + ": no shipped version is affected any more: say fixed, or remove the entry");
          }
          if (tests.isEmpty()) {
            problems.add(what + ": " + answer + " needs a test that shows it");
          }
        }
      }
    }
    return problems;
  }

  /** The entry about this copy, else the one about all copies; null: none. */
  private static Map<String, Object> answerFor(Sbom c, List<Map<String, Object>> entries) {
    return entries.stream().filter(e -> e.get("inside") != null && c.within().stream().anyMatch(w -> w.startsWith(e.get("inside") + "@")))
        .findFirst().orElseGet(() -> entries.stream().filter(e -> e.get("inside") == null).findFirst().orElse(null));
  }

  private static boolean in(String version, String range) {
    try {
      return VersionRange.createFromVersionSpec(range).containsVersion(new DefaultArtifactVersion(version));
    } catch (Exception e) {
      throw new AssertionError("version range [" + range + "]", e);
    }
  }

  /** @param test class#method; a test of this module, or of a bundle by its source */
  private static boolean exists(String test) throws IOException {
    String[] parts = test.split("#");
    String file = parts[0].replace('.', '/') + ".java";
    try (Stream<Path> roots = Files.walk(Distribution.REPO.resolve("bundles"), 2)) {
      for (Path root : Stream.concat(Stream.of(Distribution.REPO.resolve("test-routes")), roots).toList()) {
        Path source = root.resolve("src/test/java").resolve(file);
        if (Files.exists(source)) {
          // Strings may contain anything, and lists of them stand between the annotation and the method.
          String code = Files.readString(source).replaceAll("\"(\\\\.|[^\"\\\\])*\"", "").replaceAll("\\{[\\s,]*\\}", "");
          return parts.length == 2 && Pattern.compile("@(Test|ParameterizedTest)\\b[^;{}]*?\\bvoid\\s+" + Pattern.quote(parts[1]) + "\\s*\\(")
              .matcher(code).find();
        }
      }
    }
    return false;
  }

  @SuppressWarnings("unchecked")
  private static List<Map<String, Object>> load(String yaml) {
    return ((List<Map<String, Object>>) new Load(LoadSettings.builder().build()).loadFromString(yaml)).stream().map(HashMap::new)
        .collect(Collectors.toList());
  }

  @Test
  void loggingUsesNothingThatAdvisoriesNeed() throws Exception {
    for (Path home : HOMES) {
      String config = Files.readString(home.resolve("etc/org.ops4j.pax.logging.cfg"));
      Set<String> types = config.lines().filter(l -> l.matches("log4j2\\.[^=]*\\.type *=.*")).map(l -> l.replaceFirst(".*= *", "").trim())
          .collect(Collectors.toCollection(TreeSet::new));
      Set<String> allowed = Set.of("Console", "RollingFile", "RollingRandomAccessFile", "PatternLayout", "Policies", "SizeBasedTriggeringPolicy",
          "DefaultRolloverStrategy", "PaxOsgi", "OsgiService", "ContextMapFilter", "ThresholdFilter", "Routing", "Sift", "Null",
          "AppenderRef", "JsonTemplateLayout", "Repeats");
      assertFalse(types.isEmpty(), config);
      assertTrue(allowed.containsAll(types), () -> "appenders and layouts " + types + " beside " + allowed + ": look at the advisories first");
      assertTrue(Files.readString(home.resolve("etc/log.json")).contains("{\"$resolver\": \"message\", \"stringified\": true}"), "a message that is written as JSON");
    }
  }

  @Test
  void routesUseNothingThatAdvisoriesNeed() throws Exception {
    // The stock WebSocket server lets everybody in, and in plaintext: the cloud's is uplink-server.
    Pattern unwanted = Pattern.compile("uri: *vertx-websocket:|\\b(saga|compensation|enableCORS|enableCors|allowTemplateFromHeader|useOriginalMessage.*http):");
    try (Stream<Path> files = Files.walk(Distribution.REPO.resolve("routes"))) {
      List<Path> routes = files.filter(p -> p.toString().endsWith(".camel.yaml") && !p.toString().contains("/target/")).toList();
      assertTrue(routes.size() > 15);
      for (Path route : routes) {
        assertFalse(unwanted.matcher(Files.readString(route)).find(), route::toString);
      }
    }
  }

  /** Nobody but the bundle that has it inside can reach an embedded Jackson. */
  @Test
  void embeddedJacksonIsUsedByNobodyElse() throws Exception {
    Set<String> hosts = shipped.stream().filter(c -> c.component().equals("pkg:maven/com.fasterxml.jackson.core/jackson-core") && !c.within().isEmpty())
        .map(Sbom::path).collect(Collectors.toSet());
    assertFalse(hosts.isEmpty());
    for (Path home : HOMES) {
      for (Sbom jar : Sbom.read(home.resolve(Sbom.FILE)).stream().filter(c -> c.within().isEmpty()).toList()) {
        try (JarFile file = new JarFile(home.resolve(jar.path()).toFile())) {
          if (file.getManifest() != null) {
            String exported = file.getManifest().getMainAttributes().getValue("Export-Package");
            String imported = file.getManifest().getMainAttributes().getValue("Import-Package");
            // Under its own name it would be taken for the real one; under the SDK's name only the SDK may ask for it.
            assertFalse(hosts.contains(jar.path()) && exported != null && exported.contains("com.fasterxml.jackson"), jar::path);
            assertFalse(!hosts.contains(jar.path()) && imported != null && imported.contains("awssdk.thirdparty.jackson"), jar::path);
          }
        }
      }
    }
  }

  @Test
  void nothingIsFetchedFromRepositories() throws Exception {
    for (Path home : HOMES) {
      String config = Files.readString(home.resolve("etc/org.ops4j.pax.url.mvn.cfg"));
      assertTrue(config.lines().anyMatch(l -> l.matches("org\\.ops4j\\.pax\\.url\\.mvn\\.repositories *= *")), config);
      assertFalse(Arrays.stream(config.split("\n")).anyMatch(l -> !l.startsWith("#") && l.contains("http")), config);
    }
  }
}
