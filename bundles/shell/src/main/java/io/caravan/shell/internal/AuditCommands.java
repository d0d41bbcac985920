// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.AuditTrail;
import io.caravan.runtime.AuditTrail.Entry;
import io.caravan.runtime.AuditTrail.Verification;
import io.caravan.runtime.Caravan;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.TreeMap;
import java.util.function.Predicate;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** {@code audit:*}. */
public final class AuditCommands {

    private AuditCommands() {
    }

    static AuditTrail audit(Caravan caravan) {
        return caravan.bean("audit", AuditTrail.class).orElseThrow(() -> new IllegalStateException("This container has no audit log"));
    }

    @Service
    @Command(scope = "audit", name = "list", description = "List who did what, the newest last",
            detailedDescription = "Examples:\n  audit:list --from 2h\n  audit:list --action device --limit 20 --json")
    public static final class Listing extends GatewayCommand {
        @Option(name = "--from", description = "Not before this time: 2026-11-21T10:00:00Z, milliseconds since 1970, or an age like 2h")
        @Completion(value = StringsCompleter.class, values = {"15m", "2h", "24h", "7d"})
        String from;

        @Option(name = "--to", description = "Before this time")
        @Completion(value = StringsCompleter.class, values = {"15m", "2h", "24h", "7d"})
        String to;

        @Option(name = "--actor", description = "Only what this user did")
        @Completion(UserCompleter.class)
        String actor;

        @Option(name = "--action", description = "Only this action, or area: device.revoke, device")
        @Completion(value = StringsCompleter.class, values = {"config", "container", "device", "route", "shell", "user"})
        String action;

        @Option(name = "--subject", description = "Only what was done to this")
        @Completion(FreeText.class)
        String subject;

        @Option(name = "--limit", description = "At most so many, the newest; 0: all")
        @Completion(value = StringsCompleter.class, values = {"20", "100", "1000"})
        int limit = 200;

        @Argument(index = 0, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() {
            List<Entry> entries = select(audit(caravan), wanted(), limit);
            if (json) {
                JsonArray array = new JsonArray();
                entries.forEach(e -> {
                    JsonObject object = (JsonObject) Output.object("seq", e.seq(), "time", e.time(), "actor", e.actor(), "action", e.action(), "subject", e.subject(),
                            "outcome", e.outcome(), "details", new JsonObject(e.details()), "prev", e.prev());
                    array.add(object);
                });
                say(array.toJson());
                return null;
            }
            table(entries, "Nothing", List.of("Seq", "Time", "Who", "What", "To what", "Outcome", "Details"), r -> {
                Entry e = (Entry) r;
                return new Object[] {e.seq(), e.time(), e.actor(), e.action(), e.subject(), e.outcome(), details(e)};
            });
            return null;
        }

        private Predicate<Entry> wanted() {
            long now = System.currentTimeMillis();
            long begin = from == null ? Long.MIN_VALUE : Times.parse("--from", from, now);
            long end = to == null ? Long.MAX_VALUE : Times.parse("--to", to, now);
            return e -> (actor == null || e.actor().equals(actor)) && (subject == null || e.subject().equals(subject))
                    && (action == null || e.action().equals(action) || e.action().startsWith(action + "."))
                    && (from == null && to == null || within(e.time(), begin, end));
        }
    }

    static List<Entry> select(AuditTrail audit, Predicate<Entry> wanted, int limit) {
        Deque<Entry> newest = new ArrayDeque<>();
        audit.read(wanted, e -> {
            newest.add(e);
            if (limit > 0 && newest.size() > limit) {
                newest.remove();
            }
        });
        return new ArrayList<>(newest);
    }

    private static boolean within(String time, long begin, long end) {
        long at = Instant.parse(time).toEpochMilli();
        return at >= begin && at < end;
    }

    private static String details(Entry entry) {
        List<String> parts = new ArrayList<>();
        new TreeMap<>(entry.details()).forEach((name, value) -> parts.add(name + "=" + (value.length() > 60 ? value.substring(0, 60) + "..." : value)));
        String text = String.join(" ", parts);
        return text.length() > 120 ? text.substring(0, 120) + "... (--json)" : text;
    }

    @Service
    @Command(scope = "audit", name = "verify", description = "Compute the chain of the audit log anew and say where it breaks",
            detailedDescription = "Example:\n  audit:verify")
    public static final class Verify extends GatewayCommand {
        @Override
        Object run() {
            Verification v = audit(caravan).verify();
            if (json) {
                say(Output.object("ok", v.problems().isEmpty(), "files", v.files(), "bytes", v.bytes(), "entries", v.entries(), "first", v.first(), "last", v.last(),
                        "head", v.head(), "torn", new JsonArray(v.torn()), "problems", new JsonArray(v.problems())).toJson());
            } else {
                say(v.entries() + " entries, " + v.first() + " to " + v.last() + ", in " + v.files() + " files, " + Output.bytes(v.bytes()) + ". Head: " + v.head());
                if (v.first() > 1) {
                    say("Entries 1 to " + (v.first() - 1) + " are not here: were their files archived? The chain begins at entry " + v.first() + ".");
                }
                v.torn().forEach(t -> say("Cut off by a crash or a full disk: " + t));
                v.problems().forEach(p -> say("BROKEN: " + p));
            }
            if (!v.problems().isEmpty()) {
                throw new IllegalStateException("The audit log was altered: its chain breaks at " + v.problems().size() + " places");
            }
            if (!json) {
                say("The chain is whole.");
            }
            return null;
        }
    }
}
