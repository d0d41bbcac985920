// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Recovery;
import io.caravan.wal.Row;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import javax.sql.DataSource;
import org.apache.camel.util.json.Jsoner;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Bean {@code recovery} of the cloud: its sinks, their dead letters and replays, in SQLite or PostgreSQL. In Java for the
 * reason of {@link RecoveryTools}. What is about a gateway's log as a file is not here: the inbox is a queue, rows leave it.
 */
public final class InboxTools implements Recovery {
    /** Stands for what came from the bus' topic and is no row; its sequences are those of table bus_dead. */
    static final String TOPIC = "topic";

    private static final Logger LOG = LoggerFactory.getLogger(InboxTools.class);
    private static final int NOTE_CHARS = 500;
    private static final String NEWEST = "SELECT coalesce(max(seq), 0) FROM inbox";
    private static final String LETTERS = "SELECT d.sink, d.seq, d.reason, d.error, d.attempts, d.first_failed_at_ms, d.dead_at_ms, i.device_id, i.message_key"
            + " FROM dead_letter d LEFT JOIN inbox i ON i.seq = d.seq WHERE d.state = 'dead'"
            + " UNION ALL SELECT '" + TOPIC + "', b.id, b.reason, b.error, 1, b.dead_at_ms, b.dead_at_ms, NULL, b.record_key FROM bus_dead b WHERE b.state = 'dead'"
            + " ORDER BY 1, 2";

    private interface Use {
        /** @return whether to go on */
        boolean letter(DeadLetter letter) throws SQLException;
    }

    private final DataSource reader;
    private final DataSource writer;
    private final Sinks sinks;

    InboxTools(DataSource reader, DataSource writer, Sinks sinks) {
        this.reader = reader;
        this.writer = writer;
        this.sinks = sinks;
    }

    private <T> T read(RecoveryTools.Work<T> work) {
        try (Connection connection = reader.getConnection()) {
            return work.on(connection);
        } catch (SQLException e) {
            throw new IllegalStateException("the store does not answer: " + e.getMessage(), e);
        }
    }

    private <T> T write(boolean keep, RecoveryTools.Work<T> work) {
        try (Connection connection = writer.getConnection()) {
            connection.setAutoCommit(false);
            try {
                T result = work.on(connection);
                if (keep) {
                    connection.commit();
                } else {
                    connection.rollback();
                }
                return result;
            } catch (SQLException | RuntimeException e) {
                connection.rollback();
                throw e;
            } finally {
                connection.setAutoCommit(true);
            }
        } catch (SQLException e) {
            throw new IllegalStateException("the store does not answer, nothing was changed: " + e.getMessage(), e);
        }
    }

    // ---- sinks

    @Override
    public List<SinkStatus> sinks() {
        Set<String> installed = sinks.installed();
        long now = System.currentTimeMillis();
        return read(connection -> {
            long newest = Sql.number(connection, NEWEST);
            return Sql.rows(connection, "SELECT s.name, s.internal, s.state, s.reason, s.attempts, s.next_attempt_at_ms, s.last_error, s.failing_since_ms,"
                    + " s.last_success_at_ms, s.delivered, s.dead, (SELECT coalesce(sum(r.inflight_seq - r.acked_seq), 0) FROM sink_range r WHERE r.sink = s.name)"
                    + " FROM sink s ORDER BY s.name", row -> {
                        String name = row.getString(1);
                        boolean internal = row.getInt(2) != 0;
                        List<Span> pending = pending(connection, name, newest);
                        long since = pending.isEmpty() ? 0 : Sql.number(connection, "SELECT received_at_ms FROM inbox WHERE seq >= ? ORDER BY seq LIMIT 1",
                                pending.get(0).first());
                        return new SinkStatus(name, internal, internal || installed.contains(name), row.getString(3), row.getString(4), row.getLong(5),
                                row.getLong(6), row.getString(7), row.getLong(8), row.getLong(9), Span.count(pending), row.getLong(12), row.getLong(10),
                                row.getLong(11), discarded(connection, name), since == 0 ? 0 : Math.max(1, now - since));
                    });
        });
    }

    private static String discarded(Connection connection, String sink) throws SQLException {
        return String.join(", ", Sql.rows(connection, "SELECT reason, row_count FROM discarded WHERE sink = ? ORDER BY reason",
                row -> row.getString(1) + "=" + row.getLong(2), sink));
    }

    private static List<Span> pending(Connection connection, String sink, long newest) throws SQLException {
        return Sql.rows(connection, "SELECT acked_seq + 1, coalesce(last_seq, ?) FROM sink_range WHERE sink = ? ORDER BY first_seq",
                row -> new Span(row.getLong(1), row.getLong(2)), newest, sink).stream().filter(span -> span.first() <= span.last()).toList();
    }

