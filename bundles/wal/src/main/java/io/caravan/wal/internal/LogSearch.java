// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Task;
import io.caravan.wal.Record;
import io.caravan.wal.Recovery.Message;
import io.caravan.wal.Recovery.Place;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Finds a message by what an operator has of it. Correlation ids have no index (it would cost every append); they begin
 * with their time, and the log is in the order of time unless the clock was set, so a binary search over the sequences leads to the place.
 */
final class LogSearch {
    /** Between making the id and the row's place in the log; messages of one moment are not sorted. */
    private static final long SLACK_MS = 10_000;
    private static final int SCAN_ROWS = 20_000;
    private static final Pattern NUMBERED = Pattern.compile("([^/]+)/([^/]+)/(\\d{1,16})");

    private final RecoveryTools.Reads reads;

    LogSearch(RecoveryTools.Reads reads) {
        this.reads = reads;
    }

    Message find(String what, boolean scan) {
        if (what.matches("\\d{1,18}")) {
            long seq = Long.parseLong(what);
            Message found = reads.read(connection -> row(connection, "seq = ?", seq));
            return found != null ? found : nothing(reads.read(connection -> why(connection, seq)));
        }
        UUID uuid = uuid(what);
        return uuid != null ? byCorrelation(what, uuid, scan) : byKey(what);
    }

    private static UUID uuid(String text) {
        return text.matches("\\p{XDigit}{8}(-\\p{XDigit}{4}){3}-\\p{XDigit}{12}") ? UUID.fromString(text) : null;
    }

    private Message byKey(String what) {
        Matcher numbered = NUMBERED.matcher(what);
        String key = numbered.matches() ? Record.numberedKey(numbered.group(1), numbered.group(2), Long.parseLong(numbered.group(3))) : what;
        return reads.read(connection -> {
            Message found = row(connection, "message_key = ?", key);
            if (found != null) {
                return found;
            }
            if (numbered.matches()) {
                long highest = Sql.number(connection, "SELECT contiguous_seq FROM device_progress WHERE device_id = ? AND boot_id = ?",
                        numbered.group(1), numbered.group(2));
                if (Long.parseLong(numbered.group(3)) <= highest) {
                    return nothing("message_key [" + key + "] was in the log (its device and boot are complete up to " + highest
                            + "); its row is deleted by retention or lost (wal:incidents)");
                }
            }
            long seen = Sql.number(connection, "SELECT seen_at_ms FROM key_memory WHERE message_key = ?", key);
            return nothing(seen > 0 ? "message_key [" + key + "] was in the log, last at " + Instant.ofEpochMilli(seen) + "; its row is deleted by retention"
                    : "message_key [" + key + "] is not in the log");
        });
    }

    private Message byCorrelation(String id, UUID uuid, boolean scan) {
        String text = uuid.toString();
        long madeAt = uuid.version() == 7 ? uuid.getMostSignificantBits() >>> 16 : -1;
        if (madeAt < 0 && !scan) {
            throw new IllegalArgumentException("correlation id [" + id + "] must be a UUIDv7, which begins with its time; --scan reads the whole log for another");
        }
        Message found = look("wal", "seq", text, madeAt, scan);
        if (found != null) {
            return found;
        }
        Message rejected = look("rejected", "id", text, madeAt, scan);
        return rejected != null ? rejected : nothing("correlation id [" + id + "] is not in the log"
                + (madeAt > 0 ? "; it was made at " + Instant.ofEpochMilli(madeAt) : "")
                + (scan ? "" : "; if the clock was set since, --scan reads the whole log for it"));
    }

    private Message look(String table, String position, String id, long madeAt, boolean scan) {
        long next = scan ? 1 : first(table, position, madeAt - SLACK_MS);
        long until = scan ? Long.MAX_VALUE : madeAt + SLACK_MS;
        while (true) {
            long from = next;
            long[] last = new long[2]; // position and time of the last row of the page
            Message found = reads.read(connection -> {
                List<Long> hits = Sql.rows(connection, "SELECT " + position + ", received_at_ms, correlation_id = ?1 FROM " + table + " WHERE " + position
                        + " >= ?2 ORDER BY " + position + " LIMIT ?3", row -> {
                            last[0] = row.getLong(1);
                            last[1] = row.getLong(2);
                            return row.getInt(3) == 1 ? row.getLong(1) : null;
                        }, id, from, SCAN_ROWS);
                for (Long hit : hits) {
                    if (hit != null) {
                        return table.equals("wal") ? row(connection, "seq = ?", hit) : rejected(connection, hit);
                    }
                }
                return null;
            });
            if (found != null || last[0] == 0 || last[1] > until) {
                return found;
            }
            next = last[0] + 1;
        }
    }

