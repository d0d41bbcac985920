// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import java.util.List;
import org.apache.karaf.shell.api.action.lifecycle.Reference;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.CommandLine;
import org.apache.karaf.shell.api.console.Completer;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** Completes the ids of what runs and can be cancelled. */
@Service
public final class TaskCompleter implements Completer {

    @Reference
    Caravan caravan;

    @Override
    public int complete(Session session, CommandLine line, List<String> candidates) {
        StringsCompleter completer = new StringsCompleter();
        caravan.tasks().list().stream().filter(s -> s.endedAtMs() == 0 && s.cancellable()).forEach(s -> completer.getStrings().add(s.id()));
        return completer.complete(session, line, candidates);
    }
}
