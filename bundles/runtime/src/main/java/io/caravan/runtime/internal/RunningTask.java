// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Task;
import io.caravan.runtime.TaskCancelledException;
import io.caravan.runtime.Tasks.Status;
import java.time.Duration;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** One piece of work of {@link io.caravan.runtime.Tasks}. Thread-safe. */
public final class RunningTask implements Task {

    private static final Logger LOG = LoggerFactory.getLogger("io.caravan.tasks");
    private static final long TELL_NANOS = TimeUnit.SECONDS.toNanos(10);

    private final String id;
    private final String name;
    private final String what;
    private final String unit;
    private final String ifCancelled;
    private final LongSupplier nanos;
    private final Thread thread = Thread.currentThread();
    private final String by = Subjects.user();
    private final long startedAtMs = System.currentTimeMillis();
    private final long startedNanos;
    private volatile long done;
    private volatile long total;
    private volatile boolean cancelled;
    private volatile long toldNanos;
    private volatile boolean told;
    private volatile Status over;

    public RunningTask(String id, String name, String what, String unit, String ifCancelled, LongSupplier nanos) {
        this.id = id;
        this.name = name;
        this.what = what == null ? "" : what;
        this.unit = unit;
        this.ifCancelled = ifCancelled;
        this.nanos = nanos;
        startedNanos = nanos.getAsLong();
        toldNanos = startedNanos;
    }

    public String id() {
        return id;
    }

    public String name() {
        return name;
    }

    public Thread thread() {
        return thread;
    }

    public void cancel() {
        if (ifCancelled == null) {
            throw new IllegalStateException("task [" + id + "] " + name + " cannot be cancelled: the container does not work without it; it ends with a stop"
                    + " of the container, and begins anew with the next start");
        }
        cancelled = true;
    }

    @Override
    public void total(long all) {
        total = all;
    }

    @Override
    public void progress(long now) {
        done = now;
        check();
        long at = nanos.getAsLong();
        if (at - toldNanos >= TELL_NANOS) {
            toldNanos = at;
            told = true;
            LOG.info("{}{}", label(status()), ifCancelled == null ? "" : "; task:cancel " + id + " ends it");
        }
    }

    @Override
    public void check() {
        if (cancelled) {
            throw new TaskCancelledException("cancelled after " + counts(done, total, unit) + "; " + ifCancelled);
        }
    }

    /** What failed, and how far it was. */
    public String whereFailed(Throwable error) {
        return "failed after " + counts(done, total, unit) + ": " + Causes.text(error);
    }

    public Status end(String state, String note) {
        if (state.equals("done") && total > 0) {
            done = Math.max(done, total);
        }
        Status status = snapshot(state, System.currentTimeMillis(), note);
        over = status;
        if (state.equals("failed")) {
            LOG.warn("{}", label(status));
        } else if (told || state.equals("cancelled")) {
            LOG.info("{}", label(status));
        }
        return status;
    }

    public Status status() {
        Status ended = over;
        return ended != null ? ended : snapshot(cancelled ? "cancelling" : "running", 0, "");
    }

    private Status snapshot(String state, long endedAtMs, String note) {
        double seconds = Math.max(1, nanos.getAsLong() - startedNanos) / 1e9;
        double rate = done / seconds;
        long remaining = endedAtMs > 0 ? 0 : total <= 0 || done <= 0 || done > total ? -1 : (long) ((total - done) / rate * 1_000);
        return new Status(id, name, what, state, done, total, unit, by == null ? "container" : by, startedAtMs, endedAtMs, rate, remaining,
                ifCancelled != null, note);
    }

    private static String label(Status s) {
        return s.name() + (s.what().isEmpty() ? "" : " [" + s.what() + "]") + ", task " + s.id() + ": " + text(s);
    }

    /** One line, for people. */
    public static String text(Status s) {
        StringBuilder text = new StringBuilder();
        if (!s.state().equals("running")) {
            text.append(s.state());
            if (!s.note().isEmpty()) {
                return s.state().equals("failed") || s.state().equals("cancelled") ? s.note() : text.append(": ").append(s.note()).toString();
            }
            text.append(", ");
        }
        if (s.total() > 0) {
            text.append(String.format(Locale.ROOT, "%d %%, ", (long) Math.floor(s.ratio() * 100)));
        }
        text.append(counts(s.done(), s.total(), s.unit()));
        if (s.done() > 0) {
            text.append(String.format(Locale.ROOT, s.perSecond() < 10 ? ", %.1f/s" : ", %,.0f/s", s.perSecond()));
        }
        if (s.state().equals("running") && s.remainingMs() >= 0) {
            text.append(", ").append(time(s.remainingMs())).append(" left");
        }
        return text.toString();
    }

    private static String counts(long done, long total, String unit) {
        return String.format(Locale.ROOT, "%,d", done) + (total > 0 ? String.format(Locale.ROOT, " of %,d", total) : "") + " " + unit;
    }

    private static String time(long ms) {
        Duration time = Duration.ofMillis(ms + 999);
        return (time.toDays() + "d " + time.toHoursPart() + "h " + time.toMinutesPart() + "m " + time.toSecondsPart() + "s").replaceFirst("^(0[dhm] )+", "");
    }
}
