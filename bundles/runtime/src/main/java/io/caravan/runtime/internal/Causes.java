// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.camel.NoFactoryAvailableException;
import org.apache.camel.NoSuchBeanException;
import org.apache.camel.NoSuchLanguageException;

/** Picks out of Camel's exception chains what helps an operator. */
final class Causes {

    private static final Pattern LINE = Pattern.compile("\\bline:?\\s+(\\d{1,9})\\b|@(\\d{1,9}):\\d+", Pattern.CASE_INSENSITIVE);

    /** Camel goes on with the whole text the placeholder stands in. */
    private static final Pattern PLACEHOLDER = Pattern.compile("Property with key \\[(.+?)] not found");

    /** What the SQL of the store's dialect is called by: the module that opens the store brings these. */
    private static final String SQL_WORD = "sql.";
    /** Longer ones are Camel's, with the whole route in them. */
    private static final int LONGEST = 300;

    private Causes() {
    }

    /** @return the innermost message, or the one around it that says the same in more words; on one line */
    static String text(Throwable e) {
        String text = null;
        List<Throwable> chain = chain(e);
        for (Throwable t : chain) {
            Matcher key = PLACEHOLDER.matcher(String.valueOf(t.getMessage()));
            if (key.find()) {
                return key.group(1).startsWith(SQL_WORD) ? "waits for the store, whose module knows {{" + key.group(1) + "}}"
                        : "{{" + key.group(1) + "}} is not a configuration key, or has no value";
            }
        }
        for (int i = chain.size() - 1; i >= 0; i--) {
            Throwable t = chain.get(i);
            String message = t.getMessage();
            if (message == null || message.isBlank()) {
                continue;
            }
            if (text == null) {
                boolean bare = !message.contains(" ") || t instanceof ClassNotFoundException;
                text = bare ? t.getClass().getSimpleName() + ": " + message : message;
            } else if (message.length() > LONGEST || !message.contains(text)) {
                break;
            } else if (!message.startsWith(t.getCause().getClass().getName())) {
                text = message;
            }
        }
        return text == null ? "cannot be understood (" + chain.get(chain.size() - 1).getClass().getSimpleName() + ")"
                : text.replaceAll("\\s+", " ").replaceAll(" \\^(?= |$)", "").replaceAll(":? *$", "").strip();
    }

    /** @return the line that a parser's message names, 0: none */
    static int line(Throwable e) {
        List<Throwable> chain = chain(e);
        for (int i = chain.size() - 1; i >= 0; i--) {
            Matcher line = LINE.matcher(String.valueOf(chain.get(i).getMessage()));
            if (line.find()) {
                return Integer.parseInt(line.group(1) != null ? line.group(1) : line.group(2));
            }
        }
        return 0;
    }

    /** @return whether a bundle or module that has not arrived yet may mend it */
    static boolean waits(Throwable e) {
        return chain(e).stream().anyMatch(t -> t instanceof NoSuchBeanException || t instanceof NoSuchLanguageException
                || t instanceof NoFactoryAvailableException || t instanceof ClassNotFoundException
                || t instanceof org.apache.camel.NoSuchEndpointException || waitsForWord(t));
    }

    private static boolean waitsForWord(Throwable e) {
        Matcher key = PLACEHOLDER.matcher(String.valueOf(e.getMessage()));
        return key.find() && key.group(1).startsWith(SQL_WORD);
    }

    private static List<Throwable> chain(Throwable e) {
        List<Throwable> chain = new ArrayList<>();
        for (Throwable t = e; t != null && !chain.contains(t); t = t.getCause()) {
            chain.add(t);
        }
        return chain;
    }
}
