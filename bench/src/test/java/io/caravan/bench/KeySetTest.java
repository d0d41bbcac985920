// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.Statement;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class KeySetTest {
    @TempDir Path dir;
    private Path db;
    private final KeySet arrived = new KeySet();

    @BeforeEach
    void log() throws Exception {
        db = dir.resolve("gateway.db");
        try (Connection c = DriverManager.getConnection("jdbc:sqlite:" + db); Statement s = c.createStatement()) {
            s.execute("CREATE TABLE wal (seq INTEGER PRIMARY KEY, message_key TEXT NOT NULL)");
            s.execute("INSERT INTO wal (message_key) VALUES ('a/b1/0000000000000001'), ('a/b1/0000000000000002'),"
                    + " ('a/b2/0000000000000001'), ('a//k/own')");
        }
    }

    @Test
    void countsWhatArrivedTwiceOnce() throws Exception {
        arrived.add("a/b1/0000000000000001");
        arrived.add("a/b1/0000000000000002");
        arrived.add("a/b1/0000000000000002");
        arrived.add("a/b2/0000000000000001");
        arrived.add("a//k/own");
        arrived.add("a//k/own");
        assertCounts(6, 4, 0, 0);
    }

    @Test
    void noticesWhatIsMissing() throws Exception {
        arrived.add("a/b1/0000000000000001");
        arrived.add("a/b1/0000000000000002");
        arrived.add("a//k/own");
        assertCounts(3, 3, 1, 0);
    }

    @Test
    void noticesWhatNobodySent() throws Exception {
        for (String key : new String[] {"a/b1/0000000000000001", "a/b1/0000000000000002", "a/b2/0000000000000001", "a//k/own",
            "a/b2/0000000000000009", "a/b1/0000000000000003", "a//k/other"}) {
            arrived.add(key);
        }
        assertCounts(7, 7, 0, 3);
    }

    @Test
    void readsTheKeyOfALine() {
        assertEquals("a/b1/0000000000000001", SinkLine.messageKey("{\"seq\":1,\"message_key\":\"a/b1/0000000000000001\",\"body\":{}}"));
        assertThrows(IllegalStateException.class, () -> SinkLine.messageKey("{\"seq\":1}"));
    }

    private void assertCounts(long records, long distinct, long missing, long unexpected) throws Exception {
        JsonNode found = arrived.compare(db);
        assertEquals(records, found.get("records").asLong());
        assertEquals(distinct, found.get("distinct").asLong());
        assertEquals(4, found.get("stored").asLong());
        assertEquals(missing, found.get("missing").asLong());
        assertEquals(unexpected, found.get("unexpected").asLong());
    }
}
