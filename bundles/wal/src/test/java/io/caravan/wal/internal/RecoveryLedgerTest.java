// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.wal.Recovery.Change;
import io.caravan.wal.Recovery.DeadFilter;
import io.caravan.wal.Recovery.LedgerRow;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Whatever operators, sinks, retention and damage do, in whatever order: after each step the ledger adds up, and it says
 * of each sequence what a simple model of the same steps says.
 */
class RecoveryLedgerTest {
    @TempDir Path directory;

    private enum Is { PENDING, ACKED, DEAD, DISCARDED, LOST }

    /** A batch on its way: what the template remembers of it. */
    private record Claim(String sink, long firstSeq, long after, long read, TreeSet<Long> refused) { }

    /** The store, the tools, and what each sequence is to each sink as far as a reader of the documentation would say. */
    private final class World implements AutoCloseable {
        final Random random;
        final Database database;
        final RecoveryTools tools;
        final Map<String, TreeMap<Long, Is>> model = new TreeMap<>();
        final Map<String, Long> starts = new HashMap<>();
        final TreeSet<Long> rows = new TreeSet<>();
        final TreeSet<Long> lost = new TreeSet<>();
        final Set<String> installed = new TreeSet<>();
        final List<Claim> onTheWay = new ArrayList<>();
        final List<String> history = new ArrayList<>();
        long newest;

        World(long seed) throws Exception {
            random = new Random(seed);
            database = Database.open(Schema.GATEWAY, TestConfig.at(directory.resolve("gateway.db")).with("wal.synchronous", "off"));
            tools = RecoveryTest.tools(database, installed, new ArrayList<>());
        }

        <T> T write(RecoveryTools.Work<T> work) throws SQLException {
            try (Connection connection = database.writer().getConnection()) {
                connection.setAutoCommit(false);
                T result = work.on(connection);
                connection.commit();
                connection.setAutoCommit(true);
                return result;
            }
        }

        String anySink() {
            List<String> names = new ArrayList<>(model.keySet());
            return names.get(random.nextInt(names.size()));
        }

        long anySeq() {
            return 1 + random.nextInt((int) Math.max(1, newest));
        }

        void append() throws SQLException {
            int count = 1 + random.nextInt(12);
            write(connection -> {
                for (int i = 0; i < count; i++) {
                    RecoveryTest.insert(connection, "d" + random.nextInt(3), ++newest, 1_000 * newest);
                    rows.add(newest);
                    model.values().forEach(sink -> sink.put(newest, Is.PENDING));
                }
                return null;
            });
        }

        void enable() throws SQLException {
            String sink = "s" + random.nextInt(4);
            if (model.containsKey(sink)) {
                return;
            }
            long start = random.nextBoolean() ? newest + 1 : write(Replay::retainedFrom);
            write(connection -> {
                Sql.update(connection, "INSERT INTO sink (name, log, start_seq) VALUES (?, 'wal', ?)", sink, start);
                return Sql.update(connection, "INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq) VALUES (?1, ?2, ?2 - 1, ?2 - 1)", sink, start);
            });
            TreeMap<Long, Is> all = new TreeMap<>();
            for (long seq = start; seq <= newest; seq++) {
                all.put(seq, Is.PENDING);
            }
            model.put(sink, all);
            starts.put(sink, start);
            installed.add(sink);
        }

        /** As the template claims; some rows will be refused. */
        void claim() throws SQLException {
            String sink = anySink();
            if (onTheWay.stream().anyMatch(c -> c.sink().equals(sink))) {
                return;
            }
            int most = 1 + random.nextInt(15);
            write(connection -> {
                List<Claim> claims = Sql.rows(connection, "SELECT r.first_seq, r.acked_seq, min(coalesce(r.last_seq, q.seq), r.acked_seq + ?2)"
                        + " FROM sink s JOIN sink_range r ON r.sink = s.name JOIN sqlite_sequence q ON q.name = 'wal'"
                        + " WHERE s.name = ?1 AND s.state <> 'paused' AND r.acked_seq < coalesce(r.last_seq, q.seq) ORDER BY r.origin <> 'requeue', r.first_seq",
                        row -> new Claim(sink, row.getLong(1), row.getLong(2), row.getLong(3), new TreeSet<>()), sink, most);
                if (claims.isEmpty()) {
                    return null;
                }
                Claim claim = claims.get(random.nextInt(claims.size()));
                for (long seq = claim.after() + 1; seq <= claim.read(); seq++) {
                    if (rows.contains(seq) && random.nextInt(5) == 0) {
                        claim.refused().add(seq);
                    }
                }
                Sql.update(connection, "UPDATE sink_range SET inflight_seq = ?1, planned_seq = max(planned_seq, ?1) WHERE sink = ?2 AND first_seq = ?3",
                        claim.read(), sink, claim.firstSeq());
                onTheWay.add(claim);
                return null;
            });
        }

