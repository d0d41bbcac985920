// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Check;
import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.camel.CamelContext;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Starts modules one after the other on one thread, tries failed ones again, stops them last-in first-out.
 * This class is thread-safe.
 */
final class Modules implements AutoCloseable {

    private static final Logger LOG = LoggerFactory.getLogger(Modules.class);
    private static final long RETRY_FIRST_MS = 1_000;
    private static final long RETRY_MAX_MS = 30_000;
    private static final long CLOSE_S = 10;

    private static final class Entry {
        final String name;
        final Callable<Module> factory;
        volatile String error = "is being started";
        AutoCloseable undo;
        volatile boolean rebuilds;
        int tries;
        /** The last error that is in the log as one. */
        String told;
        long delayMs = RETRY_FIRST_MS;

        Entry(String name, Callable<Module> factory) {
            this.name = name;
            this.factory = factory;
        }
    }

    private final CamelContext context;
    private final Config config;
    private final Runnable started;
    private final Runnable restarted;
    /** Modules that were here once, and whether their bundles still are. */
    private final Map<String, Boolean> removed = new ConcurrentHashMap<>();
    private final Map<String, Entry> entries = new ConcurrentHashMap<>();
    private final Deque<Entry> running = new ArrayDeque<>();
    private final ScheduledExecutorService worker = Executors.newSingleThreadScheduledExecutor(r -> {
        Thread thread = new Thread(r, "caravan-modules");
        thread.setDaemon(true);
        return thread;
    });

    /**
     * @param started   told each time one more module has started
     * @param restarted told instead when it had been removed before: routes hold what it had bound then; and when it changes how
     *                  routes are built, also when it is removed
     */
    Modules(CamelContext context, Config config, Runnable started, Runnable restarted) {
        this.context = context;
        this.config = config;
        this.started = started;
        this.restarted = restarted;
    }

    /** @return done when the first attempt is over, however it ended */
    Future<?> add(String name, Callable<Module> factory) {
        Entry entry = new Entry(name, factory);
        entries.put(name, entry);
        return worker.submit(() -> start(entry));
    }

    /** Stops a module whose bundle stops; returns when it has stopped. */
    void remove(String name) throws Exception {
        Entry entry = entries.remove(name);
        if (entry != null && !worker.isShutdown()) {
            removed.put(name, true);
            worker.submit(() -> stop(entry)).get(CLOSE_S, TimeUnit.SECONDS);
            if (entry.rebuilds) {
                restarted.run();
            }
        }
    }

    /** The bundle of a removed module is not only stopped but gone for good: it is not missed any more. */
    void forget(String name) {
        removed.replace(name, false);
    }

    List<Check> checks() {
        List<Check> checks = new ArrayList<>();
        removed.forEach((name, installed) -> {
            if (installed && !entries.containsKey(name)) {
                checks.add(new Check("module:" + name, "DOWN", "stopped with its bundle; routes that need it fail"));
            }
        });
        new TreeMap<>(entries).forEach((name, entry) -> checks.add(entry.error == null
                ? new Check("module:" + name, "UP", "") : new Check("module:" + name, "DOWN", entry.error)));
        return checks;
    }

    @Override
    public void close() throws InterruptedException, ExecutionException {
        try {
            worker.submit(() -> {
                while (!running.isEmpty()) {
                    stop(running.peek());
                }
            }).get(CLOSE_S, TimeUnit.SECONDS);
        } catch (TimeoutException e) {
            LOG.error("Modules have not stopped within {} s, left as they are", CLOSE_S);
        } finally {
            // Also forgets the attempts that are still to come.
            worker.shutdownNow();
        }
    }

    private void start(Entry entry) {
        if (entries.get(entry.name) != entry) {
            return;
        }
        ClassLoader before = Thread.currentThread().getContextClassLoader();
        Thread.currentThread().setContextClassLoader(context.getApplicationContextClassLoader());
        try {
            Module module = entry.factory.call();
            entry.undo = module.start(context, config);
            entry.rebuilds = module.rebuildsRoutes();
            entry.error = null;
            running.push(entry);
            LOG.info("Module {} started", entry.name);
            (removed.remove(entry.name) != null || entry.rebuilds ? restarted : started).run();
        } catch (Exception | LinkageError e) {
            String error = "does not start: " + Causes.text(e);
            entry.error = error;
            if (entry.tries++ == 0) {
                // Modules begin in any order: what one needs of another is there at the next try, or it is a fault.
                LOG.info("Module {} {}; tried again", entry.name, error);
            } else if (!error.equals(entry.told)) {
                LOG.error("Module {} {}; tried again", entry.name, error, e);
                entry.told = error;
            }
            try {
                worker.schedule(() -> start(entry), entry.delayMs, TimeUnit.MILLISECONDS);
            } catch (RejectedExecutionException stopping) {
                LOG.debug("Not tried again, the container stops");
            }
            entry.delayMs = Math.min(RETRY_MAX_MS, entry.delayMs * 2);
        } finally {
            Thread.currentThread().setContextClassLoader(before);
        }
    }

    private void stop(Entry entry) {
        if (!running.remove(entry)) {
            return;
        }
        try {
            if (entry.undo != null) {
                entry.undo.close();
            }
            LOG.info("Module {} stopped", entry.name);
        } catch (Exception | LinkageError e) {
            LOG.error("Module {} did not stop cleanly", entry.name, e);
        }
    }
}
