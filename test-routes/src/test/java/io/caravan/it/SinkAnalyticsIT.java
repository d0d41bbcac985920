// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;

import io.caravan.parts.HttpsPart;
import io.caravan.parts.HttpsPart.Answer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;

/** Feature caravan-sink-analytics in the real gateway, against a real HTTPS receiver; its details are SinkAnalyticsTest's. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class SinkAnalyticsIT {
  private static final Duration SOON = Duration.ofSeconds(60);
  private static final Duration DRAIN = Duration.ofSeconds(90);

  private HttpsPart receiver;
  private Distribution gateway;
  private Path db;
  private Path token;
  private int sent;

  @BeforeAll
  void start() throws Exception {
    receiver = new HttpsPart();
    receiver.token("right");
    gateway = Distribution.unpack("gateway", "sink-analytics-gateway");
    db = gateway.home.resolve("data/caravan/gateway.db");
    token = Files.writeString(gateway.home.resolve("analytics.token"), "right\n");
    configure(receiver.url());
    gateway.with("mqtt.server.port", Ports.free()).with("uplink.enabled", false).with("gateway.id", "gw-it")
        .with("sink.retry.max.ms", 1_000).with("sink.probe.ms", 500).start().awaitReady();
    gateway.shell("feature:install caravan-sink-analytics");
    await("the sink runs").atMost(SOON).until(() -> state().startsWith("running"));
  }

  @AfterAll
  void stop() throws Exception {
    if (gateway != null) {
      gateway.close();
    }
    receiver.close();
  }

  @AfterEach
  void accountsBalance() throws Exception {
    receiver.answer(Answer.status(200));
    await("drained").atMost(DRAIN).until(() -> Store.number(db, "SELECT backlog FROM ledger WHERE sink = 'analytics'") == 0);
    assertEquals(0, Store.number(db, "SELECT unaccounted FROM ledger WHERE sink = 'analytics'"));
    assertEquals(Set.of(), receiver.conflicts());
    assertEquals(Set.copyOf(Store.rows(db, "SELECT message_key FROM wal WHERE seq NOT IN (SELECT seq FROM dead_letter WHERE sink = 'analytics')")),
        receiver.taken());
  }

  private void configure(String url) throws Exception {
    Path cfg = gateway.home.resolve("etc/io.caravan.sink.analytics.cfg");
    Path saved = Files.writeString(cfg.resolveSibling("sink.analytics.saved"), "sink.analytics.url = " + url
        + "\nsink.analytics.ca.file = " + receiver.ca() + "\nsink.analytics.token.file = " + token
        + "\nsink.analytics.answer.timeout.ms = 2000\n");
    Files.move(saved, cfg, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
  }

  private String state() throws SQLException {
    List<String> rows = Store.rows(db, "SELECT state || ',' || coalesce(reason, '') FROM sink WHERE name = 'analytics'");
    return rows.isEmpty() ? "" : rows.get(0);
  }

  private void awaitState(String state) {
    await(state).atMost(SOON).until(this::state, state::equals);
  }

  private void post(String device, int messages) throws Exception {
    for (int i = 0; i < messages; i++) {
      assertEquals(202, gateway.post("/ingest/" + device, "application/json", ("{\"schema_version\":1,\"boot_id\":\"b\",\"device_seq\":" + ++sent
          + ",\"metrics\":{\"t\":1}}").getBytes(StandardCharsets.UTF_8)).statusCode());
    }
  }

  @Test
  void whatIsPromisedToDevicesArrivesOnceWhateverTheReceiverDoesAndThroughAKill() throws Exception {
    post("a1", 20);
    receiver.next(Answer.status(500), Answer.status(429).header("Retry-After", "1"), Answer.hang(), Answer.cut(), Answer.late(), Answer.drip());
    post("a2", 20);
    await().atMost(SOON).until(() -> receiver.repeatedRequests() > 0);
    receiver.stop();
    post("a3", 20);
    awaitState("running,unavailable");
    gateway.kill();
    receiver.start();
    gateway.start().awaitReady();
    post("a4", 20);
  }

  @Test
  void aRefusedRowIsADeadLetterAndAWrongTokenAState() throws Exception {
    receiver.refuse(String.format("bad/b/%016d", sent + 1));
    post("bad", 1);
    post("fine", 5);
    await().atMost(SOON).until(() -> Store.number(db, "SELECT count(*) FROM dead_letter WHERE sink = 'analytics' AND reason = 'refused'") == 1);
    Files.writeString(token, "wrong");
    post("fine", 1);
    awaitState("failed,unauthorized");
    assertEquals(200, gateway.status("/readyz"));
    Files.writeString(token, "right");
    awaitState("running,");
  }

  @Test
  void aChangedKeyIsInForceWithoutARestart() throws Exception {
    configure("http://example.org/rows");
    await().atMost(SOON).until(() -> {
      post("k1", 1);
      return state().equals("failed,misconfigured");
    });
    configure(receiver.url());
    awaitState("running,");
  }
}
