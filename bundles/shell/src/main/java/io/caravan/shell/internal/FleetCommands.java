// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import io.caravan.uplink.Fleet;
import io.caravan.uplink.Fleet.Member;
import io.caravan.uplink.Fleet.State;
import io.caravan.uplink.Gateways.Invitation;
import java.io.IOException;
import java.sql.SQLException;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** {@code gateway:list}, {@code show}, {@code enrol}, {@code rotate}, {@code revoke} and {@code import}, in the cloud: its gateways. */
public final class FleetCommands {

    static final List<String> COLUMNS = List.of("Gateway", "State", "Seen", "Lag", "Backlog", "Clock", "Version");
    private static final int ID_MAX = 20;
    private static final int STATE_MAX = 20;
    private static final int VERSION_MAX = 12;

    private FleetCommands() {
    }

    static Fleet fleet(Caravan caravan) {
        // Says why it is not there.
        UplinkCommands.gateways(caravan);
        return caravan.bean("fleet", Fleet.class).orElseThrow(() -> new IllegalStateException("The store is not open: gateway:info tells more"));
    }

    static String states(Member m) {
        return m.states().isEmpty() ? m.connected() ? "ok" : "away" : m.states().stream().map(FleetCommands::name).collect(Collectors.joining(","));
    }

    private static String name(State state) {
        return state.name().toLowerCase(Locale.ROOT);
    }

    /** One line of at most 100 characters, whatever the gateway is called and says. */
    static Object[] row(Member m, long nowMs) {
        return new Object[] {cut(m.id(), ID_MAX), cut(states(m), STATE_MAX), m.connected() ? "now" : m.seenMs() == null ? "never" : span(nowMs - m.seenMs()),
            m.lagMs() == null ? "" : span(m.lagMs()), count(m.backlogRows()), m.clockOffsetMs() == null ? "" : clock(m.clockOffsetMs()),
            cut(Output.text(m.version()), VERSION_MAX)};
    }

    private static String cut(String text, int max) {
        return text.length() <= max ? text : text.substring(0, max - 1) + "~";
    }

    /** @return the largest unit, rounded down: {@code 59s}, {@code 3h} */
    static String span(long ms) {
        long s = Math.max(0, ms) / 1_000;
        return s < 60 ? s + "s" : s < 3_600 ? s / 60 + "m" : s < 86_400 ? s / 3_600 + "h" : s < 31_536_000L ? s / 86_400 + "d" : ">1y";
    }

    private static String clock(long ms) {
        String sign = ms < 0 ? "-" : "+";
        return Math.abs(ms) < 1_000 ? sign + Math.abs(ms) + "ms" : sign + span(Math.abs(ms));
    }

    /** @return {@code 999}, {@code 12k}, {@code 3M}, {@code >1G} */
    static String count(Long rows) {
        return rows == null ? "" : rows < 1_000 ? rows + "" : rows < 1_000_000 ? rows / 1_000 + "k" : rows < 1_000_000_000 ? rows / 1_000_000 + "M" : ">1G";
    }

    static JsonObject object(Member m) {
        JsonArray states = new JsonArray();
        m.states().forEach(s -> states.add(name(s)));
        return Output.object("gateway_id", m.id(), "states", states, "connected", m.connected(), "seen_at_ms", m.seenMs(), "connected_since_ms",
                m.connectedSinceMs(), "address", m.address(), "version", m.version(), "stats_at_ms", m.statsMs(), "backlog_rows", m.backlogRows(), "lag_ms",
                m.lagMs(), "clock_offset_ms", m.clockOffsetMs(), "round_trip_ms", m.roundTripMs(), "store_state", m.storeState(), "store_bytes", m.storeBytes(),
                "store_limit_bytes", m.storeLimitBytes(), "ready", m.ready(), "note", m.note());
    }