    @Override
    public void pause(String sink) {
        write(true, connection -> {
            known(connection, sink, true);
            return Sql.update(connection, "UPDATE sink SET state = 'paused', reason = 'operator', next_attempt_at_ms = NULL WHERE name = ?", sink);
        });
        LOG.info("sink [{}] is paused by an operator", sink);
    }

    @Override
    public void resume(String sink) {
        write(true, connection -> {
            known(connection, sink, true);
            return Sql.update(connection, "UPDATE sink SET state = 'running', reason = NULL, attempts = 0, next_attempt_at_ms = NULL WHERE name = ?", sink);
        });
        LOG.info("sink [{}] is resumed by an operator", sink);
        sinks.wake(sink);
    }

    @Override
    public Change reset(String sink, String to, boolean dryRun) {
        Change change = write(!dryRun, connection -> {
            known(connection, sink, false);
            long newest = Sql.number(connection, NEWEST);
            long oldest = Sql.number(connection, "SELECT coalesce(min(seq), ?) FROM inbox", newest + 1);
            long seq = to.equals("now") ? newest + 1 : to.equals("oldest") ? oldest : number(to);
            if (seq > newest + 1) {
                throw new IllegalArgumentException("to [" + to + "] is behind the end of the inbox, which is at " + newest + ": use now");
            }
            long left = 0;
            for (Span span : Span.meet(pending(connection, sink, newest), List.of(new Span(1, Math.max(1, seq - 1))))) {
                left += seq > 1 ? rows(connection, span) : 0;
            }
            Sql.update(connection, "DELETE FROM sink_range WHERE sink = ?", sink);
            Sql.update(connection, "INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq) VALUES (?, ?, ?, ?)", sink, seq, seq - 1, seq - 1);
            count(connection, sink, left);
            return new Change(sink, rows(connection, new Span(seq, newest)), 1, left, 0, 0, false, seq < oldest ? "rows before " + oldest + " have left the inbox" : "");
        });
        return done(change, dryRun, sink);
    }

    @Override
    public Change remove(String sink, boolean dryRun) {
        if (sinks.installed().contains(sink)) {
            throw new IllegalStateException("sink [" + sink + "] has a route that is installed and would come back at once: "
                    + "first feature:uninstall caravan-cloud-sink-" + sink + " or take its file out of deploy/");
        }
        Change change = write(!dryRun, connection -> {
            known(connection, sink, false);
            long backlog = Span.count(pending(connection, sink, Sql.number(connection, NEWEST)));
            long dead = Sql.number(connection, "SELECT dead FROM sink WHERE name = ?", sink);
            for (String table : List.of("sink_range", "dead_letter", "discarded")) {
                Sql.update(connection, "DELETE FROM " + table + " WHERE sink = ?", sink);
            }
            Sql.update(connection, "DELETE FROM sink WHERE name = ?", sink);
            return new Change(sink, 0, 0, backlog, 0, 0, false, "its backlog of " + backlog + " rows and " + dead + " dead letters are forgotten");
        });
        return done(change, dryRun, sink);
    }

    @Override
    public Change replay(String sink, long firstSeq, long lastSeq, boolean dryRun) {
        if (firstSeq < 1 || firstSeq > lastSeq) {
            throw new IllegalArgumentException("range [" + firstSeq + "-" + lastSeq + "] must be two sequences, the first at least 1 and not above the last");
        }
        Change change = write(!dryRun, connection -> {
            known(connection, sink, false);
            long newest = Sql.number(connection, NEWEST);
            long oldest = Sql.number(connection, "SELECT coalesce(min(seq), ?) FROM inbox", newest + 1);
            if (firstSeq > newest || lastSeq < oldest) {
                throw new IllegalArgumentException("range [" + firstSeq + "-" + lastSeq + "] is not in the inbox, which holds " + oldest + " to " + newest
                        + " (inbox.keep.ms says how long rows stay)");
            }
            Span asked = new Span(Math.max(firstSeq, oldest), Math.min(lastSeq, newest));
            List<Span> pending = pending(connection, sink, newest);
            List<Span> todo = Span.minus(List.of(asked), pending);
            long rows = 0;
            for (Span span : todo) {
                rows += rows(connection, span);
                Sql.update(connection, "UPDATE sink SET dead = dead - ? WHERE name = ?", Sql.update(connection, "UPDATE dead_letter SET state = 'requeued'"
                        + " WHERE sink = ? AND seq BETWEEN ? AND ? AND state = 'dead'", sink, span.first(), span.last()), sink);
            }
            enqueue(connection, sink, todo, "replay");
            return new Change(sink, rows, todo.size(), 0, Span.count(Span.meet(List.of(asked), pending)), 0, false,
                    firstSeq < oldest ? "rows before " + oldest + " have left the inbox" : "");
        });
        return done(change, dryRun, sink);
    }

