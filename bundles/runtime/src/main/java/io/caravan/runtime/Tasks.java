// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import io.caravan.runtime.internal.RunningTask;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongSupplier;

/**
 * The bean {@code tasks}: what runs for long in this container, whoever asked for it (a command of the shell, a command from afar, JMX,
 * the container itself), how far it is, and what ran last. It keeps no thread and no row of a message: the work tells. Every ten
 * seconds a line in the log says how far a piece of work is. This class is thread-safe.
 */
public final class Tasks {

    /** So many that are over are remembered. */
    public static final int REMEMBERED = 50;

    private final LongSupplier nanos;
    private final MeterRegistry metrics;
    private final AtomicLong ids = new AtomicLong();
    private final List<RunningTask> running = new ArrayList<>();
    private final Deque<Status> over = new ArrayDeque<>();
    private final Map<String, RunningTask> newest = new ConcurrentHashMap<>();

    /**
     * What one piece of work looks like.
     *
     * @param id          to cancel it by
     * @param name        the command that does it by hand, for example {@code wal:verify}
     * @param what        what of, for example a sink; empty: everything
     * @param state       running, cancelling, done, cancelled or failed
     * @param total       0: unknown
     * @param unit        of {@code done} and {@code total}, for example rows
     * @param by          who asked for it; {@code container}: it began by itself
     * @param endedAtMs   milliseconds since 1970; 0: not yet
     * @param perSecond   units per second so far
     * @param remainingMs time until it is done at that rate; -1: unknown
     * @param cancellable whether {@link #cancel} can end it
     * @param note        what became of it, or where it failed; empty: nothing to say
     */
    public record Status(String id, String name, String what, String state, long done, long total, String unit, String by, long startedAtMs,
            long endedAtMs, double perSecond, long remainingMs, boolean cancellable, String note) {

        /** @return between 0 and 1; 0 where the total is unknown */
        public double ratio() {
            return total <= 0 ? state.equals("done") ? 1 : 0 : Math.min(1, (double) done / total);
        }

        /** @return one line for people: how many of how many, percent, rate, remaining time */
        public String text() {
            return RunningTask.text(this);
        }
    }

    /** Work that tells how far it is. */
    @FunctionalInterface
    public interface Work<T, E extends Exception> {
        T on(Task task) throws E;
    }

    /** Without metrics, for use outside of a container. */
    public Tasks() {
        this(null, System::nanoTime);
    }

    /** @param metrics null: none */
    public Tasks(MeterRegistry metrics) {
        this(metrics, System::nanoTime);
    }

    Tasks(MeterRegistry metrics, LongSupplier nanos) {
        this.metrics = metrics;
        this.nanos = nanos;
        if (metrics != null) {
            Gauge.builder("caravan.task.running", this, tasks -> tasks.running().size()).description("Pieces of long work that run").register(metrics);
        }
    }

    /**
     * Does the work on this thread, in the list from its beginning to its end. What it throws is thrown on, and is in the list.
     *
     * @param name        one of few: it is a label of a metric
     * @param what        what of; empty: everything
     * @param unit        what is counted, in the plural
     * @param ifCancelled what holds when it ends before its end, and what to do to go on, as half a sentence; null: it cannot be cancelled
     * @throws TaskCancelledException it was cancelled; the message says how far it was, and {@code ifCancelled}
     */
    public <T, E extends Exception> T run(String name, String what, String unit, String ifCancelled, Work<T, E> work) throws E {
        RunningTask task = new RunningTask(Long.toString(ids.incrementAndGet()), name, what, unit, ifCancelled, nanos);
        synchronized (this) {
            running.add(task);
        }
        show(task);
        try {
            T result = work.on(task);
            end(task, "done", "");
            return result;
        } catch (TaskCancelledException e) {
            end(task, "cancelled", e.getMessage());
            throw e;
        } catch (Exception | Error e) {
            end(task, "failed", task.whereFailed(e));
            throw e;
        }
    }

    private void show(RunningTask task) {
        boolean first = newest.put(task.name(), task) == null;
        if (first && metrics != null) {
            Gauge.builder("caravan.task.progress.ratio", newest, all -> all.get(task.name()).status().ratio()).tag("task", task.name())
                    .description("How much of the newest long work of that name is done").register(metrics);
        }
    }

    private void end(RunningTask task, String state, String note) {
        Status status = task.end(state, note);
        synchronized (this) {
            running.remove(task);
            over.addFirst(status);
            if (over.size() > REMEMBERED) {
                over.removeLast();
            }
        }
    }

    private synchronized List<RunningTask> running() {
        return List.copyOf(running);
    }

    /** @return what runs, the newest first, then what ran last, the newest first */
    public List<Status> list() {
        List<Status> all = new ArrayList<>();
        synchronized (this) {
            running.forEach(task -> all.add(0, task.status()));
            all.addAll(over);
        }
        return all;
    }

    /** @return what that thread does, if it does something long */
    public Optional<Status> of(Thread thread) {
        return running().stream().filter(task -> task.thread() == thread).reduce((a, b) -> b).map(RunningTask::status);
    }

    /** @return the newest that runs under that name */
    public Optional<Status> running(String name) {
        return running().stream().filter(task -> task.name().equals(name)).reduce((a, b) -> b).map(RunningTask::status);
    }

    /**
     * Asks work to end; it does at its next consistent point, within a moment.
     *
     * @param id of {@link Status}
     * @throws IllegalArgumentException there is none of that id, or it is over
     * @throws IllegalStateException    it cannot be cancelled, and why
     */
    public Status cancel(String id) {
        RunningTask found = running().stream().filter(task -> task.id().equals(id)).findFirst().orElse(null);
        if (found == null) {
            String ended = list().stream().filter(s -> s.id().equals(id)).map(s -> "is over: " + s.state()).findFirst().orElse("is not known");
            throw new IllegalArgumentException("task [" + id + "] " + ended + "; task:list shows what runs");
        }
        found.cancel();
        return found.status();
    }
}
