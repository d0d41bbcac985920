// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import io.caravan.runtime.Check;
import io.caravan.runtime.RouteFile;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;

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
        JsonArray array = new JsonArray();
        checks.forEach(c -> array.add(object("name", c.name(), "status", c.status(), "message", c.message())));
        return object("role", role, "version", version, "uptime_s", uptime.toSeconds(), "ready",
                checks.stream().allMatch(Check::up), "checks", array).toJson();
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

    private static String text(String value) {
        return value == null ? "" : value;
    }
}