    @Override
    public Change replayTime(String sink, long fromMs, long toMs, boolean dryRun) {
        long end = toMs > 0 ? toMs : Long.MAX_VALUE;
        long[] ends = read(connection -> Sql.rows(connection, "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM inbox WHERE received_at_ms >= ? AND received_at_ms < ?",
                row -> new long[] {row.getLong(1), row.getLong(2)}, fromMs, end)).get(0);
        if (ends[0] == 0) {
            throw new IllegalArgumentException("nothing that is in the inbox was received from [" + Instant.ofEpochMilli(fromMs) + "] to ["
                    + (toMs > 0 ? Instant.ofEpochMilli(toMs) : "now") + "] (inbox.keep.ms says how long rows stay)");
        }
        return replay(sink, ends[0], ends[1], dryRun);
    }

    private static long rows(Connection connection, Span span) throws SQLException {
        return Sql.number(connection, "SELECT count(*) FROM inbox WHERE seq BETWEEN ? AND ? AND " + InboxLog.OURS, span.first(), span.last());
    }

    private static void enqueue(Connection connection, String sink, List<Span> todo, String origin) throws SQLException {
        if (todo.isEmpty()) {
            return;
        }
        // Ranges must not overlap: what is acked of one is not its business any more.
        Sql.update(connection, "DELETE FROM sink_range WHERE sink = ? AND acked_seq >= last_seq", sink);
        Sql.update(connection, "UPDATE sink_range SET first_seq = acked_seq + 1, inflight_seq = acked_seq WHERE sink = ? AND acked_seq >= first_seq", sink);
        for (Span span : todo) {
            Sql.update(connection, "INSERT INTO sink_range (sink, first_seq, last_seq, lane, acked_seq, inflight_seq, origin) VALUES (?, ?, ?, 'historical', ?, ?, ?)",
                    sink, span.first(), span.last(), span.first() - 1, span.first() - 1, origin);
        }
    }

    private static void count(Connection connection, String sink, long rows) throws SQLException {
        if (rows > 0) {
            Sql.update(connection, "INSERT INTO discarded (sink, reason, row_count) VALUES (?, 'operator', ?)"
                    + " ON CONFLICT (sink, reason) DO UPDATE SET row_count = discarded.row_count + excluded.row_count", sink, rows);
        }
    }

    private Change done(Change change, boolean dryRun, String sink) {
        if (!dryRun) {
            LOG.info("sink [{}]: {} rows are delivered again, {} of its backlog are discarded by an operator", sink, change.rows(), change.discarded());
            sinks.wake(sink);
        }
        return change;
    }

    private static void known(Connection connection, String sink, boolean internalToo) throws SQLException {
        List<Integer> found = Sql.rows(connection, "SELECT internal FROM sink WHERE name = ?", row -> row.getInt(1), sink);
        if (found.isEmpty()) {
            throw new IllegalArgumentException("sink [" + sink + "] is not known: sink:list shows those there are");
        }
        if (found.get(0) != 0 && !internalToo) {
            throw new IllegalStateException("sink [" + sink + "] is a part of the cloud: it can be paused and resumed, nothing else");
        }
    }

    private static long number(String to) {
        try {
            long seq = Long.parseLong(to);
            if (seq > 0) {
                return seq;
            }
        } catch (NumberFormatException e) {
            LOG.debug("[{}] is no number", to, e);
        }
        throw new IllegalArgumentException("to [" + to + "] must be oldest, now or a sequence of the inbox");
    }

    // ---- dead letters

    private void letters(DeadFilter filter, Connection connection, Use use) throws SQLException {
        if (filter.sink() != null && !filter.sink().equals(TOPIC)) {
            known(connection, filter.sink(), true);
        }
        if (filter.cause() != null && !filter.cause().matches("[0-9a-f]{8}")) {
            throw new IllegalArgumentException("cause [" + filter.cause() + "] must be 8 hexadecimal digits: dead:list shows them");
        }
        try (var statement = connection.prepareStatement(LETTERS)) {
            statement.setFetchSize(DeadLetters.PAGE);
            try (ResultSet row = statement.executeQuery()) {
                while (row.next()) {
                    DeadLetter letter = new DeadLetter(row.getString(1), row.getLong(2), row.getString(3), row.getString(4), row.getLong(5), row.getLong(6),
                            row.getLong(7), row.getString(8), row.getString(9), DeadLetters.cause(row.getString(1), row.getString(3), row.getString(4)));
                    if (matches(filter, letter) && !use.letter(letter)) {
                        return;
                    }
                }
            }
        }
    }

