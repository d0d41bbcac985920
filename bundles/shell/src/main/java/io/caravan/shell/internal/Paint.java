// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import org.apache.karaf.shell.api.console.Session;
import org.apache.karaf.shell.api.console.Terminal;

/** Colours of a terminal; nothing where there is none, where it is dumb, or where NO_COLOR is set (no-color.org). */
enum Paint {
    PLAIN(""), BOLD("1"), RED("31"), GREEN("32"), YELLOW("33"), DIM("2");

    private final String code;

    Paint(String code) {
        this.code = code;
    }

    String on(boolean colours, String text) {
        return colours && this != PLAIN && !text.isEmpty() ? "\u001b[" + code + "m" + text + "\u001b[0m" : text;
    }

    /** A cell of a table in one colour. */
    record Cell(String text, Paint paint) {
        @Override
        public String toString() {
            return text;
        }
    }

    Cell cell(Object text) {
        return new Cell(String.valueOf(text), this);
    }

    static boolean allowed(Session session) {
        Terminal terminal = session.getTerminal();
        return terminal != null && terminal.isAnsiSupported() && !"dumb".equals(terminal.getType()) && !set(session.get("NO_COLOR")) && !set(System.getenv("NO_COLOR"));
    }

    private static boolean set(Object value) {
        return value != null && !value.toString().isEmpty();
    }

    /** The colour of a state of something. */
    static Paint of(String state) {
        return switch (state) {
            case "UP", "started", "Started", "running", "ok", "ready", "SUCCEEDED" -> GREEN;
            case "DOWN", "broken", "failed", "error", "FAILED", "critical" -> RED;
            case "UNKNOWN", "starting", "pending", "paused", "warning", "late", "behind", "INDETERMINATE" -> YELLOW;
            default -> PLAIN;
        };
    }
}
