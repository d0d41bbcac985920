// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What bin/test says of reports as Maven writes them. */
class TestVerdictTest {
  private static final String PASSED = "  <testcase name=\"works\" classname=\"io.caravan.it.SmokeIT\" time=\"1.0\"/>\n";

  @TempDir
  Path folder;
  private String said;
  private int runs;

  private static String flaky(String className) {
    return "  <testcase name=\"finds\" classname=\"" + className + "\" time=\"1.0\">\n    <flakyFailure message=\"7 lost\" type=\"E\">\n      <stackTrace><![CDATA[E: 7 lost]]></stackTrace>\n"
        + "    </flakyFailure>\n    <flakyError message=\"and again\" type=\"E\">\n    </flakyError>\n  </testcase>\n";
  }

  private int verdict(int maven, String... cases) throws Exception {
    Path begun = Files.writeString(folder.resolve("begun"), "");
    Files.setLastModifiedTime(begun, FileTime.from(Instant.now().minusSeconds(60)));
    Path report = Files.createDirectories(folder.resolve("a/target/failsafe-reports")).resolve("TEST-a.xml");
    Files.writeString(report, "<testsuite name=\"a\" tests=\"1\" errors=\"0\">\n" + String.join("", cases) + "</testsuite>\n");
    Path old = report.resolveSibling("TEST-yesterday.xml");
    Files.writeString(old, flaky("io.caravan.it.CrashIT"));
    Files.setLastModifiedTime(old, FileTime.from(Instant.now().minusSeconds(120)));
    try (Child child = Child.start("verdict", List.of(Distribution.REPO.resolve("bin/test-verdict").toString(), begun.toString(), Integer.toString(maven)), Map.of(),
        folder, folder.resolve("said-" + ++runs))) {
      int exit = child.awaitExit(Duration.ofSeconds(30));
      said = child.output();
      return exit;
    }
  }

  @Test
  void allThatPassedPassed() throws Exception {
    assertEquals(0, verdict(0, PASSED, PASSED));
    assertEquals("2 passed, 0 failed\n", said);
    assertEquals(1, verdict(1, PASSED));
    assertTrue(said.contains("Maven ended with 1"), said);
    assertEquals(1, verdict(0));
  }

  @Test
  void aFailureIsNamed() throws Exception {
    assertEquals(1, verdict(0, PASSED, "  <testcase name=\"b\" classname=\"C\">\n    <failure message=\"no\" type=\"E\">x</failure>\n    <rerunFailure message=\"no\"/>\n  </testcase>\n"));
    assertEquals("failed: C.b: no\n1 passed, 1 failed\n", said);
  }

  @Test
  void whatPassedAtTheSecondTryIsFlaky() throws Exception {
    assertEquals(0, verdict(0, PASSED, flaky("io.caravan.it.ReconnectIT")));
    assertTrue(said.startsWith("flaky, passed when tried again: io.caravan.it.ReconnectIT.finds: 7 lost\n") && said.endsWith("2 passed, 0 failed\n"), said);
  }

  @Test
  void whatASearchFoundOnceIsFound() throws Exception {
    for (String search : List.of("torture.TortureIT", "torture.PowerLossIT", "torture.StoreFaultsIT", "it.CrashIT")) {
      assertEquals(1, verdict(0, PASSED, flaky("io.caravan." + search)), search);
      assertTrue(said.startsWith("failed, though not when tried again: io.caravan." + search + ".finds: 7 lost\n") && said.endsWith("1 passed, 1 failed\n"), said);
    }
  }
}
