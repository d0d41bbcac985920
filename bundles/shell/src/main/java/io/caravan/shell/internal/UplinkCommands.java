// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import io.caravan.uplink.Gateways;
import io.caravan.uplink.Gateways.Certificate;
import io.caravan.uplink.Gateways.Enrolment;
import io.caravan.uplink.Gateways.Gateway;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.StringsCompleter;

/** {@code uplink:*}, in the cloud: which gateways may connect. */
public final class UplinkCommands {

    private static final Pattern SPAN = Pattern.compile("(\\d{1,6})(ms|s|m|h|d)?");
    private static final Map<String, Long> UNIT_MS = Map.of("ms", 1L, "s", 1_000L, "m", 60_000L, "h", 3_600_000L, "d", 86_400_000L);

    private UplinkCommands() {
    }

    static Gateways gateways(Caravan caravan) {
        return caravan.bean("gateways", Gateways.class).orElseThrow(() -> new IllegalStateException(caravan.role().equals("cloud")
                ? "The uplink is not started: " + caravan.checks().stream().filter(c -> c.name().equals("module:uplink")).findFirst()
                        .map(c -> c.message().isEmpty() ? "see the log" : c.message()).orElse("module uplink is not installed")
                : "This container's role is [" + caravan.role() + "]: who may connect is decided in the cloud, give the command there"));
    }

    /** @return milliseconds */
    static long span(String option, String text) {
        Matcher span = SPAN.matcher(text);
        if (text.equals("0")) {
            return 0;
        }
        if (!span.matches() || span.group(2) == null) {
            throw new IllegalArgumentException(option + " [" + text + "] must be a span of time like 90s, 15m, 24h, 7d, or 0");
        }
        return Long.parseLong(span.group(1)) * UNIT_MS.get(span.group(2));
    }

    /** @return milliseconds since 1970; null for null */
    static Long end(String text, long nowMs) {
        if (text == null) {
            return null;
        }
        return SPAN.matcher(text).matches() && !text.matches("\\d+") ? nowMs + span("--expires", text) : Times.parse("--expires", text, nowMs);
    }

    static Object[] row(Gateway g, long nowMs) {
        return new Object[] {g.id(), g.status().name().toLowerCase(java.util.Locale.ROOT) + (g.problem() == null ? "" : ": " + g.problem()),
            g.connectedSinceMs() == null ? "no" : "since " + Output.time(g.connectedSinceMs()), Output.text(g.address()), Output.text(g.credential()),
            Output.text(g.version()), g.tokens().stream().map(t -> t.id() + limits(t, nowMs)).collect(Collectors.joining(", ")),
            certificate(g), Output.text(g.note())};
    }

    private static String limits(Gateways.Token t, long nowMs) {
        if (t.notAfterMs() != null && t.notAfterMs() <= nowMs) {
            return " (expired)";
        }
        if (t.notBeforeMs() != null && t.notBeforeMs() > nowMs) {
            return " (from " + Output.time(t.notBeforeMs()) + ")";
        }
        return t.notAfterMs() == null ? "" : " (until " + Output.time(t.notAfterMs()) + ")";
    }

    private static String certificate(Gateway g) {
        return g.certificate().name().toLowerCase(java.util.Locale.ROOT);
    }

    static JsonObject object(Gateway g) {
        JsonArray tokens = new JsonArray();
        g.tokens().forEach(t -> tokens.add(Output.object("id", t.id(), "not_before_ms", t.notBeforeMs(), "not_after_ms", t.notAfterMs())));
        return Output.object("id", g.id(), "status", g.status().name().toLowerCase(java.util.Locale.ROOT), "problem", g.problem(),
                "certificate", certificate(g), "tokens", tokens, "note", g.note(), "connected", g.connectedSinceMs() != null,
                "connected_since_ms", g.connectedSinceMs(), "address", g.address(), "credential", g.credential(), "version", g.version());
    }

    /** What they have in common. */
    abstract static class UplinkCommand extends GatewayCommand {

        final Gateways gateways() {
            return UplinkCommands.gateways(caravan);
        }

        final void rotated(String gateway, String overlap, String expires) throws IOException {
            long overlapMs = span("--overlap", overlap);
            enrolled(gateways().rotate(gateway, overlapMs, end(expires, System.currentTimeMillis())), overlapMs == 0
                    ? "has a new token, the old one is not valid any more" : "has a new token, the old one is valid for " + Output.age(overlapMs) + " more");
        }

        final void revoked(boolean yes, String command, String gateway) {
            confirmed(yes, command, () -> preview(gateways(), gateway, "is refused from now on; it keeps its data and sends it when it is restored."), () -> {
                try {
                    Gateway done = gateways().revoke(gateway);
                    say(json ? object(done).toJson() : "Gateway " + gateway + " is revoked and cut off. uplink:restore " + gateway + " undoes it.");
                } catch (IOException e) {
                    throw new UncheckedIOException(e);
                }
            });
        }

