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

/** Completes what the device before the cursor can do. */
@Service
public final class CommandNameCompleter implements Completer {

    @Reference
    Caravan caravan;

    @Override
    public int complete(Session session, CommandLine line, List<String> candidates) {
        int at = line.getCursorArgumentIndex();
        if (at == 0) {
            // Karaf asks whether a word before the cursor may stand there: any may, the device will say.
            candidates.add(line.getCursorArgument());
            return 0;
        }
        StringsCompleter completer = new StringsCompleter();
        try {
            CommandSide side = CommandSide.of(caravan);
            completer.getStrings().addAll(side.names(side.target(line.getArguments()[at - 1])));
        } catch (IllegalStateException | IllegalArgumentException e) {
            // Not started, or no such device: nothing to complete, and a key press is no place to say so.
            return -1;
        }
        return completer.complete(session, line, candidates);
    }
}
