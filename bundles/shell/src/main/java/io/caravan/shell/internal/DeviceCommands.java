// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.devices.Devices;
import io.caravan.devices.Devices.Device;
import io.caravan.devices.Devices.Enrolment;
import io.caravan.devices.Devices.Imported;
import io.caravan.devices.Devices.NewDevice;
import io.caravan.devices.Devices.Signing;
import io.caravan.devices.Devices.Status;
import io.caravan.devices.Devices.Token;
import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Locale;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.FileCompleter;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** {@code device:*}: who may send. */
public final class DeviceCommands {

    private DeviceCommands() {
    }

    abstract static class OfRegistry extends GatewayCommand {
        /** Asked for the role before anything of the registry's classes: the cloud does not have them. */
        @Override
        final Object run() throws Exception {
            if (!caravan.role().equals("gateway")) {
                throw new IllegalStateException("This container's role is [" + caravan.role() + "], it has no devices: give the command at a gateway");
            }
            registry();
            return null;
        }

        abstract void registry() throws Exception;

        final Devices devices() {
            return caravan.bean("devices", Devices.class).orElseThrow(() -> new IllegalStateException("The registry of devices is not open, no device may connect: "
                    + caravan.checks().stream().filter(c -> c.name().equals("module:devices")).findFirst()
                            .map(c -> c.message().isEmpty() ? "see the log" : c.message()).orElse("feature caravan-devices is not installed")));
        }

        final void changed(Device device, String text) {
            say(json ? json(device).toJson() : text);
        }
    }

