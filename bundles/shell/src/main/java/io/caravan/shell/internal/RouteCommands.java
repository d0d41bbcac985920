// SPDX-License-Identifier: Apache-2.0
package io.caravan.shell.internal;

import com.github.difflib.DiffUtils;
import com.github.difflib.UnifiedDiffUtils;
import io.caravan.runtime.RouteCheck;
import io.caravan.runtime.RouteFile;
import io.caravan.runtime.RouteText;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.camel.util.json.JsonArray;
import org.apache.camel.util.json.JsonObject;
import org.apache.karaf.shell.api.action.Argument;
import org.apache.karaf.shell.api.action.Command;
import org.apache.karaf.shell.api.action.Completion;
import org.apache.karaf.shell.api.action.Option;
import org.apache.karaf.shell.api.action.lifecycle.Service;
import org.apache.karaf.shell.support.completers.FileCompleter;
import org.apache.karaf.shell.support.completers.StringsCompleter;
import org.jline.builtins.Nano;
import org.jline.terminal.Terminal;

/** {@code route:*}: route files, what runs of them, and the way to another version and back. */
public final class RouteCommands {

    private RouteCommands() {
    }

    /** Of route files; knows the folder {@code deploy/}. */
    abstract static class OfRoutes extends GatewayCommand {
        /** How long FileInstall may take to see a change; it looks every second. */
        private static final long SEEN_MS = 20_000;
        private static final long LOOK_MS = 100;

        final RouteFile file(String stem) {
            return caravan.routes().stream().filter(f -> f.stem().equals(stem)).findFirst().orElseThrow(() -> new IllegalArgumentException(
                    "There is no route file [" + stem + "]: route:list shows those that are here"));
        }

        final List<RouteText> versions(String stem) {
            List<RouteText> versions = caravan.versions(stem);
            if (versions.isEmpty()) {
                throw new IllegalArgumentException("There is no route file [" + stem + "]: route:list shows those that are here");
            }
            return versions;
        }

        static Path folder() {
            return Path.of(System.getProperty("karaf.base", "")).resolve("deploy").toAbsolutePath().normalize();
        }

        /** Waits until the deployer has taken notice. @param text null: until the file is gone */
        final RouteFile taken(String stem, String text) throws InterruptedException {
            long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(SEEN_MS);
            while (System.nanoTime() < end) {
                boolean there = caravan.versions(stem).stream().anyMatch(v -> v.origin().equals("deploy") && (text == null || v.text().equals(text)));
                if (there == (text != null)) {
                    return caravan.routes().stream().filter(f -> f.stem().equals(stem)).findFirst().orElse(null);
                }
                TimeUnit.MILLISECONDS.sleep(LOOK_MS);
            }
            throw new IllegalStateException("After " + SEEN_MS / 1_000 + " s the container has not seen the change in " + folder()
                    + ": is it the folder it watches (etc/org.apache.felix.fileinstall-deploy.cfg)? route:list shows what runs");
        }

        final void report(String done, String stem, RouteFile now) {
            if (json) {
                say(Output.object("stem", stem, "done", done, "state", now == null ? "absent" : now.state(), "origin", now == null ? null : now.origin(),
                        "error", now == null ? null : now.error()).toJson());
            } else {
                say(done + (now == null ? " " + stem + " is not here any more." : " " + stem + " (" + now.origin() + ") is " + now.state() + (now.error() == null ? "." : ": " + now.error())));
            }
        }

        static IllegalStateException readOnly(Path folder, String stem, IOException e) {
            return new IllegalStateException("User [" + System.getProperty("user.name") + "] of this process cannot change " + folder + " (" + e
                    + "): who may, does it from outside: caravan shell 'route:show " + stem + "' > " + folder.resolve(stem + ".camel.yaml") + ", and edits that file", e);
        }
    }

    @Service
    @Command(scope = "route", name = "list", description = "List the route files, their routes and what is wrong with them",
            detailedDescription = "Examples:\n  route:list\n  route:list --json")
    public static final class Listing extends OfRoutes {
        @Override
        Object run() {
            if (json) {
                say(Output.json(caravan.routes()));
                return null;
            }
            List<Object[]> rows = Output.rows(caravan.routes());
            table(rows, "No route files", List.of("Stem", "Bundle", "Origin", "State", "Route", "Status", "Error"), r -> {
                Object[] row = (Object[]) r;
                return new Object[] {row[0], row[1], row[2], Paint.of(String.valueOf(row[3])).cell(row[3]), row[4], Paint.of(String.valueOf(row[5])).cell(row[5]), row[6]};
            });
            return null;
        }
    }

