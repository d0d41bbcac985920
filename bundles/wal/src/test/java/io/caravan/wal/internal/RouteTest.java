// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static io.caravan.wal.internal.Fixture.await;
import static io.caravan.wal.internal.Fixture.numbered;
import static io.caravan.wal.internal.Fixture.row;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.AppendResult;
import io.caravan.wal.Record;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import javax.sql.DataSource;
import org.apache.camel.CamelExecutionException;
import org.apache.camel.ProducerTemplate;
import org.apache.camel.builder.RouteBuilder;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What routes see: transactions, the bean, the wal: component. */
class RouteTest {
    @TempDir Path directory;
    private Path file;
    private Fixture fixture;
    private ProducerTemplate template;

    @BeforeEach
    void open() throws Exception {
        file = directory.resolve("gateway.db");
        fixture = new Fixture(TestConfig.at(file));
        template = fixture.context.createProducerTemplate();
    }

    @AfterEach
    void close() throws Exception {
        fixture.close();
    }

    private void routes(RouteBuilder routes) throws Exception {
        fixture.context.addRoutes(routes);
    }

    private String state() throws Exception {
        return row(file, "SELECT (SELECT acked_seq FROM sink_range WHERE sink = 'rollup'), (SELECT count(*) FROM outbox)");
    }

    private static final String MOVE_CURSOR = "sql:UPDATE sink_range SET acked_seq = acked_seq + 1 WHERE sink = 'rollup'?dataSource=#writer";
    private static final String FILL_OUTBOX = "sql:INSERT INTO outbox (kind, device_id, message_key, observed_at_ms, created_at_ms, body)"
            + " VALUES ('window', 'd', 'k', 1, 1, :#${body})?dataSource=#writer";

    @Test
    void aTransactionIsKeptWholeOrNotAtAll() throws Exception {
        routes(new RouteBuilder() {
            @Override
            public void configure() {
                from("direct:t").errorHandler(noErrorHandler()).transacted("transaction")
                        .to(MOVE_CURSOR).to(FILL_OUTBOX)
                        .process(e -> {
                            if ("fail".equals(e.getMessage().getBody())) {
                                throw new IllegalArgumentException("as told");
                            }
                        })
                        .to("direct:joined");
                from("direct:joined").errorHandler(noErrorHandler()).transacted("transaction").to(MOVE_CURSOR)
                        .choice().when(simple("${body} == 'fail late'")).throwException(new IllegalStateException("late"))
                        .when(simple("${body} == 'rollback only'")).markRollbackOnly();
            }
        });
        template.sendBody("direct:t", "{}");
        assertEquals("2 1", state());
        assertInstanceOf(IllegalArgumentException.class,
                assertThrows(CamelExecutionException.class, () -> template.sendBody("direct:t", "fail")).getCause());
        assertEquals("2 1", state());
        assertThrows(CamelExecutionException.class, () -> template.sendBody("direct:t", "fail late"));
        assertEquals("2 1", state());
        template.sendBody("direct:t", "rollback only");
        assertEquals("2 1", state());
        assertEquals("durable", fixture.append(numbered("d", "b", 1, "{}")), "the writer was given back");
        template.sendBody("direct:t", "{}");
        assertEquals("4 2", state());
    }

    @Test
    void aFailureThatAnErrorHandlerHandledRollsBackAndOneThatTheRouteCaughtDoesNot() throws Exception {
        routes(new RouteBuilder() {
            @Override
            public void configure() {
                from("direct:handled").onException(IllegalStateException.class).handled(true).setBody(constant("handled")).end()
                        .transacted("transaction").to(MOVE_CURSOR).throwException(new IllegalStateException("in the middle")).to(FILL_OUTBOX);
                from("direct:caught").transacted("transaction").to(MOVE_CURSOR)
                        .doTry().throwException(new IllegalStateException("expected")).doCatch(IllegalStateException.class).setBody(constant("caught")).end()
                        .to(FILL_OUTBOX);
            }
        });
        assertEquals("handled", template.requestBody("direct:handled", (Object) "{}"));
        assertEquals("0 0", state());
        template.requestBody("direct:caught", (Object) "{}");
        assertEquals("1 1", state());
    }

