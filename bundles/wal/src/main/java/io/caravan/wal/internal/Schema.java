// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.UUID;

/**
 * The tables of a role. Version N is the scripts {@code <role>-1.sql} to {@code <role>-N.sql}, each applied once in one
 * transaction together with {@code user_version}.
 */
enum Schema {
    GATEWAY("gateway", 4, 0x43415247),  // application_id "CARG"
    CLOUD("cloud", 3, 0x43415243);      // "CARC"

    private static final int MORE_VERSIONS_THAN_THERE_WILL_BE = 1_000;

    private final String role;
    private final int version;
    private final int applicationId;

    Schema(String role, int version, int applicationId) {
        this.role = role;
        this.version = version;
        this.applicationId = applicationId;
    }

    static Schema of(String role) {
        for (Schema schema : values()) {
            if (schema.role.equals(role)) {
                return schema;
            }
        }
        throw new IllegalArgumentException("container.role [" + role + "] must be gateway or cloud");
    }

    /**
     * Creates or migrates. The connection is in autocommit mode; nothing is changed if this throws.
     *
     * @throws SQLException with advice, if the file is another program's, another role's or a newer version's
     */
    void apply(Connection connection, String path) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            int found = number(statement, "PRAGMA user_version");
            int application = number(statement, "PRAGMA application_id");
            boolean empty = number(statement, "SELECT count(*) FROM sqlite_master") == 0;
            if (!empty && application != applicationId) {
                if (isOurs(statement) && application != (this == GATEWAY ? CLOUD : GATEWAY).applicationId) {
                    throw new StorageError.Damaged("its tables are a " + role + "'s, its application_id is " + Integer.toHexString(application));
                }
                throw new SQLException("store [" + path + "] is not a " + role + "'s store (application_id "
                        + Integer.toHexString(application) + ", expected " + Integer.toHexString(applicationId)
                        + "): set " + pathKey() + " to another file");
            }
            if (found < 0 || found > version + MORE_VERSIONS_THAN_THERE_WILL_BE || !empty && found == 0) {
                throw new StorageError.Damaged("its version is " + found);
            }
            if (found > version) {
                throw new SQLException("store [" + path + "] has version " + found + ", this program reads up to " + version
                        + ": start the version that wrote it, or set " + pathKey() + " to another file");
            }
            if (empty) {
                // Both must precede the first table; auto_vacuum cannot be switched on later without copying the file.
                statement.execute("PRAGMA page_size = 4096");
                statement.execute("PRAGMA auto_vacuum = INCREMENTAL");
            }
            statement.execute("PRAGMA journal_mode = WAL");
            for (int next = found + 1; next <= version; next++) {
                statement.execute("BEGIN EXCLUSIVE");
                try {
                    statement.executeUpdate(script(next));
                    if (next == 1) {
                        created(connection);
                    }
                    statement.execute("PRAGMA application_id = " + applicationId);
                    statement.execute("PRAGMA user_version = " + next);
                    statement.execute("COMMIT");
                } catch (SQLException e) {
                    try {
                        statement.execute("ROLLBACK");
                    } catch (SQLException rolledBackAlready) {
                        e.addSuppressed(rolledBackAlready);
                    }
                    if (String.valueOf(e.getMessage()).matches("(?s).*(already exists|duplicate column name).*")) {
                        throw new StorageError.Damaged("its version is " + found + ", its tables are newer");
                    }
                    throw e;
                }
            }
        }
    }

    int applicationId() {
        return applicationId;
    }

    private boolean isOurs(Statement statement) throws SQLException {
        return number(statement, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('meta', 'sink_range', 'rollup_window', '"
                + (this == GATEWAY ? "wal" : "inbox") + "')") == 4;
    }

    String pathKey() {
        return this == GATEWAY ? "wal.path" : "store.path";
    }

    private static void created(Connection connection) throws SQLException {
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO meta (one, log_id, created_at_ms) VALUES (1, ?, ?)")) {
            insert.setString(1, UUID.randomUUID().toString());
            insert.setLong(2, System.currentTimeMillis());
            insert.executeUpdate();
        }
    }

    private String script(int number) {
        String name = "/io/caravan/wal/" + role + "-" + number + ".sql";
        try (InputStream in = Schema.class.getResourceAsStream(name)) {
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new UncheckedIOException(name, e);
        }
    }

    private static int number(Statement statement, String sql) throws SQLException {
        try (ResultSet result = statement.executeQuery(sql)) {
            result.next();
            return result.getInt(1);
        }
    }
}
