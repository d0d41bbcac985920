// SPDX-License-Identifier: Apache-2.0
package io.caravan.runtime;

/**
 * W3C trace context, header {@code traceparent}: {@code 00-<32 hex: trace>-<16 hex: span>-<01 sampled, 00 not>}. What it is about
 * is written by strangers (devices, clients), stored and sent on, so nothing but exactly this gets through.
 */
public final class Traceparent {

    private static final int LENGTH = 55;
    private static final int TRACE = 3;
    private static final int SPAN = 36;
    private static final int FLAGS = 53;

    private Traceparent() {
    }

    /**
     * @param given as received, or null
     * @return version 00 with no flag but "sampled"; null if it is none: absent, other characters, upper case, ids of zeros, version ff.
     *     Of a later version that begins like version 00, as the specification has it, what version 00 knows
     */
    public static String valid(String given) {
        if (given == null || given.length() < LENGTH) {
            return null;
        }
        for (int i = 0; i < LENGTH; i++) {
            char c = given.charAt(i);
            if (i == 2 || i == 35 || i == 52 ? c != '-' : !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f')) {
                return null;
            }
        }
        boolean current = given.startsWith("00");
        if (given.startsWith("ff") || current && given.length() > LENGTH || given.length() > LENGTH && given.charAt(LENGTH) != '-'
                || zeros(given, TRACE, SPAN - 1) || zeros(given, SPAN, FLAGS - 1)) {
            return null;
        }
        int flags = Character.digit(given.charAt(FLAGS + 1), 16);
        String sampled = (flags & 1) == 1 ? "01" : "00";
        return current && given.length() == LENGTH && given.endsWith(sampled) ? given : "00" + given.substring(2, FLAGS) + sampled;
    }

    /** @param valid as {@link #valid} returned it, or null: not sampled */
    public static boolean sampled(String valid) {
        return valid != null && valid.length() == LENGTH && valid.charAt(LENGTH - 1) == '1';
    }

    /** @return 32 hex digits */
    public static String traceId(String valid) {
        return valid.substring(TRACE, SPAN - 1);
    }

    /** @return 16 hex digits */
    public static String spanId(String valid) {
        return valid.substring(SPAN, FLAGS - 1);
    }

    private static boolean zeros(String text, int from, int to) {
        for (int i = from; i < to; i++) {
            if (text.charAt(i) != '0') {
                return false;
            }
        }
        return true;
    }
}
