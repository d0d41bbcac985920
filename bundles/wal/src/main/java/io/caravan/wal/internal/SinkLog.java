// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.wal.Row;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import javax.sql.DataSource;

/** The log that sinks read: table wal of a gateway, or table inbox of the cloud. Thread-safe. */
interface SinkLog {
    /**
     * A row as it was read.
     *
     * @param fault null: it is as it was written
     */
    record Found(Row row, String fault) { }

    DataSource reader();

    DataSource writer();

    /** @param action is called after the store was repaired; what is known of its tables may be wrong then */
    AutoCloseable onReopened(Runnable action);

    /** @return whether this process may deliver to the sink now; another one has it otherwise */
    boolean mine(String sink) throws SQLException;

    /** Gives up what {@link #mine} took, for all sinks. */
    void release();

    /** Last sequence of the log that can be read. */
    long newest(Connection reader) throws SQLException;

    /** When the first row was received that the open range of the sink has not acked; 0: there is none. */
    long waitingSince(Connection reader, String sink) throws SQLException;

    /** Enters a sink that is not known yet, with one range that is open at the end, in the caller's transaction. */
    void register(Connection writer, String sink, boolean now) throws SQLException;

    /** Rows with seq greater than the first and at most the second parameter, in order. */
    String rows();

    /** @param historical the range is one: its rows are flagged */
    Found row(ResultSet row, boolean historical) throws SQLException;

    /** @return whether a sequence that cannot be read was lost; otherwise it never was, or is not for sinks */
    boolean dense();

    /** Whose rows these are, as a folder of an object store: {@code gateway=<id>/}; empty: many gateways'. */
    String place();

    /** Sinks as they are: name, state, reason, last_error, attempts, backlog, dead, when the oldest row they wait for came (or 0). */
    String report();
}
