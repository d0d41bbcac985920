// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Caravan;
import io.caravan.runtime.Check;
import io.caravan.uplink.Fleet;
import io.caravan.uplink.Fleet.Member;
import io.caravan.wal.Recovery;
import io.caravan.wal.Recovery.Finding;
import io.caravan.wal.Recovery.LogStatus;
import io.caravan.wal.Recovery.SinkStatus;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.camel.util.json.JsonObject;

/** How this container is, at one time: what a screen of 24 lines and 100 columns has room for, the worst first. */
final class Overview {

    static final int LINES = 23;
    private static final int FINDINGS = 3;
    private static final Pattern SAMPLE = Pattern.compile("(caravan_[a-z_]+)(\\{[^}]*})? (\\S+)");

    private final Caravan caravan;
    final List<Check> checks;
    final List<Finding> findings;
    final Map<String, Double> metrics = new TreeMap<>();
    /** Per second; NaN: not known. */
    final double rate;
    final List<SinkStatus> sinks;
    final LogStatus log;
    final List<Member> members;
    /** Whether {@link #members} are those there are. */
    final boolean membersKnown;
    final double taken;
    final double commandsOpen;

    /** @param rate empty: not known */
    Overview(Caravan caravan, OptionalDouble rate) {
        this.caravan = caravan;
        this.rate = rate.orElse(Double.NaN);
        checks = caravan.checks();
        findings = Diagnosis.of(caravan, false);
        for (Matcher m = SAMPLE.matcher(caravan.metrics()); m.find();) {
            try {
                metrics.merge(m.group(1), number(m.group(3)), Double::sum);
                if (m.group(2) != null && m.group(1).startsWith("caravan_fleet_")) {
                    metrics.put(m.group(1) + m.group(2), number(m.group(3)));
                }
            } catch (NumberFormatException e) {
                continue; // not a number of ours
            }
        }
        Recovery recovery = caravan.bean("recovery", Recovery.class).orElse(null);
        sinks = recovery == null ? List.of() : part(recovery::sinks, List.of());
        log = recovery == null ? null : part(recovery::status, null);
        List<Member> asked = caravan.role().equals("cloud") ? part(() -> members(caravan), null) : List.of();
        membersKnown = asked != null;
        members = membersKnown ? asked : List.of();
        taken = metric(caravan.role().equals("cloud") ? "caravan_sessions_rows_total" : "caravan_wal_appended_rows_total");
        commandsOpen = metric("caravan_command_open");
    }

    private interface Part<T> {
        T get();
    }

    /** What is broken must not keep the rest from being shown; that it is broken is among the checks. */
    private static <T> T part(Part<T> part, T otherwise) {
        try {
            return part.get();
        } catch (RuntimeException e) {
            return otherwise;
        }
    }

    /** @return null: not known, which is not the same as none; why is among the checks */
    private static List<Member> members(Caravan caravan) {
        Fleet fleet = caravan.bean("fleet", Fleet.class).orElse(null);
        try {
            return fleet == null ? null : fleet.list(null);
        } catch (SQLException e) {
            return null;
        }
    }

    private static double number(String text) {
        return text.equals("+Inf") ? Double.POSITIVE_INFINITY : text.equals("-Inf") ? Double.NEGATIVE_INFINITY : Double.parseDouble(text);
    }

    /** @return NaN: there is no such metric */
    double metric(String name) {
        return metrics.getOrDefault(name, Double.NaN);
    }

    boolean ready() {
        return checks.stream().noneMatch(Check::blocks);
    }

    /** @return since when it is, or is not, ready; milliseconds since 1970, 0: not known */
    long sinceMs() {
        boolean ready = ready();
        List<Long> since = checks.stream().filter(c -> ready ? c.counts() : c.blocks()).map(Check::sinceMs).filter(ms -> ms > 0).toList();
        return since.isEmpty() ? 0 : ready ? since.stream().max(Comparator.naturalOrder()).get() : since.stream().min(Comparator.naturalOrder()).get();
    }

    // ---- JSON

