// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import io.caravan.runtime.Audit;
import io.caravan.runtime.Check;
import io.caravan.runtime.Config;
import io.caravan.runtime.Module;
import io.caravan.runtime.Passwords;
import io.caravan.runtime.Tasks;
import io.caravan.runtime.Traces;
import io.caravan.runtime.Users;
import io.micrometer.core.instrument.FunctionCounter;
import io.vertx.core.Vertx;
import io.vertx.core.VertxOptions;
import io.vertx.core.file.FileSystemOptions;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import org.apache.camel.CamelContext;
import org.apache.camel.component.platform.http.vertx.VertxPlatformHttpServer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Puts the parts together; the same in Karaf and in plain Java. This class is thread-safe. */
public final class Container implements AutoCloseable {

    private static final Logger LOG = LoggerFactory.getLogger("io.caravan.runtime");
    private static final Duration ROUTE_GRACE = Duration.ofSeconds(1);
    private static final long LOOK_MS = 500;
    private static final long LOOK_HEALTH_MS = 5_000;
    private static final long LOGIN_PENALTY_MS = 1_000;
    private static final long VERTX_CLOSE_S = 5;

    private final CamelContext context;
    private final LayeredConfig config;
    private final ConfigWatch watch;
    private final long startedAt;
    private final RouteDeployer routes;
    private final Modules modules;
    private final Health health;
    private final Metrics metrics = new Metrics();
    private final Tasks tasks = new Tasks(metrics.registry());
    private final AuditLog audit;
    private final PasswordHashes passwords;
    private final UserFile users;
    /** Null: commands set nothing in this container. */
    private final ConfigUpdate control;
    private LogLevels logLevels;
    private LogLevels.Backend logs;
    private Supplier<List<String>> coming = List::of;
    private Map<String, String> settings;
    private final Map<String, String> inventory = new TreeMap<>();
    private volatile boolean inventoried;
    private final Properties versions = readVersions();
    private final CountDownLatch ready = new CountDownLatch(1);
    private final ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor(r -> {
        Thread thread = new Thread(r, "caravan-clock");
        thread.setDaemon(true);
        return thread;
    });
    private final ScheduledExecutorService looking = Executors.newSingleThreadScheduledExecutor(r -> {
        Thread thread = new Thread(r, "caravan-health");
        thread.setDaemon(true);
        return thread;
    });
    private Vertx vertx;
    private AutoCloseable tasksJmx;
    private volatile VertxPlatformHttpServer http;
    private volatile String incomplete = "the container is being started";
    private boolean closed;

    /**
     * @param context   not started yet
     * @param startedAt when the process was started, for the time until ready; milliseconds since 1970
     * @throws io.caravan.runtime.ConfigException the configuration broke a rule
     */
    public Container(CamelContext context, List<Path> keys, Path etc, Path home, Map<String, String> environment,
            Map<String, String> arguments, long startedAt) {
        this(context, new LayeredConfig(keys, etc, home, environment, arguments), startedAt);
    }

    /** As above, with a configuration that has been read already. */
    public Container(CamelContext context, LayeredConfig config, long startedAt) {
        this.context = context;
        this.config = config;
        this.startedAt = startedAt;
        this.routes = new RouteDeployer(context, ROUTE_GRACE, this::routeChanged);
        this.audit = new AuditLog(config.getPath("audit.file"), config.getLong("audit.max.bytes"));
        this.passwords = new PasswordHashes(LOGIN_PENALTY_MS);
        this.users = new UserFile(config.getPath("users.file"), audit, passwords);
        this.settings = config.settings();
        this.watch = new ConfigWatch(config, this::configChanged, this::configRefused);
        this.modules = new Modules(context, config, routes::retry, routes::rebuild);
        this.health = new Health(context, this::checks, this::about, () -> config.getList("admin.ready.ignore"));
        this.control = config.control() == null ? null : new ConfigUpdate(context, config, audit, watch::now, clock::submit, routes, health::checks);
    }