    @Service
    @Command(scope = "route", name = "show", description = "Print the text in force of a route file",
            detailedDescription = "Examples:\n  route:show rollup\n  route:show rollup --resolved\n  route:show rollup --origin feature")
    public static final class Show extends OfRoutes {
        private static final Pattern PLACEHOLDER = Pattern.compile("\\{\\{[?!]*\\s*([A-Za-z0-9_.-]+)\\s*(?::([^}]*))?}}");

        @Argument(index = 0, name = "stem", required = true, description = "The file's name without .camel.yaml or .camel.xml")
        @Completion(StemCompleter.class)
        String stem;

        @Option(name = "--origin", description = "Not the one in force but that of deploy/, or the shipped one (feature)")
        @Completion(value = StringsCompleter.class, values = {"deploy", "feature"})
        String origin;

        @Option(name = "--resolved", description = "Also what its placeholders are here, and where each value comes from")
        boolean resolved;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() {
            RouteFile file = file(stem);
            if (origin != null && !origin.equals("deploy") && !origin.equals("feature")) {
                throw new IllegalArgumentException("--origin [" + origin + "] must be deploy or feature");
            }
            List<RouteText> versions = caravan.versions(stem);
            RouteText version = versions.stream().filter(v -> origin == null ? v.inForce() : v.origin().equals(origin)).findFirst().orElse(null);
            if (version == null && (origin != null || caravan.text(stem).isEmpty())) {
                throw new IllegalArgumentException(origin == null ? "Route file [" + stem + "] is not in force: " + file.error()
                        + "; --origin " + (versions.isEmpty() ? "deploy" : versions.get(0).origin()) + " shows what was refused"
                        : "Route file [" + stem + "] has no version of origin [" + origin + "]");
            }
            String text = version == null ? caravan.text(stem).orElseThrow() : version.text();
            List<Object[]> values = resolved ? values(text) : List.of();
            if (json) {
                JsonObject object = Output.object("stem", stem, "origin", version == null ? file.origin() : version.origin(), "bundle", version == null ? file.bundle() : version.bundle(),
                        "text", text);
                if (resolved) {
                    JsonArray array = new JsonArray();
                    values.forEach(v -> array.add(Output.object("key", v[0], "value", v[1], "from", v[2])));
                    object.put("placeholders", array);
                }
                say(object.toJson());
                return null;
            }
            if (session.getTerminal() == null) {
                out().println(text); // for a file: as it is
            } else {
                say(text);
            }
            if (resolved) {
                table(values, "It has no placeholders.", List.of("Placeholder", "Value", "From"), v -> (Object[]) v);
            }
            return null;
        }

        private List<Object[]> values(String text) {
            Map<String, String> settings = caravan.settings();
            Map<String, String> places = caravan.places();
            Set<String> seen = new LinkedHashSet<>();
            List<Object[]> rows = new ArrayList<>();
            for (Matcher m = PLACEHOLDER.matcher(text); m.find();) {
                String key = m.group(1);
                if (!seen.add(key)) {
                    continue;
                }
                if (places.containsKey(key)) {
                    rows.add(new Object[] {key, settings.getOrDefault(key, ""), places.get(key)});
                } else {
                    String value = otherwise(key);
                    rows.add(new Object[] {key, value == null ? Output.text(m.group(2)) : value,
                        value != null ? "the store in use, or a module" : m.group(2) != null ? "the default beside it" : "a parameter of the template, or made by the route"});
                }
            }
            return rows;
        }

        private String otherwise(String key) {
            try {
                return caravan.redact(caravan.context().resolvePropertyPlaceholders("{{" + key + "}}"));
            } catch (RuntimeException e) {
                return null;
            }
        }
    }

    @Service
    @Command(scope = "route", name = "check", description = "Say what a deployment would say of a route file, and deploy nothing; fails unless it is ok",
            detailedDescription = "Example:\n  route:check /media/usb/rollup.camel.yaml")
    public static final class Check extends OfRoutes {
        @Argument(index = 0, name = "file", required = true, description = "<stem>.camel.yaml or <stem>.camel.xml; a relative path is relative to the installation")
        @Completion(FileCompleter.class)
        String file;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() throws InterruptedException {
            Path path = Path.of(file).toAbsolutePath().normalize();
            if (!path.getFileName().toString().matches(".*\\.camel\\.(yaml|xml)")) {
                throw new IllegalArgumentException("File [" + file + "] must be named <stem>.camel.yaml or <stem>.camel.xml");
            }
            String text;
            try {
                text = Files.readString(path);
            } catch (IOException e) {
                throw new IllegalArgumentException("File [" + path + "] cannot be read by user [" + System.getProperty("user.name") + "] of this process: " + e
                        + "; give its absolute path, and let that user read it", e);
            }
            RouteCheck found = caravan.check(path.getFileName().toString(), text);
            if (json) {
                say(Output.object("file", path.toString(), "state", found.state(), "line", found.line() == 0 ? null : found.line(), "error", found.error(),
                        "advice", found.error() == null ? null : advice(found), "routes", new JsonArray(found.routes())).toJson());
                if (!found.state().equals("ok")) {
                    // What is wrong has been said, as JSON; this is for the exit code.
                    throw new IllegalStateException("");
                }
                return null;
            }
            if (!found.state().equals("ok")) {
                throw new IllegalStateException(problem(path.toString(), found));
            }
            say(path + " is ok: routes " + String.join(", ", found.routes()) + ". Copied to " + folder() + " it is live within two seconds.");
            return null;
        }