        /** As the template acks: counted only if nobody has moved the range. */
        void ack() throws SQLException {
            Claim claim = onTheWay.remove(random.nextInt(onTheWay.size()));
            write(connection -> {
                if (random.nextInt(4) == 0) { // the delivery failed
                    Sql.update(connection, "UPDATE sink_range SET inflight_seq = acked_seq WHERE sink = ? AND first_seq = ?", claim.sink(), claim.firstSeq());
                    return null;
                }
                if (Sql.update(connection, "UPDATE sink_range SET acked_seq = ?1, inflight_seq = ?1 WHERE sink = ?2 AND first_seq = ?3 AND acked_seq = ?4",
                        claim.read(), claim.sink(), claim.firstSeq(), claim.after()) == 0) {
                    return null;
                }
                long delivered = 0;
                for (long seq = claim.after() + 1; seq <= claim.read(); seq++) {
                    Is is;
                    if (!rows.contains(seq)) {
                        is = Is.LOST;
                        Replay.discarded(connection, claim.sink(), "lost", 1);
                    } else if (claim.refused().contains(seq)) {
                        is = Is.DEAD;
                        Sql.update(connection, "INSERT INTO dead_letter (sink, seq, reason, error, attempts, first_failed_at_ms, dead_at_ms) "
                                + "VALUES (?1, ?2, ?3, 'no ' || ?2, 1, ?2, ?2) ON CONFLICT (sink, seq) DO UPDATE SET state = 'dead', reason = excluded.reason",
                                claim.sink(), seq, seq % 2 == 0 ? "too_large" : "refused");
                        Sql.update(connection, "UPDATE sink SET dead = dead + 1 WHERE name = ?", claim.sink());
                    } else {
                        is = Is.ACKED;
                        delivered++;
                    }
                    model.get(claim.sink()).put(seq, is);
                }
                Sql.update(connection, "DELETE FROM sink_range WHERE sink = ? AND acked_seq >= last_seq", claim.sink());
                return Sql.update(connection, "UPDATE sink SET delivered = delivered + ? WHERE name = ?", delivered, claim.sink());
            });
        }

        void retention() throws SQLException {
            long upTo = anySeq();
            write(connection -> {
                for (Long seq : new ArrayList<>(rows.headSet(upTo, true))) {
                    if (model.values().stream().anyMatch(sink -> sink.get(seq) == Is.PENDING)) {
                        return null;
                    }
                    if (model.values().stream().noneMatch(sink -> sink.get(seq) == Is.DEAD)) {
                        Sql.update(connection, "DELETE FROM wal WHERE seq = ?", seq);
                        rows.remove(seq);
                    }
                    Sql.update(connection, "UPDATE meta SET retained_from_seq = max(retained_from_seq, ?)", seq + 1);
                }
                return null;
            });
        }

        void damage() throws SQLException {
            if (rows.isEmpty()) {
                return;
            }
            long from = new ArrayList<>(rows).get(random.nextInt(rows.size()));
            write(connection -> {
                for (long seq = from; seq < from + 3 && rows.remove(seq); seq++) {
                    Sql.update(connection, "DELETE FROM wal WHERE seq = ?", seq);
                    Sql.update(connection, "INSERT INTO lost_range (first_seq, last_seq, incident) VALUES (?1, ?1, 1)", seq);
                    lost.add(seq);
                }
                return null;
            });
        }

        void replay() throws SQLException {
            String sink = anySink();
            long a = anySeq();
            long b = anySeq();
            replayed(sink, Math.min(a, b), Math.max(a, b));
            Change change = tools.replay(sink, Math.min(a, b), Math.max(a, b), false);
            history.add("  " + change);
        }

