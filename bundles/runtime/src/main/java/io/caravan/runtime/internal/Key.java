// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.regex.Pattern;

/**
 * Declaration of one configuration key.
 *
 * @param name dotted lower case, unit last
 * @param pid  the file it may stand in: {@code <pid>.cfg}
 * @param def  default, the empty string for "not set"
 * @param min  smallest allowed number, inclusive
 * @param max  largest allowed number, inclusive
 * @param values allowed words of an enum or of a list's elements; empty: any
 * @param hot  whether a change takes effect without a restart
 */
record Key(String name, String pid, Type type, String def, long min, long max, List<String> values, boolean hot) {

    enum Type { STRING, INT, LONG, BOOL, PATH, ENUM, LIST, HOST, SECRET }

    /** Unit and namespace rules of a name; also what keeps name and environment variable one to one. */
    static final Pattern NAME = Pattern.compile("[a-z][a-z0-9]*(\\.[a-z0-9]+)+");

    private static final Pattern HOST = Pattern.compile("[A-Za-z0-9]([A-Za-z0-9.-]{0,252})|\\[?[0-9A-Fa-f:.]{2,45}]?");

    /** @return the rule that the value breaks, worded to follow "must ", or null */
    String broken(String value) {
        if (value.isEmpty() && def.isEmpty()) {
            return null;
        }
        return switch (type) {
            case STRING -> null;
            case SECRET -> !value.startsWith("file:") || isPath(value.substring(5)) ? null : "name a file behind file:";
            case PATH -> isPath(value) ? null : "be a path";
            case BOOL -> value.equals("true") || value.equals("false") ? null : "be true or false";
            case ENUM -> values.contains(value) ? null : "be one of " + String.join(", ", values);
            case LIST -> values.isEmpty() || values.containsAll(elements(value)) ? null
                    : "be a comma-separated list out of " + String.join(", ", values);
            case HOST -> HOST.matcher(value).matches() ? null : "be a host name or an IP address";
            case INT, LONG -> number(value);
        };
    }

    private static boolean isPath(String value) {
        try {
            return !value.isEmpty() && !Path.of(value).toString().isEmpty();
        } catch (InvalidPathException e) {
            return false;
        }
    }

    private String number(String value) {
        String range = String.format(Locale.ROOT, "be a whole number from %d to %d", min, max);
        try {
            long n = Long.parseLong(value);
            return n >= min && n <= max ? null : range;
        } catch (NumberFormatException e) {
            return range;
        }
    }

    static List<String> elements(String value) {
        return Arrays.stream(value.split(",")).map(String::trim).filter(e -> !e.isEmpty()).toList();
    }
}
