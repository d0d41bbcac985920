// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import io.caravan.runtime.internal.Container;
import io.caravan.runtime.internal.RouteSource;
import io.caravan.runtime.internal.RouteSource.Origin;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.ServiceLoader;
import java.util.stream.Stream;
import org.apache.camel.CamelContext;
import org.apache.camel.impl.DefaultCamelContext;

/**
 * A container: one CamelContext with configuration, modules, route files, HTTP server, health and metrics.
 *
 * <p>In Karaf the bundle {@code io.caravan.runtime} makes it and registers it as a service. In plain Java (route tests,
 * Camel K):
 * <pre>{@code
 * try (Caravan caravan = Caravan.builder().keys(Path.of("config/keys")).set("http.port", "0")
 *         .routes(Path.of("routes/gateway/ingest.camel.yaml")).start()) {
 *     caravan.context().createProducerTemplate().sendBody("direct:ingest", body);
 * }
 * }</pre>
 * Modules are then found with ServiceLoader, plus those given to the builder. This class is thread-safe.
 */
public final class Caravan implements AutoCloseable {

    private final Container container;
    private final Path scratch;

    private Caravan(Container container, Path scratch) {
        this.container = container;
        this.scratch = scratch;
    }

    /** For the OSGi part of this bundle: wraps what it has made. */
    public static Caravan of(Container container) {
        return new Caravan(container, null);
    }

    /** @return starts a container in plain Java */
    public static Builder builder() {
        return new Builder();
    }

    /**
     * Shorthand of {@link #builder()}.
     *
     * @param overrides configuration keys and values, over all other layers
     * @param keys      key declarations: files, or folders of {@code *.yaml}
     * @param cfg       folder of {@code io.caravan.*.cfg}; null: none
     * @param routes    route files, or folders of them
     */
    public static Caravan start(Map<String, String> overrides, List<Path> keys, Path cfg, List<Path> routes) throws Exception {
        Builder builder = builder().keys(keys.toArray(Path[]::new)).routes(routes.toArray(Path[]::new));
        overrides.forEach(builder::set);
        return (cfg == null ? builder : builder.cfg(cfg)).start();
    }

    /** @return the one CamelContext */
    public CamelContext context() {
        return container.context();
    }

    /** @return the configuration in force */
    public Config config() {
        return container.config();
    }

    /** @return the configuration in force as people may see it: every key that has a value, secrets masked */
    public Map<String, String> settings() {
        return container.layers().settings();
    }

    /** @return where each key's value in {@link #settings()} was read, in words: a file, a variable, an argument, the default */
    public Map<String, String> places() {
        return container.layers().places();
    }

    /** @return the text without this configuration's secrets and without what stands where one would */
    public String redact(String text) {
        return container.layers().redaction().of(text);
    }

    /** @return all meters in the Prometheus text format */
    public String metrics() {
        return container.scrape();
    }

    /** @return what runs for long in this container, and what ran last */
    public Tasks tasks() {
        return container.tasks();
    }

    /**
     * Looks a bean of a module up.
     *
     * @param name as modules bind it, for example {@code recovery}
     * @return empty: its module is not started, or this role does not have it
     */
    public <T> Optional<T> bean(String name, Class<T> type) {
        return Optional.ofNullable(container.context().getRegistry().lookupByNameAndType(name, type));
    }

    /** @return {@code gateway} or {@code cloud} */
    public String role() {
        return container.config().get("container.role");
    }

    /** @return version of Caravan */
    public String version() {
        return container.version();
    }

    /** @return time since the start */
    public Duration uptime() {
        return container.uptime();
    }

    /** @return port the HTTP server listens on; with {@code http.port} 0 the one it was given */
    public int httpPort() {
        return container.httpPort();
    }

    /** @return all readiness checks */
    public List<Check> checks() {
        return container.health().checks();
    }

