// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import java.time.DateTimeException;
import java.time.OffsetDateTime;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Times as an operator types them. */
final class Times {

    private static final Pattern AGE = Pattern.compile("(\\d{1,9})([smhd])");
    private static final Map<String, Long> UNIT_MS = Map.of("s", 1_000L, "m", 60_000L, "h", 3_600_000L, "d", 86_400_000L);

    private Times() {
    }

    /**
     * @param option for the message
     * @return milliseconds since 1970
     */
    static long parse(String option, String text, long nowMs) {
        Matcher age = AGE.matcher(text);
        if (age.matches()) {
            return Math.max(1, nowMs - Long.parseLong(age.group(1)) * UNIT_MS.get(age.group(2)));
        }
        if (text.matches("\\d{12,15}")) {
            return Long.parseLong(text);
        }
        try {
            return OffsetDateTime.parse(text).toInstant().toEpochMilli();
        } catch (DateTimeException e) {
            throw new IllegalArgumentException(option + " [" + text + "] must be a time like 2026-11-21T10:00:00Z, milliseconds since 1970, or an age like 90s, 15m, 2h, 3d", e);
        }
    }

    /** @return milliseconds; {@code 0} is allowed as it is */
    static long duration(String option, String text) {
        Matcher age = AGE.matcher(text);
        if (!age.matches() && !text.equals("0")) {
            throw new IllegalArgumentException(option + " [" + text + "] must be a length of time like 90s, 15m, 24h, 90d, or 0");
        }
        return text.equals("0") ? 0 : Long.parseLong(age.group(1)) * UNIT_MS.get(age.group(2));
    }

    /** As {@link #parse}, but a length of time counts from now on. */
    static long ahead(String option, String text, long nowMs) {
        return AGE.matcher(text).matches() ? nowMs + duration(option, text) : parse(option, text, nowMs);
    }
}
