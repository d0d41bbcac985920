// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime.internal;

import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The text of one version of a route file and where it comes from.
 *
 * @param bundle tells versions of the same origin apart; 0 in plain Java
 */
public record RouteSource(String stem, String file, Origin origin, long bundle, String text) {

    /** {@code DEPLOY} goes before {@code FEATURE}. */
    public enum Origin {
        DEPLOY, FEATURE;

        @Override
        public String toString() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    private static final Pattern FILE = Pattern.compile("(.*?)\\.camel\\.(yaml|xml)");
    private static final Pattern STEM = Pattern.compile("[a-z][a-z0-9]*(-[a-z0-9]+)*");

    /** @throws IllegalArgumentException the file's name breaks the rule for stems */
    public static RouteSource of(String file, Origin origin, long bundle, String text) {
        return new RouteSource(stem(file), file, origin, bundle, text);
    }

    /** @throws IllegalArgumentException the file's name breaks the rule for stems */
    public static String stem(String file) {
        Matcher name = FILE.matcher(file);
        // Camel takes everything after the first dot as the extension, so a dot in the stem would hide the file from it.
        if (!name.matches() || !STEM.matcher(name.group(1)).matches()) {
            throw new IllegalArgumentException("Route file [" + file + "] must be named <stem>.camel.yaml or"
                    + " <stem>.camel.xml, the stem in kebab-case without a dot, like sink-kafka.camel.yaml: rename it");
        }
        return name.group(1);
    }

    boolean usesKey(String key) {
        return Pattern.compile("\\{\\{[?!]*\\s*" + Pattern.quote(key) + "\\s*[:}]").matcher(text).find();
    }

    @Override
    public String toString() {
        return file + " (" + origin + (bundle == 0 ? "" : ", bundle " + bundle) + ")";
    }
}
