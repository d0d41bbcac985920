// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.wal.Recovery.SinkStatus;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** {@code sink:*}. */
public final class SinkCommands {

    private SinkCommands() {
    }

    @Service
    @Command(scope = "sink", name = "list", description = "List the sinks: state, backlog, dead letters, why one waits",
            detailedDescription = "Examples:\n  sink:list\n  sink:list --json")
    public static final class Listing extends GatewayCommand {
        @Override
        Object run() {
            long now = System.currentTimeMillis();
            table(recovery().sinks(), "No sinks", List.of("Sink", "State", "Backlog", "Lag", "In flight", "Acked", "Dead", "Discarded", "Why"), r -> row((SinkStatus) r, now));
            return null;
        }

        static Object[] row(SinkStatus s, long now) {
            return new Object[] {s.name(), Paint.of(s.state()).cell(s.installed() ? s.state() : s.state() + ", absent"), s.backlog(), s.unackedAgeMs() == 0 ? "" : Output.age(s.unackedAgeMs()),
                s.inflight(), s.acked(), s.dead(), s.discarded(), why(s, now)};
        }

        private static String why(SinkStatus s, long now) {
            String next = s.nextAttemptAtMs() == 0 ? "" : s.nextAttemptAtMs() <= now ? ", next now" : ", next in " + Output.age(s.nextAttemptAtMs() - now);
            String attempts = s.attempts() == 0 && next.isEmpty() ? "" : s.attempts() + " attempts" + next;
            return Stream.of(Output.text(s.reason()), attempts, Output.text(s.lastError())).filter(t -> !t.isEmpty()).collect(Collectors.joining("; "));
        }
    }

    @Service
    @Command(scope = "sink", name = "pause", description = "Stop delivering to a sink; its rows are kept",
            detailedDescription = "Example:\n  sink:pause kafka")
    public static final class Pause extends GatewayCommand {
        @Argument(index = 0, name = "sink", required = true, description = "The sink's name, without sink-")
        @Completion(SinkCompleter.class)
        String sink;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() {
            recovery().pause(sink);
            say(json ? Output.object("sink", sink, "state", "paused").toJson() : "Sink " + sink + " is paused, its rows are kept. sink:resume " + sink + " goes on.");
            return null;
        }
    }

    @Service
    @Command(scope = "sink", name = "resume", description = "Deliver to a sink again, or try a failing one at once",
            detailedDescription = "Example:\n  sink:resume kafka")
    public static final class Resume extends GatewayCommand {
        @Argument(index = 0, name = "sink", required = true, description = "The sink's name, without sink-")
        @Completion(SinkCompleter.class)
        String sink;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() {
            recovery().resume(sink);
            say(json ? Output.object("sink", sink, "state", "running").toJson() : "Sink " + sink + " is running. sink:list shows how it gets on.");
            return null;
        }
    }

    @Service
    @Command(scope = "sink", name = "reset", description = "Move a sink's cursor: everything retained before it that is not delivered yet is "
            + "discarded, everything behind it delivered (again)",
            detailedDescription = "Examples:\n  sink:reset kafka oldest\n  sink:reset kafka now --yes")
    public static final class Reset extends GatewayCommand {
        @Argument(index = 0, name = "sink", required = true, description = "The sink's name, without sink-")
        @Completion(SinkCompleter.class)
        String sink;

        @Argument(index = 1, name = "to", required = true, description = "oldest: all that is retained, again; now: discards the backlog; or a sequence")
        @Completion(value = StringsCompleter.class, values = {"oldest", "now"})
        String to;

        @Option(name = "--yes", aliases = "-y", description = "Do not ask")
        boolean yes;

        @Argument(index = 2, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() {
            confirmed(yes, "sink:reset", () -> Output.reset(recovery().reset(sink, to, true), true),
                    () -> {
                        var change = ProgressLine.run(caravan, session, json, () -> recovery().reset(sink, to, false));
                        change(change, Output.reset(change, false));
                    });
            return null;
        }
    }

    @Service
    @Command(scope = "sink", name = "remove", description = "Forget a sink whose route is not installed any more, so that its rows can be deleted",
            detailedDescription = "Example:\n  sink:remove kafka --yes")
    public static final class Remove extends GatewayCommand {
        @Argument(index = 0, name = "sink", required = true, description = "The sink's name, without sink-")
        @Completion(SinkCompleter.class)
        String sink;

        @Option(name = "--yes", aliases = "-y", description = "Do not ask")
        boolean yes;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() {
            confirmed(yes, "sink:remove", () -> "Sink " + sink + ": " + recovery().remove(sink, true).note() + ".",
                    () -> {
                        var change = recovery().remove(sink, false);
                        change(change, "Sink " + sink + " is removed: " + change.note() + ".");
                    });
            return null;
        }
    }
}
