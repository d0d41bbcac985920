// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.Tasks.Status;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

class TasksTest {

    private final AtomicLong nanos = new AtomicLong(1);
    private final PrometheusMeterRegistry metrics = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
    private final Tasks tasks = new Tasks(metrics, nanos::get);

    @Test
    void saysHowFarItIsAtWhatRateAndHowLongItTakes() {
        tasks.run("wal:verify", "", "rows", "again", task -> {
            task.total(50_000);
            nanos.addAndGet(TimeUnit.SECONDS.toNanos(3));
            task.progress(12_000);
            Status now = tasks.list().get(0);
            assertEquals("24 %, 12,000 of 50,000 rows, 4,000/s, 10s left", now.text());
            assertEquals(9_500, now.remainingMs());
            assertEquals("running", now.state());
            assertEquals(now, tasks.of(Thread.currentThread()).orElseThrow());
            assertTrue(metrics.scrape().contains("caravan_task_progress_ratio{task=\"wal:verify\"} 0.24"), metrics.scrape());
            assertTrue(metrics.scrape().contains("caravan_task_running 1.0"));
            return null;
        });
        Status over = tasks.list().get(0);
        assertEquals("done", over.state());
        assertEquals(1, over.ratio());
        assertTrue(tasks.of(Thread.currentThread()).isEmpty());
        assertTrue(metrics.scrape().contains("caravan_task_progress_ratio{task=\"wal:verify\"} 1.0"), metrics.scrape());
    }

    @Test
    void cancelledWorkEndsWhereItIsConsistentAndSaysWhatHolds() {
        AtomicLong steps = new AtomicLong();
        TaskCancelledException e = assertThrows(TaskCancelledException.class, () -> tasks.run("dead:requeue", "kafka", "records", "run it again, it goes on", task -> {
            task.total(10);
            for (int i = 1; i <= 10; i++) {
                steps.incrementAndGet();
                if (i == 4) {
                    assertEquals("cancelling", tasks.cancel(tasks.list().get(0).id()).state());
                }
                task.progress(i);
            }
            return null;
        }));
        assertEquals("cancelled after 4 of 10 records; run it again, it goes on", e.getMessage());
        assertEquals(4, steps.get());
        assertEquals("cancelled", tasks.list().get(0).state());
        assertEquals(e.getMessage(), tasks.list().get(0).text());
        // It is over: a second time says so.
        assertTrue(assertThrows(IllegalArgumentException.class, () -> tasks.cancel("1")).getMessage().contains("is over: cancelled"));
        assertThrows(IllegalArgumentException.class, () -> tasks.cancel("99"));
    }

    @Test
    void failedWorkSaysWhere() {
        IOException thrown = assertThrows(IOException.class, () -> tasks.run("dead:export", "", "records", "again", task -> {
            task.total(100);
            task.progress(7);
            throw new IOException("no space left");
        }));
        assertEquals("no space left", thrown.getMessage());
        assertTrue(tasks.list().get(0).text().startsWith("failed after 7 of 100 records: "), tasks.list().get(0).text());
        assertTrue(tasks.list().get(0).text().contains("no space left"), tasks.list().get(0).text());
    }

    @Test
    void whatCannotBeCancelledSaysWhy() {
        tasks.run("salvage", "gateway.db", "pages", null, task -> {
            Status status = tasks.running("salvage").orElseThrow();
            assertFalse(status.cancellable());
            assertThrows(IllegalStateException.class, () -> tasks.cancel(status.id()));
            task.progress(1);
            return null;
        });
        assertEquals("done", tasks.list().get(0).state());
    }

    @Test
    void remembersSoManyAndNoMore() {
        for (int i = 0; i < 3 * Tasks.REMEMBERED; i++) {
            tasks.run("wal:compact", "", "rows", "again", task -> null);
        }
        assertEquals(Tasks.REMEMBERED, tasks.list().size());
        assertEquals(Integer.toString(3 * Tasks.REMEMBERED), tasks.list().get(0).id());
    }
}
