// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.caravan.torture.Campaign.Result;
import io.caravan.torture.Controls.Control;
import io.caravan.torture.Cycle.Kind;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;

/** A campaign that is gone on with says of its earlier parts what they said themselves; above all what they found. */
class JournalTest {
  @TempDir
  Path folder;
  private Journal journal;

  @BeforeEach
  void begin() throws IOException {
    journal = Journal.begin(folder, Map.of("campaign", "full", "seed", 41));
    journal.part(new ObjectMapper().createObjectNode().put("commit", "abc"));
  }

  private static Cycle cycle(int index) {
    Cycle cycle = new Cycle("kill-gateway", 41 + index, index);
    cycle.promised(100);
    cycle.took(10, index == 0 ? Double.NaN : 1.5);
    cycle.figure("images", 2);
    return cycle;
  }

  @Test
  void partsAddUpToTheCampaign() throws Exception {
    Cycle bad = cycle(1);
    bad.fault(Kind.LOST, 7, "file: d/b/1 is gone");
    journal.control(new Control("lost-file", "one is taken out", 1));
    journal.world(1, List.of(cycle(0)), Map.of("s3", 3L), Map.of("stored", 100L), null);
    journal.ended(12.5);
    Journal again = Journal.open(folder);
    again.part(new ObjectMapper().createObjectNode().put("commit", "def"));
    again.world(2, List.of(bad), Map.of("s3", 1L), Map.of("stored", 50L), folder.resolve("world-2"));
    again.ended(7.5);

    Result result = Journal.open(folder).result();
    assertEquals(41, again.what().path("seed").asLong());
    assertEquals(2, result.cycles.size());
    assertTrue(result.cycles.get(0).ok() && Double.isNaN(result.cycles.get(0).recoverySeconds()));
    assertEquals(bad.json(), result.cycles.get(1).json());
    assertEquals(7, result.cycles.get(1).count(Kind.LOST));
    assertFalse(result.ok(), "what an earlier part found is found");
    assertEquals(List.of("abc", "def"), result.parts.stream().map(p -> p.path("commit").asText()).toList());
    assertEquals(4L, result.again.get("s3"));
    assertEquals(150L, result.counts.get("stored"));
    assertEquals(20.0, result.seconds);
    assertEquals(2, result.worlds);
    assertEquals(List.of(folder.resolve("world-2")), result.evidence);
    assertEquals(1, result.controls.get(0).found());
  }

  @Test
  void aLineThatWasCutOffIsDoneAgainOneInTheMiddleIsAnError() throws Exception {
    journal.world(1, List.of(cycle(0)), Map.of(), Map.of(), null);
    Path file = folder.resolve(Journal.FILE);
    Files.writeString(file, "{\"world\":{\"number\":2,\"cyc", StandardOpenOption.APPEND);
    assertEquals(1, Journal.open(folder).result().cycles.size());
    Journal.open(folder).world(2, List.of(cycle(1)), Map.of(), Map.of(), null);
    assertEquals(2, Journal.open(folder).result().cycles.size());

    Files.writeString(file, "{\n", StandardOpenOption.APPEND);
    Journal.open(folder).ended(1);
    String why = assertThrows(IOException.class, () -> Journal.open(folder).result()).getMessage();
    assertTrue(why.contains("line 5"), why);
  }

  @Test
  void resumingNeedsACampaignAndTakesWhatItWasAskedFor() throws Exception {
    Torture none = new Torture();
    none.resume = true;
    none.out = Files.createDirectories(folder.resolve("none"));
    String why = assertThrows(IllegalStateException.class, () -> none.run(line -> { })).getMessage();
    assertTrue(why.contains("no campaign in") && why.contains("--out"), why);

    for (String[] option : new String[][] {{"--seed", "7"}, {"--rate", "7"}, {"--only", "kill-gateway"}, {"--cycles", "7"}, {"--full"}}) {
      Torture other = new Torture();
      new CommandLine(other).parseArgs(Stream.concat(Stream.of("--resume"), Stream.of(option)).toArray(String[]::new));
      assertThrows(CommandLine.ParameterException.class, other::call, option[0]);
    }
  }
}