        private void replayed(String sink, long a, long b) throws SQLException {
            TreeMap<Long, Is> is = model.get(sink);
            long start = starts.get(sink);
            long able0 = Math.max(a, Math.min(start, write(Replay::retainedFrom)));
            TreeSet<Long> able = new TreeSet<>(able0 > b ? Set.<Long>of() : rows.subSet(able0, true, b, true));
            long from = able.isEmpty() ? start : Math.min(start, able.first());
            for (long seq = from; seq < start; seq++) {
                is.put(seq, lost.contains(seq) ? Is.LOST : Is.DISCARDED);
            }
            able.forEach(seq -> is.put(seq, Is.PENDING));
            starts.put(sink, from);
        }

        void reset() throws SQLException {
            String sink = anySink();
            long seq = 1 + random.nextInt((int) newest + 1);
            String to = random.nextInt(3) == 0 ? "now" : random.nextInt(3) == 0 ? "oldest" : Long.toString(seq);
            long from = to.equals("now") ? newest + 1 : to.equals("oldest") ? 1 : seq;
            model.get(sink).headMap(from).replaceAll((s, is) -> is == Is.PENDING ? Is.DISCARDED : is);
            replayed(sink, from, newest);
            history.add("  " + sink + " to " + to + " " + tools.reset(sink, to, false));
        }

        void requeueOrDiscard() {
            boolean requeue = random.nextBoolean();
            String sink = random.nextBoolean() ? anySink() : null;
            String reason = random.nextInt(3) == 0 ? "too_large" : null;
            String device = random.nextInt(3) == 0 ? "d1" : null;
            long from = random.nextInt(3) == 0 ? anySeq() : 0;
            DeadFilter filter = new DeadFilter(sink, reason, null, device, from, 0, 0);
            long[] moved = new long[1];
            model.forEach((name, all) -> all.replaceAll((seq, is) -> {
                boolean chosen = is == Is.DEAD && (sink == null || sink.equals(name)) && (reason == null || seq % 2 == 0)
                        && (device == null || rows.contains(seq) && device.equals(deviceOf(seq))) && seq >= from && (!requeue || rows.contains(seq));
                moved[0] += chosen ? 1 : 0;
                return !chosen ? is : requeue ? Is.PENDING : Is.DISCARDED;
            }));
            Change would = requeue ? tools.requeue(filter, true) : tools.discard(filter, "a test", true);
            Change change = requeue ? tools.requeue(filter, false) : tools.discard(filter, "a test", false);
            history.add("  " + (requeue ? "requeue " : "discard ") + filter + " " + change);
            assertEquals(would, change);
            assertEquals(moved[0], change.rows());
        }

        private String deviceOf(long seq) {
            try {
                return write(connection -> Sql.rows(connection, "SELECT device_id FROM wal WHERE seq = ?", row -> row.getString(1), seq).get(0));
            } catch (SQLException e) {
                throw new IllegalStateException(e);
            }
        }

        void pauseOrResume() {
            if (random.nextBoolean()) {
                tools.pause(anySink());
            } else {
                model.keySet().forEach(tools::resume);
            }
        }

        void remove() {
            String sink = anySink();
            if (model.size() > 1 && onTheWay.stream().noneMatch(c -> c.sink().equals(sink))) {
                installed.remove(sink);
                tools.remove(sink, false);
                model.remove(sink);
                starts.remove(sink);
            }
        }

        void step(int number) throws SQLException {
            String[] names = {"append", "enable", "claim", "ack", "retention", "damage", "replay", "reset", "dead", "pause", "remove"};
            int[] weights = {6, model.isEmpty() ? 50 : 2, 14, onTheWay.isEmpty() ? 0 : 14, 3, 1, 3, 2, 5, 2, 1};
            int chosen = -1;
            int sum = 0;
            for (int i = 0; i < weights.length; i++) {
                sum += weights[i];
                chosen = random.nextInt(sum) < weights[i] ? i : chosen;
            }
            if (model.isEmpty() || newest == 0) {
                chosen = chosen == 0 ? 0 : 1;
            }
            history.add(number + " " + names[chosen]);
            switch (chosen) {
                case 0 -> append();
                case 1 -> enable();
                case 2 -> claim();
                case 3 -> ack();
                case 4 -> retention();
                case 5 -> damage();
                case 6 -> replay();
                case 7 -> reset();
                case 8 -> requeueOrDiscard();
                case 9 -> pauseOrResume();
                default -> remove();
            }
        }

