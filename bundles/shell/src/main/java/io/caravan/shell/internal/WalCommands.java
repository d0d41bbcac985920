// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.wal.Recovery;
import io.caravan.wal.Recovery.Change;
import io.caravan.wal.Recovery.Discrepancy;
import io.caravan.wal.Recovery.Incident;
import io.caravan.wal.Recovery.LedgerRow;
import io.caravan.wal.Recovery.LogStatus;
import io.caravan.wal.Recovery.Message;
import io.caravan.wal.Recovery.Place;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.camel.util.json.JsonObject;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** {@code wal:*}: the log. */
public final class WalCommands {

    private static final List<String> LEDGER = List.of("Sink", "Appended", "Acked", "Dead", "Discarded", "Backlog", "Unaccounted");

    private WalCommands() {
    }

    private static Object[] row(Object record) {
        LedgerRow l = (LedgerRow) record;
        return new Object[] {l.sink(), l.appended(), l.acked(), l.dead(), l.discardedBy().isEmpty() ? "0" : l.discarded() + " (" + l.discardedBy() + ")",
            l.backlog(), l.unaccounted()};
    }

    @Service
    @Command(scope = "wal", name = "status", description = "Show the log's state, size and ends, and each sink's ledger",
            detailedDescription = "Examples:\n  wal:status\n  wal:status --json")
    public static final class Status extends GatewayCommand {
        @Override
        Object run() {
            Recovery recovery = recovery();
            LogStatus s = recovery.status();
            if (json) {
                JsonObject status = (JsonObject) Output.jsonOf(s);
                status.put("ledger", Output.jsonOf(recovery.ledger()));
                say(status.toJson());
                return null;
            }
            say(s.state() + (s.reason().isEmpty() ? "" : ": " + s.reason()));
            say(s.file() + ", log " + s.logId());
            say(Output.bytes(s.storeBytes()) + " store, " + Output.bytes(s.walFileBytes()) + " -wal file, " + Output.bytes(s.diskFreeBytes()) + " of "
                    + Output.bytes(s.diskBytes()) + " free");
            say(s.rows() + " rows, " + (s.rows() == 0 ? "the last sequence was " + s.newestSeq()
                    : "from " + s.oldestSeq() + " (" + Output.time(s.oldestAtMs()) + ") to " + s.newestSeq() + " (" + Output.time(s.newestAtMs()) + ")"));
            say(s.queued() + " wait for their commit, " + s.rejected() + " were rejected"
                    + (s.openIncidents() == 0 ? "" : ", " + s.openIncidents() + " incidents are not acknowledged: wal:incidents"));
            say("");
            table(recovery.ledger(), "No sinks", LEDGER, WalCommands::row);
            return null;
        }
    }

    @Service
    @Command(scope = "wal", name = "ledger", description = "Show per sink that appended = acked + dead + discarded + backlog, and name sequences that are not accounted for",
            detailedDescription = "Examples:\n  wal:ledger\n  wal:ledger --deep")
    public static final class Ledger extends GatewayCommand {
        @Option(name = "--deep", description = "Look for holes in the whole log")
        boolean deep;

        @Override
        Object run() {
            List<LedgerRow> ledger = recovery().ledger();
            List<Discrepancy> discrepancies = recovery().discrepancies(deep);
            if (json) {
                say(Output.object("ledger", Output.jsonOf(ledger), "discrepancies", Output.jsonOf(discrepancies)).toJson());
                return null;
            }
            table(ledger, "No sinks", LEDGER, WalCommands::row);
            say("");
            if (discrepancies.isEmpty()) {
                say("Every sequence is accounted for" + (deep ? "." : "; --deep looks at each row of the log too."));
                return null;
            }
            table(discrepancies, "", List.of("Sink", "Sequences", "What"), r -> row((Discrepancy) r));
            say("This is a defect: gateway:bundle collects what a report needs.");
            return null;
        }

        static Object[] row(Discrepancy d) {
            return new Object[] {d.sink(), d.firstSeq() == 0 ? "" : d.firstSeq() == d.lastSeq() ? d.firstSeq() : d.firstSeq() + "-" + d.lastSeq(), d.what()};
        }
    }

    @Service
    @Command(scope = "wal", name = "peek", description = "Show one message and where it is for each sink",
            detailedDescription = "Examples:\n  wal:peek 4711\n  wal:peek sim-1/b7/42 --json")
    public static final class Peek extends GatewayCommand {
        @Argument(index = 0, name = "what", required = true, description = "Sequence, message key (device/boot/number) or correlation id")
        @Completion(FreeText.class)
        String what;

        @Option(name = "--scan", description = "Read the whole log for a correlation id, where the clock was set")
        boolean scan;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() {
            Message m = recovery().peek(what, scan);
            if (json) {
                say(Output.jsonOf(m).toJson());
                return null;
            }
            if (!m.note().isEmpty()) {
                say(m.note());
            }
            if (m.seq() > 0) {
                say("seq " + m.seq() + ", " + m.kind() + " of " + m.deviceId() + ", key " + m.messageKey());
                say("correlation id " + m.correlationId() + (m.traceContext() == null ? "" : ", trace " + m.traceContext()));
                say("observed " + Output.time(m.observedAtMs()) + ", received " + Output.time(m.receivedAtMs()) + ", lane " + m.lane() + ", " + m.contentType());
            }
            if (m.body() != null) {
                say(m.body());
            }
            if (m.seq() > 0) {
                table(m.places(), "No sink", List.of("Sink", "Status", "Detail"), r -> row((Place) r));
            }
            return null;
        }

