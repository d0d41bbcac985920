// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.caravan.runtime.TaskCancelledException;
import io.caravan.runtime.Tasks;
import io.caravan.runtime.Tasks.Status;
import io.caravan.wal.Recovery.Change;
import io.caravan.wal.Recovery.DeadFilter;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Work on 100,000 rows that is cancelled in the middle and gone on with: nothing is lost, nothing done twice. */
class LongWorkTest {
    private static final int ROWS = 100_000;

    @TempDir
    static Path directory;

    private static Database database;
    private static RecoveryTools tools;
    private static final Tasks TASKS = new Tasks();
    private static final List<String> WOKEN = new ArrayList<>();

    @BeforeAll
    static void rows() throws Exception {
        database = Database.open(Schema.GATEWAY, TestConfig.at(directory.resolve("gateway.db")).with("wal.synchronous", "off"));
        tools = RecoveryTest.tools(database, Set.of("requeued", "exported", "replayed"), WOKEN, TASKS);
        byte[] body = "{\"n\":1}".getBytes(StandardCharsets.UTF_8);
        write(connection -> Sql.update(connection, "WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < " + ROWS + ")"
                + " INSERT INTO wal (seq, message_key, correlation_id, device_id, kind, lane, boot_id, device_seq, observed_at_ms, received_at_ms, mono_ms,"
                + " schema_version, content_type, body, crc) SELECT seq, 'd/b1/' || seq, printf('c%d', seq), 'd', 'telemetry', 'live', 'b1', seq, seq, seq, 1, 1,"
                + " 'application/json', ?, ? FROM n", body, RowCheck.of(body)));
    }

    @AfterAll
    static void close() {
        database.close();
    }

    private static void write(RecoveryTools.Work<?> work) throws SQLException {
        try (Connection connection = database.writer().getConnection()) {
            connection.setAutoCommit(false);
            work.on(connection);
            connection.commit();
            connection.setAutoCommit(true);
        }
    }

    /** A sink that has all, or all of whose rows are dead letters. */
    private static void sink(String name, boolean dead) throws SQLException {
        write(connection -> {
            Sql.update(connection, "INSERT INTO sink (name, delivered, dead) VALUES (?, ?, ?)", name, dead ? 0 : ROWS, dead ? ROWS : 0);
            Sql.update(connection, "INSERT INTO sink_range (sink, first_seq, acked_seq, inflight_seq) VALUES (?1, 1, ?2, ?2)", name, ROWS);
            return !dead ? 0 : Sql.update(connection, "INSERT INTO dead_letter (sink, seq, reason, error, attempts, first_failed_at_ms, dead_at_ms)"
                    + " SELECT ?, seq, 'refused', 'no', 3, 1, 1 FROM wal", name);
        });
    }

    private static String ledger(String sink) throws SQLException {
        return Fixture.row(database.file(), "SELECT acked, dead, discarded, backlog, unaccounted FROM ledger WHERE sink = '" + sink + "'");
    }

    /** Cancels the work as soon as it has come so far. */
    private static CompletableFuture<Void> cancelAt(String name, long done) {
        return CompletableFuture.runAsync(() -> {
            while (true) {
                Status status = TASKS.running(name).orElse(null);
                if (status != null && status.done() >= done) {
                    TASKS.cancel(status.id());
                    return;
                }
                Thread.onSpinWait();
            }
        });
    }

    @Test
    void requeueGoesOnWhereItWasCancelled() throws Exception {
        sink("requeued", true);
        DeadFilter all = new DeadFilter("requeued", null, null, null, 0, 0, 0);
        CompletableFuture<Void> cancelling = cancelAt("dead:requeue", 10_000);
        TaskCancelledException e = assertThrows(TaskCancelledException.class, () -> tools.requeue(all, false));
        cancelling.get(10, TimeUnit.SECONDS);

        long[] counts = counts("requeued");
        assertTrue(counts[0] >= 10_000 && counts[0] < ROWS, () -> "in the middle: " + counts[0]);
        assertEquals(ROWS - counts[0], counts[1]);
        assertEquals(String.format(java.util.Locale.ROOT, "cancelled after %,d of 100,000 records; these stay requeued, each once, the others are dead letters as before;"
                + " run it again, it goes on", counts[0]), e.getMessage());
        assertTrue(WOKEN.contains("requeued"), "what is requeued is delivered");

        Change rest = tools.requeue(all, false);
        assertEquals(counts[1], rest.rows(), "each once");
        assertEquals("0 0 0 100000 0", ledger("requeued"));
        assertEquals("100000 100000", Fixture.row(database.file(), "SELECT sum(last_seq - first_seq + 1), max(last_seq) FROM sink_range"
                + " WHERE sink = 'requeued' AND origin = 'requeue'"), "no row is in two ranges");
    }

