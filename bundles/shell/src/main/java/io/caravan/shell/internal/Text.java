// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.util.ArrayList;
import java.util.List;
import org.jline.utils.WCWidth;

/**
 * Text on a screen. Names and payloads come from devices: what would steer a terminal, or turn the direction of writing, is shown
 * as the escape that JSON has for it, so that cleaned JSON is the same JSON. Columns are counted as terminals do.
 */
final class Text {

    private Text() {
    }

    /** @return one line: line breaks and tabs are spaces */
    static String line(String text) {
        return clean(text.replaceAll("[\\r\\n\\t]+", " "));
    }

    /** @return the text without characters that steer; line breaks and tabs stay */
    static String clean(String text) {
        if (text.codePoints().noneMatch(Text::steers)) {
            return text;
        }
        StringBuilder clean = new StringBuilder();
        text.codePoints().forEach(c -> {
            if (!steers(c)) {
                clean.appendCodePoint(c);
            } else {
                for (char part : Character.toChars(c)) {
                    clean.append(String.format("\\u%04x", (int) part));
                }
            }
        });
        return clean.toString();
    }

    private static boolean steers(int c) {
        int type = Character.getType(c);
        return type == Character.CONTROL && c != '\n' && c != '\t' && c != '\r' || type == Character.FORMAT || type == Character.SURROGATE
                || type == Character.LINE_SEPARATOR || type == Character.PARAGRAPH_SEPARATOR;
    }

    /** @return columns of a cleaned text */
    static int columns(String text) {
        return text.codePoints().map(c -> Math.max(0, WCWidth.wcwidth(c))).sum();
    }

    static String pad(String text, int columns) {
        return text + " ".repeat(Math.max(0, columns - columns(text)));
    }

    /** @return not wider than that; what was cut off is {@code …} */
    static String cut(String text, int columns) {
        return columns(text) <= columns ? text : head(text, Math.max(0, columns - 1)) + (columns > 0 ? "…" : "");
    }

    /** @return the text in lines of at most so many columns, broken at spaces where there are any */
    static List<String> wrap(String text, int columns) {
        List<String> lines = new ArrayList<>();
        String rest = text;
        while (columns(rest) > columns) {
            String head = head(rest, columns);
            if (head.isEmpty()) {
                head = rest.substring(0, Character.charCount(rest.codePointAt(0)));
            }
            int space = rest.startsWith(" ", head.length()) ? head.length() : head.lastIndexOf(' ');
            // A break far in front would waste lines, in a long name with one space in it.
            String taken = space > head.length() / 3 ? rest.substring(0, space) : head;
            lines.add(taken.stripTrailing());
            rest = rest.substring(taken.length()).stripLeading();
        }
        lines.add(rest);
        return lines;
    }

    private static String head(String text, int columns) {
        int used = 0;
        int end = 0;
        while (end < text.length()) {
            int c = text.codePointAt(end);
            used += Math.max(0, WCWidth.wcwidth(c));
            if (used > columns) {
                break;
            }
            end += Character.charCount(c);
        }
        return text.substring(0, end);
    }
}
