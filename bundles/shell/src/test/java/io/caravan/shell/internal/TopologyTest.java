// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.caravan.shell.internal.Topology.Use;
import java.util.Set;
import org.junit.jupiter.api.Test;

class TopologyTest {

    @Test
    void tablesOfAStatement() {
        assertEquals(Set.of(new Use("outbox", true), new Use("wal", false)),
                Topology.tables("INSERT INTO outbox (kind, device_id) SELECT kind, device_id FROM wal WHERE seq > 1 ON CONFLICT DO UPDATE SET kind = excluded.kind"));
        assertEquals(Set.of(new Use("rollup_window", true)), Topology.tables("insert or replace into rollup_window(a) values (1)"));
        assertEquals(Set.of(new Use("sink_range", true), new Use("sink", false)),
                Topology.tables("UPDATE sink_range SET acked_seq = 1 WHERE EXISTS (SELECT 1 FROM sink s)"));
        assertEquals(Set.of(new Use("inbox", true)), Topology.tables("DELETE FROM inbox WHERE seq IN (SELECT value FROM json_each(:#x))"));
        assertEquals(Set.of(new Use("wal", false)), Topology.tables("WITH a AS (SELECT * FROM wal), l AS (SELECT 1) SELECT * FROM a JOIN l USING (x) JOIN generate_series(1, 2) g"));
    }
}
