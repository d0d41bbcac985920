// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.WayBack;
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
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The tables of a role. Version N is the scripts {@code <role>-1.sql} to {@code <role>-N.sql}, each applied once in one
 * transaction together with {@code user_version}; the program's version is that of the last script. With it goes
 * {@code <role>-N-back.sql} into the store, so that an older program can undo it ({@link WayBack}); those that were there
 * before the first release have none.
 */
enum Schema {
    GATEWAY("gateway", 0x43415247),  // application_id "CARG"
    CLOUD("cloud", 0x43415243);      // "CARC"

    private static final Logger LOG = LoggerFactory.getLogger(Schema.class);
    private static final int MORE_VERSIONS_THAN_THERE_WILL_BE = 1_000;

    private final String role;
    private final int applicationId;

    /** Where scripts come from: the text of {@code <role>-<what>.sql}, or null. */
    interface Scripts {
        String read(String name);
    }

    Schema(String role, int applicationId) {
        this.role = role;
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

    /** @return of the tables that this program reads and writes */
    int version() {
        return version(Schema::resource);
    }

    private int version(Scripts scripts) {
        int version = 0;
        while (scripts.read(role + "-" + (version + 1)) != null) {
            version++;
        }
        return version;
    }

    void apply(Connection connection, String path) throws SQLException {
        apply(connection, path, Schema::resource);
    }

    /**
     * Creates, migrates, or takes back what a newer version has changed, if that one left the way back in the store. The connection is
     * in autocommit mode; nothing is changed if this throws.
     *
     * @throws SQLException with advice, if the file is another program's, another role's or a newer version's
     */
    void apply(Connection connection, String path, Scripts scripts) throws SQLException {
        int version = version(scripts);
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
                back(connection, statement, found, version, path);
                return;
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
                    statement.executeUpdate(scripts.read(role + "-" + next));
                    String back = scripts.read(role + "-" + next + "-back");
                    if (back != null) {
                        WayBack.keep(connection, next, back);
                    }
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

    private void back(Connection connection, Statement statement, int found, int version, String path) throws SQLException {
        long begun = System.nanoTime();
        statement.execute("BEGIN EXCLUSIVE");
        try {
            WayBack.go(connection, found, version);
            statement.execute("PRAGMA user_version = " + version);
            statement.execute("COMMIT");
        } catch (SQLException e) {
            try {
                statement.execute("ROLLBACK");
            } catch (SQLException rolledBackAlready) {
                e.addSuppressed(rolledBackAlready);
            }
            throw new SQLException("store [" + path + "] has version " + found + ", this program reads up to " + version + ", and "
                    + e.getMessage() + ": start the version that wrote it, or set " + pathKey() + " to another file (docs/upgrade.md)", e);
        }
        LOG.warn("store [{}] was of version {} and is brought back to {} in {} ms: what only the newer version knows is gone, no row of the"
                + " log is", path, found, version, (System.nanoTime() - begun) / 1_000_000);
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

    private static String resource(String name) {
        try (InputStream in = Schema.class.getResourceAsStream("/io/caravan/wal/" + name + ".sql")) {
            return in == null ? null : new String(in.readAllBytes(), StandardCharsets.UTF_8);
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