    private static boolean matches(DeadFilter f, DeadLetter d) {
        return (f.sink() == null || f.sink().equals(d.sink())) && (f.reason() == null || f.reason().equals(d.reason()))
                && (f.cause() == null || f.cause().equals(d.cause())) && (f.device() == null || f.device().equals(d.deviceId()))
                && (f.fromMs() == 0 || d.deadAtMs() >= f.fromMs()) && (f.toMs() == 0 || d.deadAtMs() <= f.toMs()) && (f.seq() == 0 || f.seq() == d.seq());
    }

    @Override
    public List<DeadLetter> deadLetters(DeadFilter filter, int limit) {
        return read(connection -> {
            List<DeadLetter> found = new ArrayList<>();
            letters(filter, connection, letter -> found.size() < limit && found.add(letter));
            return found;
        });
    }

    @Override
    public List<DeadCause> deadCauses(DeadFilter filter) {
        return read(connection -> {
            Map<String, DeadCause> causes = new LinkedHashMap<>();
            letters(filter, connection, letter -> {
                causes.merge(letter.cause(), new DeadCause(letter.cause(), letter.sink(), letter.reason(), DeadLetters.normalised(letter.error()), 1,
                        letter.deadAtMs(), letter.deadAtMs(), Long.toString(letter.seq())), DeadLetters::sum);
                return true;
            });
            List<DeadCause> sorted = new ArrayList<>(causes.values());
            sorted.sort((a, b) -> Long.compare(b.count(), a.count()));
            return sorted;
        });
    }

    @Override
    public long deadExport(DeadFilter filter, OutputStream out, long limit) throws IOException {
        List<DeadLetter> letters = deadLetters(filter, (int) Math.min(limit, Integer.MAX_VALUE));
        for (DeadLetter letter : letters) {
            out.write(read(connection -> line(connection, letter)).getBytes(StandardCharsets.UTF_8));
            out.write('\n');
        }
        return letters.size();
    }

    private static String line(Connection connection, DeadLetter d) throws SQLException {
        String content;
        if (d.sink().equals(TOPIC)) {
            byte[] body = Sql.rows(connection, "SELECT body FROM bus_dead WHERE id = ?", row -> row.getBytes(1), d.seq()).stream().findFirst().orElse(null);
            content = "null,\"body_base64\":" + (body == null ? "null" : '"' + Base64.getEncoder().encodeToString(body) + '"');
        } else {
            List<Row> rows = Sql.rows(connection, "SELECT seq, gateway_id, message_key, device_id, kind, observed_at_ms, received_at_ms, trace_context,"
                    + " CAST(body AS TEXT) FROM inbox WHERE seq = ?", row -> InboxLog.read(row, false), d.seq());
            content = rows.isEmpty() ? "null" : new String(rows.get(0).json(), StandardCharsets.UTF_8);
        }
        return "{\"sink\":\"" + d.sink() + "\",\"seq\":" + d.seq() + ",\"reason\":\"" + d.reason() + "\",\"error\":\"" + Jsoner.escape(d.error())
                + "\",\"attempts\":" + d.attempts() + ",\"first_failed_at_ms\":" + d.firstFailedAtMs() + ",\"dead_at_ms\":" + d.deadAtMs() + ",\"row\":" + content + "}";
    }

    @Override
    public Change requeue(DeadFilter filter, boolean dryRun) {
        return eachDead(filter, dryRun, null);
    }

    @Override
    public Change discard(DeadFilter filter, String note, boolean dryRun) {
        if (note == null || note.isBlank() || note.length() > NOTE_CHARS) {
            throw new IllegalArgumentException("reason [" + (note == null ? "" : note) + "] must say why in 1 to " + NOTE_CHARS
                    + " characters: it is kept with each record");
        }
        return eachDead(filter, dryRun, note);
    }

