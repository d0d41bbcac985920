// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import io.caravan.runtime.Check;
import io.caravan.wal.Recovery;
import io.caravan.wal.Recovery.Finding;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.FileStore;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import javax.management.JMException;
import javax.management.MBeanServer;
import javax.management.ObjectName;

/** Findings of the whole container: readiness, route files, failed exchanges, disk, and what the log says of itself. */
final class Diagnosis {

    /** Less than this of a disk is a finding. */
    private static final double FREE = 0.1;

    private final List<Finding> findings = new ArrayList<>();

    private Diagnosis() {
    }

    static List<Finding> of(Caravan caravan, boolean deep) {
        Diagnosis diagnosis = new Diagnosis();
        caravan.checks().forEach(diagnosis::check);
        caravan.bean("recovery", Recovery.class).ifPresent(recovery -> {
            diagnosis.findings.addAll(recovery.diagnose());
            if (deep) {
                diagnosis.findings.addAll(recovery.verify(false).findings());
            }
        });
        diagnosis.failedExchanges(caravan);
        diagnosis.disk(Path.of(System.getProperty("karaf.data", ".")));
        diagnosis.findings.sort(Comparator.comparing(Finding::severity));
        return diagnosis.findings;
    }

    private void check(Check check) {
        // The log and its sinks say it themselves, with more advice.
        if (!check.up() && !check.name().equals("wal") && !check.name().startsWith("sink:")) {
            findings.add(new Finding(check.counts() ? "error" : "warning", check.name(), check.message(), check.todo().isEmpty() ? advice(check.name()) : check.todo()));
        }
    }

    static String advice(String check) {
        if (check.equals("config")) {
            return "mend the file; the old values are in force";
        }
        if (check.startsWith("route:")) {
            return "route:list tells state and cause; mend or delete the file in deploy/, or look after what it connects to";
        }
        return check.startsWith("module:") ? "mend what the message names; it is tried again by itself" : "see /readyz and the log";
    }

    /** Routes whose exchanges ended failed, by Camel's own count. */
    private void failedExchanges(Caravan caravan) {
        try {
            MBeanServer server = ManagementFactory.getPlatformMBeanServer();
            for (ObjectName name : server.queryNames(new ObjectName("org.apache.camel:type=routes,*"), null)) {
                if (caravan.context().getManagementName() != null && !String.valueOf(server.getAttribute(name, "CamelManagementName")).equals(caravan.context().getManagementName())) {
                    continue;
                }
                long failed = ((Number) server.getAttribute(name, "ExchangesFailed")).longValue();
                if (failed > 0) {
                    findings.add(new Finding("warning", "route " + server.getAttribute(name, "RouteId"), failed + " exchanges failed since it started, the last at "
                            + server.getAttribute(name, "LastExchangeFailureTimestamp"), "look for the route's name in the log at that time (log:display)"));
                }
            }
        } catch (JMException e) {
            findings.add(new Finding("warning", "routes", "their counts cannot be read: " + e, "see the log"));
        }
    }

    private void disk(Path data) {
        try {
            FileStore store = Files.getFileStore(data);
            long free = store.getUsableSpace();
            if (free < FREE * store.getTotalSpace()) {
                findings.add(new Finding("warning", "disk of " + data, Output.bytes(free) + " of " + Output.bytes(store.getTotalSpace()) + " are free",
                        "free space; wal:compact gives back what the log does not need"));
            }
        } catch (IOException e) {
            findings.add(new Finding("warning", "disk of " + data, "does not tell its size: " + e, "see the log"));
        }
    }
}
