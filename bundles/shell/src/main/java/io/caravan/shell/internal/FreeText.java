// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.util.List;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.Candidate;
import org.apache.karaf.shell.api.console.CommandLine;
import org.apache.karaf.shell.api.console.Completer;
import org.apache.karaf.shell.api.console.Session;

/**
 * Of words that only who types them can know: offers nothing, and takes any. Karaf completes nothing behind a word that its
 * completer does not know; it asks with that word alone, where a line has the command before it.
 */
@Service
public final class FreeText implements Completer {

    @Override
    public int complete(Session session, CommandLine line, List<String> candidates) {
        if (alone(line)) {
            candidates.add(line.getCursorArgument());
        }
        return 0;
    }

    @Override
    public void completeCandidates(Session session, CommandLine line, List<Candidate> candidates) {
        if (alone(line)) {
            candidates.add(new Candidate(line.getCursorArgument(), false));
        }
    }

    static boolean alone(CommandLine line) {
        return line.getArguments().length == 1;
    }
}