    JsonObject json() {
        JsonObject json = Output.about(caravan.role(), caravan.version(), caravan.uptime(), checks);
        json.put("ready", ready());
        json.put("since_ms", sinceMs() == 0 ? null : sinceMs());
        json.put("rate_per_s", finite(rate));
        json.put("taken_rows", finite(taken));
        json.put("commands_open", finite(commandsOpen));
        if (log != null) {
            json.put("wal", Output.jsonOf(log));
            json.put("wal_used_bytes", finite(metric("caravan_wal_bytes")));
            json.put("wal_limit_bytes", finite(metric("caravan_wal_limit_bytes")));
            json.put("time_to_full_s", finite(metric("caravan_wal_time_to_full_seconds")));
            json.put("uplink_connected", Double.isNaN(metric("caravan_uplink_connected")) ? null : metric("caravan_uplink_connected") > 0);
        }
        json.put("sinks", Output.jsonOf(sinks));
        if (caravan.role().equals("cloud")) {
            org.apache.camel.util.json.JsonArray gateways = new org.apache.camel.util.json.JsonArray();
            members.forEach(m -> gateways.add(FleetCommands.object(m)));
            json.put("gateways", gateways);
        }
        json.put("findings", Output.jsonOf(findings));
        return json;
    }

    /** JSON has no NaN and no infinity: null is not known, or never. */
    private static Double finite(double value) {
        return Double.isNaN(value) || Double.isInfinite(value) ? null : (Double) value;
    }

    // ---- the screen

    /** @return at most {@link #LINES} lines of at most so many columns */
    List<String> lines(int width, boolean colours) {
        List<String> lines = new ArrayList<>();
        lines.add(head(width, colours));
        lines.add("");
        if (caravan.role().equals("cloud")) {
            cloud(lines, width);
        } else {
            gateway(lines, width);
        }
        long notStarted = caravan.routes().stream().filter(f -> !f.ready()).count();
        int files = caravan.routes().size();
        long deployed = caravan.routes().stream().filter(f -> f.origin().equals("deploy")).count();
        fact(lines, width, "Routes", files + " files" + (notStarted == 0 ? ", all started" : ", " + notStarted + " not started: route:list")
                + (deployed == 0 ? "" : ", " + deployed + " overridden: route:diff"));
        List<String> todo = todo(width, colours);
        int room = LINES - lines.size() - todo.size() - 2;
        List<String> things = caravan.role().equals("cloud") ? gateways(width, colours, room) : sinks(width, colours, room);
        lines.add("");
        lines.addAll(things);
        lines.add("");
        lines.addAll(todo);
        return lines;
    }

    private String head(int width, boolean colours) {
        boolean ready = ready();
        long down = checks.stream().filter(Check::blocks).count();
        String name = Text.cut(Text.line(caravan.settings().getOrDefault("container.name", caravan.role())), width / 3);
        String state = (ready ? "READY" : "NOT READY") + (sinceMs() == 0 ? "" : " for " + Output.age(Math.max(0, System.currentTimeMillis() - sinceMs())))
                + (ready ? "" : ", " + down + " of " + checks.size() + " checks are down");
        String about = name + ", Caravan " + caravan.role() + " " + caravan.version() + ", up " + Output.uptime(caravan.uptime()) + ": ";
        return Text.cut(about, width - Text.columns(state)) + (ready ? findings.isEmpty() ? Paint.GREEN : Paint.YELLOW : Paint.RED).on(colours, state);
    }

    private static void fact(List<String> lines, int width, String name, String text) {
        lines.add(Text.cut(Text.pad(name, 10) + Text.line(text), width));
    }

    private void gateway(List<String> lines, int width) {
        double refused = metric("caravan_ingest_rejected_total");
        fact(lines, width, "Intake", intake() + (refused > 0 ? ", " + number(refused) + " refused" : ""));
        if (log == null) {
            fact(lines, width, "Log", "not open: gateway:diagnose");
        } else {
            double used = metric("caravan_wal_bytes");
            double limit = metric("caravan_wal_limit_bytes");
            fact(lines, width, "Log", log.state() + (log.reason().isEmpty() ? "" : " (" + log.reason() + ")") + ", "
                    + (Double.isNaN(used) ? Output.bytes(log.storeBytes()) : Output.bytes((long) used) + (limit > 0 ? " of " + Output.bytes((long) limit) + " (" + Math.round(100 * used / limit) + " %)" : ""))
                    + ", full " + full() + ", disk " + Output.bytes(log.diskFreeBytes()) + " free");
            fact(lines, width, "", log.rows() + " rows" + (log.rows() == 0 ? "" : ", the oldest " + Output.age(Math.max(0, System.currentTimeMillis() - log.oldestAtMs())) + " old")
                    + ", " + log.queued() + " wait for their commit" + (log.openIncidents() == 0 ? "" : ", " + log.openIncidents() + " incidents: wal:incidents"));
        }
        double connected = metric("caravan_uplink_connected");
        fact(lines, width, "Uplink", Double.isNaN(connected) ? "off: uplink.url is empty, or its route is not here" : connected > 0 ? "connected"
                : "NOT connected" + (metric("caravan_uplink_backoff_seconds") > 0 ? ", next attempt within " + Output.age((long) (1_000 * metric("caravan_uplink_backoff_seconds"))) : ""));
        commands(lines, width);
    }

