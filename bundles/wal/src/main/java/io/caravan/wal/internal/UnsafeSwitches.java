// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Ways to break the promise on purpose, so that a test can show that it would notice. Never for use. */
final class UnsafeSwitches {
    private static final Logger LOG = LoggerFactory.getLogger(UnsafeSwitches.class);

    private UnsafeSwitches() {}

    /** {@code wal.unsafe.dedupe=off}: the log takes a key twice. The mark stays in the file: it is no store any more. */
    static void dedupe(Statement statement, boolean off, Schema schema) throws SQLException {
        if (schema != Schema.GATEWAY) {
            return;
        }
        if (off) {
            LOG.warn("wal.unsafe.dedupe=off : duplicates are stored; only for negative controls, throw the store away afterwards");
            statement.executeUpdate("DROP INDEX wal_message_key; CREATE INDEX wal_message_key ON wal (message_key)");
            return;
        }
        try (ResultSet index = statement.executeQuery("SELECT \"unique\" FROM pragma_index_list('wal') WHERE name = 'wal_message_key'")) {
            if (!index.next() || index.getInt(1) != 1) {
                throw new SQLException("the log's unique key is gone: this store was used with wal.unsafe.dedupe=off; throw it away");
            }
        }
    }

    static boolean ackBeforeCommit(String value) {
        boolean early = "before-commit".equals(value);
        if (early) {
            LOG.warn("wal.unsafe.ack=before-commit : messages are acknowledged that are not on disk; only for negative controls");
        }
        return early;
    }
}
