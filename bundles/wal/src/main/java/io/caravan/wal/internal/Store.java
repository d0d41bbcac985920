// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Config;
import io.caravan.runtime.Tasks;
import io.caravan.runtime.Traces;
import io.caravan.wal.SqlWords;
import io.caravan.wal.WalModule;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.composite.CompositeMeterRegistry;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Map;
import javax.management.JMException;
import org.apache.camel.CamelContext;
import org.apache.camel.health.HealthCheckRegistry;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Everything a started module has open; closed in the reverse order. */
public final class Store implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Store.class);

    private final CamelContext context;
    private final Deque<AutoCloseable> opened = new ArrayDeque<>();

    private Database database;
    private Retention retention;
    private Tasks tasks;

    private Store(CamelContext context) {
        this.context = context;
    }

    /** See {@link io.caravan.wal.WalModule#start}. */
    public static AutoCloseable start(CamelContext context, Config config) throws Exception {
        Store store = new Store(context);
        try {
            store.open(config);
            return store;
        } catch (Exception | Error e) {
            store.close();
            throw e;
        }
    }

    private void open(Config config) throws Exception {
        Schema schema = Schema.of(config.get("container.role"));
        if (schema == Schema.CLOUD && !"sqlite".equals(config.get("store.type"))) {
            return; // another module's
        }
        if (schema == Schema.GATEWAY) {
            Ballast.makeRoomToOpen(config.getPath("wal.path"));
        }
        Tasks bound = context.getRegistry().lookupByNameAndType("tasks", Tasks.class);
        tasks = bound != null ? bound : new Tasks();
        database = keep(Database.open(schema, config, tasks));
        WalMetrics metrics = keep(new WalMetrics(registry(), schema == Schema.GATEWAY));
        String bytes = "Size of the store's files";
        metrics.gauge("caravan.wal.file.bytes", bytes, database, db -> Database.size(db.file()), "file", "store");
        metrics.gauge("caravan.wal.file.bytes", bytes, database, db -> Database.size(db.walFile()), "file", "wal");

        Checkpointer checkpointer = keep(new Checkpointer(database, config.getLong("wal.checkpoint.bytes"), metrics));
        checkpointer.start();
        keep(SqlWords.use(context, WalModule.class, "sql-sqlite.properties"));
        bind("writer", database.writer());
        bind("reader", database.reader());
        bind("transaction", new TransactionPolicy(database.writer()));
        bind("storeVersions", versions());
        if (schema == Schema.GATEWAY) {
            openLog(config, checkpointer, metrics);
        } else {
            bind("apiReader", database.apiReader());
            keep(InboxParts.start(context, config, database.reader(), database.writer()));
        }
        LOG.info("store [{}] is open", database.file());
    }

    private void openLog(Config config, Checkpointer checkpointer, WalMetrics metrics) throws SQLException, JMException {
        Signals signals = Signals.of(context);
        Receipts receipts = signals.receipts();
        metrics.count("caravan.wal.receipts.messages", "Receipts handed to the receipts route", receipts, r -> r.sent.sum());
        metrics.count("caravan.wal.receipts.failures", "Receipts the route failed to send", receipts, r -> r.failed.sum());
        metrics.count("caravan.wal.receipts.dropped", "Receipts given up because too many were due", receipts, Receipts::dropped);
        Space space = keep(new Space(database, config, metrics));
        space.watch(checkpointer::failure);
        space.start();
        retention = keep(new Retention(database, config, space, checkpointer, metrics));
        retention.start();
        GroupCommit wal = keep(new GroupCommit(database, config, signals, checkpointer, space, metrics, Traces.of(context)));
        wal.start();
        bind("wal", wal);
        bind("walAppend", new AppendStep(wal));
        HealthCheckRegistry health = HealthCheckRegistry.get(context);
        if (health != null) {
            WalHealthCheck check = new WalHealthCheck(wal, database.incidents(), () -> config.getLong("wal.ready.after.ms"));
            health.register(check);
            keep(() -> health.unregister(check));
        }
        SinkLog log = new GatewayLog(database, config);
        SinkReport report = keep(new SinkReport(config, log, "wal", registry(), health));
        Sinks sinks = keep(new Sinks(context, config, log, report));
        bind("sinks", sinks);
        RecoveryTools recovery = new RecoveryTools(database, () -> config.get("gateway.id"), wal, new RecoveryParts(database, sinks, retention), tasks);
        bind("recovery", recovery);
        keep(RecoveryJmx.register(recovery));
        BatchConverters.ensure(context);
        metrics.gauge("caravan.wal.incidents.rows", "Incidents of the store that nobody has acknowledged", database,
                db -> db.incidents().unacknowledged());
        signals.committed(lastSeq()); // routes that started before the store
        keep(database.onReopened(() -> {
            try {
                signals.committed(lastSeq()); // sinks that failed meanwhile; cursors may be other ones
            } catch (SQLException e) {
                LOG.warn("after the repair: {}", StorageError.describe(e, database.file()));
            }
        }));
    }

    private MeterRegistry registry() {
        MeterRegistry registry = context.getRegistry().lookupByNameAndType("metricsRegistry", MeterRegistry.class);
        return registry != null ? registry : new CompositeMeterRegistry();
    }

    /** For /version. */
    private Map<String, String> versions() throws SQLException {
        try (Connection connection = database.reader().getConnection();
                Statement statement = connection.createStatement();
                ResultSet row = statement.executeQuery("SELECT sqlite_version(), user_version FROM pragma_user_version")) {
            row.next();
            return Map.of("sqlite", row.getString(1), "schema", row.getString(2));
        }
    }

    private long lastSeq() throws SQLException {
        try (Connection connection = database.reader().getConnection();
                Statement statement = connection.createStatement();
                ResultSet row = statement.executeQuery("SELECT seq FROM sqlite_sequence WHERE name = 'wal'")) {
            return row.next() ? row.getLong(1) : 0;
        }
    }

    Retention retention() {
        return retention;
    }

    Database database() {
        return database;
    }

    private <T extends AutoCloseable> T keep(T closeable) {
        opened.push(closeable);
        return closeable;
    }

    private void bind(String name, Object bean) {
        context.getRegistry().bind(name, bean);
        opened.push(() -> context.getRegistry().unbind(name));
    }

    @Override
    public void close() {
        while (!opened.isEmpty()) {
            try {
                opened.pop().close();
            } catch (Exception e) {
                LOG.warn("closing the store: {}", e.toString());
            }
        }
    }
}
