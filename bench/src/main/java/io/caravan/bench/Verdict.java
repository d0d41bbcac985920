// SPDX-License-Identifier: Apache-2.0
package io.caravan.bench;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;

/** What the oracle found. Not thread-safe. */
public final class Verdict {
    /** The ways in which a gateway can break its word. */
    public enum Fault {
        /** Promised (acknowledged or receipted), and not where it must be. */
        LOST,
        /** There more than once. */
        DOUBLED,
        /** There, and nobody sent it, or it should not have left. */
        INVENTED,
        /** There, with another content. */
        ALTERED,
        /** A good message was refused, or a bad one kept under another reason. */
        REFUSED,
        /** The cloud's window is not what the stored messages add up to. */
        WINDOW,
        /** The books do not balance: appended = acked + dead + discarded + backlog. */
        LEDGER,
        /** A command was carried out against the rules, or its status says what nobody can know. */
        COMMAND,
        /** Not delivered in the time given. */
        BACKLOG
    }

    private static final int EXAMPLES = 5;

    private final Map<String, Long> counts = new LinkedHashMap<>();
    private final Map<Fault, Long> faults = new EnumMap<>(Fault.class);
    private final Map<Fault, List<String>> examples = new EnumMap<>(Fault.class);

    void count(String what, long n) {
        counts.put(what, n);
    }

    void fault(Fault fault, String what) {
        faults.merge(fault, 1L, Long::sum);
        List<String> some = examples.computeIfAbsent(fault, f -> new ArrayList<>());
        if (some.size() < EXAMPLES) {
            some.add(what);
        }
    }

    /** @return whether nothing was found */
    public boolean ok() {
        return faults.isEmpty();
    }

    /**
     * @param fault which
     * @return how many of it were found
     */
    public long faults(Fault fault) {
        return faults.getOrDefault(fault, 0L);
    }

    /**
     * @param fault which
     * @return the first few, in words
     */
    public List<String> examples(Fault fault) {
        return List.copyOf(examples.getOrDefault(fault, List.of()));
    }

    /**
     * @param what such as {@code stored}, {@code acked}
     * @return how many were counted; 0 when that was not looked at
     */
    public long count(String what) {
        return counts.getOrDefault(what, 0L);
    }

    /** @return whether all that is wrong can still come right by waiting */
    boolean pending() {
        return !ok() && faults.keySet().stream().allMatch(f -> f == Fault.BACKLOG || f == Fault.WINDOW || f == Fault.LOST);
    }

    /** @return one line of JSON */
    public String json() {
        ObjectNode out = new ObjectMapper().createObjectNode();
        out.put("ok", ok());
        counts.forEach(out.withObject("/counts")::put);
        for (Fault f : Fault.values()) {
            out.withObject("/faults").put(f.name().toLowerCase(Locale.ROOT), faults(f));
        }
        examples.forEach((f, some) -> some.forEach(out.withArray("/examples/" + f.name().toLowerCase(Locale.ROOT))::add));
        return out.toString();
    }

    /** @return a report for people */
    @Override
    public String toString() {
        StringBuilder out = new StringBuilder();
        counts.forEach((what, n) -> out.append(String.format(Locale.ROOT, "  %-34s %,12d%n", what, n)));
        for (Fault f : Fault.values()) {
            if (faults(f) > 0) {
                out.append(String.format(Locale.ROOT, "%s %,d%n", f, faults(f)));
                examples(f).forEach(e -> out.append("    ").append(e).append('\n'));
                if (faults(f) > EXAMPLES) {
                    out.append("    ...\n");
                }
            }
        }
        return out.append(ok() ? "verdict: OK, 0 lost, 0 doubled, 0 invented" : "verdict: NOT OK").append('\n').toString();
    }
}