        void check() throws SQLException {
            for (LedgerRow row : tools.ledger()) {
                if (row.internal()) {
                    continue;
                }
                TreeMap<Long, Is> is = model.get(row.sink());
                assertEquals(0, row.unaccounted(), () -> "unaccounted: " + row);
                assertEquals(is.size(), row.appended(), () -> "appended: " + row);
                assertEquals(count(is, Is.ACKED), row.acked(), () -> "acked: " + row);
                assertEquals(count(is, Is.DEAD), row.dead(), () -> "dead: " + row);
                assertEquals(count(is, Is.PENDING), row.backlog(), () -> "backlog: " + row);
                assertEquals(count(is, Is.DISCARDED) + count(is, Is.LOST), row.discarded(), () -> "discarded: " + row);
            }
            Map<String, TreeMap<Long, String>> status = new TreeMap<>();
            model.keySet().forEach(sink -> status.put(sink, new TreeMap<>()));
            write(connection -> Sql.rows(connection, "SELECT sink, seq, status FROM message_status WHERE sink IN (SELECT name FROM sink WHERE internal = 0)",
                    row -> status.get(row.getString(1)).put(row.getLong(2), row.getString(3))));
            model.forEach((sink, all) -> {
                TreeMap<Long, String> expected = new TreeMap<>();
                all.forEach((seq, is) -> {
                    if (rows.contains(seq)) {
                        expected.put(seq, is == Is.PENDING ? "pending" : is == Is.ACKED ? "Acked" : "Dead");
                    }
                });
                status.get(sink).replaceAll((seq, text) -> text.equals("Enqueued") || text.equals("InFlight") ? "pending" : text);
                assertEquals(expected, status.get(sink), sink);
            });
            assertEquals(List.of(), tools.discrepancies(true).stream().filter(d -> model.containsKey(d.sink())).toList());
        }

        private long count(TreeMap<Long, Is> all, Is what) {
            return all.values().stream().filter(is -> is == what).count();
        }

        /** In the end everything that is left to deliver can be delivered: no range is stuck or lies over another. */
        void drain() throws SQLException {
            model.keySet().forEach(tools::resume);
            for (int i = 0; tools.ledger().stream().anyMatch(row -> !row.internal() && row.backlog() > 0); i++) {
                assertTrue(i < 20_000, "the backlog does not end");
                claim();
                if (!onTheWay.isEmpty()) {
                    ack();
                }
            }
        }

        @Override
        public void close() {
            database.close();
        }
    }

    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 5, 8, 13, 21, 34, 55, 89})
    void theLedgerAddsUpWhateverHappens(long seed) throws Exception {
        try (World world = new World(seed)) {
            for (int i = 0; i < 300; i++) {
                try {
                    world.step(i);
                    world.check();
                } catch (AssertionError | RuntimeException | SQLException e) {
                    List<String> last = world.history.subList(Math.max(0, world.history.size() - 30), world.history.size());
                    throw new AssertionError("seed " + seed + ", step " + i + ": " + e.getMessage() + "\n" + String.join("\n", last), e);
                }
            }
            world.drain();
            world.check();
        }
    }

    /** The test notices when a step does not count: one row less is acked than the cursor says. */
    @Test
    void aRowThatIsNotCountedIsNamed() throws Exception {
        try (World world = new World(1)) {
            world.enable();
            world.append();
            String sink = world.model.keySet().iterator().next();
            world.write(connection -> Sql.update(connection, "UPDATE sink_range SET acked_seq = acked_seq + 1, inflight_seq = inflight_seq + 1 WHERE sink = ?", sink));
            assertEquals(1, world.tools.ledger().stream().filter(row -> row.sink().equals(sink)).findFirst().orElseThrow().unaccounted());
            assertEquals("1-1", world.tools.discrepancies(false).stream().filter(d -> d.sink().equals(sink))
                    .map(d -> d.firstSeq() + "-" + d.lastSeq()).findFirst().orElseThrow());
        }
    }
}
