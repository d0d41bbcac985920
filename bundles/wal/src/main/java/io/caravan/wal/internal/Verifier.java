// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Task;
import java.io.IOException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;

/**
 * Command wal:verify: reads every row of the log, checks its checksums and that none is missing, and that cursors, ledger
 * and dead letters fit together. It reads in chunks, so that the -wal file can shrink meanwhile, changes nothing, and runs
 * beside a working gateway. Thread-safe; nothing is kept between two runs.
 */
final class Verifier {
    private static final int CHUNK = 2_000;
    private static final int MAX_FINDINGS = 100;
    private static final int MAX_BOOTS = 100_000;
    /** A log up to here is checked by SQLite as a whole, in one read transaction of a second or two. */
    private static final long SMALL_LOG = 200_000;

    private final Database database;
    private final Task task;
    private final Map<String, Object> counts = new LinkedHashMap<>();
    private final List<Finding> findings = new ArrayList<>();
    private long moreFindings;

    /**
     * One thing that is not as it should be.
     *
     * @param what  is wrong
     * @param where table, sequence, sink
     * @param todo  what to do about it
     */
    record Finding(String what, String where, String todo) {}

    /**
     * What was found.
     *
     * @param counts   how much was looked at
     * @param findings at most 100; {@code more} were left out
     */
    record Report(boolean ok, Map<String, Object> counts, List<Finding> findings, long more) {
        /** For {@code --json}. */
        JsonObject json() {
            JsonObject json = new JsonObject();
            json.put("ok", ok);
            json.put("counts", new JsonObject(counts));
            JsonArray list = new JsonArray();
            for (Finding finding : findings) {
                JsonObject one = new JsonObject();
                one.put("what", finding.what);
                one.put("where", finding.where);
                one.put("todo", finding.todo);
                list.add(one);
            }
            json.put("findings", list);
            json.put("more", more);
            return json;
        }

        /** For people: a line per finding, then one that sums up. */
        @Override
        public String toString() {
            StringBuilder text = new StringBuilder();
            for (Finding finding : findings) {
                text.append(finding.where).append(": ").append(finding.what).append("; ").append(finding.todo).append('\n');
            }
            if (more > 0) {
                text.append("and ").append(more).append(" more\n");
            }
            return text.append(ok ? "ok: " : "not ok: ").append(counts).toString();
        }
    }

    private Verifier(Database database, Task task) {
        this.database = database;
        this.task = task;
    }

    /**
     * Verifies the gateway's store.
     *
     * @param whole have SQLite check a large log's b-trees as a whole too: one read transaction, during which the -wal file
     *     cannot shrink
     * @throws SQLException the store cannot be read; damage is no exception but a finding, and starts the repair
     */
    static Report run(Database database, boolean whole) throws SQLException {
        return run(database, whole, Task.NONE);
    }

    /** As above, and tells how many rows are read. */
    static Report run(Database database, boolean whole, Task task) throws SQLException {
        Verifier verifier = new Verifier(database, task);
        try {
            verifier.verify(whole);
        } catch (SQLException e) {
            if (!StorageError.isCorrupt(e)) {
                throw e;
            }
            verifier.find("the file is damaged: " + e.getMessage(), database.file().toString(),
                    "it is being moved aside and salvaged: wait until /readyz names the incident, then run wal:verify again");
        }
        return new Report(verifier.findings.isEmpty(), verifier.counts, List.copyOf(verifier.findings), verifier.moreFindings);
    }

    private void find(String what, String where, String todo) {
        if (findings.size() < MAX_FINDINGS) {
            findings.add(new Finding(what, where, todo));
        } else {
            moreFindings++;
        }
    }

    private void verify(boolean whole) throws SQLException {
        long high = number("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'wal'), 0)");
        log(high);
        consistency(high);
        List<String> tables = new ArrayList<>();
        each("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name", r -> tables.add(r.getString(1)));
        boolean all = whole || (Long) counts.get("rows") <= SMALL_LOG;
        for (String table : tables) {
            task.check();
            if (all || !table.equals("wal")) {
                integrity(table);
            }
        }
        counts.put("tables", (long) (all ? tables.size() : tables.size() - 1));
        counts.put("log_structure", all ? "checked" : "rows read one by one, not its index; wal:verify --whole does that too");
        incidents();
    }

    private void integrity(String table) throws SQLException {
        each("PRAGMA integrity_check(" + table + ")", r -> {
            if (!"ok".equals(r.getString(1))) {
                find(r.getString(1), "table " + table, "stop the gateway and start it again: a damaged file is repaired when it is noticed;"
                        + " if it stays, move the store aside yourself (docs/operations.md, A damaged store)");
            }
        });
    }

