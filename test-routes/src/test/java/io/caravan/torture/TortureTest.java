// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.PrintWriter;
import java.io.StringWriter;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import picocli.CommandLine;

/** What the command line refuses, before anything is started. */
class TortureTest {
  @ParameterizedTest
  @CsvSource({"--rate, 0", "--rate, -5", "--cycles, 0", "--cycles, -1", "--minutes, 0", "--minutes, -5", "--jobs, 0"})
  void aNumberMustBeOneOrMore(String option, String value) {
    StringWriter said = new StringWriter();
    assertEquals(2, new CommandLine(new Torture()).setErr(new PrintWriter(said)).execute(option, value, "--only", "none"));
    assertTrue(said.toString().startsWith(option + " [" + value + "] must be 1 or more"), said::toString);
  }

  @ParameterizedTest
  @CsvSource({"--full", "'--cycles 3'"})
  void shortIsOneOfEach(String with) {
    StringWriter said = new StringWriter();
    assertEquals(2, new CommandLine(new Torture()).setErr(new PrintWriter(said)).execute(("--short " + with).split(" ")));
    assertTrue(said.toString().startsWith("--short is one cycle of each"), said::toString);
  }
}