    /** @param backend where levels of loggers are set; before {@link #start} */
    public void logs(LogLevels.Backend backend) {
        logs = backend;
    }

    /** @param files names of route files that are about to come: not ready the first time before they did; before {@link #start} */
    public void coming(Supplier<List<String>> files) {
        coming = files;
    }

    /** Starts context and HTTP server. */
    public void start() throws Exception {
        audit.note("container.start", config.get("container.name"), "ok", Map.of("role", config.get("container.role"), "version", version(),
                "user", System.getProperty("user.name"), "pid", ProcessHandle.current().pid(), "settings_sha256", AuditLog.sha256(settings.toString())));
        logLevels = new LogLevels(audit, logs, System::nanoTime);
        if (control != null) {
            if (config.recovered() != null) {
                control.told(config.recovered());
            }
            control.recover();
        }
        Contexts.configure(context, config, config);
        // Nothing is served from the class path, and nothing unpacked into a cache folder.
        vertx = Vertx.vertx(new VertxOptions().setFileSystemOptions(
                new FileSystemOptions().setClassPathResolvingEnabled(false).setFileCachingEnabled(false)));
        context.addComponent("timer", new SteadyTimers());
        context.getRegistry().bind("vertx", Vertx.class, vertx);
        context.getRegistry().bind("metricsRegistry", metrics.registry());
        context.getRegistry().bind("metrics", metrics);
        context.getRegistry().bind("config", Config.class, config);
        context.getRegistry().bind("health", health);
        context.getRegistry().bind("audit", Audit.class, audit);
        context.getRegistry().bind("users", Users.class, users);
        context.getRegistry().bind("passwords", Passwords.class, passwords);
        // Read anew each time: files that hold secrets change.
        context.getRegistry().bind("redaction", Supplier.class, (Supplier<UnaryOperator<String>>) () -> config.redaction()::of);
        context.getRegistry().bind("tasks", Tasks.class, tasks);
        tasksJmx = TasksJmx.register(tasks);
        Traces traces = Traces.of(context);
        FunctionCounter.builder("caravan.traces.ignored", traces, Traces::ignored)
                .description("Values received as traceparent that were none, and were not stored").register(metrics.registry());
        if (control != null) {
            context.getRegistry().bind("configUpdate", control);
            context.getRegistry().bind("logLevel", logLevels);
            context.getRegistry().bind("control", new Control(this::about, health::checks, text -> config.redaction().of(text), audit));
        }
        // Made now, by one thread: in Karaf the first one to ask makes it, two at once make two, and what was added to one of them is lost.
        context.getTypeConverterRegistry().size();
        context.start();
        http = HttpServer.start(context, vertx, config);
        metrics.start(context, health, build(), config.getPath("audit.file"));
        clock.scheduleWithFixedDelay(this::tick, LOOK_MS, LOOK_MS, TimeUnit.MILLISECONDS);
        // A thread of its own: a check may wait for a database, and the configuration is looked after meanwhile.
        looking.scheduleWithFixedDelay(this::look, LOOK_HEALTH_MS, LOOK_HEALTH_MS, TimeUnit.MILLISECONDS);
    }

    /** All modules and route files that belong to the start are known: from now on the container may be ready. */
    public void complete() {
        incomplete = null;
        tick();
    }

    /** @return done when the first attempt to start it is over */
    public Future<?> addModule(String name, Callable<Module> factory) {
        return modules.add(name, factory);
    }

    /** Stops a module whose bundle stops. When one of that name is added again, all routes are built anew. */
    public void removeModule(String name) throws Exception {
        modules.remove(name);
    }

    /** The bundle of a removed module was uninstalled. */
    public void forgetModule(String name) {
        modules.forget(name);
    }

    /** @return {@code wal} for {@code WalModule} */
    public static String moduleName(String simpleName) {
        return simpleName.replaceFirst("Module$", "").replaceAll("(?<=[a-z0-9])(?=[A-Z])", "-").toLowerCase(Locale.ROOT);
    }