    @Test
    void routesAndTheCommitterTakeTurnsAndNeverShareATransaction() throws Exception {
        routes(new RouteBuilder() {
            @Override
            public void configure() {
                from("direct:t").errorHandler(noErrorHandler()).transacted("transaction").to(MOVE_CURSOR)
                        .choice().when(simple("${body} == 'fail'")).throwException(new IllegalStateException("as told"));
            }
        });
        AtomicBoolean running = new AtomicBoolean(true);
        Semaphore window = new Semaphore(3_000);
        long[] appended = new long[1];
        Thread load = new Thread(() -> {
            while (running.get()) {
                window.acquireUninterruptibly();
                fixture.wal.submit(numbered("d", "b", ++appended[0], "{}"), "mqtt-server", "t").thenRun(window::release);
            }
        });
        load.start();
        for (int i = 1; i <= 100; i++) { // each a turn; a committer that does not give way would starve this
            if (i % 2 == 0) {
                template.sendBody("direct:t", "{}");
            } else {
                assertThrows(CamelExecutionException.class, () -> template.sendBody("direct:t", "fail"));
            }
        }
        running.set(false);
        load.join(10_000);
        assertTrue(window.tryAcquire(3_000, 20, TimeUnit.SECONDS), "all appends were acknowledged");
        assertEquals("50 0", state());
        assertEquals(appended[0] + " " + appended[0], row(file, "SELECT count(*), max(seq) FROM wal"));
    }

    @Test
    void theBeanAppendsInARouteAndSetsTheOutcome() throws Exception {
        ConcurrentLinkedQueue<String> outcomes = new ConcurrentLinkedQueue<>();
        routes(new RouteBuilder() {
            @Override
            public void configure() {
                from("direct:append").bean("ref:wal", "append").process(e -> outcomes.add(e.getVariable("outcome", String.class)
                        + " " + row(file, "SELECT count(*) FROM wal")));
            }
        });
        for (int i = 0; i < 2; i++) {
            template.request("direct:append", e -> e.setVariable("record", numbered("d", "b", 1, "{}")));
        }
        assertEquals(List.of("durable 1", "duplicate 1"), List.copyOf(outcomes));
    }

    @Test
    void theStepAppendsToo() throws Exception {
        ConcurrentLinkedQueue<String> outcomes = new ConcurrentLinkedQueue<>();
        routes(new RouteBuilder() {
            @Override
            public void configure() {
                from("direct:step").errorHandler(noErrorHandler()).process("walAppend").process(e -> outcomes.add(e.getVariable("outcome", String.class)
                        + " " + row(file, "SELECT count(*) FROM wal")));
            }
        });
        for (int i = 0; i < 2; i++) {
            template.request("direct:step", e -> e.setVariable("record", numbered("d", "b", 1, "{}")));
        }
        assertEquals(List.of("durable 1", "duplicate 1"), List.copyOf(outcomes), "on disk when the route goes on");
        assertTrue(template.request("direct:step", e -> { }).getException() instanceof IllegalArgumentException, "no record");
        assertEquals(2, outcomes.size(), "a failure ends the route");
    }

    @Test
    void committedFiresAtStartAndOncePerWhileHoweverManyCommits() throws Exception {
        fixture.append(numbered("d", "b", 1, "{}"));
        ConcurrentLinkedQueue<Long> seen = new ConcurrentLinkedQueue<>();
        Semaphore go = new Semaphore(0);
        routes(new RouteBuilder() {
            @Override
            public void configure() {
                from("wal:committed").process(e -> {
                    seen.add(e.getMessage().getHeader("CaravanLastSeq", Long.class));
                    go.acquire();
                });
            }
        });
        await("one at start", () -> seen.size() == 1);
        for (int i = 2; i <= 100; i++) {
            fixture.append(numbered("d", "b", i, "{}")); // not held up by the route
        }
        try {
            assertEquals(List.of(1L), List.copyOf(seen));
            go.release();
            await("one for all of them", () -> seen.size() == 2);
            go.release(10);
            fixture.append(numbered("d", "b", 101, "{}"));
            await("and it goes on", () -> seen.contains(101L));
            // A stage completes before its signal: the last commit may have come after the second exchange began.
            assertTrue(seen.size() <= 4, seen.toString());
        } finally {
            go.release(100);
        }
    }

