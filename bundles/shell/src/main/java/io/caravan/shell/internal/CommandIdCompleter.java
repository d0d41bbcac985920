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

/** Completes the ids of commands that have not ended. */
@Service
public final class CommandIdCompleter implements Completer {

    @Reference
    Caravan caravan;

    @Override
    public int complete(Session session, CommandLine line, List<String> candidates) {
        StringsCompleter completer = new StringsCompleter();
        CommandSide side = CommandSide.of(caravan);
        try {
            completer.getStrings().addAll(side.open());
        } catch (IllegalStateException e) {
            // Commands are not started: there is nothing to complete, and a key press is no place to say so.
            return -1;
        }
        return completer.complete(session, line, candidates);
    }
}
