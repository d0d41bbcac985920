// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal;

import java.io.IOException;
import java.io.OutputStream;
import java.util.List;

/**
 * What an operator can ask of the log and do to it while it runs; bean {@code recovery} of a gateway, the commands
 * {@code sink:*}, {@code dead:*}, {@code wal:*} and the MBean {@code io.caravan:type=Recovery}. Thread-safe.
 *
 * <p>Guarantee: each operation keeps the ledger exact (appended = acked + dead + discarded + backlog) in every transaction
 * it commits, and takes the writer for some thousand rows at a time, so that messages are appended meanwhile. Rows that
 * are on their way to a sink while its range is moved are delivered again under the same key.
 *
 * <p>Every method throws IllegalArgumentException for an argument that names nothing or breaks a rule, IllegalStateException
 * where the state does not allow it or the store fails; both say what to do next. Times are wall-clock milliseconds since
 * 1970, 0: none. Where a method takes {@code dryRun}, true means: say what would change, and change nothing.
 */
public interface Recovery {

    /**
     * A sink and how it gets on.
     *
     * @param installed   whether its route is there; a part of the gateway always is
     * @param state       running, paused or failed
     * @param reason      why it waits, of docs/contract.md section 10, or null
     * @param discarded   by reason, for example {@code lost=3, operator=10}; empty: none
     * @param unackedAgeMs since the oldest row it has not acked was received; 0: it has all
     */
    record SinkStatus(String name, boolean internal, boolean installed, String state, String reason, long attempts,
            long nextAttemptAtMs, String lastError, long failingSinceMs, long lastSuccessAtMs, long backlog, long inflight,
            long acked, long dead, String discarded, long unackedAgeMs) { }

    /**
     * What an operation did, or would do.
     *
     * @param sink      null: several
     * @param rows      rows that are delivered again, or that were discarded by {@link #discard}
     * @param ranges    pieces of the log they are in
     * @param discarded rows taken from the backlog, counted as discarded for reason {@code operator}
     * @param pending   rows that were asked for and are in the backlog already
     * @param gone      sequences that were asked for and are not in the log any more
     * @param more      there is more to do: the same command again
     * @param note      what was left out and why; empty: nothing
     */
    record Change(String sink, long rows, int ranges, long discarded, long pending, long gone, boolean more, String note) { }

    /**
     * Chooses dead letters; null or 0: any.
     *
     * @param cause  id of a {@link DeadCause}
     * @param device device id
     * @param fromMs dead since then
     * @param toMs   dead until then
     * @param seq    one row
     */
    record DeadFilter(String sink, String reason, String cause, String device, long fromMs, long toMs, long seq) {
        /** Chooses all. */
        public static final DeadFilter ALL = new DeadFilter(null, null, null, null, 0, 0, 0);
    }

    /**
     * Dead letters that have the same cause: sink, reason, and error text apart from numbers and ids in it.
     *
     * @param id      8 hexadecimal digits, the same as long as sink, reason and text are
     * @param error   the text, {@code #} for what differs
     * @param samples some of their sequences, comma-separated
     */
    record DeadCause(String id, String sink, String reason, String error, long count, long firstAtMs, long lastAtMs, String samples) { }

    /** One dead letter; {@code deviceId} and {@code messageKey} are null if its row is gone. */
    record DeadLetter(String sink, long seq, String reason, String error, long attempts, long firstFailedAtMs, long deadAtMs,
            String deviceId, String messageKey, String cause) { }

    /** appended = acked + dead + discarded + backlog; anything but 0 in {@code unaccounted} is a defect of Caravan. */
    record LedgerRow(String sink, String log, boolean internal, long appended, long acked, long dead, long discarded, String discardedBy,
            long inflight, long backlog, long unaccounted) { }

    /** Sequences of a sink that are counted nowhere, twice, or not at all as they should be, and why that is known. */
    record Discrepancy(String sink, long firstSeq, long lastSeq, String what) { }

    /**
     * The log as a whole.
     *
     * @param rows     retained rows; exact while nothing but the oldest part of the log was deleted, else at most
     * @param queued   messages that wait for their commit
     * @param rejected messages kept in table rejected, ever
     */
    record LogStatus(String state, String reason, String file, String logId, long storeBytes, long walFileBytes, long diskFreeBytes,
            long diskBytes, long rows, long oldestSeq, long newestSeq, long oldestAtMs, long newestAtMs, long queued, long rejected,
            long openIncidents) { }