        static Object[] row(Place p) {
            return new Object[] {p.sink(), p.status(), Output.text(p.detail())};
        }
    }

    @Service
    @Command(scope = "wal", name = "verify", description = "Check the file and each row; reads all of it",
            detailedDescription = "Examples:\n  wal:verify\n  wal:verify --whole --json")
    public static final class Verify extends GatewayCommand {
        @Option(name = "--whole", description = "Have SQLite check a large log's structure too; the -wal file cannot shrink meanwhile")
        boolean whole;

        @Override
        Object run() {
            Recovery recovery = recovery();
            Recovery.Verification result = ProgressLine.run(caravan, session, json, () -> recovery.verify(whole));
            if (json) {
                say(Output.jsonOf(result).toJson());
                return null;
            }
            table(result.findings(), "Nothing is wrong", Output.FINDING, Output::finding);
            say((result.more() > 0 ? "And " + result.more() + " more. " : "") + result.counts());
            return null;
        }
    }

    @Service
    @Command(scope = "wal", name = "compact", description = "Delete what nobody needs any more now, and give the room back to the disk",
            detailedDescription = "Example:\n  wal:compact")
    public static final class Compact extends GatewayCommand {
        @Override
        Object run() {
            Recovery recovery = recovery();
            String result = ProgressLine.run(caravan, session, json, recovery::compact);
            say(json ? Output.object("result", result).toJson() : result);
            return null;
        }
    }

    @Service
    @Command(scope = "wal", name = "replay", description = "Deliver retained rows again, to one sink",
            detailedDescription = "Examples:\n  wal:replay kafka --from 2h\n  wal:replay kafka --seq 100-200 --yes")
    public static final class Replay extends GatewayCommand {
        private static final Pattern SEQS = Pattern.compile("(\\d{1,18})(?:-(\\d{1,18}))?");

        @Argument(index = 0, name = "sink", required = true, description = "The sink's name, without sink-")
        @Completion(SinkCompleter.class)
        String sink;

        @Option(name = "--from", description = "Received since: a time (2026-11-21T10:00:00Z) or an age (90s, 15m, 2h, 3d)")
        @Completion(value = StringsCompleter.class, values = {"15m", "2h", "24h", "7d"})
        String from;

        @Option(name = "--to", description = "Received before: a time or an age; without it until now")
        @Completion(value = StringsCompleter.class, values = {"15m", "2h", "24h", "7d"})
        String to;

        @Option(name = "--seq", description = "Sequences: 17 or 100-200")
        @Completion(FreeText.class)
        String seq;

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
            // Now, so that what is asked about and what is done are the same.
            long now = System.currentTimeMillis();
            confirmed(yes, "wal:replay", () -> Output.replay(replay(now, true), true), () -> {
                Change change = ProgressLine.run(caravan, session, json, () -> replay(now, false));
                change(change, Output.replay(change, false));
            });
            return null;
        }

        private Change replay(long now, boolean dryRun) {
            if ((seq == null) == (from == null) || seq != null && to != null) {
                throw new IllegalArgumentException("What is to be delivered again? Give --from (and --to), or --seq");
            }
            if (from != null) {
                return recovery().replayTime(sink, Times.parse("--from", from, now), to == null ? 0 : Times.parse("--to", to, now), dryRun);
            }
            long[] range = sequences(seq);
            return recovery().replay(sink, range[0], range[1], dryRun);
        }

        static long[] sequences(String text) {
            Matcher matcher = SEQS.matcher(text);
            if (!matcher.matches()) {
                throw new IllegalArgumentException("--seq [" + text + "] must be one sequence like 17 or two like 100-200");
            }
            long first = Long.parseLong(matcher.group(1));
            return new long[] {first, matcher.group(2) == null ? first : Long.parseLong(matcher.group(2))};
        }
    }

    @Service
    @Command(scope = "wal", name = "incidents", description = "List damage to the store",
            detailedDescription = "Examples:\n  wal:incidents\n  wal:incidents --json")
    public static final class Incidents extends GatewayCommand {
        @Override
        Object run() {
            table(recovery().incidents(), "No incidents", List.of("Id", "Kind", "At", "Salvaged", "Lost", "Acknowledged", "File", "Detail"), r -> row((Incident) r));
            return null;
        }

        static Object[] row(Incident i) {
            return new Object[] {i.id(), i.kind(), Output.time(i.atMs()), i.salvagedRows(), i.lostRows(),
                i.acknowledgedAtMs() == 0 ? "no" : i.acknowledgedBy() + ", " + Output.time(i.acknowledgedAtMs()), Output.text(i.file()), i.detail()};
        }
    }

    @Service
    @Command(scope = "wal", name = "acknowledge", description = "Say that all incidents so far are known, so that the gateway is ready again",
            detailedDescription = "Examples:\n  wal:acknowledge\n  wal:acknowledge --by anna")
    public static final class Acknowledge extends GatewayCommand {
        @Option(name = "--by", description = "Who says so; by default the shell's user")
        @Completion(UserCompleter.class)
        String by;

        @Override
        Object run() {
            Object user = session.get("USER");
            String who = by != null ? by : user == null ? "shell" : user.toString();
            int count = recovery().acknowledge(who);
            say(json ? Output.object("acknowledged", count, "by", who).toJson() : count + " incidents are acknowledged by " + who + ".");
            return null;
        }
    }
}
