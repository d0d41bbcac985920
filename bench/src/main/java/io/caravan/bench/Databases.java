// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;

import org.sqlite.SQLiteConfig;

/** Opens a database that another process may be writing, so that it cannot be changed from here. */
final class Databases {
    private Databases() { }

    static Connection readOnly(Path file) throws SQLException {
        if (!Files.isReadable(file)) {
            throw new IllegalArgumentException("database [" + file + "] must exist and be readable");
        }
        SQLiteConfig config = new SQLiteConfig();
        config.setReadOnly(true);
        config.setBusyTimeout(10_000);
        return config.createConnection("jdbc:sqlite:" + file.toAbsolutePath());
    }
}
