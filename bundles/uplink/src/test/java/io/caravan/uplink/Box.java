// SPDX-License-Identifier: Apache-2.0
package io.caravan.uplink;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import io.caravan.runtime.Config;
import io.caravan.runtime.Traces;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.vertx.core.Vertx;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import java.util.regex.Pattern;
import java.util.regex.Matcher;
import java.io.IOException;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.apache.camel.NamedNode;
import org.apache.camel.Processor;
import org.apache.camel.Route;
import org.apache.camel.impl.DefaultCamelContext;
import org.apache.camel.component.platform.http.vertx.VertxPlatformHttpServer;
import org.apache.camel.component.platform.http.vertx.VertxPlatformHttpServerConfiguration;
import org.apache.camel.spi.TransactedPolicy;
import org.apache.camel.support.PluginHelper;
import org.apache.camel.support.ResourceHelper;
import org.springframework.jdbc.datasource.DataSourceTransactionManager;
import org.springframework.transaction.support.TransactionTemplate;
import org.sqlite.SQLiteConfig;
import org.sqlite.SQLiteDataSource;

/**
 * A container in small: the real route files and schema on a plain CamelContext, with beans {@code writer},
 * {@code reader} and {@code transaction} as the wal bundle's, so that these tests need no other bundle.
 */
final class Box implements AutoCloseable {

    static final Path REPO = Path.of(System.getProperty("repo.dir", "../..")).toAbsolutePath().normalize();

    final Map<String, String> keys;
    final Vertx vertx = Vertx.vertx();
    final SimpleMeterRegistry meters = new SimpleMeterRegistry();
    final DefaultCamelContext camel = new DefaultCamelContext();
    final HikariDataSource writer;
    final HikariDataSource reader;
    private AutoCloseable module = () -> { };
    volatile boolean storeDown;
    /** Replacements in the route files, to break them on purpose. */
    final Map<String, String> edits = new HashMap<>();

    Box(String role, Path file, Map<String, String> keys, String... extraSql) throws Exception {
        this.keys = new HashMap<>(keys);
        this.keys.put("container.role", role);
        Traces.of(camel);
        Map.ofEntries(Map.entry("uplink.registry", "file"), Map.entry("uplink.tls.client.auth", "none"), Map.entry("uplink.tls.client.ca.file", ""), Map.entry("uplink.tls.crl.file", ""),
            Map.entry("uplink.handshake.timeout.ms", "10000"), Map.entry("uplink.handshake.per.s", "0"),
            Map.entry("uplink.handshake.address.per.s", "0"), Map.entry("uplink.strangers.max", "200"), Map.entry("uplink.lock.failures", "0"),
            Map.entry("uplink.lock.address.failures", "0"), Map.entry("uplink.lock.ms", "60000"),
            Map.entry("uplink.backlog.rows", "10000"), Map.entry("uplink.backlog.gateway.rows", "1000"), Map.entry("uplink.backlog.rows.per.s", "0"),
            Map.entry("uplink.backlog.tick.ms", "50"), Map.entry("uplink.probe.ms", "0"), Map.entry("store.type", "sqlite"),
            Map.entry("replica.heartbeat.ms", "100"), Map.entry("replica.timeout.ms", "1000"), Map.entry("replica.address", "")).forEach(this.keys::putIfAbsent);
        defaults(role);
        Files.createDirectories(file.getParent());
        boolean fresh = !Files.exists(file);
        SQLiteConfig write = new SQLiteConfig();
        write.setJournalMode(SQLiteConfig.JournalMode.WAL);
        write.setSynchronous(SQLiteConfig.SynchronousMode.FULL);
        write.setTransactionMode(SQLiteConfig.TransactionMode.IMMEDIATE);
        write.setBusyTimeout(5_000);
        write.setGetGeneratedKeys(false);
        writer = pool(file, write, 1);
        if (fresh) {
            for (int version = 1; version <= (role.equals("cloud") ? 3 : 1); version++) {
                execute(Files.readString(REPO.resolve("bundles/wal/src/main/resources/io/caravan/wal/" + role + "-" + version + ".sql")));
            }
            execute("INSERT INTO meta (one, log_id, created_at_ms) VALUES (1, lower(hex(randomblob(16))), 0)");
            if (role.equals("cloud")) {
                // Rows wait in the inbox for everybody who has a cursor; here only the store has routes.
                execute("DELETE FROM sink_range WHERE sink <> 'store'");
            }
        }
        execute("UPDATE sink_range SET inflight_seq = acked_seq");
        for (String sql : extraSql) {
            execute(sql);
        }
        SQLiteConfig read = new SQLiteConfig();
        read.setReadOnly(true);
        read.setBusyTimeout(5_000);
        reader = pool(file, read, 2);
    }

    /** What is declared and not set here. */
    private void defaults(String role) throws IOException {
        Pattern key = Pattern.compile("^([a-z0-9.]+): \\{type: \\w+(?:, default: (?:\"([^\"]*)\"|([^,}]*)))?");
        try (Stream<Path> files = Files.list(REPO.resolve("config/" + role + "/keys"))) {
            for (Path one : files.toList()) {
                for (String line : Files.readAllLines(one)) {
                    Matcher found = key.matcher(line);
                    if (found.find()) {
                        keys.putIfAbsent(found.group(1), found.group(2) != null ? found.group(2) : found.group(3) != null ? found.group(3) : "");
                    }
                }
            }
        }
    }