    public CamelContext context() {
        return context;
    }

    public Config config() {
        return config;
    }

    public LayeredConfig layers() {
        return config;
    }

    /** @return all meters in the Prometheus text format */
    public String scrape() {
        return metrics.scrape();
    }

    /** @return what runs for long */
    public Tasks tasks() {
        return tasks;
    }

    public RouteDeployer routes() {
        return routes;
    }

    public Health health() {
        return health;
    }

    public String version() {
        return versions.getProperty("version");
    }

    public Duration uptime() {
        return Duration.ofMillis(System.currentTimeMillis() - startedAt);
    }

    public int httpPort() {
        return http.getPort();
    }

    /** @return whether it was ready within that time */
    public boolean awaitReady(Duration timeout) throws InterruptedException {
        long deadline = System.nanoTime() + timeout.toNanos();
        while (!health.ready()) {
            if (System.nanoTime() > deadline) {
                return false;
            }
            TimeUnit.MILLISECONDS.sleep(50);
        }
        return true;
    }

    @Override
    public synchronized void close() {
        if (closed) {
            return;
        }
        closed = true;
        incomplete = "the container is being stopped";
        if (control != null) {
            control.close();
        }
        clock.shutdownNow();
        looking.shutdownNow();
        routes.close();
        quietly("stop the routes", context::stop);
        quietly("stop the modules", modules::close);
        if (tasksJmx != null) {
            quietly("take the MBean of the tasks back", tasksJmx::close);
        }
        quietly("close the metrics", metrics::close);
        if (vertx != null) {
            quietly("close Vert.x", () -> vertx.close().toCompletionStage().toCompletableFuture()
                    .get(VERTX_CLOSE_S, TimeUnit.SECONDS));
        }
        audit.note("container.stop", config.get("container.name"), "ok", Map.of("uptime_s", uptime().toSeconds()));
        audit.close();
        LOG.info("Caravan {} stopped", config.get("container.role"));
    }

    private void configChanged(Set<String> keys) {
        Map<String, String> old = settings;
        settings = config.settings();
        Map<String, String> changes = new LinkedHashMap<>();
        keys.forEach(key -> changes.put(key, "[" + old.getOrDefault(key, "") + "] -> [" + settings.getOrDefault(key, "") + "]"));
        if (!keys.isEmpty()) {
            audit.note("config.change", String.join(" ", keys), "ok", changes);
            routes.configChanged(keys);
        }
    }

    private void configRefused(List<String> problems) {
        audit.note("config.change", "etc", "refused", Map.of("problems", config.redaction().of(String.join("; ", problems))));
    }

    /** Told on the deployer's thread. What the start brings is one entry, at its end. */
    private void routeChanged(String stem, RouteSource before, RouteSource after) {
        if (before != null && after != null && before.origin() == after.origin() && before.text().equals(after.text())) {
            return;   // only its bundle is another one
        }
        synchronized (inventory) {
            if (after == null) {
                inventory.remove(stem);
            } else {
                inventory.put(stem, after.origin() + " " + AuditLog.sha256(after.text()));
            }
            if (!inventoried) {
                return;
            }
        }
        Map<String, String> details = new LinkedHashMap<>();
        if (before != null) {
            details.put("before", before.origin() + " " + AuditLog.sha256(before.text()));
        }
        if (after != null) {
            details.put("sha256", AuditLog.sha256(after.text()));
            details.put("origin", String.valueOf(after.origin()));
        }
        audit.note(after == null ? "route.undeploy" : before == null ? "route.deploy" : "route.replace", stem, "ok", details);
    }

    private void inventory() {
        Map<String, String> now;
        synchronized (inventory) {
            inventoried = true;
            now = Map.copyOf(inventory);
        }
        audit.note("route.inventory", now.size() + " route files", "ok", now);
    }