        static String problem(String file, RouteCheck found) {
            return file + (found.line() > 0 ? ", line " + found.line() : "") + ": " + (found.state().equals("pending") ? "would wait: " : "") + found.error() + "\n  -> " + advice(found);
        }

        static String advice(RouteCheck found) {
            return found.state().equals("pending") ? "install the feature, start the module or deploy the file that brings it (feature:list, route:list); deployed now it would wait for that"
                    : "mend " + (found.line() > 0 ? "line " + found.line() : "the file") + " and check again; what runs goes on running";
        }
    }

    @Service
    @Command(scope = "route", name = "diff", description = "Show what files in deploy/ change of the shipped ones",
            detailedDescription = "Examples:\n  route:diff\n  route:diff rollup --json")
    public static final class Diff extends OfRoutes {
        private static final int CONTEXT = 3;

        @Argument(index = 0, name = "stem", description = "Only this file")
        @Completion(StemCompleter.class)
        String stem;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() {
            JsonArray array = new JsonArray();
            List<String> stems = stem == null ? caravan.routes().stream().map(RouteFile::stem).toList() : List.of(file(stem).stem());
            int changed = 0;
            for (String one : stems) {
                List<RouteText> versions = caravan.versions(one);
                RouteText deployed = of(versions, "deploy");
                RouteText shipped = of(versions, "feature");
                if (deployed == null) {
                    continue;
                }
                changed++;
                List<String> lines = lines(deployed, shipped);
                if (json) {
                    array.add(Output.object("stem", one, "file", deployed.file(), "in_force", deployed.inForce(), "shipped", shipped != null, "diff", String.join("\n", lines)));
                } else if (lines.isEmpty()) {
                    say(one + ": the file in deploy/ is the same as the shipped one. route:restore " + one + " takes it away.");
                } else {
                    lines.forEach(l -> paint(l.startsWith("+") ? Paint.GREEN : l.startsWith("-") ? Paint.RED : l.startsWith("@@") ? Paint.DIM : Paint.PLAIN, l));
                    if (!deployed.inForce()) {
                        paint(Paint.YELLOW, one + ": this is not in force: " + file(one).error());
                    }
                }
            }
            if (json) {
                say(array.toJson());
            } else if (changed == 0) {
                say(stem == null ? "Nothing is overridden: all routes are the shipped ones." : stem + " is the shipped one: there is no file of it in " + folder() + ".");
            }
            return null;
        }

        private static RouteText of(List<RouteText> versions, String origin) {
            return versions.stream().filter(v -> v.origin().equals(origin)).findFirst().orElse(null);
        }

        static List<String> lines(RouteText deployed, RouteText shipped) {
            List<String> old = shipped == null ? List.of() : shipped.text().lines().toList();
            return UnifiedDiffUtils.generateUnifiedDiff(shipped == null ? "/dev/null" : "shipped/" + shipped.file(), "deploy/" + deployed.file(), old,
                    DiffUtils.diff(old, deployed.text().lines().toList()), CONTEXT);
        }
    }

    @Service
    @Command(scope = "route", name = "edit", description = "Edit a copy of a route file, check it, and put it into deploy/; without a terminal only puts the copy there",
            detailedDescription = "Example:\n  route:edit rollup")
    public static final class Edit extends OfRoutes {
        @Argument(index = 0, name = "stem", required = true, description = "The file's name without .camel.yaml or .camel.xml")
        @Completion(StemCompleter.class)
        String stem;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() throws IOException, InterruptedException {
            RouteText from = versions(stem).get(0);
            Path target = folder().resolve(from.file());
            String text = Files.exists(target) ? Files.readString(target) : from.text();
            if (session.getTerminal() == null || !(session.get(".jline.terminal") instanceof Terminal terminal)) {
                if (Files.exists(target)) {
                    throw new IllegalStateException(target + " is there already, and there is no terminal to edit it on: edit that file, a saved edit is live within two seconds; route:restore "
                            + stem + " takes it away");
                }
                write(target, text);
                report(target + " is a copy of what runs: edit it there, a saved edit is live within two seconds; route:restore " + stem + " takes it away.", stem, taken(stem, text));
                return null;
            }
            Path copy = Files.createTempDirectory("caravan-edit").resolve(from.file());
            try {
                Files.writeString(copy, text);
                Nano nano = new Nano(terminal, copy.getParent());
                nano.title = "route:edit " + stem;
                nano.open(copy.toString());
                nano.run();
                String edited = Files.readString(copy);
                if (edited.equals(text)) {
                    say("Nothing was changed.");
                    return null;
                }
                RouteCheck found = caravan.check(from.file(), edited);
                if (!found.state().equals("ok")) {
                    say(Check.problem(from.file(), found));
                }
                confirmed(found.state().equals("ok"), "route:edit", () -> "The old version would go on running. Put it into deploy/ in spite of that?", () -> put(target, edited));
            } finally {
                Files.deleteIfExists(copy);
                Files.deleteIfExists(copy.getParent());
            }
            return null;
        }

