// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import io.caravan.runtime.Tasks;
import io.caravan.runtime.Tasks.Status;
import java.io.PrintStream;
import java.util.EnumSet;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.api.console.Signal;
import org.apache.karaf.shell.api.console.SignalListener;
import org.apache.karaf.shell.api.console.Terminal;

/**
 * Does something that may take long, and says how far it is: on a terminal one line, drawn anew; otherwise a line every few seconds, the
 * first one after three, as JSON where that was asked for. Ctrl-C, or a client that has gone, cancels it. The work has a thread of its
 * own, with the user's rights: the shell's is interrupted by Ctrl-C, which would close files in the middle of a page. Used by one thread.
 */
final class ProgressLine {
    private static final long REDRAW_MS = 250;
    private static final long FIRST_MS = 3_000;
    private static final long EVERY_MS = 5_000;

    private final Tasks tasks;
    private final Session session;
    private final PrintStream out;
    private final boolean json;
    private final boolean drawn;
    private final long firstMs;
    private Thread worker;
    private boolean cancelled;
    private boolean onLine;

    /** @param firstMs when the first line is due, where there is no terminal, ms */
    ProgressLine(Tasks tasks, Session session, boolean json, long firstMs) {
        this.firstMs = firstMs;
        this.tasks = tasks;
        this.session = session;
        this.json = json;
        out = session.getConsole();
        drawn = session.getTerminal() != null && !json;
    }

    /** @return what the work returned; what it throws is thrown on */
    static <T> T run(Caravan caravan, Session session, boolean json, Callable<T> work) {
        return new ProgressLine(caravan.tasks(), session, json, FIRST_MS).run(work);
    }

    <T> T run(Callable<T> work) {
        FutureTask<T> task = new FutureTask<>(work);
        worker = new Thread(task, "caravan-task");
        worker.setContextClassLoader(Thread.currentThread().getContextClassLoader());
        worker.setDaemon(true);
        Terminal terminal = session.getTerminal();
        SignalListener stop = signal -> cancel();
        if (terminal != null) {
            terminal.addSignalListener(stop, EnumSet.of(Signal.INT));
        }
        worker.start();
        try {
            return await(task);
        } finally {
            clear();
            if (terminal != null) {
                terminal.removeSignalListener(stop);
            }
        }
    }

    private <T> T await(FutureTask<T> task) {
        long begun = System.nanoTime();
        long told = begun + TimeUnit.MILLISECONDS.toNanos(firstMs - EVERY_MS);
        boolean interrupted = false;
        try {
            while (true) {
                try {
                    return task.get(REDRAW_MS, TimeUnit.MILLISECONDS);
                } catch (TimeoutException e) {
                    if (cancelled) {
                        cancel(); // it had not begun yet, or does something else now
                    }
                    long now = System.nanoTime();
                    if (drawn || now - told >= TimeUnit.MILLISECONDS.toNanos(EVERY_MS)) {
                        told = now;
                        show();
                    }
                } catch (InterruptedException e) {
                    interrupted = true;
                    cancel();
                }
            }
        } catch (ExecutionException e) {
            if (e.getCause() instanceof RuntimeException known) {
                throw known;
            }
            if (e.getCause() instanceof Error error) {
                throw error;
            }
            throw new IllegalStateException(e.getCause().getMessage() == null ? e.getCause().toString() : e.getCause().getMessage(), e.getCause());
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    private void show() {
        Optional<Status> status = tasks.of(worker);
        if (status.isEmpty()) {
            return;
        }
        if (drawn) {
            out.print("\r" + status.get().text() + " (Ctrl-C ends it)\u001b[K");
            out.flush();
            onLine = true;
        } else {
            out.println(json ? Output.object("progress", TaskCommands.json(status.get())).toJson() : status.get().text());
            // Who listened has gone: the same as Ctrl-C, which is what has ended bin/caravan shell.
            if (out.checkError()) {
                cancel();
            }
        }
    }

    private void cancel() {
        cancelled = true;
        tasks.of(worker).filter(Status::cancellable).ifPresent(s -> {
            try {
                tasks.cancel(s.id());
            } catch (IllegalArgumentException over) {
                // It has just ended by itself.
                clear();
            }
        });
    }

    private void clear() {
        if (onLine) {
            out.print("\r\u001b[K");
            out.flush();
            onLine = false;
        }
    }
}
