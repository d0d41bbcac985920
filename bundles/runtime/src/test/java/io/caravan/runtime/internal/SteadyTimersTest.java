// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.impl.DefaultCamelContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What routes expect of {@code timer}. That a clock set back does not stop it, the torture's fault clock-jump shows. */
class SteadyTimersTest {

    private final DefaultCamelContext context = new DefaultCamelContext();

    @BeforeEach
    void start() throws Exception {
        context.addComponent("timer", new SteadyTimers());
        context.start();
    }

    @AfterEach
    void stop() {
        context.stop();
    }

    @Test
    void goesOnAlsoBehindAnError() throws Exception {
        CountDownLatch turns = new CountDownLatch(5);
        route("timer:often?delay=0&period=10", () -> {
            turns.countDown();
            if (turns.getCount() == 3) {
                throw new AssertionError("an Error, which Camel does not handle");
            }
        });
        assertTrue(turns.await(20, TimeUnit.SECONDS));
    }

    @Test
    void fixedRateAndCountAndOnce() throws Exception {
        CountDownLatch rate = new CountDownLatch(3);
        AtomicInteger counted = new AtomicInteger();
        CountDownLatch once = new CountDownLatch(1);
        route("timer:rate?fixedRate=true&delay=0&period=10", rate::countDown);
        route("timer:counted?delay=0&period=1&repeatCount=2", counted::incrementAndGet);
        route("timer:once?delay=1&period=0", once::countDown);
        assertTrue(rate.await(20, TimeUnit.SECONDS) && once.await(20, TimeUnit.SECONDS));
        CountDownLatch later = new CountDownLatch(20);
        route("timer:later?delay=0&period=10", later::countDown);
        assertTrue(later.await(20, TimeUnit.SECONDS));
        assertEquals(2, counted.get());
    }

    @Test
    void aStoppedRouteHasNoThreadAndStartsAgain() throws Exception {
        CountDownLatch first = new CountDownLatch(1);
        AtomicInteger turns = new AtomicInteger();
        route("timer:halts?delay=0&period=10", () -> {
            turns.incrementAndGet();
            first.countDown();
        });
        assertTrue(first.await(20, TimeUnit.SECONDS));
        String id = context.getRoutes().get(0).getId();
        context.getRouteController().stopRoute(id);
        for (Thread thread : Thread.getAllStackTraces().keySet()) {
            if (thread.getName().equals("timer-halts")) {
                thread.join(20_000);
                assertFalse(thread.isAlive());
            }
        }
        int before = turns.get();
        context.getRouteController().startRoute(id);
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        while (turns.get() == before && System.nanoTime() < deadline) {
            Thread.onSpinWait();
        }
        assertTrue(turns.get() > before);
    }

    private void route(String uri, Runnable turn) throws Exception {
        context.addRoutes(new RouteBuilder() {
            @Override
            public void configure() {
                from(uri).process(exchange -> turn.run());
            }
        });
    }
}
