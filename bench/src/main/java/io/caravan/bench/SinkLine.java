// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;

/** What a sink gets for a row of the log (docs/contract.md), made from the outside: what baselines send. */
record SinkLine(String deviceId, String messageKey, String kind, String lane, byte[] json) {

    /** @return the first rows of a gateway's log, in memory, so that reading them is no part of what is measured */
    static List<SinkLine> first(Path db, int rows) throws SQLException {
        List<SinkLine> lines = new ArrayList<>(rows);
        try (Connection c = Databases.readOnly(db); PreparedStatement s = c.prepareStatement("SELECT device_id, message_key, kind, lane,"
                + " '{\"seq\":' || seq || ',\"gateway_id\":\"bench\",\"message_key\":\"' || message_key || '\",\"correlation_id\":\"'"
                + " || correlation_id || '\",\"device_id\":\"' || device_id || '\",\"kind\":\"' || kind || '\",\"lane\":\"' || lane"
                + " || '\",\"boot_id\":\"' || boot_id || '\",\"device_seq\":' || device_seq || ',\"observed_at_ms\":' || observed_at_ms"
                + " || ',\"received_at_ms\":' || received_at_ms || ',\"schema_version\":' || schema_version || ',\"body\":'"
                + " || CAST(body AS TEXT) || '}' FROM wal ORDER BY seq LIMIT ?")) {
            s.setInt(1, rows);
            try (ResultSet r = s.executeQuery()) {
                while (r.next()) {
                    lines.add(new SinkLine(r.getString(1), r.getString(2), r.getString(3), r.getString(4),
                            r.getString(5).getBytes(StandardCharsets.UTF_8)));
                }
            }
        }
        if (lines.isEmpty()) {
            throw new IllegalStateException("the log [" + db + "] has no rows to make a baseline of");
        }
        return lines;
    }

    /** @return value of {@code message_key} in a line of NDJSON */
    static String messageKey(String line) {
        String name = "\"message_key\":\"";
        int from = line.indexOf(name) + name.length();
        int to = line.indexOf('"', from);
        if (from < name.length() || to < 0) {
            throw new IllegalStateException("a line without message_key arrived: " + line.substring(0, Math.min(200, line.length())));
        }
        return line.substring(from, to);
    }
}
