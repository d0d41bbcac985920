// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.shell.internal.CommandSide.Cancelled;
import io.caravan.shell.internal.CommandSide.Event;
import io.caravan.shell.internal.CommandSide.Order;
import io.caravan.shell.internal.CommandSide.Target;
import io.caravan.shell.internal.CommandSide.View;
import java.security.AccessController;
import java.security.Principal;
import java.time.Instant;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.Predicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.security.auth.Subject;
import org.apache.camel.util.json.DeserializationException;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.apache.camel.util.json.Jsoner;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** {@code command:*}: tell devices, or the gateway itself, to do something, and see what became of it. */
public final class CommandCommands {

    private static final Pattern PAIR = Pattern.compile("([A-Za-z][A-Za-z0-9_.-]{0,63})=(.*)", Pattern.DOTALL);
    private static final Pattern NO_TEXT = Pattern.compile("true|false|null|-?(0|[1-9]\\d*)(\\.\\d+)?([eE][+-]?\\d+)?|[\\[{\"].*", Pattern.DOTALL);
    private static final Pattern SPAN = Pattern.compile("(\\d{1,9})(ms|s|m|h)");
    private static final DateTimeFormatter CLOCK = DateTimeFormatter.ofPattern("HH:mm:ss.SSS").withZone(ZoneId.systemDefault());
    private static final long LOOK_MS = 50;
    /** What a status means to who waits. */
    private static final String LOOK_AT_IT = "It may have been carried out or not: look at the device (twin:show), then decide. The same --id is never carried out twice.";

    private CommandCommands() {
    }

    abstract static class OfCommands extends GatewayCommand {
        final CommandSide side() {
            return CommandSide.of(caravan);
        }

        /** One line, and the history below it. */
        final void show(View c) {
            if (json) {
                say(json(c).toJson());
                return;
            }
            line("command", c.ref());
            line("device", c.gateway() == null ? c.device() : c.gateway() + "/" + c.device());
            line("what", c.name() + " " + c.arguments());
            line("status", text(c.status(), c.reason(), c.detail()));
            line("result", Output.text(c.result()));
            line("asked by", c.by() + " by " + c.origin() + ", " + Output.time(c.createdAtMs()));
            line("expires", Output.time(c.expiresAtMs()));
            line("attempts", String.valueOf(c.attempts()));
            say("");
            c.events().forEach(e -> say(text(e)));
        }

        private void line(String name, String value) {
            if (!value.isEmpty()) {
                say(String.format("%-9s %s", name, value));
            }
        }

        /**
         * Tells each change until the command's end.
         *
         * @throws IllegalStateException it did not succeed: a script must notice
         */
        final void follow(String ref) throws InterruptedException {
            int told = 0;
            while (true) {
                View c = side().find(ref).orElseThrow(() -> unknown(ref));
                for (; told < c.events().size(); told++) {
                    if (!json) {
                        say(text(c.events().get(told)));
                    }
                }
                if (c.done()) {
                    ended(c);
                    return;
                }
                try {
                    Thread.sleep(LOOK_MS);
                } catch (InterruptedException e) {
                    say("Not waiting any longer, the command goes on: command:watch " + ref);
                    throw e;
                }
            }
        }

        private void ended(View c) {
            if (json) {
                say(json(c).toJson());
            } else if (c.result() != null) {
                say("Result: " + c.result());
            }
            if (!c.status().equals("SUCCEEDED")) {
                throw new IllegalStateException("Command " + c.ref() + " ended " + text(c.status(), c.reason(), c.detail())
                        + (c.status().equals("INDETERMINATE") ? ". " + LOOK_AT_IT : ""));
            }
        }
    }