    /** Of one device, its id being the first argument; options may follow. */
    abstract static class OfDevice extends OfRegistry {
        @Argument(index = 0, name = "device", required = true, description = "The device's id")
        @Completion(DeviceCompleter.class)
        String id;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }
    }

    /** Makes a secret and shows it once: printed, or in a file. */
    abstract static class Enrolling extends OfDevice {
        @Option(name = "--out", description = "Write it to this new file, which only its owner can read, and not to the terminal")
        @Completion(FileCompleter.class)
        String out;

        interface Step {
            Enrolment run() throws IOException;
        }

        final void enrol(String done, Step step) throws IOException {
            SecretFile file = out == null ? null : new SecretFile(out);
            Enrolment enrolment;
            try {
                enrolment = step.run();
            } catch (IOException | RuntimeException e) {
                if (file != null) {
                    file.discard();
                }
                throw e;
            }
            String secrets = json ? json(enrolment).toJson() + "\n" : DeviceCard.of(caravan.settings(), enrolment);
            if (file == null) {
                say(json ? secrets.strip() : "Device " + enrolment.device().id() + " " + done + ". Flash this now, the token is not kept and not shown again:\n\n" + secrets);
                return;
            }
            file.write(secrets);
            say(json ? Output.object("device_id", enrolment.device().id(), "token_id", enrolment.tokenId(), "file", file.path.toString()).toJson()
                    : "Device " + enrolment.device().id() + " " + done + ". What to flash is in " + file.path + " ; delete it afterwards.");
        }
    }

    @Service
    @Command(scope = "device", name = "add", description = "Enrol a device and show, once, what to flash",
            detailedDescription = "Examples:\n  device:add sim-1\n  device:add sim-1 --allow 10.1.0.0/16 --signing require --not-after 90d --out /media/usb/sim-1.txt")
    public static final class Add extends Enrolling {
        @Option(name = "--allow", description = "Addresses it may come from, separated by commas: 10.1.0.0/16,fd00::/64; without it any")
        @Completion(FreeText.class)
        String allow;

        @Option(name = "--capabilities", description = "What it can do, a JSON object")
        @Completion(FreeText.class)
        String capabilities;

        @Option(name = "--signing", description = "Signatures of its messages: off, accept (checked if there), require")
        @Completion(value = StringsCompleter.class, values = {"off", "accept", "require"})
        String signing = "off";

        @Option(name = "--messages-per-s", description = "Its limit; 0: none; without it device.messages.per.s")
        @Completion(value = StringsCompleter.class, values = {"0", "10", "100", "default"})
        String messagesPerS;

        @Option(name = "--bytes-per-s", description = "Its limit; 0: none; without it device.bytes.per.s")
        @Completion(value = StringsCompleter.class, values = {"0", "10000", "100000", "default"})
        String bytesPerS;

        @Option(name = "--note", description = "Free text for people")
        @Completion(FreeText.class)
        String note;

        @Option(name = "--not-before", description = "Its token is valid from then on: a time, or from now on: 12h, 90d")
        @Completion(value = StringsCompleter.class, values = {"1h", "12h", "24h"})
        String notBefore;

        @Option(name = "--not-after", description = "Its token is valid until then: a time, or from now on: 12h, 90d")
        @Completion(value = StringsCompleter.class, values = {"30d", "90d", "365d"})
        String notAfter;

        @Override
        void registry() throws IOException {
            long now = System.currentTimeMillis();
            NewDevice device = new NewDevice(id, addresses(allow), capabilities, signingOf(signing), messages(messagesPerS), bytes(bytesPerS), note,
                    notBefore == null ? null : (Long) Times.ahead("--not-before", notBefore, now), notAfter == null ? null : (Long) Times.ahead("--not-after", notAfter, now));
            enrol("is enrolled", () -> devices().add(device));
        }
    }

    @Service
    @Command(scope = "device", name = "list", description = "List the devices in the registry",
            detailedDescription = "Examples:\n  device:list\n  device:list --revoked --json")
    public static final class Listing extends OfRegistry {
        @Option(name = "--revoked", description = "Only those that are revoked")
        boolean revoked;

        @Override
        void registry() {
            List<Device> all = devices().list().stream().filter(d -> !revoked || d.status() == Status.REVOKED).toList();
            if (json) {
                JsonArray array = new JsonArray();
                all.forEach(d -> array.add(json(d)));
                say(array.toJson());
                return;
            }
            long now = System.currentTimeMillis();
            table(all, "No device is enrolled: device:add enrols one", List.of("Device", "Status", "Tokens", "Allow", "Signing", "Last seen", "From", "By", "Note"),
                    d -> row((Device) d, now));
        }

        static Object[] row(Device d, long nowMs) {
            return new Object[] {d.id(), name(d.status()), d.tokens().stream().filter(t -> state(d, t, nowMs).equals("valid")).count(), d.allow().isEmpty() ? "any" : String.join(" ", d.allow()),
                name(d.signing()), d.lastSeenMs() == null ? "never" : Output.time(d.lastSeenMs()), Output.text(d.lastAddress()),
                d.lastTransport() == null ? "" : d.lastTransport().toString(), Output.text(d.note())};
        }
    }

    @Service
    @Command(scope = "device", name = "show", description = "Show all that is known of a device; secrets are not kept",
            detailedDescription = "Example:\n  device:show sim-1")
    public static final class Show extends OfDevice {
        @Override
        void registry() {
            Device d = devices().find(id).orElseThrow(() -> new IllegalArgumentException("device [" + id + "] is not in the registry: device:list shows what is"));
            if (json) {
                say(json(d).toJson());
                return;
            }
            long now = System.currentTimeMillis();
            line("device id", d.id());
            line("status", name(d.status()) + (d.revokedAtMs() == null ? "" : " since " + Output.time(d.revokedAtMs())));
            line("enrolled", Output.time(d.createdAtMs()));
            line("from", d.allow().isEmpty() ? "any address" : String.join(" ", d.allow()));
            line("signing", name(d.signing()));
            line("controller", d.controller() ? "may give commands to the gateway and, through it, to other devices" : "");
            line("limits", limit(d.messagesPerS(), "device.messages.per.s") + " messages/s, " + limit(d.bytesPerS(), "device.bytes.per.s") + " bytes/s");
            line("last seen", d.lastSeenMs() == null ? "never" : Output.time(d.lastSeenMs()) + " from " + d.lastAddress() + " by " + d.lastTransport());
            line("note", Output.text(d.note()));
            line("can do", Output.text(d.capabilities()));
            say("");
            table(d.tokens(), "No token", List.of("Token", "State", "Made", "Not before", "Not after", "Revoked"), t -> row(d, (Token) t, now));
        }

        private void line(String name, String value) {
            if (!value.isEmpty()) {
                say(String.format("%-10s %s", name, value));
            }
        }

        private String limit(Number own, String key) {
            return own == null ? caravan.settings().getOrDefault(key, "?") + " (default)" : own.longValue() == 0 ? "any number of" : own.toString();
        }

        static Object[] row(Device d, Token t, long nowMs) {
            return new Object[] {t.id(), state(d, t, nowMs), Output.time(t.createdAtMs()), Output.time(t.notBeforeMs()),
                t.notAfterMs() == null ? "" : Output.time(t.notAfterMs()), t.revokedAtMs() == null ? "" : Output.time(t.revokedAtMs())};
        }
    }

    @Service
    @Command(scope = "device", name = "rotate", description = "Give a device a new token; the one in use stays valid for the overlap",
            detailedDescription = "Examples:\n  device:rotate sim-1 --overlap 24h\n  device:rotate sim-1 --overlap 0 --out /media/usb/sim-1.txt")
    public static final class Rotate extends Enrolling {
        @Option(name = "--overlap", description = "How long the token in use stays valid: 24h, 7d; 0: it ends now and its connections are cut")
        @Completion(value = StringsCompleter.class, values = {"0", "1h", "24h", "7d"})
        String overlap = "24h";

        @Option(name = "--not-after", description = "The new token is valid until then: a time, or from now on: 90d")
        @Completion(value = StringsCompleter.class, values = {"30d", "90d", "365d"})
        String notAfter;

        @Override
        void registry() throws IOException {
            long overlapMs = Times.duration("--overlap", overlap);
            Long end = notAfter == null ? null : (Long) Times.ahead("--not-after", notAfter, System.currentTimeMillis());
            enrol("has a new token, the one before is valid " + (overlapMs == 0 ? "no longer" : "for " + overlap + " more"), () -> devices().rotate(id, overlapMs, end));
        }
    }

    @Service
    @Command(scope = "device", name = "revoke", description = "Refuse a device and cut its connections at once; or only one of its tokens",
            detailedDescription = "Examples:\n  device:revoke sim-1 --yes\n  device:revoke sim-1 --token t2 --yes")
    public static final class Revoke extends OfDevice {
        @Option(name = "--token", description = "Only this token, an id of device:show")
        @Completion(FreeText.class)
        String token;

        @Option(name = "--yes", aliases = "-y", description = "Do not ask")
        boolean yes;

        @Override
        void registry() {
            known(devices(), id);
            String what = token == null ? "Device " + id : "Token " + token + " of device " + id;
            confirmed(yes, "device:revoke", () -> what + " would be refused from now on, and connections made with it cut.", () -> {
                Device device = unchecked(() -> token == null ? devices().revoke(id) : devices().revokeToken(id, token));
                changed(device, what + " is revoked and its connections are cut." + (token == null ? " device:restore " + id + " takes it back, with a new token." : ""));
            });
        }
    }

    @Service
    @Command(scope = "device", name = "restore", description = "Make a revoked device active again with a new token, and show it once",
            detailedDescription = "Example:\n  device:restore sim-1")
    public static final class Restore extends Enrolling {
        @Override
        void registry() throws IOException {
            enrol("is active again, with a new token", () -> devices().restore(id));
        }
    }

    @Service
    @Command(scope = "device", name = "remove", description = "Forget a device; its data stays",
            detailedDescription = "Example:\n  device:remove sim-1 --yes")
    public static final class Remove extends OfDevice {
        @Option(name = "--yes", aliases = "-y", description = "Do not ask")
        boolean yes;

        @Override
        void registry() {
            known(devices(), id);
            confirmed(yes, "device:remove", () -> "Device " + id + " would be forgotten, with its tokens, and its connections cut; its data stays.", () -> {
                unchecked(() -> {
                    devices().remove(id);
                    return null;
                });
                say(json ? Output.object("device_id", id, "removed", true).toJson() : "Device " + id + " is removed.");
            });
        }
    }

    @Service
    @Command(scope = "device", name = "allow-ip", description = "Set the addresses a device may come from; connections from others are cut",
            detailedDescription = "Examples:\n  device:allow-ip sim-1 10.1.0.0/16 fd00::/64\n  device:allow-ip sim-1 --any")
    public static final class AllowIp extends OfRegistry {
        @Argument(index = 0, name = "device", required = true, description = "The device's id")
        @Completion(DeviceCompleter.class)
        String id;

        @Argument(index = 1, name = "addresses", multiValued = true, description = "All of them: 10.1.0.0/16 fd00::/64")
        @Completion(TrailingCompleter.class)
        List<String> addresses;

        @Option(name = "--any", description = "Any address")
        boolean any;

        @Override
        List<String> trailing() {
            return addresses == null ? null : addresses.stream().filter(a -> a.startsWith("-")).toList();
        }

        @Override
        void registry() throws IOException {
            List<String> given = addresses == null ? List.of() : addresses.stream().filter(a -> !a.startsWith("-")).flatMap(a -> addresses(a).stream()).toList();
            if (given.isEmpty() != any) {
                throw new IllegalArgumentException("give the addresses, all of them, or --any");
            }
            Device device = devices().allow(id, given);
            changed(device, "Device " + id + " may come from " + (device.allow().isEmpty() ? "any address" : String.join(" ", device.allow())) + ".");
        }
    }

    @Service
    @Command(scope = "device", name = "controller", description = "Let a device give commands to the gateway and, through it, to other devices; or no longer",
            detailedDescription = "Example:\n  device:controller panel-1 on")
    public static final class Controller extends OfRegistry {
        @Argument(index = 0, name = "device", required = true, description = "The device's id")
        @Completion(DeviceCompleter.class)
        String id;

        @Argument(index = 1, name = "on", required = true, description = "on or off")
        @Completion(value = StringsCompleter.class, values = {"on", "off"})
        String on;

        @Argument(index = 2, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        void registry() throws IOException {
            if (!on.equals("on") && !on.equals("off")) {
                throw new IllegalArgumentException("controller [" + on + "] must be on or off");
            }
            known(devices(), id);
            Device device = devices().controller(id, on.equals("on"));
            changed(device, device.controller() ? "Device " + id + " may give commands to this gateway and to every device of it, on gateways/"
                    + caravan.settings().getOrDefault("gateway.id", "{gateway.id}") + "/control." : "Device " + id + " may give commands no longer.");
        }
    }

    @Service
    @Command(scope = "device", name = "signing", description = "Say what is asked of the signatures of a device's messages",
            detailedDescription = "Example:\n  device:signing sim-1 require")
    public static final class SetSigning extends OfRegistry {
        @Argument(index = 0, name = "device", required = true, description = "The device's id")
        @Completion(DeviceCompleter.class)
        String id;

        @Argument(index = 1, name = "mode", required = true, description = "off; accept: checked if there is one; require")
        @Completion(value = StringsCompleter.class, values = {"off", "accept", "require"})
        String mode;

        @Argument(index = 2, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        void registry() throws IOException {
            changed(devices().signing(id, signingOf(mode)), "Signatures of device " + id + ": " + mode + "."
                    + (mode.equals("off") ? "" : " Its signing key is made of its token (docs/contract.md), or device:rotate shows a new token with its key."));
        }
    }

    @Service
    @Command(scope = "device", name = "limit", description = "Limit how much a device may send, over all its connections and requests",
            detailedDescription = "Examples:\n  device:limit sim-1 --messages-per-s 50 --bytes-per-s 20000\n  device:limit sim-1 --messages-per-s 0")
    public static final class Limit extends OfDevice {
        @Option(name = "--messages-per-s", description = "0: no limit; default: device.messages.per.s")
        @Completion(value = StringsCompleter.class, values = {"0", "10", "100", "default"})
        String messagesPerS;

        @Option(name = "--bytes-per-s", description = "0: no limit; default: device.bytes.per.s")
        @Completion(value = StringsCompleter.class, values = {"0", "10000", "100000", "default"})
        String bytesPerS;

        @Override
        void registry() throws IOException {
            if (messagesPerS == null && bytesPerS == null) {
                throw new IllegalArgumentException("give --messages-per-s, --bytes-per-s or both; the word default takes a limit of its own away");
            }
            Device before = known(devices(), id);
            Device device = devices().limits(id, messagesPerS == null ? before.messagesPerS() : messages(messagesPerS),
                    bytesPerS == null ? before.bytesPerS() : bytes(bytesPerS));
            changed(device, "Device " + id + " may send " + shown(device.messagesPerS()) + " messages/s and " + shown(device.bytesPerS()) + " bytes/s.");
        }

        private static String shown(Number limit) {
            return limit == null ? "the default number of" : limit.longValue() == 0 ? "any number of" : limit.toString();
        }
    }

    @Service
    @Command(scope = "device", name = "import", description = "Enrol all devices of a CSV or JSON file, or none; ids that are there already are left alone",
            detailedDescription = "Examples:\n  device:import /media/usb/devices.csv --dry-run\n  device:import /media/usb/devices.csv --out /media/usb/tokens.csv")
    public static final class Import extends OfRegistry {
        @Argument(index = 0, name = "file", required = true, description = "Columns or fields: device_id, allow, capabilities, signing, messages_per_s, bytes_per_s, note, not_before, not_after")
        @Completion(FileCompleter.class)
        String file;

        @Option(name = "--out", description = "Write the new tokens to this new CSV file, which only its owner can read")
        @Completion(FileCompleter.class)
        String out;

        @Option(name = "--dry-run", description = "Only check the file")
        boolean dryRun;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        void registry() throws IOException {
            if (out == null && !dryRun) {
                throw new IllegalArgumentException("the new tokens are seen only once: name a new file for them with --out, or only check with --dry-run");
            }
            SecretFile secrets = dryRun ? null : new SecretFile(out);
            Imported imported = null;
            try {
                var devices = devices();
                imported = ProgressLine.run(caravan, session, json, () -> caravan.tasks().run("device:import", file, "devices",
                        "no device of the file is enrolled; run it again, it starts anew", task -> devices.importFile(Path.of(file), dryRun, task)));
            } finally {
                if (secrets != null && (imported == null || imported.created().isEmpty())) {
                    secrets.discard();
                }
            }
            if (!imported.problems().isEmpty()) {
                throw new IllegalArgumentException("Nothing was imported from [" + file + "]:\n  " + String.join("\n  ", imported.problems()));
            }
            if (secrets != null && !imported.created().isEmpty()) {
                StringBuilder csv = new StringBuilder("device_id,token,signing_key\n");
                imported.created().forEach(e -> csv.append(e.device().id()).append(',').append(e.token()).append(',').append(e.signingKey()).append('\n'));
                secrets.write(csv.toString());
            }
            if (json) {
                say(Output.object("created", imported.created().size(), "unchanged", imported.unchanged().size(), "dry_run", dryRun,
                        "file", imported.created().isEmpty() ? null : secrets.path.toString()).toJson());
            } else if (dryRun) {
                say("The file is in order. " + imported.unchanged().size() + " of its devices are enrolled already and would be left alone.");
            } else {
                say(imported.created().size() + " devices are enrolled, " + imported.unchanged().size() + " were already and are left alone."
                        + (imported.created().isEmpty() ? "" : " Their tokens are in " + secrets.path + " ; delete it when the boards are flashed."));
            }
        }
    }

    // ------------------------------------------------------------------------------------------ shared

    /** Made before the secrets are: what could not be kept must not be made. */
    private static final class SecretFile {
        final Path path;

        SecretFile(String name) throws IOException {
            path = Path.of(name).toAbsolutePath();
            try {
                Output.newFile(path);
            } catch (FileAlreadyExistsException e) {
                throw new IllegalArgumentException("file [" + path + "] is there already: name another one", e);
            }
        }

        void write(String text) throws IOException {
            try (FileChannel channel = FileChannel.open(path, StandardOpenOption.WRITE); OutputStream stream = Channels.newOutputStream(channel)) {
                stream.write(text.getBytes(StandardCharsets.UTF_8));
                channel.force(true);
            }
        }

        void discard() throws IOException {
            Files.deleteIfExists(path);
        }
    }

    private interface Change {
        Device run() throws IOException;
    }

    private static Device unchecked(Change change) {
        try {
            return change.run();
        } catch (IOException e) {
            throw new UncheckedIOException(e.getMessage(), e);
        }
    }

    private static Device known(Devices devices, String id) {
        return devices.find(id).orElseThrow(() -> new IllegalArgumentException("device [" + id + "] is not in the registry: device:list shows what is"));
    }

    /** A revoked device's tokens are worth nothing, whatever they are themselves. */
    static String state(Device d, Token t, long nowMs) {
        return d.revokedAtMs() != null || t.revokedAtMs() != null ? "revoked" : t.notAfterMs() != null && nowMs >= t.notAfterMs() ? "expired" : nowMs < t.notBeforeMs() ? "not yet valid" : "valid";
    }

    static Signing signingOf(String text) {
        for (Signing signing : Signing.values()) {
            if (name(signing).equals(text)) {
                return signing;
            }
        }
        throw new IllegalArgumentException("signing [" + text + "] must be off, accept or require");
    }

    static List<String> addresses(String text) {
        return text == null || text.isBlank() ? List.of() : List.of(text.strip().split("[, ]+"));
    }

    private static Integer messages(String text) {
        Long number = number("--messages-per-s", text, Integer.MAX_VALUE);
        return number == null ? null : (Integer) number.intValue();
    }

    private static Long bytes(String text) {
        return number("--bytes-per-s", text, Long.MAX_VALUE);
    }

    private static Long number(String option, String text, long max) {
        if (text == null || text.equals("default")) {
            return null;
        }
        if (!text.matches("\\d{1,18}") || Long.parseLong(text) > max) {
            throw new IllegalArgumentException(option + " [" + text + "] must be a whole number, 0 for no limit, or the word default");
        }
        return Long.valueOf(text);
    }

    /** Of an enum's constant. An Object, as checking anything narrower would load the registry's classes with this one. */
    private static String name(Object constant) {
        return ((Enum<?>) constant).name().toLowerCase(Locale.ROOT);
    }

    static JsonObject json(Device d) {
        JsonArray tokens = new JsonArray();
        long now = System.currentTimeMillis();
        d.tokens().forEach(t -> tokens.add(Output.object("id", t.id(), "state", state(d, t, now), "created_at_ms", t.createdAtMs(), "not_before_ms", t.notBeforeMs(),
                "not_after_ms", t.notAfterMs(), "revoked_at_ms", t.revokedAtMs())));
        JsonArray allow = new JsonArray();
        allow.addAll(d.allow());
        return Output.object("device_id", d.id(), "status", name(d.status()), "tokens", tokens, "allow", allow, "capabilities", d.capabilities(), "signing", name(d.signing()),
                "messages_per_s", d.messagesPerS(), "bytes_per_s", d.bytesPerS(), "note", d.note(), "created_at_ms", d.createdAtMs(), "revoked_at_ms", d.revokedAtMs(),
                "last_seen_ms", d.lastSeenMs(), "last_address", d.lastAddress(), "last_transport", d.lastTransport() == null ? null : d.lastTransport().toString(),
                "controller", d.controller());
    }

    static JsonObject json(Enrolment e) {
        return Output.object("device_id", e.device().id(), "token_id", e.tokenId(), "token", e.token(), "signing_key", e.signingKey(), "signing", name(e.device().signing()));
    }
}
