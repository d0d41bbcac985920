// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static io.caravan.wal.internal.Fixture.execute;
import static io.caravan.wal.internal.Fixture.numbered;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.SinkException;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import org.apache.camel.health.HealthCheck;
import org.apache.camel.health.HealthCheck.State;
import org.apache.camel.health.HealthCheckRegistry;
import org.apache.camel.impl.health.DefaultHealthCheckRegistry;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Readiness of sinks and of the log by progress, with a clock of the test. */
class ProgressTest {
    private static final long HOUR = 3_600_000;

    @TempDir Path directory;
    private long nanos = 1;

    @Test
    void aSinkWhoseOldestRowGetsOlderIsDown() throws Exception {
        Path file = directory.resolve("gateway.db");
        SimpleMeterRegistry meters = new SimpleMeterRegistry();
        TestConfig config = TestConfig.at(file).with("sink.ready.after.ms", "60000").with("sink.readiness", "false");
        try (Fixture fixture = new Fixture(TestConfig.at(file))) {
            // The fixture's own has checks of the same names.
            HealthCheckRegistry health = new DefaultHealthCheckRegistry(fixture.context);
            assertEquals("durable", fixture.append(numbered("d1", "b1", 1, "{}")));
            assertEquals("durable", fixture.append(numbered("d1", "b1", 2, "{}")));
            long now = System.currentTimeMillis();
            execute(file, "UPDATE wal SET received_at_ms = " + (now - HOUR));
            execute(file, "UPDATE sink_range SET acked_seq = 2 WHERE sink NOT IN ('rollup', 'uplink')");
            try (SinkReport report = new SinkReport(config, new GatewayLog(fixture.database(), config), "wal", meters, health, () -> nanos)) {
                assertEquals(State.UP, later(health, 2).getState(), "one look tells nothing of progress: after a night without the cloud it begins");
                assertEquals(2, meters.get("caravan.wal.depth.rows").gauge().value());
                assertTrue(meters.get("caravan.wal.oldest.unacked.age.seconds").gauge().value() > 3_500);

                later(health, 6);
                HealthCheck.Result stuck = later(health, 6);
                assertEquals(State.DOWN, stuck.getState());
                assertTrue(stuck.getMessage().orElseThrow().contains("gets older") && String.valueOf(stuck.getDetails().get("todo")).contains("sink:pause rollup"));

                // Half an hour of backlog in 6 s.
                execute(file, "UPDATE wal SET received_at_ms = " + (now - HOUR / 2));
                HealthCheck.Result better = later(health, 6);
                assertEquals(State.UP, better.getState());
                assertTrue(better.getMessage().orElseThrow().contains("catching up"), better.getMessage().orElseThrow());

                for (int i = 0; i < 20; i++) {
                    later(health, 6);
                }
                assertEquals(State.DOWN, later(health, 6).getState(), "it stopped again");
                execute(file, "UPDATE sink SET state = 'paused' WHERE name = 'rollup'");
                HealthCheck.Result paused = later(health, 6);
                assertEquals(State.UP, paused.getState());
                assertTrue(paused.getMessage().orElseThrow().startsWith("paused by an operator"), paused.getMessage().orElseThrow());

                // The uplink is a sink of another table.
                execute(file, "UPDATE sink SET state = 'running'");
                execute(file, "UPDATE sink_range SET acked_seq = 2 WHERE sink = 'rollup'");
                assertEquals(State.UP, later(health, 6).getState());
                execute(file, "INSERT INTO outbox (kind, device_id, message_key, observed_at_ms, created_at_ms, body) VALUES ('window', 'd', 'k', 1, "
                        + (now - HOUR) + ", '{}')");
                execute(file, "UPDATE sink_range SET acked_seq = 0 WHERE sink = 'uplink'");
                later(health, 6);
                assertTrue(meters.get("caravan.sink.oldest.unacked.age.seconds").tag("sink", "uplink").gauge().value() > 3_500);
            }
        }
    }

    private HealthCheck.Result later(HealthCheckRegistry health, long seconds) {
        nanos += TimeUnit.SECONDS.toNanos(seconds);
        return health.getCheck("sink:rollup").orElseThrow().call(Map.of());
    }

    @Test
    void deliveriesAreCountedAndReasonsAreFew() throws Exception {
        SimpleMeterRegistry meters = new SimpleMeterRegistry();
        TestConfig config = TestConfig.at(directory.resolve("gateway.db"));
        try (Fixture fixture = new Fixture(config);
                SinkReport report = new SinkReport(config, new GatewayLog(fixture.database(), config), "wal", meters, null)) {
            report.attempt("rollup", null, 1_000, 5);
            for (int i = 0; i < 100; i++) {
                report.attempt("rollup", new SinkException(SinkException.Kind.TRANSIENT, "reason-" + i, "no", 0, null), 1_000, 5);
            }
            report.attempt("rollup", null, 1_000, 5);
            assertEquals(2, meters.get("caravan.sink.deliveries").tags("sink", "rollup", "outcome", "delivered").counter().count());
            assertEquals(100, meters.get("caravan.sink.deliveries").tags("sink", "rollup", "outcome", "failed").counter().count());
            assertEquals(100, meters.get("caravan.sink.retries").tag("sink", "rollup").counter().count());
            assertEquals(21, meters.get("caravan.sink.failures").counters().size());
            assertEquals(80, meters.get("caravan.sink.failures").tag("reason", "other").counter().count());
        }
    }

    @Test
    void aCommitThatHangsIsDown() throws Exception {
        try (Fixture fixture = new Fixture(TestConfig.at(directory.resolve("gateway.db")).with("wal.ready.after.ms", "50"))) {
            HealthCheck check = HealthCheckRegistry.get(fixture.context).getCheck("wal").orElseThrow();
            assertEquals(State.UP, check.call().getState());
            fixture.database().gate().enter(1_000);
            CompletionStage<?> waiting;
            try {
                // On a thread that does not hold the turn.
                waiting = CompletableFuture.runAsync(() -> { }).thenComposeAsync(go -> fixture.wal.submit(numbered("d1", "b1", 1, "{}"), "mqtt-server", "t"));
                Fixture.await("DOWN", () -> check.call().getState() == State.DOWN);
                assertTrue(check.call().getMessage().orElseThrow().contains("under way"), check.call().getMessage().orElseThrow());
            } finally {
                fixture.database().gate().leave();
            }
            Fixture.get(waiting);
            Fixture.await("UP", () -> check.call().getState() == State.UP);
        }
    }
}
