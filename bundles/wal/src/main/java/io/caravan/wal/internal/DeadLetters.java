// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Task;
import io.caravan.wal.Recovery.DeadCause;
import io.caravan.wal.Recovery.DeadFilter;
import io.caravan.wal.Recovery.DeadLetter;
import io.caravan.wal.Row;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.zip.CRC32C;
import org.apache.camel.util.json.Jsoner;

/** Reads dead letters page by page, so that neither memory nor a read transaction grows with their number. */
final class DeadLetters {
    static final int PAGE = 2_000;
    private static final int CAUSES_MAX = 500;
    private static final int CAUSE_CHARS = 160;
    private static final int SAMPLES = 5;
    /** UUIDs, hexadecimal ids and hashes, numbers. */
    private static final Pattern VARIES = Pattern.compile(
            "\\b\\p{XDigit}{8}(-\\p{XDigit}{4}){3}-\\p{XDigit}{12}\\b|\\b(?=\\p{XDigit}*\\d)\\p{XDigit}{8,}\\b|\\d+");
    private static final String COLUMNS = "d.sink, d.seq, d.reason, d.error, d.attempts, d.first_failed_at_ms, d.dead_at_ms, w.device_id, w.message_key";
    private static final String BODY = ", w.correlation_id, w.kind, w.lane, w.boot_id, w.device_seq, w.observed_at_ms, w.received_at_ms, "
            + "w.schema_version, w.content_type, w.trace_context, w.body, w.crc";

    private final DeadFilter filter;
    private final String sql;
    private final List<Object> arguments = new ArrayList<>();

    DeadLetters(DeadFilter filter, boolean bodies) {
        this.filter = filter;
        StringBuilder where = new StringBuilder();
        and(where, "d.sink = ?", filter.sink());
        and(where, "d.reason = ?", filter.reason());
        and(where, "w.device_id = ?", filter.device());
        and(where, "d.dead_at_ms >= ?", filter.fromMs() > 0 ? filter.fromMs() : null);
        and(where, "d.dead_at_ms <= ?", filter.toMs() > 0 ? filter.toMs() : null);
        and(where, "d.seq = ?", filter.seq() > 0 ? filter.seq() : null);
        sql = "SELECT " + COLUMNS + (bodies ? BODY : "") + " FROM dead_letter d JOIN sink s ON s.name = d.sink "
                + "LEFT JOIN wal w ON w.seq = d.seq AND s.log = 'wal' WHERE d.state = 'dead'" + where
                + " AND (d.sink, d.seq) > (?, ?) ORDER BY d.sink, d.seq LIMIT ?";
    }

    private void and(StringBuilder where, String condition, Object argument) {
        if (argument != null) {
            where.append(" AND ").append(condition);
            arguments.add(argument);
        }
    }

    interface Use {
        void row(DeadLetter letter, ResultSet row) throws SQLException;
    }

    /**
     * The next dead letters of the filter.
     *
     * @return the last one looked at; null: there are no more
     */
    DeadLetter page(Connection connection, DeadLetter after, int rows, Use use) throws SQLException {
        List<Object> all = new ArrayList<>(arguments);
        all.add(after == null ? "" : after.sink());
        all.add(after == null ? 0L : after.seq());
        all.add(rows);
        List<DeadLetter> page = Sql.rows(connection, sql, row -> {
            DeadLetter letter = new DeadLetter(row.getString(1), row.getLong(2), row.getString(3), row.getString(4), row.getLong(5),
                    row.getLong(6), row.getLong(7), row.getString(8), row.getString(9), cause(row.getString(1), row.getString(3), row.getString(4)));
            if (filter.cause() == null || filter.cause().equals(letter.cause())) {
                use.row(letter, row);
            }
            return letter;
        }, all.toArray());
        return page.size() < rows ? null : page.get(page.size() - 1);
    }

    List<DeadLetter> list(RecoveryTools.Reads reads, int limit) {
        List<DeadLetter> found = new ArrayList<>();
        DeadLetter[] after = new DeadLetter[1];
        do {
            after[0] = reads.read(connection -> page(connection, after[0], Math.min(PAGE, Math.max(1, limit)), (letter, row) -> found.add(letter)));
        } while (after[0] != null && found.size() < limit);
        return found.size() > limit ? found.subList(0, limit) : found;
    }