    /**
     * What was received in a span of time. Reads the whole log, as nothing else says whether the clock was set in between: then the rows
     * are in several pieces.
     *
     * @param fromMs first time
     * @param toMs   first one behind; 0: no end
     * @param task   may end it between two pages
     * @return runs of rows that exist one behind the other, ascending; what lies between two rows of one run is not in the log
     */
    List<Span> received(long fromMs, long toMs, Task task) {
        List<Span> runs = new ArrayList<>();
        long[] page = new long[2]; // last sequence, whether the row there matched
        int[] rows = new int[1];
        do {
            long after = page[0];
            rows[0] = 0;
            task.check();
            reads.read(connection -> Sql.rows(connection, "SELECT seq, received_at_ms FROM wal WHERE seq > ? ORDER BY seq LIMIT " + SCAN_ROWS, row -> {
                long seq = row.getLong(1);
                long time = row.getLong(2);
                boolean matches = time >= fromMs && (toMs == 0 || time < toMs);
                if (matches) {
                    long first = page[1] == 1 ? runs.remove(runs.size() - 1).first() : seq;
                    runs.add(new Span(first, seq));
                }
                page[0] = seq;
                page[1] = matches ? 1 : 0;
                rows[0]++;
                return null;
            }, after));
        } while (rows[0] == SCAN_ROWS);
        return runs;
    }

    private long first(String table, String position, long timeMs) {
        return reads.read(connection -> {
            long low = Math.max(1, Sql.number(connection, "SELECT min(" + position + ") FROM " + table));
            long high = Sql.number(connection, "SELECT seq FROM sqlite_sequence WHERE name = ?", table) + 1;
            while (low < high) {
                long middle = low + (high - low) / 2;
                // The row at the middle, or the next one there is: the log may have holes.
                List<long[]> row = Sql.rows(connection, "SELECT " + position + ", received_at_ms FROM " + table + " WHERE " + position + " >= ? AND "
                        + position + " < ? ORDER BY " + position + " LIMIT 1", r -> new long[] {r.getLong(1), r.getLong(2)}, middle, high);
                if (row.isEmpty() || row.get(0)[1] >= timeMs) {
                    high = middle;
                } else {
                    low = row.get(0)[0] + 1;
                }
            }
            // Where the search ended in a hole: the next row there is.
            long next = Sql.number(connection, "SELECT " + position + " FROM " + table + " WHERE " + position + " >= ? ORDER BY " + position + " LIMIT 1", low);
            return next == 0 ? low : next;
        });
    }

    private static Message row(Connection connection, String where, Object argument) throws SQLException {
        RowCheck check = new RowCheck();
        List<Message> found = Sql.rows(connection, "SELECT * FROM wal WHERE " + where, row -> {
            String fault = check.fault(row);
            return message(row, fault, List.of());
        }, argument);
        if (found.isEmpty()) {
            return null;
        }
        Message m = found.get(0);
        List<Place> places = Sql.rows(connection, "SELECT sink, status, detail FROM message_status WHERE seq = ? ORDER BY sink",
                row -> new Place(row.getString(1), row.getString(2), row.getString(3)), m.seq());
        return new Message(m.seq(), m.messageKey(), m.correlationId(), m.deviceId(), m.kind(), m.lane(), m.observedAtMs(), m.receivedAtMs(), m.contentType(),
                m.traceContext(), m.body(), m.intact(), places, m.note());
    }

    private static Message message(ResultSet row, String fault, List<Place> places) throws SQLException {
        byte[] body = row.getBytes("body");
        return new Message(row.getLong("seq"), row.getString("message_key"), row.getString("correlation_id"), row.getString("device_id"),
                row.getString("kind"), row.getString("lane"), row.getLong("observed_at_ms"), row.getLong("received_at_ms"), row.getString("content_type"),
                row.getString("trace_context"), body == null ? "" : new String(body, StandardCharsets.UTF_8), fault == null, places,
                fault == null ? "" : "damaged: " + fault + "; run wal:verify");
    }

    private static Message rejected(Connection connection, long id) throws SQLException {
        return Sql.rows(connection, "SELECT correlation_id, device_id, received_at_ms, content_type, reason, error, body FROM rejected WHERE id = ?",
                row -> new Message(0, null, row.getString(1), row.getString(2), null, null, 0, row.getLong(3), row.getString(4), null,
                        new String(row.getBytes(7), StandardCharsets.UTF_8), true, List.of(),
                        "refused at the door, kept in table rejected: " + row.getString(5) + ": " + row.getString(6)), id).get(0);
    }

    private static Message nothing(String note) {
        return new Message(0, null, null, null, null, null, 0, 0, null, null, null, false, List.of(), note);
    }

    private static String why(Connection connection, long seq) throws SQLException {
        long newest = Replay.newest(connection, "wal");
        if (seq < 1 || seq > newest) {
            return "sequence [" + seq + "] was never given: the log goes up to " + newest;
        }
        long incident = Sql.number(connection, "SELECT incident FROM lost_range WHERE ? BETWEEN first_seq AND last_seq", seq);
        return incident > 0 ? "sequence [" + seq + "] was lost when the store was damaged: incident " + incident + ", see wal:incidents"
                : seq < Replay.retainedFrom(connection) ? "sequence [" + seq + "] was deleted by retention: every sink had it"
                : "sequence [" + seq + "] is missing and not known as lost: wal:ledger --deep";
    }
}
