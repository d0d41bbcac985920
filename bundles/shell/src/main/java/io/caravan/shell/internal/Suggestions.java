// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import java.util.Collection;
import java.util.List;
import org.apache.karaf.shell.api.action.lifecycle.Reference;
import org.apache.karaf.shell.api.console.CommandLine;
import org.apache.karaf.shell.api.console.Completer;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** Offers words, and takes others too ({@link FreeText}). */
abstract class Suggestions implements Completer {

    @Reference
    Caravan caravan;

    /** @return what may stand here; empty where it cannot be known now */
    abstract Collection<String> words();

    @Override
    public int complete(Session session, CommandLine line, List<String> candidates) {
        if (FreeText.alone(line)) {
            candidates.add(line.getCursorArgument());
            return 0;
        }
        StringsCompleter completer = new StringsCompleter();
        try {
            completer.getStrings().addAll(words());
        } catch (RuntimeException e) {
            // A key press is no place to say that something is not started.
            return -1;
        }
        return completer.complete(session, line, candidates);
    }
}