        private void put(Path target, String text) {
            try {
                write(target, text);
                report("Saved as " + target + ".", stem, taken(stem, text));
            } catch (IOException e) {
                throw new IllegalStateException(e);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw new IllegalStateException("interrupted; " + target + " is written, route:list shows what became of it", e);
            }
        }

        /** At once: the watcher must not read half a file. */
        private void write(Path target, String text) throws IOException {
            Path part = target.resolveSibling("." + target.getFileName() + ".part");
            try {
                Files.writeString(part, text);
                Files.move(part, target, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
            } catch (IOException e) {
                throw readOnly(target.getParent(), stem, e);
            }
        }
    }

    @Service
    @Command(scope = "route", name = "restore", description = "Take a file out of deploy/, so that the shipped version runs again",
            detailedDescription = "Example:\n  route:restore rollup --yes")
    public static final class Restore extends OfRoutes {
        @Argument(index = 0, name = "stem", required = true, description = "The file's name without .camel.yaml or .camel.xml")
        @Completion(StemCompleter.class)
        String stem;

        @Option(name = "--yes", aliases = "-y", description = "Do not ask")
        boolean yes;

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() {
            List<RouteText> versions = versions(stem);
            RouteText deployed = versions.stream().filter(v -> v.origin().equals("deploy")).findFirst().orElseThrow(() -> new IllegalArgumentException(
                    stem + " is the shipped version: there is no file of it in " + folder()));
            boolean shipped = versions.stream().anyMatch(v -> v.origin().equals("feature"));
            Path target = folder().resolve(deployed.file());
            confirmed(yes, "route:restore", () -> target + " would be deleted; " + (shipped ? "the shipped version runs again." : "there is no shipped version, its routes are gone then.")
                    + " route:diff " + stem + " shows the difference.", () -> remove(target));
            return null;
        }

        private void remove(Path target) {
            try {
                Files.deleteIfExists(target);
                report(target + " is deleted.", stem, taken(stem, null));
            } catch (IOException e) {
                throw new IllegalStateException("User [" + System.getProperty("user.name") + "] of this process cannot change " + target.getParent() + " (" + e + "): who may, does it from outside: rm "
                        + target, e);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw new IllegalStateException("interrupted; the file is deleted, route:list shows what became of it", e);
            }
        }
    }

    @Service
    @Command(scope = "route", name = "topology", description = "Draw which route feeds which, and through what: text, Mermaid, DOT or SVG",
            detailedDescription = "Examples:\n  route:topology\n  route:topology rollup\n  route:topology --format svg")
    public static final class Picture extends OfRoutes {
        @Argument(index = 0, name = "stem", description = "Only this file's routes and what they touch")
        @Completion(StemCompleter.class)
        String stem;

        @Option(name = "--format", description = "text, mermaid, svg, dot")
        @Completion(value = StringsCompleter.class, values = {"text", "mermaid", "svg", "dot"})
        String format = "text";

        @Argument(index = 1, name = "options", multiValued = true, description = "Options may stand here too")
        @Completion(TrailingCompleter.class)
        List<String> trailing;

        @Override
        List<String> trailing() {
            return trailing;
        }

        @Override
        Object run() {
            Topology topology = Topology.of(caravan.context());
            if (stem != null) {
                topology = topology.around(file(stem).routes().stream().map(RouteFile.RouteStatus::id).toList());
            }
            String text = json ? topology.json().toJson() : switch (format) {
                case "text" -> TopologyView.text(topology, width());
                case "mermaid" -> TopologyView.mermaid(topology);
                case "dot" -> TopologyView.dot(topology);
                case "svg" -> TopologyView.svg(topology);
                default -> throw new IllegalArgumentException("--format [" + format + "] must be text, mermaid, svg or dot");
            };
            say(text);
            return null;
        }
    }
}
