// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A failure that is tried again leaves its evidence; what was there before, and what is of others, is not moved. */
class KeptEvidenceTest {
  @TempDir
  Path base;

  private Path folder(String name, Instant changed) throws IOException {
    Path folder = Files.createDirectories(base.resolve(name));
    Files.writeString(folder.resolve("of"), name + " at " + changed);
    Files.setLastModifiedTime(folder, FileTime.from(changed));
    return folder;
  }

  @Test
  void foldersOfTestsThatFailedGetTheNextNumber() throws Exception {
    Instant begun = Instant.parse("2026-01-01T00:00:00Z");
    folder("crash-before", begun.minusSeconds(1));
    folder("other", begun.plusSeconds(1));
    folder("crash-gateway", begun.plusSeconds(1));
    KeptEvidence kept = new KeptEvidence(base, "crash-");
    assertEquals(List.of(base.resolve("crash-gateway.1")), kept.aside(begun));
    assertEquals("crash-gateway at 2026-01-01T00:00:01Z", Files.readString(base.resolve("crash-gateway.1/of")));

    folder("crash-gateway", begun.plusSeconds(2));
    assertEquals(List.of(base.resolve("crash-gateway.2")), kept.aside(begun), "what was kept once stays where it is");
    assertEquals("crash-gateway at 2026-01-01T00:00:01Z", Files.readString(base.resolve("crash-gateway.1/of")));
    assertTrue(Files.exists(base.resolve("crash-before")) && Files.exists(base.resolve("other")));
  }
}
