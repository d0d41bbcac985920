// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.Batch;
import io.caravan.wal.Row;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.camel.Exchange;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.support.DefaultExchange;
import org.apache.camel.util.json.JsonArray;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A sink's turn that is interrupted, and deliveries that do not end. */
class SinksTest {
    private static final Row ROW = new Row(1, "gw-1", "d/b/1", "c", "d", "telemetry", "live", "b", 1, 1, 2, 1, "application/json", null, new byte[] {'{', '}'});

    @TempDir Path directory;

    private TestConfig config() {
        return TestConfig.at(directory.resolve("gateway.db")).with("gateway.id", "gw-1").with("sink.retry.min.ms", "10").with("sink.retry.max.ms", "10");
    }

    private static Exchange turn(Fixture fixture, String sink, long timeoutMs) {
        Exchange turn = new DefaultExchange(fixture.context);
        turn.setVariable("sink", sink);
        turn.setVariable("timeoutMs", timeoutMs);
        turn.setVariable("refused", new JsonArray());
        turn.getMessage().setBody(new Batch(sink, 1, 1, List.of(ROW)));
        return turn;
    }

    private static void route(Fixture fixture, String sink, org.apache.camel.Processor does) throws Exception {
        fixture.context.addRoutes(new RouteBuilder() {
            @Override
            public void configure() {
                from("direct:deliver-" + sink).process(does);
            }
        });
    }

    private static Sinks sinks(Fixture fixture) {
        return fixture.context.getRegistry().lookupByNameAndType("sinks", Sinks.class);
    }

    /** Routes that are stopped and started: the interrupt comes before the delivery has begun, or just as it begins. */
    @Test
    void aTurnThatIsInterruptedAsItBeginsLeavesNothingHanging() throws Exception {
        try (Fixture fixture = new Fixture(config())) {
            route(fixture, "quick", exchange -> { });
            int stopped = 0;
            for (int i = 0; i < 200; i++) {
                Thread.currentThread().interrupt();
                try {
                    sinks(fixture).deliver(turn(fixture, "quick", 10_000));
                } catch (RejectedExecutionException e) {
                    stopped++;
                } finally {
                    Thread.interrupted();
                }
            }
            assertTrue(stopped > 2, "too few are interrupted: " + stopped);
            // Those that had begun end by themselves.
            Fixture.await("the sink delivers", () -> {
                Exchange next = turn(fixture, "quick", 10_000);
                sinks(fixture).deliver(next);
                return "acked".equals(next.getVariable("verdict"));
            });
        }
    }

    @Test
    void threeThatHangHoldTheSinkUntilOneEnds() throws Exception {
        try (Fixture fixture = new Fixture(config())) {
            CountDownLatch end = new CountDownLatch(1);
            route(fixture, "deaf", exchange -> {
                while (end.getCount() > 0) {
                    try {
                        end.await(1, TimeUnit.SECONDS);
                    } catch (InterruptedException e) {
                        continue; // as a driver that does not listen
                    }
                }
            });
            for (int i = 0; i < 3; i++) {
                Exchange hangs = turn(fixture, "deaf", 200);
                sinks(fixture).deliver(hangs);
                assertTrue(String.valueOf(hangs.getVariable("error")).contains("no answer within"), () -> "" + hangs.getVariable("error"));
            }
            Exchange refused = turn(fixture, "deaf", 200);
            sinks(fixture).deliver(refused);
            assertTrue(String.valueOf(refused.getVariable("error")).contains("3 deliveries hang"), () -> "" + refused.getVariable("error"));
            end.countDown();
            Fixture.await("the sink delivers", () -> {
                Exchange next = turn(fixture, "deaf", 10_000);
                sinks(fixture).deliver(next);
                return "acked".equals(next.getVariable("verdict"));
            });
            assertEquals(0, end.getCount());
        }
    }
}
