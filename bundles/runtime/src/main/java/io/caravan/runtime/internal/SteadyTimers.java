// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.util.Date;
import java.util.Map;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import org.apache.camel.component.timer.TimerComponent;
import org.apache.camel.component.timer.TimerConsumer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Camel's component {@code timer}, indifferent to the wall clock. {@link Timer} plans by {@code System.currentTimeMillis()}: set back by an
 * hour, as happens to a board whose clock was ahead when it finds a time server, it lets every route that begins with a timer stand
 * still for that hour. Here the pauses are measured by the monotonic clock. Thread-safe.
 */
final class SteadyTimers extends TimerComponent {

    private static final Logger LOG = LoggerFactory.getLogger(SteadyTimers.class);

    private final Map<TimerConsumer, Steady> timers = new ConcurrentHashMap<>();

    @Override
    public Timer getTimer(TimerConsumer consumer) {
        return timers.computeIfAbsent(consumer, c -> new Steady("timer-" + c.getEndpoint().getTimerName()));
    }

    @Override
    public void removeTimer(TimerConsumer consumer) {
        Steady timer = timers.remove(consumer);
        if (timer != null) {
            timer.cancel();
        }
    }

    @Override
    protected void doStop() throws Exception {
        timers.values().forEach(Timer::cancel);
        timers.clear();
        super.doStop();
    }

    /** What Camel asks of a timer, on a thread of its own. */
    private static final class Steady extends Timer {

        private final String name;
        private final ScheduledThreadPoolExecutor executor;

        Steady(String name) {
            super(name, true);
            // The thread that a Timer brings has nothing to do here.
            super.cancel();
            this.name = name;
            executor = new ScheduledThreadPoolExecutor(1, work -> {
                Thread thread = new Thread(work, name);
                thread.setDaemon(true);
                return thread;
            }, new ScheduledThreadPoolExecutor.DiscardPolicy());
            executor.setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
        }

        @Override
        public void schedule(TimerTask task, long delay) {
            executor.schedule(() -> run(task), delay, TimeUnit.MILLISECONDS);
        }

        @Override
        public void schedule(TimerTask task, Date time) {
            schedule(task, until(time));
        }

        @Override
        public void schedule(TimerTask task, long delay, long period) {
            executor.schedule(() -> again(task, period), delay, TimeUnit.MILLISECONDS);
        }

        @Override
        public void schedule(TimerTask task, Date first, long period) {
            schedule(task, until(first), period);
        }

        @Override
        public void scheduleAtFixedRate(TimerTask task, long delay, long period) {
            executor.scheduleAtFixedRate(() -> run(task), delay, period, TimeUnit.MILLISECONDS);
        }

        @Override
        public void scheduleAtFixedRate(TimerTask task, Date first, long period) {
            scheduleAtFixedRate(task, until(first), period);
        }

        @Override
        public void cancel() {
            executor.shutdown();
        }

        /** As a Timer does it: a period runs from beginning to beginning, and what was missed is not made up for. */
        private void again(TimerTask task, long period) {
            long begun = System.nanoTime();
            run(task);
            executor.schedule(() -> again(task, period), Math.max(0, TimeUnit.MILLISECONDS.toNanos(period) - (System.nanoTime() - begun)), TimeUnit.NANOSECONDS);
        }

        /** Camel handles what a route throws; what gets here must neither end the timer nor go unseen. */
        private void run(TimerTask task) {
            try {
                task.run();
            } catch (RuntimeException | Error e) {
                LOG.error("{}: {} is run again at its time", name, e.toString(), e);
            }
        }

        private static long until(Date time) {
            return Math.max(0, time.getTime() - System.currentTimeMillis());
        }
    }
}