    /** Rows in the backlog, dead letters. */
    private static long[] counts(String sink) throws SQLException {
        String[] parts = Fixture.row(database.file(), "SELECT backlog, dead, unaccounted FROM ledger WHERE sink = '" + sink + "'").split(" ");
        assertEquals("0", parts[2]);
        return new long[] {Long.parseLong(parts[0]), Long.parseLong(parts[1])};
    }

    @Test
    void replayIsAllOrNothing() throws Exception {
        sink("replayed", false);
        CompletableFuture<Change> replay;
        try (Connection busy = database.writer().getConnection()) {
            // It waits for its turn to write, so it cannot be done before it is cancelled.
            replay = CompletableFuture.supplyAsync(() -> tools.replay("replayed", 1, ROWS, false));
            cancelAt("wal:replay", 0).get(10, TimeUnit.SECONDS);
        }
        ExecutionException e = assertThrows(ExecutionException.class, () -> replay.get(30, TimeUnit.SECONDS));
        assertTrue(e.getCause().getMessage().contains("nothing was changed; run it again, it starts anew"), e.getCause().getMessage());
        assertEquals("100000 0 0 0 0", ledger("replayed"));

        // Not cancelled it does what was asked for: once.
        assertEquals(ROWS, tools.replay("replayed", 1, ROWS, false).rows());
        assertEquals(0, tools.replay("replayed", 1, ROWS, false).rows());
        assertEquals("0 0 0 100000 0", ledger("replayed"));
    }

    @Test
    void exportThatIsCancelledOrFailsEndsWithAWholeLineAndSaysWhere() throws Exception {
        sink("exported", true);
        DeadFilter all = new DeadFilter("exported", null, null, null, 0, 0, 0);
        ByteArrayOutputStream lines = new ByteArrayOutputStream();
        assertThrows(TaskCancelledException.class, () -> tools.deadExport(all, new OutputStream() {
            private int written;

            @Override
            public void write(int b) {
                lines.write(b);
                if (b == '\n' && ++written == 12_010) {
                    TASKS.running("dead:export").ifPresent(s -> TASKS.cancel(s.id()));
                }
            }
        }, Long.MAX_VALUE));
        String text = lines.toString(StandardCharsets.UTF_8);
        assertTrue(text.endsWith("}\n"));
        assertEquals(12_050, text.lines().count(), "to the end of what was read at once");
        assertEquals("cancelled after 12,050 of 100,000 records; the lines that are written are whole; run it again, it starts anew", TASKS.list().stream()
                .filter(s -> s.name().equals("dead:export")).findFirst().orElseThrow().text());

        IOException full = assertThrows(IOException.class, () -> tools.deadExport(all, new OutputStream() {
            private int written;

            @Override
            public void write(int b) throws IOException {
                if (b == '\n' && ++written == 5_010) {
                    throw new IOException("No space left on device");
                }
            }
        }, Long.MAX_VALUE));
        assertEquals("No space left on device", full.getMessage());
        String failed = TASKS.list().stream().filter(s -> s.name().equals("dead:export")).findFirst().orElseThrow().text();
        assertTrue(failed.startsWith("failed after 5,000 of 100,000 records: ") && failed.contains("No space left"), failed);
    }

    @Test
    void verifyThatIsCancelledHasChangedNothing() throws Exception {
        CompletableFuture<Void> cancelling = cancelAt("wal:verify", 4_000);
        TaskCancelledException e = assertThrows(TaskCancelledException.class, () -> tools.verify(false));
        cancelling.get(10, TimeUnit.SECONDS);
        assertTrue(e.getMessage().contains(" of 100,000 rows; nothing was changed"), e.getMessage());
        assertTrue(tools.verify(false).counts().contains("rows=100000"));
        Status done = TASKS.list().stream().filter(s -> s.name().equals("wal:verify")).findFirst().orElseThrow();
        assertEquals("done", done.state());
        assertEquals(ROWS, done.done());
    }
}
