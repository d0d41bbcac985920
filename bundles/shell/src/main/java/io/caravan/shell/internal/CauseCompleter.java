// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import io.caravan.wal.Recovery;
import java.util.Collection;
import java.util.List;
import org.apache.karaf.shell.api.action.lifecycle.Reference;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.CommandLine;
import org.apache.karaf.shell.api.console.Completer;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** Completes the causes of dead letters. */
@Service
public final class CauseCompleter implements Completer {

    @Reference
    Caravan caravan;

    @Override
    public int complete(Session session, CommandLine line, List<String> candidates) {
        StringsCompleter completer = new StringsCompleter();
        Collection<String> all = completer.getStrings();
        caravan.bean("recovery", Recovery.class).ifPresent(recovery -> recovery.deadCauses(io.caravan.wal.Recovery.DeadFilter.ALL).forEach(c -> all.add(c.id())));
        return completer.complete(session, line, candidates);
    }
}