    /** @return whether every check that counts is UP: modules started, route files deployed, their routes started */
    public boolean ready() {
        return checks().stream().noneMatch(Check::blocks);
    }

    /** Waits for {@link #ready()}. @return false: it is not ready within that time, {@link #checks()} tells why */
    public boolean awaitReady(Duration timeout) throws InterruptedException {
        return container.awaitReady(timeout);
    }

    /** @return what became of each route file, sorted by stem */
    public List<RouteFile> routes() {
        return container.routes().list();
    }

    /** @return the text in force of a route file */
    public Optional<String> text(String stem) {
        return container.routes().text(stem);
    }

    /**
     * The versions of a route file that are here, the one that goes before the others first; empty: there is no such file.
     *
     * @param stem the file's name without {@code .camel.yaml} or {@code .camel.xml}
     */
    public List<RouteText> versions(String stem) {
        return container.routes().versions(stem);
    }

    /**
     * Says what {@link #deploy} would say of a file, and deploys nothing: syntax, ids and whose they are, and that components,
     * options, beans, templates, configurations and languages it names are there. The file's own beans are made, which runs their
     * code: only for a text of whoever may deploy it.
     *
     * @param name file name, of the form {@code <stem>.camel.yaml} or {@code <stem>.camel.xml}
     * @return what is wrong, in the deployer's words, with the line where it is known
     * @throws IllegalArgumentException the name breaks the rule for stems
     * @throws IllegalStateException    no answer within 60 s, or the container is being stopped
     */
    public RouteCheck check(String name, String text) throws InterruptedException {
        return container.routes().check(RouteSource.of(name, Origin.DEPLOY, 0, text));
    }

    /**
     * Puts a route file as if it had been dropped into {@code deploy/} and waits until it is dealt with; {@link #routes()}
     * then tells its state. A file of the same stem is overridden, another version of the file replaced.
     *
     * @throws IllegalArgumentException the name breaks the rule for stems
     */
    public void deploy(Path file) throws IOException, InterruptedException {
        put(file, Origin.DEPLOY);
        settle();
    }

    /** Takes out what {@link #deploy} put; the file of {@link Builder#routes} with that stem comes back. */
    public void undeploy(String stem) throws InterruptedException {
        container.routes().remove(stem, Origin.DEPLOY, 0, true);
        settle();
    }

