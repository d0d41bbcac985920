// SPDX-License-Identifier: Apache-2.0
package io.caravan.sinks;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.Batch;
import io.caravan.wal.Row;
import io.caravan.wal.SinkException;
import io.caravan.wal.SinkException.Kind;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.stream.Collectors;
import java.util.stream.LongStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The template of all sinks: real route files, real store, a deliver route that does as it is told. After every test the
 * ledger adds up, and what the sink has is what is acked.
 */
class SinkRoutesTest {
  @TempDir
  Path temp;

  private SinkBox box;

  @BeforeEach
  void start() throws Exception {
    box = new SinkBox(temp);
  }

  @AfterEach
  void addUpAndStop() throws Exception {
    try {
      box.checkLedger();
    } finally {
      box.close();
    }
  }

  @Test
  void deliversEverythingOnceAndInOrder() throws Exception {
    ToldSink sink = box.sink("told", Map.of("batchRows", "10"));
    box.append(95);
    sink.awaitDistinct(95);
    assertEquals(LongStream.rangeClosed(1, 95).boxed().toList(), sink.seqs());
    assertTrue(sink.batches().stream().allMatch(b -> b.size() <= 10), "batchRows");
    assertEquals("95,95,0,0,0", box.ledger("told"));
    assertEquals(Map.of("Acked", 95L), box.status("told"));
  }

  @Test
  void aTransientFailureIsTriedAgainWithTheSameRowsAndTheSameKey() throws Exception {
    ToldSink sink = box.sink("told", Map.of("batchRows", "10"));
    sink.behave(batch -> {
      throw new java.net.ConnectException("Connection refused");
    });
    box.append(3);
    await().until(() -> sink.calls() >= 1);
    await().until(() -> box.text("SELECT reason FROM sink WHERE name = 'told'").equals("unavailable"));
    box.append(30);
    await().until(() -> sink.calls() >= 3);
    assertEquals(Map.of("Enqueued", 33L), box.statusOnceNotInFlight("told"));
    sink.behave(batch -> { });
    sink.awaitDistinct(33);
    assertEquals(1, sink.keys().stream().limit(3).distinct().count(), "rows that came meanwhile do not change the batch");
    assertEquals("running", box.text("SELECT state FROM sink WHERE name = 'told'"));
    await().until(() -> box.text("SELECT coalesce(last_error, 'none') FROM sink WHERE name = 'told'").equals("none"));
  }

  @Test
  void aConfigurationFailureIsShownAndGoesAwayByItself() throws Exception {
    ToldSink sink = box.sink("told", Map.of());
    sink.behave(batch -> {
      throw new SinkException(Kind.CONFIGURATION, "unauthorized", "HTTP status 401", 0, null);
    });
    box.append(5);
    await().until(() -> box.text("SELECT state || ' ' || reason FROM sink WHERE name = 'told'").equals("failed unauthorized"));
    assertTrue(box.ready(), "sink.readiness is false: it stores everything all the same");
    sink.behave(batch -> { });
    sink.awaitDistinct(5);
    await().until(() -> box.text("SELECT state FROM sink WHERE name = 'told'").equals("running"));
  }

  @Test
  void oneBadRecordAmongManyBecomesADeadLetter() throws Exception {
    ToldSink sink = box.sink("told", Map.of("batchRows", "100"));
    sink.behave(batch -> {
      if (batch.stream().anyMatch(r -> r.seq() == 37)) {
        throw new HttpStatusException(400);
      }
    });
    box.append(100);
    sink.awaitDistinct(99);
    await().until(() -> box.ledger("told").equals("100,99,1,0,0"));
    assertEquals("37 refused", box.text("SELECT seq || ' ' || reason FROM dead_letter WHERE sink = 'told'"));
    assertEquals(Map.of("Acked", 99L, "Dead", 1L), box.status("told"));
    assertEquals(99, sink.seqs().size(), "no row twice: only halves without the bad record were taken");
  }

  @Test
  void rowsTheSinkNamesAreDeadLettersAndTheRestIsAckedAtOnce() throws Exception {
    ToldSink sink = box.sink("told", Map.of());
    sink.behave(batch -> {
      Map<Long, String> bad = batch.stream().filter(r -> r.seq() % 10 == 0).collect(Collectors.toMap(Row::seq, r -> "no tens"));
      if (!bad.isEmpty() && batch.size() > bad.size()) {
        throw new SinkException("refused", bad);
      }
    });
    box.append(50);
    await().until(() -> box.ledger("told").equals("50,45,5,0,0"));
    assertEquals("no tens", box.text("SELECT DISTINCT error FROM dead_letter"));
  }