    // ---- rows

    private void log(long high) throws SQLException {
        Map<Progress.Key, Long> highest = new LinkedHashMap<>();
        RowCheck check = new RowCheck();
        long[] state = new long[4]; // last seq, rows, damaged, without row_crc
        List<long[]> gaps = new ArrayList<>();
        task.total(number("SELECT count(*) FROM wal"));
        for (boolean more = true; more; ) {
            long before = state[1];
            try (Connection connection = database.reader().getConnection();
                    PreparedStatement query = connection.prepareStatement("SELECT * FROM wal WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT " + CHUNK)) {
                query.setLong(1, state[0]);
                query.setLong(2, high);
                try (ResultSet row = query.executeQuery()) {
                    while (row.next()) {
                        long seq = row.getLong("seq");
                        if (seq > state[0] + 1) {
                            gaps.add(new long[] {state[0] + 1, seq - 1});
                        }
                        state[0] = seq;
                        state[1]++;
                        row.getObject("row_crc");
                        state[3] += row.wasNull() ? 1 : 0;
                        String fault = check.fault(row);
                        if (fault != null) {
                            state[2]++;
                            find(fault, "wal, seq " + seq, "sinks get it as dead letter [corrupt]; look at it with wal:peek, and check the disk");
                        }
                        if (row.getString("boot_id") != null && highest.size() < MAX_BOOTS) {
                            highest.merge(new Progress.Key(row.getString("device_id"), row.getString("boot_id")), row.getLong("device_seq"), Math::max);
                        }
                    }
                }
            }
            more = state[1] - before == CHUNK;
            task.progress(state[1]);
        }
        if (state[0] < high) {
            gaps.add(new long[] {state[0] + 1, high});
        }
        counts.put("rows", state[1]);
        counts.put("rows_damaged", state[2]);
        counts.put("rows_without_row_crc", state[3]);
        counts.put("rows_missing", missing(gaps));
        for (Map.Entry<Progress.Key, Long> boot : highest.entrySet()) {
            long known = -1;
            try (Connection connection = database.reader().getConnection();
                    PreparedStatement query = connection.prepareStatement("SELECT highest_seq FROM device_progress WHERE device_id = ? AND boot_id = ?")) {
                query.setString(1, boot.getKey().deviceId());
                query.setString(2, boot.getKey().bootId());
                try (ResultSet row = query.executeQuery()) {
                    known = row.next() ? row.getLong(1) : -1;
                }
            }
            if (known < boot.getValue()) {
                find("rows of this boot go up to number " + boot.getValue() + ", the memory of numbers to " + known,
                        "device_progress, device [" + boot.getKey().deviceId() + "] boot [" + boot.getKey().bootId() + "]",
                        "nothing is lost; report it, it is a defect");
            }
        }
    }

    /** What retention has deleted meanwhile, and what is known to be lost, is not missing. */
    private long missing(List<long[]> gaps) throws SQLException {
        long retained = number("SELECT coalesce((SELECT retained_from_seq FROM meta), 1)");
        SeqSet gone = new SeqSet();
        for (long[] gap : gaps) {
            gone.addAll(Math.max(gap[0], retained), gap[1]);
        }
        SeqSet known = new SeqSet();
        each("SELECT first_seq, last_seq FROM lost_range ORDER BY first_seq", r -> known.addAll(r.getLong(1), r.getLong(2)));
        gone.removeAll(known);
        for (long[] range : gone.ranges()) {
            find("rows " + range[0] + " to " + range[1] + " are missing and are not listed as lost", "wal",
                    "sinks count them as discarded [lost] when they come there; keep a copy of the store and report it");
        }
        counts.put("rows_lost", known.size());
        return gone.size();
    }

    // ---- what fits together