    @Service
    @Command(scope = "gateway", name = "list", description = "List the gateways of this cloud: what is wrong, last seen, lag, backlog, clock, version",
            detailedDescription = "Examples:\n  gateway:list\n  gateway:list --state late --json")
    public static final class Listing extends GatewayCommand {
        @Option(name = "--state", description = "Only those in this state")
        @Completion(value = StringsCompleter.class, values = {"ok", "new", "revoked", "late", "behind", "clock", "old_version", "store"})
        String state;

        @Argument(index = 0, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() throws SQLException {
            if (state != null && !state.equals("ok") && List.of(State.values()).stream().noneMatch(s -> name(s).equals(state))) {
                throw new IllegalArgumentException("--state [" + state + "] must be ok or one of " + List.of(State.values()).stream().map(FleetCommands::name).toList());
            }
            List<Member> all = fleet(caravan).list(null).stream().filter(m -> state == null || state.equals("ok") && m.states().isEmpty()
                    || m.states().stream().anyMatch(s -> name(s).equals(state))).toList();
            if (json) {
                JsonArray array = new JsonArray();
                all.forEach(m -> array.add(object(m)));
                say(array.toJson());
                return null;
            }
            long now = System.currentTimeMillis();
            table(all, "No gateways: gateway:enrol registers one", COLUMNS, m -> row((Member) m, now));
            return null;
        }
    }

    @Service
    @Command(scope = "gateway", name = "show", description = "Show all that the cloud knows of how a gateway is",
            detailedDescription = "Example:\n  gateway:show gateway-1")
    public static final class Show extends GatewayCommand {
        @Argument(index = 0, name = "gateway", required = true, description = "The gateway's id")
        @Completion(GatewayIdCompleter.class)
        String gateway;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() throws SQLException {
            Member m = fleet(caravan).show(gateway).orElseThrow(() -> new IllegalArgumentException("gateway [" + gateway
                    + "] must be registered, or have been connected once; gateway:list shows who is"));
            if (json) {
                say(object(m).toJson());
                return null;
            }
            long now = System.currentTimeMillis();
            line("Gateway", m.id());
            line("State", states(m));
            line("Connected", m.connectedSinceMs() == null ? "no" : "since " + Output.time(m.connectedSinceMs()) + ", from " + m.address());
            line("Seen", m.seenMs() == null ? "never" : Output.time(m.seenMs()) + " (" + Output.age(Math.max(0, now - m.seenMs())) + " ago)");
            line("Version", m.version());
            line("Told", m.statsMs() == null ? "nothing of itself yet" : Output.time(m.statsMs()) + " (" + Output.age(Math.max(0, now - m.statsMs())) + " ago)");
            line("Backlog", m.backlogRows() == null ? null : m.backlogRows() + " rows, the oldest is " + Output.age(m.lagMs() == null ? 0 : m.lagMs()) + " old");
            line("Clock", m.clockOffsetMs() == null ? null : Math.abs(m.clockOffsetMs()) + " ms " + (m.clockOffsetMs() < 0 ? "behind" : "ahead of")
                    + " the cloud's, give or take " + (m.roundTripMs() == null ? 0 : (m.roundTripMs() + 1) / 2) + " ms");
            line("Store", m.storeState() == null ? null : m.storeState() + (m.storeBytes() == null ? "" : ", " + Output.bytes(m.storeBytes())
                    + (m.storeLimitBytes() == null ? "" : " of " + Output.bytes(m.storeLimitBytes()))));
            line("Ready", m.ready() == null ? null : m.ready() ? "yes" : "no: gateway:info there tells why");
            line("Note", m.note());
            return null;
        }

        private void line(String name, String value) {
            if (value != null) {
                List<String> lines = Text.wrap(Text.line(value), width() - 12);
                for (int i = 0; i < lines.size(); i++) {
                    say(Text.pad(i == 0 ? name : "", 10) + "  " + lines.get(i));
                }
            }
        }
    }