    private static HikariDataSource pool(Path file, SQLiteConfig config, int size) {
        SQLiteDataSource source = new SQLiteDataSource(config);
        source.setUrl("jdbc:sqlite:" + file);
        HikariConfig hikari = new HikariConfig();
        hikari.setDataSource(source);
        hikari.setMaximumPoolSize(size);
        hikari.setReadOnly(size > 1);
        hikari.setConnectionTimeout(10_000);
        return new HikariDataSource(hikari);
    }

    Box start(String... routeFiles) throws Exception {
        Properties properties = new Properties();
        try (InputStream words = Files.newInputStream(REPO.resolve("bundles/wal/src/main/resources/io/caravan/wal/sql-sqlite.properties"))) {
            properties.load(words);
        }
        properties.putAll(keys);
        camel.getPropertiesComponent().setInitialProperties(properties);
        camel.getShutdownStrategy().setTimeout(5);
        camel.getRegistry().bind("vertx", vertx);
        camel.getRegistry().bind("metricsRegistry", meters);
        camel.getRegistry().bind("writer", writer);
        camel.getRegistry().bind("reader", reader);
        camel.getRegistry().bind("transaction", transaction());
        camel.getRegistry().bind("sinks", new NoSinks());
        module = new UplinkModule().start(camel, config());
        if (keys.containsKey("http.port")) {
            VertxPlatformHttpServerConfiguration http = new VertxPlatformHttpServerConfiguration();
            http.setBindHost("127.0.0.1");
            http.setBindPort(Integer.parseInt(keys.get("http.port")));
            camel.addService(new VertxPlatformHttpServer(http));
        }
        for (String file : routeFiles) {
            load(file);
        }
        camel.start();
        return this;
    }

    private void load(String file) throws Exception {
        String text = Files.readString(REPO.resolve("routes/" + file + ".camel.yaml"));
        for (Map.Entry<String, String> edit : edits.entrySet()) {
            text = text.replace(edit.getKey(), edit.getValue());
        }
        PluginHelper.getRoutesLoader(camel).loadRoutes(ResourceHelper.fromString(name(file), text));
    }

    private static String name(String file) {
        return file.substring(file.indexOf('/') + 1) + ".camel.yaml";
    }

    /** As a deployment does it: what of the old version is in memory goes with it. */
    void replace(String file) throws Exception {
        for (Route route : List.copyOf(camel.getRoutes())) {
            if (String.valueOf(route.getSourceLocation()).contains(name(file))) {
                camel.getRouteController().stopRoute(route.getRouteId(), 500, TimeUnit.MILLISECONDS);
                camel.removeRoute(route.getRouteId());
            }
        }
        load(file);
    }

    /** Nobody but the store wants the rows. */
    public static final class NoSinks {
        public String signals() {
            return "";
        }
    }

    private TransactedPolicy transaction() {
        TransactionTemplate template = new TransactionTemplate(new DataSourceTransactionManager(writer));
        return new TransactedPolicy() {
            @Override
            public void beforeWrap(Route route, NamedNode definition) {
                // nothing to prepare
            }

            @Override
            public Processor wrap(Route route, Processor steps) {
                return exchange -> {
                    if (exchange.getUnitOfWork().isTransactedBy(this)) {
                        steps.process(exchange);
                        return;
                    }
                    exchange.getUnitOfWork().beginTransactedBy(this);
                    try {
                        template.executeWithoutResult(status -> {
                            try {
                                steps.process(exchange);
                            } catch (Exception e) {
                                exchange.setException(e);
                            }
                            if (exchange.getException() == null && storeDown) {
                                exchange.setException(new java.sql.SQLException("[SQLITE_FULL] test: the store is down"));
                            }
                            if (exchange.getException() != null) {
                                status.setRollbackOnly();
                            }
                        });
                    } finally {
                        exchange.getUnitOfWork().endTransactedBy(this);
                    }
                };
            }
        };
    }

    private Config config() {
        return new Config() {
            @Override
            public String get(String key) {
                String value = keys.get(key);
                if (value == null) {
                    throw new IllegalArgumentException("undeclared key " + key);
                }
                return value;
            }

            @Override
            public long getLong(String key) {
                return Long.parseLong(get(key));
            }

            @Override
            public boolean getBoolean(String key) {
                return Boolean.parseBoolean(get(key));
            }

            @Override
            public Path getPath(String key) {
                return Path.of(get(key));
            }

            @Override
            public List<String> getList(String key) {
                return Arrays.asList(get(key).split(","));
            }

            @Override
            public AutoCloseable onChange(Consumer<Set<String>> listener) {
                return () -> { };
            }
        };
    }

    void execute(String script) throws Exception {
        try (Connection c = writer.getConnection(); Statement s = c.createStatement()) {
            for (String sql : script.replaceAll("--[^\\n]*", "").split(";\\s*(\\n|$)")) {
                if (!sql.isBlank()) {
                    s.execute(sql);
                }
            }
        }
    }

    long number(String sql) throws Exception {
        return ((Number) rows(sql).get(0).get(0)).longValue();
    }

    List<List<Object>> rows(String sql) throws Exception {
        try (Connection c = writer.getConnection(); Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
            List<List<Object>> all = new ArrayList<>();
            while (r.next()) {
                List<Object> row = new ArrayList<>();
                for (int i = 1; i <= r.getMetaData().getColumnCount(); i++) {
                    row.add(r.getObject(i));
                }
                all.add(row);
            }
            return all;
        }
    }

    @Override
    public void close() throws Exception {
        camel.stop();
        module.close();
        reader.close();
        writer.close();
        vertx.close().toCompletionStage().toCompletableFuture().get(10, TimeUnit.SECONDS);
    }
}
