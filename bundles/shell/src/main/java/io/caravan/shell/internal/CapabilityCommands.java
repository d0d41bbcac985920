// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import com.fasterxml.jackson.databind.JsonNode;
import io.caravan.commands.Capabilities;
import io.caravan.commands.Capabilities.Budget;
import io.caravan.commands.Capabilities.Capability;
import io.caravan.commands.Capabilities.Declared;
import io.caravan.devices.Devices;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.FileCompleter;

/** {@code capability:*}, at a gateway: what devices can do. The cloud does not have these classes. */
public final class CapabilityCommands {

    private CapabilityCommands() {
    }

    abstract static class OfCapabilities extends GatewayCommand {
        final Capabilities capabilities() {
            return CommandSide.bean(caravan, "capabilities", Capabilities.class, "commands");
        }

        final Devices devices() {
            return CommandSide.bean(caravan, "devices", Devices.class, "devices");
        }

        final void inForce(String id, String otherwise) {
            Optional<Declared> now = capabilities().of(id);
            say(json ? now.map(d -> json(d).toJson()).orElse("{}") : now.map(d -> "Device " + id + " has the capabilities " + names(d) + ", " + d.source() + ".").orElse(otherwise));
        }
    }

    @Service
    @Command(scope = "capability", name = "show", description = "Show what devices can be told to do; of all, or of one in detail",
            detailedDescription = "Examples:\n  capability:show\n  capability:show sim-1 --json")
    public static final class Show extends OfCapabilities {
        @Argument(index = 0, name = "device", description = "The device's id, or gateway")
        @Completion(TargetCompleter.class)
        String device;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() {
            if (device == null) {
                List<Declared> all = capabilities().list();
                if (json) {
                    JsonArray array = new JsonArray();
                    all.forEach(d -> array.add(json(d)));
                    say(array.toJson());
                } else {
                    table(all, "No device has declared what it can do", List.of("Device", "Source", "Version", "Commands"), d -> row((Declared) d));
                }
                return null;
            }
            Declared d = capabilities().of(device).orElseThrow(() -> new IllegalArgumentException("device [" + device
                    + "] has declared nothing: nothing can be sent to it. It announces on devices/" + device + "/capabilities, or capability:set declares for it"));
            if (json) {
                say(json(d).toJson());
                return null;
            }
            say("Device " + d.deviceId() + ", version " + (d.version() == null ? "not given" : d.version()) + ", " + d.source() + ":");
            table(d.commands(), "No commands", List.of("Command", "Arguments", "Idempotent", "Timeout", "Budget", "Allowed"), c -> row((Capability) c));
            return null;
        }

        static Object[] row(Declared d) {
            return new Object[] {d.deviceId(), d.source(), Output.text(d.version()), names(d)};
        }

        static Object[] row(Capability c) {
            return new Object[] {c.name(), arguments(c.arguments()), c.idempotent() ? "yes" : "no", Output.age(c.timeoutMs()),
                c.budgets().stream().map(CapabilityCommands::text).collect(Collectors.joining(", ")), c.allowed() ? "yes" : "no, by etc/command-policy.json"};
        }
    }

    /** Changes what the registry says. */
    abstract static class Changing extends OfCapabilities {
        @Argument(index = 0, name = "device", required = true, description = "The device's id")
        @Completion(DeviceCompleter.class)
        String id;

        final void known() {
            if (devices().find(id).isEmpty()) {
                throw new IllegalArgumentException("device [" + id + "] is not in the registry: device:list shows what is");
            }
        }
    }