    @Service
    @Command(scope = "gateway", name = "enrol", description = "Make a one-time token with which a gateway enrols itself: caravan enrol, on the gateway",
            detailedDescription = "Example:\n  gateway:enrol gateway-1 --valid 15m --note 'plant 1'")
    public static final class Enrol extends UplinkCommands.UplinkCommand {
        @Argument(index = 0, name = "gateway", required = true, description = "The gateway's id; registered if it is not known")
        @Completion(GatewayIdCompleter.class)
        String gateway;

        @Option(name = "--valid", description = "How long the token can be used: 15m, 24h; at most 30d")
        @Completion(value = StringsCompleter.class, values = {"15m", "24h", "7d"})
        String valid = "24h";

        @Option(name = "--note", description = "For people: where it stands, who looks after it")
        @Completion(FreeText.class)
        String note;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() throws IOException {
            Invitation made = gateways().invite(gateway, note, UplinkCommands.span("--valid", valid));
            if (json) {
                JsonObject object = UplinkCommands.object(made.gateway());
                object.put("enrolment_token", made.token());
                object.put("enrolment_until_ms", made.untilMs());
                say(object.toJson());
                return null;
            }
            say("Gateway " + gateway + " may enrol once until " + Output.time(made.untilMs()) + ". Its enrolment token, shown this once:");
            say("");
            say("  " + made.token());
            say("");
            say("On the gateway, as the user it runs as; it asks for the token:");
            say("  bin/caravan enrol https://<host of this cloud> --uplink wss://<host of this cloud>:" + caravan.config().get("uplink.port"));
            return null;
        }
    }

    @Service
    @Command(scope = "gateway", name = "rotate", description = "As uplink:rotate: give a gateway a new token; the old one stays valid for a while",
            detailedDescription = "Example:\n  gateway:rotate gateway-1 --overlap 24h")
    public static final class Rotate extends UplinkCommands.UplinkCommand {
        @Argument(index = 0, name = "gateway", required = true, description = "The gateway's id")
        @Completion(GatewayIdCompleter.class)
        String gateway;

        @Option(name = "--overlap", description = "How long the old token stays valid; 0: it ends now and what is connected with it is cut off")
        @Completion(value = StringsCompleter.class, values = {"0", "1h", "24h", "7d"})
        String overlap = "24h";

        @Option(name = "--expires", description = "When the new token ends: 90d, or 2027-01-01T00:00:00Z; never, if not given")
        @Completion(value = StringsCompleter.class, values = {"30d", "90d", "365d"})
        String expires;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() throws IOException {
            rotated(gateway, overlap, expires);
            return null;
        }
    }

    @Service
    @Command(scope = "gateway", name = "revoke", description = "As uplink:revoke: cut a gateway off, at every replica; uplink:restore undoes it",
            detailedDescription = "Example:\n  gateway:revoke gateway-1 --yes")
    public static final class Revoke extends UplinkCommands.UplinkCommand {
        @Argument(index = 0, name = "gateway", required = true, description = "The gateway's id")
        @Completion(GatewayIdCompleter.class)
        String gateway;

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
            revoked(yes, "gateway:revoke", gateway);
            return null;
        }
    }

    @Service
    @Command(scope = "gateway", name = "import", description = "Take the gateways file over into the store, so that all replicas have it",
            detailedDescription = "Example:\n  gateway:import")
    public static final class Import extends UplinkCommands.UplinkCommand {
        @Override
        Object run() throws IOException {
            List<String> taken = gateways().importFile();
            if (json) {
                JsonArray array = new JsonArray();
                array.addAll(taken);
                say(Output.object("imported", array).toJson());
                return null;
            }
            say(taken.isEmpty() ? "There was nothing to take over." : taken.size() + " gateways are in the store now, and out of the file: " + String.join(", ", taken));
            gateways().problems().forEach(this::say);
            return null;
        }
    }
}