    private void tick() {
        try {
            watch.look();
            audit.retry();
            users.retry();
            logLevels.retry();
            if (control != null) {
                control.retry();
            }
            if (!inventoried && incomplete == null && routes.idle()) {
                inventory();
            }
            if (ready.getCount() > 0 && incomplete == null && health.ready()) {
                ready.countDown();
                LOG.info("Caravan {} ready in {} s", config.get("container.role"),
                        String.format(Locale.ROOT, "%.1f", uptime().toMillis() / 1000.0));
            }
        } catch (RuntimeException e) {
            LOG.error("Could not look after configuration and readiness", e);
        }
    }

    /** So that /readyz knows since when, and /metrics need not wait. */
    private void look() {
        try {
            health.checks();
        } catch (RuntimeException e) {
            LOG.error("Could not look after readiness", e);
        }
    }

    private List<Check> checks() {
        List<Check> checks = new ArrayList<>(modules.checks());
        // A store that is being salvaged at the start: for hours, perhaps.
        tasks.running("salvage").ifPresent(salvage -> checks.replaceAll(c -> c.name().equals("module:wal") && !c.up()
                ? new Check(c.name(), c.status(), "the damaged store is being salvaged: " + salvage.text()) : c));
        String starting = incomplete != null ? incomplete : ready.getCount() > 0 ? deploying() : null;
        checks.add(new Check("container", starting == null ? "UP" : "DOWN", starting == null ? "" : starting));
        checks.add(audit.check());
        checks.add(users.check());
        if (control != null) {
            checks.add(control.check());
        }
        checks.add(new Check("config", watch.problems().isEmpty() ? "UP" : "DOWN", String.join("; ", watch.problems())));
        routes.list().forEach(file -> checks.add(new Check("route:" + file.stem(), file.ready() ? "UP" : "DOWN",
                file.error() != null ? file.error() : file.routes().stream().filter(r -> r.error() != null)
                        .map(r -> "route " + r.id() + " is not started: " + r.error()).findFirst().orElse(""))));
        return checks;
    }

    /** @return null: all that lay there at the start is taken */
    private String deploying() {
        List<String> files;
        try {
            files = coming.get();
        } catch (UncheckedIOException e) {
            return "deploy/ cannot be read: " + Causes.text(e);
        }
        return !files.isEmpty() ? "deploy/" + String.join(", deploy/", files) + " is about to be deployed"
                : !routes.idle() ? "route files are being deployed" : null;
    }

    private Map<String, Object> about() {
        Map<String, Object> about = new LinkedHashMap<>();
        about.put("name", "caravan");
        about.put("role", config.get("container.role"));
        about.put("container", config.get("container.name"));
        about.put("version", version());
        about.put("commit", versions.getProperty("commit"));
        about.put("build_time", versions.getProperty("time"));
        // Camel finds its own version in a file that its repackaged bundles do not have.
        about.put("camel", versions.getProperty("camel"));
        about.put("java", System.getProperty("java.version"));
        if (System.getProperty("karaf.version") != null) {
            about.put("karaf", System.getProperty("karaf.version"));
        }
        // Of the store's module, while it is started: its database and the version of its tables.
        if (context.getRegistry().lookupByName("storeVersions") instanceof Map<?, ?> store) {
            store.forEach((name, version) -> about.put(String.valueOf(name), version));
        }
        about.put("uptime_s", uptime().toSeconds());
        return about;
    }

    private Map<String, String> build() {
        return Map.of("version", version(), "commit", versions.getProperty("commit"), "role", config.get("container.role"),
                "java", System.getProperty("java.version"), "camel", versions.getProperty("camel"), "karaf", System.getProperty("karaf.version", ""));
    }

    private static Properties readVersions() {
        try (InputStream in = Container.class.getResourceAsStream("/io/caravan/runtime/version.properties")) {
            Properties properties = new Properties();
            properties.load(in);
            return properties;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private interface Step {
        void run() throws Exception;
    }

    private static void quietly(String what, Step step) {
        try {
            step.run();
        } catch (Exception e) {
            LOG.error("Could not {}", what, e);
        }
    }
}
