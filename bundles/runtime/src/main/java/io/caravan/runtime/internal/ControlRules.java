// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * Which keys a command may set: never one that decides who may do what, where data goes, or what is kept, whatever
 * {@code control.config.keys} says. A cloud that was taken over must not be able to open a LAN with it. No state.
 */
final class ControlRules {

    static final String DIR = "control.dir";
    static final String KEYS = "control.config.keys";

    /** Set by commands of their own, whose ranges are in etc/control-capabilities.json. */
    private static final Set<String> OWN = Set.of("rollup.window.ms");
    /** Texts, lists, hosts and paths become addresses, files and parts of endpoint URIs; secrets are secrets. */
    private static final Set<Key.Type> TYPES = Set.of(Key.Type.INT, Key.Type.LONG, Key.Type.BOOL, Key.Type.ENUM);
    /** First parts of names: listeners, trust, identity, audit, the control plane itself, what is kept. */
    private static final Set<String> AREAS = Set.of("admin", "audit", "broker", "command", "config", "container", "control", "dead", "device",
            "gateway", "hawtio", "http", "ingest", "mqtt", "rejected", "secret", "user", "users", "wal");
    /** Any part of a name: what switches a protection, or something as a whole, on or off. */
    private static final Set<String> PARTS = Set.of("delete", "enabled", "loopback", "sasl", "security", "tls", "unsafe");

    private ControlRules() {
    }

    /** @return why a command must not set it, worded to follow the key; null: it may */
    static String refusal(Key key, List<String> globs) {
        List<String> parts = Arrays.asList(key.name().split("\\."));
        if (AREAS.contains(parts.get(0)) || parts.stream().anyMatch(PARTS::contains)) {
            return "is never set by a command: it decides about listeners, trust, files, or what is kept; change it in etc/" + key.pid() + ".cfg at the gateway";
        }
        if (!TYPES.contains(key.type())) {
            return "is never set by a command: only numbers, switches and words out of a list are; change it in etc/" + key.pid() + ".cfg at the gateway";
        }
        if (!OWN.contains(key.name()) && globs.stream().noneMatch(glob -> glob(glob).matcher(key.name()).matches())) {
            return "is not among those of " + KEYS + " in etc/io.caravan.control.cfg at the gateway";
        }
        return key.hot() ? null : "needs_restart: it takes effect only at the next start; change it in etc/" + key.pid() + ".cfg at the gateway, and start that anew";
    }

    /** {@code *} stands for any characters, dots among them. */
    private static Pattern glob(String glob) {
        return Pattern.compile(Arrays.stream(glob.split("\\*", -1)).map(Pattern::quote).collect(Collectors.joining(".*")));
    }
}