    private void cloud(List<String> lines, int width) {
        long connected = members.stream().filter(Member::connected).count();
        Map<String, Long> states = new TreeMap<>();
        members.forEach(m -> states.merge(FleetCommands.states(m), 1L, Long::sum));
        List<String> parts = new ArrayList<>();
        states.forEach((state, count) -> parts.add(count + " " + state));
        fact(lines, width, "Gateways", !membersKnown ? "not known: the store does not answer" : members.size() + ", " + connected + " connected" + (parts.isEmpty() ? "" : ": " + String.join(", ", parts)));
        fact(lines, width, "Intake", intake());
        double lag = members.stream().filter(m -> m.lagMs() != null).mapToDouble(Member::lagMs).max().orElse(0);
        double backlog = members.stream().filter(m -> m.backlogRows() != null).mapToDouble(Member::backlogRows).sum();
        fact(lines, width, "Lag", "largest " + Output.age((long) lag) + ", " + number(backlog) + " rows wait at all gateways");
        double up = metric("caravan_store_up");
        double bytes = metric("caravan_store_bytes");
        fact(lines, width, "Store", (up == 0 ? "DOWN" : "up") + (Double.isNaN(bytes) ? log == null ? "" : ", " + Output.bytes(log.storeBytes()) : ", " + Output.bytes((long) bytes))
                + (metric("caravan_disk_free_bytes") > 0 ? ", disk " + Output.bytes((long) metric("caravan_disk_free_bytes")) + " free" : ""));
        double streams = metric("caravan_command_streams");
        fact(lines, width, "Commands", Double.isNaN(streams) ? "not started" : number(streams) + " live streams; not ended: command:list --open");
    }

    private void commands(List<String> lines, int width) {
        double waiting = metric("caravan_command_waiting");
        fact(lines, width, "Commands", Double.isNaN(commandsOpen) ? "not started" : number(commandsOpen) + " open" + (waiting > 0 ? ", " + number(waiting) + " wait for their device" : "")
                + (commandsOpen > 0 ? ": command:list --open" : ""));
    }

    private String intake() {
        return (Double.isNaN(rate) ? "rate not known yet" : String.format(Locale.ROOT, rate < 10 ? "%.1f" : "%,.0f", rate) + " messages/s")
                + (Double.isNaN(taken) ? "" : ", " + number(taken) + " since the start");
    }

    private String full() {
        double seconds = metric("caravan_wal_time_to_full_seconds");
        return Double.isNaN(seconds) ? "not known" : Double.isInfinite(seconds) ? "never at this rate" : seconds == 0 ? "NOW" : "in " + Output.age((long) (1_000 * seconds));
    }

    private static String number(double value) {
        return String.format(Locale.ROOT, "%,.0f", value);
    }

    private List<String> sinks(int width, boolean colours, int room) {
        List<SinkStatus> worst = sinks.stream().sorted(Comparator.comparing((SinkStatus s) -> s.state().equals("failed") ? 0 : s.attempts() > 0 ? 1 : s.state().equals("paused") ? 2 : 3)
                .thenComparing(s -> -s.unackedAgeMs())).toList();
        List<Object[]> rows = new ArrayList<>();
        worst.forEach(s -> rows.add(new Object[] {s.name(), Paint.of(s.state()).cell(s.state()), number(s.backlog()), s.unackedAgeMs() == 0 ? "-" : Output.age(s.unackedAgeMs()), number(s.dead()),
            s.reason() == null && s.lastError() == null ? "" : Output.text(s.reason()) + (s.lastError() == null ? "" : ": " + s.lastError())}));
        return shortTable(List.of("Sink", "State", "Backlog", "Lag", "Dead", "Why"), new int[] {22, 8, 12, 14, 8}, rows, width, colours, room, "sink:list", "No sinks");
    }