    List<DeadCause> causes(RecoveryTools.Reads reads) {
        Map<String, DeadCause> causes = new LinkedHashMap<>();
        DeadLetter[] after = new DeadLetter[1];
        do {
            after[0] = reads.read(connection -> page(connection, after[0], PAGE, (letter, row) -> {
                boolean known = causes.containsKey(letter.cause()) || causes.size() < CAUSES_MAX;
                String id = known ? letter.cause() : "-";
                DeadCause one = known ? new DeadCause(id, letter.sink(), letter.reason(), normalised(letter.error()), 1, letter.deadAtMs(), letter.deadAtMs(),
                        Long.toString(letter.seq())) : new DeadCause(id, "", "", "further causes", 1, letter.deadAtMs(), letter.deadAtMs(), "");
                causes.merge(id, one, DeadLetters::sum);
            }));
        } while (after[0] != null);
        List<DeadCause> sorted = new ArrayList<>(causes.values());
        sorted.sort((a, b) -> Long.compare(b.count(), a.count()));
        return sorted;
    }

    static DeadCause sum(DeadCause a, DeadCause b) {
        boolean full = a.samples().chars().filter(c -> c == ',').count() >= SAMPLES - 1 || a.samples().isEmpty();
        return new DeadCause(a.id(), a.sink(), a.reason(), a.error(), a.count() + b.count(), Math.min(a.firstAtMs(), b.firstAtMs()),
                Math.max(a.lastAtMs(), b.lastAtMs()), full ? a.samples() : a.samples() + "," + b.samples());
    }

    static String normalised(String error) {
        String text = VARIES.matcher(error.replaceAll("\\s+", " ")).replaceAll("#");
        return text.length() > CAUSE_CHARS ? text.substring(0, CAUSE_CHARS) + "..." : text;
    }

    static String cause(String sink, String reason, String error) {
        try {
            byte[] hash = MessageDigest.getInstance("SHA-256")
                    .digest((sink + '\0' + reason + '\0' + normalised(error)).getBytes(StandardCharsets.UTF_8));
            return HexFormat.of().formatHex(hash, 0, 4);
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java has SHA-256", e);
        }
    }

    long export(RecoveryTools.Reads reads, OutputStream out, long limit, String gatewayId, Task task) throws IOException {
        long[] written = new long[1];
        DeadLetter[] after = new DeadLetter[1];
        // Few rows at a time: each may be wal.max.row long, and what is written may go to a slow terminal, after the read.
        int rows = 50;
        do {
            List<byte[]> lines = new ArrayList<>();
            after[0] = reads.read(connection -> page(connection, after[0], rows, (letter, row) -> lines.add(line(letter, row, gatewayId))));
            for (byte[] line : lines) {
                if (written[0] == limit) {
                    return limit;
                }
                out.write(line);
                out.write('\n');
                written[0]++;
            }
            task.progress(written[0]);
        } while (after[0] != null);
        return written[0];
    }

    private static byte[] line(DeadLetter letter, ResultSet row, String gatewayId) throws SQLException {
        StringBuilder text = new StringBuilder("{\"sink\":").append(quoted(letter.sink())).append(",\"seq\":").append(letter.seq())
                .append(",\"reason\":").append(quoted(letter.reason())).append(",\"error\":").append(quoted(letter.error()))
                .append(",\"attempts\":").append(letter.attempts()).append(",\"first_failed_at_ms\":").append(letter.firstFailedAtMs())
                .append(",\"dead_at_ms\":").append(letter.deadAtMs()).append(",\"row\":");
        byte[] body = row.getBytes(20);
        if (body == null) {
            text.append("null");
        } else if (!intact(body, row.getLong(21))) {
            text.append("null,\"body_base64\":").append(quoted(Base64.getEncoder().encodeToString(body)));
        } else {
            Row wal = new Row(letter.seq(), gatewayId, letter.messageKey(), row.getString(10), letter.deviceId(), row.getString(11), row.getString(12),
                    row.getString(13), row.getLong(14), row.getLong(15), row.getLong(16), row.getInt(17), row.getString(18), row.getString(19), body);
            text.append(new String(wal.json(), StandardCharsets.UTF_8));
        }
        return text.append('}').toString().getBytes(StandardCharsets.UTF_8);
    }

    static boolean intact(byte[] body, long crc) {
        CRC32C sum = new CRC32C();
        sum.update(body);
        return sum.getValue() == crc;
    }

    private static String quoted(String text) {
        return '"' + Jsoner.escape(text) + '"';
    }
}
