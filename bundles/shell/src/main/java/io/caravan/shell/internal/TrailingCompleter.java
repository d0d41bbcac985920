// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.util.ArrayList;
import java.util.List;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.api.console.Candidate;
import org.apache.karaf.shell.api.console.Command;
import org.apache.karaf.shell.api.console.CommandLine;
import org.apache.karaf.shell.api.console.Completer;
import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.support.parsing.CommandLineImpl;

/** Completes the options of a command behind its arguments, where Karaf knows none; their values it completes itself. */
@Service
public final class TrailingCompleter implements Completer {

    @Override
    public int complete(Session session, CommandLine line, List<String> candidates) {
        List<Candidate> all = new ArrayList<>();
        completeCandidates(session, line, all);
        all.forEach(c -> candidates.add(c.value()));
        return 0;
    }

    @Override
    public void completeCandidates(Session session, CommandLine line, List<Candidate> candidates) {
        if (FreeText.alone(line)) {
            candidates.add(new Candidate(line.getCursorArgument(), false));
            return;
        }
        String[] name = session.resolveCommand(line.getArguments()[0]).split(":", 2);
        Command command = name.length < 2 ? null : session.getRegistry().getCommand(name[0], name[1]);
        if (command != null) {
            String[] words = {line.getArguments()[0], "-"};
            String text = words[0] + " -";
            command.getCompleter(false).completeCandidates(session, new CommandLineImpl(words, 1, 1, text.length(), text), candidates);
        }
    }
}
