// SPDX-License-Identifier: Apache-2.0
package io.caravan.commands.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.commands.Capabilities.Budget;
import io.caravan.commands.Commands.Command;
import io.caravan.commands.Commands.Filter;
import io.caravan.commands.Commands.Request;
import io.caravan.commands.Status;
import io.caravan.commands.internal.EngineBox.Capability;
import io.caravan.commands.internal.EngineBox.Sent;
import io.caravan.commands.internal.Publisher.Evidence;
import io.caravan.devices.Devices;
import io.caravan.wal.StoreUnavailableException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.stream.IntStream;
import org.apache.camel.support.DefaultExchange;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CommandEngineTest {
  @TempDir
  Path folder;
  private EngineBox box;

  @BeforeEach
  void open() throws Exception {
    box = new EngineBox(folder.resolve("gateway.db")).open();
  }

  @AfterEach
  void close() throws Exception {
    box.close();
  }

  private static Request full(String id, String arguments, String units, String precondition, Long ttlMs) {
    return new Request(id, "d1", "relay", arguments, units, precondition, ttlMs, "cloud", "ann", "00-trace");
  }

  // ---- a command's way

  @Test
  void fromAcceptedToSucceededOnEvidenceOnly() throws Exception {
    Command command = box.submit(full("c1", "{\"on\":true}", null, null, 30_000L));
    assertEquals(Status.QUEUED, command.status());
    assertEquals(2, command.revision());
    box.engine.pass();
    assertEquals(List.of("c1"), box.ids());
    assertEquals("ACCEPTED QUEUED", box.events("c1"), "published, and nothing is known yet");
    box.last().outcome(Evidence.DELIVERED);
    box.engine.pass();
    assertEquals("ACCEPTED QUEUED SENT DELIVERED", box.events("c1"));
    box.answer("d1", "c1", "succeeded", "{\"was\":false}");
    assertEquals("ACCEPTED QUEUED SENT DELIVERED SUCCEEDED", box.events("c1"));
    assertEquals("{\"was\":false}", box.engine.find("c1").orElseThrow().result());
    assertEquals(List.of("d1 1", "d1 2", "d1 3", "d1 4", "d1 5"), box.outbox("c1"));
    assertTrue(box.signals.get() > 0);
    assertEquals(0, box.engine.openCount());
  }

  @Test
  void theCloudGetsAllWithTheFirstRevision() throws Exception {
    box.submit(full("c1", "{\"b\":1.50,\"a\":\"\\u0001\\\"\"}", "{\"b\":\"s\"}", "{\"reported\":{\"type\":\"object\"}}", 30_000L));
    JsonNode first = Json.MAPPER.readTree(box.told("e.value", "c1").get(0));
    assertEquals("{\"device_id\":\"d1\",\"command_id\":\"c1\",\"revision\":1,\"status\":\"ACCEPTED\",\"at_ms\":1800000000000,\"name\":\"relay\","
        + "\"arguments\":{\"a\":\"\\u0001\\\"\",\"b\":1.50},\"units\":{\"b\":\"s\"},\"precondition\":{\"reported\":{\"type\":\"object\"}},"
        + "\"origin\":\"cloud\",\"issued_by\":\"ann\",\"created_at_ms\":1800000000000,\"expires_at_ms\":1800000030000,\"trace_context\":\"00-trace\"}", first.toString());
    assertEquals("{\"device_id\":\"d1\",\"command_id\":\"c1\",\"revision\":2,\"status\":\"QUEUED\",\"at_ms\":1800000000000,\"trace_context\":\"00-trace\"}",
        box.told("e.value", "c1").get(1));
    assertEquals(List.of("gateway gateway//c/c1/1"), box.rows("SELECT device_id || ' ' || message_key FROM outbox WHERE kind = 'command'"), "one row for a transaction");
  }

  @Test
  void theCloudIsToldOfManyInFewRowsAndNeverInOneTooLarge() throws Exception {
    box.engine.pass();
    EngineBox.get(box.engine.submit(IntStream.range(0, 250).mapToObj(i -> EngineBox.request("c" + i, "d" + (i % 3 + 1), "relay")).toList()));
    assertEquals("500 3", box.rows("SELECT count(*) || ' ' || count(DISTINCT o.seq) FROM outbox o, json_each(o.body, '$.events') WHERE o.kind = 'command'").get(0));
    assertEquals("0", box.rows("SELECT count(*) FROM outbox WHERE length(body) > 65536 + 16384").get(0));
  }

  @Test
  void acceptedAndPublishedInOneTransactionForAll() throws Exception {
    box.engine.pass();
    int before = box.commits.get();
    List<Request> many = IntStream.range(0, 9).mapToObj(i -> EngineBox.request("c" + i, "d" + (i % 3 + 1), "relay")).toList();
    EngineBox.get(box.engine.submit(many));
    box.engine.pass();
    assertEquals(9, box.sent.size());
    assertEquals(1, box.commits.get() - before);
    assertEquals(List.of("1"), box.rows("SELECT DISTINCT attempts FROM command"), "on disk before it is published");
  }

  @Test
  void toControllersAndListenersAfterCommitInOrder() throws Exception {
    List<String> heard = new ArrayList<>();
    CompletableFuture<Void> done = new CompletableFuture<>();
    box.engine.onChange(command -> {
      heard.add(command.id() + " " + command.events().get(0).status());
      if (command.status() == Status.FAILED) {
        done.complete(null);
      }
    });
    box.submit(new Request("c1", "d1", "relay", null, null, null, null, "mqtt", "mqtt:app", null));
    box.engine.pass();
    box.last().outcome(Evidence.DELIVERED);
    box.answer("d1", "c1", "failed");
    EngineBox.get(done);
    assertEquals(List.of("c1 ACCEPTED", "c1 QUEUED", "c1 SENT", "c1 DELIVERED", "c1 FAILED"), heard);
    assertEquals(5, box.told.size());
    assertTrue(box.told.get(0).startsWith("mqtt:app {\"device_id\":\"d1\",\"command_id\":\"c1\",\"revision\":1,\"status\":\"ACCEPTED\""), box.told.get(0));
  }

  // ---- what is refused

  @Test
  void everyRuleHasItsReason() throws Exception {
    box.registry.put("gone", Devices.Status.REVOKED);
    box.declared.put("forbidden", new Capability(false, 1_000, false, List.of()));
    assertEquals("unknown_device", box.submit("r1", "nobody", "relay").reason());
    assertEquals("device_revoked", box.submit("r2", "gone", "relay").reason());
    assertEquals("no_capability", box.submit("r3", "d1", "fly").reason());
    assertEquals("not_allowed", box.submit("r4", "d1", "forbidden").reason());
    Command wrong = box.submit(full("r5", "{\"wrong\":1}", null, null, null));
    assertEquals("bad_arguments", wrong.reason());
    assertEquals("/wrong: must not be there", wrong.detail());
    assertEquals("bad_command", box.submit(full("r6", "[1]", null, null, null)).reason());
    assertEquals("bad_command", box.submit(full("r7", "{\"a\":1,\"a\":2}", null, null, null)).reason());
    assertEquals("bad_command", box.submit(full("r8", null, null, "{\"reported\":{\"pattern\":\"x\"}}", null)).reason());
    assertEquals("bad_command", box.submit(full("r9", null, null, "{\"max_age_ms\":5}", null)).reason());
    assertEquals("bad_command", box.submit(full("r10", null, null, null, 3_600_001L)).reason());
    assertEquals("bad_command", box.submit("r11", "d1", "1x").reason());
    assertEquals("bad_command", box.submit(full("r12", "{\"x\":\"" + "y".repeat(5_000) + "\"}", null, null, null)).reason());
    Command late = box.submit(full("r13", null, null, null, 0L));
    assertEquals(Status.EXPIRED, late.status());
    assertEquals("expired", late.reason());
    assertEquals("ACCEPTED EXPIRED", box.events("r13"));
    assertEquals("ACCEPTED REJECTED", box.events("r1"));
    assertEquals(List.of("REJECTED"), box.told("e.value ->> 'status'", "r6").subList(1, 2));
    box.engine.pass();
    assertEquals(List.of(), box.ids());
    assertEquals(0, box.engine.openCount());
  }

  @Test
  void whatCannotBeWrittenDownIsNotKept() throws Exception {
    assertEquals("bad_command", box.submit("a/b", "d1", "relay").reason());
    assertEquals("bad_command", box.submit("c1", "../etc", "relay").reason());
    assertEquals("bad_command", box.submit("c1", null, "relay").reason());
    assertEquals(List.of("0"), box.rows("SELECT count(*) FROM command"));
    assertEquals(List.of("0"), box.rows("SELECT count(*) FROM outbox"));
  }

  @Test
  void aDeviceCannotHaveMoreThanItsQueue() throws Exception {
    box.there.remove("d1");
    for (int i = 0; i < 10; i++) {
      assertEquals(Status.QUEUED, box.submit("c" + i, "d1", "relay").status());
    }
    assertEquals("queue_full", box.submit("c10", "d1", "relay").reason());
    assertEquals(Status.QUEUED, box.submit("x", "d2", "relay").status());
  }

  @Test
  void theStoreRefusesSoNothingIsKept() {
    box.refusing = true;
    ExecutionException e = assertThrows(ExecutionException.class, () -> box.submit("c1", "d1", "relay"));
    assertTrue(e.getCause() instanceof StoreUnavailableException, e.toString());
    assertTrue(box.engine.find("c1").isEmpty());
  }

  // ---- the same id

  @Test
  void theSameIdIsTheSameCommandAlsoAfterARestart() throws Exception {
    box.submit(full("c1", "{\"a\":1,\"b\":2}", null, null, null));
    box.engine.pass();
    box.last().outcome(Evidence.DELIVERED);
    box.answer("d1", "c1", "succeeded");
    for (int round = 0; round < 2; round++) {
      Command again = box.submit(full("c1", "{\"b\":2, \"a\":1}", null, null, 1L));
      assertEquals(Status.SUCCEEDED, again.status());
      Command other = box.submit(full("c1", "{\"a\":1}", null, null, null));
      assertEquals(Status.REJECTED, other.status());
      assertEquals("conflict", other.reason());
      assertEquals("SUCCEEDED 1", box.state("c1"), "the known one is untouched");
      box.engine.pass();
      assertEquals(1 - round, box.sent.size(), "and not published again");
      box.restart();
    }
    assertEquals(5, box.outbox("c1").size());
  }

  @Test
  void theSameIdTwiceInOneList() throws Exception {
    List<Command> both = EngineBox.get(box.engine.submit(List.of(EngineBox.request("c1", "d1", "relay"), EngineBox.request("c1", "d1", "relay"),
        EngineBox.request("r", "nobody", "relay"), EngineBox.request("r", "nobody", "relay"), EngineBox.request("c1", "d2", "relay"))));
    assertEquals(List.of(Status.QUEUED, Status.QUEUED, Status.REJECTED, Status.REJECTED, Status.REJECTED), both.stream().map(Command::status).toList());
    assertEquals("conflict", both.get(4).reason());
    assertEquals(List.of("2"), box.rows("SELECT count(*) FROM command"));
  }

  @Test
  void forgottenIdsAreNoticed() throws Exception {
    box.close();
    box.settings = with(Set.of("forget-ids"));
    box.open();
    box.submit("c1", "d1", "relay");
    box.engine.pass();
    box.submit("c1", "d1", "relay");
    box.engine.pass();
    assertEquals(List.of("c1", "c1"), box.ids(), "negative control: without the memory of ids it is published twice");
  }

  private Settings with(Set<String> unsafe) {
    Settings s = box.settings;
    return new Settings(s.ttlDefaultMs(), s.ttlMaxMs(), s.queueMax(), s.openMax(), s.maxBytes(), s.window(), s.ackMs(), s.keepMs(), s.keepRows(), s.open(),
        unsafe);
  }

  // ---- waiting and expiry

  @Test
  void waitsForTheDeviceAndKeepsTheOrder() throws Exception {
    box.there.remove("d1");
    for (int i = 0; i < 6; i++) {
      box.submit("c" + i, "d1", "relay");
    }
    box.submit("x", "d2", "relay");
    box.engine.pass();
    assertEquals(List.of("x"), box.ids(), "an absent device holds up nobody");
    box.there.put("d1", Reach.Way.BROKER);
    box.engine.appeared("d1");
    box.engine.pass();
    assertEquals(List.of("x", "c0", "c1", "c2", "c3"), box.ids(), "no more than the window");
    assertEquals(Reach.Way.BROKER, box.last().publication().way());
    box.sent.get(1).outcome(Evidence.SENT);
    box.sent.get(2).outcome(Evidence.UNKNOWN);
    box.engine.pass();
    assertEquals(List.of("x", "c0", "c1", "c2", "c3", "c4", "c5"), box.ids());
    assertEquals("SENT 1", box.state("c0"));
    assertEquals("QUEUED 1", box.state("c1"));
  }

  @Test
  void expiresByTheMonotonicClockWhateverTheWallClockDoes() throws Exception {
    box.there.remove("d1");
    box.submit(EngineBox.request("c1", "d1", "relay", 10_000));
    box.clocks.wall.addAndGet(86_400_000);
    box.engine.pass();
    box.restart();
    assertEquals("QUEUED 0", box.state("c1"), "a day forward on the wall is no time");
    box.clocks.wall.addAndGet(-2 * 86_400_000L);
    box.restart();
    box.clocks.mono.addAndGet(9_999);
    box.engine.pass();
    assertEquals("QUEUED 0", box.state("c1"));
    box.there.put("d1", Reach.Way.LISTENER);
    box.clocks.mono.addAndGet(1);
    box.engine.pass();
    assertEquals("EXPIRED expired 0", box.state("c1"));
    assertEquals(List.of(), box.ids(), "none is published after its expiry");
  }

  @Test
  void afterARebootTheWallClockDecides() throws Exception {
    box.there.remove("d1");
    box.submit(EngineBox.request("short", "d1", "relay", 10_000));
    box.submit(EngineBox.request("long", "d1", "relay", 100_000));
    box.clocks.wall.addAndGet(50_000);
    box.reboot();
    box.engine.pass();
    assertEquals("EXPIRED expired 0", box.state("short"));
    assertEquals("QUEUED 0", box.state("long"));
    box.clocks.wall.addAndGet(-86_400_000); // from here on the new boot's monotonic clock counts
    box.restart();
    box.clocks.mono.addAndGet(49_999);
    box.engine.pass();
    assertEquals("QUEUED 0", box.state("long"));
    box.clocks.mono.addAndGet(1);
    box.engine.pass();
    assertEquals("EXPIRED expired 0", box.state("long"));
  }

  @Test
  void afterARebootAClockBeforeTheCommandExpiresIt() throws Exception {
    box.there.remove("d1");
    box.submit(EngineBox.request("c1", "d1", "relay", 3_600_000));
    box.clocks.wall.addAndGet(-1);
    box.there.put("d1", Reach.Way.LISTENER);
    box.reboot();
    box.engine.pass();
    assertEquals("EXPIRED clock 0", box.state("c1"));
    assertEquals(List.of(), box.ids());
  }

  private Command received(String id, long agoMs, long ttlMs) throws Exception {
    return EngineBox.get(box.engine.submit(List.of(EngineBox.request(id, "d1", "relay", ttlMs)), null, List.of(box.clocks.monoMs() - agoMs))).get(0);
  }

  @Test
  void aCommandsTimeCountsFromWhenItCameAndNotFromWhenItCouldBeKept() throws Exception {
    box.there.remove("d1");
    for (int i = 0; i < 10; i++) {
      assertEquals(Status.EXPIRED, received("stale" + i, 5_000 + i, 5_000).status());
    }
    assertEquals("ACCEPTED EXPIRED", box.events("stale0"));
    assertEquals(Status.EXPIRED, received("never", 7 * 86_400_000L, 3_600_000).status());
    Command fresh = received("fresh", 4_000, 5_000);
    assertEquals(Status.QUEUED, fresh.status(), "those whose time is over take no place in the queue");
    assertEquals(box.clocks.wallMs() + 1_000, fresh.expiresAtMs(), "as the device is told");
    assertEquals(box.clocks.wallMs() + 5_000, received("ahead", -60_000, 5_000).expiresAtMs(), "nothing comes later than now");
    assertEquals(fresh.expiresAtMs(), received("fresh", 0, 1_000).expiresAtMs(), "sent again it is the same, with the time it had");
    assertEquals(Status.EXPIRED, received("stale0", 0, 1_000).status());
    box.advance(999);
    box.there.put("d1", Reach.Way.LISTENER);
    box.clocks.mono.addAndGet(1);
    box.engine.appeared("d1");
    box.engine.pass();
    assertEquals("EXPIRED expired 0", box.state("fresh"));
    assertEquals(List.of("ahead"), box.ids());
  }

  @Test
  void routesSayWhenACommandCame() throws Exception {
    box.there.remove("d1");
    var exchange = new DefaultExchange(box.context);
    exchange.getMessage().setBody(List.of(
        Map.of("id", "late", "device_id", "d1", "name", "relay", "ttl_ms", 5_000L, "received_mono_ms", box.clocks.monoMs() - 5_000),
        Map.of("id", "c1", "device_id", "d1", "name", "relay", "ttl_ms", 5_000L, "received_mono_ms", box.clocks.monoMs() - 4_999),
        Map.of("id", "c2", "device_id", "d1", "name", "relay", "ttl_ms", 5_000L)));
    List<Command> kept = EngineBox.get(new CommandIntake(box.engine).submit(exchange));
    assertEquals(List.of("EXPIRED", "QUEUED", "QUEUED"), kept.stream().map(c -> c.status().name()).toList());
    assertEquals(List.of(0L, 1L, 5_000L), kept.stream().map(c -> c.expiresAtMs() - box.clocks.wallMs()).toList());
  }

  @Test
  void ignoredExpiryIsNoticed() throws Exception {
    box.close();
    box.settings = with(Set.of("ignore-expiry"));
    box.open();
    box.there.remove("d1");
    box.submit(EngineBox.request("c1", "d1", "relay", 10_000));
    box.advance(20_000);
    box.there.put("d1", Reach.Way.LISTENER);
    box.engine.pass();
    assertEquals(List.of("c1"), box.ids(), "negative control");
  }

  // ---- outcomes

  @Test
  void whatCertainlyDidNotLeaveGoesBackToItsPlace() throws Exception {
    box.submit("c0", "d1", "relay");
    box.submit("c1", "d1", "relay");
    box.engine.pass();
    box.there.remove("d1");
    box.sent.get(0).outcome(Evidence.NONE);
    box.sent.get(1).outcome(Evidence.NONE);
    box.submit("c2", "d1", "relay");
    box.engine.pass();
    assertEquals("QUEUED 0", box.state("c0"));
    assertEquals(List.of("null"), box.rows("SELECT attempted_mono_ms FROM command WHERE command_id = 'c0'"));
    box.there.put("d1", Reach.Way.LISTENER);
    box.sent.clear();
    box.engine.appeared("d1");
    box.engine.pass();
    assertEquals(List.of("c0", "c1", "c2"), box.ids());
    assertEquals("QUEUED 1", box.state("c0"));
  }

  @Test
  void aDeviceThatIsThereAndTakesNothingIsNotAskedInALoop() throws Exception {
    box.at = Evidence.NONE;
    box.submit("c0", "d1", "relay");
    box.engine.pass();
    assertEquals(1, box.sent.size());
    box.advance(999);
    assertEquals(1, box.sent.size());
    box.advance(1);
    assertEquals(2, box.sent.size());
  }

  @Test
  void noEvidenceIsIndeterminateAndLateEvidenceCounts() throws Exception {
    box.submit("c1", "d1", "relay");
    box.submit("c2", "d1", "relay");
    box.submit("c3", "d1", "relay");
    box.engine.pass();
    box.sent.get(0).outcome(Evidence.UNKNOWN);
    box.sent.get(1).outcome(Evidence.SENT);
    box.sent.get(2).outcome(Evidence.DELIVERED);
    box.advance(4_999);
    assertEquals("QUEUED 1", box.state("c1"));
    box.advance(1);
    assertEquals("INDETERMINATE no_evidence 1", box.state("c1"));
    assertEquals("INDETERMINATE no_evidence 1", box.state("c2"));
    assertEquals("INDETERMINATE no_result 1", box.state("c3"));
    box.answer("d1", "c1", "received");
    assertEquals("INDETERMINATE no_evidence 1", box.state("c1"));
    box.answer("d1", "c1", "succeeded");
    box.answer("d1", "c1", "failed");
    box.answer("d1", "c3", "failed");
    assertEquals("SUCCEEDED 1", box.state("c1"), "the first final answer counts");
    assertEquals("FAILED device_failed 1", box.state("c3"));
    assertEquals("ACCEPTED QUEUED INDETERMINATE SUCCEEDED", box.events("c1"));
    assertEquals(1, box.ids().stream().filter("c1"::equals).count());
  }

  @Test
  void anOutcomeMayBeLaterThanTheTimeOut() throws Exception {
    box.submit("c1", "d1", "relay");
    box.engine.pass();
    box.advance(5_500);
    assertEquals("QUEUED 1", box.state("c1"), "its publication has not come back yet");
    box.last().outcome(Evidence.NONE);
    box.engine.pass();
    assertEquals("QUEUED 0", box.state("c1"));
    box.advance(1_000);
    assertEquals(2, box.sent.size());
    box.advance(7_000);
    assertEquals("INDETERMINATE no_evidence 1", box.state("c1"));
    box.last().outcome(Evidence.DELIVERED);
    box.engine.pass();
    assertEquals("INDETERMINATE no_evidence 1", box.state("c1"));
  }

  @Test
  void refusedByTheDevice() throws Exception {
    box.at = Evidence.REFUSED;
    box.submit("c1", "d1", "relay");
    box.engine.pass();
    assertEquals("FAILED device_rejected 1", box.state("c1"));
  }

  @Test
  void deliveredWithoutEvidenceIsNoticed() throws Exception {
    box.close();
    box.settings = with(Set.of("delivered-without-evidence"));
    box.open();
    box.at = Evidence.SENT;
    box.submit("c1", "d1", "relay");
    box.engine.pass();
    assertEquals("DELIVERED 1", box.state("c1"), "negative control");
  }

  // ---- answers

  @Test
  void onlyTheDeviceItselfAndOnlyWhatWasPublished() throws Exception {
    box.there.remove("d2");
    box.submit("c1", "d1", "relay");
    box.submit("c2", "d2", "relay");
    box.engine.pass();
    box.answer("d2", "c1", "succeeded");
    box.answer("d2", "c2", "succeeded");
    box.answer("d1", "nobody", "succeeded");
    box.answer("d1", "'; DROP TABLE command; --", "succeeded");
    box.answer("d1", null, "succeeded");
    box.answer("d1", "c1", "exploded");
    assertEquals("QUEUED 1", box.state("c1"));
    assertEquals("QUEUED 0", box.state("c2"));
    box.answer("d1", "c1", "received");
    assertEquals("DELIVERED 1", box.state("c1"));
    box.answer("d1", "c1", "rejected");
    box.answer("d1", "c1", "succeeded");
    assertEquals("FAILED device_rejected 1", box.state("c1"));
    assertEquals("ACCEPTED QUEUED SENT DELIVERED FAILED", box.events("c1"));
    box.last().outcome(Evidence.DELIVERED);
    box.engine.pass();
    assertEquals("FAILED device_rejected 1", box.state("c1"), "the acknowledgement after the answer changes nothing");
  }

  @Test
  void severalAnswersInOneTransaction() throws Exception {
    box.submit("c1", "d1", "relay");
    box.engine.pass();
    int before = box.commits.get();
    EngineBox.get(box.engine.write(turn -> {
      turn.answer(new Answer("d1", "c1", "received", null, null, null));
      turn.answer(new Answer("d1", "c1", "succeeded", null, "1", "fine"));
      turn.answer(new Answer("d1", "c1", "succeeded", null, "2", null));
      return null;
    }));
    assertEquals(1, box.commits.get() - before);
    Command command = box.engine.find("c1").orElseThrow();
    assertEquals("1", command.result());
    assertEquals("fine", command.detail());
    assertEquals("ACCEPTED QUEUED SENT DELIVERED SUCCEEDED", box.events("c1"));
  }

  @Test
  void workThatFailsTakesNobodyWithIt() throws Exception {
    // Both arrive while the engine is busy, so that they share a transaction.
    CompletableFuture<Void> go = new CompletableFuture<>();
    var first = box.engine.write(turn -> go.join());
    var second = box.engine.write(turn -> {
      turn.outbox("twin", "d1", "k", null, "{}");
      throw new IllegalStateException("the cursor moved");
    });
    var third = box.engine.submit(List.of(EngineBox.request("c1", "d1", "relay")));
    var fourth = box.engine.write(turn -> turn.statement("INSERT INTO sink (name, log) VALUES ('answers', 'wal')").executeUpdate());
    go.complete(null);
    EngineBox.get(first);
    assertEquals("the cursor moved", assertThrows(ExecutionException.class, () -> EngineBox.get(second)).getCause().getMessage());
    assertEquals(Status.QUEUED, EngineBox.get(third).get(0).status());
    assertTrue(assertThrows(ExecutionException.class, () -> EngineBox.get(fourth)).getCause() instanceof StoreUnavailableException);
    assertEquals(List.of("0"), box.rows("SELECT count(*) FROM outbox WHERE kind = 'twin'"));
    box.engine.pass();
    assertEquals(List.of("c1"), box.ids());
    assertEquals("", box.engine.failure());
  }

  // ---- crashes

  @Test
  void aCrashAfterCommitIsNoSecondPublication() throws Exception {
    box.submit("once", "d1", "relay");
    box.submit("often", "d1", "led");
    box.engine.pass();
    assertEquals(List.of("once", "often"), box.ids());
    box.restart();
    box.engine.pass();
    box.advance(1_000);
    assertEquals(List.of("often"), box.ids(), "only the idempotent one is published again");
    assertEquals(2, box.last().publication().attempt());
    box.advance(4_000);
    assertEquals("INDETERMINATE restarted 1", box.state("once"));
    box.answer("d1", "once", "succeeded");
    assertEquals("SUCCEEDED 1", box.state("once"));
  }

  @Test
  void aCrashIsNoReasonToForgetWhoWaits() throws Exception {
    box.there.remove("d1");
    box.submit(full("c1", "{\"x\":\"" + "y".repeat(2_000) + "\"}", null, null, null));
    box.restart();
    box.there.put("d1", Reach.Way.LISTENER);
    box.engine.appeared("d1");
    box.engine.pass();
    assertEquals(List.of("c1"), box.ids());
    assertTrue(box.last().publication().arguments().length() > 2_000);
    box.last().outcome(Evidence.DELIVERED);
    box.engine.pass();
    box.restart();
    box.answer("d1", "c1", "succeeded");
    assertEquals("ACCEPTED QUEUED SENT DELIVERED SUCCEEDED", box.events("c1"));
  }

  @Test
  void publishedBeforeCommitIsNoticed() throws Exception {
    box.close();
    box.settings = with(Set.of("publish-before-commit"));
    box.open();
    box.submit("c1", "d1", "relay");
    box.engine.pass();
    List<String> before = box.ids();
    box.restart();
    box.engine.pass();
    assertEquals(List.of("c1"), before);
    assertEquals(List.of("c1"), box.ids(), "negative control: after a crash it is published a second time");
  }

  @Test
  void republishedAfterARestartIsNoticed() throws Exception {
    box.submit("c1", "d1", "relay");
    box.engine.pass();
    box.settings = with(Set.of("republish"));
    box.restart();
    box.engine.pass();
    assertEquals(List.of("c1"), box.ids(), "negative control");
  }

  /** What salvage does to a command whose publication the damage may have eaten. */
  @Test
  void aStoreThatWasReplacedWhileItRunsIsReadAgain() throws Exception {
    box.there.remove("d1");
    box.submit("c1", "d1", "relay");
    box.submit("c2", "d1", "relay");
    box.engine.pass();
    box.execute("UPDATE command SET attempts = 1, answer_until_mono_ms = 0 WHERE command_id = 'c1';"
        + " INSERT INTO incident (kind, at_ms, salvaged_rows, lost_rows, detail) VALUES ('corrupt_file', 1, 1, 1, 'x')");
    box.there.put("d1", Reach.Way.LISTENER);
    box.engine.appeared("d1");
    box.engine.pass();
    assertEquals(List.of("c2"), box.ids(), "memory, which knew better, is not asked any more");
    assertEquals("INDETERMINATE no_evidence 1", box.state("c1"));
  }

  /** Every call to the store fails once, at every place; then the process goes on, or is killed and comes back. */
  @Test
  void failsAtEveryCall() throws Exception {
    int round = 0;
    for (boolean kill : new boolean[] {false, true}) {
      boolean failed = true;
      for (int at = 1; failed; at++) {
        round++;
        String once = "once" + round;
        String often = "often" + round;
        List<String> published = new ArrayList<>();
        box.failAt.set(at);
        drive(once, often, published, kill);
        failed = box.failAt.getAndSet(0) == 0;
        long times = published.stream().filter(once::equals).count();
        assertTrue(times <= 1, () -> once + " was published more than once");
        for (String id : List.of(once, often)) {
          Command command = box.engine.find(id).orElse(null);
          if (command != null) {
            assertTrue(command.status().isFinal(), () -> id + " never ended: " + box.state(id));
            assertTrue(times > 0 || !command.events().stream().anyMatch(e -> e.status() == Status.DELIVERED) || id.equals(often));
            assertEquals(command.events().size(), box.outbox(id).size(), "as many rows for the cloud as changes of status");
            box.events(id);
          }
        }
      }
      assertTrue(round > 20, "calls were made: " + round);
    }
    assertEquals(0, box.engine.openCount());
  }

  private void drive(String once, String often, List<String> published, boolean kill) throws Exception {
    for (int step = 0; step < 6; step++) {
      try {
        switch (step) {
          case 0 -> EngineBox.get(box.engine.submit(List.of(EngineBox.request(once, "d1", "unlock"), EngineBox.request(often, "d1", "led"))));
          case 1, 2 -> {
            for (Sent each : box.sent) {
              each.outcome(Evidence.DELIVERED);
            }
            published.addAll(box.ids());
            box.sent.clear();
            box.engine.pass();
          }
          case 3 -> box.answer("d1", once, "succeeded");
          case 4 -> EngineBox.get(box.engine.cancel(often, "ann"));
          default -> box.advance(70_000);
        }
      } catch (ExecutionException | StoreUnavailableException e) {
        if (kill) {
          published.addAll(box.ids());
          box.restart();
        }
      }
    }
    // The wire is whole again: everything comes to its end.
    box.failAt.compareAndSet(0, 0);
    int left = box.failAt.getAndSet(0);
    for (int i = 0; i < 3; i++) {
      box.sent.forEach(each -> each.outcome(Evidence.UNKNOWN));
      published.addAll(box.ids());
      box.sent.clear();
      box.advance(70_000);
    }
    box.failAt.set(left);
  }

  // ---- idempotent

  @Test
  void anIdempotentOneIsPublishedUntilThereIsEvidenceOrItExpires() throws Exception {
    box.at = Evidence.UNKNOWN;
    box.submit(EngineBox.request("c1", "d1", "led", 5_500));
    box.submit(EngineBox.request("c2", "d1", "led", 5_500));
    box.engine.pass();
    box.advance(999);
    assertEquals(List.of("c1", "c2"), box.ids());
    box.advance(1);
    assertEquals(List.of("c1", "c2", "c1", "c2"), box.ids(), "every third of its time-out");
    box.answer("d1", "c1", "received");
    for (int i = 0; i < 4; i++) {
      box.advance(1_000);
    }
    assertEquals(6, box.ids().stream().filter("c2"::equals).count());
    assertEquals(2, box.ids().stream().filter("c1"::equals).count());
    assertEquals("INDETERMINATE no_result 2", box.state("c1"));
    box.advance(600);
    assertEquals(6, box.ids().stream().filter("c2"::equals).count(), "expired: not again");
    assertEquals("QUEUED 6", box.state("c2"));
    box.advance(3_000);
    assertEquals("INDETERMINATE no_evidence 6", box.state("c2"));
  }

  // ---- budgets

  private List<String> reasons(String... ids) throws Exception {
    List<String> found = new ArrayList<>();
    for (String id : ids) {
      found.add(String.valueOf(box.submit(id, "d1", "unlock").reason()));
    }
    return found;
  }

  @Test
  void atMostThreeAMinuteWhateverWindowOneTakes() throws Exception {
    box.at = Evidence.DELIVERED;
    assertEquals(List.of("null", "null"), reasons("a", "b"));
    box.advance(30_000);
    assertEquals(List.of("null", "budget_exceeded"), reasons("c", "d"));
    box.advance(29_999);
    assertEquals(List.of("budget_exceeded"), reasons("e"));
    box.advance(1);
    assertEquals(List.of("null", "null", "budget_exceeded"), reasons("f", "g", "h"));
    assertEquals("null", String.valueOf(box.submit("x", "d2", "unlock").reason()), "each device has its own");
    assertEquals("null", String.valueOf(box.submit("y", "d1", "relay").reason()));
  }

  @Test
  void whatWaitsCountsToo() throws Exception {
    box.there.remove("d1");
    assertEquals(List.of("null", "null", "null", "budget_exceeded"), reasons("a", "b", "c", "d"));
    box.advance(40_000);
    box.there.put("d1", Reach.Way.LISTENER);
    box.engine.appeared("d1");
    box.engine.pass();
    assertEquals(List.of("a", "b", "c"), box.ids());
    assertEquals(List.of("budget_exceeded"), reasons("e"));
  }

  @Test
  void aBudgetThatBecameSmallerHoldsAtPublication() throws Exception {
    box.there.remove("d1");
    reasons("a", "b");
    box.declared.put("unlock", new Capability(false, 5_000, true, List.of(new Budget(1, 60_000))));
    box.there.put("d1", Reach.Way.LISTENER);
    box.engine.appeared("d1");
    box.engine.pass();
    assertEquals(List.of("a"), box.ids());
    assertEquals("REJECTED budget_exceeded 0", box.state("b"));
  }

  @Test
  void aBudgetOutlivesTheProcessAndTheMachine() throws Exception {
    reasons("a", "b", "c");
    box.engine.pass();
    box.clocks.wall.addAndGet(86_400_000);
    box.restart();
    assertEquals(List.of("budget_exceeded"), reasons("d"));
    box.advance(50_000);
    box.clocks.wall.addAndGet(86_400_000);
    box.reboot();
    box.clocks.mono.set(59_999);
    assertEquals(List.of("budget_exceeded"), reasons("e"), "after a reboot they count as made at its start");
    box.clocks.mono.set(60_000);
    assertEquals(List.of("null"), reasons("f"));
  }

  @Test
  void whatDidNotLeaveIsNotCounted() throws Exception {
    reasons("a", "b", "c");
    box.engine.pass();
    box.sent.get(0).outcome(Evidence.NONE);
    box.there.remove("d1");
    box.engine.pass();
    EngineBox.get(box.engine.cancel("a", "ann"));
    assertEquals(List.of("null", "budget_exceeded"), reasons("d", "e"));
  }

  @Test
  void repetitionsCountAndWait() throws Exception {
    box.at = Evidence.UNKNOWN;
    box.declared.put("led", new Capability(true, 3_000, true, List.of(new Budget(2, 60_000))));
    box.submit("c1", "d1", "led");
    for (int i = 0; i < 20; i++) {
      box.advance(1_000);
    }
    assertEquals(2, box.sent.size());
  }

  @Test
  void anIgnoredBudgetIsNoticed() throws Exception {
    box.close();
    box.settings = with(Set.of("ignore-budget"));
    box.open();
    reasons("a", "b", "c", "d");
    box.engine.pass();
    assertEquals(4, box.sent.size(), "negative control");
  }

  // ---- precondition

  private void reported(String json, long atMs) throws Exception {
    EngineBox.get(box.engine.write(turn -> {
      var put = turn.statement("INSERT INTO twin (device_id, reported, reported_version, reported_at_ms) VALUES ('d1', ?, 1, ?)"
          + " ON CONFLICT (device_id) DO UPDATE SET reported = excluded.reported, reported_at_ms = excluded.reported_at_ms");
      put.setString(1, json);
      put.setLong(2, atMs);
      return put.executeUpdate();
    }));
  }

  @Test
  void aPreconditionIsCheckedWhenItIsPublished() throws Exception {
    String closed = "{\"reported\":{\"type\":\"object\",\"required\":[\"door\"],\"properties\":{\"door\":{\"const\":\"closed\"}}},\"max_age_ms\":1000}";
    assertEquals(Status.REJECTED, kept(full("a", null, null, closed, null)), "nothing was reported");
    reported("{\"door\":\"open\"}", box.clocks.wallMs());
    assertEquals(Status.REJECTED, kept(full("b", null, null, closed, null)));
    reported("{\"door\":\"closed\"}", box.clocks.wallMs() - 1_001);
    assertEquals(Status.REJECTED, kept(full("c", null, null, closed, null)), "too old");
    reported("{\"door\":\"closed\"}", box.clocks.wallMs() + 1);
    assertEquals(Status.REJECTED, kept(full("d", null, null, closed, null)), "from the future: its age is not known");
    reported("{\"door\":\"closed\"}", box.clocks.wallMs() - 1_000);
    assertEquals(Status.QUEUED, kept(full("e", null, null, closed, null)));
    box.engine.pass();
    assertEquals(List.of("e"), box.ids());
    assertEquals("REJECTED precondition_failed 0", box.state("b"));
  }

  @Test
  void aPreconditionIsCheckedEachTimeItIsPublished() throws Exception {
    String closed = "{\"reported\":{\"type\":\"object\",\"required\":[\"door\"],\"properties\":{\"door\":{\"const\":\"closed\"}}}}";
    box.at = Evidence.UNKNOWN;
    reported("{\"door\":\"closed\"}", box.clocks.wallMs());
    box.submit(new Request("c1", "d1", "led", null, null, closed, 10_000L, "cloud", "ann", null));
    box.engine.pass();
    box.advance(1_000);
    assertEquals(List.of("c1", "c1"), box.ids(), "while it holds");
    reported("{\"door\":\"open\"}", box.clocks.wallMs());
    for (int i = 0; i < 5; i++) {
      box.advance(1_000);
    }
    assertEquals("QUEUED 2", box.state("c1"), "not again, and not rejected: it may be out there");
    reported("{\"door\":\"closed\"}", box.clocks.wallMs());
    box.advance(1_000);
    assertEquals("QUEUED 3", box.state("c1"));
    reported("{\"door\":\"open\"}", box.clocks.wallMs());
    for (int i = 0; i < 5; i++) {
      box.advance(1_000);
    }
    assertEquals("INDETERMINATE no_evidence 3", box.state("c1"));
    assertEquals(3, box.sent.size());
  }

  private Status kept(Request request) throws Exception {
    box.submit(request);
    box.engine.pass();
    return box.engine.find(request.id()).orElseThrow().status();
  }

  // ---- cancel

  @Test
  void onlyWhatMayNotHaveLeftCanBeTakenBack() throws Exception {
    box.there.remove("d1");
    box.submit("waits", "d1", "relay");
    box.submit("left", "d2", "relay");
    box.engine.pass();
    assertEquals(Status.CANCELLED, EngineBox.get(box.engine.cancel("waits", "ann")).orElseThrow().status());
    assertEquals(Status.CANCELLED, EngineBox.get(box.engine.cancel("waits", "ann")).orElseThrow().status());
    assertEquals(Status.QUEUED, EngineBox.get(box.engine.cancel("left", "ann")).orElseThrow().status());
    assertTrue(EngineBox.get(box.engine.cancel("nobody", "ann")).isEmpty());
    assertTrue(EngineBox.get(box.engine.cancel("not an id", "ann")).isEmpty());
    assertEquals("ACCEPTED QUEUED CANCELLED", box.events("waits"));
    box.there.put("d1", Reach.Way.LISTENER);
    box.engine.appeared("d1");
    box.engine.pass();
    assertEquals(List.of("left"), box.ids());
  }

  // ---- the gateway's own commands

  @Test
  void theGatewaysOwnOneAfterTheOther() throws Exception {
    box.submit("g1", "gateway", "relay");
    box.submit("g2", "gateway", "relay");
    box.engine.pass();
    assertEquals(List.of("g1"), box.ids());
    box.last().outcome(Evidence.ANSWERED, new Answer("gateway", "g1", "failed", "rolled_back", "{\"x\":1}", "not ready within 30 s"));
    box.engine.pass();
    assertEquals("FAILED rolled_back 1", box.state("g1"));
    assertEquals("not ready within 30 s", box.engine.find("g1").orElseThrow().detail());
    assertEquals(List.of("g1", "g2"), box.ids());
    box.last().outcome(Evidence.ANSWERED, new Answer("gateway", "g2", "succeeded", null, "{}", null));
    box.engine.pass();
    assertEquals("ACCEPTED QUEUED SENT DELIVERED SUCCEEDED", box.events("g2"));
  }

  @Test
  void theGatewaysIdempotentOnesAreRunAgainAfterACrashAlsoWhenExpired() throws Exception {
    box.submit(EngineBox.request("often", "gateway", "led", 1_000));
    box.engine.pass();
    assertEquals(List.of("often"), box.ids());
    box.close();
    box.clocks.mono.addAndGet(10_000);
    box.clocks.wall.addAndGet(10_000);
    box.sent.clear();
    box.open();
    box.engine.pass();
    assertEquals(List.of("often"), box.ids());
    assertEquals(2, box.last().publication().attempt());
    box.last().outcome(Evidence.NONE); // no route runs it yet
    box.engine.pass();
    assertEquals(1, box.sent.size(), "not in a loop");
    box.advance(1_000);
    assertEquals(3, box.last().publication().attempt());
    box.last().outcome(Evidence.ANSWERED, new Answer("gateway", "often", "succeeded", null, null, null));
    box.engine.pass();
    assertEquals("SUCCEEDED 3", box.state("often"));
  }

  @Test
  void aGatewaysOneThatWasBegunAndThatNoRouteAnswersEnds() throws Exception {
    box.submit(EngineBox.request("often", "gateway", "led", 1_000));
    box.submit(EngineBox.request("next", "gateway", "led", 3_000_000));
    box.engine.pass();
    box.close();
    box.clocks.mono.addAndGet(3_600_000 - 1_000_000);
    box.clocks.wall.addAndGet(3_600_000 - 1_000_000);
    box.sent.clear();
    box.at = Evidence.NONE;
    box.open();
    box.engine.pass();
    for (int i = 0; i < 59; i++) {
      box.advance(1_000);
    }
    assertTrue(box.state("often").startsWith("QUEUED "), "its time is over for long, and a route may come a minute after the start: " + box.state("often"));
    for (int i = 0; i < 5; i++) {
      box.advance(1_000);
    }
    assertTrue(box.state("often").startsWith("INDETERMINATE restarted "), box.state("often"));
    assertEquals("QUEUED 0", box.state("next"), "never begun: waits for its time");
    int asked = box.ids().stream().filter("often"::equals).toList().size();
    box.at = Evidence.DELIVERED;
    box.advance(2_000);
    assertEquals("next", box.last().publication().commandId(), "and holds up nobody any more");
    assertEquals(asked, box.ids().stream().filter("often"::equals).toList().size());
  }

  // ---- lists and retention

  @Test
  void listsNewestFirst() throws Exception {
    box.submit("a", "d1", "relay");
    box.submit("b", "d2", "relay");
    box.submit("c", "d1", "fly");
    assertEquals(List.of("c", "b", "a"), box.engine.list(new Filter(null, null, false), 10).stream().map(Command::id).toList());
    assertEquals(List.of("c", "a"), box.engine.list(new Filter("d1", null, false), 10).stream().map(Command::id).toList());
    assertEquals(List.of("b"), box.engine.list(new Filter(null, null, true), 1).stream().map(Command::id).toList());
    assertEquals(List.of("c"), box.engine.list(new Filter(null, Status.REJECTED, false), 10).stream().map(Command::id).toList());
    assertTrue(box.engine.find("nobody").isEmpty());
    assertNull(box.engine.find("a").orElseThrow().finalAtMs());
  }

  @Test
  void finishedOnesAreKeptForTheirTimeByBothClocks() throws Exception {
    box.submit("old", "d1", "fly");
    box.there.remove("d1");
    box.submit(EngineBox.request("open", "d1", "relay", 3_600_000));
    box.clocks.wall.addAndGet(10 * 86_400_000L);
    box.clocks.mono.addAndGet(60_000);
    box.engine.pass();
    assertTrue(box.engine.find("old").isPresent(), "a step of the wall clock forgets nothing");
    box.clocks.mono.addAndGet(86_500_000L);
    box.engine.pass();
    EngineBox.await("old is gone", () -> box.engine.find("old").isEmpty());
    assertEquals(List.of("0"), box.rows("SELECT count(*) FROM command_event WHERE command_seq NOT IN (SELECT seq FROM command)"));
    assertEquals("EXPIRED expired 0", box.state("open"));
  }

  @Test
  void tooManyFinishedOnesGoWhenTheirTimeIsOver() throws Exception {
    List<Request> many = IntStream.range(0, 1_100).mapToObj(i -> EngineBox.request("c" + i, "d1", "fly", i < 200 ? 1_000 : 600_000)).toList();
    assertEquals(1_100, EngineBox.get(box.engine.submit(many)).size());
    box.advance(500);
    assertEquals(List.of("1100"), box.rows("SELECT count(*) FROM command"));
    box.advance(70_000);
    for (int i = 0; i < 5; i++) {
      box.advance(100);
    }
    assertEquals(List.of("1000"), box.rows("SELECT count(*) FROM command"));
    assertTrue(box.engine.find("c0").isEmpty());
    assertTrue(box.engine.find("c200").isPresent());
  }

  @Test
  void ofTooManyFinishedOnesThoseStayThatABudgetCounts() throws Exception {
    box.at = Evidence.DELIVERED;
    box.declared.put("unlock", new Capability(false, 5_000, true, List.of(new Budget(3, 3_600_000))));
    for (String name : List.of("unlock", "relay")) {
      for (int i = 0; i < 3; i++) {
        box.submit(EngineBox.request(name + i, "d1", name, 1_000));
        box.answer("d1", name + i, "succeeded");
      }
    }
    List<Request> many = IntStream.range(0, 4_000).mapToObj(i -> EngineBox.request("c" + i, "d1", "fly", 2_000)).toList();
    EngineBox.get(box.engine.submit(many));
    box.advance(70_000);
    for (int i = 0; i < 15; i++) {
      box.advance(100);
    }
    assertEquals(List.of("1000"), box.rows("SELECT count(*) FROM command"));
    assertEquals(List.of("unlock0", "unlock1", "unlock2"), box.rows("SELECT command_id FROM command WHERE attempts > 0 ORDER BY seq"));
    box.failAt.set(1);
    assertThrows(ExecutionException.class, () -> box.submit("x", "d1", "relay"));
    assertEquals(List.of("budget_exceeded"), reasons("a"), "read again from the store");
    box.restart();
    assertEquals(List.of("budget_exceeded"), reasons("b"));
    box.advance(3_600_000);
    assertEquals(List.of("null"), reasons("c"));
    EngineBox.get(box.engine.submit(IntStream.range(0, 100).mapToObj(i -> EngineBox.request("e" + i, "d1", "fly", 2_000)).toList()));
    for (int i = 0; i < 3; i++) {
      box.advance(60_000);
    }
    assertEquals(List.of("0"), box.rows("SELECT count(*) FROM command WHERE command_id LIKE 'unlock%'"), "when it counts them no more, they go");
    assertEquals(List.of("1000"), box.rows("SELECT count(*) FROM command WHERE final_at_ms IS NOT NULL"));
  }

  @Test
  void manyThatABudgetCountsHideNoneThatMayGo() throws Exception {
    EngineBox.get(box.engine.submit(IntStream.range(0, 2_100).mapToObj(i -> EngineBox.request("p" + i, "d1", "fly", 1_000)).toList()));
    box.execute("UPDATE command SET name = 'unlock', attempts = 1, attempted_mono_ms = " + (box.clocks.monoMs() + 50_000));
    EngineBox.get(box.engine.submit(IntStream.range(0, 700).mapToObj(i -> EngineBox.request("c" + i, "d1", "fly", 1_000)).toList()));
    box.advance(70_000);
    for (int i = 0; i < 10; i++) {
      box.advance(100);
    }
    assertEquals(List.of("2100"), box.rows("SELECT count(*) FROM command WHERE command_id LIKE 'p%'"));
    assertEquals(List.of("0"), box.rows("SELECT count(*) FROM command WHERE command_id LIKE 'c%'"));
  }
}
