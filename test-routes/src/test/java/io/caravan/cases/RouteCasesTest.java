// SPDX-License-Identifier: Apache-2.0
package io.caravan.cases;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicContainer.dynamicContainer;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import io.caravan.devices.DevicesModule;
import io.caravan.ingest.IngestModule;
import io.caravan.it.Ports;
import io.caravan.runtime.Caravan;
import io.caravan.wal.WalModule;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.DynamicNode;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** Runs every folder of {@code test-routes/cases} on the real route files, bundles and store; see README.md. */
@Execution(ExecutionMode.CONCURRENT)
class RouteCasesTest {
  private static final Path REPO = Path.of(System.getProperty("repo.dir", "..")).toAbsolutePath().normalize();
  private static final Path CASES = REPO.resolve("test-routes/cases");
  private static final Duration START = Duration.ofSeconds(60);

  @TempDir
  Path temp;

  /** All cases, or with {@code -Dcase=rollup/late-data} those whose path contains that. */
  @TestFactory
  Stream<DynamicNode> cases() throws IOException {
    return folders(CASES).stream().map(stem -> {
      try {
        return dynamicContainer(stem.getFileName().toString(), folders(stem).stream()
            .filter(folder -> folder.toString().contains(System.getProperty("case", "")))
            .map(folder -> dynamicTest(folder.getFileName().toString(), () -> run(folder))));
      } catch (IOException e) {
        throw new IllegalStateException(e);
      }
    });
  }

  @Test
  void aCaseThatExpectsNothingFails() throws IOException {
    Path folder = Files.createDirectories(temp.resolve("ingest/empty"));
    Files.writeString(folder.resolve("1.json"), "{}");
    assertThrows(IllegalArgumentException.class, () -> new RouteCase(folder));
  }

  @Test
  void aCaseWithAMisspeltFileFails() throws IOException {
    Path folder = Files.createDirectories(temp.resolve("ingest/misspelt"));
    Files.writeString(folder.resolve("1.expcted.properties"), "outcome = durable");
    assertThrows(IllegalArgumentException.class, () -> new RouteCase(folder));
  }

  /** The runner notices: an expectation that does not hold makes the case fail, at each kind of expectation. */
  @TestFactory
  Stream<DynamicNode> aWrongExpectationFails() throws IOException {
    return folders(REPO.resolve("test-routes/src/test/wrong-cases/ingest")).stream()
        .filter(folder -> folder.toString().contains(System.getProperty("case", "")))
        .map(folder -> dynamicTest(folder.getFileName().toString(), () -> assertThrows(AssertionError.class, () -> run(folder))));
  }

  private void run(Path folder) throws Exception {
    RouteCase routeCase = new RouteCase(folder);
    String side = Files.exists(routeFile("gateway", routeCase.stem)) ? "gateway" : "cloud";
    Path home = Files.createDirectories(temp.resolve(routeCase.stem).resolve(folder.getFileName()));
    Path etc = home.resolve("etc");
    copy(REPO.resolve("config/common"), etc);
    copy(REPO.resolve("config/" + side), etc);
    copy(routeCase.config, etc);

    DefaultCamelContext context = new DefaultCamelContext();
    context.disableJMX(); // its names are those of one container per JVM
    Caravan.Builder builder = Caravan.builder().context(context).home(home).keys(etc.resolve("keys")).set("container.role", side)
        .set("http.port", String.valueOf(Ports.free()));
    if (side.equals("gateway")) {
      builder.set("mqtt.server.port", String.valueOf(Ports.free()));
    }
    // What the side's distribution installs, not all that is on the class path.
    builder.withoutDiscovery().module("wal", new WalModule());
    if (side.equals("gateway")) {
      // Cases are about messages; who may send them is tested elsewhere. What is enrolled has its signing policy all the same.
      builder.module("ingest", new IngestModule()).module("devices", new DevicesModule()).set("device.access", "open");
    }
    RouteCase.below("config.", routeCase.settings).forEach(builder::set);
    List<Path> files = new ArrayList<>();
    for (String stem : routeCase.settings.getOrDefault("routes", routeCase.stem).split("\\s+")) {
      files.add(routeFile(side, stem));
    }
    try (Caravan caravan = builder.routes(files.toArray(Path[]::new)).start()) {
      assertTrue(caravan.awaitReady(START), () -> "not ready: " + caravan.checks() + caravan.routes());
      new CaseRun(routeCase, caravan.context()).run();
    } catch (AssertionError | Exception e) {
      throw new AssertionError(REPO.relativize(folder) + ": " + e.getMessage(), e);
    }
  }

  private static Path routeFile(String side, String stem) {
    Path yaml = REPO.resolve("routes/" + side + "/" + stem + ".camel.yaml");
    return Files.exists(yaml) ? yaml : yaml.resolveSibling(stem + ".camel.xml");
  }

  private static List<Path> folders(Path parent) throws IOException {
    try (Stream<Path> all = Files.list(parent)) {
      return all.filter(Files::isDirectory).sorted().toList();
    }
  }

  private static void copy(Path from, Path to) throws IOException {
    if (!Files.exists(from)) {
      return;
    }
    try (Stream<Path> files = Files.walk(from)) {
      for (Path p : files.filter(Files::isRegularFile).toList()) {
        Path target = to.resolve(from.relativize(p).toString());
        Files.createDirectories(target.getParent());
        Files.copy(p, target, StandardCopyOption.REPLACE_EXISTING);
      }
    }
  }
}