    /** Stops routes in order, then modules, then the rest; within about 4 s for the routes. Does nothing the second time. */
    @Override
    public void close() {
        container.close();
        try {
            delete(scratch);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void delete(Path folder) throws IOException {
        if (folder != null && Files.exists(folder)) {
            try (Stream<Path> tree = Files.walk(folder)) {
                for (Path path : tree.sorted(Comparator.reverseOrder()).toList()) {
                    Files.delete(path);
                }
            }
        }
    }

    private void put(Path file, Origin origin) throws IOException {
        String name = file.getFileName().toString();
        container.routes().put(RouteSource.of(name, origin, 0, Files.readString(file)));
    }

    private void settle() throws InterruptedException {
        container.routes().await(Duration.ofSeconds(60));
    }

    /** Collects what a plain Java container consists of. This class is not thread-safe. */
    public static final class Builder {

        /** Keys of a container in which commands set something. */
        private static final String CONTROL = "io.caravan.control.yaml";

        private final List<Path> keys = new ArrayList<>();
        private final List<Path> routes = new ArrayList<>();
        private final Map<String, String> overrides = new HashMap<>();
        private final Map<String, Module> modules = new LinkedHashMap<>();
        private Map<String, String> environment = System.getenv();
        private boolean discover = true;
        private Path cfg;
        private Path home;
        private CamelContext context;

        private Builder() {
        }

        /** @param places key declarations: files, or folders of {@code *.yaml} */
        public Builder keys(Path... places) {
            keys.addAll(List.of(places));
            return this;
        }

        /** @param folder of {@code io.caravan.*.cfg}, watched for changes */
        public Builder cfg(Path folder) {
            cfg = folder;
            return this;
        }

        /**
         * @param folder what relative paths in the configuration are relative to; by default the working directory, where
         *               nothing is written by itself: without a home, audit log and users are gone with the container, unless
         *               {@code audit.file} and {@code users.file} are set
         */
        public Builder home(Path folder) {
            home = folder;
            return this;
        }

        /** Overrides one key, over all other layers. */
        public Builder set(String key, String value) {
            overrides.put(key, value);
            return this;
        }

        /** @param variables instead of the process environment */
        public Builder environment(Map<String, String> variables) {
            environment = Map.copyOf(variables);
            return this;
        }

        /** @param places route files, or folders of them */
        public Builder routes(Path... places) {
            routes.addAll(List.of(places));
            return this;
        }

        /** Adds a module besides those of ServiceLoader; started after them, in the order of calls. */
        public Builder module(String name, Module module) {
            modules.put(name, module);
            return this;
        }

        /** Only modules given to {@link #module}: what is on the class path is left alone. */
        public Builder withoutDiscovery() {
            discover = false;
            return this;
        }

        /** @param camelContext not started yet, for example with own beans; by default a new DefaultCamelContext */
        public Builder context(CamelContext camelContext) {
            context = camelContext;
            return this;
        }

        /**
         * Starts context, modules and routes, in that order, each tried once before the next. A module or route that did not
         * start is tried again in the background: {@link Caravan#awaitReady}.
         *
         * @throws ConfigException the configuration broke a rule, or the HTTP port cannot be had
         */
        public Caravan start() throws Exception {
            Map<String, String> arguments = new HashMap<>();
            System.getProperties().stringPropertyNames().forEach(p -> arguments.put(p, System.getProperty(p)));
            overrides.forEach((key, value) -> arguments.put("caravan." + key, value));
            Path scratch = home == null ? Files.createTempDirectory("caravan") : null;
            if (scratch != null) {
                Map<String, String> written = new HashMap<>(Map.of("audit.file", "audit/audit.log", "users.file", "users.properties"));
                if (keys.stream().anyMatch(place -> Files.exists(Files.isDirectory(place) ? place.resolve(CONTROL) : place.resolveSibling(CONTROL)))) {
                    written.put("control.dir", "control");
                }
                written.forEach((key, path) -> {
                    if (!environment.containsKey("CARAVAN_" + key.toUpperCase(Locale.ROOT).replace('.', '_'))) {
                        arguments.putIfAbsent("caravan." + key, scratch.resolve(path).toString());
                    }
                });
            }
            Container container;
            try {
                container = new Container(context == null ? new DefaultCamelContext() : context, keys, cfg,
                        home == null ? Path.of("") : home, environment, arguments, System.currentTimeMillis());
            } catch (RuntimeException e) {
                delete(scratch);
                throw e;
            }
            Caravan caravan = new Caravan(container, scratch);
            try {
                container.start();
                if (discover) {
                    for (ServiceLoader.Provider<Module> found : ServiceLoader.load(Module.class).stream().toList()) {
                        container.addModule(Container.moduleName(found.type().getSimpleName()), found::get).get();
                    }
                }
                for (Map.Entry<String, Module> module : modules.entrySet()) {
                    container.addModule(module.getKey(), module::getValue).get();
                }
                for (Path place : routes) {
                    if (Files.isDirectory(place)) {
                        try (Stream<Path> files = Files.list(place)) {
                            for (Path file : files.filter(f -> f.toString().matches(".*\\.camel\\.(yaml|xml)")).sorted().toList()) {
                                caravan.put(file, Origin.FEATURE);
                            }
                        }
                    } else {
                        caravan.put(place, Origin.FEATURE);
                    }
                }
                caravan.settle();
                container.complete();
                return caravan;
            } catch (Exception e) {
                caravan.close();
                throw e;
            }
        }
    }
}