    /** @param note null: requeue, else discard */
    private Change eachDead(DeadFilter filter, boolean dryRun, String note) {
        Set<String> woken = new LinkedHashSet<>();
        Change change = write(!dryRun, connection -> {
            Map<String, List<Long>> found = new LinkedHashMap<>();
            List<String> notes = new ArrayList<>();
            long[] counts = new long[2]; // gone, not rows
            letters(filter, connection, letter -> {
                if (note == null && letter.sink().equals(TOPIC)) {
                    counts[1]++;
                } else if (note == null && letter.messageKey() == null) {
                    counts[0]++;
                } else {
                    found.computeIfAbsent(letter.sink(), sink -> new ArrayList<>()).add(letter.seq());
                }
                return true;
            });
            long rows = 0;
            int ranges = 0;
            for (Map.Entry<String, List<Long>> entry : found.entrySet()) {
                String sink = entry.getKey();
                // What the store refused goes to it on the way it came.
                String to = sink.equals("store") ? "bus" : sink;
                if (note == null && Sql.number(connection, "SELECT count(*) FROM sink WHERE name = ?", to) == 0) {
                    notes.add("those of the store come again over Kafka only (bus.type)");
                    continue;
                }
                List<Span> runs = Span.runs(entry.getValue());
                rows += entry.getValue().size();
                for (Span run : runs) {
                    Sql.update(connection, sink.equals(TOPIC) ? "UPDATE bus_dead SET state = ?, note = ? WHERE '" + TOPIC + "' = ? AND id BETWEEN ? AND ? AND state = 'dead'"
                            : "UPDATE dead_letter SET state = ?, note = ? WHERE sink = ? AND seq BETWEEN ? AND ? AND state = 'dead'",
                            note == null ? "requeued" : "discarded", note, sink, run.first(), run.last());
                }
                String counted = sink.equals(TOPIC) ? "store" : sink;
                Sql.update(connection, "UPDATE sink SET dead = dead - ? WHERE name = ?", entry.getValue().size(), counted);
                if (note == null) {
                    ranges += runs.size();
                    enqueue(connection, to, Span.minus(runs, pending(connection, to, Sql.number(connection, NEWEST))), "requeue");
                    woken.add(to);
                } else {
                    count(connection, counted, entry.getValue().size());
                }
            }
            if (counts[0] > 0) {
                notes.add(counts[0] + " have no row any more and cannot be delivered: dead:discard them");
            }
            if (counts[1] > 0) {
                notes.add(counts[1] + " records of the topic are no rows and cannot be stored: dead:discard them");
            }
            return new Change(filter.sink(), rows, ranges, 0, 0, counts[0], false, String.join("; ", notes));
        });
        if (!dryRun) {
            LOG.info("{} dead letters are {} by an operator", change.rows(), note == null ? "requeued" : "discarded (" + note + ")");
            woken.forEach(sinks::wake);
        }
        return change;
    }

    // ---- what is wrong

    @Override
    public List<Finding> diagnose() {
        List<Finding> findings = new ArrayList<>();
        for (SinkStatus s : sinks()) {
            if (s.state().equals("failed") || s.attempts() > 0) {
                findings.add(new Finding(s.state().equals("failed") ? "error" : "warning", "sink " + s.name(), s.reason() + ": " + s.lastError() + "; backlog " + s.backlog() + " rows",
                        "mend it; it goes on by itself, sink:resume " + s.name() + " tries at once"));
            } else if (s.state().equals("paused")) {
                findings.add(new Finding("warning", "sink " + s.name(), "is paused; backlog " + s.backlog() + " rows", "sink:resume " + s.name()));
            }
            if (s.dead() > 0) {
                findings.add(new Finding("warning", "sink " + s.name(), s.dead() + " dead letters", "dead:list --sink " + s.name() + ", then dead:requeue or dead:discard"));
            }
            if (!s.installed()) {
                findings.add(new Finding("warning", "sink " + s.name(), "its route is not installed, and rows stay in the inbox for it: " + s.backlog(),
                        "feature:install caravan-cloud-sink-" + s.name() + ", or sink:remove " + s.name()));
            }
        }
        return findings;
    }

    private static IllegalStateException gatewayOnly() {
        return new IllegalStateException("This is the cloud: its inbox is a queue in the store, not a log in a file. Give the command at a gateway; "
                + "here sink:list, dead:list and wal:replay tell of the sinks");
    }

    @Override
    public LogStatus status() {
        throw gatewayOnly();
    }

    @Override
    public List<LedgerRow> ledger() {
        throw gatewayOnly();
    }

    @Override
    public List<Discrepancy> discrepancies(boolean deep) {
        throw gatewayOnly();
    }

    @Override
    public Message peek(String what, boolean scan) {
        throw gatewayOnly();
    }

    @Override
    public Verification verify(boolean whole) {
        throw gatewayOnly();
    }

    @Override
    public String compact() {
        throw gatewayOnly();
    }

    @Override
    public List<Incident> incidents() {
        return List.of();
    }

    @Override
    public int acknowledge(String by) {
        return 0;
    }
}
