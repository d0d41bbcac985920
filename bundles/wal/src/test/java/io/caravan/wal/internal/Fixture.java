// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Config;
import io.caravan.wal.AppendResult;
import io.caravan.wal.Record;
import io.caravan.wal.Wal;
import io.caravan.wal.WalModule;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.apache.camel.CamelContext;
import org.apache.camel.impl.DefaultCamelContext;

/** A started module in a CamelContext of its own, and what tests say about rows. */
final class Fixture implements AutoCloseable {
    final CamelContext context;
    final Wal wal;
    private final AutoCloseable module;

    Fixture(Config config) throws Exception {
        this(new DefaultCamelContext(), config);
    }

    Fixture(CamelContext context, Config config) throws Exception {
        this.context = context;
        Properties properties = new Properties();
        properties.setProperty("receipt.interval.ms", config.get("receipt.interval.ms"));
        context.getPropertiesComponent().setInitialProperties(properties);
        context.start();
        try {
            module = new WalModule().start(context, config);
        } catch (Exception e) {
            context.stop();
            throw e;
        }
        wal = context.getRegistry().lookupByNameAndType("wal", Wal.class);
    }

    Database database() {
        return ((Store) module).database();
    }

    Retention retention() {
        return ((Store) module).retention();
    }

    static Record numbered(String device, String boot, long number, String body) {
        return record(Record.numberedKey(device, boot, number), device, boot, number, body);
    }

    /** One whose signature was verified. */
    static Record signed(String device, String boot, long number, String body, long window) {
        return new Record(Record.numberedKey(device, boot, number), "c-" + device + boot + number, device, "telemetry", "live", boot, number, 1, 2, 3,
                1, "application/json", null, body.getBytes(StandardCharsets.UTF_8), window);
    }

    static Record keyed(String key, String body) {
        return record(key, key.substring(0, key.indexOf('/')), null, 0, body);
    }

    private static Record record(String key, String device, String boot, long number, String body) {
        return new Record(key, "c-" + key, device, "telemetry", "live", boot, number, 1, 2, 3, 1, "application/json", null,
                body.getBytes(StandardCharsets.UTF_8));
    }

    String append(Record record) throws Exception {
        return get(wal.submit(record, "mqtt-server", "devices/" + record.deviceId() + "/telemetry")).outcome();
    }

    /** All at once, so that they share a group where they can. */
    List<String> appendAll(List<Record> records) throws Exception {
        List<CompletionStage<AppendResult>> stages = new ArrayList<>();
        records.forEach(record -> stages.add(wal.submit(record, "mqtt-server", "t")));
        List<String> outcomes = new ArrayList<>();
        for (CompletionStage<AppendResult> stage : stages) {
            outcomes.add(get(stage).outcome());
        }
        return outcomes;
    }

    static <T> T get(CompletionStage<T> stage) throws Exception {
        return stage.toCompletableFuture().get(20, TimeUnit.SECONDS);
    }

    /** One row as text, columns joined by a blank; as another process would read it. */
    static String row(Path file, String sql) throws SQLException {
        return String.join("\n", rows(file, sql));
    }

    static List<String> rows(Path file, String sql) throws SQLException {
        List<String> found = new ArrayList<>();
        try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + file);
                Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery(sql)) {
            while (rows.next()) {
                StringBuilder text = new StringBuilder();
                for (int i = 1; i <= rows.getMetaData().getColumnCount(); i++) {
                    text.append(i == 1 ? "" : " ").append(rows.getString(i));
                }
                found.add(text.toString());
            }
        }
        return found;
    }

    static void execute(Path file, String sql) throws SQLException {
        try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + file); Statement statement = connection.createStatement()) {
            statement.execute("PRAGMA busy_timeout = 5000");
            statement.executeUpdate(sql);
        }
    }

    /** Bounded poll. */
    static void await(String what, BooleanSupplier condition) throws InterruptedException {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        Object timer = new Object();
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > until) {
                throw new AssertionError("not within 20 s: " + what);
            }
            synchronized (timer) {
                timer.wait(5);
            }
        }
    }

    @Override
    public void close() throws Exception {
        module.close();
        context.stop();
    }
}