    @Test
    void committedFiresOnlyForTheKindsThatAreAskedFor() throws Exception {
        ConcurrentLinkedQueue<Long> all = new ConcurrentLinkedQueue<>();
        ConcurrentLinkedQueue<Long> events = new ConcurrentLinkedQueue<>();
        routes(new RouteBuilder() {
            @Override
            public void configure() {
                from("wal:committed?lagMs=1").process(e -> all.add(e.getMessage().getHeader("CaravanLastSeq", Long.class)));
                from("wal:committed?kinds=event,reported").process(e -> events.add(e.getMessage().getHeader("CaravanLastSeq", Long.class)));
            }
        });
        await("each once at start", () -> !all.isEmpty() && !events.isEmpty());
        fixture.append(numbered("d", "b", 1, "{}"));
        fixture.append(numbered("d", "b", 2, "{}"));
        await("telemetry, for who asks for all", () -> all.contains(2L));
        fixture.append(new Record("d/event", "c", "d", "event", "live", null, 0, 1, 2, 3, 1, "application/json", null, "{}".getBytes()));
        await("an event", () -> events.contains(3L) && all.contains(3L));
        assertEquals(List.of(0L, 3L), List.copyOf(events), "not for telemetry");
        assertThrows(Exception.class, () -> fixture.context.getEndpoint("wal:committed?lagMs=-1"));
    }

    @Test
    void receiptsTellTheContiguousNumberPerBootCoalesced() throws Exception {
        ConcurrentLinkedQueue<String> receipts = new ConcurrentLinkedQueue<>();
        routes(new RouteBuilder() {
            @Override
            public void configure() {
                from("wal:receipts").process(e -> receipts.add(e.getMessage().getHeader("CaravanDeviceId") + " " + e.getMessage().getBody(String.class)));
            }
        });
        fixture.append(numbered("d1", "b7", 1, "{}"));
        await("the first goes at once", () -> receipts.contains("d1 {\"boot_id\":\"b7\",\"device_seq\":1}"));
        receipts.clear();
        List<Record> more = new ArrayList<>();
        for (int i = 2; i <= 3_000; i++) {
            more.add(numbered("d1", "b7", i, "{}"));
        }
        more.add(numbered("d2", "b1", 2, "{}")); // number 1 is missing: nothing to say
        fixture.appendAll(more);
        await("the last", () -> receipts.contains("d1 {\"boot_id\":\"b7\",\"device_seq\":3000}"));
        assertTrue(receipts.size() < 300, "coalesced: " + receipts.size());
        assertTrue(receipts.stream().noneMatch(text -> text.startsWith("d2")), receipts.toString());
        receipts.clear();

        fixture.append(numbered("d1", "b7", 5, "{}")); // sent again: it does not know
        await("again after a duplicate", () -> receipts.contains("d1 {\"boot_id\":\"b7\",\"device_seq\":3000}"));
        fixture.append(numbered("d1", "b8", 1, "{}"));
        await("another boot", () -> receipts.contains("d1 {\"boot_id\":\"b8\",\"device_seq\":1}"));
        receipts.clear();
        fixture.wal.receiptRequested("d1");
        fixture.wal.receiptRequested("unknown");
        await("both boots when it subscribes", () -> receipts.size() == 2);
        assertTrue(receipts.contains("d1 {\"boot_id\":\"b7\",\"device_seq\":3000}") && receipts.contains("d1 {\"boot_id\":\"b8\",\"device_seq\":1}"),
                receipts.toString());
    }

    @Test
    void theCheckpointerKeepsTheWalFileSmall() throws Exception {
        fixture.close();
        fixture = new Fixture(TestConfig.at(file).with("wal.checkpoint.bytes", "1048576"));
        String body = "\"" + "x".repeat(2_000) + "\"";
        long largest = 0;
        for (int i = 0; i < 40; i++) {
            List<Record> records = new ArrayList<>();
            for (int n = 1; n <= 500; n++) {
                records.add(numbered("d", "b", i * 500 + n, body));
            }
            fixture.appendAll(records);
            largest = Math.max(largest, Database.size(Path.of(file + "-wal")));
        }
        assertTrue(largest < 16 << 20, "about 40 MB went through a -wal file of at most " + largest + " bytes");
        await("it is small again", () -> Database.size(Path.of(file + "-wal")) <= 1 << 20);
    }

    @Test
    void anIdleReaderIsNoReasonToStopCommitting() throws Exception {
        DataSource reader = fixture.context.getRegistry().lookupByNameAndType("reader", DataSource.class);
        CountDownLatch done = new CountDownLatch(1);
        try (Connection idle = reader.getConnection(); Statement statement = idle.createStatement()) {
            fixture.append(numbered("d", "b", 1, "{}"));
            statement.executeQuery("SELECT * FROM wal").next(); // and never closed
            CompletableFuture<AppendResult> last = null;
            for (int i = 2; i <= 10_000; i++) {
                last = fixture.wal.submit(numbered("d", "b", i, "\"" + "x".repeat(200) + "\""), "mqtt-server", "t").toCompletableFuture();
            }
            last.thenRun(done::countDown);
            assertTrue(done.await(20, TimeUnit.SECONDS));
        }
    }
}
