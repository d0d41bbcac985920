// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.RouteCheck;
import io.caravan.runtime.RouteFile;
import io.caravan.runtime.RouteText;
import io.caravan.runtime.internal.RouteReader.Failure;
import io.caravan.runtime.internal.RouteReader.Taken;
import io.caravan.runtime.internal.RouteSource.Origin;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.camel.CamelContext;
import org.apache.camel.Route;
import org.apache.camel.spi.RouteError;
import org.apache.camel.support.DefaultRegistry;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Keeps the routes of one CamelContext equal to a set of route files that come, change and go at any time in any order.
 *
 * <p>Per stem the file of {@code deploy/} goes before the feature's. A new version replaces a running one only when it was
 * read, its ids are free, and all it names is there; if it then cannot be built, or a route that was running does not start
 * although the old one still would, the old version is put back. A version that names something absent is pending and tried
 * again on {@link #retry}. A route that does not start because a system is away is left to the supervising controller.
 * What a file brings is known from its model, never from comparing the context before and after.
 *
 * <p>All changes happen one after the other on one thread; {@link #put}, {@link #remove} and the rest only queue them.
 * This class is thread-safe.
 */
public final class RouteDeployer implements AutoCloseable {

    private static final Logger LOG = LoggerFactory.getLogger(RouteDeployer.class);
    private static final long RETRY_FIRST_MS = 2_000;
    private static final long RETRY_MAX_MS = 30_000;
    private static final long CHECK_S = 60;

    /** All that is known of one stem. Only the deployer's thread changes it; {@link #list} reads the volatile fields. */
    private static final class Slot {
        final Map<String, RouteSource> sources = new LinkedHashMap<>();
        volatile Version running;
        volatile RouteSource failed;
        volatile Failure failure;
        /** The version in force was built from keys or templates that have changed since. */
        boolean stale;
        /** What the log has told already, per version. */
        final Map<RouteSource, String> told = new HashMap<>();
        /** Trying the failed version again means stopping the running one: not before the file changes. */
        boolean replacedInVain;
        int attempts;
        long nextTry;
    }

    private record Refused(String why, Path path) { }

    /** Told each time another version of a file is in force. */
    interface Listener {
        /**
         * @param before null: none
         * @param after  null: none
         */
        void changed(String stem, RouteSource before, RouteSource after);
    }

    private final CamelContext context;
    private final DraftRegistry registry;
    private final RouteReader reader;
    private final Duration grace;
    private final Listener listener;
    private final Map<String, Slot> slots = new ConcurrentHashMap<>();
    private final Map<String, Refused> refused = new ConcurrentHashMap<>();
    private final Map<String, RouteSource> lastGood = new HashMap<>();
    private final AtomicInteger queued = new AtomicInteger();
    private final ScheduledExecutorService worker;

    /**
     * @param context started or not; its registry is replaced by one that can hold beans back
     * @param grace   how long a stopped (not uninstalled) file keeps its routes, because an update of a bundle is a stop
     *                followed by a start
     */
    public RouteDeployer(CamelContext context, Duration grace) {
        this(context, grace, (stem, before, after) -> { });
    }

    RouteDeployer(CamelContext context, Duration grace, Listener listener) {
        this.context = context;
        this.listener = listener;
        this.grace = grace;
        this.registry = new DraftRegistry((DefaultRegistry) context.getRegistry());
        context.getCamelContextExtension().setRegistry(registry);
        this.reader = new RouteReader(context, registry);
        this.worker = Executors.newSingleThreadScheduledExecutor(r -> {
            Thread thread = new Thread(r, "caravan-routes");
            thread.setDaemon(true);
            return thread;
        });
        worker.scheduleWithFixedDelay(guarded("retry", this::retryDue), 1, 1, TimeUnit.SECONDS);
    }

    /** A new file, or a new text of a known one. */
    public void put(RouteSource source) {
        submit("deploy " + source, () -> {
            Slot slot = slots.computeIfAbsent(source.stem(), s -> new Slot());
            slot.told.remove(slot.sources.put(id(source), source));
            slot.replacedInVain = false;
            tryAllSoon();
            reconcile(source.stem(), slot);
            retryPending();
        });
    }

    /**
     * A file is gone.
     *
     * @param forever false: it was only stopped and may come back within the grace time, or later with a broken text
     */
    public void remove(String stem, Origin origin, long bundle, boolean forever) {
        String id = id(stem, origin, bundle);
        Slot now = slots.get(stem);
        RouteSource seen = now == null ? null : now.sources.get(id);
        Runnable removal = guarded("remove " + stem, () -> {
            Slot slot = slots.get(stem);
            if (forever) {
                lastGood.remove(id);
            }
            // A put that came after the stop has replaced the text that was seen.
            if (slot != null && (forever || slot.sources.get(id) == seen)) {
                slot.sources.remove(id);
                tryAllSoon();
                reconcile(stem, slot);
                retryPending();
            }
        });
        if (forever) {
            queued.incrementAndGet();
            schedule(() -> {
                removal.run();
                queued.decrementAndGet();
            }, 0);
        } else {
            schedule(removal, grace.toMillis());
        }
    }

    /**
     * A file that never gets as far as being put, for example because of its name. It is listed until it is mended or gone.
     *
     * @param why  null: it is mended
     * @param path forgotten when nothing is there any more; may be null
     */
    public void refuse(String file, String why, Path path) {
        if (why == null) {
            refused.remove(file);
        } else if (!new Refused(why, path).equals(refused.put(file, new Refused(why, path)))) {
            LOG.error("{}", why);
        }
    }

    /** Something arrived that a pending file may have waited for. */
    public void retry() {
        submit("retry", () -> {
            tryAllSoon();
            retryPending();
        });
    }

    /** Builds the files anew whose text uses one of the keys. */
    public void configChanged(Set<String> keys) {
        submit("redeploy for changed configuration", () -> slots.forEach((stem, slot) -> {
            boolean uses = slot.sources.values().stream().anyMatch(s -> keys.stream().anyMatch(s::usesKey));
            if (uses) {
                slot.stale = true;
                slot.replacedInVain = false;
                slot.nextTry = System.nanoTime();
                reconcile(stem, slot);
            }
        }));
    }

    /** Builds all files anew: beans or components that their routes hold have been replaced. */
    public void rebuild() {
        submit("rebuild all routes", () -> {
            slots.values().forEach(slot -> {
                slot.stale = true;
                slot.replacedInVain = false;
            });
            tryAllSoon();
            slots.forEach(this::reconcile);
        });
    }

    /** @return all files, sorted by stem; refused ones under their file name */
    public List<RouteFile> list() {
        List<RouteFile> files = new ArrayList<>();
        new TreeMap<>(slots).forEach((stem, slot) -> file(stem, slot).ifPresent(files::add));
        new TreeMap<>(refused).forEach((file, r) ->
                files.add(new RouteFile(file, file, Origin.DEPLOY.toString(), 0, "broken", List.of(), r.why())));
        return files;
    }

    /** @return the text in force */
    public Optional<String> text(String stem) {
        return Optional.ofNullable(slots.get(stem)).map(s -> s.running).map(v -> v.source.text());
    }

    /** @return what is here of a stem, in the order in which it is taken */
    public List<RouteText> versions(String stem) {
        try {
            return worker.submit(() -> {
                Slot slot = slots.get(stem);
                return slot == null ? List.<RouteText>of() : slot.sources.values().stream().sorted(Comparator.comparing(RouteSource::origin))
                        .map(s -> new RouteText(s.file(), s.origin().toString(), s.bundle(), s.text(), slot.running != null && slot.running.source.equals(s))).toList();
            }).get(CHECK_S, TimeUnit.SECONDS);
        } catch (java.util.concurrent.ExecutionException | java.util.concurrent.TimeoutException | RejectedExecutionException e) {
            throw new IllegalStateException("The deployer does not answer, it may be waiting for a route to stop: try again", e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(e);
        }
    }

    /** Reads a file as {@link #put} would before it touches a running route, and takes back what reading brings. */
    public RouteCheck check(RouteSource source) throws InterruptedException {
        try {
            return worker.submit(() -> {
                ClassLoader before = Thread.currentThread().getContextClassLoader();
                Thread.currentThread().setContextClassLoader(context.getApplicationContextClassLoader());
                Slot slot = slots.get(source.stem());
                Version old = slot == null ? null : slot.running;
                List<String> ids = List.of();
                try {
                    // Attached again by read() where it fails.
                    Version read = read(source, old);
                    try {
                        ids = read.routeIds();
                        reader.checkLanguages(read);
                    } finally {
                        read.detach();
                        if (old != null) {
                            old.attach();
                        }
                    }
                    return new RouteCheck("ok", 0, null, ids);
                } catch (Exception e) {
                    Failure failure = named(Failure.of(e, 0)).within(source.text());
                    return new RouteCheck(failure.pending ? "pending" : "broken", failure.line, failure.getMessage(), ids);
                } finally {
                    Thread.currentThread().setContextClassLoader(before);
                }
            }).get(CHECK_S, TimeUnit.SECONDS);
        } catch (java.util.concurrent.ExecutionException | java.util.concurrent.TimeoutException | RejectedExecutionException e) {
            throw new IllegalStateException("The deployer does not answer, it may be waiting for a route to stop: try again", e);
        }
    }

    /** @return whether nothing is queued or being deployed */
    public boolean idle() {
        return queued.get() == 0;
    }

    /** Waits until all that was queued before is done. @return false: it took longer than that */
    public boolean await(Duration timeout) throws InterruptedException {
        try {
            worker.submit(() -> { }).get(timeout.toMillis(), TimeUnit.MILLISECONDS);
            return true;
        } catch (java.util.concurrent.TimeoutException e) {
            return false;
        } catch (java.util.concurrent.ExecutionException | RejectedExecutionException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Deploys nothing any more; running routes are left to the context's own stop. */
    @Override
    public void close() {
        worker.shutdownNow();
    }

    // ---- on the worker's thread

    private void reconcile(String stem, Slot slot) {
        RouteSource before = slot.running == null ? null : slot.running.source;
        try {
            choose(stem, slot);
        } finally {
            RouteSource after = slot.running == null ? null : slot.running.source;
            if (!Objects.equals(before, after)) {
                listener.changed(stem, before, after);
            }
        }
    }

    private void choose(String stem, Slot slot) {
        List<RouteSource> wanted = slot.sources.values().stream().sorted(Comparator.comparing(RouteSource::origin)).toList();
        if (wanted.isEmpty()) {
            undeploy(slot);
            slots.remove(stem);
            LOG.info("Route file {} removed", stem);
            return;
        }
        RouteSource best = wanted.get(0);
        boolean inForce = slot.running != null && slot.running.source.equals(best) && !slot.stale;
        if (inForce || tryDeploy(slot, best)) {
            slot.stale = false;
            fail(slot, null, null);
            clash(slot, wanted);
            return;
        }
        // The newest version is bad: whatever still belongs to a present file goes on, or is started.
        if (slot.running != null && slot.sources.containsKey(id(slot.running.source))) {
            return;
        }
        RouteSource bad = slot.failed;
        Failure why = slot.failure;
        undeploy(slot);
        List<RouteSource> others = new ArrayList<>();
        wanted.forEach(s -> {
            others.add(lastGood.get(id(s)));
            others.add(s);
        });
        for (RouteSource other : others) {
            if (other != null && !other.equals(bad) && tryDeploy(slot, other)) {
                LOG.warn("{}: {} runs instead", bad, other);
                break;
            }
        }
        fail(slot, bad, why);
    }

    /** Two bundles of the same origin cannot both bring a stem; the first one keeps it. */
    private void clash(Slot slot, List<RouteSource> wanted) {
        if (wanted.size() > 1 && wanted.get(1).origin() == wanted.get(0).origin()) {
            fail(slot, wanted.get(1), new Failure("The stem belongs to " + wanted.get(0) + ": rename one of the two", 0));
            tell(slot, null);
        }
    }

    /** @return whether this version is in force now; if not, what ran before runs again */
    private boolean tryDeploy(Slot slot, RouteSource source) {
        Version old = slot.running;
        boolean again = source.equals(slot.failed);
        if (again && (slot.replacedInVain || System.nanoTime() - slot.nextTry < 0)) {
            return false;
        }
        ClassLoader before = Thread.currentThread().getContextClassLoader();
        Thread.currentThread().setContextClassLoader(context.getApplicationContextClassLoader());
        try {
            deploy(slot, source);
            fail(slot, null, null);
            slot.told.remove(source);
            slot.attempts = 0;
            slot.replacedInVain = false;
            lastGood.put(id(source), source);
            rebuildUsers(slot.running, old);
            return true;
        } catch (Exception e) {
            Failure failure = named(Failure.of(e, 0)).within(source.text());
            fail(slot, source, failure);
            slot.attempts = again ? slot.attempts + 1 : 1;
            long delay = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS << Math.min(slot.attempts - 1, 10));
            slot.nextTry = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(delay);
            tell(slot, e);
            return false;
        } finally {
            Thread.currentThread().setContextClassLoader(before);
        }
    }

    private void deploy(Slot slot, RouteSource source) throws Exception {
        Version old = slot.running;
        Version next = read(source, old);
        if (old == null) {
            try {
                add(next);
            } catch (Exception e) {
                takeOut(next);
                throw Failure.of(e, next.line(e));
            }
            slot.running = next;
            warnWaiting(next, next.start());
            LOG.info("Deployed {}, routes {}", source, next.routeIds());
            return;
        }
        List<String> ran = old.routeIds().stream().filter(this::started).toList();
        old.remove(registry);
        Map<String, Exception> waiting;
        try {
            add(next);
            waiting = next.start();
        } catch (Exception e) {
            takeOut(next);
            putBack(slot, old.source, e);
            slot.replacedInVain = true;
            throw Failure.of(e, next.line(e));
        }
        Optional<Exception> lost = waiting.entrySet().stream().filter(w -> ran.contains(w.getKey())).map(Map.Entry::getValue)
                .findFirst();
        if (lost.isPresent()) {
            // Is the file at fault, or a system away? The old version tells.
            takeOut(next);
            Version restored = putBack(slot, old.source, lost.get());
            if (restored != null && ran.stream().allMatch(this::started)) {
                slot.replacedInVain = true;
                throw Failure.of(lost.get(), next.line(lost.get()));
            }
            if (restored != null) {
                restored.remove(registry);
                restored.detach();
            }
            next = read(source, null);
            slot.running = null;
            add(next);
            waiting = next.start();
        }
        slot.running = next;
        warnWaiting(next, waiting);
        LOG.info("Deployed {} in place of {}, routes {}", source, old.source, next.routeIds());
    }

    private Version read(RouteSource source, Version old) throws Exception {
        if (old != null) {
            old.detach();
        }
        try {
            return linked(() -> reader.read(source, old, name -> owner(name, source.stem())));
        } catch (Exception e) {
            if (old != null) {
                old.attach();
            }
            throw e;
        }
    }

    private void add(Version version) throws Exception {
        linked(() -> {
            version.add(registry);
            return null;
        });
    }

    /** A class that a component lacks is a fault of that file's route like any other, not of this thread. */
    private static <T> T linked(Callable<T> step) throws Exception {
        try {
            return step.call();
        } catch (LinkageError e) {
            throw new IllegalStateException("a class is missing or does not fit: " + e, e);
        }
    }

    private void takeOut(Version version) {
        version.remove(registry);
        version.detach();
    }

    private Version putBack(Slot slot, RouteSource source, Exception why) {
        slot.running = null;
        Version version = null;
        try {
            version = read(source, null);
            add(version);
            version.start();
            slot.running = version;
            return version;
        } catch (Exception e) {
            LOG.error("{} cannot be put back after a failed update: {}", source, Causes.text(e), e);
            why.addSuppressed(e);
            if (version != null) {
                takeOut(version);
            }
            return null;
        }
    }

    private void undeploy(Slot slot) {
        if (slot.running != null) {
            takeOut(slot.running);
            slot.running = null;
        }
    }

    /** Routes made from a template, or with a configuration, do not follow its change by themselves. */
    private void rebuildUsers(Version now, Version before) {
        Set<String> provided = now.provides();
        if (provided.isEmpty() || before == null) {
            return;
        }
        slots.forEach((stem, slot) -> {
            if (slot.running != null && slot.running != now && slot.running.uses().stream().anyMatch(provided::contains)) {
                slot.stale = true;
                slot.replacedInVain = false;
                reconcile(stem, slot);
            }
        });
    }

    private void retryDue() {
        refused.values().removeIf(r -> r.path() != null && !Files.exists(r.path()));
        if (slots.values().stream().anyMatch(s -> s.failure != null && !s.replacedInVain && System.nanoTime() - s.nextTry >= 0)) {
            retryPending();
        }
    }

    private void tryAllSoon() {
        slots.values().forEach(s -> s.nextTry = System.nanoTime());
    }

    private void retryPending() {
        boolean progress = true;
        while (progress) {
            progress = false;
            for (Map.Entry<String, Slot> e : slots.entrySet()) {
                Slot slot = e.getValue();
                if (slot.failure != null && slot.sources.containsValue(slot.failed)) {
                    reconcile(e.getKey(), slot);
                    progress |= slot.failure == null;
                }
            }
            if (progress) {
                tryAllSoon();
            }
        }
    }

    private RouteSource owner(String name, String exceptStem) {
        for (Map.Entry<String, Slot> e : slots.entrySet()) {
            Version version = e.getValue().running;
            if (version == null || e.getKey().equals(exceptStem)) {
                continue;
            }
            if (version.provides().contains(name)
                    || name.startsWith("route ") && version.routeIds().contains(name.substring("route ".length()))
                    || name.startsWith("bean ") && version.beans.containsKey(name.substring("bean ".length()))) {
                return version.source;
            }
        }
        return null;
    }

    private Failure named(Failure failure) {
        if (!(failure instanceof Taken taken)) {
            return failure;
        }
        RouteSource owner = owner(taken.name, "");
        String kind = taken.name.substring(0, taken.name.indexOf(' '));
        return new Failure((kind.equals("template") || kind.equals("configuration") ? "Route " + kind : kind.equals("route")
                ? "Route id" : "Bean") + " [" + taken.name.substring(kind.length() + 1) + "] belongs to "
                + (owner == null ? "the container" : owner) + ": rename it", taken.line);
    }

    private static void fail(Slot slot, RouteSource source, Failure failure) {
        slot.failure = failure;
        slot.failed = source;
    }

    /** Logs what is wrong with the newest version, once. */
    private static void tell(Slot slot, Exception cause) {
        String message = message(slot.failed, slot.failure);
        if (!message.equals(slot.told.put(slot.failed, message))) {
            String running = slot.running == null ? "" : "; " + slot.running.source + " goes on running";
            if (slot.failure.pending) {
                // In any order at the start, so no reason to warn; /readyz names it as long as it lasts.
                LOG.info("Pending: {}{}", message, running);
            } else {
                LOG.error("Refused: {}{}", message, running);
            }
            LOG.debug("{}", slot.failed, cause);
        }
    }

    private void warnWaiting(Version version, Map<String, Exception> waiting) {
        waiting.forEach((id, e) -> LOG.warn("Route {} of {} is not started yet and is tried again: {}", id, version.source,
                Causes.text(e)));
    }

    // ---- on any thread

    private Optional<RouteFile> file(String stem, Slot slot) {
        Version version = slot.running;
        RouteSource failed = slot.failed;
        Failure failure = slot.failure;
        if (version == null && failed == null) {
            return Optional.empty();
        }
        List<RouteFile.RouteStatus> routes = new ArrayList<>();
        boolean allStarted = true;
        if (version != null) {
            for (String id : version.routeIds()) {
                boolean ok = started(id) || version.manual(id);
                allStarted &= ok;
                routes.add(new RouteFile.RouteStatus(id, String.valueOf(Objects.requireNonNullElse(
                        context.getRouteController().getRouteStatus(id), "Absent")), ok ? null : lastError(id)));
            }
        }
        RouteSource shown = version != null ? version.source : failed;
        String state = failure != null ? failure.pending ? "pending" : "broken" : allStarted ? "started" : "starting";
        return Optional.of(new RouteFile(stem, failure != null ? failed.file() : shown.file(), shown.origin().toString(),
                shown.bundle(), state, List.copyOf(routes), failure == null ? null : message(failed, failure)));
    }

    private boolean started(String id) {
        return context.getRoute(id) != null && context.getRouteController().getRouteStatus(id) != null
                && context.getRouteController().getRouteStatus(id).isStarted();
    }

    private String lastError(String id) {
        Route route = context.getRoute(id);
        RouteError error = route == null ? null : route.getLastError();
        return error == null || error.getException() == null ? "not started" : Causes.text(error.getException());
    }

    private static String message(RouteSource source, Failure failure) {
        String where = source.origin() == Origin.DEPLOY ? "deploy/" + source.file() : source.file();
        return where + (failure.line > 0 ? ", line " + failure.line : "") + ": " + failure.getMessage();
    }

    private static String id(RouteSource source) {
        return id(source.stem(), source.origin(), source.bundle());
    }

    private static String id(String stem, Origin origin, long bundle) {
        return stem + "/" + origin + "/" + bundle;
    }

    private void submit(String what, Runnable task) {
        queued.incrementAndGet();
        Runnable guarded = guarded(what, task);
        schedule(() -> {
            try {
                guarded.run();
            } finally {
                queued.decrementAndGet();
            }
        }, 0);
    }

    private void schedule(Runnable task, long delayMs) {
        try {
            worker.schedule(task, delayMs, TimeUnit.MILLISECONDS);
        } catch (RejectedExecutionException e) {
            LOG.debug("Not deployed any more, the container stops");
        }
    }

    private static Runnable guarded(String what, Runnable task) {
        return () -> {
            try {
                task.run();
            } catch (RuntimeException | LinkageError e) {
                LOG.error("Could not {}", what, e);
            }
        };
    }
}