  @Test
  void aSinkThatRefusesEverythingIsMisconfiguredAndKeepsItsRows() throws Exception {
    ToldSink sink = box.sink("told", Map.of());
    box.set("sink.dead.burst", "5");
    sink.behave(batch -> {
      throw new HttpStatusException(422);
    });
    box.append(50);
    await().until(() -> box.text("SELECT state || ' ' || reason FROM sink WHERE name = 'told'").equals("failed misconfigured"));
    assertEquals("50,0,5,0,45", box.ledger("told"));
    sink.behave(batch -> { });
    await().until(() -> box.ledger("told").equals("50,45,5,0,0"));
  }

  @Test
  void aSinkThatNamesEveryRowOfALargeBatchIsMisconfiguredToo() throws Exception {
    ToldSink sink = box.sink("told", Map.of("batchRows", "50"));
    box.set("sink.dead.burst", "5");
    sink.behave(batch -> {
      throw new SinkException("refused", batch.stream().collect(Collectors.toMap(Row::seq, r -> "none")));
    });
    box.append(50);
    await().until(() -> box.text("SELECT state || ' ' || reason FROM sink WHERE name = 'told'").equals("failed misconfigured"));
    assertEquals("50,0,5,0,45", box.ledger("told"));
  }

  @Test
  void aSinkThatNeverAnswersIsCutAndTriedAgain() throws Exception {
    ToldSink sink = box.sink("told", Map.of("timeoutMs", "200"));
    CountDownLatch never = new CountDownLatch(1);
    sink.behave(batch -> never.await());
    box.append(5);
    await().until(() -> box.text("SELECT coalesce(reason, '') FROM sink WHERE name = 'told'").equals("timeout"));
    sink.behave(batch -> { });
    sink.awaitDistinct(5);
  }

  /** Even one that cannot be interrupted; and other sinks do not notice. */
  @Test
  void aSinkThatHangsForEverHoldsUpNoOther() throws Exception {
    ToldSink hanging = box.sink("hanging", Map.of("timeoutMs", "100"));
    ToldSink other = box.sink("other", Map.of());
    CountDownLatch release = new CountDownLatch(1);
    hanging.behave(batch -> {
      while (release.getCount() > 0) {
        try {
          release.await();
        } catch (InterruptedException e) {
          continue;
        }
      }
    });
    for (int i = 0; i < 20; i++) {
      box.append(10);
    }
    other.awaitDistinct(200);
    await().until(() -> hanging.calls() == 3);
    hanging.behave(batch -> { });
    release.countDown();
    hanging.awaitDistinct(200);
  }

  @Test
  void aRowThatIsTooLongForTheSinkIsADeadLetterBeforeItIsSent() throws Exception {
    ToldSink sink = box.sink("told", Map.of("maxRowBytes", "2000"));
    box.append(3);
    box.append("{\"x\":\"" + "y".repeat(3_000) + "\"}");
    box.append(3);
    await().until(() -> box.ledger("told").equals("7,6,1,0,0"));
    assertEquals("4 too_large", box.text("SELECT seq || ' ' || reason FROM dead_letter"));
    sink.awaitDistinct(6);
  }

  @Test
  void aDamagedRowIsNotServed() throws Exception {
    box.append(10);
    box.execute("UPDATE wal SET body = X'7b7d20' WHERE seq = 4");
    ToldSink sink = box.sink("told", Map.of());
    await().until(() -> box.ledger("told").equals("10,9,1,0,0"));
    assertEquals("4 corrupt", box.text("SELECT seq || ' ' || reason FROM dead_letter"));
    sink.awaitDistinct(9);
  }

  @Test
  void rowsOfAnOlderVersionHaveOnlyTheBodysChecksum() throws Exception {
    box.append(3);
    box.execute("UPDATE wal SET row_crc = NULL");
    box.sink("told", Map.of()).awaitDistinct(3);
    await().until(() -> box.ledger("told").equals("3,3,0,0,0"));
  }

  @Test
  void aRowWhoseIdentityIsDamagedIsNotServed() throws Exception {
    box.append(3);
    box.execute("UPDATE wal SET device_id = 'd9' WHERE seq = 2");
    box.sink("told", Map.of()).awaitDistinct(2);
    await().until(() -> box.ledger("told").equals("3,2,1,0,0"));
    assertEquals("2 corrupt", box.text("SELECT seq || ' ' || reason FROM dead_letter"));
  }

  @Test
  void rowsThatAreLostAreCountedAsLost() throws Exception {
    box.append(10);
    box.execute("DELETE FROM wal WHERE seq IN (3, 4, 10)");
    ToldSink sink = box.sink("told", Map.of("start", "oldest"));
    sink.awaitDistinct(7);
    await().until(() -> box.ledger("told").equals("10,7,0,3,0"));
    assertEquals("lost 3", box.text("SELECT reason || ' ' || row_count FROM discarded WHERE sink = 'told'"));
  }