    @Service
    @Command(scope = "capability", name = "set", description = "Say what a device can do, for one that does not announce it; counts before what it announces",
            detailedDescription = "Example:\n  capability:set sim-1 --file /etc/caravan/sim-1.json")
    public static final class Set extends Changing {
        @Argument(index = 1, name = "capabilities", multiValued = true, description = "One JSON object in quotes, docs/commands.md; options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> words;

        @Option(name = "--file", description = "It is in this file")
        @Completion(FileCompleter.class)
        String file;

        private final List<String> given = new ArrayList<>();

        @Override
        List<String> trailing() {
            List<String> options = new ArrayList<>();
            for (int i = 0; words != null && i < words.size(); i++) {
                String word = words.get(i);
                if (!word.startsWith("-")) {
                    given.add(word);
                    continue;
                }
                options.add(word);
                if (word.equals("--file") && i + 1 < words.size()) {
                    options.add(words.get(++i));
                }
            }
            return options;
        }

        @Override
        Object run() throws IOException {
            if (given.size() + (file == null ? 0 : 1) != 1) {
                throw new IllegalArgumentException("give the capabilities as one JSON object in quotes, or --file");
            }
            known();
            String text = CommandCommands.object("capabilities", file == null ? given.get(0) : Files.readString(Path.of(file)));
            capabilities().valid(text).ifPresent(p -> {
                throw new IllegalArgumentException("capabilities" + (p.field() == null || p.field().isEmpty() ? "" : " at " + p.field()) + ": " + p.message());
            });
            devices().capabilities(id, text);
            inForce(id, "Device " + id + " has the capabilities that were given.");
            return null;
        }
    }

    @Service
    @Command(scope = "capability", name = "clear", description = "Say no longer what a device can do: what it announces itself counts again",
            detailedDescription = "Example:\n  capability:clear sim-1")
    public static final class Clear extends Changing {
        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() throws IOException {
            known();
            devices().capabilities(id, null);
            inForce(id, "Device " + id + " has no capabilities configured and has announced none: nothing can be sent to it.");
            return null;
        }
    }

    // ------------------------------------------------------------------------------------------ shared

    static String names(Declared d) {
        return d.commands().stream().map(Capability::name).collect(Collectors.joining(", "));
    }

    /** @return for example {@code 3 in 1m 0s} */
    static String text(Budget b) {
        return b.count() + " in " + Output.age(b.perMs());
    }

    /** @return for example {@code interval_ms: integer 100..60000 ms, mode: fast|slow (optional)} */
    static String arguments(JsonNode schema) {
        List<String> parts = new ArrayList<>();
        List<String> required = new ArrayList<>();
        schema.path("required").forEach(r -> required.add(r.asText()));
        for (Map.Entry<String, JsonNode> property : schema.path("properties").properties()) {
            JsonNode p = property.getValue();
            StringBuilder part = new StringBuilder(property.getKey()).append(": ");
            if (p.has("enum")) {
                List<String> values = new ArrayList<>();
                p.get("enum").forEach(v -> values.add(v.asText()));
                part.append(String.join("|", values));
            } else {
                part.append(p.has("const") ? p.get("const").toString() : p.path("type").isTextual() ? p.path("type").asText() : "any");
            }
            if (p.has("minimum") || p.has("maximum")) {
                part.append(' ').append(p.path("minimum").asText("")).append("..").append(p.path("maximum").asText(""));
            }
            if (p.has("unit")) {
                part.append(' ').append(p.get("unit").asText());
            }
            parts.add(part.append(required.contains(property.getKey()) ? "" : " (optional)").toString());
        }
        return parts.isEmpty() ? "none" : String.join(", ", parts);
    }

    static JsonObject json(Declared d) {
        JsonArray commands = new JsonArray();
        d.commands().forEach(c -> {
            JsonArray budgets = new JsonArray();
            c.budgets().forEach(b -> budgets.add(Output.object("count", b.count(), "per_ms", b.perMs())));
            commands.add(Output.object("name", c.name(), "arguments", CommandCommands.parsed(c.arguments().toString()), "idempotent", c.idempotent(), "timeout_ms", c.timeoutMs(),
                    "budget", budgets, "allowed", c.allowed()));
        });
        return Output.object("device_id", d.deviceId(), "version", d.version(), "source", d.source(), "commands", commands);
    }
}
