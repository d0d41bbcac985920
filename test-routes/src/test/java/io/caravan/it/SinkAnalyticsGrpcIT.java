// SPDX-License-Identifier: Apache-2.0
package io.caravan.it;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.assertEquals;

import io.caravan.parts.HttpsPart;
import io.caravan.sinks.GrpcReceiver;
import io.caravan.sinks.GrpcReceiver.Answer;
import io.grpc.Status;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.Timeout;

/** Feature caravan-sink-analytics-grpc in the real gateway, against a real gRPC server; its details are SinkAnalyticsGrpcTest's. */
@Timeout(600)
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class SinkAnalyticsGrpcIT {
  private static final Duration SOON = Duration.ofSeconds(60);
  private static final Duration DRAIN = Duration.ofSeconds(90);

  private HttpsPart authority;
  private GrpcReceiver receiver;
  private Distribution gateway;
  private Path db;
  private Path token;
  private int sent;

  @BeforeAll
  void start() throws Exception {
    authority = new HttpsPart();
    receiver = new GrpcReceiver(authority);
    receiver.token("right");
    gateway = Distribution.unpack("gateway", "sink-analytics-grpc-gateway");
    db = gateway.home.resolve("data/caravan/gateway.db");
    token = Files.writeString(gateway.home.resolve("analytics-grpc.token"), "right\n");
    configure();
    gateway.with("mqtt.server.port", Ports.free()).with("uplink.enabled", false).with("gateway.id", "gw-it")
        .with("sink.retry.max.ms", 1_000).with("sink.probe.ms", 500).start().awaitReady();
    gateway.shell("feature:install caravan-sink-analytics-grpc");
    await("the sink runs").atMost(SOON).until(() -> state().startsWith("running"));
  }

  @AfterAll
  void stop() throws Exception {
    if (gateway != null) {
      gateway.close();
    }
    receiver.close();
    authority.close();
  }

  @AfterEach
  void accountsBalance() throws Exception {
    receiver.answer(Answer.ok());
    await("drained").atMost(DRAIN).until(() -> Store.number(db, "SELECT backlog FROM ledger WHERE sink = 'analytics-grpc'") == 0);
    assertEquals(0, Store.number(db, "SELECT unaccounted FROM ledger WHERE sink = 'analytics-grpc'"));
    assertEquals(Set.of(), receiver.faults());
    assertEquals(Set.copyOf(Store.rows(db, "SELECT message_key FROM wal WHERE seq NOT IN (SELECT seq FROM dead_letter WHERE sink = 'analytics-grpc')")),
        receiver.taken());
  }

  private void configure() throws Exception {
    Files.writeString(gateway.home.resolve("etc/io.caravan.sink.analytics.grpc.cfg"), "sink.analytics.grpc.url = " + receiver.url()
        + "\nsink.analytics.grpc.ca.file = " + authority.ca() + "\nsink.analytics.grpc.token.file = " + token
        + "\nsink.analytics.grpc.deadline.ms = 2000\n");
  }

  private String state() throws SQLException {
    List<String> rows = Store.rows(db, "SELECT state || ',' || coalesce(reason, '') FROM sink WHERE name = 'analytics-grpc'");
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
    receiver.next(Answer.status(Status.UNAVAILABLE), Answer.status(Status.RESOURCE_EXHAUSTED), Answer.hang(), Answer.late());
    post("a2", 20);
    await().atMost(SOON).until(() -> receiver.repeatedCalls() > 0);
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
    receiver.refuse(String.format("bad/b/%016d", sent + 1), Status.INVALID_ARGUMENT);
    post("bad", 1);
    post("fine", 5);
    await().atMost(SOON).until(() -> Store.number(db, "SELECT count(*) FROM dead_letter WHERE sink = 'analytics-grpc' AND reason = 'refused'") == 1);
    Files.writeString(token, "wrong");
    post("fine", 1);
    awaitState("failed,unauthorized");
    assertEquals(200, gateway.status("/readyz"));
    Files.writeString(token, "right");
    awaitState("running,");
  }
}