  @Test
  void aNewSinkStartsAtNowOrAtTheOldestRow() throws Exception {
    box.append(20);
    ToldSink oldest = box.sink("oldest", Map.of("start", "oldest"));
    ToldSink now = box.sink("now", Map.of("start", "now"));
    await().until(() -> box.text("SELECT count(*) FROM sink WHERE name IN ('oldest', 'now')").equals("2"));
    box.append(5);
    oldest.awaitDistinct(25);
    now.awaitDistinct(5);
    assertEquals(List.of(21L, 22L, 23L, 24L, 25L), now.seqs());
    assertEquals("5,5,0,0,0", box.ledger("now"));
    assertEquals(Map.of("Acked", 5L), box.status("now"), "rows before its start are not this sink's");
  }

  @Test
  void liveRowsAreNotHeldUpByABacklogWhichIsFlagged() throws Exception {
    box.append(500);
    ToldSink sink = box.sink("told", Map.of("historicalRows", "100", "batchRows", "10", "lingerMs", "0"));
    CountDownLatch go = new CountDownLatch(1);
    sink.behave(batch -> go.await());
    await().until(() -> sink.calls() >= 1);
    box.append(10);
    go.countDown();
    sink.behave(batch -> { });
    sink.awaitDistinct(510);
    List<Long> seqs = sink.seqs();
    assertTrue(seqs.indexOf(501L) < 100, "row 501 came as number " + seqs.indexOf(501L));
    for (Batch batch : sink.batches()) {
      for (Row row : batch) {
        assertEquals(row.seq() <= 500 ? "historical" : "live", row.lane(), "row " + row.seq());
      }
    }
    // In each lane in order.
    assertEquals(seqs.stream().filter(s -> s <= 500).sorted().toList(), seqs.stream().filter(s -> s <= 500).toList());
    assertEquals(seqs.stream().filter(s -> s > 500).sorted().toList(), seqs.stream().filter(s -> s > 500).toList());
  }

  @Test
  void aPausedSinkIsLeftAloneAndGoesOnWhenResumed() throws Exception {
    ToldSink sink = box.sink("told", Map.of());
    box.append(5);
    sink.awaitDistinct(5);
    box.execute("UPDATE sink SET state = 'paused' WHERE name = 'told'");
    int calls = sink.calls();
    box.append(5);
    box.sink("other", Map.of()).awaitDistinct(10);
    assertEquals(calls, sink.calls());
    box.execute("UPDATE sink SET state = 'running' WHERE name = 'told'");
    sink.awaitDistinct(10);
  }

  @Test
  void afterACrashTheSameBatchIsClaimedAgain() throws Exception {
    ToldSink sink = box.sink("told", Map.of("batchRows", "50"));
    CountDownLatch never = new CountDownLatch(1);
    sink.behave(batch -> never.await());
    box.append(7);
    await().until(() -> sink.calls() == 1);
    assertEquals(7L, box.status("told").getOrDefault("InFlight", 0L) + sink.missed(7));
    Path file = box.copyOfStore();
    int first = sink.batches().get(0).size();
    box.close();

    box = new SinkBox(Files.createDirectories(temp.resolve("again")), file);
    ToldSink again = box.sink("told", Map.of("batchRows", "50"));
    box.append(20);
    again.awaitDistinct(27);
    assertEquals(first, again.batches().get(0).size(), "the batch as it was, although more rows were there");
    assertEquals(sink.keys().get(0), again.keys().get(0));
  }

  @Test
  void theFileOfATemplatedSinkComesAndGoes() throws Exception {
    ToldSink sink = box.sink("told", Map.of());
    box.append(3);
    sink.awaitDistinct(3);
    box.remove("told");
    box.append(4);
    ToldSink other = box.sink("other", Map.of());
    other.awaitDistinct(7);
    assertEquals(new TreeMap<>(Map.of("Acked", 3L, "Enqueued", 4L)), new TreeMap<>(box.status("told")), "its rows are kept for it");
    box.sink("told", Map.of()).awaitDistinct(4);
  }

  @Test
  void metersAndReadinessTellOfEachSink() throws Exception {
    ToldSink sink = box.sink("told", Map.of());
    box.set("sink.readiness", "true");
    sink.behave(batch -> {
      throw new HttpStatusException(503);
    });
    box.append(3);
    await().until(() -> !box.ready());
    await().until(() -> box.metric("caravan.sink.backlog.rows", "told") == 3);
    assertTrue(box.check("sink:told").contains("server_error"), box.check("sink:told"));
    sink.behave(batch -> { });
    sink.awaitDistinct(3);
    await().atMost(Duration.ofSeconds(20)).until(box::ready);
    await().until(() -> box.metric("caravan.sink.delivered.rows", "told") == 3);
    assertTrue(box.metric("caravan.sink.failures", "told") >= 1);
  }

  /** As Camel's HTTP components have it. */
  static final class HttpStatusException extends Exception {
    private static final long serialVersionUID = 1L;
    private final int status;

    HttpStatusException(int status) {
      super("answered " + status);
      this.status = status;
    }

    public int getStatusCode() {
      return status;
    }
  }
}