    private List<String> gateways(int width, boolean colours, int room) {
        long now = System.currentTimeMillis();
        List<Member> worst = members.stream().sorted(Comparator.comparing((Member m) -> m.states().isEmpty()).thenComparing(Member::connected).thenComparing(m -> m.lagMs() == null ? 0 : -m.lagMs())).toList();
        List<Object[]> rows = new ArrayList<>();
        worst.forEach(m -> rows.add(new Object[] {m.id(), Paint.of(FleetCommands.states(m)).cell(FleetCommands.states(m)), m.connected() ? "now" : m.seenMs() == null ? "never" : FleetCommands.span(now - m.seenMs()),
            m.lagMs() == null ? "" : FleetCommands.span(m.lagMs()), FleetCommands.count(m.backlogRows()), Output.text(m.note())}));
        return shortTable(List.of("Gateway", "State", "Seen", "Lag", "Backlog", "Note"), new int[] {28, 14, 6, 6, 8}, rows, width, colours, room, "gateway:list",
            membersKnown ? "No gateways: gateway:enrol registers one" : "Gateways are not known now");
    }

    /** One line each, however long the words are; the last column gets what is left. */
    private static List<String> shortTable(List<String> head, int[] columns, List<Object[]> rows, int width, boolean colours, int room, String all, String empty) {
        List<String> lines = new ArrayList<>();
        if (rows.isEmpty()) {
            lines.add(empty);
            return lines;
        }
        lines.add(Paint.BOLD.on(colours, shortRow(head.toArray(), columns, width, false)));
        int shown = rows.size() <= room - 1 ? rows.size() : Math.max(0, room - 2);
        rows.subList(0, shown).forEach(r -> lines.add(shortRow(r, columns, width, colours)));
        if (shown < rows.size()) {
            lines.add("and " + (rows.size() - shown) + " more: " + all);
        }
        return lines;
    }

    private static String shortRow(Object[] row, int[] columns, int width, boolean colours) {
        StringBuilder line = new StringBuilder();
        int used = 0;
        for (int i = 0; i < row.length; i++) {
            int room = i < columns.length ? columns[i] : width - used;
            String text = Text.cut(Text.line(String.valueOf(row[i])), room);
            line.append(row[i] instanceof Paint.Cell cell ? cell.paint().on(colours, text) : text);
            if (i < columns.length) {
                line.append(" ".repeat(room - Text.columns(text) + 1));
                used += room + 1;
            }
        }
        return line.toString().stripTrailing();
    }

    private List<String> todo(int width, boolean colours) {
        List<String> lines = new ArrayList<>();
        if (findings.isEmpty()) {
            lines.add(Paint.GREEN.on(colours, "Nothing is wrong."));
            return lines;
        }
        for (Finding f : findings.subList(0, Math.min(FINDINGS, findings.size()))) {
            lines.add(Paint.of(f.severity()).on(colours, Text.cut(Text.line(f.severity() + "  " + f.subject() + ": " + f.what()), width)));
            lines.add(Text.cut(Text.line("  -> " + f.advice()), width));
        }
        if (findings.size() > FINDINGS) {
            lines.add("and " + (findings.size() - FINDINGS) + " more: gateway:diagnose");
        }
        return lines;
    }

    /** One line for a log of the terminal. */
    String line(int width) {
        String what = caravan.role().equals("cloud")
                ? members.stream().filter(Member::connected).count() + " of " + members.size() + " gateways connected, " + number(members.stream().filter(m -> m.backlogRows() != null)
                        .mapToDouble(Member::backlogRows).sum()) + " rows wait"
                : (log == null ? "log not open" : "log " + log.state() + ", full " + full()) + ", backlog " + number(sinks.stream().mapToLong(SinkStatus::backlog).max().orElse(0))
                        + ", oldest " + Output.age(sinks.stream().mapToLong(SinkStatus::unackedAgeMs).max().orElse(0));
        return Text.cut(Text.line(Output.time(System.currentTimeMillis()) + " " + (ready() ? "ready" : "NOT ready") + ", "
                + (Double.isNaN(rate) ? "rate not known" : String.format(Locale.ROOT, "%.1f", rate) + "/s") + ", " + what + ", " + findings.size() + " findings"
                + (findings.isEmpty() ? "" : ", first: " + findings.get(0).subject())), width);
    }
}