    /** Where a message is, for one sink: Enqueued, InFlight, Acked or Dead. */
    record Place(String sink, String status, String detail) { }

    /**
     * A message that was looked for.
     *
     * @param seq    0: it is not in the log, {@code note} says what is known
     * @param body   canonical JSON
     * @param intact whether the body is what was appended (CRC-32C)
     */
    record Message(long seq, String messageKey, String correlationId, String deviceId, String kind, String lane, long observedAtMs,
            long receivedAtMs, String contentType, String traceContext, String body, boolean intact, List<Place> places, String note) { }

    /** Damage to the store. {@code acknowledgedAtMs} 0: readiness is red for it. */
    record Incident(long id, String kind, long atMs, String file, long salvagedRows, long lostRows, String detail,
            long acknowledgedAtMs, String acknowledgedBy) { }

    /** Something that is not as it should be: {@code error} or {@code warning}, what about, what is wrong, what to do. */
    record Finding(String severity, String subject, String what, String advice) { }

    /**
     * What a check of the store found.
     *
     * @param counts   what was looked at, {@code name=value, ...}
     * @param findings at most 100
     * @param more     findings that were left out
     */
    record Verification(boolean ok, String counts, List<Finding> findings, long more) { }

    /** @return all sinks, by name */
    List<SinkStatus> sinks();

    /** The sink gets nothing until {@link #resume}; a batch on its way is finished. */
    void pause(String sink);

    /** Goes on now, also where the sink is failed or waits for its next attempt. */
    void resume(String sink);

    /**
     * Moves the cursor; also mends ranges and counts of the sink that contradict each other. The sink gets every retained row from {@code to} on, and nothing before it that it has not got yet
     * (counted as discarded for reason {@code operator}). Dead letters stay.
     *
     * @param to {@code oldest}, {@code now} or a sequence
     */
    Change reset(String sink, String to, boolean dryRun);

    /** Forgets the sink, its backlog, dead letters and counts, so that its rows can be deleted. Only while its route is not there. */
    Change remove(String sink, boolean dryRun);

    /** @param filter of dead letters; at most 500 causes, the rest is in one with the id {@code -} */
    List<DeadCause> deadCauses(DeadFilter filter);

    /** @param limit most rows */
    List<DeadLetter> deadLetters(DeadFilter filter, int limit);

    /**
     * Writes dead letters as NDJSON: sink, seq, reason, error, attempts, first_failed_at_ms, dead_at_ms and {@code row}, the
     * line a sink gets (null if the row is gone; {@code body_base64} instead if it is damaged).
     *
     * @param limit most lines
     * @return lines written
     */
    long deadExport(DeadFilter filter, OutputStream out, long limit) throws IOException;

    /** Delivers dead letters again, to the sink that failed only. */
    Change requeue(DeadFilter filter, boolean dryRun);

    /**
     * Gives dead letters up: counted as discarded for reason {@code operator}.
     *
     * @param note why, kept with each
     */
    Change discard(DeadFilter filter, String note, boolean dryRun);

    /** State, sizes and ends of the log. */
    LogStatus status();

    /** @return per sink, by name */
    List<LedgerRow> ledger();

    /**
     * Names sequences that are not counted as they should be.
     *
     * @param deep looks at every row of the log for holes, instead of only where the ledger does not add up
     */
    List<Discrepancy> discrepancies(boolean deep);

    /**
     * Finds a message.
     *
     * @param what sequence, message key or correlation id
     * @param scan for a correlation id: read the whole log where the clock was set and the time in the id does not help
     */
    Message peek(String what, boolean scan);

    /**
     * Checks the checksums of every row, and that cursors, ledger and dead letters fit together; reads all of the log.
     *
     * @param whole has SQLite check a large log's structure too, in one read transaction
     */
    Verification verify(boolean whole);

    /** Deletes what nobody needs any more now, and gives the room back to the file system. @return what was done */
    String compact();

    /** Delivers retained rows again, to one sink. */
    Change replay(String sink, long firstSeq, long lastSeq, boolean dryRun);

    /** {@link #replay} of what was received from {@code fromMs} to before {@code toMs} (0: until now). */
    Change replayTime(String sink, long fromMs, long toMs, boolean dryRun);

    /** @return damage to the store, newest first */
    List<Incident> incidents();

    /**
     * Says that all incidents there are so far are known, so that readiness is green again.
     *
     * @param by who says so
     * @return how many were not acknowledged yet
     */
    int acknowledge(String by);

    /** @return what is wrong with the log and its sinks, the worst first */
    List<Finding> diagnose();
}
