// SPDX-License-Identifier: Apache-2.0
package io.caravan.torture;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.it.Distribution;
import io.caravan.it.KeptEvidence;
import java.nio.file.Files;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** The short campaign, as {@code bin/torture --short} runs it. {@code -Dseed=} repeats an order. */
class TortureIT {
  @RegisterExtension
  static final KeptEvidence KEPT = new KeptEvidence("torture");

  @Test
  void nothingIsLostDoubledOrOutOfOrderWhateverFails() throws Exception {
    Torture torture = new Torture();
    torture.seed = Long.getLong("seed", System.nanoTime() & 0xFFFFF);
    torture.out = Distribution.REPO.resolve("test-routes/target/it/torture");
    JsonNode report = torture.run(line -> System.out.println("torture: " + line));
    System.out.print(Report.table(report));

    assertTrue(report.path("ok").asBoolean(), () -> "seed " + torture.seed + "\n" + report.path("failures").toPrettyString() + report.path("controls"));
    assertEquals(report.path("cycles_planned").asInt(), report.path("cycles").asInt());
    for (JsonNode fault : report.path("faults")) {
      assertFalse(fault.has("not_injected"), fault::toString);
      assertEquals(1, fault.path("cycles").asInt(), fault::toString);
    }
    for (String gate : new String[] {"lost", "doubled", "order", "altered", "unsettled", "stuck", "broken"}) {
      assertEquals(0, report.at("/total/" + gate).asLong(), gate);
    }
    assertTrue(report.at("/total/promised").asLong() > 20L * report.path("cycles").asInt(), () -> "too little was sent to prove anything: " + report.path("total"));
    assertEquals(Controls.NAMES.size(), report.path("controls").size());
    report.path("controls").forEach(control -> assertTrue(control.path("found").asLong() > 0, control::toString));
    assertTrue(Files.size(torture.out.resolve("torture.html")) > 1_000);
  }
}
