// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.Predicate;

/** The bean {@code audit} as its readers see it. Thread-safe; reading does not hold up writing. */
public interface AuditTrail extends Audit {

    /**
     * One line of the log.
     *
     * @param seq     counts up by one through all files; 0 where the line cannot be read
     * @param time    when it was recorded, ISO 8601 in UTC
     * @param actor   user of the shell session, else the container itself
     * @param details as given to {@link Audit#record}
     * @param prev    SHA-256 of the line before, in hex; zeros in the first
     */
    record Entry(long seq, String time, String actor, String action, String subject, String outcome, Map<String, String> details, String prev) { }

    /**
     * What reading all files again showed.
     *
     * @param first    sequence of the oldest entry that is here; larger than 1: earlier files were moved away
     * @param head     SHA-256 of the last line: who keeps it elsewhere can prove later that nothing before it was altered
     * @param torn     lines that a crash or a full disk cut off, with their place; the chain goes on behind them
     * @param problems where the chain breaks, with file and line; empty: nothing was altered, inserted or taken out
     */
    record Verification(int files, long bytes, long entries, long first, long last, String head, List<String> torn, List<String> problems) { }

    /**
     * Reads all files, the oldest entry first.
     *
     * @throws java.io.UncheckedIOException a file cannot be read
     */
    void read(Predicate<Entry> wanted, Consumer<Entry> consumer);

    /**
     * Computes the chain anew, and compares its end with what this process has written.
     *
     * @throws java.io.UncheckedIOException a file cannot be read
     */
    Verification verify();
}
