// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Check;
import io.caravan.runtime.RouteFile;
import io.caravan.wal.Recovery.Change;
import io.caravan.wal.Recovery.Finding;
import java.io.IOException;
import java.lang.reflect.RecordComponent;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.apache.camel.util.json.Jsonable;

/** What the commands print, apart from the shell: one row or object per thing, an error stands with its thing. */
final class Output {

    private Output() {
    }

    /** Rows of {@code route:list}: a file's first row has all columns, further routes have a row each. */
    static List<Object[]> rows(List<RouteFile> files) {
        List<Object[]> rows = new ArrayList<>();
        for (RouteFile file : files) {
            Object[] first = {file.stem(), file.bundle() == 0 ? "" : file.bundle(), file.origin(), file.state(), "", "",
                text(file.error())};
            rows.add(first);
            for (RouteFile.RouteStatus route : file.routes()) {
                Object[] row = route == file.routes().get(0) ? first : new Object[] {"", "", "", "", "", "", ""};
                row[4] = route.id();
                row[5] = route.status();
                row[6] = row[6].equals("") ? text(route.error()) : row[6];
                if (row != first) {
                    rows.add(row);
                }
            }
        }
        return rows;
    }

    static String json(List<RouteFile> files) {
        JsonArray array = new JsonArray();
        for (RouteFile file : files) {
            JsonArray routes = new JsonArray();
            for (RouteFile.RouteStatus route : file.routes()) {
                routes.add(object("id", route.id(), "status", route.status(), "error", route.error()));
            }
            array.add(object("stem", file.stem(), "file", file.file(), "bundle", file.bundle(), "origin", file.origin(),
                    "state", file.state(), "routes", routes, "error", file.error()));
        }
        return array.toJson();
    }

    static String json(String role, String version, Duration uptime, List<Check> checks) {
        return about(role, version, uptime, checks).toJson();
    }

    static JsonObject about(String role, String version, Duration uptime, List<Check> checks) {
        JsonArray array = new JsonArray();
        checks.forEach(c -> array.add(object("name", c.name(), "status", c.status(), "message", c.message(), "todo", c.todo(),
                "since_ms", c.sinceMs() == 0 ? null : c.sinceMs(), "counts", c.counts())));
        return object("role", role, "version", version, "uptime_s", uptime.toSeconds(), "ready",
                checks.stream().noneMatch(Check::blocks), "checks", array);
    }

    /** @return for example {@code 3d 4h 5m 6s}, without leading zero parts */
    static String uptime(Duration uptime) {
        String text = uptime.toDays() + "d " + uptime.toHoursPart() + "h " + uptime.toMinutesPart() + "m " + uptime.toSecondsPart() + "s";
        return text.replaceFirst("^(0[dhm] )+", "");
    }

    static JsonObject object(Object... keysAndValues) {
        JsonObject object = new JsonObject();
        for (int i = 0; i < keysAndValues.length; i += 2) {
            object.put((String) keysAndValues[i], keysAndValues[i + 1]);
        }
        return object;
    }

    /** Columns of {@link #finding}. */
    static final List<String> FINDING = List.of("Severity", "Subject", "What", "Do");

    static Object[] finding(Object record) {
        Finding f = (Finding) record;
        return new Object[] {f.severity(), f.subject(), f.what(), f.advice()};
    }

    /** A record, or a list of them, with all components in snake_case. */
    static Jsonable jsonOf(Object value) {
        if (value instanceof List<?> list) {
            JsonArray array = new JsonArray();
            list.forEach(element -> array.add(jsonOf(element)));
            return array;
        }
        JsonObject object = new JsonObject();
        for (RecordComponent component : value.getClass().getRecordComponents()) {
            try {
                Object part = component.getAccessor().invoke(value);
                object.put(component.getName().replaceAll("([A-Z])", "_$1").toLowerCase(Locale.ROOT), part instanceof List<?> ? jsonOf(part) : part);
            } catch (ReflectiveOperationException e) {
                throw new IllegalStateException(e);
            }
        }
        return object;
    }

    static String time(long ms) {
        return ms == 0 ? "" : Instant.ofEpochMilli(ms).truncatedTo(ChronoUnit.SECONDS).toString();
    }

    /** @return for example {@code 450 ms} or {@code 2h 3m 4s} */
    static String age(long ms) {
        return ms < 1_000 ? ms + " ms" : uptime(Duration.ofMillis(ms));
    }

    /** @return for example {@code 1.5 GiB} */
    static String bytes(long bytes) {
        String[] units = {"B", "KiB", "MiB", "GiB", "TiB"};
        double value = bytes;
        int unit = 0;
        while (value >= 1024 && unit < units.length - 1) {
            value /= 1024;
            unit++;
        }
        return unit == 0 ? bytes + " B" : String.format(Locale.ROOT, "%.1f %s", value, units[unit]);
    }

    static String reset(Change c, boolean would) {
        return "Sink " + c.sink() + ": " + c.discarded() + " rows of its backlog " + (would ? "would be" : "are") + " discarded, " + c.rows()
                + " rows " + (would ? "would be" : "are") + " delivered again." + note(c);
    }

    static String replay(Change c, boolean would) {
        return c.rows() + " rows " + (would ? "would be" : "are") + " delivered again to " + c.sink() + "."
                + (c.pending() > 0 ? " " + c.pending() + " are in its backlog anyway." : "") + note(c);
    }

    static String dead(Change c, String what) {
        return c.rows() + " dead letters " + what + "." + note(c);
    }

    private static String note(Change c) {
        return c.note().isEmpty() ? "" : " Note: " + c.note() + ".";
    }

    /** Makes a file that only its owner can read. */
    static Path newFile(Path path) throws IOException {
        return Files.createFile(path, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
    }

    static String text(String value) {
        return value == null ? "" : value;
    }
}
