// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What devices said, applied to the real store; the rows are the test's. */
class AnswerIntakeTest {
  private static final String FORM = "{\"schema_version\":1,\"version\":\"%s\",\"commands\":{\"led\":{}}}";
  @TempDir
  Path folder;
  private final List<String> counted = new ArrayList<>();
  private EngineBox box;
  private CapabilityBook book;
  private AnswerIntake intake;
  private long last;

  @BeforeEach
  void open() throws Exception {
    box = new EngineBox(folder.resolve("gateway.db")).open();
    book = new CapabilityBook(() -> null, new WatchedFile<>(Path.of("/nonexistent/none"), Policy.NONE, Policy.NONE, Policy::parse),
        new WatchedFile<>(Path.of("/nonexistent/none"), null, null, CapabilityBook::file));
    intake = new AnswerIntake(box.engine, book, /* twins= */ null, new Meters() {
      @Override
      public void count(String name, String description, String... tags) {
        counted.add(tags[3]);
      }
    }, box.clocks, 1_000, 60_000);
  }

  @AfterEach
  void close() throws Exception {
    box.close();
  }

  /** One batch, a row per version of what d1 announces. */
  private void announce(String... versions) throws Exception {
    List<Map<String, Object>> rows = new ArrayList<>();
    long after = last;
    for (String version : versions) {
      rows.add(Map.of("seq", ++last, "device_id", "d1", "kind", "capabilities", "observed_at_ms", 1L, "received_at_ms", 1L, "body", FORM.formatted(version)));
    }
    intake.apply(rows, Map.of("after", after, "last", last));
  }

  private String inForce() throws Exception {
    assertEquals(box.rows("SELECT version FROM capability"), List.of(book.of("d1").orElseThrow().version()), "memory is as the store");
    return book.of("d1").orElseThrow().version();
  }

  @Test
  void theLastOneOfABatchIsInForceAlsoIfItWasBefore() throws Exception {
    announce("A");
    announce("B", "A");
    assertEquals("A", inForce());
    announce("B", "A", "A", "B", "B", "A");
    assertEquals("A", inForce());
    announce("A", "B");
    assertEquals("B", inForce());
  }

  @Test
  void theSameAgainIsNoTransactionOfItsOwn() throws Exception {
    announce("A");
    counted.clear();
    int before = box.commits.get();
    long committed = last;
    announce("A", "A");
    assertEquals(0, box.commits.get() - before);
    assertEquals(List.of("unchanged", "unchanged"), counted);
    assertEquals(committed, intake.seenFrom());
  }
}