    private void consistency(long high) throws SQLException {
        expectNone("SELECT 'ledger of sink [' || sink || ']', 'unaccounted is ' || unaccounted || ', must be 0: appended ' || appended || ', acked ' || acked"
                        + " || ', dead ' || dead || ', discarded ' || discarded || ', backlog ' || backlog FROM ledger WHERE log = 'wal' AND unaccounted <> 0",
                "sink:reset gives the sink a new start; keep a copy of the store and report it");
        String end = "coalesce((SELECT q.seq FROM sqlite_sequence q JOIN sink s ON s.log = q.name WHERE s.name = r.sink), 0)";
        expectNone("SELECT 'sink_range of [' || r.sink || '] from ' || r.first_seq, 'acked ' || r.acked_seq || ', in flight ' || r.inflight_seq || ', last '"
                        + " || coalesce(r.last_seq, 'open') || ' do not fit together or into the log, which ends at ' || " + end + " FROM sink_range r"
                        + " WHERE r.first_seq < 1 OR r.acked_seq < r.first_seq - 1 OR r.inflight_seq < r.acked_seq OR r.last_seq < r.acked_seq"
                        + " OR r.inflight_seq > " + end,
                "sink:reset gives the sink a new start");
        expectNone("SELECT 'sink_range of [' || r.sink || '] from ' || r.first_seq, 'overlaps the one from ' || o.first_seq FROM sink_range r JOIN sink_range o"
                        + " ON o.sink = r.sink AND o.first_seq > r.first_seq AND (r.last_seq IS NULL OR r.last_seq >= o.first_seq)",
                "rows in both are delivered twice; sink:reset gives the sink a new start");
        expectNone("SELECT 'sink_range of [' || sink || ']', 'there is no such sink' FROM sink_range WHERE sink NOT IN (SELECT name FROM sink) GROUP BY sink",
                "report it, it is a defect");
        expectNone("SELECT 'sink [' || name || ']', 'has no range that is open at the end: new rows are not delivered' FROM sink WHERE NOT EXISTS"
                        + " (SELECT 1 FROM sink_range r WHERE r.sink = name AND r.last_seq IS NULL)",
                "sink:reset gives the sink a new start");
        expectNone("SELECT 'dead_letter of [' || d.sink || '], seq ' || d.seq, 'its row is not in the log' FROM dead_letter d WHERE d.state = 'dead'"
                        + " AND d.seq NOT IN (SELECT seq FROM wal) AND NOT EXISTS (SELECT 1 FROM lost_range l WHERE d.seq BETWEEN l.first_seq AND l.last_seq)"
                        + " AND EXISTS (SELECT 1 FROM sink s WHERE s.name = d.sink)",
                "it can only be discarded: dead:discard");
        expectNone("SELECT 'sink [' || name || ']', 'counts ' || dead || ' dead letters, there are ' || (SELECT count(*) FROM dead_letter d"
                        + " WHERE d.sink = name AND d.state = 'dead') FROM sink WHERE dead <> (SELECT count(*) FROM dead_letter d"
                        + " WHERE d.sink = name AND d.state = 'dead')",
                "keep a copy of the store and report it");
        expectNone("SELECT 'device_progress of [' || device_id || ']', 'contiguous ' || contiguous_seq || ' and highest ' || highest_seq || ' do not fit'"
                        + " FROM device_progress WHERE contiguous_seq < 0 OR contiguous_seq > highest_seq",
                "keep a copy of the store and report it");
        expectNone("SELECT 'lost_range from ' || l.first_seq, 'rows in it are in the log, or it is none' FROM lost_range l WHERE l.last_seq < l.first_seq"
                        + " OR EXISTS (SELECT 1 FROM wal w WHERE w.seq BETWEEN l.first_seq AND l.last_seq)",
                "the rows are delivered; report it");
        expectNone("SELECT 'sqlite_sequence', 'the log has row ' || max(seq) || ', given were numbers up to " + high + "' FROM wal HAVING max(seq) > coalesce("
                        + "(SELECT seq FROM sqlite_sequence WHERE name = 'wal'), 0)",
                "stop the gateway and start it again: the file is damaged and is repaired then");
        expectNone("SELECT 'meta', 'has ' || count(*) || ' rows, must have one' FROM meta HAVING count(*) <> 1",
                "stop the gateway and start it again: the file is damaged and is repaired then");
    }

    private void expectNone(String query, String todo) throws SQLException {
        each(query, r -> find(r.getString(2), r.getString(1), todo));
    }

    private void incidents() throws SQLException {
        int open = 0;
        List<Incidents.Incident> all = database.incidents().list(true);
        for (Incidents.Incident incident : all) {
            open += incident.acknowledgedAtMs() == 0 ? 1 : 0;
        }
        counts.put("incidents", (long) all.size());
        counts.put("incidents_not_acknowledged", (long) open);
        try {
            counts.put("damaged_stores_kept", (long) Quarantine.kept(database.file()).size());
        } catch (IOException e) {
            counts.put("damaged_stores_kept", "unknown: " + e.getMessage());
        }
    }

    private interface Row {
        void take(ResultSet row) throws SQLException;
    }

    private void each(String sql, Row to) throws SQLException {
        try (Connection connection = database.reader().getConnection();
                Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery(sql)) {
            while (rows.next()) {
                to.take(rows);
            }
        }
    }

    private long number(String sql) throws SQLException {
        long[] value = new long[1];
        each(sql, r -> value[0] = r.getLong(1));
        return value[0];
    }
}
