// SPDX-License-Identifier: Apache-2.0
package io.caravan.wal.internal;

import io.caravan.runtime.Task;
import io.caravan.wal.Recovery.Finding;
import io.caravan.wal.Recovery.Verification;
import java.sql.SQLException;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;

/** What the recovery tools hand on to the parts of a gateway's store that know how. */
final class RecoveryParts implements RecoveryTools.Parts {
    private final Database database;
    private final Sinks sinks;
    private final Retention retention;

    RecoveryParts(Database database, Sinks sinks, Retention retention) {
        this.database = database;
        this.sinks = sinks;
        this.retention = retention;
    }

    @Override
    public Set<String> installed() {
        return sinks.installed();
    }

    @Override
    public void wake(String sink) {
        sinks.wake(sink);
    }

    @Override
    public Verification verify(boolean whole, Task task) throws SQLException {
        Verifier.Report report = Verifier.run(database, whole, task);
        List<Finding> findings = report.findings().stream().map(f -> new Finding("error", f.where(), f.what(), f.todo())).toList();
        String counts = report.counts().entrySet().stream().map(Object::toString).collect(Collectors.joining(", "));
        return new Verification(report.ok(), counts, findings, report.more());
    }

    @Override
    public String compact(Task task) throws SQLException {
        Retention.Result result = retention.compact(task);
        return result.rowsDeleted() + " rows deleted, the store has " + result.bytesAfter() + " bytes, it had " + result.bytesBefore();
    }

    @Override
    public int acknowledge(String by) throws SQLException {
        return database.incidents().acknowledge(by);
    }
}