        final void enrolled(Enrolment made, String what) {
            if (json) {
                JsonObject object = object(made.gateway());
                object.put("token", made.token());
                say(object.toJson());
                return;
            }
            String id = made.gateway().id();
            say("Gateway " + id + " " + what + ".");
            if (made.token() != null) {
                say("Its token, shown this once:");
                say("");
                say("  " + made.token());
                say("");
                say("On the gateway, as the user it runs as (a gateway that runs connects with it by itself):");
                say("  umask 077; echo '" + made.token() + "' > etc/uplink.token        # uplink.token.file");
            }
            if (made.gateway().certificate() != Certificate.NO) {
                say("Its client certificate must have the CN " + id + ": uplink.client.cert.file and uplink.client.key.file on the gateway.");
            }
            say("Its configuration: gateway.id = " + id + ", uplink.url = wss://<host of this cloud>:"
                    + caravan.config().get("uplink.port") + ", uplink.ca.file unless the cloud's certificate is from a public authority.");
        }
    }

    @Service
    @Command(scope = "uplink", name = "list", description = "List the gateways that may connect, and which are connected with what",
            detailedDescription = "Examples:\n  uplink:list\n  uplink:list --json")
    public static final class Listing extends UplinkCommand {
        @Override
        Object run() {
            List<Gateway> all = gateways().list();
            if (json) {
                JsonArray array = new JsonArray();
                all.forEach(g -> array.add(object(g)));
                say(array.toJson());
                return null;
            }
            long now = System.currentTimeMillis();
            table(all, "No gateways: uplink:add makes one", List.of("Gateway", "Status", "Connected", "Address", "With", "Version", "Tokens", "Certificate", "Note"),
                    r -> row((Gateway) r, now));
            gateways().problems().forEach(this::say);
            return null;
        }
    }

    @Service
    @Command(scope = "uplink", name = "add", description = "Let a gateway connect: makes its token and shows it once",
            detailedDescription = "Examples:\n  uplink:add gateway-1 --expires 90d --note 'plant 1'\n  uplink:add gateway-2 --certificate required --no-token")
    public static final class Add extends UplinkCommand {
        @Argument(index = 0, name = "gateway", required = true, description = "The gateway's id, its gateway.id")
        @Completion(FreeText.class)
        String gateway;

        @Option(name = "--certificate", description = "What a client certificate with this CN is worth: no, accepted (as good as the token), required")
        @Completion(value = StringsCompleter.class, values = {"no", "accepted", "required"})
        String certificate = "no";

        @Option(name = "--no-token", description = "No token, only the certificate")
        boolean noToken;

        @Option(name = "--expires", description = "When the token ends: 90d, or 2027-01-01T00:00:00Z; never, if not given")
        @Completion(value = StringsCompleter.class, values = {"30d", "90d", "365d"})
        String expires;

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
            if (!List.of("no", "accepted", "required").contains(certificate)) {
                throw new IllegalArgumentException("--certificate [" + certificate + "] must be no, accepted or required");
            }
            enrolled(gateways().add(gateway, Certificate.valueOf(certificate.toUpperCase(java.util.Locale.ROOT)), !noToken, note,
                    end(expires, System.currentTimeMillis())), "may connect");
            return null;
        }
    }

    @Service
    @Command(scope = "uplink", name = "rotate", description = "Give a gateway a new token; the old one stays valid for a while",
            detailedDescription = "Example:\n  uplink:rotate gateway-1 --overlap 24h")
    public static final class Rotate extends UplinkCommand {
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
    @Command(scope = "uplink", name = "revoke", description = "Cut a gateway off and refuse it from now on; uplink:restore undoes it",
            detailedDescription = "Example:\n  uplink:revoke gateway-1 --yes")
    public static final class Revoke extends UplinkCommand {
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
            revoked(yes, "uplink:revoke", gateway);
            return null;
        }
    }

    @Service
    @Command(scope = "uplink", name = "restore", description = "Let a revoked gateway connect again, with a new token",
            detailedDescription = "Example:\n  uplink:restore gateway-1")
    public static final class Restore extends UplinkCommand {
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
        Object run() throws IOException {
            enrolled(gateways().restore(gateway), "may connect again, its old tokens are gone");
            return null;
        }
    }

    @Service
    @Command(scope = "uplink", name = "remove", description = "Forget a gateway: takes it out of the registry; its data stays",
            detailedDescription = "Example:\n  uplink:remove gateway-1 --yes")
    public static final class Remove extends UplinkCommand {
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
            confirmed(yes, "uplink:remove", () -> preview(gateways(), gateway, "is forgotten, its data here stays."), () -> {
                try {
                    gateways().remove(gateway);
                    say(json ? Output.object("id", gateway, "status", "removed").toJson() : "Gateway " + gateway + " is removed.");
                } catch (IOException e) {
                    throw new UncheckedIOException(e);
                }
            });
            return null;
        }
    }

    static String preview(Gateways gateways, String id, String what) {
        Gateway known = gateways.list().stream().filter(g -> g.id().equals(id)).findFirst().orElseThrow(() -> new IllegalArgumentException(
                "gateway [" + id + "] must be in the registry; uplink:list shows who is"));
        return "Gateway " + id + (known.connectedSinceMs() == null ? " (not connected) " : " (connected from " + known.address() + " since "
                + Output.time(known.connectedSinceMs()) + ") is cut off and ") + what;
    }
}
