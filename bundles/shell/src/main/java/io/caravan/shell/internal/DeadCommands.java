// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.wal.Recovery.DeadCause;
import io.caravan.wal.Recovery.DeadFilter;
import io.caravan.wal.Recovery.DeadLetter;
import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.FileCompleter;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** {@code dead:*}: records that a sink will not take. */
public final class DeadCommands {

    private DeadCommands() {
    }

    /** The options that choose dead letters; all must hold. */
    abstract static class Chosen extends GatewayCommand {
        @Option(name = "--sink", description = "Of this sink")
        @Completion(SinkCompleter.class)
        String sink;

        @Option(name = "--cause", description = "Of this cause, an id of dead:list")
        @Completion(CauseCompleter.class)
        String cause;

        @Option(name = "--device", description = "Of this device")
        @Completion(TargetCompleter.class)
        String device;

        @Option(name = "--from", description = "Dead since: a time (2026-11-21T10:00:00Z) or an age (90s, 15m, 2h, 3d)")
        @Completion(value = StringsCompleter.class, values = {"15m", "2h", "24h", "7d"})
        String from;

        @Option(name = "--to", description = "Dead until: a time or an age")
        @Completion(value = StringsCompleter.class, values = {"15m", "2h", "24h", "7d"})
        String to;

        @Option(name = "--seq", description = "This sequence")
        @Completion(FreeText.class)
        long seq;

        /** null: any reason. */
        String failedFor() {
            return null;
        }

        final DeadFilter filter() {
            long now = System.currentTimeMillis();
            return new DeadFilter(sink, failedFor(), cause, device, from == null ? 0 : Times.parse("--from", from, now), to == null ? 0 : Times.parse("--to", to, now), seq);
        }

        final void mustChoose(boolean all) {
            if (!all && filter().equals(DeadFilter.ALL)) {
                throw new IllegalArgumentException("Nothing is chosen: give --sink, --cause, --device, --from, --to or --seq, or --all; dead:list shows what is there");
            }
            if (all && !filter().equals(DeadFilter.ALL)) {
                throw new IllegalArgumentException("--all stands together with another choice: give one of them");
            }
        }
    }

    /** Where {@code --reason} is free for the sink's reason. */
    abstract static class ChosenByReason extends Chosen {
        @Option(name = "--reason", description = "That failed for this reason")
        @Completion(value = StringsCompleter.class, values = {"too_large", "refused", "corrupt"})
        String reason;

        @Override
        String failedFor() {
            return reason;
        }
    }

    @Service
    @Command(scope = "dead", name = "list", description = "List dead letters by cause, or one by one with --rows",
            detailedDescription = "Examples:\n  dead:list\n  dead:list --sink kafka --rows --limit 20")
    public static final class Listing extends ChosenByReason {
        @Option(name = "--rows", description = "One by one")
        boolean rows;

        @Option(name = "--limit", description = "Most rows")
        @Completion(value = StringsCompleter.class, values = {"20", "100", "1000"})
        int limit = 100;

        @Override
        Object run() {
            if (rows || seq > 0) {
                table(recovery().deadLetters(filter(), limit), "No dead letters", List.of("Sink", "Seq", "Reason", "Cause", "Device", "Attempts", "Dead since", "Error"),
                        r -> row((DeadLetter) r));
            } else {
                table(recovery().deadCauses(filter()), "No dead letters", List.of("Cause", "Sink", "Reason", "Count", "First", "Last", "Sequences", "Error"),
                        r -> row((DeadCause) r));
            }
            return null;
        }

        static Object[] row(DeadCause c) {
            return new Object[] {c.id(), c.sink(), c.reason(), c.count(), Output.time(c.firstAtMs()), Output.time(c.lastAtMs()),
                c.samples() + (c.count() > c.samples().chars().filter(x -> x == ',').count() + 1 ? ",..." : ""), c.error()};
        }

        static Object[] row(DeadLetter d) {
            return new Object[] {d.sink(), d.seq(), d.reason(), d.cause(), d.messageKey() == null ? "(row is gone)" : d.deviceId(), d.attempts(), Output.time(d.deadAtMs()), d.error()};
        }
    }

    @Service
    @Command(scope = "dead", name = "export", description = "Write dead letters as NDJSON with reason, error and record",
            detailedDescription = "Examples:\n  dead:export /tmp/dead.ndjson --sink kafka\n  dead:export --cause 0a1b2c3d --limit 10")
    public static final class Export extends ChosenByReason {
        @Argument(index = 0, name = "file", description = "A new file; without it they are printed")
        @Completion(FileCompleter.class)
        String file;

        @Option(name = "--limit", description = "Most records")
        @Completion(value = StringsCompleter.class, values = {"20", "100", "1000"})
        long limit = Long.MAX_VALUE;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() throws IOException {
            if (file == null) {
                recovery().deadExport(filter(), out(), limit);
                out().flush();
                return null;
            }
            Path path = Path.of(file).toAbsolutePath();
            long lines;
            try (OutputStream out = new BufferedOutputStream(Files.newOutputStream(Output.newFile(path)))) {
                var recovery = recovery();
                lines = ProgressLine.run(caravan, session, json, () -> recovery.deadExport(filter(), out, limit));
            } catch (FileAlreadyExistsException e) {
                throw new IllegalArgumentException("file [" + path + "] is there already: name another one", e);
            }
            say(json ? Output.object("file", path.toString(), "records", lines).toJson() : lines + " dead letters are in " + path);
            return null;
        }
    }

    @Service
    @Command(scope = "dead", name = "requeue", description = "Deliver dead letters again, to the sink that refused them",
            detailedDescription = "Examples:\n  dead:requeue --cause 0a1b2c3d --yes\n  dead:requeue --sink kafka --from 2h")
    public static final class Requeue extends ChosenByReason {
        @Option(name = "--all", description = "All there are")
        boolean all;

        @Option(name = "--yes", aliases = "-y", description = "Do not ask")
        boolean yes;

        @Override
        Object run() {
            mustChoose(all);
            confirmed(yes, "dead:requeue", () -> Output.dead(recovery().requeue(filter(), true), "would be delivered again"),
                    () -> {
                        var change = ProgressLine.run(caravan, session, json, () -> recovery().requeue(filter(), false));
                        change(change, Output.dead(change, "are delivered again"));
                    });
            return null;
        }
    }

    @Service
    @Command(scope = "dead", name = "discard", description = "Give dead letters up; they are counted as discarded and not delivered any more",
            detailedDescription = "Example:\n  dead:discard --cause 0a1b2c3d --reason 'test data' --yes")
    public static final class Discard extends Chosen {
        @Option(name = "--reason", required = true, description = "Why they are given up, kept with each")
        @Completion(FreeText.class)
        String why;

        @Option(name = "--all", description = "All there are")
        boolean all;

        @Option(name = "--yes", aliases = "-y", description = "Do not ask")
        boolean yes;

        @Override
        Object run() {
            mustChoose(all);
            confirmed(yes, "dead:discard", () -> Output.dead(recovery().discard(filter(), why, true), "would be discarded"),
                    () -> {
                        var change = ProgressLine.run(caravan, session, json, () -> recovery().discard(filter(), why, false));
                        change(change, Output.dead(change, "are discarded"));
                    });
            return null;
        }
    }
}
