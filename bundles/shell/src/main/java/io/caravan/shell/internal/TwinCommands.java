// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.shell.internal.CommandSide.Target;
import io.caravan.shell.internal.CommandSide.TwinView;
import java.util.ArrayList;
import java.util.List;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;

/** {@code twin:*}: what is desired of devices, and what they report. */
public final class TwinCommands {

    private TwinCommands() {
    }

    @Service
    @Command(scope = "twin", name = "show", description = "Show desired and reported state, and how they differ; of all devices, or of one",
            detailedDescription = "Examples:\n  twin:show\n  twin:show sim-1 --json")
    public static final class Show extends GatewayCommand {
        @Argument(index = 0, name = "device", description = "The device's id; in the cloud GATEWAY/DEVICE, or GATEWAY for all of its devices")
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
            CommandSide side = CommandSide.of(caravan);
            if (device == null || caravan.role().equals("cloud") && !device.contains("/")) {
                List<TwinView> all = side.twins(device);
                if (json) {
                    JsonArray array = new JsonArray();
                    all.forEach(t -> array.add(json(t)));
                    say(array.toJson());
                } else {
                    table(all, "Nothing is desired, nothing was reported", List.of("Device", "Desired", "Version", "Reported", "Version", "Differs", "Changed"), t -> row((TwinView) t));
                }
                return null;
            }
            Target target = side.target(device);
            TwinView t = side.twin(target).orElseThrow(() -> new IllegalArgumentException("device [" + target
                    + "] has no twin: nothing is desired of it (twin:set), and it has reported nothing. Is the id right? twin:show shows all"));
            if (json) {
                say(json(t).toJson());
                return null;
            }
            say("desired  (version " + t.desiredVersion() + ")  " + t.desired());
            say("reported (version " + t.reportedVersion() + ")  " + t.reported());
            say(t.delta().equals("{}") ? "They agree." : "delta                 " + t.delta());
            return null;
        }

        static Object[] row(TwinView t) {
            return new Object[] {t.target(), cut(t.desired()), t.desiredVersion(), cut(t.reported()), t.reportedVersion(), t.delta().equals("{}") ? "" : cut(t.delta()),
                t.updatedAtMs() == null ? "" : Output.time(t.updatedAtMs())};
        }

        private static String cut(String text) {
            return text.length() > 40 ? text.substring(0, 37) + "..." : text;
        }
    }

    @Service
    @Command(scope = "twin", name = "set", description = "Change what is desired of a device; it is told as soon as it is there",
            detailedDescription = "Examples:\n  twin:set sim-1 interval_ms=1000 led=null\n  twin:set sim-1 interval_ms=1000 --if-version 3")
    public static final class Set extends GatewayCommand {
        @Argument(index = 0, name = "device", required = true, description = "The device's id; in the cloud GATEWAY/DEVICE")
        @Completion(TargetCompleter.class)
        String device;

        @Argument(index = 1, name = "members", required = true, multiValued = true,
                description = "name=value ..., null takes a member away; or a JSON merge patch in quotes. Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> words;

        @Option(name = "--if-version", description = "Only if the desired state has this version: what twin:show showed")
        @Completion(FreeText.class)
        String ifVersion;

        private final List<String> members = new ArrayList<>();

        @Override
        List<String> trailing() {
            List<String> options = new ArrayList<>();
            for (int i = 0; i < words.size(); i++) {
                String word = words.get(i);
                if (!word.startsWith("-")) {
                    members.add(word);
                    continue;
                }
                options.add(word);
                if (word.equals("--if-version") && i + 1 < words.size()) {
                    options.add(words.get(++i));
                }
            }
            return options;
        }

        @Override
        Object run() throws Exception {
            if (members.isEmpty()) {
                throw new IllegalArgumentException("give what is desired: name=value ..., or a JSON object in quotes");
            }
            if (ifVersion != null && !ifVersion.matches("\\d{1,18}")) {
                throw new IllegalArgumentException("--if-version [" + ifVersion + "] must be a whole number from 0");
            }
            CommandSide side = CommandSide.of(caravan);
            Target target = side.target(device);
            String done = side.desire(target, CommandCommands.argumentsOf(members, name -> false), ifVersion == null ? null : (Long) Long.parseLong(ifVersion),
                    CommandCommands.user());
            say(json ? side.twin(target).map(t -> json(t).toJson()).orElse("{}") : done);
            return null;
        }
    }

    static JsonObject json(TwinView t) {
        JsonObject object = new JsonObject();
        if (t.target().gateway() != null) {
            object.put("gateway_id", t.target().gateway());
        }
        object.putAll(Output.object("device_id", t.target().device(), "desired", CommandCommands.parsed(t.desired()), "desired_version", t.desiredVersion(),
                "reported", CommandCommands.parsed(t.reported()), "reported_version", t.reportedVersion(), "delta", CommandCommands.parsed(t.delta()),
                "updated_at_ms", t.updatedAtMs()));
        return object;
    }
}