    /** Of one command. */
    abstract static class OfOne extends OfCommands {
        @Argument(index = 0, name = "command", required = true, description = "The command's id; in the cloud GATEWAY/ID")
        @Completion(CommandIdCompleter.class)
        String ref;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }
    }

    @Service
    @Command(scope = "command", name = "send", description = "Send a command to a device, or to the gateway itself (device gateway)",
            detailedDescription = "Examples:\n  command:send sim-1 led on=true --wait\n  command:send gateway ping --ttl 30s --json")
    public static final class Send extends OfCommands {
        @Argument(index = 0, name = "device", required = true, description = "The device's id, or gateway; in the cloud GATEWAY/DEVICE")
        @Completion(TargetCompleter.class)
        String device;

        @Argument(index = 1, name = "name", required = true, description = "What it shall do, one of its capabilities: capability:show DEVICE")
        @Completion(CommandNameCompleter.class)
        String name;

        @Argument(index = 2, name = "arguments", multiValued = true, description = "name=value ..., or one JSON object in quotes; options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> words;

        @Option(name = "--ttl", description = "How long it may still be carried out, from now: 500ms, 30s, 10m; without it command.ttl.default.ms")
        @Completion(value = StringsCompleter.class, values = {"30s", "10m", "1h"})
        String ttl;

        @Option(name = "--precondition", description = "Only if the device reports it: name=value,..., or {\"reported\":SCHEMA,\"max_age_ms\":N}")
        @Completion(FreeText.class)
        String precondition;

        @Option(name = "--units", description = "Units of the arguments, refused if the capability has others: name=unit,..., or a JSON object")
        @Completion(FreeText.class)
        String units;

        @Option(name = "--id", description = "Its id; the same id is the same command and never carried out twice. Without it one is made")
        @Completion(FreeText.class)
        String id;

        @Option(name = "--wait", aliases = "-w", description = "Show each status until the end; fails unless it is SUCCEEDED")
        boolean wait;

        private final List<String> arguments = new ArrayList<>();

        @Override
        List<String> trailing() {
            List<String> options = new ArrayList<>();
            for (int i = 0; words != null && i < words.size(); i++) {
                String word = words.get(i);
                if (!word.startsWith("-")) {
                    arguments.add(word);
                    continue;
                }
                options.add(word);
                if (List.of("--ttl", "--precondition", "--units", "--id").contains(word) && i + 1 < words.size()) {
                    options.add(words.get(++i));
                }
            }
            return options;
        }

        @Override
        Object run() throws Exception {
            CommandSide side = side();
            Target target = side.target(device);
            View c = side.send(new Order(target, id, name, argumentsOf(arguments, argument -> side.text(target, name, argument)), unitsOf(units), preconditionOf(precondition),
                    ttl == null ? null : (Long) span("--ttl", ttl), user()));
            if (!json) {
                say("Command " + c.ref() + ": " + name + " " + c.arguments() + " for " + target + ", expires " + Output.time(c.expiresAtMs()) + ".");
            }
            if (wait && !"conflict".equals(c.reason())) {
                follow(c.ref());
                return null;
            }
            if (json) {
                say(json(c).toJson());
            }
            if (c.status().equals("REJECTED")) {
                throw new IllegalStateException("Command " + c.ref() + " is " + text(c.status(), c.reason(), c.detail()));
            }
            if (!json) {
                say(text(c.status(), c.reason(), c.detail()) + ". command:watch " + c.ref() + " shows how it gets on.");
            }
            return null;
        }
    }

    @Service
    @Command(scope = "command", name = "watch", description = "Show each status of a command until its end; fails unless it is SUCCEEDED",
            detailedDescription = "Example:\n  command:watch 01J9ZC7Q")
    public static final class Watch extends OfOne {
        @Override
        Object run() throws Exception {
            follow(ref);
            return null;
        }
    }

    @Service
    @Command(scope = "command", name = "show", description = "Show a command and its history",
            detailedDescription = "Example:\n  command:show 01J9ZC7Q --json")
    public static final class Show extends OfOne {
        @Override
        Object run() {
            show(side().find(ref).orElseThrow(() -> unknown(ref)));
            return null;
        }
    }

    @Service
    @Command(scope = "command", name = "list", description = "List commands, the newest first",
            detailedDescription = "Examples:\n  command:list --open\n  command:list sim-1 --status FAILED --limit 10")
    public static final class Listing extends OfCommands {
        @Argument(index = 0, name = "device", description = "Only those for this device; in the cloud GATEWAY/DEVICE, or GATEWAY")
        @Completion(TargetCompleter.class)
        String device;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Option(name = "--status", description = "Only those that are so")
        @Completion(value = StringsCompleter.class, values = {"ACCEPTED", "QUEUED", "SENT", "DELIVERED", "SUCCEEDED", "FAILED", "REJECTED", "EXPIRED", "CANCELLED", "INDETERMINATE"})
        String status;

        @Option(name = "--open", description = "Only those that have not ended")
        boolean open;

        @Option(name = "--limit", description = "At most so many, the newest")
        @Completion(value = StringsCompleter.class, values = {"20", "100", "1000"})
        int limit = 50;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() {
            if (limit < 1 || limit > 10_000) {
                throw new IllegalArgumentException("--limit [" + limit + "] must be from 1 to 10000");
            }
            List<View> all = side().list(device, statusOf(status), open, limit);
            if (json) {
                JsonArray array = new JsonArray();
                all.forEach(c -> array.add(json(c)));
                say(array.toJson());
                return null;
            }
            table(all, "No commands", List.of("Command", "Device", "What", "Status", "Why", "By", "At", "Expires"), c -> row((View) c));
            return null;
        }

        static Object[] row(View c) {
            String what = c.name() + " " + c.arguments();
            return new Object[] {c.ref(), c.device(), what.length() > 60 ? what.substring(0, 57) + "..." : what, c.status(),
                (Output.text(c.reason()) + (c.detail() == null ? "" : ": " + c.detail())).replaceFirst("^: ", ""), c.by() + " (" + c.origin() + ")",
                Output.time(c.createdAtMs()), Output.time(c.expiresAtMs())};
        }
    }

    @Service
    @Command(scope = "command", name = "cancel", description = "Take a command back that was not sent to the device yet",
            detailedDescription = "Example:\n  command:cancel 01J9ZC7Q")
    public static final class Cancel extends OfOne {
        @Override
        Object run() throws Exception {
            Cancelled done = side().cancel(ref, user());
            if (done.view() == null) {
                throw unknown(ref);
            }
            View c = done.view();
            if (json) {
                say(json(c).toJson());
            }
            if (!done.taken() && !done.asked()) {
                throw new IllegalStateException("Command " + ref + " is not cancelled: it is " + text(c.status(), c.reason(), c.detail())
                        + (c.done() ? "" : ", what may have been sent is not taken back"));
            }
            if (!json) {
                say(done.taken() ? "Command " + ref + " is cancelled, it will not be carried out."
                        : "The gateway may have it: it is asked to cancel it and decides. command:watch " + ref + " shows it.");
            }
            return null;
        }
    }

    // ------------------------------------------------------------------------------------------ shared

    static IllegalArgumentException unknown(String ref) {
        return new IllegalArgumentException("command [" + ref + "] is not known here: command:list shows what is");
    }

    /** @return who asks */
    @SuppressWarnings("removal")   // until Karaf 5 runs sessions in another way
    static String user() {
        Subject subject = Subject.getSubject(AccessController.getContext());
        return subject == null ? "container" : subject.getPrincipals().stream().filter(p -> p.getClass().getSimpleName().equals("UserPrincipal"))
                .map(Principal::getName).findFirst().orElse("container");
    }

    /** @return for example {@code REJECTED no_capability: the device has no command [lde]} */
    static String text(String status, String reason, String detail) {
        return status + (reason == null ? "" : " " + reason) + (detail == null || detail.isBlank() ? "" : ": " + detail);
    }

    static String text(Event e) {
        return CLOCK.format(Instant.ofEpochMilli(e.atMs())) + "  " + text(e.status(), e.reason(), e.detail());
    }

    static String statusOf(String text) {
        if (text == null) {
            return null;
        }
        List<String> all = List.of("ACCEPTED", "QUEUED", "SENT", "DELIVERED", "SUCCEEDED", "FAILED", "REJECTED", "EXPIRED", "CANCELLED", "INDETERMINATE");
        String upper = text.toUpperCase(Locale.ROOT);
        if (!all.contains(upper)) {
            throw new IllegalArgumentException("--status [" + text + "] must be one of " + String.join(", ", all));
        }
        return upper;
    }

    /** @return milliseconds */
    static long span(String option, String text) {
        Matcher span = SPAN.matcher(text);
        if (!span.matches()) {
            throw new IllegalArgumentException(option + " [" + text + "] must be a length of time like 500ms, 30s, 10m, 2h");
        }
        long unit = switch (span.group(2)) {
            case "ms" -> 1;
            case "s" -> 1_000;
            case "m" -> 60_000;
            default -> 3_600_000;
        };
        return Long.parseLong(span.group(1)) * unit;
    }

    /**
     * @param text whether an argument is text, whatever it looks like
     * @return a JSON object
     */
    static String argumentsOf(List<String> words, Predicate<String> text) {
        if (words.size() == 1 && words.get(0).strip().startsWith("{")) {
            return object("arguments", words.get(0));
        }
        JsonObject object = new JsonObject();
        for (String word : words) {
            Matcher pair = PAIR.matcher(word);
            if (!pair.matches()) {
                throw new IllegalArgumentException("argument [" + word + "] must be name=value; or give one JSON object in quotes: '{\"on\":true}'");
            }
            if (object.put(pair.group(1), value(pair.group(2), text.test(pair.group(1)))) != null) {
                throw new IllegalArgumentException("argument [" + pair.group(1) + "] must be given once");
            }
        }
        return object.toJson();
    }

    private static Object value(String word, boolean text) {
        if (text || !NO_TEXT.matcher(word).matches()) {
            return word;
        }
        try {
            return Jsoner.deserialize(word);
        } catch (DeserializationException | RuntimeException e) {
            throw new IllegalArgumentException("value [" + word + "] must be JSON: " + e.getMessage(), e);
        }
    }

    /** @return the text, which is a JSON object */
    static String object(String what, String text) {
        try {
            if (Jsoner.deserialize(text) instanceof JsonObject) {
                return text.strip();
            }
        } catch (DeserializationException | RuntimeException e) {
            throw new IllegalArgumentException(what + " [" + text + "] must be a JSON object: " + e.getMessage(), e);
        }
        throw new IllegalArgumentException(what + " [" + text + "] must be a JSON object");
    }

    static String unitsOf(String text) {
        return text == null ? null : text.strip().startsWith("{") ? object("--units", text) : argumentsOf(List.of(text.split(",")), name -> true);
    }

    /** @return {@code door=closed} as the schema that says so */
    static String preconditionOf(String text) {
        if (text == null || text.strip().startsWith("{")) {
            return text == null ? null : object("--precondition", text);
        }
        JsonObject wanted = (JsonObject) Jsoner.deserialize(argumentsOf(List.of(text.split(",")), name -> false), new JsonObject());
        JsonObject properties = new JsonObject();
        wanted.forEach((name, value) -> properties.put(name, Output.object("const", value)));
        return Output.object("reported", Output.object("properties", properties, "required", new JsonArray(wanted.keySet()))).toJson();
    }

    /** @return what the text says, so that it is not text within JSON; the text itself if it is no JSON */
    static Object parsed(String text) {
        if (text == null) {
            return null;
        }
        try {
            return Jsoner.deserialize(text);
        } catch (DeserializationException | RuntimeException e) {
            return text;
        }
    }

    static JsonObject json(View c) {
        JsonArray events = new JsonArray();
        c.events().forEach(e -> events.add(Output.object("status", e.status(), "reason", e.reason(), "detail", e.detail(), "at_ms", e.atMs())));
        JsonObject object = Output.object("command_id", c.id());
        if (c.gateway() != null) {
            object.put("gateway_id", c.gateway());
        }
        object.putAll(Output.object("device_id", c.device(), "name", c.name(), "arguments", parsed(c.arguments()), "origin", c.origin(), "issued_by", c.by(),
                "status", c.status(), "final", c.done(), "reason", c.reason(), "detail", c.detail(), "result", parsed(c.result()), "attempts", c.attempts(),
                "created_at_ms", c.createdAtMs(), "expires_at_ms", c.expiresAtMs(), "final_at_ms", c.finalAtMs()));
        if (!c.events().isEmpty()) {
            object.put("events", events);
        }
        return object;
    }
}
