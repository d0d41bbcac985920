// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.Statement;
import java.time.Duration;
import java.util.List;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A store that is in order, and then one thing wrong at a time. */
class FleetOracleTest {
    private static final Path SCHEMA = Path.of("../bundles/wal/src/main/resources/io/caravan/wal/cloud-1.sql");
    private static final FleetRows ROWS = new FleetRows(2);
    private static final String FIRST = " WHERE gateway_id = 'light-1' AND device_id = 'd-1' AND metric = 'm0' AND start_ms = 1767225600000";

    @TempDir Path dir;
    private Path db;

    /** Of a backlog of 40 rows 30 were acked and of 25 live ones 20; another's row is there too. */
    private final List<FleetOracle.Made> fleet = List.of(new FleetOracle.Made("light-1", 40, new LightGateway.Progress(30, 20, 25)),
            new FleetOracle.Made("light-2", 0, new LightGateway.Progress(0, 12, 12)));

    @BeforeEach
    void inOrder() throws Exception {
        db = dir.resolve("cloud.db");
        try (Connection c = DriverManager.getConnection("jdbc:sqlite:" + db); Statement s = c.createStatement()) {
            s.executeUpdate(Files.readString(SCHEMA));
            store(c, "light-1", 0, 30);
            store(c, "light-1", 40, 60);
            store(c, "light-2", 0, 12);
            store(c, "other-1", 0, 1);
        }
    }

    private static void store(Connection c, String gateway, long after, long last) throws Exception {
        JsonNode batch = new ObjectMapper().readTree(new GZIPInputStream(new ByteArrayInputStream(ROWS.batch("log", "live", 1, after, last))));
        try (PreparedStatement p = c.prepareStatement("INSERT INTO rollup_window SELECT ?1, b ->> 'device_id', b ->> 'metric', b ->> 'start_ms', b ->> 'width_ms', b ->> 'part',"
                + " b ->> 'revision', b ->> 'count', b ->> 'min', b ->> 'max', b ->> 'sum', b ->> 'mean', b ->> 'last', b ->> 'last_observed_ms' FROM (SELECT ?2 AS b)")) {
            for (JsonNode row : batch.get("rows")) {
                p.setString(1, gateway);
                p.setString(2, row.get("body").toString());
                p.executeUpdate();
            }
        }
    }

    private ObjectNode compare() throws Exception {
        return FleetOracle.compare("jdbc:sqlite:" + db, "light-", ROWS, fleet, Duration.ZERO);
    }

    @Test
    void findsNothingInAStoreThatIsInOrder() throws Exception {
        ObjectNode found = compare();
        assertEquals("{\"acked\":62,\"stored\":62,\"lost\":0,\"extra\":0,\"altered\":0,\"applied\":0}", found.without("seconds").toString());
    }

    /** Stored, and the ack was lost: it is there as it was made, which proves nothing against the store. */
    @Test
    void whatWasMadeAndNotAckedMayBeThere() throws Exception {
        try (Connection c = DriverManager.getConnection("jdbc:sqlite:" + db)) {
            store(c, "light-1", 30, 32);
            store(c, "light-1", 60, 65);
        }
        assertEquals("{\"acked\":62,\"stored\":69,\"lost\":0,\"extra\":0,\"altered\":0,\"applied\":0}", compare().without("seconds").toString());
    }

    @ParameterizedTest(name = "lost {0}, extra {1}, altered {2}: {3}")
    @CsvSource(delimiter = '|', quoteCharacter = '`', value = {
        "1 | 0 | 0 | DELETE FROM rollup_window /*first*/",
        "0 | 0 | 1 | UPDATE rollup_window SET count = count + 1 /*first*/",
        "0 | 0 | 1 | UPDATE rollup_window SET min = min - 1 /*first*/",
        "0 | 0 | 1 | UPDATE rollup_window SET max = max + 1 /*first*/",
        "0 | 0 | 1 | UPDATE rollup_window SET sum = sum * 2 /*first*/",
        "0 | 0 | 1 | UPDATE rollup_window SET mean = 0 /*first*/",
        "0 | 0 | 1 | UPDATE rollup_window SET last = 0 /*first*/",
        "0 | 0 | 1 | UPDATE rollup_window SET last_observed_ms = last_observed_ms - 1 /*first*/",
        "0 | 0 | 1 | UPDATE rollup_window SET revision = 2 /*first*/",
        "1 | 1 | 0 | UPDATE rollup_window SET width_ms = 2000 /*first*/",
        "1 | 1 | 0 | UPDATE rollup_window SET part = 1 /*first*/",
        "1 | 1 | 0 | UPDATE rollup_window SET start_ms = start_ms + 1 /*first*/",
        "1 | 1 | 0 | UPDATE rollup_window SET device_id = 'd-01' /*first*/",
        "1 | 1 | 0 | UPDATE rollup_window SET gateway_id = 'light-3' /*first*/",
        "0 | 1 | 0 | INSERT INTO rollup_window SELECT gateway_id, device_id, metric, start_ms, width_ms, 1, revision, count, min, max, sum, mean, last, last_observed_ms FROM rollup_window /*first*/",
        // The numbers of two devices, of two moments in each other's place: all sums are what they were.
        "0 | 0 | 20 | CREATE TEMP TABLE o AS SELECT * FROM rollup_window; UPDATE rollup_window SET min = o.min, max = o.max, sum = o.sum, mean = o.mean, last = o.last FROM o"
            + " WHERE o.gateway_id = rollup_window.gateway_id AND o.device_id <> rollup_window.device_id AND o.metric = rollup_window.metric AND o.start_ms = rollup_window.start_ms"
            + " AND o.gateway_id = 'light-1' AND o.start_ms BETWEEN 1767225601000 AND 1767225602000",
        "0 | 0 | 2 | CREATE TEMP TABLE o AS SELECT * FROM rollup_window; UPDATE rollup_window SET min = o.min, max = o.max, sum = o.sum, mean = o.mean, last = o.last FROM o"
            + " WHERE o.gateway_id = rollup_window.gateway_id AND o.device_id = rollup_window.device_id AND o.metric = rollup_window.metric"
            + " AND o.start_ms = 3534451203000 - rollup_window.start_ms AND o.gateway_id = 'light-1' AND o.device_id = 'd-1' AND o.metric = 'm0'"
            + " AND o.start_ms BETWEEN 1767225601000 AND 1767225602000",
        // One acked row is gone, one that was not acked stands in its place: their number is right.
        "1 | 0 | 0 | UPDATE rollup_window SET start_ms = start_ms + 3000, min = 30.5, max = 31.5, sum = 310, mean = 31, last = 31, last_observed_ms = last_observed_ms + 3000 /*first*/",
    })
    void findsWhatIsWrong(long lost, long extra, long altered, String damage) throws Exception {
        try (Connection c = DriverManager.getConnection("jdbc:sqlite:" + db); Statement s = c.createStatement()) {
            s.executeUpdate(damage.replace("/*first*/", FIRST));
        }
        ObjectNode found = compare();
        assertEquals(List.of(lost, extra, altered), List.of(found.get("lost").asLong(), found.get("extra").asLong(), found.get("altered").asLong()), found.toString());
    }
}
