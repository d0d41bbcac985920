// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.time.Duration;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** Reads a time on the command line: {@code 250ms}, {@code 5s}, {@code 2m}; a bare number is seconds. Thread-safe. */
final class Durations implements ITypeConverter<Duration> {
    private static final Pattern FORM = Pattern.compile("(\\d+(?:\\.\\d+)?)(ms|s|m|h)?");

    @Override
    public Duration convert(String text) {
        Matcher m = FORM.matcher(text.trim().toLowerCase(Locale.ROOT));
        if (!m.matches()) {
            throw new TypeConversionException("time [" + text + "] must be a number with a unit out of ms, s, m, h: 250ms, 5s, 2m");
        }
        double millis = switch (m.group(2) == null ? "s" : m.group(2)) {
            case "ms" -> 1;
            case "m" -> 60_000;
            case "h" -> 3_600_000;
            default -> 1_000;
        };
        return Duration.ofNanos(Math.round(Double.parseDouble(m.group(1)) * millis * 1e6));
    }
}
